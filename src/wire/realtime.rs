//! What the messages of a WebSocket session say: OpenAI's Realtime, and its Responses over WebSocket.
//!
//! Each message is one JSON object with a `type`. The client asks for a response, or the server
//! begins one itself when it has heard enough; the server tells what it has used when it is done.
//! Most messages are deltas: those are told by their type, which stands first, and not looked into.
//! Tokens of sound are among those of input and output. Sources: OpenAI's API reference, Realtime
//! client and server events, Responses WebSocket events, November 2026.
use std::borrow::Cow;
use std::sync::LazyLock;

use super::json::{Raw, skip_value};
use super::openai;
use super::seek::{Seek, needle};
use super::usage::Usage;

/// What a message means to who meters the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEvent<'a> {
    /// The client asks for a response, of this model if it names one.
    Asked(Option<Cow<'a, str>>),
    /// The server begins a response, asked or not.
    Begun,
    /// It has ended, whole or not, with what it used.
    Done(Option<Usage>),
    /// Something was used beside the responses: to write down what was heard.
    Used(Usage),
    /// A response has failed and used nothing, or a message of the client's was refused. The session
    /// goes on.
    Failed,
    /// The model of the session.
    Model(Cow<'a, str>),
}

static TYPE: Seek = LazyLock::new(|| needle(b"\"type\""));
static USAGE: Seek = LazyLock::new(|| needle(b"\"usage\""));

/// Reads a message of either side. `None`: it changes nothing that is metered.
pub fn session_event(data: &[u8]) -> Option<SessionEvent<'_>> {
    // the type of something deeper would say nothing here, and the true one is looked for below
    if first_type(data)?.ends_with(b".delta") {
        return None;
    }
    let whole = Raw(data);
    let [b'"', kind @ .., b'"'] = whole.get(b"type")?.0 else { return None };
    match kind {
        b"response.create" => Some(SessionEvent::Asked(whole.get(b"model").and_then(Raw::text))),
        b"session.created" | b"session.updated" => {
            let model = whole.get(b"session")?.get(b"model")?.text()?;
            Some(SessionEvent::Model(model))
        }
        b"conversation.item.input_audio_transcription.completed" => {
            usage(whole.get(b"usage")?).map(SessionEvent::Used)
        }
        _ => {
            let response = || whole.get(b"response");
            let event = ended(kind, || response()?.get(b"usage").and_then(usage))?;
            let failed = || response()?.get(b"status").map(|status| status.0 == br#""failed""#);
            let in_vain = event == SessionEvent::Done(None) && failed() == Some(true);
            Some(if in_vain { SessionEvent::Failed } else { event })
        }
    }
}

/// The same of a message of which only the beginning and the end are known; see
/// [`super::Frame::Long`].
pub fn long_session_event(head: &[u8], tail: &[u8]) -> Option<SessionEvent<'static>> {
    match first_type(head)? {
        b"response.create" => Some(SessionEvent::Asked(None)),
        kind => ended(kind, || {
            let value = USAGE.last_value(tail)?;
            usage(Raw(&value[..skip_value(value, 0).ok()?]))
        }),
    }
}

/// Whether a message of the server carries some of a response: text, sound, the arguments of a tool.
/// Its beginning is enough.
pub fn is_session_content(data: &[u8]) -> bool {
    first_type(data).is_some_and(|kind| kind.starts_with(b"response.") && kind.ends_with(b".delta"))
}

fn first_type(data: &[u8]) -> Option<&[u8]> {
    let rest = TYPE.value(data)?.strip_prefix(b"\"")?;
    rest.split(|&byte| byte == b'"').next()
}

/// The server's events that begin and end a response.
fn ended(kind: &[u8], used: impl FnOnce() -> Option<Usage>) -> Option<SessionEvent<'static>> {
    match kind {
        b"response.created" => Some(SessionEvent::Begun),
        b"response.done"
        | b"response.completed"
        | b"response.incomplete"
        | b"response.cancelled" => Some(SessionEvent::Done(used())),
        b"response.failed" => {
            Some(used().map_or(SessionEvent::Failed, |used| SessionEvent::Done(Some(used))))
        }
        b"error" => Some(SessionEvent::Failed),
        _ => None,
    }
}

/// `None`: there are no counts in it, or none but of seconds.
fn usage(value: Raw<'_>) -> Option<Usage> {
    let mut usage = Usage::default();
    openai::usage(value, &mut usage).then_some(usage)
}

#[cfg(test)]
mod tests;

//! What the messages of a WebSocket session say: OpenAI's Realtime, and its Responses over WebSocket.
//!
//! Each message is one JSON object with a `type`. The client asks for a response, or the server
//! begins one itself when it has heard enough; the server tells what it has used when it is done.
//! The server is believed: most of its messages are deltas, and those are told by their type, which
//! stands first. A client is not: [`Listener`] reads all that it says.
//! Tokens of sound are among those of input and output. Sources: OpenAI's API reference, Realtime
//! client and server events, Responses WebSocket events, November 2026.
mod said;

use std::borrow::Cow;
use std::sync::LazyLock;

pub use self::said::{Listener, Said, Unclear};

use super::json::{Raw, skip_value};
use super::openai;
use super::seek::{Seek, needle};
use super::usage::Usage;

/// What a message of the server means to who meters the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEvent<'a> {
    /// The server begins a response, asked or not.
    Begun,
    /// It has ended, whole or not, with what it used.
    Done(Option<Usage>),
    /// Something was used beside the responses: to write down what was heard.
    Used(Usage),
    /// A response has failed and used nothing.
    Failed,
    /// A message of the client's was refused, whichever. The session goes on.
    Refused,
    /// The model of the session.
    Model(Cow<'a, str>),
}

static TYPE: Seek = LazyLock::new(|| needle(b"\"type\""));
static USAGE: Seek = LazyLock::new(|| needle(b"\"usage\""));
static DELTA: Seek = LazyLock::new(|| needle(b"\"delta\""));

/// Bytes of text that make a token; of base64, where a token of sound is a twentieth of a second of
/// 16 bit at 24 kHz.
const TEXT: u64 = 4;
const SOUND: u64 = 3200;

/// Reads a message of the server. `None`: it changes nothing that is metered.
pub fn session_event(data: &[u8]) -> Option<SessionEvent<'_>> {
    // the type of something deeper would say nothing here, and the true one is looked for below
    if first_type(data)?.ends_with(b".delta") {
        return None;
    }
    let whole = Raw(data);
    let [b'"', kind @ .., b'"'] = whole.get(b"type")?.0 else { return None };
    match kind {
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
    ended(first_type(head)?, || {
        let value = USAGE.last_value(tail)?;
        usage(Raw(&value[..skip_value(value, 0).ok()?]))
    })
}

/// Tokens, about, of the part of a response that a message of the server carries: text, sound, the
/// arguments of a tool. `None`: it carries none. Its beginning is enough, and how long it is.
pub fn session_content(data: &[u8], length: u64) -> Option<u64> {
    let kind = first_type(data)?.strip_prefix(b"response.")?.strip_suffix(b".delta")?;
    let tokens = match kind {
        b"audio" | b"output_audio" => length / SOUND,
        _ => DELTA.text_len(data).map_or(length, |length| length as u64) / TEXT,
    };
    Some(tokens.max(1))
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
        b"error" => Some(SessionEvent::Refused),
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

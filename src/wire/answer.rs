//! What a recorded answer says, and one form of it made from the other: the plain body from the
//! stream ([`fold`]), a stream from the plain body ([`unfold`]), a stream with or without the
//! usage event from another ([`restream`]).
//!
//! Nothing is lost on the way, or there is no result: whatever stands in a place where nobody knows
//! how to join it makes the answer `None`, which costs a call upstream and is never wrong. Values
//! are carried as they were written, so numbers and the arguments of tools survive exactly. A body
//! is read as it was recorded, complete by its terminal event; nothing here keeps state.
//! The shapes: the vendors' API references and the types of their SDKs, November 2026.
mod chat;
mod events;
mod facts;
mod gemini;
mod joined;
mod messages;
mod ollama;
mod responses;
mod stream;
mod words;

use bytes::Bytes;

use super::endpoint::Kind;
use super::meter::Form;

pub use facts::facts;
pub use words::text;

/// Why an answer ended. Of several choices: the least usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Finish {
    Stop,
    /// To have tools called.
    Tools,
    /// The bound on output, or the context, was reached.
    Length,
    /// A word that we do not know, or that asks for another turn (`pause_turn`).
    Other,
    /// The vendor held back the answer or the prompt.
    Filtered,
    /// The model would not answer.
    Refused,
}

/// What an answer is worth to a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    pub finish: Finish,
    /// A tool is called, on the client's side or on the vendor's.
    pub calls_tools: bool,
    /// No words, no refusal, no call, no picture or sound; thoughts alone are nothing.
    pub empty: bool,
}

/// A stream that was made, not recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfolded {
    pub form: Form,
    pub content_type: &'static str,
    pub body: Bytes,
    /// Where each event ends in the body; the last is its length.
    pub ends: Box<[u32]>,
}

/// A recorded stream as the plain call would have been answered. `None`: it is no stream, it was
/// cut, or the plain form cannot hold or would lack something (a chat without its usage).
pub fn fold(kind: Kind, form: Form, body: &[u8]) -> Option<Bytes> {
    match (kind, form) {
        (Kind::Chat | Kind::Completions, Form::Sse) => chat::fold(kind, body),
        (Kind::Responses, Form::Sse) => responses::fold(body),
        (Kind::Messages, Form::Sse) => messages::fold(body),
        // without `alt=sse` a stream is one list
        (Kind::Generate | Kind::StreamGenerate, Form::Sse) | (Kind::StreamGenerate, Form::Json) => {
            gemini::fold(form, body)
        }
        (Kind::OllamaChat | Kind::OllamaGenerate, Form::NdJson) => ollama::fold(kind, body),
        _ => None,
    }
}

/// A plain answer as the stream of the same call. `usage`: the client asked for the usage event, as
/// `stream_options` of chat and completions has it; other kinds always tell it. Gemini's stream is
/// that of `alt=sse`. `None`: not without loss.
pub fn unfold(kind: Kind, body: &[u8], usage: bool) -> Option<Unfolded> {
    match kind {
        Kind::Chat | Kind::Completions => chat::unfold(kind, body, usage),
        Kind::Responses => responses::unfold(body),
        Kind::Messages => messages::unfold(body),
        Kind::Generate | Kind::StreamGenerate => gemini::unfold(body),
        Kind::OllamaChat | Kind::OllamaGenerate => ollama::unfold(kind, body),
        _ => None,
    }
}

/// A recorded stream as it would have been with, or without, the event that tells the usage.
/// `None`: it does not tell what is asked for, or this kind has no such event.
pub fn restream(kind: Kind, form: Form, body: &[u8], usage: bool) -> Option<Unfolded> {
    match (kind, form) {
        (Kind::Chat | Kind::Completions, Form::Sse) => chat::restream(body, usage),
        _ => None,
    }
}

#[cfg(test)]
mod tests;

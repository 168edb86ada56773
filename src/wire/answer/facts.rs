//! What an answer is worth, read off it in passing: this stands in the way of every miss.
//!
//! A plain body is walked through once. In a stream the few words that matter are searched for,
//! and each find that weighs is confirmed at its proper place in its event; tokens are not parsed.
//! Of an answer with several choices the least usual ending counts, and all that any of them holds.
mod anthropic;
mod gemini;
mod ollama;
mod openai;

use std::sync::LazyLock;

use super::{Facts, Finish};
use crate::wire::endpoint::Kind;
use crate::wire::json::Raw;
use crate::wire::meter::Form;
use crate::wire::seek::{Seek, needle};

static CONTENT: Seek = LazyLock::new(|| needle(b"\"content\""));
static CALLS: Seek = LazyLock::new(|| needle(b"\"tool_calls\""));

/// What the answer is worth to a cache. `None`: it cannot be read, or does not say how it ended, or
/// is none of the kinds that say something: not to be kept.
pub fn facts(kind: Kind, form: Form, body: &[u8]) -> Option<Facts> {
    let mut seen = Seen::default();
    match (kind, form) {
        (Kind::Chat, Form::Sse) => seen.chat_stream(body),
        (Kind::Completions, Form::Sse) => seen.completion_stream(body),
        (Kind::Responses, Form::Sse) => seen.response_stream(body),
        (Kind::Messages, Form::Sse) => seen.message_stream(body),
        (Kind::Generate | Kind::StreamGenerate, Form::Sse) => seen.gemini_stream(body),
        (Kind::OllamaChat | Kind::OllamaGenerate, Form::NdJson) => seen.ollama_stream(kind, body),
        (_, Form::Json) => seen.plain(kind, Raw(body.trim_ascii())),
        _ => None,
    }?;
    seen.facts()
}

/// What has been found so far.
#[derive(Default)]
struct Seen {
    finish: Option<Finish>,
    calls: bool,
    said: bool,
    refused: bool,
}

impl Seen {
    fn facts(self) -> Option<Facts> {
        let told = self.finish?;
        let finish = match told {
            _ if self.refused => Finish::Refused,
            // half of the dialects have no word for it
            Finish::Stop if self.calls => Finish::Tools,
            told => told,
        };
        let empty = !(self.said || self.calls || self.refused);
        Some(Facts { finish, calls_tools: self.calls || told == Finish::Tools, empty })
    }

    fn ends(&mut self, finish: Finish) {
        self.finish = self.finish.max(Some(finish));
    }

    /// An end by the word that a dialect has for it; `null` and no string are none.
    fn ends_by(&mut self, reason: Option<Raw<'_>>) {
        if let Some(Raw([b'"', word @ .., b'"'])) = reason {
            self.ends(finish(word));
        }
    }

    fn plain(&mut self, kind: Kind, whole: Raw<'_>) -> Option<()> {
        match kind {
            Kind::Chat if self.usual_chat(whole.0).is_some() => {}
            Kind::Chat | Kind::Completions => {
                for choice in whole.get(b"choices")?.elements()? {
                    self.choice(choice)?;
                }
            }
            Kind::Responses => self.response(whole)?,
            Kind::Messages => self.message(whole)?,
            Kind::StreamGenerate if whole.0.starts_with(b"[") => {
                for chunk in whole.elements()? {
                    self.gemini(chunk)?;
                }
            }
            Kind::Generate | Kind::StreamGenerate => self.gemini(whole)?,
            Kind::OllamaChat | Kind::OllamaGenerate => self.ollama(whole)?,
            _ => return None,
        }
        Some(())
    }
}

/// Whether the text begins with a string that says something.
fn opens_text(text: &[u8]) -> bool {
    text.starts_with(b"\"") && !text.starts_with(b"\"\"")
}

/// Whether the text begins with a list or an object without anything in it.
fn opens_empty(text: &[u8]) -> bool {
    match text {
        [b'[' | b'{', rest @ ..] => {
            matches!(rest.trim_ascii_start().first(), Some(b']' | b'}'))
        }
        _ => true,
    }
}

/// The words of all dialects; no word means two things.
fn finish(word: &[u8]) -> Finish {
    match word {
        b"stop" | b"end_turn" | b"stop_sequence" | b"STOP" => Finish::Stop,
        b"tool_calls" | b"function_call" | b"tool_use" => Finish::Tools,
        b"length"
        | b"max_tokens"
        | b"max_output_tokens"
        | b"model_context_window_exceeded"
        | b"MAX_TOKENS" => Finish::Length,
        b"content_filter"
        | b"SAFETY"
        | b"RECITATION"
        | b"BLOCKLIST"
        | b"PROHIBITED_CONTENT"
        | b"SPII"
        | b"IMAGE_SAFETY"
        | b"IMAGE_PROHIBITED_CONTENT"
        | b"IMAGE_RECITATION" => Finish::Filtered,
        b"refusal" => Finish::Refused,
        _ => Finish::Other,
    }
}

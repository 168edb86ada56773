//! A borrowed, partial view of a request body: the few fields that routing, limits and metering
//! need, found in one pass over the top-level members. Everything else is skipped unread.
//!
//! The view must never disagree with the backend about what was asked, so a field that we read
//! and that stands there twice is a fault, in whatever spelling the backend would take: escaped,
//! in snake case for Gemini (protobuf takes both), in any case for Ollama (Go does). A bound that
//! makes no sense is no fault: the backend answers for that.
use std::borrow::Cow;
use std::fmt;

use super::Dialect;
use super::endpoint::Kind;
use super::json::{Members, NotJson, Raw, blank, skip_space};

/// What we read of a body. Slices are the values as they were written; `Debug` shows none of them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct View<'a> {
    pub model: Option<Cow<'a, str>>,
    pub stream: Option<bool>,
    /// Most tokens of output; the larger, if the body gives two bounds.
    pub max_tokens: Option<u64>,
    /// How many answers are asked for.
    pub n: Option<u64>,
    /// OpenAI `stream_options.include_usage`
    pub include_usage: Option<bool>,
    /// `messages`, `input`, `prompt`, `contents` or `content`, whichever this kind has.
    pub messages: Option<&'a [u8]>,
    pub system: Option<&'a [u8]>,
    pub tools: Option<&'a [u8]>,
}

impl fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("model", &self.model)
            .field("stream", &self.stream)
            .field("max_tokens", &self.max_tokens)
            .field("n", &self.n)
            .field("message_bytes", &self.messages.map(<[u8]>::len))
            .finish_non_exhaustive()
    }
}

/// Why a body cannot be read. Each is the caller's mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ViewFault {
    #[error("the body is not valid JSON (at byte {at})")]
    NotJson { at: usize },
    #[error("the body must be a JSON object")]
    NotAnObject,
    #[error("`{field}` is given more than once")]
    Duplicate { field: &'static str },
    #[error("`{field}` must be {expected}")]
    WrongType { field: &'static str, expected: &'static str },
}

impl From<NotJson> for ViewFault {
    fn from(fault: NotJson) -> Self {
        Self::NotJson { at: fault.at }
    }
}

/// A member that we read.
#[derive(Clone, Copy)]
struct Field {
    name: &'static str,
    part: Part,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Model,
    Stream,
    MaxTokens,
    N,
    StreamOptions,
    Messages,
    System,
    Tools,
    /// Holds bounds of its own: Gemini `generationConfig`, Ollama `options`.
    Options,
}

const fn field(name: &'static str, part: Part) -> Field {
    Field { name, part }
}

const MODEL: Field = field("model", Part::Model);
const STREAM: Field = field("stream", Part::Stream);
const MAX_TOKENS: Field = field("max_tokens", Part::MaxTokens);
const MAX_COMPLETION: Field = field("max_completion_tokens", Part::MaxTokens);
const MAX_OUTPUT: Field = field("max_output_tokens", Part::MaxTokens);
const INSTRUCTIONS: Field = field("instructions", Part::System);
const CONTENTS: Field = field("contents", Part::Messages);
const INSTRUCTION: Field = field("systemInstruction", Part::System);
const CONFIG: Field = field("generationConfig", Part::Options);
const CONTENT: Field = field("content", Part::Messages);
const REQUESTS: Field = field("requests", Part::Messages);
const STREAM_OPTIONS: Field = field("stream_options", Part::StreamOptions);
const MESSAGES: Field = field("messages", Part::Messages);
const INPUT: Field = field("input", Part::Messages);
const PROMPT: Field = field("prompt", Part::Messages);
const SYSTEM: Field = field("system", Part::System);
const TOOLS: Field = field("tools", Part::Tools);
const N: Field = field("n", Part::N);
const OPTIONS: Field = field("options", Part::Options);

/// The longest name, `max_completion_tokens`, with every letter escaped.
const LONGEST_NAME: usize = 6 * 21;

fn fields(kind: Kind) -> &'static [Field] {
    match kind {
        Kind::Chat => {
            &[MODEL, MESSAGES, STREAM, MAX_TOKENS, MAX_COMPLETION, N, STREAM_OPTIONS, TOOLS]
        }
        Kind::Completions => &[MODEL, PROMPT, STREAM, MAX_TOKENS, N, STREAM_OPTIONS],
        Kind::Responses => &[MODEL, INPUT, STREAM, MAX_OUTPUT, INSTRUCTIONS, TOOLS],
        Kind::Embeddings => &[MODEL, INPUT],
        Kind::Messages | Kind::CountTokens => &[MODEL, MESSAGES, STREAM, MAX_TOKENS, SYSTEM, TOOLS],
        Kind::Generate | Kind::StreamGenerate | Kind::GeminiCount => {
            &[CONTENTS, INSTRUCTION, TOOLS, CONFIG]
        }
        Kind::GeminiEmbed => &[CONTENT, REQUESTS],
        Kind::OllamaChat => &[MODEL, MESSAGES, STREAM, TOOLS, OPTIONS],
        Kind::OllamaGenerate => &[MODEL, PROMPT, STREAM, SYSTEM, OPTIONS],
        Kind::OllamaEmbed => &[MODEL, INPUT, PROMPT, OPTIONS],
        Kind::Models | Kind::Other => &[],
    }
}

/// Looks into a request body. A byte order mark and space around the object are fine.
pub fn view(kind: Kind, body: &[u8]) -> Result<View<'_>, ViewFault> {
    let fields = fields(kind);
    let mut view = View::default();
    if fields.is_empty() {
        return Ok(view);
    }
    let mark = if body.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    let start = skip_space(body, mark);
    let Some(mut members) = Members::open(body, start) else {
        return Err(match body.get(start) {
            Some(b'[' | b'"' | b'0'..=b'9' | b'-' | b't' | b'f' | b'n') => ViewFault::NotAnObject,
            _ => ViewFault::NotJson { at: start },
        });
    };
    let mut seen = 0_u32;
    while let Some((key, value)) = members.next()? {
        if key.0.len() > LONGEST_NAME {
            continue;
        }
        let Some(name) = key.plain() else { continue };
        let Some(index) = fields.iter().position(|field| same(kind, field.name, &name)) else {
            continue;
        };
        let field = fields[index];
        if seen & (1 << index) != 0 {
            return Err(ViewFault::Duplicate { field: field.name });
        }
        seen |= 1 << index;
        view.take(field, value)?;
    }
    if !blank(&body[members.at()..]) {
        return Err(ViewFault::NotJson { at: members.at() });
    }
    Ok(view)
}

/// Whether the backend would take `name` for the field `want`.
fn same(kind: Kind, want: &str, name: &[u8]) -> bool {
    let want = want.as_bytes();
    match kind.dialect() {
        Dialect::Ollama => want.eq_ignore_ascii_case(name),
        Dialect::Gemini => want == name || is_snake_of(want, name),
        _ => want == name,
    }
}

/// Whether `snake` is the camel-case `camel` in snake case.
fn is_snake_of(camel: &[u8], snake: &[u8]) -> bool {
    let mut snake = snake.iter().copied();
    camel.iter().all(|&want| {
        if want.is_ascii_uppercase() {
            snake.next() == Some(b'_') && snake.next() == Some(want.to_ascii_lowercase())
        } else {
            snake.next() == Some(want)
        }
    }) && snake.next().is_none()
}

impl<'a> View<'a> {
    fn take(&mut self, field: Field, value: Raw<'a>) -> Result<(), ViewFault> {
        if value.is_null() {
            return Ok(());
        }
        let wrong = |expected| ViewFault::WrongType { field: field.name, expected };
        match field.part {
            Part::Model => {
                self.model = Some(value.text().ok_or(wrong("a string"))?);
            }
            Part::Stream => self.stream = Some(value.bool().ok_or(wrong("true or false"))?),
            Part::MaxTokens => self.bound(value),
            Part::N => self.n = value.number(),
            Part::StreamOptions => {
                self.include_usage = value.get(b"include_usage").and_then(Raw::bool);
            }
            Part::Messages => self.messages = self.messages.or(Some(value.0)),
            Part::System => self.system = Some(value.0),
            Part::Tools => self.tools = Some(value.0),
            Part::Options => self.options(value),
        }
        Ok(())
    }

    fn options(&mut self, options: Raw<'a>) {
        let Some(mut members) = options.members() else { return };
        while let Ok(Some((key, value))) = members.next() {
            match key.0 {
                b"maxOutputTokens" | b"max_output_tokens" | b"num_predict" => self.bound(value),
                b"candidateCount" | b"candidate_count" => self.n = value.number(),
                _ => {}
            }
        }
    }

    fn bound(&mut self, value: Raw<'_>) {
        self.max_tokens = self.max_tokens.max(value.number());
    }
}

#[cfg(test)]
mod tests;

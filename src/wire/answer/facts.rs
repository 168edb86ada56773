//! What an answer is worth, read off it in passing: this stands in the way of every miss.
//!
//! A plain body is walked through once. In a stream the few words that matter are searched for,
//! and each find that weighs is confirmed at its proper place in its event; tokens are not parsed.
//! Of an answer with several choices the least usual ending counts, and all that any of them holds.
use std::sync::LazyLock;

use super::super::endpoint::Kind;
use super::super::json::Raw;
use super::super::meter::Form;
use super::super::seek::{Seek, needle};
use super::events::{events, lines_back, values};
use super::{Facts, Finish};

static FINISH: Seek = LazyLock::new(|| needle(b"\"finish_reason\""));
static CONTENT: Seek = LazyLock::new(|| needle(b"\"content\""));
static TEXT: Seek = LazyLock::new(|| needle(b"\"text\""));
static CALLS: Seek = LazyLock::new(|| needle(b"\"tool_calls\""));
static REFUSAL: Seek = LazyLock::new(|| needle(b"\"refusal\""));
static STOP: Seek = LazyLock::new(|| needle(b"\"stop_reason\""));
static BLOCK: Seek = LazyLock::new(|| needle(b"\"content_block\""));
static TEXT_DELTA: Seek = LazyLock::new(|| needle(b"\"delta\""));
static ITEM: Seek = LazyLock::new(|| needle(b"\"item\""));
static END: Seek = LazyLock::new(|| needle(b"\"finishReason\""));
static BLOCKED: Seek = LazyLock::new(|| needle(b"\"blockReason\""));
static FUNCTION: Seek = LazyLock::new(|| needle(b"\"functionCall\""));

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

    /// A choice of chat or of completions, whole or a piece.
    fn choice(&mut self, choice: Raw<'_>) -> Option<()> {
        let mut members = choice.members()?;
        while let Some((key, value)) = members.next().ok()? {
            match key.0 {
                b"message" | b"delta" => self.words(value)?,
                b"text" => self.said |= !value.is_empty(),
                b"finish_reason" => self.ends_by(Some(value)),
                _ => {}
            }
        }
        Some(())
    }

    /// A chat's message or delta. What is not known to be silent counts as said.
    fn words(&mut self, message: Raw<'_>) -> Option<()> {
        let mut members = message.members()?;
        while let Some((key, value)) = members.next().ok()? {
            let says = !value.is_empty();
            match key.0 {
                b"tool_calls" | b"function_call" => self.calls |= says,
                b"refusal" => self.refused |= says,
                b"content" | b"audio" | b"images" => self.said |= says,
                _ => {}
            }
        }
        Some(())
    }

    fn chat_stream(&mut self, body: &[u8]) -> Option<()> {
        for (value, line) in values(&FINISH, body) {
            if value.starts_with(b"\"") {
                for choice in line.data().get(b"choices")?.elements()? {
                    self.choice(choice)?;
                }
            }
        }
        let finish = self.finish?;
        for (value, line) in values(&CONTENT, body) {
            match value {
                [b'"', b'"', ..] | [b'n', ..] => {}
                [b'"', ..] => self.said = true,
                // a list of parts, or the probabilities of the words
                _ => {
                    for choice in line.data().get(b"choices")?.elements()? {
                        self.choice(choice)?;
                    }
                }
            }
            if self.said {
                break;
            }
        }
        let full = |value: &[u8]| value.starts_with(b"[") && !opens_empty(value);
        let told = finish == Finish::Tools;
        self.calls |= told || values(&CALLS, body).any(|(value, _)| full(value));
        let text = |value: &[u8]| value.starts_with(b"\"") && !value.starts_with(b"\"\"");
        self.refused |= values(&REFUSAL, body).any(|(value, _)| text(value));
        Some(())
    }

    fn completion_stream(&mut self, body: &[u8]) -> Option<()> {
        for (value, line) in values(&FINISH, body) {
            if value.starts_with(b"\"") {
                for choice in line.data().get(b"choices")?.elements()? {
                    self.choice(choice)?;
                }
            }
        }
        let text = |value: &[u8]| value.starts_with(b"\"") && !value.starts_with(b"\"\"");
        self.said |= values(&TEXT, body).any(|(value, _)| text(value));
        Some(())
    }

    /// The whole response stands in the last event; some backends leave its items out there.
    fn response_stream(&mut self, body: &[u8]) -> Option<()> {
        let response = lines_back(body).take(4).find_map(|line| line.get(b"response"))?;
        self.response(response)?;
        if !self.said && !self.calls && !self.refused {
            for (_, line) in values(&ITEM, body) {
                let event = line.data();
                if event.get(b"type") == Some(Raw(b"\"response.output_item.done\"")) {
                    self.item(event.get(b"item")?)?;
                }
            }
        }
        Some(())
    }

    fn response(&mut self, response: Raw<'_>) -> Option<()> {
        let mut members = response.members()?;
        let (mut status, mut why) = (None, None);
        while let Some((key, value)) = members.next().ok()? {
            match key.0 {
                b"status" => status = Some(value),
                b"incomplete_details" => why = value.get(b"reason"),
                b"output" => {
                    for item in value.elements()? {
                        self.item(item)?;
                    }
                }
                _ => {}
            }
        }
        match status?.0 {
            b"\"completed\"" => self.ends(Finish::Stop),
            b"\"incomplete\"" => self.ends_by(why.or(Some(Raw(b"\"incomplete\"")))),
            _ => self.ends(Finish::Other),
        }
        Some(())
    }

    fn item(&mut self, item: Raw<'_>) -> Option<()> {
        match item.get(b"type")?.0 {
            b"\"message\"" => {
                for part in item.get(b"content")?.elements()? {
                    let says = |name: &[u8]| part.get(name).is_some_and(|text| !text.is_empty());
                    self.refused |= says(b"refusal");
                    self.said |= says(b"text");
                }
            }
            b"\"reasoning\"" => {}
            kind if kind.ends_with(b"_call\"") => self.calls = true,
            _ => self.said = true,
        }
        Some(())
    }

    fn message(&mut self, message: Raw<'_>) -> Option<()> {
        let mut members = message.members()?;
        while let Some((key, value)) = members.next().ok()? {
            match key.0 {
                b"content" => {
                    for block in value.elements()? {
                        self.block(block)?;
                    }
                }
                b"stop_reason" => self.ends_by(Some(value)),
                _ => {}
            }
        }
        Some(())
    }

    fn block(&mut self, block: Raw<'_>) -> Option<()> {
        match block.get(b"type")?.0 {
            b"\"text\"" => self.said |= !block.get(b"text")?.is_empty(),
            b"\"thinking\"" | b"\"redacted_thinking\"" => {}
            kind if kind.ends_with(b"tool_use\"") => self.calls = true,
            _ => self.said = true,
        }
        Some(())
    }

    fn message_stream(&mut self, body: &[u8]) -> Option<()> {
        for (value, line) in values(&STOP, body) {
            if value.starts_with(b"\"") {
                self.ends_by(line.data().get(b"delta")?.get(b"stop_reason"));
            }
        }
        for (_, line) in values(&BLOCK, body) {
            if let Some(block) = line.data().get(b"content_block") {
                self.block(block)?;
            }
        }
        let mut deltas = values(&TEXT_DELTA, body);
        self.said |= deltas.any(|(_, line)| {
            let delta = line.data().get(b"delta");
            delta.and_then(|delta| delta.get(b"text")).is_some_and(|text| !text.is_empty())
        });
        Some(())
    }

    fn gemini_stream(&mut self, body: &[u8]) -> Option<()> {
        for (_, line) in values(&END, body) {
            self.gemini(line.data())?;
        }
        if self.finish.is_none() {
            for (_, line) in values(&BLOCKED, body) {
                self.gemini(line.data())?;
            }
        }
        self.finish?;
        self.calls |= values(&FUNCTION, body).next().is_some();
        for event in events(Form::Sse, body) {
            if self.said {
                break;
            }
            self.gemini(Raw(event.data.trim_ascii()))?;
        }
        Some(())
    }

    /// An answer, or a chunk of one.
    fn gemini(&mut self, whole: Raw<'_>) -> Option<()> {
        let mut members = whole.members()?;
        while let Some((key, value)) = members.next().ok()? {
            match key.0 {
                b"candidates" => {
                    for candidate in value.elements()? {
                        self.candidate(candidate)?;
                    }
                }
                b"promptFeedback" if value.get(b"blockReason").is_some() => {
                    self.ends(Finish::Filtered);
                }
                _ => {}
            }
        }
        Some(())
    }

    fn candidate(&mut self, candidate: Raw<'_>) -> Option<()> {
        let mut members = candidate.members()?;
        while let Some((key, value)) = members.next().ok()? {
            match key.0 {
                b"finishReason" => self.ends_by(Some(value)),
                b"content" => {
                    for part in value.get(b"parts").and_then(Raw::elements).into_iter().flatten() {
                        self.part(part)?;
                    }
                }
                _ => {}
            }
        }
        Some(())
    }

    fn part(&mut self, part: Raw<'_>) -> Option<()> {
        let mut members = part.members()?;
        let (mut says, mut thought) = (false, false);
        while let Some((key, value)) = members.next().ok()? {
            match key.0 {
                b"thought" => thought = value.bool() == Some(true),
                b"functionCall" => self.calls = true,
                b"thoughtSignature" => {}
                _ => says |= !value.is_empty(),
            }
        }
        self.said |= says && !thought;
        Some(())
    }

    fn ollama_stream(&mut self, kind: Kind, body: &[u8]) -> Option<()> {
        self.ollama(lines_back(body).next()?)?;
        self.calls |= values(&CALLS, body).any(|(value, _)| !opens_empty(value));
        let words = if kind == Kind::OllamaGenerate { &RESPONSE } else { &CONTENT };
        let text = |value: &[u8]| value.starts_with(b"\"") && !value.starts_with(b"\"\"");
        self.said |= values(words, body).any(|(value, _)| text(value));
        Some(())
    }

    fn ollama(&mut self, whole: Raw<'_>) -> Option<()> {
        let mut members = whole.members()?;
        let (mut done, mut why) = (false, None);
        while let Some((key, value)) = members.next().ok()? {
            match key.0 {
                b"message" => self.words(value)?,
                b"response" => self.said |= !value.is_empty(),
                b"done" => done = value.bool() == Some(true),
                b"done_reason" => why = Some(value),
                _ => {}
            }
        }
        if done {
            // older ones give no reason
            self.ends_by(why.or(Some(Raw(b"\"stop\""))));
        }
        Some(())
    }
}

static RESPONSE: Seek = LazyLock::new(|| needle(b"\"response\""));

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

//! OpenAI: a refusal is words beside the content, and a choice ends with its own chunk. A response
//! stands whole in the last event of its stream.
use std::sync::LazyLock;

use super::{CALLS, CONTENT, Seen, opens_empty, opens_text};
use crate::wire::answer::Finish;
use crate::wire::answer::events::{lines_back, values};
use crate::wire::json::{Raw, skip_value};
use crate::wire::seek::{Seek, needle};

static FINISH: Seek = LazyLock::new(|| needle(b"\"finish_reason\""));
static TEXT: Seek = LazyLock::new(|| needle(b"\"text\""));
/// How the names of calls end, and no others that are usual.
static ANY_CALL: Seek = LazyLock::new(|| needle(b"_call"));
static REFUSAL: Seek = LazyLock::new(|| needle(b"\"refusal\""));
static ITEM: Seek = LazyLock::new(|| needle(b"\"item\""));

/// Whether a part of a chat holds more than words and their end.
fn unusual(part: &[u8]) -> bool {
    ANY_CALL.stands(part) || TEXT.stands(part) || REFUSAL.says(part)
}

impl Seen {
    /// A choice of chat or of completions, whole or a piece.
    pub fn choice(&mut self, choice: Raw<'_>) -> Option<()> {
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
    pub fn words(&mut self, message: Raw<'_>) -> Option<()> {
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

    /// A plain chat with one choice, as nearly all are, is not walked through: each of the few words
    /// stands there once, or not at all. Inside a string a quote has a backslash before it, so what
    /// is found is a name; the content, which is most of it, is crossed once and not searched.
    /// `None`: it must be walked through.
    pub fn usual_chat(&mut self, body: &[u8]) -> Option<()> {
        let content = CONTENT.value(body).filter(|content| opens_text(content))?;
        let head = &body[..body.len() - content.len()];
        let rest = &content[skip_value(content, 0).ok()?..];
        let finish = FINISH.value(rest)?;
        let again = FINISH.stands(head) || FINISH.stands(finish) || CONTENT.stands(rest);
        if again || [head, rest].into_iter().any(unusual) {
            return None;
        }
        let word = finish.strip_prefix(b"\"")?;
        let word = &word[..memchr::memchr(b'"', word)?];
        self.said = true;
        self.ends(super::finish(word));
        Some(())
    }

    pub fn chat_stream(&mut self, body: &[u8]) -> Option<()> {
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
        self.refused |= values(&REFUSAL, body).any(|(value, _)| opens_text(value));
        Some(())
    }

    pub fn completion_stream(&mut self, body: &[u8]) -> Option<()> {
        for (value, line) in values(&FINISH, body) {
            if value.starts_with(b"\"") {
                for choice in line.data().get(b"choices")?.elements()? {
                    self.choice(choice)?;
                }
            }
        }
        self.said |= values(&TEXT, body).any(|(value, _)| opens_text(value));
        Some(())
    }

    /// The whole response stands in the last event; some backends leave its items out there.
    pub fn response_stream(&mut self, body: &[u8]) -> Option<()> {
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

    pub fn response(&mut self, response: Raw<'_>) -> Option<()> {
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

    pub fn item(&mut self, item: Raw<'_>) -> Option<()> {
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
}

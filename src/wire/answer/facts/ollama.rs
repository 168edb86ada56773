//! Ollama: the last line says why it stopped; what was said and called stands before it.
use std::sync::LazyLock;

use super::{CALLS, CONTENT, Seen, opens_empty, opens_text};
use crate::wire::answer::events::{lines_back, values};
use crate::wire::endpoint::Kind;
use crate::wire::json::Raw;
use crate::wire::seek::{Seek, needle};

static RESPONSE: Seek = LazyLock::new(|| needle(b"\"response\""));

impl Seen {
    pub fn ollama_stream(&mut self, kind: Kind, body: &[u8]) -> Option<()> {
        self.ollama(lines_back(body).next()?)?;
        self.calls |= values(&CALLS, body).any(|(value, _)| !opens_empty(value));
        let words = if kind == Kind::OllamaGenerate { &RESPONSE } else { &CONTENT };
        self.said |= values(words, body).any(|(value, _)| opens_text(value));
        Some(())
    }

    pub fn ollama(&mut self, whole: Raw<'_>) -> Option<()> {
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

//! Gemini: a chunk is an answer. A call's arguments are plain JSON here, so finds are confirmed.
use std::sync::LazyLock;

use super::Seen;
use crate::wire::answer::Finish;
use crate::wire::answer::events::{events, values};
use crate::wire::json::Raw;
use crate::wire::meter::Form;
use crate::wire::seek::{Seek, needle};

static END: Seek = LazyLock::new(|| needle(b"\"finishReason\""));
static BLOCKED: Seek = LazyLock::new(|| needle(b"\"blockReason\""));
static FUNCTION: Seek = LazyLock::new(|| needle(b"\"functionCall\""));

impl Seen {
    pub fn gemini_stream(&mut self, body: &[u8]) -> Option<()> {
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
    pub fn gemini(&mut self, whole: Raw<'_>) -> Option<()> {
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

    pub fn candidate(&mut self, candidate: Raw<'_>) -> Option<()> {
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

    pub fn part(&mut self, part: Raw<'_>) -> Option<()> {
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
}

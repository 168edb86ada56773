//! Anthropic: the last delta says why it stopped, each block says what it is where it starts.
use std::sync::LazyLock;

use super::Seen;
use crate::wire::answer::events::values;
use crate::wire::json::Raw;
use crate::wire::seek::{Seek, needle};

static STOP: Seek = LazyLock::new(|| needle(b"\"stop_reason\""));
static BLOCK: Seek = LazyLock::new(|| needle(b"\"content_block\""));
static TEXT_DELTA: Seek = LazyLock::new(|| needle(b"\"delta\""));

impl Seen {
    pub fn message(&mut self, message: Raw<'_>) -> Option<()> {
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

    pub fn block(&mut self, block: Raw<'_>) -> Option<()> {
        match block.get(b"type")?.0 {
            b"\"text\"" => self.said |= !block.get(b"text")?.is_empty(),
            b"\"thinking\"" | b"\"redacted_thinking\"" => {}
            kind if kind.ends_with(b"tool_use\"") => self.calls = true,
            _ => self.said = true,
        }
        Some(())
    }

    pub fn message_stream(&mut self, body: &[u8]) -> Option<()> {
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
}

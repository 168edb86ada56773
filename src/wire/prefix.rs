//! What a call's prompt begins with, as one number: calls of a conversation share it, so that they
//! can go where the beginning is in a prompt cache already.
//!
//! It is made of the system's words, the tools and the first turn, and not of what follows, which
//! grows. Only what is said counts, not how it is written: clients move their cache marks
//! (`cache_control`) as a conversation goes on, and turn a plain text into a list of one block to put
//! a mark there. It says nothing of the model and is no fingerprint to trust: it may only steer.
use super::endpoint::Kind;
use super::json::Raw;
use super::view::View;

/// How much of each part counts, in bytes. What is said further behind makes no two calls different.
const PART: usize = 64 << 10;
/// And of a plain prompt, in which a conversation grows without turns.
const PLAIN: usize = 4 << 10;
/// How deep into a value its marks are looked for.
const DEEP: u8 = 8;

/// The same for every call of a conversation, in every process. `None`: the call is no generation,
/// or there is nothing in its prompt.
pub fn prefix(kind: Kind, view: &View<'_>) -> Option<u64> {
    if !kind.generates() {
        return None;
    }
    let mut said = Said::default();
    for (name, part) in [(b's', view.system), (b't', view.tools)] {
        if let Some(part) = part {
            said.part(name, PART);
            said.value(Raw(part), DEEP);
        }
    }
    let turns =
        view.messages.filter(|_| kind != Kind::Completions).map(Raw).and_then(Raw::elements);
    if let Some(turns) = turns {
        for turn in turns {
            said.part(b'm', PART);
            said.value(turn, DEEP);
            // the system's words may stand among the turns, before the first
            if !is_system(turn) {
                break;
            }
        }
    } else if let Some(prompt) = view.messages {
        said.part(b'p', PLAIN);
        said.value(Raw(prompt), DEEP);
    }
    said.hash()
}

fn is_system(turn: Raw<'_>) -> bool {
    turn.get(b"role").is_some_and(|role| matches!(role.0, br#""system""# | br#""developer""#))
}

/// What was said, leaf by leaf.
#[derive(Default)]
struct Said {
    hasher: blake3::Hasher,
    /// How much more of this part counts.
    room: usize,
    any: bool,
}

impl Said {
    /// Another part begins; its name is behind a byte that is in no text.
    fn part(&mut self, name: u8, room: usize) {
        self.hasher.update(&[0xfe, name]);
        self.room = room;
    }

    fn value(&mut self, value: Raw<'_>, deep: u8) {
        if self.room == 0 || value.is_empty() {
            return;
        }
        if let Some(text) = block(value) {
            return self.leaf(text.0);
        }
        let Some(deep) = deep.checked_sub(1) else { return self.leaf(value.0) };
        if let Some(mut members) = value.members() {
            while let Ok(Some((key, value))) = members.next() {
                if !matches!(key.0, b"cache_control" | b"cacheControl") {
                    self.leaf(key.0);
                    self.value(value, deep);
                }
            }
        } else if let Some(elements) = value.elements() {
            for element in elements {
                self.value(element, deep);
            }
        } else {
            self.leaf(value.0);
        }
    }

    /// Ends with a byte that is in no text.
    fn leaf(&mut self, text: &[u8]) {
        let text = &text[..text.len().min(self.room)];
        self.room -= text.len();
        self.any |= !text.is_empty();
        self.hasher.update(text);
        self.hasher.update(&[0xff]);
    }

    fn hash(&self) -> Option<u64> {
        let mut first = [0; 8];
        self.hasher.finalize_xof().fill(&mut first);
        self.any.then(|| u64::from_le_bytes(first))
    }
}

/// The text of a block that is nothing but text: `{"type":"text","text":"…"}`, Gemini's `{"text":"…"}`.
fn block(value: Raw<'_>) -> Option<Raw<'_>> {
    let mut text = None;
    let mut members = value.members()?;
    while let Some((key, value)) = members.next().ok()? {
        match key.0 {
            b"text" if value.0.starts_with(b"\"") => text = Some(value),
            b"type" if matches!(value.0, br#""text""# | br#""input_text""#) => {}
            b"cache_control" => {}
            _ => return None,
        }
    }
    text
}

#[cfg(test)]
mod tests;

//! The name of a task: 128 random bits, written as `task_` and 26 characters.
//!
//! There is one form alone of each, so that a name can be compared as text too. The same bits as
//! `resp_…` are the id of OpenAI's background form. Who knows an id and is not its owner has
//! nothing: it is hard to guess, and it is no secret.
use std::fmt;
use std::hash::{BuildHasher, RandomState};

use aws_lc_rs::rand;
use serde::{Deserialize, Serialize};

use crate::io::base32;

const TASK: &str = "task_";
const RESPONSE: &str = "resp_";

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TaskId([u8; 16]);

impl TaskId {
    /// None comes after it.
    pub(super) const LAST: Self = Self([u8::MAX; 16]);

    /// Random, of the system's generator through AWS-LC.
    pub fn new() -> Self {
        let mut bytes = [0; 16];
        if rand::fill(&mut bytes).is_err() {
            // std's own seed is the system's too
            let (high, low) = (RandomState::new(), RandomState::new());
            bytes[..8].copy_from_slice(&high.hash_one(1_u8).to_be_bytes());
            bytes[8..].copy_from_slice(&low.hash_one(2_u8).to_be_bytes());
        }
        Self(bytes)
    }

    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// `task_…`
    pub fn parse(text: &str) -> Option<Self> {
        text.strip_prefix(TASK).and_then(digits)
    }

    /// `resp_…`
    pub fn parse_response(text: &str) -> Option<Self> {
        text.strip_prefix(RESPONSE).and_then(digits)
    }

    /// `resp_…`
    pub fn as_response(&self) -> String {
        self.named(RESPONSE)
    }

    fn named(self, prefix: &str) -> String {
        let mut text = String::with_capacity(prefix.len() + base32::LEN);
        text.push_str(prefix);
        text.extend(base32::encode(u128::from_be_bytes(self.0)).map(char::from));
        text
    }
}

fn digits(text: &str) -> Option<TaskId> {
    base32::decode(text).map(|bits| TaskId(bits.to_be_bytes()))
}

impl Default for TaskId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.named(TASK))
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for TaskId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("expected task_ and 26 characters")
    }
}

impl From<TaskId> for String {
    fn from(id: TaskId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_back_and_has_one_form() {
        for bytes in [[0; 16], [255; 16], *b"0123456789abcdef"] {
            let id = TaskId::from_bytes(bytes);
            let text = id.to_string();
            assert_eq!((text.len(), TaskId::parse(&text)), (31, Some(id)), "{text}");
            assert_eq!(TaskId::parse_response(&id.as_response()), Some(id));
            assert_eq!(TaskId::parse(&text.to_uppercase()), None);
            assert_eq!(TaskId::parse(&id.as_response()), None);
        }
        let least = "task_00000000000000000000000000";
        assert_eq!(TaskId::from_bytes([0; 16]).to_string(), least);
        let most = "task_7zzzzzzzzzzzzzzzzzzzzzzzzz";
        assert_eq!(TaskId::from_bytes([255; 16]).to_string(), most);
        for wrong in [
            "task_8zzzzzzzzzzzzzzzzzzzzzzzzz",
            "task_0000000000000000000000000",
            "task_000000000000000000000000000",
            "task_0000000000000000000000000o",
            "task_0000000000000000000000000é",
            "task_",
            "",
        ] {
            assert_eq!(TaskId::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn two_differ() {
        assert_ne!(TaskId::new(), TaskId::new());
    }
}

//! Finds a member's value inside an event without parsing the event.
//!
//! The needle is a quoted name. Inside a JSON string quotes are escaped, so the bytes `"usage"`
//! never stand in a model's prose; they may stand as a deeper member (a tool's arguments), so what
//! weighs is confirmed at its proper place afterwards. The search is SIMD, the needles are
//! prepared once.
use std::sync::LazyLock;

use memchr::memmem::{Finder, FinderRev};

use super::json::{Raw, skip_space, skip_value};

/// A prepared search for `"name":`.
pub type Seek = LazyLock<Needle>;

pub struct Needle {
    forward: Finder<'static>,
    backward: FinderRev<'static>,
}

/// `quoted` with its quotes.
pub fn needle(quoted: &'static [u8]) -> Needle {
    Needle { forward: Finder::new(quoted), backward: FinderRev::new(quoted) }
}

impl Needle {
    /// The text from the first member of that name on, beginning with its value.
    pub fn value<'a>(&self, text: &'a [u8]) -> Option<&'a [u8]> {
        let mut from = 0;
        while let Some(found) = self.forward.find(&text[from..]) {
            let behind = from + found + self.forward.needle().len();
            if let Some(value) = behind_colon(text, behind) {
                return Some(value);
            }
            from = behind;
        }
        None
    }

    /// The quoted word stands somewhere, as a name or as a value.
    pub fn stands(&self, text: &[u8]) -> bool {
        self.forward.find(text).is_some()
    }

    /// The object's first member has that name, as far as there is more of it.
    pub fn begins(&self, text: &[u8]) -> bool {
        text.strip_prefix(b"{")
            .is_some_and(|inner| inner[skip_space(inner, 0)..].starts_with(self.forward.needle()))
    }

    /// [`Raw::text_len`] of the first member of that name.
    pub fn text_len(&self, text: &[u8]) -> Option<usize> {
        let value = self.value(text)?;
        Raw(&value[..skip_value(value, 0).ok()?]).text_len()
    }

    /// As [`Needle::value`], but of the last member of that name.
    pub fn last_value<'a>(&self, text: &'a [u8]) -> Option<&'a [u8]> {
        let mut until = text.len();
        while let Some(found) = self.backward.rfind(&text[..until]) {
            let behind = found + self.backward.needle().len();
            if let Some(value) = behind_colon(text, behind) {
                return Some(value);
            }
            until = found;
        }
        None
    }

    /// A member of that name is there, and it is not `null`.
    pub fn says(&self, text: &[u8]) -> bool {
        self.value(text).is_some_and(|value| !value.starts_with(b"null"))
    }
}

fn behind_colon(text: &[u8], at: usize) -> Option<&[u8]> {
    let colon = skip_space(text, at);
    (text.get(colon) == Some(&b':')).then(|| &text[skip_space(text, colon + 1)..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_members_and_not_prose() {
        let usage = needle(b"\"usage\"");
        for (text, want) in [
            (r#"{"usage":{"a":1}}"#, Some("{\"a\":1}}")),
            (r#"{"usage" : null}"#, Some("null}")),
            (r#"{"text":"my \"usage\": 3"}"#, None),
            (r#"{"role":"usage","usage":4}"#, Some("4}")),
            (r#"{"role":"usage"}"#, None),
        ] {
            let found = usage.value(text.as_bytes());
            assert_eq!(found, want.map(str::as_bytes), "{text}");
        }
        assert!(!usage.says(br#"{"usage":null}"#));
        assert!(usage.says(br#"{"usage":{}}"#));
        for (text, want) in [
            ("{\"usage\":[", true),
            ("{ \n\"usage\"", true),
            ("{\"a\":\"usage\"", false),
            ("{", false),
            ("", false),
        ] {
            assert_eq!(usage.begins(text.as_bytes()), want, "{text}");
        }
        let two = br#"{"usage":1,"x":{"usage":2},"y":"usage"}"#;
        assert_eq!(usage.last_value(two), Some(&br#"2},"y":"usage"}"#[..]));
    }
}

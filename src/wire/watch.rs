//! Watches one JSON body go by in chunks and picks out a few of its top-level members.
//!
//! Nothing but the name at hand and the values that are wanted is kept, whatever the size of the
//! body: strings are crossed by SIMD search, containers by a depth counter. In an array of
//! objects (Gemini's stream without `alt=sse`) the members of each object are picked.
//! As in `json`, brackets are counted, not paired.
use memchr::memchr;

use super::json::{ends_escaping, next_mark};

/// Names longer than this are not wanted.
const NAME: usize = 24;
/// Of a wanted value, at most this much is kept.
const VALUE: usize = 16 << 10;

#[derive(Default)]
pub struct JsonWatch {
    depth: u32,
    /// The depth inside the objects whose members are picked; 0 before the first bracket.
    level: u32,
    /// Something other than space was there.
    begun: bool,
    in_string: bool,
    escaped: bool,
    place: Place,
    name: [u8; NAME],
    /// Above [`NAME`] for a name that is too long.
    name_len: u8,
    value: Vec<u8>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    #[default]
    Elsewhere,
    Name,
    Value,
}

impl JsonWatch {
    /// Takes the next bytes. `wanted` says which members to keep; `take` gets each of them, the
    /// value without space around it.
    pub fn push(
        &mut self,
        chunk: &[u8],
        wanted: impl Fn(&[u8]) -> bool,
        take: &mut impl FnMut(&[u8], &[u8]),
    ) {
        let mut at = 0;
        // Where the part of the wanted value begins that is not yet kept.
        let mut from = (self.place == Place::Value).then_some(0);
        while at < chunk.len() {
            if self.in_string {
                at = self.string(chunk, at);
                continue;
            }
            let picked = self.depth == self.level && self.level != 0;
            if !picked && self.depth > 0 {
                // Between the marks of a value that is skipped nothing matters.
                at = next_mark(chunk, at);
            }
            let Some(&byte) = chunk.get(at) else { break };
            match byte {
                b'"' => {
                    self.in_string = true;
                    self.begun = true;
                    if picked && self.place == Place::Name {
                        self.name_len = 0;
                    }
                }
                b'{' | b'[' => self.open(byte),
                b':' if picked && self.place == Place::Name => {
                    self.place = Place::Elsewhere;
                    if self.name().is_some_and(&wanted) {
                        self.place = Place::Value;
                        self.value.clear();
                        from = Some(at + 1);
                    }
                }
                b',' | b'}' | b']' => {
                    if picked {
                        if let Some(from) = from.take() {
                            self.keep(&chunk[from..at]);
                            self.give(take);
                        }
                        self.place = if byte == b',' { Place::Name } else { Place::Elsewhere };
                    }
                    if byte != b',' {
                        self.depth = self.depth.saturating_sub(1);
                    }
                }
                b' ' | b'\t' | b'\n' | b'\r' => {}
                _ => self.begun = true,
            }
            at += 1;
        }
        if let Some(from) = from {
            self.keep(&chunk[from..]);
        }
    }

    /// Everything that was opened is closed again.
    pub fn whole(&self) -> bool {
        self.begun && self.depth == 0 && !self.in_string
    }

    pub fn begun(&self) -> bool {
        self.begun
    }

    fn open(&mut self, byte: u8) {
        self.begun = true;
        self.depth += 1;
        if self.level == 0 {
            self.level = if byte == b'{' { 1 } else { 2 };
        }
        if self.depth == self.level && byte == b'{' {
            self.place = Place::Name;
        }
    }

    /// Crosses a string, or as much of it as there is; `at` is inside it.
    fn string(&mut self, chunk: &[u8], at: usize) -> usize {
        let mut from = at + usize::from(self.escaped);
        self.escaped = false;
        while let Some(found) = memchr(b'"', &chunk[from..]) {
            let end = from + found;
            if !ends_escaping(&chunk[from..end]) {
                self.in_string = false;
                self.spell(&chunk[at..end]);
                return end + 1;
            }
            from = end + 1;
        }
        self.escaped = ends_escaping(&chunk[from..]);
        self.spell(&chunk[at..]);
        chunk.len()
    }

    /// Adds to the name, if it is one that we are in.
    fn spell(&mut self, piece: &[u8]) {
        if self.place != Place::Name || self.depth != self.level {
            return;
        }
        let from = usize::from(self.name_len);
        match self.name.get_mut(from..from + piece.len()) {
            Some(room) => {
                room.copy_from_slice(piece);
                self.name_len += piece.len() as u8;
            }
            None => self.name_len = NAME as u8 + 1,
        }
    }

    fn name(&self) -> Option<&[u8]> {
        self.name.get(..usize::from(self.name_len))
    }

    fn keep(&mut self, piece: &[u8]) {
        let room = VALUE.saturating_sub(self.value.len());
        self.value.extend_from_slice(&piece[..piece.len().min(room)]);
    }

    fn give(&mut self, take: &mut impl FnMut(&[u8], &[u8])) {
        let value = self.value.trim_ascii();
        if let Some(name) = self.name()
            && !value.is_empty()
        {
            take(name, value);
        }
        self.value = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(chunks: &[&[u8]]) -> (Vec<(String, String)>, bool) {
        let mut watch = JsonWatch::default();
        let mut seen = Vec::new();
        for chunk in chunks {
            watch.push(chunk, |name| matches!(name, b"usage" | b"error"), &mut |name, value| {
                let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                seen.push((text(name), text(value)));
            });
        }
        (seen, watch.whole())
    }

    #[test]
    fn picks_top_level_members_in_any_chunking() {
        for (text, want, whole) in [
            (
                r#"{"usage":{"a":[1,{"usage":2}]},"x":"\"usage\":3"}"#,
                vec![("usage", r#"{"a":[1,{"usage":2}]}"#)],
                true,
            ),
            (
                r#" { "error" : null , "a":{"error":1}, "usage" : "x,}" } "#,
                vec![("error", "null"), ("usage", "\"x,}\"")],
                true,
            ),
            (
                r#"[{"usage":1},{"b":[{"usage":3}]},{"usage":2}]"#,
                vec![("usage", "1"), ("usage", "2")],
                true,
            ),
            (r#"{"a_name_that_is_much_too_long_to_keep":1,"usage":7}"#, vec![("usage", "7")], true),
            (r#"["usage",{"usage":1}]"#, vec![("usage", "1")], true),
            (r#"{"usage":7"#, vec![], false),
            (r#"{"a":"usage"#, vec![], false),
            ("", vec![], false),
            ("null", vec![], true),
            (r"}}}}", vec![], false),
        ] {
            let want: Vec<_> =
                want.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
            assert_eq!(picked(&[text.as_bytes()]), (want.clone(), whole), "{text}");
            let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
            assert_eq!(picked(&bytes), (want.clone(), whole), "{text} byte by byte");
            for cut in 0..text.len() {
                let (left, right) = text.as_bytes().split_at(cut);
                assert_eq!(picked(&[left, right]), (want.clone(), whole), "{text} cut at {cut}");
            }
        }
    }

    #[test]
    fn keeps_little_of_a_large_value() {
        let mut watch = JsonWatch::default();
        let mut len = 0;
        let mut take = |_: &[u8], value: &[u8]| len = value.len();
        watch.push(b"{\"error\":\"", |_| true, &mut take);
        for _ in 0..100 {
            watch.push(&[b'x'; 10_000], |_| true, &mut take);
            assert!(watch.value.capacity() <= 2 * VALUE);
        }
        watch.push(b"\"}", |_| true, &mut take);
        assert_eq!(len, VALUE);
        assert!(watch.whole());
    }
}

//! Writes a stream: events with their ends, and texts cut into pieces.
//!
//! A text is cut before a space, some five tokens a piece, so that a client sees it grow and a long
//! answer does not become forty times as long. A piece is a slice of the string as it was written:
//! no escape, no character and no pair of surrogates is torn.
use std::borrow::Cow;

use super::Unfolded;
use super::joined::is_json;
use crate::wire::meter::Form;

/// No piece ends before so many bytes.
const LEAST: usize = 24;
/// Where no space has come by then, any character ends a piece.
const MOST: usize = 64;

/// A stream as it is written.
pub(super) struct Stream {
    pub out: Vec<u8>,
    ends: Vec<u32>,
}

impl Stream {
    pub fn new(capacity: usize) -> Self {
        Self { out: Vec::with_capacity(capacity), ends: Vec::new() }
    }

    /// What was written since the last end is an event. `None`: the stream has grown too large.
    pub fn end(&mut self, mark: &[u8]) -> Option<()> {
        self.out.extend_from_slice(mark);
        self.ends.push(u32::try_from(self.out.len()).ok()?);
        Some(())
    }

    pub fn finish(self, form: Form) -> Unfolded {
        let content_type = match form {
            Form::NdJson => "application/x-ndjson",
            Form::Sse => "text/event-stream; charset=utf-8",
            Form::Json | Form::Opaque => "application/json",
        };
        Unfolded { form, content_type, body: self.out.into(), ends: self.ends.into() }
    }
}

/// The inside of a string, in pieces; none of an empty one.
pub(super) fn pieces(inner: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = inner;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, behind) = rest.split_at(cut(rest));
        rest = behind;
        Some(piece)
    })
}

fn cut(text: &[u8]) -> usize {
    if text.len() <= LEAST {
        return text.len();
    }
    let near = &text[LEAST..text.len().min(MOST)];
    // a space is never part of an escape
    if let Some(found) = memchr::memchr(b' ', near) {
        return LEAST + found;
    }
    let mut at = 0;
    while at < text.len() && at < MOST {
        at += letter(&text[at..]);
    }
    at.min(text.len())
}

/// Bytes of the first letter: a character, an escape, or two that make one character.
fn letter(text: &[u8]) -> usize {
    match text {
        [
            b'\\',
            b'u',
            b'd' | b'D',
            b'8' | b'9' | b'a' | b'b' | b'A' | b'B',
            _,
            _,
            b'\\',
            b'u',
            ..,
        ] => 12,
        [b'\\', b'u', ..] => 6,
        [b'\\', ..] => 2,
        [byte, ..] => match byte {
            0xc0..0xe0 => 2,
            0xe0..0xf0 => 3,
            0xf0.. => 4,
            _ => 1,
        },
        [] => 0,
    }
}

/// A plain body that may be cut into lines: JSON for sure, and without line ends, which in JSON
/// stand only where space may. `None`: it is no JSON.
pub(super) fn one_line(body: &[u8]) -> Option<Cow<'_, [u8]>> {
    let body = body.trim_ascii();
    if !is_json(body) {
        return None;
    }
    if memchr::memchr2(b'\n', b'\r', body).is_none() {
        return Some(Cow::Borrowed(body));
    }
    let spaced = |&byte: &u8| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte };
    Some(Cow::Owned(body.iter().map(spaced).collect()))
}

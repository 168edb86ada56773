//! Crosses values, and says them without the space that means nothing.
//!
//! Most clients write none, so the first crossing notes whether there is any: a value without is
//! said in one piece. What is short is gathered first: a hash takes few long pieces faster. As
//! lenient as [`crate::wire::json`]; of space between two words of broken text one space stays, so
//! that what is said of two texts is the same only if they are.
use crate::wire::json::{NotJson, next_where, skip_space, skip_value};

/// What crossing a value has told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Crossed {
    /// There is space outside its strings.
    pub spaced: bool,
    /// One of its strings is the word that was looked for.
    pub found: bool,
}

/// The offset behind the value that begins at `at`. `word` is looked for among the strings in an
/// object or an array, as it would be written, with its quotes.
pub fn cross(text: &[u8], at: usize, word: &[u8], crossed: &mut Crossed) -> Result<usize, NotJson> {
    *crossed = Crossed::default();
    if !matches!(text.get(at), Some(b'{' | b'[')) {
        return skip_value(text, at);
    }
    let (mut at, mut depth) = (at, 0_usize);
    loop {
        at = next_stop(text, at);
        match text.get(at) {
            Some(b'"') => {
                let end = skip_value(text, at)?;
                crossed.found |= end - at == word.len() && text[at..end] == *word;
                at = end;
                continue;
            }
            Some(b'{' | b'[') => depth += 1,
            Some(b'}' | b']') => {
                depth -= 1;
                if depth == 0 {
                    return Ok(at + 1);
                }
            }
            Some(_) => crossed.spaced = true,
            None => return Err(NotJson { at }),
        }
        at += 1;
    }
}

/// Most bytes that are gathered: enough for a hash to work on many blocks at once. A piece of this
/// length goes on as it is.
const ROOM: usize = 16 << 10;

/// Gathers short pieces on their way to a sink. What is gathered last waits for [`Pen::end`].
pub struct Pen<'s, S> {
    sink: &'s mut S,
    gathered: Vec<u8>,
}

impl<'s, S: FnMut(&[u8])> Pen<'s, S> {
    /// `len`: about as many bytes will be written.
    pub fn new(sink: &'s mut S, len: usize) -> Self {
        Self { sink, gathered: Vec::with_capacity(len.min(ROOM)) }
    }

    pub fn write(&mut self, piece: &[u8]) {
        if piece.len() > ROOM - self.gathered.len() {
            self.flush();
        }
        if piece.len() >= ROOM {
            return (self.sink)(piece);
        }
        self.gathered.extend_from_slice(piece);
    }

    pub fn end(mut self) {
        self.flush();
    }

    fn flush(&mut self) {
        if !self.gathered.is_empty() {
            (self.sink)(&self.gathered);
            self.gathered.clear();
        }
    }
}

/// Writes a value, or a part of one that is cut between its tokens, without the space in it.
pub fn tight<S: FnMut(&[u8])>(value: &[u8], pen: &mut Pen<'_, S>) {
    let (mut from, mut at) = (0, 0);
    loop {
        at = next_stop(value, at);
        match value.get(at) {
            Some(b'"') => at = skip_value(value, at).unwrap_or(value.len()),
            Some(b' ' | b'\t' | b'\n' | b'\r') => {
                let end = skip_space(value, at);
                pen.write(&value[from..at]);
                if at > 0 && end < value.len() && is_word(value[at - 1]) && is_word(value[end]) {
                    pen.write(b" ");
                }
                (from, at) = (end, end);
            }
            Some(_) => at += 1,
            None => return pen.write(&value[from..]),
        }
    }
}

fn is_word(byte: u8) -> bool {
    !matches!(byte, b'{' | b'}' | b'[' | b']' | b',' | b':' | b'"')
}

/// The offset of the next quote, brace, bracket, space or control, or the end.
fn next_stop(text: &[u8], at: usize) -> usize {
    next_where::<8>(text, at, is_stop)
}

/// Brackets and braces differ in one bit.
fn is_stop(byte: u8) -> bool {
    byte <= b' ' || byte == b'"' || byte | 0x20 == b'{' || byte | 0x20 == b'}'
}

//! JSON as it was written, but for the space that means nothing.
//!
//! What is said ends with a line feed, which stands nowhere else outside of strings: so values said
//! one after the other stay apart. Strings pass in one piece, as they were escaped.
use crate::wire::json::skip_value;

/// Says one value. Of text that is broken, all that is there.
pub fn say(value: &[u8], sink: &mut impl FnMut(&[u8])) {
    let mut near = Near { bytes: [0; SIZE], len: 0 };
    let (mut at, mut last, mut gap) = (0, b' ', false);
    while let Some(&byte) = value.get(at) {
        match byte {
            b'"' => {
                near.flush(sink);
                let end = skip_value(value, at).unwrap_or(value.len());
                sink(&value[at..end]);
                at = end;
            }
            b' ' | b'\t' | b'\n' | b'\r' => {
                gap = true;
                at += 1;
                continue;
            }
            _ => {
                // `1 2` is no JSON, and must not become `12`
                if gap && is_word(last) && is_word(byte) {
                    near.push(b' ', sink);
                }
                near.push(byte, sink);
                at += 1;
            }
        }
        (last, gap) = (byte, false);
    }
    near.push(b'\n', sink);
    near.flush(sink);
}

fn is_word(byte: u8) -> bool {
    !matches!(byte, b'[' | b']' | b'{' | b'}' | b',' | b':' | b'"' | b' ')
}

/// Long enough that few calls are made for an array of tokens.
const SIZE: usize = 256;

/// Bytes that were not said yet.
struct Near {
    bytes: [u8; SIZE],
    len: usize,
}

impl Near {
    fn push(&mut self, byte: u8, sink: &mut impl FnMut(&[u8])) {
        if self.len == SIZE {
            self.flush(sink);
        }
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    fn flush(&mut self, sink: &mut impl FnMut(&[u8])) {
        if self.len > 0 {
            sink(&self.bytes[..self.len]);
            self.len = 0;
        }
    }
}

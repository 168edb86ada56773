//! One spelling for each path, so that what is matched is what is forwarded.
//!
//! Doubled slashes are merged and escapes of unreserved characters decoded (RFC 3986 6.2.2.2).
//! Whatever two readers could take for different paths is refused: dot segments, encoded slashes,
//! backslashes, escaped control characters, raw non-ASCII. Nothing else is touched, and a second
//! pass changes nothing.
use std::borrow::Cow;

use super::fault::GateFault;

const PLAIN: u8 = 0;
const SLASH: u8 = 1;
const DOT: u8 = 2;
const ESCAPE: u8 = 3;
const BACKSLASH: u8 = 4;
const HIGH: u8 = 5;
const CONTROL: u8 = 6;

const CLASS: [u8; 256] = {
    let mut table = [PLAIN; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b'/' => SLASH,
            b'.' => DOT,
            b'%' => ESCAPE,
            b'\\' => BACKSLASH,
            0x80.. => HIGH,
            0..=0x20 | 0x7f => CONTROL,
            _ => PLAIN,
        };
        byte += 1;
    }
    table
};

/// The path in its one spelling; borrowed when it had it already.
pub fn normalise(path: &str) -> Result<Cow<'_, str>, GateFault> {
    if !path.starts_with('/') {
        return Err(GateFault::BadTarget);
    }
    let mut after_slash = false;
    for &byte in path.as_bytes() {
        match CLASS[usize::from(byte)] {
            PLAIN => after_slash = false,
            DOT if !after_slash => {}
            SLASH if !after_slash => after_slash = true,
            SLASH | DOT | ESCAPE => return rewrite(path),
            fault => return Err(refuse(fault)),
        }
    }
    Ok(Cow::Borrowed(path))
}

fn refuse(class: u8) -> GateFault {
    match class {
        BACKSLASH => GateFault::EncodedSlash,
        HIGH => GateFault::NotAscii,
        _ => GateFault::BadTarget,
    }
}

fn rewrite(path: &str) -> Result<Cow<'_, str>, GateFault> {
    let mut out = String::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        match CLASS[usize::from(byte)] {
            SLASH if out.ends_with('/') => {}
            PLAIN | DOT | SLASH => out.push(char::from(byte)),
            ESCAPE => {
                let (Some(high), Some(low)) = (bytes.next(), bytes.next()) else {
                    return Err(GateFault::BadEscape);
                };
                match decode(high, low)? {
                    Some(plain) => out.push(plain),
                    None => out.extend(['%', char::from(high), char::from(low)]),
                }
            }
            fault => return Err(refuse(fault)),
        }
    }
    // `..;x` is a dot segment to servers that cut path parameters first
    if out.split('/').any(|segment| matches!(segment.split(';').next(), Some("." | ".."))) {
        return Err(GateFault::DotSegment);
    }
    Ok(if out == path { Cow::Borrowed(path) } else { Cow::Owned(out) })
}

/// The character that an escape stands for if it needs no escape.
fn decode(high: u8, low: u8) -> Result<Option<char>, GateFault> {
    let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(GateFault::BadEscape);
    let byte = (digit(high)? * 16 + digit(low)?) as u8;
    match byte {
        b'/' | b'\\' => Err(GateFault::EncodedSlash),
        0..0x20 | 0x7f => Err(GateFault::BadEscape),
        b'-' | b'.' | b'_' | b'~' => Ok(Some(char::from(byte))),
        _ if byte.is_ascii_alphanumeric() => Ok(Some(char::from(byte))),
        _ => Ok(None),
    }
}

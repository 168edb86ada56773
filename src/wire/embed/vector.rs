//! What can be told of a vector without reading its numbers: how they are written, and how many.
//!
//! Vectors of one model and one request have one shape; where they have not, something else was
//! answered than was asked.
use crate::wire::json::Raw;

/// How a vector is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// An array of so many numbers.
    Numbers(usize),
    /// A string of so many digits of base64.
    Base64(usize),
}

impl Shape {
    /// `None`: it is none, it is empty, or something stands in it that is no number (`null`).
    pub fn of(vector: Raw<'_>) -> Option<Self> {
        match vector.0 {
            [b'[', inner @ .., b']'] => {
                let fits = inner.iter().fold(true, |fits, &byte| fits & is_number(byte));
                let commas = memchr::memchr_iter(b',', inner).count();
                (fits && inner.iter().any(u8::is_ascii_digit)).then_some(Self::Numbers(commas + 1))
            }
            [b'"', inner @ .., b'"'] if !inner.is_empty() => {
                let fits = inner.iter().fold(true, |fits, &byte| fits & is_digit(byte));
                fits.then_some(Self::Base64(inner.len()))
            }
            _ => None,
        }
    }
}

/// A byte of a number, or between two.
fn is_number(byte: u8) -> bool {
    byte.is_ascii_digit()
        | matches!(byte, b',' | b'-' | b'+' | b'.' | b'e' | b'E')
        | matches!(byte, b' ' | b'\n' | b'\t' | b'\r')
}

fn is_digit(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() | matches!(byte, b'+' | b'/' | b'=' | b'-' | b'_')
}

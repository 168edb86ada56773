//! Where an answer's body ends (RFC 9112 section 6 and 7): its length, its chunks, or the close.
//!
//! Decoding works in place on what was read: chunk lines are squeezed out, so that any number of
//! chunks in one read leave as one frame, copied once.
use bytes::Bytes;

use super::H1Error;

/// Most bytes of chunk extensions or trailers in one body; they are read past and dropped.
const SLACK: u16 = 8 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body, or all of it has been read.
    None,
    /// So many bytes are still to come.
    Length(u64),
    Chunked(Chunks),
    UntilClose,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunks {
    at: At,
    slack: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// In the digits of a size; `digits` of them so far.
    Size {
        value: u64,
        digits: u8,
    },
    /// After the digits: white space, and then an extension or the line's end.
    Blank {
        value: u64,
    },
    /// Up to the line's end.
    Extension {
        value: u64,
    },
    SizeLf {
        value: u64,
    },
    Data(u64),
    DataCr,
    DataLf,
    /// At the start of a trailer line, or the empty line that ends the body.
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
    End,
}

/// What one read held of the body.
#[derive(Debug, Default)]
pub struct Decoded {
    pub data: Bytes,
    /// Bytes of the read that belong to this body, framing included.
    pub used: usize,
}

impl Framing {
    pub fn chunked() -> Self {
        Self::Chunked(Chunks { at: At::Size { value: 0, digits: 0 }, slack: SLACK })
    }

    pub fn ended(&self) -> bool {
        matches!(self, Self::None | Self::Length(0) | Self::Chunked(Chunks { at: At::End, .. }))
    }

    /// Takes what belongs to the body from the front of `read`.
    pub fn decode(&mut self, read: &mut [u8]) -> Result<Decoded, H1Error> {
        match self {
            Self::None => Ok(Decoded::default()),
            Self::UntilClose => {
                Ok(Decoded { data: Bytes::copy_from_slice(read), used: read.len() })
            }
            Self::Length(remaining) => {
                let used = usize::try_from(*remaining).unwrap_or(usize::MAX).min(read.len());
                *remaining -= used as u64;
                Ok(Decoded { data: Bytes::copy_from_slice(&read[..used]), used })
            }
            Self::Chunked(chunks) => {
                let (kept, used) = chunks.squeeze(read)?;
                Ok(Decoded { data: Bytes::copy_from_slice(&read[..kept]), used })
            }
        }
    }

    /// Whether the next `len` bytes are all of the body's, and lie there as they are to go on; they
    /// then count as read.
    pub fn passes(&mut self, len: usize) -> bool {
        match self {
            Self::UntilClose => true,
            Self::Length(remaining) if *remaining >= len as u64 => {
                *remaining -= len as u64;
                true
            }
            Self::None | Self::Length(_) | Self::Chunked(_) => false,
        }
    }

    /// The connection ended: the end of this body, or an error.
    pub fn closed(&mut self) -> Result<(), H1Error> {
        if *self == Self::UntilClose || self.ended() {
            *self = Self::None;
            Ok(())
        } else {
            Err(H1Error::Closed)
        }
    }
}

impl Chunks {
    /// Moves the data to the front; gives its length and how much was read past.
    fn squeeze(&mut self, read: &mut [u8]) -> Result<(usize, usize), H1Error> {
        let (mut kept, mut i) = (0, 0);
        while i < read.len() && self.at != At::End {
            if let At::Data(remaining) = self.at {
                let take = usize::try_from(remaining).unwrap_or(usize::MAX).min(read.len() - i);
                if kept != i {
                    read.copy_within(i..i + take, kept);
                }
                kept += take;
                i += take;
                let remaining = remaining - take as u64;
                self.at = if remaining == 0 { At::DataCr } else { At::Data(remaining) };
            } else {
                match self.step(read[i]) {
                    Ok(next) => self.at = next,
                    // what came before is good; the next call meets the same byte again
                    Err(_) if kept > 0 => break,
                    Err(error) => return Err(error),
                }
                i += 1;
            }
        }
        Ok((kept, i))
    }

    fn step(&mut self, byte: u8) -> Result<At, H1Error> {
        Ok(match (self.at, byte) {
            (At::Size { value, digits }, b) if b.is_ascii_hexdigit() => {
                if digits == 15 {
                    return Err(H1Error::Malformed("a chunk size is too large"));
                }
                let digit = (b as char).to_digit(16).map_or(0, u64::from);
                At::Size { value: value << 4 | digit, digits: digits + 1 }
            }
            (At::Size { digits: 0, .. }, _) => {
                return Err(H1Error::Malformed("a chunk without a size"));
            }
            (At::Size { value, .. } | At::Blank { value } | At::Extension { value }, b'\r') => {
                At::SizeLf { value }
            }
            (At::Size { value, .. } | At::Blank { value }, b';') => At::Extension { value },
            (At::Size { value, .. } | At::Blank { value }, b' ' | b'\t') => {
                self.spend()?;
                At::Blank { value }
            }
            (At::Extension { value }, b) if b != b'\n' => {
                self.spend()?;
                At::Extension { value }
            }
            (At::SizeLf { value: 0 } | At::TrailerLf, b'\n') => At::TrailerStart,
            (At::SizeLf { value }, b'\n') => At::Data(value),
            (At::DataCr, b'\r') => At::DataLf,
            (At::DataLf, b'\n') => At::Size { value: 0, digits: 0 },
            (At::TrailerStart, b'\r') => At::EndLf,
            (At::Trailer, b'\r') => At::TrailerLf,
            (At::TrailerStart | At::Trailer, b) if b != b'\n' => {
                self.spend()?;
                At::Trailer
            }
            (At::EndLf, b'\n') => At::End,
            _ => return Err(H1Error::Malformed("broken chunk framing")),
        })
    }

    fn spend(&mut self) -> Result<(), H1Error> {
        self.slack = self
            .slack
            .checked_sub(1)
            .ok_or(H1Error::Malformed("chunk extensions or trailers are too long"))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;

//! What the bytes of a request head said before the parser tidied them up.
//!
//! The HTTP/1.1 parser drops a `Content-Length` beside a `Transfer-Encoding`, merges equal
//! lengths and accepts `010`; a gate that looks at the parsed head alone cannot see it. The
//! listener scans the raw bytes and hands these facts over with each request.
//!
//! `HeadFacts::default()` means "nothing was scanned": the gate refuses an HTTP/1.x request with it,
//! so a listener that lost its place fails closed.

/// Facts of one HTTP/1.x request head. Counts saturate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeadFacts {
    /// Bytes of the head, blank line and leading empty lines included; 0: not scanned.
    pub len: u32,
    /// Field lines (a folded line counts as one more).
    pub fields: u16,
    /// `Content-Length` lines.
    pub content_lengths: u8,
    /// `Transfer-Encoding` lines.
    pub transfer_encodings: u8,
    /// `Host` lines.
    pub hosts: u8,
    pub flaws: Flaws,
    /// The value of the last well-formed `Content-Length`.
    pub content_length: u64,
}

/// A set of things that no head may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flaws(u8);

impl Flaws {
    /// A line ended in LF without CR.
    pub const BARE_LF: Flaws = Flaws(1);
    /// A field line began with a space or a tab (obsolete line folding).
    pub const FOLD: Flaws = Flaws(1 << 1);
    /// White space stood between a field name and its colon.
    pub const SPACED_NAME: Flaws = Flaws(1 << 2);
    /// A `Content-Length` was not `0` or up to 16 digits without a leading zero.
    pub const BAD_LENGTH: Flaws = Flaws(1 << 3);
    /// A `Transfer-Encoding` was not `chunked`.
    pub const BAD_CODING: Flaws = Flaws(1 << 4);
    /// The request target carried a `#`.
    pub const FRAGMENT: Flaws = Flaws(1 << 5);

    pub fn add(&mut self, other: Flaws) {
        self.0 |= other.0;
    }

    pub fn has(self, other: Flaws) -> bool {
        self.0 & other.0 != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Where a request's body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    Empty,
    /// So many bytes.
    Length(u64),
    Chunked,
}

impl HeadFacts {
    /// Where the body ends, or `None` where two readers could disagree about it.
    pub fn framing(&self) -> Option<Framing> {
        if self.len == 0 || !self.flaws.is_empty() {
            return None;
        }
        match (self.content_lengths, self.transfer_encodings) {
            (0, 0) => Some(Framing::Empty),
            (1, 0) if self.content_length == 0 => Some(Framing::Empty),
            (1, 0) => Some(Framing::Length(self.content_length)),
            (0, 1) => Some(Framing::Chunked),
            _ => None,
        }
    }
}

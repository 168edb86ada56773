//! Sees the raw bytes of HTTP/1.x request heads as they are read, and notes what the parser hides.
//!
//! [`HeadScan`] looks at one head: it finds the end and fills [`HeadFacts`]. [`HeadTrail`] follows a
//! whole connection: it steps over bodies and yields the facts of each head in order.
//! Neither judges nor changes a byte; `pipeline::gate` judges. No allocation for a request that
//! comes alone; a line that lies within one read is looked at in place.
//!
//! What the parser refuses by itself (bare CR, control bytes, a malformed request line) is not
//! looked for here: such a head never becomes a request.
mod bare;
mod chunks;
#[cfg(test)]
mod tests;
mod trail;

pub use self::bare::{BareError, replace_bare_error};
pub use self::trail::HeadTrail;
pub use crate::pipeline::gate::{Flaws, Framing, HeadFacts};

use crate::pipeline::gate::exact_length;

/// Kept of a line that is split over reads: more than any well-formed line of interest needs. A
/// longer `Content-Length` or `Transfer-Encoding` line counts as malformed, split or not.
const LINE: usize = 64;
/// Kept of the request line.
const REQUEST_LINE: usize = 144;
/// Most of a request target that [`HeadScan::target`] gives back.
const TARGET: usize = 128;

/// Scans one request head, in pieces of any size.
#[derive(Debug)]
pub struct HeadScan {
    facts: HeadFacts,
    /// Bytes of the current line so far.
    line_len: usize,
    /// The last byte of the piece before, to tell CR LF from LF over a split.
    last: u8,
    /// The request line is complete.
    in_fields: bool,
    done: bool,
    request_len: u8,
    taken: usize,
    line: [u8; LINE],
    request_line: [u8; REQUEST_LINE],
}

impl Default for HeadScan {
    fn default() -> Self {
        Self::new()
    }
}

impl HeadScan {
    pub fn new() -> Self {
        HeadScan {
            facts: HeadFacts::default(),
            line_len: 0,
            last: 0,
            in_fields: false,
            done: false,
            request_len: 0,
            taken: 0,
            line: [0; LINE],
            request_line: [0; REQUEST_LINE],
        }
    }

    /// Forgets everything. `feed` does so by itself when it is given bytes after a finished head.
    pub fn reset(&mut self) {
        self.facts = HeadFacts::default();
        self.line_len = 0;
        self.in_fields = false;
        self.done = false;
        self.request_len = 0;
    }

    /// Takes the next bytes of the connection. `Some` when the head ends within them; how many
    /// of them belonged to it is then in [`taken`](Self::taken).
    pub fn feed(&mut self, bytes: &[u8]) -> Option<HeadFacts> {
        if self.done {
            self.reset();
        }
        let mut start = 0;
        for at in memchr::memchr_iter(b'\n', bytes) {
            let end = at + 1;
            let piece = &bytes[start..end];
            start = end;
            // nearly all lines: whole, with CR LF, and none that is looked at
            if let [first, .., b'\r', _] = piece
                && self.in_fields
                && self.line_len == 0
                && !is_looked_at(*first)
            {
                self.facts.fields = self.facts.fields.saturating_add(1);
                continue;
            }
            if self.end_line(piece) {
                self.done = true;
                self.taken = end;
                self.count(end);
                return Some(self.facts);
            }
        }
        self.keep(&bytes[start..]);
        self.taken = bytes.len();
        self.count(bytes.len());
        None
    }

    /// How many bytes of the last `feed` belonged to the head.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// Whether a head has begun and not ended: the clock of the head's deadline runs. Empty lines
    /// in front of a head do not start it.
    pub fn is_inside(&self) -> bool {
        !self.done && (self.in_fields || self.line_len > 0)
    }

    /// Whether the request line has not ended yet.
    pub fn in_request_line(&self) -> bool {
        !self.in_fields
    }

    /// The beginning (at most 128 bytes) of the target of the head that was scanned last, as far
    /// as it came: enough to tell the dialect. Untrusted bytes.
    pub fn target(&self) -> &[u8] {
        let line = &self.request_line[..usize::from(self.request_len)];
        let Some(at) = memchr::memchr(b' ', line) else { return &[] };
        let rest = &line[at + 1..];
        let end = rest.iter().position(|byte| matches!(byte, b' ' | b'\r' | b'\n'));
        let target = &rest[..end.unwrap_or(rest.len())];
        &target[..target.len().min(TARGET)]
    }

    /// The head begins like the preface of an HTTP/2 connection.
    fn is_preface(&self) -> bool {
        self.request_line[..usize::from(self.request_len)].starts_with(b"PRI * HTTP/2.0\r")
    }

    fn count(&mut self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.facts.len = self.facts.len.saturating_add(bytes);
    }

    /// Notes a part of a line that ends in a later read.
    fn keep(&mut self, piece: &[u8]) {
        let Some(&last) = piece.last() else { return };
        self.last = last;
        if self.in_fields {
            let at = self.line_len.min(LINE);
            let room = piece.len().min(LINE - at);
            self.line[at..at + room].copy_from_slice(&piece[..room]);
        } else {
            self.keep_request_line(piece);
        }
        self.line_len += piece.len();
    }

    fn keep_request_line(&mut self, piece: &[u8]) {
        let at = usize::from(self.request_len);
        let room = piece.len().min(REQUEST_LINE - at);
        self.request_line[at..at + room].copy_from_slice(&piece[..room]);
        self.request_len += room as u8;
        if memchr::memchr(b'#', piece).is_some() {
            self.facts.flaws.add(Flaws::FRAGMENT);
        }
    }

    /// Takes the last part of a line, its LF included. True at the end of the head.
    fn end_line(&mut self, piece: &[u8]) -> bool {
        let before = if piece.len() > 1 { piece[piece.len() - 2] } else { self.last };
        let total = self.line_len + piece.len();
        let crlf = total > 1 && before == b'\r';
        if !crlf {
            self.facts.flaws.add(Flaws::BARE_LF);
        }
        let blank = total == 1 + usize::from(crlf);
        if !self.in_fields {
            if blank {
                // servers skip empty lines in front of a request line (RFC 9112 2.2)
                self.request_len = 0;
            } else {
                self.keep_request_line(piece);
                self.in_fields = true;
            }
            self.line_len = 0;
            return false;
        }
        if blank {
            return true;
        }
        self.facts.fields = self.facts.fields.saturating_add(1);
        if self.line_len == 0 {
            field(&mut self.facts, &piece[..total.min(LINE)], total);
        } else {
            self.keep(piece);
            field(&mut self.facts, &self.line[..total.min(LINE)], total);
        }
        self.line_len = 0;
        false
    }
}

/// Whether a field line that begins so may be one of those that matter.
fn is_looked_at(first: u8) -> bool {
    matches!(first, b'c' | b'C' | b't' | b'T' | b'h' | b'H' | b' ' | b'\t')
}

/// Looks at one field line: `line` is its beginning, `total` its length with the line end.
fn field(facts: &mut HeadFacts, line: &[u8], total: usize) {
    match line[0] {
        b' ' | b'\t' => facts.flaws.add(Flaws::FOLD),
        b'c' | b'C' => {
            if let Some(value) = value_of(b"content-length", line, total, facts) {
                facts.content_lengths = facts.content_lengths.saturating_add(1);
                match exact_length(value) {
                    Some(length) => facts.content_length = length,
                    None => facts.flaws.add(Flaws::BAD_LENGTH),
                }
            }
        }
        b't' | b'T' => {
            if let Some(value) = value_of(b"transfer-encoding", line, total, facts) {
                facts.transfer_encodings = facts.transfer_encodings.saturating_add(1);
                // coding names ignore case (RFC 9112 7)
                if !value.eq_ignore_ascii_case(b"chunked") {
                    facts.flaws.add(Flaws::BAD_CODING);
                }
            }
        }
        b'h' | b'H' if value_of(b"host", line, total, facts).is_some() => {
            facts.hosts = facts.hosts.saturating_add(1);
        }
        _ => {}
    }
}

/// The value of a line if it is this field's, without the white space around; empty when the line was
/// too long to be kept, which no reader of a value accepts.
fn value_of<'l>(
    name: &[u8],
    line: &'l [u8],
    total: usize,
    facts: &mut HeadFacts,
) -> Option<&'l [u8]> {
    // the byte after the name first: it rules out nearly every other field
    let after = *line.get(name.len())?;
    if !matches!(after, b':' | b' ' | b'\t') || !line[..name.len()].eq_ignore_ascii_case(name) {
        return None;
    }
    if after != b':' {
        facts.flaws.add(Flaws::SPACED_NAME);
        return None;
    }
    if total > line.len() { Some(&[]) } else { Some(trim(&line[name.len() + 1..])) }
}

/// Cuts the line end and the optional white space around a value. Only SP and HTAB are white space.
fn trim(value: &[u8]) -> &[u8] {
    let value = value.strip_suffix(b"\n").unwrap_or(value);
    let value = value.strip_suffix(b"\r").unwrap_or(value);
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let Some(start) = value.iter().position(|byte| !blank(byte)) else { return &[] };
    let end = value.iter().rposition(|byte| !blank(byte)).unwrap_or(start);
    &value[start..=end]
}

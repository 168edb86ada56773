//! Cuts a stream of server-sent events, or of JSON lines, into its parts, whatever the chunks.
//!
//! Nothing is copied while an event lies inside one chunk; only the rest of a chunk is carried
//! over. At most [`MAX_EVENT`] bytes are ever kept: a larger event is counted and passed over, and
//! only its first and last bytes are shown, because that is where its kind and its end stand.
//! The parts are the same for every chunking. Event rules: the HTML standard's section on
//! server-sent events; unlike there, an event that the end of the stream cuts short is shown too.
use std::borrow::Cow;
use std::ops::Range;

use memchr::{memchr, memchr2};

mod past;
mod whole;

pub use past::Past;
pub use whole::WholeEvents;

/// Largest event or line that is looked at whole, in bytes, where nothing else is said.
pub const MAX_EVENT: usize = 1 << 20;
/// How much of the beginning of a larger one is shown.
const HEAD: usize = 512;
/// How much of its end.
const TAIL: usize = 4096;
/// A carry-over buffer larger than this is given back after its event.
const KEEP: usize = 4096;

/// One server-sent event that has data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// The `event:` field.
    pub name: Option<&'a [u8]>,
    /// The `data:` lines, joined by `\n`.
    pub data: &'a [u8],
    /// The event was larger than [`MAX_EVENT`]: `data` is only its beginning, this is its end.
    pub tail: Option<&'a [u8]>,
}

/// One line that is not blank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    pub data: &'a [u8],
    /// As in [`Event`].
    pub tail: Option<&'a [u8]>,
}

/// Finds the blank lines that end events, across chunks and with any of the three line ends.
#[derive(Default)]
pub(super) struct Blanks {
    /// The current line has bytes in it.
    in_line: bool,
    /// The byte before was `\r`: a `\n` that follows belongs to it.
    after_cr: bool,
}

impl Blanks {
    /// To be asked first of each chunk: how many bytes of it, one or none, still belong to the line
    /// end before.
    pub fn begin(&mut self, chunk: &[u8]) -> usize {
        let belongs = self.after_cr && chunk.first() == Some(&b'\n');
        self.after_cr &= chunk.is_empty();
        usize::from(belongs)
    }

    /// The next blank line from `at` on, which is behind `begin` or behind the blank line before.
    /// `None`: the rest of the chunk belongs to an event that is not over.
    pub fn next(&mut self, chunk: &[u8], mut at: usize) -> Option<Range<usize>> {
        while let Some(found) = memchr2(b'\n', b'\r', &chunk[at..]) {
            let end = at + found;
            let blank = found == 0 && !self.in_line;
            at = match (chunk[end], chunk.get(end + 1)) {
                (b'\r', Some(b'\n')) => end + 2,
                (b'\r', None) => {
                    self.after_cr = true;
                    end + 1
                }
                _ => end + 1,
            };
            self.in_line = false;
            if blank {
                return Some(end..at);
            }
        }
        self.in_line |= at < chunk.len();
        None
    }
}

/// Splits `text/event-stream`; an event of up to `MOST` bytes is shown whole.
#[derive(Default)]
pub struct SseSplit<const MOST: usize = MAX_EVENT> {
    carry: Carry<MOST>,
    blanks: Blanks,
}

impl SseSplit {
    pub fn new() -> Self {
        Self::default()
    }
}

impl<const MOST: usize> SseSplit<MOST> {
    /// Takes the next bytes and shows every event that they complete.
    pub fn push(&mut self, chunk: &[u8], on_event: &mut impl FnMut(Event<'_>)) {
        let mut at = self.blanks.begin(chunk);
        let mut start = if self.carry.is_empty() { at } else { 0 };
        while let Some(blank) = self.blanks.next(chunk, at) {
            let event = &chunk[start..blank.start];
            self.carry.complete(event, |head, tail| show(head, tail, on_event));
            (start, at) = (blank.end, blank.end);
        }
        self.carry.keep(&chunk[start..]);
    }

    /// The stream has ended: shows an event that no blank line closed.
    pub fn finish(&mut self, on_event: &mut impl FnMut(Event<'_>)) {
        self.carry.complete(&[], |head, tail| show(head, tail, on_event));
    }

    /// Nothing is pending: the next byte begins an event.
    pub fn between(&self) -> bool {
        self.carry.is_empty()
    }

    /// Memory of what is carried over, in bytes.
    pub fn carried(&self) -> usize {
        self.carry.room()
    }

    /// Events larger than [`MAX_EVENT`] so far.
    pub fn skipped(&self) -> u64 {
        self.carry.skipped()
    }
}

/// Reads the fields of one event, and shows it if it has data.
pub(super) fn show(raw: &[u8], tail: Option<&[u8]>, on_event: &mut impl FnMut(Event<'_>)) {
    if let Some((name, data)) = fields(raw) {
        on_event(Event { name, data: &data, tail });
    }
}

/// The `event:` field of an event, and its `data:` lines joined.
pub(super) type Fields<'a> = (Option<&'a [u8]>, Cow<'a, [u8]>);

/// Reads the fields of one event. `None`: it has no data.
pub(super) fn fields(raw: &[u8]) -> Option<Fields<'_>> {
    let mut rest = raw.strip_prefix(b"\xef\xbb\xbf").unwrap_or(raw);
    let mut name = None;
    let mut data: Option<Cow<'_, [u8]>> = None;
    while !rest.is_empty() {
        let end = memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        let line = &rest[..end];
        rest = rest.get(end + 1..).unwrap_or_default();
        if let Some(value) = field(line, b"data") {
            match &mut data {
                None => data = Some(Cow::Borrowed(value)),
                Some(before) => {
                    let joined = before.to_mut();
                    joined.push(b'\n');
                    joined.extend_from_slice(value);
                }
            }
        } else if let Some(value) = field(line, b"event") {
            name = Some(value);
        }
    }
    Some((name, data?))
}

fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    match line.strip_prefix(name)? {
        [] => Some(&[]),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}

/// Splits newline-delimited JSON, in the same way.
#[derive(Default)]
pub struct NdJsonSplit<const MOST: usize = MAX_EVENT> {
    carry: Carry<MOST>,
}

impl NdJsonSplit {
    pub fn new() -> Self {
        Self::default()
    }
}

impl<const MOST: usize> NdJsonSplit<MOST> {
    /// Takes the next bytes and shows every line that they complete.
    pub fn push(&mut self, chunk: &[u8], on_line: &mut impl FnMut(Line<'_>)) {
        let mut start = 0;
        while let Some(found) = memchr(b'\n', &chunk[start..]) {
            let end = start + found;
            self.carry.complete(&chunk[start..end], |head, tail| show_line(head, tail, on_line));
            start = end + 1;
        }
        self.carry.keep(&chunk[start..]);
    }

    /// The stream has ended: shows a line that no newline closed.
    pub fn finish(&mut self, on_line: &mut impl FnMut(Line<'_>)) {
        self.carry.complete(&[], |head, tail| show_line(head, tail, on_line));
    }

    /// Nothing is pending: the next byte begins a line.
    pub fn between(&self) -> bool {
        self.carry.is_empty()
    }

    /// Memory of what is carried over, in bytes.
    pub fn carried(&self) -> usize {
        self.carry.room()
    }

    /// Lines larger than [`MAX_EVENT`] so far.
    pub fn skipped(&self) -> u64 {
        self.carry.skipped()
    }
}

fn show_line(raw: &[u8], tail: Option<&[u8]>, on_line: &mut impl FnMut(Line<'_>)) {
    let data = raw.trim_ascii();
    if !data.is_empty() {
        on_line(Line { data, tail });
    }
}

/// The bytes of an unfinished part, and nothing that grows without bound.
#[derive(Default)]
pub(super) struct Carry<const MOST: usize = MAX_EVENT> {
    /// While the part is small: all of it. Once it is too large: its head.
    kept: Vec<u8>,
    /// The end of a part that is too large.
    tail: Option<Vec<u8>>,
    skipped: u64,
}

impl<const MOST: usize> Carry<MOST> {
    fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Parts larger than `MOST` so far.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Memory that it takes, in bytes.
    pub fn room(&self) -> usize {
        self.kept.capacity() + self.tail.as_ref().map_or(0, Vec::capacity)
    }

    /// More is kept than a part may have.
    #[cfg(test)]
    pub fn is_wide(&self) -> bool {
        let tail = self.tail.as_ref().map_or(0, Vec::capacity);
        self.kept.capacity() > 2 * MOST || tail > 4 * TAIL
    }

    /// These bytes belong to the unfinished part.
    pub fn keep(&mut self, piece: &[u8]) {
        if piece.is_empty() {
            return;
        }
        if let Some(tail) = &mut self.tail {
            keep_tail(tail, piece);
        } else if self.kept.len() + piece.len() > MOST {
            let mut tail = Vec::new();
            keep_tail(&mut tail, &self.kept);
            keep_tail(&mut tail, piece);
            let mut head = Vec::with_capacity(HEAD);
            head.extend(self.kept.iter().chain(piece).take(HEAD));
            self.kept = head;
            self.tail = Some(tail);
        } else {
            self.kept.extend_from_slice(piece);
        }
    }

    /// These bytes end the part: shows it, and its tail if it was too large.
    pub fn complete(&mut self, piece: &[u8], show: impl FnOnce(&[u8], Option<&[u8]>)) {
        if self.is_empty() && piece.len() <= MOST {
            return show(piece, None);
        }
        self.keep(piece);
        if let Some(tail) = self.tail.take() {
            self.skipped += 1;
            show(&self.kept, Some(&tail[tail.len().saturating_sub(TAIL)..]));
        } else {
            show(&self.kept, None);
        }
        if self.kept.capacity() > KEEP {
            self.kept = Vec::new();
        } else {
            self.kept.clear();
        }
    }
}

/// Appends, and forgets what is certainly no longer among the last [`TAIL`] bytes.
fn keep_tail(tail: &mut Vec<u8>, piece: &[u8]) {
    tail.extend_from_slice(&piece[piece.len().saturating_sub(TAIL)..]);
    if tail.len() > 2 * TAIL {
        tail.drain(..tail.len() - TAIL);
    }
}

#[cfg(test)]
mod tests;

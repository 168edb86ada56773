//! The events of a recorded stream, and the places in it where a member stands.
//!
//! Unlike the splitters that watch a stream go by, this has the whole body: nothing is carried over
//! and no event is too large.
use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::{memchr2, memrchr2};

use crate::wire::json::Raw;
use crate::wire::meter::Form;
use crate::wire::seek::{Seek, needle};
use crate::wire::split::{Blanks, fields};

pub(super) static USAGE: Seek = LazyLock::new(|| needle(b"\"usage\""));

/// One event: its name, if it has one, and its data. A line of JSON is an event without a name.
pub(super) struct Event<'a> {
    pub name: Option<&'a [u8]>,
    pub data: Cow<'a, [u8]>,
    /// Where it ends in the body, its blank line included.
    pub end: usize,
}

/// The events of a stream in order; none of a form that is no stream.
pub(super) fn events(form: Form, body: &[u8]) -> Events<'_> {
    Events { form, body, at: 0, blanks: Blanks::default() }
}

pub(super) struct Events<'a> {
    form: Form,
    body: &'a [u8],
    at: usize,
    blanks: Blanks,
}

impl<'a> Iterator for Events<'a> {
    type Item = Event<'a>;

    fn next(&mut self) -> Option<Event<'a>> {
        match self.form {
            Form::Sse => self.next_event(),
            Form::NdJson => self.next_line(),
            Form::Json | Form::Opaque => None,
        }
    }
}

impl<'a> Events<'a> {
    fn next_event(&mut self) -> Option<Event<'a>> {
        while self.at < self.body.len() {
            let (start, len) = (self.at, self.body.len());
            let blank = self.blanks.next(self.body, start).unwrap_or(len..len);
            self.at = blank.end;
            if let Some((name, data)) = fields(&self.body[start..blank.start]) {
                return Some(Event { name, data, end: self.at });
            }
        }
        None
    }

    fn next_line(&mut self) -> Option<Event<'a>> {
        while self.at < self.body.len() {
            let rest = &self.body[self.at..];
            let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            self.at = (self.at + end + 1).min(self.body.len());
            let line = rest[..end].trim_ascii();
            if !line.is_empty() {
                return Some(Event { name: None, data: Cow::Borrowed(line), end: self.at });
            }
        }
        None
    }
}

/// Every place where a member of that name stands in a stream, by search and not by parsing: the
/// text from its value on, and the data of the line that it stands in. What an event says in several
/// lines is not seen as one.
pub(super) fn values<'a>(
    name: &'static Seek,
    body: &'a [u8],
) -> impl Iterator<Item = (&'a [u8], Line<'a>)> {
    let mut rest = body;
    std::iter::from_fn(move || {
        let value = name.value(rest)?;
        rest = value;
        Some((value, Line { body, at: body.len() - value.len() }))
    })
}

/// The line around a place.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Line<'a> {
    /// Its JSON value; perhaps not a whole one.
    pub fn data(self) -> Raw<'a> {
        let (before, behind) = self.body.split_at(self.at);
        let start = memrchr2(b'\n', b'\r', before).map_or(0, |found| found + 1);
        let end = memchr2(b'\n', b'\r', behind).map_or(self.body.len(), |found| self.at + found);
        data(&self.body[start..end])
    }
}

/// The lines of a stream from its last to its first, without blank ones.
pub(super) fn lines_back(body: &[u8]) -> impl Iterator<Item = Raw<'_>> {
    let mut rest = Some(body);
    let lines = std::iter::from_fn(move || {
        let text = rest?;
        let found = memrchr2(b'\n', b'\r', text);
        rest = found.map(|found| &text[..found]);
        Some(data(&text[found.map_or(0, |found| found + 1)..]))
    });
    lines.filter(|line| !line.0.is_empty())
}

fn data(line: &[u8]) -> Raw<'_> {
    Raw(line.strip_prefix(b"data:").unwrap_or(line).trim_ascii())
}

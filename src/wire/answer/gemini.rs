//! Gemini's `generateContent`: chunks into one answer.
//!
//! A chunk is an answer with some of the parts. Plain texts that meet where two chunks meet are one
//! text, of the same kind: said or thought. A text with a signature stays a part by itself, as
//! Google's pages on thought signatures want it; calls, code and data are parts anyway, and pieces
//! of a call are not put together. All else of a candidate and of the answer is the same wherever
//! it stands, but for the usage, which counts up.
mod unfold;

use bytes::Bytes;

use super::events::{Event, events};
use super::joined::{Fields, checked, comma, elements, members, put_member, put_name};
use crate::wire::json::Raw;
use crate::wire::meter::Form;

pub(super) use unfold::unfold;

/// More candidates than the vendor gives.
const MOST: u64 = 64;

pub(super) fn fold(form: Form, body: &[u8]) -> Option<Bytes> {
    let body = body.trim_ascii();
    let mut whole = Whole::default();
    let events: Vec<Event<'_>> = events(Form::Sse, body).collect();
    if form == Form::Json {
        elements(Raw(body), |chunk| whole.chunk(chunk))?;
    } else {
        for event in &events {
            if event.name.is_some() {
                return None;
            }
            whole.chunk(Raw(event.data.trim_ascii()))?;
        }
    }
    let mut out = Vec::with_capacity(1024 + body.len() / 8);
    whole.put(&mut out)?;
    checked(out)
}

#[derive(Default)]
struct Whole<'a> {
    head: Fields<'a>,
    candidates: Vec<Candidate<'a>>,
    usage: Option<Raw<'a>>,
}

#[derive(Default)]
struct Candidate<'a> {
    index: u64,
    content: Option<Fields<'a>>,
    parts: Vec<Part<'a>>,
    rest: Fields<'a>,
}

enum Part<'a> {
    /// Said or thought, and the inside of the string.
    Text {
        thought: bool,
        text: Vec<u8>,
    },
    Other(Raw<'a>),
}

impl<'a> Whole<'a> {
    fn chunk(&mut self, chunk: Raw<'a>) -> Option<()> {
        members(chunk, |name, value| match name {
            b"candidates" => elements(value, |candidate| self.candidate(candidate)),
            b"usageMetadata" => {
                let counts = self.usage.replace(value);
                counts.map_or(Some(()), |counts| covers(value, counts))
            }
            b"error" => None,
            _ => self.head.constant(name, value),
        })
    }

    fn candidate(&mut self, value: Raw<'a>) -> Option<()> {
        let index = match value.get(b"index") {
            Some(index) => index.number().filter(|&index| index < MOST)?,
            None => 0,
        };
        let known = self.candidates.iter().position(|candidate| candidate.index == index);
        let at = known.unwrap_or_else(|| {
            self.candidates.push(Candidate { index, ..Candidate::default() });
            self.candidates.len() - 1
        });
        let candidate = self.candidates.get_mut(at)?;
        members(value, |name, value| match name {
            b"content" => candidate.content(value),
            _ => candidate.rest.constant(name, value),
        })
    }

    fn put(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let blocked = |feedback: Raw<'_>| feedback.get(b"blockReason").is_some();
        let ends = |candidate: &Candidate<'_>| candidate.rest.has(b"finishReason");
        let over = if self.candidates.is_empty() {
            self.head.value(b"promptFeedback").is_some_and(blocked)
        } else {
            self.candidates.iter().all(ends)
        };
        let usage = self.usage.filter(|_| over)?;
        out.push(b'{');
        if !self.candidates.is_empty() {
            self.candidates.sort_by_key(|candidate| candidate.index);
            put_name(out, b"candidates");
            out.push(b'[');
            for candidate in &self.candidates {
                candidate.put(out);
            }
            out.push(b']');
        }
        put_member(out, b"usageMetadata", usage.0);
        self.head.put(out);
        out.push(b'}');
        Some(())
    }
}

/// Whether later counts have all that earlier ones had: mostly they are written in the same order.
fn covers(later: Raw<'_>, earlier: Raw<'_>) -> Option<()> {
    let (mut ours, mut theirs) = (later.members()?, earlier.members()?);
    loop {
        match (theirs.next().ok()?, ours.next().ok()?) {
            (None, _) => return Some(()),
            (Some((name, _)), Some((other, _))) if name == other => {}
            _ => break,
        }
    }
    members(earlier, |name, _| later.get(name).map(|_| ()))
}

impl<'a> Candidate<'a> {
    fn content(&mut self, value: Raw<'a>) -> Option<()> {
        let content = self.content.get_or_insert_default();
        let (parts, mut first) = (&mut self.parts, true);
        members(value, |name, value| match name {
            b"parts" => elements(value, |part| {
                let meets = std::mem::take(&mut first);
                match (plain_text(part), parts.last_mut()) {
                    (Some((thought, inner)), Some(Part::Text { thought: before, text }))
                        if meets && thought == *before =>
                    {
                        text.extend_from_slice(inner);
                    }
                    (Some((thought, inner)), _) => {
                        parts.push(Part::Text { thought, text: inner.to_vec() });
                    }
                    (None, _) => parts.push(whole_part(part)?),
                }
                Some(())
            }),
            b"role" => content.constant(name, value),
            _ => content.silent(name, value),
        })
    }

    fn put(&self, out: &mut Vec<u8>) {
        comma(out);
        out.push(b'{');
        if let Some(content) = &self.content {
            put_name(out, b"content");
            out.push(b'{');
            if !self.parts.is_empty() {
                put_name(out, b"parts");
                out.push(b'[');
                self.put_parts(out);
                out.push(b']');
            }
            content.put(out);
            out.push(b'}');
        }
        self.rest.put(out);
        out.push(b'}');
    }

    /// An empty text beside other parts says nothing: the end of a stream.
    fn put_parts(&self, out: &mut Vec<u8>) {
        for (at, part) in self.parts.iter().enumerate() {
            match part {
                Part::Text { text, .. } if text.is_empty() && at > 0 => {}
                Part::Text { thought, text } => put_text(out, *thought, text),
                Part::Other(part) => {
                    comma(out);
                    out.extend_from_slice(part.0);
                }
            }
        }
    }
}

/// Of a part that is nothing but text: whether it is a thought, and the inside of the string.
fn plain_text(part: Raw<'_>) -> Option<(bool, &[u8])> {
    let (mut thought, mut text) = (false, None);
    members(part, |name, value| {
        match (name, value.0) {
            (b"text", [b'"', inner @ .., b'"']) => text = Some(inner),
            (b"thought", _) => thought = value.bool()?,
            _ => return None,
        }
        Some(())
    })?;
    Some((thought, text?))
}

/// A part that stands by itself. `None`: it is a piece of a call.
fn whole_part(part: Raw<'_>) -> Option<Part<'_>> {
    if let Some(call) = part.get(b"functionCall") {
        let pieces = |name: &[u8]| call.get(name).is_some_and(|value| !value.is_empty());
        if pieces(b"partialArgs") || call.get(b"willContinue").and_then(Raw::bool) == Some(true) {
            return None;
        }
    }
    part.members().map(|_| Part::Other(part))
}

fn put_text(out: &mut Vec<u8>, thought: bool, inner: &[u8]) {
    comma(out);
    out.extend_from_slice(b"{\"text\":\"");
    out.extend_from_slice(inner);
    out.extend_from_slice(if thought { b"\",\"thought\":true}" } else { b"\"}" });
}

//! An answer taken apart into its vectors, and one put together of vectors that are kept.
//!
//! What stands around the vectors is the frame: the answer as it would be for no input at all, its
//! counts zero. A vector is kept with the frame that it came in, so that an answer can be made of
//! kept vectors alone. Counts of tokens are said anew; what else stands in a usage (a price,
//! details) was true for one call alone and is left out.
use std::ops::Range;

use bytes::Bytes;

use super::Api;
use super::elements;
use super::vector::Shape;
use crate::wire::json::{Members, Raw, blank, skip_space, skip_value};
use crate::wire::usage::count;

/// A longer frame is none: it would be kept with each vector.
const LONGEST_FRAME: usize = 1024;

/// An answer, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Apart<'a> {
    frame: Vec<u8>,
    /// As they were written, in the order of the inputs.
    vectors: Vec<&'a [u8]>,
    /// Tokens of all inputs, as the backend counted them.
    pub tokens: Option<u64>,
}

impl Apart<'_> {
    /// What to keep of one input. `None`: there is no such input.
    pub fn kept(&self, index: usize) -> Option<Bytes> {
        let vector = self.vectors.get(index)?;
        Some([self.frame.as_slice(), vector].concat().into())
    }
}

/// One vector that is kept: a frame, and the vector behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept<'a> {
    frame: &'a [u8],
    vector: &'a [u8],
}

impl<'a> Kept<'a> {
    /// What [`Apart::kept`] made.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let frame = skip_value(bytes, 0).ok()?;
        let (frame, vector) = bytes.split_at_checked(frame)?;
        (frame.starts_with(b"{") && !vector.is_empty()).then_some(Self { frame, vector })
    }

    /// The model that answered, as it was written.
    fn model(&self) -> Option<Raw<'a>> {
        Raw(self.frame).get(b"model")
    }
}

/// What a member of an answer is.
enum Role {
    Vectors,
    /// Tokens of all inputs.
    Count,
    /// An object with counts in it.
    Usage,
    Error,
    Other,
}

impl Api {
    fn role(self, name: &[u8]) -> Role {
        match (self, name) {
            (Self::OpenAi, b"data")
            | (Self::Gemini | Self::OllamaSingle, b"embedding")
            | (Self::GeminiBatch | Self::Ollama, b"embeddings") => Role::Vectors,
            (Self::OpenAi, b"usage") | (Self::Gemini | Self::GeminiBatch, b"usageMetadata") => {
                Role::Usage
            }
            (Self::Ollama | Self::OllamaSingle, b"prompt_eval_count") => Role::Count,
            (_, b"error") => Role::Error,
            _ => Role::Other,
        }
    }

    /// Whether the vectors stand in a list.
    fn lists(self) -> bool {
        matches!(self, Self::OpenAi | Self::GeminiBatch | Self::Ollama)
    }
}

/// Names of counts inside a usage.
const COUNTS: [&[u8]; 4] =
    [b"prompt_tokens", b"total_tokens", b"promptTokenCount", b"totalTokenCount"];

/// Takes the answer to `inputs` inputs apart. `None`: it is another answer, or there is not exactly
/// one vector for each input, or they are not of one shape.
pub fn take_apart(api: Api, answer: &[u8], inputs: usize) -> Option<Apart<'_>> {
    let mut members = Members::open(answer, skip_space(answer, 0))?;
    let (mut frame, mut tokens, mut vectors) = (vec![b'{'], None, None);
    while let Some((key, value)) = members.next().ok()? {
        let role = api.role(&key.plain()?);
        match role {
            Role::Error if !value.is_empty() => return None,
            Role::Vectors if vectors.is_some() => return None,
            Role::Vectors => {
                let end = members.at();
                vectors = Some(find(api, answer, end - value.0.len()..end, inputs)?);
            }
            Role::Count => tokens = count(value).or(tokens),
            Role::Usage => tokens = counted(value).or(tokens),
            Role::Error | Role::Other => {}
        }
        member(&mut frame, key.0);
        match role {
            Role::Vectors => frame.extend_from_slice(b"[]"),
            Role::Count => frame.push(b'0'),
            Role::Usage => bare_usage(value, &mut frame)?,
            Role::Error | Role::Other => frame.extend_from_slice(value.0),
        }
        if frame.len() > LONGEST_FRAME {
            return None;
        }
    }
    frame.push(b'}');
    if !blank(answer.get(members.at()..)?) {
        return None;
    }
    let vectors = vectors.filter(|vectors| one_shape(api, vectors))?;
    Some(Apart { frame, vectors, tokens })
}

/// Begins a member, behind a comma where one stands before it.
fn member(out: &mut Vec<u8>, name: &[u8]) {
    if !out.ends_with(b"{") {
        out.push(b',');
    }
    out.push(b'"');
    out.extend_from_slice(name);
    out.extend_from_slice(b"\":");
}

/// The vectors in the order of the inputs, each given once.
fn find(api: Api, answer: &[u8], at: Range<usize>, inputs: usize) -> Option<Vec<&[u8]>> {
    if !api.lists() {
        return (inputs == 1).then(|| vec![&answer[at]]);
    }
    let places = elements(answer, at.start)?;
    if places.len() != inputs {
        return None;
    }
    if api != Api::OpenAi {
        return Some(places.into_iter().map(|place| &answer[place]).collect());
    }
    let mut vectors: Vec<&[u8]> = vec![&[]; inputs];
    for place in places {
        let (index, vector) = item(Raw(&answer[place]))?;
        let free = vectors.get_mut(index).filter(|place| place.is_empty())?;
        *free = vector.0;
    }
    Some(vectors)
}

/// One of OpenAI's: `{"object":"embedding","index":0,"embedding":…}`, in any order.
fn item(item: Raw<'_>) -> Option<(usize, Raw<'_>)> {
    let (mut index, mut vector) = (None, None);
    let mut members = item.members()?;
    while let Some((key, value)) = members.next().ok()? {
        match key.0 {
            b"index" if index.is_none() => index = Some(usize::try_from(value.number()?).ok()?),
            b"embedding" if vector.is_none() => vector = Some(value),
            b"object" if value.0 == b"\"embedding\"" => {}
            // it would be lost
            _ => return None,
        }
    }
    Some((index?, vector?))
}

/// Whether these are vectors, and of one shape.
fn one_shape<'a>(api: Api, vectors: impl IntoIterator<Item = &'a &'a [u8]>) -> bool {
    let mut shapes = vectors.into_iter().map(|vector| shape(api, vector));
    let Some(Some(first)) = shapes.next() else { return false };
    shapes.all(|shape| shape == Some(first))
}

fn shape(api: Api, vector: &[u8]) -> Option<Shape> {
    match api {
        Api::Gemini | Api::GeminiBatch => Shape::of(Raw(vector).get(b"values")?),
        Api::OpenAi => Shape::of(Raw(vector)),
        Api::Ollama | Api::OllamaSingle => {
            Shape::of(Raw(vector)).filter(|shape| matches!(shape, Shape::Numbers(_)))
        }
    }
}

/// Tokens of the inputs: the first count of a usage.
fn counted(usage: Raw<'_>) -> Option<u64> {
    COUNTS.iter().find_map(|name| usage.get(name).and_then(count))
}

/// A usage with its counts zero. `None`: it is broken.
fn bare_usage(usage: Raw<'_>, out: &mut Vec<u8>) -> Option<()> {
    let Some(mut members) = usage.members() else {
        out.extend_from_slice(usage.0);
        return Some(());
    };
    out.push(b'{');
    while let Some((key, value)) = members.next().ok()? {
        let counts = COUNTS.contains(&key.0);
        if counts || value.is_null() || value.number() == Some(0) {
            member(out, key.0);
            out.extend_from_slice(if counts { b"0" } else { value.0 });
        }
    }
    out.push(b'}');
    Some(())
}

/// The answer to a request with these inputs, in order, in the frame of the part `like`. `None`:
/// there is no such part, or the vectors are not of one model and one shape.
pub fn put_together(api: Api, parts: &[Kept<'_>], like: usize, tokens: u64) -> Option<Bytes> {
    let framing = parts.get(like)?;
    let model = framing.model();
    let one_model = |part: &Kept<'_>| part.frame == framing.frame || part.model() == model;
    let fits = api.lists() || parts.len() == 1;
    if !fits || !parts.iter().all(one_model) {
        return None;
    }
    if !one_shape(api, parts.iter().map(|part| &part.vector)) {
        return None;
    }
    let vectors: usize = parts.iter().map(|part| part.vector.len() + ITEM).sum();
    let mut out = Vec::with_capacity(framing.frame.len() + 2 * NUMBER + vectors);
    out.push(b'{');
    let mut members = Raw(framing.frame).members()?;
    while let Some((key, value)) = members.next().ok()? {
        member(&mut out, key.0);
        match api.role(&key.plain()?) {
            Role::Vectors => list(api, parts, &mut out),
            Role::Count => number(tokens, &mut out),
            Role::Usage => full_usage(value, tokens, &mut out)?,
            Role::Error | Role::Other => out.extend_from_slice(value.0),
        }
    }
    out.push(b'}');
    Some(out.into())
}

/// Room for what stands around a vector, and for a number.
const ITEM: usize = 60;
const NUMBER: usize = 20;

fn list(api: Api, parts: &[Kept<'_>], out: &mut Vec<u8>) {
    if let ([part], false) = (parts, api.lists()) {
        return out.extend_from_slice(part.vector);
    }
    for (index, part) in parts.iter().enumerate() {
        out.push(if index == 0 { b'[' } else { b',' });
        if api == Api::OpenAi {
            out.extend_from_slice(br#"{"object":"embedding","index":"#);
            number(index as u64, out);
            out.extend_from_slice(br#","embedding":"#);
        }
        out.extend_from_slice(part.vector);
        if api == Api::OpenAi {
            out.push(b'}');
        }
    }
    out.push(b']');
}

fn number(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// The usage of a frame, its counts set. `None`: it is broken.
fn full_usage(usage: Raw<'_>, tokens: u64, out: &mut Vec<u8>) -> Option<()> {
    let Some(mut members) = usage.members() else {
        out.extend_from_slice(usage.0);
        return Some(());
    };
    out.push(b'{');
    while let Some((key, value)) = members.next().ok()? {
        member(out, key.0);
        if COUNTS.contains(&key.0) {
            number(tokens, out);
        } else {
            out.extend_from_slice(value.0);
        }
    }
    out.push(b'}');
    Some(())
}

//! Embeddings, input by input: a request is read as a list of inputs, sent with some of them, and
//! its answer is taken apart and put together again.
//!
//! A vector is the bytes of its JSON value as the backend wrote them, and is never parsed into
//! numbers. What is not understood to the end is not taken apart: [`batch`] and [`take_apart`] say
//! `None`, and the call goes through as it is. An answer is put together only of vectors of one
//! model and one shape, and of one for each input.
//!
//! Sources: OpenAI "Create embeddings", Gemini `models.embedContent` and `batchEmbedContents`,
//! Ollama `POST /api/embed` and `/api/embeddings`; the differences of OpenAI's followers.
mod answer;
mod share;
mod vector;

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use super::endpoint::Kind;
use super::json::{Members, Raw, blank, skip_space, skip_value};
use super::question::compact::{Pen, tight};

pub use answer::{Apart, Kept, put_together, take_apart};
pub use share::shares;

/// Which call it is: how its inputs and its vectors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// `input` → `data[].embedding`
    OpenAi,
    /// `embedContent`: `content` → `embedding`
    Gemini,
    /// `batchEmbedContents`: `requests[]` → `embeddings[]`
    GeminiBatch,
    /// `/api/embed`: `input` → `embeddings[]`
    Ollama,
    /// `/api/embeddings`: `prompt` → `embedding`
    OllamaSingle,
}

/// A request for embeddings. Borrows its body.
pub struct Batch<'a> {
    api: Api,
    body: &'a [u8],
    /// Where they stand; at least one.
    inputs: Vec<Range<usize>>,
    /// All other members that can change a vector, sorted by name.
    around: Vec<(Cow<'a, [u8]>, &'a [u8])>,
}

/// More inputs than any vendor takes: such a request is not taken apart.
const MOST_INPUTS: usize = 8192;
/// More members than any request has.
const MOST_MEMBERS: usize = 64;

/// What a member of a request is to its vectors.
enum Role {
    Inputs(Api),
    /// Says who asks, or how long the backend keeps a model at hand.
    Label,
    /// Can change them, as all that is not known.
    Said,
    /// Makes a vector depend on the other inputs.
    Ties,
}

/// Reads a request. `None`: it cannot be taken apart, and is not for the cache.
pub fn batch(kind: Kind, body: &[u8]) -> Option<Batch<'_>> {
    let mark = if body.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    let mut members = Members::open(body, skip_space(body, mark))?;
    let mut names: Vec<Cow<'_, [u8]>> = Vec::new();
    let mut around = Vec::new();
    let mut found = None;
    while let Some((key, value)) = members.next().ok()? {
        let name = key.plain()?;
        // backends differ in which of two such members they take
        let twice = names.iter().any(|other| alike(other, &name));
        if twice || !name.is_ascii() || names.len() == MOST_MEMBERS {
            return None;
        }
        match role(kind, &name, value) {
            Role::Inputs(_) if found.is_some() => return None,
            Role::Inputs(api) => found = Some((api, members.at() - value.0.len())),
            Role::Label => {}
            Role::Said => around.push((name.clone(), value.0)),
            Role::Ties => return None,
        }
        names.push(name);
    }
    let (api, at) = found?;
    if !blank(body.get(members.at()..)?) {
        return None;
    }
    around.sort_unstable();
    Some(Batch { api, body, inputs: inputs(api, body, at)?, around })
}

fn role(kind: Kind, name: &[u8], value: Raw<'_>) -> Role {
    match kind {
        Kind::Embeddings => match name {
            b"input" => Role::Inputs(Api::OpenAi),
            b"user" => Role::Label,
            // Jina: all inputs are one document
            b"late_chunking" if value.bool() != Some(false) => Role::Ties,
            _ => Role::Said,
        },
        Kind::GeminiEmbed => match name {
            b"content" => Role::Inputs(Api::Gemini),
            b"requests" => Role::Inputs(Api::GeminiBatch),
            _ => Role::Said,
        },
        Kind::OllamaEmbed => {
            // Go's decoder minds no case
            let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
            if is(b"input") {
                Role::Inputs(Api::Ollama)
            } else if is(b"prompt") {
                Role::Inputs(Api::OllamaSingle)
            } else if is(b"keep_alive") {
                Role::Label
            } else {
                Role::Said
            }
        }
        _ => Role::Ties,
    }
}

/// Whether some backend would take the two names for one: in another case, or in snake case.
fn alike(one: &[u8], other: &[u8]) -> bool {
    let folded = |name| {
        let letters = <[u8]>::iter(name).filter(|&&byte| byte != b'_');
        letters.map(u8::to_ascii_lowercase)
    };
    folded(one).eq(folded(other))
}

/// The places of the inputs in the value that begins at `at`.
fn inputs(api: Api, body: &[u8], at: usize) -> Option<Vec<Range<usize>>> {
    let end = skip_value(body, at).ok()?;
    let one = Some(vec![Range { start: at, end }]);
    match (api, *body.get(at)?) {
        (Api::OpenAi | Api::Ollama | Api::OllamaSingle, b'"') | (Api::Gemini, b'{') => return one,
        (Api::Gemini | Api::OllamaSingle, _) => return None,
        _ => {}
    }
    let places = elements(body, at)?;
    let all = |fits: fn(&[u8]) -> bool| places.iter().all(|place| fits(&body[place.clone()]));
    let string = |text: &[u8]| text.starts_with(b"\"");
    let object = |text: &[u8]| text.starts_with(b"{");
    match (api, *body.get(places.first()?.start)?) {
        (Api::OpenAi | Api::Ollama, b'"') if all(string) => Some(places),
        (Api::OpenAi, b'[') if all(is_tokens) => Some(places),
        (Api::OpenAi, b'0'..=b'9') if is_tokens(&body[at..end]) => one,
        (Api::GeminiBatch, b'{') if all(object) => Some(places),
        _ => None,
    }
}

/// The places of an array's elements. `None`: no array, too long, or broken.
fn elements(text: &[u8], at: usize) -> Option<Vec<Range<usize>>> {
    if text.get(at) != Some(&b'[') {
        return None;
    }
    let mut places = Vec::new();
    let mut at = skip_space(text, at + 1);
    if text.get(at) == Some(&b']') {
        return Some(places);
    }
    // one input may be as long as it likes, if it is made of tokens
    let tokens = text.get(at)?.is_ascii_digit();
    while tokens || places.len() < MOST_INPUTS {
        let end = skip_value(text, at).ok()?;
        if !tokens || places.is_empty() {
            places.push(at..end);
        }
        at = skip_space(text, end);
        match text.get(at)? {
            b',' => at = skip_space(text, at + 1),
            b']' => return Some(places),
            _ => return None,
        }
    }
    None
}

/// An array of one whole number or more, and nothing else.
fn is_tokens(text: &[u8]) -> bool {
    let [b'[', inner @ .., b']'] = text else { return false };
    let number = |part: &[u8]| {
        let part = part.trim_ascii();
        !part.is_empty() && part.iter().all(u8::is_ascii_digit)
    };
    inner.split(|&byte| byte == b',').all(number)
}

/// A value without insignificant space, and a line feed, which stands nowhere else outside of strings.
fn say(value: &[u8], sink: &mut impl FnMut(&[u8])) {
    let mut pen = Pen::new(sink, value.len() + 1);
    tight(value, &mut pen);
    pen.write(b"\n");
    pen.end();
}

impl<'a> Batch<'a> {
    pub fn api(&self) -> Api {
        self.api
    }

    /// How many inputs; one or more.
    #[expect(clippy::len_without_is_empty, reason = "there is no batch without an input")]
    pub fn len(&self) -> usize {
        self.inputs.len()
    }

    /// An input as it was written. Empty for one that is not there.
    pub fn input(&self, index: usize) -> &'a [u8] {
        self.inputs.get(index).map_or(&[], |place| &self.body[place.clone()])
    }

    /// Everything that can change a vector but the inputs, in an order of its own, without
    /// insignificant space. Says itself where it ends: two different requests never say the same.
    /// Labels are left out.
    pub fn say_around(&self, sink: &mut impl FnMut(&[u8])) {
        sink(&[self.api as u8]);
        sink(&(self.around.len() as u64).to_le_bytes());
        for (name, value) in &self.around {
            sink(&(name.len() as u64).to_le_bytes());
            sink(name);
            say(value, sink);
        }
    }

    /// One input, without insignificant space. A text and an array of tokens never say the same.
    pub fn say_input(&self, index: usize, sink: &mut impl FnMut(&[u8])) {
        say(self.input(index), sink);
    }

    /// The request with these inputs alone, given in order; every other byte as it was. Where the
    /// inputs are no list, they stay as they are.
    pub fn only(&self, wanted: &[usize]) -> Bytes {
        let (Some(first), Some(last)) = (self.inputs.first(), self.inputs.last()) else {
            return Bytes::copy_from_slice(self.body);
        };
        if self.inputs.len() == 1 || wanted.len() == self.inputs.len() {
            return Bytes::copy_from_slice(self.body);
        }
        let mut out = Vec::with_capacity(self.body.len());
        out.extend_from_slice(&self.body[..first.start]);
        for (nth, &index) in wanted.iter().enumerate() {
            if nth > 0 {
                out.push(b',');
            }
            out.extend_from_slice(self.input(index));
        }
        out.extend_from_slice(&self.body[last.end..]);
        out.into()
    }
}

#[cfg(test)]
mod tests;

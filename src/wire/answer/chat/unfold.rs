//! OpenAI's chat completions and completions: one body, read for its chunks.
//!
//! As strict as the way back: what could not be joined again is not taken apart.
use super::chunks::Chunks;
use super::{MOST, is_text, objects, of_ending};
use crate::wire::answer::Unfolded;
use crate::wire::answer::joined::{Member, elements, inner, members};
use crate::wire::answer::stream::{Stream, one_line};
use crate::wire::endpoint::Kind;
use crate::wire::json::Raw;
use crate::wire::meter::Form;

pub(in crate::wire::answer) fn unfold(kind: Kind, body: &[u8], usage: bool) -> Option<Unfolded> {
    let body = one_line(body)?;
    let mut answer = Answer::default();
    members(Raw(&body), |name, value| {
        match name {
            b"choices" => {
                elements(value, |choice| Choice::read(kind, choice, &mut answer.choices))?;
            }
            b"usage" => answer.usage = Some(value).filter(|value| !value.is_null()),
            b"object" if value.0 != objects(kind).0 => return None,
            b"object" => answer.head.push((name, Raw(objects(kind).1))),
            b"id" | b"created" | b"model" | b"service_tier" | b"system_fingerprint" => {
                answer.head.push((name, value));
            }
            b"error" if !value.is_empty() => return None,
            _ => answer.rest.push((name, value)),
        }
        Some(())
    })?;
    let told = answer.head.iter().any(|(name, _)| *name == b"object");
    if !told || answer.choices.is_empty() || (usage && answer.usage.is_none()) {
        return None;
    }
    answer.choices.sort_by_key(|choice| choice.index);
    let counted = |(at, choice): (usize, &Choice<'_>)| choice.index == at as u64;
    if !answer.choices.iter().enumerate().all(counted) {
        return None;
    }
    let mut stream = Stream::new(body.len() * 8);
    Chunks::new(&answer, usage).put(kind, &answer, &mut stream)?;
    Some(stream.finish(Form::Sse))
}

#[derive(Default)]
pub(super) struct Answer<'a> {
    pub head: Vec<Member<'a>>,
    pub choices: Vec<Choice<'a>>,
    pub usage: Option<Raw<'a>>,
    pub rest: Vec<Member<'a>>,
}

#[derive(Default)]
pub(super) struct Choice<'a> {
    pub index: u64,
    /// Of the message, what goes at once: the role, nulls and other empty values.
    pub first: Vec<Member<'a>>,
    /// Texts by their name: what stands between the quotes.
    pub texts: Vec<(&'a [u8], &'a [u8])>,
    pub calls: Vec<Call<'a>>,
    pub function: Option<Function<'a>>,
    pub logprobs: Option<Raw<'a>>,
    pub ending: Vec<Member<'a>>,
}

pub(super) struct Call<'a> {
    pub head: Vec<Member<'a>>,
    pub function: Function<'a>,
}

#[derive(Clone, Copy)]
pub(super) struct Function<'a> {
    pub name: Raw<'a>,
    pub arguments: &'a [u8],
}

impl<'a> Choice<'a> {
    fn read(kind: Kind, choice: Raw<'a>, choices: &mut Vec<Self>) -> Option<()> {
        let mut read = Self::default();
        let (mut index, mut said) = (None, false);
        members(choice, |name, value| {
            match name {
                b"index" => index = value.number().filter(|&index| index < MOST),
                b"message" if kind == Kind::Chat => {
                    said = true;
                    members(value, |name, value| read.message(name, value))?;
                }
                b"text" if kind == Kind::Completions => {
                    said = true;
                    read.texts.push((name, inner(value)?));
                }
                b"logprobs" => read.logprobs = Some(value),
                _ if of_ending(name) || value.is_empty() => read.ending.push((name, value)),
                _ => return None,
            }
            Some(())
        })?;
        read.index = index?;
        let ends = |(name, value): &Member<'_>| *name == b"finish_reason" && !value.is_empty();
        if !said || !read.ending.iter().any(ends) {
            return None;
        }
        // thoughts come before words
        read.texts.sort_by_key(|(name, _)| !name.starts_with(b"reasoning"));
        choices.push(read);
        Some(())
    }

    fn message(&mut self, name: &'a [u8], value: Raw<'a>) -> Option<()> {
        match name {
            b"role" => self.first.push((name, value)),
            _ if is_text(name) && !value.is_empty() => {
                if name == b"content" {
                    self.first.push((name, Raw(b"\"\"")));
                }
                self.texts.push((name, inner(value)?));
            }
            _ if value.is_empty() => self.first.push((name, value)),
            b"function_call" => self.function = Some(function(value)?),
            b"tool_calls" => elements(value, |call| {
                self.calls.push(read_call(call, self.calls.len())?);
                Some(())
            })?,
            _ => return None,
        }
        Some(())
    }

    /// The probabilities of the words, one for each piece: where they are of the words and of
    /// nothing else, and together are the words.
    pub fn by_token(&self) -> Option<Vec<(&'a [u8], Raw<'a>)>> {
        let (_, words) = *self.texts.iter().find(|(name, _)| *name == b"content")?;
        let (mut tokens, mut joined) = (Vec::new(), Vec::with_capacity(words.len()));
        members(self.logprobs?, |name, value| match name {
            b"content" => elements(value, |token| {
                let text = inner(token.get(b"token")?)?;
                joined.extend_from_slice(text);
                tokens.push((text, token));
                Some(())
            }),
            _ => value.is_null().then_some(()),
        })?;
        (joined == words && !tokens.is_empty()).then_some(tokens)
    }
}

/// Of a whole call; its `index`, where a server writes one, is its place.
fn read_call(call: Raw<'_>, at: usize) -> Option<Call<'_>> {
    let (mut head, mut called) = (Vec::new(), None);
    members(call, |name, value| {
        match name {
            b"id" | b"type" if !value.is_empty() => head.push((name, value)),
            b"index" if value.number() == Some(at as u64) => {}
            b"function" => called = Some(function(value)?),
            _ => return None,
        }
        Some(())
    })?;
    (head.len() == 2).then_some(Call { head, function: called? })
}

fn function(function: Raw<'_>) -> Option<Function<'_>> {
    let (mut called, mut arguments) = (None, None);
    members(function, |name, value| {
        match name {
            b"name" => called = Some(value),
            b"arguments" => arguments = Some(inner(value)?),
            _ => return None,
        }
        Some(())
    })?;
    Some(Function { name: called?, arguments: arguments? })
}

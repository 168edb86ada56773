//! OpenAI's chat completions and completions: chunks into one body.
//!
//! Members of a chunk are the same in all of them, but for the choices and the usage. A delta's
//! texts are joined, its tool calls by their index; any other member may only stand there as long
//! as it is empty. A choice's ending may bring what servers add to it (`stop_reason` of vLLM,
//! `matched_stop` of `SGLang`, `native_finish_reason` of `OpenRouter`). OpenAI says that `created`
//! is the same in each chunk; servers that read the clock for each are taken by their first word.
mod chunks;
mod unfold;

use bytes::Bytes;

use super::events::{Event, events};
use super::joined::{Fields, checked, comma, elements, members, put_member, put_name};
use crate::wire::endpoint::Kind;
use crate::wire::json::Raw;
use crate::wire::meter::Form;

pub(super) use chunks::restream;
#[cfg(test)]
pub(super) use chunks::shows_usage;
pub(super) use unfold::unfold;

/// More choices, or calls, than any vendor gives.
const MOST: u64 = 128;

/// What a choice may say of its ending.
fn of_ending(name: &[u8]) -> bool {
    matches!(name, b"finish_reason" | b"stop_reason" | b"matched_stop" | b"native_finish_reason")
}

/// A delta's or a message's texts.
fn is_text(name: &[u8]) -> bool {
    matches!(name, b"content" | b"refusal" | b"reasoning_content" | b"reasoning")
}

/// What the lists of a choice's probabilities are called.
fn of_logprobs(kind: Kind, name: &[u8]) -> bool {
    if kind == Kind::Chat {
        return matches!(name, b"content" | b"refusal");
    }
    matches!(name, b"tokens" | b"token_logprobs" | b"top_logprobs" | b"text_offset")
}

/// What `object` says in a whole answer and in a chunk, with quotes.
fn objects(kind: Kind) -> (&'static [u8], &'static [u8]) {
    match kind {
        Kind::Chat => (b"\"chat.completion\"", b"\"chat.completion.chunk\""),
        _ => (b"\"text_completion\"", b"\"text_completion\""),
    }
}

pub(super) fn fold(kind: Kind, body: &[u8]) -> Option<Bytes> {
    let events: Vec<Event<'_>> = events(Form::Sse, body).collect();
    let (last, chunks) = events.split_last()?;
    if last.data.trim_ascii() != b"[DONE]" {
        return None;
    }
    let mut whole = Whole { kind, head: Fields::default(), choices: Vec::new(), usage: None };
    for chunk in chunks {
        if chunk.name.is_some() {
            return None;
        }
        whole.chunk(Raw(chunk.data.trim_ascii()))?;
    }
    let mut out = Vec::with_capacity(1024 + body.len() / 16);
    whole.put(&mut out)?;
    checked(out)
}

struct Whole<'a> {
    kind: Kind,
    head: Fields<'a>,
    choices: Vec<Choice<'a>>,
    usage: Option<Raw<'a>>,
}

impl<'a> Whole<'a> {
    fn chunk(&mut self, chunk: Raw<'a>) -> Option<()> {
        members(chunk, |name, value| {
            match name {
                b"choices" => elements(value, |choice| self.choice(choice))?,
                b"usage" if value.is_null() => {}
                // of several, each is the sum so far
                b"usage" => self.usage = Some(value),
                b"object" if value.0 != objects(self.kind).1 => return None,
                b"object" => self.head.replace(name, Raw(objects(self.kind).0)),
                b"created" if self.head.has(name) => {}
                // random padding of OpenAI's
                b"obfuscation" => {}
                b"error" if !value.is_empty() => return None,
                _ => self.head.constant(name, value)?,
            }
            Some(())
        })
    }

    fn choice(&mut self, value: Raw<'a>) -> Option<()> {
        let index = value.get(b"index")?.number().filter(|&index| index < MOST)?;
        let kind = self.kind;
        let known = self.choices.iter().position(|choice| choice.index == index);
        let at = known.unwrap_or_else(|| {
            self.choices.push(Choice { index, ..Choice::default() });
            self.choices.len() - 1
        });
        self.choices.get_mut(at)?.add(kind, value)
    }

    fn put(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let usage = self.usage?;
        if !self.head.has(b"object") || self.choices.is_empty() {
            return None;
        }
        self.choices.sort_by_key(|choice| choice.index);
        out.push(b'{');
        self.head.put(out);
        put_name(out, b"choices");
        out.push(b'[');
        for (at, choice) in self.choices.iter_mut().enumerate() {
            if choice.index != at as u64 {
                return None;
            }
            comma(out);
            choice.put(self.kind, out)?;
        }
        out.push(b']');
        put_member(out, b"usage", usage.0);
        out.push(b'}');
        Some(())
    }
}

#[derive(Default)]
struct Choice<'a> {
    index: u64,
    /// The message of a chat, without its calls; the text of a completion.
    said: Fields<'a>,
    calls: Vec<Call<'a>>,
    function: Option<Fields<'a>>,
    logprobs: Option<Fields<'a>>,
    rest: Fields<'a>,
}

impl<'a> Choice<'a> {
    fn add(&mut self, kind: Kind, choice: Raw<'a>) -> Option<()> {
        members(choice, |name, value| match name {
            b"index" => Some(()),
            b"delta" if kind == Kind::Chat => members(value, |name, value| self.delta(name, value)),
            b"text" if kind == Kind::Completions => self.said.text(name, value),
            b"logprobs" if value.is_null() => self.rest.constant(name, value),
            b"logprobs" => {
                let lists = self.logprobs.get_or_insert_default();
                members(
                    value,
                    |name, value| {
                        if of_logprobs(kind, name) { lists.list(name, value) } else { None }
                    },
                )
            }
            _ if of_ending(name) => self.rest.constant(name, value),
            _ => self.rest.silent(name, value),
        })
    }

    fn delta(&mut self, name: &'a [u8], value: Raw<'a>) -> Option<()> {
        match name {
            b"role" => self.said.once(name, value),
            _ if is_text(name) => self.said.text(name, value),
            b"tool_calls" if !value.is_empty() => elements(value, |call| self.call(call)),
            b"function_call" if !value.is_empty() => {
                let function = self.function.get_or_insert_default();
                members(value, |name, value| part_of_function(function, name, value))
            }
            _ => self.said.silent(name, value),
        }
    }

    fn call(&mut self, value: Raw<'a>) -> Option<()> {
        let index = value.get(b"index")?.number().filter(|&index| index < MOST)?;
        let known = self.calls.iter().position(|call| call.index == index);
        let at = known.unwrap_or_else(|| {
            self.calls.push(Call { index, ..Call::default() });
            self.calls.len() - 1
        });
        let call = self.calls.get_mut(at)?;
        members(value, |name, value| match name {
            b"index" => Some(()),
            b"id" | b"type" => call.head.once(name, value),
            b"function" if value.is_null() => Some(()),
            b"function" => {
                members(value, |name, value| part_of_function(&mut call.function, name, value))
            }
            _ if value.is_null() => Some(()),
            _ => None,
        })
    }

    fn put(&mut self, kind: Kind, out: &mut Vec<u8>) -> Option<()> {
        self.rest.value(b"finish_reason").filter(|reason| !reason.is_empty())?;
        out.push(b'{');
        put_member(out, b"index", itoa::Buffer::new().format(self.index).as_bytes());
        if kind == Kind::Chat {
            self.put_message(out)?;
        } else {
            self.said.put(out);
        }
        if let Some(lists) = &self.logprobs {
            put_object(out, b"logprobs", lists);
            // where it was null besides
            self.rest.remove(b"logprobs");
        }
        self.rest.put(out);
        out.push(b'}');
        Some(())
    }

    fn put_message(&mut self, out: &mut Vec<u8>) -> Option<()> {
        put_name(out, b"message");
        out.push(b'{');
        if !self.said.has(b"role") {
            put_member(out, b"role", b"\"assistant\"");
        }
        if !self.said.has(b"content") {
            put_member(out, b"content", b"null");
        }
        if !self.calls.is_empty() {
            self.said.remove(b"tool_calls");
        }
        if self.function.is_some() {
            self.said.remove(b"function_call");
        }
        self.said.put(out);
        if let Some(function) = &self.function {
            put_object(out, b"function_call", function);
        }
        if !self.calls.is_empty() {
            self.put_calls(out)?;
        }
        out.push(b'}');
        Some(())
    }

    fn put_calls(&mut self, out: &mut Vec<u8>) -> Option<()> {
        self.calls.sort_by_key(|call| call.index);
        put_name(out, b"tool_calls");
        out.push(b'[');
        for (at, call) in self.calls.iter().enumerate() {
            let named = [b"id", &b"type"[..]].into_iter().all(|name| call.head.has(name));
            let whole =
                [b"name", &b"arguments"[..]].into_iter().all(|name| call.function.has(name));
            if call.index != at as u64 || !named || !whole {
                return None;
            }
            comma(out);
            out.push(b'{');
            call.head.put(out);
            put_object(out, b"function", &call.function);
            out.push(b'}');
        }
        out.push(b']');
        Some(())
    }
}

#[derive(Default)]
struct Call<'a> {
    index: u64,
    head: Fields<'a>,
    function: Fields<'a>,
}

fn part_of_function<'a>(function: &mut Fields<'a>, name: &'a [u8], value: Raw<'a>) -> Option<()> {
    match name {
        b"name" => function.once(name, value),
        b"arguments" => function.text(name, value),
        _ => None,
    }
}

fn put_object(out: &mut Vec<u8>, name: &[u8], fields: &Fields<'_>) {
    put_name(out, name);
    out.push(b'{');
    fields.put(out);
    out.push(b'}');
}

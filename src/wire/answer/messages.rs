//! Anthropic's messages: events into one message, and a message into events.
//!
//! `message_start` brings the message without its content, each block comes with its index, and
//! `message_delta` writes over what is known at the end only; its usage is cumulative and writes
//! over that of the start. Texts, thoughts and a tool's input grow by deltas, a signature comes at
//! once, citations one by one. Any other block stands in its first event as a whole. Events, deltas
//! and members that are not known here may not occur.
mod unfold;

use std::borrow::Cow;

use bytes::Bytes;

use super::events::{Event, events};
use super::joined::{Fields, checked, comma, inner, is_json, members, put_member, put_name};
use crate::wire::json::Raw;
use crate::wire::meter::Form;

pub(super) use unfold::unfold;

pub(super) fn fold(body: &[u8]) -> Option<Bytes> {
    let events: Vec<Event<'_>> = events(Form::Sse, body).collect();
    let mut whole = Whole::default();
    for event in &events {
        // nothing follows the last event
        if whole.over {
            return None;
        }
        whole.event(Raw(event.data.trim_ascii()))?;
    }
    let mut out = Vec::with_capacity(1024 + body.len() / 8);
    whole.put(&mut out)?;
    checked(out)
}

#[derive(Default)]
struct Whole<'a> {
    message: Option<Fields<'a>>,
    usage: Option<Fields<'a>>,
    blocks: Vec<Block<'a>>,
    ended: bool,
    over: bool,
}

/// The members of one event.
#[derive(Default)]
struct Parts<'a> {
    message: Option<Raw<'a>>,
    index: Option<u64>,
    block: Option<Raw<'a>>,
    delta: Option<Raw<'a>>,
    usage: Option<Raw<'a>>,
    context: Option<Raw<'a>>,
}

impl<'a> Whole<'a> {
    fn event(&mut self, event: Raw<'a>) -> Option<()> {
        let mut parts = Parts::default();
        let mut kind = None;
        members(event, |name, value| {
            match name {
                b"type" => kind = Some(value.0),
                b"message" => parts.message = Some(value),
                b"index" => parts.index = Some(value.number()?),
                b"content_block" => parts.block = Some(value),
                b"delta" => parts.delta = Some(value),
                b"usage" => parts.usage = Some(value),
                b"context_management" => parts.context = Some(value),
                _ => return None,
            }
            Some(())
        })?;
        match (kind?, parts) {
            (b"\"ping\"", _) => Some(()),
            (b"\"message_start\"", Parts { message: Some(message), .. }) => self.start(message),
            (b"\"message_stop\"", _) => {
                self.over = true;
                (self.ended && self.blocks.iter().all(|block| block.closed)).then_some(())
            }
            (b"\"message_delta\"", Parts { delta: Some(delta), usage, context, .. }) => {
                self.end(delta, usage, context)
            }
            (b"\"content_block_start\"", Parts { index, block: Some(block), .. }) => {
                if self.message.is_none() || index? != self.blocks.len() as u64 {
                    return None;
                }
                self.blocks.push(Block::read(block)?);
                Some(())
            }
            (b"\"content_block_delta\"", Parts { index, delta: Some(delta), .. }) => {
                self.block(index?)?.grow(delta)
            }
            (b"\"content_block_stop\"", Parts { index, .. }) => {
                self.block(index?)?.closed = true;
                Some(())
            }
            _ => None,
        }
    }

    fn block(&mut self, index: u64) -> Option<&mut Block<'a>> {
        let block = self.blocks.get_mut(usize::try_from(index).ok()?);
        block.filter(|block| !block.closed)
    }

    fn start(&mut self, value: Raw<'a>) -> Option<()> {
        if self.message.is_some() {
            return None;
        }
        let mut message = Fields::default();
        members(value, |name, value| match name {
            b"content" => value.is_empty().then_some(()),
            b"usage" => {
                let usage = self.usage.insert(Fields::default());
                members(value, |name, value| {
                    usage.replace(name, value);
                    Some(())
                })
            }
            _ => {
                message.replace(name, value);
                Some(())
            }
        })?;
        self.message = Some(message);
        Some(())
    }

    fn end(
        &mut self,
        delta: Raw<'a>,
        usage: Option<Raw<'a>>,
        context: Option<Raw<'a>>,
    ) -> Option<()> {
        let message = self.message.as_mut()?;
        members(delta, |name, value| {
            match name {
                b"container" if value.is_null() && message.has(name) => {}
                b"stop_reason" | b"stop_sequence" | b"stop_details" | b"container" => {
                    message.replace(name, value);
                }
                _ => return None,
            }
            Some(())
        })?;
        if let Some(context) = context {
            message.replace(b"context_management", context);
        }
        if let Some(counts) = usage {
            let usage = self.usage.get_or_insert_default();
            members(counts, |name, value| {
                if !value.is_null() || !usage.has(name) {
                    usage.replace(name, value);
                }
                Some(())
            })?;
        }
        self.ended = message.value(b"stop_reason").is_some_and(|reason| !reason.is_empty());
        Some(())
    }

    fn put(self, out: &mut Vec<u8>) -> Option<()> {
        if !self.over {
            return None;
        }
        out.push(b'{');
        self.message?.put(out);
        put_name(out, b"content");
        out.push(b'[');
        for block in self.blocks {
            comma(out);
            block.put(out)?;
        }
        out.push(b']');
        put_name(out, b"usage");
        out.push(b'{');
        self.usage?.put(out);
        out.extend_from_slice(b"}}");
        Some(())
    }
}

/// A block as it grows.
#[derive(Default)]
struct Block<'a> {
    fields: Fields<'a>,
    kind: &'a [u8],
    /// A tool's input as the deltas bring it: the inside of a string that is JSON.
    input: Vec<u8>,
    signed: bool,
    closed: bool,
}

impl<'a> Block<'a> {
    fn read(value: Raw<'a>) -> Option<Self> {
        let mut block = Self::default();
        members(value, |name, value| {
            match name {
                b"type" => block.kind = value.0,
                b"text" | b"thinking" => return block.fields.text(name, value),
                b"citations" => return block.fields.list(name, value),
                b"signature" => block.signed = !value.is_empty(),
                _ => {}
            }
            block.fields.replace(name, value);
            Some(())
        })?;
        Some(block)
    }

    fn grow(&mut self, delta: Raw<'a>) -> Option<()> {
        let (mut kind, mut member) = (None, None);
        members(delta, |name, value| {
            match name {
                b"type" => kind = Some(value.0),
                _ if member.is_none() => member = Some((name, value)),
                _ => return None,
            }
            Some(())
        })?;
        let (name, value) = member?;
        match (kind?, self.kind, name) {
            (b"\"text_delta\"", b"\"text\"", b"text")
            | (b"\"thinking_delta\"", b"\"thinking\"", b"thinking") => {
                self.fields.text(name, value)
            }
            (b"\"signature_delta\"", b"\"thinking\"", b"signature") if !self.signed => {
                self.signed = true;
                self.fields.replace(name, value);
                Some(())
            }
            (b"\"input_json_delta\"", block, b"partial_json") if takes_input(block) => {
                self.input.extend_from_slice(inner(value)?);
                Some(())
            }
            (b"\"citations_delta\"", b"\"text\"", b"citation") => {
                self.fields.push(b"citations", value)
            }
            _ => None,
        }
    }

    fn put(mut self, out: &mut Vec<u8>) -> Option<()> {
        let input = decoded(&self.input)?;
        let input = input.trim();
        if !input.is_empty() {
            let started = self.fields.value(b"input").is_some_and(|input| !input.is_empty());
            if started || !input.starts_with('{') || !is_json(input.as_bytes()) {
                return None;
            }
            self.fields.remove(b"input");
        }
        out.push(b'{');
        self.fields.put(out);
        if !input.is_empty() {
            put_member(out, b"input", input.as_bytes());
        }
        out.push(b'}');
        Some(())
    }
}

/// Whether a block of this type is a call whose input comes in pieces.
fn takes_input(kind: &[u8]) -> bool {
    matches!(kind, b"\"tool_use\"" | b"\"server_tool_use\"" | b"\"mcp_tool_use\"")
}

/// The text of the inside of a string.
fn decoded(inner: &[u8]) -> Option<Cow<'_, str>> {
    if memchr::memchr(b'\\', inner).is_none() {
        return std::str::from_utf8(inner).ok().map(Cow::Borrowed);
    }
    let quoted = [b"\"", inner, b"\""].concat();
    serde_json::from_slice(&quoted).ok().map(Cow::Owned)
}

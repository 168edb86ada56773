//! OpenAI's responses: one response into its events.
//!
//! The sequence is the documented one: the response as it began, twice; each item as it is added,
//! its parts with their pieces, and as it is done; the whole response. Items whose events are
//! known: messages, reasoning, calls of functions and of custom tools.
use crate::wire::answer::Unfolded;
use crate::wire::answer::joined::{elements, inner, members, put_member, put_string};
use crate::wire::answer::stream::{Stream, one_line, pieces};
use crate::wire::json::Raw;
use crate::wire::meter::Form;

pub(in crate::wire::answer) fn unfold(body: &[u8]) -> Option<Unfolded> {
    let body = one_line(body)?;
    let response = Raw(&body);
    let end = match response.get(b"status")?.0 {
        b"\"completed\"" => "response.completed",
        b"\"incomplete\"" => "response.incomplete",
        _ => return None,
    };
    let mut events = Events { stream: Stream::new(body.len() * 6), number: 0 };
    let mut begun = Vec::with_capacity(body.len());
    put_begun(response, &mut begun)?;
    for name in ["response.created", "response.in_progress"] {
        events.event(name, |out| put_member(out, b"response", &begun))?;
    }
    let mut index = 0;
    elements(response.get(b"output")?, |item| {
        put_item(&mut events, index, item)?;
        index += 1;
        Some(())
    })?;
    events.event(end, |out| put_member(out, b"response", &body))?;
    Some(events.stream.finish(Form::Sse))
}

/// The response as it stood when it began.
fn put_begun(response: Raw<'_>, out: &mut Vec<u8>) -> Option<()> {
    let mut known = false;
    out.push(b'{');
    members(response, |name, value| {
        let value: &[u8] = match name {
            b"status" => b"\"in_progress\"",
            b"output" => b"[]",
            b"usage" | b"completed_at" | b"incomplete_details" | b"output_text" => b"null",
            b"id" => {
                known = true;
                value.0
            }
            b"error" if !value.is_empty() => return None,
            _ => value.0,
        };
        put_member(out, name, value);
        Some(())
    })?;
    out.push(b'}');
    known.then_some(())
}

/// The events as they are written.
struct Events {
    stream: Stream,
    number: u64,
}

impl Events {
    /// One event; `says` writes its own members.
    fn event(&mut self, name: &str, says: impl FnOnce(&mut Vec<u8>)) -> Option<()> {
        let out = &mut self.stream.out;
        for part in ["event: ", name, "\ndata: {\"type\":\"", name, "\""] {
            out.extend_from_slice(part.as_bytes());
        }
        put_number(out, b"sequence_number", self.number);
        says(out);
        self.number += 1;
        self.stream.end(b"}\n\n")
    }
}

fn put_number(out: &mut Vec<u8>, name: &[u8], number: u64) {
    put_member(out, name, itoa::Buffer::new().format(number).as_bytes());
}

fn put_item(events: &mut Events, index: u64, item: Raw<'_>) -> Option<()> {
    let kind = item.get(b"type")?.0;
    let id = item.get(b"id").filter(|id| !id.is_empty())?;
    let mut added = Vec::with_capacity(item.0.len());
    put_added(item, &mut added)?;
    events.event("response.output_item.added", |out| {
        put_number(out, b"output_index", index);
        put_member(out, b"item", &added);
    })?;
    let mut place = Place { events, index, id, part: None };
    match kind {
        b"\"message\"" => place.parts(item.get(b"content")?, b"content_index")?,
        b"\"reasoning\"" => {
            place.parts(item.get(b"summary")?, b"summary_index")?;
            if let Some(content) = item.get(b"content").filter(|content| !content.is_null()) {
                place.parts(content, b"content_index")?;
            }
        }
        b"\"function_call\"" => {
            let arguments = item.get(b"arguments")?;
            place.pieces("response.function_call_arguments.delta", arguments)?;
            place.event("response.function_call_arguments.done", |out| {
                if let Some(name) = item.get(b"name") {
                    put_member(out, b"name", name.0);
                }
                put_member(out, b"arguments", arguments.0);
            })?;
        }
        b"\"custom_tool_call\"" => {
            let input = item.get(b"input")?;
            place.pieces("response.custom_tool_call_input.delta", input)?;
            place.event("response.custom_tool_call_input.done", |out| {
                put_member(out, b"input", input.0);
            })?;
        }
        _ => return None,
    }
    events.event("response.output_item.done", |out| {
        put_number(out, b"output_index", index);
        put_member(out, b"item", item.0);
    })
}

/// The item as it stood when it was added.
fn put_added(item: Raw<'_>, out: &mut Vec<u8>) -> Option<()> {
    out.push(b'{');
    members(item, |name, value| {
        let value: &[u8] = match (name, value.0) {
            (b"status", _) => b"\"in_progress\"",
            (b"content" | b"summary", [b'[', ..]) => b"[]",
            (b"arguments" | b"input", _) => b"\"\"",
            (b"encrypted_content", _) => return Some(()),
            (_, value) => value,
        };
        put_member(out, name, value);
        Some(())
    })?;
    out.push(b'}');
    Some(())
}

/// An item, or a part of it, that events speak of.
struct Place<'e, 'a> {
    events: &'e mut Events,
    index: u64,
    id: Raw<'a>,
    /// What the part's index is called, and the index.
    part: Option<(&'static [u8], u64)>,
}

impl Place<'_, '_> {
    fn event(&mut self, name: &str, says: impl FnOnce(&mut Vec<u8>)) -> Option<()> {
        let (index, id, part) = (self.index, self.id, self.part);
        self.events.event(name, |out| {
            put_member(out, b"item_id", id.0);
            put_number(out, b"output_index", index);
            if let Some((name, index)) = part {
                put_number(out, name, index);
            }
            says(out);
        })
    }

    /// The deltas of a string.
    fn pieces(&mut self, name: &str, text: Raw<'_>) -> Option<()> {
        let probable = name == "response.output_text.delta";
        for piece in pieces(inner(text)?) {
            self.event(name, |out| {
                put_string(out, b"delta", piece);
                if probable {
                    put_member(out, b"logprobs", b"[]");
                }
            })?;
        }
        Some(())
    }

    fn parts(&mut self, list: Raw<'_>, index: &'static [u8]) -> Option<()> {
        let mut at = 0;
        elements(list, |part| {
            self.part = Some((index, at));
            at += 1;
            self.part(part)
        })?;
        self.part = None;
        Some(())
    }

    fn part(&mut self, part: Raw<'_>) -> Option<()> {
        // what it is called, which member grows, and whose part it is
        let (event, text, of): (_, &[u8], _) = match part.get(b"type")?.0 {
            b"\"output_text\"" => ("response.output_text", b"text", "response.content_part"),
            b"\"refusal\"" => ("response.refusal", b"refusal", "response.content_part"),
            b"\"reasoning_text\"" => ("response.reasoning_text", b"text", "response.content_part"),
            b"\"summary_text\"" => {
                ("response.reasoning_summary_text", b"text", "response.reasoning_summary_part")
            }
            _ => return None,
        };
        let said = part.get(text)?;
        let mut added = Vec::with_capacity(part.0.len());
        added.push(b'{');
        members(part, |name, value| {
            let empty: &[u8] = match name {
                _ if name == text => b"\"\"",
                b"annotations" | b"logprobs" => b"[]",
                _ => value.0,
            };
            put_member(&mut added, name, empty);
            Some(())
        })?;
        added.push(b'}');
        self.event(&[of, ".added"].concat(), |out| put_member(out, b"part", &added))?;
        self.pieces(&[event, ".delta"].concat(), said)?;
        self.annotations(part.get(b"annotations"))?;
        let probable = event == "response.output_text";
        let logprobs = part.get(b"logprobs").filter(|list| !list.is_null());
        self.event(&[event, ".done"].concat(), |out| {
            put_member(out, text, said.0);
            if probable {
                put_member(out, b"logprobs", logprobs.map_or(b"[]", |list| list.0));
            }
        })?;
        self.event(&[of, ".done"].concat(), |out| put_member(out, b"part", part.0))
    }

    fn annotations(&mut self, list: Option<Raw<'_>>) -> Option<()> {
        let Some(list) = list.filter(|list| !list.is_empty()) else { return Some(()) };
        let mut at = 0;
        elements(list, |annotation| {
            self.event("response.output_text.annotation.added", |out| {
                put_number(out, b"annotation_index", at);
                put_member(out, b"annotation", annotation.0);
            })?;
            at += 1;
            Some(())
        })
    }
}

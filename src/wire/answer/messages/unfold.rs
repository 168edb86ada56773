//! Anthropic's messages: one message into its events.
//!
//! What is known at the start stands in `message_start`, what only the end can know in
//! `message_delta`, as Anthropic does it; the output is counted from 0.
use super::takes_input;
use crate::wire::answer::Unfolded;
use crate::wire::answer::joined::{
    Member, elements, inner, members, put_all, put_member, put_name,
};
use crate::wire::answer::stream::{Stream, one_line, pieces};
use crate::wire::json::Raw;
use crate::wire::meter::Form;

/// Blocks that come whole in their first event.
const WHOLE: [&[u8]; 9] = [
    b"\"redacted_thinking\"",
    b"\"web_search_tool_result\"",
    b"\"web_fetch_tool_result\"",
    b"\"code_execution_tool_result\"",
    b"\"bash_code_execution_tool_result\"",
    b"\"text_editor_code_execution_tool_result\"",
    b"\"tool_search_tool_result\"",
    b"\"mcp_tool_result\"",
    b"\"container_upload\"",
];

/// What `message_delta` may say of the usage.
const COUNTS: [&[u8]; 6] = [
    b"input_tokens",
    b"cache_creation_input_tokens",
    b"cache_read_input_tokens",
    b"output_tokens",
    b"server_tool_use",
    b"output_tokens_details",
];

pub(in crate::wire::answer) fn unfold(body: &[u8]) -> Option<Unfolded> {
    let body = one_line(body)?;
    let message = Message::read(Raw(&body))?;
    let mut stream = Stream::new(body.len() * 6);
    message.put_start(&mut stream)?;
    let mut index = 0;
    elements(message.content, |block| {
        put_block(index, block, &mut stream)?;
        index += 1;
        Some(())
    })?;
    message.put_end(&mut stream)?;
    Some(stream.finish(Form::Sse))
}

struct Message<'a> {
    all: Vec<Member<'a>>,
    content: Raw<'a>,
    usage: Vec<Member<'a>>,
}

impl<'a> Message<'a> {
    fn read(message: Raw<'a>) -> Option<Self> {
        let (mut all, mut usage) = (Vec::new(), Vec::new());
        let (mut content, mut ends, mut is_message) = (None, false, false);
        members(message, |name, value| {
            match name {
                b"type" => is_message = value.0 == b"\"message\"",
                b"content" => content = Some(value),
                b"stop_reason" => ends = !value.is_empty(),
                b"usage" => members(value, |name, value| {
                    usage.push((name, value));
                    Some(())
                })?,
                _ => {}
            }
            all.push((name, value));
            Some(())
        })?;
        let counted = usage.iter().any(|(name, _)| *name == b"output_tokens");
        (ends && is_message && counted).then_some(Self { all, content: content?, usage })
    }

    fn put_start(&self, stream: &mut Stream) -> Option<()> {
        open(stream, "message_start");
        let out = &mut stream.out;
        put_name(out, b"message");
        out.push(b'{');
        for (name, value) in &self.all {
            match *name {
                b"content" => put_member(out, name, b"[]"),
                b"usage" => {
                    put_name(out, name);
                    out.push(b'{');
                    for (name, value) in &self.usage {
                        match *name {
                            b"output_tokens" => put_member(out, name, b"0"),
                            b"output_tokens_details" | b"server_tool_use" => {}
                            _ => put_member(out, name, value.0),
                        }
                    }
                    out.push(b'}');
                }
                b"context_management" => {}
                name if at_end(name) => put_member(out, name, b"null"),
                name => put_member(out, name, value.0),
            }
        }
        out.push(b'}');
        shut(stream)
    }

    fn put_end(&self, stream: &mut Stream) -> Option<()> {
        open(stream, "message_delta");
        let out = &mut stream.out;
        put_name(out, b"delta");
        out.push(b'{');
        for (name, value) in self.all.iter().filter(|(name, _)| at_end(name)) {
            put_member(out, name, value.0);
        }
        out.push(b'}');
        put_name(out, b"usage");
        out.push(b'{');
        for (name, value) in self.usage.iter().filter(|(name, _)| COUNTS.contains(name)) {
            put_member(out, name, value.0);
        }
        out.push(b'}');
        let context = self.all.iter().find(|(name, _)| *name == b"context_management");
        put_all(out, context.map_or(&[], std::slice::from_ref));
        shut(stream)?;
        open(stream, "message_stop");
        shut(stream)
    }
}

/// What of a message is known only at its end.
fn at_end(name: &[u8]) -> bool {
    matches!(name, b"stop_reason" | b"stop_sequence" | b"stop_details" | b"container")
}

fn put_block(index: usize, block: Raw<'_>, stream: &mut Stream) -> Option<()> {
    let mut kind: &[u8] = b"";
    let (mut head, mut text, mut citations) = (Vec::new(), None, None);
    let (mut signature, mut input) = (None, None);
    members(block, |name, value| {
        head.push((name, value));
        match name {
            b"type" => kind = value.0,
            b"text" | b"thinking" => text = Some((name, value)),
            b"citations" if !value.is_empty() => citations = Some(value),
            b"signature" if !value.is_empty() => signature = Some(value),
            b"input" => input = Some(value),
            _ => {}
        }
        Some(())
    })?;
    let grows = match kind {
        b"\"text\"" | b"\"thinking\"" => true,
        _ if takes_input(kind) => true,
        _ if WHOLE.contains(&kind) => false,
        _ => return None,
    };
    open_block(stream, "content_block_start", index);
    put_name(&mut stream.out, b"content_block");
    stream.out.push(b'{');
    for (name, value) in &head {
        let empty: Option<&[u8]> = match *name {
            b"text" | b"thinking" | b"signature" => Some(b"\"\""),
            b"citations" if !value.is_null() => Some(b"[]"),
            b"input" => Some(b"{}"),
            _ => None,
        };
        let value = empty.filter(|_| grows).unwrap_or(value.0);
        put_member(&mut stream.out, name, value);
    }
    stream.out.push(b'}');
    shut(stream)?;
    match (kind, text, input) {
        (b"\"text\"", Some((b"text", value)), _) => {
            put_deltas(index, "text_delta", b"text", value, stream)?;
            if let Some(citations) = citations {
                elements(citations, |one| {
                    put_delta(index, "citations_delta", b"citation", one.0, stream)
                })?;
            }
        }
        (b"\"thinking\"", Some((b"thinking", value)), _) => {
            put_deltas(index, "thinking_delta", b"thinking", value, stream)?;
            if let Some(signature) = signature {
                put_delta(index, "signature_delta", b"signature", signature.0, stream)?;
            }
        }
        (_, None, Some(input)) if takes_input(kind) => put_input(index, input, stream)?,
        _ if grows => return None,
        _ => {}
    }
    open_block(stream, "content_block_stop", index);
    shut(stream)
}

fn put_deltas(
    index: usize,
    kind: &str,
    name: &[u8],
    text: Raw<'_>,
    stream: &mut Stream,
) -> Option<()> {
    for piece in pieces(inner(text)?) {
        put_delta(index, kind, name, &[b"\"", piece, b"\""].concat(), stream)?;
    }
    Some(())
}

fn put_input(index: usize, input: Raw<'_>, stream: &mut Stream) -> Option<()> {
    if !input.0.starts_with(b"{") {
        return None;
    }
    let quoted = serde_json::to_vec(std::str::from_utf8(input.0).ok()?).ok()?;
    put_deltas(index, "input_json_delta", b"partial_json", Raw(&quoted), stream)
}

fn put_delta(
    index: usize,
    kind: &str,
    name: &[u8],
    value: &[u8],
    stream: &mut Stream,
) -> Option<()> {
    open_block(stream, "content_block_delta", index);
    stream.out.extend_from_slice(b",\"delta\":{\"type\":\"");
    stream.out.extend_from_slice(kind.as_bytes());
    stream.out.push(b'"');
    put_member(&mut stream.out, name, value);
    stream.out.push(b'}');
    shut(stream)
}

fn open(stream: &mut Stream, name: &str) {
    for part in ["event: ", name, "\ndata: {\"type\":\"", name, "\""] {
        stream.out.extend_from_slice(part.as_bytes());
    }
}

fn open_block(stream: &mut Stream, name: &str, index: usize) {
    open(stream, name);
    put_member(&mut stream.out, b"index", itoa::Buffer::new().format(index).as_bytes());
}

fn shut(stream: &mut Stream) -> Option<()> {
    stream.end(b"}\n\n")
}

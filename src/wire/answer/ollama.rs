//! Ollama's chat and generate: lines into one object, and an object into lines.
//!
//! The last line is the plain answer but for what was said before it: texts are joined, calls and
//! probabilities go one behind the other. A line before it may hold nothing else, but for what the
//! last one says too; `created_at` is that of the last.
use bytes::Bytes;

use super::Unfolded;
use super::events::{Event, events};
use super::joined::{
    Fields, Member, checked, elements, inner, members, put_all, put_member, put_name,
};
use super::stream::{Stream, one_line, pieces};
use crate::wire::endpoint::Kind;
use crate::wire::json::Raw;
use crate::wire::meter::Form;

pub(super) fn fold(kind: Kind, body: &[u8]) -> Option<Bytes> {
    let lines: Vec<Event<'_>> = events(Form::NdJson, body).collect();
    let (last, before) = lines.split_last()?;
    let mut whole = Whole { kind, ..Whole::default() };
    for line in before {
        whole.line(Raw(&line.data), false)?;
    }
    whole.line(Raw(&last.data), true)?;
    let mut out = Vec::with_capacity(1024 + body.len() / 8);
    whole.put(&mut out);
    checked(out)
}

struct Whole<'a> {
    kind: Kind,
    /// What the whole answer says, and the texts of `generate`.
    all: Fields<'a>,
    message: Option<Fields<'a>>,
}

impl Default for Whole<'_> {
    fn default() -> Self {
        Self { kind: Kind::OllamaChat, all: Fields::default(), message: None }
    }
}

impl<'a> Whole<'a> {
    fn line(&mut self, line: Raw<'a>, last: bool) -> Option<()> {
        let chat = self.kind == Kind::OllamaChat;
        let mut done = false;
        members(line, |name, value| match name {
            b"error" => None,
            b"done" => {
                done = value.bool()?;
                self.all.replace(name, value);
                Some(())
            }
            b"created_at" => {
                self.all.replace(name, value);
                Some(())
            }
            b"message" if chat => {
                let message = self.message.get_or_insert_default();
                members(value, |name, value| said(message, name, value))
            }
            b"response" | b"thinking" if !chat => self.all.text(name, value),
            b"logprobs" => self.all.list(name, value),
            b"model" | b"remote_model" | b"remote_host" => self.all.constant(name, value),
            // the last line has it too, or this is not known
            _ if !last => self.all.silent(name, value),
            _ => self.all.once(name, value),
        })?;
        (done == last).then_some(())
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        self.all.put(out);
        if let Some(message) = &self.message {
            put_name(out, b"message");
            out.push(b'{');
            message.put(out);
            out.push(b'}');
        }
        out.push(b'}');
    }
}

/// One member of a message's piece.
fn said<'a>(message: &mut Fields<'a>, name: &'a [u8], value: Raw<'a>) -> Option<()> {
    match name {
        b"role" => message.constant(name, value),
        b"content" | b"thinking" => message.text(name, value),
        b"tool_calls" => message.list(name, value),
        _ => message.silent(name, value),
    }
}

pub(super) fn unfold(kind: Kind, body: &[u8]) -> Option<Unfolded> {
    let body = one_line(body)?;
    let mut answer = Answer { chat: kind == Kind::OllamaChat, ..Answer::default() };
    let mut done = false;
    members(Raw(&body), |name, value| {
        match name {
            b"done" => done = value.bool()?,
            b"error" => return None,
            b"message" if answer.chat => {
                members(value, |name, value| answer.message(name, value))?;
            }
            b"response" | b"thinking" if !answer.chat && !value.is_empty() => {
                answer.texts.push((name, inner(value)?));
                if name == b"response" {
                    answer.rest.push((name, Raw(b"\"\"")));
                }
            }
            b"logprobs" if !value.is_empty() => answer.logprobs = Some(value),
            b"model" | b"created_at" | b"remote_model" | b"remote_host" => {
                answer.head.push((name, value));
            }
            _ => answer.rest.push((name, value)),
        }
        Some(())
    })?;
    if !done {
        return None;
    }
    // thoughts come before words
    answer.texts.sort_by_key(|(name, _)| *name != b"thinking");
    let mut stream = Stream::new(body.len() * 5);
    answer.put(&mut stream)?;
    Some(stream.finish(Form::NdJson))
}

#[derive(Default)]
struct Answer<'a> {
    chat: bool,
    /// In each line.
    head: Vec<Member<'a>>,
    /// In the last one.
    rest: Vec<Member<'a>>,
    role: Option<Raw<'a>>,
    /// Of the message, what says nothing.
    silent: Vec<Member<'a>>,
    texts: Vec<(&'a [u8], &'a [u8])>,
    calls: Option<Raw<'a>>,
    logprobs: Option<Raw<'a>>,
}

impl<'a> Answer<'a> {
    fn message(&mut self, name: &'a [u8], value: Raw<'a>) -> Option<()> {
        match name {
            b"role" => self.role = Some(value),
            b"content" | b"thinking" if !value.is_empty() => {
                self.texts.push((name, inner(value)?));
            }
            b"tool_calls" if !value.is_empty() => self.calls = Some(value),
            b"content" => {}
            _ if value.is_empty() => self.silent.push((name, value)),
            _ => return None,
        }
        Some(())
    }

    fn put(&self, stream: &mut Stream) -> Option<()> {
        for (name, text) in &self.texts {
            for piece in pieces(text) {
                let quoted = [b"\"", piece, b"\""].concat();
                self.line(&[(name, Raw(&quoted))], None, stream)?;
            }
        }
        if let Some(calls) = self.calls {
            elements(calls, |call| {
                let list = [b"[", call.0, b"]"].concat();
                self.line(&[(b"tool_calls", Raw(&list))], None, stream)
            })?;
        }
        if let Some(logprobs) = self.logprobs {
            self.line(&[], Some(logprobs), stream)?;
        }
        let out = &mut stream.out;
        out.push(b'{');
        put_all(out, &self.head);
        if self.chat {
            self.put_message(&self.silent, out);
        }
        put_member(out, b"done", b"true");
        put_all(out, &self.rest);
        stream.end(b"}\n")
    }

    /// A line before the last, with these members of what is said.
    fn line(
        &self,
        said: &[Member<'_>],
        logprobs: Option<Raw<'_>>,
        stream: &mut Stream,
    ) -> Option<()> {
        let out = &mut stream.out;
        out.push(b'{');
        put_all(out, &self.head);
        if self.chat {
            self.put_message(said, out);
        } else {
            if !said.iter().any(|(name, _)| *name == b"response") {
                put_member(out, b"response", b"\"\"");
            }
            put_all(out, said);
        }
        if let Some(logprobs) = logprobs {
            put_member(out, b"logprobs", logprobs.0);
        }
        put_member(out, b"done", b"false");
        stream.end(b"}\n")
    }

    fn put_message(&self, said: &[Member<'_>], out: &mut Vec<u8>) {
        put_name(out, b"message");
        out.push(b'{');
        if let Some(role) = self.role {
            put_member(out, b"role", role.0);
        }
        if !said.iter().any(|(name, _)| *name == b"content") {
            put_member(out, b"content", b"\"\"");
        }
        put_all(out, said);
        out.push(b'}');
    }
}

//! OpenAI's chat completions and completions: the chunks of a stream.
//!
//! Each choice goes by itself: its role and what is empty of it, its thoughts, its words, its
//! calls one after the other, its ending. What the whole answer says beside that and every chunk
//! repeats stands in every chunk; what only some servers add stands in the last.
use super::unfold::{Answer, Choice, Function};
use crate::wire::answer::Unfolded;
use crate::wire::answer::events::{USAGE, events, values};
use crate::wire::answer::joined::{Member, put_all, put_member, put_name, put_string};
use crate::wire::answer::stream::{Stream, pieces};
use crate::wire::endpoint::Kind;
use crate::wire::hide::is_usage;
use crate::wire::json::Raw;
use crate::wire::meter::Form;

/// What is the same in all chunks of a stream.
pub(super) struct Chunks {
    /// Up to the inside of `choices`.
    head: Vec<u8>,
    /// From there to the end of the event, where nothing is added.
    tail: &'static [u8],
}

impl Chunks {
    pub fn new(answer: &Answer<'_>, usage: bool) -> Self {
        let mut head = b"data: {".to_vec();
        put_all(&mut head, &answer.head);
        put_name(&mut head, b"choices");
        head.push(b'[');
        Self { head, tail: if usage { b"],\"usage\":null}\n\n" } else { b"]}\n\n" } }
    }

    pub fn put(&self, kind: Kind, answer: &Answer<'_>, stream: &mut Stream) -> Option<()> {
        let (last, before) = answer.choices.split_last()?;
        for choice in before {
            self.put_choice(kind, choice, &[], stream)?;
        }
        self.put_choice(kind, last, &answer.rest, stream)?;
        if self.tail.len() > b"]}\n\n".len() {
            stream.out.extend_from_slice(&self.head);
            stream.out.extend_from_slice(b"],\"usage\":");
            stream.out.extend_from_slice(answer.usage?.0);
            stream.end(b"}\n\n")?;
        }
        stream.out.extend_from_slice(b"data: [DONE]");
        stream.end(b"\n\n")
    }

    /// One chunk with one choice: `says` writes its members behind the index.
    fn chunk(
        &self,
        choice: &Choice<'_>,
        stream: &mut Stream,
        says: impl FnOnce(&mut Vec<u8>),
    ) -> Option<()> {
        let out = &mut stream.out;
        out.extend_from_slice(&self.head);
        out.extend_from_slice(b"{\"index\":");
        out.extend_from_slice(itoa::Buffer::new().format(choice.index).as_bytes());
        out.push(b',');
        says(out);
        out.push(b'}');
        stream.end(self.tail)
    }

    /// One chunk that is not the last: with a delta, the inside of which `says` writes.
    fn delta(
        &self,
        choice: &Choice<'_>,
        stream: &mut Stream,
        says: impl FnOnce(&mut Vec<u8>),
    ) -> Option<()> {
        self.chunk(choice, stream, |out| {
            out.extend_from_slice(b"\"delta\":{");
            says(out);
            out.push(b'}');
            put_unfinished(choice, out);
        })
    }

    fn put_choice(
        &self,
        kind: Kind,
        choice: &Choice<'_>,
        rest: &[Member<'_>],
        stream: &mut Stream,
    ) -> Option<()> {
        let mut probable = choice.logprobs;
        if kind == Kind::Chat {
            self.delta(choice, stream, |out| put_all(out, &choice.first))?;
            if let Some(tokens) = choice.by_token() {
                probable = Some(Raw(b"null"));
                self.put_texts(choice, b"reasoning", stream)?;
                self.put_tokens(choice, &tokens, stream)?;
                self.put_texts(choice, b"refusal", stream)?;
            } else {
                self.put_texts(choice, b"", stream)?;
            }
            self.put_calls(choice, stream)?;
        } else {
            for piece in choice.texts.iter().flat_map(|(_, text)| pieces(text)) {
                self.chunk(choice, stream, |out| {
                    put_string(out, b"text", piece);
                    put_unfinished(choice, out);
                })?;
            }
        }
        let out = &mut stream.out;
        out.extend_from_slice(&self.head);
        out.extend_from_slice(b"{\"index\":");
        out.extend_from_slice(itoa::Buffer::new().format(choice.index).as_bytes());
        out.extend_from_slice(if kind == Kind::Chat {
            b",\"delta\":{}"
        } else {
            b",\"text\":\"\""
        });
        if let Some(value) = probable {
            put_member(out, b"logprobs", value.0);
        }
        put_all(out, &choice.ending);
        out.extend_from_slice(b"}");
        if rest.is_empty() {
            return stream.end(self.tail);
        }
        out.extend_from_slice(&self.tail[..self.tail.len() - 3]);
        put_all(out, rest);
        stream.end(b"}\n\n")
    }

    /// The texts whose names begin so.
    fn put_texts(&self, choice: &Choice<'_>, prefix: &[u8], stream: &mut Stream) -> Option<()> {
        for (name, text) in choice.texts.iter().filter(|(name, _)| name.starts_with(prefix)) {
            for piece in pieces(text) {
                self.delta(choice, stream, |out| put_string(out, name, piece))?;
            }
        }
        Some(())
    }

    fn put_tokens(
        &self,
        choice: &Choice<'_>,
        tokens: &[(&[u8], Raw<'_>)],
        stream: &mut Stream,
    ) -> Option<()> {
        let refusal = choice.logprobs.and_then(|lists| lists.get(b"refusal"));
        for (text, token) in tokens {
            self.chunk(choice, stream, |out| {
                out.extend_from_slice(b"\"delta\":{\"content\":\"");
                out.extend_from_slice(text);
                out.extend_from_slice(b"\"},\"logprobs\":{\"content\":[");
                out.extend_from_slice(token.0);
                out.push(b']');
                if let Some(refusal) = refusal {
                    put_member(out, b"refusal", refusal.0);
                }
                out.extend_from_slice(b"},\"finish_reason\":null");
            })?;
        }
        Some(())
    }

    fn put_calls(&self, choice: &Choice<'_>, stream: &mut Stream) -> Option<()> {
        if let Some(function) = &choice.function {
            self.delta(choice, stream, |out| {
                put_name(out, b"function_call");
                put_function(out, function);
            })?;
            for piece in pieces(function.arguments) {
                self.delta(choice, stream, |out| {
                    put_name(out, b"function_call");
                    out.push(b'{');
                    put_string(out, b"arguments", piece);
                    out.push(b'}');
                })?;
            }
        }
        for (at, call) in choice.calls.iter().enumerate() {
            let index = itoa::Buffer::new().format(at).to_owned();
            let open = |out: &mut Vec<u8>| {
                put_name(out, b"tool_calls");
                out.extend_from_slice(b"[{\"index\":");
                out.extend_from_slice(index.as_bytes());
            };
            self.delta(choice, stream, |out| {
                open(out);
                put_all(out, &call.head);
                put_name(out, b"function");
                put_function(out, &call.function);
                out.extend_from_slice(b"}]");
            })?;
            for piece in pieces(call.function.arguments) {
                self.delta(choice, stream, |out| {
                    open(out);
                    out.extend_from_slice(b",\"function\":{");
                    put_string(out, b"arguments", piece);
                    out.extend_from_slice(b"}}]");
                })?;
            }
        }
        Some(())
    }
}

/// The end of a choice that goes on.
fn put_unfinished(choice: &Choice<'_>, out: &mut Vec<u8>) {
    if choice.logprobs.is_some() {
        out.extend_from_slice(b",\"logprobs\":null");
    }
    out.extend_from_slice(b",\"finish_reason\":null");
}

fn put_function(out: &mut Vec<u8>, function: &Function<'_>) {
    out.push(b'{');
    put_member(out, b"name", function.name.0);
    out.extend_from_slice(b",\"arguments\":\"\"}");
}

/// Whether a recorded stream tells its usage: only a client that asks is told.
pub(in crate::wire::answer) fn shows_usage(body: &[u8]) -> bool {
    values(&USAGE, body).any(|(value, _)| value.starts_with(b"{"))
}

/// A recorded stream with its usage, or without the event that tells nothing else.
pub(in crate::wire::answer) fn restream(body: &[u8], usage: bool) -> Option<Unfolded> {
    let told = shows_usage(body);
    if usage && !told {
        return None;
    }
    let mut stream = Stream::new(body.len());
    let mut from = 0;
    for event in events(Form::Sse, body) {
        let hidden = !usage && told && is_usage(event.data.trim_ascii());
        if !hidden {
            stream.out.extend_from_slice(body.get(from..event.end)?);
            stream.end(b"")?;
        }
        from = event.end;
    }
    (from > 0).then(|| stream.finish(Form::Sse))
}

//! Gemini's `generateContent`: one answer into the chunks of `alt=sse`.
//!
//! A text goes in pieces, any other part as it is. Where two texts of the same kind stand side by
//! side, nobody could tell again where one ends: then the candidate is one chunk. What only the end
//! can know stands in the last chunk.
use super::{plain_text, put_text};
use crate::wire::answer::Unfolded;
use crate::wire::answer::joined::{Member, comma, elements, members, put_all, put_member};
use crate::wire::answer::stream::{Stream, one_line, pieces};
use crate::wire::json::Raw;
use crate::wire::meter::Form;

pub(in crate::wire::answer) fn unfold(body: &[u8]) -> Option<Unfolded> {
    let body = one_line(body)?;
    let mut answer = Answer::default();
    members(Raw(&body), |name, value| {
        match name {
            b"candidates" => elements(value, |candidate| answer.candidate(candidate))?,
            b"modelVersion" | b"responseId" => answer.head.push((name, value)),
            b"error" => return None,
            _ => answer.rest.push((name, value)),
        }
        Some(())
    })?;
    let mut stream = Stream::new(body.len() * 5);
    let Some((last, before)) = answer.candidates.split_last() else {
        // a blocked prompt
        Raw(&body).get(b"promptFeedback")?.get(b"blockReason")?;
        stream.out.extend_from_slice(b"data: ");
        stream.out.extend_from_slice(&body);
        stream.end(b"\r\n\r\n")?;
        return Some(stream.finish(Form::Sse));
    };
    for candidate in before {
        answer.put(candidate, &[], &mut stream)?;
    }
    answer.put(last, &answer.rest, &mut stream)?;
    Some(stream.finish(Form::Sse))
}

#[derive(Default)]
struct Answer<'a> {
    candidates: Vec<Plain<'a>>,
    head: Vec<Member<'a>>,
    rest: Vec<Member<'a>>,
}

/// A candidate of a whole answer.
#[derive(Default)]
struct Plain<'a> {
    index: Option<Raw<'a>>,
    parts: Vec<Raw<'a>>,
    content: Option<Vec<Member<'a>>>,
    rest: Vec<Member<'a>>,
}

impl<'a> Answer<'a> {
    fn candidate(&mut self, value: Raw<'a>) -> Option<()> {
        let mut candidate = Plain::default();
        members(value, |name, value| {
            match name {
                b"index" => candidate.index = Some(value),
                b"content" => {
                    let content = candidate.content.insert(Vec::new());
                    members(value, |name, value| {
                        if name == b"parts" {
                            return elements(value, |part| {
                                candidate.parts.push(part);
                                Some(())
                            });
                        }
                        content.push((name, value));
                        Some(())
                    })?;
                }
                _ => candidate.rest.push((name, value)),
            }
            Some(())
        })?;
        let number = candidate.index.map_or(Some(0), Raw::number)?;
        if number != self.candidates.len() as u64 {
            return None;
        }
        candidate
            .rest
            .iter()
            .find(|(name, value)| *name == b"finishReason" && !value.is_empty())?;
        self.candidates.push(candidate);
        Some(())
    }

    fn put(&self, whole: &Plain<'_>, rest: &[Member<'_>], stream: &mut Stream) -> Option<()> {
        let texts: Vec<_> = whole.parts.iter().map(|&part| plain_text(part)).collect();
        let thoughts = |at: usize| texts[at].map(|(thought, _)| thought);
        // texts that are apart in the answer must not meet in the stream
        let apart = |at: usize| thoughts(at).is_none() || thoughts(at) != thoughts(at + 1);
        let cuts = (0..texts.len().saturating_sub(1)).all(apart);
        let mut list = Vec::new();
        if cuts {
            let mut waits = false;
            for (part, text) in whole.parts.iter().zip(&texts) {
                let mut one = |put: &dyn Fn(&mut Vec<u8>)| {
                    if std::mem::replace(&mut waits, true) {
                        self.chunk(whole, &list, None, stream)?;
                    }
                    list.clear();
                    put(&mut list);
                    Some(())
                };
                match text {
                    Some((thought, inner)) if !inner.is_empty() => {
                        for piece in pieces(inner) {
                            one(&|out| put_text(out, *thought, piece))?;
                        }
                    }
                    _ => one(&|out| out.extend_from_slice(part.0))?,
                }
            }
        } else {
            for part in &whole.parts {
                comma(&mut list);
                list.extend_from_slice(part.0);
            }
        }
        self.chunk(whole, &list, Some(rest), stream)
    }

    /// One chunk with these parts; the last of a candidate has its ending too.
    fn chunk(
        &self,
        whole: &Plain<'_>,
        parts: &[u8],
        rest: Option<&[Member<'_>]>,
        stream: &mut Stream,
    ) -> Option<()> {
        let out = &mut stream.out;
        out.extend_from_slice(b"data: {\"candidates\":[{");
        if let Some(content) = &whole.content {
            out.extend_from_slice(b"\"content\":{");
            if !whole.parts.is_empty() {
                out.extend_from_slice(b"\"parts\":[");
                out.extend_from_slice(parts);
                out.push(b']');
            }
            put_all(out, content);
            out.push(b'}');
        }
        if rest.is_some() {
            put_all(out, &whole.rest);
        }
        if let Some(index) = whole.index {
            put_member(out, b"index", index.0);
        }
        out.extend_from_slice(b"}]");
        put_all(out, rest.unwrap_or_default());
        put_all(out, &self.head);
        stream.end(b"}\r\n\r\n")
    }
}

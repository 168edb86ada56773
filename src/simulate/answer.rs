//! An answer, decided before its first byte: everything a dialect needs to write any part of it,
//! in any order and as often as it likes. A stream keeps this and a position, nothing more.
//!
//! The parts of a streamed answer: `Start`, then each block (`Open`, its `Piece`s, `Shut`),
//! then `Finish`. Reasoning is a block before the main one, which is text or a tool call.
use super::ask::ToolCall;
use super::script::Sse;
use super::text::{Put, mix, put_token};
use super::{anthropic, gemini, ollama, openai, responses};
use crate::wire::Dialect;

/// What the answer looks like: one per endpoint that generates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Face {
    Chat,
    Completion,
    Responses,
    Messages,
    /// `array`: a streamed answer is one JSON array instead of events.
    Gemini {
        array: bool,
    },
    OllamaChat,
    OllamaGenerate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Reasoning,
    Text,
    Tool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Start,
    Open(Kind),
    /// A token, or a few bytes of a tool's arguments; counted from 0 in its block.
    Piece(Kind, u32),
    Shut(Kind),
    Finish,
}

#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub face: Face,
    pub model: String,
    /// Decides id and text.
    pub id: u64,
    pub tokens: u32,
    pub reasoning: u32,
    pub token_bytes: u32,
    /// Bytes put in front of the first token.
    pub big: u32,
    /// Bytes put behind the last token of an answer that is not streamed.
    pub pad: u32,
    pub tool: Option<ToolCall>,
    pub input_tokens: u32,
    pub usage: bool,
    /// The answer ended because it reached the request's bound.
    pub cut: bool,
    pub sse: Sse,
}

/// Bytes of a tool's arguments in one piece.
const ARGUMENT_BYTES: usize = 8;

impl Face {
    pub fn dialect(self) -> Dialect {
        match self {
            Self::Chat | Self::Completion | Self::Responses => Dialect::OpenAi,
            Self::Messages => Dialect::Anthropic,
            Self::Gemini { .. } => Dialect::Gemini,
            Self::OllamaChat | Self::OllamaGenerate => Dialect::Ollama,
        }
    }

    pub fn stream_type(self) -> &'static str {
        match self {
            Self::OllamaChat | Self::OllamaGenerate => "application/x-ndjson",
            Self::Gemini { array: true } => "application/json",
            _ => "text/event-stream; charset=utf-8",
        }
    }

    /// Whether a tool's arguments arrive in pieces.
    fn splits_arguments(self) -> bool {
        matches!(self, Self::Chat | Self::Responses | Self::Messages)
    }
}

impl Answer {
    pub fn main(&self) -> Kind {
        if self.tool.is_some() { Kind::Tool } else { Kind::Text }
    }

    pub fn pieces(&self, kind: Kind) -> u32 {
        match kind {
            Kind::Reasoning => self.reasoning,
            Kind::Text => self.tokens,
            Kind::Tool if self.face.splits_arguments() => {
                let bytes = self.tool.as_ref().map_or(0, |tool| tool.arguments.len());
                bytes.div_ceil(ARGUMENT_BYTES) as u32
            }
            Kind::Tool => 1,
        }
    }

    /// Tokens as `usage` counts them.
    pub fn output_tokens(&self) -> u64 {
        let main = match &self.tool {
            Some(tool) => tool.tokens(),
            None => self.tokens,
        };
        u64::from(self.reasoning) + u64::from(main)
    }

    /// The parts in order; `None` after the last.
    pub fn part(&self, n: u32) -> Option<Part> {
        let Some(mut n) = n.checked_sub(1) else { return Some(Part::Start) };
        let block = |n: u32, kind: Kind, pieces: u32| match n {
            0 => Part::Open(kind),
            n if n <= pieces => Part::Piece(kind, n - 1),
            _ => Part::Shut(kind),
        };
        if self.reasoning > 0 {
            if n < self.reasoning + 2 {
                return Some(block(n, Kind::Reasoning, self.reasoning));
            }
            n -= self.reasoning + 2;
        }
        let (kind, pieces) = (self.main(), self.pieces(self.main()));
        match n {
            n if n < pieces + 2 => Some(block(n, kind, pieces)),
            n if n == pieces + 2 => Some(Part::Finish),
            _ => None,
        }
    }

    /// Appends piece `k` of a block as the inside of a JSON string.
    pub fn put_piece(&self, out: &mut Vec<u8>, kind: Kind, k: u32) {
        match kind {
            Kind::Reasoning => put_token(out, mix(self.id ^ 1), k, self.token_bytes),
            Kind::Text => {
                if k == 0 && self.big > 0 {
                    out.fill(self.big as usize);
                }
                put_token(out, self.id, k, self.token_bytes);
            }
            Kind::Tool => {
                let arguments = self.tool.as_ref().map_or("", |tool| &tool.arguments);
                let at = |k: u32| arguments.floor_char_boundary(k as usize * ARGUMENT_BYTES);
                out.escaped(&arguments[at(k)..at(k + 1)]);
            }
        }
    }

    /// Appends a whole block as the inside of a JSON string.
    pub fn put_block(&self, out: &mut Vec<u8>, kind: Kind) {
        for k in 0..self.pieces(kind) {
            self.put_piece(out, kind, k);
        }
        if kind == Kind::Text {
            out.fill(self.pad as usize);
        }
    }

    /// Appends one part of the streamed answer; nothing where the dialect has nothing to say.
    pub fn put_part(&self, out: &mut Vec<u8>, part: Part) {
        let from = out.len();
        match self.face {
            Face::Chat => openai::chat_part(self, part, out),
            Face::Completion => openai::completion_part(self, part, out),
            Face::Responses => responses::part(self, part, out),
            Face::Messages => anthropic::part(self, part, out),
            Face::Gemini { array } => gemini::part(self, part, array, out),
            Face::OllamaChat | Face::OllamaGenerate => ollama::part(self, part, out),
        }
        if self.sse != Sse::Plain && self.face.stream_type().starts_with("text/event-stream") {
            let plain = out.split_off(from);
            respell(&plain, self.sse, out);
        }
    }

    /// Appends the answer as one JSON body.
    pub fn put_whole(&self, out: &mut Vec<u8>) {
        match self.face {
            Face::Chat => openai::chat(self, out),
            Face::Completion => openai::completion(self, out),
            Face::Responses => responses::whole(self, out),
            Face::Messages => anthropic::message(self, out),
            Face::Gemini { .. } => gemini::whole(self, out),
            Face::OllamaChat | Face::OllamaGenerate => ollama::whole(self, out),
        }
    }

    /// Appends the event that tells of an error in the place of `part`.
    pub fn put_error(&self, out: &mut Vec<u8>, part: Part, status: u16) {
        match self.face {
            Face::Responses => return responses::error(self, part, out),
            Face::Messages => out.put("event: error\ndata: "),
            Face::OllamaChat | Face::OllamaGenerate | Face::Gemini { array: true } => out,
            Face::Chat | Face::Completion | Face::Gemini { array: false } => out.put("data: "),
        };
        super::faults::put_error(out, self.face.dialect(), status, None, self.id);
        out.put(if self.face.dialect() == Dialect::Ollama { "\n" } else { "\n\n" });
    }
}

/// Appends `events` in another of the spellings that the format allows.
fn respell(events: &[u8], sse: Sse, out: &mut Vec<u8>) {
    let text = String::from_utf8_lossy(events).replace("\r\n", "\n");
    let other = match sse {
        Sse::Plain => text,
        Sse::CrLf => text.replace('\n', "\r\n"),
        Sse::Cr => text.replace('\n', "\r"),
        Sse::Tight => text.replace("data: ", "data:").replace("event: ", "event:"),
        Sse::Comments if text.is_empty() => text,
        Sse::Comments => format!(": keep-alive\n\n{text}"),
    };
    out.put(&other);
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn answer(face: Face, tokens: u32, reasoning: u32) -> Answer {
        Answer {
            face,
            model: "m".into(),
            id: 5,
            tokens,
            reasoning,
            token_bytes: 0,
            big: 0,
            pad: 0,
            tool: None,
            input_tokens: 3,
            usage: true,
            cut: false,
            sse: Sse::Plain,
        }
    }

    #[test]
    fn parts_come_in_order_and_end() {
        use Kind::{Reasoning, Text};
        let parts = |a: &Answer| (0..).map_while(|n| a.part(n)).collect::<Vec<_>>();
        let open_shut = [Part::Start, Part::Open(Text), Part::Shut(Text), Part::Finish];
        assert_eq!(parts(&answer(Face::Chat, 0, 0)), open_shut);
        let both = [
            Part::Start,
            Part::Open(Reasoning),
            Part::Piece(Reasoning, 0),
            Part::Shut(Reasoning),
            Part::Open(Text),
            Part::Piece(Text, 0),
            Part::Piece(Text, 1),
            Part::Shut(Text),
            Part::Finish,
        ];
        assert_eq!(parts(&answer(Face::Chat, 2, 1)), both);
    }

    #[test]
    fn the_pieces_of_a_tool_call_join_to_its_arguments() {
        let mut a = answer(Face::Messages, 0, 0);
        let arguments = r#"{"città":"日本日本日本","n":1}"#.to_owned();
        a.tool = Some(ToolCall { name: "f".into(), arguments: arguments.clone() });
        let mut out = b"\"".to_vec();
        a.put_block(&mut out, Kind::Tool);
        out.put("\"");
        assert!(a.pieces(Kind::Tool) > 3);
        assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), arguments);
    }
}

//! The words that the model said, for comparing answers: without thoughts, calls and refusals.
use super::events::events;
use crate::wire::endpoint::Kind;
use crate::wire::json::Raw;
use crate::wire::meter::Form;

/// The words of an answer, its pieces joined; those of a further choice begin on a new line.
/// `None`: it cannot be read.
pub fn text(kind: Kind, form: Form, body: &[u8]) -> Option<String> {
    let mut said = Said::default();
    if form == Form::Json {
        let whole = Raw(body.trim_ascii());
        if kind == Kind::StreamGenerate && whole.0.starts_with(b"[") {
            for chunk in whole.elements()? {
                said.read(kind, chunk)?;
            }
        } else {
            said.read(kind, whole)?;
        }
    } else {
        let mut events = events(form, body).peekable();
        events.peek()?;
        for event in events {
            let data = event.data.trim_ascii();
            if !data.starts_with(b"[DONE]") {
                said.read(kind, Raw(data))?;
            }
        }
    }
    Some(said.0.join("\n"))
}

/// The words of each choice.
#[derive(Default)]
struct Said(Vec<String>);

/// More choices than any vendor gives.
const MOST: u64 = 256;

impl Said {
    fn say(&mut self, choice: Option<Raw<'_>>, text: Option<Raw<'_>>) -> Option<()> {
        let Some(text) = text.filter(|text| !text.is_null()) else { return Some(()) };
        let choice = choice.map_or(Some(0), Raw::number).filter(|&choice| choice < MOST)? as usize;
        if self.0.len() <= choice {
            self.0.resize(choice + 1, String::new());
        }
        self.0[choice].push_str(&text.text()?);
        Some(())
    }

    /// A whole answer, or one event of a stream.
    fn read(&mut self, kind: Kind, whole: Raw<'_>) -> Option<()> {
        whole.members()?;
        match kind {
            Kind::Chat | Kind::Completions => {
                for choice in whole.get(b"choices")?.elements()? {
                    let message = choice.get(b"message").or_else(|| choice.get(b"delta"));
                    let content = message.and_then(|message| message.get(b"content"));
                    self.say(choice.get(b"index"), content.or_else(|| choice.get(b"text")))?;
                }
            }
            Kind::Responses => self.response(whole)?,
            Kind::Messages => {
                for block in whole.get(b"content").and_then(Raw::elements).into_iter().flatten() {
                    self.say(None, block.get(b"text"))?;
                }
                let piece = whole.get(b"delta").or_else(|| whole.get(b"content_block"));
                self.say(None, piece.and_then(|piece| piece.get(b"text")))?;
            }
            Kind::Generate | Kind::StreamGenerate => {
                let candidates = whole.get(b"candidates").and_then(Raw::elements);
                for candidate in candidates.into_iter().flatten() {
                    let parts = candidate.get(b"content").and_then(|content| content.get(b"parts"));
                    for part in parts.and_then(Raw::elements).into_iter().flatten() {
                        if part.get(b"thought").and_then(Raw::bool) != Some(true) {
                            self.say(candidate.get(b"index"), part.get(b"text"))?;
                        }
                    }
                }
            }
            Kind::OllamaChat => {
                self.say(None, whole.get(b"message").and_then(|message| message.get(b"content")))?;
            }
            Kind::OllamaGenerate => self.say(None, whole.get(b"response"))?,
            _ => return None,
        }
        Some(())
    }

    /// A response, or one event of its stream: there the pieces count and not what repeats them.
    fn response(&mut self, whole: Raw<'_>) -> Option<()> {
        if whole.get(b"type") == Some(Raw(b"\"response.output_text.delta\"")) {
            return self.say(None, whole.get(b"delta"));
        }
        for item in whole.get(b"output").and_then(Raw::elements).into_iter().flatten() {
            if item.get(b"type") == Some(Raw(b"\"message\"")) {
                for part in item.get(b"content")?.elements()? {
                    self.say(None, part.get(b"text"))?;
                }
            }
        }
        Some(())
    }
}

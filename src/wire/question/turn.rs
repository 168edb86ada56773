//! The last turn of a conversation, where its words alone can be compared with others'.
//!
//! Only a user's plain text will do, in a conversation without tools: whatever else there is
//! stays in the rest of the question, and the rest must be the same byte for byte. So a mistake in
//! here may lose a likeness, and can only make one between questions that differ in these words.
use std::borrow::Cow;
use std::fmt;

use super::Question;
use super::fields::is;
use crate::wire::Dialect;
use crate::wire::endpoint::Kind;
use crate::wire::json::Raw;

/// A longer turn is not looked at; bytes of text.
pub const LONGEST: usize = 8 << 10;

/// The words of a user, last in a conversation.
#[derive(Clone, PartialEq, Eq)]
pub struct Turn<'a> {
    pub text: Cow<'a, str>,
    /// As it stands in the body, with its quotes.
    pub(super) raw: &'a [u8],
}

/// Shows none of the text.
impl fmt::Debug for Turn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("bytes", &self.text.len()).finish_non_exhaustive()
    }
}

/// Why a question's words are not compared with others'.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotAlike {
    /// This kind of call asks for no answer in words.
    Kind,
    /// Tools are offered, or were used.
    Tools,
    /// An image, sound or file is attached.
    Attachment,
    /// More than one answer is asked for.
    Answers,
    /// The last to speak is not the user.
    NotUser,
    /// Several parts, or a form that we do not know.
    Parts,
    TooLong,
    Empty,
    /// No Unicode.
    NotText,
}

pub(super) fn last_turn<'a>(question: &Question<'a>) -> Result<Turn<'a>, NotAlike> {
    let kind = question.kind;
    if matches!(kind, Kind::CountTokens | Kind::GeminiCount) {
        return Err(NotAlike::Kind);
    }
    if question.offers_tools {
        return Err(NotAlike::Tools);
    }
    if question.answers != 1 {
        return Err(NotAlike::Answers);
    }
    if question.images {
        return Err(NotAlike::Attachment);
    }
    let turns = question.turns.ok_or(NotAlike::Empty)?;
    if turns.0.starts_with(b"\"") {
        let plain = matches!(kind, Kind::Completions | Kind::Responses | Kind::OllamaGenerate);
        return if plain { words(turns) } else { Err(NotAlike::Parts) };
    }
    if matches!(kind, Kind::Completions | Kind::OllamaGenerate) {
        return Err(NotAlike::Parts);
    }
    let mut last = None;
    for message in list(kind, turns)? {
        let message = Message::read(kind, message)?;
        if message.tools {
            return Err(NotAlike::Tools);
        }
        last = Some(message);
    }
    last.ok_or(NotAlike::Empty)?.user(kind)
}

/// A list; for protobuf, one message is as good.
fn list(kind: Kind, value: Raw<'_>) -> Result<impl Iterator<Item = Raw<'_>>, NotAlike> {
    let single = (kind.dialect() == Dialect::Gemini && value.members().is_some()).then_some(value);
    let elements = value.elements();
    if single.is_none() && elements.is_none() {
        return Err(NotAlike::Parts);
    }
    Ok(single.into_iter().chain(elements.into_iter().flatten()))
}

/// A message, as far as we look.
#[derive(Default)]
struct Message<'a> {
    role: Option<Raw<'a>>,
    content: Option<Raw<'a>>,
    images: bool,
    /// A call of a tool, or a tool's answer.
    tools: bool,
    /// A member stands there twice: readers may differ.
    twice: bool,
}

impl<'a> Message<'a> {
    fn read(kind: Kind, message: Raw<'a>) -> Result<Self, NotAlike> {
        let dialect = kind.dialect();
        let content = if dialect == Dialect::Gemini { "parts" } else { "content" };
        let mut read = Self::default();
        let mut members = message.members().ok_or(NotAlike::Parts)?;
        while let Some((key, value)) = members.next().map_err(|_| NotAlike::Parts)? {
            let name = key.plain().ok_or(NotAlike::Parts)?;
            if is(dialect, "role", &name) {
                read.twice |= read.role.replace(value).is_some();
            } else if is(dialect, content, &name) {
                read.twice |= read.content.replace(value).is_some();
            } else if is(dialect, "images", &name) {
                read.images |= !value.is_empty();
            } else if is(dialect, "type", &name) {
                // items of a response; other messages have no type
                let words = [&b"\"message\""[..], b"\"reasoning\"", b"\"compaction\""];
                read.tools |= !words.contains(&value.0);
            } else if is_tool(&name) {
                read.tools |= !value.is_empty();
            }
        }
        let tool = |role: Raw<'_>| matches!(role.0, b"\"tool\"" | b"\"function\"");
        read.tools |= read.role.is_some_and(tool);
        if let Some(parts) = read.content.filter(|content| !content.0.starts_with(b"\"")) {
            for part in list(kind, parts).into_iter().flatten() {
                read.tools |= part_of_tool(dialect, part);
            }
        }
        Ok(read)
    }

    /// The words of this message, if it is a user's and has nothing else.
    fn user(&self, kind: Kind) -> Result<Turn<'a>, NotAlike> {
        let gemini = kind.dialect() == Dialect::Gemini;
        let user = self.role.map_or(gemini, |role| role.0 == b"\"user\"");
        if !user {
            return Err(NotAlike::NotUser);
        }
        if self.images {
            return Err(NotAlike::Attachment);
        }
        if self.twice {
            return Err(NotAlike::Parts);
        }
        let content = self.content.filter(|content| !content.is_null()).ok_or(NotAlike::Empty)?;
        if content.0.starts_with(b"\"") {
            return if gemini { Err(NotAlike::Parts) } else { words(content) };
        }
        let (mut texts, mut only) = (0, Err(NotAlike::Empty));
        for part in list(kind, content)? {
            only = Ok(if gemini { text_member(part)? } else { text_part(kind, part)? });
            texts += 1;
        }
        if texts > 1 { Err(NotAlike::Parts) } else { words(only?) }
    }
}

fn is_tool(name: &[u8]) -> bool {
    let begins = |word: &[u8]| name.get(..word.len()).is_some_and(|n| n.eq_ignore_ascii_case(word));
    begins(b"tool") || begins(b"function")
}

/// Whether a part of a message is a call of a tool, or its answer.
fn part_of_tool(dialect: Dialect, part: Raw<'_>) -> bool {
    /// What else a part may be made of; any other member is taken for a tool's.
    const GEMINI: [&str; 8] = [
        "text",
        "thought",
        "thoughtSignature",
        "inlineData",
        "fileData",
        "videoMetadata",
        "mediaResolution",
        "partMetadata",
    ];
    let Some(mut members) = part.members() else { return false };
    while let Ok(Some((key, value))) = members.next() {
        let Some(name) = key.plain() else { return true };
        let tool = match dialect {
            Dialect::Gemini => !GEMINI.iter().any(|known| is(dialect, known, &name)),
            // tool_use, tool_result, server_tool_use, web_search_tool_result, …
            _ => *name == *b"type" && memchr::memmem::find(value.0, b"tool").is_some(),
        };
        if tool {
            return true;
        }
    }
    false
}

/// The text of a part that says its type.
fn text_part(kind: Kind, part: Raw<'_>) -> Result<Raw<'_>, NotAlike> {
    let word: &[u8] = if kind == Kind::Responses { b"\"input_text\"" } else { b"\"text\"" };
    let (mut text, mut r#type) = (None, None);
    let mut members = part.members().ok_or(NotAlike::Parts)?;
    while let Some((key, value)) = members.next().map_err(|_| NotAlike::Parts)? {
        let twice = match &*key.plain().ok_or(NotAlike::Parts)? {
            b"text" => text.replace(value).is_some(),
            b"type" => r#type.replace(value).is_some(),
            _ => false,
        };
        if twice {
            return Err(NotAlike::Parts);
        }
    }
    match r#type {
        Some(r#type) if r#type.0 == word => text.ok_or(NotAlike::Parts),
        Some(_) => Err(NotAlike::Attachment),
        None => Err(NotAlike::Parts),
    }
}

/// The text of a part that has nothing else.
fn text_member(part: Raw<'_>) -> Result<Raw<'_>, NotAlike> {
    let mut text = None;
    let mut members = part.members().ok_or(NotAlike::Parts)?;
    while let Some((key, value)) = members.next().map_err(|_| NotAlike::Parts)? {
        let name = key.plain().ok_or(NotAlike::Parts)?;
        let data = |field| is(Dialect::Gemini, field, &name);
        if data("inlineData") || data("fileData") {
            return Err(NotAlike::Attachment);
        }
        if *name != *b"text" || text.replace(value).is_some() {
            return Err(NotAlike::Parts);
        }
    }
    text.ok_or(NotAlike::Parts)
}

fn words(raw: Raw<'_>) -> Result<Turn<'_>, NotAlike> {
    // six bytes are the longest way to write one
    if raw.0.len() > 6 * LONGEST + 2 {
        return Err(NotAlike::TooLong);
    }
    let text = raw.text().ok_or(NotAlike::NotText)?;
    if text.len() > LONGEST {
        return Err(NotAlike::TooLong);
    }
    if text.trim().is_empty() {
        return Err(NotAlike::Empty);
    }
    Ok(Turn { text, raw: raw.0 })
}

#[cfg(test)]
mod tests;

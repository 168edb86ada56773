//! The last tool call of a conversation, as a hash: an agent that repeats itself repeats it.
//!
//! A request carries the whole conversation, so the call that the model made last stands near its
//! end: only the last [`NEAR`] messages are looked into, the others are skipped unread and counted.
//! If the model has said something else since, there is no such call. Name and arguments are
//! hashed as they were written: a client that sends a call again writes it the same way. Of several
//! calls at once, the last one counts.
use super::endpoint::Kind;
use super::json::{Elements, Raw};

/// How many messages from the end are looked into; a tool's results stand behind its call.
const NEAR: usize = 16;
/// How many messages tell a conversation from another: the system's word, and the user's first.
const BEGINNING: usize = 2;
/// How many bytes of each. What clients add to a message later (marks for a cache) stands at its end.
const ENOUGH: usize = 1024;

/// A model's call of a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ToolCall {
    /// Of the tool's name and the arguments; stable between processes and releases.
    pub hash: u64,
    /// Messages of the conversation: grows with each turn.
    pub turn: u64,
}

/// Where a conversation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conversation {
    /// Of how it begins, so the same as long as it grows.
    pub id: u64,
    /// What its model did last, if that was to call a tool.
    pub tool: Option<ToolCall>,
}

/// What a message says of tools.
enum Said<'a> {
    /// Nothing: the user's word, a tool's result, a thought.
    Nothing,
    /// The model's, without a call.
    Words,
    Call {
        name: Raw<'a>,
        arguments: Raw<'a>,
    },
}

/// The conversation in `messages`, which is [`super::View::messages`] of a call of this kind.
/// `None`: this kind has no tools, or there is no list.
pub fn conversation(kind: Kind, messages: &[u8]) -> Option<Conversation> {
    if !has_tools(kind) {
        return None;
    }
    let mut hasher = blake3::Hasher::new();
    for message in Raw(messages).elements()?.take(BEGINNING) {
        hasher.update(&message.0[..message.0.len().min(ENOUGH)]);
    }
    Some(Conversation { id: first_bytes(&hasher), tool: last_tool_call(kind, messages) })
}

fn has_tools(kind: Kind) -> bool {
    use Kind::{Chat, Generate, Messages, OllamaChat, Responses, StreamGenerate};
    matches!(kind, Chat | Responses | Messages | Generate | StreamGenerate | OllamaChat)
}

/// The last tool call in `messages`, which is [`super::View::messages`] of a call of this kind.
/// `None`: there is none near the end, or this kind has no tools.
pub fn last_tool_call(kind: Kind, messages: &[u8]) -> Option<ToolCall> {
    let look = match kind {
        Kind::Chat | Kind::OllamaChat => chat,
        Kind::Responses => item,
        Kind::Messages => anthropic,
        Kind::Generate | Kind::StreamGenerate => gemini,
        _ => return None,
    };
    let mut near = [None; NEAR];
    let mut turn = 0;
    for message in Raw(messages).elements()? {
        near[turn % NEAR] = Some(message);
        turn += 1;
    }
    for back in 1..=turn.min(NEAR) {
        match look(near[(turn - back) % NEAR]?) {
            Said::Nothing => {}
            Said::Words => return None,
            Said::Call { name, arguments } => {
                return Some(ToolCall { hash: hash(name, arguments), turn: turn as u64 });
            }
        }
    }
    None
}

fn hash(name: Raw<'_>, arguments: Raw<'_>) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(name.0.len() as u64).to_le_bytes());
    hasher.update(name.0);
    hasher.update(arguments.0);
    first_bytes(&hasher)
}

fn first_bytes(hasher: &blake3::Hasher) -> u64 {
    let mut first = [0; 8];
    hasher.finalize_xof().fill(&mut first);
    u64::from_le_bytes(first)
}

/// The call that has these members.
fn call<'a>(of: Raw<'a>, arguments: &[u8]) -> Option<Said<'a>> {
    let (mut name, mut given) = (None, Raw(b"null"));
    let mut members = of.members()?;
    while let Ok(Some((key, value))) = members.next() {
        if key.0 == b"name" {
            name = Some(value);
        } else if key.0 == arguments {
            given = value;
        }
    }
    Some(Said::Call { name: name?, arguments: given })
}

fn is(value: Option<Raw<'_>>, word: &[u8]) -> bool {
    matches!(value, Some(Raw([b'"', text @ .., b'"'])) if *text == *word)
}

/// The last element that `find` takes.
fn last<'a>(
    list: Option<Elements<'a>>,
    find: impl Fn(Raw<'a>) -> Option<Said<'a>>,
) -> Option<Said<'a>> {
    list?.filter_map(find).last()
}

/// OpenAI chat and Ollama.
fn chat(message: Raw<'_>) -> Said<'_> {
    if !is(message.get(b"role"), b"assistant") {
        return Said::Nothing;
    }
    let calls = message.get(b"tool_calls").and_then(Raw::elements);
    last(calls, |one| {
        // custom tools have a free text for input
        one.get(b"function")
            .and_then(|function| call(function, b"arguments"))
            .or_else(|| one.get(b"custom").and_then(|custom| call(custom, b"input")))
    })
    .or_else(|| call(message.get(b"function_call")?, b"arguments"))
    .unwrap_or(Said::Words)
}

/// OpenAI responses: a list of items, of which messages are one type.
fn item(item: Raw<'_>) -> Said<'_> {
    let r#type = item.get(b"type");
    if is(r#type, b"function_call") {
        call(item, b"arguments").unwrap_or(Said::Nothing)
    } else if is(r#type, b"custom_tool_call") {
        call(item, b"input").unwrap_or(Said::Nothing)
    } else if is(item.get(b"role"), b"assistant") {
        Said::Words
    } else {
        Said::Nothing
    }
}

fn anthropic(message: Raw<'_>) -> Said<'_> {
    if !is(message.get(b"role"), b"assistant") {
        return Said::Nothing;
    }
    let blocks = message.get(b"content").and_then(Raw::elements);
    last(
        blocks,
        |block| {
            if is(block.get(b"type"), b"tool_use") { call(block, b"input") } else { None }
        },
    )
    .unwrap_or(Said::Words)
}

fn gemini(content: Raw<'_>) -> Said<'_> {
    if !is(content.get(b"role"), b"model") {
        return Said::Nothing;
    }
    let parts = content.get(b"parts").and_then(Raw::elements);
    last(parts, |part| {
        let made = part.get(b"functionCall").or_else(|| part.get(b"function_call"))?;
        call(made, b"args")
    })
    .unwrap_or(Said::Words)
}

#[cfg(test)]
mod tests;

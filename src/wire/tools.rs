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

/// A model's call of a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ToolCall {
    /// Of the tool's name and the arguments; stable between processes and releases.
    pub hash: u64,
    /// Messages of the conversation: grows with each turn.
    pub turn: u64,
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
mod tests {
    use super::*;

    const CHAT: &str = r#"{"role":"user","content":"{\"role\":\"assistant\"}"},
        {"role":"assistant","content":null,"tool_calls":[
            {"id":"a","type":"function","function":{"name":"wind","arguments":"{}"}},
            {"id":"b","type":"function","function":{"arguments":"{\"port\":\"Brest\"}","name":"tide"}}]},
        {"role":"tool","tool_call_id":"a","content":"3"},{"role":"tool","tool_call_id":"b","content":"4"}"#;
    const ITEMS: &str = r#"{"role":"user","content":"hi"},
        {"type":"function_call","call_id":"a","name":"tide","arguments":"{\"port\":\"Brest\"}"},
        {"type":"reasoning","summary":[]},{"type":"function_call_output","call_id":"a","output":"4"}"#;
    const ANTHROPIC: &str = r#"{"role":"user","content":"hi"},
        {"role":"assistant","content":[{"type":"text","text":"so"},
            {"type":"tool_use","id":"a","name":"tide","input":{"port":"Brest"}}]},
        {"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":"4"}]}"#;
    const GEMINI: &str = r#"{"role":"user","parts":[{"text":"hi"}]},
        {"role":"model","parts":[{"functionCall":{"name":"tide","args":{"port":"Brest"}}}]},
        {"role":"user","parts":[{"functionResponse":{"name":"tide","response":{}}}]}"#;
    const OLLAMA: &str = r#"{"role":"assistant","content":"","tool_calls":[
            {"function":{"name":"tide","arguments":{"port":"Brest"}}}]},
        {"role":"tool","content":"4"}"#;

    const ALL: [(Kind, &str, u64); 5] = [
        (Kind::Chat, CHAT, 4),
        (Kind::Responses, ITEMS, 4),
        (Kind::Messages, ANTHROPIC, 3),
        (Kind::Generate, GEMINI, 3),
        (Kind::OllamaChat, OLLAMA, 2),
    ];

    fn found(kind: Kind, messages: &str) -> Option<ToolCall> {
        last_tool_call(kind, format!("[{messages}]").as_bytes())
    }

    #[test]
    fn the_last_call_of_every_dialect() {
        for (kind, messages, turn) in ALL {
            let call = found(kind, messages).unwrap_or_else(|| panic!("{kind:?}"));
            assert_eq!(call.turn, turn, "{kind:?}");
            let elsewhere = found(kind, &messages.replace("Brest", "Hull")).unwrap();
            assert_ne!(call.hash, elsewhere.hash, "{kind:?}: other arguments");
            let other = found(kind, &messages.replace("\"tide\"", "\"tides\"")).unwrap();
            assert_ne!(call.hash, other.hash, "{kind:?}: another tool");
            // the same again, one turn later: what an agent in a loop sends
            let again = found(kind, &format!("{messages},{messages}")).unwrap();
            assert_eq!((again.hash, again.turn), (call.hash, 2 * turn), "{kind:?}");
            // what else is said makes no difference
            let reworded = messages.replace("\"4\"", "\"5\"").replace("\"hi\"", "\"ho\"");
            assert_eq!(found(kind, &reworded).unwrap().hash, call.hash, "{kind:?}");
        }
    }

    #[test]
    fn the_last_of_several_calls_counts() {
        let other_first = CHAT.replace("\"wind\"", "\"rain\"");
        assert_eq!(found(Kind::Chat, &other_first), found(Kind::Chat, CHAT));
        let other_last = CHAT.replace("\"tide\"", "\"rain\"");
        assert_ne!(found(Kind::Chat, &other_last), found(Kind::Chat, CHAT));
    }

    #[test]
    fn older_and_newer_forms() {
        let legacy = r#"{"role":"assistant","function_call":{"name":"tide","arguments":"{}"}}"#;
        let custom =
            r#"{"role":"assistant","tool_calls":[{"custom":{"name":"tide","input":"x"}}]}"#;
        assert!(found(Kind::Chat, legacy).is_some() && found(Kind::Chat, custom).is_some());
        let custom = r#"{"type":"custom_tool_call","name":"tide","input":"x"}"#;
        assert!(found(Kind::Responses, custom).is_some());
        let none = r#"{"role":"model","parts":[{"functionCall":{"name":"tide"}}]}"#;
        assert!(found(Kind::Generate, none).is_some(), "a call may lack arguments");
    }

    #[test]
    fn words_of_the_model_end_it() {
        let words = [
            r#"{"role":"assistant","content":"done"}"#,
            r#"{"type":"message","role":"assistant","content":[]}"#,
            r#"{"role":"assistant","content":"done"}"#,
            r#"{"role":"model","parts":[{"text":"done"}]}"#,
            r#"{"role":"assistant","content":"done"}"#,
        ];
        for ((kind, messages, _), words) in ALL.into_iter().zip(words) {
            let messages = format!(r#"{messages},{words},{{"role":"user","content":"and now?"}}"#);
            assert_eq!(found(kind, &messages), None, "{kind:?}");
        }
    }

    #[test]
    fn only_the_end_is_looked_into() {
        let result = r#"{"role":"tool","content":"x"}"#;
        let behind = |count: usize| format!("{CHAT},{}", vec![result; count].join(","));
        assert!(found(Kind::Chat, &behind(NEAR - 3)).is_some());
        assert_eq!(found(Kind::Chat, &behind(NEAR - 2)), None);
    }

    #[test]
    fn what_is_no_conversation_has_no_call() {
        for messages in
            ["\"hi\"", "[]", "[", "[1,null,\"x\",[]]", "{}", "", "[{\"role\":\"assistant\"}]"]
        {
            for (kind, ..) in ALL {
                assert_eq!(last_tool_call(kind, messages.as_bytes()), None, "{messages}");
            }
        }
        assert_eq!(found(Kind::Completions, CHAT), None);
        assert_eq!(found(Kind::Other, CHAT), None);
    }

    /// The hash is kept by others, so it must not change.
    #[test]
    fn the_hash_is_stable() {
        let one = r#"{"type":"function_call","name":"tide","arguments":"{}"}"#;
        assert_eq!(found(Kind::Responses, one).unwrap().hash, 12_321_316_901_524_466_465);
    }
}

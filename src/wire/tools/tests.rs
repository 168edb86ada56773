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
    let custom = r#"{"role":"assistant","tool_calls":[{"custom":{"name":"tide","input":"x"}}]}"#;
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
fn a_conversation_is_known_by_how_it_begins() {
    for (kind, messages, _) in ALL {
        let of = |messages: &str| conversation(kind, format!("[{messages}]").as_bytes()).unwrap();
        let one = of(messages);
        assert_eq!(one.tool, found(kind, messages));
        let grown = of(&format!("{messages},{messages}"));
        assert_eq!(grown.id, one.id, "{kind:?}");
        // the other begins with another word
        let other = of(&messages.replacen("user", "User", 1).replacen("assistant", "Assistant", 1));
        assert_ne!(other.id, one.id, "{kind:?}");
    }
    // a mark that clients move on, at the end of a long message
    let long = format!("{{\"role\":\"user\",\"content\":\"{}\"", "x".repeat(ENOUGH));
    let of = |end: &str| conversation(Kind::Messages, format!("[{long}{end}]").as_bytes());
    assert_eq!(of("}"), of(",\"cache_control\":{}}"));
    assert_eq!(conversation(Kind::Embeddings, b"[]"), None);
    assert_eq!(conversation(Kind::Responses, b"\"hi\""), None);
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

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::wire::view;

fn of(kind: Kind, body: &Value) -> Option<u64> {
    read(kind, &body.to_string())
}

fn read(kind: Kind, body: &str) -> Option<u64> {
    prefix(kind, &view(kind, body.as_bytes()).unwrap())
}

/// A body of these words of the system, this tool, and these turns.
type Body = dyn Fn(&str, &str, &[&str]) -> Value;

/// A conversation after one turn and after two, and three others: other words of the system, other
/// tools, another first turn.
fn conversations() -> Vec<(Kind, [Value; 2], [Value; 3])> {
    let chat = |system: &str, tool: &str, turns: &[&str]| {
        let mut messages = vec![json!({"role": "system", "content": system})];
        messages.extend(turns.iter().map(|turn| json!({"role": "user", "content": turn})));
        json!({"model": "m", "messages": messages, "tools": [{"function": {"name": tool}}]})
    };
    let messages = |system: &str, tool: &str, turns: &[&str]| {
        let turns: Vec<_> =
            turns.iter().map(|turn| json!({"role": "user", "content": turn})).collect();
        json!({"system": system, "messages": turns, "tools": [{"name": tool}], "max_tokens": 5})
    };
    let responses = |system: &str, tool: &str, turns: &[&str]| {
        let turns: Vec<_> =
            turns.iter().map(|turn| json!({"role": "user", "content": turn})).collect();
        json!({"instructions": system, "input": turns, "tools": [{"name": tool}], "stream": true})
    };
    let gemini = |system: &str, tool: &str, turns: &[&str]| {
        let turns: Vec<_> = turns.iter().map(|turn| json!({"parts": [{"text": turn}]})).collect();
        json!({"systemInstruction": {"parts": [{"text": system}]}, "contents": turns,
            "tools": [{"functionDeclarations": [{"name": tool}]}]})
    };
    let all: [(Kind, &Body); 5] = [
        (Kind::Chat, &chat),
        (Kind::OllamaChat, &chat),
        (Kind::Messages, &messages),
        (Kind::Responses, &responses),
        (Kind::StreamGenerate, &gemini),
    ];
    all.into_iter()
        .map(|(kind, body)| {
            let same = [body("s", "t", &["a"]), body("s", "t", &["a", "b", "c"])];
            let others =
                [body("S", "t", &["a"]), body("s", "T", &["a"]), body("s", "t", &["b", "a"])];
            (kind, same, others)
        })
        .collect()
}

#[test]
fn a_conversation_keeps_its_number_and_no_other_has_it() {
    for (kind, [first, later], others) in conversations() {
        let number = of(kind, &first);
        assert!(number.is_some(), "{kind:?}");
        assert_eq!(of(kind, &later), number, "{kind:?}");
        for other in others {
            assert_ne!(of(kind, &other), number, "{kind:?} {other}");
        }
        // how it is written says nothing
        assert_eq!(read(kind, &format!("{later:#}")), number, "{kind:?}");
    }
}

#[test]
fn cache_marks_may_move() {
    let plain = json!({"system": "s", "messages": [{"role": "user", "content": "a"}]});
    let mark = json!({"type": "ephemeral"});
    let marked = json!({
        "system": [{"type": "text", "text": "s", "cache_control": mark}],
        "messages": [{"role": "user", "content": [{"cache_control": mark, "type": "text", "text": "a"}]}],
    });
    assert_eq!(of(Kind::Messages, &plain), of(Kind::Messages, &marked));
    let tools = |tool: Value| json!({"tools": [tool], "messages": []});
    assert_eq!(
        of(Kind::Messages, &tools(json!({"name": "t", "cache_control": mark}))),
        of(Kind::Messages, &tools(json!({"name": "t"}))),
    );
    // an image is said, not only its text
    let image = |data: &str| {
        json!({"messages": [{"role": "user", "content": [
            {"type": "text", "text": "a"}, {"type": "image", "source": {"data": data}}]}]})
    };
    assert_ne!(of(Kind::Messages, &image("x")), of(Kind::Messages, &image("y")));
    assert_ne!(
        of(Kind::Messages, &image("x")),
        of(Kind::Messages, &json!({"messages": plain["messages"]}))
    );
}

#[test]
fn a_plain_prompt_counts_by_its_first_4_kib() {
    for (kind, name) in [
        (Kind::Completions, "prompt"),
        (Kind::OllamaGenerate, "prompt"),
        (Kind::Responses, "input"),
    ] {
        let long = "word ".repeat(1000);
        let number = of(kind, &json!({ name: long }));
        assert_eq!(of(kind, &json!({ name: format!("{long} and more") })), number, "{kind:?}");
        assert_ne!(of(kind, &json!({ name: format!("a {long}") })), number, "{kind:?}");
        assert_ne!(of(kind, &json!({ name: "a" })), of(kind, &json!({ name: "b" })), "{kind:?}");
    }
    let tokens = |from: u32| json!({"prompt": (from..3000).collect::<Vec<_>>()});
    assert_ne!(of(Kind::Completions, &tokens(0)), of(Kind::Completions, &tokens(1)));
}

#[test]
fn a_long_system_prompt_does_not_hide_the_first_turn() {
    let system = "x".repeat(2 * PART);
    let chat = |turn: &str| json!({"messages": [{"role": "developer", "content": system}, {"role": "user", "content": turn}]});
    assert_ne!(of(Kind::Chat, &chat("a")), of(Kind::Chat, &chat("b")));
}

#[test]
fn nothing_has_no_number() {
    for (kind, body) in [
        (Kind::Chat, json!({"model": "m"})),
        (Kind::Chat, json!({"messages": [], "tools": []})),
        (Kind::Messages, json!({"messages": [], "system": ""})),
        (Kind::Embeddings, json!({"input": "a"})),
        (Kind::CountTokens, json!({"messages": [{"role": "user", "content": "a"}]})),
        (Kind::Other, json!({"messages": [1]})),
    ] {
        assert_eq!(of(kind, &body), None, "{kind:?} {body}");
    }
}

#[test]
fn the_number_is_the_same_in_every_process() {
    let body = json!({"messages": [{"role": "user", "content": "The tide at Brest?"}]});
    assert_eq!(of(Kind::Chat, &body), Some(12_657_814_622_226_243_084));
}

#[test]
fn depth_costs_nothing() {
    let deep = format!(r#"{{"tools":{}{}}}"#, "[{\"a\":".repeat(100_000), "1}]".repeat(100_000));
    assert!(read(Kind::Chat, &deep).is_some());
}

proptest! {
    /// Where one part ends and the next begins is part of what is said.
    #[test]
    fn parts_do_not_run_into_each_other(text in "[a-z]{2,12}", cut in 1_usize..11) {
        let (left, right) = text.split_at(cut.min(text.len() - 1));
        let two = json!({"system": left, "messages": [{"role": "user", "content": right}]});
        let one = json!({"system": text, "messages": [{"role": "user", "content": ""}]});
        let apart = json!({"messages": [{"role": "user", "content": [{"type": "text", "text": left}, {"type": "text", "text": right}]}]});
        let joined = json!({"messages": [{"role": "user", "content": text}]});
        prop_assert_ne!(of(Kind::Messages, &two), of(Kind::Messages, &one));
        prop_assert_ne!(of(Kind::Messages, &apart), of(Kind::Messages, &joined));
    }
}

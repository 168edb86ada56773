use super::*;

mod fields;
mod random;
mod speed;

/// What was said, in one piece.
fn bytes(kind: Kind, body: &[u8]) -> Result<Vec<u8>, Unasked> {
    let mut out = Vec::new();
    question(kind, body)?.say(&mut |piece| out.extend_from_slice(piece));
    Ok(out)
}

fn asked(kind: Kind, body: &str) -> Question<'_> {
    question(kind, body.as_bytes()).unwrap_or_else(|why| panic!("{why:?}: {body}"))
}

fn said(kind: Kind, body: &str) -> Vec<u8> {
    bytes(kind, body.as_bytes()).unwrap_or_else(|why| panic!("{why:?}: {body}"))
}

fn unasked(kind: Kind, body: &str) -> Unasked {
    question(kind, body.as_bytes()).expect_err(body)
}

#[test]
fn what_is_said_is_this() {
    let body = "\u{feff} { \"stream\" : true, \"temperature\" : 0.50,\r\n\t\"x\\u0079\" : [ 1 , \"a b\" ],\
                \"messages\":[ ], \"model\":\"m\" } ";
    let expected = b"\x05\0\0\0model\"m\"\n\x08\0\0\0messages[]\n\x0b\0\0\0temperature0.50\n\
                     \x02\0\0\0xy[1,\"a b\"]\n\xff\xff\xff\xff";
    assert_eq!(said(Kind::Chat, body), expected);
}

#[test]
fn facts_are_read_where_each_dialect_has_them() {
    let chat = r#"{"model":"m","temperature":0.25,"n":3,"tools":[{"type":"function"}]}"#;
    let question = asked(Kind::Chat, chat);
    let told = (question.temperature, question.answers, question.offers_tools);
    assert_eq!(told, (Some(0.25), 3, true));

    let none = asked(Kind::Chat, r#"{"temperature":null,"n":null,"tools":[],"model":null}"#);
    assert_eq!((none.temperature, none.answers, none.offers_tools), (None, 1, false));
    for odd in ["\"0.1\"", "NaN", "1e999", "[]", "true"] {
        let question = format!(r#"{{"temperature":{odd},"n":{odd}}}"#);
        let question = asked(Kind::Chat, &question);
        assert_eq!(
            (question.temperature, question.answers),
            (Some(f64::INFINITY), u64::MAX),
            "{odd}"
        );
    }

    let gemini = r#"{"contents":[],"generation_config":{"temperature":1,"candidate_count":2}}"#;
    let question = asked(Kind::StreamGenerate, gemini);
    assert_eq!((question.temperature, question.answers), (Some(1.0), 2));

    // two readers could take either: the warmer one counts
    let ollama = r#"{"prompt":"p","options":{"temperature":0.9,"TEMPERATURE":0}}"#;
    let question = asked(Kind::OllamaGenerate, ollama);
    assert_eq!(question.temperature, Some(0.9));
}

#[test]
fn what_hangs_on_the_vendor_or_the_world_is_no_question() {
    for (kind, body, expected) in [
        (
            Kind::Responses,
            r#"{"previous_response_id":"r"}"#,
            Unasked::Stateful("previous_response_id"),
        ),
        (Kind::Responses, r#"{"conversation":{"id":"c"}}"#, Unasked::Stateful("conversation")),
        (Kind::Responses, r#"{"background":true}"#, Unasked::Stateful("background")),
        (
            Kind::Responses,
            r#"{"input":[{"type": "item_reference","id":"i"}]}"#,
            Unasked::Stateful("item_reference"),
        ),
        (
            Kind::Responses,
            r#"{"tools":[{"type":"function"},{"type":"mcp"}]}"#,
            Unasked::Hosted("mcp"),
        ),
        (
            Kind::Responses,
            r#"{"tools":[{"type":"web_search_preview_2025_03_11"}]}"#,
            Unasked::Hosted("web_search"),
        ),
        (Kind::Responses, r#"{"tools":[{"type":"new"}]}"#, Unasked::Hosted("tool")),
        (Kind::Chat, r#"{"web_search_options":{}}"#, Unasked::Hosted("web_search_options")),
        (Kind::Messages, r#"{"container":"c"}"#, Unasked::Stateful("container")),
        (Kind::Messages, r#"{"mcp_servers":[{}]}"#, Unasked::Hosted("mcp_servers")),
        (
            Kind::Messages,
            r#"{"tools":[{"name":"w","type":"web_search_20250305"}]}"#,
            Unasked::Hosted("web_search"),
        ),
        (
            Kind::Messages,
            r#"{"messages":[{"content":[{"type":"tool_addition"}]}]}"#,
            Unasked::Hosted("tool_addition"),
        ),
        (Kind::Generate, r#"{"tools":[{"google_search":{}}]}"#, Unasked::Hosted("google_search")),
        (Kind::Generate, r#"{"tools":{"urlContext":{}}}"#, Unasked::Hosted("urlContext")),
        (
            Kind::Generate,
            r#"{"tools":[{"functionDeclarations":[]},{"functionDeclarations":[],"fileSearch":{}}]}"#,
            Unasked::Hosted("fileSearch"),
        ),
        (Kind::OllamaChat, r#"{"model":"m","keep_alive":0}"#, Unasked::Stateful("load")),
        (Kind::OllamaGenerate, r#"{"model":"m","prompt":""}"#, Unasked::Stateful("load")),
        (Kind::Embeddings, r#"{"input":"x"}"#, Unasked::Kind),
        (Kind::Other, "", Unasked::Kind),
    ] {
        assert_eq!(unasked(kind, body), expected, "{body}");
    }
    for (kind, body) in [
        (Kind::Responses, r#"{"tools":[{"type":"custom"},{"type":"local_shell"},{"name":"f"}]}"#),
        (Kind::Responses, r#"{"input":"say \"item_reference\""}"#),
        (
            Kind::Messages,
            r#"{"tools":[{"name":"f"},{"type":null},{"type":"bash_20250124"},{"type":"custom"}]}"#,
        ),
        (Kind::Generate, r#"{"tools":[{"function_declarations":[],"google_search":null}]}"#),
        (Kind::Generate, r#"{"tools":[]}"#),
    ] {
        asked(kind, body);
    }
}

#[test]
fn a_member_twice_is_no_question() {
    for (kind, body) in [
        (Kind::Chat, r#"{"model":"a","model":"a"}"#),
        (Kind::Chat, r#"{"stream":true,"stre\u0061m":false}"#),
        (Kind::Chat, r#"{"x":1,"y":2,"\u0078":1}"#),
        (Kind::Generate, r#"{"generationConfig":{},"generation_config":{}}"#),
        (Kind::Generate, r#"{"newThing":1,"between":2,"new_thing":1}"#),
        (Kind::OllamaChat, r#"{"messages":[1],"Messages":[2]}"#),
        (Kind::OllamaChat, r#"{"messages":[1],"new":1,"next":1,"NEW":1}"#),
    ] {
        assert_eq!(unasked(kind, body), Unasked::Duplicate, "{body}");
    }
    asked(Kind::Chat, r#"{"model":"a","MODEL":"b","newThing":1,"new_thing":2}"#);
}

#[test]
fn what_is_no_json_object_is_no_question() {
    for body in [
        "",
        "[]",
        "\"x\"",
        "{",
        r#"{"a":}"#,
        r#"{"a":1}}"#,
        r#"{"a":[}"#,
        r#"{"a" 1}"#,
        r#"{"\ud800":1}"#,
    ] {
        assert_eq!(unasked(Kind::Chat, body), Unasked::NotJson, "{body}");
    }
    let crowd: Vec<_> = (0..=MOST).map(|n| format!("\"f{n}\":1")).collect();
    assert_eq!(unasked(Kind::Chat, &format!("{{{}}}", crowd.join(","))), Unasked::Crowded);
    asked(Kind::Chat, &format!("{{{}}}", crowd[1..].join(",")));
}

/// Pairs that say the same if lengths, marks or space are handled carelessly.
#[test]
fn neighbours_do_not_run_into_each_other() {
    for (a, b) in [
        (r#"{"a":1,"b":23}"#, r#"{"a":12,"b":3}"#),
        (r#"{"a":"x","b":"y"}"#, r#"{"a":"x\"b\"y"}"#),
        (r#"{"ab":"c"}"#, r#"{"a":"bc"}"#),
        (r#"{"a":[1,2]}"#, r#"{"a":[12]}"#),
        (r#"{"a":[1 2]}"#, r#"{"a":[12]}"#),
        (r#"{"a":[[1],2]}"#, r#"{"a":[1,[2]]}"#),
        (r#"{"a":1,"":2}"#, r#"{"a":1}"#),
        (r#"{"a":"b c"}"#, r#"{"a":"bc"}"#),
        (r#"{"a":["b ", "c"]}"#, r#"{"a":["b", " c"]}"#),
        (r#"{"a":"1"}"#, r#"{"a":1}"#),
        (r#"{"a":1.0}"#, r#"{"a":1}"#),
        (r#"{"a":null}"#, "{}"),
        (r#"{"stream_options":{"a":1}}"#, r#"{"stream_options":{"a":2}}"#),
        (r#"{"stream_options":{"a":1}}"#, r#"{"stream_options":{}}"#),
        (r#"{"stream_options":{"a":1,"include_usage":true}}"#, r#"{"stream_options":{"a":[1]}}"#),
    ] {
        assert_ne!(said(Kind::Chat, a), said(Kind::Chat, b), "{a} and {b}");
    }
    for (a, b) in [
        (r#"{"stream_options":{"include_usage":true,"a":1}}"#, r#"{"stream_options":{"a" : 1}}"#),
        (r#"{"stream_options":{"include_usage":true}}"#, r#"{"stream_options":null}"#),
        (r#"{"stream_options":{}}"#, "{}"),
        (r#"{"a":"\"b\" , "}"#, r#"{ "a" : "\"b\" , " }"#),
    ] {
        assert_eq!(said(Kind::Chat, a), said(Kind::Chat, b), "{a} and {b}");
    }
}

/// A hash gets long pieces, whatever the client's habits.
#[test]
fn pieces_are_few_and_long() {
    let texts =
        [100, 16_383, 16_384, 16_385, 7, 40_000, 9].map(|len| format!("\"{}\"", "x".repeat(len)));
    let compact = format!(r#"{{"model":"m","messages":[{}],"z":1}}"#, texts.join(","));
    let spaced = format!(r#"{{ "model": "m", "messages": [ {} ], "z": 1 }}"#, texts.join(" , "));
    let mut expected = b"\x05\0\0\0model\"m\"\n\x08\0\0\0messages[".to_vec();
    expected.extend_from_slice(texts.join(",").as_bytes());
    expected.extend_from_slice(b"]\n\x01\0\0\0z1\n\xff\xff\xff\xff");
    for body in [compact, spaced] {
        assert_eq!(said(Kind::Chat, &body), expected);
        let mut pieces = Vec::new();
        asked(Kind::Chat, &body).say(&mut |piece| pieces.push(piece.len()));
        assert!(pieces.len() <= 9, "{pieces:?}");
        assert!(pieces.iter().any(|&len| len >= 40_000), "{pieces:?}");
    }
}

/// As the vendors' SDKs write them: openai 3.54, anthropic 2.12, and Google's and Ollama's own.
#[test]
fn bodies_of_the_sdks() {
    let paris = "What is the capital of France?";
    for (kind, body, turn) in [
        (
            Kind::Chat,
            r#"{"model":"gpt-5-mini","stream":true,"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"What is the capital of France?"}],"max_completion_tokens":100,"stream_options":{"include_usage":true},"temperature":0.2,"user":"u-1"}"#,
            Ok(paris),
        ),
        (
            Kind::Chat,
            r#"{"model":"gpt-5-mini","messages":[{"role":"user","content":"What is the capital of France?"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{}}}}]}"#,
            Err(NotAlike::Tools),
        ),
        (
            Kind::Completions,
            r#"{"model":"gpt-3.5-turbo-instruct","prompt":"Once upon a time","max_tokens":20}"#,
            Ok("Once upon a time"),
        ),
        (
            Kind::Responses,
            r#"{"model":"gpt-5","input":"What is the capital of France?","instructions":"Be brief.","store":false}"#,
            Ok(paris),
        ),
        (
            Kind::Responses,
            r#"{"model":"gpt-5","input":[{"role":"user","content":[{"type":"input_text","text":"hi there"}]}]}"#,
            Ok("hi there"),
        ),
        (
            Kind::Messages,
            r#"{"max_tokens":100,"messages":[{"role":"user","content":"What is the capital of France?"}],"model":"claude-sonnet-4-5","metadata":{"user_id":"u"},"system":[{"type":"text","text":"Be brief.","cache_control":{"type":"ephemeral"}}]}"#,
            Ok(paris),
        ),
        (
            Kind::CountTokens,
            r#"{"messages":[{"role":"user","content":"What is the capital of France?"}],"model":"claude-sonnet-4-5"}"#,
            Err(NotAlike::Kind),
        ),
        (
            Kind::StreamGenerate,
            r#"{"contents": [{"parts": [{"text": "What is the capital of France?"}], "role": "user"}], "systemInstruction": {"parts": [{"text": "Be brief."}], "role": "user"}, "generationConfig": {"temperature": 0.2}}"#,
            Ok(paris),
        ),
        (
            Kind::OllamaChat,
            r#"{"model":"llama3.2","stream":false,"options":{},"messages":[{"role":"user","content":"What is the capital of France?"}],"tools":[]}"#,
            Ok(paris),
        ),
        (
            Kind::OllamaGenerate,
            r#"{"model":"llama3.2","prompt":"What is the capital of France?","suffix":"","system":"","template":"","context":[1,2],"stream":true,"raw":false,"options":{"num_ctx":4096}}"#,
            Ok(paris),
        ),
    ] {
        let question = asked(kind, body);
        let found = question.last_turn();
        assert_eq!(
            found.as_ref().map(|turn| &*turn.text),
            turn.as_ref().map(|text| *text),
            "{body}"
        );
    }
}

#[test]
fn headers_that_change_answers() {
    for name in [
        "anthropic-beta",
        "anthropic-version",
        "openai-organization",
        "openai-project",
        "openai-beta",
        "x-goog-user-project",
        "chatgpt-account-id",
        "anthropic-something-new",
        "x-portkey-config",
    ] {
        assert!(header_changes_answer(name), "{name}");
    }
    for name in [
        "authorization",
        "x-api-key",
        "x-goog-api-key",
        "x-goog-api-client",
        "accept",
        "accept-language",
        "user-agent",
        "traceparent",
        "x-request-id",
        "x-stainless-retry-count",
        "x-claude-code-session-id",
        "anthropic-dangerous-direct-browser-access",
    ] {
        assert!(!header_changes_answer(name), "{name}");
    }
    for dialect in [Dialect::OpenAi, Dialect::Anthropic, Dialect::Gemini] {
        assert!(!changing_headers(dialect).is_empty());
        assert!(changing_headers(dialect).iter().all(|name| header_changes_answer(name)));
    }
}

#[test]
fn nothing_of_the_body_is_shown() {
    let body = r#"{"model":"m","messages":[{"role":"user","content":"hush"}],"hush":"hush"}"#;
    let question = asked(Kind::Chat, body);
    let turn = question.last_turn().unwrap();
    assert!(!format!("{question:?} {turn:?}").contains("hush"));
}

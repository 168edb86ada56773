use proptest::prelude::*;

use super::*;

fn seen(kind: Kind, body: &str) -> View<'_> {
    view(kind, body.as_bytes()).unwrap_or_else(|fault| panic!("{fault}: {body}"))
}

fn fault(kind: Kind, body: &[u8]) -> ViewFault {
    view(kind, body).expect_err("the body was taken")
}

fn text(slice: Option<&[u8]>) -> &str {
    std::str::from_utf8(slice.unwrap_or_default()).unwrap()
}

#[test]
fn openai_fields() {
    let body = r#"{"model":"gpt-5","messages":[{"role":"user","content":"\"model\":1"}],"stream":true,
        "stream_options":{"include_usage":true},"max_tokens":10,"max_completion_tokens":20,"n":3,
        "tools":[{"type":"function"}],"unknown":{"model":"x"}}"#;
    let view = seen(Kind::Chat, body);
    assert_eq!(view.model.as_deref(), Some("gpt-5"));
    assert!(matches!(view.model, Some(Cow::Borrowed(_))));
    assert_eq!((view.stream, view.include_usage), (Some(true), Some(true)));
    assert_eq!((view.max_tokens, view.n), (Some(20), Some(3)));
    assert_eq!(text(view.messages), r#"[{"role":"user","content":"\"model\":1"}]"#);
    assert_eq!(text(view.tools), r#"[{"type":"function"}]"#);

    let body = r#"{"input":"hi","instructions":"be brief","max_output_tokens":7,"model":"m","prompt":{"id":"p"}}"#;
    let view = seen(Kind::Responses, body);
    assert_eq!((text(view.messages), text(view.system)), ("\"hi\"", "\"be brief\""));
    assert_eq!((view.max_tokens, view.stream), (Some(7), None));
    assert_eq!(text(seen(Kind::Embeddings, r#"{"input":["a","b"]}"#).messages), r#"["a","b"]"#);
    assert_eq!(text(seen(Kind::Completions, r#"{"prompt":[1,2]}"#).messages), "[1,2]");
}

#[test]
fn fields_of_the_other_dialects() {
    let body =
        r#"{"model":"claude","system":[{"text":"s"}],"messages":[],"max_tokens":5,"stream":false}"#;
    let view = seen(Kind::Messages, body);
    assert_eq!((text(view.system), text(view.messages)), (r#"[{"text":"s"}]"#, "[]"));
    assert_eq!((view.max_tokens, view.stream), (Some(5), Some(false)));

    for body in [
        r#"{"contents":[1],"systemInstruction":{},"generationConfig":{"maxOutputTokens":9,"candidateCount":2}}"#,
        r#"{"contents":[1],"system_instruction":{},"generation_config":{"max_output_tokens":9,"candidate_count":2}}"#,
    ] {
        let view = seen(Kind::Generate, body);
        assert_eq!((view.max_tokens, view.n), (Some(9), Some(2)));
        assert_eq!((text(view.messages), text(view.system)), ("[1]", "{}"));
    }
    assert_eq!(
        text(seen(Kind::GeminiEmbed, r#"{"content":{"parts":[]}}"#).messages),
        r#"{"parts":[]}"#
    );

    let view =
        seen(Kind::OllamaChat, r#"{"Model":"llama","messages":[],"options":{"num_predict":3}}"#);
    assert_eq!(
        (view.model.as_deref(), view.max_tokens, view.stream),
        (Some("llama"), Some(3), None)
    );
    assert_eq!(text(seen(Kind::OllamaGenerate, r#"{"prompt":"p"}"#).messages), "\"p\"");
    assert_eq!(seen(Kind::Other, "not JSON at all"), View::default());
}

#[test]
fn absurd_bounds_are_no_bounds() {
    for bound in ["-1", "1e999", "\"5\"", "null", "1.5", "{}", "NaN", "123456789012345678901234"] {
        let body = format!(r#"{{"model":"m","max_tokens":{bound},"n":{bound}}}"#);
        let view = seen(Kind::Chat, &body);
        assert_eq!((view.max_tokens, view.n), (None, None), "{bound}");
    }
    assert_eq!(seen(Kind::Chat, r#"{"max_tokens":0}"#).max_tokens, Some(0));
    assert_eq!(seen(Kind::Chat, r#"{"max_tokens":1e12}"#).max_tokens, Some(1_000_000_000_000));
    for unbounded in [-2, -1, 0] {
        let options = format!(r#"{{"options":{{"num_predict":{unbounded}}}}}"#);
        assert_eq!(seen(Kind::OllamaChat, &options).max_tokens, None);
    }
}

#[test]
fn escapes_are_understood_where_they_matter() {
    let view = seen(Kind::Chat, r#"{"m\u006fdel":"a\/b\u00e9","x":"\ud800","\ud800":1}"#);
    assert_eq!(view.model.as_deref(), Some("a/bé"));
    assert_eq!(
        fault(Kind::Chat, br#"{"model":"a","m\u006fdel":"b"}"#),
        ViewFault::Duplicate { field: "model" }
    );
    let long = format!(r#"{{"{}":1,"model":"m"}}"#, "\\u0041".repeat(50_000));
    assert_eq!(seen(Kind::Chat, &long).model.as_deref(), Some("m"));
}

#[test]
fn what_is_not_read_may_be_anything() {
    let body = b"\xef\xbb\xbf \r\n\t{\"x\":\"\xff\xfe\",\"messages\":\"\\ud800 \\u0000\",\"model\":\"m\"} \n";
    assert_eq!(view(Kind::Chat, body).unwrap().model.as_deref(), Some("m"));
    let body = r#"{"x":1,"x":2,"y":{"model":1,"model":2},"model":"m"}"#;
    assert_eq!(seen(Kind::Chat, body).model.as_deref(), Some("m"));
    let silent = seen(Kind::Chat, r#"{"model":null,"stream":null}"#);
    assert_eq!((silent.model, silent.stream), (None, None));
}

#[test]
fn a_field_twice_is_a_fault() {
    for (kind, body, field) in [
        (Kind::Chat, r#"{"model":"a","model":"a"}"#, "model"),
        (Kind::Chat, r#"{"model":null,"model":"a"}"#, "model"),
        (Kind::Messages, r#"{"stream":true,"messages":[],"stream":false}"#, "stream"),
        (Kind::Generate, r#"{"generationConfig":{},"generation_config":{}}"#, "generationConfig"),
        (Kind::OllamaChat, r#"{"model":"a","MODEL":"b"}"#, "model"),
        (Kind::OllamaChat, r#"{"options":{"num_predict":1,"num_pr\u0065dict":9}}"#, "num_predict"),
        (
            Kind::Generate,
            r#"{"generationConfig":{"maxOutputTokens":1,"max_output_tokens":9}}"#,
            "maxOutputTokens",
        ),
        (
            Kind::Chat,
            r#"{"stream_options":{"include_usage":true,"include_usage":false}}"#,
            "stream_options.include_usage",
        ),
    ] {
        assert_eq!(fault(kind, body.as_bytes()), ViewFault::Duplicate { field }, "{body}");
    }
    assert!(view(Kind::Chat, br#"{"model":"a","MODEL":"b"}"#).is_ok());
}

#[test]
fn a_wrong_type_is_a_fault() {
    for (body, field) in [
        (&br#"{"model":5}"#[..], "model"),
        (b"{\"model\":\"\xff\"}", "model"),
        (br#"{"model":"\ud800"}"#, "model"),
        (br#"{"stream":"true"}"#, "stream"),
        (br#"{"stream_options":{"include_usage":1}}"#, "stream_options.include_usage"),
    ] {
        assert!(
            matches!(fault(Kind::Chat, body), ViewFault::WrongType { field: f, .. } if f == field)
        );
    }
}

#[test]
fn what_is_no_object_or_no_json() {
    for body in ["[]", "\"x\"", " 5", "null", "true"] {
        assert_eq!(fault(Kind::Chat, body.as_bytes()), ViewFault::NotAnObject, "{body}");
    }
    for (body, at) in [
        ("", 0),
        ("  ", 2),
        ("model=gpt", 0),
        ("{", 1),
        (r#"{"model":"m""#, 12),
        (r#"{"model":"m"} {"#, 13),
        (r#"{"messages":[{"content":"cut"#, 28),
        ("{'model':1}", 1),
        ("\u{feff}", 3),
    ] {
        // "m" begins no JSON value, so the first byte is where it breaks.
        assert_eq!(fault(Kind::Chat, body.as_bytes()), ViewFault::NotJson { at }, "{body}");
    }
}

#[test]
fn thinking_is_told_from_its_refusal() {
    for (kind, member, want) in [
        (Kind::Chat, r#""reasoning_effort":"high""#, true),
        (Kind::Chat, r#""reasoning_effort":"minimal""#, false),
        (Kind::Chat, r#""reasoning_effort":"none""#, false),
        (Kind::Chat, r#""reasoning_effort":null"#, false),
        (Kind::Chat, r#""reasoning":{"enabled":false}"#, false),
        (Kind::Chat, r#""reasoning":{"max_tokens":2000}"#, true),
        (Kind::Chat, r#""thinking":{"type":"disabled"}"#, false),
        (Kind::Responses, r#""reasoning":{"effort":"medium","summary":null}"#, true),
        (Kind::Responses, r#""reasoning":{"effort":"none","summary":"auto"}"#, false),
        (Kind::Responses, r#""reasoning":{"effort":null,"summary":null}"#, false),
        (Kind::Responses, r#""reasoning":{}"#, false),
        (Kind::Messages, r#""thinking":{"type":"enabled","budget_tokens":2048}"#, true),
        (Kind::Messages, r#""thinking":{"type":"adaptive"}"#, true),
        (Kind::Messages, r#""thinking":{"type":"disabled"}"#, false),
        (Kind::Generate, r#""generationConfig":{"thinkingConfig":{"thinkingBudget":0}}"#, false),
        (Kind::Generate, r#""generationConfig":{"thinkingConfig":{"thinkingBudget":-1}}"#, true),
        (
            Kind::Generate,
            r#""generation_config":{"thinking_config":{"thinking_level":"HIGH"}}"#,
            true,
        ),
        (Kind::Generate, r#""generationConfig":{}"#, false),
        (Kind::OllamaChat, r#""think":true"#, true),
        (Kind::OllamaChat, r#""think":"low""#, true),
        (Kind::OllamaChat, r#""think":false"#, false),
        (Kind::Completions, r#""reasoning_effort":"high""#, false),
    ] {
        let body = format!("{{{member}}}");
        assert_eq!(seen(kind, &body).reasoning, want, "{member}");
    }
    let body = r#"{"thinking":{"type":"enabled","budget_tokens":2048}}"#;
    assert_eq!(seen(Kind::Messages, body).thinking_tokens, Some(2048));
}

#[test]
fn who_and_which_session_by_the_body() {
    let body =
        r#"{"prompt_cache_key":"run-7","user":"ann","safety_identifier":"a\u002fb","model":"m"}"#;
    let view = seen(Kind::Responses, body);
    assert_eq!(view.prompt_cache_key, Some(Cow::Borrowed("run-7")));
    assert!(matches!(view.user, Some(Cow::Borrowed("ann"))));
    assert_eq!(view.safety_identifier.as_deref(), Some("a/b"));
    let body = r#"{"metadata":{"other":1,"user_id":"user_1_session_2"},"user":"not read here"}"#;
    assert_eq!(seen(Kind::Messages, body).user.as_deref(), Some("user_1_session_2"));
    let odd = r#"{"user":5,"prompt_cache_key":null,"safety_identifier":{}}"#;
    let view = seen(Kind::Chat, odd);
    assert_eq!((view.user, view.prompt_cache_key, view.safety_identifier), (None, None, None));
}

/// The bytes of a prompt, and how many attachments are in it.
fn prompt(kind: Kind, body: &str) -> (u64, u32) {
    let view = seen(kind, body);
    (view.prompt_bytes, view.media)
}

#[test]
fn a_prompt_is_counted_as_it_was_written() {
    let body = r#"{"model":"m","system":"abcd","messages":[1,2],"tools":[ ],"max_tokens":1}"#;
    assert_eq!(prompt(Kind::Messages, body), (6 + 5 + 3, 0));
    assert_eq!(prompt(Kind::Messages, r#"{"system":null,"max_tokens":1}"#), (4, 0));
    assert_eq!(prompt(Kind::Embeddings, r#"{"input":["ab","cd"],"model":"m"}"#), (11, 0));
    let long = format!(r#"{{"prompt":"{}"}}"#, "word ".repeat(10_000));
    assert_eq!(prompt(Kind::Completions, &long), (50_002, 0));
}

#[test]
fn attachments_do_not_count_in_full() {
    let data = "iVBORw0KGgoAAAANSUhEUg+/".repeat(10_000);
    let around = |body: &str| body.len() as u64 - data.len() as u64;
    for (kind, name, value) in [
        (
            Kind::Chat,
            "messages",
            format!(r#"[{{"image_url":{{"url":"data:image/png;base64,{data}"}}}}]"#),
        ),
        (
            Kind::Chat,
            "messages",
            format!(r#"[{{"input_audio":{{"data":"{data}","format":"wav"}}}}]"#),
        ),
        (
            Kind::Responses,
            "input",
            format!(r#"[{{"image_url" : "data:image\/png;base64,{data}"}}]"#),
        ),
        (
            Kind::Messages,
            "messages",
            format!(r#"[{{"source":{{"type":"base64","data" : "{data}"}}}}]"#),
        ),
        (Kind::Generate, "contents", format!(r#"[{{"inlineData":{{"data":"{data}"}}}}]"#)),
        (Kind::OllamaChat, "messages", format!(r#"[{{"images":["{data}"]}}]"#)),
    ] {
        let body = format!(r#"{{"{name}":{value},"model":"m"}}"#);
        let (bytes, media) = prompt(kind, &body);
        let most = around(&value) + media::MEDIA;
        assert!((most - 30..=most).contains(&bytes), "{kind:?}: {bytes} of {most}");
        assert_eq!(media, 1, "{kind:?}");
    }
    let two = format!(r#"{{"images":["{data}", "{data}"],"prompt":"p"}}"#);
    assert_eq!(prompt(Kind::OllamaGenerate, &two), (2 * media::MEDIA + 8 + 3, 2));
    // a small one is what it is
    let icon = &data[..3000];
    let value = format!(r#"[{{"data":"{icon}"}}]"#);
    let body = format!(r#"{{"contents":{value}}}"#);
    assert_eq!(prompt(Kind::Generate, &body), (value.len() as u64, 1));
}

#[test]
fn text_in_the_place_of_an_attachment_counts_in_full() {
    let prose = "not base64 at all, ".repeat(1000);
    let solid = "deadbeef".repeat(1000);
    for (kind, value) in [
        (Kind::Chat, format!(r#"[{{"data":"{prose}"}}]"#)),
        (Kind::Chat, format!(r#"[{{"url":"data:text/plain,{solid}"}}]"#)),
        (Kind::Chat, format!(r#"[{{"content":"{solid}"}}]"#)),
        (Kind::Chat, format!(r#"["{solid}"]"#)),
        (Kind::Chat, format!(r#"[{{"data":"{}{prose}{}"}}]"#, &solid[..500], &solid[..500])),
    ] {
        let body = format!(r#"{{"messages":{value}}}"#);
        assert_eq!(prompt(kind, &body), (value.len() as u64, 0), "{}", &value[..40]);
    }
}

#[test]
fn debug_shows_no_content() {
    let body = r#"{"model":"m","messages":"my-secret","system":"my-secret","tools":"my-secret",
        "metadata":{"user_id":"my-secret"}}"#;
    assert!(!format!("{:?}", seen(Kind::Messages, body)).contains("secret"));
}

#[test]
fn depth_and_size_are_no_problem() {
    let deep =
        format!(r#"{{"x":{}{},"model":"m"}}"#, "[{\"a\":".repeat(100_000), "1}]".repeat(100_000));
    assert_eq!(seen(Kind::Chat, &deep).model.as_deref(), Some("m"));
    let open = format!(r#"{{"model":"m","x":{}"#, "[".repeat(100_000));
    assert!(matches!(fault(Kind::Chat, open.as_bytes()), ViewFault::NotJson { .. }));
    let large = format!(r#"{{"messages":"{}","model":"m"}}"#, "plain words \\n".repeat(4 << 20));
    assert_eq!(seen(Kind::Chat, &large).model.as_deref(), Some("m"));
}

proptest! {
    /// Whatever a strict parser takes, we take, and we read the same from it.
    #[test]
    fn agrees_with_a_strict_parser(
        model in "\\PC{0,12}", other in "\\PC{0,20}", max in any::<u32>(), stream in any::<bool>(),
        pretty in any::<bool>(),
    ) {
        let value = serde_json::json!({
            "a": [other, {"model": other, "b": []}], "model": model, "max_tokens": max,
            "messages": [{"content": other}], "stream": stream, "z": {other.clone(): null},
        });
        let body =
            if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        let body = body.unwrap();
        let view = view(Kind::Chat, body.as_bytes()).unwrap();
        prop_assert_eq!(view.model.as_deref(), Some(model.as_str()));
        prop_assert_eq!((view.max_tokens, view.stream), (Some(u64::from(max)), Some(stream)));
        let messages: serde_json::Value = serde_json::from_slice(view.messages.unwrap()).unwrap();
        prop_assert_eq!(&messages, &value["messages"]);
    }

    /// No bytes make it panic or run away.
    #[test]
    fn takes_or_refuses_anything(bytes in proptest::collection::vec(
        prop_oneof![Just(b'{'), Just(b'}'), Just(b'['), Just(b'"'), Just(b'\\'), Just(b':'), Just(b','), any::<u8>()],
        0..60,
    )) {
        let mut body = b"{\"model\":".to_vec();
        body.extend(bytes);
        let _ = view(Kind::Chat, &body);
    }
}

//! What is kept, and what is not.
use std::time::Duration;

use super::{
    ANTHROPIC, Backend, CHAT, Face, GEMINI, OLLAMA, OPENAI_CHAT, OPENAI_RESPONSES, Script, ask, by,
    is_hit, quiet, status,
};
use crate::support::app::{AGENT_KEY, App};

const DONE: &str = "data: [DONE]\n\n";

/// Asks twice; whether the second time was a hit.
async fn keeps(backend: &Backend, cache: &str, call: &[u8]) -> bool {
    let app = backend.behind(cache);
    let first = ask(&app, call).await;
    assert!(!is_hit(&first), "{}", first.head.text);
    let second = ask(&app, call).await;
    assert_eq!(second.body, first.body);
    quiet(&app).await;
    let calls = backend.origin.take().len();
    assert_eq!(calls == 1, is_hit(&second), "{calls} calls: {}", second.head.text);
    calls == 1
}

async fn backend(script: Script) -> Backend {
    Backend::start(script, Duration::ZERO).await
}

async fn kept(face: &Face, stream: bool, script: Script, cache: &str) -> bool {
    keeps(&backend(script).await, cache, &face.call("keep?", stream)).await
}

fn chat(finish: &str, content: &str) -> Script {
    let message = format!(r#"{{"role":"assistant","content":{content}}}"#);
    Script::json(
        "200 OK",
        &format!(
            r#"{{"id":"c","object":"chat.completion","model":"m","choices":[{{"index":0,"message":{message},"finish_reason":"{finish}"}}],"usage":{{"prompt_tokens":1,"completion_tokens":1}}}}"#
        ),
    )
}

fn chat_stream(finish: &str, delta: &str) -> Script {
    Script::events([
        format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{delta}}}]}}\n\n"),
        format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"{finish}\"}}]}}\n\n"
        ),
        DONE.to_owned(),
    ])
}

#[tokio::test]
async fn an_answer_that_came_to_its_end_is_kept() {
    let cache = "{ ttl: 1h }";
    assert!(kept(&OPENAI_CHAT, false, chat("stop", "\"yes\""), cache).await);
    assert!(kept(&OPENAI_CHAT, true, chat_stream("stop", r#"{"content":"yes"}"#), cache).await);
    // cut by the caller's own bound, which is part of the question
    assert!(kept(&OPENAI_CHAT, false, chat("length", "\"yes\""), cache).await);
    for face in super::FACES {
        for stream in [true, false] {
            let script = Script::recorded(&face, stream, "tokens=9").await;
            assert!(kept(&face, stream, script, cache).await, "{face:?} {stream}");
        }
    }
}

#[tokio::test]
async fn what_says_nothing_or_was_held_back_is_not_kept() {
    let cache = "{ ttl: 1h }";
    for script in [
        chat("stop", "\"\""),
        chat("stop", "null"),
        chat("content_filter", "\"I\""),
        Script::json("200 OK", r#"{"object":"chat.completion","choices":[]}"#),
        Script::json("200 OK", "{}"),
        Script::json("200 OK", ""),
        Script::json("200 OK", "{\"choices\":[{\"message\":"),
    ] {
        let said = String::from_utf8(script.body()).unwrap();
        assert!(!kept(&OPENAI_CHAT, false, script, cache).await, "{said}");
    }
    for script in [
        chat_stream("stop", "{}"),
        chat_stream("content_filter", r#"{"content":"I"}"#),
        Script::events([DONE]),
        Script::events([""; 0]),
    ] {
        let said = String::from_utf8(script.body()).unwrap();
        assert!(!kept(&OPENAI_CHAT, true, script, cache).await, "{said}");
    }
    let filtered =
        r#"{"candidates":[{"content":{"parts":[{"text":"I"}]},"finishReason":"SAFETY"}]}"#;
    assert!(!kept(&GEMINI, false, Script::json("200 OK", filtered), cache).await);
    let blocked = r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#;
    assert!(!kept(&GEMINI, false, Script::json("200 OK", blocked), cache).await);
}

#[tokio::test]
async fn no_other_status_than_200_is_kept() {
    for other in ["201 Created", "202 Accepted", "206 Partial Content", "404 Not Found"] {
        let mut script = chat("stop", "\"yes\"");
        script.status = other;
        assert!(!kept(&OPENAI_CHAT, false, script, "{ ttl: 1h }").await, "{other}");
    }
}

#[tokio::test]
async fn too_large_an_answer_passes_and_is_not_kept() {
    let words = format!("\"{}\"", "x".repeat(200 << 10));
    assert!(
        !kept(&OPENAI_CHAT, false, chat("stop", &words), "{ ttl: 1h, max_entry: 100KiB }").await
    );
    assert!(
        kept(&OPENAI_CHAT, false, chat("stop", &words), "{ ttl: 1h, max_entry: 300KiB }").await
    );
    let delta = format!(r#"{{"content":{words}}}"#);
    let stream = || chat_stream("stop", &delta);
    assert!(!kept(&OPENAI_CHAT, true, stream(), "{ ttl: 1h, max_entry: 100KiB }").await);
    assert!(kept(&OPENAI_CHAT, true, stream(), "{ ttl: 1h, max_entry: 300KiB }").await);
}

#[tokio::test]
async fn what_is_compressed_or_no_json_is_not_kept() {
    for line in ["content-encoding: gzip\r\n", "content-encoding: br\r\n"] {
        let mut script = chat("stop", "\"yes\"");
        script.lines += line;
        assert!(!kept(&OPENAI_CHAT, false, script, "{ ttl: 1h }").await);
    }
    let mut script = chat("stop", "\"yes\"");
    script.lines = "content-type: text/html\r\n".into();
    assert!(!kept(&OPENAI_CHAT, false, script, "{ ttl: 1h }").await);
}

#[tokio::test]
async fn tool_calls_are_kept_by_choice() {
    const SCHEMA: &str = r#"{"type":"object","properties":{"a":{"type":"string"}}}"#;
    let openai =
        format!(r#"{{"type":"function","function":{{"name":"f","parameters":{SCHEMA}}}}}"#);
    let tools = [
        (OPENAI_CHAT, openai.clone()),
        (OPENAI_RESPONSES, format!(r#"{{"type":"function","name":"f","parameters":{SCHEMA}}}"#)),
        (ANTHROPIC, format!(r#"{{"name":"f","input_schema":{SCHEMA}}}"#)),
        (GEMINI, format!(r#"{{"functionDeclarations":[{{"name":"f","parameters":{SCHEMA}}}]}}"#)),
        (OLLAMA, openai),
    ];
    for (face, tool) in tools {
        let body = face.body.replacen('{', &format!(r#"{{"tools":[{tool}],"#), 1);
        let face = Face { body: body.leak(), ..face };
        for stream in [true, false] {
            let script = Script::recorded(&face, stream, "tool=1").await;
            let said = String::from_utf8(script.body()).unwrap();
            assert!(said.contains("\"f\""), "a call of the tool: {said}");
            let with = kept(&face, stream, script.clone(), "{ ttl: 1h }").await;
            let without = kept(&face, stream, script, "{ ttl: 1h, tool_calls: false }").await;
            assert_eq!((with, without), (true, false), "{face:?} {stream}: {said}");
            let words = Script::recorded(&face, stream, "tool=0; tokens=5").await;
            assert!(kept(&face, stream, words, "{ ttl: 1h, tool_calls: false }").await);
        }
    }
}

#[tokio::test]
async fn warm_calls_are_looked_up_by_choice() {
    let backend = backend(chat("stop", "\"yes\"")).await;
    let body =
        |temperature: &str| OPENAI_CHAT.json("how warm?", false).replacen('{', temperature, 1);
    for (temperature, keeps) in [
        (r#"{"temperature":0.3,"#, true),
        (r#"{"temperature":0,"#, true),
        (r#"{"temperature":0.31,"#, false),
        (r#"{"temperature":"0","#, false),
        // the vendor's own, which is high
        ("{", false),
        (r#"{"temperature":null,"#, false),
    ] {
        let app = backend.behind("{ ttl: 1h, temperature: '<=0.3' }");
        let call = by(AGENT_KEY, CHAT, "", &body(temperature));
        let first = ask(&app, &call).await;
        let second = ask(&app, &call).await;
        assert_eq!(is_hit(&second), keeps, "{temperature}");
        let told =
            if keeps { "tidegate; fwd=miss" } else { "tidegate; fwd=bypass; detail=temperature" };
        assert_eq!(status(&first), told);
    }
}

#[tokio::test]
async fn only_questions_are_looked_up() {
    let backend = backend(chat("stop", "\"yes\"")).await;
    let app = backend.behind("{ ttl: 1h }");
    let get = crate::support::client::get("/v1/models", "");
    let delete = crate::support::client::request("DELETE", "/v1/files/a", "", "");
    let upload = by(AGENT_KEY, "/v1/files", "", "{\"any\":\"bytes\"}");
    let unknown = by(AGENT_KEY, "/v1/whatever", "", "{\"model\":\"m\"}");
    for call in [&get, &delete, &upload, &unknown] {
        backend.origin.take();
        for _ in 0..2 {
            let answer = ask(&app, call).await;
            assert_eq!((answer.status, status(&answer)), (200, ""), "{}", answer.head.text);
        }
        assert_eq!(backend.calls(), 2);
    }
    for (body, detail) in [
        ("{\"model\":\"m\",\"messages\":[", "not-json"),
        ("[1]", "not-json"),
        (r#"{"model":"m","messages":[],"web_search_options":{}}"#, "hosted-tool"),
        (r#"{"model":"m","messages":[],"temperature":0,"temperature":1}"#, "duplicate-field"),
    ] {
        let call = by(AGENT_KEY, CHAT, "", body);
        backend.origin.take();
        for _ in 0..2 {
            let answer = ask(&app, &call).await;
            let told = format!("tidegate; fwd=bypass; detail={detail}");
            if answer.status == 200 {
                assert_eq!(status(&answer), told);
                continue;
            }
            assert_eq!(answer.status, 400, "{}", answer.text());
        }
    }
    quiet(&app).await;
}

#[tokio::test]
async fn an_answer_that_was_bounded_by_a_budget_is_not_kept_as_if_it_were_whole() {
    // the backend stops at the bound
    let backend = backend(chat("length", "\"and then\"")).await;
    let policies =
        "  - { name: once, per: all, limits: { spend: $0.5/day hard }, cache: { ttl: 1h } }\n";
    let app = App::start(&super::policy(&backend.origin.url(), "", policies));
    let call = OPENAI_CHAT.call("to the end?", false);
    let first = ask(&app, &call).await;
    assert_eq!(first.status, 200, "{}", first.text());
    assert!(first.head.get("x-tidegate-max-tokens").is_some(), "{}", first.head.text);
    let second = ask(&app, &call).await;
    assert!(!is_hit(&second), "{}", second.head.text);
    assert_eq!(backend.calls(), 2);
    quiet(&app).await;
}

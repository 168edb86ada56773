//! What goes wrong with a shared call goes wrong for all who share it, and is not kept.
use std::time::Duration;

use super::{
    ANTHROPIC, Backend, Ends, Face, GEMINI, OLLAMA, OPENAI_CHAT, OPENAI_RESPONSES, Script, at_once,
    quiet, until_inside,
};
use crate::support::client::{Answer, End};

const SHARERS: usize = 8;

/// Eight callers share such an answer; then one asks again, and must not get it from a cache.
async fn shared(face: &Face, script: Script, stream: bool) -> Vec<Answer> {
    let backend = Backend::held(script, Duration::ZERO, 0).await;
    let app = backend.behind("{ ttl: 1h }");
    let (to, call) = (app.addr, face.call("what goes wrong?", stream));
    let again = call.clone();
    let asking = tokio::spawn(async move { at_once(to, &call, SHARERS).await });
    until_inside(&app, SHARERS).await;
    backend.release(usize::MAX);
    let mut answers = asking.await.unwrap();
    assert_eq!(backend.calls(), 1, "one call for all");
    let next = super::ask(&app, &again).await;
    assert!(!super::is_hit(&next), "{}", next.head.text);
    assert_eq!(backend.calls(), 2, "it was not kept");
    answers.push(next);
    quiet(&app).await;
    let lines = app.lines(SHARERS + 1).await;
    let outcome = &lines[0]["outcome"];
    for line in &lines {
        assert_eq!(line["outcome"], *outcome, "{line}");
    }
    answers
}

#[tokio::test]
async fn an_error_of_the_backend_reaches_all() {
    let said = r#"{"error":{"message":"overloaded","type":"server_error"}}"#;
    for status in ["500 Internal Server Error", "429 Too Many Requests", "400 Bad Request"] {
        let mut script = Script::json(status, said);
        script.lines += "retry-after: 7\r\n";
        for answer in shared(&OPENAI_CHAT, script, true).await {
            assert_eq!(answer.status.to_string(), status[..3]);
            assert_eq!((answer.text(), answer.end), (said, End::Whole));
            assert_eq!(answer.head.get("retry-after"), Some("7"));
        }
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_is_cut_for_all() {
    for face in [OPENAI_CHAT, OPENAI_RESPONSES, ANTHROPIC, GEMINI, OLLAMA] {
        let mut script = Script::recorded(&face, true, "tokens=12").await;
        script.pieces.truncate(script.pieces.len() / 2);
        script.end = Ends::Reset;
        let came = script.body();
        for answer in shared(&face, script, true).await {
            assert_eq!(answer.status, 200);
            assert_ne!(answer.end, End::Whole, "{}", answer.text());
            assert!(answer.body.starts_with(&came), "{}", answer.text());
            let event = String::from_utf8_lossy(&answer.body[came.len()..]);
            assert!(event.contains("error"), "the dialect's event: {event:?}");
        }
    }
}

#[tokio::test]
async fn a_stream_without_its_last_event_passes_and_is_not_kept() {
    for face in [OPENAI_CHAT, OPENAI_RESPONSES, ANTHROPIC, GEMINI, OLLAMA] {
        let script = Script::recorded(&face, true, "tokens=12; fault=truncated").await;
        let came = script.body();
        for answer in shared(&face, script, true).await {
            assert_eq!((answer.status, answer.end), (200, End::Whole));
            assert_eq!(answer.body, came);
        }
    }
}

#[tokio::test]
async fn an_error_inside_of_a_200_passes_and_is_not_kept() {
    for face in [OPENAI_CHAT, OPENAI_RESPONSES, ANTHROPIC, GEMINI, OLLAMA] {
        for stream in [true, false] {
            let how = if stream { "tokens=12; fault=error-event=4" } else { "fault=error-200" };
            let script = Script::recorded(&face, stream, how).await;
            let came = script.body();
            for answer in shared(&face, script, stream).await {
                assert_eq!((answer.status, answer.end), (200, End::Whole), "{face:?}");
                assert_eq!(answer.body, came);
            }
        }
    }
}

#[tokio::test]
async fn what_is_no_http_fails_for_all() {
    let mut script = Script::json("200 OK", "{}");
    script.lines = "content type without a colon\r\n".into();
    for answer in shared(&OPENAI_CHAT, script, false).await {
        assert_eq!((answer.status, answer.end), (502, End::Whole), "{}", answer.text());
        assert!(answer.json()["error"]["message"].is_string());
    }
}

#[tokio::test]
async fn a_plain_answer_that_breaks_off_breaks_off_for_all() {
    let mut script = Script::recorded(&OPENAI_CHAT, false, "tokens=50").await;
    script.end = Ends::Reset;
    for answer in shared(&OPENAI_CHAT, script, false).await {
        assert!(answer.status == 502 || answer.end != End::Whole, "{answer:?}");
    }
}

#[tokio::test]
async fn nobody_there_is_told_to_all() {
    let closed = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let cache = "  - { name: once, cache: { ttl: 1h } }\n";
    let app =
        crate::support::app::App::start(&super::policy(&format!("http://{closed}"), "", cache));
    for answer in at_once(app.addr, &OPENAI_CHAT.call("anybody?", true), 5).await {
        assert_eq!(answer.status, 502, "{}", answer.text());
    }
    quiet(&app).await;
}

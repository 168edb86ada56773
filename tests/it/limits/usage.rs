//! Streams report their usage because we ask: the backend sees that, the client does not.
use std::sync::Arc;

use super::{
    CHAT, COMPLETIONS, MESSAGES, PLAIN, RESPONSES, STREAM, by, limited, policy, quiet, used,
};
use crate::support::app::App;
use crate::support::client::{Answer, Client, End, ask};
use crate::support::origin::{Origin, STREAM as STREAM_HEAD, chunk, whole};
use crate::support::until;

const LIMITS: &str = "  - { name: day, per: agent, limits: { tokens: 10M/day calendar } }\n";
const ASKS: &str = r#""stream_options":{"include_usage":true},"#;

/// The body as it is forwarded.
fn asking(body: &str) -> String {
    body.replacen('{', &format!("{{{ASKS}"), 1)
}

/// The events of a stream, each with its end; without the one that has a usage and no choices.
fn without_usage(stream: &str, end: &str) -> String {
    let events = stream.split_inclusive(end);
    events.filter(|event| !event.contains("\"choices\":[],\"usage\":{")).collect()
}

async fn both(
    to: &App,
    direct: std::net::SocketAddr,
    path: &str,
    script: &str,
    body: &str,
) -> (Answer, Answer) {
    let through = ask(to.addr, &by("a", path, script, body)).await;
    (through, ask(direct, &by("a", path, script, &asking(body))).await)
}

#[tokio::test]
async fn the_client_sees_the_stream_without_what_it_did_not_ask_for() {
    let (app, simulator) = limited("", LIMITS);
    let scripts = [
        ("tokens=20", "\n\n"),
        ("tokens=20; gap=1ms", "\n\n"),
        ("tokens=12; fault=split=bytes", "\n\n"),
        ("tokens=12; fault=split=utf8", "\n\n"),
        ("tokens=12; sse=crlf", "\r\n\r\n"),
        ("tokens=12; fault=split=crlf", "\r\n\r\n"),
        ("tokens=12; sse=cr", "\r\r"),
        ("tokens=12; sse=tight", "\n\n"),
        ("tokens=12; reasoning=4", "\n\n"),
        ("tokens=0", "\n\n"),
    ];
    let mut calls = 0;
    for path in [CHAT, COMPLETIONS] {
        for (script, end) in scripts {
            let (got, wanted) = both(&app, simulator.addr, path, script, STREAM).await;
            assert_eq!((got.status, got.end), (200, End::Whole), "{path} {script}");
            let expected = without_usage(wanted.text(), end);
            assert!(expected.len() < wanted.text().len(), "{path} {script}: it was there");
            assert_eq!(got.text(), expected, "{path} {script}");
            calls += 1;
        }
    }
    let lines = app.lines(calls).await;
    for line in &lines {
        assert_eq!(line["outcome"], "complete", "{line}");
        assert!(line["input_tokens"].as_u64() > Some(20), "counted all the same: {line}");
    }
    let counted: u64 = lines
        .iter()
        .map(|line| {
            line["input_tokens"].as_u64().unwrap() + line["output_tokens"].as_u64().unwrap()
        })
        .sum();
    quiet(&app).await;
    assert_eq!(used(&app, "day", "tokens", "a") as u64, counted);
}

#[tokio::test]
async fn who_asked_sees_it_and_nothing_is_changed() {
    let (app, simulator) = limited("", LIMITS);
    for path in [CHAT, COMPLETIONS] {
        let body = asking(STREAM);
        let call = by("a", path, "tokens=9", &body);
        let (got, wanted) = (ask(app.addr, &call).await, ask(simulator.addr, &call).await);
        assert_eq!(got.text(), wanted.text());
        assert!(got.text().contains("\"choices\":[],\"usage\":{"));
    }
    // others report it unasked, and whole answers need no asking
    for (path, body) in [(MESSAGES, STREAM), (RESPONSES, STREAM), (CHAT, PLAIN)] {
        let call = by("a", path, "tokens=9", body);
        let (got, wanted) = (ask(app.addr, &call).await, ask(simulator.addr, &call).await);
        assert_eq!(got.text(), wanted.text(), "{path}");
    }
    app.lines(5).await;
}

#[tokio::test]
async fn only_what_needs_it_is_added_to_the_body() {
    let origin = Origin::saying(whole("200 OK", "", "{}")).await;
    let app = App::start(&policy(&origin.url(), "", LIMITS));
    let tail = r#""stream" : true, "model":"m","x":[1, 2],"messages":[]}"#;
    let rows = [
        (CHAT, format!("{{{tail}"), format!("{{{ASKS}{tail}")),
        (COMPLETIONS, format!("{{ {tail}"), format!("{{{ASKS} {tail}")),
        (CHAT, format!("{{\"stream_options\":null,{tail}"), format!("{{{ASKS}{tail}")),
        (
            CHAT,
            format!("{{\"stream_options\":{{\"a\":1}},{tail}"),
            format!("{{\"stream_options\":{{\"include_usage\":true,\"a\":1}},{tail}"),
        ),
        (
            CHAT,
            format!("{{\"stream_options\":{{\"include_usage\":false}},{tail}"),
            format!("{{{ASKS}{tail}"),
        ),
        (CHAT, format!("{{{ASKS}{tail}"), format!("{{{ASKS}{tail}")),
        (RESPONSES, format!("{{{tail}"), format!("{{{tail}")),
        (MESSAGES, format!("{{{tail}"), format!("{{{tail}")),
        (CHAT, PLAIN.to_owned(), PLAIN.to_owned()),
    ];
    for (path, body, wanted) in &rows {
        assert_eq!(ask(app.addr, &by("a", path, "", body)).await.status, 200);
        let got = String::from_utf8(origin.take().remove(0).body).unwrap();
        assert_eq!(&got, wanted, "{path} {body}");
    }
    app.lines(rows.len()).await;
    // where nothing counts tokens, nothing is asked
    let app = App::start(&policy(&origin.url(), "", "  - { limits: { requests: 99/min } }\n"));
    ask(app.addr, &by("a", CHAT, "", STREAM)).await;
    assert_eq!(origin.take().remove(0).body, STREAM.as_bytes());
    app.line().await;
}

#[tokio::test]
async fn a_stream_with_a_length_keeps_its_framing() {
    let first = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n";
    let usage =
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\n\n";
    let body = format!("{first}{usage}data: [DONE]\n\n");
    let origin =
        Origin::saying(whole("200 OK", "content-type: text/event-stream\r\n", &body)).await;
    let app = App::start(&policy(&origin.url(), "", LIMITS));
    let mut client = Client::connect(app.addr).await;
    for _ in 0..2 {
        client.send(&by("a", CHAT, "", STREAM)).await;
        let got = client.answer().await;
        assert_eq!((got.status, got.end), (200, End::Whole), "{}", got.head.text);
        assert_eq!(got.text(), format!("{first}data: [DONE]\n\n"));
    }
    app.lines(2).await;
    quiet(&app).await;
    assert_eq!(used(&app, "day", "tokens", "a"), 14);
}

#[tokio::test]
async fn cuts_and_errors_in_such_a_stream_are_those_of_any_other() {
    let (app, _simulator) = limited("breaker: off, timeouts: { idle: 400ms }, ", LIMITS);
    let mut calls = 0;
    for (script, outcome, broken) in [
        ("tokens=30; fault=reset-mid=10", "upstream_broken", true),
        ("tokens=30; fault=close-mid=10", "upstream_broken", true),
        ("tokens=30; fault=bad-chunk=10", "upstream_broken", true),
        ("tokens=30; fault=stall-mid=10", "deadline_idle", true),
        ("tokens=30; fault=error-event=10", "upstream_error", false),
        ("tokens=30; fault=truncated", "truncated", false),
    ] {
        for path in [CHAT, COMPLETIONS] {
            let got = ask(app.addr, &by("a", path, script, STREAM)).await;
            assert_eq!(got.status, 200);
            assert_eq!(got.end != End::Whole, broken, "{path} {script}: {:?}", got.end);
            let text = got.text();
            assert!(text.matches("data: {").count() >= 10, "{path} {script}: {text}");
            assert!(!text.contains("\"choices\":[],\"usage\":{"), "{path} {script}");
            assert_eq!(
                text.contains("\"error\""),
                script != "tokens=30; fault=truncated",
                "{text}"
            );
            for event in text.split("\n\n").filter(|event| !event.is_empty()) {
                let data =
                    event.strip_prefix("data: ").unwrap_or_else(|| panic!("{script}: {event}"));
                let whole =
                    data == "[DONE]" || serde_json::from_str::<serde_json::Value>(data).is_ok();
                assert!(whole || broken, "{script}: {event}");
            }
            calls += 1;
            let line = app.lines(calls).await.pop().unwrap();
            let said = line["outcome"].as_str().unwrap();
            assert!(
                said == outcome || (outcome.starts_with("deadline") && said.contains("idle")),
                "{script}: {line}"
            );
        }
    }
    quiet(&app).await;
    // ten tokens and a prompt each, or what an estimate makes of it
    assert!(used(&app, "day", "tokens", "a") >= 12 * 10);
}

#[tokio::test]
async fn what_was_seen_is_not_held_back_while_the_rest_is_awaited() {
    let go = Arc::new(tokio::sync::Notify::new());
    let gate = Arc::clone(&go);
    let origin = Origin::start(move |mut conn| {
        let gate = Arc::clone(&gate);
        async move {
            while conn.request().await.is_some() {
                conn.send(STREAM_HEAD).await;
                conn.send(&chunk("data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n"))
                    .await;
                gate.notified().await;
                conn.send(&chunk("data: [DONE]\n\n")).await;
                conn.send(b"0\r\n\r\n").await;
            }
        }
    })
    .await;
    let app = App::start(&policy(&origin.url(), "", LIMITS));
    let mut client = Client::connect(app.addr).await;
    client.send(&by("a", CHAT, "", STREAM)).await;
    assert_eq!(client.head().await.unwrap().status, 200);
    let first = client.chunk().await.unwrap();
    assert_eq!(first, b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n");
    until("the origin has the call", async || origin.requests() == 1).await;
    go.notify_one();
    assert_eq!(client.chunk().await.unwrap(), b"data: [DONE]\n\n");
    assert!(client.chunk().await.unwrap().is_empty());
    app.line().await;
}

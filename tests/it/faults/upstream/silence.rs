//! Backends that say nothing, or nothing more: cases 50 to 52.
use std::time::{Duration, Instant};

use super::tripped;
use super::{CHAT, MESSAGES, PLAIN, STREAM, TOUCHY, after, ask, limited, origin, then_left, token};
use crate::support::client::{End, post};
use crate::support::h2;
use crate::support::origin::chunk;

/// How late a deadline may be: what sweeps are apart, and a machine that is busy with other tests.
const LATE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a50_no_answer_at_all() {
    let origin = then_left(|conn| async { conn }).await;
    let app = limited(&origin.url(), &format!("{TOUCHY} timeouts: {{ first_byte: 400ms }},"), "");
    let from = Instant::now();
    let got = ask(&app, &post(CHAT, "", STREAM)).await;
    assert!(from.elapsed() >= Duration::from_millis(400) && from.elapsed() < LATE);
    assert_eq!((got.status, got.end), (504, End::Whole));
    assert_eq!(got.json()["error"]["code"], "upstream_first_byte_timeout");
    assert!(tripped(&app), "it counts against the backend");
    after::over(&app, &[(504, "deadline_first_byte")]).await;
    assert_eq!((origin.requests(), origin.connections()), (1, 1), "it may have been billed");
    after::let_go(&app, &origin).await;
    assert!(after::charged(&app, "tokens") > 0, "the prompt was read, as far as is known");
}

/// Not a word of content behind the head: told apart from a stream that stops later.
#[tokio::test]
async fn a51_a_head_and_no_content() {
    for opening in ["", "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n"] {
        let origin = then_left(move |mut conn| async move {
            conn.send(origin::STREAM).await;
            if !opening.is_empty() {
                conn.send(&chunk(opening)).await;
            }
            conn
        })
        .await;
        let patience = "timeouts: { first_content: 500ms }, retry: { hold: 100ms },";
        let app = limited(&origin.url(), &format!("{TOUCHY} {patience}"), "");
        let from = Instant::now();
        let got = ask(&app, &post(CHAT, "", STREAM)).await;
        assert!(from.elapsed() >= Duration::from_millis(500) && from.elapsed() < LATE);
        assert_eq!((got.status, got.end), (200, End::Closed), "no clean end");
        assert!(got.text().starts_with(opening), "{}", got.text());
        assert!(got.text().contains("upstream_first_content_timeout"), "{}", got.text());
        assert!(tripped(&app));
        after::over(&app, &[(200, "deadline_first_content")]).await;
        after::let_go(&app, &origin).await;
    }
}

#[tokio::test]
async fn a52_silence_in_mid_stream() {
    let origin = then_left(|mut conn| async {
        conn.send(&[origin::STREAM, &token("one"), &token("two")].concat()).await;
        conn
    })
    .await;
    let idle = format!("{TOUCHY} timeouts: {{ idle: 400ms }},");
    let app = limited(&origin.url(), &idle, "");
    let from = Instant::now();
    let got = ask(&app, &post(CHAT, "", STREAM)).await;
    assert!(from.elapsed() >= Duration::from_millis(400) && from.elapsed() < LATE);
    assert_eq!((got.status, got.end), (200, End::Closed));
    assert!(got.text().contains("two") && got.text().contains("upstream_idle_timeout"));
    assert!(!got.text().contains("[DONE]"), "nothing that says it is whole: {}", got.text());
    assert!(tripped(&app));
    after::over(&app, &[(200, "deadline_idle")]).await;
    after::let_go(&app, &origin).await;
    assert!(after::charged(&app, "output_tokens") >= 2, "what has passed is charged");

    // over HTTP/2 the stream is reset behind the event, and the connection lives on
    let app = limited(&origin.url(), "timeouts: { idle: 400ms },", "");
    let client = h2::Client::connect(app.addr).await;
    for _ in 0..2 {
        let got = client.ask(CHAT, "", STREAM).await;
        assert!(got.reset.is_some(), "{got:?}");
        assert!(String::from_utf8_lossy(&got.body).contains("upstream_idle_timeout"));
    }
    drop(client);
    after::over(&app, &[(200, "deadline_idle"); 2]).await;
    after::let_go(&app, &origin).await;
}

/// A ping is a sign of life, and no token.
#[tokio::test]
async fn a52_pings_and_no_tokens() {
    const START: &str = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\
        \"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"one\"}}\n\n";
    const PINGED: &str = "event: ping\ndata: {\"type\":\"ping\"}\n\n";
    let origin = then_left(|mut conn| async {
        conn.send(&[origin::STREAM, &chunk(START)].concat()).await;
        for _ in 0..40 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            conn.send(&chunk(PINGED)).await;
        }
        conn
    })
    .await;
    let more = format!("{TOUCHY} timeouts: {{ idle: 700ms, between_tokens: 1500ms }},");
    let app = limited(&origin.url(), &more, "");
    let from = Instant::now();
    let got = ask(&app, &post(MESSAGES, "", STREAM)).await;
    assert!(from.elapsed() >= Duration::from_millis(1500) && from.elapsed() < LATE);
    assert_eq!((got.status, got.end), (200, End::Closed));
    assert!(got.text().matches("event: ping").count() > 5, "{}", got.text());
    // the dialect's own error event, as its SDK reads it
    let (_, error) = got.text().split_once("event: error\ndata: ").expect("an error event");
    let error: serde_json::Value = serde_json::from_str(error.trim()).unwrap();
    assert_eq!(
        (&error["type"], &error["error"]["type"]),
        (&"error".into(), &"timeout_error".into())
    );
    assert!(tripped(&app));
    after::over(&app, &[(200, "deadline_between_tokens")]).await;
    after::let_go(&app, &origin).await;
    let plain = ask(&app, &post(CHAT, "", PLAIN)).await;
    assert_eq!(plain.status, 503, "the backend is spared");
    after::over(&app, &[(200, "deadline_between_tokens"), (503, "upstream_broken")]).await;
}

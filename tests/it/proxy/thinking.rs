//! Models that think without a word: what is not cut, and what bounds them all the same.
//!
//! The time that the default leaves for silence is two minutes. A `total` below that shortens it and
//! `first_content` alike, so that the deadline's name tells which of them a call is under.
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{CHAT, PLAIN, STREAM, policy};
use crate::support::app::App;
use crate::support::client::{End, ask, post};
use crate::support::origin::{self, Conn, Origin, chunk};

/// How late a deadline may be: two ticks, and a machine that is busy with other tests.
const LATE: Duration = Duration::from_secs(5);
const ROLE: &str =
    "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
const TOKEN: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"hello\"}}]}\n\n";
const CACHE: &str = "policies: [{ name: once, cache: { ttl: 1h } }]\n";
const JSON: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";

/// Says these things to each request, and then nothing.
async fn silent_behind(said: Vec<u8>) -> Origin {
    Origin::start(move |mut conn: Conn| {
        let said = said.clone();
        async move {
            if conn.request().await.is_some() {
                conn.send(&said).await;
                conn.until_gone().await;
            }
        }
    })
    .await
}

/// By which deadline such a call ends, and no earlier than half a second, alone and as one that may
/// be shared.
async fn cut_by(origin: &Origin, timeouts: &str, path: &str, body: &str) -> String {
    let mut found = Vec::new();
    for cached in ["", CACHE] {
        let more = format!("timeouts: {{ {timeouts} }},");
        let app = App::start(&(policy(&origin.url(), &more) + cached));
        let start = Instant::now();
        let got = ask(app.addr, &post(path, "", body)).await;
        let took = start.elapsed();
        assert_eq!((got.status, got.end), (200, End::Closed), "{}", got.text());
        assert!(took >= Duration::from_millis(500) && took < LATE, "{timeouts}: {took:?}");
        let outcome = app.line().await["outcome"].as_str().unwrap().to_owned();
        found.push(outcome.trim_start_matches("deadline_").to_owned());
    }
    assert_eq!(found[0], found[1], "{timeouts}");
    found.swap_remove(0)
}

#[tokio::test]
async fn a_stream_in_silence_is_bounded_by_its_first_content() {
    for begins in ["", ROLE] {
        let said = [origin::STREAM, &chunk(begins)[..]].concat();
        let said = if begins.is_empty() { origin::STREAM.to_vec() } else { said };
        let origin = silent_behind(said).await;
        for (timeouts, want) in [
            ("first_content: 500ms", "first_content"),
            ("total: 500ms", "first_content"),
            // who writes it means it
            ("idle: 500ms", "idle"),
            ("idle: 500ms, first_content: 5s", "idle"),
        ] {
            assert_eq!(cut_by(&origin, timeouts, CHAT, STREAM).await, want, "{timeouts}");
        }
    }
}

#[tokio::test]
async fn behind_its_first_content_silence_counts_again() {
    let origin = silent_behind([origin::STREAM, &chunk(TOKEN)].concat()).await;
    assert_eq!(cut_by(&origin, "total: 500ms", CHAT, STREAM).await, "idle");
    assert_eq!(cut_by(&origin, "idle: 500ms", CHAT, STREAM).await, "idle");
    let between = "total: 5s, between_tokens: 500ms";
    assert_eq!(cut_by(&origin, between, CHAT, STREAM).await, "between_tokens");
}

#[tokio::test]
async fn a_plain_answer_whose_body_does_not_begin_is_bounded_by_its_first_content() {
    let origin = silent_behind(JSON.to_vec()).await;
    for (timeouts, want) in [("first_content: 500ms", "first_content"), ("idle: 500ms", "idle")] {
        assert_eq!(cut_by(&origin, timeouts, CHAT, PLAIN).await, want, "{timeouts}");
    }
    let origin = silent_behind([JSON, &chunk("{\"choices\":")].concat()).await;
    let timeouts = "first_content: 300ms, idle: 900ms";
    assert_eq!(cut_by(&origin, timeouts, CHAT, PLAIN).await, "idle", "once it has begun");
}

/// Nobody knows what its content would be.
#[tokio::test]
async fn what_passes_through_unread_is_under_idle_from_its_head_on() {
    for head in [origin::STREAM, JSON] {
        let origin = silent_behind(head.to_vec()).await;
        let app = App::start(&policy(
            &origin.url(),
            "dialect: http, timeouts: { idle: 700ms, first_content: 300ms },",
        ));
        let start = Instant::now();
        let got = ask(app.addr, &post("/search", "", STREAM)).await;
        assert_eq!((got.status, got.end), (200, End::Closed));
        assert!(start.elapsed() >= Duration::from_millis(700), "{:?}", start.elapsed());
        assert_eq!(app.line().await["outcome"], "deadline_idle");
    }
}

/// Longer in silence than it may be later.
#[tokio::test]
async fn a_model_that_thinks_in_silence_is_heard() {
    let origin = Origin::start(|mut conn: Conn| async move {
        while let Some(request) = conn.request().await {
            let streams = request.body == STREAM.as_bytes();
            conn.send(if streams { origin::STREAM } else { JSON }).await;
            sleep(Duration::from_millis(1500)).await;
            let said = if streams { TOKEN } else { "{\"choices\":[]}" };
            conn.send(&[&chunk(said)[..], b"0\r\n\r\n"].concat()).await;
        }
    })
    .await;
    let app = App::start(&policy(&origin.url(), "timeouts: { between_tokens: 500ms },"));
    for body in [STREAM, PLAIN] {
        let got = ask(app.addr, &post(CHAT, "", body)).await;
        assert_eq!((got.status, got.end), (200, End::Whole), "{}", got.text());
    }
    app.lines(2).await;
}

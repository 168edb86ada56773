//! Each deadline has its own error and count, and none cuts a stream that is sending.
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::{CHAT, MESSAGES, PLAIN, STREAM, policy, simulated};
use crate::support::app::App;
use crate::support::client::{Client, End, ask, post};
use crate::support::origin::{self, Origin, chunk};
use crate::support::{h2, until};

/// How late a deadline may be: two ticks, and a machine that is busy with other tests.
const LATE: Duration = Duration::from_secs(2);

/// Checks the counts of the one deadline that ran out.
async fn check(app: &App, calls: usize, which: &str) {
    for line in app.lines(calls).await {
        assert_eq!(line["outcome"], format!("deadline_{which}"), "{line}");
    }
    assert_eq!(app.ended(&format!("deadline_{which}")), calls);
    let kind = format!("kind=\"{which}\"");
    assert_eq!(app.count("tidegate_upstream_deadlines_total", &[&kind]), calls);
    assert_eq!(app.count("tidegate_upstream_deadlines_total", &[]), calls);
}

#[tokio::test]
async fn case_50_first_byte() {
    let (app, simulator) = simulated("timeouts: { first_byte: 300ms },");
    let start = Instant::now();
    let got = ask(app.addr, &post(CHAT, "fault=stall", STREAM)).await;
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(300) && took < LATE, "{took:?}");
    assert_eq!(
        (got.status, &got.json()["error"]["code"]),
        (504, &"upstream_first_byte_timeout".into())
    );
    let got = ask(app.addr, &post(MESSAGES, "fault=stall", PLAIN)).await;
    assert_eq!((got.status, &got.json()["error"]["type"]), (504, &"timeout_error".into()));
    check(&app, 2, "first_byte").await;
    until("the calls are let go", async || simulator.seen().open == 0).await;
    assert_eq!(simulator.seen().requests, 2, "a call that timed out is not sent again");
}

#[tokio::test]
async fn case_52_silence_in_mid_stream() {
    let (app, simulator) = simulated("timeouts: { idle: 300ms },");
    let got = ask(app.addr, &post(CHAT, "tokens=9; fault=stall-mid=3", STREAM)).await;
    assert_eq!((got.status, got.end), (200, End::Closed));
    assert!(got.text().contains("upstream_idle_timeout"), "{}", got.text());
    let client = h2::Client::connect(app.addr).await;
    let got = client.ask(MESSAGES, "tokens=9; fault=stall-mid=3", STREAM).await;
    assert!(got.reset.is_some() && String::from_utf8_lossy(&got.body).contains("event: error"));
    // half of a plain body
    let got = ask(app.addr, &post(CHAT, "fault=stall-mid=3", PLAIN)).await;
    assert_eq!((got.status, got.end), (200, End::Closed));
    check(&app, 3, "idle").await;
    until("the calls are let go", async || simulator.seen().open == 0).await;
}

#[tokio::test]
async fn total() {
    let (app, _simulator) = simulated(
        "timeouts: { first_byte: 400ms, idle: 400ms, total: 400ms, queue: 400ms }, concurrency: 9,",
    );
    // an answer of known length that trickles in, never silent for long
    let origin = Origin::start(|mut conn| async move {
        conn.request().await;
        conn.send(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{",
        )
        .await;
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            conn.send(b" ").await;
        }
    })
    .await;
    let trickling = App::start(&policy(
        &origin.url(),
        "timeouts: { first_byte: 400ms, idle: 400ms, total: 400ms },",
    ));
    let start = Instant::now();
    let got = ask(trickling.addr, &post(CHAT, "", PLAIN)).await;
    assert_eq!((got.status, got.end), (200, End::Closed));
    assert!(start.elapsed() >= Duration::from_millis(400) && start.elapsed() < LATE);
    check(&trickling, 1, "total").await;

    // a stream that goes on for three times as long is whole
    let start = Instant::now();
    let got = ask(app.addr, &post(CHAT, "tokens=30; gap=40ms", STREAM)).await;
    assert!(start.elapsed() > Duration::from_millis(1100));
    assert_eq!((got.status, got.end), (200, End::Whole));
    assert!(got.text().ends_with("data: [DONE]\n\n"));
    assert_eq!(app.line().await["outcome"], "complete");
}

#[tokio::test]
async fn queue() {
    let (app, simulator) = simulated("concurrency: 1, timeouts: { queue: 300ms },");
    let mut first = Client::connect(app.addr).await;
    first.send(&post(CHAT, "fault=stall", PLAIN)).await;
    until("it has the place", async || simulator.seen().requests == 1).await;
    let start = Instant::now();
    let got = ask(app.addr, &post(CHAT, "", PLAIN)).await;
    assert!(start.elapsed() >= Duration::from_millis(300) && start.elapsed() < LATE);
    assert_eq!((got.status, &got.json()["error"]["code"]), (408, &"queue_timeout".into()));
    assert_eq!(
        (got.head.get("retry-after"), got.head.get("retry-after-ms")),
        (Some("1"), Some("1000"))
    );
    drop(first);
    let lines = app.lines(2).await;
    assert_eq!(
        (&lines[0]["outcome"], &lines[1]["outcome"]),
        (&"deadline_queue".into(), &"client_gone".into())
    );
    assert_eq!(app.count("tidegate_upstream_deadlines_total", &["kind=\"queue\""]), 1);
}

#[tokio::test]
async fn case_49_connect() {
    let hole = origin::black_hole().await;
    let addr = hole.0.local_addr().unwrap().as_socket().unwrap();
    let app = App::start(&policy(&format!("http://{addr}"), "pool: { connect_timeout: 300ms },"));
    let start = Instant::now();
    let got = ask(app.addr, &post(CHAT, "", PLAIN)).await;
    assert!(start.elapsed() >= Duration::from_millis(300) && start.elapsed() < LATE);
    assert_eq!(
        (got.status, &got.json()["error"]["code"]),
        (504, &"upstream_connect_timeout".into())
    );
    assert_eq!(app.count("tidegate_pool_dial_failures_total", &["connect_timeout"]), 1);
    check(&app, 1, "connect").await;
}

/// They would have shared the connection; so they share that there is none.
#[tokio::test]
async fn case_49_connect_for_many_calls_over_http2() {
    let hole = origin::black_hole().await;
    let addr = hole.0.local_addr().unwrap().as_socket().unwrap();
    let more = "http2: always, pool: { connect_timeout: 500ms },";
    let app = App::start(&policy(&format!("http://{addr}"), more));
    let (start, to) = (Instant::now(), app.addr);
    let mut calls = JoinSet::new();
    for _ in 0..10 {
        calls.spawn(async move { ask(to, &post(CHAT, "", PLAIN)).await.status });
    }
    assert_eq!(calls.join_all().await, [504; 10]);
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(500) && took < LATE, "{took:?}");
    check(&app, 10, "connect").await;
}

#[tokio::test]
async fn case_8_request_body() {
    let origin = Origin::saying(origin::whole("200 OK", "", "")).await;
    let app =
        App::start(&format!("server: {{ body_timeout: 300ms }}\n{}", policy(&origin.url(), "")));
    for (at, target) in [CHAT, "/v1/files"].into_iter().enumerate() {
        let start = Instant::now();
        let mut client = Client::connect(app.addr).await;
        let whole = post(target, "", &"x".repeat(1000));
        client.send(&whole[..whole.len() - 500]).await;
        let got = client.answer().await;
        assert_eq!(
            (got.status, &got.json()["error"]["code"]),
            (408, &"request_body_timeout".into())
        );
        assert!(start.elapsed() >= Duration::from_millis(300) && start.elapsed() < LATE);
        assert!(client.is_closed().await);
        assert_eq!(app.lines(at + 1).await[at]["outcome"], "deadline_body");
    }
    until("the upload is let go", async || origin.open() == 0).await;
    assert_eq!(app.count("tidegate_refusals_total", &["request_body_timeout"]), 2);
}

/// A body that is sent slowly is no reason for an upstream deadline, as long as it moves.
#[tokio::test]
async fn a_slow_upload_is_not_a_slow_upstream() {
    let origin = Origin::saying(origin::whole("200 OK", "", "done")).await;
    let app = App::start(&policy(&origin.url(), "timeouts: { first_byte: 300ms },"));
    for target in [CHAT, "/v1/files"] {
        let mut client = Client::connect(app.addr).await;
        let whole = post(target, "", &"x".repeat(1000));
        let (start, rest) = whole.split_at(whole.len() - 1000);
        client.send(start).await;
        for piece in rest.chunks(100) {
            tokio::time::sleep(Duration::from_millis(80)).await;
            client.send(piece).await;
        }
        let got = client.answer().await;
        assert_eq!((got.status, got.text()), (200, "done"), "{target}");
    }
    app.lines(2).await;
}

/// Comments and pings are signs of life.
#[tokio::test]
async fn any_byte_of_an_answer_counts_as_life() {
    let origin = Origin::start(|mut conn| async move {
        while conn.request().await.is_some() {
            conn.send(origin::STREAM).await;
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_millis(100)).await;
                conn.send(&chunk(": ping\n\n")).await;
            }
            conn.send(&chunk("data: [DONE]\n\n")).await;
            conn.send(b"0\r\n\r\n").await;
        }
    })
    .await;
    let app = App::start(&policy(&origin.url(), "timeouts: { idle: 400ms },"));
    let got = ask(app.addr, &post(CHAT, "", STREAM)).await;
    assert_eq!(got.end, End::Whole);
    assert_eq!(app.line().await["outcome"], "complete");
}

//! The end of the process: cases 86 and 87.
use std::time::{Duration, Instant};

use super::{CHAT, Client, Gate, STREAM, limited, many, plain, post, rest};
use crate::support::client::End;
use crate::support::until;

/// Every stream ends by itself, however many there are; who comes meanwhile is served at first, while
/// others are told by readiness, and then sent away.
#[tokio::test]
async fn a86_streams_outlive_the_signal() {
    let streams = many(150, 500);
    let gate = Gate::new().await;
    let drain = "server: { drain: { delay: 2s, timeout: 60s } }\n";
    let mut app = limited(&gate.origin.url(), "", drain);
    let call = post(CHAT, "", STREAM);
    let mut running = Vec::new();
    for _ in 0..streams {
        running.push(gate.begin(&app, &call).await);
    }
    // a connection from before, on which a call comes late
    let mut idle = Client::connect(app.addr).await;
    idle.send(&crate::support::client::get("/", "")).await;
    assert_eq!(idle.answer().await.status, 200);
    assert!(app.page("/readyz").starts_with("ready"));
    app.signal("TERM");
    until("readiness fails first", async || !app.page("/readyz").starts_with("ready")).await;
    let from = Instant::now();
    let new = gate.begin(&app, &call).await;
    assert!(from.elapsed() < Duration::from_secs(2), "it was served within the delay");
    running.push(new);
    until("no new calls are taken", async || app.events().contains("no new calls are taken")).await;
    idle.send(&plain()).await;
    // answered with 503, or closed before it was read
    let turned = idle.head().await;
    if let Some(head) = &turned {
        assert_eq!((head.status, head.get("connection")), (503, Some("close")), "{}", head.text);
    }
    assert_eq!(app.count("tidegate_requests_in_flight", &[]), streams + 1, "nobody was cut");
    assert!(app.page("/livez").starts_with("ok"), "a drain is no reason to be killed");
    gate.open();
    let mut cut = 0;
    for client in &mut running {
        let whole = rest(client).await;
        cut += usize::from(whole.is_none_or(|rest| !rest.ends_with(super::DONE.as_bytes())));
    }
    assert_eq!(cut, 0, "of {streams}");
    drop((running, idle));
    let status = app.exited().await;
    assert_eq!(status.code(), Some(0));
    let lines = app.written();
    let count = |outcome: &str| lines.iter().filter(|line| line["outcome"] == outcome).count();
    assert_eq!(count("complete"), streams + 2, "and the one before");
    assert_eq!(lines.len(), streams + 2 + usize::from(turned.is_some()), "one line a call");
    until("the backend is let go", async || gate.origin.open() == 0).await;
}

/// Nobody waits for a stream that would go on for an hour, once it is said twice.
#[tokio::test]
async fn a87_a_second_signal() {
    for (first, second) in [("TERM", "TERM"), ("TERM", "INT")] {
        let gate = Gate::new().await;
        let drain = "server: { drain: { delay: 60s, timeout: 60s } }\n";
        let mut app = limited(&gate.origin.url(), "", drain);
        let mut client = gate.begin(&app, &post(CHAT, "", STREAM)).await;
        app.signal(first);
        until("it drains", async || !app.page("/readyz").starts_with("ready")).await;
        let from = Instant::now();
        app.signal(second);
        assert_eq!(app.exited().await.code(), Some(0));
        assert!(from.elapsed() < Duration::from_secs(5), "{:?}", from.elapsed());
        let mut said = Vec::new();
        let end = loop {
            match client.chunk().await {
                Ok(chunk) if chunk.is_empty() => break End::Whole,
                Ok(chunk) => said.extend(chunk),
                Err(end) => break end,
            }
        };
        assert_ne!(end, End::Whole, "what is cut does not look whole");
        until("the backend is let go", async || gate.origin.open() == 0).await;
        let lines = app.written();
        assert_eq!(lines.len(), 1, "the call that was cut has its line: {lines:?}");
        assert_eq!(lines[0]["status"], 200, "{lines:?}");
    }
}

//! Connections to backends: kept, counted, bounded, retired; and how many calls go on at once.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::task::JoinSet;

use super::{CHAT, PLAIN, STREAM, policy, simulated, simulator};
use crate::support::app::App;
use crate::support::client::{Client, ask, post};
use crate::support::origin::{Origin, whole};
use crate::support::until;

#[tokio::test]
async fn a_connection_is_kept_and_counted() {
    let (app, simulator) = simulated("");
    for _ in 0..10 {
        assert_eq!(ask(app.addr, &post(CHAT, "", STREAM)).await.status, 200);
    }
    let lines = app.lines(10).await;
    assert_eq!(lines.iter().filter(|line| line["reused"] == true).count(), 9);
    let pool = app.upstream()["pool"].clone();
    let figures = ["open", "idle", "dialled", "reused", "retried"].map(|of| pool[of].as_i64());
    assert_eq!(figures, [1, 1, 1, 9, 0].map(Some));
    for (name, value) in [
        ("tidegate_pool_connections_open", 1),
        ("tidegate_pool_connections_idle", 1),
        ("tidegate_pool_dialled_total", 1),
        ("tidegate_pool_reused_total", 9),
    ] {
        assert_eq!(app.count(name, &["upstream=\"up\""]), value, "{name}");
    }
    assert_eq!(simulator.seen().accepted, 1);
}

async fn retired(app: &App, why: &str) {
    let reason = format!("reason=\"{why}\"");
    until(why, async || app.count("tidegate_pool_retired_total", &[&reason]) >= 1).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let (app, simulator) = simulated("pool: { idle_timeout: 200ms },");
    ask(app.addr, &post(CHAT, "", PLAIN)).await;
    assert_eq!(simulator.seen().open, 1);
    retired(&app, "idle").await;
    until("it is closed", async || simulator.seen().open == 0).await;
    assert_eq!((app.pool("open"), app.pool("idle")), (0, 0));
    app.lines(1).await;
}

#[tokio::test]
async fn case_98_a_connection_is_retired_by_age() {
    let (app, simulator) = simulated("pool: { max_age: 300ms },");
    let mut calls = 0;
    // it is never idle for long, and still does not live on
    while app.count("tidegate_pool_retired_total", &[]) < 1 {
        ask(app.addr, &post(CHAT, "", PLAIN)).await;
        calls += 1;
        assert!(calls < 1000, "it lives for ever");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    until("it is closed", async || simulator.seen().open <= 1).await;
    app.lines(calls).await;
}

#[tokio::test]
async fn a_connection_that_the_backend_closed_is_noticed() {
    let (app, simulator) = simulated("");
    ask(app.addr, &post(CHAT, "fault=silent-close", PLAIN)).await;
    retired(&app, "closed").await;
    assert_eq!((app.pool("open"), app.pool("idle"), simulator.seen().open), (0, 0, 0));
    app.lines(1).await;
}

#[tokio::test]
async fn no_more_idle_connections_are_kept_than_allowed() {
    let (app, _simulator) = simulated("pool: { max_idle: 2 },");
    let mut calls = JoinSet::new();
    for _ in 0..6 {
        let addr = app.addr;
        calls.spawn(async move { ask(addr, &post(CHAT, "ttft=100ms", PLAIN)).await.status });
    }
    while let Some(status) = calls.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
    app.lines(6).await;
    assert_eq!((app.pool("open"), app.pool("idle")), (2, 2));
    retired(&app, "surplus").await;
}

#[tokio::test]
async fn warm_connections_are_there_before_the_first_call() {
    let (app, simulator) = simulated("pool: { warm: 3 },");
    until("they are open", async || app.pool("idle") == 3).await;
    assert_eq!(simulator.seen().requests, 0);
    ask(app.addr, &post(CHAT, "", PLAIN)).await;
    assert_eq!(app.line().await["reused"], true);
    assert_eq!(app.pool("dialled"), 3);
}

/// Answers after which a connection must not be used again.
#[tokio::test]
async fn a_connection_in_doubt_is_not_used_again() {
    for (what, answer) in [
        ("says close", whole("200 OK", "connection: close\r\n", "{}")),
        ("HTTP/1.0", b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_vec()),
        ("extra bytes", [whole("200 OK", "", "{}"), whole("200 OK", "", "evil")].concat()),
        ("an extra byte", whole("200 OK", "", "{}").into_iter().chain(*b"x").collect()),
        ("bytes behind no body", b"HTTP/1.1 204 No Content\r\n\r\nevil".to_vec()),
        ("bytes behind the last chunk", {
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            format!("{head}2\r\n{{}}\r\n0\r\n\r\nevil").into_bytes()
        }),
    ] {
        let origin = Origin::saying(answer).await;
        let app = App::start(&policy(&origin.url(), ""));
        for _ in 0..3 {
            let got = ask(app.addr, &post(CHAT, "", PLAIN)).await;
            assert!(
                got.status < 300 && !String::from_utf8_lossy(&got.body).contains("evil"),
                "{what}"
            );
        }
        app.lines(3).await;
        assert_eq!((origin.connections(), app.pool("reused")), (3, 0), "{what}");
        assert_eq!((app.pool("open"), app.pool("idle")), (0, 0), "{what}");
    }
}

#[tokio::test]
async fn the_bulkhead_holds_its_number() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counts = (Arc::clone(&now), Arc::clone(&most));
    let narrow = Origin::start(move |mut conn| {
        let (now, most) = (Arc::clone(&counts.0), Arc::clone(&counts.1));
        async move {
            while conn.request().await.is_some() {
                most.fetch_max(now.fetch_add(1, Relaxed) + 1, Relaxed);
                tokio::time::sleep(Duration::from_millis(10)).await;
                now.fetch_sub(1, Relaxed);
                conn.send(&whole("200 OK", "", "{}")).await;
            }
        }
    })
    .await;
    let wide = simulator();
    let app = App::with(
        &format!(
            "upstreams:\n  narrow: {{ url: '{}', concurrency: 4 }}\n  wide: {{ url: 'http://{}' }}\n\
             routes: [{{ path: /narrow, to: narrow }}, {{ path: /wide, to: wide }}]\n",
            narrow.url(),
            wide.addr
        ),
        &["--workers", "2"],
    );
    let mut calls = JoinSet::new();
    for _ in 0..50 {
        let addr = app.addr;
        let call = post("/narrow/v1/chat/completions", "", PLAIN);
        calls.spawn(async move { ask(addr, &call).await.status });
    }
    until("some wait", async || app.count("tidegate_upstream_waiting", &[]) > 4).await;
    // the other upstream knows nothing of it
    let start = std::time::Instant::now();
    assert_eq!(ask(app.addr, &post("/wide/v1/chat/completions", "", PLAIN)).await.status, 200);
    assert!(start.elapsed() < Duration::from_secs(2));
    while let Some(status) = calls.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
    assert_eq!(most.load(Relaxed), 4);
    let lines = app.lines(51).await;
    assert!(lines.iter().any(|line| line["queued_ms"].as_f64() > Some(5.0)));
    let other = lines.iter().find(|line| line["upstream"] == "wide").unwrap();
    assert_eq!(other["queued_ms"], 0);
}

/// First come, first served.
#[tokio::test]
async fn those_who_wait_are_served_in_order() {
    let (app, slow) = simulated("concurrency: 1,");
    let mut holder = Client::connect(app.addr).await;
    holder.send(&post(CHAT, "fault=stall", PLAIN)).await;
    until("it has the place", async || slow.seen().requests == 1).await;
    let mut waiting = Vec::new();
    for n in 1..=5_i64 {
        let mut client = Client::connect(app.addr).await;
        client.send(&post("/simulate/echo", "", &n.to_string())).await;
        until("it waits", async || app.upstream()["waiting"] == n).await;
        waiting.push(client);
    }
    drop(holder);
    for client in &mut waiting {
        assert_eq!(client.answer().await.status, 200);
    }
    let lines = app.lines(6).await;
    let ids: Vec<_> = lines[1..].iter().map(|line| line["request_id"].as_str().unwrap()).collect();
    assert!(ids.is_sorted(), "{ids:?}");
}

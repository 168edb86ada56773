//! What is sent again, and what never is.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::net::TcpListener;

use super::{CHAT, PLAIN, STREAM, policy, simulated};
use crate::support::app::App;
use crate::support::client::{Client, End, ask, post, request};
use crate::support::origin::{self, Conn, Origin, chunk, whole};
use crate::support::until;

/// An origin whose first connection serves one call and then meets the next with `first`; all
/// others answer.
async fn stale<F>(first: impl Fn(Conn) -> F + Copy + Send + Sync + 'static) -> Origin
where
    F: Future<Output = ()> + Send,
{
    Origin::start(move |mut conn| async move {
        if conn.number == 0 {
            conn.request().await;
            conn.send(&whole("200 OK", "", "first")).await;
            return first(conn).await;
        }
        while conn.request().await.is_some() {
            conn.send(&whole("200 OK", "", "fresh")).await;
        }
    })
    .await
}

/// The status, the text, and whether the call was sent again.
async fn second_call(origin: &Origin, call: &[u8]) -> (u16, String, bool) {
    let app = App::start(&policy(&origin.url(), "timeouts: { first_byte: 300ms },"));
    assert_eq!(ask(app.addr, &post(CHAT, "", PLAIN)).await.text(), "first");
    until("the connection is kept", async || app.pool("idle") == 1).await;
    let got = ask(app.addr, call).await;
    let lines = app.lines(2).await;
    let retried = app.pool("retried") == 1;
    assert_eq!(app.count("tidegate_upstream_retries_total", &[]) == 1, retried);
    assert_eq!(lines[1]["attempts"].as_u64(), Some(1 + u64::from(retried)), "{}", lines[1]);
    if got.status == 200 {
        assert_eq!(lines[1]["reused"], !retried, "the fresh one counts");
    }
    (got.status, String::from_utf8(got.body).unwrap(), retried)
}

#[tokio::test]
async fn case_53_a_stale_connection_that_is_reset_is_replaced_once() {
    let origin = stale(|mut conn| async move {
        conn.head().await;
        conn.reset();
    })
    .await;
    let (status, text, retried) = second_call(&origin, &post(CHAT, "", PLAIN)).await;
    assert_eq!((status, text.as_str(), retried), (200, "fresh", true));
    assert_eq!(origin.connections(), 2);
}

#[tokio::test]
async fn case_53_the_simulator_agrees() {
    let (app, simulator) = simulated("");
    let mut client = Client::connect(app.addr).await;
    for script in ["fault=stale=1", "", "fault=silent-close", "", "fault=keepalive-close", ""] {
        client.send(&post(CHAT, script, STREAM)).await;
        let got = client.answer().await;
        assert_eq!((got.status, got.end), (200, End::Whole), "{script}");
    }
    app.lines(6).await;
    assert!(app.pool("retried") >= 1 && simulator.seen().requests == 6);
}

#[tokio::test]
async fn never_after_a_byte_of_an_answer() {
    let origin = stale(|mut conn| async move {
        conn.head().await;
        conn.send(b"H").await;
    })
    .await;
    let (status, _, retried) = second_call(&origin, &post(CHAT, "", PLAIN)).await;
    assert_eq!((status, retried, origin.connections()), (502, false, 1));
}

#[tokio::test]
async fn never_after_a_timeout() {
    let origin = stale(|mut conn| async move {
        conn.head().await;
        conn.until_gone().await;
    })
    .await;
    let (status, _, retried) = second_call(&origin, &post(CHAT, "", PLAIN)).await;
    assert_eq!((status, retried, origin.connections()), (504, false, 1));
}

#[tokio::test]
async fn never_with_an_upload_that_was_begun() {
    let origin = stale(|mut conn| async move {
        conn.head().await;
        conn.exact(1).await;
        conn.reset();
    })
    .await;
    let upload = request("POST", "/v1/files", "", &"x".repeat(1000));
    let (status, _, retried) = second_call(&origin, &upload).await;
    assert_eq!((status, retried, origin.connections()), (502, false, 1));
}

#[tokio::test]
async fn never_on_a_fresh_connection_and_never_twice() {
    let origin = Origin::start(|mut conn| async move {
        if conn.number == 0 {
            conn.request().await;
            conn.send(&whole("200 OK", "", "first")).await;
        }
        conn.head().await;
        conn.reset();
    })
    .await;
    let (status, _, retried) = second_call(&origin, &post(CHAT, "", PLAIN)).await;
    assert_eq!((status, retried, origin.requests()), (502, true, 3));
}

/// A port that refuses.
async fn refusing() -> std::net::SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    listener.local_addr().unwrap()
}

fn urls(all: &[String], more: &str) -> String {
    let list = all.join(", ");
    format!("upstreams: {{ up: {{ {more} urls: [{list}] }} }}\nroutes: [{{ to: up }}]\n")
}

#[tokio::test]
async fn case_48_an_address_that_refuses_gives_way() {
    let simulator = super::simulator();
    let dead = refusing().await;
    let both = [format!("http://{dead}"), format!("http://{}", simulator.addr)];
    let app = App::start(&urls(&both, ""));
    // between two that are alike chance decides: some of so many meet the dead one
    for _ in 0..20 {
        assert_eq!(ask(app.addr, &post(CHAT, "", PLAIN)).await.status, 200);
    }
    let lines = app.lines(20).await;
    assert!(lines.iter().all(|line| line["outcome"] == "complete"), "{lines:#?}");
    assert!(app.count("tidegate_pool_dial_failures_total", &["refused"]) >= 1);

    let other = refusing().await;
    let app = App::start(&urls(&[format!("http://{dead}"), format!("http://{other}")], ""));
    let got = ask(app.addr, &post(CHAT, "", PLAIN)).await;
    assert_eq!((got.status, &got.json()["error"]["code"]), (502, &"upstream_unreachable".into()));
    assert!(!got.text().contains("127.0.0.1"), "no address of a backend is shown");
    assert_eq!(app.line().await["outcome"], "upstream_broken");
}

#[tokio::test]
async fn the_least_busy_address_is_taken() {
    let counts = [Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0))];
    let mut origins = Vec::new();
    for count in &counts {
        let count = Arc::clone(count);
        let hold = Origin::start(move |mut conn| {
            let count = Arc::clone(&count);
            async move {
                while conn.request().await.is_some() {
                    count.fetch_add(1, Relaxed);
                    conn.send(origin::STREAM).await;
                    conn.send(&chunk("data: {}\n\n")).await;
                }
            }
        });
        origins.push(hold.await);
    }
    let all: Vec<String> = origins.iter().map(Origin::url).collect();
    let app = App::start(&urls(&all, ""));
    let mut held = Vec::new();
    for n in 1..=10 {
        let mut client = Client::connect(app.addr).await;
        client.send(&post(CHAT, "", STREAM)).await;
        client.head().await.unwrap();
        held.push(client);
        let [a, b] = [counts[0].load(Relaxed), counts[1].load(Relaxed)];
        assert!(a.abs_diff(b) <= 1 && a + b == n, "{a} {b}");
    }
    drop(held);
    app.lines(10).await;
    let addresses = app.upstream()["addresses"].clone();
    assert!((0..2).all(|at| addresses[at]["in_flight"] == 0), "{addresses}");
}

#[tokio::test]
async fn a_body_is_sent_again_to_another_address_whole() {
    let origin = Origin::saying(whole("200 OK", "", "{}")).await;
    let both = [format!("http://{}", refusing().await), origin.url()];
    let app = App::start(&urls(&both, ""));
    for (target, lines) in [("/v1/files", ""), (CHAT, "")] {
        let body = "z".repeat(100_000);
        assert_eq!(ask(app.addr, &request("POST", target, lines, &body)).await.status, 200);
        let got = origin.take().remove(0);
        assert!(got.body == body.as_bytes(), "{target}");
    }
    app.lines(2).await;
}

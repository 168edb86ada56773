//! Kept connections that turn out dead: which calls are sent once more, and which never are.
//!
//! A backend that has read a call and gone may have done what it was asked for. Only what an endpoint
//! allows decides there; a connection that was closed before is not used at all.
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::{CHAT, PLAIN, RESPONSES, STREAM};
use crate::support::app::App;
use crate::support::client::{ask, request};
use crate::support::origin::{Conn, Origin, whole};
use crate::support::until;

/// How the first connection ends, once it has read its second request.
#[derive(Debug, Clone, Copy)]
enum Ends {
    Reset,
    Close,
}

async fn stale(ends: Ends) -> Origin {
    Origin::start(move |mut conn: Conn| async move {
        while conn.request().await.is_some() {
            conn.send(&whole("200 OK", "content-type: application/json\r\n", "{}")).await;
            if conn.number == 0 {
                conn.request().await;
                if let Ends::Reset = ends {
                    conn.reset();
                }
                return;
            }
        }
    })
    .await
}

fn policy(origin: &Origin, dialect: &str) -> String {
    format!(
        "upstreams: {{ up: {{ breaker: off, {dialect} url: '{}' }} }}\nroutes: [{{ to: up }}]\n",
        origin.url()
    )
}

/// What a call comes to on such a connection; how often it was sent.
async fn sent(dialect: &str, ends: Ends, call: &[u8]) -> (u16, usize) {
    let origin = stale(ends).await;
    let app = App::start(&policy(&origin, dialect));
    assert_eq!(ask(app.addr, &request("GET", "/first", "", "")).await.status, 200);
    until("the connection is kept", async || app.pool("idle") == 1).await;
    let got = ask(app.addr, call).await;
    if got.status != 200 {
        assert_eq!((got.status, &got.json()["error"]["code"]), (502, &"upstream_broken".into()));
        assert_eq!(got.head.get("x-should-retry"), None, "nobody has tried again");
    }
    let (line, times) = (app.lines(2).await.remove(1), origin.requests() - 1);
    assert_eq!(line["attempts"].as_u64(), Some(times as u64), "{line}");
    assert_eq!(app.pool("retried") == 1, times == 2);
    app.quiet().await;
    (got.status, times)
}

#[tokio::test]
async fn what_may_have_been_done_is_not_sent_twice() {
    const KEYED: &str = "idempotency-key: k\r\n";
    let lasting = r#"{"model":"m","input":"hi","background":true}"#;
    let hosted = r#"{"model":"m","input":"hi","tools":[{"type":"web_search"}]}"#;
    let (http, openai) = ("dialect: http,", "dialect: openai,");
    for (dialect, method, target, lines, body, again) in [
        (http, "POST", "/tools/pay", "", "", false),
        (http, "POST", "/tools/pay", "", "{\"amount\":1}", false),
        (http, "DELETE", "/orders/1", "", "", false),
        // known by its path, whoever serves it
        (http, "POST", CHAT, "", PLAIN, true),
        (http, "GET", "/orders/1", "", "", true),
        (http, "POST", "/tools/pay", KEYED, "", true),
        (openai, "POST", "/v1/files", "", "{}", false),
        (openai, "POST", "/v1/batches", "", "{}", false),
        (openai, "POST", RESPONSES, "", lasting, false),
        (openai, "POST", RESPONSES, "", hosted, false),
        (openai, "POST", RESPONSES, KEYED, lasting, true),
        (openai, "POST", CHAT, "", PLAIN, true),
        (openai, "POST", CHAT, "", STREAM, true),
        (openai, "POST", "/v1/embeddings", "", r#"{"model":"m","input":"hi"}"#, true),
        (openai, "GET", "/v1/models", "", "", true),
    ] {
        let call = request(method, target, lines, body);
        for ends in [Ends::Reset, Ends::Close] {
            let want = if again { (200, 2) } else { (502, 1) };
            assert_eq!(
                sent(dialect, ends, &call).await,
                want,
                "{ends:?} {method} {target} {lines}"
            );
        }
    }
}

/// The usual end of a kept connection: the backend has had enough of it, while nothing was going on.
#[tokio::test]
async fn a_stale_connection_that_was_closed_while_idle_is_never_seen() {
    let (close, closed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (wanted, done) = (Arc::clone(&close), Arc::clone(&closed));
    let origin = Origin::start(move |mut conn: Conn| {
        let (close, closed) = (Arc::clone(&wanted), Arc::clone(&done));
        async move {
            conn.request().await;
            conn.send(&whole("200 OK", "", "done")).await;
            close.notified().await;
            if conn.number.is_multiple_of(2) {
                conn.reset();
            } else {
                drop(conn);
            }
            closed.notify_one();
        }
    })
    .await;
    let app = App::start(&policy(&origin, "dialect: http,"));
    for nth in 1..=20 {
        // no pause: it is for the call itself to see that its connection is dead
        let got = ask(app.addr, &request("POST", "/tools/pay", "", "{\"amount\":1}")).await;
        assert_eq!((got.status, got.text()), (200, "done"), "{nth}");
        until("the connection is kept", async || app.pool("idle") == 1).await;
        close.notify_one();
        timeout(Duration::from_secs(5), closed.notified()).await.expect("it is closed");
    }
    assert_eq!((origin.requests(), origin.connections(), app.pool("retried")), (20, 20, 0));
    assert!(app.lines(20).await.iter().all(|line| line["attempts"] == 1));
}

/// Sent twice and failed twice: both count.
#[tokio::test]
async fn a_stale_connection_and_a_dead_fresh_one_are_two_attempts() {
    let origin = Origin::start(|mut conn: Conn| async move {
        if conn.number == 0 {
            conn.request().await;
            conn.send(&whole("200 OK", "", "first")).await;
        }
        conn.request().await;
        sleep(Duration::from_millis(20)).await;
        conn.reset();
    })
    .await;
    let app = App::start(&policy(&origin, "dialect: openai,"));
    assert_eq!(ask(app.addr, &request("GET", "/first", "", "")).await.status, 200);
    until("the connection is kept", async || app.pool("idle") == 1).await;
    let got = ask(app.addr, &request("POST", CHAT, "", PLAIN)).await;
    assert_eq!((got.status, got.head.get("x-should-retry")), (502, Some("false")));
    assert_eq!((origin.requests(), &app.lines(2).await[1]["attempts"]), (3, &2.into()));
    app.quiet().await;
}

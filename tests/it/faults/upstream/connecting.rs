//! Backends to whom no connection can be made, or whose connection is no good any more: cases 48,
//! 49, 53 and 80.
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use h2::Reason;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::tripped;
use super::{CHAT, MESSAGES, PLAIN, SAID, TOUCHY, after, answering, ask, falling_back, limited};
use crate::support::client::{Client, End, post};
use crate::support::h2::{Connection, origin as h2_origin, reply};
use crate::support::origin::{self, Origin, whole};
use crate::support::until;

/// A port at which nobody listens.
async fn refusing() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    listener.local_addr().unwrap()
}

/// A server that answers a TLS greeting with words.
async fn no_tls() -> Origin {
    Origin::start(|mut conn| async move {
        conn.some().await;
        conn.send(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    })
    .await
}

/// Addresses to which no connection comes about, with the word that metrics have for why.
async fn unreachable() -> (Vec<(String, &'static str)>, Origin) {
    let words = no_tls().await;
    let all = vec![
        (format!("http://{}", refusing().await), "refused"),
        // there is no such name (RFC 6761 section 6.4)
        ("http://nowhere.invalid".to_owned(), "dns"),
        (format!("https://{}", words.addr), "tls"),
    ];
    (all, words)
}

/// Said in the caller's dialect, without the address; nothing is charged, and it counts against the
/// backend. The SDKs try again by themselves, so nothing is said of that after a single attempt.
#[tokio::test]
async fn a48_no_connection() {
    let (urls, _words) = unreachable().await;
    for (url, reason) in urls {
        let app = limited(&url, TOUCHY, "");
        let got = ask(&app, &post(MESSAGES, "", PLAIN)).await;
        assert_eq!((got.status, got.end), (502, End::Whole), "{reason}");
        assert_eq!(got.json()["type"], "error", "{}", got.text());
        assert_eq!(got.head.get("x-should-retry"), None);
        assert!(!got.text().contains("127.0.0.1") && !got.text().contains("nowhere"));
        assert!(tripped(&app), "{reason}");
        // spared from now on: nobody is asked, and it is said when to come back
        let spared = ask(&app, &post(CHAT, "", PLAIN)).await;
        assert_eq!(
            (spared.status, &spared.json()["error"]["code"]),
            (503, &"upstream_unavailable".into())
        );
        assert!(spared.head.get("retry-after").is_some());
        let failed = app.metric("tidegate_pool_dial_failures_total", &[reason]);
        assert!(failed >= 1.0, "{reason}: {}", app.page("/metrics"));
        let lines = after::over(&app, &[(502, "upstream_broken"), (503, "upstream_broken")]).await;
        assert_eq!(lines[0]["error"], "upstream_unreachable");
        assert_eq!((after::charged(&app, "tokens"), after::charged(&app, "requests")), (0, 0));
        assert_eq!((app.pool("open"), app.pool("idle")), (0, 0));
    }
}

#[tokio::test]
async fn a48_another_takes_it_unseen() {
    let (urls, _words) = unreachable().await;
    for (url, reason) in urls {
        let origin = answering().await;
        let app = falling_back(&url, &origin.url(), "", "");
        let got = ask(&app, &post(CHAT, "", PLAIN)).await;
        assert_eq!((got.status, got.text()), (200, SAID), "{reason}");
        let line = after::over(&app, &[(200, "complete")]).await.remove(0);
        assert_eq!((&line["upstream"], origin.requests()), (&"other".into(), 1), "{line}");
        assert_eq!((after::charged(&app, "requests"), after::charged(&app, "tokens")), (1, 8));
        after::let_go(&app, &origin).await;
    }
    // where all are away, the caller's SDK need not try as well
    let app = falling_back(
        &format!("http://{}", refusing().await),
        &format!("http://{}", refusing().await),
        "",
        "",
    );
    let got = ask(&app, &post(CHAT, "", PLAIN)).await;
    assert_eq!((got.status, got.head.get("x-should-retry")), (502, Some("false")));
    after::over(&app, &[(502, "upstream_broken")]).await;
    assert_eq!((after::charged(&app, "requests"), after::charged(&app, "tokens")), (0, 0));
}

#[tokio::test]
async fn a49_packets_vanish() {
    let (hole, _filling) = origin::black_hole().await;
    let hole = format!("http://{}", hole.local_addr().unwrap().as_socket().unwrap());
    let patience = "pool: { connect_timeout: 300ms },";
    let origin = answering().await;
    let app = falling_back(&hole, &origin.url(), patience, "");
    let from = Instant::now();
    let got = ask(&app, &post(CHAT, "", PLAIN)).await;
    assert!(from.elapsed() >= Duration::from_millis(300), "{:?}", from.elapsed());
    assert_eq!((got.status, got.text()), (200, SAID), "the next one has it");
    after::over(&app, &[(200, "complete")]).await;
    after::let_go(&app, &origin).await;

    let app = limited(&hole, &format!("{patience} {TOUCHY}"), "");
    let got = ask(&app, &post(CHAT, "", PLAIN)).await;
    assert_eq!(got.status, 504);
    assert_eq!(got.json()["error"]["code"], "upstream_connect_timeout");
    assert!(tripped(&app));
    after::over(&app, &[(504, "deadline_connect")]).await;
    assert_eq!((after::charged(&app, "requests"), after::charged(&app, "tokens")), (0, 0));
}

/// Once, on a fresh connection, and without a word to anybody but the log.
#[tokio::test]
async fn a53_a_kept_connection_that_is_dead() {
    let origin = Origin::start(|mut conn| async move {
        while conn.request().await.is_some() {
            let first = conn.number == 0;
            conn.send(&whole("200 OK", "content-type: application/json\r\n", SAID)).await;
            if first {
                // the next call on it meets a reset
                conn.head().await;
                return conn.reset();
            }
        }
    })
    .await;
    let app = limited(&origin.url(), TOUCHY, "");
    for _ in 0..3 {
        assert_eq!(ask(&app, &post(CHAT, "", PLAIN)).await.text(), SAID);
        until("it is kept", async || app.pool("idle") == 1).await;
    }
    assert_eq!((app.pool("retried"), origin.connections(), origin.requests()), (1, 2, 4));
    assert!(!tripped(&app), "nothing was wrong with the backend");
    let lines = after::over(&app, &[(200, "complete"); 3]).await;
    assert_eq!(lines[1]["attempts"], 2, "{lines:#?}");
    assert_eq!((after::charged(&app, "requests"), after::charged(&app, "tokens")), (3, 24));
    after::let_go(&app, &origin).await;
}

/// What the backend says it has not begun goes to a new connection (RFC 9113 sections 6.8 and 8.7);
/// what it may have begun does not.
#[tokio::test]
async fn a80_http2_backends_that_go_away() {
    let asked = Arc::new(AtomicUsize::new(0));
    let (seen, over) = (Arc::clone(&asked), Arc::new(Notify::new()));
    let leaves = Arc::clone(&over);
    let addr = h2_origin(move |mut connection: Connection, number| {
        let (seen, leaves) = (Arc::clone(&seen), Arc::clone(&leaves));
        async move {
            while let Some(Some(Ok((_, mut to)))) = tokio::select! {
                next = connection.accept() => Some(next),
                () = leaves.notified() => None,
            } {
                let nth = seen.fetch_add(1, Relaxed);
                match (number, nth) {
                    (0, 0) => to.send_reset(Reason::REFUSED_STREAM),
                    (_, 2) => {
                        // GOAWAY while the answer is on its way: it is finished all the same
                        connection.graceful_shutdown();
                        reply(to, SAID);
                    }
                    (_, 4) => to.send_reset(Reason::INTERNAL_ERROR),
                    _ => reply(to, SAID),
                }
            }
        }
    })
    .await;
    let app = limited(&format!("http://{addr}"), "http2: always,", "");
    // refused once, then answered
    assert_eq!(ask(&app, &post(CHAT, "", PLAIN)).await.text(), SAID);
    assert_eq!((asked.load(Relaxed), app.pool("retried")), (2, 1));
    // it goes away behind this one, and the next is on a connection of its own
    assert_eq!(ask(&app, &post(CHAT, "", PLAIN)).await.text(), SAID);
    assert_eq!(ask(&app, &post(CHAT, "", PLAIN)).await.text(), SAID);
    assert_eq!(asked.load(Relaxed), 4);
    // nobody knows how far this one came, and the connection is as good as before
    let got = ask(&app, &post(CHAT, "", PLAIN)).await;
    assert_eq!((got.status, asked.load(Relaxed)), (502, 5));
    until("the others are closed", async || app.pool("open") == 1).await;
    over.notify_waiters();
    let fine = (200, "complete");
    after::over(&app, &[fine, fine, fine, (502, "upstream_broken")]).await;
    assert_eq!(after::charged(&app, "requests"), 4);
}

/// By frames: the backend says in its GOAWAY that it has not looked at the call.
#[tokio::test]
async fn a80_a_call_above_the_last_that_was_looked_at() {
    let origin = Origin::start(|mut conn| async move {
        let _preface = conn.exact(24).await;
        conn.send(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await;
        loop {
            let Some(head) = conn.exact(9).await else { return };
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let Some(_) = conn.exact(length as usize).await else { return };
            let (kind, flags, stream) = (head[3], head[4], &head[5..9]);
            match kind {
                // SETTINGS
                4 if flags == 0 => conn.send(&[0, 0, 0, 4, 1, 0, 0, 0, 0]).await,
                // HEADERS: the first connection goes away without it (last stream 0, NO_ERROR)
                1 if conn.number == 0 => {
                    conn.send(&[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).await;
                    return conn.until_gone().await;
                }
                1 => {
                    // :status 204, from the static table; then its connection ends, in good order: with
                    // frames unread the kernel would reset it, and the answer might go with it
                    conn.send(&[&[0, 0, 1, 1, 5][..], stream, &[0x89]].concat()).await;
                    let _ = timeout(Duration::from_millis(300), conn.until_gone()).await;
                    return;
                }
                _ => {}
            }
        }
    })
    .await;
    let app = limited(&origin.url(), "http2: always,", "");
    let mut client = Client::connect(app.addr).await;
    client.send(&post(CHAT, "", PLAIN)).await;
    let got = after::told(client.answer().await);
    assert_eq!((got.status, origin.connections(), app.pool("retried")), (204, 2, 1));
    after::over(&app, &[(204, "complete")]).await;
    after::let_go(&app, &origin).await;
}

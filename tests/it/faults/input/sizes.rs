//! Bodies that are too large, alone or together: cases 29 and 30.
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::super::{COUNTED, many, policy};
use super::{CHAT, PLAIN, after, answering, ask, limited};
use crate::support::app::App;
use crate::support::client::{Client, post, request};
use crate::support::h2;
use crate::support::origin::{self, Origin};

#[tokio::test]
async fn a29_bodies_over_the_bound() {
    let origin = answering().await;
    let app = limited(&origin.url(), "", "server: { max_body: 64KiB }\n");
    // said beforehand: not a byte of it is waited for
    for length in ["65537", "9999999999999999"] {
        let head = String::from_utf8(request("POST", CHAT, "", "")).unwrap();
        let head = head.replace("content-length: 0", &format!("content-length: {length}"));
        let mut client = Client::connect(app.addr).await;
        client.send(head.as_bytes()).await;
        let got = after::told(client.answer().await);
        assert_eq!((got.status, &got.json()["error"]["code"]), (413, &"request_too_large".into()));
        assert!(client.is_closed().await);
    }
    // found out on the way: chunks without an end
    let mut client = Client::connect(app.addr).await;
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    client.send(head.as_bytes()).await;
    for _ in 0..50 {
        client.send(format!("4000\r\n{}\r\n", "x".repeat(0x4000)).as_bytes()).await;
    }
    let got = after::told(client.answer().await);
    assert_eq!((got.status, got.head.get("connection")), (413, Some("close")));
    assert!(client.is_closed().await);
    // the same over HTTP/2, where the other streams go on
    let client = h2::Client::connect(app.addr).await;
    let got = client.ask(CHAT, "", &"x".repeat(65_537)).await;
    assert_eq!(got.status, 413);
    assert_eq!(client.ask(CHAT, "", PLAIN).await.status, 200);
    let large = (413, "refused");
    after::over(&app, &[large, large, large, large, (200, "complete")]).await;
    assert_eq!(origin.requests(), 1);
    after::let_go(&app, &origin).await;
}

/// Sends a body of this size in pieces, then reads the status; `None` where the connection ends.
async fn upload(app: std::net::SocketAddr, body: Arc<[u8]>) -> Option<u16> {
    let mut client = Client::connect(app).await;
    let head = String::from_utf8(request("POST", CHAT, "", "")).unwrap();
    let head = head.replace("content-length: 0", &format!("content-length: {}", body.len()));
    client.send(head.as_bytes()).await;
    for piece in body.chunks(64 << 10) {
        // an answer may come before all is sent
        if client.io.write_all(piece).await.is_err() {
            break;
        }
    }
    let head = timeout(Duration::from_mins(2), client.head()).await.unwrap();
    head.map(|head| head.status)
}

/// Bodies together are bounded by a budget of bytes: what does not fit is refused at once, and
/// what is held stays below the bound.
#[tokio::test]
async fn a30_bodies_together() {
    let (size, at_once) = (many(4, 32) << 20, 64);
    let budget = 8 * size;
    let origin = Origin::start(|mut conn| async move {
        while let Some(head) = conn.head().await {
            let mut left: usize = head.get("content-length").unwrap().parse().unwrap();
            while left > 0 {
                let Some(piece) = conn.exact(left.min(64 << 10)).await else { return };
                left -= piece.len();
            }
            sleep(Duration::from_millis(300)).await;
            conn.send(&origin::whole("200 OK", "", "{}")).await;
        }
    })
    .await;
    let (budget_mib, body_mib) = (budget >> 20, size >> 20);
    let memory = format!("server: {{ memory: {budget_mib}MiB, max_body: {body_mib}MiB }}\n");
    let app = App::start(&policy(&origin.url(), "", &format!("{COUNTED}{memory}")));
    let before = app.resident();
    let text = "x".repeat(size - 100);
    let body: Arc<[u8]> =
        format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{text}"}}]}}"#)
            .into_bytes()
            .into();
    let mut all = JoinSet::new();
    for _ in 0..at_once {
        all.spawn(upload(app.addr, Arc::clone(&body)));
    }
    let mut most = 0;
    let (mut fine, mut shed) = (0, 0);
    while !all.is_empty() {
        tokio::select! {
            Some(status) = all.join_next() => match status.unwrap() {
                Some(200) => fine += 1,
                Some(503) => shed += 1,
                other => panic!("{other:?}"),
            },
            () = sleep(Duration::from_millis(20)) => most = most.max(app.resident()),
        }
    }
    assert!(fine > 0 && shed > 0, "{fine} went, {shed} were refused");
    let grown = most.saturating_sub(before) << 10;
    assert!(grown < (budget + budget / 2 + (64 << 20)) as u64, "{} MiB", grown >> 20);
    assert_eq!(ask(&app, &post(CHAT, "", PLAIN)).await.status, 200, "it serves");
    let mut calls = vec![(200, "complete"); fine + 1];
    calls.extend(vec![(503, "refused"); shed]);
    let lines = after::over(&app, &calls).await;
    let refused = lines.iter().filter(|line| line["status"] == 503);
    assert!(refused.into_iter().all(|line| line["error"] == "overloaded"));
    after::let_go(&app, &origin).await;
    drop(TcpStream::connect(app.addr).await.unwrap());
}

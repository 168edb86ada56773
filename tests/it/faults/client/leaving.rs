//! Clients that go away: the call to the backend ends with them, and what it used is charged.
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::AsyncWriteExt;

use super::super::{CHAT, PLAIN, STREAM, after, limited};
use crate::support::app::App;
use crate::support::client::{Client, post};
use crate::support::origin::{self, Conn, Origin, chunk};
use crate::support::until;

/// What is promised is a tenth of a second; the rest is for machines under load.
const SOON: Duration = Duration::from_millis(500);

/// A backend that does this with the first request of each connection, and then waits to be left.
async fn held<F>(script: impl Fn(Conn) -> F + Copy + Send + 'static) -> Origin
where
    F: Future<Output = Conn> + Send + 'static,
{
    Origin::start(move |mut conn| async move {
        if conn.request().await.is_some() {
            let mut conn = script(conn).await;
            conn.until_gone().await;
        }
    })
    .await
}

/// The backend's connection ends soon after the client's.
async fn let_go_soon(app: &App, origin: &Origin, left: Instant) {
    until("the backend is let go", async || origin.open() == 0).await;
    let took = left.elapsed();
    assert!(took < SOON, "the backend was let go after {took:?}");
    after::let_go(app, origin).await;
}

/// A client that has sent this, once the backend has it.
async fn calling(app: &App, origin: &Origin, body: &str) -> Client {
    let mut client = Client::connect(app.addr).await;
    client.send(&post(CHAT, "", body)).await;
    until("the backend has the call", async || origin.requests() == 1).await;
    client
}

/// A client leaves while its call connects. Gives back the program and the call's line.
async fn left_while_connecting() -> (App, Value) {
    let (hole, _filling) = origin::black_hole().await;
    let addr = hole.local_addr().unwrap().as_socket().unwrap();
    let app = limited(&format!("http://{addr}"), "pool: { connect_timeout: 1m },", "");
    let stages = || {
        let calls = app.state()["calls"].as_array().unwrap().clone();
        calls.iter().map(|call| call["stage"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let mut client = Client::connect(app.addr).await;
    client.send(&post(CHAT, "", STREAM)).await;
    until("it connects", async || stages() == ["connecting"]).await;
    let left = Instant::now();
    drop(client);
    until("the connect is given up", async || stages().is_empty()).await;
    assert!(left.elapsed() < SOON, "{:?}", left.elapsed());
    let line = after::over(&app, &[(499, "client_gone")]).await.remove(0);
    assert_eq!((app.pool("open"), app.pool("dialled")), (0, 0));
    (app, line)
}

#[tokio::test]
async fn a01_client_leaves_before_upstream_connects() {
    let (app, line) = left_while_connecting().await;
    assert_eq!(line["attempts"], 1, "it was tried, and nothing sent: {line}");
    assert_eq!(app.ended("client_gone"), 1);
}

#[tokio::test]
async fn a01_what_was_never_sent_is_not_charged() {
    let (app, line) = left_while_connecting().await;
    assert_eq!(after::charged(&app, "tokens"), 0, "nobody has done anything for it: {line}");
    assert_eq!(after::charged(&app, "requests"), 0);
}

#[tokio::test]
async fn a02_client_leaves_before_the_first_byte() {
    let origin = held(|conn| async { conn }).await;
    let app = limited(&origin.url(), "", "");
    let client = calling(&app, &origin, STREAM).await;
    let left = Instant::now();
    drop(client);
    let_go_soon(&app, &origin, left).await;
    after::over(&app, &[(499, "client_gone")]).await;
    assert!(after::charged(&app, "tokens") > 0, "the prompt has been read by somebody");
    assert_eq!(after::charged(&app, "requests"), 1);
}

const WORDS: i64 = 30;

/// So many events with a word in each.
async fn words(mut conn: Conn) -> Conn {
    conn.send(origin::STREAM).await;
    for _ in 0..WORDS {
        conn.send(&chunk("data: {\"choices\":[{\"delta\":{\"content\":\"word \"}}]}\n\n")).await;
        // each a frame of its own
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    conn
}

/// Reads all the words and leaves.
async fn leaves_after_words(app: &App, origin: &Origin) -> Instant {
    let mut client = calling(app, origin, STREAM).await;
    assert_eq!(client.head().await.unwrap().status, 200);
    let mut seen = Vec::new();
    while memchr::memmem::find_iter(&seen, "word").count() < WORDS as usize {
        seen.extend(client.chunk().await.unwrap());
    }
    let left = Instant::now();
    client.reset();
    left
}

#[tokio::test]
async fn a03_client_leaves_in_mid_stream() {
    let origin = held(words).await;
    let app = limited(&origin.url(), "", "");
    let left = leaves_after_words(&app, &origin).await;
    let_go_soon(&app, &origin, left).await;
    let line = after::over(&app, &[(200, "client_gone")]).await.remove(0);
    let output = after::charged(&app, "output_tokens");
    assert!((WORDS..3 * WORDS).contains(&output), "{output} for {WORDS} words: {line}");
    assert!(after::charged(&app, "tokens") > output, "the prompt as well");
}

/// The bill of a stream that is left would only come at its end. The program does not wait for it:
/// the backend is let go at once, for that is what stops its work, and what was counted until then
/// is charged. Nothing is free, and nothing lives on behind a client that has gone.
#[tokio::test]
async fn a04_no_bill_is_waited_for_behind_a_client_that_left() {
    let origin = held(|conn| async {
        let mut conn = words(conn).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let usage = r#"{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":7000}}"#;
        conn.send(&chunk(&format!("data: {usage}\n\n"))).await;
        conn
    })
    .await;
    let app = limited(&origin.url(), "", "");
    let left = leaves_after_words(&app, &origin).await;
    // the other end was closed while it still had something to say
    until("the call is over", async || app.ended("client_gone") == 1).await;
    assert!(left.elapsed() < SOON, "{:?}", left.elapsed());
    until("the backend is let go", async || origin.open() == 0).await;
    after::over(&app, &[(200, "client_gone")]).await;
    let output = after::charged(&app, "output_tokens");
    assert!((WORDS..3 * WORDS).contains(&output), "{output}");
}

#[tokio::test]
async fn a05_client_leaves_a_plain_call() {
    for half in [false, true] {
        let origin = if half {
            held(|mut conn| async {
                conn.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"half\":").await;
                conn
            })
            .await
        } else {
            held(|conn| async { conn }).await
        };
        let app = limited(&origin.url(), "", "");
        let mut client = calling(&app, &origin, PLAIN).await;
        if half {
            client.head().await.unwrap();
        }
        let left = Instant::now();
        drop(client);
        let_go_soon(&app, &origin, left).await;
        after::over(&app, &[(if half { 200 } else { 499 }, "client_gone")]).await;
        assert!(after::charged(&app, "tokens") > 0);
    }
}

/// A client that ends its own direction counts as gone: it could not be told from one that is.
#[tokio::test]
async fn a06_client_closes_its_half() {
    let origin = held(words).await;
    let app = limited(&origin.url(), "", "");
    let mut client = calling(&app, &origin, STREAM).await;
    assert_eq!(client.head().await.unwrap().status, 200);
    let left = Instant::now();
    client.io.shutdown().await.unwrap();
    let_go_soon(&app, &origin, left).await;
    while client.chunk().await.is_ok_and(|chunk| !chunk.is_empty()) {}
    assert!(client.is_closed().await, "the rest is not served");
    after::over(&app, &[(200, "client_gone")]).await;
    // a socket that is readable for ever must not keep anybody busy
    let before = after::processor(&app);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let used = after::processor(&app).saturating_sub(before);
    assert!(used < Duration::from_millis(150), "{used:?} of half a second");
}

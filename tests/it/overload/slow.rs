//! Who sends or reads slowly holds nothing for long.
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{CHAT, MIB, announced, held, large, policy};
use crate::support::app::App;
use crate::support::client::{Client, post};
use crate::support::origin::{self, Origin};
use crate::support::{PATIENCE, until};

async fn origin() -> Origin {
    Origin::saying(origin::whole("200 OK", "content-type: application/json\r\n", "{}")).await
}

/// Sends the body in pieces, with pauses; the status of the answer.
async fn dripping(client: &mut Client, body: &[u8], piece: usize, pause: Duration) -> u16 {
    let from = Instant::now();
    for part in body.chunks(piece) {
        client.send(part).await;
        let readable = tokio::time::timeout(pause, client.io.readable()).await;
        if readable.is_ok() || from.elapsed() > PATIENCE {
            break;
        }
    }
    client.answer().await.status
}

#[tokio::test]
async fn case_7_a_body_that_drips_is_no_progress() {
    let origin = origin().await;
    let app = App::start(&policy("body_timeout: 2s", &origin.url(), ""));
    let (mut client, body) = announced(&app, 4000).await;
    let start = Instant::now();
    assert_eq!(dripping(&mut client, &body, 1, Duration::from_millis(50)).await, 408);
    assert!(start.elapsed() >= Duration::from_secs(2));
    assert!(client.is_closed().await);
    assert_eq!(app.line().await["outcome"], "deadline_body");
}

#[tokio::test]
async fn who_announces_much_has_to_send_it() {
    let origin = origin().await;
    let app = App::start(&policy("body_timeout: 1s", &origin.url(), ""));
    // 20 KiB a second would do for a small body, and is nothing for this one
    let (mut client, body) = announced(&app, 8 * MIB).await;
    until("it is held", async || held(&app) > 8 * MIB).await;
    assert_eq!(dripping(&mut client, &body, 2048, Duration::from_millis(100)).await, 408);
    until("it is given back", async || held(&app) == 0).await;
    app.lines(1).await;
}

/// Streams are passed on as they come; but what we keep of an event to look into it is memory too.
#[tokio::test]
async fn events_without_an_end_count_for_as_long_as_they_are_kept() {
    let endless = |begin: &'static str| {
        Origin::start(move |mut conn: origin::Conn| async move {
            conn.request().await;
            conn.send(origin::STREAM).await;
            conn.send(&origin::chunk(begin)).await;
            conn.send(&origin::chunk(&format!("data: {}", "x".repeat(900 << 10)))).await;
            conn.until_gone().await;
        })
    };
    // after content, and before it, where the head is held back
    for begin in ["data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n", ": so\n\n"] {
        let origin = endless(begin).await;
        let app = App::start(&policy("memory: 64MiB", &origin.url(), ""));
        let mut clients = Vec::new();
        for _ in 0..4 {
            let mut client = Client::connect(app.addr).await;
            client.send(&post(CHAT, "", r#"{"model":"m","messages":[],"stream":true}"#)).await;
            // it reads what comes
            clients.push(tokio::spawn(async move { client.answer().await }));
        }
        until("they are counted", async || held(&app) > 4 * (900 << 10)).await;
        clients.iter().for_each(tokio::task::JoinHandle::abort);
        until("all is given back", async || held(&app) == 0).await;
        app.lines(4).await;
    }
}

#[tokio::test]
async fn a_slow_line_is_fast_enough() {
    let origin = origin().await;
    let app = App::start(&policy("body_timeout: 1s", &origin.url(), ""));
    // 40 KiB in four seconds: longer than the bound, never without progress
    let (mut client, body) = announced(&app, 40 << 10).await;
    assert_eq!(dripping(&mut client, &body, 1024, Duration::from_millis(100)).await, 200);
    app.lines(1).await;
}

/// Readers who read nothing cost what is on its way to them, and no more.
#[tokio::test]
async fn case_9_a_hundred_slow_readers_leave_memory_flat() {
    let origin = Origin::start(|mut conn| async move {
        let frame = origin::chunk(&format!("data: {}\n\n", "x".repeat(16 << 10)));
        while conn.request().await.is_some() {
            conn.send(origin::STREAM).await;
            while tokio::io::AsyncWriteExt::write_all(&mut conn.io, &frame).await.is_ok() {}
        }
    })
    .await;
    let app = App::start(&policy("write_timeout: 60s", &origin.url(), ""));
    let (head, body) = large(CHAT, 200);
    let call = [head, body].concat();
    let mut readers = Vec::new();
    for _ in 0..100 {
        let mut client = Client::connect(app.addr).await;
        client.send(&call).await;
        readers.push(client);
    }
    until("all stream", async || origin.requests() == 100).await;
    sleep(Duration::from_millis(500)).await;
    let before = app.resident();
    sleep(Duration::from_secs(2)).await;
    let grown = app.resident().saturating_sub(before);
    assert!(grown < 4 << 10, "{grown} KiB in two seconds");
    assert!(app.resident() < 96 << 10, "{} KiB", app.resident());
    drop(readers);
    app.lines(100).await;
    until("all is given back", async || held(&app) == 0).await;
}

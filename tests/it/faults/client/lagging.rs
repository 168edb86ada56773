//! Clients that are slow, idle, or many: cases 7 to 12, and 102.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use super::super::{CHAT, MESSAGES, PLAIN, SAID, STREAM, UPLOAD, after, answering, ask, limited};
use super::super::{COUNTED, many, policy};
use crate::life::tidegate_after;
use crate::support::app::App;
use crate::support::client::{Client, End, get, post};
use crate::support::origin::{self, Origin, chunk};
use crate::support::{PATIENCE, until};

/// How late a deadline may be: what sweeps are apart, and a machine that is busy with other tests.
const LATE: Duration = Duration::from_secs(5);

/// Sends one byte after another, far apart, until the other side will not have them.
async fn drip(client: &mut Client, bytes: &[u8]) -> Duration {
    let from = Instant::now();
    for byte in bytes {
        if client.io.write_all(&[*byte]).await.is_err() || from.elapsed() > LATE {
            break;
        }
        // what has been said to it, or that it has been cut
        if timeout(Duration::from_millis(50), client.io.readable()).await.is_ok() {
            break;
        }
    }
    from.elapsed()
}

/// The clock of a head runs from its first byte, however busily it drips. There is no request yet,
/// so nothing is said, and no call is logged: the connection ends.
#[tokio::test]
async fn a07_head_that_drips() {
    let origin = answering().await;
    let app = limited(&origin.url(), "", "server: { head_timeout: 1s }\n");
    let mut client = Client::connect(app.addr).await;
    let endless = [get(CHAT, "x-long: ").as_slice(), "y".repeat(1000).as_bytes()].concat();
    let took = drip(&mut client, &endless).await;
    assert!(took >= Duration::from_secs(1) && took < LATE, "{took:?}");
    assert!(client.head().await.is_none(), "there is nothing to answer");
    after::over(&app, &[]).await;
    until("its connection is gone", async || app.state()["connections"] == 0).await;
    after::unheard(&origin);
    assert_eq!(ask(&app, &post(CHAT, "", PLAIN)).await.status, 200, "others are served");
    after::over(&app, &[(200, "complete")]).await;
}

#[tokio::test]
async fn a08_body_that_stalls() {
    let origin = answering().await;
    let app = limited(&origin.url(), "", "server: { body_timeout: 500ms }\n");
    for target in [CHAT, MESSAGES, UPLOAD] {
        let whole = post(target, "", &"x".repeat(1000));
        let mut client = Client::connect(app.addr).await;
        let start = Instant::now();
        client.send(&whole[..whole.len() - 500]).await;
        let got = after::told(client.answer().await);
        assert!(start.elapsed() >= Duration::from_millis(500) && start.elapsed() < LATE);
        assert_eq!((got.status, got.end), (408, End::Whole), "{target}");
        assert!(got.text().contains("stopped arriving"), "{}", got.text());
        assert_eq!(got.head.get("connection"), Some("close"));
        assert!(client.is_closed().await);
    }
    let line = (408, "deadline_body");
    after::over(&app, &[line, line, line]).await;
    after::let_go(&app, &origin).await;
    assert_eq!(origin.requests(), 1, "the upload's head alone, without an end");
    assert_eq!(app.count("tidegate_refusals_total", &["request_body_timeout"]), 3);
    assert_eq!(after::charged(&app, "tokens"), 0);
}

/// A body that comes byte by byte is never silent, and holds a connection all the same.
#[tokio::test]
async fn a08_body_that_drips() {
    let origin = answering().await;
    let app = limited(&origin.url(), "", "server: { body_timeout: 1s }\n");
    for target in [CHAT, UPLOAD] {
        let whole = post(target, "", &"x".repeat(1000));
        let (start, rest) = whole.split_at(whole.len() - 1000);
        let mut client = Client::connect(app.addr).await;
        client.send(start).await;
        let took = drip(&mut client, rest).await;
        assert!(took >= Duration::from_secs(1) && took < LATE, "{took:?}");
        let got = after::told(client.answer().await);
        assert_eq!(got.status, 408, "{target}");
        assert!(client.is_closed().await);
    }
    after::over(&app, &[(408, "deadline_body"); 2]).await;
    after::let_go(&app, &origin).await;
}

/// Streams for ever, as fast as it is read, and counts what it could write.
async fn fountain(sent: &Arc<AtomicUsize>) -> Origin {
    let sent = Arc::clone(sent);
    Origin::start(move |mut conn| {
        let sent = Arc::clone(&sent);
        async move {
            let event = format!("data: {{\"x\":\"{}\"}}\n\n", "y".repeat(16 * 1024));
            let frame = chunk(&event);
            if conn.request().await.is_some() {
                conn.send(origin::STREAM).await;
                while conn.io.write_all(&frame).await.is_ok() {
                    sent.fetch_add(frame.len(), Relaxed);
                }
            }
        }
    })
    .await
}

/// A client whose kernel keeps next to nothing for it.
async fn narrow(app: &App) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(app.addr).await.unwrap()
}

#[tokio::test]
async fn a09_slow_readers() {
    let readers = many(100, 1000);
    let sent = Arc::default();
    let origin = fountain(&sent).await;
    let patience = many(8, 60);
    let app = limited(&origin.url(), "", &format!("server: {{ write_timeout: {patience}s }}\n"));
    // what one call needs anyhow is there
    let mut first = Client::connect(app.addr).await;
    first.send(&post(CHAT, "", STREAM)).await;
    assert_eq!(first.head().await.unwrap().status, 200);
    drop(first);
    until("it is over", async || app.ended("client_gone") == 1).await;
    let before = app.resident();
    let mut slow = Vec::new();
    for _ in 0..readers {
        let mut client = narrow(&app).await;
        client.write_all(&post(CHAT, "", STREAM)).await.unwrap();
        slow.push(client);
    }
    let from = Instant::now();
    while origin.requests() <= readers {
        assert!(from.elapsed() < Duration::from_mins(1), "not all are served");
        sleep(Duration::from_millis(50)).await;
    }
    stands_still(&sent).await;
    let each = app.resident().saturating_sub(before) / readers as u64;
    assert!(each < 256, "{each} KiB a reader");
    // what is not read is not fetched either, however long it takes
    let then = app.resident();
    sleep(Duration::from_secs(1)).await;
    assert!(app.resident() <= then + then / 20, "{then} KiB, then {} KiB", app.resident());
    // (the kernel may find more room for what it holds, and widen a window after a second's rest)
    let from = Instant::now();
    loop {
        let stood = stands_still(&sent).await;
        sleep(Duration::from_secs(1)).await;
        let now = sent.load(Relaxed);
        if now - stood < stood / 5 {
            break;
        }
        assert!(from.elapsed().as_secs() < 20, "the backend goes on: {stood}, then {now}");
    }
    // and both sides are let go in the end; where many are, the kernel's room that some leave lets
    // others take a little more, and their time begins anew
    let from = Instant::now();
    let gone = async || app.ended("client_gone") == readers + 1;
    while !gone().await {
        assert!(from.elapsed() < Duration::from_mins(5), "slow readers are kept");
        sleep(Duration::from_millis(100)).await;
    }
    after::over(&app, &vec![(200, "client_gone"); readers + 1]).await;
    after::let_go(&app, &origin).await;
    drop(slow);
}

/// Waits until nothing more is written; says how much it was.
async fn stands_still(sent: &AtomicUsize) -> usize {
    let (mut last, mut since) = (0, Instant::now());
    while since.elapsed() < Duration::from_secs(1) || last == 0 {
        let now = sent.load(Relaxed);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        sleep(Duration::from_millis(10)).await;
    }
    last
}

#[tokio::test]
async fn a10_idle_connections() {
    let origin = Origin::start(|mut conn| async move {
        while conn.request().await.is_some() {
            sleep(Duration::from_secs(3)).await;
            conn.send(&origin::whole("200 OK", "content-type: application/json\r\n", SAID)).await;
        }
    })
    .await;
    let app = limited(&origin.url(), "", "server: { idle_timeout: 1s }\n");
    let mut never = Client::connect(app.addr).await;
    let mut client = Client::connect(app.addr).await;
    client.send(&post(CHAT, "", PLAIN)).await;
    // three times as long as it may idle
    let got = after::told(client.answer().await);
    assert_eq!((got.status, got.end), (200, End::Whole), "never in the middle of a call");
    let from = Instant::now();
    assert!(client.is_closed().await);
    assert!(from.elapsed() >= Duration::from_millis(800) && from.elapsed() < LATE);
    assert!(never.is_closed().await, "one that never asked is idle as well");
    after::over(&app, &[(200, "complete")]).await;
    after::let_go(&app, &origin).await;
    assert_eq!(app.state()["connections"], 0);
}

#[tokio::test]
async fn a11_pipelined_requests() {
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counts = (Arc::clone(&running), Arc::clone(&most));
    let origin = Origin::start(move |mut conn| {
        let (running, most) = (Arc::clone(&counts.0), Arc::clone(&counts.1));
        async move {
            while let Some(request) = conn.request().await {
                most.fetch_max(running.fetch_add(1, Relaxed) + 1, Relaxed);
                sleep(Duration::from_millis(30)).await;
                running.fetch_sub(1, Relaxed);
                conn.send(&origin::whole("200 OK", "", &request.target)).await;
            }
        }
    })
    .await;
    let app = limited(&origin.url(), "", "");
    let mut client = Client::connect(app.addr).await;
    let targets: Vec<String> = (0..20).map(|at| format!("/v1/things/{at}")).collect();
    let all: Vec<u8> = targets.iter().flat_map(|target| get(target, "")).collect();
    client.send(&all).await;
    for target in &targets {
        let got = after::told(client.answer().await);
        assert_eq!((got.status, got.text()), (200, target.as_str()));
    }
    assert_eq!(most.load(Relaxed), 1, "one at a time");
    after::over(&app, &vec![(200, "complete"); 20]).await;
    after::let_go(&app, &origin).await;
}

/// Above the bound nobody is turned away: who comes waits in the kernel's queue until there is room.
#[tokio::test]
async fn a12_idle_connections_up_to_the_bound() {
    let bound = many(200, 10_000);
    let origin = answering().await;
    let app = limited(&origin.url(), "", &format!("server: {{ max_connections: {bound} }}\n"));
    let before = app.resident();
    let mut idle = Vec::new();
    for _ in 0..bound {
        idle.push(TcpStream::connect(app.addr).await.unwrap());
    }
    until("all are let in", async || app.state()["connections"] == bound).await;
    let each = app.resident().saturating_sub(before) / bound as u64;
    assert!(each < 64, "{each} KiB an idle connection");
    let mut waits = Client::connect(app.addr).await;
    waits.send(&post(CHAT, "", PLAIN)).await;
    let early = timeout(Duration::from_millis(500), waits.io.readable()).await;
    assert!(early.is_err(), "it is not served yet");
    assert_eq!(app.state()["connections"], bound, "and not let in");
    after::unheard(&origin);
    idle.pop();
    assert_eq!(after::told(waits.answer().await).status, 200, "as soon as there is room");
    drop(idle);
    until("all are gone", async || app.state()["connections"] == 1).await;
    after::over(&app, &[(200, "complete")]).await;
    after::let_go(&app, &origin).await;
}

#[tokio::test]
async fn a102_few_descriptors() {
    let origin = answering().await;
    let app = App::by(
        tidegate_after("ulimit -n 256;"),
        &policy(&origin.url(), "", COUNTED),
        &["--workers", "1", "--log", "tidegate=trace,info", "--log-form", "json"],
    );
    assert_eq!(ask(&app, &post(CHAT, "", PLAIN)).await.status, 200);
    let mut crowd = Vec::new();
    for _ in 0..400 {
        crowd.push(TcpStream::connect(app.addr).await.unwrap());
    }
    let said = || app.events().contains("connections wait");
    until("it says that it has run out", async || said()).await;
    let before = after::processor(&app);
    sleep(Duration::from_secs(2)).await;
    let used = after::processor(&app).saturating_sub(before);
    assert!(used < Duration::from_millis(600), "{used:?} of two seconds: it spins");
    let lines = app.events().matches("connections wait").count();
    assert!(lines < 20, "{lines} lines of the same");
    drop(crowd);
    let from = Instant::now();
    let got = ask(&app, &post(CHAT, "", PLAIN)).await;
    assert!(got.status == 200 && from.elapsed() < PATIENCE);
    after::over(&app, &[(200, "complete"), (200, "complete")]).await;
    after::let_go(&app, &origin).await;
}

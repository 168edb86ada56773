//! Clients that leave: the upstream call ends at once, whatever it was doing, and is recorded once.
//! With `--nocapture` the tests say how soon that was.
#![expect(clippy::print_stderr, reason = "measurements for whoever asks")]
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;

use super::{CHAT, PLAIN, STREAM, policy};
use crate::support::app::App;
use crate::support::client::{Client, post};
use crate::support::origin::{self, Conn, Origin, chunk};
use crate::support::{h2, until};

/// Bound of these tests; what is promised, and what an idle machine shows, is far below.
const SOON: Duration = Duration::from_millis(500);

/// How a client leaves.
#[derive(Debug, Clone, Copy)]
enum Leave {
    /// HTTP/1.1: FIN
    Close,
    /// HTTP/1.1: RST
    Reset,
    /// HTTP/2: `RST_STREAM`, the connection stays
    Cancel,
    /// HTTP/2: the connection ends
    HangUp,
}

const WAYS: [Leave; 4] = [Leave::Close, Leave::Reset, Leave::Cancel, Leave::HangUp];

/// Makes a call, waits for the moment, and leaves; says when.
async fn leave(app: &App, way: Leave, body: &str, moment: impl AsyncFnOnce()) -> Instant {
    match way {
        Leave::Close | Leave::Reset => {
            let mut client = Client::connect(app.addr).await;
            client.send(&post(CHAT, "", body)).await;
            moment().await;
            let at = Instant::now();
            match way {
                Leave::Reset => client.reset(),
                _ => drop(client),
            }
            at
        }
        Leave::Cancel | Leave::HangUp => {
            let client = h2::Client::connect(app.addr).await;
            let response = client.post(CHAT, "", body).await;
            moment().await;
            let at = Instant::now();
            if let Leave::HangUp = way {
                client.hang_up();
            } else {
                drop(response);
                // the connection lives on and is of use
                assert_eq!(client.ask("/nothing", "", "").await.status, 200);
            }
            at
        }
    }
}

/// An origin that answers with `script`, then notes when the sidecar went.
async fn noting<F>(script: impl Fn(Conn) -> F + Copy + Send + 'static) -> (Origin, Gone)
where
    F: Future<Output = Conn> + Send + 'static,
{
    let gone = Gone::default();
    let note = gone.clone();
    let origin = Origin::start(move |mut conn| {
        let note = note.clone();
        async move {
            while let Some(request) = conn.request().await {
                if request.target == "/nothing" {
                    conn.send(&origin::whole("200 OK", "", "")).await;
                    continue;
                }
                let mut conn = script(conn).await;
                conn.until_gone().await;
                note.0.lock().push(Instant::now());
                return;
            }
        }
    })
    .await;
    (origin, gone)
}

#[derive(Clone, Default)]
struct Gone(Arc<Mutex<Vec<Instant>>>);

impl Gone {
    async fn when(&self) -> Instant {
        until("the upstream call ends", async || !self.0.lock().is_empty()).await;
        self.0.lock().remove(0)
    }
}

/// Every way to leave in one phase: how long the upstream noticed after, and what was recorded.
async fn in_phase<F>(phase: &str, body: &str, script: impl Fn(Conn) -> F + Copy + Send + 'static)
where
    F: Future<Output = Conn> + Send + 'static,
{
    let (origin, gone) = noting(script).await;
    let app = App::start(&policy(&origin.url(), ""));
    for way in WAYS {
        origin.take();
        let sent = async || {
            until("the call is in its phase", async || origin.requests() > 0).await;
            // whatever the script answers has arrived, or nothing will
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let left = leave(&app, way, body, sent).await;
        let took = gone.when().await.saturating_duration_since(left);
        eprintln!("{phase}, {way:?}: the upstream call ended after {took:?}");
        assert!(took < SOON, "{way:?} {took:?}");
    }
    check_ends(&app).await;
}

/// One line and one count for each call that was left, and nothing in flight.
async fn check_ends(app: &App) {
    let lines = app.lines(WAYS.len() + 1).await;
    let left = lines.iter().filter(|line| line["outcome"] == "client_gone").count();
    assert_eq!(left, WAYS.len(), "{lines:#?}");
    assert_eq!(app.ended("client_gone"), WAYS.len());
    let upstream = app.upstream();
    assert_eq!((upstream["in_flight"].as_i64(), upstream["waiting"].as_i64()), (Some(0), Some(0)));
    assert_eq!(upstream["addresses"][0]["in_flight"], 0);
    assert_eq!(app.pool("open"), app.pool("idle"), "no connection leaks");
}

#[tokio::test]
async fn case_2_before_the_first_byte() {
    in_phase("before the first byte", STREAM, |conn| async { conn }).await;
}

#[tokio::test]
async fn case_3_in_mid_stream() {
    in_phase("mid-stream", STREAM, |mut conn| async {
        conn.send(origin::STREAM).await;
        conn.send(&chunk("data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n")).await;
        conn
    })
    .await;
}

#[tokio::test]
async fn case_5_in_a_plain_call() {
    in_phase("plain, before the head", PLAIN, |conn| async { conn }).await;
}

#[tokio::test]
async fn case_5_in_the_middle_of_a_plain_answer() {
    in_phase("plain, in its body", PLAIN, |mut conn| async {
        conn.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"half\":").await;
        conn
    })
    .await;
}

/// While it waits for a place that another call has.
#[tokio::test]
async fn while_queued() {
    let (origin, gone) = noting(|conn| async { conn }).await;
    let app = App::start(&policy(&origin.url(), "concurrency: 1, timeouts: { queue: 1m },"));
    let mut first = Client::connect(app.addr).await;
    first.send(&post(CHAT, "", PLAIN)).await;
    until("it has the place", async || origin.requests() == 1).await;
    for way in [Leave::Close, Leave::Reset, Leave::HangUp] {
        let waiting = || app.upstream()["waiting"].as_i64();
        let queued = async || {
            until("it waits", async || waiting() == Some(1)).await;
        };
        let left = leave(&app, way, PLAIN, queued).await;
        until("it waits no more", async || waiting() == Some(0)).await;
        let took = left.elapsed();
        eprintln!("queued, {way:?}: the place in the line was free after {took:?}");
        assert!(took < SOON, "{way:?} {took:?}");
    }
    assert_eq!(origin.requests(), 1, "none of them was sent");
    drop(first);
    gone.when().await;
    for line in app.lines(4).await {
        assert_eq!((&line["outcome"], &line["status"]), (&"client_gone".into(), &499.into()));
    }
    assert_eq!(app.ended("client_gone"), 4);
}

#[tokio::test]
async fn case_1_while_connecting() {
    let (hole, _filling) = origin::black_hole().await;
    let addr = hole.local_addr().unwrap().as_socket().unwrap();
    let app = App::start(&policy(&format!("http://{addr}"), "pool: { connect_timeout: 1m },"));
    let calls = || app.state()["calls"].as_array().unwrap().clone();
    for (at, way) in [Leave::Close, Leave::Reset, Leave::HangUp].into_iter().enumerate() {
        let connecting = async || {
            let stage = async || calls().iter().any(|call| call["stage"] == "connecting");
            until("it connects", stage).await;
        };
        let left = leave(&app, way, PLAIN, connecting).await;
        until("it is gone", async || calls().is_empty()).await;
        let took = left.elapsed();
        eprintln!("connecting, {way:?}: the call was gone after {took:?}");
        assert!(took < SOON, "{way:?} {took:?}");
        assert_eq!(app.lines(at + 1).await[at]["outcome"], "client_gone");
    }
    assert_eq!((app.pool("open"), app.pool("dialled")), (0, 0));
}

/// A client that leaves while it is still sending.
#[tokio::test]
async fn while_sending() {
    let (origin, _gone) = noting(|conn| async { conn }).await;
    let app = App::start(&policy(&origin.url(), ""));
    let reading = || app.state()["calls"].as_array().unwrap().len();
    for (at, target) in [CHAT, "/v1/files"].into_iter().enumerate() {
        let mut client = Client::connect(app.addr).await;
        let whole = post(target, "", &"x".repeat(1000));
        client.send(&whole[..whole.len() - 500]).await;
        until("it is being read", async || reading() == 1).await;
        drop(client);
        until("it is gone", async || reading() == 0).await;
        assert_eq!(app.lines(at + 1).await[at]["outcome"], "client_gone", "{target}");
    }
    until("the upload's connection ends", async || origin.open() == 0).await;
}

/// Many calls on one connection: one that is cancelled disturbs no other.
#[tokio::test]
async fn one_stream_of_many() {
    let (origin, gone) = noting(|mut conn| async {
        conn.send(origin::STREAM).await;
        conn
    })
    .await;
    let app = App::start(&policy(&origin.url(), ""));
    let client = h2::Client::connect(app.addr).await;
    let mut calls = Vec::new();
    for _ in 0..20 {
        calls.push(client.post(CHAT, "", STREAM).await);
    }
    until("all are there", async || origin.requests() == 20).await;
    drop(calls.drain(..10));
    until("ten are gone", async || gone.0.lock().len() == 10).await;
    until("ten are recorded", async || app.ended("client_gone") == 10).await;
    assert_eq!(app.upstream()["in_flight"], 10);
    drop(calls);
    app.lines(20).await;
}

/// A client that ends only its own direction counts as gone: it could not be told from one that is.
#[tokio::test]
async fn case_6_half_closed() {
    let (origin, gone) = noting(|conn| async { conn }).await;
    let app = App::start(&policy(&origin.url(), ""));
    let mut client = Client::connect(app.addr).await;
    client.send(&post(CHAT, "", STREAM)).await;
    until("it is sent", async || origin.requests() == 1).await;
    client.io.shutdown().await.unwrap();
    let left = Instant::now();
    let took = gone.when().await.saturating_duration_since(left);
    assert!(took < SOON, "{took:?}");
    assert!(client.is_closed().await);
    assert_eq!(app.line().await["outcome"], "client_gone");
}

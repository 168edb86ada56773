//! Backends that speak HTTP/2: by ALPN, by prior knowledge, and with everything they may refuse.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::Response;
use tidegate::config::ListenTls;
use tidegate::listen::tls::ServerTls;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{CHAT, PLAIN, STREAM, policy};
use crate::net::certs::Authority;
use crate::support::app::App;
use crate::support::client::{Client, End, ask, post, request};
use crate::support::h2::{Connection, origin, reply};
use crate::support::origin::{Conn, Origin};
use crate::support::{PATIENCE, until};

const ALWAYS: &str = "http2: always,";

/// Answers each request with its own body.
async fn mirror<T>(mut connection: h2::server::Connection<T, Bytes>, seen: Arc<AtomicUsize>)
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut calls = JoinSet::new();
    while let Some(Ok((request, to))) = connection.accept().await {
        seen.fetch_add(1, Relaxed);
        calls.spawn(async move {
            let mut body = request.into_body();
            let mut all = Vec::new();
            while let Some(Ok(data)) = body.data().await {
                body.flow_control().release_capacity(data.len()).unwrap();
                all.extend_from_slice(&data);
            }
            reply(to, all);
        });
    }
}

#[tokio::test]
async fn http2_is_agreed_on_by_alpn() {
    let authority = Authority::new("test");
    let pair = authority.issue_local("backend");
    let tls = ListenTls { cert: pair.cert, key: pair.key, client_ca: None, client_required: false };
    let tls = Arc::new(ServerTls::new(&tls).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (seen, dialled) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counts = (Arc::clone(&seen), Arc::clone(&dialled));
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            counts.1.fetch_add(1, Relaxed);
            let stream = tls.accept(tcp).await.unwrap();
            let connection = h2::server::handshake(stream).await.unwrap();
            tokio::spawn(mirror(connection, Arc::clone(&counts.0)));
        }
    });
    let more = format!("tls: {{ ca: '{}' }},", authority.ca().display());
    let app = App::start(&policy(&format!("https://localhost:{port}"), &more));
    for body in [PLAIN, STREAM, &"x".repeat(1 << 20)] {
        let got = ask(app.addr, &post("/v1/files", "", body)).await;
        assert!(got.status == 200 && got.end == End::Whole && got.body == body.as_bytes());
        assert_eq!(ask(app.addr, &post(CHAT, "", body)).await.body, body.as_bytes());
    }
    app.lines(6).await;
    assert_eq!((seen.load(Relaxed), dialled.load(Relaxed), app.pool("reused")), (6, 1, 5));
}

#[tokio::test]
async fn many_calls_share_one_connection() {
    let (seen, all_there) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let (count, gate) = (Arc::clone(&seen), Arc::clone(&all_there));
    let addr = origin(move |mut connection: Connection, _| {
        let (count, gate) = (Arc::clone(&count), Arc::clone(&gate));
        async move {
            let mut waiting = Vec::new();
            while let Some(Ok((request, to))) = connection.accept().await {
                waiting.push((request, to));
                if count.fetch_add(1, Relaxed) + 1 == 60 {
                    gate.notify_one();
                    waiting.drain(..).for_each(|(_, to)| reply(to, "together"));
                }
            }
        }
    })
    .await;
    let app = App::start(&policy(&format!("http://{addr}"), ALWAYS));
    let mut calls = JoinSet::new();
    for _ in 0..60 {
        let addr = app.addr;
        calls.spawn(async move { ask(addr, &post(CHAT, "", PLAIN)).await });
    }
    timeout(PATIENCE, all_there.notified()).await.expect("all at once");
    while let Some(got) = calls.join_next().await {
        assert_eq!(got.unwrap().text(), "together");
    }
    app.lines(60).await;
    assert_eq!((app.pool("dialled"), app.pool("open")), (1, 1));
}

#[tokio::test]
async fn streams_flow_and_one_that_is_reset_disturbs_no_other() {
    let addr = origin(|mut connection: Connection, _| async move {
        let mut calls = JoinSet::new();
        while let Some(Ok((request, mut to))) = connection.accept().await {
            let head = Response::builder().header("content-type", "text/event-stream");
            let mut stream = to.send_response(head.body(()).unwrap(), false).unwrap();
            let dies = request.uri().path() == "/v1/completions";
            calls.spawn(async move {
                for _ in 0..10 {
                    stream
                        .send_data("data: {\"choices\":[{\"text\":\"a\"}]}\n\n".into(), false)
                        .unwrap();
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    if dies {
                        return stream.send_reset(Reason::INTERNAL_ERROR);
                    }
                }
                stream.send_data("data: [DONE]\n\n".into(), true).unwrap();
            });
        }
    })
    .await;
    let app = App::start(&policy(&format!("http://{addr}"), ALWAYS));
    let (healthy, dying) = (post(CHAT, "", STREAM), post("/v1/completions", "", STREAM));
    let (lives, dies) = tokio::join!(ask(app.addr, &healthy), ask(app.addr, &dying));
    assert!(lives.end == End::Whole && lives.text().ends_with("[DONE]\n\n"));
    assert!(dies.end == End::Closed && dies.text().contains("upstream_broken"), "{}", dies.text());
    let mut outcomes: Vec<_> = app
        .lines(2)
        .await
        .iter()
        .map(|line| line["outcome"].as_str().unwrap().to_owned())
        .collect();
    outcomes.sort();
    assert_eq!(outcomes, ["complete", "upstream_broken"]);
    assert_eq!(app.pool("dialled"), 1);
}

#[tokio::test]
async fn a_client_that_leaves_and_a_deadline_cancel_their_stream_alone() {
    let (reasons, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let addr = origin(move |mut connection: Connection, _| {
        let reasons = reasons.clone();
        async move {
            let mut held = JoinSet::new();
            while let Some(Ok((request, mut to))) = connection.accept().await {
                let reasons = reasons.clone();
                if request.uri().path() == "/nothing" {
                    reply(to, "");
                    continue;
                }
                held.spawn(async move {
                    let reason = std::future::poll_fn(|cx| to.poll_reset(cx)).await;
                    reasons.send(reason.unwrap()).unwrap();
                });
            }
        }
    })
    .await;
    let more = format!("{ALWAYS} timeouts: {{ first_byte: 500ms }},");
    let app = App::start(&policy(&format!("http://{addr}"), &more));
    let mut client = Client::connect(app.addr).await;
    client.send(&post(CHAT, "", STREAM)).await;
    until("it is sent", async || app.state()["calls"][0]["stage"] == "first_byte").await;
    drop(client);
    assert_eq!(timeout(PATIENCE, heard.recv()).await.unwrap(), Some(Reason::CANCEL));
    assert_eq!(ask(app.addr, &post(CHAT, "", STREAM)).await.status, 504);
    assert_eq!(timeout(PATIENCE, heard.recv()).await.unwrap(), Some(Reason::CANCEL));
    assert_eq!(ask(app.addr, &post("/nothing", "", "")).await.status, 200);
    assert_eq!(app.pool("dialled"), 1);
    let lines = app.lines(3).await;
    let outcomes = ["client_gone", "deadline_first_byte", "complete"];
    assert!(lines.iter().zip(outcomes).all(|(line, outcome)| line["outcome"] == outcome));
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let head = [length[1], length[2], length[3], kind, flags];
    [&head[..], &stream.to_be_bytes(), payload].concat()
}

/// Speaks HTTP/2 frame by frame: `answer` says what comes back for the nth request, and whether the
/// connection goes on.
async fn by_frames(mut conn: Conn, answer: impl Fn(usize, u32) -> (Vec<u8>, bool)) {
    if conn.exact(24).await.is_none() {
        return;
    }
    conn.send(&frame(SETTINGS, 0, 0, &[])).await;
    let mut requests = 0;
    while let Some(head) = conn.exact(9).await {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let Some(payload) = conn.exact(length).await else { return };
        match head[3] {
            SETTINGS if head[4] & 1 == 0 => conn.send(&frame(SETTINGS, 1, 0, &[])).await,
            PING if head[4] & 1 == 0 => conn.send(&frame(PING, 1, 0, &payload)).await,
            HEADERS => {
                let (bytes, goes_on) = answer(requests, stream);
                requests += 1;
                conn.send(&bytes).await;
                if !goes_on {
                    return;
                }
            }
            _ => {}
        }
    }
}

/// `:status 200` and the end of the stream.
fn ok(stream: u32) -> Vec<u8> {
    frame(HEADERS, 5, stream, &[0x88])
}

/// An origin whose first connection meets its second request with `second`.
async fn meets(second: impl Fn(u32) -> (Vec<u8>, bool) + Copy + Send + Sync + 'static) -> Origin {
    Origin::start(move |conn| async move {
        let first = conn.number == 0;
        by_frames(conn, |n, stream| match n {
            1 if first => second(stream),
            _ => (ok(stream), true),
        })
        .await;
    })
    .await
}

/// Three calls; what the second got, and how many connections there were.
async fn three_calls(origin: &Origin, body: Option<&[u8]>) -> (u16, usize, i64) {
    let app = App::start(&policy(&origin.url(), ALWAYS));
    let call = post(CHAT, "", PLAIN);
    assert_eq!(ask(app.addr, &call).await.status, 200);
    let second = ask(app.addr, body.unwrap_or(&call)).await.status;
    assert_eq!(ask(app.addr, &call).await.status, 200);
    app.lines(3).await;
    (second, origin.connections(), app.pool("retried"))
}

#[tokio::test]
async fn case_80_what_was_certainly_not_done_is_sent_again() {
    // GOAWAY names the last stream that was looked at: the first call's
    let origin = meets(|_| (frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]), false)).await;
    assert_eq!(three_calls(&origin, None).await, (200, 2, 1));
    // REFUSED_STREAM
    let origin = meets(|stream| (frame(RST_STREAM, 0, stream, &[0, 0, 0, 7]), true)).await;
    assert_eq!(three_calls(&origin, None).await, (200, 2, 1));
}

/// A backend that takes fewer calls than were sent before it could say so.
#[tokio::test]
async fn case_80_a_refusal_on_a_fresh_connection_is_one_too() {
    let origin = Origin::start(|conn| async move {
        let first = conn.number == 0;
        by_frames(conn, |_, stream| {
            let refused = frame(RST_STREAM, 0, stream, &[0, 0, 0, 7]);
            if first { (refused, true) } else { (ok(stream), true) }
        })
        .await;
    })
    .await;
    let app = App::start(&policy(&origin.url(), ALWAYS));
    assert_eq!(ask(app.addr, &post(CHAT, "", PLAIN)).await.status, 200);
    assert_eq!((app.line().await["attempts"].as_u64(), origin.connections()), (Some(2), 2));
}

#[tokio::test]
async fn what_may_have_been_done_is_not_sent_again() {
    // INTERNAL_ERROR for one stream: the connection is as good as before
    let origin = meets(|stream| (frame(RST_STREAM, 0, stream, &[0, 0, 0, 2]), true)).await;
    assert_eq!(three_calls(&origin, None).await, (502, 1, 0));
    // GOAWAY that includes the call, which is then cut off
    let goaway = |stream: u32| {
        let payload = [&stream.to_be_bytes()[..], &[0; 4]].concat();
        (frame(GOAWAY, 0, 0, &payload), false)
    };
    let origin = meets(goaway).await;
    assert_eq!(three_calls(&origin, None).await, (502, 2, 0));
    // an upload that was begun has gone by
    let origin = meets(|stream| (frame(RST_STREAM, 0, stream, &[0, 0, 0, 7]), true)).await;
    let upload = request("POST", "/v1/files", "", &"x".repeat(1000));
    assert_eq!(three_calls(&origin, Some(&upload)).await, (502, 2, 0));
}

/// GOAWAY lets what has begun end, and sends what follows elsewhere.
#[tokio::test]
async fn case_80_goaway_ends_no_running_call() {
    let finish = Arc::new(Notify::new());
    let gate = Arc::clone(&finish);
    let addr = origin(move |mut connection: Connection, number| {
        let gate = Arc::clone(&gate);
        async move {
            let mut calls = JoinSet::new();
            while let Some(Ok((_, to))) = connection.accept().await {
                if number > 0 {
                    reply(to, "second");
                    continue;
                }
                let gate = Arc::clone(&gate);
                calls.spawn(async move {
                    gate.notified().await;
                    reply(to, "first");
                });
                connection.graceful_shutdown();
            }
        }
    })
    .await;
    let app = App::start(&policy(&format!("http://{addr}"), ALWAYS));
    let mut first = Client::connect(app.addr).await;
    first.send(&post(CHAT, "", PLAIN)).await;
    until("it is sent", async || app.state()["calls"][0]["stage"] == "first_byte").await;
    until("the others go elsewhere", async || {
        let mut other = Client::connect(app.addr).await;
        other.send(&post(CHAT, "", PLAIN)).await;
        let answer = timeout(Duration::from_millis(500), other.answer()).await;
        answer.is_ok_and(|answer| answer.text() == "second")
    })
    .await;
    finish.notify_waiters();
    assert_eq!(first.answer().await.text(), "first");
}

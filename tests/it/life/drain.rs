//! SIGTERM and what follows.
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use http::Response;
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::CHAT;
use super::agent::{ask, backend, chat, connect, get, next, policy, send, whole};
use super::child::{PATIENCE, Sidecar, tidegate};

/// Streams whose first bytes have come.
async fn streams(to: SocketAddr, count: usize, simulate: &str) -> Vec<Response<Incoming>> {
    let mut starting = JoinSet::new();
    for _ in 0..count {
        let request = chat(CHAT, simulate);
        starting.spawn(async move {
            // the connection lives on in its task
            let mut response = send(&mut connect(to).await, request).await;
            assert_eq!(response.status(), 200);
            next(&mut response).await.unwrap().unwrap();
            response
        });
    }
    starting.join_all().await
}

async fn readiness(sidecar: &Sidecar) -> u16 {
    ask(sidecar.admin, get("/readyz")).await.0
}

#[tokio::test]
async fn running_streams_finish_and_new_calls_are_sent_away() {
    let backend = backend();
    let drain = "server: { drain: { delay: 200ms, timeout: 20s } }";
    let mut sidecar = Sidecar::start(&policy(&backend, drain)).await;
    // each lasts well beyond the delay
    let running = streams(sidecar.addr, 200, "tokens=100; gap=20ms").await;
    assert_eq!(readiness(&sidecar).await, 200);
    let told = Instant::now();
    sidecar.signal("TERM");
    sidecar.logged("readiness fails from now on").await;
    assert_eq!(readiness(&sidecar).await, 503);
    let (status, _) = ask(sidecar.addr, chat(CHAT, "")).await;
    let served = told.elapsed() < Duration::from_millis(200);
    // on a machine that stalled here the delay may be over
    assert!(status == 200 || !served, "new calls are served during the delay: {status}");
    sidecar.logged("no new calls are taken").await;
    refuses(sidecar.addr).await;
    assert_eq!(ask(sidecar.admin, get("/livez")).await.0, 200, "a drain is no reason to be killed");
    for response in running {
        let body = whole(response).await.expect("a whole stream");
        assert!(body.ends_with("data: [DONE]\n\n"), "{body}");
    }
    assert_eq!(sidecar.ended().await.code(), Some(0));
}

/// Nobody is left hanging: the connection is refused, or closed, or answered with 503.
async fn refuses(to: SocketAddr) {
    let Ok(mut tcp) = TcpStream::connect(to).await else { return };
    let request = format!("GET {CHAT} HTTP/1.1\r\nhost: x\r\n\r\n");
    let _ = tcp.write_all(request.as_bytes()).await;
    let mut answer = String::new();
    let read = timeout(Duration::from_millis(500), tcp.read_to_string(&mut answer)).await;
    assert!(read.is_ok(), "a new connection hangs");
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 503 "), "{answer}");
}

#[tokio::test]
async fn a_call_on_an_open_connection_is_answered_or_closed_while_draining() {
    let backend = backend();
    let drain = "server: { drain: { delay: 0s, timeout: 20s } }";
    let mut sidecar = Sidecar::start(&policy(&backend, drain)).await;
    let mut idle = connect(sidecar.addr).await;
    whole(send(&mut idle, chat(CHAT, "")).await).await.unwrap();
    let running = streams(sidecar.addr, 1, "tokens=1000; gap=20ms").await;
    sidecar.signal("TERM");
    sidecar.logged("no new calls are taken").await;
    match timeout(PATIENCE, idle.send_request(chat(CHAT, ""))).await.unwrap() {
        Ok(answer) => {
            assert_eq!(answer.status(), 503);
            assert_eq!(answer.headers()["retry-after"], "1");
            let body: serde_json::Value =
                serde_json::from_str(&whole(answer).await.unwrap()).unwrap();
            assert_eq!(body["error"]["code"], "draining");
        }
        Err(error) => {
            let closed = error.is_canceled() || error.is_closed() || error.is_incomplete_message();
            assert!(closed, "{error:?}");
        }
    }
    drop(running);
    assert_eq!(sidecar.ended().await.code(), Some(0), "the last stream's client left");
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let backend = backend();
    let drain = "server: { drain: { delay: 60s, timeout: 60s } }";
    for (first, second) in [("TERM", "INT"), ("INT", "TERM")] {
        let mut sidecar = Sidecar::start(&policy(&backend, drain)).await;
        let mut running = streams(sidecar.addr, 1, "tokens=100000; gap=20ms").await;
        sidecar.signal(first);
        sidecar.logged("readiness fails from now on").await;
        let told = Instant::now();
        sidecar.signal(second);
        assert_eq!(sidecar.ended().await.code(), Some(0));
        assert!(told.elapsed() < Duration::from_secs(5), "{:?}", told.elapsed());
        whole(running.remove(0)).await.expect_err("cut is not ended");
    }
}

#[tokio::test]
async fn what_is_left_after_the_drain_is_cut_and_recorded() {
    let backend = backend();
    let drain = "server: { drain: { delay: 0s, timeout: 300ms } }";
    let mut command = tidegate();
    command.stdout(Stdio::piped());
    let policy = policy(&backend, drain);
    let policy = format!("listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\n{policy}");
    let mut sidecar = Sidecar::start_by(command, &policy).await;
    let running = streams(sidecar.addr, 5, "tokens=100000; gap=20ms").await;
    sidecar.signal("TERM");
    sidecar.logged("the drain's time is over").await;
    for response in running {
        whole(response).await.expect_err("cut is not ended");
    }
    assert_eq!(sidecar.ended().await.code(), Some(0));
    let mut lines = String::new();
    let mut stdout = sidecar.child.stdout.take().unwrap();
    std::io::Read::read_to_string(&mut stdout, &mut lines).unwrap();
    assert_eq!(lines.lines().count(), 5, "one line for each call: {lines}");
}

#[tokio::test]
async fn a_call_in_line_gets_its_turn_while_draining() {
    let backend = backend();
    let limits = "server: { drain: { delay: 0s, timeout: 20s } }\n\
         policies: [{ limits: { concurrency: 1 }, queue: { wait: 15s } }]\n\
         routes: [{ to: llm }]";
    let mut sidecar = Sidecar::start(&policy(&backend, limits)).await;
    let running = streams(sidecar.addr, 1, "tokens=40; gap=20ms").await;
    let waiting = tokio::spawn(ask(sidecar.addr, chat(CHAT, "tokens=3")));
    let waits = async || ask(sidecar.admin, get("/state")).await.1.contains("\"queued\"");
    crate::support::until("it stands in line", waits).await;
    sidecar.signal("TERM");
    sidecar.logged("no new calls are taken").await;
    refuses(sidecar.addr).await;
    for response in running {
        assert!(whole(response).await.expect("a whole stream").ends_with("data: [DONE]\n\n"));
    }
    let (status, body) = waiting.await.unwrap();
    assert_eq!(status, 200, "{body}");
    assert_eq!(sidecar.ended().await.code(), Some(0));
}

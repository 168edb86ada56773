//! Frames leave as they come, unchanged, and no faster than they are read.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::{CHAT, GEMINI, MESSAGES, OLLAMA, PLAIN, RESPONSES, STREAM, policy, simulated};
use crate::support::app::App;
use crate::support::client::{Client, End, ask, get, post, request};
use crate::support::origin::{self, Origin, chunk};
use crate::support::{PATIENCE, h2, until};

#[tokio::test]
async fn case_57_58_bytes_are_those_of_a_direct_call() {
    let (app, simulator) = simulated("");
    let (mut through, mut direct) =
        (Client::connect(app.addr).await, Client::connect(simulator.addr).await);
    let array = "/v1beta/models/m:streamGenerateContent";
    let paths = [CHAT, RESPONSES, MESSAGES, GEMINI, OLLAMA, array, "/v1/completions"];
    let paths = paths.into_iter().chain(["/api/generate", "/v1beta/models/m:generateContent"]);
    let scripts = [
        "fault=split=bytes",
        "fault=split=utf8",
        "fault=split=crlf",
        "sse=crlf",
        "sse=cr",
        "sse=tight",
        "sse=comments; reasoning=3; usage=always",
    ];
    let mut calls = 0;
    for path in paths {
        for (script, body) in
            scripts.map(|script| (script, STREAM)).into_iter().chain([("", PLAIN)])
        {
            let request = post(path, &format!("tokens=12; {script}"), body);
            through.send(&request).await;
            direct.send(&request).await;
            let (got, wanted) = (through.answer().await, direct.answer().await);
            assert_eq!((got.status, got.end), (200, End::Whole), "{path} {script}");
            assert_eq!(got.text(), wanted.text(), "{path} {script}");
            assert_eq!(got.head.get("content-type"), wanted.head.get("content-type"));
            assert_eq!(got.head.is_chunked(), wanted.head.is_chunked());
            calls += 1;
        }
    }
    let lines = app.lines(calls).await;
    for line in lines {
        assert_eq!(line["outcome"], "complete", "{line}");
        assert!(line["output_tokens"].as_u64() > Some(0) || line["stream"] == true, "{line}");
    }
    assert_eq!(app.pool("dialled"), 1, "one connection carried them all");
}

#[tokio::test]
async fn case_59_an_event_of_20_mib_is_forwarded() {
    let (app, simulator) = simulated("");
    for path in [CHAT, MESSAGES, OLLAMA] {
        let request = post(path, "tokens=2; fault=big-event=20MiB", STREAM);
        let (got, wanted) = (ask(app.addr, &request).await, ask(simulator.addr, &request).await);
        assert!(got.end == End::Whole && got.body == wanted.body, "{path}");
        assert!(got.body.len() > 20 << 20);
    }
    for line in app.lines(3).await {
        assert_eq!(line["outcome"], "complete", "the terminal event behind it was seen");
    }
    // what is held of it is no more than what is on its way
    assert!(app.resident() < 64 << 10, "{} KiB", app.resident());
}

#[tokio::test]
async fn the_head_and_each_event_leave_at_once() {
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let origin = Origin::start(move |mut conn| {
        let gate = Arc::clone(&gate);
        async move {
            while conn.request().await.is_some() {
                conn.send(origin::STREAM).await;
                gate.notified().await;
                for event in ["data: {\"one\":1}\n\n", "data: tw", "o\n\n", "data: [DONE]\n\n"] {
                    conn.send(&chunk(event)).await;
                    gate.notified().await;
                }
                conn.send(b"0\r\n\r\n").await;
            }
        }
    })
    .await;
    let app = App::start(&policy(&origin.url(), ""));
    let mut client = Client::connect(app.addr).await;
    client.send(&post(CHAT, "", STREAM)).await;
    // each is read while the origin waits with the next
    assert_eq!(client.head().await.unwrap().status, 200);
    for event in ["data: {\"one\":1}\n\n", "data: tw", "o\n\n", "data: [DONE]\n\n"] {
        go.notify_one();
        assert_eq!(client.chunk().await.unwrap(), event.as_bytes());
    }
    go.notify_one();
    assert!(client.chunk().await.unwrap().is_empty());

    let client = h2::Client::connect(app.addr).await;
    let response = timeout(PATIENCE, client.post(CHAT, "", STREAM).await).await.unwrap().unwrap();
    let mut body = response.into_body();
    go.notify_one();
    let first = timeout(PATIENCE, body.data()).await.unwrap().unwrap().unwrap();
    assert_eq!(&first[..], b"data: {\"one\":1}\n\n");
    drop(body);
    assert_eq!(app.lines(2).await[1]["outcome"], "client_gone");
}

/// Streams 64 KiB frames for ever, and counts what could be written.
async fn fountain(sent: &Arc<AtomicUsize>) -> Origin {
    let sent = Arc::clone(sent);
    Origin::start(move |mut conn| {
        let sent = Arc::clone(&sent);
        async move {
            let frame = chunk(&format!("data: {}\n\n", "x".repeat(64 * 1024 - 8)));
            while conn.request().await.is_some() {
                conn.send(origin::STREAM).await;
                while conn.io.write_all(&frame).await.is_ok() {
                    sent.fetch_add(frame.len(), Relaxed);
                }
            }
        }
    })
    .await
}

/// Waits until no more is written; says how much it was.
async fn stands_still(sent: &AtomicUsize) -> usize {
    let (mut last, mut since) = (0, Instant::now());
    while since.elapsed() < Duration::from_millis(300) || last == 0 {
        let now = sent.load(Relaxed);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        assert!(last < 128 << 20, "nothing stops the upstream");
        sleep(Duration::from_millis(5)).await;
    }
    last
}

#[tokio::test]
async fn case_9_a_client_that_does_not_read_stops_the_upstream() {
    let sent = Arc::default();
    let origin = fountain(&sent).await;
    let app = App::start(&policy(&origin.url(), ""));
    let before = app.resident();
    let mut client = Client::connect(app.addr).await;
    client.send(&post(CHAT, "", STREAM)).await;
    let over_h1 = stands_still(&sent).await;

    let other = h2::Client::connect(app.addr).await;
    let response = timeout(PATIENCE, other.post(CHAT, "", STREAM).await).await.unwrap().unwrap();
    stands_still(&sent).await;
    let grown = app.resident().saturating_sub(before);
    assert!(grown < 4 << 10, "{grown} KiB for {over_h1} bytes on their way");
    // once it reads, more comes
    let stood = sent.load(Relaxed);
    assert_eq!(client.head().await.unwrap().status, 200);
    let mut read = 0;
    while read < stood + (1 << 20) {
        read += client.chunk().await.unwrap().len();
    }
    assert!(sent.load(Relaxed) > stood);
    drop((client, response));
    for line in app.lines(2).await {
        assert_eq!(line["outcome"], "client_gone");
    }
}

#[tokio::test]
async fn case_9_a_slow_reader_is_cut_after_the_write_timeout() {
    let sent = Arc::default();
    let origin = fountain(&sent).await;
    let app =
        App::start(&format!("server: {{ write_timeout: 1s }}\n{}", policy(&origin.url(), "")));
    let mut client = Client::connect(app.addr).await;
    client.send(&post(CHAT, "", STREAM)).await;
    stands_still(&sent).await;
    let took = until("the upstream is let go", async || origin.open() == 0).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(app.line().await["outcome"], "client_gone");
}

#[tokio::test]
async fn case_9_a_slow_reader_over_http2_is_cut_too() {
    let sent = Arc::default();
    let origin = fountain(&sent).await;
    let app =
        App::start(&format!("server: {{ write_timeout: 1s }}\n{}", policy(&origin.url(), "")));
    let client = h2::Client::connect(app.addr).await;
    let response = timeout(PATIENCE, client.post(CHAT, "", STREAM).await).await.unwrap().unwrap();
    stands_still(&sent).await;
    let took = until("the upstream is let go", async || origin.open() == 0).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(app.line().await["outcome"], "client_gone");
    // that stream alone
    let mut body = response.into_body();
    let reset = loop {
        match timeout(PATIENCE, body.data()).await.unwrap() {
            Some(Ok(data)) => body.flow_control().release_capacity(data.len()).unwrap(),
            Some(Err(error)) => break error.reason(),
            None => break None,
        }
    };
    assert_eq!(reset, Some(::h2::Reason::CANCEL));
    let other = timeout(PATIENCE, client.post(CHAT, "", STREAM).await).await.unwrap().unwrap();
    assert_eq!(other.status(), 200);
    drop(other);
    app.lines(2).await;
}

#[tokio::test]
async fn a_client_that_pauses_is_not_taken_for_a_silent_upstream() {
    let sent = Arc::default();
    let origin = fountain(&sent).await;
    let app = App::start(&policy(&origin.url(), "timeouts: { idle: 300ms },"));
    let mut client = Client::connect(app.addr).await;
    client.send(&post(CHAT, "", STREAM)).await;
    stands_still(&sent).await;
    sleep(Duration::from_millis(500)).await;
    let stood = sent.load(Relaxed);
    assert_eq!(client.head().await.unwrap().status, 200);
    let mut read = 0;
    while read < 2 * stood + (16 << 20) {
        let chunk = client.chunk().await.expect("the stream goes on");
        assert!(!String::from_utf8_lossy(&chunk).contains("error"));
        read += chunk.len();
    }
    drop(client);
    assert_eq!(app.line().await["outcome"], "client_gone");
}

#[tokio::test]
async fn an_upstream_that_does_not_read_stops_the_client() {
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let origin = Origin::start(move |mut conn| {
        let gate = Arc::clone(&gate);
        async move {
            let head = conn.head().await.unwrap();
            gate.notified().await;
            let length = head.get("content-length").unwrap().parse().unwrap();
            let body = conn.exact(length).await.unwrap();
            conn.send(&origin::whole("200 OK", "", &body.len().to_string())).await;
        }
    })
    .await;
    let app = App::start(&policy(&origin.url(), ""));
    let before = app.resident();
    let body = "x".repeat(64 << 20);
    let mut client = Client::connect(app.addr).await;
    let head = request("POST", "/v1/files", "", "");
    let head =
        String::from_utf8(head).unwrap().replace("content-length: 0", "content-length: 67108864");
    client.send(head.as_bytes()).await;
    let mut left = body.as_bytes();
    while let Ok(written) =
        timeout(Duration::from_millis(300), client.io.write(&left[..left.len().min(65536)])).await
    {
        left = &left[written.unwrap()..];
        assert!(!left.is_empty(), "nothing stops the client");
    }
    let grown = app.resident().saturating_sub(before);
    assert!(grown < 4 << 10, "{grown} KiB");
    go.notify_one();
    client.send(left).await;
    assert_eq!(client.answer().await.text(), "67108864");
    let line = app.line().await;
    assert_eq!(
        (&line["outcome"], &line["request_bytes"]),
        (&"complete".into(), &67_108_864.into())
    );
}

#[tokio::test]
async fn large_bodies_arrive_intact() {
    let (app, _simulator) = simulated("");
    let body: String = (0..20 << 20).map(|at| char::from(b'a' + (at % 23) as u8)).collect();
    let answer = ask(app.addr, &post("/simulate/mirror", "", &body)).await;
    assert!(answer.end == End::Whole && answer.body == body.as_bytes());
    // one that is read before it is sent on
    let chat = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{body}"}}]}}"#);
    assert_eq!(ask(app.addr, &post(CHAT, "", &chat)).await.status, 200);
    let client = h2::Client::connect(app.addr).await;
    let answer = client.ask("/simulate/mirror", "", &body[..1 << 20]).await;
    assert!(answer.reset.is_none() && answer.body == body.as_bytes()[..1 << 20]);
    app.lines(3).await;

    let large = "y".repeat(50 << 20);
    let origin = Origin::saying(origin::whole("200 OK", "", &large)).await;
    let app = App::start(&policy(&origin.url(), ""));
    for _ in 0..2 {
        let answer = ask(app.addr, &get("/v1/files/1/content", "")).await;
        assert!(answer.end == End::Whole && answer.body == large.as_bytes());
    }
    assert_eq!(app.lines(2).await[1]["response_bytes"], 50 << 20);
    assert!(app.resident() < 48 << 10, "{} KiB", app.resident());
}

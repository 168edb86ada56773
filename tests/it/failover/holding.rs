//! A stream's head is kept back until its content begins, so that an error in it is answered by
//! somebody else; and never for longer than that.
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::*;
use crate::support::client::{Client, End};
use crate::support::origin::{self, chunk, stream};
use crate::support::until;

/// One dialect's streams.
struct Face {
    target: &'static str,
    body: &'static str,
    kind: &'static str,
    /// What comes before content.
    lead: &'static [&'static str],
    error: &'static str,
    good: &'static [&'static str],
}

const FACES: [Face; 5] = [
    Face {
        target: CHAT,
        body: STREAM,
        kind: "text/event-stream",
        lead: &[": hello\n\n", ROLE],
        error: ERROR,
        good: &[ROLE, TOKEN, STOP, DONE],
    },
    Face {
        target: MESSAGES,
        body: r#"{"model":"m","stream":true,"max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#,
        kind: "text/event-stream; charset=utf-8",
        lead: &[
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"a\",\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}\n\n",
            "event: ping\ndata: {\"type\": \"ping\"}\n\n",
        ],
        error: "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n",
        good: &[
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"b\",\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}\n\n",
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"hi\"}}\n\n",
            "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        ],
    },
    Face {
        target: RESPONSES,
        body: r#"{"model":"m","stream":true,"input":"hi"}"#,
        kind: "text/event-stream",
        lead: &[
            "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"a\"}}\n\n",
            "event: response.in_progress\ndata: {\"type\":\"response.in_progress\",\"response\":{\"id\":\"a\"}}\n\n",
        ],
        error: "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"id\":\"a\",\"error\":{\"code\":\"server_error\",\"message\":\"no\"}}}\n\n",
        good: &[
            "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"hi\"}\n\n",
            "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"b\",\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}\n\n",
        ],
    },
    Face {
        target: GEMINI,
        body: r#"{"contents":[{"parts":[{"text":"hi"}]}]}"#,
        kind: "text/event-stream",
        lead: &[],
        error: "data: {\"error\":{\"code\":503,\"message\":\"The model is overloaded.\",\"status\":\"UNAVAILABLE\"}}\r\n\r\n",
        good: &[
            "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"hi\"}]},\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":5,\"candidatesTokenCount\":1}}\r\n\r\n",
        ],
    },
    Face {
        target: OLLAMA,
        body: r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#,
        kind: "application/x-ndjson",
        lead: &[],
        error: "{\"error\":\"model runner has unexpectedly stopped\"}\n",
        good: &[
            "{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"hi\"},\"done\":false}\n",
            "{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true,\"prompt_eval_count\":5,\"eval_count\":1}\n",
        ],
    },
];

impl Face {
    fn stream<'e>(&self, events: impl IntoIterator<Item = &'e str>) -> Vec<u8> {
        let all = String::from_utf8(stream(events)).unwrap();
        all.replacen("text/event-stream", self.kind, 1).into_bytes()
    }
}

#[tokio::test]
async fn case_65_an_error_before_content_is_answered_by_another() {
    for face in FACES {
        for lead in [&[][..], face.lead] {
            let bad = face.stream(lead.iter().copied().chain([face.error]));
            let good = face.stream(face.good.iter().copied());
            let (a, b) = (Origin::saying(bad).await, Origin::saying(good).await);
            let app = pair(&a.url(), &b.url(), "");
            let got = ask(app.addr, &post(face.target, "", face.body)).await;
            assert_eq!((got.status, got.end), (200, End::Whole), "{}", face.target);
            assert_eq!(got.text(), face.good.concat(), "{}", face.target);
            assert_eq!(got.head.all("content-type"), [face.kind]);
            assert_eq!(counts([&a, &b]), [1, 1]);
            let line = app.line().await;
            assert_eq!((&line["upstream"], &line["attempts"]), (&"b".into(), &2.into()));
            assert_eq!(line["outcome"], "complete", "{line}");
            app.quiet().await;
        }
    }
}

#[tokio::test]
async fn case_66_an_error_behind_content_is_passed_on() {
    for face in FACES {
        let [begun @ .., _] = face.good else { continue };
        if begun.is_empty() {
            // all of it is one event
            continue;
        }
        let events = [begun, &[face.error]].concat();
        let a = Origin::saying(face.stream(events.iter().copied())).await;
        let b = Origin::saying(face.stream(face.good.iter().copied())).await;
        let app = pair(&a.url(), &b.url(), "");
        let got = ask(app.addr, &post(face.target, "", face.body)).await;
        assert_eq!((got.text(), got.end), (&*events.concat(), End::Whole));
        assert_eq!(counts([&a, &b]), [1, 0], "{}", face.target);
        let line = app.line().await;
        assert_eq!((&line["upstream"], &line["outcome"]), (&"a".into(), &"upstream_error".into()));
        app.quiet().await;
    }
}

#[tokio::test]
async fn the_callers_own_error_in_a_stream_is_passed_on() {
    let error = "data: {\"error\":{\"message\":\"no\",\"type\":\"invalid_request_error\",\"code\":\"context_length_exceeded\"}}\n\n";
    let (a, b) = (Origin::saying(stream([ROLE, error])).await, Origin::saying(good()).await);
    let app = pair(&a.url(), &b.url(), "");
    let got = ask(app.addr, &post(CHAT, "", STREAM)).await;
    assert_eq!((got.status, got.text()), (200, &*format!("{ROLE}{error}")));
    assert_eq!(counts([&a, &b]), [1, 0]);
    app.quiet().await;
}

#[tokio::test]
async fn a_reset_behind_content_ends_the_stream() {
    let a = Origin::start(|mut conn| async move {
        conn.request().await;
        conn.send(&[origin::STREAM, &chunk(ROLE), &chunk(TOKEN)].concat()).await;
        // the other side reads it before the connection goes
        tokio::time::sleep(Duration::from_millis(100)).await;
        conn.reset();
    })
    .await;
    let b = Origin::saying(stream([TOKEN, DONE])).await;
    let app = pair(&a.url(), &b.url(), "");
    let got = ask(app.addr, &post(CHAT, "", STREAM)).await;
    assert_eq!((got.status, got.end), (200, End::Closed));
    let rest = got.text().strip_prefix(&*format!("{ROLE}{TOKEN}")).expect("what came first");
    assert!(rest.contains("upstream_broken"), "{rest}");
    assert_eq!(counts([&a, &b]), [1, 0]);
    assert_eq!(app.line().await["upstream"], "a");
    app.quiet().await;
}

/// A stream that sends this, waits until it is told to go on, and sends the rest.
async fn halting(first: Vec<u8>, rest: Vec<u8>) -> (Origin, Arc<Notify>) {
    let go = Arc::new(Notify::new());
    let told = Arc::clone(&go);
    let origin = Origin::start(move |mut conn| {
        let (go, first, rest) = (Arc::clone(&go), first.clone(), rest.clone());
        async move {
            conn.request().await;
            conn.send(&[origin::STREAM, &first].concat()).await;
            tokio::select! {
                () = go.notified() => conn.send(&rest).await,
                () = conn.until_gone() => return,
            }
            conn.until_gone().await;
        }
    })
    .await;
    (origin, told)
}

#[tokio::test]
async fn the_hold_ends_with_its_time() {
    let (a, go) = halting(chunk(ROLE), [chunk(ERROR), b"0\r\n\r\n".to_vec()].concat()).await;
    let b = Origin::saying(stream([TOKEN, DONE])).await;
    let app = pair(&a.url(), &b.url(), "retry: { hold: 300ms },");
    let mut client = Client::connect(app.addr).await;
    let from = Instant::now();
    client.send(&post(CHAT, "", STREAM)).await;
    let head = client.head().await.unwrap();
    assert!(from.elapsed() >= Duration::from_millis(290), "{:?}", from.elapsed());
    assert_eq!(client.chunk().await.unwrap(), ROLE.as_bytes());
    // it is the client's now: what comes is passed on
    go.notify_one();
    let got = client.rest(head, false).await;
    assert_eq!((got.text(), got.end), (ERROR, End::Whole));
    assert_eq!(counts([&a, &b]), [1, 0]);
    app.quiet().await;
}

#[tokio::test]
async fn the_hold_ends_with_its_bytes() {
    let comment = format!(": {}\n\n", "x".repeat(4000));
    let filling = chunk(&comment).repeat(20);
    let (a, go) =
        halting(filling, [chunk(TOKEN), chunk(DONE), b"0\r\n\r\n".to_vec()].concat()).await;
    let b = Origin::saying(stream([TOKEN, DONE])).await;
    let app = pair(&a.url(), &b.url(), "retry: { hold: 1m },");
    let mut client = Client::connect(app.addr).await;
    client.send(&post(CHAT, "", STREAM)).await;
    let head = client.head().await.unwrap();
    go.notify_one();
    let got = client.rest(head, false).await;
    assert_eq!(got.text(), format!("{}{TOKEN}{DONE}", comment.repeat(20)));
    assert_eq!(counts([&a, &b]), [1, 0]);
    app.quiet().await;
}

#[tokio::test]
async fn an_upstream_without_others_is_not_held() {
    let (a, go) = halting(chunk(ROLE), [chunk(TOKEN), b"0\r\n\r\n".to_vec()].concat()).await;
    let app = App::start(&policy(&[up("a", &a.url(), "retry: { hold: 1m },")], ""));
    let mut client = Client::connect(app.addr).await;
    client.send(&post(CHAT, "", STREAM)).await;
    let head = client.head().await.unwrap();
    assert_eq!(client.chunk().await.unwrap(), ROLE.as_bytes());
    go.notify_one();
    assert_eq!(client.rest(head, false).await.text(), TOKEN);
    app.quiet().await;
}

#[tokio::test]
async fn the_last_target_is_not_held() {
    let (b, go) = halting(chunk(ROLE), [chunk(TOKEN), b"0\r\n\r\n".to_vec()].concat()).await;
    let a = Origin::saying(unavailable()).await;
    let app = App::start(&policy(
        &[up("a", &a.url(), ""), up("b", &b.url(), "retry: { hold: 1m },")],
        "",
    ));
    let mut client = Client::connect(app.addr).await;
    client.send(&post(CHAT, "", STREAM)).await;
    let head = client.head().await.unwrap();
    assert_eq!(client.chunk().await.unwrap(), ROLE.as_bytes());
    go.notify_one();
    assert_eq!(client.rest(head, false).await.text(), TOKEN);
    app.quiet().await;
}

#[tokio::test]
async fn a_slow_stream_is_given_up_for_another() {
    let (a, _go) = halting(chunk(ROLE), Vec::new()).await;
    let b = Origin::saying(stream([TOKEN, DONE])).await;
    let app = pair(&a.url(), &b.url(), "retry: { slow: 300ms },");
    let got = ask(app.addr, &post(CHAT, "", STREAM)).await;
    assert_eq!((got.text(), got.end), (&*format!("{TOKEN}{DONE}"), End::Whole));
    until("the slow one is left", async || a.open() == 0).await;
    let line = app.line().await;
    assert_eq!((&line["upstream"], &line["outcome"]), (&"b".into(), &"complete".into()));
    app.quiet().await;
}

#[tokio::test]
async fn a_slow_stream_is_better_than_none() {
    let (a, go) = halting(chunk(ROLE), [chunk(TOKEN), b"0\r\n\r\n".to_vec()].concat()).await;
    let ups = [up("a", &a.url(), "retry: { slow: 200ms },"), up("b", &nowhere(), "")];
    let app = App::start(&policy(&ups, ""));
    let mut client = Client::connect(app.addr).await;
    client.send(&post(CHAT, "", STREAM)).await;
    let head = client.head().await.unwrap();
    assert_eq!(client.chunk().await.unwrap(), ROLE.as_bytes());
    go.notify_one();
    let got = client.rest(head, false).await;
    assert_eq!((got.status, got.text(), a.requests()), (200, TOKEN, 1));
    let line = app.line().await;
    assert_eq!((&line["upstream"], &line["attempts"]), (&"a".into(), &2.into()));
    app.quiet().await;
}

#[tokio::test]
async fn a_client_that_leaves_during_the_hold_leaves_nothing_behind() {
    let bad = stream([ROLE, ERROR]);
    let a = Origin::start(move |mut conn| {
        let bad = bad.clone();
        async move {
            conn.request().await;
            // without the end of its framing
            conn.send(&bad[..bad.len() - 5]).await;
            conn.until_gone().await;
        }
    })
    .await;
    let (b, _go) = halting(chunk(ROLE), Vec::new()).await;
    let c = Origin::saying(good()).await;
    let hold = "retry: { hold: 1m },";
    let ups = [up("a", &a.url(), hold), up("b", &b.url(), hold), up("c", &c.url(), hold)];
    let app = App::start(&policy(&ups, ""));
    let mut client = Client::connect(app.addr).await;
    client.send(&post(CHAT, "", STREAM)).await;
    until("the second one is asked", async || b.requests() == 1).await;
    drop(client);
    until("both are left", async || a.open() + b.open() == 0).await;
    let line = app.line().await;
    assert_eq!((&line["status"], &line["outcome"]), (&499.into(), &"client_gone".into()));
    assert_eq!(counts([&a, &b, &c]), [1, 1, 0]);
    app.quiet().await;
}

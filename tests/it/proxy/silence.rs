//! Streams that are alive and say nothing: what they may, when they are given up, and what a client
//! hears meanwhile.
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{JoinSet, LocalSet};
use tokio::time::sleep;

use super::{CHAT, GEMINI, MESSAGES, OLLAMA, PLAIN, RESPONSES, STREAM, policy};
use crate::support::app::App;
use crate::support::client::{Answer, Client, End, ask, post};
use crate::support::origin::{self, Conn, Origin, chunk};
use crate::support::{h2, until};

const BEAT: &str = ": keep-alive\n\n";
/// How late a deadline may be: two ticks, and a machine that is busy with other tests.
const LATE: Duration = Duration::from_secs(5);
const NDJSON: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n";

/// What a backend says in one dialect.
#[derive(Clone, Copy)]
struct Tongue {
    path: &'static str,
    head: &'static [u8],
    /// The answer has begun, and nothing is said.
    begins: &'static str,
    token: &'static str,
    ping: &'static str,
    done: &'static str,
    /// How an error in a stream is told.
    error: &'static str,
}

const OPENAI_CHAT: Tongue = Tongue {
    path: CHAT,
    head: origin::STREAM,
    begins: "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
    token: "data: {\"choices\":[{\"delta\":{\"content\":\"hello\"}}]}\n\n",
    ping: ": ping\n\n",
    done: "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
    error: "data: {\"error\":",
};
const OPENAI_RESPONSES: Tongue = Tongue {
    path: RESPONSES,
    begins: "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{}}\n\n\
             event: response.in_progress\ndata: {\"type\":\"response.in_progress\"}\n\n",
    token: "event: response.output_text.delta\n\
            data: {\"type\":\"response.output_text.delta\",\"delta\":\"hello\"}\n\n",
    ping: "event: keepalive\ndata: {\"type\":\"keepalive\"}\n\n",
    done: "event: response.completed\ndata: {\"type\":\"response.completed\",\
           \"response\":{\"status\":\"completed\",\"output\":[{\"type\":\"message\",\"content\":\
           [{\"type\":\"output_text\",\"text\":\"hello\"}]}]}}\n\n",
    error: "event: error\ndata: ",
    ..OPENAI_CHAT
};
const ANTHROPIC: Tongue = Tongue {
    path: MESSAGES,
    begins: "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{}}\n\n",
    token: "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\
            \"delta\":{\"type\":\"text_delta\",\"text\":\"hello\"}}\n\n",
    ping: "event: ping\ndata: {\"type\": \"ping\"}\n\n",
    done: "event: message_delta\n\
           data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}\n\n\
           event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    error: "event: error\ndata: ",
    ..OPENAI_CHAT
};
const GOOGLE: Tongue = Tongue {
    path: GEMINI,
    begins: "data: {\"modelVersion\":\"m\"}\n\n",
    token: "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"hello\"}]}}]}\n\n",
    done: "data: {\"candidates\":[{\"finishReason\":\"STOP\"}]}\n\n",
    ..OPENAI_CHAT
};
const LLAMA: Tongue = Tongue {
    path: OLLAMA,
    head: NDJSON,
    begins: "{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":false}\n",
    token: "{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"hello\"},\"done\":false}\n",
    ping: "\n",
    done: "{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true,\"done_reason\":\"stop\"}\n",
    error: "{\"error\":",
};
const TONGUES: [Tongue; 5] = [OPENAI_CHAT, OPENAI_RESPONSES, ANTHROPIC, GOOGLE, LLAMA];

fn body(question: &str) -> String {
    format!(
        r#"{{"model":"m","max_tokens":9,"stream":true,"input":"{question}","messages":[{{"role":"user","content":"{question}"}}],"contents":[{{"parts":[{{"text":"{question}"}}]}}]}}"#
    )
}

/// A policy for this backend that caches, so that calls are shared; or does not.
fn rules(origin: &Origin, server: &str, more: &str, shared: bool) -> String {
    let cached = if shared { "policies: [{ name: once, cache: { ttl: 1h } }]\n" } else { "" };
    format!("server: {{ {server} }}\n{}{cached}", policy(&origin.url(), more))
}

async fn says(conn: &mut Conn, text: &str) {
    conn.send(&chunk(text)).await;
}

/// Says `first` and then pings for ever.
async fn pinging(tongue: Tongue, first: &'static str) -> Origin {
    Origin::start(move |mut conn| async move {
        while conn.request().await.is_some() {
            conn.send(tongue.head).await;
            says(&mut conn, first).await;
            while tokio::io::AsyncWriteExt::write_all(&mut conn.io, &chunk(tongue.ping))
                .await
                .is_ok()
            {
                sleep(Duration::from_millis(50)).await;
            }
        }
    })
    .await
}

/// In each dialect, alone and shared: pings end no wait for content, however many there are.
async fn pings_alone(
    first: impl Fn(Tongue) -> &'static str,
    timeouts: &str,
    code: &str,
    kind: &str,
) {
    for tongue in TONGUES {
        let origin = pinging(tongue, first(tongue)).await;
        for shared in [false, true] {
            let app = App::start(&rules(&origin, "", timeouts, shared));
            let start = Instant::now();
            let (from, call) = (app.addr, post(tongue.path, "", &body("who?")));
            let mut asking = JoinSet::new();
            for _ in 0..2 {
                let call = call.clone();
                asking.spawn(async move { ask(from, &call).await });
            }
            for got in asking.join_all().await {
                let path = tongue.path;
                assert_eq!((got.status, got.end), (200, End::Closed), "{path}: {}", got.text());
                let (before, error) = got.text().rsplit_once(tongue.error).expect("an error");
                assert!(before.starts_with(first(tongue)), "{path}: {before}");
                assert!(before.contains(tongue.ping), "{path}: {before}");
                assert!(
                    error.contains(code) || path == OLLAMA || path == GEMINI || path == MESSAGES
                );
            }
            let took = start.elapsed();
            assert!(took >= Duration::from_millis(500) && took < LATE, "{took:?}");
            for line in app.lines(2).await {
                assert_eq!(
                    (&line["outcome"], &line["error"]),
                    (&kind.into(), &code.into()),
                    "{line}"
                );
            }
            let label = format!("kind=\"{}\"", kind.trim_start_matches("deadline_"));
            assert_eq!(app.count("tidegate_upstream_deadlines_total", &[&label]), 2);
            assert_eq!(app.count("tidegate_upstream_deadlines_total", &[]), 2);
            let calls = origin.take().len();
            assert_eq!(calls, if shared { 1 } else { 2 }, "{}", tongue.path);
            until("the calls are let go", async || origin.open() == 0).await;
        }
    }
}

#[tokio::test]
async fn case_51_first_content() {
    let timeouts = "timeouts: { first_content: 500ms },";
    let code = "upstream_first_content_timeout";
    pings_alone(|tongue| tongue.begins, timeouts, code, "deadline_first_content").await;
}

#[tokio::test]
async fn case_52_between_tokens() {
    let timeouts = "timeouts: { between_tokens: 500ms },";
    let code = "upstream_stall_timeout";
    pings_alone(|tongue| tongue.token, timeouts, code, "deadline_between_tokens").await;
}

/// Content is waited for from the request on: a head that does not come is none.
#[tokio::test]
async fn a_stream_that_never_begins_has_no_content_either() {
    let origin =
        Origin::start(|mut conn| async move { while conn.request().await.is_some() {} }).await;
    let timeouts = "timeouts: { first_content: 400ms, first_byte: 1200ms },";
    for shared in [false, true] {
        let app = App::start(&rules(&origin, "", timeouts, shared));
        for (asked, code, least) in [
            (body("who?"), "upstream_first_content_timeout", 400),
            // of a plain answer the first byte is waited for
            (PLAIN.to_owned(), "upstream_first_byte_timeout", 1200),
        ] {
            let start = Instant::now();
            let got = ask(app.addr, &post(CHAT, "", &asked)).await;
            assert_eq!((got.status, &got.json()["error"]["code"]), (504, &code.into()));
            let took = start.elapsed();
            assert!(took >= Duration::from_millis(least) && took < LATE, "{took:?}");
        }
        let outcomes = app.lines(2).await.into_iter().map(|line| line["outcome"].clone());
        let wanted = ["deadline_first_content", "deadline_first_byte"];
        assert_eq!(outcomes.collect::<Vec<_>>(), wanted);
    }
}

/// A model that thinks for long is not cut, whether it thinks aloud or not, nor is a tool of the
/// backend's own that takes its time.
#[tokio::test]
async fn a_model_may_think() {
    const STEP: &str = "event: response.web_search_call.searching\n\
                        data: {\"type\":\"response.web_search_call.searching\"}\n\n";
    const ALOUD: &str = "data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\"}}]}\n\n";
    for (tongue, quiet, sign, timeouts) in [
        // silent for long before the first content, then brisk
        (OPENAI_CHAT, ": ping\n\n", ": ping\n\n", "first_content: 20s, between_tokens: 20s"),
        (OPENAI_CHAT, ALOUD, ALOUD, "first_content: 700ms, between_tokens: 700ms"),
        (OPENAI_RESPONSES, STEP, STEP, "first_content: 700ms, between_tokens: 700ms"),
    ] {
        let origin = Origin::start(move |mut conn| async move {
            while conn.request().await.is_some() {
                conn.send(tongue.head).await;
                says(&mut conn, tongue.begins).await;
                for piece in [quiet, sign] {
                    for _ in 0..12 {
                        sleep(Duration::from_millis(100)).await;
                        says(&mut conn, piece).await;
                    }
                    says(&mut conn, tongue.token).await;
                }
                says(&mut conn, tongue.done).await;
                conn.send(b"0\r\n\r\n").await;
            }
        })
        .await;
        let timeouts = format!("timeouts: {{ {timeouts} }},");
        let app = App::start(&rules(&origin, "", &timeouts, false));
        let got = ask(app.addr, &post(tongue.path, "", &body("why?"))).await;
        assert_eq!(got.end, End::Whole, "{}", got.text());
        assert_eq!(app.line().await["outcome"], "complete");
    }
}

/// Compressed, or of an unknown endpoint: no content can be seen, so none is missed.
#[tokio::test]
async fn an_opaque_stream_has_deadlines_of_bytes_alone() {
    let origin = Origin::start(|mut conn| async move {
        while let Some(request) = conn.request().await {
            let coding = if request.target == CHAT { "content-encoding: gzip\r\n" } else { "" };
            let head = String::from_utf8_lossy(origin::STREAM).replacen("\r\n", "\r\n\0", 1);
            conn.send(head.replace('\0', coding).as_bytes()).await;
            for _ in 0..15 {
                sleep(Duration::from_millis(100)).await;
                says(&mut conn, ": ping\n\n").await;
            }
            conn.send(b"0\r\n\r\n").await;
        }
    })
    .await;
    let timeouts = "timeouts: { first_content: 500ms, between_tokens: 500ms },";
    let app = App::start(&rules(&origin, "heartbeat: 50ms", timeouts, false));
    for path in [CHAT, "/v1/threads/t/runs"] {
        let got = ask(app.addr, &post(path, "", STREAM)).await;
        assert_eq!((got.end, got.text()), (End::Whole, &*": ping\n\n".repeat(15)), "{path}");
    }
    app.lines(2).await;
}

/// The client stands still, not the backend: what lies there when it reads on is content.
#[tokio::test]
async fn a_client_that_pauses_is_not_taken_for_a_stall() {
    let origin = Origin::start(|mut conn| async move {
        let text = "x".repeat(64 << 10);
        let token =
            chunk(&format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n"));
        while conn.request().await.is_some() {
            conn.send(origin::STREAM).await;
            while tokio::io::AsyncWriteExt::write_all(&mut conn.io, &token).await.is_ok() {}
        }
    })
    .await;
    let timeouts = "timeouts: { idle: 400ms, between_tokens: 400ms },";
    for shared in [false, true] {
        let app = App::start(&rules(&origin, "", timeouts, shared));
        let mut client = Client::connect(app.addr).await;
        client.send(&post(CHAT, "", &body("how long?"))).await;
        assert_eq!(client.head().await.unwrap().status, 200);
        let mut read = 0;
        for _ in 0..2 {
            sleep(Duration::from_millis(1500)).await;
            let enough = read + (24 << 20);
            while read < enough {
                let chunk = client.chunk().await.expect("the stream goes on");
                assert!(!chunk.windows(8).any(|part| part == b"\"error\":"), "shared: {shared}");
                read += chunk.len();
            }
        }
        drop(client);
        assert_eq!(app.line().await["outcome"], "client_gone");
    }
}

/// Pieces of a stream with a long silence before each but the last: in front of the first event,
/// inside one, between two, and behind the terminal one.
fn halting(tongue: Tongue) -> Vec<String> {
    let (half, rest) = tongue.token.split_at(tongue.token.len() / 2);
    let (begins, token, done) = (tongue.begins, tongue.token, tongue.done);
    vec![format!("{begins}{half}"), rest.to_owned(), format!("{token}{done}"), String::new()]
}

async fn halts(tongue: Tongue) -> Origin {
    let pieces = Arc::new(halting(tongue));
    Origin::start(move |mut conn| {
        let pieces = Arc::clone(&pieces);
        async move {
            while conn.request().await.is_some() {
                conn.send(tongue.head).await;
                for piece in &*pieces {
                    sleep(Duration::from_millis(1500)).await;
                    if !piece.is_empty() {
                        says(&mut conn, piece).await;
                    }
                }
                conn.send(b"0\r\n\r\n").await;
            }
        }
    })
    .await
}

/// Where comments stand, they stand between events, and the rest is as it was.
fn beats_in(got: &str, tongue: Tongue) {
    let whole = halting(tongue).concat();
    assert_eq!(got.replace(BEAT, ""), whole, "{got}");
    assert!(got.starts_with(BEAT), "before the first event: {got}");
    assert!(got.contains(&format!("{}{}{BEAT}", tongue.begins, tongue.token)), "{got}");
    assert!(got.ends_with(&format!("{BEAT}{}{}", tongue.token, tongue.done)), "{got}");
}

#[tokio::test]
async fn a_client_that_waits_is_told_that_its_stream_is_alive() {
    let mut all = JoinSet::new();
    let here = LocalSet::new();
    for tongue in TONGUES {
        all.spawn_local_on(waits(tongue, false), &here);
        all.spawn_local_on(waits(tongue, true), &here);
    }
    here.run_until(all.join_all()).await;
}

/// Two clients ask the same, one over each version of HTTP.
async fn waits(tongue: Tongue, shared: bool) {
    let origin = halts(tongue).await;
    let beats = matches!(tongue.path, CHAT | RESPONSES | MESSAGES);
    let whole = halting(tongue).concat();
    let check = |got: &str| if beats { beats_in(got, tongue) } else { assert_eq!(got, whole) };
    let app = App::start(&rules(&origin, "heartbeat: 300ms", "", shared));
    let call = post(tongue.path, "", &body("alive?"));
    let other = h2::Client::connect(app.addr).await;
    let request = body("alive?");
    let (first, second) = tokio::join!(ask(app.addr, &call), other.ask(tongue.path, "", &request));
    assert_eq!((first.end, second.reset), (End::Whole, None));
    check(first.text());
    check(std::str::from_utf8(&second.body).unwrap());
    for line in app.lines(2).await {
        assert_eq!(line["outcome"], "complete", "{line}");
        assert_eq!(line["response_bytes"], whole.len(), "comments are ours");
    }
    if shared {
        // what is kept is what the backend said
        let hit: Answer = ask(app.addr, &call).await;
        assert_eq!(hit.text(), whole);
        assert!(hit.head.get("cache-status").unwrap().starts_with("tidegate; hit"));
        assert_eq!(origin.take().len(), 1);
        app.lines(3).await;
    } else {
        assert_eq!(origin.take().len(), 2);
    }
}

#[tokio::test]
async fn heartbeats_can_be_left_out() {
    let origin = halts(OPENAI_CHAT).await;
    let app = App::start(&rules(&origin, "heartbeat: off", "", false));
    let got = ask(app.addr, &post(CHAT, "", &body("alive?"))).await;
    assert_eq!(got.text(), halting(OPENAI_CHAT).concat());
    app.lines(1).await;
}

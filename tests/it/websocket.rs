//! Sessions over WebSocket, by frames on real sockets: bounded, metered, and ended with the right word.
mod leaving;
mod models;
mod openings;

use serde_json::Value;

use crate::identity::new_key;
use crate::support::app::{AGENT_KEY, App, UPSTREAM_KEY};
use crate::support::client::{Client, get};
use crate::support::origin::{Conn, Origin};
use crate::support::until;

const ASK: &str = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   sec-websocket-extensions: permessage-deflate\r\n";
const SWITCH: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
const REALTIME: &str = "/v1/realtime?model=m";
const MASK: [u8; 4] = [7, 11, 13, 17];
const BEGUN: &str = r#"{"type":"response.created"}"#;
const DELTA: &str = r#"{"type":"response.output_text.delta","delta":"hi"}"#;
const DONE: &str = r#"{"type":"response.done","response":{"status":"completed","usage":{"input_tokens":30,"output_tokens":12}}}"#;
const CREATE: &str = r#"{"type":"response.create"}"#;

fn policy(origin: &Origin, websocket: &str, more: &str) -> String {
    format!(
        "prices: {{ m: {{ input: 1000, output: 1000 }} }}\n\
         upstreams: {{ up: {{ websocket: {{ {websocket} }}, url: '{}' }} }}\n\
         routes: [{{ to: up }}]\n{more}",
        origin.url()
    )
}

/// The only frame of its message; the client's are masked.
fn frame(opcode: u8, payload: &[u8], masked: bool) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    let mark = if masked { 0x80 } else { 0 };
    if payload.len() < 126 {
        frame.push(payload.len() as u8 | mark);
    } else if payload.len() > 0xffff {
        frame.push(0x7f | mark);
        frame.extend((payload.len() as u64).to_be_bytes());
    } else {
        frame.push(0x7e | mark);
        frame.extend((payload.len() as u16).to_be_bytes());
    }
    if masked {
        frame.extend(MASK);
        frame.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ MASK[at % 4]));
    } else {
        frame.extend(payload);
    }
    frame
}

fn said(text: &str) -> Vec<u8> {
    frame(1, text.as_bytes(), true)
}

fn told(text: &str) -> Vec<u8> {
    frame(1, text.as_bytes(), false)
}

/// A close frame's code and reason, from its payload.
fn code(payload: &[u8]) -> (u16, String) {
    let (code, reason) = payload.split_first_chunk().expect("a code");
    (u16::from_be_bytes(*code), String::from_utf8(reason.to_vec()).expect("text"))
}

/// The next frame that the client gets.
async fn next(client: &mut Client) -> (u8, Vec<u8>) {
    let head = client.exact(2).await;
    assert_eq!(head[1] & 0x80, 0, "a server never masks");
    let mut len = u64::from(head[1]);
    if len == 126 {
        len = u64::from(u16::from_be_bytes(client.exact(2).await.try_into().unwrap()));
    }
    (head[0] & 15, client.exact(len as usize).await)
}

/// The next frame that the backend gets.
async fn heard(conn: &mut Conn) -> Option<(u8, Vec<u8>)> {
    let head = conn.exact(2).await?;
    assert_eq!(head[1] & 0x80, 0x80, "a client always masks");
    let len = match head[1] & 0x7f {
        126 => u16::from_be_bytes(conn.exact(2).await?.try_into().unwrap()) as usize,
        127 => u64::from_be_bytes(conn.exact(8).await?.try_into().unwrap()) as usize,
        len => len.into(),
    };
    let mask = conn.exact(4).await?;
    let payload = conn.exact(len).await?;
    Some((head[0] & 15, payload.iter().enumerate().map(|(at, b)| b ^ mask[at % 4]).collect()))
}

/// Answers every message with these frames, until goodbye is said; tells it what it heard.
async fn backend(answers: &'static [&'static str]) -> Origin {
    Origin::start(move |mut conn| async move {
        conn.head().await;
        conn.send(SWITCH).await;
        while let Some((opcode, payload)) = heard(&mut conn).await {
            match opcode {
                8 => {
                    // what it was told comes back, for the test to see
                    conn.send(&frame(8, &payload, false)).await;
                    return;
                }
                1 => {
                    for answer in answers {
                        conn.send(&told(answer)).await;
                    }
                }
                _ => conn.send(&frame(10, &payload, false)).await,
            }
        }
    })
    .await
}

async fn open(app: &App, lines: &str) -> Client {
    open_at(app, REALTIME, lines).await
}

async fn open_at(app: &App, target: &str, lines: &str) -> Client {
    let mut client = Client::connect(app.addr).await;
    client.send(&get(target, &format!("{ASK}{lines}"))).await;
    let head = client.head().await.unwrap();
    assert_eq!(head.status, 101, "{}", head.text);
    client
}

async fn refused(app: &App, lines: &str) -> (u16, Value) {
    refused_at(app, REALTIME, lines).await
}

async fn refused_at(app: &App, target: &str, lines: &str) -> (u16, Value) {
    let mut client = Client::connect(app.addr).await;
    client.send(&get(target, &format!("{ASK}{lines}"))).await;
    let answer = client.answer().await;
    (answer.status, answer.json()["error"]["code"].clone())
}

#[tokio::test]
async fn a_session_is_metered_and_every_byte_passes() {
    let origin = backend(&[BEGUN, DELTA, DELTA, DONE]).await;
    let app = App::start(&policy(&origin, "", ""));
    let mut client = open(&app, "").await;
    for _ in 0..2 {
        client.send(&said(CREATE)).await;
        for wanted in [BEGUN, DELTA, DELTA, DONE] {
            assert_eq!(next(&mut client).await, (1, wanted.as_bytes().to_vec()));
        }
    }
    client.send(&frame(9, b"alive", true)).await;
    assert_eq!(next(&mut client).await, (10, b"alive".to_vec()));
    client.send(&frame(8, &[0x03, 0xe8], true)).await;
    assert_eq!(next(&mut client).await, (8, vec![0x03, 0xe8]));
    assert!(client.is_closed().await);
    let line = app.line().await;
    assert_eq!((&line["outcome"], &line["status"]), (&"complete".into(), &101.into()));
    let tokens = (&line["input_tokens"], &line["output_tokens"]);
    assert_eq!(tokens, (&60.into(), &24.into()), "the sum of both");
    assert_eq!(line["model"], "m");
    let records = app.records().await;
    let tokens = (&records[0]["input_tokens"], &records[0]["output_tokens"]);
    assert_eq!((records.len(), tokens), (1, (&60.into(), &24.into())), "a session is one record");
    assert_eq!(records[0]["spend_nano"], 84_000_000);
    let reached = origin.take().remove(0);
    assert_eq!(reached.get("sec-websocket-extensions"), None, "what is packed cannot be read");
}

#[tokio::test]
async fn case_82_who_is_not_known_gets_401_before_101() {
    let origin = backend(&[]).await;
    let (key, line) = new_key(&["--agent", "voice"]);
    let agents = format!("agents: {{ access: known, keys: [{line}] }}\n");
    let mut app = App::start(&policy(&origin, "", &agents));
    app.secrets.push(key);
    let (status, _) = refused(&app, "").await;
    assert_eq!((status, origin.connections()), (401, 0));
    app.line().await;
}

#[tokio::test]
async fn case_83_a_key_among_the_protocols_is_a_credential_and_goes_no_further() {
    let origin = backend(&[]).await;
    let (key, line) = new_key(&["--agent", "voice"]);
    let agents = format!("agents: {{ access: known, keys: [{line}] }}\n");
    let held = policy(&origin, "", &agents).replace("up: {", "up: { key: '${CANARY}',");
    let mut app = App::start(&held);
    let offer = |key: &str| {
        format!(
            "sec-websocket-protocol: realtime, openai-insecure-api-key.{key}, openai-beta.x\r\n"
        )
    };
    let mut client = open(&app, &offer(&key)).await;
    client.send(&frame(8, &[0x03, 0xe8], true)).await;
    assert_eq!(next(&mut client).await.0, 8);
    let reached = origin.take().remove(0);
    assert_eq!(reached.all("sec-websocket-protocol"), ["realtime, openai-beta.x"]);
    assert!(!format!("{reached:?}").contains(&key));
    let bearer = format!("Bearer {UPSTREAM_KEY}");
    assert_eq!(reached.all("authorization"), [bearer.as_str()]);
    let (status, why) = refused(&app, &offer("tgk_00000000_nobody")).await;
    assert_eq!((status, why), (401, "invalid_api_key".into()));
    let lines = app.lines(2).await;
    assert!(lines.iter().any(|line| line["agent"] == "voice"), "{lines:?}");
    app.secrets.push(key);
}

#[tokio::test]
async fn the_callers_own_key_goes_where_the_policy_has_none() {
    let origin = backend(&[]).await;
    let app = App::start(&policy(&origin, "", ""));
    let offer = format!("realtime, openai-insecure-api-key.{AGENT_KEY}");
    let client = open(&app, &format!("sec-websocket-protocol: {offer}\r\n")).await;
    drop(client);
    app.line().await;
    assert_eq!(origin.take().remove(0).all("sec-websocket-protocol"), [offer.as_str()]);
}

#[tokio::test]
async fn sessions_are_bounded_and_their_places_come_back() {
    let origin = backend(&[]).await;
    let app = App::start(&policy(&origin, "sessions: 1", ""));
    let client = open(&app, "").await;
    assert_eq!(refused(&app, "").await, (429, "too_many_sessions".into()));
    drop(client);
    until("the place is free", async || app.upstream()["in_flight"] == 0).await;
    drop(open(&app, "").await);
    assert_eq!(origin.connections(), 2, "who was refused never got there");
    app.lines(3).await;
}

/// A session has two sockets as long as it lasts.
#[tokio::test]
async fn a_session_counts_as_a_connection_until_it_ends() {
    let origin = backend(&[]).await;
    let app = App::start(&policy(&origin, "", "server: { max_connections: 2 }\n"));
    let (first, second) = (open(&app, "").await, open(&app, "").await);
    assert_eq!(app.count("tidegate_connections_open", &[]), 2);
    let mut third = Client::connect(app.addr).await;
    third.send(&get(REALTIME, ASK)).await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(origin.connections(), 2, "it waits in the kernel's queue");
    drop(first);
    assert_eq!(third.head().await.unwrap().status, 101);
    drop((second, third));
    app.lines(3).await;
    until("no connection", async || app.count("tidegate_connections_open", &[]) == 0).await;
}

#[tokio::test]
async fn silence_and_length_are_bounded() {
    for (bound, pings, error) in
        [("idle: 300ms", true, "session_idle"), ("longest: 300ms", false, "session_too_long")]
    {
        let origin = backend(&[]).await;
        let app = App::start(&policy(&origin, bound, ""));
        let mut client = open(&app, "").await;
        client.send(&said("{}")).await;
        if pings {
            // alive, and idle
            client.send(&frame(9, b"", true)).await;
            assert_eq!(next(&mut client).await.0, 10);
        }
        let (opcode, payload) = next(&mut client).await;
        let (code, reason) = code(&payload);
        assert_eq!((opcode, code), (8, 1001), "{bound}");
        assert!(reason.contains("policy"), "{reason}");
        client.send(&frame(8, &payload, true)).await;
        assert!(client.is_closed().await);
        assert_eq!(app.line().await["error"], error);
        until("the backend is let go", async || origin.open() == 0).await;
    }
}

#[tokio::test]
async fn a_hard_limit_that_is_used_up_ends_the_session() {
    let origin = backend(&[DONE]).await;
    let limits = "policies:\n  - { name: cap, per: all, limits: { spend: $0.1/day hard } }\n";
    let app = App::start(&policy(&origin, "", limits));
    let mut client = open(&app, "").await;
    for _ in 0..3 {
        client.send(&said(CREATE)).await;
        assert_eq!(next(&mut client).await, (1, DONE.as_bytes().to_vec()), "it is paid for");
    }
    let (opcode, payload) = next(&mut client).await;
    assert_eq!((opcode, code(&payload).0), (8, 1008));
    client.send(&frame(8, &payload, true)).await;
    assert!(client.is_closed().await);
    let line = app.line().await;
    assert_eq!(
        (&line["error"], &line["outcome"]),
        (&"insufficient_quota".into(), &"refused".into())
    );
    let limits = app.state()["limits"].clone();
    assert_eq!(
        (&limits[0]["used"], &limits[0]["held"]),
        (&126_000_000.into(), &0.into()),
        "{limits}"
    );
    assert_eq!(refused(&app, "").await.0, 402);
}

#[tokio::test]
async fn case_85_a_backend_that_dies_is_a_bad_gateway() {
    let origin = Origin::start(|mut conn| async move {
        conn.head().await;
        conn.send(SWITCH).await;
        conn.send(&told("{}")).await;
    })
    .await;
    let app = App::start(&policy(&origin, "", ""));
    let mut client = open(&app, "").await;
    assert_eq!(next(&mut client).await, (1, b"{}".to_vec()));
    let (opcode, payload) = next(&mut client).await;
    assert_eq!((opcode, code(&payload).0), (8, 1014));
    assert!(client.is_closed().await || next(&mut client).await.0 == 8);
    assert_eq!(app.line().await["outcome"], "upstream_broken");
}

#[tokio::test]
async fn what_is_no_frame_ends_it() {
    let origin = backend(&[]).await;
    let app = App::start(&policy(&origin, "", ""));
    let mut client = open(&app, "").await;
    client.send(b"GET / HTTP/1.1\r\n\r\n").await;
    let (opcode, payload) = next(&mut client).await;
    assert_eq!((opcode, code(&payload).0), (8, 1002));
    assert_eq!(app.line().await["error"], "session_malformed");
    until("the backend is let go", async || origin.open() == 0).await;
}

#[tokio::test]
async fn a_model_that_the_key_does_not_allow_never_reaches_the_backend() {
    let origin = backend(&[DONE]).await;
    let (key, line) = new_key(&["--agent", "voice", "--model", "m"]);
    let mut app = App::start(&policy(&origin, "", &format!("agents: {{ keys: [{line}] }}\n")));
    let mut client = open(&app, &format!("x-tidegate-key: {key}\r\n")).await;
    client.send(&said(r#"{"type":"response.create","model":"m"}"#)).await;
    assert_eq!(next(&mut client).await.0, 1);
    client.send(&said(r#"{"type":"response.create","model":"dear"}"#)).await;
    let (opcode, payload) = next(&mut client).await;
    assert_eq!((opcode, code(&payload).0), (8, 1008), "an answer would have come first");
    assert_eq!(app.line().await["error"], "not_allowed");
    app.secrets.push(key);
}

#[tokio::test]
async fn draining_says_goodbye_between_two_frames_of_each_side() {
    let origin = Origin::start(|mut conn| async move {
        conn.head().await;
        conn.send(SWITCH).await;
        let whole = told("half now, half later");
        conn.send(&whole[..9]).await;
        assert_eq!(heard(&mut conn).await.map(|(opcode, _)| opcode), Some(8));
        // the frame that was under way is finished, and what follows it is dropped
        conn.send(&[&whole[9..], &told("too late")[..]].concat()).await;
        conn.until_gone().await;
    })
    .await;
    let drain = "server: { drain: { delay: 0s, timeout: 20s } }\n";
    let mut app = App::start(&policy(&origin, "", drain));
    let mut client = open(&app, "").await;
    let begun = client.exact(9).await;
    let ending = app.end();
    let client = async {
        let rest = client.exact(told("half now, half later").len() - 9).await;
        assert_eq!([begun, rest].concat(), told("half now, half later"));
        let (opcode, payload) = next(&mut client).await;
        assert_eq!((opcode, code(&payload).0), (8, 1001));
        client.send(&frame(8, &payload, true)).await;
        assert!(client.is_closed().await);
    };
    tokio::join!(ending, client);
    until("its line", async || !app.written().is_empty()).await;
    assert_eq!(app.written()[0]["error"], "draining");
}

/// A path of an API takes no upgrade: the wish is ignored.
#[tokio::test]
async fn case_21_elsewhere_the_wish_is_ignored() {
    use crate::support::origin::whole;
    let origin = Origin::saying(whole("200 OK", "", "{}")).await;
    let app = App::start(&policy(&origin, "", ""));
    let mut client = Client::connect(app.addr).await;
    client.send(&get("/v1/models", ASK)).await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(origin.take().remove(0).get("upgrade"), None);
    app.line().await;
}

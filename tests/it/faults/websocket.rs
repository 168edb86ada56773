//! Sessions over WebSocket that are not let in, refused, dropped or too long: cases 82 to 85.
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::AsyncWriteExt;

use super::{COUNTED, after, answering, limited, policy};
use crate::identity::new_key;
use crate::support::app::{AGENT_KEY, App, UPSTREAM_KEY};
use crate::support::client::{Client, get};
use crate::support::origin::{Conn, Origin, whole};
use crate::support::until;

const REALTIME: &str = "/v1/realtime?model=m";
const SOCKET: &str = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                      sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
                      upgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

/// Both sides are closed within a second; the rest is for machines under load.
const SOON: Duration = Duration::from_secs(3);

// opcodes of RFC 6455 section 5.2, in the last frame of a message
const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const GOING_AWAY: u16 = 1001;

/// A frame as a backend sends it.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut all = vec![opcode];
    if let Ok(short @ ..126) = u8::try_from(payload.len()) {
        all.push(short);
    } else {
        all.push(126);
        all.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    }
    all.extend(payload);
    all
}

/// The same as a client does: masked, here with zeros.
fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut all = frame(opcode, payload);
    all[1] |= 0x80;
    let at = all.len() - payload.len();
    all.splice(at..at, [0; 4]);
    all
}

/// The next frame that the client gets: its opcode and payload.
async fn next(client: &mut Client) -> (u8, Vec<u8>) {
    let head = client.exact(2).await;
    let length = match head[1] {
        126 => {
            let long = client.exact(2).await;
            usize::from(u16::from_be_bytes([long[0], long[1]]))
        }
        short => usize::from(short),
    };
    (head[0], client.exact(length).await)
}

/// The code of the close frame that comes next, other frames passed over.
async fn close_code(client: &mut Client) -> u16 {
    loop {
        let (opcode, payload) = next(client).await;
        if opcode == CLOSE {
            return u16::from_be_bytes([payload[0], payload[1]]);
        }
    }
}

/// A backend that agrees to every session, and goes on with it so.
async fn agreeing<F>(script: impl Fn(Conn) -> F + Copy + Send + Sync + 'static) -> Origin
where
    F: Future<Output = ()> + Send,
{
    Origin::start(move |mut conn| async move {
        if conn.head().await.is_some() {
            conn.send(format!("{AGREED}\r\n").as_bytes()).await;
            script(conn).await;
        }
    })
    .await
}

/// A session that has begun.
async fn session(app: &App, call: &[u8]) -> Client {
    let mut client = Client::connect(app.addr).await;
    client.send(call).await;
    let head = client.head().await.unwrap();
    assert_eq!(head.status, 101, "{}", head.text);
    client
}

/// What the backend did for a session, as it says it itself.
fn done(input: u32, output: u32) -> Vec<u8> {
    let said = format!(
        "{{\"type\":\"response.done\",\"event_id\":\"e\",\"response\":{{\"id\":\"r\",\"status\":\
         \"completed\",\"usage\":{{\"total_tokens\":{},\"input_tokens\":{input},\"output_tokens\":\
         {output}}}}}}}",
        input + output
    );
    frame(TEXT, said.as_bytes())
}

/// The session is over on both sides, and one line tells of it.
async fn session_is_over(app: &App, origin: &Origin, since: Instant) -> Value {
    until("the backend is let go", async || origin.open() == 0).await;
    assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
    let line = app.line().await;
    assert_eq!(line["status"], 101, "{line}");
    after::at_rest(app).await;
    assert_eq!((app.pool("open"), app.pool("idle")), (0, 0), "it is no connection to keep");
    line
}

/// Who may not call gets an answer, and no session that is closed at once: an SDK reads the status.
#[tokio::test]
async fn a82_who_may_not_call() {
    let origin = answering().await;
    let (key, line) = new_key(&["--agent", "speaker"]);
    let rest = format!("agents: {{ access: known, keys: [{line}] }}\n{COUNTED}");
    let mut app = App::start(&policy(&origin.url(), "", &rest));
    app.secrets.push(key.clone());
    let forged = format!("{SOCKET}x-tidegate-key: {}x\r\n", &key[..key.len() - 1]);
    for lines in [SOCKET, &forged] {
        let mut client = Client::connect(app.addr).await;
        client.send(&get(REALTIME, lines)).await;
        let got = after::told(client.answer().await);
        assert_eq!((got.status, got.head.get("upgrade")), (401, None), "{}", got.head.text);
        assert!(got.json()["error"]["message"].is_string());
    }
    after::unheard(&origin);
    after::over(&app, &[(401, "refused"); 2]).await;
}

/// A browser has no header for its key, so it stands among the protocols. It is a credential like any
/// other there: who holds it is known, and where the policy has a key it goes no further.
#[tokio::test]
async fn a83_a_key_among_the_protocols() {
    let origin = agreeing(|mut conn| async move { conn.until_gone().await }).await;
    let (key, line) = new_key(&["--agent", "browser"]);
    let rest = format!("agents: {{ access: known, keys: [{line}] }}\n{COUNTED}");
    let mut app = App::start(&policy(&origin.url(), "", &rest));
    app.secrets.push(key.clone());
    let protocols = format!(
        "sec-websocket-protocol: realtime, openai-insecure-api-key.{key}, openai-beta.realtime-v1\r\n"
    );
    let bare = format!("GET {REALTIME} HTTP/1.1\r\nhost: sidecar.test\r\n{SOCKET}{protocols}\r\n");
    let client = session(&app, bare.as_bytes()).await;
    let reached = origin.take().remove(0);
    let text = format!("{reached:?}");
    assert!(!text.contains(&key) && !text.contains("insecure-api-key"), "{text}");
    let kept = reached.all("sec-websocket-protocol").join(", ");
    assert!(kept.contains("realtime") && kept.contains("openai-beta.realtime-v1"), "{kept}");
    assert_eq!(reached.get("authorization"), Some(format!("Bearer {UPSTREAM_KEY}").as_str()));
    let left = Instant::now();
    drop(client);
    let line = session_is_over(&app, &origin, left).await;
    assert_eq!(line["agent"], "browser", "{line}");

    // the caller's own goes on where the policy has none, for the backend is to judge it
    let origin = agreeing(|mut conn| async move { conn.until_gone().await }).await;
    let app = App::start(&format!(
        "upstreams: {{ up: {{ pacing: off, url: '{}' }} }}\nroutes: [{{ to: up }}]\n{COUNTED}",
        origin.url()
    ));
    let protocols =
        format!("sec-websocket-protocol: realtime, openai-insecure-api-key.{AGENT_KEY}\r\n");
    let bare = format!("GET {REALTIME} HTTP/1.1\r\nhost: sidecar.test\r\n{SOCKET}{protocols}\r\n");
    let client = session(&app, bare.as_bytes()).await;
    let reached = origin.take().remove(0);
    let kept = reached.all("sec-websocket-protocol").join(", ");
    assert!(kept.contains(&format!("openai-insecure-api-key.{AGENT_KEY}")), "{kept}");
    let left = Instant::now();
    drop(client);
    session_is_over(&app, &origin, left).await;
}

/// An answer is an answer. Nothing is a tunnel before the backend says 101.
#[tokio::test]
async fn a84_the_backend_refuses() {
    for status in ["401 Unauthorized", "200 OK", "426 Upgrade Required", "503 Service Unavailable"]
    {
        let said = r#"{"error":{"message":"no sessions here"}}"#;
        let origin = Origin::saying(whole(status, "x-why: no\r\n", said)).await;
        let app = limited(&origin.url(), "", "");
        let mut client = Client::connect(app.addr).await;
        // what is sent ahead of an agreement is a request of its own, or nothing
        client.send(&[get(REALTIME, SOCKET), get("/v1/models", "")].concat()).await;
        let got = after::told(client.answer().await);
        assert!(status.starts_with(&got.status.to_string()), "{}", got.head.text);
        assert_eq!((got.text(), got.head.get("x-why")), (said, Some("no")));
        let behind = client.answer().await;
        assert_eq!((behind.status, behind.text()), (got.status, said));
        drop(client);
        let targets: Vec<_> = origin.take().into_iter().map(|request| request.target).collect();
        assert_eq!(targets, [REALTIME, "/v1/models"], "{status}");
        let outcome = if got.status >= 500 { "upstream_error" } else { "complete" };
        after::over(&app, &[(got.status, outcome); 2]).await;
        after::let_go(&app, &origin).await;
    }
}

#[tokio::test]
async fn a85_the_client_drops() {
    for orderly in [true, false] {
        let origin = agreeing(|mut conn| async move {
            conn.some().await;
            conn.send(&done(11, 7)).await;
            conn.until_gone().await;
        })
        .await;
        let app = limited(&origin.url(), "", "");
        let mut client = session(&app, &get(REALTIME, SOCKET)).await;
        client.send(&masked(TEXT, br#"{"type":"response.create"}"#)).await;
        assert_eq!(next(&mut client).await.0, TEXT);
        assert_eq!(app.count("tidegate_requests_in_flight", &[]), 1);
        let left = Instant::now();
        if orderly {
            drop(client);
        } else {
            client.reset();
        }
        let line = session_is_over(&app, &origin, left).await;
        assert_eq!(
            (&line["input_tokens"], &line["output_tokens"]),
            (&11.into(), &7.into()),
            "{line}"
        );
        assert_eq!((after::charged(&app, "requests"), after::charged(&app, "tokens")), (1, 18));
    }
}

#[tokio::test]
async fn a85_the_backend_drops() {
    for orderly in [true, false] {
        let origin = agreeing(move |mut conn| async move {
            conn.send(&[done(11, 7), done(20, 5)].concat()).await;
            // what was sent is read before the end is seen
            tokio::time::sleep(Duration::from_millis(100)).await;
            if !orderly {
                conn.reset();
            }
        })
        .await;
        let app = limited(&origin.url(), "", "");
        let mut client = session(&app, &get(REALTIME, SOCKET)).await;
        let mut frames = 0;
        while next(&mut client).await.0 == TEXT {
            frames += 1;
        }
        assert_eq!(frames, 2, "all that it said, and then that it is over");
        assert!(client.is_closed().await);
        let line = session_is_over(&app, &origin, Instant::now()).await;
        assert_eq!(line["output_tokens"], 12, "of both answers: {line}");
        assert_eq!((after::charged(&app, "requests"), after::charged(&app, "tokens")), (1, 43));
    }
}

#[tokio::test]
async fn a85_sessions_have_bounds() {
    for bounds in ["idle: 500ms", "idle: 1s, longest: 1s"] {
        let longest = bounds.contains("longest");
        let origin = agreeing(move |mut conn| async move {
            let said = frame(TEXT, b"{\"type\":\"x\"}");
            while longest && conn.io.write_all(&said).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            conn.until_gone().await;
        })
        .await;
        let app = limited(&origin.url(), &format!("websocket: {{ {bounds} }},"), "");
        let from = Instant::now();
        let mut client = session(&app, &get(REALTIME, SOCKET)).await;
        assert_eq!(close_code(&mut client).await, GOING_AWAY, "{bounds}");
        let least = Duration::from_millis(if longest { 900 } else { 450 });
        assert!(from.elapsed() >= least && from.elapsed() < 2 * SOON, "{:?}", from.elapsed());
        let closed = Instant::now();
        client.send(&masked(CLOSE, &GOING_AWAY.to_be_bytes())).await;
        drop(client);
        session_is_over(&app, &origin, closed).await;
    }

    // and there may be only so many
    let origin = agreeing(|mut conn| async move { conn.until_gone().await }).await;
    let app = limited(&origin.url(), "websocket: { sessions: 1 },", "");
    let first = session(&app, &get(REALTIME, SOCKET)).await;
    let mut second = Client::connect(app.addr).await;
    second.send(&get(REALTIME, SOCKET)).await;
    let got = after::told(second.answer().await);
    assert_eq!(got.status, 429, "{}", got.text());
    drop((first, second));
    until("the backend is let go", async || origin.open() == 0).await;
    let lines = app.lines(2).await;
    let statuses: Vec<_> = lines.iter().map(|line| line["status"].as_u64().unwrap()).collect();
    assert!(statuses.contains(&101) && statuses.contains(&429), "{statuses:?}");
    after::at_rest(&app).await;
}

#[tokio::test]
async fn a85_a_drain_closes_sessions() {
    let origin = agreeing(|mut conn| async move {
        conn.send(&done(11, 7)).await;
        conn.until_gone().await;
    })
    .await;
    let drain = "server: { drain: { delay: 100ms, timeout: 30s } }\n";
    let mut app = limited(&origin.url(), "", drain);
    let mut client = session(&app, &get(REALTIME, SOCKET)).await;
    assert_eq!(next(&mut client).await.0, TEXT);
    app.signal("TERM");
    assert_eq!(close_code(&mut client).await, GOING_AWAY);
    let closed = Instant::now();
    client.send(&masked(CLOSE, &GOING_AWAY.to_be_bytes())).await;
    assert!(client.is_closed().await && closed.elapsed() < SOON);
    assert_eq!(app.exited().await.code(), Some(0));
    until("the backend is let go", async || origin.open() == 0).await;
    let lines = app.written();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!((&lines[0]["status"], &lines[0]["output_tokens"]), (&101.into(), &7.into()));
}

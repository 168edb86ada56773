//! Odd ways to ask that are HTTP all the same: cases 13 to 22.
use super::super::{CHAT, PLAIN, SAID, STREAM, UPLOAD, after, answering, ask, limited};
use super::super::{open, policy};
use crate::support::app::App;
use crate::support::client::{Client, End, get, post, request};
use crate::support::h2;
use crate::support::origin::{self, Origin, chunk};
use crate::support::raw::Raw;

#[tokio::test]
async fn a13_http_1_0_and_a_stream() {
    let origin = Origin::start(|mut conn| async move {
        while conn.request().await.is_some() {
            conn.send(origin::STREAM).await;
            conn.send(&chunk("data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n")).await;
            conn.send(&chunk("data: [DONE]\n\n")).await;
            conn.send(b"0\r\n\r\n").await;
        }
    })
    .await;
    let app = limited(&origin.url(), "", "");
    let old = String::from_utf8(post(CHAT, "", STREAM)).unwrap().replace("HTTP/1.1", "HTTP/1.0");
    let got = ask(&app, old.as_bytes()).await;
    assert_eq!((got.status, got.end), (200, End::Closed), "its end is the connection's");
    assert!(!got.head.is_chunked() && got.head.get("content-length").is_none());
    assert!(got.text().ends_with("data: [DONE]\n\n"), "{}", got.text());
    assert_eq!(memchr::memmem::find_iter(&got.body, "data: ").count(), 2, "{}", got.text());
    after::over(&app, &[(200, "complete")]).await;
    after::let_go(&app, &origin).await;
}

/// What can be said from the head alone is said before the body is sent for. Limits may ask what is
/// in the body, so a call that waits for leave to send it is told to go on first.
#[tokio::test]
async fn a14_expect_and_a_refusal() {
    let origin = answering().await;
    let limits = "policies: [{ name: one, limits: { requests: 1/day calendar } }]\n";
    let bounds = "server: { max_body: 64KiB }\n";
    let app = App::start(&policy(&origin.url(), "", &format!("{limits}{bounds}")));
    let expect = |length: usize| {
        let head = request("POST", CHAT, "expect: 100-continue\r\n", "");
        let length = format!("content-length: {length}");
        String::from_utf8(head).unwrap().replace("content-length: 0", &length)
    };
    let mut client = Client::connect(app.addr).await;
    client.send(expect(1 << 20).as_bytes()).await;
    let got = after::told(client.answer().await);
    assert_eq!((got.status, got.head.get("connection")), (413, Some("close")));
    assert!(client.is_closed().await, "a body may follow, or not: nobody can tell");
    after::unheard(&origin);

    assert_eq!(ask(&app, &post(CHAT, "", PLAIN)).await.status, 200);
    let mut client = Client::connect(app.addr).await;
    client.send(expect(PLAIN.len()).as_bytes()).await;
    assert_eq!(client.head().await.unwrap().status, 100);
    client.send(PLAIN.as_bytes()).await;
    let got = after::told(client.answer().await);
    assert_eq!(got.status, 429, "{got:?}");
    // its end is known, so the connection is of use
    client.send(&get("/", "")).await;
    assert_eq!(client.answer().await.status, 200);
    let (refused, fine) = ("refused", "complete");
    after::over(&app, &[(413, refused), (200, fine), (429, refused), (200, fine)]).await;
    assert_eq!(origin.requests(), 1);
    after::let_go(&app, &origin).await;
}

#[tokio::test]
async fn a15_another_expectation() {
    let origin = answering().await;
    let app = limited(&origin.url(), "", "");
    for line in ["expect: xyz\r\n", "expect: 100-continue, xyz\r\n", "expect:\r\n"] {
        let mut client = Client::connect(app.addr).await;
        client.send(&request("POST", CHAT, line, PLAIN)).await;
        let got = after::told(client.answer().await);
        assert_eq!(got.status, 417, "{line}");
        assert!(client.is_closed().await);
    }
    after::over(&app, &[(417, "refused"); 3]).await;
    after::unheard(&origin);
}

#[tokio::test]
async fn a16_request_trailers() {
    let origin = answering().await;
    let app = limited(&origin.url(), "", "");
    for target in [CHAT, UPLOAD] {
        let head = format!(
            "POST {target} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntrailer: x-end\r\n"
        );
        let body = format!(
            "{:x}\r\n{PLAIN}\r\n0\r\nx-end: 1\r\nauthorization: Bearer other\r\n\
             content-length: 3\r\n\r\n",
            PLAIN.len()
        );
        let mut client = Client::connect(app.addr).await;
        client.send(format!("{head}\r\n{body}").as_bytes()).await;
        assert_eq!(after::told(client.answer().await).status, 200);
        let reached = origin.take().remove(0);
        assert_eq!(reached.body, PLAIN.as_bytes());
        let text = format!("{reached:?}");
        assert!(!text.contains("x-end") && !text.contains("Bearer other"), "{text}");
        assert_eq!(reached.get("trailer"), None);
        // what came behind the last chunk was read away
        client.send(&get("/", "")).await;
        assert_eq!(client.answer().await.status, 200);
    }
    after::over(&app, &[(200, "complete"); 4]).await;
    after::let_go(&app, &origin).await;
}

/// The target's host and `Host` must be one place; the backend gets a path and its own host.
#[tokio::test]
async fn a17_absolute_targets() {
    let origin = answering().await;
    let app = limited(&origin.url(), "", "");
    let to = |target: &str| request("POST", target, "", PLAIN);
    let got = ask(&app, &to(&format!("http://sidecar.test{CHAT}?a=1"))).await;
    assert_eq!(got.status, 200, "{got:?}");
    let reached = origin.take().remove(0);
    assert_eq!(reached.target, format!("{CHAT}?a=1"));
    assert_eq!(reached.all("host"), [origin.addr.to_string()]);
    let seen = origin.bytes();
    for target in [
        format!("http://other.test{CHAT}"),
        format!("http://user:word@sidecar.test{CHAT}"),
        format!("ftp://sidecar.test{CHAT}"),
        format!("http://{}{CHAT}", origin.addr),
    ] {
        assert_eq!(ask(&app, &to(&target)).await.status, 400, "{target}");
    }
    let mut calls = vec![(400, "refused"); 4];
    calls.push((200, "complete"));
    let lines = after::over(&app, &calls).await;
    assert!(lines.iter().all(|line| !line.to_string().contains("word@")), "{lines:#?}");
    assert_eq!(origin.bytes(), seen);
    after::let_go(&app, &origin).await;
}

#[tokio::test]
async fn a18_options_of_the_server() {
    let origin = answering().await;
    let app = limited(&origin.url(), "", "");
    let mut client = Client::connect(app.addr).await;
    for _ in 0..2 {
        client.send(&request("OPTIONS", "*", "", "")).await;
        let got = after::told(client.answer().await);
        assert_eq!((got.status, got.body.len()), (204, 0));
    }
    after::over(&app, &[(204, "complete"); 2]).await;
    after::unheard(&origin);
}

#[tokio::test]
async fn a19_head_has_no_body() {
    let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n";
    let origin = Origin::saying(answer.to_vec()).await;
    let app = limited(&origin.url(), "", "");
    let mut client = Client::connect(app.addr).await;
    for _ in 0..2 {
        client.send(&request("HEAD", "/v1/models", "", "")).await;
        let got = after::told(client.headless().await);
        assert_eq!((got.status, got.head.get("content-length")), (200, Some("99")));
    }
    // a refusal has none either
    client.send(&request("HEAD", "/v1/../models", "", "")).await;
    let got = after::told(client.headless().await);
    assert_eq!(got.status, 400);
    assert!(client.is_closed().await, "not a byte of a body");
    after::over(&app, &[(200, "complete"), (200, "complete"), (400, "refused")]).await;
    assert_eq!((origin.requests(), origin.connections()), (2, 1));
    after::let_go(&app, &origin).await;
}

/// Of the calls that are known. Elsewhere a body of a GET is the backend's business, and its end is
/// as clear as any other's.
#[tokio::test]
async fn a20_get_with_a_body() {
    let origin = answering().await;
    let app = limited(&origin.url(), "", "");
    for target in ["/v1/models", "/v1/models/m"] {
        let mut client = Client::connect(app.addr).await;
        client.send(&request("GET", target, "", PLAIN)).await;
        let got = after::told(client.answer().await);
        assert_eq!((got.status, &got.json()["error"]["code"]), (400, &"unexpected_body".into()));
        assert!(client.is_closed().await);
    }
    after::unheard(&origin);
    assert_eq!(ask(&app, &request("GET", "/search", "", PLAIN)).await.status, 200);
    let reached = origin.take().remove(0);
    assert_eq!(reached.body, PLAIN.as_bytes());
    assert_eq!(reached.get("content-length"), Some(PLAIN.len().to_string().as_str()));
    after::over(&app, &[(400, "refused"), (400, "refused"), (200, "complete")]).await;
    after::let_go(&app, &origin).await;
}

#[tokio::test]
async fn a21_websocket_where_there_is_none() {
    let origin = answering().await;
    let app = limited(&origin.url(), "", "");
    let lines = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                 sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let mut client = Client::connect(app.addr).await;
    client.send(&request("POST", CHAT, lines, PLAIN)).await;
    let got = after::told(client.answer().await);
    assert_eq!((got.status, got.text()), (200, SAID), "a call like any other");
    let reached = origin.take().remove(0);
    assert_eq!((reached.get("upgrade"), reached.get("connection")), (None, None));
    assert_eq!(reached.body, PLAIN.as_bytes());
    client.send(&post(CHAT, "", PLAIN)).await;
    assert_eq!(client.answer().await.status, 200, "it is HTTP still");
    after::over(&app, &[(200, "complete"); 2]).await;
    after::let_go(&app, &origin).await;
}

/// An upgrade to HTTP/2 is not made; who knows that it is spoken here speaks it from the first byte.
#[tokio::test]
async fn a22_h2c() {
    let origin = answering().await;
    let app = open(&origin.url(), "", "");
    let lines = "connection: upgrade, http2-settings\r\nupgrade: h2c\r\n\
                 http2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n";
    let got = ask(&app, &request("POST", CHAT, lines, PLAIN)).await;
    assert_eq!((got.status, got.text()), (200, SAID));
    let reached = origin.take().remove(0);
    for name in ["upgrade", "connection", "http2-settings"] {
        assert_eq!(reached.get(name), None);
    }
    let client = h2::Client::connect(app.addr).await;
    assert_eq!(client.ask(CHAT, "", PLAIN).await.status, 200);
    // in the middle of a connection a preface is no request, and the connection's end
    let mut raw = Raw::connect(app.addr).await;
    raw.send(&get("/", "")).await;
    assert_eq!(raw.reply().await.unwrap().status, 200);
    raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    assert!(raw.is_closed().await);
    drop(client);
    after::over(&app, &[(200, "complete"); 3]).await;
    assert_eq!(origin.take().len(), 1);
    after::let_go(&app, &origin).await;
}

//! `WebSockets`: a tunnel once the backend has said 101, and nothing but a reply before.
use super::{policy, simulated};
use crate::support::app::{AGENT_KEY, App, UPSTREAM_KEY};
use crate::support::client::{Client, get};
use crate::support::origin::{Origin, whole};
use crate::support::until;

const SOCKET: &str = "connection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\
                      sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[tokio::test]
async fn bytes_flow_both_ways_after_101() {
    let (app, simulator) = simulated("");
    let mut client = Client::connect(app.addr).await;
    client.send(&get("/simulate/tunnel", SOCKET)).await;
    let head = client.head().await.unwrap();
    assert_eq!((head.status, head.get("upgrade")), (101, Some("websocket")));
    assert!(head.get("connection").unwrap().eq_ignore_ascii_case("upgrade"));
    assert!(head.get("x-tidegate-request-id").is_some());
    for size in [1, 100, 100_000] {
        let bytes: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        client.send(&bytes).await;
        assert_eq!(client.exact(size).await, bytes);
    }
    assert_eq!(app.upstream()["in_flight"], 1);
    assert_eq!(app.count("tidegate_requests_in_flight", &[]), 1);
    drop(client);
    let line = app.line().await;
    assert_eq!((&line["status"], &line["outcome"]), (&101.into(), &"complete".into()));
    until("the backend is let go", async || simulator.seen().open == 0).await;
    assert_eq!((app.pool("open"), app.pool("idle")), (0, 0), "a tunnel is no pooled connection");
}

#[tokio::test]
async fn case_85_the_backend_ends_it() {
    let origin = Origin::start(|mut conn| async move {
        conn.head().await;
        // the first bytes of the new protocol come with the head
        conn.send(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n\x81\x05first")
            .await;
        let said = conn.exact(11).await.unwrap();
        conn.send(b"\x82\x0b").await;
        conn.send(&said).await;
        conn.send(b"\x88\x00").await;
    })
    .await;
    let app = App::start(&policy(&origin.url(), "key: '${CANARY}',"));
    let mut client = Client::connect(app.addr).await;
    client.send(&get("/v1/realtime?model=m", SOCKET)).await;
    assert_eq!(client.head().await.unwrap().status, 101);
    assert_eq!(client.exact(7).await, b"\x81\x05first");
    // masked with zeros
    client.send(b"\x81\x85\0\0\0\0hello").await;
    assert_eq!(client.exact(15).await, b"\x82\x0b\x81\x85\0\0\0\0hello\x88\x00");
    assert!(client.is_closed().await);
    let reached = origin.take().remove(0);
    assert_eq!(reached.target, "/v1/realtime?model=m");
    assert_eq!(reached.get("authorization"), Some(format!("Bearer {UPSTREAM_KEY}").as_str()));
    assert!(!format!("{reached:?}").contains(AGENT_KEY));
    assert_eq!(reached.all("sec-websocket-key"), ["dGhlIHNhbXBsZSBub25jZQ=="]);
    let line = app.line().await;
    assert_eq!((&line["outcome"], &line["response_bytes"]), (&"complete".into(), &22.into()));
}

#[tokio::test]
async fn case_82_84_a_refusal_is_relayed() {
    for status in ["401 Unauthorized", "200 OK", "426 Upgrade Required"] {
        let origin = Origin::saying(whole(status, "x-why: no\r\n", "{\"error\":\"no\"}")).await;
        let app = App::start(&policy(&origin.url(), ""));
        let mut client = Client::connect(app.addr).await;
        client.send(&get("/v1/realtime", SOCKET)).await;
        let got = client.answer().await;
        assert!(status.starts_with(&got.status.to_string()), "{}", got.status);
        assert_eq!((got.text(), got.head.get("x-why")), ("{\"error\":\"no\"}", Some("no")));
        // the client's connection is as good as before
        client.send(&get("/v1/models", "")).await;
        assert_eq!(client.answer().await.text(), "{\"error\":\"no\"}");
        app.lines(2).await;
    }
}

/// Bytes sent ahead of the 101 are never taken for the backend's.
#[tokio::test]
async fn nothing_goes_past_the_request_before_101() {
    let origin = Origin::saying(whole("200 OK", "", "no")).await;
    let app = App::start(&policy(&origin.url(), ""));
    let mut client = Client::connect(app.addr).await;
    let smuggled = get("/smuggled", "");
    client.send(&[get("/v1/realtime", SOCKET), smuggled].concat()).await;
    assert_eq!(client.answer().await.text(), "no");
    assert_eq!(client.answer().await.text(), "no", "it is a request of its own");
    let targets: Vec<_> = origin.take().into_iter().map(|request| request.target).collect();
    assert_eq!(targets, ["/v1/realtime", "/smuggled"]);
    app.lines(2).await;
}

#[tokio::test]
async fn case_21_22_other_upgrades_are_ignored() {
    let (app, _simulator) = simulated("");
    let mut client = Client::connect(app.addr).await;
    client.send(&get("/simulate/echo", "connection: upgrade\r\nupgrade: h2c\r\n")).await;
    let got = client.answer().await;
    assert_eq!(got.status, 200);
    assert!(!got.text().contains("h2c"));
    app.lines(1).await;
}

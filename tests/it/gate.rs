//! What a malformed or hostile request gets, over real sockets, and that it never reaches an origin.
//!
//! Own wording after RFC 9110, 9112 and 9113. Each row says who answers: the gate, or the HTTP/1.x
//! parser in front of it, whose bare answers get a body on the way out. A row that leaves the
//! connection open is followed by a probe on it: the server must still be in step.
mod rows;

use crate::support::gated::{Forwarded, OriginLog, start_gated};
use crate::support::h2frames::{self, Ended};
use crate::support::raw::{Raw, Reply};

/// Who turns the request away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Gate,
    Parser,
    /// Nobody, or only the end of the body tells.
    Any,
}

/// One exchange on one connection.
struct Row {
    name: &'static str,
    sent: Vec<u8>,
    statuses: Vec<u16>,
    by: By,
    closed: bool,
    /// Targets that reach the origin, in order.
    forwarded: Vec<&'static str>,
}

/// Messages of the answers that the parser begins.
const PARSER: [&str; 3] = [
    "the request head is malformed",
    "the request head is too large or has too many lines",
    "the request line is too long",
];

#[tokio::test]
async fn what_is_not_one_clear_request_never_reaches_the_origin() {
    let gated = start_gated().await;
    let (addr, origin) = (gated.addr, &gated.log);
    let rows = rows::all();
    assert!(rows.len() >= 60, "{}", rows.len());
    let mut faults = Vec::new();
    for row in &rows {
        let mut raw = Raw::connect(addr).await;
        if let Err(fault) = exchange(&mut raw, row, origin).await {
            faults.push(format!("{}: {fault}", row.name));
        }
    }
    assert!(faults.is_empty(), "{} of {} rows:\n{}", faults.len(), rows.len(), faults.join("\n"));
}

async fn exchange(raw: &mut Raw, row: &Row, origin: &OriginLog) -> Result<(), String> {
    raw.send(&row.sent).await;
    let mut fault = Ok(());
    for wanted in &row.statuses {
        let Some(reply) = raw.reply().await else {
            fault = Err(format!("no reply instead of {wanted}"));
            break;
        };
        if reply.status != *wanted {
            fault = Err(format!("{} instead of {wanted}: {}", reply.status, text(&reply)));
        } else if reply.status >= 400 {
            fault = fault.and(check_refusal(&reply, row));
        }
    }
    if fault.is_ok() && row.closed && !raw.is_closed().await {
        fault = Err("the connection stayed open".to_owned());
    }
    if fault.is_ok() && !row.closed {
        raw.send(b"GET /probe HTTP/1.1\r\nHost: a\r\n\r\n").await;
        fault = match raw.reply().await {
            Some(reply) if reply.status == 200 => Ok(()),
            other => Err(format!("the probe got {other:?}")),
        };
    }
    let mut reached: Vec<_> = origin.take().into_iter().map(|request| request.target).collect();
    reached.retain(|target| target != "/probe");
    if reached == row.forwarded { fault } else { Err(format!("{reached:?} reached the origin")) }
}

fn check_refusal(reply: &Reply, row: &Row) -> Result<(), String> {
    let body: serde_json::Value = serde_json::from_slice(&reply.body)
        .map_err(|error| format!("no JSON ({error}): {}", text(reply)))?;
    let message = body["error"]["message"].as_str().ok_or("no message")?;
    let by_parser = PARSER.contains(&message);
    if row.closed && reply.header("connection") != Some("close") {
        return Err("closes without saying so".to_owned());
    }
    match row.by {
        By::Gate if by_parser => Err(format!("the parser answered: {message}")),
        By::Parser if !by_parser => Err(format!("the gate answered: {message}")),
        _ => Ok(()),
    }
}

fn text(reply: &Reply) -> String {
    format!("{}{}", reply.head, String::from_utf8_lossy(&reply.body))
}

#[tokio::test]
async fn what_belongs_to_the_connection_is_not_forwarded() {
    let gated = start_gated().await;
    let (addr, origin) = (gated.addr, &gated.log);
    let mut raw = Raw::connect(addr).await;
    raw.send(
        b"POST /v1//chat?x=%2f HTTP/1.1\r\nHost: a\r\nConnection: x-mine, TE\r\nX-Mine: 1\r\n\
          TE: trailers\r\nKeep-Alive: timeout=5\r\nProxy-Authorization: Basic eA==\r\n\
          Transfer-Encoding: chunked\r\nTrailer: X-End\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\
          X-Forwarded-For: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\nX-Tidegate-Agent: me\r\n\
          Authorization: Bearer k\r\n\r\n3\r\nabc\r\n1;x=y\r\nd\r\n0\r\nX-End: z\r\n\r\n",
    )
    .await;
    assert_eq!(raw.reply().await.expect("a reply").status, 200);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let wanted = Forwarded {
        method: "POST".to_owned(),
        target: "/v1/chat?x=%2f".to_owned(),
        headers: vec![pair("authorization", "Bearer k")],
        body: b"abcd".to_vec(),
    };
    assert_eq!(origin.take(), [wanted]);
}

#[tokio::test]
async fn a_body_is_asked_for_only_when_it_is_wanted() {
    let gated = start_gated().await;
    let (addr, origin) = (gated.addr, &gated.log);
    let mut raw = Raw::connect(addr).await;
    raw.send(b"POST /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        .await;
    assert_eq!(raw.reply().await.expect("an interim reply").status, 100);
    raw.send(b"abc").await;
    assert_eq!(raw.reply().await.expect("a reply").status, 200);
    assert!(!origin.take()[0].headers.iter().any(|(name, _)| name == "expect"));
    let large = "POST /v1/messages HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 70000\r\n\r\n";
    raw.send(large.as_bytes()).await;
    assert_eq!(raw.reply().await.expect("a reply").status, 413);
    assert!(raw.is_closed().await);
    assert!(origin.take().is_empty());
}

#[tokio::test]
async fn a_request_in_single_bytes_is_the_same_request() {
    let gated = start_gated().await;
    let (addr, origin) = (gated.addr, &gated.log);
    let mut raw = Raw::connect(addr).await;
    for byte in
        b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
    {
        raw.send(&[*byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(raw.reply().await.expect("a reply").status, 200);
    assert_eq!(origin.take()[0].body, b"a");
    for byte in b"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 05\r\n\r\n" {
        raw.send(&[*byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(raw.reply().await.expect("a reply").status, 400);
    assert!(origin.take().is_empty());
}

#[tokio::test]
async fn http2_requests_are_judged_by_their_own_rules() {
    let gated = start_gated().await;
    let (addr, origin) = (gated.addr, &gated.log);
    type Fields = &'static [(&'static str, &'static str)];
    let rows: &[(&str, Fields, &[u8], Ended)] = &[
        ("plain", &[], b"", Ended::Status(200)),
        ("host agrees", &[("host", "A:80")], b"", Ended::Status(200)),
        ("cookies in pieces", &[("cookie", "a=1"), ("cookie", "b=2")], b"", Ended::Status(200)),
        ("te: trailers", &[("te", "trailers")], b"", Ended::Status(200)),
        ("body with its length", &[("content-length", "2")], b"{}", Ended::Status(200)),
        ("host differs", &[("host", "b")], b"", Ended::Status(400)),
        ("host twice", &[("host", "a"), ("host", "a")], b"", Ended::Status(400)),
        ("authorization twice", &[("authorization", "x"); 2], b"", Ended::Status(400)),
        ("expect", &[("expect", "x")], b"", Ended::Status(417)),
        ("length with a zero", &[("content-length", "02")], b"{}", Ended::Status(400)),
        // refused by the framing layer before a request exists
        ("connection", &[("connection", "close")], b"", Ended::Reset),
        ("transfer-encoding", &[("transfer-encoding", "chunked")], b"", Ended::Reset),
        ("te: gzip", &[("te", "gzip")], b"", Ended::Reset),
        ("upper-case name", &[("X-Up", "1")], b"", Ended::Away),
        ("length too small", &[("content-length", "1")], b"{}", Ended::Reset),
    ];
    for (name, fields, body, wanted) in rows {
        let start =
            [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/x")];
        let ended = h2frames::ask(addr, &[&start[..], fields].concat(), body).await;
        let reached = origin.take().len();
        assert_eq!(
            (ended, reached),
            (*wanted, usize::from(*wanted == Ended::Status(200))),
            "{name}"
        );
    }
    let paths = [("/v1/../x", 400), ("/v1%2fx", 400), ("*", 400), ("x", 0), ("//v1", 200)];
    for (path, status) in paths {
        let headers =
            [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", path)];
        let wanted = if status == 0 { Ended::Reset } else { Ended::Status(status) };
        assert_eq!(h2frames::ask(addr, &headers, b"").await, wanted, "{path}");
    }
    let large = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", "/v1/messages"),
        ("content-length", "70000"),
    ];
    assert_eq!(h2frames::ask_with(addr, &large, b"x", false).await, Ended::Status(413));
    let no_authority = [(":method", "GET"), (":scheme", "http"), (":path", "/x")];
    assert_eq!(h2frames::ask(addr, &no_authority, b"").await, Ended::Status(400));
}

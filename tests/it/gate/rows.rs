//! The rows of the HTTP/1.x table, by subject.
use super::{By, Row};

pub(super) fn all() -> Vec<Row> {
    [hosts(), lengths(), codings(), chunks(), lines(), starts(), targets(), fields(), bounds()]
        .into_iter()
        .flatten()
        .collect()
}

fn row(name: &'static str, sent: impl Into<Vec<u8>>, statuses: &[u16], by: By) -> Row {
    let statuses = statuses.to_vec();
    Row { name, sent: sent.into(), statuses, by, closed: true, forwarded: Vec::new() }
}

/// Refused by the gate; the connection ends.
fn gate(name: &'static str, sent: impl Into<Vec<u8>>, status: u16) -> Row {
    row(name, sent, &[status], By::Gate)
}

/// Refused by the parser; the connection ends.
fn parser(name: &'static str, sent: impl Into<Vec<u8>>, status: u16) -> Row {
    row(name, sent, &[status], By::Parser)
}

/// Forwarded as these targets, all on one connection that stays.
fn passes(name: &'static str, sent: impl Into<Vec<u8>>, targets: &[&'static str]) -> Row {
    let statuses = vec![200; targets.len()];
    Row { closed: false, forwarded: targets.to_vec(), ..row(name, sent, &statuses, By::Any) }
}

/// A GET with these lines after the request line.
fn get(lines: &str) -> String {
    format!("GET /x HTTP/1.1\r\n{lines}\r\n")
}

/// A GET of this target.
fn target(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// A POST with these lines and what follows the head.
fn post(lines: &str, rest: &str) -> String {
    format!("POST /x HTTP/1.1\r\nHost: a\r\n{lines}\r\n{rest}")
}

fn chunked(body: &str) -> String {
    post("Transfer-Encoding: chunked\r\n", body)
}

fn hosts() -> Vec<Row> {
    let absolute = |target: &str, host: &str| format!("GET {target} HTTP/1.1\r\n{host}\r\n");
    vec![
        gate("no host", get(""), 400),
        gate("empty host", get("Host:\r\n"), 400),
        gate("host twice, equal", get("Host: a\r\nHost: a\r\n"), 400),
        gate("host twice, different", get("Host: a\r\nHost: b\r\n"), 400),
        gate("two hosts in one", get("Host: a, b\r\n"), 400),
        gate("host with user information", get("Host: u@a\r\n"), 400),
        gate("host with a path", get("Host: a/b\r\n"), 400),
        gate("host with a word for a port", get("Host: a:http\r\n"), 400),
        gate("host with a space", get("Host: a b\r\n"), 400),
        gate("host beyond ASCII", get("Host: caf\u{e9}\r\n"), 400),
        gate("host with an open bracket", get("Host: [::1\r\n"), 400),
        passes("host with a port", get("Host: a:8080\r\n"), &["/x"]),
        passes("host that is IPv6", get("Host: [::1]:8080\r\n"), &["/x"]),
        gate("absolute target, other host", absolute("http://b/x", "Host: a\r\n"), 400),
        gate("absolute target, no host", absolute("http://a/x", ""), 400),
        gate("absolute target, user", absolute("http://u@a/x", "Host: a\r\n"), 400),
        gate("absolute target, strange scheme", absolute("ftp://a/x", "Host: a\r\n"), 400),
        passes("absolute target", absolute("http://A:80/x?y", "Host: a\r\n"), &["/x?y"]),
        // which the sidecar answers by itself
        Row {
            forwarded: Vec::new(),
            ..passes("absolute target, no path", absolute("http://a", "Host: a\r\n"), &["/"])
        },
        Row {
            forwarded: vec!["/x"],
            ..row("HTTP/1.0 knows no host", "GET /x HTTP/1.0\r\n\r\n", &[200], By::Any)
        },
    ]
}

fn lengths() -> Vec<Row> {
    let length = |value: &str| post(&format!("Content-Length:{value}\r\n"), "0123456789");
    let twice = |one: &str, two: &str| {
        post(&format!("Content-Length: {one}\r\nContent-Length: {two}\r\n"), "01234")
    };
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let carried = format!("Content-Length: {}\r\n", smuggled.len());
    vec![
        passes("a length", length(" 10"), &["/x"]),
        passes("a length of nothing", post("Content-Length: 0\r\n", ""), &["/x"]),
        gate("length with a leading zero", length(" 010"), 400),
        gate("length of zeros", post("Content-Length: 00\r\n", ""), 400),
        parser("length with a plus", length(" +10"), 400),
        parser("length below zero", length(" -1"), 400),
        parser("length in hexadecimal", length(" 0xa"), 400),
        parser("length without digits", length(""), 400),
        parser("length as a list", length(" 10, 10"), 400),
        parser("length with a space inside", length(" 1 0"), 400),
        parser("length with a fraction", length(" 10.0"), 400),
        parser("length beyond 64 bits", length(" 18446744073709551626"), 400),
        gate("length of 17 digits", length(" 10000000000000000"), 400),
        gate("length after too much white space", length(&format!("{}10", " ".repeat(100))), 400),
        gate("length twice, equal", twice("5", "5"), 400),
        parser("length twice, different", twice("5", "0"), 400),
        gate("length twice, second odd", twice("5", "05"), 400),
        parser("white space before the colon", post("Content-Length : 5\r\n", "01234"), 400),
        passes("a body that looks like a request", post(&carried, smuggled), &["/x"]),
        passes("two requests at once", smuggled.repeat(2), &["/smuggled", "/smuggled"]),
    ]
}

fn codings() -> Vec<Row> {
    let coding = |lines: &str| post(&format!("{lines}\r\n"), "1\r\na\r\n0\r\n\r\n");
    let old = "POST /x HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    vec![
        passes("chunked", coding("Transfer-Encoding: chunked"), &["/x"]),
        passes("chunked in capitals", coding("TRANSFER-ENCODING: CHUNKED"), &["/x"]),
        gate(
            "coding, then length",
            coding("Transfer-Encoding: chunked\r\nContent-Length: 11"),
            400,
        ),
        gate("length, then coding", coding("Content-Length: 4\r\nTransfer-Encoding: chunked"), 400),
        gate(
            "bad length beside a coding",
            coding("Transfer-Encoding: chunked\r\nContent-Length: x"),
            400,
        ),
        gate(
            "coding twice",
            coding("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
            400,
        ),
        gate("coding twice in one", coding("Transfer-Encoding: chunked, chunked"), 400),
        gate("empty coding before", coding("Transfer-Encoding: ,chunked"), 400),
        gate("another coding before", coding("Transfer-Encoding: gzip, chunked"), 400),
        gate(
            "another coding, two lines",
            coding("Transfer-Encoding: x\r\nTransfer-Encoding: chunked"),
            400,
        ),
        parser("another coding after", coding("Transfer-Encoding: chunked, identity"), 400),
        parser("no such coding", coding("Transfer-Encoding: xchunked"), 400),
        parser("identity", coding("Transfer-Encoding: identity"), 400),
        parser("coding with a parameter", coding("Transfer-Encoding: chunked;a=b"), 400),
        parser("coding in quotes", coding("Transfer-Encoding: \"chunked\""), 400),
        parser("coding after a control byte", coding("Transfer-Encoding: \x0bchunked"), 400),
        parser("coding on the next line", coding("Transfer-Encoding:\r\n chunked"), 400),
        parser("coding with a spaced name", coding("Transfer-Encoding : chunked"), 400),
        parser("coding in HTTP/1.0", old, 400),
    ]
}

fn chunks() -> Vec<Row> {
    let bad = |name, body: &str| row(name, chunked(body), &[400], By::Gate);
    let long = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(20 * 1024));
    let next = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";
    vec![
        passes("extension and trailer", chunked("1;a=b\r\na\r\n0\r\nX: y\r\n\r\n"), &["/x"]),
        passes("next after chunks", chunked(&format!("0\r\n\r\n{next}")), &["/x", "/next"]),
        bad("size with a prefix", "0x1\r\na\r\n0\r\n\r\n"),
        bad("size with a sign", "+1\r\na\r\n0\r\n\r\n"),
        bad("size below zero", "-1\r\na\r\n0\r\n\r\n"),
        bad("no size", "\r\na\r\n0\r\n\r\n"),
        bad("size that is no number", "x\r\na\r\n0\r\n\r\n"),
        bad("size beyond 64 bits", "10000000000000001\r\na\r\n0\r\n\r\n"),
        bad("more data than said", "1\r\nab\r\n0\r\n\r\n"),
        bad("data without its line end", "1\r\na0\r\n\r\n"),
        bad("size line in LF", "1\na\r\n0\r\n\r\n"),
        bad("extension with LF", "1;x\ny\r\na\r\n0\r\n\r\n"),
        bad("data that ends in LF", "1\r\na\n0\r\n\r\n"),
        bad("endless extension", &long),
        // the parser takes such a trailer for whole, so what follows is in doubt and goes nowhere
        Row {
            forwarded: vec!["/x"],
            ..row(
                "trailer in LF before a request",
                chunked(&format!("0\r\nA: b\n\r\n\r\n{next}")),
                &[200, 400],
                By::Gate,
            )
        },
    ]
}

fn lines() -> Vec<Row> {
    let field = |line: &str| get(&format!("Host: a\r\n{line}\r\n"));
    vec![
        gate("all lines in LF", "GET /x HTTP/1.1\nHost: a\n\n", 400),
        gate("one line in LF", "GET /x HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400),
        gate("request line in LF", "GET /x HTTP/1.1\nHost: a\r\n\r\n", 400),
        gate("blank line in LF", "GET /x HTTP/1.1\r\nHost: a\r\n\n", 400),
        parser("lines in CR", "GET /x HTTP/1.1\rHost: a\r\r\n\r\n", 400),
        parser("CR inside of a value", field("X: a\rb"), 400),
        parser("folded line", field("X: a\r\n b"), 400),
        parser("folded by a tab", field("X: a\r\n\tb"), 400),
        parser("first line folded", get(" Host: a\r\n"), 400),
        parser("NUL in a value", field("X: a\0b"), 400),
        parser("control byte in a value", field("X: a\x01b"), 400),
        parser("DEL in a value", field("X: a\x7fb"), 400),
        parser("no colon", field("X"), 400),
        parser("no name", field(": y"), 400),
        parser("name with a space", field("X Y: z"), 400),
        parser("name that is no token", field("X@Y: z"), 400),
        parser("name beyond ASCII", field("caf\u{e9}: z"), 400),
        passes("tab in a value", field("X: a\tb"), &["/x"]),
        passes("metadata beyond ASCII", field("X-Title: caf\u{e9}"), &["/x"]),
        passes("empty value", field("X:"), &["/x"]),
        passes("empty lines in front", format!("\r\n\r\n{}", field("X: y")), &["/x"]),
    ]
}

fn starts() -> Vec<Row> {
    let start = |line: &str| format!("{line}\r\nHost: a\r\n\r\n");
    let elsewhere = |status, method: &str| format!("{method}{status}");
    vec![
        parser("no version", start("GET /x"), 400),
        parser("HTTP/1.2", start("GET /x HTTP/1.2"), 400),
        parser("HTTP/9.9", start("GET /x HTTP/9.9"), 400),
        parser("HTTP/2.0 in text", start("GET /x HTTP/2.0"), 400),
        parser("version in small letters", start("GET /x http/1.1"), 400),
        parser("two spaces", start("GET  /x HTTP/1.1"), 400),
        parser("space in front", start(" GET /x HTTP/1.1"), 400),
        parser("space after", start("GET /x HTTP/1.1 "), 400),
        parser("tabs between", start("GET\t/x\tHTTP/1.1"), 400),
        parser("space in the target", start("GET /x y HTTP/1.1"), 400),
        parser("no method", start("/x HTTP/1.1"), 400),
        parser("method that is no token", start("G@T/ /x HTTP/1.1"), 400),
        parser("no HTTP at all", "\x16\x03\x01\x02\0\x01\0\x01\r\n\r\n", 400),
        passes("method of our own", start("BREW /x HTTP/1.1"), &["/x"]),
        gate("CONNECT", start(&elsewhere(" a:443 HTTP/1.1", "CONNECT")), 405),
        Row { closed: false, ..gate("TRACE", start("TRACE /x HTTP/1.1"), 405) },
        Row {
            closed: false,
            ..row("OPTIONS of the server", start("OPTIONS * HTTP/1.1"), &[204], By::Any)
        },
        passes("OPTIONS of a path", start("OPTIONS /x HTTP/1.1"), &["/x"]),
        gate("asterisk for another method", start("GET * HTTP/1.1"), 400),
    ]
}

fn targets() -> Vec<Row> {
    vec![
        gate("a mark for a target", target("!"), 400),
        gate("a word for a target", target("x"), 400),
        gate("an authority for a target", target("a:80"), 400),
        gate("fragment", target("/x#y"), 400),
        gate("fragment after a query", target("/x?y#z"), 400),
        gate("dot segments", target("/v1/../admin"), 400),
        gate("dot segment at the end", target("/v1/.."), 400),
        gate("single dot segment", target("/v1/./x"), 400),
        gate("escaped dot segments", target("/v1/%2e%2E/admin"), 400),
        gate("dot segments with a parameter", target("/v1/..;/admin"), 400),
        gate("escaped slash", target("/v1%2Fchat"), 400),
        gate("escaped backslash", target("/v1%5cchat"), 400),
        gate("backslash", target("/v1\\chat"), 400),
        gate("escaped NUL", target("/x%00"), 400),
        gate("escaped line end", target("/x%0d%0aX:y"), 400),
        gate("half an escape", target("/x%4"), 400),
        gate("no escape", target("/x%zz"), 400),
        gate("path beyond ASCII", target("/caf\u{e9}"), 400),
        gate("query beyond ASCII", target("/x?caf\u{e9}"), 400),
        parser(
            "path that is no UTF-8",
            [b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n".as_slice()].concat(),
            400,
        ),
        passes("doubled slashes", target("//v1///x"), &["/v1/x"]),
        passes("escapes that need not be", target("/%76%31/%7ex"), &["/v1/~x"]),
        passes("escapes that must be", target("/a%20b%C3%A9%3A"), &["/a%20b%C3%A9%3A"]),
        passes("a query is left alone", target("/x?a=%2F..//&b=%zz"), &["/x?a=%2F..//&b=%zz"]),
        passes(
            "colon in a path",
            target("/v1beta/models/m:go?alt=sse"),
            &["/v1beta/models/m:go?alt=sse"],
        ),
    ]
}

fn fields() -> Vec<Row> {
    let with = |lines: &str| get(&format!("Host: a\r\n{lines}\r\n"));
    let socket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x";
    vec![
        gate("authorization twice", with("Authorization: x\r\nAuthorization: x"), 400),
        gate("content-type twice", with("Content-Type: a/b\r\nContent-Type: c/d"), 400),
        gate("x-api-key twice", with("X-Api-Key: x\r\nX-API-KEY: y"), 400),
        gate("idempotency-key twice", with("Idempotency-Key: x\r\nIdempotency-Key: x"), 400),
        gate("agent twice", with("X-Agent-Id: x\r\nX-Agent-Id: y"), 400),
        gate("credential beyond ASCII", with("Authorization: Bearer caf\u{e9}"), 400),
        gate("unknown expectation", with("Expect: 200-maybe"), 417),
        gate("expectations as a list", with("Expect: 100-continue, x"), 417),
        gate("connection names a credential", with("Connection: close, Authorization"), 400),
        gate("connection names the host", with("Connection: host"), 400),
        gate("connection names the length", with("Connection: content-length"), 400),
        gate("connection is no list of tokens", with("Connection: a b"), 400),
        passes(
            "upgrade to h2c is no upgrade",
            with("Connection: Upgrade\r\nUpgrade: h2c"),
            &["/x"],
        ),
        passes("websocket refused is a reply", with(socket), &["/x"]),
        passes(
            "connection names a header of its own",
            with("Connection: x-mine\r\nX-Mine: 1"),
            &["/x"],
        ),
    ]
}

fn bounds() -> Vec<Row> {
    let many = |count: usize| get(&format!("Host: a\r\n{}", "X: y\r\n".repeat(count)));
    let large = |len: usize| get(&format!("Host: a\r\nX: {}\r\n", "y".repeat(len)));
    let body = "x".repeat(70_000);
    let over = format!("{:x}\r\n{body}\r\n0\r\n\r\n", 70_000);
    // only bodies that are read whole are bounded
    let chat = |lines: &str, rest: &str| {
        format!("POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n{lines}\r\n{rest}")
    };
    let path = |len: usize| target(&format!("/{}", "x".repeat(len - 1)));
    vec![
        passes("as many headers as allowed", many(99), &["/x"]),
        parser("one header more", many(100), 431),
        gate("a head over the bound", large(33 * 1024), 431),
        parser("a head over the read buffer", large(80 * 1024), 431),
        gate("a target over the bound", path(8193), 414),
        gate("a target over the head's bound", path(40 * 1024), 414),
        parser("a target over the read buffer", path(80 * 1024), 414),
        gate("a length over the bound", chat("Content-Length: 65537\r\n", ""), 413),
        gate("chunks over the bound", chat("Transfer-Encoding: chunked\r\n", &over), 413),
        passes("an upload has no bound", post("Content-Length: 70000\r\n", &body), &["/x"]),
    ]
}

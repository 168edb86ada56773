use super::*;
use crate::upstream::outgoing::Outgoing;

/// Into a map that has held something else.
fn read(bytes: &[u8], head_only: bool) -> Result<Option<(Head, usize)>, H1Error> {
    let mut map = HeaderMap::new();
    map.insert(header::AUTHORIZATION, HeaderValue::from_static("the request's"));
    parse(bytes, head_only, &mut map)
}

fn parse_text(text: &str) -> Result<Option<(Head, usize)>, H1Error> {
    read(text.as_bytes(), false)
}

fn head(text: &str) -> Head {
    let (head, used) = parse_text(text).unwrap().unwrap();
    assert_eq!(used, text.len(), "{text:?}");
    head
}

fn with(lines: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{lines}\r\n")
}

/// Status line and header lines, what frames the body, and whether the connection may be kept.
#[test]
fn framing_follows_the_rfc() {
    const LENGTH: Framing = Framing::Length(5);
    const CLOSE: Framing = Framing::UntilClose;
    const NONE: Framing = Framing::None;
    let chunked = Framing::chunked();
    for (line, lines, framing, keep) in [
        ("HTTP/1.1 200 OK", "Content-Length: 5\r\n", LENGTH, true),
        ("HTTP/1.1 200 OK", "content-length:5\r\n", LENGTH, true),
        ("HTTP/1.1 200 OK", "Content-Length: 0\r\n", NONE, true),
        ("HTTP/1.1 200 OK", "Content-Length: 5\r\nContent-Length: 5\r\n", LENGTH, true),
        ("HTTP/1.1 200 OK", "Transfer-Encoding: chunked\r\n", chunked, true),
        ("HTTP/1.1 200 OK", "transfer-encoding:  ChunKed \r\n", chunked, true),
        ("HTTP/1.1 200 OK", "", CLOSE, true),
        ("HTTP/1.1 200 OK", "Connection: close\r\nContent-Length: 5\r\n", LENGTH, false),
        ("HTTP/1.1 200 OK", "Connection: x, CLOSE ,y\r\nContent-Length: 5\r\n", LENGTH, false),
        (
            "HTTP/1.1 200 OK",
            "Connection: close, keep-alive\r\nContent-Length: 5\r\n",
            LENGTH,
            false,
        ),
        ("HTTP/1.1 200 OK", "Connection: keep-alive\r\nConnection: close\r\n", CLOSE, false),
        ("HTTP/1.0 200 OK", "Content-Length: 5\r\n", LENGTH, false),
        ("HTTP/1.0 200 OK", "Connection: keep-alive\r\nContent-Length: 5\r\n", LENGTH, true),
        (
            "HTTP/1.0 200 OK",
            "Connection: keep-alive, close\r\nContent-Length: 5\r\n",
            LENGTH,
            false,
        ),
        // chunks are not known to HTTP/1.0
        (
            "HTTP/1.0 200 OK",
            "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n",
            chunked,
            false,
        ),
        ("HTTP/1.1 204 No Content", "Content-Length: 5\r\n", NONE, true),
        ("HTTP/1.1 204 No Content", "Transfer-Encoding: chunked\r\n", NONE, true),
        ("HTTP/1.1 304 Not Modified", "Content-Length: 5\r\n", NONE, true),
        (
            "HTTP/1.1 101 Switching Protocols",
            "Connection: upgrade\r\nUpgrade: websocket\r\n",
            NONE,
            false,
        ),
        ("HTTP/1.1 999 Odd", "Content-Length: 5\r\n", LENGTH, true),
        // no reason, with its space or without
        ("HTTP/1.1 200 ", "Content-Length: 5\r\n", LENGTH, true),
        ("HTTP/1.1 200", "Content-Length: 5\r\n", LENGTH, true),
    ] {
        let text = format!("{line}\r\n{lines}\r\n");
        let head = head(&text);
        assert_eq!((head.framing, head.keep_alive), (framing, keep), "{text:?}");
        assert!(
            head.headers.get("connection").is_none()
                && head.headers.get("transfer-encoding").is_none()
        );
        let (to_head, _) = read(text.as_bytes(), true).unwrap().unwrap();
        assert_eq!(to_head.framing, NONE, "an answer to HEAD has no body: {text:?}");
    }
}

#[test]
fn what_is_in_doubt_is_an_error() {
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 5.0\r\n",
        "Content-Length:\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Content-Length: 99999999999999999999999999\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
        "X: a\r\n b\r\n",
        " X: a\r\n",
        "X : a\r\n",
        "X\r\n",
        ": a\r\n",
        "X\0: a\r\n",
        "X: a\0b\r\n",
        "X: a\rb\r\n",
        "X(: a\r\n",
    ] {
        assert!(parse_text(&with(lines)).is_err(), "{lines:?}");
    }
    for line in [
        "HTTP/1.1 99 Low",
        "HTTP/1.1 2000 High",
        "HTTP/1.1 abc",
        "HTTP/1.1 -20 X",
        "HTTP/2 200 OK",
        "HTTP/1.2 200 OK",
        "ICY 200 OK",
        "http/1.1 200 OK",
        "HTTP/1.1 099 Low",
        "<html>",
        "\0",
    ] {
        let text = format!("{line}\r\nContent-Length: 0\r\n\r\n");
        assert!(parse_text(&text).is_err(), "{line:?}");
    }
}

#[test]
fn hop_by_hop_lines_stay_here() {
    let head = head(&with(
        "Connection: X-Private, close, Content-Length, content-type\r\nConnection: y-private\r\n\
         X-Private: 1\r\nY-Private: 2\r\nx-private: 3\r\nKeep-Alive: timeout=5\r\nTE: a\r\n\
         Trailer: b\r\nProxy-Connection: c\r\nProxy-Authenticate: d\r\nContent-Type: e\r\n\
         Set-Cookie: a\r\nSet-Cookie: b\r\nEmpty:\r\nBlank:   \r\nObs: \u{e4}\r\nContent-Length: 0\r\n",
    ));
    let mut seen: Vec<(&str, &[u8])> =
        head.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    // values of one name keep their order
    seen.sort_by_key(|(name, _)| *name);
    assert_eq!(
        seen,
        [
            ("blank", &b""[..]),
            ("content-length", b"0"),
            ("empty", b""),
            ("obs", "\u{e4}".as_bytes()),
            ("set-cookie", b"a"),
            ("set-cookie", b"b"),
        ]
    );
}

#[test]
fn interim_heads_are_passed_over() {
    let last = with("Content-Length: 0\r\n");
    for interim in [
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
        "HTTP/1.1 100 \r\n\r\nHTTP/1.1 102 Processing\r\nContent-Length: 9\r\n\r\nHTTP/1.1 103 X\r\n\r\n",
        // framing of a head without a body is not looked at
        "HTTP/1.1 100 X\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        let text = format!("{interim}{last}");
        let head = head(&text);
        assert_eq!((head.status.as_u16(), head.headers.len()), (200, 1));
        for cut in 0..text.len() {
            assert!(read(&text.as_bytes()[..cut], false).unwrap().is_none(), "{cut}");
        }
    }
    assert_eq!(head("HTTP/1.1 101 X\r\nUpgrade: a\r\n\r\n").status.as_u16(), 101);
}

#[test]
fn the_bounds_are_exact() {
    let lines = |n: usize| {
        with(
            &(0..n)
                .map(|i| format!("x{i}: {i}"))
                .chain([String::new()])
                .collect::<Vec<_>>()
                .join("\r\n"),
        )
    };
    assert_eq!(head(&lines(200)).headers.len(), 200);
    assert!(parse_text(&lines(201)).is_err());

    let empty = with("x: \r\n").len();
    let sized = |n: usize| with(&format!("x: {}\r\n", "a".repeat(n - empty)));
    assert_eq!(head(&sized(MAX_HEAD)).headers.len(), 1);
    assert!(parse_text(&sized(MAX_HEAD + 1)).is_err());
    // unfinished, and a byte too many already
    let text = sized(2 * MAX_HEAD);
    assert!(read(&text.as_bytes()[..MAX_HEAD], false).unwrap().is_none());
    assert!(read(&text.as_bytes()[..=MAX_HEAD], false).is_err());

    // interim heads count; bytes of the body do not
    let interim = "HTTP/1.1 100 X\r\n\r\n".repeat(MAX_HEAD / 18 + 1);
    assert!(parse_text(&interim).is_err());
    assert!(parse_text(&format!("{interim}{}", with(""))).is_err());
    let long_body = format!("{}{}", with("Content-Length: 99999\r\n"), "b".repeat(99_999));
    assert!(parse_text(&long_body).is_ok_and(|head| head.is_some()));
}

/// A hostile list of names costs time in its length, not in the square of it.
#[test]
fn a_long_connection_list_is_harmless() {
    let head = head(&with(&format!("Connection: {}\r\nb: 1\r\n", "a,b,".repeat(16_000))));
    assert!(head.headers.is_empty());
}

fn rendered(method: &Method, target: &str, lines: &[(&str, &str)], body: &Outgoing) -> String {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    String::from_utf8(render(method, target, &headers, body)).unwrap()
}

#[test]
fn requests_are_rendered_to_the_byte() {
    let whole = |text: &'static str| Outgoing::whole(Bytes::from_static(text.as_bytes()));
    let lines = [("host", "a:1"), ("x-a", "1"), ("x-a", ""), ("accept", "*/*")];
    assert_eq!(
        rendered(&Method::POST, "/v1/x?y=z", &lines, &whole("{\"a\":1}")),
        "POST /v1/x?y=z HTTP/1.1\r\nhost: a:1\r\nx-a: 1\r\nx-a: \r\naccept: */*\r\ncontent-length: 7\r\n\r\n"
    );
    // a method that gives its body a meaning says that there is none (RFC 9110 section 8.6)
    for (method, length) in [
        (Method::POST, "content-length: 0\r\n"),
        (Method::PUT, "content-length: 0\r\n"),
        (Method::PATCH, "content-length: 0\r\n"),
        (Method::GET, ""),
        (Method::HEAD, ""),
        (Method::DELETE, ""),
        (Method::OPTIONS, ""),
        (Method::from_bytes(b"PURGE").unwrap(), ""),
    ] {
        let text = rendered(&method, "/", &[("host", "b")], &whole(""));
        assert_eq!(text, format!("{method} / HTTP/1.1\r\nhost: b\r\n{length}\r\n"));
    }
    // and any method says how long a body is that is there
    let text = rendered(&Method::DELETE, "/", &[], &whole("12345678901"));
    assert_eq!(text, "DELETE / HTTP/1.1\r\ncontent-length: 11\r\n\r\n");
}

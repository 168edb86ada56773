//! Frames against the letter of RFC 9113 and RFC 7541, and requests that would be others once they
//! are written as HTTP/1.1.
use super::{
    COMPRESSION_ERROR, CONTINUATION, DATA, END_HEADERS, END_STREAM, FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR, Frames, GOAWAY, HAS_PRIORITY, HEADERS, PADDED, PING, PRIORITY,
    PROTOCOL_ERROR, PUSH_PROMISE, RST_STREAM, SETTINGS, STREAM_CLOSED, Said, Siege, UPLOAD,
    WINDOW_UPDATE, after, block, empty_post, frame, limited, literal, posting,
};
use crate::support::h2;

/// A name, the frames, and the error; of the stream, or of the whole connection.
type Row = (&'static str, Vec<Vec<u8>>, u32);

fn streams() -> Vec<Row> {
    let head = |stream| frame(HEADERS, END_HEADERS, stream, &posting(UPLOAD, &[]));
    let data = |stream, flags| frame(DATA, flags, stream, b"x");
    let on_itself = [&[0, 0, 0, 1, 16][..], &posting(UPLOAD, &[])].concat();
    vec![
        ("data on a closed stream", vec![empty_post(1), data(1, 0)], STREAM_CLOSED),
        (
            "data twice to the end",
            vec![head(1), data(1, END_STREAM), data(1, END_STREAM)],
            STREAM_CLOSED,
        ),
        ("data on an idle stream", vec![data(1, END_STREAM)], PROTOCOL_ERROR),
        ("data on no stream", vec![data(0, END_STREAM)], PROTOCOL_ERROR),
        ("headers on no stream", vec![head(0)], PROTOCOL_ERROR),
        ("an even stream", vec![head(2)], PROTOCOL_ERROR),
        ("a stream that goes back", vec![empty_post(5), empty_post(3)], PROTOCOL_ERROR),
        ("headers twice", vec![empty_post(1), empty_post(1)], STREAM_CLOSED),
        ("a reset of an idle stream", vec![frame(RST_STREAM, 0, 1, &[0; 4])], PROTOCOL_ERROR),
        ("a reset of no stream", vec![frame(RST_STREAM, 0, 0, &[0; 4])], PROTOCOL_ERROR),
        (
            "a window of an idle stream",
            vec![frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])],
            PROTOCOL_ERROR,
        ),
        (
            "a stream that hangs on itself",
            vec![frame(HEADERS, END_HEADERS | END_STREAM | HAS_PRIORITY, 1, &on_itself)],
            PROTOCOL_ERROR,
        ),
        (
            "a priority of itself",
            vec![head(1), frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 16])],
            PROTOCOL_ERROR,
        ),
        ("a priority of no stream", vec![frame(PRIORITY, 0, 0, &[0, 0, 0, 1, 16])], PROTOCOL_ERROR),
        (
            "a promise by a client",
            vec![empty_post(1), frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])],
            PROTOCOL_ERROR,
        ),
        (
            "a continuation of nothing",
            vec![frame(CONTINUATION, END_HEADERS, 1, &[])],
            PROTOCOL_ERROR,
        ),
        (
            "a frame within a head",
            vec![frame(HEADERS, 0, 1, &posting(UPLOAD, &[])), frame(PING, 0, 0, &[0; 8])],
            PROTOCOL_ERROR,
        ),
        (
            "another stream within a head",
            vec![
                frame(HEADERS, 0, 1, &posting(UPLOAD, &[])),
                frame(CONTINUATION, END_HEADERS, 3, &[]),
            ],
            PROTOCOL_ERROR,
        ),
    ]
}

fn sizes() -> Vec<Row> {
    let padded = [&[200][..], &[0; 20]].concat();
    vec![
        ("a frame over the bound", vec![frame(DATA, 0, 1, &[0; 16_385])], FRAME_SIZE_ERROR),
        ("settings of seven bytes", vec![frame(SETTINGS, 0, 0, &[0; 7])], FRAME_SIZE_ERROR),
        ("an acknowledgement with bytes", vec![frame(SETTINGS, 1, 0, &[0; 6])], FRAME_SIZE_ERROR),
        ("settings of a stream", vec![frame(SETTINGS, 0, 1, &[])], PROTOCOL_ERROR),
        ("push that is neither", vec![frame(SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 2])], PROTOCOL_ERROR),
        (
            "a frame bound of nothing",
            vec![frame(SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 0])],
            PROTOCOL_ERROR,
        ),
        (
            "a window over 31 bits",
            vec![frame(SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff])],
            FLOW_CONTROL_ERROR,
        ),
        ("a ping of seven bytes", vec![frame(PING, 0, 0, &[0; 7])], FRAME_SIZE_ERROR),
        ("a ping of a stream", vec![frame(PING, 0, 1, &[0; 8])], PROTOCOL_ERROR),
        (
            "a reset of three bytes",
            vec![empty_post(1), frame(RST_STREAM, 0, 1, &[0; 3])],
            FRAME_SIZE_ERROR,
        ),
        ("a window of three bytes", vec![frame(WINDOW_UPDATE, 0, 0, &[0; 3])], FRAME_SIZE_ERROR),
        ("a priority of four bytes", vec![frame(PRIORITY, 0, 1, &[0; 4])], FRAME_SIZE_ERROR),
        ("a farewell of a stream", vec![frame(GOAWAY, 0, 1, &[0; 8])], PROTOCOL_ERROR),
        ("a farewell of four bytes", vec![frame(GOAWAY, 0, 0, &[0; 4])], FRAME_SIZE_ERROR),
        (
            "more padding than data",
            vec![
                frame(HEADERS, END_HEADERS, 1, &posting(UPLOAD, &[])),
                frame(DATA, PADDED, 1, &padded),
            ],
            PROTOCOL_ERROR,
        ),
        (
            "more padding than head",
            vec![frame(HEADERS, END_HEADERS | PADDED, 1, &padded)],
            PROTOCOL_ERROR,
        ),
    ]
}

fn tables() -> Vec<Row> {
    let head = |block: &[u8]| vec![frame(HEADERS, END_HEADERS | END_STREAM, 1, block)];
    vec![
        ("an index of nothing", head(&[0x80]), COMPRESSION_ERROR),
        ("an index beyond the table", head(&[0xff, 0x80, 0x10]), COMPRESSION_ERROR),
        ("a number without end", head(&[0xff; 40]), COMPRESSION_ERROR),
        ("a table of 1 GiB", head(&[0x3f, 0xe1, 0xff, 0xff, 0xff, 0x03]), COMPRESSION_ERROR),
        ("a text that is cut", head(&[0x00, 0x05, b'x']), COMPRESSION_ERROR),
        ("padding of Huffman in zeros", head(&[0x00, 0x81, 0x00, 0x81, 0x00]), COMPRESSION_ERROR),
        (
            "a new size in the middle",
            head(&[&posting(UPLOAD, &[])[..], &[0x20]].concat()),
            COMPRESSION_ERROR,
        ),
    ]
}

/// Each ends its stream or its connection with the error that is meant for it, or the connection with
/// the error that is meant for all: an end that is wider, and a word that is wider, than they had to
/// be are right as well (RFC 9113 5.4 and 7).
#[tokio::test]
async fn a81_frames_against_the_letter() {
    let siege = Siege::begin("").await;
    let mut faults = Vec::new();
    let rows: Vec<Row> = [streams(), sizes(), tables()].into_iter().flatten().collect();
    assert!(rows.len() >= 40);
    for (name, sent, code) in rows {
        let mut frames = siege.frames().await;
        frames.send(&sent).await;
        // an answer may be on its way before the fault is seen
        let stream = if sent.iter().any(|frame| frame[8] == 2) { 2 } else { 1 };
        let mut said = frames.said(stream).await;
        while matches!(said, Said::Status(_)) {
            said = frames.said(stream).await;
        }
        if ![Said::Reset(code), Said::Away(code), Said::Away(PROTOCOL_ERROR)].contains(&said) {
            faults.push(format!("{name}: {said:?} instead of {code}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    siege.end().await;
}

/// What is no preface is no HTTP/2; whoever began like it is not taken for HTTP/1.1 either.
#[tokio::test]
async fn a81_prefaces() {
    let siege = Siege::begin("").await;
    for bytes in [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        let mut raw = crate::support::raw::Raw::connect(siege.app.addr).await;
        raw.send(bytes).await;
        assert!(raw.ends().await, "{}", bytes.escape_ascii());
    }
    assert_eq!(siege.reached(), 0);
    siege.end().await;
}

/// A client that has said farewell gets what it asked for, and its connection ends.
#[tokio::test]
async fn a81_farewell() {
    let siege = Siege::begin("").await;
    let mut frames = siege.frames().await;
    frames.send(&[empty_post(1), frame(GOAWAY, 0, 0, &[0; 8])]).await;
    assert_eq!(frames.said(1).await, Said::Status(200));
    assert!(frames.raw.ends().await);
    siege.end().await;
}

#[tokio::test]
async fn a81_header_list_over_the_bound() {
    let siege = Siege::begin("").await;
    let value = "y".repeat(1000);
    for lines in [40, 60] {
        for small in [false, true] {
            let mut frames = siege.frames().await;
            let mut head = posting(UPLOAD, &[]);
            for _ in 0..lines {
                literal(&mut head, 0, b"x", if small { b"y" } else { value.as_bytes() });
            }
            if small {
                // 101 lines, well within the bytes
                (0..101 - lines).for_each(|_| literal(&mut head, 0, b"x", b""));
            }
            let (first, rest) = head.split_at(head.len().min(16_000));
            let mut sent = vec![frame(HEADERS, END_STREAM, 1, first)];
            sent.extend(rest.chunks(16_000).map(|piece| frame(CONTINUATION, 0, 1, piece)));
            sent.push(frame(CONTINUATION, END_HEADERS, 1, &[]));
            frames.send(&sent).await;
            let said = frames.said(1).await;
            assert!(matches!(said, Said::Status(431) | Said::Reset(_) | Said::Away(_)), "{said:?}");
        }
    }
    assert_eq!(siege.reached(), 0);
    siege.end().await;
}

type Fields = Vec<(&'static str, &'static str)>;

/// Requests that HTTP/1.1 would read as others. `:path` and so on stand in the given order.
fn downgrades() -> Vec<(&'static str, Fields)> {
    let with = |name, value| {
        let start =
            [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/x")];
        start.into_iter().chain([(name, value)]).collect::<Fields>()
    };
    let instead = |name, value| {
        let start =
            [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/x")];
        start.map(|(key, kept)| (key, if key == name { value } else { kept })).to_vec()
    };
    vec![
        ("a line end in a value", with("x", "a\r\nx-evil: 1")),
        ("an LF in a value", with("x", "a\nx-evil: 1")),
        ("a CR in a value", with("x", "a\rb")),
        ("a NUL in a value", with("x", "a\0b")),
        ("a request in a value", with("x", "a\r\n\r\nGET /hidden HTTP/1.1\r\nhost: a\r\n\r\n")),
        ("a line end in a name", with("x: a\r\ny", "b")),
        ("a colon in a name", with("x: a", "b")),
        ("a space in a name", with("x y", "b")),
        ("a capital in a name", with("X", "b")),
        ("a NUL in a name", with("x\0", "b")),
        ("no name", with("", "b")),
        ("transfer-encoding", with("transfer-encoding", "chunked")),
        ("connection", with("connection", "close")),
        ("keep-alive", with("keep-alive", "timeout=5")),
        ("upgrade", with("upgrade", "h2c")),
        ("proxy-connection", with("proxy-connection", "keep-alive")),
        ("te", with("te", "chunked")),
        ("a length of another spelling", with("content-length", "+0")),
        ("a length as a list", with("content-length", "0, 0")),
        ("another host", with("host", "b")),
        ("a pseudo-field behind", with(":path", "/y")),
        ("an unknown pseudo-field", with(":x", "y")),
        ("a protocol", with(":protocol", "websocket")),
        ("a field before the rest", [vec![("x", "y")], with("z", "a")].concat()),
        ("a path with a line end", instead(":path", "/x HTTP/1.1\r\nx-evil: 1")),
        ("a path with a space", instead(":path", "/x HTTP/1.1")),
        ("a path with a NUL", instead(":path", "/x\0y")),
        ("a path without a slash", instead(":path", "x")),
        ("a path of nothing", instead(":path", "")),
        ("a path with a scheme", instead(":path", "http://b/x")),
        ("a path of an asterisk", instead(":path", "*")),
        ("dot segments", instead(":path", "/x/../y")),
        ("an escaped slash", instead(":path", "/x%2fy")),
        ("a method with a space", instead(":method", "GET /hidden HTTP/1.1")),
        ("a method with a line end", instead(":method", "GET\r\nx: y")),
        ("a method of nothing", instead(":method", "")),
        ("CONNECT", vec![(":method", "CONNECT"), (":authority", "a:80")]),
        ("TRACE", instead(":method", "TRACE")),
        ("a scheme with a line end", instead(":scheme", "http://a\r\nx: y")),
        ("a scheme of files", instead(":scheme", "file")),
        ("a host with a user", instead(":authority", "u@a")),
        ("a host with a path", instead(":authority", "a/x")),
        ("a host with a line end", instead(":authority", "a\r\nx: y")),
        ("two hosts", instead(":authority", "a, b")),
        ("no path", vec![(":method", "POST"), (":scheme", "http"), (":authority", "a")]),
        ("no method", vec![(":scheme", "http"), (":authority", "a"), (":path", "/x")]),
        ("no host", vec![(":method", "POST"), (":scheme", "http"), (":path", "/x")]),
    ]
}

#[tokio::test]
async fn a81_what_http_1_would_read_otherwise() {
    let siege = Siege::begin("").await;
    let rows = downgrades();
    let mut faults = Vec::new();
    for (name, fields) in &rows {
        let mut frames = siege.frames().await;
        frames.send(&[frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(fields))]).await;
        let said = frames.said(1).await;
        let refused = matches!(said, Said::Status(400 | 405) | Said::Reset(_) | Said::Away(_));
        let reached = siege.reached();
        if !refused || reached > 0 {
            faults.push(format!("{name}: {said:?}, {reached} at the backend"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    siege.end().await;
}

/// What stands behind a `#` is not for servers. It is gone before there is a path to look at, so it
/// neither changes what is matched nor reaches a backend.
#[tokio::test]
async fn a81_fragments() {
    let siege = Siege::begin("").await;
    for behind in ["/../admin", " HTTP/1.1\r\nx: y\r\n\r\nGET /hidden HTTP/1.1"] {
        let mut frames = siege.frames().await;
        let head = posting(&format!("{UPLOAD}#{behind}"), &[]);
        frames.send(&[frame(HEADERS, END_HEADERS | END_STREAM, 1, &head)]).await;
        assert_eq!(frames.said(1).await, Said::Status(200));
    }
    let all = siege.origin.take();
    let own: Vec<_> = all.iter().filter(|one| one.target == UPLOAD).collect();
    assert_eq!(own.len(), 2, "{all:?}");
    assert!(own.iter().all(|one| one.get("x").is_none()), "{own:?}");
    let known = [UPLOAD, "/v1/innocent", "/v1/warm"];
    assert!(all.iter().all(|one| known.contains(&one.target.as_str())), "{all:?}");
    siege.end().await;
}

/// A length that is not kept: too much is never passed on, and too little never as a whole.
#[tokio::test]
async fn a81_lengths_that_lie() {
    let origin = super::answering().await;
    for path in [UPLOAD, super::CHAT] {
        let app = limited(&origin.url(), "", "");
        for (length, body) in [("5", "012"), ("3", "01234"), ("0", "01234"), ("5", "")] {
            let mut frames = Frames::connect(app.addr, &[]).await;
            let head = posting(path, &[("content-length", length)]);
            frames
                .send(&[
                    frame(HEADERS, END_HEADERS, 1, &head),
                    frame(DATA, END_STREAM, 1, body.as_bytes()),
                ])
                .await;
            let said = frames.said(1).await;
            let refused = matches!(
                said,
                Said::Status(400..) | Said::Reset(PROTOCOL_ERROR) | Said::Away(PROTOCOL_ERROR)
            );
            assert!(refused, "{path} {length} {body}: {said:?}");
        }
        until_quiet(&app).await;
        let whole = origin.take().into_iter().filter(|one| !one.body.is_empty()).count();
        assert_eq!(whole, 0, "{path}");
        let client = h2::Client::connect(app.addr).await;
        assert_eq!(client.ask("/v1/fine", "", "01234").await.status, 200);
        let fine = origin.take().remove(0);
        assert_eq!((fine.target.as_str(), &*fine.body), ("/v1/fine", &b"01234"[..]));
    }
}

async fn until_quiet(app: &crate::support::app::App) {
    after::at_rest(app).await;
    assert!(!app.events().contains("panic"));
}

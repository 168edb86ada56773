//! The scanner against whole heads, split heads, pipelined requests, and the parser it stands
//! beside.
use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::wire::FaultKind;

fn scan(head: &[u8]) -> HeadFacts {
    HeadScan::new().feed(head).expect("a whole head")
}

fn flaws(field: &str) -> Flaws {
    scan(format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n").as_bytes()).flaws
}

#[test]
fn a_clean_head_has_its_facts() {
    let head = b"POST /v1/messages HTTP/1.1\r\nHost: a\r\ncOnTent-length:\t 12 \r\nTE: x\r\n\r\n12";
    let mut scanner = HeadScan::new();
    let facts = scanner.feed(head).expect("a whole head");
    assert_eq!(scanner.taken(), head.len() - 2);
    assert_eq!(scanner.target(), b"/v1/messages");
    let wanted = HeadFacts {
        len: head.len() as u32 - 2,
        fields: 3,
        content_lengths: 1,
        hosts: 1,
        content_length: 12,
        ..HeadFacts::default()
    };
    assert_eq!(facts, wanted);
    assert_eq!(facts.framing(), Some(Framing::Length(12)));
}

#[test]
fn each_flaw_is_noted() {
    let rows: &[(&str, Flaws)] = &[
        ("X: y\nZ: z", Flaws::BARE_LF),
        ("X: y\r\n folded", Flaws::FOLD),
        ("X: y\r\n\tfolded", Flaws::FOLD),
        ("Content-Length : 1", Flaws::SPACED_NAME),
        ("Transfer-Encoding\t: chunked", Flaws::SPACED_NAME),
        ("Host : b", Flaws::SPACED_NAME),
        ("Content-Length: 010", Flaws::BAD_LENGTH),
        ("Content-Length: +5", Flaws::BAD_LENGTH),
        ("Content-Length: -1", Flaws::BAD_LENGTH),
        ("Content-Length: 0x10", Flaws::BAD_LENGTH),
        ("Content-Length:", Flaws::BAD_LENGTH),
        ("Content-Length: 5, 5", Flaws::BAD_LENGTH),
        ("Content-Length: 5 5", Flaws::BAD_LENGTH),
        ("Content-Length: 10000000000000000", Flaws::BAD_LENGTH),
        ("Content-Length: \x0b5", Flaws::BAD_LENGTH),
        ("Transfer-Encoding: gzip, chunked", Flaws::BAD_CODING),
        ("Transfer-Encoding: ,chunked", Flaws::BAD_CODING),
        ("Transfer-Encoding: \x0bchunked", Flaws::BAD_CODING),
        ("Transfer-Encoding: identity", Flaws::BAD_CODING),
        ("Transfer-Encoding:", Flaws::BAD_CODING),
    ];
    for (field, flaw) in rows {
        assert_eq!(flaws(field), *flaw, "{field:?}");
    }
    let long = format!("Content-Length:{}5", " ".repeat(LINE));
    assert_eq!(flaws(&long), Flaws::BAD_LENGTH);
    assert_eq!(scan(b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n").flaws, Flaws::FRAGMENT);
    for clean in ["Content-Length: 9999999999999999", "transfer-encoding: Chunked", "TE: x#y"] {
        assert!(flaws(clean).is_empty(), "{clean:?}");
    }
}

#[test]
fn repeated_lines_are_counted_and_leave_no_framing() {
    let rows: &[(&str, (u8, u8, u8))] = &[
        ("Content-Length: 5\r\nContent-Length: 5", (2, 0, 1)),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", (1, 1, 1)),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", (0, 2, 1)),
    ];
    for (fields, counts) in rows {
        let facts = scan(format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n").as_bytes());
        assert_eq!((facts.content_lengths, facts.transfer_encodings, facts.hosts), *counts);
        assert_eq!(facts.framing(), None, "{fields:?}");
    }
}

#[test]
fn the_target_is_there_before_the_head_ends() {
    let mut scanner = HeadScan::new();
    for (bytes, target) in [("PO", ""), ("ST /v1", "/v1"), ("/messages?x=1 HT", "/v1/messages?x=1")]
    {
        assert!(scanner.feed(bytes.as_bytes()).is_none());
        assert_eq!(scanner.target(), target.as_bytes());
    }
    assert!(scanner.in_request_line());
    let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(500));
    scanner.reset();
    assert!(scanner.feed(long.as_bytes()).is_none());
    assert_eq!(scanner.target().len(), TARGET);
}

#[test]
fn empty_lines_in_front_start_no_clock() {
    let mut scanner = HeadScan::new();
    scanner.feed(b"\r\n");
    assert!(!scanner.is_inside());
    scanner.feed(b"G");
    assert!(scanner.is_inside());
    let facts = scanner.feed(b"ET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("a head");
    assert!(facts.flaws.is_empty());
    assert!(!scanner.is_inside());
}

#[test]
fn bodies_that_look_like_heads_are_stepped_over() {
    let mut trail = HeadTrail::new();
    let fake = "GET /fake HTTP/1.1\r\n\r\n";
    let sent = format!(
        "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{fake}\
         POST /b HTTP/1.1\r\nHost: a\r\nX: 1\r\nTransfer-Encoding: chunked\r\n\r\n\
         {:x};ext=\"q\"\r\n{fake}\r\n0 \r\nTrailer: x\r\n\r\nGET /c HTTP/1.1\r\n\r\n",
        fake.len(),
        fake.len()
    );
    trail.feed(sent.as_bytes());
    assert_eq!([trail.take().fields, trail.take().fields], [2, 3]);
    assert_eq!(trail.last().target(), b"/c");
    assert_eq!(trail.take().framing(), Some(Framing::Empty));
    assert_eq!(trail.take(), HeadFacts::default());
}

#[test]
fn after_a_doubt_there_are_no_more_facts() {
    let next = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";
    let doubts = [
        "POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 010\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\n\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
    ];
    for doubt in doubts {
        let mut trail = HeadTrail::new();
        trail.feed(doubt.as_bytes());
        trail.feed(next.as_bytes());
        assert_ne!(trail.take(), HeadFacts::default(), "{doubt:?}");
        assert_eq!(trail.take(), HeadFacts::default(), "{doubt:?}");
    }
    let mut preface = HeadTrail::new();
    preface.feed(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    preface.feed(next.as_bytes());
    assert_eq!(preface.take(), HeadFacts::default());
}

#[test]
fn requests_read_ahead_are_bounded() {
    let mut trail = HeadTrail::new();
    trail.feed("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1000).as_bytes());
    let known = (0..1000).take_while(|_| trail.take() != HeadFacts::default()).count();
    assert_eq!(known, 65);
}

const BARE: &str =
    "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\ndate: now\r\n\r\n";

#[test]
fn a_bare_error_gets_a_body() {
    let mut scanner = HeadScan::new();
    scanner.feed(b"POST /v1/messages?key=secret HTTP/1.1\r\nbad\x01: x\r\n");
    let body = |error: &BareError<'_>| {
        assert_eq!((error.kind, error.path), (FaultKind::BadRequest, "/v1/messages"));
        Bytes::from_static(b"{}")
    };
    let answer = replace_bare_error(BARE.as_bytes(), &scanner, body).expect("replaced");
    let wanted = "HTTP/1.1 400 Bad Request\r\ndate: now\r\ncontent-type: application/json\r\n\
                  x-tidegate-source: policy\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
    assert_eq!(std::str::from_utf8(&answer).expect("text"), wanted);
}

#[test]
fn a_target_without_an_end_is_too_long() {
    let mut scanner = HeadScan::new();
    scanner.feed(&[b"GET /".as_slice(), &[b'x'; 5000]].concat());
    let bare = BARE.replace("400 Bad Request", "431 Request Header Fields Too Large");
    let mut kind = None;
    let answer = replace_bare_error(bare.as_bytes(), &scanner, |error| {
        kind = Some(error.kind);
        Bytes::new()
    });
    assert_eq!(kind, Some(FaultKind::UriTooLong));
    assert!(answer.expect("replaced").starts_with(b"HTTP/1.1 414 URI Too Long\r\n"));
}

#[test]
fn other_answers_are_left_alone() {
    let scanner = HeadScan::new();
    let others = [
        BARE.replace("400 Bad Request", "200 OK"),
        BARE.replace("content-length: 0", "content-length: 2") + "{}",
        BARE.replace("content-length: 0", "content-length: 10"),
        format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n{BARE}"),
        "HTTP/1.1 4".to_owned(),
        "HTTP/1.1 100 Continue\r\n\r\n".to_owned(),
    ];
    for other in others {
        let never = |_: &BareError<'_>| unreachable!("{other}");
        assert_eq!(replace_bare_error(other.as_bytes(), &scanner, never), None);
    }
}

/// Lines that heads are made of: clean, flawed, long, odd.
fn any_line() -> impl Strategy<Value = String> {
    let names = prop_oneof![
        Just("Host".to_owned()),
        Just("Content-Length".to_owned()),
        Just("content-length ".to_owned()),
        Just("Transfer-Encoding".to_owned()),
        Just("Connection".to_owned()),
        Just(" folded".to_owned()),
        "[a-zA-Z-]{1,80}",
    ];
    let values = prop_oneof![
        Just("chunked".to_owned()),
        "[0-9]{0,18}",
        " {0,70}5 {0,70}",
        "[ -~\t]{0,200}",
        "\r{1,2}",
    ];
    let ends = prop_oneof![8 => Just("\r\n"), 1 => Just("\n")];
    (names, values, ends).prop_map(|(name, value, end)| format!("{name}: {value}{end}"))
}

fn any_head() -> impl Strategy<Value = String> {
    let start = prop_oneof![Just(""), Just("\r\n"), Just("\n")];
    let target = "/[a-z/#?%]{0,300}";
    (start, target, proptest::collection::vec(any_line(), 0..8)).prop_map(
        |(start, target, lines)| format!("{start}GET {target} HTTP/1.1\r\n{}\r\n", lines.concat()),
    )
}

/// Requests with clean framing, and the number of fields of each.
fn any_requests() -> impl Strategy<Value = Vec<(String, u16)>> {
    let text = "[ -~\r\n]{0,60}";
    let length = text.prop_map(|body: String| {
        (format!("POST /l HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len()), 2)
    });
    let chunk = "[ -~\r\n]{1,40}";
    let chunked =
        (proptest::collection::vec(chunk, 0..4), any::<bool>()).prop_map(|(chunks, trailer)| {
            let chunk = |c: &String| [format!("{:X}\r\n", c.len()), format!("{c}\r\n")].concat();
            let chunks: String = chunks.iter().map(chunk).collect();
            let trailer = if trailer { "X: y\r\n" } else { "" };
            let head = "POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n";
            (format!("{head}{chunks}0\r\n{trailer}\r\n"), 3)
        });
    let none = Just(("GET /n HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 1));
    proptest::collection::vec(prop_oneof![length, chunked, none], 1..8)
}

/// Cuts `bytes` at the given places, in any order, and gives the pieces.
fn pieces<'b>(bytes: &'b [u8], cuts: &[prop::sample::Index]) -> Vec<&'b [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same_facts(
        head in any_head(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let mut whole = HeadScan::new();
        let wanted = whole.feed(head.as_bytes());
        let mut scanner = HeadScan::new();
        let (mut facts, mut taken) = (None, 0);
        for piece in pieces(head.as_bytes(), &cuts) {
            if facts.is_none() {
                facts = scanner.feed(piece);
                taken += scanner.taken();
            }
        }
        prop_assert_eq!(facts, wanted);
        prop_assert_eq!(taken, whole.taken());
        prop_assert_eq!(scanner.target(), whole.target());
    }

    #[test]
    fn any_chunking_of_a_connection_gives_every_head(
        requests in any_requests(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let sent: String = requests.iter().map(|(text, _)| text.as_str()).collect();
        let mut trail = HeadTrail::new();
        for piece in pieces(sent.as_bytes(), &cuts) {
            trail.feed(piece);
        }
        for (_, fields) in &requests {
            prop_assert_eq!(trail.take().fields, *fields);
        }
        prop_assert_eq!(trail.take(), HeadFacts::default());
        prop_assert!(!trail.is_inside_head());
    }

    #[test]
    fn where_the_parser_sees_a_head_the_scanner_sees_the_same(head in any_head()) {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut fields);
        if let Ok(httparse::Status::Complete(len)) = request.parse(head.as_bytes()) {
            let facts = scan(head.as_bytes());
            prop_assert_eq!(facts.len as usize, len);
            prop_assert_eq!(usize::from(facts.fields), request.headers.len());
        }
    }
}

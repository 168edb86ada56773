//! The gate's rules one by one, on literal heads. What a socket shows is in `tests/it/gate.rs`.
use http::header::{AUTHORIZATION, CONNECTION, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use proptest::prelude::*;

use super::*;

const BOUNDS: Bounds =
    Bounds { max_head: 32 * 1024, max_headers: 100, max_target: 8 * 1024, max_body: 1000 };

fn head(method: &str, target: &str, version: Version, fields: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri(target).version(version);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request").into_parts().0
}

fn h1(method: &str, target: &str, fields: &[(&str, &str)]) -> Parts {
    head(method, target, Version::HTTP_11, fields)
}

fn h2(method: &str, target: &str, fields: &[(&str, &str)]) -> Parts {
    head(method, target, Version::HTTP_2, fields)
}

/// The facts that a scanner finds in a clean head.
fn clean(head: &Parts) -> HeadFacts {
    let count = |name: &str| head.headers.get_all(name).iter().count() as u8;
    let length = head.headers.get("content-length").and_then(|v| exact_length(v.as_bytes()));
    HeadFacts {
        len: 100,
        fields: head.headers.len() as u16,
        content_lengths: count("content-length"),
        transfer_encodings: count("transfer-encoding"),
        hosts: count("host"),
        content_length: length.unwrap_or_default(),
        ..HeadFacts::default()
    }
}

fn verdict(head: &Parts) -> Result<(), GateFault> {
    check(head, clean(head), &BOUNDS).map(|_| ())
}

#[test]
fn the_usual_request_borrows_everything() {
    let head = h1("POST", "/v1/messages?beta=true", &[("host", "a:8080"), ("content-length", "7")]);
    let cleared = check(&head, clean(&head), &BOUNDS).expect("cleared");
    assert!(matches!(cleared.path, Cow::Borrowed("/v1/messages")));
    assert_eq!(cleared.query, Some("beta=true"));
    assert_eq!(cleared.body_len, Some(7));
    assert!(!cleared.asterisk && !cleared.unexpected_body && cleared.upgrade.is_none());
}

#[test]
fn facts_that_are_missing_or_of_another_head_are_refused() {
    let head = h1("GET", "/", &[("host", "a")]);
    assert_eq!(check(&head, HeadFacts::default(), &BOUNDS), Err(GateFault::OutOfStep));
    let other = HeadFacts { fields: 2, ..clean(&head) };
    assert_eq!(check(&head, other, &BOUNDS), Err(GateFault::OutOfStep));
}

#[test]
fn authorities_are_hosts_with_ports() {
    for good in ["a", "a.b-c_d.example", "127.0.0.1:8080", "[::1]", "[::1]:8080", "a:", "A:65535"] {
        assert_eq!(verdict(&h1("GET", "/", &[("host", good)])), Ok(()), "{good}");
    }
    for bad in [
        "a,b", "a b", "u@a", "a/b", "a:x", "a:+1", "a:65536", "a:1:2", "[::1", "[::1]x", "[a]",
        ":80", "a%41", "a?b", "a\\b",
    ] {
        assert_eq!(verdict(&h1("GET", "/", &[("host", bad)])), Err(GateFault::BadHost), "{bad}");
    }
    assert_eq!(verdict(&h1("GET", "/", &[("host", "")])), Err(GateFault::NoHost));
    assert_eq!(verdict(&h1("GET", "/", &[])), Err(GateFault::NoHost));
}

#[test]
fn an_absolute_target_must_name_the_same_host() {
    let rows = [
        ("http://a/x", "a", Ok(())),
        ("http://a/x", "A:80", Ok(())),
        ("https://a/x", "a:443", Ok(())),
        ("http://a:81/x", "a", Err(GateFault::HostMismatch)),
        ("http://b/x", "a", Err(GateFault::HostMismatch)),
        ("http://u:p@a/x", "a", Err(GateFault::UserInfo)),
        ("ftp://a/x", "a", Err(GateFault::BadTarget)),
    ];
    for (target, host, wanted) in rows {
        assert_eq!(verdict(&h1("GET", target, &[("host", host)])), wanted, "{target} {host}");
    }
}

#[test]
fn http2_has_its_own_forms() {
    let get = |target, fields: &[(&str, &str)]| {
        let head = h2("GET", target, fields);
        check(&head, HeadFacts::default(), &BOUNDS).map(|_| ())
    };
    assert_eq!(get("http://a/x", &[]), Ok(()));
    assert_eq!(get("/x", &[("host", "a")]), Ok(()));
    assert_eq!(get("/x", &[]), Err(GateFault::NoHost));
    assert_eq!(get("http://a/x", &[("host", "b")]), Err(GateFault::HostMismatch));
    assert_eq!(get("http://a/x", &[("cookie", "a"), ("cookie", "b")]), Ok(()));
    assert_eq!(get("http://a/x", &[("te", "trailers")]), Ok(()));
    for name in ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"] {
        assert_eq!(get("http://a/x", &[(name, "close")]), Err(GateFault::ConnectionField));
    }
    assert_eq!(get("http://a/x", &[("te", "gzip")]), Err(GateFault::ConnectionField));
    assert_eq!(get("http://a/x", &[("content-length", "01")]), Err(GateFault::BadLength));
    assert_eq!(get("http://a/x", &[("content-length", "1001")]), Err(GateFault::BodyTooLarge));
    let lengths = [("content-length", "1"), ("content-length", "1")];
    assert_eq!(get("http://a/x", &lengths), Err(GateFault::RepeatedLength));
}

#[test]
fn headers_that_decide_come_once_and_in_ascii() {
    for name in ["authorization", "content-type", "x-api-key", "idempotency-key", "x-agent-id"] {
        let twice = h1("GET", "/", &[("host", "a"), (name, "1"), (name, "1")]);
        assert_eq!(verdict(&twice), Err(GateFault::Repeated(name)));
        let mut high = h1("GET", "/", &[("host", "a")]);
        high.headers.insert(name, HeaderValue::from_bytes(b"caf\xc3\xa9").expect("a value"));
        assert_eq!(verdict(&high), Err(GateFault::FieldNotAscii(name)));
    }
    let mut metadata = h1("GET", "/", &[("host", "a"), ("x-meta", "1"), ("x-meta", "2")]);
    metadata.headers.insert("x-note", HeaderValue::from_bytes(b"caf\xc3\xa9").expect("a value"));
    assert_eq!(verdict(&metadata), Ok(()));
}

#[test]
fn connection_may_not_name_what_is_meant_for_the_receiver() {
    for list in ["authorization", "close, Host", "x, X-Api-Key", "content-length", "a b"] {
        let head = h1("GET", "/", &[("host", "a"), ("connection", list)]);
        assert_eq!(verdict(&head), Err(GateFault::BadConnection), "{list}");
    }
    for list in ["close", "Keep-Alive, x-mine", ",, te ,", ""] {
        assert_eq!(verdict(&h1("GET", "/", &[("host", "a"), ("connection", list)])), Ok(()));
    }
}

#[test]
fn only_an_upgrade_in_order_is_one() {
    let ask = [("host", "a"), ("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")];
    let upgrade = |head: &Parts| check(head, clean(head), &BOUNDS).expect("cleared").upgrade;
    assert_eq!(upgrade(&h1("GET", "/", &ask)), Some(Upgrade::WebSocket));
    assert_eq!(upgrade(&h1("POST", "/", &ask)), None);
    assert_eq!(upgrade(&head("GET", "/", Version::HTTP_10, &ask)), None);
    assert_eq!(upgrade(&h1("GET", "/", &[ask[0], ask[2]])), None);
    assert_eq!(upgrade(&h1("GET", "/", &[ask[0], ask[1], ("upgrade", "h2c")])), None);
    assert_eq!(upgrade(&h1("GET", "/", &[ask[0], ask[1], ask[2], ("content-length", "3")])), None);
}

#[test]
fn bounds_hold_at_their_edge() {
    let host = ("host", "a");
    let target = |len: usize| format!("/{}", "x".repeat(len - 1));
    assert_eq!(verdict(&h1("GET", &target(8192), &[host])), Ok(()));
    assert_eq!(verdict(&h1("GET", &target(8193), &[host])), Err(GateFault::TargetTooLong));
    assert_eq!(verdict(&h1("POST", "/", &[host, ("content-length", "1000")])), Ok(()));
    let large = h1("POST", "/", &[host, ("content-length", "1001")]);
    assert_eq!(verdict(&large), Err(GateFault::BodyTooLarge));
    let many: Vec<_> = std::iter::once(host).chain((0..99).map(|_| ("x", "y"))).collect();
    assert_eq!(verdict(&h1("GET", "/", &many)), Ok(()));
    let more: Vec<_> = many.iter().copied().chain([("x", "y")]).collect();
    assert_eq!(verdict(&h1("GET", "/", &more)), Err(GateFault::TooManyFields));
    let head = h1("GET", "/", &[host]);
    let facts = HeadFacts { len: 32 * 1024 + 1, ..clean(&head) };
    assert_eq!(check(&head, facts, &BOUNDS), Err(GateFault::HeadTooLarge));
}

#[test]
fn paths_have_one_spelling() {
    let rows: &[(&str, Result<&str, GateFault>)] = &[
        ("/", Ok("/")),
        ("//v1///chat/", Ok("/v1/chat/")),
        ("/%76%31/%7Ea%2e", Ok("/v1/~a.")),
        ("/a%20b%C3%A9%3a", Ok("/a%20b%C3%A9%3a")),
        ("/.well-known/..x", Ok("/.well-known/..x")),
        ("/v1/models/m:generateContent", Ok("/v1/models/m:generateContent")),
        ("/v1/../admin", Err(GateFault::DotSegment)),
        ("/v1/.", Err(GateFault::DotSegment)),
        ("/v1/%2E%2e/admin", Err(GateFault::DotSegment)),
        ("/v1//..", Err(GateFault::DotSegment)),
        ("/v1/..;x/admin", Err(GateFault::DotSegment)),
        ("/v1%2fchat", Err(GateFault::EncodedSlash)),
        ("/v1%5Cchat", Err(GateFault::EncodedSlash)),
        ("/v1\\chat", Err(GateFault::EncodedSlash)),
        ("/%00", Err(GateFault::BadEscape)),
        ("/%0d%0aX", Err(GateFault::BadEscape)),
        ("/%7f", Err(GateFault::BadEscape)),
        ("/%", Err(GateFault::BadEscape)),
        ("/%4", Err(GateFault::BadEscape)),
        ("/%zz", Err(GateFault::BadEscape)),
        ("/%+1", Err(GateFault::BadEscape)),
        ("/caf\u{e9}", Err(GateFault::NotAscii)),
        ("v1", Err(GateFault::BadTarget)),
        ("", Err(GateFault::BadTarget)),
    ];
    for (path, wanted) in rows {
        assert_eq!(normalise(path).as_deref(), wanted.as_deref(), "{path}");
    }
    assert!(matches!(normalise("/.well-known/a%20b"), Ok(Cow::Borrowed(_))));
}

proptest! {
    #[test]
    fn normalising_twice_is_normalising_once(path in "(/|/{2}|[.]|%2[5eEfF]|%[0-9a-f]{2}|[a-z;:\\\\]){0,10}") {
        let path = format!("/{path}");
        if let Ok(once) = normalise(&path) {
            let twice = normalise(&once).expect("what was normal stays so");
            prop_assert!(matches!(twice, Cow::Borrowed(_)), "{once} became {twice}");
            prop_assert!(!once.contains("//") && !once.split('/').any(|s| s == "." || s == ".."));
        }
    }
}

fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &'static str)| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    fields.iter().map(pair).collect()
}

const HOPS: &[(&str, &str)] = &[
    ("authorization", "Bearer x"),
    ("connection", "X-Mine, authorization"),
    ("connection", "x-other"),
    ("x-mine", "1"),
    ("x-other", "1"),
    ("keep-alive", "timeout=5"),
    ("proxy-connection", "keep-alive"),
    ("proxy-authorization", "Basic x"),
    ("te", "trailers"),
    ("trailer", "x"),
    ("transfer-encoding", "chunked"),
    ("upgrade", "h2c"),
    ("http2-settings", "x"),
    ("x-tidegate-agent", "me"),
    ("expect", "100-continue"),
    ("content-length", "3"),
    ("forwarded", "for=1.2.3.4"),
    ("x-forwarded-for", "1.2.3.4"),
    ("x-forwarded-proto", "https"),
    ("x-stays", "1"),
];

fn names(headers: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    names
}

#[test]
fn what_belongs_to_a_connection_stays_there() {
    let mut request = map(HOPS);
    strip_request(&mut request, None);
    assert_eq!(names(&request), ["authorization", "x-stays"]);
    let mut response = map(HOPS);
    strip_response(&mut response, None);
    let stays = ["authorization", "content-length", "expect", "forwarded"];
    let more = ["x-forwarded-for", "x-forwarded-proto", "x-stays"];
    assert_eq!(names(&response), [&stays[..], &more[..]].concat());
}

#[test]
fn filtering_by_name_agrees_with_stripping() {
    let headers = map(HOPS);
    let kept = |passes: fn(&HeaderName) -> bool| -> HeaderMap {
        let pairs =
            headers.iter().filter(|(name, _)| passes(name) && !named_by_connection(&headers, name));
        pairs.map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    let (mut request, mut response) = (headers.clone(), headers.clone());
    strip_request(&mut request, None);
    strip_response(&mut response, None);
    assert_eq!(kept(passes_request), request);
    assert_eq!(kept(passes_response), response);
}

#[test]
fn a_websocket_passes_with_its_two_lines() {
    let ask = [("connection", "keep-alive, Upgrade"), ("upgrade", "websocket"), ("host", "a")];
    let mut headers = map(&ask);
    strip_request(&mut headers, Some(Upgrade::WebSocket));
    assert_eq!(headers, map(&[("connection", "upgrade"), ("upgrade", "websocket"), ("host", "a")]));
}

#[test]
fn nothing_is_lost_that_nobody_named() {
    let plain = [("connection", "Keep-Alive"), ("host", "a"), ("authorization", "x"), ("a", "b")];
    let mut headers = map(&plain);
    strip_request(&mut headers, None);
    assert!(headers.get(CONNECTION).is_none());
    assert!(headers.contains_key(HOST) && headers.contains_key(AUTHORIZATION));
    assert_eq!(headers.len(), 3);
}

#[test]
fn reasons_are_words_for_a_metric() {
    for fault in [GateFault::OutOfStep, GateFault::Repeated("x"), GateFault::BodyTooLarge] {
        assert!(fault.reason().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
        assert!(!fault.message().is_empty());
    }
}

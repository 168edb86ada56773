//! Heads of answers that are odd, huge or not HTTP: cases 70 to 72 and 77 to 79.
use super::{CHAT, PLAIN, SAID, STREAM, TOUCHY, after, ask, limited, origin, tripped};
use crate::support::client::{Client, End, post};
use crate::support::h2;
use crate::support::origin::{Origin, whole};

/// It is not followed, wherever it leads: the client gets it as it came, without our key, and the
/// backend has done as it was asked.
#[tokio::test]
async fn a70_redirects() {
    let trap = Origin::saying(whole("200 OK", "", "trapped")).await;
    for status in [
        "301 Moved Permanently",
        "302 Found",
        "303 See Other",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
    ] {
        let lines = format!("location: {}/steal\r\n", trap.url());
        let origin = Origin::saying(whole(status, &lines, "")).await;
        let app = limited(&origin.url(), TOUCHY, "  - cache: { ttl: 1h }\n");
        let got = ask(&app, &post(CHAT, "", PLAIN)).await;
        assert!(status.starts_with(&got.status.to_string()), "{}", got.head.text);
        assert_eq!(got.head.get("location"), Some(format!("{}/steal", trap.url()).as_str()));
        after::over(&app, &[(got.status, "complete")]).await;
        assert_eq!(origin.requests(), 1);
        after::unheard(&trap);
        assert!(!tripped(&app));
        after::let_go(&app, &origin).await;
    }
}

/// Hints before the answer are between the two connections; there may be many.
#[tokio::test]
async fn a71_interim_answers() {
    let hints = "HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n\
                 HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";
    let answer = whole("200 OK", "content-type: application/json\r\n", SAID);
    let origin = Origin::saying([hints.repeat(5).as_bytes(), &answer].concat()).await;
    let app = limited(&origin.url(), TOUCHY, "");
    let mut client = Client::connect(app.addr).await;
    for _ in 0..2 {
        client.send(&post(CHAT, "", PLAIN)).await;
        let head = client.head().await.unwrap();
        assert_eq!((head.status, head.get("link")), (200, None));
        assert_eq!(after::told(client.rest(head, false).await).text(), SAID);
    }
    after::over(&app, &[(200, "complete"); 2]).await;
    assert_eq!((origin.connections(), after::charged(&app, "tokens")), (1, 16));
    after::let_go(&app, &origin).await;

    // without an end they are no answer
    let origin = Origin::start(|mut conn| async move {
        conn.request().await;
        for _ in 0..10_000 {
            conn.send(b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n").await;
        }
        conn.until_gone().await;
    })
    .await;
    let app = limited(&origin.url(), "", "");
    let got = ask(&app, &post(CHAT, "", PLAIN)).await;
    assert_eq!((got.status, &got.json()["error"]["code"]), (502, &"upstream_malformed".into()));
    after::over(&app, &[(502, "upstream_broken")]).await;
    after::let_go(&app, &origin).await;
}

#[tokio::test]
async fn a72_empty_answers() {
    for (answer, status) in [
        (b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(), 204),
        (whole("200 OK", "content-type: application/json\r\n", ""), 200),
        (whole("200 OK", "", ""), 200),
        ([origin::STREAM, b"0\r\n\r\n"].concat(), 200),
    ] {
        for body in [PLAIN, STREAM] {
            let origin = Origin::saying(answer.clone()).await;
            let app = limited(&origin.url(), "", "  - cache: { ttl: 1h }\n");
            for nth in 1..=2 {
                let got = ask(&app, &post(CHAT, "", body)).await;
                assert_eq!((got.status, got.body.len(), got.end), (status, 0, End::Whole));
                assert_eq!(origin.requests(), nth, "it is not kept");
            }
            let lines = app.lines(2).await;
            let outcome = lines[0]["outcome"].as_str().unwrap().to_owned();
            assert!(["complete", "truncated"].contains(&&*outcome), "{lines:#?}");
            after::over(&app, &[(status, outcome.as_str()); 2]).await;
            after::let_go(&app, &origin).await;
        }
    }
}

fn head(lines: &str) -> Vec<u8> {
    let json = "content-type: application/json\r\n";
    format!("HTTP/1.1 200 OK\r\n{json}content-length: 2\r\n{lines}\r\n{{}}").into_bytes()
}

/// So many header lines.
fn lines(count: usize) -> String {
    (0..count).fold(String::new(), |all, nth| all + &format!("x-{nth}: {nth}\r\n"))
}

/// Up to 64 KiB and two hundred lines are read, as a few backends need; more is an error of theirs.
#[tokio::test]
async fn a77_heads_up_to_the_bound() {
    let long = format!("x-long: {}\r\n", "y".repeat(40 << 10));
    let many = lines(190);
    for (lines, name, length) in [(&long, "x-long", 40 << 10), (&many, "x-189", 3)] {
        let origin = Origin::saying(head(lines)).await;
        let app = limited(&origin.url(), TOUCHY, "");
        let got = ask(&app, &post(CHAT, "", PLAIN)).await;
        assert_eq!((got.status, got.head.get(name).map(str::len)), (200, Some(length)));
        after::over(&app, &[(200, "complete")]).await;
        after::let_go(&app, &origin).await;
    }
}

#[tokio::test]
async fn a77_heads_that_cannot_be_read() {
    let many = lines(200);
    for (name, answer) in [
        ("too long", head(&format!("x-long: {}\r\n", "y".repeat(70 << 10)))),
        ("too many lines", head(&many)),
        ("NUL in a value", head("x-a: a\0b\r\n")),
        ("a control character", head("x-a: a\u{1}b\r\n")),
        ("a space in a name", head("x a: b\r\n")),
        ("a space before the colon", head("x-a : b\r\n")),
        ("no colon", head("x-a\r\n")),
        ("a folded line", head("x-a: b\r\n c\r\n")),
        ("a bare CR", head("x-a: b\rx-b: c\r\n")),
        ("two lengths", head("content-length: 3\r\n")),
        ("a length and a coding", head("transfer-encoding: chunked\r\n")),
        ("no number for a length", b"HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\n{}".to_vec()),
        ("no status", b"HTTP/1.1 OK\r\n\r\n".to_vec()),
        ("a status of two digits", b"HTTP/1.1 20 OK\r\ncontent-length: 0\r\n\r\n".to_vec()),
        ("another version", b"HTTP/3.0 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec()),
        ("another protocol", b"220 mail.test ESMTP ready to serve you\r\n\r\n".to_vec()),
        ("101 unasked", b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n".to_vec()),
    ] {
        let origin = Origin::saying(answer).await;
        let app = limited(&origin.url(), TOUCHY, "");
        let got = ask(&app, &post(CHAT, "", PLAIN)).await;
        assert_eq!(got.status, 502, "{name}: {}", got.head.text);
        assert_eq!(got.json()["error"]["code"], "upstream_malformed", "{name}");
        assert!(!got.head.text.contains("x-a") && !got.text().contains("x-a"), "{name}");
        after::over(&app, &[(502, "upstream_broken")]).await;
        assert!(tripped(&app), "{name}");
        assert_eq!((app.pool("open"), app.pool("idle")), (0, 0), "{name}: it is not used again");
        after::let_go(&app, &origin).await;
    }
}

/// What stands behind a body in chunks is read away and told to nobody: no SDK looks for it, and over
/// HTTP/1.1 it may only go to who said that it wants it (RFC 9110 section 6.5.1).
#[tokio::test]
async fn a78_trailers() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntrailer: x-end\r\n\
                transfer-encoding: chunked\r\n\r\n";
    let body = format!("{:x}\r\n{SAID}\r\n0\r\nx-end: 1\r\nset-cookie: a=b\r\n\r\n", SAID.len());
    let origin = Origin::saying(format!("{head}{body}")).await;
    let app = limited(&origin.url(), TOUCHY, "");
    let mut client = Client::connect(app.addr).await;
    for lines in ["", "te: trailers\r\n"] {
        let call = crate::support::client::request("POST", CHAT, lines, PLAIN);
        client.send(&call).await;
        let got = after::told(client.answer().await);
        assert_eq!((got.status, got.text(), got.end), (200, SAID, End::Whole));
        assert_eq!(got.head.get("trailer"), None);
    }
    let over_h2 = h2::Client::connect(app.addr).await;
    let got = over_h2.ask(CHAT, "", PLAIN).await;
    assert_eq!((got.status, got.body.as_slice(), got.reset), (200, SAID.as_bytes(), None));
    drop((client, over_h2));
    after::over(&app, &[(200, "complete"); 3]).await;
    assert_eq!(origin.connections(), 1, "each was read to its end");
    after::let_go(&app, &origin).await;
}

/// What a backend wants its caller to remember. Cookies are between the two, like every header that is
/// not the connection's; an answer that is given to others never carries them. What would lead round
/// us goes to nobody.
#[tokio::test]
async fn a79_what_browsers_would_remember() {
    let lines = "set-cookie: session=1; Secure\r\nset-cookie: b=2\r\nalt-svc: h3=\":443\"\r\n\
                 content-type: application/json\r\n";
    let origin =
        Origin::saying(whole("401 Unauthorized", lines, r#"{"error":{"message":"no"}}"#)).await;
    let app = limited(&origin.url(), "", "");
    let got = ask(&app, &post(CHAT, "", PLAIN)).await;
    assert_eq!((got.status, got.head.get("alt-svc")), (401, None));
    after::over(&app, &[(401, "complete")]).await;
    after::let_go(&app, &origin).await;

    let origin = Origin::saying(whole("200 OK", lines, SAID)).await;
    let app = limited(&origin.url(), "", "  - cache: { ttl: 1h }\n");
    for nth in 1..=2 {
        let got = ask(&app, &post(CHAT, "", PLAIN)).await;
        assert_eq!((got.status, got.text()), (200, SAID));
        let cookies = if nth == 1 { 2 } else { 0 };
        assert_eq!(got.head.all("set-cookie").len(), cookies, "{nth}: {}", got.head.text);
        assert_eq!(got.head.get("alt-svc"), None);
    }
    assert_eq!(origin.requests(), 1, "the second was kept");
    after::over(&app, &[(200, "complete"); 2]).await;
    after::let_go(&app, &origin).await;
}

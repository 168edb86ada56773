//! Answers that end before their end, or behind it: cases 54 to 56.
use super::{CHAT, DONE, LAST, MESSAGES, PLAIN, SAID, STREAM, TOUCHY, after, ask, limited, origin};
use super::{token, tripped};
use crate::support::client::{Client, End, post};
use crate::support::h2;
use crate::support::origin::{Conn, Origin, chunk, whole};
use crate::support::until;

/// How a backend ends in the middle.
#[derive(Debug, Clone, Copy)]
enum Dies {
    Reset,
    Close,
    BadChunk,
}

async fn dying(dies: Dies) -> Origin {
    Origin::start(move |mut conn: Conn| async move {
        if conn.request().await.is_none() {
            return;
        }
        conn.send(&[origin::STREAM, &token("one"), &token("two")].concat()).await;
        // what was sent is read before the end is seen
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        match dies {
            Dies::Reset => conn.reset(),
            Dies::Close => {}
            Dies::BadChunk => conn.send(b"zz\r\n").await,
        }
    })
    .await
}

#[tokio::test]
async fn a54_cut_in_mid_stream() {
    for dies in [Dies::Reset, Dies::Close, Dies::BadChunk] {
        let origin = dying(dies).await;
        let app = limited(&origin.url(), TOUCHY, "  - cache: { ttl: 1h }\n");
        let got = ask(&app, &post(CHAT, "", STREAM)).await;
        assert_eq!((got.status, got.end), (200, End::Closed), "{dies:?}: never a clean end");
        let (said, error) = got.text().rsplit_once("data: ").unwrap();
        assert!(said.contains("one") && said.contains("two"), "{}", got.text());
        let error: serde_json::Value = serde_json::from_str(error.trim()).unwrap();
        assert!(error["error"]["message"].is_string(), "{error}");
        assert!(tripped(&app), "{dies:?}");
        after::over(&app, &[(200, "upstream_broken")]).await;
        assert!(after::charged(&app, "output_tokens") >= 2, "what has passed is charged");
        assert_eq!(app.state()["cache"]["memory"]["entries"].as_u64().unwrap_or(0), 0);
        after::let_go(&app, &origin).await;
    }
}

#[tokio::test]
async fn a54_cut_in_mid_stream_over_http2() {
    let origin = dying(Dies::Reset).await;
    let app = limited(&origin.url(), "", "");
    let client = h2::Client::connect(app.addr).await;
    let got = client.ask(CHAT, "", STREAM).await;
    let text = String::from_utf8_lossy(&got.body);
    assert!(got.reset.is_some() && text.contains("two") && text.contains("upstream_broken"));
    drop(client);
    after::over(&app, &[(200, "upstream_broken")]).await;
    after::let_go(&app, &origin).await;
}

#[tokio::test]
async fn a55_a_body_shorter_than_said() {
    let origin = Origin::start(|mut conn| async move {
        conn.request().await;
        conn.send(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n",
        )
        .await;
        conn.send(&SAID.as_bytes()[..40]).await;
    })
    .await;
    let app = limited(&origin.url(), TOUCHY, "");
    let got = ask(&app, &post(CHAT, "", PLAIN)).await;
    assert_eq!((got.status, got.end), (200, End::Closed));
    assert_eq!(got.body, &SAID.as_bytes()[..40], "and nothing is added to a plain answer");
    assert!(tripped(&app));
    after::over(&app, &[(200, "upstream_broken")]).await;
    assert_eq!((app.pool("open"), app.pool("idle")), (0, 0));
    after::let_go(&app, &origin).await;
}

/// The answer is whole. What came behind it is nobody's, least of all the next caller's.
#[tokio::test]
async fn a55_a_body_longer_than_said() {
    let more = [b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged".as_slice(), b"x", b"\r\n"];
    for behind in more {
        let origin = Origin::start(move |mut conn| async move {
            while conn.request().await.is_some() {
                let answer = whole("200 OK", "content-type: application/json\r\n", SAID);
                conn.send(&[&answer, behind].concat()).await;
            }
        })
        .await;
        let app = limited(&origin.url(), TOUCHY, "");
        let mut client = Client::connect(app.addr).await;
        for _ in 0..3 {
            client.send(&post(CHAT, "", PLAIN)).await;
            let got = after::told(client.answer().await);
            assert_eq!((got.status, got.text(), got.end), (200, SAID, End::Whole));
        }
        until("no such connection is kept", async || app.pool("open") == 0).await;
        assert_eq!(origin.connections(), 3, "each was dropped");
        assert!(!tripped(&app));
        after::over(&app, &[(200, "complete"); 3]).await;
        after::let_go(&app, &origin).await;
    }
}

/// A stream that ends in order, and has not said that it is over. What came is passed on as it is,
/// for backends differ; and it is no success.
#[tokio::test]
async fn a56_a_clean_end_without_the_last_event() {
    const DELTA: &str = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\
        \"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"word \"}}\n\n";
    const RESPONSES: &str = "event: response.output_text.delta\ndata: {\"type\":\
        \"response.output_text.delta\",\"delta\":\"word \"}\n\n";
    let input = r#"{"model":"m","stream":true,"input":"hi there","store":false}"#;
    let chat = String::from_utf8(token("word ")).unwrap();
    let chat = chat.split_once("\r\n").unwrap().1.trim_end_matches("\r\n").to_owned();
    for (path, body, event) in [
        (CHAT, STREAM, chat.as_str()),
        (MESSAGES, STREAM, DELTA),
        ("/v1/responses", input, RESPONSES),
    ] {
        let stream = [origin::STREAM, &chunk(&event.repeat(3)), LAST].concat();
        let origin = Origin::saying(stream).await;
        let two = "breaker: { failures: 2, open: 1m },";
        let app = limited(&origin.url(), two, "  - cache: { ttl: 1h }\n");
        for nth in 1..=2 {
            let got = ask(&app, &post(path, "", body)).await;
            assert_eq!((got.status, got.end), (200, End::Whole), "{path}");
            assert_eq!(got.text(), event.repeat(3), "{path}");
            assert_eq!(origin.requests(), nth, "{path}: nothing of it was kept");
        }
        assert!(tripped(&app), "{path}");
        after::over(&app, &[(200, "truncated"); 2]).await;
        let output = after::charged(&app, "output_tokens");
        assert!((6..=20).contains(&output), "{path}: {output} for six words, by estimate");
        after::let_go(&app, &origin).await;
    }
    // the same with it is a success
    let stream = [origin::STREAM, &chunk(&chat), &chunk(DONE), LAST].concat();
    let origin = Origin::saying(stream).await;
    let app = limited(&origin.url(), TOUCHY, "");
    assert_eq!(ask(&app, &post(CHAT, "", STREAM)).await.end, End::Whole);
    assert!(!tripped(&app));
    after::over(&app, &[(200, "complete")]).await;
}

//! What a call used, where the backend says so badly or not at all: cases 60, 61, 73 and 74.
use super::{CHAT, DONE, MESSAGES, PLAIN, SAID, STREAM, after, ask, limited, streaming};
use crate::support::client::{End, post, request};
use crate::support::origin::{Origin, whole};

const WORDS: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"some words \"}}]}\n\n";

/// Answers that are counted are asked for as they are; of others the client has its way.
#[tokio::test]
async fn a60_what_may_be_compressed() {
    let answer = whole("200 OK", "content-type: application/json\r\n", SAID);
    let origin = Origin::saying(answer).await;
    let app = limited(&origin.url(), "", "");
    let wish = "accept-encoding: gzip, br, zstd\r\n";
    for (target, asked) in
        [(CHAT, "identity"), (MESSAGES, "identity"), ("/v1/files", "gzip, br, zstd")]
    {
        assert_eq!(ask(&app, &request("POST", target, wish, PLAIN)).await.status, 200);
        assert_eq!(origin.take()[0].all("accept-encoding"), [asked], "{target}");
    }
    after::over(&app, &[(200, "complete"); 3]).await;
    after::let_go(&app, &origin).await;
}

/// It passes as it is. Nothing is ever unpacked here, so there is nothing that a bomb could fill; what
/// was used is estimated.
#[tokio::test]
async fn a61_compressed_all_the_same() {
    // ten zero bytes as RFC 1952 packs them; and what only claims to be packed
    let packed: &[u8] = &[
        0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0x63, 0x80, 3, 0, 0x94, 0xb8, 0x5c, 0xe3, 10, 0, 0, 0,
    ];
    for coding in ["gzip", "br", "zstd", "gzip, gzip", "x-unknown"] {
        for (body, kind) in [(PLAIN, "application/json"), (STREAM, "text/event-stream")] {
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-encoding: {coding}\r\n\
                 content-length: {}\r\n\r\n",
                packed.len()
            );
            let origin = Origin::saying([head.as_bytes(), packed].concat()).await;
            let app = limited(&origin.url(), "", "");
            let got = ask(&app, &post(CHAT, "", body)).await;
            assert_eq!((got.status, got.end), (200, End::Whole));
            assert_eq!((got.head.get("content-encoding"), &*got.body), (Some(coding), packed));
            after::over(&app, &[(200, "complete")]).await;
            assert!(after::charged(&app, "tokens") > 0, "{coding}: it was not for nothing");
            after::let_go(&app, &origin).await;
        }
    }
}

/// A stream is asked to tell, and who did not ask does not see it.
#[tokio::test]
async fn a73_usage_that_nobody_asked_for() {
    let told =
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":7}}\n\n";
    let origin = streaming(&[WORDS, WORDS, told, DONE]).await;
    let app = limited(&origin.url(), "", "");
    let got = ask(&app, &post(CHAT, "", STREAM)).await;
    assert_eq!((got.end, got.text()), (End::Whole, format!("{WORDS}{WORDS}{DONE}").as_str()));
    let sent: serde_json::Value = serde_json::from_slice(&origin.take()[0].body).unwrap();
    assert_eq!(sent["stream_options"]["include_usage"], true);
    let line = after::over(&app, &[(200, "complete")]).await.remove(0);
    assert_eq!((&line["input_tokens"], &line["output_tokens"]), (&11.into(), &7.into()));
    assert_eq!(after::charged(&app, "tokens"), 18);
    after::let_go(&app, &origin).await;
}

/// Where it is not told for all that, what was seen to pass is charged: no less than a token an
/// event, and no more than its letters could be.
#[tokio::test]
async fn a73_usage_that_is_missing() {
    let origin = streaming(&[&WORDS.repeat(10), DONE]).await;
    let app = limited(&origin.url(), "", "");
    let got = ask(&app, &post(CHAT, "", STREAM)).await;
    assert_eq!((got.end, got.text()), (End::Whole, format!("{}{DONE}", WORDS.repeat(10)).as_str()));
    let line = after::over(&app, &[(200, "complete")]).await.remove(0);
    assert_eq!(line.get("output_tokens"), None, "what the backend did not say is not its word");
    let output = after::charged(&app, "output_tokens");
    assert!((10..=110).contains(&output), "{output}");
    assert!(after::charged(&app, "tokens") > output, "and the prompt");
    after::let_go(&app, &origin).await;

    let silent = r#"{"choices":[{"message":{"role":"assistant","content":"some words"}}]}"#;
    let json = "content-type: application/json\r\n";
    let origin = Origin::saying(whole("200 OK", json, silent)).await;
    let app = limited(&origin.url(), "", "");
    assert_eq!(ask(&app, &post(CHAT, "", PLAIN)).await.text(), silent);
    after::over(&app, &[(200, "complete")]).await;
    assert!(after::charged(&app, "tokens") > 0);
    after::let_go(&app, &origin).await;
}

/// A count that cannot be is none.
#[tokio::test]
async fn a74_usage_that_cannot_be() {
    for count in ["-5", "1e15", "1000000000000000000", "7.5", "\"7\"", "null", "[]", "1e999", "NaN"]
    {
        let usage = format!("{{\"prompt_tokens\":{count},\"completion_tokens\":{count}}}");
        let told = format!("data: {{\"choices\":[],\"usage\":{usage}}}\n\n");
        let origin = streaming(&[&WORDS.repeat(10), &told, DONE]).await;
        let app = limited(&origin.url(), "", "");
        let got = ask(&app, &post(CHAT, "", STREAM)).await;
        assert_eq!(got.end, End::Whole, "{count}");
        after::over(&app, &[(200, "complete")]).await;
        let (output, all) = (after::charged(&app, "output_tokens"), after::charged(&app, "tokens"));
        assert!(
            (10..=110).contains(&output) && (output..1000).contains(&all),
            "{count}: {output} of {all}"
        );
        after::let_go(&app, &origin).await;

        let plain = format!("{{\"choices\":[],\"usage\":{usage}}}");
        let json = "content-type: application/json\r\n";
        let origin = Origin::saying(whole("200 OK", json, &plain)).await;
        let app = limited(&origin.url(), "", "");
        assert_eq!(ask(&app, &post(CHAT, "", PLAIN)).await.text(), plain, "{count}");
        after::over(&app, &[(200, "complete")]).await;
        let all = after::charged(&app, "tokens");
        assert!((1..100_000).contains(&all), "{count}: {all}");
        after::let_go(&app, &origin).await;
    }
}

//! Backends that answer, and it is an error: cases 64 to 69. What of it others can put right is put
//! right unseen, as long as nothing of the content has gone to the client.
use super::{CHAT, DONE, LAST, MESSAGES, PLAIN, SAID, STREAM, TOUCHY, after, answering, ask};
use super::{falling_back, limited, origin, streaming, token, tripped};
use crate::support::app::{App, UPSTREAM_KEY};
use crate::support::client::{End, post};
use crate::support::origin::{Origin, chunk, whole};

const OVERLOADED: &str = r#"{"type":"error","error":{"type":"overloaded_error","message":"busy"}}"#;
const JSON: &str = "content-type: application/json\r\n";

#[tokio::test]
async fn a64_overloaded() {
    for status in ["529 Overloaded", "503 Service Unavailable", "500 Internal Server Error"] {
        let (first, second) =
            (Origin::saying(whole(status, JSON, OVERLOADED)).await, answering().await);
        let app = falling_back(&first.url(), &second.url(), "", "");
        let got = ask(&app, &post(CHAT, "", PLAIN)).await;
        assert_eq!((got.status, got.text(), got.end), (200, SAID, End::Whole), "{status}");
        let line = after::over(&app, &[(200, "complete")]).await.remove(0);
        assert_eq!((&line["attempts"], &line["upstream"]), (&2.into(), &"other".into()), "{line}");
        assert_eq!((after::charged(&app, "requests"), after::charged(&app, "tokens")), (1, 8));
        for origin in [&first, &second] {
            assert_eq!(origin.requests(), 1);
            after::let_go(&app, origin).await;
        }

        // there is nobody else: it passes as it came, and the SDK has tried for nothing once already
        let origin = Origin::saying(whole(status, JSON, OVERLOADED)).await;
        let app = limited(&origin.url(), TOUCHY, "");
        let got = ask(&app, &post(MESSAGES, "", PLAIN)).await;
        assert!(status.starts_with(&got.status.to_string()) && got.text() == OVERLOADED);
        assert!(tripped(&app), "{status}");
        after::over(&app, &[(got.status, "upstream_error")]).await;
        assert_eq!(origin.requests(), 1);
        after::let_go(&app, &origin).await;
    }
}

/// More tries than the budget has left are not made, however many there are to try.
#[tokio::test]
async fn a64_the_budget_of_tries() {
    const CALLS: usize = 300;
    let down = whole("503 Service Unavailable", JSON, OVERLOADED);
    let (first, second) = (Origin::saying(down).await, answering().await);
    let stingy = "retry: { budget: 0% }, breaker: off,";
    let app = falling_back(&first.url(), &second.url(), stingy, "");
    let (mut fine, mut down) = (0, 0);
    for _ in 0..CALLS {
        match ask(&app, &post(CHAT, "", PLAIN)).await.status {
            200 => fine += 1,
            503 => down += 1,
            other => panic!("{other}"),
        }
    }
    // ten a second are free, counted over ten seconds
    assert!(fine >= 90 && down > 0, "{fine} tried, {down} did not");
    assert_eq!((first.requests(), second.requests()), (CALLS, fine));
    let mut calls = vec![(200, "complete"); fine];
    calls.extend(vec![(503, "upstream_error"); down]);
    after::over(&app, &calls).await;
    after::let_go(&app, &second).await;
}

/// An error is the first thing that a stream says: whoever waits for it never knows.
#[tokio::test]
async fn a65_an_error_before_any_content() {
    let good = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":\
        {\"input_tokens\":5,\"output_tokens\":1}}}\n\nevent: content_block_delta\ndata: {\"type\":\
        \"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"hello\"}}\n\n\
        event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{},\"usage\":\
        {\"output_tokens\":3}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    let error = format!("event: error\ndata: {OVERLOADED}\n\n");
    let start = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{}}\n\n";
    let ping = "event: ping\ndata: {\"type\":\"ping\"}\n\n";
    for opening in [String::new(), start.to_owned(), format!("{start}{ping}: a comment\n\n")] {
        let first =
            streaming(&[&opening, &error].map(String::as_str)[usize::from(opening.is_empty())..])
                .await;
        let second = streaming(&[good]).await;
        let app = falling_back(&first.url(), &second.url(), "", "");
        let got = ask(&app, &post(MESSAGES, "", STREAM)).await;
        assert_eq!((got.status, got.end, got.text()), (200, End::Whole, good));
        let line = after::over(&app, &[(200, "complete")]).await.remove(0);
        assert_eq!((&line["attempts"], &line["upstream"]), (&2.into(), &"other".into()), "{line}");
        assert_eq!((after::charged(&app, "requests"), after::charged(&app, "tokens")), (1, 8));
        for origin in [&first, &second] {
            assert_eq!(origin.requests(), 1);
            after::let_go(&app, origin).await;
        }
    }
}

/// Behind content there is no way back: the error passes, the call has failed, and no other model
/// goes on with somebody else's sentence.
#[tokio::test]
async fn a66_an_error_behind_content() {
    let error = "data: {\"error\":{\"message\":\"broke\",\"type\":\"server_error\"}}\n\n";
    let stream = [origin::STREAM, &token("one"), &chunk(error), LAST].concat();
    let (first, second) = (Origin::saying(stream).await, answering().await);
    let app = falling_back(&first.url(), &second.url(), TOUCHY, "  - cache: { ttl: 1h }\n");
    let got = ask(&app, &post(CHAT, "", STREAM)).await;
    assert_eq!((got.status, got.end), (200, End::Whole));
    assert!(got.text().contains("one") && got.text().ends_with(error), "{}", got.text());
    assert!(!got.text().contains(DONE));
    after::over(&app, &[(200, "upstream_error")]).await;
    after::unheard(&second);
    assert!(tripped(&app) && after::charged(&app, "output_tokens") >= 1);
    assert_eq!(app.count("tidegate_cache_entries", &[]), 0);
    after::let_go(&app, &first).await;
}

#[tokio::test]
async fn a67_an_error_under_a_good_status() {
    let error = r#"{"error":{"message":"the engine died","type":"server_error"}}"#;
    let origin = Origin::saying(whole("200 OK", JSON, error)).await;
    let two = "breaker: { failures: 2, open: 1m },";
    let app = limited(&origin.url(), two, "  - cache: { ttl: 1h }\n");
    for nth in 1..=2 {
        let got = ask(&app, &post(CHAT, "", PLAIN)).await;
        assert_eq!((got.status, got.text(), got.end), (200, error, End::Whole));
        assert_eq!(origin.requests(), nth, "it is not kept");
    }
    assert!(tripped(&app));
    after::over(&app, &[(200, "upstream_error"); 2]).await;
    after::let_go(&app, &origin).await;
}

/// What the other key is called. It must not be shown either.
const OTHER_KEY: &str = "zwielicht.canary.0077";

/// A backend that refuses the policy's first key so, and says which it was.
async fn choosy(status: &'static str, body: &'static str) -> Origin {
    Origin::start(move |mut conn| async move {
        while let Some(request) = conn.request().await {
            let key = request.get("authorization").unwrap_or_default().to_owned();
            let answer = if key.ends_with(OTHER_KEY) {
                whole("200 OK", JSON, SAID)
            } else {
                whole(status, JSON, body)
            };
            conn.send(&answer).await;
        }
    })
    .await
}

/// A policy with two keys for that backend.
fn two_keys(origin: &Origin, rest: &str) -> App {
    let mut app = App::start(&format!(
        "upstreams: {{ up: {{ pacing: off, keys: ['${{CANARY}}', '{OTHER_KEY}'], url: '{}' }} }}\n\
         routes: [{{ to: up }}]\n{}{rest}",
        origin.url(),
        super::COUNTED
    ));
    app.secrets.push(OTHER_KEY.to_owned());
    app
}

/// The other key is tried, and from then on the only one, until the first has rested.
async fn sets_the_key_aside(status: &'static str, body: &'static str) {
    let origin = choosy(status, body).await;
    let app = two_keys(&origin, "");
    for _ in 0..6 {
        let got = ask(&app, &post(CHAT, "", PLAIN)).await;
        assert_eq!((got.status, got.text()), (200, SAID), "{status}");
    }
    let refused = |request: &crate::support::origin::Request| {
        request.get("authorization").is_some_and(|key| key.ends_with(UPSTREAM_KEY))
    };
    let asked = origin.take();
    assert_eq!(asked.iter().filter(|one| refused(one)).count(), 1, "{status}: once");
    assert_eq!(asked.len(), 7);
    assert_eq!(app.upstream()["keys"]["aside"], 1);
    assert!(!tripped(&app), "the backend is well");
    after::over(&app, &[(200, "complete"); 6]).await;
    assert_eq!((after::charged(&app, "requests"), after::charged(&app, "tokens")), (6, 48));
    after::let_go(&app, &origin).await;
}

#[tokio::test]
async fn a68_a_key_that_is_refused() {
    let said = r#"{"error":{"message":"Incorrect API key","code":"invalid_api_key"}}"#;
    sets_the_key_aside("401 Unauthorized", said).await;
    sets_the_key_aside("403 Forbidden", said).await;
}

/// The only key is used whatever becomes of it; the answer passes, whoever is at fault.
#[tokio::test]
async fn a68_the_only_key_is_refused() {
    let said = r#"{"error":{"message":"Incorrect API key","code":"invalid_api_key"}}"#;
    let origin = Origin::saying(whole("401 Unauthorized", JSON, said)).await;
    let app = limited(&origin.url(), TOUCHY, "");
    for _ in 0..2 {
        let got = ask(&app, &post(CHAT, "", PLAIN)).await;
        assert_eq!((got.status, got.text()), (401, said));
    }
    assert!(!tripped(&app));
    after::over(&app, &[(401, "complete"); 2]).await;
    assert_eq!((origin.requests(), after::charged(&app, "tokens")), (2, 0));
    after::let_go(&app, &origin).await;
}

#[tokio::test]
async fn a69_a_key_without_credit() {
    sets_the_key_aside(
        "400 Bad Request",
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API."}}"#,
    )
    .await;
    sets_the_key_aside(
        "429 Too Many Requests",
        r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#,
    )
    .await;
    sets_the_key_aside("402 Payment Required", r#"{"error":{"message":"no credit"}}"#).await;
}

/// Any other 400 is the caller's, and nobody else is asked.
#[tokio::test]
async fn a69_a_bad_request_is_no_fault_of_the_key() {
    let said = r#"{"error":{"message":"max_tokens is too large","type":"invalid_request_error"}}"#;
    let origin = Origin::saying(whole("400 Bad Request", JSON, said)).await;
    let app = two_keys(&origin, "");
    let got = ask(&app, &post(CHAT, "", PLAIN)).await;
    assert_eq!((got.status, got.text()), (400, said));
    assert_eq!((origin.requests(), &app.upstream()["keys"]["aside"]), (1, &0.into()));
    after::over(&app, &[(400, "complete")]).await;
    assert_eq!(after::charged(&app, "tokens"), 0);
    after::let_go(&app, &origin).await;
}

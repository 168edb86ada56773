//! Backends that are at their limits, and say so in every way: cases 62 and 63.
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde_json::Value;

use super::{CHAT, COUNTED, PLAIN, after, ask};
use crate::support::app::App;
use crate::support::client::post;
use crate::support::origin::{Origin, whole};
use crate::support::until;

/// The program in front of a backend that is paced, under no breaker's eyes.
fn paced(url: &str, more: &str) -> App {
    App::start(&format!(
        "upstreams: {{ up: {{ dialect: openai, key: '${{CANARY}}', {more} url: '{url}' }} }}\n\
         routes: [{{ to: up }}]\n{COUNTED}"
    ))
}

/// As RFC 9110 section 5.6.7 writes a time.
fn http_date(at: SystemTime) -> String {
    let at = Timestamp::try_from(at).unwrap();
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

async fn limiting(lines: &str) -> Origin {
    let said = r#"{"error":{"message":"slow down","type":"rate_limit_error"}}"#;
    Origin::saying(whole("429 Too Many Requests", lines, said)).await
}

fn pace(app: &App) -> Value {
    app.state()["queues"][0]["pace"].clone()
}

/// Each hint is passed on as it came and heeded: how long nothing more is sent, in milliseconds, from
/// and to. One beyond a day is nonsense, and one that cannot be read is none: then the pause is our
/// own, of some seconds.
#[tokio::test]
async fn a62_429_with_every_hint() {
    let now = SystemTime::now();
    let own = (400, 1_300);
    for (lines, (from, to)) in [
        ("retry-after: 20".to_owned(), (15_000, 20_000)),
        ("retry-after-ms: 15500\r\nretry-after: 99".to_owned(), (10_000, 15_500)),
        (format!("retry-after: {}", http_date(now + Duration::from_secs(40))), (20_000, 41_000)),
        ("retry-after: 86400".to_owned(), (86_000_000, 86_400_000)),
        ("retry-after: soon".to_owned(), own),
        ("retry-after: -7".to_owned(), own),
        ("retry-after: 99999999999999999999".to_owned(), own),
    ] {
        let origin = limiting(&format!("{lines}\r\n")).await;
        let app = paced(&origin.url(), "");
        let got = ask(&app, &post(CHAT, "", PLAIN)).await;
        assert_eq!(got.status, 429);
        for line in lines.lines() {
            let (name, value) = line.split_once(": ").unwrap();
            assert_eq!(got.head.get(name), Some(value), "{lines}");
        }
        let paused = pace(&app)["paused_ms"].as_u64().unwrap_or_default();
        assert!((from..=to).contains(&paused), "{lines}: {paused} ms of {from} to {to}");
        assert_eq!(app.upstream()["breaker"]["state"], "closed", "it is not broken");
        assert_eq!(app.count("tidegate_upstream_rate_limited_total", &[]), 1);
        after::over(&app, &[(429, "complete")]).await;
        assert_eq!((after::charged(&app, "tokens"), origin.requests()), (0, 1), "{lines}");
        after::let_go(&app, &origin).await;
    }
}

/// A time that has passed is over: the next call goes, and is told the same.
#[tokio::test]
async fn a62_429_with_a_hint_of_the_past() {
    let past = http_date(SystemTime::now() - Duration::from_mins(1));
    let origin = limiting(&format!("retry-after: {past}\r\n")).await;
    let app = paced(&origin.url(), "");
    for _ in 0..2 {
        let got = ask(&app, &post(CHAT, "", PLAIN)).await;
        assert_eq!((got.status, got.head.get("retry-after")), (429, Some(past.as_str())));
        assert!(pace(&app)["paused_ms"].as_u64().unwrap_or_default() <= 5_000);
    }
    after::over(&app, &[(429, "complete"); 2]).await;
    after::let_go(&app, &origin).await;
}

/// An SDK sleeps as long as it is told, but for what is too long, where it gives up: so it is told at
/// once, without asking the backend.
#[tokio::test]
async fn a62_a_pause_that_nobody_waits_for() {
    let origin = limiting("retry-after: 3600\r\n").await;
    let app = paced(&origin.url(), "");
    assert_eq!(ask(&app, &post(CHAT, "", PLAIN)).await.status, 429);
    for _ in 0..3 {
        let got = ask(&app, &post(CHAT, "", PLAIN)).await;
        assert_eq!((got.status, got.head.get("x-should-retry")), (429, Some("false")));
        assert_eq!(got.head.get("retry-after"), Some("60"));
    }
    assert_eq!(origin.requests(), 1);
    let refused = (429, "refused");
    after::over(&app, &[(429, "complete"), refused, refused, refused]).await;
    assert_eq!(after::charged(&app, "tokens"), 0);
    after::let_go(&app, &origin).await;
}

/// Without a hint: the width of what goes at once is cut, and a pause of our own, doubled each time
/// and spread, comes before the one call that tries again.
#[tokio::test]
async fn a63_429_without_a_hint() {
    let mut pauses = Vec::new();
    for _ in 0..3 {
        let origin = limiting("").await;
        let app = paced(&origin.url(), "");
        let got = ask(&app, &post(CHAT, "", PLAIN)).await;
        assert_eq!((got.status, got.head.get("retry-after")), (429, None));
        let seen = pace(&app);
        pauses.push(seen["paused_ms"].as_u64().unwrap_or_default());
        assert!((400..=1_300).contains(&pauses[pauses.len() - 1]), "{seen}");
        until("the pause is over", async || {
            pace(&app)["paused_ms"].as_u64().unwrap_or_default() == 0
        })
        .await;
        assert_eq!(ask(&app, &post(CHAT, "", PLAIN)).await.status, 429);
        let longer = pace(&app)["paused_ms"].as_u64().unwrap_or_default();
        assert!((1_400..=2_600).contains(&longer), "twice as long: {longer}");
        assert_eq!(origin.requests(), 2);
        after::over(&app, &[(429, "complete"); 2]).await;
        assert_eq!((after::charged(&app, "tokens"), after::charged(&app, "requests")), (0, 2));
        after::let_go(&app, &origin).await;
    }
    pauses.dedup();
    assert!(pauses.len() > 1, "they are spread: {pauses:?}");
}

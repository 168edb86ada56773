//! Several keys of one upstream, and whose key goes where.
use super::*;
use crate::support::app::{AGENT_KEY, UPSTREAM_KEY};
use crate::support::client::request;
use crate::support::origin::{Conn, Request, stream};

/// Keys of the policy; their values come near no other word.
const KEYS: [&str; 3] = ["first.key.11", "second.key.22", "third.key.33"];

/// The one that a request came with.
fn key_of(request: &Request) -> String {
    request.get("authorization").unwrap().trim_start_matches("Bearer ").to_owned()
}

/// An upstream with the first `count` keys, whose backend answers by the key.
async fn keyed(
    count: usize,
    answer: impl Fn(&str) -> Vec<u8> + Clone + Send + Sync + 'static,
) -> (Origin, String) {
    let origin = Origin::start(move |mut conn: Conn| {
        let answer = answer.clone();
        async move {
            while let Some(request) = conn.request().await {
                conn.send(&answer(&key_of(&request))).await;
            }
        }
    })
    .await;
    let keys = format!("dialect: openai, keys: [{}],", KEYS[..count].join(", "));
    let up = up("a", &origin.url(), &keys);
    (origin, up)
}

fn start(ups: &[String], more: &str) -> App {
    let mut app = App::start(&(policy(ups, "") + more));
    app.secrets.extend(KEYS.map(str::to_owned));
    app
}

/// The keys that the requests came with, in order.
fn used(origin: &Origin) -> Vec<String> {
    origin.take().iter().map(key_of).collect()
}

const REFUSED: &str = r#"{"error":{"message":"Incorrect API key provided","type":"invalid_request_error","code":"invalid_api_key"}}"#;
const SPENT: &str = r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#;
const LIMITED: &str =
    r#"{"error":{"message":"Rate limit reached","type":"requests","code":"rate_limit_exceeded"}}"#;

#[tokio::test]
async fn a_key_that_is_refused_spent_or_limited_gives_way_to_the_next() {
    for (status, body) in [
        ("401 Unauthorized", REFUSED),
        ("403 Forbidden", REFUSED),
        ("429 Too Many Requests", SPENT),
        ("429 Too Many Requests", LIMITED),
    ] {
        let bad = json(&format!("{status}\r\nretry-after: 30"), body);
        let (a, up) = keyed(2, move |key| if key == KEYS[0] { bad.clone() } else { good() }).await;
        let app = start(&[up], "");
        for _ in 0..6 {
            let got = call(&app).await;
            assert_eq!((got.status, got.text()), (200, GOOD), "{status}");
            assert_eq!(got.head.get("x-should-retry"), None);
        }
        let used = used(&a);
        let bad = used.iter().filter(|key| *key == KEYS[0]).count();
        assert_eq!((bad, used.len()), (1, 7), "set aside at once, {status}: {used:?}");
        assert_eq!(app.upstream()["keys"]["aside"], 1);
        let sum: u64 = app.lines(6).await.iter().map(|l| l["attempts"].as_u64().unwrap()).sum();
        assert_eq!(sum, 7);
        app.quiet().await;
    }
}

#[tokio::test]
async fn a_key_that_may_not_use_a_model_is_as_good_as_ever_for_others() {
    let denied = json(
        "403 Forbidden",
        r#"{"error":{"message":"Project does not have access to model `m`","type":"invalid_request_error","code":"model_not_found"}}"#,
    );
    let (a, up) = keyed(2, move |key| if key == KEYS[0] { denied.clone() } else { good() }).await;
    let app = start(&[up], "");
    for _ in 0..6 {
        assert_eq!(call(&app).await.text(), GOOD);
    }
    let bad = used(&a).iter().filter(|key| *key == KEYS[0]).count();
    assert!(bad >= 2, "{bad}");
    assert_eq!(app.upstream()["keys"]["aside"], 0);
    app.quiet().await;
}

#[tokio::test]
async fn the_last_key_is_never_set_aside() {
    let refused = || json("401 Unauthorized", REFUSED);
    let (a, up) = keyed(2, move |_| refused()).await;
    let app = start(&[up], "");
    for _ in 0..3 {
        let got = call(&app).await;
        assert_eq!((got.status, got.text()), (401, REFUSED));
    }
    let used = used(&a);
    // all are asked once, and then one of them a call
    assert_eq!(used.len(), 4, "{used:?}");
    app.quiet().await;
}

#[tokio::test]
async fn a_key_is_set_aside_although_calls_are_sent_once() {
    let bad = json("401 Unauthorized", REFUSED);
    let (a, up) = keyed(2, move |key| if key == KEYS[0] { bad.clone() } else { good() }).await;
    let app = start(&[up.replace("keys:", "retry: off, keys:")], "");
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(call(&app).await.status);
    }
    statuses.sort_unstable();
    assert_eq!((statuses, a.requests()), (vec![200, 200, 200, 401], 4));
}

#[tokio::test]
async fn attempts_are_bounded_with_many_keys_too() {
    let refused = || json("401 Unauthorized", REFUSED);
    let (a, up) = keyed(3, move |_| refused()).await;
    let app = start(&[up.replace("keys:", "retry: { attempts: 2 }, keys:")], "");
    let got = call(&app).await;
    assert_eq!((got.status, got.head.get("x-should-retry")), (401, Some("false")));
    assert_eq!(used(&a).len(), 2);
    app.quiet().await;
}

#[tokio::test]
async fn keys_share_the_calls() {
    let (a, up) = keyed(3, |_| good()).await;
    let app = start(&[up], "");
    for _ in 0..30 {
        assert_eq!(call(&app).await.status, 200);
    }
    let used = used(&a);
    for key in KEYS {
        assert_eq!(used.iter().filter(|used| *used == key).count(), 10, "{used:?}");
    }
}

#[tokio::test]
async fn an_error_about_the_key_in_a_stream_is_answered_with_another() {
    let bad = stream([&*format!("data: {LIMITED}\n\n")]);
    let good = stream([TOKEN, DONE]);
    let (a, up) =
        keyed(2, move |key| if key == KEYS[0] { bad.clone() } else { good.clone() }).await;
    let app = start(&[up], "");
    for _ in 0..4 {
        let got = ask(app.addr, &request("POST", CHAT, "x-own: 1\r\n", STREAM)).await;
        assert_eq!(got.text(), format!("{TOKEN}{DONE}"));
    }
    let seen = a.take();
    assert!(seen.iter().all(|request| request.get("x-own") == Some("1")), "{seen:?}");
    let bad = seen.iter().map(key_of).filter(|key| key == KEYS[0]).count();
    assert!((1..=2).contains(&bad), "{bad}");
    app.quiet().await;
}

/// A key that nobody set aside is the caller's own: what is wrong with it is the caller's affair.
#[tokio::test]
async fn the_callers_own_bad_credential_is_not_made_good() {
    for status in ["401 Unauthorized", "403 Forbidden"] {
        let (a, b) = (Origin::saying(json(status, REFUSED)).await, Origin::saying(good()).await);
        let keyed = up("b", &b.url(), "dialect: openai, key: '${CANARY}',");
        let app = App::start(&policy(&[up("a", &a.url(), "dialect: openai,"), keyed], ""));
        let got = call(&app).await;
        assert_eq!((got.text(), counts([&a, &b])), (REFUSED, [1, 0]), "{status}");
        app.quiet().await;
    }
}

/// Each backend sees the credential that is meant for it, and no other.
#[tokio::test]
async fn no_credential_goes_where_it_does_not_belong() {
    let all = ["authorization", "x-api-key", "x-goog-api-key", "api-key"];
    let own = format!(
        "x-api-key: {AGENT_KEY}\r\nx-goog-api-key: {AGENT_KEY}\r\napi-key: {AGENT_KEY}\r\n"
    );
    let call = |target: &str, body: &str| request("POST", target, &own, body);
    let gemini = r#"{"contents":[{"parts":[{"text":"hi"}]}]}"#;
    for (dialect, auth, target, body, header, prefix) in [
        ("openai", "", CHAT, PLAIN, "authorization", "Bearer "),
        ("anthropic", "auth: x-api-key,", MESSAGES, PLAIN, "x-api-key", ""),
        ("gemini", "auth: x-goog-api-key,", GENERATE, gemini, "x-goog-api-key", ""),
    ] {
        let mut origins = Vec::new();
        for answer in [unavailable(), unavailable(), unavailable(), good()] {
            origins.push(Origin::saying(answer).await);
        }
        let of = |name, at: usize, more: &str| {
            let auth = if more.contains("key:") { auth } else { "" };
            up(name, &origins[at].url(), &format!("dialect: {dialect}, {auth} {more}"))
        };
        let tries = "retry: { attempts: 9 },";
        // the caller's, ours, the caller's, another of ours; and headers that are one upstream's alone
        let app = start(
            &[
                of("a", 0, &format!("{tries} headers: {{ x-of-a: 'yes' }},")),
                of("b", 1, &format!("{tries} key: {}, headers: {{ x-of-b: 'yes' }},", KEYS[0])),
                of("c", 2, tries),
                of("d", 3, &format!("{tries} key: '${{CANARY}}',")),
            ],
            "",
        );
        let query = if dialect == "gemini" { "?key=AIza-of-the-caller&x=1" } else { "?x=1" };
        let got = ask(app.addr, &call(&format!("{target}{query}"), body)).await;
        assert_eq!(got.text(), GOOD, "{dialect}");
        let seen: Vec<_> = origins.iter().map(|origin| origin.take().remove(0)).collect();
        for (at, key) in [(1, KEYS[0]), (3, UPSTREAM_KEY)] {
            let found: Vec<_> = all.iter().flat_map(|name| seen[at].all(name)).collect();
            assert_eq!(found, [format!("{prefix}{key}")], "{dialect} {at}");
            assert_eq!(seen[at].get(header), Some(&*format!("{prefix}{key}")));
            assert!(!format!("{:?}", seen[at]).contains(AGENT_KEY));
            assert!(!seen[at].target.contains("AIza"), "{}", seen[at].target);
        }
        for at in [0, 2] {
            let whole = format!("{:?}", seen[at]);
            assert!(!whole.contains(KEYS[0]) && !whole.contains(UPSTREAM_KEY), "{whole}");
            assert_eq!(seen[at].get("x-api-key"), Some(AGENT_KEY));
            assert_eq!(seen[at].target, format!("{target}{query}"));
        }
        let of_one = |name: &str| seen.iter().map(|r| r.get(name).is_some()).collect::<Vec<_>>();
        assert_eq!(of_one("x-of-a"), [true, false, false, false]);
        assert_eq!(of_one("x-of-b"), [false, true, false, false]);
        for request in &seen {
            assert_eq!(request.all("via").len(), 1, "{request:?}");
            assert_eq!(request.all("host").len(), 1);
            assert_eq!(request.body, body.as_bytes());
        }
        app.quiet().await;
    }
}

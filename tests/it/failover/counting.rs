//! Limits and places where calls move: each counts once, and nothing is held at the end.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio::sync::Notify;

use super::*;
use crate::support::app::AGENT_KEY;
use crate::support::client::{Client, request};
use crate::support::origin::{Conn, stream};
use crate::support::until;

/// What is used of a limit, by its policy's name, in all scopes.
pub(super) fn used(app: &App, policy: &str) -> i64 {
    let state = app.state();
    let all = state["limits"].as_array().unwrap().iter();
    all.filter(|limit| limit["policy"] == policy).map(|limit| limit["used"].as_i64().unwrap()).sum()
}

/// One that holds its calls until their clients go.
async fn holding() -> Origin {
    Origin::start(|mut conn: Conn| async move {
        conn.request().await;
        conn.until_gone().await;
    })
    .await
}

pub(super) const LIMITS: &str = "policies:\n\
    \x20 - { name: calls, limits: { requests: 100/day calendar } }\n\
    \x20 - { name: tokens, limits: { tokens: 1M/day calendar } }\n\
    \x20 - { name: at-a, match: { upstream: a }, limits: { requests: 100/day calendar } }\n\
    \x20 - { name: at-b, match: { upstream: b }, limits: { requests: 100/day calendar } }\n\
    \x20 - { name: at-c, match: { upstream: c }, limits: { requests: 100/day calendar } }\n";

#[tokio::test]
async fn a_call_that_moves_counts_once_and_its_tokens_too() {
    for bad in [unavailable(), json("500 Internal Server Error", "{}"), Vec::new()] {
        let (a, b) = (Origin::by_turns([bad]).await, Origin::saying(good()).await);
        let ups = [up("a", &a.url(), ""), up("b", &b.url(), ""), up("c", &nowhere(), "")];
        let app = App::start(&(policy(&ups, "") + LIMITS));
        assert_eq!(call(&app).await.text(), GOOD);
        app.quiet().await;
        assert_eq!(used(&app, "calls"), 1);
        assert_eq!(used(&app, "tokens"), 10, "7 and 3, of the one that answered");
        // each backend was asked
        assert_eq!((used(&app, "at-a"), used(&app, "at-b"), used(&app, "at-c")), (1, 1, 0));
        let line = app.line().await;
        assert_eq!((&line["input_tokens"], &line["output_tokens"]), (&7.into(), &3.into()));
    }
}

#[tokio::test]
async fn one_that_cannot_be_reached_counts_nothing() {
    let b = Origin::saying(good()).await;
    let ups = [up("a", &nowhere(), ""), up("b", &b.url(), ""), up("c", &nowhere(), "")];
    let app = App::start(&(policy(&ups, "") + LIMITS));
    assert_eq!(call(&app).await.text(), GOOD);
    app.quiet().await;
    let all = ["calls", "tokens", "at-a", "at-b", "at-c"].map(|name| used(&app, name));
    assert_eq!(all, [1, 10, 0, 1, 0]);
}

/// The second has no place: the third gets the call, which still counts once.
#[tokio::test]
async fn a_fallback_that_is_full_is_passed_over() {
    for (bad, at_a) in [(unavailable(), 1), (Vec::new(), 1)] {
        let (a, c) = (Origin::by_turns([bad]).await, Origin::saying(good()).await);
        let b = holding().await;
        let ups =
            [up("a", &a.url(), ""), up("b", &b.url(), "concurrency: 1,"), up("c", &c.url(), "")];
        let text = policy(&ups, "").replace("routes: [", "routes: [{ path: /b, to: b }, ") + LIMITS;
        let app = App::start(&text);
        let mut held = Client::connect(app.addr).await;
        held.send(&post(&format!("/b{CHAT}"), "", PLAIN)).await;
        until("its place is taken", async || b.requests() == 1).await;
        assert_eq!(call(&app).await.text(), GOOD);
        assert_eq!(counts([&a, &b, &c]), [1, 1, 1]);
        drop(held);
        app.quiet().await;
        let own = used(&app, "calls") - 1;
        assert_eq!((own, used(&app, "at-a"), used(&app, "at-c")), (1, at_a, 1));
        assert_eq!(app.lines(2).await.iter().filter(|line| line["upstream"] == "c").count(), 1);
    }
}

#[tokio::test]
async fn a_fallback_whose_limit_is_used_up_is_passed_over() {
    let (a, b) = (Origin::saying(unavailable()).await, Origin::saying(good()).await);
    let c = Origin::saying(good()).await;
    let ups = [up("a", &a.url(), ""), up("b", &b.url(), ""), up("c", &c.url(), "")];
    let limit = "policies:\n\
        \x20 - { name: at-b, match: { upstream: b }, limits: { requests: 1/day calendar } }\n\
        \x20 - { name: calls, limits: { requests: 100/day calendar } }\n";
    let app = App::start(&(policy(&ups, "") + limit));
    for n in 1..=3 {
        assert_eq!(call(&app).await.text(), GOOD);
        assert_eq!(counts([&a, &b, &c]), [n, 1, n - 1]);
    }
    app.quiet().await;
    assert_eq!((used(&app, "calls"), used(&app, "at-b")), (3, 1));
}

#[tokio::test]
async fn a_place_that_a_call_has_left_is_free() {
    let (a, b) = (Origin::by_turns([unavailable(), good()]).await, holding().await);
    let ups = [up("a", &a.url(), "concurrency: 1,"), up("b", &b.url(), "concurrency: 1,")];
    let app = App::start(&policy(&ups, ""));
    let mut moved = Client::connect(app.addr).await;
    moved.send(&post(CHAT, "", PLAIN)).await;
    until("it has moved", async || b.requests() == 1).await;
    // the place at the first is not held by who is at the second
    assert_eq!(call(&app).await.text(), GOOD);
    drop(moved);
    app.quiet().await;
    assert_eq!(counts([&a, &b]), [2, 1]);
}

#[tokio::test]
async fn a_lane_is_held_through_all_attempts() {
    let (a, b) = (Origin::saying(unavailable()).await, holding().await);
    // a lane is as patient as the most patient of its upstreams
    let soon = "timeouts: { queue: 300ms },";
    let ups = [up("a", &a.url(), soon), up("b", &b.url(), soon)];
    let app = App::start(&policy(&ups, ", concurrency: 1"));
    let mut moved = Client::connect(app.addr).await;
    moved.send(&post(CHAT, "", PLAIN)).await;
    until("it has moved", async || b.requests() == 1).await;
    let got = call(&app).await;
    assert!(matches!(got.status, 408 | 429), "{}", got.text());
    assert_eq!(counts([&a, &b]), [1, 1]);
    drop(moved);
    app.quiet().await;
}

/// Whoever leaves, and whatever fails: nothing is held afterwards.
#[tokio::test]
async fn nothing_is_held_at_the_end_of_a_storm() {
    let bad = [unavailable(), stream([ROLE, ERROR]), Vec::new(), stream([TOKEN, DONE])];
    let (a, b) = (Origin::by_turns(bad.iter().cycle().take(200).cloned()).await, holding().await);
    let c = Origin::by_turns(bad.iter().cycle().skip(3).take(200).cloned()).await;
    let ups = [
        up("a", &a.url(), "breaker: off, concurrency: 4,"),
        up("b", &b.url(), "breaker: off, concurrency: 1, timeouts: { first_byte: 300ms },"),
        up("c", &c.url(), "breaker: off, concurrency: 4,"),
    ];
    let app = App::start(&(policy(&ups, ", concurrency: 8") + LIMITS));
    let mut clients = tokio::task::JoinSet::new();
    for n in 0..60_u64 {
        let to = app.addr;
        clients.spawn(async move {
            let mut client = Client::connect(to).await;
            let agent = format!("x-agent-id: agent-{}\r\n", n % 5);
            client.send(&request("POST", CHAT, &agent, STREAM)).await;
            if n % 3 == 0 {
                tokio::time::sleep(std::time::Duration::from_millis(n)).await;
                return drop(client);
            }
            let got = client.answer().await;
            assert!(matches!(got.status, 200 | 408 | 429 | 502 | 503 | 504), "{}", got.status);
        });
    }
    clients.join_all().await;
    app.quiet().await;
    app.lines(60).await;
}

/// It fails its first call, and answers those behind once it is told to.
async fn failing_once() -> (Origin, Arc<Notify>) {
    let go = Arc::new(Notify::new());
    let (told, first) = (Arc::clone(&go), Arc::new(AtomicBool::new(true)));
    let origin = Origin::start(move |mut conn: Conn| {
        let (go, first) = (Arc::clone(&told), Arc::clone(&first));
        async move {
            while conn.request().await.is_some() {
                if first.swap(false, Relaxed) {
                    conn.send(&json("500 Internal Server Error", "{}")).await;
                } else {
                    go.notified().await;
                    conn.send(&good()).await;
                }
            }
        }
    })
    .await;
    (origin, go)
}

/// Its fallback has no place, so it comes back to where it was: with leave, and with the key that
/// belongs there.
#[tokio::test]
async fn a_call_that_comes_back_has_a_place_again() {
    let tries =
        "concurrency: 1, retry: { in_place: true, backoff: 1ms }, timeouts: { queue: 300ms },";
    // several keys, one, and none, before a fallback with one and with none
    for (keys, other) in [
        ("keys: [first.key.11, second.key.22],", ""),
        ("key: first.key.11,", ""),
        ("", "key: third.key.33,"),
        ("keys: [first.key.11, second.key.22],", "key: third.key.33,"),
    ] {
        let ((a, go), b) = (failing_once().await, holding().await);
        let ups = [
            up("a", &a.url(), &format!("dialect: openai, {tries} {keys}")),
            up("b", &b.url(), &format!("dialect: openai, concurrency: 1, {other}")),
            up("c", &nowhere(), ""),
        ];
        let text = policy(&ups[..2], "")
            .replace("upstreams: {", &format!("upstreams: {{ {},", ups[2]))
            .replace("routes: [", "routes: [{ path: /b, to: b }, { path: /a, to: a }, ");
        let mut app = App::start(&(text + LIMITS));
        app.secrets.extend(["first", "second", "third"].map(|key| format!("{key}.key")));
        let mut held = Client::connect(app.addr).await;
        held.send(&post(&format!("/b{CHAT}"), "", PLAIN)).await;
        until("its place is taken", async || b.requests() == 1).await;
        let mut moved = Client::connect(app.addr).await;
        moved.send(&post(CHAT, "", PLAIN)).await;
        until("it has come back", async || a.requests() == 2).await;
        assert_eq!(app.queues("running"), 2, "its place is its own: {keys} {other}");
        // and nobody else's
        let late = ask(app.addr, &post(&format!("/a{CHAT}"), "", PLAIN)).await;
        assert!(matches!(late.status, 408 | 429), "{}", late.text());
        go.notify_one();
        let got = moved.answer().await;
        assert_eq!((got.status, got.text(), a.requests()), (200, GOOD, 2));
        let seen = a.take();
        let of = |at: usize| seen[at].get("authorization").unwrap().to_owned();
        let want = if keys.is_empty() { AGENT_KEY } else { ".key." };
        assert!(of(0).contains(want) && of(0) == of(1), "{keys} {other}: {seen:?}");
        drop(held);
        app.quiet().await;
        let lines = app.lines(3).await;
        let line = lines.iter().find(|line| line["status"] == 200).unwrap();
        assert_eq!((&line["upstream"], &line["attempts"]), (&"a".into(), &2.into()));
        assert_eq!((&line["input_tokens"], &line["output_tokens"]), (&7.into(), &3.into()));
        // one call, and the one that was held; two requests to the first upstream
        let all = ["calls", "at-a", "at-b"].map(|name| used(&app, name));
        assert_eq!(all, [2, 2, 1]);
    }
}

/// Meanwhile another call has taken the place: it is not passed, and the last answer is given.
#[tokio::test]
async fn a_call_that_cannot_come_back_is_over() {
    let ((a, go), b) = (failing_once().await, holding().await);
    let tries = "concurrency: 1, retry: { in_place: true, backoff: 1s },";
    let ups = [up("a", &a.url(), tries), up("b", &b.url(), "concurrency: 1,")];
    let text = policy(&ups, "")
        .replace("routes: [", "routes: [{ path: /b, to: b }, { path: /a, to: a }, ");
    let app = App::start(&text);
    let mut held = Client::connect(app.addr).await;
    held.send(&post(&format!("/b{CHAT}"), "", PLAIN)).await;
    until("its place is taken", async || b.requests() == 1).await;
    let mut moved = Client::connect(app.addr).await;
    moved.send(&post(CHAT, "", PLAIN)).await;
    until("it has failed", async || a.requests() == 1 && app.queues("running") == 1).await;
    let mut other = Client::connect(app.addr).await;
    other.send(&post(&format!("/a{CHAT}"), "", PLAIN)).await;
    until("the place is another's", async || a.requests() == 2).await;
    let got = moved.answer().await;
    assert_eq!((got.status, got.head.get("x-tidegate-source")), (500, Some("upstream")));
    assert_eq!(a.requests(), 2);
    go.notify_one();
    assert_eq!(other.answer().await.text(), GOOD);
    drop(held);
    app.quiet().await;
}

/// What was tried in vain behind it is none of its bill.
#[tokio::test]
async fn who_was_not_reached_is_not_counted_behind_one_who_was() {
    let a = Origin::saying(json("500 Internal Server Error", "{}")).await;
    let ups = [up("a", &a.url(), ""), up("b", &nowhere(), ""), up("c", &nowhere(), "")];
    let app = App::start(&(policy(&ups, "") + LIMITS));
    assert_eq!(call(&app).await.status, 500);
    app.quiet().await;
    let all = ["calls", "tokens", "at-a", "at-b", "at-c"].map(|name| used(&app, name));
    assert_eq!(all, [1, 0, 1, 0, 0]);
}

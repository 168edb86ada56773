//! What becomes of a call that no target can take.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::*;
use crate::support::client::Client;
use crate::support::origin::Conn;
use crate::support::until;

/// It is unavailable until it is told to be well.
async fn recovering() -> (Origin, Arc<AtomicBool>) {
    let well = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&well);
    let origin = Origin::start(move |mut conn: Conn| {
        let well = Arc::clone(&well);
        async move {
            while conn.request().await.is_some() {
                let answer = if well.load(Relaxed) { good() } else { unavailable() };
                conn.send(&answer).await;
            }
        }
    })
    .await;
    (origin, told)
}

#[tokio::test]
async fn the_last_answer_of_a_backend_is_passed_on() {
    let first = json("500 Internal Server Error", "first");
    let second = json("503 Service Unavailable\r\nretry-after: 7", "second");
    let (a, b) = (Origin::saying(first).await, Origin::saying(second).await);
    let app = pair(&a.url(), &b.url(), "");
    let got = call(&app).await;
    assert_eq!((got.status, got.text()), (503, "second"));
    assert_eq!(
        (got.head.get("retry-after"), got.head.get("x-should-retry")),
        (Some("7"), Some("false"))
    );
    assert_eq!(got.head.get("x-tidegate-source"), Some("upstream"));
    let line = app.line().await;
    assert_eq!((&line["upstream"], &line["attempts"]), (&"b".into(), &2.into()));
    app.quiet().await;
}

/// One that gave no answer has nothing to pass on.
#[tokio::test]
async fn an_answer_is_its_givers_although_others_were_tried() {
    let a = Origin::saying(json("500 Internal Server Error", "first")).await;
    let app = pair(&a.url(), &nowhere(), "");
    let got = call(&app).await;
    assert_eq!(
        (got.status, got.text(), got.head.get("x-should-retry")),
        (500, "first", Some("false"))
    );
    let line = app.line().await;
    assert_eq!((&line["upstream"], &line["attempts"]), (&"a".into(), &2.into()), "{line}");
    assert_eq!(app.count("tidegate_requests_total", &["upstream=\"a\""]), 1);
    assert_eq!(app.count("tidegate_requests_total", &["upstream=\"b\""]), 0);
    app.quiet().await;
}

#[tokio::test]
async fn while_all_breakers_are_open_calls_are_refused_at_once() {
    let (a, b) = (Origin::saying(unavailable()).await, Origin::saying(unavailable()).await);
    let breaker = "breaker: { failures: 2, open: 20s },";
    let app = App::start(&policy(&[up("a", &a.url(), breaker), up("b", &b.url(), breaker)], ""));
    for _ in 0..2 {
        assert_eq!(call(&app).await.status, 503);
    }
    assert_eq!(counts([&a, &b]), [2, 2]);
    for _ in 0..5 {
        let got = call(&app).await;
        assert_eq!(
            (got.status, &got.json()["error"]["code"]),
            (503, &"upstream_unavailable".into())
        );
        let after: u64 = got.head.get("retry-after").unwrap().parse().unwrap();
        assert!((1..=30).contains(&after), "{after}");
        assert_eq!(got.head.get("x-should-retry"), None);
        assert_eq!(got.head.get("x-tidegate-source"), Some("policy"));
    }
    assert_eq!(counts([&a, &b]), [2, 2], "they are spared");
    assert_eq!(app.lines(7).await[6]["attempts"], 0);
    app.quiet().await;
}

/// Who is in trouble gets no calls, and nobody stands in line for it.
#[tokio::test]
async fn an_open_breaker_sends_calls_straight_to_the_fallback() {
    let (a, b) = (Origin::saying(unavailable()).await, Origin::saying(good()).await);
    let app = pair(&a.url(), &b.url(), "concurrency: 1, breaker: { failures: 2, open: 20s },");
    for _ in 0..6 {
        assert_eq!(call(&app).await.text(), GOOD);
    }
    assert_eq!(counts([&a, &b]), [2, 6]);
    let attempts: Vec<_> = app.lines(6).await.iter().map(|l| l["attempts"].clone()).collect();
    assert_eq!(attempts, [2, 2, 1, 1, 1, 1]);
    app.quiet().await;
}

#[tokio::test]
async fn it_waits_until_a_backend_is_well_again() {
    let ((a, well), b) = (recovering().await, nowhere());
    let ups = [up("a", &a.url(), "breaker: off,"), up("b", &b, "breaker: off,")];
    let app = App::start(&policy(&ups, ", on_exhausted: queue"));
    let mut client = Client::connect(app.addr).await;
    client.send(&post(CHAT, "", PLAIN)).await;
    until("it has been tried again", async || a.requests() >= 2).await;
    well.store(true, Relaxed);
    let got = client.answer().await;
    assert_eq!((got.status, got.text()), (200, GOOD));
    let line = app.line().await;
    assert_eq!((&line["upstream"], &line["outcome"]), (&"a".into(), &"complete".into()));
    assert!(line["attempts"].as_u64().unwrap() >= 3, "{line}");
    app.quiet().await;
}

#[tokio::test]
async fn it_waits_no_longer_than_it_may() {
    let (a, _) = recovering().await;
    let up = up("a", &a.url(), "breaker: off, timeouts: { queue: 700ms },");
    let app = App::start(&policy(&[up], ", on_exhausted: queue"));
    let from = Instant::now();
    let got = call(&app).await;
    assert_eq!((got.status, got.head.get("x-should-retry")), (503, Some("false")));
    assert!(from.elapsed() >= Duration::from_millis(650), "{:?}", from.elapsed());
    assert!((2..=6).contains(&a.requests()), "{}", a.requests());
    app.quiet().await;
}

/// The worker has other calls to serve while one waits, also past the deadline of that one.
#[tokio::test]
async fn waiting_keeps_nobody_else_from_being_served() {
    let (a, _) = recovering().await;
    let b = Origin::saying(good()).await;
    let a = up("a", &a.url(), "breaker: off, timeouts: { queue: 20s, total: 500ms },");
    let app = App::start(&format!(
        "upstreams: {{ {a}, {} }}\nroutes: [{{ path: /a, to: a, on_exhausted: queue }}, {{ to: b }}]\n",
        up("b", &b.url(), "")
    ));
    let mut client = Client::connect(app.addr).await;
    let from = Instant::now();
    client.send(&post(&format!("/a{CHAT}"), "", PLAIN)).await;
    for _ in 0..20 {
        assert_eq!(call(&app).await.status, 200);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let got = client.answer().await;
    assert!(matches!(got.status, 503 | 504), "{}", got.status);
    assert!(from.elapsed() < Duration::from_secs(10), "{:?}", from.elapsed());
    app.quiet().await;
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_leaves_nothing_behind() {
    let (a, _) = recovering().await;
    let up = up("a", &a.url(), "breaker: off, concurrency: 1,");
    let app = App::start(&policy(&[up], ", on_exhausted: queue"));
    let mut client = Client::connect(app.addr).await;
    client.send(&post(CHAT, "", PLAIN)).await;
    until("it is sent", async || a.requests() >= 1).await;
    drop(client);
    assert_eq!(app.line().await["outcome"], "client_gone");
    let seen = a.requests();
    app.quiet().await;
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert_eq!(a.requests(), seen);
}

#[tokio::test]
async fn another_model_is_asked_for_once_all_have_failed() {
    let by_model = |body: &[u8]| {
        if body.windows(7).any(|w| w == b"\"small\"") { good() } else { unavailable() }
    };
    let mut origins = Vec::new();
    for _ in 0..2 {
        let origin = Origin::start(move |mut conn: Conn| async move {
            while let Some(request) = conn.request().await {
                conn.send(&by_model(&request.body)).await;
            }
        });
        origins.push(origin.await);
    }
    let ups = [up("a", &origins[0].url(), ""), up("b", &origins[1].url(), "")];
    let app = App::start(&policy(&ups, ", on_exhausted: { model: small }"));
    let got = call(&app).await;
    assert_eq!((got.status, got.text()), (200, GOOD));
    let models: Vec<Vec<_>> = origins
        .iter()
        .map(|origin| {
            let bodies = origin.take().into_iter().map(|r| String::from_utf8(r.body).unwrap());
            bodies.map(|body| body.contains("\"small\"")).collect()
        })
        .collect();
    // both for the model that was named, then the first for the other
    assert_eq!(models, [vec![false, true], vec![false]]);
    let line = app.line().await;
    assert_eq!((&line["upstream"], &line["attempts"]), (&"a".into(), &3.into()), "{line}");
    app.quiet().await;
}

#[tokio::test]
async fn another_model_is_asked_for_only_once() {
    let a = Origin::saying(unavailable()).await;
    let app = App::start(&policy(&[up("a", &a.url(), "")], ", on_exhausted: { model: small }"));
    let got = call(&app).await;
    assert_eq!((got.status, got.head.get("x-should-retry")), (503, Some("false")));
    assert_eq!(a.requests(), 2);
    app.quiet().await;
}

/// A key that is refused today is refused in a second as well.
#[tokio::test]
async fn what_waiting_cannot_heal_is_not_waited_for() {
    let key = "dialect: openai, key: '${CANARY}', breaker: off, timeouts: { queue: 2s },";
    for (status, more) in [
        ("401 Unauthorized", ""),
        ("403 Forbidden", ""),
        ("429 Too Many Requests", "spent"),
        ("500 Internal Server Error", ""),
        ("500 Internal Server Error", "retry: off,"),
        // its backend says that it is not to be asked again
        ("503 Service Unavailable\r\nx-should-retry: false", "concurrency: 1,"),
    ] {
        let (code, more) = if more == "spent" { ("insufficient_quota", "") } else { ("no", more) };
        let body = format!(r#"{{"error":{{"message":"no","type":"{code}","code":"{code}"}}}}"#);
        let a = Origin::saying(json(status, &body)).await;
        let up = up("a", &a.url(), &format!("{key} {more}"));
        let app = App::start(&policy(&[up], ", concurrency: 1, on_exhausted: queue"));
        let from = Instant::now();
        let got = call(&app).await;
        assert_eq!(got.status.to_string(), status[..3]);
        assert_eq!(a.requests(), 1, "{status} {more}");
        assert!(from.elapsed() < Duration::from_millis(1500), "{:?}", from.elapsed());
        app.quiet().await;
    }
}

/// Only the one that may get well is asked again.
#[tokio::test]
async fn it_waits_for_those_who_may_get_well() {
    let a = Origin::saying(json("500 Internal Server Error", "{}")).await;
    let (b, well) = recovering().await;
    let more = "breaker: off, concurrency: 1,";
    let ups = [up("a", &a.url(), more), up("b", &b.url(), more)];
    let app = App::start(&policy(&ups, ", concurrency: 1, on_exhausted: queue"));
    let mut client = Client::connect(app.addr).await;
    client.send(&post(CHAT, "", PLAIN)).await;
    until("it has been tried again", async || b.requests() >= 2).await;
    well.store(true, Relaxed);
    assert_eq!(client.answer().await.text(), GOOD);
    assert_eq!(a.requests(), 1);
    app.quiet().await;
}

/// The fallback is full: it is waited for, although waiting makes nothing of the first.
#[tokio::test]
async fn it_waits_for_a_place() {
    let a = Origin::saying(json("500 Internal Server Error", "{}")).await;
    let b = Origin::start(|mut conn: Conn| async move {
        while let Some(request) = conn.request().await {
            match request.get("x-stays") {
                Some(_) => return conn.until_gone().await,
                None => conn.send(&good()).await,
            }
        }
    })
    .await;
    let ups = [up("a", &a.url(), "breaker: off,"), up("b", &b.url(), "concurrency: 1,")];
    let text = policy(&ups, ", on_exhausted: queue");
    let app = App::start(&text.replace("routes: [", "routes: [{ path: /b, to: b }, "));
    let mut held = Client::connect(app.addr).await;
    held.send(&crate::support::client::request(
        "POST",
        &format!("/b{CHAT}"),
        "x-stays: 1\r\n",
        PLAIN,
    ))
    .await;
    until("its place is taken", async || b.requests() == 1).await;
    let mut client = Client::connect(app.addr).await;
    client.send(&post(CHAT, "", PLAIN)).await;
    until("the first has failed", async || a.requests() == 1).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    drop(held);
    assert_eq!(client.answer().await.text(), GOOD);
    assert_eq!(counts([&a, &b]), [1, 2]);
    app.quiet().await;
}

/// What is sent again comes out of the upstream's budget, also without other retries.
#[tokio::test]
async fn who_waits_pays_for_being_sent_again() {
    const CALLS: usize = 130;
    let (a, _) = recovering().await;
    let more = "breaker: off, retry: off, timeouts: { queue: 300ms },";
    let app = App::start(&policy(&[up("a", &a.url(), more)], ", on_exhausted: queue"));
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..CALLS {
        let to = app.addr;
        calls.spawn(async move { ask(to, &post(CHAT, "", PLAIN)).await.status });
    }
    assert!(calls.join_all().await.iter().all(|status| *status == 503));
    // a reserve of 100 in ten seconds, and a fifth of the calls
    let again = a.requests() - CALLS;
    assert!((50..=126).contains(&again), "{again}");
    app.quiet().await;
}

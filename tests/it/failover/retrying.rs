//! What is sent again, where to, and how often.
use std::time::{Duration, Instant};

use super::*;
use crate::support::client::{Client, request};
use crate::support::origin::{Conn, Request, stream};
use crate::support::until;

/// The client sees the good answer, and the record the one who gave it.
async fn goes_on(bad: Vec<u8>) {
    let (a, b) = (Origin::by_turns([bad]).await, Origin::by_turns([good()]).await);
    let app = pair(&a.url(), &b.url(), "");
    let got = call(&app).await;
    assert_eq!((got.status, got.text()), (200, GOOD));
    assert_eq!(got.head.get("x-should-retry"), None);
    assert_eq!(counts([&a, &b]), [1, 1]);
    let line = app.line().await;
    assert_eq!((&line["upstream"], &line["attempts"]), (&"b".into(), &2.into()), "{line}");
    assert_eq!(line["outcome"], "complete");
    assert_eq!(app.count("tidegate_requests_total", &["upstream=\"b\"", "complete"]), 1);
    assert_eq!(app.count("tidegate_requests_total", &["upstream=\"a\""]), 0);
    app.quiet().await;
}

#[tokio::test]
async fn an_internal_error_is_answered_by_another() {
    goes_on(json("500 Internal Server Error", "{}")).await;
}

#[tokio::test]
async fn one_that_is_unavailable_is_replaced() {
    goes_on(json("503 Service Unavailable", "{}")).await;
}

#[tokio::test]
async fn one_that_is_overloaded_is_replaced() {
    goes_on(json("529 Overloaded", r#"{"type":"error","error":{"type":"overloaded_error"}}"#))
        .await;
}

#[tokio::test]
async fn one_that_hangs_up_is_replaced() {
    goes_on(Vec::new()).await;
}

#[tokio::test]
async fn what_is_the_callers_doing_is_told_at_once() {
    for status in ["400 Bad Request", "404 Not Found", "422 Unprocessable Content"] {
        let (a, b) = (Origin::saying(json(status, "{}")).await, Origin::saying(good()).await);
        let app = pair(&a.url(), &b.url(), "");
        let got = call(&app).await;
        assert_eq!((got.status.to_string().as_str(), got.text()), (&status[..3], "{}"));
        assert_eq!(got.head.get("x-should-retry"), None);
        assert_eq!(counts([&a, &b]), [1, 0], "{status}");
        app.quiet().await;
    }
}

/// The body may have been read, and the work begun: once is enough.
#[tokio::test]
async fn work_that_may_have_been_done_is_not_done_twice() {
    let lasting = r#"{"model":"m","input":"hi","background":true}"#;
    let hosted = r#"{"model":"m","input":"hi","tools":[{"type":"web_search"}]}"#;
    let own = r#"{"model":"m","input":"hi","tools":[{"type":"function","name":"f"}]}"#;
    let keyed = "idempotency-key: k\r\n";
    // what is sent, and how many each backend sees: after a 500, after a reset, after a 503
    for (target, lines, body, want) in [
        (CHAT, "", PLAIN, [1, 1, 1]),
        (RESPONSES, "", own, [1, 1, 1]),
        (RESPONSES, "", lasting, [0, 0, 1]),
        (RESPONSES, "", hosted, [0, 0, 1]),
        // another vendor does not know the key
        (RESPONSES, keyed, lasting, [0, 0, 1]),
        ("/v1/embeddings", "", r#"{"model":"m","input":"hi"}"#, [1, 1, 1]),
        // a body that streams through cannot be sent again
        ("/v1/files", "", "{}", [0, 0, 0]),
        ("/v1/batches", "", "{}", [0, 0, 0]),
        ("/v1/unheard/of", "", "{}", [0, 0, 0]),
    ] {
        let bad = [json("500 Internal Server Error", "{}"), Vec::new(), unavailable()];
        for (bad, want) in bad.into_iter().zip(want) {
            let (a, b) = (Origin::by_turns([bad]).await, Origin::saying(good()).await);
            let app = pair(&a.url(), &b.url(), "");
            let got = ask(app.addr, &request("POST", target, lines, body)).await;
            assert_eq!(counts([&a, &b]), [1, want], "{target} {lines} {body}");
            assert_eq!(got.status == 200, want == 1, "{target} {}", got.status);
            if want == 1 {
                assert_eq!(b.take()[0].body, body.as_bytes(), "{target}");
            }
            app.quiet().await;
        }
    }
}

/// A key makes known what was done, but only to those who share it: not to another upstream, and not
/// under another credential.
#[tokio::test]
async fn work_is_repeated_by_its_key_where_the_key_is_known() {
    let lasting = r#"{"model":"m","input":"hi","background":true}"#;
    let limits = "policies: [{ name: calls, limits: { requests: 100/day calendar } }]\n";
    let at = |urls: &[&str], more: &str| {
        let urls = urls.join("', '");
        let more = format!("balance: round_robin, breaker: off, {more}");
        format!("a: {{ pacing: off, concurrency: 1, dialect: openai, {more} urls: ['{urls}'] }}")
    };
    let (keys, b_of) = ("keys: [first.key.11, second.key.22],", |b: &Origin| up("b", &b.url(), ""));
    // after an error, and after a reset
    for bad in [json("500 Internal Server Error", "{}"), Vec::new()] {
        for keys in ["", keys] {
            // another address of the same upstream, with the same key
            let (a, c) = (Origin::by_turns([bad.clone()]).await, Origin::saying(good()).await);
            let b = Origin::saying(good()).await;
            let ups = [at(&[&a.url(), &c.url()], keys), b_of(&b)];
            let app = App::start(&(policy(&ups, "") + limits));
            let call = request("POST", RESPONSES, "idempotency-key: k\r\n", lasting);
            let got = ask(app.addr, &call).await;
            assert_eq!((got.status, counts([&a, &c, &b])), (200, [1, 1, 0]), "{keys}");
            let key = |origin: &Origin| origin.take()[0].get("authorization").map(str::to_owned);
            assert_eq!(key(&a), key(&c));
            app.quiet().await;
            // that one cannot be reached: what may have been done is done nowhere else
            let a = Origin::by_turns([bad.clone()]).await;
            let ups = [at(&[&a.url(), &nowhere()], keys), b_of(&b)];
            let app = App::start(&(policy(&ups, ", on_exhausted: queue") + limits));
            let got = ask(app.addr, &call).await;
            assert!(matches!(got.status, 500 | 502), "{}", got.text());
            assert_eq!(counts([&a, &b]), [1, 0], "{keys}");
            app.quiet().await;
            let state = app.state();
            let used = &state["limits"][0]["used"];
            assert_eq!((used, &state["limits"][0]["policy"]), (&1.into(), &"calls".into()));
        }
    }
    // an error about the credential, in a stream that may have been at work
    let lasting = lasting.replace("\"background\"", "\"stream\":true,\"background\"");
    let limited = "event: error\ndata: {\"type\":\"error\",\"code\":\"rate_limit_exceeded\",\"message\":\"no\"}\n\n";
    let a = Origin::saying(stream([limited])).await;
    let app =
        App::start(&policy(&[at(&[&a.url()], keys).replace("balance: round_robin,", "")], ""));
    ask(app.addr, &request("POST", RESPONSES, "idempotency-key: k\r\n", &lasting)).await;
    assert_eq!(a.requests(), 1);
    app.quiet().await;
}

/// One that never answers.
async fn silent() -> Origin {
    Origin::start(|mut conn: Conn| async move {
        conn.request().await;
        conn.until_gone().await;
    })
    .await
}

#[tokio::test]
async fn a_deadline_is_not_answered_by_another_unless_the_policy_says_so() {
    for (more, want) in [("", [1, 0]), ("retry: { on_timeout: true },", [1, 1])] {
        let (a, b) = (silent().await, Origin::saying(good()).await);
        let app = pair(&a.url(), &b.url(), &format!("timeouts: {{ first_byte: 300ms }}, {more}"));
        let got = call(&app).await;
        assert_eq!(got.status, if want[1] == 1 { 200 } else { 504 }, "{}", got.text());
        assert_eq!(counts([&a, &b]), want);
        until("the silent one is left", async || a.open() == 0).await;
        app.quiet().await;
    }
}

#[tokio::test]
async fn reading_is_repeated_after_a_deadline() {
    let (a, b) = (silent().await, Origin::saying(json("200 OK", "{}")).await);
    let app = pair(&a.url(), &b.url(), "timeouts: { first_byte: 300ms },");
    let got = ask(app.addr, &crate::support::client::get("/v1/models", "")).await;
    assert_eq!((got.status, counts([&a, &b])), (200, [1, 1]));
    app.quiet().await;
}

#[tokio::test]
async fn the_whole_time_of_a_call_bounds_all_its_attempts() {
    let (a, b) = (silent().await, silent().await);
    let timeouts = "timeouts: { first_byte: 600ms, total: 1s }, retry: { on_timeout: true },";
    let ups = [up("a", &a.url(), timeouts), up("b", &b.url(), timeouts)];
    let app = App::start(&policy(&ups, ""));
    let from = Instant::now();
    let got = call(&app).await;
    assert_eq!((got.status, &got.json()["error"]["code"]), (504, &"upstream_total_timeout".into()));
    assert!(from.elapsed() >= Duration::from_millis(950), "{:?}", from.elapsed());
    assert_eq!(counts([&a, &b]), [1, 1]);
    app.quiet().await;
}

#[tokio::test]
async fn attempts_are_bounded() {
    for (attempts, want) in
        [(1, [1, 0, 0, 0]), (2, [1, 1, 0, 0]), (3, [1, 1, 1, 0]), (9, [1, 1, 1, 1])]
    {
        let mut origins = Vec::new();
        for _ in 0..4 {
            origins.push(Origin::saying(unavailable()).await);
        }
        let more = format!("retry: {{ attempts: {attempts} }},");
        let more = if attempts == 1 { "retry: off,".to_owned() } else { more };
        let names = ["a", "b", "c", "d"].into_iter().zip(&origins);
        let ups: Vec<_> = names.map(|(name, origin)| up(name, &origin.url(), &more)).collect();
        let app = App::start(&policy(&ups, ""));
        let got = call(&app).await;
        let retried = (attempts > 1).then_some("false");
        assert_eq!((got.status, got.head.get("x-should-retry")), (503, retried));
        let seen: Vec<_> = origins.iter().map(Origin::requests).collect();
        assert_eq!(seen, want);
        assert_eq!(app.line().await["attempts"].as_u64(), Some(want.iter().sum::<usize>() as u64));
        app.quiet().await;
    }
}

/// What was not begun is free: it neither counts nor costs.
#[tokio::test]
async fn those_who_cannot_be_reached_count_for_nothing() {
    let good = Origin::saying(good()).await;
    let dead: Vec<_> = (0..5).map(|_| nowhere()).collect();
    let names = ["a", "b", "c", "d", "e"].into_iter().zip(&dead);
    let mut ups: Vec<_> =
        names.map(|(name, url)| up(name, url, "retry: { attempts: 2 },")).collect();
    ups.push(up("f", &good.url(), ""));
    let app = App::start(&policy(&ups, ""));
    assert_eq!(call(&app).await.text(), GOOD);
    assert_eq!(app.line().await["attempts"], 6);
    app.quiet().await;
}

#[tokio::test]
async fn retries_are_a_share_of_the_calls() {
    const CALLS: usize = 400;
    let (a, b) = (Origin::saying(unavailable()).await, Origin::saying(good()).await);
    let app = pair(&a.url(), &b.url(), "breaker: off, retry: { budget: 10% },");
    let mut client = Client::connect(app.addr).await;
    let (call, mut starved) = (post(CHAT, "", PLAIN), 0);
    for _ in 0..CALLS {
        client.send(&call).await;
        let got = client.answer().await;
        if got.status == 503 {
            starved += 1;
            // what we may not do the caller should not do either
            assert_eq!(got.head.get("x-should-retry"), Some("false"));
        }
    }
    let [a, b] = counts([&a, &b]);
    assert_eq!((a, b + starved), (CALLS, CALLS));
    // a reserve of 100 in ten seconds, and a tenth of the calls
    assert!((100..=250).contains(&b) && starved > 0, "{b} {starved}");
    app.lines(CALLS).await;
}

/// How long a call took, and what it came to.
async fn timed(app: &App) -> (u16, Duration) {
    let from = Instant::now();
    (call(app).await.status, from.elapsed())
}

#[tokio::test]
async fn the_same_place_is_asked_again_when_it_says_so() {
    for (status, more) in [
        ("503 Service Unavailable", "retry: { in_place: true },"),
        ("429 Too Many Requests", "retry: { in_place: true },"),
        // a key of ours alone is not set aside
        ("429 Too Many Requests", "dialect: openai, key: '${CANARY}', retry: { in_place: true },"),
    ] {
        let bad = json(&format!("{status}\r\nretry-after: 1"), "{}");
        let a = Origin::by_turns([bad, good()]).await;
        let app = App::start(&policy(&[up("a", &a.url(), more)], ""));
        let (status, took) = timed(&app).await;
        assert_eq!((status, a.requests()), (200, 2), "{more}");
        assert!(took >= Duration::from_secs(1), "{took:?}");
        assert_eq!(app.line().await["attempts"], 2);
        app.quiet().await;
    }
}

#[tokio::test]
async fn who_asks_for_a_long_pause_is_not_waited_for() {
    for lines in ["retry-after: 60", "retry-after: 1\r\nx-should-retry: false"] {
        let bad = json(&format!("503 Service Unavailable\r\n{lines}"), "{}");
        let a = Origin::by_turns([bad, good()]).await;
        let app = App::start(&policy(&[up("a", &a.url(), "retry: { in_place: true },")], ""));
        let (status, took) = timed(&app).await;
        assert_eq!((status, a.requests()), (503, 1), "{lines}");
        assert!(took < Duration::from_secs(1), "{took:?}");
        app.quiet().await;
    }
}

#[tokio::test]
async fn the_same_place_is_not_asked_again_unless_the_policy_says_so() {
    let a = Origin::by_turns([unavailable(), good()]).await;
    let app = App::start(&policy(&[up("a", &a.url(), "")], ""));
    let got = call(&app).await;
    // its caller's SDK will do that
    assert_eq!((got.status, got.head.get("x-should-retry"), a.requests()), (503, None, 1));
    app.quiet().await;
}

#[tokio::test]
async fn pauses_grow_and_are_bounded_in_number() {
    for url in [None, Some(nowhere())] {
        let a = Origin::saying(unavailable()).await;
        let more = "breaker: off, retry: { in_place: true, attempts: 4, backoff: 200ms },";
        let app = App::start(&policy(&[up("a", &url.clone().unwrap_or(a.url()), more)], ""));
        let (status, took) = timed(&app).await;
        assert_eq!(status, if url.is_some() { 502 } else { 503 });
        // half of 200, 400 and 800 ms at least
        assert!(took >= Duration::from_millis(690), "{took:?}");
        assert_eq!(a.requests(), if url.is_some() { 0 } else { 4 });
        assert_eq!(app.line().await["attempts"], 4);
        app.quiet().await;
    }
}

#[tokio::test]
async fn another_address_of_the_same_upstream_goes_first() {
    let (a, b) = (Origin::saying(unavailable()).await, Origin::saying(good()).await);
    let c = Origin::saying(good()).await;
    let one = format!("a: {{ breaker: off, urls: ['{}', '{}'] }}", a.url(), b.url());
    let app = App::start(&policy(&[one, up("c", &c.url(), "")], ""));
    for _ in 0..8 {
        assert_eq!(call(&app).await.text(), GOOD);
    }
    assert_eq!((b.requests(), c.requests()), (8, 0));
    assert!(app.lines(8).await.iter().all(|line| line["upstream"] == "a"));
    app.quiet().await;
}

/// An error whose body does not come to its end is no answer to pass on.
#[tokio::test]
async fn an_error_that_breaks_off_is_answered_by_another() {
    let torn = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 100\r\n\r\n{".to_vec();
    let a = Origin::start(move |mut conn: Conn| {
        let torn = torn.clone();
        async move {
            conn.request().await;
            conn.send(&torn).await;
        }
    })
    .await;
    let b = Origin::saying(good()).await;
    let app = pair(&a.url(), &b.url(), "");
    assert_eq!(call(&app).await.text(), GOOD);
    let app = pair(&a.url(), &nowhere(), "");
    let got = call(&app).await;
    assert_eq!((got.status, got.head.get("x-should-retry")), (502, Some("false")));
    app.quiet().await;
}

#[tokio::test]
async fn a_long_error_is_passed_on_whole() {
    let long = json("500 Internal Server Error", &"x".repeat(300_000));
    let (a, b) = (Origin::saying(long).await, nowhere());
    let app = pair(&a.url(), &b, "");
    let got = call(&app).await;
    assert_eq!((got.status, got.body.len()), (500, 300_000));
    app.quiet().await;
}

#[tokio::test]
async fn retries_are_counted_by_what_they_were_for() {
    let (a, b) = (Origin::saying(unavailable()).await, Origin::saying(good()).await);
    let app = pair(&a.url(), &b.url(), "");
    assert_eq!(call(&app).await.status, 200);
    assert_eq!(app.count("tidegate_upstream_retries_total", &["upstream=\"b\"", "overloaded"]), 1);
    let (a, b) =
        (Origin::saying(stream([ERROR])).await, Origin::saying(stream([TOKEN, DONE])).await);
    let app = pair(&a.url(), &b.url(), "");
    assert_eq!(ask(app.addr, &post(CHAT, "", STREAM)).await.status, 200);
    assert_eq!(app.count("tidegate_upstream_retries_total", &["upstream=\"b\"", "failed"]), 1);
}

/// All that a backend sees of a call but for its address.
fn bare(mut request: Request) -> Request {
    request.headers.retain(|(name, _)| name != "host");
    request
}

#[tokio::test]
async fn every_attempt_is_the_same_request() {
    let lines = "x-own: 1\r\nx-own: 2\r\ncookie: c=1\r\nidempotency-key: k\r\n";
    let call = request("POST", "/v1/chat/completions?x=1", lines, PLAIN);
    // in place, at another address, at another target
    for way in ["retry: { in_place: true, backoff: 1ms }", "urls", "fallback"] {
        let a = Origin::by_turns([unavailable(), good()]).await;
        let b = Origin::by_turns([unavailable(), good()]).await;
        let one = |more: &str| up("a", &a.url(), more);
        let ups = match way {
            "urls" => {
                let urls = format!(
                    "urls: ['{}', '{}']",
                    a.url(),
                    a.url().replace("127.0.0.1", "localhost")
                );
                vec![format!("a: {{ {urls} }}")]
            }
            "fallback" => vec![one(""), up("b", &b.url(), "")],
            more => vec![one(&format!("{more},"))],
        };
        let app = App::start(&policy(&ups, ""));
        if way == "fallback" {
            assert_eq!(ask(app.addr, &call).await.status, 503);
        } else {
            assert_eq!(ask(app.addr, &call).await.text(), GOOD);
        }
        let seen: Vec<_> = a.take().into_iter().chain(b.take()).map(bare).collect();
        assert_eq!(seen.len(), 2, "{way}");
        assert_eq!(seen[0], seen[1], "{way}");
        assert_eq!(seen[0].all("x-own"), ["1", "2"]);
        assert_eq!((seen[0].get("cookie"), seen[0].target.ends_with("?x=1")), (Some("c=1"), true));
        app.quiet().await;
    }
}

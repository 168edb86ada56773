//! A stream without content is kept while the call tries elsewhere, and is the answer if that comes
//! to nothing: alive, under its own deadlines, in its own place, and paid for.
use std::time::Duration;

use super::*;
use crate::support::client::{Client, End};
use crate::support::origin::{self, Conn, chunk, stream};
use crate::support::until;

const SLOW: &str = "concurrency: 1, breaker: off, retry: { slow: 200ms },";
const LIMITS: &str = "prices: { m: { input: 1000, output: 1000 } }\npolicies:\n\
    \x20 - { name: calls, limits: { requests: 100/day calendar } }\n\
    \x20 - { name: tokens, limits: { tokens: 1M/day calendar } }\n\
    \x20 - { name: spend, limits: { spend: $1000/day calendar } }\n";
const EACH: &str = "\
    \x20 - { name: at-a, match: { upstream: a }, limits: { requests: 100/day calendar } }\n\
    \x20 - { name: at-b, match: { upstream: b }, limits: { requests: 100/day calendar } }\n\
    \x20 - { name: b-tokens, match: { upstream: b }, limits: { tokens: 1M/day calendar } }\n";
const USAGE: &str =
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3}}\n\n";

/// What is used of a limit, by its policy's name.
fn used(app: &App, policy: &str) -> i64 {
    let state = app.state();
    let all = state["limits"].as_array().unwrap().iter();
    all.filter(|limit| limit["policy"] == policy).map(|limit| limit["used"].as_i64().unwrap()).sum()
}

/// A stream whose content comes so late, in two parts with a pause between, if its client waits.
async fn late(after: Duration) -> Origin {
    Origin::start(move |mut conn: Conn| async move {
        while conn.request().await.is_some() {
            conn.send(&[origin::STREAM, &chunk(ROLE)].concat()).await;
            for part in [vec![chunk(TOKEN)], [STOP, USAGE, DONE].map(chunk).to_vec()] {
                tokio::select! {
                    () = tokio::time::sleep(after) => conn.send(&part.concat()).await,
                    () = conn.until_gone() => return,
                }
            }
            conn.send(b"0\r\n\r\n").await;
        }
    })
    .await
}

/// The client gets all of the slow stream, which is charged as the one answer that it is.
async fn goes_on(app: &App, a: &Origin) -> serde_json::Value {
    let mut client = Client::connect(app.addr).await;
    client.send(&post(CHAT, "", STREAM)).await;
    let head = client.head().await.unwrap();
    assert_eq!(client.chunk().await.unwrap(), ROLE.as_bytes());
    // it runs, and in its place
    assert_eq!(
        (app.queues("running"), app.state()["calls"][0]["upstream"].as_str()),
        (1, Some("a"))
    );
    let got = client.rest(head, false).await;
    let text = [TOKEN, STOP, DONE].concat();
    assert_eq!((got.status, got.text(), got.end, a.requests()), (200, &*text, End::Whole, 1));
    let line = app.line().await;
    assert_eq!((&line["upstream"], &line["outcome"]), (&"a".into(), &"complete".into()), "{line}");
    app.quiet().await;
    let all = ["calls", "at-a"].map(|name| used(app, name));
    assert_eq!(all, [1, 1]);
    line
}

fn start(a: &Origin, b: &str, more_a: &str, more_b: &str) -> App {
    let ups = [up("a", &a.url(), &format!("{SLOW} {more_a}")), up("b", b, more_b)];
    App::start(&(policy(&ups, "") + LIMITS + EACH))
}

#[tokio::test]
async fn errors_elsewhere_do_not_take_its_place() {
    let error = r#"{"error":{"message":"no"}}"#;
    let statuses = [
        "400 Bad Request",
        "401 Unauthorized",
        "429 Too Many Requests",
        "500 Internal Server Error",
    ];
    let mut errors: Vec<_> = statuses.map(|status| (status, json(status, error))).into();
    errors.push(("in a stream", stream([ROLE, ERROR])));
    for (status, error) in errors {
        let a = late(Duration::from_millis(600)).await;
        let b = Origin::saying(error).await;
        let app = start(&a, &b.url(), "", "concurrency: 1, key: '${CANARY}', dialect: openai,");
        let line = goes_on(&app, &a).await;
        assert_eq!((b.requests(), &line["attempts"]), (1, &2.into()), "{status}");
        assert_eq!((used(&app, "tokens"), used(&app, "at-b")), (10, 1), "{status}");
        assert_eq!(used(&app, "b-tokens"), 0, "{status}");
        assert_eq!(used(&app, "spend"), 10_000_000);
    }
}

#[tokio::test]
async fn a_fallback_that_refuses_the_connection_costs_nothing() {
    let a = late(Duration::from_millis(600)).await;
    let app = start(&a, &nowhere(), "", "");
    goes_on(&app, &a).await;
    let all = ["tokens", "at-b", "b-tokens"].map(|name| used(&app, name));
    assert_eq!(all, [10, 0, 0]);
}

/// The deadline was the fallback's, and ends nobody else.
#[tokio::test]
async fn a_deadline_elsewhere_does_not_end_it() {
    let a = late(Duration::from_secs(1)).await;
    let b = Origin::start(|mut conn: Conn| async move {
        conn.request().await;
        conn.until_gone().await;
    })
    .await;
    let app = start(&a, &b.url(), "", "timeouts: { first_byte: 300ms },");
    goes_on(&app, &a).await;
    until("the other is left", async || b.open() == 0).await;
    assert_eq!(used(&app, "at-b"), 1);
}

/// Its own deadlines are its own: no other's `total`, and silence ends it.
#[tokio::test]
async fn it_is_under_its_own_deadlines() {
    let a = late(Duration::from_millis(600)).await;
    let app = start(&a, &nowhere(), "timeouts: { total: 900ms },", "timeouts: { total: 300ms },");
    goes_on(&app, &a).await;
    let a = late(Duration::from_mins(1)).await;
    let app = start(&a, &nowhere(), "timeouts: { idle: 400ms },", "");
    let got = ask(app.addr, &post(CHAT, "", STREAM)).await;
    assert!(got.text().starts_with(ROLE) && got.text().contains("idle_timeout"), "{}", got.text());
    until("it is left", async || a.open() == 0).await;
    assert_eq!(app.line().await["upstream"], "a");
    app.quiet().await;
}

/// The whole time of the call is up while the fallback keeps it waiting; it is a stream that sends.
#[tokio::test]
async fn the_whole_time_of_the_call_does_not_end_it() {
    let a = late(Duration::from_millis(1500)).await;
    let (silent, _held) = origin::black_hole().await;
    let b = format!("http://{}", silent.local_addr().unwrap().as_socket().unwrap());
    let app = start(&a, &b, "", "timeouts: { total: 700ms },");
    goes_on(&app, &a).await;
}

/// It has its place until the fallback has won; then all that it has is given back but its prompt.
#[tokio::test]
async fn its_place_is_its_own_until_another_has_won() {
    let a = late(Duration::from_mins(1)).await;
    let (b, go) = holding_b().await;
    let app = start(&a, &b.url(), "timeouts: { queue: 200ms },", "concurrency: 1,");
    let mut client = Client::connect(app.addr).await;
    client.send(&post(CHAT, "", STREAM)).await;
    until("the other is asked", async || b.requests() == 1).await;
    assert_eq!((app.queues("running"), a.open()), (2, 1));
    let late = ask(app.addr, &post(CHAT, "", STREAM)).await;
    assert!(matches!(late.status, 408 | 429), "{}", late.text());
    go.notify_one();
    let got = client.answer().await;
    assert_eq!((got.status, got.end), (200, End::Whole));
    assert_eq!(got.text(), [TOKEN, STOP, DONE].concat());
    until("the slow one is left", async || a.open() == 0).await;
    app.quiet().await;
    let all = ["calls", "at-a", "at-b", "b-tokens"].map(|name| used(&app, name));
    assert_eq!((all, a.requests()), ([1, 1, 1, 10], 1));
    // its prompt, about
    let prompt = used(&app, "tokens") - 10;
    assert!((1..100).contains(&prompt), "{prompt}");
}

async fn holding_b() -> (Origin, std::sync::Arc<tokio::sync::Notify>) {
    let go = std::sync::Arc::new(tokio::sync::Notify::new());
    let told = std::sync::Arc::clone(&go);
    let origin = Origin::start(move |mut conn: Conn| {
        let go = std::sync::Arc::clone(&told);
        async move {
            conn.request().await;
            go.notified().await;
            conn.send(&stream([TOKEN, STOP, USAGE, DONE])).await;
        }
    })
    .await;
    (origin, go)
}

/// Where two may not run at once it is waited for.
#[tokio::test]
async fn without_a_second_place_it_is_waited_for() {
    let a = late(Duration::from_millis(600)).await;
    let b = Origin::saying(stream([TOKEN, DONE])).await;
    let ups = [up("a", &a.url(), SLOW), up("b", &b.url(), "")];
    let app = App::start(&(policy(&ups, ", concurrency: 1") + LIMITS + EACH));
    goes_on(&app, &a).await;
    assert_eq!((b.requests(), used(&app, "tokens")), (0, 10));
}

/// With it in hand nobody waits for what may get well: neither in place nor for a target.
#[tokio::test]
async fn nobody_is_waited_for_while_it_is_there() {
    let a = late(Duration::from_millis(600)).await;
    let b = Origin::saying(json("503 Service Unavailable\r\nretry-after: 3", "{}")).await;
    let ups = [up("a", &a.url(), SLOW), up("b", &b.url(), "retry: { in_place: true },")];
    let app = App::start(&(policy(&ups, ", on_exhausted: queue") + LIMITS + EACH));
    goes_on(&app, &a).await;
    assert_eq!(b.requests(), 1);
}

/// Another address of the same upstream: both are charged, and the one that won answers.
#[tokio::test]
async fn given_up_for_another_address_it_is_charged_its_prompt() {
    let a = late(Duration::from_mins(1)).await;
    let b = Origin::saying(stream([TOKEN, STOP, USAGE, DONE])).await;
    let urls = format!("urls: ['{}', '{}']", a.url(), b.url());
    let one = format!(
        "up: {{ pacing: off, balance: round_robin, concurrency: 2, breaker: off, \
         retry: {{ slow: 200ms }}, {urls} }}"
    );
    let app = App::start(&(policy(&[one], "") + LIMITS));
    let got = ask(app.addr, &post(CHAT, "", STREAM)).await;
    assert_eq!(got.text(), [TOKEN, STOP, DONE].concat());
    assert_eq!(counts([&a, &b]), [1, 1]);
    until("the slow one is left", async || a.open() == 0).await;
    app.quiet().await;
    let prompt = used(&app, "tokens") - 10;
    assert!((1..100).contains(&prompt), "{prompt}");
    assert_eq!(used(&app, "calls"), 1);
}

/// The same of a deadline.
#[tokio::test]
async fn a_deadline_at_one_address_is_charged_its_prompt() {
    let a = Origin::start(|mut conn: Conn| async move {
        conn.request().await;
        conn.until_gone().await;
    })
    .await;
    let b = Origin::saying(good()).await;
    let urls = format!("urls: ['{}', '{}']", a.url(), b.url());
    let one = format!(
        "up: {{ pacing: off, balance: round_robin, concurrency: 1, breaker: off, \
         timeouts: {{ first_byte: 300ms }}, retry: {{ on_timeout: true }}, {urls} }}"
    );
    let app = App::start(&(policy(&[one], "") + LIMITS));
    assert_eq!(call(&app).await.text(), GOOD);
    assert_eq!(counts([&a, &b]), [1, 1]);
    app.quiet().await;
    let prompt = used(&app, "tokens") - 10;
    assert!((1..100).contains(&prompt), "{prompt}");
    assert_eq!(used(&app, "calls"), 1);
}

#[tokio::test]
async fn a_client_that_leaves_while_both_run_leaves_nothing_behind() {
    let (a, (b, _go)) = (late(Duration::from_mins(1)).await, holding_b().await);
    let app = start(&a, &b.url(), "", "concurrency: 1,");
    let mut client = Client::connect(app.addr).await;
    client.send(&post(CHAT, "", STREAM)).await;
    until("the other is asked", async || b.requests() == 1).await;
    drop(client);
    until("both are left", async || a.open() + b.open() <= 1).await;
    assert_eq!(app.line().await["outcome"], "client_gone");
    app.quiet().await;
    let all = ["calls", "at-a", "at-b"].map(|name| used(&app, name));
    assert_eq!(all, [1, 1, 1]);
}

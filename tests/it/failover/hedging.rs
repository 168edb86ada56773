//! A second request when the first token is late: who gets it, who answers, and what it comes to.
mod failing;
mod leave;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::counting::{LIMITS, used};
use super::*;
use crate::support::client::{Client, End};
use crate::support::origin::{self, chunk, stream};
use crate::support::until;

const HEDGE: &str = "hedge: { after: 100ms, budget: 100% },";
/// Long enough for a second request to have come, if one were to come.
const LONG: Duration = Duration::from_millis(500);
/// A step that ends the connection with RST.
const RESET: &[u8] = b"reset";

/// Answers each request in steps: the first at once, and each other when it is told to.
struct Stepping {
    origin: Origin,
    go: Arc<Semaphore>,
}

impl Stepping {
    async fn start<const N: usize>(steps: [Vec<u8>; N]) -> Self {
        let go = Arc::new(Semaphore::new(0));
        let told = Arc::clone(&go);
        let origin = Origin::start(move |mut conn| {
            let (steps, told) = (steps.clone(), Arc::clone(&told));
            async move {
                while conn.request().await.is_some() {
                    for (at, step) in steps.iter().enumerate() {
                        if at > 0 {
                            tokio::select! {
                                turn = told.acquire() => turn.unwrap().forget(),
                                () = conn.until_gone() => return,
                            }
                        }
                        if step == RESET {
                            return conn.reset();
                        }
                        conn.send(step).await;
                    }
                }
            }
        })
        .await;
        Self { origin, go }
    }

    /// Says nothing until it is told, and then all.
    async fn silent(answer: impl Into<Vec<u8>>) -> Self {
        Self::start([Vec::new(), answer.into()]).await
    }

    /// Begins a stream, and sends content when it is told, and the end when it is told again.
    async fn talking() -> Self {
        Self::start([[origin::STREAM, &chunk(ROLE)].concat(), chunk(TOKEN), end()]).await
    }

    fn go(&self) {
        self.go.add_permits(1);
    }

    async fn is_asked(&self) {
        until("it is asked", async || self.origin.requests() == 1).await;
    }

    async fn is_left(&self) {
        until("it is left", async || self.origin.open() == 0).await;
    }

    fn url(&self) -> String {
        self.origin.url()
    }
}

/// The end of a stream.
fn end() -> Vec<u8> {
    [chunk(DONE), b"0\r\n\r\n".to_vec()].concat()
}

/// A client that has sent this call.
async fn asking(app: &App, body: &str) -> Client {
    let mut client = Client::connect(app.addr).await;
    client.send(&post(CHAT, "", body)).await;
    client
}

/// How often a call was sent a second time.
fn hedges(app: &App) -> usize {
    app.count("tidegate_upstream_retries_total", &["hedge"])
}

/// One upstream with two addresses.
fn two(a: &Stepping, b: &Stepping, more: &str) -> String {
    let ups =
        up("a", "", more).replace("url: ''", &format!("urls: ['{}', '{}']", a.url(), b.url()));
    policy(&[ups], "")
}

#[tokio::test]
async fn hedging_is_off_by_default() {
    let (a, b) = (Stepping::silent(good()).await, Origin::saying(good()).await);
    let app = pair(&a.url(), &b.url(), "");
    let mut client = asking(&app, PLAIN).await;
    a.is_asked().await;
    tokio::time::sleep(LONG).await;
    a.go();
    assert_eq!(client.answer().await.text(), GOOD);
    assert_eq!((counts([&a.origin, &b]), hedges(&app)), ([1, 0], 0));
    assert_eq!(app.line().await["attempts"], 1);
}

#[tokio::test]
async fn hedging_leaves_a_first_token_in_time_alone() {
    let (a, b) = (Origin::saying(stream([ROLE, TOKEN, DONE])).await, Origin::saying(good()).await);
    let app = pair(&a.url(), &b.url(), "hedge: { after: 5s, budget: 100% },");
    for n in 1..=5 {
        let got = ask(app.addr, &post(CHAT, "", STREAM)).await;
        assert_eq!(got.text(), format!("{ROLE}{TOKEN}{DONE}"));
        assert_eq!(counts([&a, &b]), [n, 0]);
    }
    app.quiet().await;
}

#[tokio::test]
async fn hedging_a_stream_whose_second_request_wins() {
    // whether it says nothing at all, or nothing of use
    for lead in [Vec::new(), [origin::STREAM, &chunk(ROLE)].concat()] {
        let a = Stepping::start([lead, Vec::new()]).await;
        let b = Stepping::start([[origin::STREAM, &chunk(TOKEN)].concat(), end()]).await;
        let app = pair(&a.url(), &b.url(), HEDGE);
        let mut client = asking(&app, STREAM).await;
        let head = client.head().await.unwrap();
        assert_eq!(client.chunk().await.unwrap(), TOKEN.as_bytes());
        // the winner is not at its end yet
        a.is_left().await;
        b.go();
        let got = client.rest(head, false).await;
        assert_eq!((got.status, got.text(), got.end), (200, DONE, End::Whole));
        assert_eq!(counts([&a.origin, &b.origin]), [1, 1]);
        assert_eq!(hedges(&app), 1);
        let attempts = |verdict: &str| app.count("tidegate_upstream_attempts_total", &[verdict]);
        assert_eq!(
            (attempts("upstream=\"a\",verdict=\"outrun\""), attempts("upstream=\"a\"")),
            (1, 1)
        );
        assert_eq!(attempts("upstream=\"b\",verdict=\"answered\""), 1);
        assert_eq!(app.count("tidegate_hedges_total", &["result=\"won\""]), 1);
        app.quiet().await;
        let line = app.line().await;
        assert_eq!((&line["upstream"], &line["attempts"]), (&"b".into(), &2.into()));
        assert_eq!(line["outcome"], "complete", "{line}");
    }
}

#[tokio::test]
async fn hedging_a_stream_whose_first_request_wins_late() {
    let (a, b) = (Stepping::talking().await, Stepping::silent(good()).await);
    let app = pair(&a.url(), &b.url(), HEDGE);
    let mut client = asking(&app, STREAM).await;
    b.is_asked().await;
    a.go();
    let head = client.head().await.unwrap();
    assert_eq!(client.chunk().await.unwrap(), ROLE.as_bytes());
    assert_eq!(client.chunk().await.unwrap(), TOKEN.as_bytes());
    b.is_left().await;
    a.go();
    let got = client.rest(head, false).await;
    assert_eq!((got.status, got.text(), got.end), (200, DONE, End::Whole));
    app.quiet().await;
    let line = app.line().await;
    assert_eq!((&line["upstream"], &line["attempts"]), (&"a".into(), &2.into()));
    assert_eq!(line["outcome"], "complete", "{line}");
}

#[tokio::test]
async fn hedging_an_answer_that_is_no_stream() {
    for second_wins in [true, false] {
        let (a, b) = (Stepping::silent(good()).await, Stepping::silent(good()).await);
        let app = pair(&a.url(), &b.url(), HEDGE);
        let mut client = asking(&app, PLAIN).await;
        b.is_asked().await;
        let (winner, loser) = if second_wins { (&b, &a) } else { (&a, &b) };
        winner.go();
        let got = client.answer().await;
        assert_eq!((got.status, got.text(), got.end), (200, GOOD, End::Whole));
        loser.is_left().await;
        app.quiet().await;
        let line = app.line().await;
        let name = if second_wins { "b" } else { "a" };
        assert_eq!((&line["upstream"], &line["attempts"]), (&name.into(), &2.into()));
    }
}

/// What the slower one has cost is in the budget: so it is in the log, the metrics and the record.
#[tokio::test]
async fn hedging_is_billed_for_both() {
    const SPEND: &str = "prices: { m: { input: 1000, output: 1000 } }\npolicies:\n\
        \x20 - { name: spend, limits: { spend: $1000/day calendar } }\n";
    for second_wins in [true, false] {
        let (a, b) = (Stepping::silent(good()).await, Stepping::silent(good()).await);
        let ups = [up("a", &a.url(), HEDGE), up("b", &b.url(), "")];
        let app = App::start(&(policy(&ups, "") + SPEND));
        let mut client = asking(&app, PLAIN).await;
        b.is_asked().await;
        let (winner, loser) = if second_wins { (&b, &a) } else { (&a, &b) };
        winner.go();
        assert_eq!(client.answer().await.text(), GOOD);
        loser.is_left().await;
        app.quiet().await;
        let (line, record) = (app.line().await, app.records().await.remove(0));
        let spent = used(&app, "spend");
        assert!(spent > 10_000_000, "more than the answer: {spent}");
        assert_eq!(record["spend_nano"].as_i64(), Some(spent), "{record}");
        let logged = (line["spend_dollars"].as_f64().unwrap() * 1e9).round() as i64;
        assert_eq!(logged, spent, "{line}");
        let answer = (&record["input_tokens"], &record["output_tokens"], &record["estimated"]);
        assert_eq!(answer, (&7.into(), &3.into(), &false.into()), "{record}");
        assert_eq!((&record["other_attempts"], &record["attempts"]), (&1.into(), &2.into()));
        let other = ["other_input_tokens", "other_output_tokens"].map(|of| record[of].as_i64());
        let tokens: i64 = other.iter().flatten().sum();
        assert_eq!(record["other_spend_nano"].as_i64(), Some(tokens * 1_000_000), "{record}");
        assert_eq!(spent, (tokens + 10) * 1_000_000);
    }
}

#[tokio::test]
async fn hedging_goes_to_another_address_of_the_same_upstream() {
    for second_wins in [true, false] {
        let (a, b) = (Stepping::talking().await, Stepping::talking().await);
        let app = App::start(&two(&a, &b, HEDGE));
        let mut client = asking(&app, STREAM).await;
        until("one is asked", async || a.origin.requests() + b.origin.requests() > 0).await;
        let (first, second) = if a.origin.requests() == 1 { (&a, &b) } else { (&b, &a) };
        second.is_asked().await;
        let (winner, loser) = if second_wins { (second, first) } else { (first, second) };
        winner.go();
        let head = client.head().await.unwrap();
        loser.is_left().await;
        winner.go();
        let got = client.rest(head, false).await;
        assert_eq!((got.text(), got.end), (&*format!("{ROLE}{TOKEN}{DONE}"), End::Whole));
        assert_eq!(counts([&a.origin, &b.origin]), [1, 1]);
        app.quiet().await;
        assert_eq!(app.line().await["attempts"], 2);
    }
}

/// The other one is asked as it wants to be asked.
#[tokio::test]
async fn hedging_asks_each_target_in_its_own_words() {
    let (a, b) = (Stepping::silent(good()).await, Origin::saying(good()).await);
    let app = App::start(&format!(
        "upstreams: {{ {}, {} }}\nroutes: [{{ to: a, fallback: [{{ to: b, model: llama }}] }}]\n",
        up("a", &a.url(), &format!("{HEDGE} headers: {{ x-own: a }},")),
        up("b", &format!("{}/deep", b.url()), "headers: { x-own: b },"),
    ));
    assert_eq!(call(&app).await.text(), GOOD);
    let (a, b) = (a.origin.take().remove(0), b.take().remove(0));
    assert_eq!((a.get("x-own"), b.get("x-own")), (Some("a"), Some("b")));
    assert_eq!(b.target, format!("/deep{CHAT}"));
    assert_eq!(a.body, PLAIN.as_bytes());
    assert_eq!(b.body, PLAIN.replace("\"m\"", "\"llama\"").into_bytes());
}

#[tokio::test]
async fn hedging_a_call_that_another_one_follows() {
    for second_wins in [true, false] {
        let (a, b) = (Stepping::talking().await, Stepping::talking().await);
        let ups = [up("a", &a.url(), HEDGE), up("b", &b.url(), "")];
        let cache = "policies: [{ name: kept, cache: { ttl: 1h } }]\n";
        let app = App::start(&(policy(&ups, "") + cache));
        let mut first = asking(&app, STREAM).await;
        a.is_asked().await;
        let mut follower = asking(&app, STREAM).await;
        b.is_asked().await;
        let (winner, loser) = if second_wins { (&b, &a) } else { (&a, &b) };
        winner.go();
        loser.is_left().await;
        winner.go();
        for client in [&mut first, &mut follower] {
            let got = client.answer().await;
            assert_eq!((got.text(), got.end), (&*format!("{ROLE}{TOKEN}{DONE}"), End::Whole));
        }
        assert_eq!(counts([&a.origin, &b.origin]), [1, 1]);
        app.quiet().await;
        let lines = app.lines(2).await;
        let name = if second_wins { "b" } else { "a" };
        let made = lines.iter().find(|line| line["attempts"] == 2).expect("who made the call");
        assert_eq!(made["upstream"], name);
    }
}

/// What a model has shown until now says what is late.
#[tokio::test]
async fn hedging_by_history_begins_once_there_is_one() {
    for body in [STREAM, PLAIN] {
        let quick = if body == STREAM { stream([ROLE, TOKEN, DONE]) } else { good() };
        let late = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (is_late, answer) = (Arc::clone(&late), quick.clone());
        let a = Origin::start(move |mut conn| {
            let (late, answer) = (Arc::clone(&is_late), answer.clone());
            async move {
                while conn.request().await.is_some() {
                    if late.load(std::sync::atomic::Ordering::Relaxed) {
                        tokio::time::sleep(LONG).await;
                    }
                    conn.send(&answer).await;
                }
            }
        })
        .await;
        let b = Origin::saying(quick.clone()).await;
        let app = pair(&a.url(), &b.url(), "hedge: { budget: 100% },");
        let is_late = |is| late.store(is, std::sync::atomic::Ordering::Relaxed);
        // nothing is known of the model
        is_late(true);
        assert_eq!(ask(app.addr, &post(CHAT, "", body)).await.status, 200);
        is_late(false);
        for _ in 0..19 {
            assert_eq!(ask(app.addr, &post(CHAT, "", body)).await.status, 200);
        }
        assert_eq!((counts([&a, &b]), hedges(&app)), ([20, 0], 0));
        // of another model nothing is known yet
        is_late(true);
        let other = body.replace("\"m\"", "\"n\"");
        assert_eq!(ask(app.addr, &post(CHAT, "", &other)).await.status, 200);
        // nor of this one's other form
        let form = if body == STREAM { PLAIN } else { STREAM };
        assert_eq!(ask(app.addr, &post(CHAT, "", form)).await.status, 200);
        assert_eq!((counts([&a, &b]), hedges(&app)), ([22, 0], 0));
        is_late(false);
        let quick_ones = async || {
            for _ in 0..40 {
                assert_eq!(ask(app.addr, &post(CHAT, "", body)).await.status, 200);
            }
        };
        // so that the one late call is beyond the 95th percentile
        quick_ones().await;
        let before = b.requests();
        is_late(true);
        let got = ask(app.addr, &post(CHAT, "", body)).await;
        assert_eq!(got.status, 200);
        assert_eq!(b.requests(), before + 1, "later than nearly all before it");
        app.quiet().await;
    }
}

#[tokio::test]
async fn hedging_gives_each_request_its_own_deadlines() {
    // the second is sent when the first has little time left, and needs longer than that
    let a = Stepping::silent(Vec::new()).await;
    let b = Origin::start(|mut conn| async move {
        conn.request().await;
        tokio::time::sleep(Duration::from_millis(800)).await;
        conn.send(&good()).await;
        conn.until_gone().await;
    })
    .await;
    let hedge = "hedge: { after: 900ms, budget: 100% }, timeouts: { first_byte: 1100ms },";
    let ups = [up("a", &a.url(), hedge), up("b", &b.url(), "")];
    let app = App::start(&policy(&ups, ""));
    assert_eq!(call(&app).await.text(), GOOD);
    a.is_left().await;
    assert_eq!(counts([&a.origin, &b]), [1, 1]);
    app.quiet().await;
}

/// The loser was at another stage: its deadline is none of the winner's.
#[tokio::test]
async fn hedging_leaves_the_winner_under_its_own_deadlines() {
    let (a, b) = (Stepping::talking().await, Stepping::silent(good()).await);
    let app = pair(&a.url(), &b.url(), &format!("{HEDGE} timeouts: {{ first_byte: 700ms }},"));
    let mut client = asking(&app, STREAM).await;
    b.is_asked().await;
    a.go();
    let head = client.head().await.unwrap();
    b.is_left().await;
    // silent for longer than any backend may take to its first byte
    tokio::time::sleep(Duration::from_millis(1200)).await;
    a.go();
    let got = client.rest(head, false).await;
    assert_eq!((got.text(), got.end), (&*format!("{ROLE}{TOKEN}{DONE}"), End::Whole));
    app.quiet().await;
}

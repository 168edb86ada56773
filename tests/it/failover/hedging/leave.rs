//! What a second request may cost, and which calls never have one.
use super::*;
use crate::support::client::request;

/// As a request a call counts once, but where a limit is about one upstream; its tokens and its money
/// count for both.
#[tokio::test]
async fn hedging_charges_both_requests() {
    for second_wins in [true, false] {
        let (a, b) = (Stepping::silent(good()).await, Stepping::silent(good()).await);
        let ups = [up("a", &a.url(), HEDGE), up("b", &b.url(), ""), up("c", &nowhere(), "")];
        let more = "\x20 - { name: money, limits: { spend: $100/day } }\n\
            prices: { m: { input: 1000, output: 2000 } }\n";
        let app = App::start(&(policy(&ups, ", concurrency: 4") + LIMITS + more));
        let mut client = asking(&app, PLAIN).await;
        b.is_asked().await;
        let winner = if second_wins { &b } else { &a };
        winner.go();
        assert_eq!(client.answer().await.text(), GOOD);
        app.quiet().await;
        let all = ["calls", "at-a", "at-b", "at-c"].map(|name| used(&app, name));
        assert_eq!(all, [1, 1, 1, 0], "second wins: {second_wins}");
        // 7 and 3 of the winner; of the other what it has come to, as far as one can tell: the prompt,
        // and what a model makes in that time
        let other = used(&app, "tokens") - 10;
        assert!((1..200).contains(&other), "{other}");
        // a tenth of a cent for a token of input, and twice that for one of output
        let money = used(&app, "money") / 1_000_000 - (7 + 2 * 3);
        assert!((other..=2 * other).contains(&money), "{money} for {other}");
        // what the caller was answered
        let line = app.line().await;
        assert_eq!((&line["input_tokens"], &line["output_tokens"]), (&7.into(), &3.into()));
    }
}

#[tokio::test]
async fn hedging_charges_an_upstream_for_each_of_its_addresses() {
    let (a, b) = (Stepping::silent(good()).await, Stepping::silent(good()).await);
    let limits = "policies:\n\
        \x20 - { name: calls, limits: { requests: 100/day calendar } }\n\
        \x20 - { name: at-a, match: { upstream: a }, limits: { requests: 100/day calendar } }\n";
    let app = App::start(&(two(&a, &b, HEDGE) + limits));
    let mut client = asking(&app, PLAIN).await;
    a.is_asked().await;
    b.is_asked().await;
    a.go();
    assert_eq!(client.answer().await.text(), GOOD);
    b.is_left().await;
    app.quiet().await;
    assert_eq!((used(&app, "calls"), used(&app, "at-a")), (1, 2));
}

/// Nothing was sent yet to where the first is connecting to.
#[tokio::test]
async fn hedging_charges_no_tokens_of_a_request_that_found_nobody() {
    let (hole, _filling) = origin::black_hole().await;
    let at = hole.local_addr().unwrap().as_socket().unwrap();
    let b = Origin::saying(good()).await;
    let ups =
        [up("a", &format!("http://{at}"), HEDGE), up("b", &b.url(), ""), up("c", &nowhere(), "")];
    let app = App::start(&(policy(&ups, "") + LIMITS));
    assert_eq!(call(&app).await.text(), GOOD);
    app.quiet().await;
    assert_eq!((used(&app, "calls"), used(&app, "tokens")), (1, 10));
}

#[tokio::test]
async fn hedging_has_a_budget_of_requests() {
    const CALLS: usize = 20;
    let a = Origin::start(|mut conn| async move {
        while conn.request().await.is_some() {
            tokio::time::sleep(Duration::from_millis(200)).await;
            conn.send(&good()).await;
        }
    })
    .await;
    let b = Origin::saying(good()).await;
    let app = pair(&a.url(), &b.url(), "hedge: { after: 20ms, budget: 20% },");
    for _ in 0..CALLS {
        assert_eq!(call(&app).await.text(), GOOD);
    }
    let [first, second] = counts([&a, &b]);
    assert_eq!((first, hedges(&app)), (CALLS, second));
    // an odd call may be in time on a machine that stalls
    assert!((2..=CALLS / 5).contains(&second), "{second}");
    app.quiet().await;
}

#[tokio::test]
async fn hedging_has_a_budget_of_tokens() {
    let (a, b) = (Stepping::silent(good()).await, Origin::saying(good()).await);
    let app = pair(&a.url(), &b.url(), "hedge: { after: 100ms, budget: 50% },");
    let long = PLAIN.replace("hi", &"many words ".repeat(4000));
    for (body, hedged) in [(PLAIN, 0), (&*long, 0), (&long, 1)] {
        let (before, mut client) = (b.requests(), asking(&app, body).await);
        if hedged == 0 {
            tokio::time::sleep(LONG).await;
            a.go();
        }
        assert_eq!(client.answer().await.text(), GOOD);
        assert_eq!(b.requests() - before, hedged);
    }
    assert_eq!(hedges(&app), 1);
    app.quiet().await;
}

/// A call that is late, and is not sent a second time.
async fn never(more: &str, ask_for: &[u8], why: &str) {
    let (a, b) = (Stepping::silent(good()).await, Origin::saying(good()).await);
    let app = App::start(&(policy(&[up("a", &a.url(), HEDGE), up("b", &b.url(), "")], "") + more));
    let mut client = Client::connect(app.addr).await;
    client.send(ask_for).await;
    a.is_asked().await;
    tokio::time::sleep(LONG).await;
    a.go();
    assert_eq!(client.answer().await.text(), GOOD, "{why}");
    assert_eq!(counts([&a.origin, &b]), [1, 0], "{why}");
    assert_eq!(hedges(&app), 0, "{why}");
    app.quiet().await;
    assert_eq!(app.line().await["attempts"], 1, "{why}");
}

#[tokio::test]
async fn hedging_is_never_for_batch_work() {
    let batch = "x-claude-code-request-class: auxiliary\r\n";
    never("", &request("POST", CHAT, batch, PLAIN), "batch").await;
}

#[tokio::test]
async fn hedging_is_never_under_a_hard_limit() {
    let policies = "prices: { m: { input: 1, output: 1 } }\npolicies: ";
    let hard = "limits: { spend: $30/day hard } }]\n";
    let call = post(CHAT, "", &PLAIN.replace("{\"model\"", "{\"max_tokens\":9,\"model\""));
    never(&format!("{policies}[{{ name: all, {hard}"), &call, "everywhere").await;
    let first = format!("{policies}[{{ name: first, match: {{ upstream: a }}, {hard}");
    never(&first, &call, "at the first").await;
    let second = format!("{policies}[{{ name: second, match: {{ upstream: b }}, {hard}");
    never(&second, &call, "at the second").await;
}

#[tokio::test]
async fn hedging_is_never_for_what_may_not_be_done_twice() {
    let tool = r#"{"model":"m","input":"hi","tools":[{"type":"web_search"}]}"#;
    never("", &post(RESPONSES, "", tool), "a tool of the vendor's own").await;
    let stored = r#"{"model":"m","input":"hi","background":true}"#;
    never("", &post(RESPONSES, "", stored), "work in the background").await;
    never("", &post("/v1/things", "", "{}"), "nobody knows what it does").await;
}

#[tokio::test]
async fn hedging_is_never_where_there_is_no_other_place() {
    let a = Stepping::silent(good()).await;
    let app = App::start(&policy(&[up("a", &a.url(), HEDGE)], ""));
    let mut client = asking(&app, PLAIN).await;
    a.is_asked().await;
    tokio::time::sleep(LONG).await;
    a.go();
    assert_eq!(client.answer().await.text(), GOOD);
    assert_eq!((a.origin.requests(), hedges(&app)), (1, 0));
    app.quiet().await;
    assert!(app.events().contains("upstreams.a.hedge: of no use"), "{}", app.events());
}

#[tokio::test]
async fn hedging_waits_for_no_place_and_costs_nothing_then() {
    let (a, b) = (Stepping::silent(good()).await, Stepping::silent(good()).await);
    let ups = [up("a", &a.url(), HEDGE), up("b", &b.url(), "concurrency: 1,")];
    let text = policy(&ups, "").replace("routes: [", "routes: [{ path: /b, to: b }, ");
    let app = App::start(&text);
    let mut other = Client::connect(app.addr).await;
    other.send(&post(&format!("/b{CHAT}"), "", PLAIN)).await;
    b.is_asked().await;
    let mut client = asking(&app, PLAIN).await;
    a.is_asked().await;
    tokio::time::sleep(LONG).await;
    assert_eq!(app.queues("depth"), 0);
    a.go();
    assert_eq!(client.answer().await.text(), GOOD);
    b.go();
    assert_eq!(other.answer().await.text(), GOOD);
    assert_eq!((b.origin.requests(), hedges(&app)), (1, 0));
    app.quiet().await;
    // what was saved up is there for the next one: half a call's share was not spent
    let mut client = asking(&app, PLAIN).await;
    until("it is sent a second time", async || b.origin.requests() == 2).await;
    b.go();
    assert_eq!(client.answer().await.text(), GOOD);
    app.quiet().await;
}

#[tokio::test]
async fn hedging_is_never_after_content() {
    let a = Stepping::start([[origin::STREAM, &chunk(TOKEN)].concat(), end()]).await;
    let b = Origin::saying(good()).await;
    let app = pair(&a.url(), &b.url(), HEDGE);
    let mut client = asking(&app, STREAM).await;
    let head = client.head().await.unwrap();
    assert_eq!(client.chunk().await.unwrap(), TOKEN.as_bytes());
    tokio::time::sleep(LONG).await;
    a.go();
    assert_eq!(client.rest(head, false).await.text(), DONE);
    assert_eq!((counts([&a.origin, &b]), hedges(&app)), ([1, 0], 0));
    app.quiet().await;
}

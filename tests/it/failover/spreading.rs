//! Several addresses of one upstream: calls that belong together go to one of them.
use super::*;
use crate::support::client::request;

/// Four addresses, and the upstream that has them.
async fn four(balance: &str) -> (Vec<Origin>, App) {
    let mut origins = Vec::new();
    for _ in 0..4 {
        origins.push(Origin::saying(good()).await);
    }
    let urls: Vec<_> = origins.iter().map(|origin| format!("'{}'", origin.url())).collect();
    let one = format!("a: {{ dialect: openai, balance: {balance}, urls: [{}] }}", urls.join(", "));
    (origins, App::start(&policy(&[one], "")))
}

/// Which address each call went to: it must be one alone.
fn gone(origins: &[Origin]) -> usize {
    let seen: Vec<_> = origins.iter().map(|origin| origin.take().len()).collect();
    let used: Vec<_> = (0..origins.len()).filter(|at| seen[*at] > 0).collect();
    assert_eq!(used.len(), 1, "{seen:?}");
    used[0]
}

async fn say(app: &App, lines: &str, body: &str) {
    assert_eq!(ask(app.addr, &request("POST", CHAT, lines, body)).await.status, 200);
}

#[tokio::test]
async fn a_conversation_stays_at_one_address() {
    let (origins, app) = four("prefix").await;
    let mut places = Vec::new();
    for n in 0..16 {
        let first = format!(
            r#"{{"role":"system","content":"be brief"}},{{"role":"user","content":"question {n}"}}"#
        );
        for more in ["", r#",{"role":"assistant","content":"a"},{"role":"user","content":"b"}"#] {
            let body = format!(r#"{{"model":"m","messages":[{first}{more}]}}"#);
            say(&app, &format!("x-session-id: s{more:.5}\r\n").replace('"', ""), &body).await;
        }
        places.push(gone(&origins));
    }
    places.sort_unstable();
    places.dedup();
    assert!(places.len() >= 3, "conversations are spread: {places:?}");
    app.quiet().await;
}

#[tokio::test]
async fn a_session_stays_at_one_address() {
    let (origins, app) = four("session").await;
    let mut places = Vec::new();
    for session in 0..16 {
        for question in 0..3 {
            let body = PLAIN.replace("hi", &format!("question {question}"));
            say(&app, &format!("x-session-id: session-{session}\r\n"), &body).await;
        }
        places.push(gone(&origins));
    }
    places.sort_unstable();
    places.dedup();
    assert!(places.len() >= 3, "sessions are spread: {places:?}");
    app.quiet().await;
}

#[tokio::test]
async fn turns_are_even() {
    let (origins, app) = four("round_robin").await;
    for _ in 0..20 {
        assert_eq!(call(&app).await.status, 200);
    }
    let seen: Vec<_> = origins.iter().map(Origin::requests).collect();
    assert_eq!(seen, [5, 5, 5, 5]);
    app.quiet().await;
}

/// What is sent again goes to another address than before, whatever the balance.
#[tokio::test]
async fn a_call_that_is_tried_again_goes_to_another_address() {
    for balance in ["least_busy", "prefix", "session", "round_robin"] {
        let (a, b) = (Origin::saying(unavailable()).await, Origin::saying(unavailable()).await);
        let c = Origin::saying(good()).await;
        let urls = [&a, &b, &c].map(|origin| format!("'{}'", origin.url())).join(", ");
        let more = format!("balance: {balance}, breaker: off,");
        let one = format!("a: {{ dialect: openai, {more} urls: [{urls}] }}");
        let app = App::start(&policy(&[one], ""));
        for n in 0..6 {
            let body = PLAIN.replace("hi", &format!("question {n}"));
            say(&app, &format!("x-session-id: session-{n}\r\n"), &body).await;
        }
        let [bad_a, bad_b, good] = counts([&a, &b, &c]);
        assert!(good == 6 && bad_a <= 6 && bad_b <= 6, "{balance} {bad_a} {bad_b} {good}");
        app.quiet().await;
    }
}

/// Each upstream has a balance of its own, also for calls that come to it from another.
#[tokio::test]
async fn a_fallback_spreads_by_its_own_balance() {
    for (balance, lines) in [("prefix", ""), ("session", "x-session-id: s\r\n")] {
        let a = [Origin::saying(unavailable()).await, Origin::saying(unavailable()).await];
        let b = [Origin::saying(good()).await, Origin::saying(good()).await];
        let urls = |of: &[Origin; 2]| format!("urls: ['{}', '{}']", of[0].url(), of[1].url());
        let app = App::start(&policy(
            &[
                format!("a: {{ pacing: off, breaker: off, {} }}", urls(&a)),
                format!("b: {{ pacing: off, balance: {balance}, {} }}", urls(&b)),
            ],
            "",
        ));
        for _ in 0..8 {
            let call = crate::support::client::request("POST", CHAT, lines, PLAIN);
            assert_eq!(ask(app.addr, &call).await.text(), GOOD);
        }
        let mut seen = counts([&b[0], &b[1]]);
        seen.sort_unstable();
        assert_eq!(seen, [0, 8], "{balance}");
        app.quiet().await;
    }
}

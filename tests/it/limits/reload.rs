//! Limits that change while calls run and wait.
use std::time::{Duration, Instant};

use super::{
    CHAT, PLAIN, by, depth, limited, policy, quiet, running, sent, statuses, until_running,
    until_waiting, used,
};
use crate::support::client::ask;

#[tokio::test]
async fn what_was_used_stays_used_when_amounts_change() {
    let requests = |amount| {
        format!(
            "  - {{ name: day, per: agent, limits: {{ requests: {amount}/day calendar, tokens: 1M/day calendar }} }}\n"
        )
    };
    let (app, simulator) = limited("", &requests(10));
    let url = format!("http://{}", simulator.addr);
    let call = by("a", CHAT, "tokens=5", PLAIN);
    for _ in 0..5 {
        assert_eq!(ask(app.addr, &call).await.status, 200);
    }
    quiet(&app).await;
    let tokens = used(&app, "day", "tokens", "a");
    for (amount, wanted) in [(5, [429, 429]), (7, [200, 200]), (6, [429, 429]), (8, [200, 429])] {
        app.reload(&policy(&url, "", &requests(amount))).await;
        let got = [ask(app.addr, &call).await.status, ask(app.addr, &call).await.status];
        assert_eq!(got, wanted, "{amount} a day");
    }
    quiet(&app).await;
    assert_eq!(used(&app, "day", "requests", "a"), 8);
    assert_eq!(used(&app, "day", "tokens", "a"), tokens / 5 * 8);
    // without the policy nothing limits the agent
    app.reload(&policy(&url, "", "")).await;
    assert_eq!(ask(app.addr, &call).await.status, 200);
    app.lines(14).await;
}

const ONE: &str =
    "  - { name: at-once, per: all, limits: { concurrency: 1 }, queue: { wait: 9s } }\n";

#[tokio::test]
async fn a_raised_limit_lets_those_go_who_wait() {
    let (app, simulator) = limited("", ONE);
    let url = format!("http://{}", simulator.addr);
    let mut clients = Vec::new();
    for n in 0..4_u64 {
        clients.push(sent(app.addr, &by("a", CHAT, "ttft=2s; tokens=2", PLAIN)).await);
        if n == 0 {
            until_running(&app, 1).await;
        } else {
            until_waiting(&app, n).await;
        }
    }
    app.reload(&policy(&url, "", &ONE.replace("concurrency: 1", "concurrency: 3"))).await;
    until_running(&app, 3).await;
    assert_eq!(depth(&app), 1);
    app.reload(&policy(&url, "", "")).await;
    until_running(&app, 4).await;
    for client in &mut clients {
        assert_eq!(client.answer().await.status, 200);
    }
    app.lines(4).await;
    quiet(&app).await;
}

#[tokio::test]
async fn a_lowered_limit_ends_nothing_and_holds_from_then_on() {
    let three = ONE.replace("concurrency: 1", "concurrency: 3");
    let (app, simulator) = limited("", &three);
    let url = format!("http://{}", simulator.addr);
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(sent(app.addr, &by("a", CHAT, "ttft=2500ms; tokens=2", PLAIN)).await);
    }
    until_running(&app, 3).await;
    app.reload(&policy(&url, "", ONE)).await;
    assert_eq!(running(&app), 3, "what runs, runs");
    let late = (0..3).map(|_| by("b", CHAT, "ttft=100ms; tokens=2", PLAIN));
    let late = tokio::spawn(super::at_once(app.addr, late));
    until_waiting(&app, 3).await;
    for client in &mut clients {
        assert_eq!(client.answer().await.status, 200);
    }
    let from = Instant::now();
    while !late.is_finished() {
        assert!(running(&app) <= 1, "one at a time now");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(statuses(&late.await.unwrap()), [200; 3]);
    assert!(from.elapsed() >= Duration::from_millis(250), "one after the other");
    app.lines(6).await;
    quiet(&app).await;
}

#[tokio::test]
async fn the_upstreams_own_places_follow_the_policy_too() {
    let (app, simulator) = limited("concurrency: 1, ", "");
    let url = format!("http://{}", simulator.addr);
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(sent(app.addr, &by("a", CHAT, "ttft=1500ms; tokens=2", PLAIN)).await);
    }
    until_waiting(&app, 2).await;
    app.reload(&policy(&url, "concurrency: 2, ", "")).await;
    until_running(&app, 2).await;
    assert_eq!(depth(&app), 1);
    app.reload(&policy(&url, "", "")).await;
    until_running(&app, 3).await;
    for client in &mut clients {
        assert_eq!(client.answer().await.status, 200);
    }
    app.lines(3).await;
    quiet(&app).await;
}

#[tokio::test]
async fn a_budget_changed_under_running_streams_is_kept_to_the_end() {
    let spend = |amount| {
        format!("  - {{ name: day, per: all, limits: {{ spend: ${amount}/day hard }} }}\n")
    };
    let (app, simulator) = limited("", &spend(5));
    let url = format!("http://{}", simulator.addr);
    let bounded = r#"{"model":"m","max_tokens":400,"messages":[]}"#;
    let mut first = sent(app.addr, &by("a", CHAT, "ttft=2500ms; tokens=400", bounded)).await;
    until_running(&app, 1).await;
    app.reload(&policy(&url, "", &spend(1))).await;
    // four tenths of the new dollar are held by the one that runs
    let mut second = sent(app.addr, &by("a", CHAT, "ttft=2500ms; tokens=400", bounded)).await;
    until_running(&app, 2).await;
    let third = ask(app.addr, &by("a", CHAT, "", bounded)).await;
    assert_eq!(third.status, 429, "until one of them ends: {}", third.text());
    for client in [&mut first, &mut second] {
        assert_eq!(client.answer().await.status, 200);
    }
    quiet(&app).await;
    let spent = used(&app, "day", "spend", "");
    assert!((800_000_000..=1_000_000_000).contains(&spent), "{spent}");
    app.reload(&policy(&url, "", &spend(2))).await;
    assert_eq!(used(&app, "day", "spend", ""), spent);
    app.lines(3).await;
}

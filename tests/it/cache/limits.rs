//! Limits and shared answers: what is free waits for nothing but the limit of requests.
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::{
    Backend, OPENAI_CHAT, Script, ask, at_once, is_hit, policy, quiet, sent, until_inside, whole,
};
use crate::support::app::App;
use crate::support::until;

async fn backend(held: bool) -> Backend {
    let script = Script::recorded(&OPENAI_CHAT, true, "tokens=20; usage=always").await;
    Backend::held(script, Duration::ZERO, if held { 0 } else { usize::MAX }).await
}

fn under(backend: &Backend, limits: &str, workers: &str) -> App {
    let policies = format!("  - {{ name: once, per: all, {limits}, cache: {{ ttl: 1h }} }}\n");
    App::with(&policy(&backend.origin.url(), "", &policies), &["--workers", workers])
}

/// What is used of a limit, and held of it.
fn figures(app: &App, measure: &str) -> (u64, u64) {
    let state = app.state();
    let all = state["limits"].as_array().unwrap();
    let Some(limit) = all.iter().find(|limit| limit["measure"] == measure) else { return (0, 0) };
    (limit["used"].as_u64().unwrap(), limit["held"].as_u64().unwrap())
}

#[tokio::test]
async fn two_hundred_of_the_same_need_four_places_no_more_than_one() {
    for limits in [
        "limits: { concurrency: 4 }",
        "limits: { concurrency: 4 }, queue: { wait: 20s }",
        "limits: { spend: $2/day hard }",
        "limits: { tokens: 600/min hard, concurrency: 4 }",
    ] {
        for workers in ["1", "2"] {
            let backend = backend(true).await;
            let app = under(&backend, limits, workers);
            let lines = "x-nothing: 1\r\n";
            let body =
                OPENAI_CHAT.json("all at once?", true).replacen('{', r#"{"max_tokens":99,"#, 1);
            let call = super::by(crate::support::app::AGENT_KEY, super::CHAT, lines, &body);
            let to = app.addr;
            let asking = tokio::spawn(async move { at_once(to, &call, 200).await });
            until_inside(&app, 200).await;
            backend.release(usize::MAX);
            let answers = asking.await.unwrap();
            for answer in &answers {
                assert_eq!(answer.status, 200, "{limits}: {}", answer.text());
                assert_eq!(answer.body, answers[0].body);
            }
            assert_eq!(backend.calls(), 1, "{limits}");
            quiet(&app).await;
        }
    }
}

#[tokio::test]
async fn who_waits_in_line_for_a_place_is_let_go_when_the_answer_has_come() {
    let backend = backend(true).await;
    let app = under(&backend, "limits: { concurrency: 1 }, queue: { wait: 20s }", "1");
    // another question has the place
    let other = sent(app.addr, &OPENAI_CHAT.call("another?", true)).await;
    until("it is asked", async || backend.calls() == 1).await;
    let (to, call) = (app.addr, OPENAI_CHAT.call("in line?", true));
    let asking = tokio::spawn(async move { at_once(to, &call, 30).await });
    until_inside(&app, 31).await;
    backend.release(usize::MAX);
    for answer in asking.await.unwrap() {
        whole(&answer, &backend.script.body());
    }
    assert_eq!(backend.calls(), 2);
    drop(other);
    quiet(&app).await;
}

#[tokio::test]
async fn what_is_found_gives_all_back_but_the_request() {
    let backend = backend(false).await;
    let limits = "limits: { requests: 100/day calendar, tokens: 9M/day calendar, \
                  spend: $900/day hard, concurrency: 9 }";
    let app = under(&backend, limits, "1");
    let call = OPENAI_CHAT.call("again?", true);
    assert_eq!(ask(&app, &call).await.status, 200);
    quiet(&app).await;
    let after_one = ["tokens", "spend"].map(|measure| figures(&app, measure));
    assert!(after_one.iter().all(|(used, _)| *used > 0));
    // a hard limit bounds the call, but its answer had come to its end by itself
    let mut hits = 0;
    for _ in 0..5 {
        hits += usize::from(is_hit(&ask(&app, &call).await));
    }
    quiet(&app).await;
    assert_eq!(hits, 5);
    assert_eq!(["tokens", "spend"].map(|measure| figures(&app, measure)), after_one);
    assert_eq!(figures(&app, "requests"), (6, 0));
    assert_eq!(backend.calls(), 1);
}

#[tokio::test]
async fn a_full_limit_of_requests_refuses_hits_and_joins_as_well() {
    let backend = backend(true).await;
    let app = under(&backend, "limits: { requests: 3/day calendar }", "1");
    let call = OPENAI_CHAT.call("how often?", true);
    let mut first = sent(app.addr, &call).await;
    until("it is asked", async || backend.calls() == 1).await;
    let mut second = sent(app.addr, &call).await;
    until_inside(&app, 2).await;
    backend.release(usize::MAX);
    whole(&first.answer().await, &backend.script.body());
    whole(&second.answer().await, &backend.script.body());
    assert!(is_hit(&ask(&app, &call).await));
    let refused = ask(&app, &call).await;
    assert_eq!(refused.status, 429, "{}", refused.text());
    assert_eq!(refused.head.get("x-tidegate-source"), Some("policy"));
    assert_eq!(backend.calls(), 1);
    quiet(&app).await;
}

#[tokio::test]
async fn what_is_kept_is_given_though_the_budget_is_spent_and_all_places_are_taken() {
    for limits in ["limits: { spend: $0.2/day hard }", "limits: { concurrency: 1 }"] {
        let script = Script::recorded(&OPENAI_CHAT, false, "tokens=20").await;
        let backend = Backend::start(script, Duration::ZERO).await;
        let app = under(&backend, limits, "1");
        let body = |question: &str| {
            let body = OPENAI_CHAT.json(question, false);
            body.replacen('{', r#"{"max_tokens":90,"#, 1)
        };
        let call = |question: &str| {
            super::by(crate::support::app::AGENT_KEY, super::CHAT, "", &body(question))
        };
        whole(&ask(&app, &call("known?")).await, &backend.script.body());
        backend.release(0);
        let mut waiting = Vec::new();
        let refused = loop {
            let mut client = sent(app.addr, &call(&format!("new {}?", waiting.len()))).await;
            let calls = backend.calls();
            tokio::select! {
                answer = client.answer() => break answer,
                () = async { until("asked", async || backend.calls() > calls).await; } => {}
            }
            waiting.push(client);
        };
        assert!(refused.status == 402 || refused.status == 429, "{}", refused.text());
        assert!(is_hit(&ask(&app, &call("known?")).await), "{limits}");
        backend.release(usize::MAX);
        for mut client in waiting {
            assert_eq!(client.answer().await.status, 200);
        }
        quiet(&app).await;
    }
}

#[tokio::test]
async fn who_has_waited_in_vain_reads_along_with_who_was_let_go() {
    let backend = backend(true).await;
    let app = under(&backend, "limits: { concurrency: 1 }, queue: { wait: 600ms }", "1");
    let mut other = sent(app.addr, &OPENAI_CHAT.call("another?", true)).await;
    until("it is asked", async || backend.calls() == 1).await;
    let call = OPENAI_CHAT.call("in line?", true);
    let mut line = Vec::new();
    for n in 2..=5 {
        line.push(sent(app.addr, &call).await);
        until_inside(&app, n).await;
    }
    other.io.shutdown().await.unwrap();
    drop(other);
    until("one of them is let go", async || backend.calls() == 2).await;
    // its answer takes longer than the others may wait
    tokio::time::sleep(Duration::from_millis(800)).await;
    backend.release(usize::MAX);
    for client in &mut line {
        whole(&client.answer().await, &backend.script.body());
    }
    assert_eq!(backend.calls(), 2);
    quiet(&app).await;
}

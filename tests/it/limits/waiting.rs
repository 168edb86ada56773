//! Waiting instead of refusing: how long, who goes first, and what a place in line is worth.
use std::time::{Duration, Instant};

use super::{
    CHAT, MESSAGES, PLAIN, STREAM, at_once, by, depth, error, limited, number, quiet, sent,
    statuses, timing, until_running, until_waiting, used,
};
use crate::support::client::{ask, request};
use crate::support::until;

#[tokio::test]
async fn with_a_queue_all_five_go_one_after_the_other() {
    let (app, _simulator) = limited(
        "",
        "  - { name: slow, per: agent, limits: { requests: 5/s burst 1 }, queue: { wait: 8s } }\n",
    );
    let from = Instant::now();
    let answers = at_once(app.addr, (0..5).map(|_| by("a", CHAT, "tokens=2", PLAIN))).await;
    assert_eq!(statuses(&answers), [200; 5]);
    // four of them waited for their fifth of a second each
    assert!(from.elapsed() >= Duration::from_millis(790), "{:?}", from.elapsed());
    let mut waits: Vec<_> = answers.iter().map(|answer| timing(answer, "queue")).collect();
    waits.sort_by(f64::total_cmp);
    assert!(waits[0] < 100.0, "the first went at once: {waits:?}");
    for (n, wait) in waits.iter().enumerate() {
        assert!(*wait >= 200.0 * n as f64 - 25.0, "{waits:?}");
    }
    let lines = app.lines(5).await;
    let logged = lines.iter().filter(|line| line["queued_ms"].as_f64() > Some(150.0)).count();
    assert_eq!(logged, 4, "{lines:#?}");
    assert!(app.metric("tidegate_agent_wait_seconds_total", &["agent=\"a\""]) > 1.5);
    quiet(&app).await;
}

/// Predictions must not turn a wait into a refusal: what runs may end sooner than they say.
#[tokio::test]
async fn of_five_calls_at_once_one_goes_and_four_wait_where_they_may() {
    let (app, simulator) = limited(
        "",
        "  - { name: little, per: agent, limits: { tokens: 6000/min burst 100 }, \
         queue: { wait: 9s } }\n",
    );
    let calls = (0..5).map(|_| by("a", CHAT, "ttft=500ms; tokens=70", PLAIN));
    let going = tokio::spawn(at_once(app.addr, calls));
    until_waiting(&app, 4).await;
    let answers = going.await.unwrap();
    assert_eq!(statuses(&answers), [200; 5], "{answers:?}");
    assert_eq!(simulator.seen().requests, 5);
    quiet(&app).await;
    app.lines(5).await;
}

#[tokio::test]
async fn a_wait_that_is_over_is_408_and_names_the_limit() {
    let (app, simulator) = limited(
        "",
        "  - { name: one, per: agent, limits: { concurrency: 1 }, queue: { wait: 300ms } }\n",
    );
    let mut first = sent(app.addr, &by("a", CHAT, "ttft=2s; tokens=2", PLAIN)).await;
    until_running(&app, 1).await;
    for path in [CHAT, MESSAGES] {
        let from = Instant::now();
        let answer = ask(app.addr, &by("a", path, "", PLAIN)).await;
        let waited = from.elapsed();
        assert_eq!(answer.status, 408, "{}", answer.head.text);
        assert!(waited >= Duration::from_millis(300), "{waited:?}");
        assert!(waited < Duration::from_millis(1500), "{waited:?}");
        let (message, word) = error(path, &answer);
        assert!(message.contains("`one/concurrency`") && message.contains("\"a\""), "{message}");
        assert_eq!(word, if path == CHAT { "queue_timeout" } else { "timeout_error" });
        assert!(number(&answer, "retry-after") >= 1);
        assert_eq!(answer.head.get("x-should-retry"), None);
    }
    assert_eq!(ask(app.addr, &by("b", CHAT, "", PLAIN)).await.status, 200, "others have their own");
    assert_eq!(first.answer().await.status, 200);
    assert_eq!(simulator.seen().requests, 2);
    let lines = app.lines(4).await;
    let late: Vec<_> = lines.iter().filter(|line| line["error"] == "queue_timeout").collect();
    assert_eq!(late.len(), 2);
    for line in late {
        assert_eq!(line["limited_by"], "one/concurrency", "{line}");
        assert!(line["queued_ms"].as_f64() >= Some(300.0), "{line}");
    }
    quiet(&app).await;
}

#[tokio::test]
async fn without_a_queue_a_full_place_is_refused_and_others_are_not() {
    let (app, _simulator) =
        limited("", "  - { name: two, per: agent, limits: { concurrency: 2 } }\n");
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(sent(app.addr, &by("a", CHAT, "ttft=500ms", STREAM)).await);
    }
    until_running(&app, 2).await;
    assert_eq!(used(&app, "two", "concurrency", "a"), 2);
    let refused = ask(app.addr, &by("a", CHAT, "", PLAIN)).await;
    assert_eq!((refused.status, error(CHAT, &refused).1.as_str()), (429, "rate_limit_exceeded"));
    assert_eq!(number(&refused, "retry-after"), 1);
    assert_eq!(ask(app.addr, &by("b", CHAT, "", PLAIN)).await.status, 200);
    for client in &mut held {
        assert_eq!(client.answer().await.status, 200);
    }
    assert_eq!(ask(app.addr, &by("a", CHAT, "", PLAIN)).await.status, 200, "a place is free");
    app.lines(5).await;
    quiet(&app).await;
}

#[tokio::test]
async fn a_line_that_is_full_refuses_at_once_and_a_caller_that_leaves_makes_room() {
    let (app, simulator) = limited(
        "",
        "  - { name: line, per: all, limits: { concurrency: 1 }, queue: { wait: 9s, depth: 2 } }\n",
    );
    let mut first = sent(app.addr, &by("a", CHAT, "ttft=1500ms", PLAIN)).await;
    until_running(&app, 1).await;
    let leaving = sent(app.addr, &by("a", CHAT, "", PLAIN)).await;
    until_waiting(&app, 1).await;
    let mut staying = sent(app.addr, &by("a", CHAT, "", PLAIN)).await;
    until_waiting(&app, 2).await;
    let from = Instant::now();
    let full = ask(app.addr, &by("a", CHAT, "", PLAIN)).await;
    assert_eq!((full.status, error(CHAT, &full).1.as_str()), (429, "queue_full"));
    assert!(from.elapsed() < Duration::from_millis(900), "at once: {:?}", from.elapsed());
    assert!(number(&full, "retry-after") >= 1);
    assert!(error(CHAT, &full).0.contains("`line/concurrency`"));
    drop(leaving);
    let gone = until("the one that left is out of the line", async || depth(&app) == 1).await;
    assert!(gone < Duration::from_millis(500), "{gone:?}");
    let mut next = sent(app.addr, &by("a", CHAT, "", PLAIN)).await;
    until_waiting(&app, 2).await;
    for client in [&mut first, &mut staying, &mut next] {
        assert_eq!(client.answer().await.status, 200);
    }
    assert_eq!(simulator.seen().requests, 3, "the one that left never reached it");
    let lines = app.lines(5).await;
    assert_eq!(lines.iter().filter(|line| line["outcome"] == "client_gone").count(), 1);
    quiet(&app).await;
}

#[tokio::test]
async fn the_callers_own_patience_bounds_its_wait() {
    let (app, _simulator) = limited(
        "",
        "  - { name: one, per: all, limits: { concurrency: 1 }, queue: { wait: 20s } }\n\
         \x20 - { name: slow, per: agent, match: { agent: rate }, \
         limits: { requests: 1/min }, queue: { wait: 2m } }\n",
    );
    let mut first = sent(app.addr, &by("a", CHAT, "ttft=2500ms", PLAIN)).await;
    until_running(&app, 1).await;
    for header in ["x-stainless-timeout", "x-stainless-read-timeout", "x-request-timeout"] {
        let from = Instant::now();
        let lines = format!("{header}: 0.4\r\n");
        let answer = ask(app.addr, &request("POST", CHAT, &lines, PLAIN)).await;
        assert_eq!(answer.status, 408, "{header}");
        let waited = from.elapsed();
        assert!(waited >= Duration::from_millis(400), "{header}: {waited:?}");
        assert!(waited < Duration::from_millis(1500), "{header}: {waited:?}");
    }
    assert_eq!(first.answer().await.status, 200);
    // where the wait is known to be longer than the patience, nobody waits
    assert_eq!(ask(app.addr, &by("rate", CHAT, "", PLAIN)).await.status, 200);
    let from = Instant::now();
    let hasty = "x-agent-id: rate\r\nx-stainless-timeout: 5\r\n";
    let answer = ask(app.addr, &request("POST", CHAT, hasty, PLAIN)).await;
    assert_eq!(answer.status, 429);
    assert!((50..=60).contains(&number(&answer, "retry-after")), "{}", answer.head.text);
    assert!(from.elapsed() < Duration::from_secs(2));
    app.lines(6).await;
    quiet(&app).await;
}

/// Who was answered, in order, of calls that came in the order given and waited behind another.
async fn order(policies: &str, calls: &[(&str, &str)]) -> Vec<String> {
    let (app, _simulator) = limited("concurrency: 1, ", policies);
    let mut first = sent(app.addr, &by("first", CHAT, "ttft=700ms", PLAIN)).await;
    until_running(&app, 1).await;
    let mut clients = Vec::new();
    for (n, (agent, lines)) in calls.iter().enumerate() {
        let lines = format!("x-agent-id: {agent}\r\nx-simulate: ttft=10ms; tokens=4\r\n{lines}");
        clients.push(sent(app.addr, &request("POST", CHAT, &lines, PLAIN)).await);
        until_waiting(&app, n as u64 + 1).await;
    }
    assert_eq!(first.answer().await.status, 200);
    for client in &mut clients {
        assert_eq!(client.answer().await.status, 200);
    }
    let lines = app.lines(calls.len() + 1).await;
    quiet(&app).await;
    let served = lines[1..].iter().map(|line| line["agent"].as_str().unwrap().to_owned());
    served.collect()
}

#[tokio::test]
async fn who_is_waited_for_goes_before_what_nobody_waits_for() {
    let class = |class| format!("x-claude-code-request-class: {class}\r\n");
    let (main, sub, auxiliary) = (class("main"), class("subagent"), class("auxiliary"));
    let got = order(
        "",
        &[
            ("b1", &auxiliary),
            ("d1", &sub),
            ("b2", &auxiliary),
            ("d2", ""),
            ("i1", &main),
            ("i2", &main),
        ],
    )
    .await;
    assert_eq!(got, ["i1", "i2", "d1", "d2", "b1", "b2"]);
}

#[tokio::test]
async fn a_policys_priority_counts_more_than_the_calls_word() {
    let got = order(
        "  - { match: { agent: \"vip-*\" }, priority: interactive }\n\
         \x20 - { match: { agent: \"bulk-*\" }, priority: batch }\n",
        &[
            ("bulk-1", "x-claude-code-request-class: main\r\n"),
            ("usual", ""),
            ("vip-1", "x-claude-code-request-class: auxiliary\r\n"),
        ],
    )
    .await;
    assert_eq!(got, ["vip-1", "usual", "bulk-1"]);
}

#[tokio::test]
async fn an_agent_over_its_own_limit_holds_up_nobody() {
    let (app, _simulator) = limited(
        "concurrency: 4, ",
        "  - { name: own, per: agent, match: { agent: greedy }, limits: { requests: 1/s burst 1 }, \
         queue: { wait: 9s } }\n",
    );
    let greedy = (0..3).map(|_| by("greedy", CHAT, "tokens=2", PLAIN));
    let greedy = tokio::spawn(at_once(app.addr, greedy));
    until_waiting(&app, 2).await;
    let from = Instant::now();
    let others = (0..20).map(|n| by(&format!("light-{n}"), CHAT, "tokens=2", PLAIN));
    assert_eq!(statuses(&at_once(app.addr, others).await), [200; 20]);
    assert!(depth(&app) > 0 || from.elapsed() > Duration::from_secs(1), "none went before them");
    assert_eq!(statuses(&greedy.await.unwrap()), [200; 3]);
    app.lines(23).await;
    quiet(&app).await;
}

//! What limits, quotas and the cache mean for tasks.
use super::*;

/// The access lines of calls that a task made.
fn lines_of_tasks(app: &App) -> Vec<Value> {
    app.written().into_iter().filter(|line| line["class"] == "batch").collect()
}

#[tokio::test]
async fn a_full_bucket_is_waited_for_and_costs_no_attempt() {
    let origin = prompt().await;
    let limits = "policies:\n  - { name: few, per: all, limits: { requests: 20/min burst 1 } }\n";
    let rig = Rig::new(&origin.url(), "{ attempts: 1 }", limits);
    assert_eq!(rig.ask(&OPENAI_CHAT.call("first", false)).await.status, 200);
    let task = rig.submit(&OPENAI_CHAT, "second", false).await;
    let object = rig.over(&task).await;
    assert_eq!(
        (&object["state"], &object["attempts"]),
        (&"succeeded".into(), &1.into()),
        "{object}"
    );
    assert_eq!(origin.requests(), 2);
    rig.quiet().await;
}

#[tokio::test]
async fn a_queue_that_is_too_long_costs_no_attempt_either() {
    let origin = prompt().await;
    let limits = "policies:\n  - { name: few, per: all, queue: { wait: 10ms }, limits: { requests: 20/min burst 1 } }\n";
    let rig = Rig::new(&origin.url(), "{ attempts: 1 }", limits);
    assert_eq!(rig.ask(&OPENAI_CHAT.call("first", false)).await.status, 200);
    let task = rig.submit(&OPENAI_CHAT, "second", false).await;
    let object = rig.over(&task).await;
    assert_eq!(
        (&object["state"], &object["attempts"]),
        (&"succeeded".into(), &1.into()),
        "{object}"
    );
}

#[tokio::test]
async fn a_spent_budget_is_a_no() {
    let origin = prompt().await;
    let limits = "policies:\n  - { name: purse, per: all, limits: { spend: $0.2/day hard } }\n";
    let rig = Rig::new(&origin.url(), "{}", limits);
    let body = r#"{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"hi"}]}"#;
    let call = |lines: &str| by(AGENT_KEY, "/v1/chat/completions", lines, body);
    let mut paid = 0;
    let refused = loop {
        let got = rig.ask(&call("")).await;
        if got.status == 402 {
            break got;
        }
        assert_eq!(got.status, 200, "{}", got.text());
        paid += 1;
    };
    assert!((1..=40).contains(&paid), "{paid}");
    let task = accepted(&rig.ask(&call(ASYNC)).await);
    let object = rig.over(&task).await;
    assert_eq!((&object["state"], &object["status"]), (&"failed".into(), &402.into()), "{object}");
    let got = rig.result(&task).await;
    assert_eq!((got.status, got.text()), (402, refused.text()));
    assert_eq!(got.head.get("content-type"), refused.head.get("content-type"));
    assert_eq!(got.head.get("x-tidegate-source"), Some("policy"), "no backend has said it");
    assert_eq!((origin.requests(), &object["attempts"]), (paid, &1.into()));
    rig.quiet().await;
}

#[tokio::test]
async fn tasks_run_behind_everybody_else() {
    let origin = prompt().await;
    let rig = Rig::new(&origin.url(), "{}", COUNTED);
    let task = rig.submit(&OPENAI_CHAT, "what?", false).await;
    rig.over(&task).await;
    until("it is logged", async || !lines_of_tasks(&rig.app).is_empty()).await;
    let lines = lines_of_tasks(&rig.app);
    assert_eq!(lines.len(), 1, "{:?}", rig.app.written());
    assert_eq!(lines[0]["outcome"], "complete");
}

#[tokio::test]
async fn the_cache_answers_a_task() {
    let origin = prompt().await;
    let rig = Rig::new(&origin.url(), "{}", "policies:\n  - { name: once, cache: { ttl: 1h } }\n");
    let first = rig.ask(&OPENAI_CHAT.call("same?", false)).await;
    let task = rig.submit(&OPENAI_CHAT, "same?", false).await;
    assert_eq!(rig.over(&task).await["state"], "succeeded");
    assert_eq!(rig.result(&task).await.body, first.body);
    assert_eq!(origin.requests(), 1);
    // and what a task was told is kept for others
    let task = rig.submit(&OPENAI_CHAT, "another?", false).await;
    rig.over(&task).await;
    let plain = rig.ask(&OPENAI_CHAT.call("another?", false)).await;
    assert!(plain.head.get("cache-status").is_some_and(|how| how.contains("hit")));
    assert_eq!(origin.requests(), 2);
}

#[tokio::test]
async fn an_agent_has_no_more_tasks_than_it_may() {
    let backend = silent().await;
    let rig = Rig::new(
        &backend.origin.url(),
        "{ per_agent: { count: 2, bytes: 64KiB }, max_result: 64KiB }",
        COUNTED,
    );
    let first = rig.submit(&OPENAI_CHAT, "one", false).await;
    rig.submit(&OPENAI_CHAT, "two", false).await;
    let full = rig.ask(&OPENAI_CHAT.call_with("three", false, ASYNC)).await;
    assert_eq!((full.status, &full.json()["error"]["code"]), (429, &"too_many_tasks".into()));
    assert!(full.head.get("retry-after").is_some());
    assert_eq!(rig.ask(&OPENAI_CHAT.call_with("x", false, ASYNC)).await.status, 429);
    // others are not concerned, but by their own
    let others =
        |text: &str| by(OTHER, "/v1/chat/completions", ASYNC, &OPENAI_CHAT.json(text, false));
    accepted(&rig.ask(&others("one")).await);
    assert_eq!(rig.ask(&others(&"x".repeat(66_000))).await.status, 429);
    rig.post(&format!("{first}/cancel")).await;
    rig.over(&first).await;
    rig.submit(&OPENAI_CHAT, "three", false).await;
    backend.release(usize::MAX);
    until("all are made", async || {
        rig.get("/-/tasks?state=running").await.json()["data"] == Value::Array(vec![])
    })
    .await;
}

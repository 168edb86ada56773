//! Making the calls: attempts, pauses, ends, places, drains and restarts.
use super::*;
use crate::cache::OPENAI_RESPONSES;
use crate::support::client::Client;

const HOSTED: &str =
    r#"{"model":"m","stream":STREAM,"input":"hi","tools":[{"type":"web_search"}]}"#;

/// A call with a tool that its vendor uses.
fn hosted(stream: bool) -> Vec<u8> {
    let body = HOSTED.replace("STREAM", if stream { "true" } else { "false" });
    by(AGENT_KEY, "/v1/responses", ASYNC, &body)
}

#[tokio::test]
async fn what_fails_for_a_while_is_tried_again() {
    for no in [
        said("429 Too Many Requests", "retry-after-ms: 10\r\n", "{}"),
        said("500 Internal Server Error", "", "{}"),
        said("503 Service Unavailable", "retry-after: 1\r\n", "{}"),
        said("529 Overloaded", "", "{}"),
        Vec::new(),
    ] {
        let shown = String::from_utf8_lossy(&no[..no.len().min(30)]).into_owned();
        let yes = said("200 OK", "", &answer("at last"));
        let origin = Origin::by_turns([no.clone(), no, yes]).await;
        // tries of the pipeline's own would be quicker
        let rig = Rig::with(&origin.url(), "{}", "retry: off,", COUNTED);
        let task = rig.submit(&OPENAI_CHAT, "what?", false).await;
        let object = rig.over(&task).await;
        assert_eq!(object["state"], "succeeded", "{shown}: {object}");
        assert_eq!(object["attempts"], 3, "{shown}: {object}");
        assert_eq!(origin.requests(), 3, "{shown}");
        assert_eq!(rig.result(&task).await.text(), answer("at last"));
        rig.quiet().await;
    }
}

/// The policy counts tokens, so the backend is asked to say what a stream took; the caller is not.
/// It streams, and says at the end what that took.
async fn metered() -> Backend {
    let events = [
        r#"{"choices":[{"index":0,"delta":{"content":"hello"}}]}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#,
        "[DONE]",
    ];
    let script = Script::events(events.map(|event| format!("data: {event}\n\n")));
    Backend::start(script, Duration::ZERO).await
}

#[tokio::test]
async fn a_stream_tells_its_task_what_it_took() {
    let backend = metered().await;
    let rig = Rig::new(&backend.origin.url(), "{}", COUNTED);
    let task = rig.submit(&OPENAI_CHAT, "what?", true).await;
    let object = rig.over(&task).await;
    assert_eq!(object["usage"], serde_json::json!({ "input": 3, "output": 4 }), "{object}");
    assert_eq!(object["cost_microdollars"], 7000);
    let records = rig.app.records().await;
    assert_eq!(records.len(), 1, "the call of the task, and none of those that ask: {records:#?}");
    assert_eq!(
        (&records[0]["spend_nano"], &records[0]["task"]),
        (&7_000_000.into(), &object["id"])
    );
    let got = rig.result(&task).await;
    assert!(got.text().contains("hello") && !got.text().contains("usage"), "{}", got.text());
}

/// The route's own path is in front of what the endpoint is known by, and its name for the model
/// is not the backend's.
#[tokio::test]
async fn a_task_of_a_route_with_a_path_and_names_of_its_own() {
    let backend = metered().await;
    let state = tempfile::tempdir().unwrap();
    let policy = rules(state.path(), &backend.origin.url(), "{}", "", "");
    let route = "routes: [{ path: /later, to: up, models: { swift: m } }]";
    let policy = policy.replace("routes: [{ to: up }]", route);
    let rig = Rig { app: App::start(&policy), state };
    let lines = format!("content-type: application/json\r\n{ASYNC}");
    let body = r#"{"model":"swift","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    let call = request("POST", "/later/chat/completions", &lines, body);
    let object = rig.over(&accepted(&rig.ask(&call).await)).await;
    assert_eq!(object["usage"], serde_json::json!({ "input": 3, "output": 4 }), "{object}");
    assert_eq!(object["cost_microdollars"], 7000, "{object}");
    assert_ne!(object["progress"]["output_tokens"], 0, "{object}");
    let made = || rig.app.written().into_iter().find(|line| line["attempts"] == 1);
    until("the call is written down", async || made().is_some()).await;
    let line = made().unwrap();
    assert_eq!((&line["spend_dollars"], &line["priced"]), (&0.007.into(), &Value::Null), "{line}");
    // what is lasting of a response is ours to do there too
    let body = r#"{"model":"swift","background":true,"input":"hi"}"#;
    backend.origin.take();
    let call = request("POST", "/later/responses", "content-type: application/json\r\n", body);
    assert_eq!(rig.ask(&call).await.status, 200);
    until("it is asked", async || backend.calls() == 2).await;
    let sent: Value = serde_json::from_slice(&backend.origin.take()[0].body).unwrap();
    assert_eq!((&sent["background"], &sent["model"]), (&false.into(), &"m".into()));
    rig.quiet().await;
}

#[tokio::test]
async fn a_backend_says_how_long_to_wait() {
    let no = said("429 Too Many Requests", "retry-after: 3\r\n", "{}");
    let yes = said("200 OK", "", &answer("at last"));
    let origin = Origin::by_turns([no, yes]).await;
    let rig = Rig::new(&origin.url(), "{}", COUNTED);
    let from = Instant::now();
    let task = rig.submit(&OPENAI_CHAT, "what?", false).await;
    let object = rig.over(&task).await;
    assert_eq!(object["state"], "succeeded", "{object}");
    assert!(from.elapsed() >= Duration::from_millis(2900), "{:?}", from.elapsed());
}

#[tokio::test]
async fn attempts_come_to_an_end_and_the_last_no_is_kept() {
    let origin = Origin::saying(said(
        "500 Internal Server Error",
        "x-should-retry: false\r\n",
        r#"{"error":"boom"}"#,
    ))
    .await;
    let rig = Rig::new(&origin.url(), "{ attempts: 2 }", COUNTED);
    let task = rig.submit(&OPENAI_CHAT, "what?", false).await;
    let object = rig.over(&task).await;
    assert_eq!((&object["state"], &object["attempts"]), (&"failed".into(), &2.into()), "{object}");
    assert_eq!(object["status"], 500);
    let got = rig.result(&task).await;
    assert_eq!((got.status, got.text()), (500, r#"{"error":"boom"}"#));
    assert_eq!(got.head.get("x-tidegate-partial"), None, "it is all that was said");
    rig.quiet().await;
}

#[tokio::test]
async fn a_call_with_a_tool_of_its_vendors_is_not_made_twice() {
    let mut script = Script::recorded(&OPENAI_RESPONSES, true, "tokens=9").await;
    script.pieces.truncate(4);
    script.end = crate::cache::Ends::Reset;
    let backend = Backend::start(script, Duration::from_millis(30)).await;
    let rig = Rig::new(&backend.origin.url(), "{}", COUNTED);
    let task = accepted(&rig.ask(&hosted(true)).await);
    let object = rig.over(&task).await;
    assert_eq!(
        (&object["state"], &object["attempts"]),
        (&"interrupted".into(), &1.into()),
        "{object}"
    );
    let part = rig.result(&task).await;
    assert_eq!(part.head.get("x-tidegate-partial"), Some("true"), "{}", part.head.text);
    assert!(!part.body.is_empty());
    assert_eq!(backend.calls(), 1);
    // what says that it was not begun is asked again
    let no = said("429 Too Many Requests", "retry-after-ms: 10\r\n", "{}");
    let body = Script::recorded(&OPENAI_RESPONSES, false, "tokens=3").await.body();
    let yes = said("200 OK", "", std::str::from_utf8(&body).unwrap());
    let origin = Origin::by_turns([no, yes]).await;
    let rig = Rig::new(&origin.url(), "{}", COUNTED);
    let task = accepted(&rig.ask(&hosted(false)).await);
    assert_eq!(rig.over(&task).await["state"], "succeeded");
    // and what fails otherwise is not
    let origin = Origin::saying(said("500 Internal Server Error", "", "{}")).await;
    let rig = Rig::new(&origin.url(), "{}", COUNTED);
    let task = accepted(&rig.ask(&hosted(false)).await);
    assert_eq!(rig.over(&task).await["state"], "interrupted");
    assert_eq!(origin.requests(), 1);
}

#[tokio::test]
async fn an_answer_that_is_too_large_fails() {
    let big = answer(&"x".repeat(70_000));
    let origin = Origin::saying(said("200 OK", "", &big)).await;
    let rig = Rig::new(&origin.url(), "{ max_result: 64KiB }", COUNTED);
    let task = rig.submit(&OPENAI_CHAT, "what?", false).await;
    let object = rig.over(&task).await;
    assert_eq!(
        (&object["state"], &object["error"]["type"]),
        (&"failed".into(), &"result_too_large".into())
    );
    assert_eq!(origin.requests(), 1);
    rig.quiet().await;
}

#[tokio::test]
async fn what_is_not_done_in_time_is_expired() {
    let backend = Backend::held(counting(9), Duration::ZERO, 2).await;
    let rig = Rig::new(&backend.origin.url(), "{ workers: 1, max_age: 2s }", COUNTED);
    let running = rig.submit(&OPENAI_CHAT, "one", true).await;
    let queued = rig.submit(&OPENAI_CHAT, "two", false).await;
    for task in [&running, &queued] {
        let object = rig.over(task).await;
        assert_eq!(
            (&object["state"], &object["error"]["type"]),
            (&"expired".into(), &"expired".into())
        );
    }
    until("the backend is let go", async || backend.gone() == 1).await;
    let none = rig.result(&queued).await;
    assert_eq!((none.status, &none.json()["error"]["code"]), (504, &"task_expired".into()));
    assert_eq!(rig.result(&running).await.head.get("x-tidegate-partial"), Some("true"));
    rig.quiet().await;
    // one that only waits for a backend that never gets better
    let origin = Origin::saying(said("429 Too Many Requests", "retry-after: 9\r\n", "{}")).await;
    let rig = Rig::new(&origin.url(), "{ max_age: 2s }", COUNTED);
    let task = rig.submit(&OPENAI_CHAT, "three", false).await;
    assert_eq!(rig.over(&task).await["state"], "expired");
}

#[tokio::test]
async fn a_drain_lets_what_runs_finish_and_begins_nothing() {
    let backend = silent().await;
    let mut rig = Rig::keyed(&backend.origin.url(), "{ workers: 1 }", COUNTED);
    let running = rig.submit(&OPENAI_CHAT, "one", false).await;
    let queued = rig.submit(&OPENAI_CHAT, "two", false).await;
    until("one is made", async || backend.calls() == 1).await;
    rig.app.signal("TERM");
    let refuses = async || tokio::net::TcpStream::connect(rig.app.addr).await.is_err();
    until("nobody is let in", refuses).await;
    backend.release(usize::MAX);
    assert_eq!(rig.app.exited().await.code(), Some(0));
    assert_eq!(backend.calls(), 1);
    rig.app = App::start(&rules(
        rig.state.path(),
        &backend.origin.url(),
        "{ workers: 0 }".replace('0', "1").as_str(),
        "key: '${CANARY}',",
        COUNTED,
    ));
    let object = rig.object(&running).await;
    assert_eq!(
        (&object["state"], &object["attempts"]),
        (&"succeeded".into(), &1.into()),
        "{object}"
    );
    assert_eq!(rig.result(&running).await.text(), answer("late"));
    let object = rig.over(&queued).await;
    assert_eq!(
        (&object["state"], &object["attempts"]),
        (&"succeeded".into(), &1.into()),
        "{object}"
    );
    assert_eq!(backend.calls(), 2);
}

#[tokio::test]
async fn what_the_drain_did_not_wait_for_is_made_again() {
    let backend = silent().await;
    let mut rig = Rig::keyed(&backend.origin.url(), "{}", COUNTED);
    let short = |rules: String| rules.replace("timeout: 8s", "timeout: 300ms");
    let policy =
        short(rules(rig.state.path(), &backend.origin.url(), "{}", "key: '${CANARY}',", COUNTED));
    rig.app.reload(&policy).await;
    let plain = rig.submit(&OPENAI_CHAT, "one", false).await;
    let once = accepted(&rig.ask(&hosted(false)).await);
    until("both are made", async || backend.calls() == 2).await;
    rig.app.signal("TERM");
    rig.app.exited().await;
    backend.release(usize::MAX);
    rig.app = App::start(&policy);
    let object = rig.over(&plain).await;
    assert_eq!(
        (&object["state"], &object["attempts"]),
        (&"succeeded".into(), &2.into()),
        "{object}"
    );
    assert_eq!(rig.object(&once).await["state"], "interrupted");
    assert_eq!(backend.calls(), 3);
}

#[tokio::test]
async fn a_queue_outlives_a_kill() {
    let backend = silent().await;
    let mut rig = Rig::keyed(&backend.origin.url(), "{ workers: 2 }", COUNTED);
    let mut tasks = Vec::new();
    for n in 0..12 {
        tasks.push(rig.submit(&OPENAI_CHAT, &format!("{n}"), n % 2 == 0).await);
    }
    until("two are made", async || backend.calls() == 2).await;
    rig.app.kill();
    backend.release(usize::MAX);
    rig.app = App::start(&rules(
        rig.state.path(),
        &backend.origin.url(),
        "{ workers: 2 }",
        "key: '${CANARY}',",
        COUNTED,
    ));
    let mut again = 0;
    for task in &tasks {
        let object = rig.over(task).await;
        assert_eq!(object["state"], "succeeded", "{object}");
        again += object["attempts"].as_u64().unwrap() - 1;
        assert_eq!(rig.result(task).await.text(), answer("late"));
    }
    assert_eq!(again, 2, "those that were under way");
    assert_eq!(backend.calls(), 14);
    rig.quiet().await;
}

#[tokio::test]
async fn a_thousand_tasks_of_one_do_not_delay_anothers() {
    let script = Script::json("200 OK", &answer("slow"));
    let backend = Backend::start(script, Duration::from_millis(300)).await;
    let rig =
        Rig::new(&backend.origin.url(), "{ workers: 2, per_agent: { count: 2000 } }", COUNTED);
    let mut client = Client::connect(rig.app.addr).await;
    let mut last = String::new();
    for n in 0..1000 {
        client.send(&OPENAI_CHAT.call_with(&format!("{n}"), false, ASYNC)).await;
        last = accepted(&client.answer().await);
    }
    let call = by(OTHER, "/v1/chat/completions", ASYNC, &OPENAI_CHAT.json("mine", false));
    let others = accepted(&rig.ask(&call).await);
    let over = async || {
        let object = rig.ask(&stranger("GET", &others)).await.json();
        assert!(object["progress"]["position"].is_null() || object["progress"]["position"] == 0);
        terminal(&object)
    };
    until("the other's is over", over).await;
    let queued = rig.get("/-/tasks?state=queued&limit=100").await.json();
    assert_eq!(queued["has_more"], true, "it went before most of the others");
    assert!(rig.object(&last).await["progress"]["position"].as_u64() > Some(100));
    drop(client);
    let mut rig = rig;
    rig.app.unfinished = true;
}

#[tokio::test]
async fn no_more_run_at_once_than_there_are_places() {
    let backend = silent().await;
    let rig = Rig::new(&backend.origin.url(), "{ workers: 3 }", COUNTED);
    let mut tasks = Vec::new();
    for n in 0..8 {
        tasks.push(rig.submit(&OPENAI_CHAT, &format!("{n}"), false).await);
    }
    until("three are made", async || backend.calls() == 3).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(backend.calls(), 3);
    let mine = rules(rig.state.path(), &backend.origin.url(), "{ workers: 5 }", "", COUNTED);
    rig.app.reload(&mine).await;
    until("five are made", async || backend.calls() == 5).await;
    backend.release(usize::MAX);
    for task in &tasks {
        assert_eq!(rig.over(task).await["state"], "succeeded");
    }
    rig.quiet().await;
}

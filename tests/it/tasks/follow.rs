//! Following a task: its object, its answer, lists, and its end by wish or by age.
use super::*;
use crate::support::client::{Client, get};

fn knows(path: &str, etag: &str) -> Vec<u8> {
    get(path, &format!("if-none-match: {etag}\r\n"))
}

#[tokio::test]
async fn an_object_that_is_known_is_not_sent_again() {
    let backend = silent().await;
    let rig = Rig::new(&backend.origin.url(), "{}", COUNTED);
    let task = rig.submit(&OPENAI_CHAT, "what?", false).await;
    rig.until_state(&task, "running").await;
    let first = rig.get(&task).await;
    let etag = first.head.get("etag").unwrap().to_owned();
    let strong = etag.trim_start_matches("W/").to_owned();
    for known in [&etag, &strong, "*", &format!("\"x\", {etag}"), &format!("{strong},\"y\"")] {
        let same = rig.ask(&knows(&task, known)).await;
        assert_eq!((same.status, same.body.len()), (304, 0), "{known}");
        assert_eq!(same.head.get("etag"), Some(&*etag));
    }
    assert_eq!(rig.ask(&knows(&task, "\"x\"")).await.status, 200);
    // what it has is another already: nothing is waited for
    let from = Instant::now();
    assert_eq!(rig.ask(&knows(&format!("{task}?wait=9"), "\"x\"")).await.status, 200);
    assert!(from.elapsed() < Duration::from_secs(8));
    let same = rig.ask(&knows(&format!("{task}?wait=1"), &etag)).await;
    assert_eq!(same.status, 304, "it has not changed while it was waited for");
    // it wakes at the change, and at once
    let mut waiting = Client::connect(rig.app.addr).await;
    waiting.send(&knows(&format!("{task}?wait=60"), &etag)).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let from = Instant::now();
    backend.release(usize::MAX);
    let changed = waiting.answer().await;
    assert_eq!((changed.status, &changed.json()["state"]), (200, &"succeeded".into()));
    assert!(from.elapsed() < Duration::from_secs(5), "{:?}", from.elapsed());
    assert_ne!(changed.head.get("etag"), Some(&*etag));
    // one that is over is not waited for
    let from = Instant::now();
    assert_eq!(rig.get(&format!("{task}?wait=60")).await.status, 200);
    assert!(from.elapsed() < Duration::from_secs(8));
}

#[tokio::test]
async fn a_long_poll_ends_when_the_process_drains() {
    let backend = silent().await;
    let mut rig = Rig::keyed(&backend.origin.url(), "{}", COUNTED);
    let task = rig.submit(&OPENAI_CHAT, "what?", false).await;
    rig.until_state(&task, "running").await;
    let mut polls = Client::connect(rig.app.addr).await;
    polls.send(&get(&format!("{task}?wait=60"), "")).await;
    let mut submits = Client::connect(rig.app.addr).await;
    let wait = "prefer: respond-async, wait=60\r\n";
    submits.send(&OPENAI_CHAT.call_with("more?", false, wait)).await;
    until("both wait", async || backend.calls() == 2).await;
    rig.app.signal("TERM");
    assert_eq!(polls.answer().await.status, 200);
    assert_eq!(submits.answer().await.status, 202);
    backend.release(usize::MAX);
    assert_eq!(rig.app.exited().await.code(), Some(0));
}

#[tokio::test]
async fn the_answer_is_the_backends_own_or_not_there_yet() {
    let backend = silent().await;
    let rig = Rig::new(&backend.origin.url(), "{ workers: 1 }", COUNTED);
    let (first, second) = (
        rig.submit(&OPENAI_CHAT, "one", false).await,
        rig.submit(&OPENAI_CHAT, "two", false).await,
    );
    for task in [&first, &second] {
        let early = rig.result(task).await;
        assert_eq!((early.status, early.head.get("retry-after")), (202, Some("2")));
        assert_eq!(early.json()["id"], task[9..]);
    }
    assert_eq!(rig.object(&second).await["progress"]["position"], 0);
    backend.release(usize::MAX);
    for task in [&first, &second] {
        rig.over(task).await;
        let got = rig.result(task).await;
        crate::cache::whole(&got, &backend.script.body());
        assert_eq!(got.head.get("content-type"), Some("application/json"));
        assert_eq!(got.head.get("x-tidegate-task"), Some(&task[9..]));
        assert_eq!(rig.result(task).await.body, got.body);
    }
}

#[tokio::test]
async fn an_answer_is_kept_for_its_time() {
    let origin = prompt().await;
    let rig = Rig::new(&origin.url(), "{ keep: 1s }", COUNTED);
    let task = rig.submit(&OPENAI_CHAT, "what?", false).await;
    rig.over(&task).await;
    until("it is gone", async || rig.result(&task).await.status == 410).await;
    let gone = rig.result(&task).await;
    assert_eq!(gone.json()["error"]["code"], "task_gone");
    let object = rig.object(&task).await;
    assert_eq!(object["state"], "succeeded", "it is remembered");
    let events = rig.get(&format!("{task}/events")).await;
    assert_eq!((events.status, &events.json()["error"]["code"]), (410, &"task_gone".into()));
    assert!(events.text().contains(&task), "with a link to what became of it: {}", events.text());
    assert_eq!(rig.delete(&task).await.status, 204);
    assert_eq!(rig.get(&task).await.status, 404);
}

#[tokio::test]
async fn lists_have_pages_and_states() {
    let backend = silent().await;
    let rig = Rig::new(&backend.origin.url(), "{ workers: 1 }", COUNTED);
    let mut all = Vec::new();
    for n in 0..25 {
        all.push(rig.submit(&OPENAI_CHAT, &format!("{n}"), false).await[9..].to_owned());
    }
    let ids = |page: &Value| -> Vec<String> {
        let data = page["data"].as_array().unwrap();
        data.iter().map(|task| task["id"].as_str().unwrap().to_owned()).collect()
    };
    let page = rig.get("/-/tasks").await.json();
    assert_eq!((&page["object"], ids(&page).len()), (&"list".into(), 20));
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = rig.get(&format!("/-/tasks?limit=7{after}")).await.json();
        seen.extend(ids(&page));
        if page["has_more"] == false {
            break;
        }
        after = format!("&after={}", page["last_id"].as_str().unwrap());
    }
    assert_eq!(seen.len(), 25);
    let sorted = |mut ids: Vec<String>| {
        ids.sort();
        ids
    };
    assert_eq!(sorted(seen.clone()), sorted(all.clone()));
    let running = rig.get("/-/tasks?state=running").await.json();
    assert_eq!(ids(&running).len(), 1);
    assert_eq!(ids(&rig.get("/-/tasks?state=queued&limit=100").await.json()).len(), 24);
    let none = rig.get("/-/tasks?state=failed").await.json();
    assert_eq!(
        (ids(&none).len(), &none["has_more"], &none["last_id"]),
        (0, &false.into(), &Value::Null)
    );
    let others = rig.ask(&stranger("GET", "/-/tasks")).await.json();
    assert_eq!(ids(&others).len(), 0);
    for id in &all {
        rig.post(&format!("/-/tasks/{id}/cancel")).await;
    }
    let cancelled =
        async || ids(&rig.get("/-/tasks?state=cancelled&limit=100").await.json()).len() == 25;
    until("all are cancelled", cancelled).await;
    rig.quiet().await;
}

#[tokio::test]
async fn anothers_task_is_as_if_not_there() {
    let backend = silent().await;
    let rig = Rig::new(&backend.origin.url(), "{}", COUNTED);
    let task = rig.submit(&OPENAI_CHAT, "mine", false).await;
    rig.until_state(&task, "running").await;
    let unknown = format!("/-/tasks/task_{}", "0".repeat(26));
    for (method, verb) in
        [("GET", ""), ("DELETE", ""), ("GET", "/result"), ("GET", "/events"), ("POST", "/cancel")]
    {
        let mut told = Vec::new();
        for path in [&task, &unknown] {
            let got = rig.ask(&stranger(method, &format!("{path}{verb}"))).await;
            assert_eq!(got.status, 404, "{method} {path}{verb}");
            assert_eq!(got.head.get("x-tidegate-task"), None);
            let mut json = got.json();
            json["error"]["request_id"] = Value::Null;
            told.push(json.to_string());
        }
        assert_eq!(told[0], told[1], "it cannot be told from one that never was");
    }
    let list = rig.ask(&stranger("GET", &format!("/-/tasks?after={}", &task[9..]))).await;
    assert_eq!(list.status, 404);
    assert_eq!(rig.object(&task).await["state"], "running");
    backend.release(usize::MAX);
    rig.over(&task).await;
    assert_eq!(rig.ask(&stranger("GET", &format!("{task}/result"))).await.status, 404);
}

/// Beyond a thousand names all are called `other`.
#[tokio::test]
async fn callers_that_share_the_name_other_share_neither_tasks_nor_answers() {
    let origin = prompt().await;
    let cache = "policies:\n  - { name: once, cache: { ttl: 1h, scope: agent } }\n";
    let rig = Rig::new(&origin.url(), "{}", cache);
    let asks = async |agent: &str, path: &str| {
        rig.ask(&request("GET", path, &format!("x-agent-id: {agent}\r\n"), "")).await
    };
    for number in 0..1_000 {
        asks(&format!("invented-{number}"), "/-/tasks").await;
    }
    let mine = |lines: &str| {
        OPENAI_CHAT.call_with("mine?", false, &format!("x-agent-id: mine\r\n{lines}"))
    };
    let task = accepted(&rig.ask(&mine(ASYNC)).await);
    until("it is over", async || terminal(&asks("mine", &task).await.json())).await;
    let listed = asks("theirs", "/-/tasks").await.json();
    assert_eq!(listed["data"], Value::Array(vec![]));
    assert_eq!(asks("theirs", &task).await.status, 404);
    assert_eq!(asks("theirs", &format!("{task}/result")).await.status, 404);
    assert_eq!(asks("mine", &format!("{task}/result")).await.status, 200);
    // what the task was told is its caller's, and no other's
    rig.ask(&mine("")).await;
    assert_eq!(origin.requests(), 1);
    rig.ask(&OPENAI_CHAT.call_with("mine?", false, "x-agent-id: theirs\r\n")).await;
    assert_eq!(origin.requests(), 2);
}

#[tokio::test]
async fn methods_and_paths_that_are_not_known() {
    let origin = prompt().await;
    let rig = Rig::new(&origin.url(), "{}", COUNTED);
    let task = rig.submit(&OPENAI_CHAT, "what?", false).await;
    rig.over(&task).await;
    for (method, path, allow) in [
        ("PUT", task.clone(), "GET, DELETE"),
        ("POST", task.clone(), "GET, DELETE"),
        ("POST", "/-/tasks".to_owned(), "GET"),
        ("DELETE", "/-/tasks/".to_owned(), "GET"),
        ("POST", format!("{task}/result"), "GET"),
        ("DELETE", format!("{task}/events"), "GET"),
        ("GET", format!("{task}/cancel"), "POST"),
    ] {
        let got = rig.ask(&request(method, &path, "", "")).await;
        assert_eq!((got.status, got.head.get("allow")), (405, Some(allow)), "{method} {path}");
    }
    for path in ["/x", "/cancel/x", "/result/"] {
        assert_eq!(rig.get(&format!("{task}{path}")).await.status, 404, "{path}");
    }
    for id in ["x", "task_", "task_x", "task_00000000000000000000000000x"] {
        assert_eq!(rig.get(&format!("/-/tasks/{id}")).await.status, 404, "{id}");
    }
    assert_eq!(origin.requests(), 1, "none of it goes to a backend");
}

#[tokio::test]
async fn what_is_over_can_be_deleted_and_nothing_else() {
    let backend = silent().await;
    let rig = Rig::new(&backend.origin.url(), "{ workers: 1 }", COUNTED);
    let running = rig.submit(&OPENAI_CHAT, "one", false).await;
    let queued = rig.submit(&OPENAI_CHAT, "two", false).await;
    rig.until_state(&running, "running").await;
    for task in [&running, &queued] {
        let got = rig.delete(task).await;
        assert_eq!((got.status, &got.json()["error"]["code"]), (409, &"task_not_over".into()));
    }
    backend.release(usize::MAX);
    for task in [&running, &queued] {
        rig.over(task).await;
        let got = rig.delete(task).await;
        assert_eq!((got.status, got.body.len()), (204, 0));
        assert_eq!(rig.get(task).await.status, 404);
        assert_eq!(rig.delete(task).await.status, 404);
    }
    assert_eq!(rig.get("/-/tasks").await.json()["data"], Value::Array(vec![]));
}

/// From the request for it to the end of the backend's connection.
#[tokio::test]
async fn a_cancel_is_seen_at_the_backend_soon() {
    let backend = Backend::held(counting(9), Duration::ZERO, 3).await;
    let rig = Rig::new(&backend.origin.url(), "{}", COUNTED);
    let mut times = Vec::new();
    for round in 0..20 {
        let task = rig.submit(&OPENAI_CHAT, &format!("{round}"), round % 2 == 0).await;
        rig.until_state(&task, "running").await;
        until("the backend is asked", async || backend.origin.requests() == round + 1).await;
        let from = Instant::now();
        let cancel = async { rig.post(&format!("{task}/cancel")).await };
        let gone = async {
            while backend.gone() <= round {
                assert!(from.elapsed() < PATIENCE, "it is never let go");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            from.elapsed()
        };
        let (answer, time) = tokio::join!(cancel, gone);
        assert!(matches!(answer.status, 200 | 202), "{}", answer.text());
        times.push(time);
    }
    times.sort();
    println!("a cancel reaches the backend: half in {:?}, all in {:?}", times[9], times[19]);
    // 100 ms on a machine that has time for it
    assert!(times[9] < Duration::from_secs(1), "{times:?}");
}

#[tokio::test]
async fn a_cancel_lets_go_of_the_backend_in_every_state() {
    let no = said("503 Service Unavailable", "retry-after: 30\r\n", "{}");
    let refusing = Origin::saying(no).await;
    let rig = Rig::new(&refusing.url(), "{}", COUNTED);
    let task = rig.submit(&OPENAI_CHAT, "again", false).await;
    rig.until_state(&task, "retry_wait").await;
    let got = rig.post(&format!("{task}/cancel")).await;
    assert_eq!((got.status, &got.json()["state"]), (200, &"cancelled".into()));
    rig.quiet().await;
    for more in
        ["", "  - { name: resumes, resume: 30s }\n", "  - { name: once, cache: { ttl: 1h } }\n"]
    {
        let backend = Backend::held(counting(9), Duration::ZERO, 3).await;
        let rig = Rig::new(&backend.origin.url(), "{ workers: 1 }", &format!("{COUNTED}{more}"));
        let running = rig.submit(&OPENAI_CHAT, "one", true).await;
        let queued = rig.submit(&OPENAI_CHAT, "two", false).await;
        until("some has come", async || {
            rig.object(&running).await["progress"]["bytes"].as_u64() > Some(9)
        })
        .await;
        let got = rig.post(&format!("{queued}/cancel")).await;
        assert_eq!((got.status, &got.json()["state"]), (200, &"cancelled".into()));
        let from = Instant::now();
        let got = rig.post(&format!("{running}/cancel")).await;
        assert!(matches!(got.status, 200 | 202), "{}", got.text());
        until("the backend is let go", async || backend.gone() == 1).await;
        // 100 ms on a machine that has time for it
        assert!(from.elapsed() < Duration::from_secs(2), "{more}: {:?}", from.elapsed());
        assert_eq!(rig.over(&running).await["state"], "cancelled");
        let again = rig.post(&format!("{running}/cancel")).await;
        assert_eq!((again.status, &again.json()["state"]), (200, &"cancelled".into()));
        rig.quiet().await;
        // its place is free
        backend.release(usize::MAX);
        let next = rig.submit(&OPENAI_CHAT, "three", true).await;
        assert_eq!(rig.over(&next).await["state"], "succeeded");
        assert_eq!(rig.result(&queued).await.json()["error"]["code"], "task_cancelled");
        let part = rig.result(&running).await;
        assert_eq!(part.head.get("x-tidegate-partial"), Some("true"), "{}", part.head.text);
        assert!(backend.script.body().starts_with(&part.body) && !part.body.is_empty());
        let over = rig.post(&format!("{next}/cancel")).await;
        assert_eq!(
            (over.status, &over.json()["state"]),
            (200, &"succeeded".into()),
            "an end stays"
        );
    }
}

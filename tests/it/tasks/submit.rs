//! Taking calls on: what is answered, when, and to whom.
use super::*;
use crate::cache::{ANTHROPIC, FACES};

#[tokio::test]
async fn a_submission_is_answered_with_its_task_and_is_durable() {
    let backend = silent().await;
    let mut rig = Rig::keyed(&backend.origin.url(), "{}", COUNTED);
    let got = rig.ask(&OPENAI_CHAT.call_with("what?", false, ASYNC)).await;
    let (path, object) = (accepted(&got), got.json());
    let id = object["id"].as_str().unwrap().to_owned();
    let random = id.strip_prefix("task_").unwrap();
    assert!(random.len() == 26 && !random.contains(['i', 'l', 'o', 'u']), "{id}");
    assert_eq!(path, format!("/-/tasks/{id}"));
    let said = |name| got.head.get(name);
    assert_eq!(said("retry-after"), Some("2"));
    assert_eq!(said("preference-applied"), Some("respond-async"));
    assert_eq!(said("x-tidegate-task"), Some(&*id));
    assert_eq!(said("content-type"), Some("application/json"));
    assert_eq!(said("cache-control"), Some("no-store"));
    assert!(said("etag").is_some() && said("x-tidegate-request-id").is_some(), "{}", got.head.text);
    let mut keys: Vec<_> = object.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    let expected = [
        "attempts",
        "cost_microdollars",
        "created_at",
        "error",
        "expires_at",
        "finished_at",
        "id",
        "links",
        "model",
        "object",
        "operation",
        "progress",
        "route",
        "started_at",
        "state",
        "status",
        "stream",
        "usage",
    ];
    assert_eq!(keys, expected);
    for (key, value) in [
        ("object", Value::from("task")),
        ("model", "m".into()),
        ("route", "*".into()),
        ("stream", false.into()),
        ("error", Value::Null),
        ("usage", Value::Null),
        ("status", Value::Null),
        ("finished_at", Value::Null),
    ] {
        assert_eq!(object[key], value, "{key}: {object}");
    }
    let links = &object["links"];
    assert_eq!(links["self"], *path);
    for verb in ["result", "events", "cancel"] {
        assert_eq!(links[verb], format!("{path}/{verb}"));
    }
    // who was told of it finds it, whatever happens
    rig.app.kill();
    let rules = rules(rig.state.path(), &backend.origin.url(), "{}", "key: '${CANARY}',", COUNTED);
    rig.app = App::start(&rules);
    let again = rig.object(&path).await;
    assert!(!terminal(&again), "{again}");
    assert_eq!(again["created_at"], object["created_at"]);
    backend.release(usize::MAX);
    assert_eq!(rig.over(&path).await["state"], "succeeded");
}

#[tokio::test]
async fn who_waits_gets_the_answer_itself_if_it_comes_in_time() {
    let backend = silent().await;
    let rig = Rig::new(&backend.origin.url(), "{}", COUNTED);
    let wait = "prefer: handling=lenient, respond-async; x=1, wait=1\r\nprefer: moon=full\r\n";
    let from = Instant::now();
    let late = rig.ask(&OPENAI_CHAT.call_with("late?", false, wait)).await;
    let path = accepted(&late);
    assert!(from.elapsed() >= Duration::from_secs(1), "{:?}", from.elapsed());
    assert_eq!(late.head.get("preference-applied"), Some("respond-async, wait=1"));
    backend.release(usize::MAX);
    assert_eq!(rig.over(&path).await["state"], "succeeded");
    let wait = "prefer: respond-async, wait=9\r\n";
    let got = rig.ask(&OPENAI_CHAT.call_with("soon?", false, wait)).await;
    crate::cache::whole(&got, &backend.script.body());
    assert_eq!(got.head.get("preference-applied"), Some("wait=9"));
    assert_eq!(got.head.get("content-type"), Some("application/json"));
    let id = got.head.get("x-tidegate-task").unwrap();
    let object = rig.object(&format!("/-/tasks/{id}")).await;
    assert_eq!((&object["state"], &object["status"]), (&"succeeded".into(), &200.into()));
    for request in backend.origin.take() {
        assert_eq!(request.get("prefer"), None, "it is between the two of us");
    }
    // one that does not come is not said to have been waited for
    let stream = rig.ask(&OPENAI_CHAT.call_with("stream?", true, wait)).await;
    accepted(&stream);
    assert_eq!(stream.head.get("preference-applied"), Some("respond-async"));
}

#[tokio::test]
async fn a_backends_no_is_the_answer_too() {
    let body = r#"{"error":{"message":"no such thing","type":"invalid_request_error"}}"#;
    let origin = Origin::saying(said("400 Bad Request", "x-request-id: r1\r\n", body)).await;
    let rig = Rig::new(&origin.url(), "{}", COUNTED);
    let got =
        rig.ask(&OPENAI_CHAT.call_with("bad?", false, "prefer: respond-async, wait=9\r\n")).await;
    assert_eq!((got.status, got.text()), (400, body));
    assert_eq!(origin.requests(), 1, "nothing is gained by asking again");
}

#[tokio::test]
async fn routes_say_whether_calls_are_tasks() {
    let origin = prompt().await;
    let state = tempfile::tempdir().unwrap();
    let policy = format!(
        "state: '{}'\nupstreams: {{ up: '{}' }}\nroutes:\n  - {{ path: /always, to: up, async: always \
         }}\n  - {{ path: /never, to: up, async: never }}\n  - {{ path: /, to: up }}\n",
        state.path().display(),
        origin.url()
    );
    let rig = Rig { app: App::start(&policy), state };
    let call = |prefix: &str, lines: &str| {
        let body = OPENAI_CHAT.json("what?", false);
        by(AGENT_KEY, &format!("{prefix}/v1/chat/completions"), lines, &body)
    };
    for (prefix, lines, status, applied) in [
        ("/always", "", 202, None),
        ("/always", ASYNC, 202, Some("respond-async")),
        ("/always", "prefer: wait=9\r\n", 200, Some("wait=9")),
        ("/never", ASYNC, 200, None),
        ("", "", 200, None),
        ("", "prefer: wait=9\r\n", 200, None),
        ("", ASYNC, 202, Some("respond-async")),
    ] {
        let got = rig.ask(&call(prefix, lines)).await;
        assert_eq!(got.status, status, "{prefix} {lines}: {}", got.text());
        assert_eq!(got.head.get("preference-applied"), applied, "{prefix} {lines}");
        if status == 202 {
            let task = accepted(&got);
            assert_eq!(rig.over(&task).await["state"], "succeeded");
        }
    }
    // what is no call of a model is none
    let models = rig.ask(&request("GET", "/always/v1/models", ASYNC, "")).await;
    assert_eq!(models.status, 200);
}

#[tokio::test]
async fn every_dialect_can_be_answered_later() {
    for face in FACES {
        for stream in [false, true] {
            let script = Script::recorded(&face, stream, "tokens=6").await;
            let backend = Backend::start(script, Duration::ZERO).await;
            let rig = Rig::new(&backend.origin.url(), "{}", COUNTED);
            let task = rig.submit(&face, "what?", stream).await;
            let object = rig.over(&task).await;
            assert_eq!(object["state"], "succeeded", "{face:?}: {object}");
            assert_eq!(object["stream"], stream);
            // a backend that is not asked for it says nothing of it in a stream
            if object["usage"].is_null() {
                assert!(stream && object["cost_microdollars"].is_null(), "{object}");
            } else {
                let tokens = |of: &str| object["usage"][of].as_u64().unwrap();
                assert_eq!(tokens("output"), 6, "{object}");
                let cost = (tokens("input") + tokens("output")) * 1000;
                assert_eq!(object["cost_microdollars"], cost, "{object}");
            }
            let got = rig.result(&task).await;
            crate::cache::whole(&got, &backend.script.body());
            assert_eq!(got.head.get("x-request-id"), Some("req_of_upstream"));
            let asked = backend.origin.take();
            assert_eq!(asked.len(), 1);
            assert_eq!(asked[0].target, face.target(stream));
            let mut sent: Value = serde_json::from_slice(&asked[0].body).unwrap();
            // it is asked to tell what it took
            sent.as_object_mut().unwrap().remove("stream_options");
            let said: Value = serde_json::from_str(&face.json("what?", stream)).unwrap();
            assert_eq!(sent, said);
            rig.quiet().await;
        }
    }
    let body = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5]}],"model":"m","usage":{"prompt_tokens":2,"total_tokens":2}}"#;
    let origin = Origin::saying(said("200 OK", "", body)).await;
    let rig = Rig::new(&origin.url(), "{}", COUNTED);
    let call = by(AGENT_KEY, "/v1/embeddings", ASYNC, r#"{"model":"m","input":"hi"}"#);
    let task = accepted(&rig.ask(&call).await);
    assert_eq!(rig.over(&task).await["state"], "succeeded");
    assert_eq!(rig.result(&task).await.text(), body);
}

#[tokio::test]
async fn what_is_refused_is_refused_in_the_callers_dialect() {
    let origin = prompt().await;
    let rig = Rig::new(&origin.url(), "{}", COUNTED);
    for (face, at, word) in
        [(OPENAI_CHAT, "/error/code", "idempotency_mismatch"), (ANTHROPIC, "/error/message", "")]
    {
        let lines = format!("{ASYNC}idempotency-key: {word}1\r\n");
        let first = rig.ask(&face.call_with("one?", false, &lines)).await;
        accepted(&first);
        let other = rig.ask(&face.call_with("two?", false, &lines)).await;
        assert_eq!(other.status, 422, "{}", other.text());
        let said = other.json();
        assert!(said.pointer(at).unwrap().as_str().unwrap().contains(word), "{said}");
        if word.is_empty() {
            assert_eq!(said["type"], "error", "{said}");
        }
        for key in ["", "1\r\nidempotency-key: 1", &"k".repeat(513)] {
            let lines = format!("{ASYNC}idempotency-key: {key}\r\n");
            let got = rig.ask(&face.call_with("one?", false, &lines)).await;
            assert_eq!(got.status, 400, "{}", got.text());
        }
        let nobody = format!("{ASYNC}x-tidegate-webhook: nobody\r\n");
        assert_eq!(rig.ask(&face.call_with("one?", false, &nobody)).await.status, 400);
    }
}

#[tokio::test]
async fn without_a_directory_there_are_no_tasks() {
    let origin = prompt().await;
    for (state, more) in [(false, ""), (true, "tasks: off\n")] {
        let directory = tempfile::tempdir().unwrap();
        let at = format!("state: '{}'\n", directory.path().display());
        let policy = format!(
            "{}{more}upstreams: {{ up: '{}' }}\nroutes: [{{ to: up }}]\n",
            if state { &at } else { "" },
            origin.url()
        );
        let app = App::start(&policy);
        for (face, at) in [(OPENAI_CHAT, "/error/code"), (ANTHROPIC, "/error/message")] {
            let got = ask(app.addr, &face.call_with("one?", false, ASYNC)).await;
            assert_eq!(got.status, 501, "{}", got.text());
            assert!(got.json().pointer(at).is_some_and(Value::is_string), "{}", got.text());
        }
        assert_eq!(ask(app.addr, &request("GET", "/-/tasks", "", "")).await.status, 501);
        assert_eq!(ask(app.addr, &OPENAI_CHAT.call("one?", false)).await.status, 200);
        // the backend may know of a background mode
        origin.take();
        let body = r#"{"model":"m","input":"hi","background":true}"#;
        assert_eq!(ask(app.addr, &request("POST", "/v1/responses", "", body)).await.status, 200);
        assert_eq!(origin.take()[0].body, body.as_bytes());
        app.lines(5).await;
    }
}

#[tokio::test]
async fn one_key_makes_one_task() {
    let backend = silent().await;
    let rig = Rig::new(&backend.origin.url(), "{}", COUNTED);
    let lines = format!("{ASYNC}idempotency-key: k-1\r\n");
    let call = OPENAI_CHAT.call_with("once?", false, &lines);
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (to, call) = (rig.app.addr, call.clone());
        all.spawn(async move { accepted(&ask(to, &call).await) });
    }
    let mut tasks = all.join_all().await;
    tasks.sort();
    tasks.dedup();
    assert_eq!(tasks.len(), 1);
    // a key is an agent's own
    let others = by(OTHER, "/v1/chat/completions", &lines, &OPENAI_CHAT.json("twice?", false));
    let other = accepted(&rig.ask(&others).await);
    assert_ne!(other, tasks[0]);
    backend.release(usize::MAX);
    rig.over(&tasks[0]).await;
    let mismatch = OPENAI_CHAT.call_with("other?", false, &lines);
    assert_eq!(rig.ask(&mismatch).await.status, 422);
    // over, and still the same
    let again = rig.ask(&call).await;
    assert_eq!((again.status, again.head.get("location")), (200, Some(&*tasks[0])));
    let waits = format!("{lines}prefer: wait=5\r\n");
    let whole = rig.ask(&OPENAI_CHAT.call_with("once?", false, &waits)).await;
    assert_eq!((whole.status, whole.text()), (200, &*answer("late")));
    until("the other's is made", async || backend.calls() == 2).await;
    rig.quiet().await;
    assert_eq!(backend.calls(), 2);
}

#[tokio::test]
async fn a_key_of_a_call_that_is_no_task_is_the_backends() {
    let origin = prompt().await;
    let rig = Rig::new(&origin.url(), "{}", COUNTED);
    rig.ask(&OPENAI_CHAT.call_with("plain?", false, "idempotency-key: k\r\n")).await;
    assert_eq!(origin.take()[0].get("idempotency-key"), Some("k"));
}

/// What is of the caller's connection is not of the call that is made later: neither the lines that
/// belong there by their names, nor those that it names itself.
#[tokio::test]
async fn what_belongs_to_the_callers_connection_stays_there() {
    let origin = prompt().await;
    let rig = Rig::new(&origin.url(), "{}", COUNTED);
    let lines = "prefer: respond-async\r\nconnection: keep-alive, x-mine\r\nx-mine: 1\r\n\
                 proxy-connection: keep-alive\r\nkeep-alive: timeout=5\r\nte: trailers\r\nx-stays: 1\r\n";
    let task = accepted(&rig.ask(&OPENAI_CHAT.call_with("hop?", false, lines)).await);
    let object = rig.over(&task).await;
    assert_eq!(object["state"], "succeeded", "{object}");
    let asked = origin.take();
    for gone in ["x-mine", "proxy-connection", "keep-alive", "te"] {
        assert_eq!(asked[0].get(gone), None, "{gone}");
    }
    assert_eq!(asked[0].get("x-stays"), Some("1"));
}

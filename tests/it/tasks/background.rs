//! OpenAI's background mode, for backends that have none.
use super::*;
use crate::cache::OPENAI_RESPONSES;
use crate::support::client::{Client, get};

const RESPONSES: &str = "/v1/responses";

fn body(stream: bool) -> String {
    format!(r#"{{"model":"m","background":true,"stream":{stream},"input":"hi"}}"#)
}

fn call(stream: bool) -> Vec<u8> {
    by(AGENT_KEY, RESPONSES, "", &body(stream))
}

async fn recorded(stream: bool) -> Script {
    Script::recorded(&OPENAI_RESPONSES, stream, "tokens=6").await
}

/// The data of all events, as JSON.
fn data(text: &str) -> Vec<Value> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
    lines.map(|data| serde_json::from_str(data).unwrap()).collect()
}

async fn created(rig: &Rig) -> (String, Value) {
    let got = rig.ask(&call(false)).await;
    assert_eq!(got.status, 200, "{}", got.text());
    let object = got.json();
    let id = object["id"].as_str().unwrap().to_owned();
    assert!(id.starts_with("resp_"), "{id}");
    (format!("{RESPONSES}/{id}"), object)
}

#[tokio::test]
async fn a_response_is_made_and_polled() {
    let script = recorded(false).await;
    let theirs: Value = serde_json::from_slice(&script.body()).unwrap();
    let backend = Backend::held(script, Duration::ZERO, 0).await;
    let rig = Rig::new(&backend.origin.url(), "{}", COUNTED);
    let (path, object) = created(&rig).await;
    let id = object["id"].clone();
    assert_eq!(object["object"], "response");
    assert_eq!((&object["status"], &object["background"]), (&"queued".into(), &true.into()));
    assert_eq!((&object["output"], &object["error"]), (&Value::Array(vec![]), &Value::Null));
    until("it is made", async || rig.get(&path).await.json()["status"] == "in_progress").await;
    let stream = rig.get(&format!("{path}?stream=true")).await;
    assert_eq!(stream.status, 400, "it was not created so");
    assert_eq!(rig.get(&path).await.json()["id"], id);
    backend.release(usize::MAX);
    until("it is over", async || rig.get(&path).await.json()["status"] == "completed").await;
    let mut whole = rig.get(&path).await.json();
    assert_eq!(
        (&whole["id"], whole["background"].as_bool()),
        (&id, theirs["background"].as_bool().map(|_| true))
    );
    // but for its name it is the backend's
    whole["id"] = theirs["id"].clone();
    whole["background"] = theirs["background"].clone();
    assert_eq!(whole, theirs);
    let asked = backend.origin.take();
    assert_eq!(asked.len(), 1, "polls are ours");
    let sent: Value = serde_json::from_slice(&asked[0].body).unwrap();
    assert_eq!(sent["background"], false);
    assert_eq!(sent["input"], "hi");
    // the backend's own name is known too, and another agent knows neither
    let alias = format!("{RESPONSES}/{}", theirs["id"].as_str().unwrap());
    assert_eq!(rig.get(&alias).await.json()["id"], theirs["id"]);
    assert_eq!(backend.calls(), 0);
    for name in [&path, &alias] {
        rig.ask(&stranger("GET", name)).await;
    }
    assert_eq!(backend.calls(), 2, "others are the backend's to answer");
    backend.origin.take();
    // over, and then deleted
    let cancel = rig.post(&format!("{path}/cancel")).await;
    assert_eq!((cancel.status, &cancel.json()["status"]), (200, &"completed".into()));
    let gone = rig.delete(&path).await;
    assert_eq!((gone.status, &gone.json()["deleted"]), (200, &true.into()));
    assert_eq!(gone.json()["id"], id);
    assert_eq!(backend.calls(), 0);
    rig.quiet().await;
}

#[tokio::test]
async fn a_stream_is_taken_up_at_every_event() {
    let script = recorded(true).await;
    let text = String::from_utf8(script.body()).unwrap();
    let events = data(&text);
    let backend = Backend::held(script, Duration::ZERO, 3).await;
    let rig = Rig::new(&backend.origin.url(), "{}", COUNTED);
    let mut first = Client::connect(rig.app.addr).await;
    first.send(&call(true)).await;
    let head = first.head().await.unwrap();
    assert_eq!(head.status, 200);
    assert_eq!(head.get("content-type"), Some("text/event-stream"));
    let task = format!("/-/tasks/{}", head.get("x-tidegate-task").unwrap());
    let begun = data(std::str::from_utf8(&first.chunk().await.unwrap()).unwrap());
    let id = begun[0]["response"]["id"].as_str().unwrap().to_owned();
    let path = format!("{RESPONSES}/{id}");
    first.reset();
    let polled = rig.get(&path).await.json();
    assert_eq!((&polled["status"], &polled["id"]), (&"in_progress".into(), &Value::from(&*id)));
    let mut live = Client::connect(rig.app.addr).await;
    live.send(&get(&format!("{path}?stream=true&starting_after=1"), "")).await;
    let head = live.head().await.unwrap();
    backend.release(usize::MAX);
    let rest = live.rest(head, false).await;
    assert_eq!(data(rest.text()), events[2..]);
    let all = rig.get(&format!("{path}?stream=true")).await;
    assert_eq!(data(all.text()), events);
    for had in 0..events.len() {
        let rest = rig.get(&format!("{path}?stream=true&starting_after={had}")).await;
        assert_eq!(data(rest.text()), events[had + 1..], "{had}");
    }
    for beyond in [events.len() as u64, u64::MAX - 1, u64::MAX] {
        let none = rig.get(&format!("{path}?stream=true&starting_after={beyond}")).await;
        assert_eq!((none.status, none.text()), (200, ""), "{beyond}");
    }
    let whole = rig.get(&path).await.json();
    assert_eq!((&whole["status"], &whole["id"]), (&"completed".into(), &Value::from(&*id)));
    assert_eq!(whole["output"], events.last().unwrap()["response"]["output"]);
    assert_eq!(rig.over(&task).await["state"], "succeeded");
    assert_eq!(backend.calls(), 1);
    assert_eq!(rig.get(&format!("{path}?stream=true&starting_after=x")).await.status, 400);
    rig.quiet().await;
}

#[tokio::test]
async fn a_response_is_cancelled() {
    for stream in [false, true] {
        let backend =
            Backend::held(recorded(stream).await, Duration::ZERO, if stream { 5 } else { 0 }).await;
        let rig = Rig::new(&backend.origin.url(), "{}", COUNTED);
        let (path, mut live) = if stream {
            let mut live = Client::connect(rig.app.addr).await;
            live.send(&call(true)).await;
            let head = live.head().await.unwrap();
            let id = head.get("x-tidegate-task").unwrap().replace("task_", "resp_");
            until("some has come", async || backend.calls() == 1).await;
            live.chunk().await.unwrap();
            (format!("{RESPONSES}/{id}"), Some((live, head)))
        } else {
            let (path, _) = created(&rig).await;
            until("it is made", async || backend.calls() == 1).await;
            (path, None)
        };
        let got = rig.post(&format!("{path}/cancel")).await;
        assert_eq!(got.status, 200);
        until("the backend is let go", async || backend.gone() == 1).await;
        until("it is cancelled", async || rig.get(&path).await.json()["status"] == "cancelled")
            .await;
        if let Some((mut live, head)) = live.take() {
            let rest = live.rest(head, false).await;
            let last = data(rest.text()).pop().unwrap();
            assert_eq!((&last["type"], &last["code"]), (&"error".into(), &"cancelled".into()));
        }
        assert_eq!(rig.post(&format!("{path}/cancel")).await.json()["status"], "cancelled");
        let put = rig.ask(&request("PUT", &path, "", "")).await;
        assert_eq!((put.status, put.head.get("allow")), (405, Some("GET, DELETE")));
        rig.quiet().await;
    }
}

#[tokio::test]
async fn one_that_runs_is_deleted_too() {
    let backend = Backend::held(recorded(false).await, Duration::ZERO, 0).await;
    let rig = Rig::new(&backend.origin.url(), "{}", COUNTED);
    let (path, _) = created(&rig).await;
    until("it is made", async || backend.calls() == 1).await;
    let gone = rig.delete(&path).await;
    assert_eq!((gone.status, &gone.json()["deleted"]), (200, &true.into()), "{}", gone.text());
    until("the backend is let go", async || backend.gone() == 1).await;
    backend.release(usize::MAX);
    let asked = backend.calls();
    rig.get(&path).await;
    assert_eq!(backend.calls(), asked + 1, "it is nothing of ours any more");
    rig.quiet().await;
}

#[tokio::test]
async fn failures_are_said_as_a_response_says_them() {
    let no = r#"{"error":{"message":"the model is a teapot","type":"invalid_request_error"}}"#;
    let origin = Origin::saying(said("400 Bad Request", "", no)).await;
    let rig = Rig::new(&origin.url(), "{}", COUNTED);
    let (path, _) = created(&rig).await;
    until("it is over", async || rig.get(&path).await.json()["status"] == "failed").await;
    let got = rig.get(&path).await;
    assert_eq!(got.status, 200, "the response is there, and it has failed");
    let object = got.json();
    assert_eq!(object["error"]["message"], "the model is a teapot", "{object}");
    let live = rig.ask(&call(true)).await;
    let last = data(live.text()).pop().unwrap();
    assert_eq!(last["type"], "error", "{last}");
}

#[tokio::test]
async fn what_is_not_kept_any_more_is_not_said_to_be_empty() {
    let backend = Backend::start(recorded(false).await, Duration::ZERO).await;
    let rig = Rig::new(&backend.origin.url(), "{ keep: 1s }", COUNTED);
    let (path, _) = created(&rig).await;
    until("it is made", async || backend.calls() == 1).await;
    let gone = async || {
        let got = rig.get(&path).await;
        if got.status == 200 && got.json()["status"] == "completed" {
            assert!(!got.json()["output"].as_array().unwrap().is_empty(), "{}", got.text());
        }
        got.status == 410
    };
    until("it is gone", gone).await;
}

#[tokio::test]
async fn a_backend_that_can_do_it_is_let_do_it() {
    let theirs = r#"{"id":"resp_theirs","object":"response","status":"queued","background":true}"#;
    let origin = Origin::saying(said("200 OK", "", theirs)).await;
    for (upstream, route) in [("background: on,", ""), ("", ", async: never")] {
        let state = tempfile::tempdir().unwrap();
        let policy = rules(state.path(), &origin.url(), "{}", upstream, COUNTED);
        let policy = policy.replace("{ to: up }", &format!("{{ to: up{route} }}"));
        let rig = Rig { app: App::start(&policy), state };
        let got = rig.ask(&call(false)).await;
        assert_eq!(got.text(), theirs);
        assert_eq!(got.head.get("x-tidegate-task"), None);
        let polled = rig.get("/v1/responses/resp_theirs").await;
        assert_eq!(polled.text(), theirs);
        let cancelled = rig.post("/v1/responses/resp_theirs/cancel").await;
        assert_eq!(cancelled.text(), theirs);
        let asked = origin.take();
        assert_eq!(asked[0].body, body(false).as_bytes());
        let targets: Vec<_> = asked.iter().map(|request| &*request.target).collect();
        assert_eq!(
            targets,
            ["/v1/responses", "/v1/responses/resp_theirs", "/v1/responses/resp_theirs/cancel"]
        );
        assert_eq!(rig.get("/-/tasks").await.json()["data"], Value::Array(vec![]));
    }
}

/// A vendor is known by its host: a name says nothing of who answers there.
#[tokio::test]
async fn a_backend_by_a_vendors_name_is_not_taken_for_it() {
    for name in ["openai", "azure"] {
        let backend = Backend::start(recorded(false).await, Duration::ZERO).await;
        let state = tempfile::tempdir().unwrap();
        let policy =
            rules(state.path(), &format!("{}/v1", backend.origin.url()), "{}", "", COUNTED)
                .replace("{ up: {", &format!("{{ {name}: {{"))
                .replace("to: up", &format!("to: {name}"));
        let rig = Rig { app: App::start(&policy), state };
        let (path, _) = created(&rig).await;
        until("it is over", async || rig.get(&path).await.json()["status"] == "completed").await;
        let sent: Value = serde_json::from_slice(&backend.origin.take()[0].body).unwrap();
        assert_eq!(sent["background"], false, "{name}");
    }
}

#[tokio::test]
async fn one_that_is_lost_on_the_way_is_not_mixed_with_the_next() {
    let script = recorded(true).await;
    let texts: Vec<_> =
        script.pieces.iter().map(|piece| std::str::from_utf8(piece).unwrap()).collect();
    let whole = crate::support::origin::stream(texts.iter().copied());
    let half = crate::support::origin::stream(texts[..5].iter().copied());
    let turn = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let origin = Origin::start(move |mut conn| {
        let (whole, half, turn) = (whole.clone(), half.clone(), std::sync::Arc::clone(&turn));
        async move {
            while conn.request().await.is_some() {
                if turn.fetch_add(1, std::sync::atomic::Ordering::SeqCst) > 0 {
                    conn.send(&whole).await;
                    continue;
                }
                conn.send(&half[..half.len() - 5]).await;
                tokio::time::sleep(Duration::from_millis(300)).await;
                return conn.reset();
            }
        }
    })
    .await;
    let rig = Rig::new(&origin.url(), "{}", COUNTED);
    let live = rig.ask(&call(true)).await;
    let events = data(live.text());
    let last = events.last().unwrap();
    assert_eq!((&last["type"], &last["code"]), (&"error".into(), &"restarted".into()), "{last}");
    let numbers: Vec<_> =
        events.iter().filter_map(|event| event["sequence_number"].as_u64()).collect();
    assert!(numbers.windows(2).all(|two| two[0] < two[1]), "{numbers:?}");
    let task = format!("/-/tasks/{}", live.head.get("x-tidegate-task").unwrap());
    assert_eq!(rig.over(&task).await["state"], "succeeded");
    let path = format!("{RESPONSES}/{}", task[9..].replace("task_", "resp_"));
    let again = rig.get(&format!("{path}?stream=true")).await;
    let anew = data(again.text());
    assert_eq!(anew.last().unwrap()["type"], "response.completed");
    // whoever comes back with a number may have it of the first attempt
    for had in [0, 1, numbers.len() as u64 - 1, 99] {
        let rest = rig.get(&format!("{path}?stream=true&starting_after={had}")).await;
        let rest = data(rest.text());
        assert_eq!(rest.len(), 1, "{had}: {rest:?}");
        assert_eq!((&rest[0]["type"], &rest[0]["code"]), (&"error".into(), &"restarted".into()));
        assert!(rest[0]["sequence_number"].as_u64() > Some(had), "{rest:?}");
    }
    assert_eq!(data(rig.get(&format!("{path}?stream=true")).await.text()), anew);
}

/// Asked for no coding, a backend may code all the same: then the answer is given as it came.
#[tokio::test]
async fn an_answer_that_cannot_be_read_is_not_said_to_be_empty() {
    let coded = "\u{1f}gzip, for all we know";
    let origin = Origin::saying(said("200 OK", "content-encoding: gzip\r\n", coded)).await;
    let rig = Rig::new(&origin.url(), "{}", COUNTED);
    let (path, object) = created(&rig).await;
    rig.over(&format!("/-/tasks/{}", object["id"].as_str().unwrap().replace("resp_", "task_")))
        .await;
    let got = rig.get(&path).await;
    assert_eq!((got.status, got.text()), (200, coded));
    assert_eq!(got.head.get("content-encoding"), Some("gzip"));
}

/// What our own paths know is not known on OpenAI's.
#[tokio::test]
async fn parameters_of_other_paths_are_passed_over() {
    let backend = Backend::start(recorded(true).await, Duration::ZERO).await;
    let rig = Rig::new(&backend.origin.url(), "{}", COUNTED);
    let live = rig.ask(&call(true)).await;
    let task = live.head.get("x-tidegate-task").unwrap();
    let path = format!("{RESPONSES}/{}", task.replace("task_", "resp_"));
    let odd = rig.get(&format!("{path}?include%5B%5D=x&limit=0&after=y&state=z&wait=never")).await;
    assert_eq!((odd.status, &odd.json()["status"]), (200, &"completed".into()), "{}", odd.text());
    let rest = rig.get(&format!("{path}?stream=true&starting_after=2&limit=0")).await;
    assert_eq!(data(rest.text()), data(live.text())[3..]);
    for value in ["", "yes", "TRUE", "1"] {
        let got = rig.get(&format!("{path}?stream={value}")).await;
        let message = got.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(got.status == 400 && message.contains("`stream`"), "{value}: {message}");
    }
}

/// A backend that does not stream though it was asked to: that is said, and the answer is there.
#[tokio::test]
async fn a_stream_that_is_none_is_not_said_to_be_empty() {
    let whole = r#"{"id":"resp_theirs","object":"response","status":"completed","output":[1]}"#;
    let origin = Origin::saying(said("200 OK", "", whole)).await;
    let rig = Rig::new(&origin.url(), "{}", COUNTED);
    let live = rig.ask(&call(true)).await;
    let events = data(live.text());
    assert_eq!((events.len(), &events[0]["code"]), (1, &"no_stream".into()), "{events:?}");
    let path = live.head.get("x-tidegate-task").unwrap().replace("task_", "resp_");
    let got = rig.get(&format!("{RESPONSES}/{path}")).await.json();
    assert_eq!(got["id"], path);
    assert_eq!((&got["output"][0], &got["status"]), (&1.into(), &"completed".into()), "{got}");
}

#[tokio::test]
async fn the_backends_id_is_known_however_it_comes() {
    let script = recorded(true).await;
    let pieces: Vec<_> =
        script.pieces.iter().map(|piece| String::from_utf8(piece.clone()).unwrap()).collect();
    let theirs = data(&pieces[0])[0]["response"]["id"].as_str().unwrap().to_owned();
    let origin = Origin::start(move |mut conn| {
        let (first, rest) = pieces.split_first().map(|(f, r)| (f.clone(), r.concat())).unwrap();
        async move {
            let Some(_) = conn.request().await else { return };
            let whole = crate::support::origin::stream([&*first, &rest]);
            let inside = whole.windows(5).position(|bytes| bytes == b"resp_").unwrap() + 7;
            for part in [&whole[..inside], &whole[inside..]] {
                conn.send(part).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    })
    .await;
    let rig = Rig::new(&origin.url(), "{}", COUNTED);
    let live = rig.ask(&call(true)).await;
    let task = format!("/-/tasks/{}", live.head.get("x-tidegate-task").unwrap());
    assert_eq!(rig.over(&task).await["state"], "succeeded");
    let known = rig.get(&format!("{RESPONSES}/{theirs}")).await;
    assert_eq!((known.status, &known.json()["id"]), (200, &Value::from(&*theirs)));
    assert_eq!(origin.requests(), 1, "it is answered here");
}

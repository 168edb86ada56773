//! Wrong answers: nothing of them is kept, and none is put together with what is.
use serde_json::{Value, json};

use super::{CACHED, EMBEDDINGS, Mood, Served, backend, list, served};
use crate::support::app::App;
use crate::support::client::{Client, ask, request};
use crate::support::origin::{Origin, whole};
use crate::support::until;

const PART: &str = r#"["new","old"]"#;

/// With `old` kept.
async fn knowing() -> Served {
    let served = served(CACHED).await;
    served.gets(&list(r#"["old","older"]"#), &[json!(["old", "older"])]).await;
    served
}

fn says(status: &str, body: &str) -> Mood {
    Mood::Says(whole(status, "content-type: application/json\r\nx-own: 1\r\n", body))
}

#[tokio::test]
async fn an_error_that_is_not_about_inputs_is_the_answer() {
    let served = knowing().await;
    for status in ["429 Too Many Requests", "500 Internal Server Error", "401 Unauthorized"] {
        let error = r#"{"error":{"message":"no","type":"t","param":null,"code":"c"}}"#;
        served.moods([says(status, error)]);
        let answer = served.ask(&list(PART)).await;
        assert_eq!(answer.status.to_string(), status[..3]);
        assert_eq!((answer.text(), answer.head.get("x-own")), (error, Some("1")));
        assert_eq!(served.inputs(), [json!(["new"])], "{status}: asked once");
    }
    // nothing of that is kept, and nothing is lost
    served.gets(&list(PART), &[json!(["new"])]).await;
}

#[tokio::test]
async fn an_error_about_inputs_is_asked_for_again_with_all_of_them() {
    let served = knowing().await;
    let about = |index: u8| format!(r#"{{"error":{{"message":"input[{index}] is too long"}}}}"#);
    served.moods([says("400 Bad Request", &about(0)), says("400 Bad Request", &about(1))]);
    let answer = served.ask(&list(r#"["old","new"]"#)).await;
    assert_eq!((answer.status, answer.text()), (400, &*about(1)), "as the client counts");
    assert_eq!(served.inputs(), [json!(["new"]), json!(["old", "new"])]);
    served.gets(&list(r#"["old","older"]"#), &[]).await;
}

#[tokio::test]
async fn what_does_not_fit_is_asked_for_again_with_all_of_it() {
    let edits: [fn(&mut Value); 8] = [
        |answer| answer["data"] = json!([]),
        |answer| answer["data"][0]["index"] = json!(1),
        |answer| answer["data"][0]["embedding"] = json!([0.5, 0.5]),
        |answer| answer["data"][0]["embedding"] = json!([0.5, null, 0.5]),
        |answer| answer["data"][0]["embedding"] = json!("AAAA"),
        |answer| answer["model"] = json!("m-2"),
        |answer| {
            let more = answer["data"][0].clone();
            answer["data"].as_array_mut().unwrap().push(more);
        },
        |answer| *answer = json!({"error": {"message": "overloaded"}}),
    ];
    for (number, edit) in edits.into_iter().enumerate() {
        let served = knowing().await;
        served.moods([Mood::Edits(edit)]);
        let both = [json!(["new"]), json!(["new", "old"])];
        served.gets(&list(PART), &both).await;
        // the second answer is kept
        served.gets(&list(PART), &[]).await;
        let line = served.app.lines(3).await.remove(1);
        let counted = line["input_tokens"].as_u64().unwrap();
        // the error has counted nothing
        let spent = if number == 7 { 6 + 6 } else { 6 + 6 + 6 };
        assert_eq!(counted, spent, "{number}: both calls are counted: {line}");
    }
}

#[tokio::test]
async fn what_is_no_json_or_breaks_off_is_not_put_together() {
    let served = knowing().await;
    served.moods([says("200 OK", "<html>busy</html>")]);
    served.gets(&list(PART), &[json!(["new"]), json!(["new", "old"])]).await;
    let served = knowing().await;
    let cut = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{\"data\":[";
    served.moods([Mood::Cuts(cut)]);
    served.backend.take();
    let answer = served.ask(&list(PART)).await;
    assert_eq!((answer.status, served.inputs()), (502, vec![json!(["new"])]), "{answer:?}");
    served.gets(&list(PART), &[json!(["new"])]).await;
}

#[tokio::test]
async fn a_client_that_leaves_takes_the_call_with_it() {
    let served = knowing().await;
    // an answer that begins, and does not go on
    let begun =
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{";
    served.moods([Mood::Says(begun.to_vec())]);
    let mut client = Client::connect(served.app.addr).await;
    let head = "content-type: application/json\r\n";
    client.send(&request("POST", EMBEDDINGS, head, &list(PART))).await;
    until("the backend is asked", async || served.backend.requests() == 1).await;
    drop(client);
    until("its connection is closed", async || served.backend.open() == 0).await;
    let line = served.app.lines(2).await.remove(1);
    assert_eq!(line["outcome"], "client_gone", "{line}");
    served.backend.take();
    served.gets(&list(PART), &[json!(["new"])]).await;
}

#[tokio::test]
async fn an_answer_to_all_of_it_passes_as_it_is() {
    for body in [
        r#"{"data":[{"object":"embedding","index":0,"embedding":[1]}],"model":"m"}"#,
        r#"{"data":[{"object":"embedding","index":0,"embedding":[1]},{"object":"embedding","index":0,"embedding":[1]}],"model":"m"}"#,
        r#"{"unknown":true}"#,
        "not json",
        "",
    ] {
        let served = served(CACHED).await;
        let both = list(r#"["a","b"]"#);
        served.moods([says("200 OK", body)]);
        let answer = served.ask(&both).await;
        assert_eq!((answer.status, answer.text()), (200, body));
        served.asked();
        served.gets(&both, &[json!(["a", "b"])]).await;
    }
}

#[tokio::test]
async fn a_model_that_changes_behind_its_name_is_not_mixed() {
    let served = knowing().await;
    // from now on another model answers to the name
    let newer: fn(&mut Value) = |answer| answer["model"] = json!("m-2");
    served.moods([Mood::Edits(newer), Mood::Edits(newer)]);
    let answer = served.ask(&list(PART)).await;
    assert_eq!(answer.json()["model"], "m-2");
    assert_eq!(served.inputs(), [json!(["new"]), json!(["new", "old"])]);
    // these two are of one model now; `older` is not
    let answer = served.ask(&list(r#"["old","new"]"#)).await;
    assert_eq!((answer.json()["model"].as_str(), served.asked().len()), (Some("m-2"), 0));
    served.moods([Mood::Edits(newer)]);
    let answer = served.ask(&list(r#"["old","older"]"#)).await;
    assert_eq!(answer.json()["model"], "m-2");
    assert_eq!(served.inputs(), [json!(["old", "older"])]);
}

/// The part was answered by the fallback, and is of no use: what is asked for again goes with leave
/// and with the key of wherever it goes.
#[tokio::test]
async fn what_a_fallback_answered_wrongly_is_asked_for_again_with_leave() {
    let (a, moods) = backend().await;
    let (b, others) = backend().await;
    let up = |name: &str, origin: &Origin, key: &str| {
        let url = origin.url();
        format!(
            "{name}: {{ pacing: off, dialect: openai, concurrency: 1, keys: [{key}.key.1, {key}.key.2], url: '{url}' }}"
        )
    };
    let mut app = App::start(&format!(
        "upstreams: {{ {}, {} }}\nroutes: [{{ to: a, fallback: [b] }}]\npolicies:\n{CACHED}\
         \x20 - {{ name: calls, limits: {{ requests: 100/day calendar }} }}\n\
         \x20 - {{ name: tokens, limits: {{ tokens: 1M/day calendar }} }}\n",
        up("a", &a, "first"),
        up("b", &b, "second")
    ));
    app.secrets.extend(["first.key", "second.key"].map(str::to_owned));
    let ask = async |body: &str| {
        let head = "content-type: application/json\r\n";
        ask(app.addr, &request("POST", EMBEDDINGS, head, body)).await
    };
    assert_eq!(ask(&list(r#"["old","older"]"#)).await.status, 200);
    moods.lock().push(says("503 Service Unavailable", "{}"));
    others.lock().push(says("200 OK", r#"{"data":[]}"#));
    let got = ask(&list(PART)).await;
    assert_eq!((got.status, got.json()["data"].as_array().map(Vec::len)), (200, Some(2)));
    for (origin, key) in [(&a, "first.key"), (&b, "second.key")] {
        for request in origin.take() {
            assert!(request.get("authorization").unwrap().contains(key), "{request:?}");
        }
    }
    app.quiet().await;
    let state = app.state();
    let used = |policy: &str| {
        let mut all = state["limits"].as_array().unwrap().iter();
        all.find(|limit| limit["policy"] == policy).unwrap()["used"].clone()
    };
    // old, older; new, old
    assert_eq!((used("calls"), used("tokens")), (2.into(), (6 + 8 + 6 + 6).into()));
}

//! The right answers: what is sent, in every form of request, and what is counted.
use serde_json::json;

use tidegate::simulate::{Options, start};

use super::{CACHED, EMBEDDINGS, list, served};
use crate::support::app::App;
use crate::support::client::{Answer, ask, request};
use crate::support::until;

#[tokio::test]
async fn a_batch_sends_only_what_is_missing() {
    let served =
        served(&format!("{CACHED}  - {{ name: day, limits: {{ tokens: 10M/day calendar }} }}\n"))
            .await;
    let first = served.gets(&list(r#"["a","bb"]"#), &[json!(["a", "bb"])]).await;
    assert_eq!(first.head.get("cache-status"), Some("tidegate; fwd=miss"));
    let hit = served.gets(&list(r#""a""#), &[]).await;
    assert_eq!(hit.head.get("x-tidegate-source"), Some("cache"));
    assert!(hit.head.get("cache-status").unwrap().starts_with("tidegate; hit;"), "{hit:?}");
    assert!(hit.head.get("age").is_some());
    assert_eq!(hit.head.get("content-type"), Some("application/json"));
    // a new one, an old one, the new one again, another old one
    let part = served.gets(&list(r#"["c","a","c","bb"]"#), &[json!(["c"])]).await;
    assert_eq!(part.head.get("cache-status"), Some("tidegate; fwd=partial"));
    assert_eq!(part.head.get("x-tidegate-source"), Some("upstream"));
    served.gets(&list(r#"["bb","c","a"]"#), &[]).await;
    // the client reads what the whole costs; the log and the limits count what was sent
    let lines = served.app.lines(4).await;
    let counted: Vec<_> = lines.iter().map(|line| line["input_tokens"].as_u64()).collect();
    assert_eq!(counted[0], Some(4 + 5), "{lines:?}");
    assert_eq!(counted[2], Some(4), "{lines:?}");
    let used = || {
        let state = served.app.state();
        let limits = state["limits"].as_array().unwrap().clone();
        let day = limits.into_iter().find(|limit| limit["measure"] == "tokens").unwrap();
        day["used"].as_i64().unwrap()
    };
    until("the limit has heard", async || used() == 13).await;
}

#[tokio::test]
async fn a_batch_with_one_input_twice_asks_for_it_once() {
    let served = served(CACHED).await;
    served.gets(&list(r#"["a","a","b","a"]"#), &[json!(["a", "b"])]).await;
    served.gets(&list(r#"["b","b"]"#), &[]).await;
}

#[tokio::test]
async fn encodings_dimensions_models_and_tokens_are_kept_apart() {
    let served = served(CACHED).await;
    let bodies = [
        r#"{"model":"m","input":["x"]}"#,
        r#"{"model":"m","input":["x"],"encoding_format":"float"}"#,
        r#"{"model":"m","input":["x"],"encoding_format":"base64"}"#,
        r#"{"model":"m","input":["x"],"dimensions":2}"#,
        r#"{"model":"n","input":["x"]}"#,
        r#"{"model":"m","input":["[1,2]"]}"#,
        r#"{"model":"m","input":[[1,2]]}"#,
        r#"{"model":"m","input":[[12]]}"#,
    ];
    for body in bodies {
        let input = serde_json::from_str::<serde_json::Value>(body).unwrap()["input"].take();
        served.gets(body, &[input]).await;
    }
    for body in bodies {
        served.gets(body, &[]).await;
    }
    let tokens = r#"{"model":"m","input":[[3],[1,2],[4,5]]}"#;
    served.gets(tokens, &[json!([[3], [4, 5]])]).await;
    // one input that is an array, in another order, with space, and a label
    served.gets("{ \"input\" : [ 1,\n2 ], \"user\":\"u\", \"model\":\"m\" }", &[]).await;
    let encoded = r#"{"input":["new","x"],"model":"m","encoding_format":"base64"}"#;
    served.gets(encoded, &[json!(["new"])]).await;
}

#[tokio::test]
async fn gemini_and_ollama_have_their_forms() {
    let served = served(CACHED).await;
    let content = |text: &str| format!(r#"{{"content":{{"parts":[{{"text":"{text}"}}]}}}}"#);
    let parts = |text: &str| json!({"parts": [{"text": text}]});
    let single = "/v1beta/models/m:embedContent";
    served.gets_at(single, &content("a"), &[parts("a")]).await;
    served.gets_at(single, &content("a"), &[]).await;
    served.gets_at(single, &content("b"), &[parts("b")]).await;
    let batch = "/v1beta/models/m:batchEmbedContents";
    let requests = |texts: &[&str]| {
        let all: Vec<_> = texts.iter().map(|text| content(text)).collect();
        format!(r#"{{"requests":[{}]}}"#, all.join(","))
    };
    let sent = |texts: &[&str]| {
        texts.iter().map(|text| json!({"content": parts(text)})).collect::<serde_json::Value>()
    };
    served.gets_at(batch, &requests(&["a", "b"]), &[sent(&["a", "b"])]).await;
    served.gets_at(batch, &requests(&["c", "b", "d", "a"]), &[sent(&["c", "d"])]).await;
    served.gets_at(batch, &requests(&["d", "a"]), &[]).await;
    // another model's are others
    let other = "/v1beta/models/n:batchEmbedContents";
    served.gets_at(other, &requests(&["a"]), &[sent(&["a"])]).await;
    let ollama = "/api/embed";
    served.gets_at(ollama, &list(r#"["a","b"]"#), &[json!(["a", "b"])]).await;
    served.gets_at(ollama, &list(r#"["c","b"]"#), &[json!(["c"])]).await;
    served.gets_at(ollama, &list(r#""c""#), &[]).await;
    let older = "/api/embeddings";
    served.gets_at(older, r#"{"model":"m","prompt":"c"}"#, &[json!("c")]).await;
    served.gets_at(older, r#"{"model":"m","prompt":"c"}"#, &[]).await;
}

#[tokio::test]
async fn what_memory_does_not_hold_is_on_disk_and_after_a_restart_too() {
    let dir = tempfile::tempdir().unwrap();
    let more = format!("state: {{ dir: '{}' }}\n", dir.path().display());
    // room for a few of them
    let policy = "  - { name: keep, cache: { ttl: 1h, memory: 64KiB, max_entry: 64KiB } }\n";
    let (backend, moods) = super::backend().await;
    let app = super::in_front_of(&backend, &more, policy);
    let mut served = super::Served { app, backend, moods };
    let texts: Vec<_> = (0..60).map(|number| format!("text {number}")).collect();
    let long = |inputs: &str| list(inputs).replacen('{', r#"{"dimensions":300,"#, 1);
    let body = long(&json!(texts).to_string());
    served.gets(&body, &[json!(texts)]).await;
    let hit = served.gets(&body, &[]).await;
    assert!(hit.head.get("cache-status").unwrap().contains("detail=disk"), "{hit:?}");
    served.app.end().await;
    served.app = super::in_front_of(&served.backend, &more, policy);
    // what is on disk is found once it has been looked through
    let one = long(r#""text 7""#);
    until("it is found on disk", async || {
        served.ask(&one).await.head.get("x-tidegate-source") == Some("cache")
    })
    .await;
    served.asked();
    served.gets(&body.replacen(r#""text 3""#, r#""another""#, 1), &[json!(["another"])]).await;
}

/// The simulator's own bytes, in every API: from the cache they are what it says itself.
#[tokio::test]
async fn vectors_are_the_backends_own_bytes() {
    let options = Options { listen: ([127, 0, 0, 1], 0).into(), ..Options::default() };
    let simulator = start(options).unwrap();
    let url = format!("http://{}", simulator.addr);
    let app = App::start(&format!(
        "upstreams: {{ up: {{ url: '{url}' }} }}\nroutes: [{{ to: up }}]\npolicies:\n{CACHED}"
    ));
    let vectors = |answer: &Answer| {
        let text = answer.text();
        let numbers = text.split("\"embedding").skip(1).collect::<Vec<_>>().join("");
        numbers.split(",\"usage").next().unwrap().split(",\"total_d").next().unwrap().to_owned()
    };
    let gemini = |text: &str| format!(r#"{{"content":{{"parts":[{{"text":"{text}"}}]}}}}"#);
    let batch = "/v1beta/models/m:batchEmbedContents";
    let encoded = r#"{"model":"m","encoding_format":"base64","input":["a","b"]}"#.to_owned();
    let requests =
        |texts: [&str; 3]| format!(r#"{{"requests":[{}]}}"#, texts.map(gemini).join(","));
    let calls = [
        (EMBEDDINGS, list(r#"["a","b"]"#)),
        (EMBEDDINGS, list(r#"["c","b","a","c"]"#)),
        (EMBEDDINGS, encoded.clone()),
        (EMBEDDINGS, encoded.replace("\"a\"", "\"z\"")),
        (EMBEDDINGS, list("[[1,2],[3]]")),
        (EMBEDDINGS, list("[[4],[1, 2]]")),
        ("/api/embed", list(r#"["a","b"]"#)),
        ("/api/embed", list(r#"["b","c"]"#)),
        (batch, requests(["a", "b", "c"])),
        (batch, requests(["d", "c", "a"])),
    ];
    for (path, body) in &calls {
        let call = request("POST", path, "content-type: application/json\r\n", body);
        let wanted = ask(simulator.addr, &call).await;
        for _ in 0..2 {
            let got = ask(app.addr, &call).await;
            assert_eq!(vectors(&got), vectors(&wanted), "{path} {body}");
            assert_eq!(got.json()["model"], wanted.json()["model"]);
        }
    }
    // each call once directly, and once for what was new in it
    assert_eq!(simulator.seen().requests, 2 * calls.len() as u64);
}

#[tokio::test]
async fn identical_batches_at_once_are_asked_for_once() {
    let served = served(CACHED).await;
    served.gets(&list(r#"["a"]"#), &[json!(["a"])]).await;
    let body = list(r#"["a","b","c"]"#);
    let call = request("POST", EMBEDDINGS, "content-type: application/json\r\n", &body);
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (to, call) = (served.app.addr, call.clone());
        all.spawn(async move { ask(to, &call).await });
    }
    let wanted = super::embed(EMBEDDINGS, body.as_bytes());
    for answer in all.join_all().await {
        assert_eq!(answer.json(), wanted);
    }
    assert_eq!(served.inputs(), [json!(["b", "c"])]);
}

#[tokio::test]
async fn credentials_do_not_share_unless_the_policy_says_so() {
    for (scope, shared) in [("credential", false), ("shared", true)] {
        let policy = format!("  - {{ name: keep, cache: {{ ttl: 1h, scope: {scope} }} }}\n");
        let served = served(&policy).await;
        let by = async |key: &str| {
            let body = list(r#"["a"]"#);
            let head = format!(
                "POST {EMBEDDINGS} HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {key}\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            let answer = ask(served.app.addr, head.as_bytes()).await;
            assert_eq!(answer.json(), super::embed(EMBEDDINGS, body.as_bytes()));
            served.asked().len()
        };
        assert_eq!(by("sk-one-one-one-one").await, 1);
        assert_eq!(by("sk-one-one-one-one").await, 0);
        assert_eq!(by("sk-two-two-two-two").await, usize::from(!shared), "{scope}");
    }
}

#[tokio::test]
async fn who_does_not_want_it_goes_upstream() {
    let served = served(CACHED).await;
    let body = list(r#"["a"]"#);
    let sent = [json!(["a"])];
    served.gets(&body, &sent).await;
    for lines in ["cache-control: no-cache\r\n", "cache-control: no-store\r\n"] {
        served.ask_at(EMBEDDINGS, lines, &body).await;
        assert_eq!(served.inputs(), sent, "{lines}");
    }
    let only = served.ask_at(EMBEDDINGS, "cache-control: only-if-cached\r\n", &body).await;
    assert_eq!((only.status, served.asked().len()), (200, 0));
    let other = list(r#"["a","b"]"#);
    let only = served.ask_at(EMBEDDINGS, "cache-control: only-if-cached\r\n", &other).await;
    assert_eq!((only.status, served.asked().len()), (504, 0));
    let off = super::served("  - { name: keep, cache: { ttl: 1h, embeddings: false } }\n").await;
    for _ in 0..2 {
        off.gets(&body, &sent).await;
    }
}

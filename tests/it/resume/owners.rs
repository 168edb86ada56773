//! Whose it is, and what is said to whom.
use std::time::Duration;

use super::{LONG, Reading, behind, here, let_go, rest, resumable};
use crate::cache::{ANTHROPIC, Backend, FACES, OPENAI_CHAT, Script, by, policy, whole};
use crate::support::app::App;
use crate::support::client::{ask, get, request};
use crate::support::until;

async fn recorded() -> Script {
    Script::recorded(&OPENAI_CHAT, true, "tokens=12").await
}

#[tokio::test]
async fn another_agents_stream_is_as_if_not_there() {
    let backend = Backend::start(recorded().await, Duration::ZERO).await;
    let app = behind(&backend, "1");
    let mut first = Reading::begin(app.addr, &resumable(&OPENAI_CHAT, LONG)).await;
    let url = first.url();
    first.to(usize::MAX).await;
    let stranger = |method: &str, path: &str| {
        format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-another-agents-key\r\n\r\n"
        )
    };
    let unknown = format!("/-/streams/stream_{}", "0".repeat(26));
    let refused = ask(app.addr, stranger("GET", &url).as_bytes()).await;
    assert_eq!(
        (refused.status, &refused.json()["error"]["code"]),
        (404, &"stream_not_found".into())
    );
    let mut said = Vec::new();
    for answer in [refused, ask(app.addr, &get(&unknown, "")).await] {
        let mut json = answer.json();
        json["error"]["request_id"] = serde_json::Value::Null;
        said.push(json.to_string());
    }
    assert_eq!(said[0], said[1], "it cannot be told from one that never was");
    for path in ["/-/streams/", "/-/streams/x", "/-/streams/stream_x", "/-/streams/x/y"] {
        assert_eq!(here(&app, "GET", path).await.status, 404, "{path}");
    }
    assert_eq!(ask(app.addr, stranger("DELETE", &url).as_bytes()).await.status, 404);
    let cancel = stranger("POST", &format!("{url}/cancel"));
    assert_eq!(ask(app.addr, cancel.as_bytes()).await.status, 404);
    whole(&rest(&app, &url, "").await, &backend.script.body());
}

#[tokio::test]
async fn methods_and_paths_that_are_not_known() {
    let backend = Backend::start(recorded().await, Duration::ZERO).await;
    let app = behind(&backend, "1");
    let first = Reading::begin(app.addr, &resumable(&OPENAI_CHAT, LONG)).await;
    let url = first.url();
    drop(first.lose(0));
    for method in ["PUT", "POST", "OPTIONS", "PATCH"] {
        let answer = here(&app, method, &url).await;
        assert_eq!(
            (answer.status, answer.head.get("allow")),
            (405, Some("GET, DELETE")),
            "{method}"
        );
        assert_eq!(answer.json()["error"]["code"], "method_not_allowed");
    }
    let mut client = crate::support::client::Client::connect(app.addr).await;
    client.send(&request("HEAD", &url, "", "")).await;
    assert_eq!(client.headless().await.status, 405);
    let cancel = here(&app, "GET", &format!("{url}/cancel")).await;
    assert_eq!((cancel.status, cancel.head.get("allow")), (405, Some("POST")));
    for query in ["?offset=x", "?offset=1&starting_after=1", "?offset=-1"] {
        let answer = rest(&app, &url, query).await;
        assert_eq!(
            (answer.status, &answer.json()["error"]["code"]),
            (400, &"invalid_offset".into())
        );
    }
    let asked = backend.calls();
    assert_eq!(
        here(&app, "GET", "/-/other").await.status,
        200,
        "what is not ours is the backend's"
    );
    assert_eq!(backend.calls(), asked + 1);
}

#[tokio::test]
async fn who_asks_for_nothing_gets_what_there_always_was() {
    let backend = Backend::held(recorded().await, Duration::ZERO, 2).await;
    let app = behind(&backend, "1");
    for lines in ["", "x-tidegate-resume: 0s\r\n"] {
        let call = OPENAI_CHAT.call_with("plainly?", true, lines);
        let reading = Reading::begin(app.addr, &call).await;
        assert!(!reading.head.text.contains("x-tidegate-resume"), "{}", reading.head.text);
        assert!(!reading.head.text.contains("x-tidegate-stream"));
        let gone = backend.gone();
        drop(reading.lose(0));
        let_go(&backend, gone + 1).await;
    }
    // no stream was asked for, or none came
    backend.release(usize::MAX);
    let plain = OPENAI_CHAT.call_with("plain?", false, "x-tidegate-resume: 9s\r\n");
    assert!(!ask(app.addr, &plain).await.head.text.contains("x-tidegate-stream"));
    let mut refusal = recorded().await;
    refusal.status = "400 Bad Request";
    let backend = Backend::start(refusal, Duration::ZERO).await;
    let app = behind(&backend, "1");
    let answer = ask(app.addr, &resumable(&OPENAI_CHAT, LONG)).await;
    assert_eq!(answer.status, 400);
    assert!(!answer.head.text.contains("x-tidegate-stream"));
    let seen = backend.origin.take();
    assert!(seen[0].get("x-tidegate-resume").is_none(), "it is between the two of us");
}

#[tokio::test]
async fn a_wish_that_makes_no_sense_is_refused_in_the_callers_dialect() {
    let backend = Backend::start(recorded().await, Duration::ZERO).await;
    let app = behind(&backend, "1");
    for wish in ["30", "soon", "-1s", "", "1s\r\nx-tidegate-resume: 2s"] {
        for (face, at) in [(OPENAI_CHAT, "/error/code"), (ANTHROPIC, "/error/type")] {
            let answer = ask(app.addr, &resumable(&face, wish)).await;
            assert_eq!(answer.status, 400, "{wish}");
            let said = answer.json();
            let word = said.pointer(at).and_then(|word| word.as_str()).unwrap();
            assert!(word.starts_with("invalid_"), "{said}");
        }
    }
    assert_eq!(backend.calls(), 0);
    let mut first = Reading::begin(app.addr, &resumable(&OPENAI_CHAT, "2h")).await;
    assert_eq!(first.head.get("x-tidegate-resume"), Some("1m"), "as long as may be");
    assert!(!first.to(usize::MAX).await);
    assert!(first.got == backend.script.body());
}

/// Where the cache lets others join they are not the owners: they have no name for it, they are not
/// told it, and they keep what its owner stops.
#[tokio::test]
async fn those_who_share_it_keep_it_and_do_not_own_it() {
    let backend = Backend::held(recorded().await, Duration::ZERO, 3).await;
    let cached = "  - { name: once, cache: { ttl: 1h, scope: shared } }\n";
    let app =
        App::with(&policy(&backend.origin.url(), "key: '${CANARY}',", cached), &["--workers", "2"]);
    let mut first = Reading::begin(app.addr, &resumable(&OPENAI_CHAT, LONG)).await;
    let url = first.url();
    assert!(first.to(10).await);
    let other = by(
        "sk-another-agents-key",
        "/v1/chat/completions",
        "x-tidegate-resume: 9s\r\n",
        &OPENAI_CHAT.json("and then?", true),
    );
    let mut joined = Reading::begin(app.addr, &other).await;
    assert!(joined.head.get("cache-status").is_some_and(|how| how.contains("collapsed")));
    assert!(joined.head.get("x-tidegate-stream").is_none());
    drop(first.lose(10));
    let mut back = Reading::begin(app.addr, &get(&format!("{url}?offset=10"), "")).await;
    assert!(back.to(1).await);
    drop(back.lose(0));
    assert_eq!(here(&app, "DELETE", &url).await.status, 204);
    backend.release(usize::MAX);
    assert!(!joined.to(usize::MAX).await);
    assert!(joined.got == backend.script.body());
    assert_eq!((backend.calls(), backend.gone()), (1, 0));
    let again = ask(app.addr, &resumable(&OPENAI_CHAT, LONG)).await;
    whole(&again, &backend.script.body());
    assert!(again.head.get("cache-status").is_some_and(|how| how.contains("hit")));
    assert_eq!(backend.calls(), 1, "it was kept as any other");
}

#[tokio::test]
async fn it_outlives_a_reload() {
    for face in FACES {
        let backend =
            Backend::held(Script::recorded(&face, true, "tokens=9").await, Duration::ZERO, 3).await;
        let app = behind(&backend, "2");
        let mut first = Reading::begin(app.addr, &resumable(&face, LONG)).await;
        let url = first.url();
        assert!(first.to(5).await);
        let mut had = first.lose(5);
        let more = format!("{}  - {{ name: more, weight: 3 }}\n", super::COUNTED);
        app.reload(&policy(&backend.origin.url(), "", &more)).await;
        backend.release(usize::MAX);
        let answer = rest(&app, &url, "?offset=5").await;
        had.extend(answer.body);
        assert!(had == backend.script.body(), "{face:?}");
        assert_eq!(backend.calls(), 1);
        until("it is over", async || app.upstream()["in_flight"] == 0).await;
    }
}

/// A policy gives it to agents that do not ask, each by its own time, and bounds what they ask for.
#[tokio::test]
async fn a_policy_grants_it_to_those_it_names_without_their_asking() {
    let backend = Backend::held(recorded().await, Duration::ZERO, 2).await;
    let policies = "  - { name: reporters, match: { agent: 'reporter-*' }, resume: 20s }\n  \
                    - { name: none, match: { agent: 'bot-*' }, resume: 0s }\n";
    let app = App::start(&policy(&backend.origin.url(), "", policies));
    let call = |agent: &str, stream: bool, lines: &str| {
        OPENAI_CHAT.call_with("and then?", stream, &format!("x-agent-id: {agent}\r\n{lines}"))
    };
    // taken up by its own agent, without a second call
    let mut reading = Reading::begin(app.addr, &call("reporter-1", true, "")).await;
    assert_eq!(reading.head.get("x-tidegate-resume"), Some("20s"));
    let url = reading.url();
    assert!(reading.to(1).await);
    let mut got = reading.lose(1);
    backend.release(usize::MAX);
    let own = "x-agent-id: reporter-1\r\n";
    let on = ask(app.addr, &request("GET", &format!("{url}?offset=1"), own, "")).await;
    assert_eq!(on.status, 200, "{}", on.text());
    got.extend(on.body);
    assert!(got == backend.script.body());
    assert_eq!(backend.calls(), 1);
    // its caller may have less of it, or nothing, and no more
    for (wish, granted) in [("5s", Some("5s")), ("50s", Some("20s")), ("0s", None)] {
        let lines = format!("x-tidegate-resume: {wish}\r\n");
        let answer = ask(app.addr, &call("reporter-2", true, &lines)).await;
        assert_eq!(answer.head.get("x-tidegate-resume"), granted, "{wish}");
    }
    // a policy may say that there is none, and what does not stream has none
    let plain = ask(app.addr, &call("bot-1", true, "x-tidegate-resume: 5s\r\n")).await;
    let other = ask(app.addr, &call("writer", true, "")).await;
    let whole = ask(app.addr, &call("reporter-3", false, "")).await;
    for answer in [plain, other, whole] {
        assert_eq!(answer.status, 200);
        assert!(!answer.head.text.contains("x-tidegate-stream"), "{}", answer.head.text);
    }
}

//! Answers of our own: the shape of the path that was called, and never a backend's secret.
use serde_json::Value;

use super::{CHAT, GEMINI, MESSAGES, OLLAMA, PLAIN, RESPONSES, policy, simulated};
use crate::support::app::App;
use crate::support::client::{Answer, Client, ask, get, post, request};
use crate::support::origin::{Origin, whole};

/// The message, and what the dialect has for a type or code.
fn read(path: &str, got: &Answer) -> (String, Value) {
    assert_eq!(got.head.get("content-type"), Some("application/json"), "{}", got.head.text);
    assert_eq!(got.head.get("x-tidegate-source"), Some("policy"));
    assert!(got.head.get("x-tidegate-request-id").is_some_and(|id| id.starts_with("req_")));
    let body = got.json();
    let error = &body["error"];
    let (message, kind) = match path {
        MESSAGES => {
            assert_eq!(body["type"], "error");
            assert_eq!(body["request_id"].as_str(), got.head.get("x-tidegate-request-id"));
            (&error["message"], &error["type"])
        }
        GEMINI => {
            assert_eq!(error["code"], got.status);
            (&error["message"], &error["status"])
        }
        OLLAMA => (error, &Value::Null),
        _ => {
            assert!(error["type"].is_string() && error["param"].is_null());
            (&error["message"], &error["code"])
        }
    };
    (message.as_str().expect("a message").to_owned(), kind.clone())
}

const PATHS: [&str; 6] = [CHAT, RESPONSES, MESSAGES, GEMINI, OLLAMA, "/v1/files"];

#[tokio::test]
async fn a_broken_upstream_is_told_in_every_dialect() {
    let origin = Origin::saying("nonsense\r\n\r\n").await;
    let app = App::start(&policy(&origin.url(), ""));
    let kinds = [
        "upstream_malformed",
        "upstream_malformed",
        "api_error",
        "UNAVAILABLE",
        "",
        "upstream_malformed",
    ];
    for (path, wanted) in PATHS.into_iter().zip(kinds) {
        let got = ask(app.addr, &post(path, "", PLAIN)).await;
        assert_eq!(got.status, 502);
        let (message, kind) = read(path, &got);
        assert_eq!(message, "The upstream's answer is not valid HTTP.");
        let known = kind.as_str().unwrap_or_default();
        assert!(known == wanted || (path == GEMINI && !known.is_empty()), "{path}: {kind}");
        assert!(!got.text().contains(&origin.addr.port().to_string()));
    }
    app.lines(PATHS.len()).await;
}

#[tokio::test]
async fn the_gate_speaks_every_dialect_too() {
    let (app, simulator) = simulated("");
    for path in PATHS {
        let got = ask(app.addr, &request("POST", path, "authorization: twice\r\n", PLAIN)).await;
        assert_eq!(got.status, 400, "{path}");
        read(path, &got);
        let got = ask(app.addr, &request("POST", path, "expect: the-unexpected\r\n", PLAIN)).await;
        assert_eq!(got.status, 417, "{path}");
        read(path, &got);
    }
    assert_eq!(simulator.seen().requests, 0);
    let lines = app.lines(2 * PATHS.len()).await;
    assert!(lines.iter().all(|line| line["outcome"] == "refused"), "{lines:#?}");
}

#[tokio::test]
async fn case_29_a_large_body_is_refused_before_it_is_read() {
    let simulator = super::simulator();
    let url = format!("http://{}", simulator.addr);
    let app = App::start(&format!("server: {{ max_body: 64KiB }}\n{}", policy(&url, "")));
    for path in &PATHS[..5] {
        let mut client = Client::connect(app.addr).await;
        // the body is not even begun
        let head = request("POST", path, "", "");
        let head =
            String::from_utf8(head).unwrap().replace("content-length: 0", "content-length: 65537");
        client.send(head.as_bytes()).await;
        let got = client.answer().await;
        assert_eq!((got.status, got.head.get("connection")), (413, Some("close")));
        let (message, _) = read(path, &got);
        assert!(message.contains("65536"), "{message}");
        // a client that goes on sending can read the answer all the same
        let mut client = Client::connect(app.addr).await;
        client.send(head.replace("65537", "3000000").as_bytes()).await;
        client.send("x".repeat(3_000_000).as_bytes()).await;
        assert_eq!(client.answer().await.status, 413);
        assert!(client.is_closed().await);
    }
    assert_eq!(simulator.seen().requests, 0);
    app.lines(10).await;
}

#[tokio::test]
async fn case_29_a_large_body_is_refused_while_it_is_read() {
    let simulator = super::simulator();
    let url = format!("http://{}", simulator.addr);
    let app = App::start(&format!("server: {{ max_body: 64KiB }}\n{}", policy(&url, "")));
    let mut client = Client::connect(app.addr).await;
    client
        .send(
            format!("POST {CHAT} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
                .as_bytes(),
        )
        .await;
    // chunks without an end: the answer comes in their middle
    for _ in 0..100 {
        client.send(format!("8000\r\n{}\r\n", "x".repeat(0x8000)).as_bytes()).await;
    }
    let got = client.answer().await;
    assert_eq!((got.status, &got.json()["error"]["code"]), (413, &"request_too_large".into()));
    assert!(client.is_closed().await);
    assert_eq!(simulator.seen().requests, 0);
    assert_eq!(app.line().await["error"], "request_too_large");
}

#[tokio::test]
async fn case_31_32_bodies_that_cannot_be_read() {
    let unreadable = ["", "{", "[]", "null", "{\"model\":1}", "{\"messages\":[]}", "\u{feff}{}"];
    let origin = Origin::saying(whole("200 OK", "", "{}")).await;
    // nobody asks for the model: the backend is to judge
    let app = App::start(&policy(&origin.url(), ""));
    for body in unreadable {
        assert_eq!(ask(app.addr, &post(CHAT, "", body)).await.status, 200, "{body}");
        assert_eq!(origin.take()[0].body, body.as_bytes());
    }
    app.lines(unreadable.len()).await;
    // a route asks for it
    let app = App::start(&format!(
        "upstreams: {{ up: '{}' }}\nroutes: [{{ to: up, model: 'gpt-*' }}]\n",
        origin.url()
    ));
    for body in unreadable {
        let got = ask(app.addr, &post(CHAT, "", body)).await;
        assert!(matches!(got.status, 400 | 404), "{body:?}: {}", got.status);
        read(CHAT, &got);
        let broken = body == "{" || body == "[]" || body == "null" || body == "{\"model\":1}";
        assert!(!broken || got.status == 400, "{body:?}: {}", got.text());
    }
    let named = PLAIN.replace("\"m\"", "\"gpt-x\"");
    assert_eq!(ask(app.addr, &post(CHAT, "", &named)).await.status, 200);
    let got = ask(app.addr, &post(CHAT, "", PLAIN)).await;
    assert_eq!((got.status, &got.json()["error"]["code"]), (404, &"model_not_found".into()));
    assert_eq!(origin.take().len(), 1, "only what a route matches goes anywhere");
    app.lines(unreadable.len() + 2).await;
}

#[tokio::test]
async fn case_33_34_duplicate_models_and_deep_nesting() {
    let origin = Origin::saying(whole("200 OK", "", "{}")).await;
    let app = App::start(&policy(&origin.url(), ""));
    for (path, body) in [
        (CHAT, r#"{"model":"a","messages":[],"model":"b"}"#),
        (MESSAGES, r#"{"model":"a","model":"a"}"#),
        (CHAT, r#"{"model":"a","mod\u0065l":"b"}"#),
    ] {
        let got = ask(app.addr, &post(path, "", body)).await;
        assert_eq!(got.status, 400, "{body}");
        read(path, &got);
    }
    assert_eq!(origin.requests(), 0);
    let deep =
        format!(r#"{{"model":"m","messages":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(ask(app.addr, &post(CHAT, "", &deep)).await.status, 200);
    assert!(origin.take()[0].body == deep.as_bytes(), "unknown depths pass untouched");
    assert_eq!(app.lines(4).await[3]["model"], "m");
}

#[tokio::test]
async fn case_20_a_body_where_there_is_none() {
    let (app, _simulator) = simulated("");
    let got = ask(app.addr, &request("GET", "/v1/models", "", PLAIN)).await;
    assert_eq!((got.status, &got.json()["error"]["code"]), (400, &"unexpected_body".into()));
    app.lines(1).await;
}

#[tokio::test]
async fn what_no_route_matches_is_404_in_the_dialect() {
    let origin = Origin::saying(whole("200 OK", "", "{}")).await;
    let app = App::start(&format!(
        "upstreams: {{ up: '{}' }}\nroutes: [{{ path: /only, to: up }}]\n",
        origin.url()
    ));
    for path in PATHS {
        let got = ask(app.addr, &post(path, "", PLAIN)).await;
        assert_eq!(got.status, 404);
        read(path, &got);
    }
    assert_eq!(ask(app.addr, &get("/only/v1/models", "")).await.status, 200);
    assert_eq!(origin.requests(), 1);
    app.lines(PATHS.len() + 1).await;
}

#[tokio::test]
async fn probes_of_base_urls_are_answered_here() {
    let (app, simulator) = simulated("");
    let got = ask(app.addr, &get("/", "")).await;
    assert_eq!((got.status, got.head.get("x-tidegate-source")), (200, Some("policy")));
    let mut client = Client::connect(app.addr).await;
    client.send(&request("HEAD", "/", "", "")).await;
    assert_eq!(client.headless().await.status, 200);
    client.send(b"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 204);
    assert_eq!(simulator.seen().requests, 0);
    app.lines(3).await;
}

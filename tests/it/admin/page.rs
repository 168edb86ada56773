//! What the page is given: its files, its stream, the policy, and the end of a call.
use std::time::Instant;

use serde_json::Value;

use super::*;
use crate::support::client::{Client, Head, ask as call, get, post};
use crate::support::origin::Origin;
use crate::support::until;

const CHAT: &str = "/v1/chat/completions";
const STREAM: &str =
    r#"{"model":"gpt-4o-mini","stream":true,"messages":[{"role":"user","content":"hello"}]}"#;
const PLAIN: &str = r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hello"}]}"#;
const SIMULATOR: &str = "upstreams: { openai: { builtin: simulator } }\n";
const ACTIONS: &str = "admin: { at: '127.0.0.1:0', actions: on }\n";

/// One event of `/live`.
struct Event {
    name: String,
    data: Value,
}

/// Who reads `/live`.
struct Reader {
    client: Client,
    text: String,
}

impl Reader {
    async fn open(app: &App) -> (Self, Head) {
        let mut client = Client::connect(app.admin).await;
        let line = format!("GET /live HTTP/1.1\r\nhost: {}\r\n{}\r\n", app.admin, app.proof);
        client.send(line.as_bytes()).await;
        let head = client.head().await.expect("a head");
        (Self { client, text: String::new() }, head)
    }

    /// `None`: the stream has ended.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (name, data) = event.split_once('\n').expect("two lines");
                let name = name.strip_prefix("event: ").expect("a name").to_owned();
                let data = data.strip_prefix("data: ").expect("data");
                let data = serde_json::from_str(data).expect("JSON in one line");
                let rest = rest.to_owned();
                self.text = rest;
                return Some(Event { name, data });
            }
            let chunk = self.client.chunk().await.ok().filter(|chunk| !chunk.is_empty())?;
            self.text.push_str(std::str::from_utf8(&chunk).expect("text"));
        }
    }

    /// The first `now` that is as it should be.
    async fn until(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let from = Instant::now();
        while let Some(event) = self.next().await {
            if event.name == "now" && fits(&event.data) {
                return event.data;
            }
            assert!(from.elapsed() < Duration::from_secs(30), "never: {what}: {}", event.data);
        }
        panic!("the stream ended before: {what}")
    }
}

fn sum(column: &Value) -> u64 {
    column.as_array().expect("a column").iter().map(|one| one.as_u64().expect("whole")).sum()
}

#[tokio::test]
async fn the_files_are_safe_to_open_and_cheap_to_ask_for_again() {
    let app = App::start(SIMULATOR);
    let (status, head, body) = ask(app.admin, "GET /", "");
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/html; charset=utf-8"), "{head}");
    for header in [
        "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; \
         connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'; require-trusted-types-for 'script'",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
        "cross-origin-resource-policy: same-origin",
        "cache-control: no-cache",
    ] {
        assert!(head.contains(header), "{header} is not in {head}");
    }
    // whatever the page names is there
    let names = body.split('"').filter(|part| part.starts_with("page/"));
    let mut count = 0;
    for name in names {
        count += 1;
        let (status, head, _) = ask(app.admin, &format!("GET /{name}"), "");
        assert_eq!(status, 200, "{name}");
        let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).expect("an etag");
        let (again, _, body) =
            ask(app.admin, &format!("GET /{name}"), &format!("if-none-match: {tag}\r\n"));
        assert_eq!((again, body.as_str()), (304, ""), "{name}");
        let (whole, head, body) = ask(app.admin, &format!("HEAD /{name}"), "");
        assert_eq!((whole, body.as_str()), (200, ""), "{name}");
        assert!(!head.contains("content-length: 0"), "{head}");
    }
    assert_eq!(count, 3, "a style, a script and an icon: {body}");
    let zipped = call(app.admin, &get("/page/page.js", "accept-encoding: gzip\r\n")).await;
    assert_eq!(zipped.status, 403, "by a name that is not ours");
    let line = format!(
        "GET /page/page.js HTTP/1.1\r\nhost: {}\r\naccept-encoding: gzip\r\n\r\n",
        app.admin
    );
    let zipped = call(app.admin, line.as_bytes()).await;
    assert_eq!(zipped.head.get("content-encoding"), Some("gzip"));
    assert_eq!(zipped.body[..2], [0x1f, 0x8b]);
    assert_eq!(ask(app.admin, "POST /", "").0, 405);
    assert_eq!(ask(app.admin, "GET /page/../page.js", "").0, 404);
}

#[tokio::test]
async fn a_far_door_gives_the_files_and_nothing_else_without_a_token() {
    let policy = format!("admin: {{ at: '0.0.0.0:0', token: '{TOKEN}' }}\n{SIMULATOR}");
    let mut app = App::start(&policy);
    app.secrets = vec![TOKEN.to_owned()];
    assert_eq!(ask(app.admin, "GET /", "").0, 200);
    assert_eq!(ask(app.admin, "GET /page/page.js", "").0, 200);
    for path in ["GET /live", "GET /config", "POST /calls/x/cancel"] {
        assert_eq!(ask(app.admin, path, &of_page(&app)).0, 401, "{path}");
    }
    app.proof = bearer(TOKEN);
    let (mut reader, head) = Reader::open(&app).await;
    assert_eq!(head.status, 200);
    assert_eq!(reader.next().await.unwrap().name, "history");
    assert_eq!(reader.next().await.unwrap().data["actions"], "off");
    let (status, _, config) = ask(app.admin, "GET /config", &app.proof);
    assert_eq!(status, 200);
    assert!(config.contains("token: <redacted>") && !config.contains(TOKEN), "{config}");
}

#[tokio::test]
async fn the_stream_tells_what_the_metrics_count() {
    let app = App::start(&format!(
        "{SIMULATOR}policies: [{{ name: all, limits: {{ spend: $9/day }} }}]\n"
    ));
    let (mut reader, head) = Reader::open(&app).await;
    assert_eq!(head.get("content-type"), Some("text/event-stream; charset=utf-8"));
    let history = reader.next().await.unwrap();
    assert_eq!((history.name.as_str(), &history.data["every_ms"]), ("history", &2000.into()));
    assert_eq!(history.data["bounds"]["overhead"].as_array().unwrap().len(), 13);
    let first = reader.next().await.unwrap();
    assert_eq!(first.data["started_ms"], history.data["started_ms"]);
    assert_eq!(first.data["listen"][0], app.addr.to_string());
    for body in [STREAM, PLAIN, STREAM] {
        assert_eq!(call(app.addr, &post(CHAT, "", body)).await.status, 200);
    }
    assert_eq!(call(app.addr, &post("/nothing/there", "", PLAIN)).await.status, 404);
    let quiet = async || app.count("tidegate_requests_in_flight", &[]) == 0;
    until("it is quiet", quiet).await;
    let counted = app.metric("tidegate_requests_total", &[]) as u64;
    let now = reader.until("all are counted", |now| now["totals"]["calls"] == counted).await;
    let tokens = app.metric("tidegate_tokens_total", &["type=\"output\""]) as u64;
    let spent = app.metric("tidegate_spend_dollars_total", &[]);
    let nano = now["totals"]["spend_nano"].as_u64().unwrap();
    assert_eq!((spent * 1e9).round() as u64, nano);
    assert!(nano > 0 && tokens > 0);
    assert_eq!(now["upstreams"][0]["name"], "openai");
    assert_eq!(now["in_flight"], 0);
    // the points of a later window add up to the same
    let point = |now: &Value| sum_of(&now["point"]);
    let last = reader
        .until("a point with them", |now| point(now) > 0 || now["point"]["n"].as_u64() > Some(3))
        .await;
    drop(last);
    let mut window = Value::Null;
    until("all calls are in points", async || {
        let (mut again, _) = Reader::open(&app).await;
        window = again.next().await.unwrap().data;
        sum(&window["points"]["output_tokens"]) >= tokens
    })
    .await;
    let points = &window["points"];
    let calls = ["complete", "refused", "upstream", "deadline", "client_gone"];
    let calls: u64 = calls.iter().map(|how| sum(&points[format!("calls_{how}")])).sum();
    assert_eq!((calls, sum(&points["output_tokens"])), (counted, tokens));
    assert_eq!(sum(&points["spend_nano"]), nano);
}

fn sum_of(point: &Value) -> u64 {
    ["complete", "refused"].iter().filter_map(|how| point[format!("calls_{how}")].as_u64()).sum()
}

#[tokio::test]
async fn sixteen_may_read_and_the_next_is_told_to_come_back() {
    let app = App::start(SIMULATOR);
    let mut readers = Vec::new();
    for _ in 0..16 {
        let (mut reader, head) = Reader::open(&app).await;
        assert_eq!(head.status, 200);
        assert_eq!(reader.next().await.unwrap().name, "history");
        readers.push(reader);
    }
    let (_, head) = Reader::open(&app).await;
    assert_eq!((head.status, head.get("retry-after")), (503, Some("5")));
    assert_eq!(ask(app.admin, "GET /readyz", "").0, 200, "who reads keeps nobody out");
    drop(readers.pop());
    let freed = async || Reader::open(&app).await.1.status == 200;
    until("who left makes room", freed).await;
    assert_eq!(ask(app.admin, "HEAD /live", "").0, 200);
}

#[tokio::test]
async fn the_stream_tells_of_the_drain_and_ends_with_it() {
    let origin = waits_for_ever().await;
    let policy = format!(
        "server: {{ drain: {{ delay: 0s, timeout: 3s }} }}\nupstreams: {{ openai: '{}' }}\n",
        origin.url()
    );
    let mut app = App::start(&policy);
    let (mut reader, _) = Reader::open(&app).await;
    let mut client = Client::connect(app.addr).await;
    client.send(&post(CHAT, "", PLAIN)).await;
    reader.until("the call runs", |now| now["calls_total"] == 1).await;
    app.unfinished = true;
    app.signal("TERM");
    let now = reader.until("it drains", |now| now["stage"] == "draining").await;
    assert_eq!((&now["ready"], &now["why"][0]), (&false.into(), &"shutting down".into()));
    while reader.next().await.is_some() {}
    app.exited().await;
}

/// A backend that takes calls and answers none; a stream it begins, and does not go on with.
async fn waits_for_ever() -> Origin {
    Origin::start(|mut conn| async move {
        let Some(request) = conn.request().await else { return };
        if request.body.windows(8).any(|part| part == b"\"stream\"") {
            let event = |text: &str| {
                let data = format!(
                    "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\
                     \"model\":\"gpt-4o-mini\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\
                     \"{text}\"}},\"finish_reason\":null}}]}}\n\n"
                );
                format!("{:x}\r\n{data}\r\n", data.len())
            };
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                        transfer-encoding: chunked\r\n\r\n";
            let said = format!("{head}{}{}", event("it has begun"), event(" and stands still"));
            conn.send(said.as_bytes()).await;
        }
        conn.until_gone().await;
    })
    .await
}

/// The call that runs.
async fn running(app: &App) -> Value {
    let mut found = Value::Null;
    let mut answered = async || {
        found = app.state()["calls"][0].clone();
        matches!(found["stage"].as_str(), Some("answering" | "first_byte"))
    };
    until("it runs", async || answered().await).await;
    found
}

#[tokio::test]
async fn a_call_is_ended_before_its_answer_begins() {
    let origin = waits_for_ever().await;
    let app = App::start(&format!("{ACTIONS}upstreams: {{ openai: '{}' }}\n", origin.url()));
    let mut client = Client::connect(app.addr).await;
    client.send(&post(CHAT, "", PLAIN)).await;
    let id = running(&app).await["request_id"].as_str().unwrap().to_owned();
    let (status, _, said) = ask(app.admin, &format!("POST /calls/{id}/cancel"), &of_page(&app));
    assert_eq!(status, 202, "{said}");
    let answer = client.answer().await;
    assert_eq!(answer.status, 499);
    assert_eq!(answer.head.get("x-should-retry"), Some("false"));
    assert_eq!(answer.json()["error"]["code"], "cancelled", "{}", answer.text());
    let lines = app.lines(1).await;
    assert_eq!(
        (&lines[0]["outcome"], &lines[0]["error"]),
        (&"cancelled".into(), &"cancelled".into())
    );
    assert_eq!(app.count("tidegate_requests_total", &["outcome=\"cancelled\""]), 1);
    until("the backend is let go", async || origin.open() == 0).await;
    assert_eq!(origin.take().len(), 1, "it is not tried again");
    let (status, _, said) = ask(app.admin, &format!("POST /calls/{id}/cancel"), &of_page(&app));
    assert_eq!(status, 404, "{said}");
}

#[tokio::test]
async fn a_stream_is_ended_in_its_middle_and_says_why() {
    let origin = waits_for_ever().await;
    let app = App::start(&format!("{ACTIONS}upstreams: {{ openai: '{}' }}\n", origin.url()));
    let mut client = Client::connect(app.addr).await;
    client.send(&post(CHAT, "", STREAM)).await;
    let head = client.head().await.unwrap();
    assert_eq!(head.status, 200);
    let seen = running(&app).await;
    assert!(seen["tokens"].as_u64().unwrap() > 0, "{seen}");
    let id = seen["request_id"].as_str().unwrap();
    let (mut reader, _) = Reader::open(&app).await;
    let now = reader.until("the page sees it", |now| now["calls_total"] == 1).await;
    assert_eq!((&now["actions"], &now["calls"][0]["request_id"]), (&"open".into(), &id.into()));
    assert_eq!(ask(app.admin, &format!("POST /calls/{id}/cancel"), &of_page(&app)).0, 202);
    let answer = client.rest(head, false).await;
    assert!(answer.text().contains("it has begun") && answer.text().contains("cancelled"));
    assert_ne!(answer.end, crate::support::client::End::Whole, "it is no whole answer");
    assert_eq!(app.lines(1).await[0]["outcome"], "cancelled");
    reader.until("it is gone", |now| now["calls_total"] == 0).await;
    assert_eq!(app.count("tidegate_requests_total", &["outcome=\"cancelled\""]), 1);
}

#[tokio::test]
async fn a_call_that_is_hedged_is_ended_on_both_sides() {
    let (a, b) = (waits_for_ever().await, waits_for_ever().await);
    let app = App::start(&format!(
        "{ACTIONS}upstreams:\n  one: {{ dialect: openai, urls: ['{}', '{}'], \
         hedge: {{ after: 50ms, budget: 100% }} }}\n",
        a.url(),
        b.url()
    ));
    let mut client = Client::connect(app.addr).await;
    client.send(&post(CHAT, "", PLAIN)).await;
    until("both are asked", async || a.open() + b.open() == 2).await;
    let id = running(&app).await["request_id"].as_str().unwrap().to_owned();
    assert_eq!(ask(app.admin, &format!("POST /calls/{id}/cancel"), &of_page(&app)).0, 202);
    let answer = client.answer().await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (499, &"cancelled".into()));
    until("both are let go", async || a.open() + b.open() == 0).await;
    assert_eq!(app.lines(1).await[0]["outcome"], "cancelled");
}

/// Before its answer begins, and in the middle of it.
#[tokio::test]
async fn a_tasks_call_that_is_ended_is_not_made_again() {
    for body in [PLAIN, STREAM] {
        let (origin, kept) = (waits_for_ever().await, tempfile::tempdir().unwrap());
        let state = kept.path().join("state").display().to_string();
        let app = App::start(&format!(
            "{ACTIONS}state: '{state}'\nupstreams: {{ openai: '{}' }}\n",
            origin.url()
        ));
        let lines = "content-type: application/json\r\nprefer: respond-async\r\n";
        let submission = crate::support::client::request("POST", CHAT, lines, body);
        let taken = call(app.addr, &submission).await;
        assert_eq!(taken.status, 202, "{}", taken.text());
        let id = running(&app).await["request_id"].as_str().unwrap().to_owned();
        assert_eq!(ask(app.admin, &format!("POST /calls/{id}/cancel"), &of_page(&app)).0, 202);
        let (mut reader, _) = Reader::open(&app).await;
        let over = |now: &Value| now["task_rows"][0]["state"] == "cancelled";
        let now = reader.until("the task is over", over).await;
        assert_eq!(now["task_rows"][0]["error"], Value::Null, "{now}");
        until("the backend is let go", async || origin.open() == 0).await;
        assert_eq!(origin.take().len(), 1, "it is asked once");
    }
}

#[tokio::test]
async fn nobody_ends_a_call_without_leave() {
    let origin = waits_for_ever().await;
    let mut app = App::start(&format!("upstreams: {{ openai: '{}' }}\n", origin.url()));
    app.unfinished = true;
    let mut client = Client::connect(app.addr).await;
    client.send(&post(CHAT, "", PLAIN)).await;
    let id = running(&app).await["request_id"].as_str().unwrap().to_owned();
    let line = format!("POST /calls/{id}/cancel");
    let foreign = "origin: http://evil.example\r\nx-tidegate-page: 1\r\n";
    for (headers, expected) in
        [(of_page(&app), 403), (foreign.to_owned(), 403), (String::new(), 401)]
    {
        assert_eq!(ask(app.admin, &line, &headers).0, expected, "{headers}");
    }
    assert_eq!(ask(app.admin, &format!("GET /calls/{id}/cancel"), "").0, 405);
    assert_eq!(app.state()["calls"].as_array().unwrap().len(), 1, "it runs on");
}

#[tokio::test]
async fn the_policy_is_shown_as_it_is_in_force_and_without_its_secrets() {
    let policy = |name: &str| {
        format!("upstreams: {{ {name}: {{ url: 'http://127.0.0.1:9', key: '${{CANARY}}' }} }}\n")
    };
    let app = App::start(&policy("before"));
    let (_, head, config) = ask(app.admin, "GET /config", "");
    assert!(head.contains("content-type: text/plain"), "{head}");
    assert!(config.contains("\"before\":") && config.contains("<redacted>"), "{config}");
    assert!(!config.contains(crate::support::app::UPSTREAM_KEY));
    app.reload(&policy("after")).await;
    assert!(ask(app.admin, "GET /config", "").2.contains("\"after\":"));
}

#[tokio::test]
async fn with_actions_the_page_ends_tasks_too_and_keys_stay_shut() {
    let kept = tempfile::tempdir().unwrap();
    let state = kept.path().join("state").display().to_string();
    let mut app = App::start(&format!("{ACTIONS}state: '{state}'\n{SIMULATOR}"));
    app.unfinished = true;
    let lines =
        "content-type: application/json\r\nprefer: respond-async\r\nx-simulate: ttft=30s\r\n";
    let taken = call(app.addr, &crate::support::client::request("POST", CHAT, lines, PLAIN)).await;
    assert_eq!(taken.status, 202, "{}", taken.text());
    let (mut reader, _) = Reader::open(&app).await;
    let now = reader.until("the task is shown", |now| now["task_rows"][0].is_object()).await;
    let id = now["task_rows"][0]["id"].as_str().unwrap().to_owned();
    for closed in ["GET /keys", "POST /keys", "DELETE /keys/00000000", "GET /tasks"] {
        assert_eq!(ask(app.admin, closed, &of_page(&app)).0, 401, "{closed}");
    }
    let line = format!("POST /tasks/{id}/cancel");
    assert_eq!(ask(app.admin, &line, "origin: http://evil.example\r\n").0, 403);
    assert_eq!(ask(app.admin, &line, &of_page(&app)).0, 200);
    let over = |now: &Value| now["task_rows"][0]["state"] == "cancelled";
    reader.until("the task is cancelled", over).await;
}

#[tokio::test]
async fn without_leave_to_act_no_task_is_shown() {
    let kept = tempfile::tempdir().unwrap();
    let state = kept.path().join("state").display().to_string();
    let app = App::start(&format!("state: '{state}'\n{SIMULATOR}"));
    let (mut reader, _) = Reader::open(&app).await;
    let now = reader.until("now", |_| true).await;
    assert_eq!((&now["task_rows"], &now["actions"]), (&Value::Null, &"off".into()));
    assert!(now["tasks"].is_object(), "how many there are, everybody may see");
}

//! Answers that the backend makes in a background mode of its own: taken up again there after a kill,
//! or when the connection breaks, and never asked for twice.
mod ended;
mod stopping;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::*;
use crate::support::app::UPSTREAM_KEY;
use crate::support::client::{Client, get};
use crate::support::origin::{Request, STREAM, chunk};

const ID: &str = "resp_68a1f0";
const KEY: &str = "key: '${CANARY}',";

fn body(stream: bool) -> String {
    format!(r#"{{"model":"m","background":true,"stream":{stream},"input":"hi","store":true}}"#)
}

/// What a backend does when it has sent its bytes.
enum Then {
    Stay,
    Hang,
    Reset,
    /// It sends them piece by piece, and then hangs.
    Drip,
}

/// A backend that does as it is told with each request.
async fn backend(does: impl Fn(&Request) -> (Vec<u8>, Then) + Send + Sync + 'static) -> Origin {
    let does = Arc::new(does);
    Origin::start(move |mut conn| {
        let does = Arc::clone(&does);
        async move {
            while let Some(request) = conn.request().await {
                let (bytes, then) = does(&request);
                let pieces = if matches!(then, Then::Drip) { 1000 } else { usize::MAX };
                for piece in bytes.chunks(pieces) {
                    conn.send(piece).await;
                    if pieces < bytes.len() {
                        tokio::time::sleep(Duration::from_millis(30)).await;
                    }
                }
                match then {
                    Then::Stay => {}
                    Then::Hang | Then::Drip => return conn.until_gone().await,
                    Then::Reset => {
                        // what was sent is to be read
                        tokio::time::sleep(Duration::from_millis(200)).await;
                        return conn.reset();
                    }
                }
            }
        }
    })
    .await
}

/// The events of a response of so many words.
fn events(words: usize) -> Vec<String> {
    let event = |number: usize, kind: &str, rest: &str| {
        format!(
            "event: {kind}\ndata: {{\"type\":\"{kind}\",\"sequence_number\":{number},{rest}}}\n\n"
        )
    };
    let response = |status: &str, usage: &str| {
        format!(
            r#""response":{{"id":"{ID}","object":"response","status":"{status}","background":true,"model":"m","output":[],"usage":{usage}}}"#
        )
    };
    let mut all = vec![event(0, "response.created", &response("queued", "null"))];
    all.push(event(1, "response.in_progress", &response("in_progress", "null")));
    for word in 0..words {
        let rest = format!(r#""item_id":"msg_1","output_index":0,"delta":"word{word} ""#);
        all.push(event(all.len(), "response.output_text.delta", &rest));
    }
    let usage = r#"{"input_tokens":11,"output_tokens":23,"total_tokens":34}"#;
    all.push(event(all.len(), "response.completed", &response("completed", usage)));
    all
}

fn object(status: &str) -> String {
    let usage = match status {
        "completed" => r#"{"input_tokens":11,"output_tokens":23,"total_tokens":34}"#,
        _ => "null",
    };
    format!(
        "{{ \"id\":\"{ID}\", \"object\":\"response\",\"status\":\"{status}\",\"background\":true,\"model\":\"m\",\"output\":[],\"usage\":{usage} }}"
    )
}

/// A part of a stream, without its end.
fn part(events: &[String], torn: &str) -> Vec<u8> {
    let chunks = events.iter().map(String::as_str).chain([torn]).filter(|text| !text.is_empty());
    STREAM.iter().copied().chain(chunks.flat_map(chunk)).collect()
}

fn to_the_end(events: &[String]) -> Vec<u8> {
    [&*part(events, ""), b"0\r\n\r\n"].concat()
}

/// What the request wants to go on behind.
fn after(request: &Request) -> Option<usize> {
    let (_, number) = request.target.split_once("starting_after=")?;
    number.split('&').next()?.parse().ok()
}

fn policy(state: &Path, origin: &Origin, tasks: &str, key: &str) -> String {
    let policy = rules(state, &origin.url(), tasks, key, COUNTED);
    policy.replace("{ up: {", "{ up: { background: on,")
}

fn started(policy: &str) -> App {
    App::with(policy, &["--workers", "2", "--log", "tidegate=debug,info"])
}

fn rig(origin: &Origin, tasks: &str, key: &str) -> Rig {
    let state = tempfile::tempdir().unwrap();
    Rig { app: started(&policy(state.path(), origin, tasks, key)), state }
}

impl Rig {
    async fn later(&self, stream: bool) -> String {
        self.later_at("/v1/responses", stream).await
    }

    async fn later_at(&self, target: &str, stream: bool) -> String {
        let call = by(AGENT_KEY, target, ASYNC, &body(stream));
        accepted(&self.ask(&call).await)
    }

    /// Killed when all that has come is on the disk, and started again.
    async fn killed(&mut self, policy: &str) {
        tokio::time::sleep(Duration::from_secs(3)).await;
        self.app.kill();
        self.app = started(policy);
    }

    /// What limits have counted.
    fn counted(&self, measure: &str) -> i64 {
        let state = self.app.state();
        let limits = state["limits"].as_array().unwrap().iter();
        let mut of = limits.filter(|limit| limit["measure"] == measure);
        of.next().unwrap()["used"].as_i64().unwrap()
    }
}

fn by_method<'r>(requests: &'r [Request], method: &str) -> Vec<&'r Request> {
    requests.iter().filter(|request| request.method == method).collect()
}

fn ids(text: &str) -> Vec<u64> {
    text.lines().filter_map(|line| line.strip_prefix("id: ")?.parse().ok()).collect()
}

/// The stream breaks behind `kept` whole events and half of another.
async fn halved(all: Vec<String>, kept: usize, then: fn() -> Then) -> Origin {
    backend(move |request| {
        if request.method == "POST" {
            return (part(&all[..kept], &all[kept][..20]), then());
        }
        let from = after(request).map_or(0, |number| number + 1);
        (to_the_end(&all[from..]), Then::Stay)
    })
    .await
}

#[tokio::test]
async fn a_stream_is_read_on_after_a_kill() {
    let all = events(12);
    let origin = halved(all.clone(), 5, || Then::Hang).await;
    let mut rig = rig(&origin, "{}", KEY);
    let task = rig.later(true).await;
    let bytes = all[..5].concat().len();
    let there = async || rig.object(&task).await["progress"]["bytes"] == bytes;
    until("the first events are there", there).await;
    let policy = policy(rig.state.path(), &origin, "{}", KEY);
    rig.killed(&policy).await;
    let over = rig.over(&task).await;
    assert_eq!((&over["state"], &over["attempts"]), (&"succeeded".into(), &1.into()), "{over}");
    assert_eq!(over["usage"], serde_json::json!({"input": 11, "output": 23}));
    let result = rig.result(&task).await;
    assert_eq!(result.text(), all.concat());
    assert_eq!(result.head.get("x-tidegate-partial"), None);
    let asked = origin.take();
    let (made, gone_on) = (by_method(&asked, "POST"), by_method(&asked, "GET"));
    assert_eq!((made.len(), gone_on.len()), (1, 1), "{asked:?}");
    assert_eq!(made[0].body, body(true).as_bytes(), "it is made as it was asked for");
    let target = format!("/v1/responses/{ID}?stream=true&starting_after=4");
    assert_eq!(gone_on[0].target, target);
    assert_eq!(gone_on[0].get("authorization"), Some(&*format!("Bearer {UPSTREAM_KEY}")));
    assert_eq!((gone_on[0].get("content-type"), gone_on[0].get("prefer")), (None, None));
    // who comes back has each event once
    let rest = rig.get(&format!("{task}/events?starting_after=3")).await;
    assert_eq!(ids(rest.text()), (4..=15).collect::<Vec<_>>());
    assert!(!rest.text().contains("task.restarted"), "{}", rest.text());
    // and what was counted of the prompt before the kill
    assert!((34..40).contains(&rig.counted("tokens")), "once: {}", rig.counted("tokens"));
    rig.quiet().await;
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_read_on_and_followers_see_each_event_once() {
    let all = events(20);
    let (turn, mine) = (AtomicUsize::new(0), all.clone());
    let origin = backend(move |request| {
        let from = after(request).map_or(0, |number| number + 1);
        match turn.fetch_add(1, SeqCst) {
            0 => (part(&mine[..4], &mine[4][..30]), Then::Reset),
            1 => (said("503 Service Unavailable", "", "{}"), Then::Stay),
            // it begins a little before what is asked for
            2 => (part(&mine[from - 2..from + 6], &mine[from + 6][..1]), Then::Reset),
            // it ends well, and before its end
            3 => (to_the_end(&mine[from..from + 3]), Then::Stay),
            _ => (to_the_end(&mine[from..]), Then::Stay),
        }
    })
    .await;
    let rig = rig(&origin, "{ attempts: 2 }", KEY);
    let task = rig.later(true).await;
    let mut live = Client::connect(rig.app.addr).await;
    live.send(&get(&format!("{task}/events"), "")).await;
    let head = live.head().await.unwrap();
    let told = live.rest(head, false).await;
    assert_eq!(ids(told.text()), (1..=23).collect::<Vec<_>>(), "{}", told.text());
    let over = rig.over(&task).await;
    assert_eq!((&over["state"], &over["attempts"]), (&"succeeded".into(), &1.into()), "{over}");
    assert_eq!(rig.result(&task).await.text(), all.concat());
    let asked = origin.take();
    let targets: Vec<_> = asked.iter().map(after).collect();
    assert_eq!(targets, [None, Some(3), Some(3), Some(9), Some(12)]);
    assert_eq!(by_method(&asked, "POST").len(), 1);
    assert_eq!((rig.counted("tokens"), rig.counted("requests")), (34, 1), "once");
    let tokens = || {
        let lines = rig.app.written();
        lines.iter().filter_map(|line| line["output_tokens"].as_u64()).sum::<u64>()
    };
    until("it is in the log", async || tokens() > 0).await;
    assert_eq!(tokens(), 23, "once");
    rig.quiet().await;
}

#[tokio::test]
async fn what_does_not_stream_is_polled_to_its_end_over_a_kill() {
    let (turn, done) = (AtomicUsize::new(0), object("completed"));
    let last = done.clone();
    let origin = backend(move |_| {
        let answer = match turn.fetch_add(1, SeqCst) {
            0 => said("200 OK", "", &object("queued")),
            1 | 4 => said("200 OK", "", &object("in_progress")),
            2 => said("500 Internal Server Error", "", "{}"),
            // killed meanwhile
            3 => return (Vec::new(), Then::Hang),
            5 => return (Vec::new(), Then::Reset),
            6 => said("429 Too Many Requests", "retry-after-ms: 20\r\n", "{}"),
            _ => said("200 OK", "x-request-id: the-last\r\n", &last),
        };
        (answer, Then::Stay)
    })
    .await;
    let mut rig = rig(&origin, "{ attempts: 1 }", KEY);
    let task = rig.later_at("/v1/responses?api-version=7", false).await;
    until("it is polled", async || origin.requests() == 4).await;
    assert_eq!(rig.object(&task).await["state"], "running");
    assert_eq!(rig.result(&task).await.status, 202, "what is queued is no result");
    let policy = policy(rig.state.path(), &origin, "{ attempts: 1 }", KEY);
    rig.killed(&policy).await;
    let over = rig.over(&task).await;
    assert_eq!((&over["state"], &over["attempts"]), (&"succeeded".into(), &1.into()), "{over}");
    assert_eq!(over["usage"], serde_json::json!({"input": 11, "output": 23}));
    let result = rig.result(&task).await;
    assert_eq!((result.status, result.text()), (200, &*done), "verbatim");
    assert_eq!(result.head.get("x-request-id"), Some("the-last"));
    let asked = origin.take();
    assert_eq!(by_method(&asked, "POST").len(), 1);
    let polls = by_method(&asked, "GET");
    assert!(
        polls.iter().all(|poll| poll.target == format!("/v1/responses/{ID}?api-version=7")),
        "{polls:?}"
    );
    assert!((34..40).contains(&rig.counted("tokens")), "once: {}", rig.counted("tokens"));
    rig.quiet().await;
}

#[tokio::test]
async fn one_that_fails_there_has_failed_here_and_says_so_in_full() {
    for (status, state) in
        [("failed", "failed"), ("cancelled", "cancelled"), ("incomplete", "succeeded")]
    {
        let answer = move |request: &Request| {
            let status = if request.method == "POST" { "queued" } else { status };
            (said("200 OK", "", &object(status)), Then::Stay)
        };
        let origin = backend(answer).await;
        let rig = rig(&origin, "{}", KEY);
        let task = rig.later(false).await;
        assert_eq!(rig.over(&task).await["state"], state);
        let result = rig.result(&task).await;
        assert_eq!((result.status, result.text()), (200, &*object(status)));
        assert_eq!(result.head.get("x-tidegate-partial"), None, "it is all of it");
        assert_eq!(origin.requests(), 2);
        rig.quiet().await;
    }
}

#[tokio::test]
async fn what_is_not_known_there_any_more_is_interrupted_and_not_made_again() {
    let all = events(9);
    let (made, kept) = (all.clone(), all[..6].concat());
    let origin = backend(move |request| {
        if request.method == "POST" {
            (part(&made[..6], "event: resp"), Then::Hang)
        } else {
            (said("404 Not Found", "", r#"{"error":{"message":"no such response"}}"#), Then::Stay)
        }
    })
    .await;
    let mut rig = rig(&origin, "{}", KEY);
    let task = rig.later(true).await;
    until("it has begun", async || {
        rig.object(&task).await["progress"]["bytes"].as_u64() == Some(kept.len() as u64)
    })
    .await;
    let policy = policy(rig.state.path(), &origin, "{}", KEY);
    rig.killed(&policy).await;
    let over = rig.over(&task).await;
    assert_eq!(
        (&over["state"], &over["error"]["type"]),
        (&"interrupted".into(), &"answer_gone".into())
    );
    let result = rig.result(&task).await;
    assert_eq!((result.text(), result.head.get("x-tidegate-partial")), (&*kept, Some("true")));
    let asked = origin.take();
    assert_eq!((by_method(&asked, "POST").len(), by_method(&asked, "GET").len()), (1, 1));
    rig.quiet().await;
}

#[tokio::test]
async fn a_stream_that_is_given_in_vain_comes_to_an_end() {
    let all = events(9);
    let origin = backend(move |request| {
        if request.method == "POST" {
            (part(&all[..6], ""), Then::Reset)
        } else {
            (to_the_end(&[]), Then::Stay)
        }
    })
    .await;
    let rig = rig(&origin, "{ attempts: 2 }", KEY);
    let task = rig.later(true).await;
    assert_eq!(rig.over(&task).await["state"], "interrupted");
    assert_eq!(origin.requests(), 3);
    rig.quiet().await;
}

#[tokio::test]
async fn a_stream_is_read_on_when_its_backend_can_answer_again() {
    let (all, turn) = (events(9), AtomicUsize::new(0));
    let mine = all.clone();
    let origin = backend(move |request| match turn.fetch_add(1, SeqCst) {
        0 => (part(&mine[..6], ""), Then::Reset),
        1 => (said("503 Service Unavailable", "", "{}"), Then::Stay),
        2 => (said("429 Too Many Requests", "retry-after-ms: 20\r\n", "{}"), Then::Stay),
        _ => (to_the_end(&mine[after(request).unwrap() + 1..]), Then::Stay),
    })
    .await;
    let rig = rig(&origin, "{ attempts: 1 }", KEY);
    let task = rig.later(true).await;
    let over = rig.over(&task).await;
    assert_eq!((&over["state"], &over["attempts"]), (&"succeeded".into(), &1.into()), "{over}");
    assert_eq!(rig.result(&task).await.text(), all.concat());
    let asked = origin.take();
    assert_eq!(asked.iter().map(after).collect::<Vec<_>>(), [None, Some(5), Some(5), Some(5)]);
    rig.quiet().await;
}

#[tokio::test]
async fn what_a_gone_upstream_makes_is_interrupted_and_nobody_else_is_asked() {
    let origin = halved(events(9), 5, || Then::Hang).await;
    let mut rig = rig(&origin, "{}", KEY);
    let task = rig.later(true).await;
    until("it has begun", async || {
        rig.object(&task).await["progress"]["bytes"].as_u64() > Some(100)
    })
    .await;
    let policy = policy(rig.state.path(), &origin, "{}", KEY).replace("{ up: {", "{ other: {");
    let policy = policy.replace("to: up", "to: other");
    rig.killed(&policy).await;
    let over = rig.over(&task).await;
    assert_eq!(
        (&over["state"], &over["error"]["type"]),
        (&"interrupted".into(), &"holder_gone".into())
    );
    assert_eq!(rig.result(&task).await.text(), events(9)[..5].concat());
    assert_eq!(origin.requests(), 1);
    rig.quiet().await;
}

#[tokio::test]
async fn a_cancelled_task_is_cancelled_there() {
    for stream in [false, true] {
        let (all, told) = (events(9), AtomicUsize::new(0));
        let origin = backend(move |request| match (&*request.method, stream) {
            ("POST", _) if request.target.ends_with("/cancel") => {
                if told.fetch_add(1, SeqCst) == 0 {
                    return (said("503 Service Unavailable", "", "{}"), Then::Stay);
                }
                (said("200 OK", "", &object("cancelled")), Then::Stay)
            }
            ("POST", true) => (part(&all[..3], ""), Then::Hang),
            ("POST", false) => (said("200 OK", "", &object("queued")), Then::Stay),
            _ => (said("200 OK", "", &object("in_progress")), Then::Stay),
        })
        .await;
        let rig = rig(&origin, "{}", KEY);
        let task = rig.later(stream).await;
        let seen = if stream { 1 } else { 2 };
        until("it is made", async || origin.requests() == seen).await;
        let begun = async || !stream || rig.object(&task).await["progress"]["bytes"] != 0;
        until("its id is known", begun).await;
        assert!(rig.post(&format!("{task}/cancel")).await.status < 300);
        assert_eq!(rig.over(&task).await["state"], "cancelled");
        until("it is told", async || origin.requests() == seen + 2).await;
        let told = origin.take().pop().unwrap();
        assert_eq!(
            (&*told.method, &*told.target),
            ("POST", &*format!("/v1/responses/{ID}/cancel"))
        );
        assert_eq!(told.get("authorization"), Some(&*format!("Bearer {UPSTREAM_KEY}")));
        rig.quiet().await;
    }
}

#[tokio::test]
async fn the_callers_own_key_goes_along_and_does_not_outlive_the_process() {
    let origin = backend(|request| {
        let status = if request.method == "POST" { "queued" } else { "in_progress" };
        (said("200 OK", "", &object(status)), Then::Stay)
    })
    .await;
    let mut rig = rig(&origin, "{}", "");
    let task = rig.later(false).await;
    until("it is polled", async || origin.requests() > 2).await;
    let polls = origin.take();
    assert_eq!(polls[1].get("authorization"), Some(&*format!("Bearer {AGENT_KEY}")));
    let policy = policy(rig.state.path(), &origin, "{}", "");
    rig.killed(&policy).await;
    let over = rig.over(&task).await;
    assert_eq!(
        (&over["state"], &over["error"]["type"]),
        (&"failed".into(), &"credential_lost".into())
    );
    // a last poll may have been on its way
    let key = format!("Bearer {AGENT_KEY}");
    let asked = origin.take();
    assert!(asked.iter().all(|poll| poll.get("authorization") == Some(&*key)), "{asked:?}");
}

#[tokio::test]
async fn a_drain_waits_for_no_answer_that_is_made_elsewhere() {
    let (over, done) = (Arc::new(AtomicUsize::new(0)), object("completed"));
    let (is_over, last) = (Arc::clone(&over), done.clone());
    let origin = backend(move |request| {
        let object = match (&*request.method, is_over.load(SeqCst)) {
            ("POST", _) => object("queued"),
            (_, 0) => object("in_progress"),
            _ => last.clone(),
        };
        (said("200 OK", "", &object), Then::Stay)
    })
    .await;
    let mut rig = rig(&origin, "{}", KEY);
    let task = rig.later(false).await;
    until("it is polled", async || origin.requests() > 1).await;
    let from = Instant::now();
    rig.app.end().await;
    assert!(from.elapsed() < Duration::from_secs(6), "{:?}", from.elapsed());
    over.store(1, SeqCst);
    rig.app = started(&policy(rig.state.path(), &origin, "{}", KEY));
    assert_eq!(rig.over(&task).await["state"], "succeeded");
    assert_eq!(rig.result(&task).await.text(), done);
    assert_eq!(by_method(&origin.take(), "POST").len(), 1);
    rig.quiet().await;
}

/// Polled until it is told to be over. Only who made a response knows it, and only under the key that
/// it was made with.
async fn one_of_two(name: &'static str, over: &Arc<AtomicUsize>) -> Origin {
    let over = Arc::clone(over);
    backend(move |request| {
        let key = request.get("authorization").unwrap();
        let id = format!("resp_{name}_{}", if key.ends_with(UPSTREAM_KEY) { "1" } else { "2" });
        let status = match (&*request.method, over.load(SeqCst)) {
            ("POST", _) => "queued",
            _ if !request.target.ends_with(&id) => {
                return (said("404 Not Found", "", "{}"), Then::Stay);
            }
            (_, 0) => "in_progress",
            _ => "completed",
        };
        (said("200 OK", "", &object(status).replace(ID, &id)), Then::Stay)
    })
    .await
}

#[tokio::test]
async fn only_the_address_that_made_it_is_asked_and_with_the_same_key() {
    let over = Arc::new(AtomicUsize::new(0));
    let (one, two) = (one_of_two("a", &over).await, one_of_two("b", &over).await);
    let state = tempfile::tempdir().unwrap();
    let other = tempfile::NamedTempFile::new().unwrap();
    fs::write(other.path(), "another-canary-0077").unwrap();
    let keys = format!("keys: ['${{CANARY}}', 'file:{}'],", other.path().display());
    let policy = policy(state.path(), &one, "{}", &keys);
    let urls = format!("urls: ['{}', '{}']", one.url(), two.url());
    let policy = policy.replace(&format!("url: '{}'", one.url()), &urls);
    let mut rig = Rig { app: started(&policy), state };
    rig.app.secrets.push("another-canary-0077".to_owned());
    let mut tasks = Vec::new();
    for _ in 0..16 {
        tasks.push(rig.later(false).await);
    }
    until("all are polled", async || one.requests() + two.requests() >= 48).await;
    rig.killed(&policy).await;
    over.store(1, SeqCst);
    let mut makers = std::collections::BTreeSet::new();
    for task in &tasks {
        let object = rig.over(task).await;
        assert_eq!(object["state"], "succeeded", "{object}");
        makers.insert(rig.result(task).await.json()["id"].as_str().unwrap().to_owned());
    }
    assert!(makers.len() > 2, "not all were made by one: {makers:?}");
    let asked = [one.take(), two.take()].concat();
    assert_eq!(by_method(&asked, "POST").len(), 16);
    rig.quiet().await;
}

#[tokio::test]
async fn a_drain_lets_go_of_a_stream_and_loses_none_of_it() {
    let all = events(12);
    let origin = halved(all.clone(), 5, || Then::Hang).await;
    let mut rig = rig(&origin, "{}", KEY);
    let task = rig.later(true).await;
    let bytes = all[..5].concat().len();
    let there = async || rig.object(&task).await["progress"]["bytes"] == bytes;
    until("the first events are there", there).await;
    let from = Instant::now();
    rig.app.end().await;
    assert!(from.elapsed() < Duration::from_secs(6), "{:?}", from.elapsed());
    rig.app = started(&policy(rig.state.path(), &origin, "{}", KEY));
    assert_eq!(rig.over(&task).await["state"], "succeeded");
    assert_eq!(rig.result(&task).await.text(), all.concat());
    let asked = origin.take();
    assert_eq!(asked.iter().map(after).collect::<Vec<_>>(), [None, Some(4)]);
    assert_eq!(rig.counted("tokens"), 34, "once");
    rig.quiet().await;
}

#[tokio::test]
async fn a_budget_that_ends_a_stream_ends_it_where_it_is_made() {
    let all = events(400);
    let origin = backend(move |request| {
        if request.target.ends_with("/cancel") {
            return (said("200 OK", "", &object("cancelled")), Then::Stay);
        }
        let from = after(request).map_or(0, |number| number + 1);
        (part(&all[from..all.len() - 1], ""), Then::Drip)
    })
    .await;
    let state = tempfile::tempdir().unwrap();
    let hard = "policies:\n  - { name: few, per: all, limits: { spend: $0.1/day hard }, cut_streams: true }\n";
    let policy = policy(state.path(), &origin, "{}", KEY).replace(COUNTED, hard);
    let rig = Rig { app: started(&policy), state };
    let task = rig.later(true).await;
    let over = rig.over(&task).await;
    assert_eq!(over["state"], "interrupted", "{over}");
    let asked = origin.take();
    assert_eq!(asked.last().unwrap().target, format!("/v1/responses/{ID}/cancel"), "{asked:?}");
    assert!(asked.len() <= 3, "{asked:?}");
    rig.quiet().await;
}

//! Who is told of the ends of tasks, and how often: the program in a process of its own, between a
//! backend and receivers that do what the test says.
mod crashes;
mod places;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use aws_lc_rs::hmac;
use parking_lot::Mutex;
use serde_json::Value;
use tidegate::config::SigningSecret;
use tidegate::io::base64;
use tokio::net::TcpListener;

use crate::support::app::App;
use crate::support::client::{Answer, ask, get, request};
use crate::support::origin::{Origin, Request, whole};
use crate::support::{PATIENCE, until};

const SECRET: &str = "whsec_C2FtcGxlLXNlY3JldC1vZi0yNC1ieXRlcw==";
const OTHER: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// How a receiver says that it has got it.
const TAKEN: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

/// A receiver, and the messages that came to it whole.
struct Receiver {
    origin: Origin,
    got: Arc<Mutex<Vec<Request>>>,
}

impl Receiver {
    async fn new() -> Self {
        Self::by_turns([TAKEN]).await
    }

    /// Answers the first message with the first of them, and so on; all later ones with the last.
    async fn by_turns<'a>(answers: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, answers, Duration::ZERO)
    }

    /// The first message gets its answer after so long, or not at all if its sender goes before.
    async fn slow_at_first(patience: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, [TAKEN], patience)
    }

    fn on<'a>(
        listener: TcpListener,
        answers: impl IntoIterator<Item = &'a [u8]>,
        patience: Duration,
    ) -> Self {
        let answers: Arc<[Vec<u8>]> = answers.into_iter().map(<[u8]>::to_vec).collect();
        let (got, turn) = (Arc::<Mutex<Vec<Request>>>::default(), Arc::<AtomicUsize>::default());
        let seen = Arc::clone(&got);
        let origin = Origin::on(listener, move |mut conn| {
            let (answers, seen, turn) =
                (Arc::clone(&answers), Arc::clone(&seen), Arc::clone(&turn));
            async move {
                while let Some(request) = conn.request().await {
                    seen.lock().push(request);
                    let turn = turn.fetch_add(1, Relaxed);
                    if turn == 0 && !patience.is_zero() {
                        // an error: it is still there
                        let _ = tokio::time::timeout(patience, conn.until_gone()).await;
                    }
                    conn.send(&answers[turn.min(answers.len() - 1)]).await;
                }
            }
        });
        Self { origin, got }
    }

    fn url(&self) -> String {
        self.origin.url()
    }

    fn count(&self) -> usize {
        self.got.lock().len()
    }

    /// Those since the last call.
    fn take(&self) -> Vec<Request> {
        std::mem::take(&mut self.got.lock())
    }

    /// The messages since the last look, once there are so many and their connections are over.
    async fn messages(&self, count: usize) -> Vec<Message> {
        let there = async || self.count() >= count && self.origin.open() == 0;
        until(&format!("{count} messages"), there).await;
        self.take().iter().map(|request| read(request, SECRET)).collect()
    }
}

/// Answers by the model that is asked for: `hang` never, `bad` with 400, any other well.
async fn backend() -> Origin {
    Origin::start(|mut conn| async move {
        while let Some(request) = conn.request().await {
            let asked: Value = serde_json::from_slice(&request.body).unwrap();
            let json = "content-type: application/json\r\n";
            let (status, body) = match asked["model"].as_str() {
                Some("hang") => return conn.until_gone().await,
                Some("bad") => ("400 Bad Request", r#"{"error":{"message":"no"}}"#),
                _ => (
                    "200 OK",
                    r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#,
                ),
            };
            conn.send(&whole(status, json, body)).await;
        }
    })
    .await
}

/// `tasks`: more of that section.
fn policy(backend: &Origin, state: &Path, tasks: &str, webhooks: &str) -> String {
    format!(
        "server: {{ drain: {{ delay: 0s, timeout: 10s }} }}\nstate: '{}'\n\
         upstreams: {{ up: {{ pacing: off, key: '${{CANARY}}', dialect: openai, url: '{}' }} }}\n\
         routes: [{{ to: up }}]\ntasks: {{ {tasks} webhooks: {{ {webhooks} }} }}\n",
        state.display(),
        backend.url()
    )
}

/// A target on this machine.
fn target(name: &str, url: &str) -> String {
    format!("{name}: {{ url: '{url}/hook', secret: {SECRET}, private: true }}")
}

fn start(policy: &str) -> App {
    let mut app = App::with(policy, &["--workers", "2", "--log", "tidegate=trace,info"]);
    app.unfinished = true;
    app.secrets.extend([SECRET, OTHER].map(|secret| secret["whsec_".len()..].to_owned()));
    app
}

/// Asks for a task of whose end `webhooks` are to be told.
async fn submit(to: SocketAddr, model: &str, webhooks: &str) -> Answer {
    let body = format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}]}}"#);
    let lines = format!(
        "content-type: application/json\r\nprefer: respond-async\r\nx-tidegate-webhook: {webhooks}\r\n"
    );
    ask(to, &request("POST", "/v1/chat/completions", &lines, &body)).await
}

/// The id of a task that was taken on.
async fn submitted(to: SocketAddr, model: &str) -> String {
    let answer = submit(to, model, "ops").await;
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.json()["id"].as_str().unwrap().to_owned()
}

async fn state(to: SocketAddr, id: &str) -> String {
    let answer = ask(to, &get(&format!("/-/tasks/{id}"), "")).await;
    answer.json()["state"].as_str().unwrap().to_owned()
}

async fn until_state(to: SocketAddr, id: &str, wanted: &str) {
    until(wanted, async || state(to, id).await == wanted).await;
}

async fn cancel(to: SocketAddr, id: &str) {
    let answer = ask(to, &request("POST", &format!("/-/tasks/{id}/cancel"), "", "")).await;
    assert!(answer.status == 200 || answer.status == 202, "{answer:?}");
}

/// A message as its receiver understands it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Message {
    /// Of the message.
    id: String,
    event: String,
    /// As the caller knows it: the task, or the response that it is.
    named: String,
    task: String,
    state: String,
}

/// Checks what every message has, and its signature as receivers do: HMAC-SHA256 over id, time and body.
fn read(request: &Request, secret: &str) -> Message {
    assert_eq!((&*request.method, &*request.target), ("POST", "/hook"));
    assert_eq!(request.get("content-type"), Some("application/json"));
    assert!(request.body.len() <= 20_000 && request.get("authorization").is_none());
    let (id, at) = (request.get("webhook-id").unwrap(), request.get("webhook-timestamp").unwrap());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert!(now.as_secs().abs_diff(at.parse().unwrap()) < 300, "the tolerance of receivers");
    let signature = request.get("webhook-signature").unwrap();
    let signature = base64::decode(signature.strip_prefix("v1,").unwrap()).unwrap();
    let key = SigningSecret::read(secret).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
    let signed = [id.as_bytes(), b".", at.as_bytes(), b".", &request.body].concat();
    hmac::verify(&key, &signed, &signature).expect("the signature is ours");
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (event, data) = (text(&body["type"]), &body["data"]);
    let (named, state) = (text(&data["id"]), text(&data["state"]));
    let task = data.get("task_id").map_or_else(|| named.clone(), text);
    assert_eq!(event, format!("task.{state}"));
    assert_eq!(data["links"]["result"], format!("/-/tasks/{task}/result"));
    assert!(tidegate::units::instant(body["timestamp"].as_str().unwrap()).is_ok());
    Message { id: id.to_owned(), event, named, task, state }
}

fn told(messages: &[Message]) -> Vec<(&str, &str)> {
    let mut told: Vec<_> =
        messages.iter().map(|message| (&*message.task, &*message.event)).collect();
    told.sort_unstable();
    told
}

#[tokio::test]
async fn every_end_is_told_once_and_a_silent_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let (backend, receiver) = (backend().await, Receiver::new().await);
    let policy = policy(&backend, directory.path(), "", &target("ops", &receiver.url()));
    let mut app = start(&policy);
    let succeeded = submitted(app.addr, "m").await;
    let failed = submitted(app.addr, "bad").await;
    let cancelled = submitted(app.addr, "hang").await;
    let silent = submit(app.addr, "m", "").await;
    assert_eq!(silent.status, 202);
    until_state(app.addr, &cancelled, "running").await;
    cancel(app.addr, &cancelled).await;
    let mut got = receiver.messages(3).await;
    let mut expected = [
        (&*succeeded, "task.succeeded"),
        (&*failed, "task.failed"),
        (&*cancelled, "task.cancelled"),
    ];
    expected.sort_unstable();
    assert_eq!(told(&got), expected);
    // a start finds nothing that is still to be told
    app.end().await;
    let app = start(&policy);
    let last = submitted(app.addr, "m").await;
    let more = receiver.messages(1).await;
    assert_eq!(told(&more), [(&*last, "task.succeeded")]);
    got.extend(more);
    got.sort();
    got.dedup_by(|a, b| a.id == b.id);
    assert_eq!(got.len(), 4, "each has an id of its own");
}

#[tokio::test]
async fn what_is_not_done_in_time_is_told_as_expired() {
    let directory = tempfile::tempdir().unwrap();
    let (backend, receiver) = (backend().await, Receiver::new().await);
    let hook = target("ops", &receiver.url());
    let policy = policy(&backend, directory.path(), "workers: 1, max_age: 1s,", &hook);
    let app = start(&policy);
    // one runs, the other waits for its place
    let mut ids = [submitted(app.addr, "hang").await, submitted(app.addr, "hang").await];
    ids.sort();
    let got = receiver.messages(2).await;
    assert_eq!(told(&got), ids.each_ref().map(|id| (&**id, "task.expired")));
}

#[tokio::test]
async fn a_message_for_nobody_we_know_is_a_mistake_of_the_callers() {
    let directory = tempfile::tempdir().unwrap();
    let (backend, receiver) = (backend().await, Receiver::new().await);
    let policy = policy(&backend, directory.path(), "", &target("ops", &receiver.url()));
    let app = start(&policy);
    for names in ["nobody", "ops, nobody", "OPS", "http://127.0.0.1/"] {
        let answer = submit(app.addr, "m", names).await;
        assert_eq!((answer.status, answer.head.get("x-tidegate-task")), (400, None), "{names}");
        let error = &answer.json()["error"];
        assert_eq!(error["code"], "unknown_webhook", "{names}: {error}");
    }
    assert_eq!(backend.requests(), 0);
    // the same name twice is one message
    let id = submit(app.addr, "m", "ops, ops,ops").await.json()["id"].as_str().unwrap().to_owned();
    until_state(app.addr, &id, "succeeded").await;
    let other = submitted(app.addr, "m").await;
    let mut expected = [(&*id, "task.succeeded"), (&*other, "task.succeeded")];
    expected.sort_unstable();
    assert_eq!(told(&receiver.messages(2).await), expected);
}

#[tokio::test]
async fn a_target_wants_what_the_policy_says_it_wants() {
    let directory = tempfile::tempdir().unwrap();
    let (backend, all, some) = (backend().await, Receiver::new().await, Receiver::new().await);
    let picky = target("picky", &some.url()).replace("private:", "events: [failed], private:");
    let hooks = format!("{}, {picky}", target("ops", &all.url()));
    let app = start(&policy(&backend, directory.path(), "", &hooks));
    for model in ["m", "bad"] {
        assert_eq!(submit(app.addr, model, "ops, picky").await.status, 202);
    }
    let got = all.messages(2).await;
    let failed: Vec<_> = got.iter().filter(|message| message.state == "failed").collect();
    let other = some.messages(1).await;
    assert_eq!((failed.len(), other.len()), (1, 1));
    assert_eq!((&other[0].task, &*other[0].state), (&failed[0].task, "failed"));
    assert_ne!(other[0].id, failed[0].id, "another target's is another message");
}

/// Who asked in OpenAI's form knows the response, not the task: its id is there as OpenAI says it. Of
/// a stream its reader knows the id that stands in the events.
#[tokio::test]
async fn the_end_of_a_response_is_told_under_the_id_that_its_caller_has() {
    for stream in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let script =
            crate::cache::Script::recorded(&crate::cache::OPENAI_RESPONSES, stream, "tokens=3");
        let backend = crate::cache::Backend::start(script.await, Duration::ZERO).await;
        let ops = Receiver::new().await;
        let policy = policy(&backend.origin, directory.path(), "", &target("ops", &ops.url()));
        let app = start(&policy);
        let body = format!(r#"{{"model":"m","background":true,"stream":{stream},"input":"hi"}}"#);
        let lines = "x-tidegate-webhook: ops\r\n";
        let call = crate::cache::by(crate::support::app::AGENT_KEY, "/v1/responses", lines, &body);
        let answer = ask(app.addr, &call).await;
        let id = if stream {
            let event = answer.text().lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
            serde_json::from_str::<Value>(event).unwrap()["response"]["id"].clone()
        } else {
            answer.json()["id"].clone()
        };
        let told = ops.messages(1).await;
        let task = answer.head.get("x-tidegate-task").unwrap();
        assert_eq!((&*told[0].named, &*told[0].task), (id.as_str().unwrap(), task));
        let path = format!("/v1/responses/{}", told[0].named);
        let polled = request("GET", &path, "", "");
        let polled = ask(app.addr, &polled).await;
        assert_eq!((polled.status, &polled.json()["id"]), (200, &id), "{}", polled.text());
    }
}

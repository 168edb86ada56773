//! `/tasks` over real connections, with a book of tasks behind it.
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use super::*;
use crate::admin::tests::ask;
use crate::admin::{self, AdminHandle, Doors, Listener, Readiness};
use crate::store::Store;
use crate::tasks::{
    Caller, Credential, Form, Idempotency, Job, NewTask, Request, ResultHead, Settings,
};
use crate::wire::Kind;

/// Whatever of a caller's must not be seen.
const SECRET: &str = "sesame";

struct Admin {
    _handle: AdminHandle,
    addr: SocketAddr,
    proof: String,
    tasks: Arc<Tasks>,
    _directory: tempfile::TempDir,
}

impl Admin {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(directory.path()).unwrap());
        let token = store.new_token().unwrap();
        let proof = format!("authorization: Bearer {}\r\n", token.expose());
        let settings = Settings::default();
        let tasks = Tasks::open(Arc::clone(&store), settings, Arc::default(), now()).unwrap();
        let doors = Doors {
            metrics: Arc::default(),
            ready: Box::new(|| Readiness { ready: true, why: Vec::new() }),
            live: Box::new(|| true),
            state: Box::new(|| Box::pin(async { Value::Null })),
            cache: None,
            keys: None,
            tasks: Some(TasksDoor { tasks: Arc::clone(&tasks) }),
            guard: Guard { tokens: vec![token], ..Guard::default() },
            page: None,
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let handle = admin::spawn(vec![Listener::Tcp(listener)], doors).unwrap();
        Self { _handle: handle, addr, proof, tasks, _directory: directory }
    }

    fn known(&self, line: &str) -> (u16, Value) {
        let (status, _, body) = ask(self.addr, line, &self.proof, "");
        (status, body)
    }

    async fn submit(&self, owner: u8, agent: &str) -> String {
        let submitted = self.tasks.submit(new(owner, agent), now()).await.unwrap();
        submitted.view.record.id.to_string()
    }

    async fn claim(&self) -> Job {
        tokio::time::timeout(Duration::from_secs(30), self.tasks.claim()).await.unwrap()
    }
}

/// With a secret in each place that a caller can put one.
fn new(owner: u8, agent: &str) -> NewTask {
    let headers = vec![("x-mine".to_owned(), SECRET.as_bytes().to_vec())];
    let request = Request {
        method: "POST".to_owned(),
        path_and_query: format!("/v1/chat/completions?key={SECRET}"),
        headers: headers.clone(),
        kind: Kind::Chat,
        needs_credential: true,
        repeats: true,
        ..Request::default()
    };
    NewTask {
        owner: [owner; 16],
        request,
        caller: Caller { agent: agent.to_owned(), rung: "header".to_owned(), ..Caller::default() },
        route: "r".to_owned(),
        model: Some("m".to_owned()),
        idempotency: Some(Idempotency { key: [owner; 32], fingerprint: [0; 32] }),
        webhooks: vec!["ops".to_owned()],
        form: Form::Plain,
        body: Bytes::from_static(SECRET.as_bytes()),
        credential: Some(Credential::new(headers)),
        max_age: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_everybodys_tasks_and_nothing_that_is_in_them() {
    let admin = Admin::start();
    let first = admin.submit(1, "writer").await;
    let second = admin.submit(2, "reader").await;
    let (status, said) = admin.known("GET /tasks");
    assert_eq!(status, 200, "{said}");
    let ids: Vec<_> = said["tasks"].as_array().unwrap().iter().map(|task| &task["id"]).collect();
    assert_eq!((ids.len(), &said["more"]), (2, &json!(false)), "{said}");
    assert!(ids.contains(&&json!(first)) && ids.contains(&&json!(second)), "{said}");

    let job = admin.claim().await;
    let id = job.lead.id().to_string();
    let head = ResultHead {
        status: 200,
        headers: vec![("x-answer".to_owned(), SECRET.to_owned())],
        ..ResultHead::default()
    };
    job.lead.begin(head);
    job.lead.push(Bytes::from_static(SECRET.as_bytes())).unwrap();
    job.lead.progress(3);
    let (_, said) = admin.known(&format!("GET /tasks/{id}"));
    for (what, value) in [
        ("state", json!("running")),
        ("model", json!("m")),
        ("operation", json!("chat")),
        ("request_bytes", json!(6)),
        ("bytes", json!(6)),
        ("output_tokens", json!(3)),
        ("status", Value::Null),
        ("webhooks", json!(["ops"])),
    ] {
        assert_eq!(said[what], value, "{what}: {said}");
    }
    job.lead.finish(State::Succeeded, None, None, None).await.unwrap();
    let (status, one) = admin.known(&format!("GET /tasks/{id}"));
    assert_eq!((status, &one["state"], &one["status"]), (200, &json!("succeeded"), &json!(200)));
    let (_, all) = admin.known("GET /tasks");
    for text in [&said, &one, &all] {
        assert!(!text.to_string().contains(SECRET), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_token_nothing_is_shown_and_nothing_cancelled() {
    let admin = Admin::start();
    let id = admin.submit(1, "writer").await;
    let twice = format!("{0}{0}", admin.proof);
    let lines = [
        "GET /tasks".to_owned(),
        format!("GET /tasks/{id}"),
        format!("POST /tasks/{id}/cancel"),
        "GET /tasks/other".to_owned(),
    ];
    for line in &lines {
        for headers in ["", "authorization: Bearer x\r\n", &twice, "origin: http://a.example\r\n"] {
            let (status, head, said) = ask(admin.addr, line, headers, "");
            assert_eq!((status, &said["error"]["code"]), (401, &json!("unauthorized")), "{line}");
            assert!(!head.contains("access-control"), "{head}");
        }
    }
    let rebound = "host: evil.example\r\n".to_owned() + &admin.proof;
    assert!(matches!(ask(admin.addr, "GET /tasks", &rebound, "").0, 400 | 403));
    assert_eq!(admin.known(&format!("GET /tasks/{id}")).1["state"], "queued");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_ends_what_waits_and_stops_what_runs() {
    let admin = Admin::start();
    let running = admin.submit(1, "a").await;
    let job = admin.claim().await;
    let waiting = admin.submit(2, "b").await;
    let cancel = |id: &str| admin.known(&format!("POST /tasks/{id}/cancel"));
    let (status, said) = cancel(&waiting);
    assert_eq!((status, &said["state"]), (200, &json!("cancelled")), "{said}");
    let (status, said) = cancel(&running);
    assert_eq!((status, &said["state"]), (200, &json!("cancelling")), "{said}");
    tokio::time::timeout(Duration::from_secs(30), job.lead.cancelled()).await.unwrap();
    job.lead.finish(State::Cancelled, None, None, None).await.unwrap();
    // what is over stays as it is
    assert_eq!(cancel(&running).1["state"], "cancelled");
    let unknown = TaskId::new().to_string();
    for id in [&*unknown, "task_x", "%2e"] {
        let (status, said) = cancel(id);
        assert_eq!((status, &said["error"]["code"]), (404, &json!("unknown_task")), "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_turned_page_by_page_and_filtered() {
    let admin = Admin::start();
    let mut made = Vec::new();
    for owner in 0..5 {
        made.push(admin.submit(owner, "a").await);
    }
    let mut seen = Vec::new();
    let mut line = "GET /tasks?limit=2".to_owned();
    for more in [true, true, false] {
        let (status, said) = admin.known(&line);
        assert_eq!((status, &said["more"]), (200, &json!(more)), "{said}");
        seen.extend(said["tasks"].as_array().unwrap().iter().map(|task| task["id"].clone()));
        let last = seen.last().unwrap().as_str().unwrap();
        line = format!("GET /tasks?limit=2&after={last}");
    }
    assert_eq!(seen.len(), 5);
    assert!(made.iter().all(|id| seen.contains(&json!(id))), "{seen:?}");
    let count = |query: &str| admin.known(&format!("GET /tasks?{query}")).1["tasks"].clone();
    assert_eq!(count("state=queued").as_array().unwrap().len(), 5);
    assert_eq!(count("state=failed"), json!([]));
    for (query, why) in [
        ("state=done", "state: expected one of queued, running"),
        ("limit=0", "limit: expected"),
        ("limit=1001", "limit: expected"),
        ("limit=", "limit: expected"),
        ("after=task_1", "after: expected"),
        ("agent=a", "expected state, limit or after"),
        ("x", "expected state, limit or after"),
    ] {
        let (status, said) = admin.known(&format!("GET /tasks?{query}"));
        let message = said["error"]["message"].as_str().unwrap_or_default();
        assert!(status == 400 && message.starts_with(why), "{query}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_path_has_its_methods() {
    let admin = Admin::start();
    let id = admin.submit(1, "a").await;
    for (line, status) in [
        ("HEAD /tasks".to_owned(), 200),
        ("POST /tasks".to_owned(), 405),
        ("DELETE /tasks".to_owned(), 405),
        (format!("HEAD /tasks/{id}"), 200),
        (format!("DELETE /tasks/{id}"), 405),
        (format!("GET /tasks/{id}/cancel"), 405),
        (format!("GET /tasks/{id}/result"), 404),
        (format!("GET /tasks/{id}/events"), 404),
        ("POST /tasks//cancel".to_owned(), 404),
        ("GET /tasksx".to_owned(), 404),
    ] {
        assert_eq!(admin.known(&line).0, status, "{line}");
    }
}

//! Calls that are answered later, from outside: the program in a process of its own, and behind it a
//! backend that answers as it is told and counts who asks.
mod attach;
mod background;
mod credentials;
mod events;
mod follow;
mod queries;
mod run;
mod submit;
mod submit_limits;
mod webhooks;

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cache::{Backend, Face, OPENAI_CHAT, Script, by};
use crate::support::app::{AGENT_KEY, App};
use crate::support::client::{Answer, ask, request};
use crate::support::origin::Origin;
use crate::support::{PATIENCE, until};

const ASYNC: &str = "prefer: respond-async\r\n";
/// Of another agent than the tests' own.
const OTHER: &str = "sk-another-agents-key-00112233445566";
/// What counts all there is to count, and what no test reaches.
const COUNTED: &str = "policies:\n  - { name: all, limits: { requests: 100k/day calendar, tokens: 900M/day \
                       calendar, concurrency: 5000 } }\n";

/// The program, and the directory that its tasks are in.
struct Rig {
    app: App,
    state: tempfile::TempDir,
}

/// A policy with one upstream for every path. `tasks` are settings of tasks, in braces.
fn rules(state: &Path, url: &str, tasks: &str, upstream: &str, more: &str) -> String {
    format!(
        "server: {{ drain: {{ delay: 0s, timeout: 8s }} }}\nstate: '{}'\ntasks: {tasks}\n\
         prices: {{ m: {{ input: 1000, output: 1000 }} }}\n\
         upstreams: {{ up: {{ pacing: off, {upstream} url: '{url}' }} }}\nroutes: [{{ to: up }}]\n{more}",
        state.display()
    )
}

impl Rig {
    fn new(url: &str, tasks: &str, more: &str) -> Self {
        Self::with(url, tasks, "", more)
    }

    /// The sidecar holds the key, so that a restart can go on.
    fn keyed(url: &str, tasks: &str, more: &str) -> Self {
        Self::with(url, tasks, "key: '${CANARY}',", more)
    }

    fn with(url: &str, tasks: &str, upstream: &str, more: &str) -> Self {
        let state = tempfile::tempdir().unwrap();
        let app = App::with(&rules(state.path(), url, tasks, upstream, more), &["--workers", "2"]);
        Self { app, state }
    }

    async fn ask(&self, call: &[u8]) -> Answer {
        ask(self.app.addr, call).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(&request("GET", path, "", "")).await
    }

    async fn post(&self, path: &str) -> Answer {
        self.ask(&request("POST", path, "", "")).await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.ask(&request("DELETE", path, "", "")).await
    }

    /// Takes a call on, and gives the path of its task.
    async fn submit(&self, face: &Face, question: &str, stream: bool) -> String {
        accepted(&self.ask(&face.call_with(question, stream, ASYNC)).await)
    }

    async fn object(&self, task: &str) -> Value {
        let answer = self.get(task).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// The task when it is over.
    async fn over(&self, task: &str) -> Value {
        let from = Instant::now();
        loop {
            let object = self.object(&format!("{task}?wait=3")).await;
            if terminal(&object) {
                return object;
            }
            assert!(from.elapsed() < 3 * PATIENCE, "it is never over: {object}");
        }
    }

    async fn until_state(&self, task: &str, state: &str) {
        until(&format!("it is {state}"), async || self.object(task).await["state"] == state).await;
    }

    async fn result(&self, task: &str) -> Answer {
        self.get(&format!("{task}/result")).await
    }

    /// Nothing is held for any call.
    async fn quiet(&self) {
        self.app.quiet().await;
    }
}

fn terminal(object: &Value) -> bool {
    let state = object["state"].as_str().expect("a state");
    ["succeeded", "failed", "cancelled", "expired", "interrupted"].contains(&state)
}

/// The path of a task that was taken on.
#[track_caller]
fn accepted(answer: &Answer) -> String {
    assert_eq!(answer.status, 202, "{}{}", answer.head.text, answer.text());
    answer.head.get("location").expect("a place").to_owned()
}

/// An answer in words.
fn answer(text: &str) -> String {
    format!(
        r#"{{"id":"c1","object":"chat.completion","model":"m","choices":[{{"index":0,"finish_reason":"stop","message":{{"role":"assistant","content":"{text}"}}}}],"usage":{{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}}}"#
    )
}

/// The bytes of an answer in JSON.
fn said(status: &str, lines: &str, body: &str) -> Vec<u8> {
    crate::support::origin::whole(
        status,
        &format!("content-type: application/json\r\n{lines}"),
        body,
    )
}

/// A backend that answers at once.
async fn prompt() -> Origin {
    Origin::saying(said("200 OK", "", &answer("hello"))).await
}

/// A stream of so many events with words, and its end.
fn counting(events: usize) -> Script {
    let event = |n| {
        format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{n} \"}}}}]}}\n\n")
    };
    Script::events((0..events).map(event).chain(["data: [DONE]\n\n".to_owned()]))
}

/// One that never answers.
async fn silent() -> Backend {
    Backend::held(Script::json("200 OK", &answer("late")), Duration::ZERO, 0).await
}

/// A call of another agent.
fn stranger(method: &str, path: &str) -> Vec<u8> {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {OTHER}\r\n\
         content-length: 0\r\n\r\n"
    )
    .into_bytes()
}

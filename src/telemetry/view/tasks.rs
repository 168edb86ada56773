//! What an instance says of tasks: `GET /tasks`, and `tasks`, `webhooks` and `streams` of `/state`.
//!
//! Facts about calls, never what is in them: no header, no body, no answer, no query.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Calls that are answered later, and streams that can be taken up again.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct OffloadView {
    /// `None`: there are no tasks here.
    pub tasks: Option<TasksView>,
    pub webhooks: Option<WebhooksView>,
    pub streams: StreamsView,
}

/// All tasks together; counts are since the start of the process.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TasksView {
    /// How many there are in each state.
    pub states: BTreeMap<String, u64>,
    pub submitted: u64,
    /// How many came to which end.
    pub ended: BTreeMap<String, u64>,
    /// Attempts that were followed by another, by why.
    pub retries: BTreeMap<String, u64>,
    /// Those that were not taken on, by why.
    pub refused: BTreeMap<String, u64>,
    /// How long the oldest has stood in the queue. `None`: none is due to run.
    pub oldest_queued_ms: Option<u64>,
    /// Bytes of the requests of tasks that are not over,
    pub request_bytes: u64,
    /// and of answers.
    pub result_bytes: u64,
}

/// Messages about the ends of tasks.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct WebhooksView {
    pub sent: u64,
    /// Attempts that did not arrive, or were not wanted.
    pub failed: u64,
    /// Messages that nobody took.
    pub given_up: u64,
    pub waiting: u64,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamsView {
    /// Streams that can be taken up again now.
    pub kept: u64,
    /// Times that one was.
    pub resumed: u64,
}

/// A page of tasks, newest first.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskListView {
    pub tasks: Vec<TaskView>,
    /// There are older ones.
    pub more: bool,
}

/// One task. Times are Unix milliseconds.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskView {
    pub id: String,
    pub state: String,
    pub agent: String,
    /// Empty for none, as the texts below.
    pub team: String,
    pub parent: String,
    pub session: String,
    pub rung: String,
    pub operation: String,
    pub route: String,
    pub model: String,
    pub stream: bool,
    pub created_ms: u64,
    pub started_ms: Option<u64>,
    pub finished_ms: Option<u64>,
    /// Not before then, while it waits for another attempt.
    pub next_ms: Option<u64>,
    /// When its answer goes; or until when it must be done.
    pub expires_ms: u64,
    /// From its making to its end, or to now.
    pub elapsed_ms: u64,
    pub attempts: u32,
    /// Tasks of its agent that go before it, while it waits for a place.
    pub position: Option<u64>,
    pub request_bytes: u64,
    /// Of the answer so far.
    pub bytes: u64,
    pub output_tokens: u64,
    pub input_tokens: Option<u64>,
    pub cost_microdollars: Option<u64>,
    /// Of the answer, once it is over.
    pub status: Option<u16>,
    /// Its answer was there, and is gone.
    pub purged: bool,
    /// Who is told of its end, by name.
    pub webhooks: Vec<String>,
    pub error: Option<TaskErrorView>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskErrorView {
    pub r#type: String,
    pub message: String,
    pub status: Option<u16>,
}

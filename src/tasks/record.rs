//! What is durable of a task: one row of JSON in the table `tasks`.
//!
//! Its bulk is kept beside it, in rows of `task_data`: the headers and the body of the request,
//! and the pieces of the answer ([`Data`]). A field that came later has a default, so that an
//! older row is read; one that is not known is passed over. Times are Unix milliseconds.
//! Credentials are no part of it ([`Credential`] is memory's alone).
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{State, TaskId};
use crate::wire::Kind;

/// Who may see a task: opaque here, made of the caller's walls.
pub type Owner = [u8; 16];

/// Headers as they were sent: names in lower case, values as bytes.
pub type Headers = Vec<(String, Vec<u8>)>;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub id: TaskId,
    pub owner: Owner,
    pub state: State,
    pub created_ms: u64,
    /// When the first attempt began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_ms: Option<u64>,
    /// Those that count.
    #[serde(default)]
    pub attempts: u32,
    /// All of them, also those that do not count; names the rows of an attempt's answer.
    #[serde(default)]
    pub runs: u32,
    /// Not before then, while it waits for another attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_ms: Option<u64>,
    /// What is not over by then is expired.
    pub expires_ms: u64,
    /// The answer is kept until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_until_ms: Option<u64>,
    /// When the answer went, by age or by wish: from then on this is a tombstone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purged_ms: Option<u64>,
    /// By wish: it is not shown any more.
    #[serde(default, skip_serializing_if = "is_false")]
    pub deleted: bool,
    pub request: Request,
    pub caller: Caller,
    pub route: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency: Option<Idempotency>,
    /// By name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub webhooks: Vec<String>,
    /// All of them have been told of its end.
    #[serde(default, skip_serializing_if = "is_false")]
    pub told: bool,
    #[serde(default)]
    pub form: Form,
    /// Ids of the answer at its upstream.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Who goes on making the answer, whatever becomes of us.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<Holder>,
    /// Events told by attempts before this one.
    #[serde(default)]
    pub events_before: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<ResultHead>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_microdollars: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<TaskError>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde asks for it
fn is_false(value: &bool) -> bool {
    !value
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    pub method: String,
    pub path_and_query: String,
    /// In a row of their own: they are in a [`super::NewTask`] and in a [`super::Job`], and empty
    /// in a view. Without credentials.
    #[serde(skip)]
    pub headers: Headers,
    #[serde(default)]
    pub body_bytes: u64,
    #[serde(default)]
    pub stream: bool,
    /// Known by its path below the route's, which may be another when it runs.
    #[serde(default)]
    pub kind: Kind,
    /// The caller's own credential goes with it; it is not on the disk.
    #[serde(default)]
    pub needs_credential: bool,
    /// It may be made twice: it has no side effects.
    #[serde(default)]
    pub repeats: bool,
    /// Its upstream is to make it in a background mode of its own.
    #[serde(default, skip_serializing_if = "is_false")]
    pub background: bool,
}

/// The one place where an answer is known, and can be asked for again by its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The upstream's id of it.
    pub response: String,
    /// By name.
    pub upstream: String,
    /// The one of its addresses, as it is shown.
    pub address: String,
    /// The key of the upstream that it was asked for with, by its id; tells nothing of it.
    #[serde(default)]
    pub key: u64,
}

/// Who asked, as the pipeline found it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Caller {
    pub agent: String,
    pub rung: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    #[serde(skip_serializing_if = "is_false")]
    pub team_proven: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// The keyed hash that tells credentials apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<[u8; 16]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
}

/// Both are hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idempotency {
    pub key: [u8; 32],
    /// Of what was asked: the same key with another is a mistake.
    pub fingerprint: [u8; 32],
}

/// How it was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    #[default]
    Plain,
    /// As OpenAI's background mode has it.
    Responses,
}

/// The answer's head, as the upstream gave it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultHead {
    pub status: u16,
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// Of the body that is kept.
    #[serde(default)]
    pub bytes: u64,
    /// Set by the book: the end was seen, and it was a good one.
    #[serde(default)]
    pub whole: bool,
    #[serde(default)]
    pub format: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub input: u64,
    pub output: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskError {
    pub r#type: String,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

impl TaskError {
    pub fn new(r#type: &str, message: &str) -> Self {
        Self { r#type: r#type.to_owned(), message: message.to_owned(), status: None }
    }
}

/// The caller's own credential, as headers. In memory alone: it has neither serde nor a Debug
/// that shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential(Headers);

impl Credential {
    pub fn new(headers: Headers) -> Self {
        Self(headers)
    }

    /// For the request that is about to be sent, and nothing else.
    pub fn expose(&self) -> &Headers {
        &self.0
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(…)")
    }
}

impl Record {
    /// The row; without the headers of the request.
    pub(super) fn row(&self) -> Vec<u8> {
        // strings, numbers and lists of them: it cannot fail
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Whether it is over and somebody is still to be told.
    pub(super) fn is_untold(&self) -> bool {
        self.state.is_terminal() && !self.told && !self.webhooks.is_empty()
    }

    /// Whether its answer is still to be had.
    pub fn has_result(&self) -> bool {
        self.result.is_some() && self.purged_ms.is_none()
    }
}

/// The kinds of rows in `task_data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Data {
    /// The request's headers, as JSON.
    Headers,
    /// The request's body, in pieces.
    Body,
    /// The answer of one attempt, in pieces.
    Answer { run: u32 },
}

impl Data {
    /// What all keys of this kind begin with.
    pub(super) fn prefix(self, id: TaskId) -> Vec<u8> {
        let mut key = Vec::with_capacity(25);
        key.extend_from_slice(id.as_bytes());
        match self {
            Self::Headers => key.push(b'h'),
            Self::Body => key.push(b'b'),
            Self::Answer { run } => {
                key.push(b'r');
                key.extend_from_slice(&run.to_be_bytes());
            }
        }
        key
    }

    /// The key of one piece: the id, the kind and eight bytes, of which an answer's begin with
    /// the attempt.
    pub(super) fn key(self, id: TaskId, piece: u32) -> Vec<u8> {
        let mut key = self.prefix(id);
        if !matches!(self, Self::Answer { .. }) {
            key.extend_from_slice(&0_u32.to_be_bytes());
        }
        key.extend_from_slice(&piece.to_be_bytes());
        key
    }
}

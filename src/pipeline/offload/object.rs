//! A task as its owner sees it.
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use super::TASK;
use super::submit::now_ms;
use crate::pipeline::reply::Reply;
use crate::tasks::{Form, Record, State, TaskError, Usage, View};

/// In JSON. Times are Unix seconds, as OpenAI's are.
#[derive(Serialize)]
struct Object<'v> {
    id: String,
    #[serde(rename = "object")]
    what: &'static str,
    state: &'static str,
    created_at: u64,
    started_at: Option<u64>,
    finished_at: Option<u64>,
    /// When its answer goes; or until when it must be done.
    expires_at: u64,
    attempts: u32,
    operation: &'v str,
    route: &'v str,
    model: Option<&'v str>,
    stream: bool,
    progress: Progress,
    usage: Option<Usage>,
    cost_microdollars: Option<u64>,
    /// Of the answer.
    status: Option<u16>,
    error: Option<&'v TaskError>,
    links: Links,
}

#[derive(Serialize)]
struct Progress {
    /// Tasks of this agent that go before it.
    position: Option<usize>,
    output_tokens: u64,
    bytes: u64,
    elapsed_ms: u64,
}

#[derive(Serialize)]
struct Links {
    #[serde(rename = "self")]
    own: String,
    result: String,
    events: String,
    cancel: String,
}

impl<'v> Object<'v> {
    fn of(view: &'v View) -> Self {
        let record: &Record = &view.record;
        let own = format!("/-/tasks/{}", record.id);
        let until = record.finished_ms.unwrap_or_else(now_ms);
        let over = record.state.is_terminal();
        Self {
            id: record.id.to_string(),
            what: "task",
            state: record.state.as_str(),
            created_at: record.created_ms / 1000,
            started_at: record.started_ms.map(|at| at / 1000),
            finished_at: record.finished_ms.map(|at| at / 1000),
            expires_at: record.keep_until_ms.filter(|_| over).unwrap_or(record.expires_ms) / 1000,
            attempts: record.attempts,
            operation: record.request.kind.operation(),
            route: &record.route,
            model: record.model.as_deref(),
            stream: record.request.stream,
            progress: Progress {
                position: view.position,
                output_tokens: view.output_tokens,
                bytes: view.bytes,
                elapsed_ms: until.saturating_sub(record.created_ms),
            },
            usage: record.usage,
            cost_microdollars: record.cost_microdollars,
            status: record.result.as_ref().filter(|_| over).map(|head| head.status),
            error: record.error.as_ref(),
            links: Links {
                result: format!("{own}/result"),
                events: format!("{own}/events"),
                cancel: format!("{own}/cancel"),
                own,
            },
        }
    }
}

/// The object as JSON, in one line.
pub fn json(view: &View) -> Vec<u8> {
    // strings and numbers: it cannot fail
    serde_json::to_vec(&Object::of(view)).unwrap_or_default()
}

/// The least that tells of a task, for messages that go out of the house: under the id that its
/// caller was told, which is a response's where it asked in OpenAI's form.
pub fn brief(view: &View) -> serde_json::Value {
    let Object { id, state, links, stream, .. } = Object::of(view);
    let record = &view.record;
    if record.form == Form::Plain {
        return serde_json::json!({ "id": id, "state": state, "links": links });
    }
    // the events of a stream name the backend's response
    let theirs = record.aliases.last().filter(|_| stream).cloned();
    let response = theirs.unwrap_or_else(|| record.id.as_response());
    serde_json::json!({ "id": response, "task_id": id, "state": state, "links": links })
}

/// It changes with what the task becomes; how far an answer has come is no other task.
pub fn etag(view: &View) -> String {
    format!("W/\"{:x}\"", view.version)
}

pub fn reply(view: &View) -> Reply {
    let mut reply = json_reply(StatusCode::OK, json(view));
    if let Ok(etag) = HeaderValue::try_from(etag(view)) {
        reply.headers.insert(header::ETAG, etag);
    }
    about(&mut reply, view);
    reply
}

pub fn json_reply(status: StatusCode, body: Vec<u8>) -> Reply {
    let mut reply = Reply::ours(status, Bytes::from(body));
    let headers = &mut reply.headers;
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

/// Names the task in the head.
pub fn about(reply: &mut Reply, view: &View) {
    if let Ok(id) = HeaderValue::try_from(view.record.id.to_string()) {
        reply.headers.insert(TASK, id);
    }
}

#[derive(Serialize)]
struct List<'v> {
    object: &'static str,
    data: Vec<Object<'v>>,
    has_more: bool,
    /// For `after`.
    last_id: Option<String>,
}

/// A page of them; `more`: there is another behind it.
pub fn list(views: &[View], more: bool) -> Reply {
    let list = List {
        object: "list",
        data: views.iter().map(Object::of).collect(),
        has_more: more,
        last_id: views.last().map(|view| view.record.id.to_string()),
    };
    json_reply(StatusCode::OK, serde_json::to_vec(&list).unwrap_or_default())
}

/// What an event about it is called.
pub fn event_name(state: State) -> &'static str {
    match state {
        State::Queued => "task.queued",
        State::Running => "task.running",
        State::RetryWait => "task.retrying",
        State::Cancelling => "task.cancelling",
        State::Succeeded => "task.succeeded",
        State::Failed => "task.failed",
        State::Cancelled => "task.cancelled",
        State::Expired => "task.expired",
        State::Interrupted => "task.interrupted",
    }
}

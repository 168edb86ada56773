//! `/tasks`: everybody's tasks, for the operator.
//!
//! Who asked for what model, and how far it has come: facts of all agents, so all of it asks for a
//! token (`admin/proof.rs`), reading too. Never a header, a body, a query or an answer of
//! a caller's: those are their owner's alone. A word that is not known is refused.
//!
//! - `GET /tasks` with any of `state`, `limit` (1 to 1000, 100 by default) and `after` (an id): a
//!   [`TaskListView`], newest first
//! - `GET /tasks/ID`: a [`TaskView`]
//! - `POST /tasks/ID/cancel`: the task as it is then. One that waits is cancelled at once, one that
//!   runs is told to stop, one that is over stays as it is
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::ALLOW;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::json;

use super::TasksDoor;
use super::proof::Guard;
use super::respond::{Body, JSON, answer, error, line};
use crate::tasks::{Record, State, TaskId, Tasks, View};
use crate::telemetry::view::{TaskErrorView, TaskListView, TaskView};

const PATH: &str = "/tasks";
/// Tasks on a page, and the most that may be asked for.
const PAGE: usize = 100;
const LARGEST_PAGE: usize = 1000;

pub(super) fn is_path(path: &str) -> bool {
    path.strip_prefix(PATH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

pub(super) async fn respond(
    door: &TasksDoor,
    guard: &Guard,
    request: Request<Incoming>,
) -> Response<Body> {
    let proof = if request.method() == Method::POST {
        guard.may_act(&request)
    } else {
        guard.proven(&request)
    };
    if let Err(unproven) = proof {
        return unproven.answer();
    }
    let tasks = &door.tasks;
    let rest = request.uri().path()[PATH.len()..].strip_prefix('/').unwrap_or_default();
    let (id, verb) = rest.split_once('/').unwrap_or((rest, ""));
    let allowed = if verb.is_empty() { "GET, HEAD" } else { "POST" };
    if !matches!(verb, "" | "cancel") {
        return error(StatusCode::NOT_FOUND, "not_found", "no such path");
    }
    if !allowed.split(", ").any(|method| method == request.method().as_str()) {
        let message = format!("only {allowed}");
        let mut refused = error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &message);
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        return refused;
    }
    if id.is_empty() && verb.is_empty() {
        return match Page::read(request.uri().query()) {
            Ok(page) => list(tasks, &page),
            Err(fault) => error(StatusCode::BAD_REQUEST, "bad_request", &fault),
        };
    }
    let found = match TaskId::parse(id) {
        Some(id) if request.method() == Method::POST => cancel(tasks, id).await,
        Some(id) => tasks.show(id),
        None => None,
    };
    match found {
        Some(view) => answer(StatusCode::OK, JSON, line(&json!(shown(&view, now())))),
        None => error(StatusCode::NOT_FOUND, "unknown_task", "there is no such task"),
    }
}

async fn cancel(tasks: &Tasks, id: TaskId) -> Option<View> {
    let view = tasks.cancel(None, id).await?;
    tracing::info!(%id, state = view.record.state.as_str(), "a task was cancelled by an operator");
    Some(view)
}

fn list(tasks: &Arc<Tasks>, page: &Page) -> Response<Body> {
    let mut views = tasks.list(None, page.state, page.after, page.limit + 1);
    let more = views.len() > page.limit;
    views.truncate(page.limit);
    let now = now();
    let tasks = views.iter().map(|view| shown(view, now)).collect();
    answer(StatusCode::OK, JSON, line(&json!(TaskListView { tasks, more })))
}

/// What is asked of the list.
struct Page {
    state: Option<State>,
    limit: usize,
    after: Option<TaskId>,
}

impl Page {
    /// The error is a sentence.
    fn read(query: Option<&str>) -> Result<Self, String> {
        let mut page = Self { state: None, limit: PAGE, after: None };
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "state" => {
                    let states = State::ALL.map(State::as_str).join(", ");
                    let wrong = || format!("state: expected one of {states}");
                    page.state = Some(State::parse(value).ok_or_else(wrong)?);
                }
                "limit" => {
                    let limit = value.parse().ok();
                    let limit = limit.filter(|limit| (1..=LARGEST_PAGE).contains(limit));
                    page.limit = limit.ok_or("limit: expected a number from 1 to 1000")?;
                }
                "after" => {
                    page.after = Some(TaskId::parse(value).ok_or("after: expected a task's id")?);
                }
                _ => return Err("expected state, limit or after".to_owned()),
            }
        }
        Ok(page)
    }
}

/// The tasks that a page shows: those that are not over, and then the newest; each kind newest first.
pub fn rows(tasks: &Arc<Tasks>, most: usize) -> Vec<TaskView> {
    let open = State::ALL.into_iter().filter(|state| !state.is_terminal());
    let mut views: Vec<_> =
        open.flat_map(|state| tasks.list(None, Some(state), None, most)).collect();
    views.sort_by_key(|view| std::cmp::Reverse(view.record.created_ms));
    views.truncate(most);
    if views.len() < most {
        let over = tasks.list(None, None, None, most).into_iter();
        let over = over.filter(|view| view.record.state.is_terminal());
        views.extend(over.take(most - views.len()));
    }
    let now = now();
    views.iter().map(|view| shown(view, now)).collect()
}

/// As the operator sees it.
fn shown(view: &View, now_ms: u64) -> TaskView {
    let record: &Record = &view.record;
    let (caller, request) = (&record.caller, &record.request);
    let over = record.state.is_terminal();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let until = record.finished_ms.unwrap_or(now_ms);
    TaskView {
        id: record.id.to_string(),
        state: record.state.as_str().to_owned(),
        agent: caller.agent.clone(),
        team: text(&caller.team),
        parent: text(&caller.parent),
        session: text(&caller.session),
        rung: caller.rung.clone(),
        operation: request.kind.operation().to_owned(),
        route: record.route.clone(),
        model: text(&record.model),
        stream: request.stream,
        created_ms: record.created_ms,
        started_ms: record.started_ms,
        finished_ms: record.finished_ms,
        next_ms: record.next_ms,
        expires_ms: record.keep_until_ms.filter(|_| over).unwrap_or(record.expires_ms),
        elapsed_ms: until.saturating_sub(record.created_ms),
        attempts: record.attempts,
        position: view.position.map(|before| before as u64),
        request_bytes: request.body_bytes,
        bytes: view.bytes,
        output_tokens: view.output_tokens,
        input_tokens: record.usage.map(|usage| usage.input),
        cost_microdollars: record.cost_microdollars,
        status: record.result.as_ref().filter(|_| over).map(|head| head.status),
        purged: record.purged_ms.is_some(),
        webhooks: record.webhooks.clone(),
        error: record.error.as_ref().map(|error| TaskErrorView {
            r#type: error.r#type.clone(),
            message: error.message.clone(),
            status: error.status,
        }),
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests;

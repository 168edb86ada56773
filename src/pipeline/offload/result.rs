//! The answer of a task, as it came: status, headers and body.
use http::{HeaderName, HeaderValue, StatusCode, header};

use super::object;
use crate::pipeline::refusal::Refusal;
use crate::pipeline::reply::{Reply, SOURCE, SOURCE_UPSTREAM};
use crate::tasks::{Owner, State, Tasks, View};

/// On an answer of which the end is missing.
const PARTIAL: HeaderName = HeaderName::from_static("x-tidegate-partial");

/// Headers of an answer that are kept with it; the others were of its connection, its moment or
/// its account.
const KEPT: [&str; 8] = [
    "content-type",
    "content-encoding",
    "content-language",
    "x-request-id",
    "request-id",
    "openai-processing-ms",
    "x-tidegate-max-tokens",
    "x-tidegate-source",
];

/// Of a head that has come: what is kept of it.
pub fn keep(headers: &http::HeaderMap) -> Vec<(String, String)> {
    let kept = KEPT.iter().filter_map(|name| {
        let value = headers.get(*name)?.to_str().ok()?;
        Some(((*name).to_owned(), value.to_owned()))
    });
    kept.collect()
}

/// The answer of a task that is over; else why there is none.
pub async fn verbatim(tasks: &Tasks, owner: &Owner, view: &View) -> Result<Reply, Refusal> {
    let record = &view.record;
    if !record.state.is_terminal() {
        let mut reply = object::reply(view);
        reply.status = StatusCode::ACCEPTED;
        reply.headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
        return Ok(reply);
    }
    if record.purged_ms.is_some() {
        return Err(Refusal::task_gone());
    }
    let Some(head) = &record.result else { return Err(without_answer(view)) };
    let body = tasks.result_of(owner, record.id).await.map_err(|_| Refusal::tasks_broken())?;
    let body = body.ok_or_else(Refusal::task_gone)?;
    let status = StatusCode::from_u16(head.status).unwrap_or(StatusCode::OK);
    let mut reply = Reply::ours(status, body);
    reply.headers.insert(SOURCE, SOURCE_UPSTREAM);
    for (name, value) in &head.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            reply.headers.insert(name, value);
        }
    }
    if !head.whole {
        reply.headers.insert(PARTIAL, HeaderValue::from_static("true"));
    }
    object::about(&mut reply, view);
    Ok(reply)
}

/// It ended before anybody answered.
fn without_answer(view: &View) -> Refusal {
    let record = &view.record;
    match record.state {
        State::Cancelled => Refusal::task_cancelled(),
        State::Expired => Refusal::task_expired(),
        _ => {
            let said = record.error.as_ref();
            Refusal::task_failed(
                said.map(|error| error.message.clone()),
                said.and_then(|e| e.status),
            )
        }
    }
}

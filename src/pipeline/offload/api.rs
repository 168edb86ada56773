//! `/-/tasks`: an agent's own tasks.
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::events::Events;
use super::live::Live;
use super::prefer::{self, number};
use super::{object, result};
use crate::drain::Stage;
use crate::pipeline::local::Local;
use crate::pipeline::lookup;
use crate::pipeline::refusal::{Methods, Refusal};
use crate::pipeline::reply::{Content, Reply};
use crate::tasks::{DeleteError, Owner, State, TaskId, Tasks, View};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Tasks on a page, and the most that may be asked for.
const PAGE: usize = 20;
const LARGEST_PAGE: usize = 100;

/// What one may do with a task.
enum Verb {
    Show,
    Delete,
    Result,
    Events,
    Cancel,
}

/// Answers what is asked at or below `/-/tasks`. `rest`: the path behind that.
pub async fn answer(here: &Local<'_>, rest: &str) -> Result<Reply, Refusal> {
    let tasks = here.worker.tasks.clone().ok_or_else(Refusal::no_tasks)?;
    let owner = lookup::owner(here.worker, here.who, here.headers);
    let said = Said::read(here.query, here.headers)?;
    let Some(rest) = rest.strip_prefix('/').filter(|rest| !rest.is_empty()) else {
        if here.method != Method::GET {
            return Err(Refusal::wrong_method(Methods::Get));
        }
        return page(&tasks, &owner, &said);
    };
    let (id, verb) = rest.split_once('/').map_or((rest, ""), |(id, verb)| (id, verb));
    let verb = match (verb, here.method) {
        ("", &Method::GET) => Verb::Show,
        ("", &Method::DELETE) => Verb::Delete,
        ("result", &Method::GET) => Verb::Result,
        ("events", &Method::GET) => Verb::Events,
        ("cancel", &Method::POST) => Verb::Cancel,
        ("", _) => return Err(Refusal::wrong_method(Methods::GetDelete)),
        ("result" | "events", _) => return Err(Refusal::wrong_method(Methods::Get)),
        ("cancel", _) => return Err(Refusal::wrong_method(Methods::Post)),
        _ => return Err(Refusal::unknown_task()),
    };
    let id = TaskId::parse(id).ok_or_else(Refusal::unknown_task)?;
    let view = tasks.view(&owner, id).ok_or_else(Refusal::unknown_task)?;
    match verb {
        Verb::Show => show(here, &tasks, &owner, view, &said).await,
        Verb::Result => result::verbatim(&tasks, &owner, &view).await,
        Verb::Events => events(here, &tasks, owner, &view, &said),
        Verb::Cancel => {
            let view = tasks.cancel(Some(&owner), id).await.ok_or_else(Refusal::unknown_task)?;
            let mut reply = object::reply(&view);
            if !view.record.state.is_terminal() {
                reply.status = StatusCode::ACCEPTED;
            }
            Ok(reply)
        }
        Verb::Delete => match tasks.delete(&owner, id).await {
            Some(Ok(())) => Ok(Reply::ours(StatusCode::NO_CONTENT, bytes::Bytes::new())),
            Some(Err(DeleteError::NotOver)) => Err(Refusal::task_not_over()),
            Some(Err(DeleteError::Broken)) => Err(Refusal::tasks_broken()),
            None => Err(Refusal::unknown_task()),
        },
    }
}

/// The task; with `wait`, when it is another than the one that the caller knows, or over.
async fn show(
    here: &Local<'_>,
    tasks: &Arc<Tasks>,
    owner: &Owner,
    mut view: View,
    said: &Said,
) -> Result<Reply, Refusal> {
    let known = |view: &View| said.known.as_deref().is_some_and(|known| is_among(view, known));
    if let Some(wait) = said.wait
        && !view.record.state.is_terminal()
        && (said.known.is_none() || known(&view))
    {
        tokio::select! {
            () = tasks.changed(view.record.id, view.version) => {}
            () = tokio::time::sleep(wait) => {}
            // who comes back is told by the next process
            () = here.worker.drain.reached(Stage::Draining) => {}
        }
        view = tasks.view(owner, view.record.id).ok_or_else(Refusal::unknown_task)?;
    }
    let mut reply = object::reply(&view);
    if known(&view) {
        reply.status = StatusCode::NOT_MODIFIED;
        reply.content = Content::Whole(bytes::Bytes::new());
        reply.headers.remove(header::CONTENT_TYPE);
    }
    Ok(reply)
}

/// Compared weakly, as `If-None-Match` wants it (RFC 9110, section 13.1.2).
fn is_among(view: &View, known: &str) -> bool {
    let etag = object::etag(view);
    let opaque = |tag: &str| {
        let tag = tag.trim();
        tag.strip_prefix("W/").unwrap_or(tag).to_owned()
    };
    known.trim() == "*" || known.split(',').any(|tag| opaque(tag) == opaque(&etag))
}

fn page(tasks: &Tasks, owner: &Owner, said: &Said) -> Result<Reply, Refusal> {
    if let Some(after) = said.after
        && tasks.view(owner, after).is_none()
    {
        return Err(Refusal::unknown_task());
    }
    let limit = said.limit.unwrap_or(PAGE);
    let mut views = tasks.list(Some(owner), said.state, said.after, limit + 1);
    let more = views.len() > limit;
    views.truncate(limit);
    Ok(object::list(&views, more))
}

fn events(
    here: &Local<'_>,
    tasks: &Arc<Tasks>,
    owner: Owner,
    view: &View,
    said: &Said,
) -> Result<Reply, Refusal> {
    if view.record.purged_ms.is_some() {
        return Err(Refusal::events_gone(view.record.id));
    }
    let after = said.starting_after.unwrap_or(0);
    let drain = here.worker.drain.clone();
    let events = Events::new(tasks, owner, drain, view.clone(), after);
    let mut reply = live(Live::new(events.ok_or_else(Refusal::unknown_task)?));
    object::about(&mut reply, view);
    Ok(reply)
}

/// A stream of events, as nothing on its way should hold it back.
pub fn live(live: Live) -> Reply {
    let mut reply = Reply::ours(StatusCode::OK, bytes::Bytes::new());
    let headers = &mut reply.headers;
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    reply.content = Content::Live(Box::new(live));
    reply
}

/// What a query may say, and how it must be said: of tasks.
const PARAMETERS: [(&str, &str); 5] = [
    ("wait", "`wait` must be there once, as a whole number of seconds."),
    ("state", "`state` must be there once, as a state of tasks, like `running`."),
    ("limit", "`limit` must be there once, as a whole number from 1 to 100."),
    ("after", "`after` must be there once, as the id of a task."),
    STARTING_AFTER,
];
/// And of a response. OpenAI's paths know others by the names of ours.
const OF_RESPONSE: [(&str, &str); 2] =
    [STARTING_AFTER, ("stream", "`stream` must be `true` or `false`.")];
const STARTING_AFTER: (&str, &str) =
    ("starting_after", "`starting_after` must be there once, as the number of an event.");
const LAST_EVENT: &str = "The header Last-Event-ID must be the number of an event.";

/// What query and headers say.
#[derive(Default)]
pub struct Said {
    wait: Option<Duration>,
    state: Option<State>,
    limit: Option<usize>,
    after: Option<TaskId>,
    pub starting_after: Option<u64>,
    pub stream: bool,
    /// `If-None-Match`
    known: Option<String>,
}

impl Said {
    /// A parameter that is not known is passed over; one that makes no sense is an error.
    fn read(query: Option<&str>, headers: &HeaderMap) -> Result<Self, Refusal> {
        let mut said = Self::in_query(query, &PARAMETERS)?;
        if let Some(last) = headers.get(LAST_EVENT_ID) {
            let last = last.to_str().ok().and_then(|last| number(last.trim()));
            said.starting_after = Some(last.ok_or_else(|| Refusal::bad_task_query(LAST_EVENT))?);
        }
        let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
        said.known = known.map(str::to_owned);
        Ok(said)
    }

    /// On a path of OpenAI's.
    pub fn of_response(query: Option<&str>) -> Result<Self, Refusal> {
        Self::in_query(query, &OF_RESPONSE)
    }

    fn in_query(query: Option<&str>, known: &[(&str, &'static str)]) -> Result<Self, Refusal> {
        let mut said = Self::default();
        for pair in query.unwrap_or("").split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some((name, what)) = known.iter().find(|(known, _)| *known == name) else {
                continue;
            };
            said.parameter(name, value).ok_or_else(|| Refusal::bad_task_query(what))?;
        }
        Ok(said)
    }

    /// `None`: it makes no sense, or was said before.
    fn parameter(&mut self, name: &str, value: &str) -> Option<()> {
        fn once<T>(place: &mut Option<T>, value: Option<T>) -> Option<()> {
            let value = value.filter(|_| place.is_none())?;
            *place = Some(value);
            Some(())
        }
        match name {
            "wait" => {
                let wait = number(value).map(Duration::from_secs);
                once(&mut self.wait, wait.map(|wait| wait.min(prefer::LONGEST)))
            }
            "state" => once(&mut self.state, State::parse(value)),
            "limit" => {
                let limit = number(value).and_then(|limit| usize::try_from(limit).ok());
                once(&mut self.limit, limit.filter(|limit| (1..=LARGEST_PAGE).contains(limit)))
            }
            "after" => once(&mut self.after, TaskId::parse(value)),
            "starting_after" => once(&mut self.starting_after, number(value)),
            "stream" => {
                self.stream = value == "true";
                matches!(value, "true" | "false").then_some(())
            }
            _ => Some(()),
        }
    }
}

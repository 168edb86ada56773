//! OpenAI's background mode for backends that have none: a task in the clothes of a response.
//!
//! Asked with `background: true` the answer is a response object under an id of ours, and so are
//! polls until the backend's own is there: that one, with our id put in its place. A stream passes as
//! it came, so its events name the backend's id: it is known as another name of the task. Public
//! behaviour: OpenAI's guide to background mode.
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use serde_json::json;

use super::api::{Said, live};
use super::live::{ALIVE, Live, QUIET, Teller, write_event};
use super::{object, result};
use crate::drain::{Drain, Stage};
use crate::pipeline::local::Local;
use crate::pipeline::lookup;
use crate::pipeline::refusal::{Methods, Refusal};
use crate::pipeline::reply::{Content, Reply};
use crate::pipeline::worker::Worker;
use crate::tasks::{Follow, Follower, Form, Owner, State, TaskId, Tasks, View};
use crate::wire::{self, SseSplit};

/// Answers what is asked of a response that is a task here. `None`: it is not, and the backend is
/// asked. `path`: the whole of it.
pub async fn answer(here: &Local<'_>, path: &str) -> Option<Result<Reply, Refusal>> {
    let (_, rest) = path.rsplit_once("/responses/")?;
    let (name, verb) = rest.split_once('/').map_or((rest, ""), |(name, verb)| (name, verb));
    let tasks = here.worker.tasks.clone()?;
    let owner = lookup::owner(here.worker, here.who, here.headers);
    let id = find(&tasks, &owner, name)?;
    let view = tasks.view(&owner, id).filter(|view| view.record.form == Form::Responses)?;
    Some(match (verb, here.method) {
        ("", &Method::GET) => match Said::of_response(here.query) {
            Ok(said) if said.stream && !view.record.request.stream => {
                let message = "Only a response that was created with `stream` can be streamed.";
                Err(Refusal::bad_task_query(message))
            }
            Ok(said) if said.stream => stream(
                here.worker,
                &tasks,
                owner,
                id,
                said.starting_after.map_or(0, |n| n.saturating_add(1)),
            ),
            Ok(_) => poll(&tasks, &owner, &view, name).await,
            Err(refusal) => Err(refusal),
        },
        ("", &Method::DELETE) => delete(&tasks, &owner, id, name).await,
        ("cancel", &Method::POST) => {
            let view = tasks.cancel(Some(&owner), id).await.unwrap_or(view);
            poll(&tasks, &owner, &view, name).await
        }
        ("", _) => Err(Refusal::wrong_method(Methods::GetDelete)),
        ("cancel", _) => Err(Refusal::wrong_method(Methods::Post)),
        _ => return None,
    })
}

fn find(tasks: &Tasks, owner: &Owner, name: &str) -> Option<TaskId> {
    let ours = TaskId::parse_response(name).filter(|id| tasks.view(owner, *id).is_some());
    ours.or_else(|| tasks.find_alias(owner, name))
}

async fn delete(tasks: &Tasks, owner: &Owner, id: TaskId, name: &str) -> Result<Reply, Refusal> {
    // OpenAI deletes what runs as well
    let over = async {
        while let Some(view) = tasks.cancel(Some(owner), id).await
            && !view.record.state.is_terminal()
        {
            tasks.changed(id, view.version).await;
        }
    };
    // an error: it is said to be not over
    let _ = tokio::time::timeout(STOPS, over).await;
    match tasks.delete(owner, id).await {
        Some(Ok(())) => {
            let body = json!({ "id": name, "object": "response", "deleted": true });
            Ok(object::json_reply(StatusCode::OK, body.to_string().into_bytes()))
        }
        Some(Err(_)) => Err(Refusal::task_not_over()),
        None => Err(Refusal::unknown_task()),
    }
}

/// The response as it stands.
async fn poll(tasks: &Tasks, owner: &Owner, view: &View, name: &str) -> Result<Reply, Refusal> {
    let record = &view.record;
    if record.purged_ms.is_some() {
        return Err(Refusal::task_gone());
    }
    let answered = record.state.is_terminal() && record.has_result();
    if !answered {
        return Ok(reply(view, name, None));
    }
    let mut verbatim = result::verbatim(tasks, owner, view).await?;
    let Content::Whole(body) = &verbatim.content else { return Ok(verbatim) };
    let good = verbatim.status.is_success();
    if !good {
        return Ok(reply(view, name, wire::said(body)));
    }
    let complete = record.result.as_ref().is_some_and(|head| head.whole);
    let streamed = wire::last_response(body).filter(|_| record.request.stream);
    let whole = streamed.or_else(|| Some(body.clone()));
    // what came before it broke off says that it is still under way
    match whole.filter(|_| complete).and_then(|whole| wire::renamed_response(&whole, name)) {
        Some(body) => {
            verbatim.content = Content::Whole(body);
            verbatim
                .headers
                .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            Ok(verbatim)
        }
        // it is there, and in no form that we read: coded, say
        None if complete => Ok(verbatim),
        None => Ok(reply(view, name, None)),
    }
}

fn status(state: State) -> &'static str {
    match state {
        State::Queued | State::RetryWait => "queued",
        State::Running | State::Cancelling => "in_progress",
        State::Succeeded => "completed",
        State::Cancelled => "cancelled",
        State::Failed | State::Expired => "failed",
        State::Interrupted => "incomplete",
    }
}

/// A response of ours, while there is none of the backend's. `said`: of an error of the backend's.
pub fn reply(view: &View, name: &str, said: Option<String>) -> Reply {
    let record = &view.record;
    let error = match record.state {
        State::Failed | State::Expired => {
            let own = record.error.as_ref().map(|error| error.message.clone());
            let message = said.or(own).unwrap_or_else(|| "The task has failed.".to_owned());
            json!({ "code": "server_error", "message": message })
        }
        _ => serde_json::Value::Null,
    };
    let incomplete = match record.state {
        State::Interrupted => json!({ "reason": "interrupted" }),
        _ => serde_json::Value::Null,
    };
    let body = json!({
        "id": name,
        "object": "response",
        "created_at": record.created_ms / 1000,
        "status": status(record.state),
        "background": true,
        "model": record.model,
        "output": [],
        "error": error,
        "incomplete_details": incomplete,
        "instructions": null,
        "metadata": {},
        "parallel_tool_calls": true,
        "tool_choice": "auto",
        "tools": [],
        "usage": null,
    });
    let mut reply = object::json_reply(StatusCode::OK, body.to_string().into_bytes());
    object::about(&mut reply, view);
    reply
}

/// Its events from the one with this `sequence_number` on, as they came.
pub fn stream(
    worker: &Rc<Worker>,
    tasks: &Arc<Tasks>,
    owner: Owner,
    id: TaskId,
    from: u64,
) -> Result<Reply, Refusal> {
    let view = tasks.view(&owner, id).ok_or_else(Refusal::unknown_task)?;
    if view.record.purged_ms.is_some() {
        return Err(Refusal::task_gone());
    }
    let follower = tasks.follow(&owner, id).ok_or_else(Refusal::unknown_task)?;
    let drain = worker.drain.clone();
    let telling =
        Telling { follower, drain, split: Whole::default(), number: 0, from, over: false };
    let mut reply = live(Live::new(telling));
    object::about(&mut reply, &view);
    Ok(reply)
}

/// As long as a call may take to stop.
const STOPS: Duration = Duration::from_secs(10);

/// Shows every event whole: the policy bounds the answer.
type Whole = SseSplit<{ usize::MAX }>;
type Look<'l> = &'l mut dyn FnMut(wire::Event<'_>);

struct Telling {
    follower: Follower,
    drain: Drain,
    split: Whole,
    /// For events that have none themselves.
    number: u64,
    from: u64,
    over: bool,
}

impl Telling {
    async fn step(&mut self) -> Option<Bytes> {
        loop {
            match self.follower.next().await {
                // an answer has no sign of the attempt that a number is of
                Follow::Piece(_) if self.from > 0 && self.follower.events_before() > 0 => {
                    self.number = self.number.max(self.from);
                    return Some(self.restarted());
                }
                Follow::Piece(piece) => {
                    let told = self.events(|split, look| split.push(&piece, look));
                    if !told.is_empty() {
                        return Some(told.into());
                    }
                }
                // numbers have no room for a second beginning
                Follow::Restarted if self.number > 0 => return Some(self.restarted()),
                Follow::Restarted => self.split = Whole::default(),
                Follow::Ended(view) => {
                    self.over = true;
                    let mut told = self.events(|split, look| split.finish(look));
                    let (name, said) = match view.record.state {
                        // an end without a word would be taken for an answer without one
                        State::Succeeded if self.number == 0 => {
                            ("no_stream", "It was not answered as a stream: retrieve it whole.")
                        }
                        State::Succeeded => return Some(told.into()),
                        State::Cancelled => ("cancelled", "The response was cancelled."),
                        _ => ("failed", "The response has failed."),
                    };
                    let own = view.record.error.as_ref().map(|error| &*error.message);
                    told.extend(self.error(name, own.unwrap_or(said)));
                    return Some(told.into());
                }
                Follow::Broken => return None,
            }
        }
    }
}

impl Telling {
    /// Those of the next bytes that the reader has not had.
    fn events(&mut self, read: impl FnOnce(&mut Whole, &mut Look<'_>)) -> Vec<u8> {
        let (mut told, number, from) = (Vec::new(), &mut self.number, self.from);
        let mut look = |event: wire::Event<'_>| {
            let own = wire::sequence_number(event.data).unwrap_or(*number);
            if own < *number && event.name == Some(b"error") {
                // told by us when the answer broke off: how that ended is told below
                return;
            }
            *number = own.saturating_add(1).max(*number);
            if own >= from {
                write_event(&mut told, None, event.name, event.data);
            }
        };
        let mut look: Look<'_> = &mut look;
        read(&mut self.split, &mut look);
        told
    }

    /// What was told before is void, and nothing more is told.
    fn restarted(&mut self) -> Bytes {
        self.over = true;
        self.error("restarted", "The answer broke off, and is made again: read it anew.").into()
    }

    fn error(&self, code: &str, message: &str) -> Vec<u8> {
        let data = json!({
            "type": "error",
            "code": code,
            "message": message,
            "param": null,
            "sequence_number": self.number,
        });
        let mut told = Vec::new();
        write_event(&mut told, None, Some(b"error"), data.to_string().as_bytes());
        told
    }
}

impl Teller for Telling {
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        let drain = self.drain.clone();
        tokio::select! {
            told = self.step() => told,
            () = tokio::time::sleep(QUIET) => Some(Bytes::from_static(ALIVE)),
            () = drain.reached(Stage::Draining) => None,
        }
    }
}

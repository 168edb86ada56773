//! Making the call of a task: the path of every call, for a caller who was known before.
//!
//! The answer goes into the task's log as it comes. What a backend, or we ourselves, say no to for a
//! while is tried again: our own limits as often as they say so, a backend's failures as often as the
//! policy allows, and a call that may have been worked on only where nothing is done twice. An answer
//! of which something was told is tried again too, if it breaks off; its readers are told so.
mod reading;
mod refused;

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, request,
};

pub use self::reading::format;
use self::reading::{Reading, Torn};
pub use self::refused::hint;
use self::refused::{is_ended, said_no};
use super::attach::{self, Attached};
use super::{events, result};
use crate::agents::{Known, Seen};
use crate::identity::{Class, Identity, Rung};
use crate::pipeline::attempts::dice;
use crate::pipeline::call::Body;
use crate::pipeline::gate::HeadFacts;
use crate::pipeline::reply::{Handover, ReplyBody, form_of};
use crate::pipeline::worker::Worker;
use crate::pipeline::{Caller, TaskCaller, Took, perform};
use crate::tasks::{Job, Lead, Record, ResultHead, State, Stop, TaskError, Usage};
use crate::wire::{self, Ending, Form};

/// Among the headers of a credential: path and query as they came, where the query holds one.
pub const TARGET: &str = ":target";

/// The first pause between attempts, and the longest.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// What an attempt has come to.
pub enum Came {
    /// With what it took, where the backend has said so.
    Good(Option<wire::Usage>),
    /// A no, said in an answer that is kept.
    Said(TaskError),
    /// No answer, or none of use; to be tried again after so long. `begun`: it may have been worked
    /// on. `counts`: it was an attempt.
    Again {
        error: TaskError,
        after: Option<Duration>,
        begun: bool,
        counts: bool,
        /// The answer was read to its end.
        whole: bool,
    },
    /// Nothing would help.
    Never(TaskError),
    /// It has come whole, and is not what was wished for.
    Ended(State, TaskError, Option<wire::Usage>),
    /// Its backend goes on with it: it is to be asked for again after so long.
    Rest(Duration),
    /// It may have been made, and cannot be had.
    Lost(TaskError),
    /// An operator has ended its call.
    Cancelled,
}

/// Makes the call, and says how it ended.
pub async fn run(worker: Rc<Worker>, job: Job) {
    let hold = worker.drain.hold();
    let Job { record, body, credential, lead, marked } = job;
    let secret = credential.as_ref().map(|secret| secret.expose().as_slice());
    let asked = head(&record, secret.unwrap_or_default(), body);
    let came = {
        let call = async {
            let who = match identity(&worker, &record) {
                Ok(who) => Rc::new(who),
                Err(error) => return Came::Never(error),
            };
            if marked.await.is_err() || record.holder.is_some() && lead.restore().await.is_err() {
                return not_kept(record.holder.is_some());
            }
            let Some((head, body)) = asked.clone() else {
                return Came::Never(TaskError::new("request_lost", "The request cannot be read."));
            };
            make(&worker, &record, &lead, who, head, body).await
        };
        let call = pin!(call);
        tokio::select! {
            came = call => Ok(came),
            stop = lead.cancelled() => Err(stop),
        }
    };
    match came {
        // whoever ends it, at whatever door
        Ok(Came::Cancelled) => stopped(&worker, &record, lead, asked, Stop::Cancelled).await,
        Ok(came) => {
            // nobody will ask for it any more
            let holder = matches!(came, Came::Never(_)).then(|| lead.holder()).flatten();
            end(&worker, &record, lead, came).await;
            if let Some((holder, (head, _))) = holder.zip(asked) {
                attach::cancel(&worker, &record, head, &holder).await;
            }
        }
        Err(stop) => stopped(&worker, &record, lead, asked, stop).await,
    }
    drop(hold);
}

/// It goes no further; who makes the answer elsewhere is told so.
async fn stopped(
    worker: &Rc<Worker>,
    record: &Record,
    lead: Lead,
    asked: Option<(request::Parts, Bytes)>,
    stop: Stop,
) {
    let held = lead.holder().zip(asked);
    let cancel = async {
        if let Some((holder, (head, _))) = held {
            attach::cancel(worker, record, head, &holder).await;
        }
    };
    // an error: the store has failed, and says so itself
    let _ = tokio::join!(lead.finish(stop.state(), None, None, None), cancel);
}

/// What was to be written before anything is asked is not.
fn not_kept(held: bool) -> Came {
    if held {
        return Came::Rest(PAUSE);
    }
    Came::Again {
        error: TaskError::new("not_kept", "The task cannot be kept."),
        after: Some(PAUSE),
        begun: false,
        counts: false,
        whole: false,
    }
}

/// Makes the call, or goes on with the answer that is being made.
async fn make(
    worker: &Rc<Worker>,
    record: &Record,
    lead: &Lead,
    who: Rc<Identity>,
    head: request::Parts,
    body: Bytes,
) -> Came {
    let attached = || Attached {
        worker,
        task: record,
        lead,
        who: Rc::clone(&who),
        head: head.clone(),
        body: body.clone(),
    };
    if let Some(holder) = &record.holder {
        return Box::pin(attached().go_on(holder.clone(), None)).await;
    }
    let heir = record.request.background.then(Rc::<Handover>::default);
    let took = Rc::<Cell<Took>>::default();
    let me = TaskCaller {
        id: record.id,
        who: Rc::clone(&who),
        took: Rc::clone(&took),
        heir: heir.clone(),
    };
    let call = (head.clone(), Body::Whole(body.clone()));
    let response = perform(Rc::clone(worker), caller(me), call.0, call.1).await;
    if let Some(heir) = heir.filter(|_| response.status().is_success()) {
        return Box::pin(attached().begin(response, &heir, &took)).await;
    }
    if is_ended(&response) {
        // no answer to keep; its record is closed when it is read
        let mut body = response.into_body();
        while attach::next(&mut body).await.is_some() {}
        return Came::Cancelled;
    }
    match attempt(worker, record, response, lead).await {
        // the reader is not shown what we alone have asked for
        Came::Good(usage) => Came::Good(took.get().usage.or(usage)),
        _ if took.get().cancelled => Came::Cancelled,
        came => came,
    }
}

/// Nobody is there: the task itself.
pub fn caller(task: TaskCaller) -> Caller {
    Caller {
        peer: Arc::from("task"),
        seen: Arc::new(Seen::default()),
        facts: HeadFacts::default(),
        place: Rc::new(()),
        task: Some(task),
    }
}

/// Says how it ended, or that it has not.
async fn end(worker: &Worker, record: &Record, lead: Lead, came: Came) {
    let bill = |usage: Option<wire::Usage>| {
        let cost = usage.and_then(|usage| cost(worker, record, &usage));
        (usage.map(|usage| Usage { input: usage.input, output: usage.output }), cost)
    };
    // an error: the store has failed, and says so itself
    let _ = match came {
        Came::Good(usage) => {
            let (usage, cost) = bill(usage);
            lead.finish(State::Succeeded, None, usage, cost).await
        }
        Came::Ended(state, error, usage) => {
            let (usage, cost) = bill(usage);
            lead.finish_whole(state, Some(error), usage, cost).await
        }
        Came::Rest(after) => lead.set_down(after).await,
        Came::Lost(error) => lead.finish(State::Interrupted, Some(error), None, None).await,
        Came::Said(error) => lead.finish_whole(State::Failed, Some(error), None, None).await,
        Came::Never(error) => lead.finish(State::Failed, Some(error), None, None).await,
        Came::Cancelled => lead.finish(State::Cancelled, None, None, None).await,
        Came::Again { error, after, begun, counts, whole } => {
            let end = if begun && !record.request.repeats {
                Some(State::Interrupted)
            } else {
                (counts && lead.is_last()).then_some(State::Failed)
            };
            match end {
                Some(end) if whole => lead.finish_whole(end, Some(error), None, None).await,
                Some(end) => lead.finish(end, Some(error), None, None).await,
                None => {
                    let pause = after.unwrap_or_else(|| pause(record.attempts));
                    let told = events::told(&lead);
                    lead.retry(pause, counts, told).await
                }
            }
        }
    };
}

/// Longer with each attempt, and not the same for all.
fn pause(attempts: u32) -> Duration {
    let full = PAUSE.saturating_mul(1 << attempts.min(6)).min(LONGEST_PAUSE);
    full.mul_f64(0.5 + 0.5 * (dice() as f64 / u64::MAX as f64))
}

/// In millionths of a dollar.
fn cost(worker: &Worker, record: &Record, usage: &wire::Usage) -> Option<u64> {
    let (snapshot, said) = (worker.snapshot(), record.model.as_deref()?);
    let route = snapshot.routes.all().iter().find(|route| *route.name == *record.route);
    let sends = route.and_then(|route| route.sends(said));
    let rate = snapshot.prices.of(sends.map_or(said, |sends| &**sends));
    u64::try_from(rate.cost(usage).div_euclid(1000)).ok().filter(|_| rate.known)
}

/// Its caller, under the policy as it is now.
fn identity(worker: &Worker, record: &Record) -> Result<Identity, TaskError> {
    let caller = &record.caller;
    let known = Known {
        agent: &caller.agent,
        rung: Rung::parse(&caller.rung).unwrap_or(Rung::Address),
        parent: caller.parent.as_deref(),
        session: caller.session.as_deref(),
        team: caller.team.as_deref(),
        team_proven: caller.team_proven,
        // nobody waits for it
        class: Class::Batch,
        credential: caller.credential,
        key: caller.key_id.as_deref(),
    };
    let now = worker.limits.now().wall;
    worker.snapshot().agents.again(&known, now).map_err(|unknown| TaskError {
        r#type: unknown.reason().to_owned(),
        message: unknown.to_string(),
        status: Some(StatusCode::UNAUTHORIZED.as_u16()),
    })
}

/// The request as it came, with what of it is not kept on the disk.
fn head(
    record: &Record,
    secret: &[(String, Vec<u8>)],
    body: Bytes,
) -> Option<(request::Parts, Bytes)> {
    let request = &record.request;
    let target = secret.iter().find(|(name, _)| name == TARGET);
    let target = match target {
        Some((_, target)) => std::str::from_utf8(target).ok()?,
        None => &request.path_and_query,
    };
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = Method::from_str(&request.method).ok()?;
    parts.uri = Uri::from_str(target).ok()?;
    // what is framed is framed by us
    parts.version = http::Version::HTTP_2;
    let mut headers = HeaderMap::new();
    for (name, value) in request.headers.iter().chain(secret).filter(|(name, _)| name != TARGET) {
        headers.append(HeaderName::from_str(name).ok()?, HeaderValue::from_bytes(value).ok()?);
    }
    parts.headers = headers;
    let view = wire::view(request.kind, &body).ok().filter(|_| !request.background);
    let edits = view.map(|view| wire::Edits::in_foreground(&view));
    let body = match edits {
        Some(edits) if !edits.is_empty() => edits.apply(&body),
        _ => body,
    };
    Some((parts, body))
}

/// Reads the answer to its end.
async fn attempt(
    worker: &Worker,
    record: &Record,
    response: Response<ReplyBody>,
    lead: &Lead,
) -> Came {
    let (head, body) = response.into_parts();
    let form = form_of(&head.headers);
    lead.begin(ResultHead {
        status: head.status.as_u16(),
        headers: result::keep(&head.headers),
        format: format(form).to_owned(),
        ..ResultHead::default()
    });
    let mut reading = Reading::new(record.request.kind, form, lead);
    let read = reading.read(body).await;
    let mut meter = reading.into_meter();
    match read {
        Err(Torn::TooLarge) => {
            let message = "The answer is larger than the policy keeps.";
            return Came::Never(TaskError::new("result_too_large", message));
        }
        Err(Torn::Broken) => {
            let error = TaskError {
                status: Some(StatusCode::BAD_GATEWAY.as_u16()),
                ..TaskError::new("answer_broken", "The answer broke off.")
            };
            let begun = head.status.is_success();
            return Came::Again { error, after: None, begun, counts: true, whole: false };
        }
        Ok(()) => {}
    }
    if !head.status.is_success() {
        return said_no(worker, &head.headers, head.status);
    }
    meter.finish();
    let streams = matches!(form, Form::Sse | Form::NdJson);
    if streams && meter.ending() != Ending::Complete {
        let error = TaskError::new("answer_incomplete", "The answer ended before its end.");
        return Came::Again { error, after: None, begun: true, counts: true, whole: false };
    }
    Came::Good(meter.usage())
}

//! Going on with an answer that its backend makes in a background mode of its own.
//!
//! There the response is known by its id, and can be asked for again: after a crash, or when the
//! connection breaks. One that does not stream is polled to its end; of one that streams, what
//! follows the last event that was kept is asked for. The log takes whole events only, so an event
//! is never there in half or twice. The call is never made again: what its holder does not know any
//! more is lost, with what had come. One lease covers it all, however many requests it takes, and is
//! settled once, by what the end tells. Public behaviour: OpenAI's guide to background mode.
mod asking;
mod pursuit;
mod reading;

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Response, StatusCode, request, response};
use http_body::Body as _;

use self::asking::{Asked, Asking, Unheard};
use self::pursuit::Pursuit;
use self::reading::Reading;
use super::result;
use super::run::{Came, format};
use crate::drain::Stage;
use crate::identity::Identity;
use crate::pipeline::Took;
use crate::pipeline::admit::Lease;
use crate::pipeline::attempts::dice;
use crate::pipeline::reply::{Handover, ReplyBody, form_of};
use crate::pipeline::worker::Worker;
use crate::tasks::{Holder, Lead, Record, ResultHead, State, TaskError};
use crate::wire::{self, Form, Kind, Meter};

/// The first pause between two questions, and the longest.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long a cancelled task tries to say so.
const GOODBYE: Duration = Duration::from_secs(5);

/// A task, and what it asked for.
pub struct Attached<'t> {
    pub worker: &'t Rc<Worker>,
    pub task: &'t Record,
    pub lead: &'t Lead,
    pub who: Rc<Identity>,
    pub head: request::Parts,
    pub body: Bytes,
}

impl Attached<'_> {
    /// The backend has taken the call on: reads what it answers to that, and goes on from there.
    /// `took`: what the call has come to, once its answer is read.
    pub async fn begin(
        self,
        response: Response<ReplyBody>,
        heir: &Handover,
        took: &Cell<Took>,
    ) -> Came {
        let (head, body) = response.into_parts();
        if form_of(&head.headers) == Form::Sse {
            self.begin_stream(&head, body, heir, took).await
        } else {
            self.begin_whole(&head, body, heir, took).await
        }
    }

    async fn begin_stream(
        self,
        head: &response::Parts,
        body: ReplyBody,
        heir: &Handover,
        took: &Cell<Took>,
    ) -> Came {
        self.lead.begin(self::head(head.status, &head.headers));
        let mut reading = Reading::new(self.lead, self.most());
        let (mut body, mut held) = (body, false);
        let broke = loop {
            // the next process goes on with it
            let draining = self.worker.drain.reached(Stage::Draining);
            let piece = tokio::select! {
                piece = next(&mut body) => piece,
                () = draining, if held => {
                    drop(body);
                    heir.lease().into_iter().for_each(Lease::spare);
                    return Came::Rest(Duration::ZERO);
                }
            };
            match piece {
                Some(Ok(data)) if reading.push(&data).is_err() => return too_large(),
                Some(Ok(_)) => {}
                Some(Err(())) => break true,
                None => break false,
            }
            if !held && let Some(holder) = reading.id().and_then(|id| heir.holder_of(id)) {
                self.lead.held_by(holder);
                held = true;
            }
        };
        // it tells the lease what it knows
        drop(body);
        if let Some(came) = reading.came() {
            return came;
        }
        match self.lead.holder() {
            _ if took.get().cancelled => Came::Cancelled,
            Some(holder) => self.go_on(holder, heir.lease()).await,
            None if broke => lost("answer_broken", "The answer broke off."),
            None => lost("answer_incomplete", "The answer ended before its end."),
        }
    }

    async fn begin_whole(
        self,
        head: &response::Parts,
        body: ReplyBody,
        heir: &Handover,
        took: &Cell<Took>,
    ) -> Came {
        let (mut body, mut whole) = (body, BytesMut::new());
        while let Some(data) = next(&mut body).await {
            let Ok(data) = data else {
                drop(body);
                return if took.get().cancelled {
                    Came::Cancelled
                } else {
                    lost("answer_broken", "The answer broke off.")
                };
            };
            whole.extend_from_slice(&data);
            if whole.len() as u64 > self.most() {
                return too_large();
            }
        }
        drop(body);
        let whole = whole.freeze();
        let pending = || wire::response_status(&whole).is_some_and(|said| end_of(&said).is_none());
        let id = wire::response_id(&whole).filter(|_| pending());
        match id.and_then(|id| heir.holder_of(&id)) {
            Some(holder) => {
                self.lead.held_by(holder.clone());
                self.go_on(holder, heir.lease()).await
            }
            None => self.keep(head.status, &head.headers, whole),
        }
    }

    /// Asks its holder until it is over. `lease`: the one that the call has; else leave is asked for
    /// anew.
    pub async fn go_on(self, holder: Holder, lease: Option<Lease>) -> Came {
        let Some(asking) = Asking::new(self.worker, self.task, self.head.clone(), holder) else {
            return lost("holder_gone", "The upstream that makes the answer is not in the policy.");
        };
        let (id, upstream) = (self.task.id, &*asking.aim.upstream().config.name);
        if lease.is_none() {
            tracing::info!(%id, upstream, "an answer that is made elsewhere is taken up again");
        }
        let mut pursuit = Pursuit::new(&self, asking, lease);
        let came = {
            let pursued = async {
                match pursuit.admit(&self).await {
                    Ok(()) if self.task.request.stream => pursuit.stream(&self).await,
                    Ok(()) => pursuit.poll(&self).await,
                    Err(came) => came,
                }
            };
            tokio::select! {
                came = pursued => came,
                // the next process goes on with it
                () = self.worker.drain.reached(Stage::Draining) => Came::Rest(Duration::ZERO),
            }
        };
        pursuit.close(&came);
        came
    }

    fn most(&self) -> u64 {
        self.worker.tasks.as_ref().map_or(0, |tasks| tasks.settings().max_result)
    }

    /// Keeps an answer that is here as a whole.
    fn keep(&self, status: StatusCode, headers: &HeaderMap, whole: Bytes) -> Came {
        let usage = metered(&whole).usage();
        let said = wire::response_status(&whole);
        self.lead.begin(head(status, headers));
        if self.lead.replace(whole).is_err() {
            return too_large();
        }
        came(said.as_deref().and_then(end_of).unwrap_or(State::Succeeded), usage)
    }
}

/// Tells the holder that nobody wants the answer any more. It may not hear of it.
pub async fn cancel(worker: &Rc<Worker>, task: &Record, head: request::Parts, holder: &Holder) {
    let Some(asking) = Asking::new(worker, task, head, holder.clone()) else { return };
    let said = async {
        let mut told = 0;
        while let Err(Unheard::Later(hint)) =
            asking.ask(&Method::POST, "/cancel", None).await.and_then(Asked::accepted)
        {
            told += 1;
            tokio::time::sleep(pause(told, hint)).await;
        }
    };
    // an error: it goes on there, and nobody will ask for it
    let _ = tokio::time::timeout(GOODBYE, said).await;
}

fn head(status: StatusCode, headers: &HeaderMap) -> ResultHead {
    ResultHead {
        status: status.as_u16(),
        headers: result::keep(headers),
        format: format(form_of(headers)).to_owned(),
        ..ResultHead::default()
    }
}

/// The next piece; an error if it broke off.
pub async fn next(body: &mut ReplyBody) -> Option<Result<Bytes, ()>> {
    loop {
        let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?;
        match frame.map(http_body::Frame::into_data) {
            Ok(Ok(data)) => return Some(Ok(data)),
            // trailers
            Ok(Err(_)) => {}
            Err(_) => return Some(Err(())),
        }
    }
}

fn metered(object: &[u8]) -> Meter {
    let mut meter = Meter::new(Kind::Responses, Form::Json);
    meter.whole(object, false);
    meter
}

/// What a task has come to whose response ended so. `None`: it has not ended.
fn end_of(status: &str) -> Option<State> {
    match status {
        "completed" | "incomplete" => Some(State::Succeeded),
        "failed" => Some(State::Failed),
        "cancelled" => Some(State::Cancelled),
        _ => None,
    }
}

fn came(state: State, usage: Option<wire::Usage>) -> Came {
    let error = match state {
        State::Failed => ("response_failed", "The upstream says that the response has failed."),
        State::Cancelled => ("response_cancelled", "The response was cancelled at the upstream."),
        _ => return Came::Good(usage),
    };
    Came::Ended(state, TaskError::new(error.0, error.1), usage)
}

fn lost(kind: &str, message: &str) -> Came {
    Came::Lost(TaskError::new(kind, message))
}

fn too_large() -> Came {
    let message = "The answer is larger than the policy keeps.";
    Came::Never(TaskError::new("result_too_large", message))
}

/// Longer with each time that nothing was new; not the same for all; not less than the holder says.
fn pause(times: u32, hint: Option<Duration>) -> Duration {
    let full = PAUSE.saturating_mul(1 << times.min(6)).min(LONGEST_PAUSE);
    let jittered = full.mul_f64(0.8 + 0.4 * (dice() as f64 / u64::MAX as f64));
    jittered.max(hint.unwrap_or_default())
}

//! Asking for a response until it is over: the questions, the lease that covers them, and their line in
//! the access log.
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::Method;

use super::asking::{Asked, Asking, Torn, Unheard};
use super::reading::Reading;
use super::{Attached, end_of, lost, metered, pause, too_large};
use crate::flight::About;
use crate::pipeline::TaskCaller;
use crate::pipeline::admit::{Came as Billed, Lease, admit};
use crate::pipeline::call::{Body, Call};
use crate::pipeline::limits;
use crate::pipeline::offload::run::{Came, caller, hint};
use crate::pipeline::record::{Record, Watch as _};
use crate::pipeline::refusal::Refusal;
use crate::pipeline::{identify, reply};
use crate::tasks::TaskError;
use crate::telemetry::metrics::Outcome;
use crate::wire::{self, Form, Kind, Meter};

/// How long until leave is asked for again, where nobody says.
const A_WHILE: Duration = Duration::from_mins(1);

pub struct Pursuit<'t> {
    asking: Asking<'t>,
    lease: Option<Lease>,
    /// The answer has just been asked for.
    fresh: bool,
    record: Record,
    meter: Option<Meter>,
    asked: u32,
    refused: Option<Outcome>,
}

/// What a question came to.
enum Heard {
    Answer(Box<Asked>),
    /// Nobody can say now.
    Later(Option<Duration>),
    /// It is not known there, or is not to be asked for any more.
    Never(Came),
}

impl<'t> Pursuit<'t> {
    pub fn new(of: &Attached<'t>, asking: Asking<'t>, lease: Option<Lease>) -> Self {
        let caller = caller(TaskCaller {
            id: of.task.id,
            who: Rc::clone(&of.who),
            took: Rc::default(),
            heir: None,
        });
        let mut head = of.head.clone();
        head.method = Method::GET;
        let mut record = Record::open(of.worker, &caller, &head, Instant::now());
        record.identified(&of.who);
        // first: what is paid is what the route makes of it
        if let Some(model) = &of.task.model {
            record.names_model(model);
        }
        record.routed(&asking.aim, Kind::Responses);
        record.streaming(of.task.request.stream);
        let fresh = lease.is_some();
        Self { asking, lease, fresh, record, meter: None, asked: 0, refused: None }
    }

    /// Asks for leave, where there is none from before.
    pub async fn admit(&mut self, of: &Attached<'_>) -> Result<(), Came> {
        if self.lease.is_some() {
            return Ok(());
        }
        let (worker, asking) = (of.worker, &self.asking);
        let (snapshot, aim) = (&asking.snapshot, &asking.aim);
        let bounds = limits(snapshot, &aim.upstream().config.timeouts);
        let about = About::new(worker.ids.next(), Kind::Responses.operation(), Instant::now());
        let ticket = worker.flights.begin(&worker.clock, bounds, about);
        let path = aim.route.below(of.head.uri.path()).unwrap_or("/");
        let endpoint = wire::endpoint(&of.head.method, path);
        let (headers, body) = (&of.head.headers, Body::Whole(of.body.clone()));
        let leave = async {
            let call =
                Call::read(worker, snapshot, &ticket, headers, &endpoint, body, None).await?;
            self.record.read(&call);
            let who = identify::allow(snapshot, Rc::clone(&of.who), &aim.route, &call)?;
            admit(worker, snapshot, &ticket, &who, aim, &call, &mut self.record).await
        };
        match leave.await {
            Ok(lease) => {
                self.record.admitted(&lease);
                self.lease = Some(lease);
                Ok(())
            }
            Err(refusal) => {
                self.record.refused(&refusal);
                self.refused = Some(refusal.outcome());
                Err(match refusal.outcome() {
                    Outcome::Cancelled => Came::Cancelled,
                    _ => Came::Rest(refused(&refusal)),
                })
            }
        }
    }

    async fn ask(&mut self, more: Option<&str>) -> Heard {
        let now = Instant::now();
        self.record.sent(now);
        self.asked += 1;
        let asked = self.asking.ask(&Method::GET, "", more).await;
        self.record.tried(self.asked);
        let mut asked = match asked {
            Ok(asked) => asked,
            Err(Unheard::Later(hint)) => return Heard::Later(hint),
            Err(Unheard::Cancelled) => return Heard::Never(Came::Cancelled),
        };
        let (status, headers) = (asked.answer.status, &asked.answer.headers);
        self.record.answered(&asked.answer);
        self.record.tried(self.asked);
        if asked.is_later() {
            let hint = hint(headers);
            asked.judged();
            return Heard::Later(hint);
        }
        if !status.is_success() {
            asked.judged();
            let error = TaskError {
                status: Some(status.as_u16()),
                ..TaskError::new(
                    "answer_gone",
                    "The upstream that made the answer does not give it any more.",
                )
            };
            return Heard::Never(Came::Lost(error));
        }
        if let Some(lease) = self.lease.as_mut().filter(|_| !self.fresh) {
            lease.sent(now);
            lease.answered(status, headers, None);
        }
        Heard::Answer(Box::new(asked))
    }

    /// Asks for the object until it is one that has ended.
    pub async fn poll(&mut self, of: &Attached<'_>) -> Came {
        let mut times = 0;
        if self.fresh {
            tokio::time::sleep(pause(times, None)).await;
        }
        loop {
            let hint = match self.ask(None).await {
                Heard::Never(came) => return came,
                Heard::Later(hint) => hint,
                Heard::Answer(mut asked) => {
                    let (status, headers) = (asked.answer.status, asked.answer.headers.clone());
                    match asked.whole(of.most()).await {
                        Err(Torn::TooLarge) => return too_large(),
                        Err(Torn::Cancelled) => return Came::Cancelled,
                        Ok(whole) if is_over(&whole) => {
                            self.meter = Some(metered(&whole));
                            self.record.replying(status);
                            self.record.passed(whole.len());
                            return of.keep(status, &headers, whole);
                        }
                        Ok(_) | Err(Torn::Broken | Torn::Silent) => hint(&headers),
                    }
                }
            };
            tokio::time::sleep(pause(times, hint)).await;
            times += 1;
        }
    }

    /// Reads on behind the last event that is kept, as often as that brings something new. A holder
    /// that cannot say now is asked until it can, however long that takes: the task's age ends it.
    pub async fn stream(&mut self, of: &Attached<'_>) -> Came {
        let mut reading = Reading::new(of.lead, of.most());
        let attempts = of.worker.tasks.as_ref().map_or(1, |tasks| tasks.settings().attempts);
        let (mut in_vain, mut unheard, mut hint) = (0, 0, None);
        let came = loop {
            // the end may have been kept by the process before
            if let Some(came) = reading.came() {
                break came;
            }
            if in_vain >= attempts.max(1) {
                break lost("answer_broken", "The answer broke off.");
            }
            if in_vain + unheard > 0 {
                tokio::time::sleep(pause(in_vain.max(unheard), hint.take())).await;
            }
            let more = match reading.after() {
                Ok(Some(number)) => format!("stream=true&starting_after={number}"),
                Ok(None) => "stream=true".to_owned(),
                Err(()) => break lost("answer_broken", "The answer broke off."),
            };
            match self.ask(Some(&more)).await {
                Heard::Never(came) => break came,
                Heard::Later(wait) => (unheard, hint) = (unheard.saturating_add(1), wait),
                Heard::Answer(asked) => {
                    unheard = 0;
                    match self.read(&mut reading, *asked).await {
                        Ok(true) => in_vain = 0,
                        Ok(false) => in_vain += 1,
                        Err(came) => break came,
                    }
                }
            }
        };
        self.meter = Some(reading.into_meter());
        came
    }

    /// One connection's part of the stream. Whether it brought something new.
    async fn read(&mut self, reading: &mut Reading<'_>, mut asked: Asked) -> Result<bool, Came> {
        self.record.replying(asked.answer.status);
        if reply::form_of(&asked.answer.headers) != Form::Sse {
            asked.judged();
            return Ok(false);
        }
        asked.streams();
        reading.anew();
        let mut any = false;
        while let Some(data) = asked.next().await {
            let data = match data {
                Ok(data) => data,
                // as long as it is heard it is not in vain
                Err(Torn::Silent) => return Ok(true),
                Err(Torn::Cancelled) => return Err(Came::Cancelled),
                Err(_) => break,
            };
            self.record.passed(data.len());
            any |= reading.push(&data).map_err(|_| too_large())?;
            let produced = reading.meter().produced();
            if self.lease.as_mut().is_some_and(|lease| !lease.produced(produced)) {
                let refusal = Refusal::budget_ended();
                // nobody pays for the rest
                let _ = self.asking.ask(&Method::POST, "/cancel", None).await;
                return Err(lost(refusal.code(), refusal.message()));
            }
        }
        Ok(any)
    }

    /// Settles the lease, once: by what the end tells; and not yet, if it is to be asked for again.
    pub fn close(self, came: &Came) {
        let Self { lease, mut record, meter, refused, .. } = self;
        if let Some(meter) = &meter {
            record.metered(meter);
        }
        let (complete, outcome) = match came {
            Came::Good(_) => (true, Outcome::Complete),
            Came::Ended(..) => (true, Outcome::UpstreamError),
            Came::Rest(_) => {
                if let Some(lease) = lease {
                    lease.spare();
                }
                return record.close(refused.unwrap_or(Outcome::ClientGone));
            }
            Came::Cancelled => (false, Outcome::Cancelled),
            _ => (false, Outcome::UpstreamBroken),
        };
        let billed = Billed {
            usage: meter.as_ref().and_then(Meter::usage),
            produced: meter.as_ref().map_or(0, Meter::produced),
            complete,
        };
        let settled = lease.and_then(|lease| lease.settle(&billed));
        record.billed(settled.as_ref());
        record.close(outcome);
    }
}

fn is_over(object: &[u8]) -> bool {
    wire::response_status(object).is_some_and(|status| end_of(&status).is_some())
}

/// The response is being made, and its limits have no room for reading it: they will have some.
fn refused(refusal: &Refusal) -> Duration {
    refusal.wait().unwrap_or(A_WHILE)
}

//! Embeddings, input by input: what is kept is not asked for again, and a batch is sent with the rest
//! alone.
//!
//! The client gets one answer, put together, with the usage of the whole batch; limits, the log and
//! the metrics hear what the backend counted for what was sent, and what was saved. An answer that
//! is not what was expected cannot be used in part: its indices, and those in an error's text, are
//! not the client's. Then the request goes out once more, whole, and its answer is passed on as it
//! is. An error that says nothing of inputs is the answer: the backend is not asked twice.
use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use http::{HeaderName, StatusCode, header};

use super::admit::Came;
use super::call::Sending;
use super::dispatch::{self, Going};
use super::lookup::{Answered, Found, Hit, Lookup, Tier};
use super::produce::Production;
use super::refusal::Refusal;
use super::reply::{Sent, outcome, pass_head};
use super::shared::{Ended, Failure, Head, unless_deserted};
use super::status::Saved;
use super::worker::{self, Worker};
use crate::cache::{Entry, Keeping, Recorded, Vectors};
use crate::flight::Flight;
use crate::telemetry::metrics::Outcome;
use crate::upstream::answer::AnswerBody;
use crate::wire::embed::batch;
use crate::wire::{Form, Meter, Usage};

/// The longest answer that is held to be put together, or joined by others: 2,048 vectors of 3,072
/// numbers in base64 take half of it.
pub const LONGEST: usize = 64 << 20;
/// Names of an answer's bytes that are no more.
const STALE: [HeaderName; 4] = [
    header::CONTENT_LENGTH,
    header::ETAG,
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
];

impl Lookup {
    /// The answer of vectors that are in memory, or in flight. What is found stays found.
    pub fn peek_vectors(&mut self, worker: &Worker, now: SystemTime) -> Option<Found> {
        let mut vectors = self.vectors.take()?;
        vectors.look(&self.space, now, |entry| self.gives(entry, now));
        let hit = self.whole(vectors.answer(0, now), Tier::Memory, now);
        if hit.is_none() && vectors.missing().is_empty() {
            // they do not fit together
            vectors.forget();
        }
        self.vectors = Some(vectors);
        let shared = self.rule.coalesce && worker.pressure.may_share();
        let join = || shared.then(|| worker.hubs.join(&self.flight)).flatten();
        hit.map(Found::Hit).or_else(|| join().map(Found::Join))
    }

    /// The same with those on disk.
    pub async fn peek_vectors_on_disk(&mut self, now: SystemTime) -> Option<Found> {
        let mut vectors = self.vectors.take()?;
        vectors.look_on_disk(&self.space, now, |entry| self.gives(entry, now)).await;
        let hit = self.whole(vectors.answer(0, now), Tier::Disk, now);
        self.vectors = Some(vectors);
        hit.map(Found::Hit)
    }

    fn gives(&self, entry: &Entry, now: SystemTime) -> bool {
        self.bounded(entry, now).is_some()
    }

    fn whole(&self, answer: Option<Entry>, tier: Tier, now: SystemTime) -> Option<Hit> {
        let answer = answer?;
        let (age, left) = self.bounded(&answer, now)?;
        Some(Hit { entry: Arc::new(answer), key: self.key, tier, age, left })
    }

    /// Keeps the vectors of an answer to the request as it came.
    pub fn keep_vectors(mut self, worker: &Worker, answered: &Answered) {
        let Some(mut vectors) = self.vectors.take() else { return };
        vectors.forget();
        let asked: Vec<_> = (0..vectors.len()).collect();
        self.take(worker, &mut vectors, &asked, answered);
    }

    fn take(
        &self,
        worker: &Worker,
        vectors: &mut Vectors,
        asked: &[usize],
        answered: &Answered,
    ) -> bool {
        let rate = self.rate(worker);
        let keeping = Keeping {
            space: &self.space,
            content_type: answered.content_type.clone(),
            ttl: self.ttl(),
            max_entry: self.rule.max_entry,
            author: &self.author,
            cost: &|usage| rate.cost(usage),
        };
        vectors.take(asked, &answered.recorded.body, &keeping)
    }
}

/// Asks for the inputs that are missing alone, if others are known. Gives the call back where it is
/// to be made as it came.
pub async fn fewer(mut production: Production) -> Option<Production> {
    let vectors = production.lookup.as_ref().and_then(|lookup| lookup.vectors.as_ref());
    let Some(vectors) = vectors.filter(|vectors| vectors.any_known()) else {
        return Some(production);
    };
    let asked = vectors.missing();
    let Sending::Whole(body) = &production.call.body else { return Some(production) };
    let only = batch(production.call.kind, body).map(|batch| batch.only(&asked));
    let Some(only) = only.filter(|_| !asked.is_empty()) else { return Some(production) };
    let mut part = production.call.with_body(only);
    let Production { worker, snapshot, who, lead, miss, tab, ticket, lease, to, head, .. } =
        &mut production;
    let going = Going { worker, snapshot, flight: ticket, who };
    let (mut head, mut to, mut watch) = (head.clone(), to.clone(), &**tab);
    let leave = (lease, miss.part());
    let sent = dispatch::dispatch(going, leave, &mut to, &mut head, &mut part, &mut watch);
    match unless_deserted(lead, Box::pin(sent)).await {
        Some(Ok(sent)) => Box::pin(answered(production, sent, &asked)).await,
        Some(Err(refusal)) => {
            lead.fail(Failure { refusal, between: true });
            tab.close();
            None
        }
        None => {
            tab.close();
            None
        }
    }
}

/// An answer to a part has begun to come.
async fn answered(mut production: Production, sent: Sent, asked: &[usize]) -> Option<Production> {
    let Sent { answer, kind, form, .. } = sent;
    let (status, mut headers, mut body) = (answer.status, answer.headers, answer.body);
    pass_head(&mut headers);
    let gathered = gather(&production.worker, &production.ticket, &mut body);
    let body = match unless_deserted(&production.lead, Box::pin(gathered)).await {
        Some(Ok(Some(body))) => body,
        // too long to be held
        Some(Ok(None)) => return Some(again(production, None)),
        gone => {
            let refusal = gone.and_then(Result::err);
            settle(production, None, refusal.map(Err));
            return None;
        }
    };
    let mut meter = (form != Form::Opaque).then(|| Meter::new(kind, form));
    if let Some(meter) = &mut meter {
        meter.whole(&body, false);
    }
    let counted = meter.as_ref().and_then(Meter::usage);
    let outcome = outcome(status, meter.as_ref());
    let (body, usage) = if about_inputs(status) {
        let fits = outcome == Outcome::Complete && status == StatusCode::OK && form == Form::Json;
        let content_type = headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes().into());
        let recorded = Recorded { body, frames: Box::default() };
        let part = Answered { kind, form, content_type, recorded, usage: counted, clamped: false };
        let whole = if fits { put_together(&mut production, asked, &part) } else { None };
        let Some(whole) = whole else { return Some(again(production, counted)) };
        (whole.body, whole.usage)
    } else {
        (body, counted)
    };
    for name in &STALE {
        headers.remove(name);
    }
    headers.insert(header::CONTENT_LENGTH, body.len().into());
    let end = OnceLock::from(Ended { outcome, usage });
    let dialect = production.dialect;
    let (said, offer) = (OnceLock::new(), OnceLock::new());
    let head = Head { status, headers, form, dialect, eventful: false, said, end, offer };
    settle(production, counted, Some(Ok((head, body))));
    None
}

/// The whole answer. `None`: here as it is without the part that was asked for.
fn put_together(production: &mut Production, asked: &[usize], part: &Answered) -> Option<Entry> {
    let Production { worker, tab, lookup, .. } = production;
    let lookup = lookup.as_mut()?;
    let mut vectors = lookup.vectors.take()?;
    let taken = lookup.take(worker, &mut vectors, asked, part);
    let whole = if taken { vectors.answer(*asked.first()?, SystemTime::now()) } else { None };
    if whole.is_some() {
        let rate = Some(lookup.rate(worker));
        let saved = Saved { how: "partial", rate };
        tab.trace.borrow_mut().saved = Some((saved, vectors.spared(asked)));
    }
    lookup.vectors = Some(vectors);
    whole
}

/// The call is to be made as it came; what was counted until now is its own all the same.
fn again(mut production: Production, counted: Option<Usage>) -> Production {
    production.spent = counted;
    production
}

/// Whether an answer of this status may speak of single inputs: of their places, or their number.
fn about_inputs(status: StatusCode) -> bool {
    status.is_success() || matches!(status.as_u16(), 400 | 413 | 422)
}

/// The whole body. `None`: it is too long.
async fn gather(
    worker: &Worker,
    flight: &Flight,
    body: &mut AnswerBody,
) -> Result<Option<Bytes>, Refusal> {
    let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
    let mut held = worker.pressure.hold(0);
    while !body.ended() {
        let piece = flight.guard(poll_fn(|cx| body.poll_data(cx))).await;
        let Some(piece) = piece.map_err(Refusal::expired)? else { break };
        let piece = piece.map_err(Refusal::broken_answer)?;
        flight.moved(piece.len(), worker.clock.now());
        let read = first.len() + rest.len() + piece.len();
        if read > LONGEST {
            return Ok(None);
        }
        held.set(read as u64);
        flight.holds_answer(read as u64);
        // one that comes in one piece is not copied
        if first.is_empty() && rest.is_empty() {
            first = piece;
        } else {
            rest.extend_from_slice(&std::mem::take(&mut first));
            rest.extend_from_slice(&piece);
        }
    }
    let whole = if rest.is_empty() { first } else { rest.freeze() };
    Ok(Some(worker::held(whole, held)))
}

/// The call is over: its bill first, then its answer, or what went wrong; `None` where nobody waits
/// for either.
fn settle(
    production: Production,
    counted: Option<Usage>,
    end: Option<Result<(Head, Bytes), Refusal>>,
) {
    let Production { lead, tab, lease, .. } = production;
    let complete = matches!(&end, Some(Ok((head, _)))
        if head.end.get().is_some_and(|end| end.outcome == Outcome::Complete));
    let settled = lease.settle(&Came { usage: counted, produced: 0, complete });
    {
        let mut trace = tab.trace.borrow_mut();
        (trace.usage, trace.settled) = (counted, settled);
    }
    match end {
        Some(Ok((head, body))) => {
            lead.head(Arc::new(head));
            lead.push(body, 0);
            lead.complete();
        }
        Some(Err(refusal)) => lead.fail(Failure { refusal, between: true }),
        None => {}
    }
    tab.close();
}

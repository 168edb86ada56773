//! May this call go on now? All limits of the policies at once, a place at the upstream, and the pace
//! that the upstream lets us go at; if not now, a place in the fair queue.
//!
//! A [`Lease`] is the proof: dispatch demands one, and only `admit` gives it. It is held to the last
//! byte of the answer, told on the way what the call uses, and settled exactly once: by
//! [`Lease::settle`] where the end is known, else by being dropped.
mod ask;
mod moving;
mod spending;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, StatusCode};

use super::call::Call;
use super::record::Record;
use super::refusal::Refusal;
use super::worker::Worker;
use crate::flight::{Expired, Flight};
use crate::identity::Identity;
use crate::limits::Limits;
use crate::limits::book::{Ask, Clamp, Decision, Denial, End, Fate, Grant, Settled, Standing};
use crate::limits::pace::Heard;
use crate::limits::rules::LimitOf;
use crate::limits::runaway::Flag;
use crate::route::Aim;
use crate::snapshot::Snapshot;
use crate::telemetry::metrics::PoolGauges;
use crate::telemetry::usage::Sunk;
use crate::upstream::{Upstream, keys};
use crate::wire::{self, Quota, Usage};
use ask::{ask, credential, is_limited};

/// Leave to make one call.
pub struct Lease {
    limits: Arc<Limits>,
    /// `None`: nothing limits the call, or it is settled.
    grant: Option<Box<Grant>>,
    upstream: Arc<Upstream>,
    /// As far as is known; what is dropped now ends like this.
    fate: Fate,
    /// A backend has had it: it counts as a request there, whatever becomes of later attempts.
    reached: bool,
    /// An earlier attempt, under another grant, counts as its request.
    paid: bool,
    /// Leave to go on was asked for, and not given: it may go nowhere.
    adrift: bool,
    sent: Option<Instant>,
    first_token: Option<Instant>,
    /// In whose history its first token goes, where that is kept.
    timed: Option<Rc<str>>,
    produced: u64,
    told: u64,
    told_at: Option<Instant>,
    /// The upstream's own key that the call goes with, by its id.
    pub key: Option<u64>,
    credential: u64,
    /// The guard against loops has flagged it.
    pub runaway: bool,
    /// What attempts of the call have cost that came to nothing.
    sunk: Sunk,
    /// The limits it is under, as they stood when it went.
    pub standing: Vec<Standing>,
}

/// What an answer came to, for the bill.
#[derive(Debug, Clone, Copy, Default)]
pub struct Came {
    pub usage: Option<Usage>,
    /// Tokens that were seen to pass.
    pub produced: u64,
    /// To its end.
    pub complete: bool,
}

pub async fn admit(
    worker: &Worker,
    snapshot: &Snapshot,
    flight: &Flight,
    who: &Rc<Identity>,
    aim: &Aim,
    call: &Call,
    record: &mut Record,
) -> Result<Lease, Refusal> {
    let upstream = aim.upstream();
    let mut lease = Lease::new(worker, upstream, who);
    if !is_limited(snapshot, aim) {
        return Ok(lease);
    }
    let ask = ask(snapshot, who, aim, call, lease.credential);
    let leave = leave(worker, flight, upstream, &ask, record).await?;
    (lease.runaway, lease.standing) = (leave.runaway, leave.standing);
    lease.grant = Some(leave.grant);
    Ok(lease)
}

/// The same for a call that is answered from what is kept: it counts as a request alone.
pub async fn admit_here(
    worker: &Worker,
    snapshot: &Snapshot,
    flight: &Flight,
    who: &Rc<Identity>,
    aim: &Aim,
    call: &Call,
    record: &mut Record,
) -> Result<Vec<Standing>, Refusal> {
    if snapshot.rules.is_empty() {
        return Ok(Vec::new());
    }
    let asked = ask(snapshot, who, aim, call, 0);
    let ask = Ask { here: true, counted: false, generates: false, ..asked };
    let leave = leave(worker, flight, aim.upstream(), &ask, record).await?;
    let end = End { fate: Fate::Spared, ..End::unsent() };
    worker.limits.with(|book, now| book.settle(leave.grant, &end, now));
    Ok(leave.standing)
}

/// What the book has given.
struct Leave {
    grant: Box<Grant>,
    runaway: bool,
    standing: Vec<Standing>,
}

/// Asks the book, and waits where it says so.
async fn leave(
    worker: &Worker,
    flight: &Flight,
    upstream: &Upstream,
    ask: &Ask<'_>,
    record: &mut Record,
) -> Result<Leave, Refusal> {
    let who = ask.subject.who;
    let (flag, decision, standing) = worker.limits.with(|book, now| {
        let decision = book.ask(ask, now);
        let standing = match &decision {
            Decision::Go(grant) => book.standing(grant, now),
            _ => Vec::new(),
        };
        (book.runaway(&decision), decision, standing)
    });
    let runaway = flag.is_some();
    if let Some(flag) = flag {
        notice(worker, who, &flag);
    }
    match decision {
        Decision::Go(grant) => Ok(Leave { grant, runaway, standing }),
        Decision::No(denial) => Err(Refusal::limited(&denial, who)),
        Decision::Wait { call, longest } => {
            flight.queue(longest, worker.clock.now());
            flight.describe(|about| about.in_line = Some(call));
            let turn = Box::pin(wait(worker, flight, upstream, call, record)).await;
            flight.describe(|about| about.in_line = None);
            let grant = turn.map_err(|over| over.refusal(who, longest))?;
            let standing = worker.limits.with(|book, now| book.standing(&grant, now));
            Ok(Leave { grant, runaway, standing })
        }
    }
}

/// An agent runs away: counted with each call, told once.
fn notice(worker: &Worker, who: &Identity, flag: &Flag) {
    let action = flag.action.as_str();
    worker.metrics.runaway(action);
    if flag.fresh {
        let team = who.team.as_deref().unwrap_or("");
        let session = who.session.as_deref().unwrap_or("");
        let pattern = flag.pattern.as_str();
        tracing::warn!(agent = &*who.agent, team, session, pattern, action, "an agent runs away");
    }
}

/// A wait that came to nothing.
enum Over {
    /// It could not have come to anything any more.
    Hopeless(Box<Denial>),
    Expired {
        expired: Expired,
        /// What it was for, if it was not for the upstream.
        denial: Option<Denial>,
    },
}

impl Over {
    fn refusal(self, who: &Identity, longest: Duration) -> Refusal {
        match self {
            Self::Hopeless(denial) => Refusal::limited(&denial, who),
            Self::Expired { expired: Expired::Queued, denial } => {
                Refusal::waited(denial.as_ref(), who, longest)
            }
            Self::Expired { expired, .. } => Refusal::expired(expired),
        }
    }
}

/// Stands in line until the turn comes, or the time is up.
async fn wait(
    worker: &Worker,
    flight: &Flight,
    upstream: &Upstream,
    call: usize,
    record: &mut Record,
) -> Result<Box<Grant>, Over> {
    let (limits, gauges, since) = (&*worker.limits, &upstream.shared.gauges, Instant::now());
    gauges.waiting.fetch_add(1, Relaxed);
    let mut place = InLine { limits, gauges, call: Some(call), record, since };
    let turn = std::future::poll_fn(|cx| {
        let Some(call) = place.call else { return Poll::Pending };
        match place.limits.with(|book, _| book.poll(call, cx.waker())) {
            Some(turn) => {
                place.call = None;
                Poll::Ready(turn)
            }
            None => Poll::Pending,
        }
    });
    match flight.guard(turn).await {
        Ok(turn) => turn.map_err(Over::Hopeless),
        Err(expired) => {
            let denial = worker.limits.with(|book, now| book.waits_for(call, now));
            Err(Over::Expired { expired, denial })
        }
    }
}

/// A place in the queue, given up when dropped.
struct InLine<'w> {
    limits: &'w Limits,
    gauges: &'w PoolGauges,
    call: Option<usize>,
    record: &'w mut Record,
    since: Instant,
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.gauges.waiting.fetch_sub(1, Relaxed);
        self.record.waited(self.since.elapsed());
        if let Some(call) = self.call {
            self.limits.with(|book, now| book.leave(call, now));
        }
    }
}

impl Lease {
    fn new(worker: &Worker, upstream: &Arc<Upstream>, who: &Identity) -> Self {
        upstream.shared.gauges.in_flight.fetch_add(1, Relaxed);
        let key = keys::first(&upstream.keys);
        Self {
            limits: Arc::clone(&worker.limits),
            grant: None,
            upstream: Arc::clone(upstream),
            fate: Fate::Unsent,
            reached: false,
            paid: false,
            adrift: false,
            sent: None,
            first_token: None,
            timed: None,
            produced: 0,
            told: 0,
            told_at: None,
            key: key.map(|key| key.id),
            credential: credential(who, key),
            runaway: false,
            sunk: Sunk::default(),
            standing: Vec::new(),
        }
    }

    /// The bound that must be written into the call.
    pub fn clamp(&self) -> Option<Clamp> {
        self.grant.as_ref().and_then(|grant| grant.clamp)
    }

    /// Whether some limit counts its tokens.
    pub fn counts_tokens(&self) -> bool {
        self.grant.as_ref().is_some_and(|grant| grant.counts_tokens)
    }

    /// Tokens that were expected of the call.
    pub fn predicted(&self) -> Option<u64> {
        self.grant.as_ref().map(|grant| grant.input + grant.output)
    }

    /// A limit that only watches, and would have refused the call.
    pub fn would_refuse(&self) -> Option<&Arc<LimitOf>> {
        self.grant.as_ref()?.would_refuse.as_ref()
    }

    /// Another answer serves the call: all is given back but the request.
    pub fn spare(mut self) {
        self.fate = Fate::Spared;
        self.close(&Came::default());
    }

    /// The call goes out. From here on it may have been billed, however it ends.
    pub fn sent(&mut self, at: Instant) {
        self.sent = Some(at);
        self.fate = Fate::Answered;
    }

    /// It got no answer: what the backend never had is given back.
    pub fn unanswered(&mut self, never_arrived: bool) {
        self.fate = if never_arrived { Fate::Unsent } else { Fate::Failed };
        self.reached |= !never_arrived;
    }

    /// The answer's head has come.
    pub fn answered(&mut self, status: StatusCode, headers: &HeaderMap, model: Option<&str>) {
        self.reached = true;
        self.fate = match status.as_u16() {
            400..500 => Fate::Rejected,
            500.. => Fate::Failed,
            _ => Fate::Answered,
        };
        let limited = status == StatusCode::TOO_MANY_REQUESTS;
        self.upstream.shared.gauges.rate_limited.fetch_add(u64::from(limited), Relaxed);
        if self.upstream.paces {
            let overloaded = matches!(status.as_u16(), 503 | 529);
            let quota = wire::quota(headers, SystemTime::now);
            if limited || overloaded || quota != Quota::default() {
                self.hear(&Heard { quota: &quota, limited, overloaded }, model.unwrap_or(""));
            }
        }
    }

    fn hear(&mut self, heard: &Heard<'_>, model: &str) {
        let (pool, credential) = (self.upstream.pool, self.credential);
        match &mut self.grant {
            Some(grant) => self.limits.with(|book, now| book.heard(grant, heard, now)),
            None => {
                self.limits.with(|book, now| book.overheard(pool, credential, model, heard, now));
            }
        }
        self.upstream.shared.paced.store(true, Relaxed);
    }

    /// The first of the output has passed.
    pub fn first_token(&mut self, at: Instant) {
        self.first_token = Some(at);
        self.tell_time(at);
        if let (Some(grant), Some(sent)) = (&mut self.grant, self.sent)
            && self.upstream.shared.paced.load(Relaxed)
        {
            let after = at.saturating_duration_since(sent);
            self.limits.with(|book, now| book.first_token(grant, after, now));
        }
    }

    /// The call is over: gives back what it held. `None`: nothing has counted what it used.
    pub fn settle(mut self, came: &Came) -> Option<Settled> {
        self.produced = self.produced.max(came.produced);
        self.close(came)
    }

    /// The same, where no answer came.
    pub fn abandon(&mut self) -> Option<Settled> {
        self.close(&Came::default())
    }

    /// Another attempt of the call has cost so much, for nothing.
    pub fn bears(&mut self, sunk: Sunk) {
        self.sunk.add(sunk);
    }

    fn close(&mut self, came: &Came) -> Option<Settled> {
        let sunk = std::mem::take(&mut self.sunk);
        let Some(grant) = self.grant.take() else {
            let usage = came.usage.unwrap_or_default();
            let settled = Settled { usage, spend: None, priced: true, estimated: false, sunk };
            return (sunk != Sunk::default()).then_some(settled);
        };
        let fate = if self.fate == Fate::Unsent { self.fate_before() } else { self.fate };
        let since = |from: Option<Instant>| from.map(|from| from.elapsed());
        let wait = |(first, sent): (Instant, Instant)| first.saturating_duration_since(sent);
        let end = End {
            fate,
            usage: came.usage,
            produced: self.produced,
            complete: came.complete,
            first_token: self.first_token.zip(self.sent).map(wait),
            generating: since(self.first_token),
            elapsed: since(self.sent).unwrap_or_default(),
        };
        let settled = self.limits.with(|book, now| book.settle(grant, &end, now));
        Some(Settled { sunk, ..settled })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.close(&Came::default());
        self.upstream.shared.gauges.in_flight.fetch_sub(1, Relaxed);
    }
}

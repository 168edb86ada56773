//! The attempts of a call: where it is sent, what its answer says of the backend, and whether and
//! where it is sent once more.
//!
//! Never after content was forwarded, and never twice for work that may have been done: what an
//! endpoint allows is in [`crate::wire::Repeat`]. An attempt that was not begun (no connection, no
//! place, an open breaker) costs nothing; every other one comes out of the upstream's retry budget.
//! First another key or address of the same upstream, then the route's next target, then, where the
//! policy says so, the same place again. If all is in vain the caller gets the last answer that a
//! backend gave, as it was.
mod judge;
mod next;

pub use self::next::dice;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, request};

use super::admit::Lease;
use super::call::{Call, Sending};
use super::dispatch::{Going, Prepared, edited, has_others, key_of};
use super::record::Watch;
use super::refusal::{Refusal, ran_out};
use super::reply::Sent;
use super::stub::Verdict;
use crate::flight::Expired;
use crate::upstream::PoolKey;
use crate::upstream::call::{CallError, Missed, Outbound, send};
use crate::upstream::h1::H1Error;
use crate::upstream::outgoing::Outgoing;
use crate::upstream::visit::{Closed, Spread};

/// A call on its way through its attempts.
pub struct Run<'c, 'p, W> {
    going: Going<'c>,
    lease: &'c mut Lease,
    watch: &'c mut W,
    to: Prepared<'p>,
    head: &'c mut request::Parts,
    call: Call,
    /// The caller's headers, where another target may want them as they were.
    caller: Option<Box<HeaderMap>>,
    /// A body that streams through, until it has begun to.
    streaming: Option<Outgoing>,
    /// The body for the target, where it is not as it came; and whether it hides its usage.
    body: Option<(Option<Bytes>, bool)>,
    tried: Tried,
}

/// Where the call has been.
#[derive(Default)]
struct Tried {
    /// Times that something was sent, or tried to.
    attempts: u32,
    targets: u64,
    /// Of the target it is at.
    addresses: Vec<PoolKey>,
    keys: Vec<u64>,
    spread: Option<Spread>,
    /// It has been asked for in another model already.
    downgraded: bool,
    /// It waits for a target since.
    waiting: Option<Instant>,
}

/// An attempt that came to nothing.
struct Failed {
    why: Why,
    /// The answer of the backend, to be passed on if there is no better one.
    kept: Option<Sent>,
    refusal: Option<Refusal>,
    /// How long the backend wants to be left alone.
    hint: Option<Duration>,
    /// Where it was.
    address: Option<PoolKey>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// The upstream takes no calls.
    Closed,
    /// The backend cannot have begun it.
    Unbegun,
    /// By the status and body of its answer.
    Said(Verdict),
    /// By an error in its stream, before content.
    InStream(Verdict),
    Broken,
    TimedOut,
    /// Nothing helps: the caller's doing, or ours.
    Final,
}

impl Failed {
    fn refused(why: Why, refusal: Refusal, address: Option<PoolKey>) -> Box<Self> {
        Box::new(Self { why, kept: None, refusal: Some(refusal), hint: None, address })
    }
}

impl<'c, 'p, W: Watch> Run<'c, 'p, W> {
    pub fn new(
        going: Going<'c>,
        lease: &'c mut Lease,
        watch: &'c mut W,
        to: Prepared<'p>,
        head: &'c mut request::Parts,
        mut call: Call,
    ) -> Self {
        let caller = (to.aim.route.targets.len() > 1).then(|| Box::new(head.headers.clone()));
        let whole = Sending::Whole(Bytes::new());
        let streaming = match std::mem::replace(&mut call.body, whole) {
            Sending::Streaming(body) => Some(body),
            whole @ Sending::Whole(_) => {
                call.body = whole;
                None
            }
        };
        let tried = Tried::default();
        Self { going, lease, watch, to, head, call, caller, streaming, body: None, tried }
    }

    pub async fn to_an_answer(mut self) -> Result<Sent, Refusal> {
        self.to.aim.upstream().earn_retry(Instant::now());
        self.dress();
        let mut kept: Option<Sent> = None;
        loop {
            let mut failed = match self.attempt().await {
                Ok(sent) => return Ok(self.finish(sent)),
                Err(failed) => failed,
            };
            kept = failed.kept.take().or(kept);
            if Box::pin(self.go_on(&failed)).await {
                continue;
            }
            if let Some(sent) = kept.filter(|_| failed.why != Why::Final) {
                return Ok(self.finish(sent));
            }
            let refusal = failed.refusal.unwrap_or_else(Refusal::lost);
            return Err(if self.tried.attempts > 1 { refusal.after_retries() } else { refusal });
        }
    }

    fn finish(&self, mut sent: Sent) -> Sent {
        sent.answer.tries = self.tried.attempts;
        sent.substituted = self.to.aim.instead.is_some() || self.to.aim.target().model.is_some();
        let now = Instant::now();
        sent.answer.arrived = sent.answer.arrived.min(now);
        sent
    }

    /// Makes the headers those of the target.
    fn dress(&mut self) {
        let key = key_of(self.to.aim.upstream(), self.lease);
        self.to.dress(&mut self.head.headers, key);
    }

    /// What is to be sent to the target. `None`: there is no more of it.
    fn outgoing(&mut self) -> Result<Option<(Outgoing, bool)>, Refusal> {
        let Sending::Whole(whole) = &self.call.body else { return Ok(None) };
        if let Some(body) = self.streaming.take() {
            return Ok(Some((body, false)));
        }
        let (changed, hides) = match &self.body {
            Some(body) => body,
            None => {
                let (changed, hides) = edited(&self.to.aim, self.lease, &self.call)?;
                let changed = changed.map(|body| self.going.worker.counted(body));
                self.body.insert((changed, hides))
            }
        };
        let body = changed.as_ref().unwrap_or(whole).clone();
        Ok(Some((Outgoing::whole(body), *hides)))
    }

    async fn attempt(&mut self) -> Result<Sent, Box<Failed>> {
        let upstream = Arc::clone(self.to.aim.upstream());
        let now = Instant::now();
        let spread = self.spread();
        let visit = match upstream.choose(spread, &self.tried.addresses, now) {
            Ok(visit) => visit,
            Err(closed) => return Err(Self::closed(closed)),
        };
        let address = Some(upstream.address(&visit).key);
        let (body, hides_usage) = match self.outgoing() {
            Ok(Some(body)) => body,
            Ok(None) => return Err(Failed::refused(Why::Final, Refusal::lost(), None)),
            Err(refusal) => return Err(Failed::refused(Why::Final, refusal, None)),
        };
        self.tried.attempts += 1;
        self.watch.sent(now);
        self.lease.sent(now);
        let path = self.to.path();
        let headers = &mut self.head.headers;
        let mut outbound = Outbound { method: &self.head.method, target: &path, headers, body };
        let Going { worker, flight, .. } = self.going;
        match send(&worker.pools, flight, &upstream, visit, &mut outbound).await {
            Ok(answer) => {
                self.watch.answered(&answer);
                let model = self.call.shared_model();
                self.lease.answered(answer.status, &answer.headers, model.as_deref());
                let sent = Sent {
                    answer,
                    kind: self.call.kind,
                    metered: self.to.metered,
                    hides_usage,
                    clock: Arc::clone(&worker.clock),
                    retried: self.tried.attempts > 1,
                    substituted: false,
                };
                self.judge(sent, address).await
            }
            Err(missed) => {
                let body = outbound.body;
                Err(self.missed(missed, body, address))
            }
        }
    }

    fn spread(&mut self) -> Spread {
        if self.to.aim.upstream().addresses.len() == 1 {
            return Spread::default();
        }
        *self.tried.spread.get_or_insert_with(|| next::spread(&self.call, self.going.who))
    }

    fn closed(closed: Closed) -> Box<Failed> {
        let left = match closed {
            Closed::Breaker(left) => left,
            Closed::Tried => Duration::from_secs(1),
        };
        let mut failed = Failed::refused(Why::Closed, Refusal::unavailable(left), None);
        failed.hint = Some(left);
        failed
    }

    /// No answer came.
    fn missed(
        &mut self,
        missed: Missed,
        mut body: Outgoing,
        address: Option<PoolKey>,
    ) -> Box<Failed> {
        let Missed { error, visit, unbegun } = missed;
        self.lease.unanswered(unbegun);
        if matches!(body, Outgoing::Streaming { .. }) && body.rewind() {
            self.streaming = Some(body);
        } else if matches!(body, Outgoing::Streaming { .. }) {
            // part of it is gone
            self.call.body = Sending::Streaming(body);
        }
        let why = match &error {
            CallError::Expired(Expired::FirstByte | Expired::FirstContent) => Why::TimedOut,
            // the whole time of the call is up, or its caller's doing
            CallError::Expired(_) | CallError::Request(_) => Why::Final,
            CallError::H1(H1Error::RequestBody(_)) => Why::Final,
            error if ran_out(error) => Why::Final,
            _ if unbegun => Why::Unbegun,
            _ => Why::Broken,
        };
        if why != Why::Final {
            visit.failed(Instant::now());
        }
        Failed::refused(why, Refusal::call(error), address)
    }

    /// Whether another attempt is possible at all, whatever the answer says.
    fn may_go_on(&self) -> bool {
        let retry = &self.to.aim.upstream().config.retry;
        self.tried.attempts < retry.attempts
            && matches!(self.call.body, Sending::Whole(_))
            && (has_others(&self.to.aim) || retry.in_place || self.waits_or_downgrades())
    }
}

/// Whether the backend is at fault where it answers so.
fn is_backends(status: StatusCode) -> bool {
    status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
}

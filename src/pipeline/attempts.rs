//! The attempts of a call: where it is sent, what its answer says of the backend, and whether and
//! where it is sent once more.
//!
//! Never after content was forwarded, and never twice for work that may have been done: what an
//! endpoint allows is in [`crate::wire::Repeat`]. First another key or address of the same upstream,
//! then the route's next target, then, where the policy says so, the same place again. What follows
//! an attempt that no backend has begun (no connection, no place, an open breaker) is free; what
//! follows a refused key is bounded by the number of attempts; everything else comes out of the
//! upstream's retry budget as well. If all is in vain the caller gets the last answer that a backend
//! gave, as it was.
mod exhausted;
mod hedge;
mod judge;
mod next;
mod slow;
mod traced;

pub use self::next::dice;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, request};

use self::hedge::Side;
use self::slow::Slow;
use super::admit::Lease;
use super::call::{Call, Sending};
use super::dispatch::{Going, Prepared, edited, key_of};
use super::record::Watch;
use super::refusal::{Refusal, ran_out};
use super::reply::{Sent, form_of};
use crate::flight::Expired;
use crate::route::Aim;
use crate::upstream::PoolKey;
use crate::upstream::answer::Answer;
use crate::upstream::call::{CallError, Missed, Outbound, send};
use crate::upstream::outgoing::Outgoing;
use crate::upstream::visit::Spread;
use crate::wire::{Form, Repeat, Verdict};

/// A call on its way through its attempts.
pub struct Run<'c, 'p, W: Watch> {
    going: Going<'c>,
    lease: &'c mut Lease,
    watch: &'c mut W,
    to: &'c mut Prepared<'p>,
    head: &'c mut request::Parts,
    call: &'c mut Call,
    /// The caller's headers, where there may be another attempt: a target has its own of them, and an
    /// answer comes in their place.
    caller: Option<Box<HeaderMap>>,
    upload: Upload,
    /// The body for the target, where it is not as it came; and whether it hides its usage.
    body: Option<(Option<Bytes>, bool)>,
    tried: Tried,
    /// A stream that is better than nothing.
    slow: Option<Box<Slow>>,
    /// Another request of the call may run beside it.
    beside: Option<Rc<Side>>,
}

/// A body that streams through.
enum Upload {
    /// The body is whole, and can be sent as often as need be.
    No,
    Ready(Outgoing),
    /// It is on its way; what has gone is gone.
    Begun,
}

/// Where the call has been.
#[derive(Default)]
struct Tried {
    /// Times that something was sent, or tried to.
    attempts: u32,
    /// Those of them that the policy's bound counts: a backend has had the call.
    begun: u32,
    targets: u64,
    /// The second request has answered, and the first is counted.
    outrun: bool,
    /// The second request, while both run.
    second: Option<Rc<Side>>,
    /// Of the target it is at.
    addresses: Vec<PoolKey>,
    keys: Vec<u64>,
    spread: Option<Spread>,
    /// The work may have been done, and only this upstream would know it again, under this credential.
    bound: bool,
    /// There was no retry left for it.
    starved: bool,
    /// It has been asked for in another model already.
    downgraded: bool,
    /// It waits for a target since.
    waiting: Option<Instant>,
    /// Targets that time does not make better.
    lost: u64,
    /// Some target was passed over that takes no calls now, or has no place.
    passed: bool,
    /// Of a sampled call: the attempt that runs, and the one whose stream is slow.
    span: Option<usize>,
    slow_span: Option<usize>,
}

/// An attempt that came to nothing.
struct Failed {
    why: Why,
    /// The answer of the backend, to be passed on if there is no better one.
    kept: Option<Box<Kept>>,
    refusal: Option<Refusal>,
    /// How long the backend wants to be left alone.
    hint: Option<Duration>,
    /// It does not say that asking again is of no use.
    wanted: bool,
    /// Where it was.
    address: Option<PoolKey>,
}

/// An answer that is held back, and whose it is.
struct Kept {
    sent: Sent,
    aim: Aim,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// The upstream takes no calls.
    Closed,
    /// The backend cannot have begun it.
    Unbegun,
    /// By the status and body of its answer.
    Said(Verdict),
    /// By an error in its stream, before content, or in the body of a good answer.
    InStream(Verdict),
    Broken,
    TimedOut,
    /// Its stream has no content, for longer than the policy waits for it.
    Slow,
    /// Nothing helps: the caller's doing, or ours.
    Final,
}

impl Why {
    /// As metrics call it.
    fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Unbegun => "unreachable",
            Self::Said(verdict) | Self::InStream(verdict) => match verdict {
                Verdict::Limited => "limited",
                Verdict::KeyRefused | Verdict::KeySpent | Verdict::Denied => "key",
                Verdict::Overloaded => "overloaded",
                Verdict::Fine | Verdict::TheirFault | Verdict::Failed => "failed",
            },
            Self::Broken => "broken",
            Self::TimedOut => "timeout",
            Self::Slow => "slow",
            Self::Final => "final",
        }
    }
}

impl Failed {
    fn refused(why: Why, refusal: Refusal, address: Option<PoolKey>) -> Box<Self> {
        Box::new(Self {
            why,
            kept: None,
            refusal: Some(refusal),
            hint: None,
            wanted: true,
            address,
        })
    }
}

impl<'c, 'p, W: Watch> Run<'c, 'p, W> {
    pub fn new(
        going: Going<'c>,
        lease: &'c mut Lease,
        watch: &'c mut W,
        to: &'c mut Prepared<'p>,
        head: &'c mut request::Parts,
        call: &'c mut Call,
    ) -> Self {
        let mut upload = Upload::No;
        if let Sending::Streaming(_) = &call.body
            && let Sending::Streaming(body) =
                std::mem::replace(&mut call.body, Sending::Whole(Bytes::new()))
        {
            upload = Upload::Ready(body);
        }
        let tried = Tried::default();
        let (body, caller, slow, beside) = (None, None, None, None);
        let mut run =
            Self { going, lease, watch, to, head, call, caller, upload, body, tried, slow, beside };
        if run.has_others() || run.stays() {
            run.caller = Some(Box::new(run.head.headers.clone()));
        }
        run
    }

    pub async fn answer(&mut self) -> Result<Sent, Refusal> {
        self.to.aim.upstream().earn_retry(Instant::now());
        self.regain_leave()?;
        self.dress();
        let mut kept: Option<Box<Kept>> = None;
        loop {
            let mut failed = match self.once().await {
                Ok(mut sent) => {
                    self.give_up_slow();
                    self.finish(&mut sent);
                    return Ok(sent);
                }
                Err(failed) => failed,
            };
            self.keep(&mut failed, &mut kept);
            if Box::pin(self.go_on(&failed)).await {
                let gauges = &self.to.aim.upstream().shared.gauges;
                gauges.retried(failed.why.as_str());
                if let Some(caller) = &self.caller {
                    self.head.headers.clone_from(caller);
                }
                self.dress();
                continue;
            }
            if let Some(mut sent) = self.take_slow(&failed) {
                self.trace_slow(&sent);
                self.finish(&mut sent);
                return Ok(sent);
            }
            if let Some(mut kept) = kept.filter(|_| failed.why != Why::Final) {
                self.return_to(&kept.aim);
                self.finish(&mut kept.sent);
                return Ok(kept.sent);
            }
            let refusal = failed.refusal.unwrap_or_else(Refusal::lost);
            return Err(if self.was_retried() { refusal.after_retries() } else { refusal });
        }
    }

    fn finish(&mut self, sent: &mut Sent) {
        sent.answer.tries = self.tried.attempts;
        self.watch.tried(self.tried.attempts);
        sent.retried = self.was_retried();
    }

    /// The caller need not do what was done already, or what nobody may do now.
    fn was_retried(&self) -> bool {
        self.tried.attempts > 1 || self.tried.starved
    }

    /// Makes the headers those of the target.
    fn dress(&mut self) {
        let key = key_of(self.to.aim.upstream(), self.lease);
        self.to.dress(&mut self.head.headers, key);
    }

    /// What is to be sent to the target. `None`: there is no more of it.
    fn outgoing(&mut self) -> Result<Option<(Outgoing, bool)>, Refusal> {
        let begun = match &self.upload {
            Upload::No => Upload::No,
            Upload::Ready(_) | Upload::Begun => Upload::Begun,
        };
        match std::mem::replace(&mut self.upload, begun) {
            Upload::No => {}
            Upload::Ready(body) => return Ok(Some((body, false))),
            Upload::Begun => return Ok(None),
        }
        let Sending::Whole(whole) = &self.call.body else { return Ok(None) };
        let (changed, hides) = if let Some(body) = &self.body {
            body
        } else {
            let (changed, hides) = edited(&self.to.aim, self.lease, self.call)?;
            let changed = changed.map(|body| self.going.worker.counted(body));
            self.body.insert((changed, hides))
        };
        let body = changed.as_ref().unwrap_or(whole).clone();
        Ok(Some((Outgoing::whole(body), *hides)))
    }

    async fn attempt(&mut self) -> Result<Sent, Box<Failed>> {
        let upstream = Arc::clone(self.to.aim.upstream());
        let now = Instant::now();
        let spread = self.spread();
        let chosen = upstream.choose(spread, &self.tried.addresses, now);
        let chosen = chosen.map(|visit| (upstream.address(&visit).key, visit));
        let (address, visit) = chosen.map_err(Self::closed)?;
        if let Some(side) = &self.beside {
            side.at.set(Some(address));
        }
        let (body, hides_usage) = match self.outgoing() {
            Ok(Some(body)) => body,
            Ok(None) => return Err(Failed::refused(Why::Final, Refusal::lost(), None)),
            Err(refusal) => return Err(Failed::refused(Why::Final, refusal, None)),
        };
        self.tried.begun += 1;
        self.trace_begins(&upstream, &visit, now);
        self.watch.sent(now);
        // now, and not with the answer: its caller may be gone by then
        self.count(1);
        self.lease.sent(now);
        self.lease.times(self.call);
        let path = self.to.path();
        let (method, headers) = (&self.head.method, &mut self.head.headers);
        let repeats = &|sent: &HeaderMap| {
            let headers = self.caller.as_deref().unwrap_or(sent);
            next::repeat(method, headers, self.call, true) != Repeat::WhenUnbegun
        };
        let mut outbound = Outbound { method, target: &path, headers, body, repeats };
        let Going { worker, flight, .. } = self.going;
        match send(&worker.pools, flight, &upstream, visit, &mut outbound).await {
            Ok(answer) => {
                let mut sent = self.answered(answer, hides_usage);
                if self.passes(&mut sent, now) {
                    return Ok(sent);
                }
                Box::pin(self.judge(sent, address, now)).await
            }
            Err(missed) => {
                let body = outbound.body;
                Err(self.missed(missed, body, address))
            }
        }
    }

    fn answered(&mut self, mut answer: Answer, hides_usage: bool) -> Sent {
        // one that a stale connection lost was sent twice
        self.count(answer.tries - 1);
        answer.tries = self.tried.attempts;
        self.watch.answered(&answer);
        let model = self.call.shared_model();
        self.lease.answered(answer.status, &answer.headers, model.as_deref());
        let aim = &self.to.aim;
        let form = if self.to.metered { form_of(&answer.headers) } else { Form::Opaque };
        Sent {
            answer,
            kind: self.call.kind,
            form,
            hides_usage,
            clock: Arc::clone(&self.going.worker.clock),
            retried: false,
            substituted: aim.instead.is_some() || aim.target().model.is_some(),
        }
    }

    /// It was sent so many times more.
    fn count(&mut self, times: u32) {
        self.tried.attempts += times;
        if let Some(side) = &self.beside {
            side.attempts.set(self.tried.attempts);
        }
        let beside = self.tried.second.as_ref().map_or(0, |side| side.attempts.get());
        self.watch.tried(self.tried.attempts + beside);
    }

    /// No answer came.
    fn missed(&mut self, missed: Missed, mut body: Outgoing, address: PoolKey) -> Box<Failed> {
        let Missed { error, visit, unbegun, tries } = missed;
        self.tried.attempts += tries - 1;
        self.watch.tried(self.tried.attempts);
        self.lease.unanswered(unbegun);
        self.tried.begun -= u32::from(unbegun);
        let upload = matches!(body, Outgoing::Streaming { .. });
        if upload && body.rewind() {
            self.upload = Upload::Ready(body);
        }
        let why = match &error {
            CallError::Expired(Expired::FirstByte | Expired::FirstContent) => Why::TimedOut,
            // the whole time of the call is up, or its caller's doing
            CallError::Expired(_) | CallError::Request(_) | CallError::RequestBody(_) => Why::Final,
            error if ran_out(error) => Why::Final,
            _ if unbegun => Why::Unbegun,
            _ => Why::Broken,
        };
        if why != Why::Final {
            visit.failed(Instant::now());
        }
        Failed::refused(why, Refusal::call(error), Some(address))
    }
}

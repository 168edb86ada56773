//! The second request: kept ready, given leave, sent.
use std::rc::Rc;
use std::time::Instant;

use http::request;

use super::super::{Failed, Run, Why};
use super::{Side, bit, is_given_up};
use crate::pipeline::admit::Lease;
use crate::pipeline::call::Call;
use crate::pipeline::dispatch::{Going, Prepared};
use crate::pipeline::record::Trace;
use crate::pipeline::refusal::Refusal;
use crate::pipeline::reply::Sent;
use crate::route::Aim;
use crate::telemetry::trace::CallTrace;
use crate::upstream::visit::{Spread, Visit};
use crate::upstream::{PoolKey, keys};

/// Bytes of a prompt that are taken for a token.
const BYTES_PER_TOKEN: u64 = 4;

/// What a call takes of a budget of tokens.
pub fn tokens_of(call: &Call) -> u64 {
    call.asks.prompt_bytes / BYTES_PER_TOKEN
}

/// A second request, should it be needed.
pub struct Spare {
    /// Where the first one goes.
    pub to: Prepared<'static>,
    pub head: request::Parts,
    pub call: Call,
    /// Where its attempt is written down, if the call is sampled.
    pub spans: Option<Rc<CallTrace>>,
    pub first: Rc<Side>,
    pub side: Rc<Side>,
}

/// It is needed, and may go.
pub struct Second {
    spare: Spare,
    lease: Lease,
    /// Addresses of its upstream that it is not to go to.
    tried: Vec<PoolKey>,
}

/// It was the first with content.
pub struct Won {
    pub sent: Sent,
    pub lease: Lease,
    pub aim: Aim,
    /// Its attempt, of a sampled call.
    pub span: Option<usize>,
}

impl Spare {
    /// `None`: there is nobody else to ask, no place there, or no budget.
    pub fn ready(mut self, going: Going<'_>) -> Option<Second> {
        let Going { worker, snapshot, who, .. } = going;
        let (now, from) = (Instant::now(), self.to.aim.clone());
        let mut tried = Vec::new();
        let (upstream, first) = (from.upstream(), self.first.at.get());
        let elsewhere = |visit: Visit| Some(upstream.address(&visit).key) != first;
        if upstream.addresses.len() > 1
            && upstream.choose(Spread::default(), first.as_slice(), now).is_ok_and(elsewhere)
        {
            tried.extend(first);
        } else {
            let targets = &from.route.targets;
            let mut others = (0..targets.len()).filter(|at| *at != from.at);
            self.to.aim.at = others.find(|at| targets[*at].upstream.is_open_for(now))?;
        }
        let key = keys::pick(&self.to.aim.upstream().keys, &[], now);
        let lease = Lease::beside(worker, snapshot, who, &self.to.aim, &self.call, key)?;
        let late = &from.upstream().shared.late;
        let goes = worker.may_repeat() && late.spend(tokens_of(&self.call));
        self.side.target.set(self.to.aim.at);
        goes.then_some(Second { spare: self, lease, tried })
    }
}

impl Second {
    pub async fn send(self, going: Going<'_>) -> Result<Box<Won>, Box<Failed>> {
        let Self { spare: Spare { mut to, mut head, mut call, spans, first, side }, lease, tried } =
            self;
        let (aim, from) = (to.aim.clone(), first.target.get());
        aim.upstream().shared.gauges.retried("hedge");
        let mut unsettled = Unsettled { lease: None, side: Rc::clone(&side) };
        let lease = unsettled.lease.insert(lease);
        let mut trace = Trace { spans, ..Trace::default() };
        let mut run = Run::new(going, lease, &mut trace, &mut to, &mut head, &mut call);
        run.tried.addresses = tried;
        run.tried.targets = if aim.at == from { 0 } else { bit(from) };
        run.beside = Some(side);
        run.dress();
        let mut sent = run.attempt().await;
        run.trace_ends(&sent);
        aim.upstream().shared.gauges.attempts.add([super::verdict(&sent)]);
        // the first one has failed, so that a slow stream is better than none
        if let Err(failed) = &mut sent
            && failed.why == Why::Slow
            && let Some(kept) = failed.kept.take()
        {
            sent = Ok(kept.sent);
        }
        if let Err(failed) = &sent {
            run.set_key_aside(failed, Instant::now());
            run.lease.step_aside(is_given_up(failed.why));
        }
        let span = run.tried.span;
        drop(run);
        let lost = || Failed::refused(Why::Final, Refusal::lost(), None);
        // where it has failed, what it has cost is told with the end of its lease
        let sent = sent?;
        let lease = unsettled.lease.take().ok_or_else(lost)?;
        Ok(Box::new(Won { sent, lease, aim, span }))
    }
}

/// The lease of a request that may be cancelled at any time.
struct Unsettled {
    lease: Option<Lease>,
    side: Rc<Side>,
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        if let Some(lease) = &mut self.lease
            && self.side.progress.get().is_unsent()
        {
            lease.unanswered(true);
        }
        if let Some(lease) = &mut self.lease {
            self.side.sunk.set(lease.sink());
        }
    }
}

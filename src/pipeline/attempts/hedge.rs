//! A second request when the first token is late (off by default). Whichever brings content first is
//! the answer, the other one is cancelled, and both are charged.
//!
//! Only for the first attempt of a call that may be repeated, to another address or target than the
//! first, within the upstream's budget of requests and tokens. Never for batch work, under a hard
//! limit, or where memory is short.
use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::request;
use tokio::time::timeout;

use super::{Failed, Run, Why};
use crate::config::{Hedge, Mode};
use crate::identity::Class;
use crate::pipeline::admit::Lease;
use crate::pipeline::call::{Call, Sending};
use crate::pipeline::dispatch::{Going, Prepared};
use crate::pipeline::record::{Trace, Watch};
use crate::pipeline::reply::Sent;
use crate::route::Aim;
use crate::upstream::{PoolKey, keys};

/// Bytes of a prompt that are taken for a token.
const BYTES_PER_TOKEN: u64 = 4;

/// A second request, should it be needed.
struct Spare {
    to: Prepared<'static>,
    head: request::Parts,
    call: Call,
    /// Where the first one went.
    first: Rc<Cell<Option<PoolKey>>>,
}

/// It was the first with content.
struct Won {
    sent: Sent,
    lease: Lease,
    trace: Trace,
    aim: Aim,
}

enum Winner {
    First(Box<Result<Sent, Box<Failed>>>),
    Second(Box<Won>),
}

impl<W: Watch> Run<'_, '_, W> {
    /// The first attempt, with a second beside it if it is late.
    pub(super) async fn hedged(&mut self, hedge: Hedge) -> Result<Sent, Box<Failed>> {
        let upstream = Arc::clone(self.to.aim.upstream());
        let tokens = self.call.asks.prompt_bytes / BYTES_PER_TOKEN;
        upstream.shared.late.earn(hedge.budget, tokens);
        let model = self.call.shared_model();
        let bound = || upstream.shared.late.bound(model.as_deref().unwrap_or(""));
        let after = hedge.after.or_else(bound).filter(|_| self.may_hedge());
        self.hedging = true;
        let Some(after) = after else { return self.attempt().await };
        let first = Rc::default();
        self.tried.at = Some(Rc::clone(&first));
        let spare = self.spare(first);
        let going = self.going;
        let winner = {
            let first = pin!(self.attempt());
            let may_go = || upstream.shared.late.spend(tokens);
            race(going, first, spare, after, may_go).await
        };
        match winner {
            Winner::First(result) => *result,
            Winner::Second(won) => Ok(self.take_over(*won)),
        }
    }

    fn may_hedge(&self) -> bool {
        let Going { who, worker, .. } = self.going;
        let aim = &self.to.aim;
        let hard = |limit: &crate::limits::book::Standing| limit.limit.shape.mode == Mode::Hard;
        who.class != Class::Batch
            && worker.may_repeat()
            && (aim.upstream().addresses.len() > 1 || aim.route.targets.len() > 1)
            && !self.lease.standing.iter().any(hard)
            && matches!(self.call.body, Sending::Whole(_))
            && self.may_repeat(Why::Broken)
    }

    fn spare(&self, first: Rc<Cell<Option<PoolKey>>>) -> Spare {
        let Sending::Whole(body) = &self.call.body else {
            return Spare {
                to: self.to.clone().owned(),
                head: self.head.clone(),
                call: Call::empty(self.call.kind),
                first,
            };
        };
        let (call, mut head) = (self.call.with_body(body.clone()), self.head.clone());
        if let Some(caller) = &self.caller {
            head.headers.clone_from(caller);
        }
        Spare { to: self.to.clone().owned(), head, call, first }
    }

    /// The second request answers the call; the first one is charged with what it has come to.
    fn take_over(&mut self, won: Won) -> Sent {
        let Won { sent, lease, trace, aim } = won;
        drop(std::mem::replace(self.lease, lease));
        self.tried.attempts += trace.attempts.max(1);
        self.watch.moved(&aim);
        self.watch.answered(&sent.answer);
        self.to.aim = aim;
        sent
    }
}

/// Whoever has content first. A request that fails waits for the other one.
async fn race(
    going: Going<'_>,
    mut first: std::pin::Pin<&mut impl Future<Output = Result<Sent, Box<Failed>>>>,
    spare: Spare,
    after: Duration,
    may_go: impl FnOnce() -> bool,
) -> Winner {
    if let Ok(result) = timeout(after, &mut first).await {
        return Winner::First(Box::new(result));
    }
    if !may_go() {
        return Winner::First(Box::new(first.await));
    }
    let mut second = pin!(spare.send(going));
    tokio::select! {
        biased;
        result = &mut first => match result {
            Ok(sent) => Winner::First(Box::new(Ok(sent))),
            Err(failed) => match second.await {
                Some(won) => Winner::Second(won),
                None => Winner::First(Box::new(Err(failed))),
            },
        },
        won = &mut second => match won {
            Some(won) => Winner::Second(won),
            None => Winner::First(Box::new(first.await)),
        },
    }
}

impl Spare {
    /// Sends the second request. `None`: it came to nothing.
    async fn send(self, going: Going<'_>) -> Option<Box<Won>> {
        let Self { mut to, mut head, call, first } = self;
        let Going { worker, snapshot, who, .. } = going;
        let now = std::time::Instant::now();
        let mut tried = Vec::new();
        if to.aim.upstream().addresses.len() > 1 {
            tried.extend(first.get());
        } else {
            let here = to.aim.at;
            let open = |at: &usize| to.aim.route.targets[*at].upstream.is_open_for(now);
            let other = (0..to.aim.route.targets.len()).filter(|at| *at != here).find(open)?;
            to.aim.at = other;
        }
        let aim = to.aim.clone();
        let upstream = aim.upstream();
        let mut lease = Lease::for_another(worker, upstream, who);
        let key = keys::pick(&upstream.keys, &[], now);
        lease.move_to(snapshot, who, &aim, &call, key, false).ok()?;
        upstream.shared.gauges.retried("hedge");
        let mut trace = Trace::default();
        let mut run = Run::new(going, &mut lease, &mut trace, to, &mut head, call);
        run.tried.addresses = tried;
        run.hedging = true;
        run.dress();
        let sent = Box::pin(run.attempt()).await.ok()?;
        Some(Box::new(Won { sent, lease, trace, aim }))
    }
}

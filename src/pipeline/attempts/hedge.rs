//! A second request when the first token is late (off by default). Whichever brings content first is
//! the answer, the other one is cancelled, and both are charged.
//!
//! Only for the first attempt of a call that may be repeated, to another address or target than the
//! first, within the upstream's budget of requests and tokens. Never for batch work, under a hard
//! limit, or where memory is short. The two share the call's flight: while one is polled, the flight
//! shows the progress of that one, and in between that of the first.
mod spare;

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::StatusCode;
use tokio::time::timeout;

use self::spare::{Spare, Won, tokens_of};
use super::next::{about_key, bit, is_given_up};
use super::{Failed, Run, Why};
use crate::config::Hedge;
use crate::flight::Progress;
use crate::identity::Class;
use crate::pipeline::call::Sending;
use crate::pipeline::dispatch::Going;
use crate::pipeline::record::Watch;
use crate::pipeline::reply::Sent;
use crate::telemetry::usage::Sunk;
use crate::upstream::PoolKey;

/// One of the two requests, as it is seen beside it.
pub(super) struct Side {
    /// Where it goes.
    pub at: Cell<Option<PoolKey>>,
    /// Of the route's targets.
    target: Cell<usize>,
    /// Times it was sent.
    pub attempts: Cell<u32>,
    /// What it has cost, if it came to nothing.
    pub sunk: Cell<Sunk>,
    /// How far it was when it was polled last.
    progress: Cell<Progress>,
    /// The other one runs, or may still come: nothing of either goes on before its content.
    pub racing: Rc<Cell<bool>>,
}

/// How the two ended.
enum Ended {
    First(Box<Result<Sent, Box<Failed>>>),
    /// And whether somebody was still at work on the first.
    Second(Box<Won>, bool),
    Neither(Box<Failed>, Box<Failed>),
}

impl<W: Watch> Run<'_, '_, W> {
    /// An attempt, the first of them with a second beside it where the policy hedges; counted by what
    /// came of it.
    pub(super) async fn once(&mut self) -> Result<Sent, Box<Failed>> {
        let upstream = self.to.aim.upstream();
        let hedge = upstream.config.hedge.filter(|_| self.tried.attempts == 0);
        // a second request may take the call elsewhere
        let from = hedge.map(|_| Arc::clone(upstream));
        let attempt = match hedge {
            Some(hedge) => Box::pin(self.hedged(hedge)).await,
            None => self.attempt().await,
        };
        self.beside = None;
        self.trace_ends(&attempt);
        if !std::mem::take(&mut self.tried.outrun) {
            let upstream = from.as_ref().unwrap_or_else(|| self.to.aim.upstream());
            upstream.shared.gauges.attempts.add([verdict(&attempt)]);
        }
        attempt
    }

    /// The first attempt, with a second beside it if it is late.
    async fn hedged(&mut self, hedge: Hedge) -> Result<Sent, Box<Failed>> {
        let upstream = Arc::clone(self.to.aim.upstream());
        let late = &upstream.shared.late;
        late.earn(hedge.budget, tokens_of(self.call));
        let bound = || late.bound(self.call.model().unwrap_or(""), self.call.stream);
        let after = hedge.after.or_else(bound).filter(|_| self.may_hedge());
        let Some((after, spare)) = after.zip(self.spare()) else { return self.attempt().await };
        self.beside = Some(Rc::clone(&spare.first));
        let side = Rc::clone(&spare.side);
        self.tried.second = Some(Rc::clone(&side));
        let going = self.going;
        let ended = race(going, pin!(self.attempt()), spare, after).await;
        self.tried.second = None;
        self.lease.bears(side.sunk.take());
        self.tried.attempts += side.attempts.get();
        let result = match &ended {
            Ended::First(_) => (side.attempts.get() > 0).then_some("lost"),
            Ended::Second(..) => Some("won"),
            Ended::Neither(..) => Some("failed"),
        };
        if let Some(result) = result {
            upstream.shared.gauges.hedges.add([result]);
        }
        match ended {
            Ended::First(result) => *result,
            Ended::Second(won, at_work) => Ok(self.take_over(*won, at_work)),
            Ended::Neither(failed, other) => Err(self.none_left(failed, *other, &side)),
        }
    }

    /// The endpoint allows it, and there is somewhere else to ask.
    fn may_hedge(&self) -> bool {
        let Going { who, worker, .. } = self.going;
        let aim = &self.to.aim;
        who.class != Class::Batch
            && worker.may_repeat()
            && (aim.upstream().addresses.len() > 1 || aim.route.targets.len() > 1)
            && !self.lease.is_hard()
            && self.may_repeat(Why::Broken)
    }

    fn spare(&self) -> Option<Spare> {
        let Sending::Whole(body) = &self.call.body else { return None };
        let mut head = self.head.clone();
        if let Some(caller) = &self.caller {
            head.headers.clone_from(caller);
        }
        let racing = Rc::new(Cell::new(true));
        let now = self.going.worker.clock.now();
        let side = || {
            Rc::new(Side {
                at: Cell::new(None),
                target: Cell::new(self.to.aim.at),
                attempts: Cell::new(0),
                sunk: Cell::default(),
                progress: Cell::new(Progress::none(now)),
                racing: Rc::clone(&racing),
            })
        };
        Some(Spare {
            to: self.to.clone().owned(),
            head,
            call: self.call.with_body(body.clone()),
            spans: self.watch.trace(),
            first: side(),
            side: side(),
        })
    }

    /// The second request answers the call.
    fn take_over(&mut self, won: Won, at_work: bool) -> Sent {
        let Won { sent, lease, aim, span } = won;
        self.to.aim.upstream().shared.gauges.attempts.add(["outrun"]);
        self.tried.outrun = true;
        self.tried.span = span;
        let sunk = std::mem::replace(self.lease, lease).beaten(at_work);
        self.lease.bears(sunk);
        if aim.at != self.to.aim.at {
            self.settle_at(aim);
        }
        self.watch.answered(&sent.answer);
        sent
    }

    /// Both have failed: what follows is as if the first had, and the second's place is no place to
    /// go to. Where the second may have been worked on and the first was not, the second decides
    /// whether the call is sent again, and pays for it.
    fn none_left(&mut self, mut failed: Box<Failed>, other: Failed, side: &Side) -> Box<Failed> {
        let idle = |why| matches!(why, Why::Closed | Why::Unbegun);
        if !idle(other.why) {
            self.tried.begun += 1;
            self.lease.stands_for_both();
            // what is about a key is about the second's
            let decides = idle(failed.why) || !self.may_repeat(other.why);
            if decides && about_key(other.why).is_none() {
                self.set_key_aside(&failed, Instant::now());
                failed.why = other.why;
            }
        }
        if side.target.get() == self.to.aim.at {
            self.tried.addresses.extend(side.at.get());
        } else {
            self.tried.targets |= bit(side.target.get());
        }
        failed.kept = failed.kept.or(other.kept);
        failed
    }
}

impl<W: Watch> Drop for Run<'_, '_, W> {
    /// Its caller may leave while both are on their way.
    fn drop(&mut self) {
        self.abandon_slow();
        if let Some(second) = self.tried.second.take() {
            if !second.progress.get().is_unsent() {
                self.lease.stands_for_both();
            }
            self.lease.bears(second.sunk.take());
            self.watch.tried(self.tried.attempts + second.attempts.get());
        }
    }
}

/// What came of an attempt, as metrics call it.
fn verdict(attempt: &Result<Sent, Box<Failed>>) -> &'static str {
    match attempt {
        Ok(sent) => said(sent.answer.status),
        Err(failed) => failed.why.as_str(),
    }
}

/// An answer that the caller gets, as metrics call it: in the words of [`super::Why`] where it is a
/// backend's fault or limit, and nothing better is to be had.
fn said(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 | 403 => "key",
        429 => "limited",
        503 | 529 => "overloaded",
        500.. => "failed",
        _ => "answered",
    }
}

/// Whoever has content first. A request that fails waits for the other one.
async fn race(
    going: Going<'_>,
    mut first: Pin<&mut impl Future<Output = Result<Sent, Box<Failed>>>>,
    spare: Spare,
    after: Duration,
) -> Ended {
    if let Ok(result) = timeout(after, &mut first).await {
        return Ended::First(Box::new(result));
    }
    let (flight, side) = (going.flight, Rc::clone(&spare.side));
    let Some(second) = spare.ready(going) else {
        side.racing.set(false);
        return Ended::First(Box::new(first.await));
    };
    let mut second = Box::pin(second.send(going));
    let ended = poll_fn(|cx| {
        if let Poll::Ready(result) = first.as_mut().poll(cx) {
            return Poll::Ready(Ok(result));
        }
        let ours = flight.progress();
        flight.show(side.progress.get());
        let polled = second.as_mut().poll(cx);
        side.progress.set(flight.progress());
        flight.show(ours);
        polled.map(Err)
    })
    .await;
    match ended {
        Ok(Ok(sent)) => Ended::First(Box::new(Ok(sent))),
        Ok(Err(failed)) => {
            side.racing.set(false);
            flight.show(side.progress.get());
            let alone = poll_fn(|cx| {
                let polled = second.as_mut().poll(cx);
                side.progress.set(flight.progress());
                polled
            });
            match alone.await {
                Ok(won) => Ended::Second(won, is_given_up(failed.why)),
                Err(other) => Ended::Neither(failed, other),
            }
        }
        Err(Ok(won)) => {
            let at_work = !flight.progress().is_unsent();
            flight.show(side.progress.get());
            Ended::Second(won, at_work)
        }
        Err(Err(other)) => {
            side.racing.set(false);
            match first.await {
                Ok(sent) => Ended::First(Box::new(Ok(sent))),
                Err(failed) => Ended::Neither(failed, other),
            }
        }
    }
}

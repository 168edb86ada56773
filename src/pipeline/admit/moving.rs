//! A call moves on: its attempt came to nothing, and it asks for leave to try elsewhere.
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::ask::{ask, credential, is_limited};
use super::{Came, Lease};
use crate::config::Mode;
use crate::flight::Expired;
use crate::identity::Identity;
use crate::limits::book::{Ask, Decision, Denial, End, Fate, Grant, Settled};
use crate::pipeline::call::Call;
use crate::pipeline::refusal::Refusal;
use crate::pipeline::worker::Worker;
use crate::route::Aim;
use crate::snapshot::Snapshot;
use crate::telemetry::usage::Sunk;
use crate::upstream::Upstream;
use crate::upstream::keys::Key;

impl Lease {
    /// Leave for a second request of a call beside the first, which goes on. Only where a place is
    /// free at once, and never under a hard limit. As a request the call is counted already, but by
    /// limits that are about one upstream.
    pub fn beside(
        worker: &Worker,
        snapshot: &Snapshot,
        who: &Rc<Identity>,
        aim: &Aim,
        call: &Call,
        key: Option<&Key>,
    ) -> Option<Self> {
        let mut lease = Self::new(worker, aim.upstream(), who);
        (lease.key, lease.credential) = (key.map(|key| key.id), credential(who, key));
        if is_limited(snapshot, aim) {
            let asked = ask(snapshot, who, aim, call, lease.credential);
            let ask = Ask { patience: Some(Duration::ZERO), paid: true, ..asked };
            lease.take(None, &ask).ok()?;
        }
        lease.paid = true;
        (!lease.is_hard()).then_some(lease)
    }

    /// For an attempt elsewhere while the answer of this one is kept. It is no leave yet: that is to
    /// be got by [`Self::move_to`].
    #[must_use]
    pub fn another(&self, worker: &Worker, who: &Identity) -> Self {
        let mut lease = Self::new(worker, &self.upstream, who);
        (lease.paid, lease.adrift) = (true, true);
        lease
    }

    /// Another attempt answers the call, which bears what this one has cost. The prompt is charged if
    /// it was given up while its backend may have been at work.
    pub fn in_vain(mut self, given_up: bool) -> Sunk {
        self.fate = if given_up { Fate::Failed } else { Fate::Unsent };
        self.sink()
    }

    /// Ends it for nothing, as far as is known; what it has cost.
    pub fn sink(&mut self) -> Sunk {
        self.close(&Came::default()).map_or_else(Sunk::default, |settled| settled.in_vain())
    }

    /// Some limit of it must hold whatever comes.
    pub fn is_hard(&self) -> bool {
        self.standing.iter().any(|limit| limit.limit.shape.mode == Mode::Hard)
    }

    /// The second request answers the call. This one stays charged as a request, for the other one is
    /// not; and with what it has come to, if somebody was at work on it, which the other one bears.
    pub fn beaten(mut self, at_work: bool) -> Sunk {
        self.reached = true;
        if !at_work {
            self.fate = Fate::Unsent;
        }
        self.sink()
    }

    /// A second request beside it was sent. The call counts as a request here, for there it does not.
    pub fn stands_for_both(&mut self) {
        self.reached = true;
    }

    /// The time to its first token is of interest to whoever hedges.
    pub fn times(&mut self, call: &Call) {
        let hedges = self.upstream.config.hedge.is_some();
        self.timed = hedges.then(|| call.shared_model().unwrap_or_default());
    }

    pub(super) fn tell_time(&mut self, at: Instant) {
        if let (Some(model), Some(sent)) = (self.timed.take(), self.sent) {
            let took = at.saturating_duration_since(sent);
            self.upstream.shared.late.heard(&model, true, took);
        }
    }

    /// Leave for another target, or with another key, instead. It waits for none: a place that is
    /// not free is no place to fall back to. As a request the call counts once; the prompt of an
    /// attempt counts if that was given up while its backend may have been at work.
    pub fn move_to(
        &mut self,
        snapshot: &Snapshot,
        who: &Rc<Identity>,
        aim: &Aim,
        call: &Call,
        key: Option<&Key>,
        given_up: bool,
    ) -> Result<(), Refusal> {
        let upstream = aim.upstream();
        if !Arc::ptr_eq(upstream, &self.upstream) {
            self.upstream.shared.gauges.in_flight.fetch_sub(1, Relaxed);
            upstream.shared.gauges.in_flight.fetch_add(1, Relaxed);
            self.upstream = Arc::clone(upstream);
        }
        (self.key, self.credential) = (key.map(|key| key.id), credential(who, key));
        let old = self.grant.take();
        let fate = if given_up { Fate::Failed } else { self.fate_before() };
        self.paid |= self.reached;
        (self.fate, self.reached, self.adrift) = (Fate::Unsent, false, false);
        if old.is_none() && !is_limited(snapshot, aim) {
            return Ok(());
        }
        let asked = ask(snapshot, who, aim, call, self.credential);
        let ask = Ask { patience: Some(Duration::ZERO), paid: self.paid, ..asked };
        let old = old.map(|old| (old, End { fate, ..End::unsent() }));
        let taken = self.take(old, &ask);
        self.adrift = taken.is_err();
        taken.map_err(|over| refusal(over, who))
    }

    /// Leave for the same place, now that more is known of the call: its model. Limits that it was
    /// under count it as a request already; those that it comes under only now do so now.
    pub fn ask_anew(
        &mut self,
        snapshot: &Snapshot,
        who: &Rc<Identity>,
        aim: &Aim,
        call: &Call,
    ) -> Result<(), Refusal> {
        let old = self.grant.take();
        if old.is_none() && !is_limited(snapshot, aim) {
            return Ok(());
        }
        let asked = ask(snapshot, who, aim, call, self.credential);
        let ask = Ask { patience: Some(Duration::ZERO), ..asked };
        let end = End { fate: self.fate_before(), ..End::unsent() };
        self.take(old.map(|old| (old, end)), &ask).map_err(|over| refusal(over, who))
    }

    /// Asks the book, in exchange for what it had. `Err`: there is no place, or what refuses it.
    fn take(
        &mut self,
        old: Option<(Box<Grant>, End)>,
        ask: &Ask<'_>,
    ) -> Result<(), Option<Box<Denial>>> {
        let (decision, standing, before) = self.limits.with(|book, now| {
            let (before, decision) = match old {
                Some((old, end)) => book.exchange(old, &end, ask, now),
                None => (Settled::default(), book.ask(ask, now)),
            };
            let standing = match &decision {
                Decision::Go(grant) => book.standing(grant, now),
                _ => Vec::new(),
            };
            (decision, standing, before)
        });
        self.bears(before.in_vain());
        match decision {
            Decision::Go(grant) => {
                (self.grant, self.standing) = (Some(grant), standing);
                Ok(())
            }
            Decision::No(denial) => Err(Some(Box::new(denial))),
            Decision::Wait { call, .. } => {
                self.limits.with(|book, now| book.leave(call, now));
                Err(None)
            }
        }
    }

    /// Whether it is leave to call this upstream, and none that was lost on the way elsewhere.
    pub fn is_for(&self, upstream: &Arc<Upstream>) -> bool {
        !self.adrift && Arc::ptr_eq(&self.upstream, upstream)
    }

    /// Gives back what it holds while it waits for another try.
    /// `given_up`: somebody may be at work on the last attempt, so that its prompt is charged.
    pub fn step_aside(&mut self, given_up: bool) {
        self.fate = if given_up { Fate::Failed } else { Fate::Unsent };
        let sunk = self.sink();
        self.bears(sunk);
        self.adrift = true;
    }

    /// What the attempts until now have come to, none of which was answered.
    pub(super) fn fate_before(&self) -> Fate {
        if self.reached { Fate::Rejected } else { Fate::Unsent }
    }
}

fn refusal(over: Option<Box<Denial>>, who: &Identity) -> Refusal {
    match over {
        Some(denial) => Refusal::limited(&denial, who),
        None => Refusal::expired(Expired::Queued),
    }
}

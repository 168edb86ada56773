//! A call moves on: its attempt came to nothing, and it asks for leave to try elsewhere.
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::ask::{ask, credential, is_limited};
use super::{Came, Lease};
use crate::flight::Expired;
use crate::identity::Identity;
use crate::limits::book::{Ask, Decision, End, Fate};
use crate::pipeline::call::Call;
use crate::pipeline::refusal::Refusal;
use crate::pipeline::worker::Worker;
use crate::route::Aim;
use crate::snapshot::Snapshot;
use crate::upstream::Upstream;
use crate::upstream::keys::Key;

impl Lease {
    /// For another request of a call that has leave already; [`Self::move_to`] gets it its own.
    pub fn for_another(worker: &Worker, upstream: &Arc<Upstream>, who: &Identity) -> Self {
        Self::new(worker, upstream, who)
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
        let end = End { fate, ..End::unsent() };
        let (decision, standing) = self.limits.with(|book, now| {
            let decision = match old {
                Some(old) => book.exchange(old, &end, &ask, now).1,
                None => book.ask(&ask, now),
            };
            let standing = match &decision {
                Decision::Go(grant) => book.standing(grant, now),
                _ => Vec::new(),
            };
            (decision, standing)
        });
        self.adrift = !matches!(decision, Decision::Go(_));
        match decision {
            Decision::Go(grant) => {
                (self.grant, self.standing) = (Some(grant), standing);
                Ok(())
            }
            Decision::No(denial) => Err(Refusal::limited(&denial, who)),
            Decision::Wait { call, .. } => {
                self.limits.with(|book, now| book.leave(call, now));
                Err(Refusal::expired(Expired::Queued))
            }
        }
    }

    /// Whether it is leave to call this upstream, and none that was lost on the way elsewhere.
    pub fn is_for(&self, upstream: &Arc<Upstream>) -> bool {
        !self.adrift && Arc::ptr_eq(&self.upstream, upstream)
    }

    /// Gives back what it holds while it waits for another try.
    pub fn step_aside(&mut self) {
        self.fate = Fate::Unsent;
        self.close(&Came::default());
        self.adrift = true;
    }

    /// What the attempts until now have come to, none of which was answered.
    pub(super) fn fate_before(&self) -> Fate {
        if self.reached { Fate::Rejected } else { Fate::Unsent }
    }
}

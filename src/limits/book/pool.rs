//! What queues stand before: an upstream's places, and the pace it lets us go at.
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;

use super::super::pace::{Mode, Need, Pace, Sent, State};
use super::super::prehashed::Prehashed;
use super::entrance::{Entrance, EntranceId};
use super::plan::Plan;

/// Index of a pool; an upstream keeps its own for as long as the process lives.
pub type PoolId = usize;

/// Most paces kept for one upstream, and how long one that nobody uses is kept, in nanoseconds.
const MOST_PACES: usize = 1024;
const FORGET: u64 = 30 * 60 * 1_000_000_000;

/// What the policy says of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolRule {
    pub name: Arc<str>,
    /// Most calls at once. `None`: no bulkhead.
    pub slots: Option<usize>,
    /// `None`: not paced.
    pub pacing: Option<Mode>,
    /// How long a call waits for a place where no policy says.
    pub wait: Duration,
}

pub(super) struct Pool {
    pub rule: PoolRule,
    pub running: usize,
    /// Its own first.
    pub entrances: Vec<EntranceId>,
    /// What the entrance that had the last turn had been served.
    pub served: u64,
    pub paces: Paces,
}

/// How fast an upstream lets us go, for each credential and model.
#[derive(Default)]
pub(super) struct Paces {
    all: Slab<Kept>,
    by_key: Prehashed<(u64, u64), usize>,
}

struct Kept {
    pace: Pace,
    key: (u64, u64),
    used: u64,
    running: u32,
}

impl Pool {
    fn new(rule: PoolRule, own: EntranceId) -> Self {
        Self { rule, running: 0, entrances: vec![own], served: 0, paces: Paces::default() }
    }

    pub fn has_slot(&self) -> bool {
        self.rule.slots.is_none_or(|slots| self.running < slots)
    }
}

impl Paces {
    /// Whether the upstream lets such a call go now; else when to ask again. One that is answered here
    /// asks nothing of it.
    pub fn ready(&self, plan: &Plan, now: u64) -> Result<(), u64> {
        if plan.here {
            return Ok(());
        }
        match self.by_key.get(&plan.pace_key) {
            Some(at) => self.all[*at].pace.ready(plan.need, now),
            None => Ok(()),
        }
    }

    /// A call goes, under the pace of its key if there is one.
    pub fn enter(&mut self, key: (u64, u64), need: Need, now: u64) -> Option<(usize, Sent)> {
        let at = *self.by_key.get(&key)?;
        let kept = &mut self.all[at];
        (kept.used, kept.running) = (now, kept.running + 1);
        Some((at, kept.pace.sent(need, now)))
    }

    /// The upstream has said something of its limits for the first time, to a call that has gone.
    pub fn begin(
        &mut self,
        key: (u64, u64),
        mode: Mode,
        need: Need,
        now: u64,
    ) -> Option<(usize, Sent)> {
        if !self.by_key.contains_key(&key) {
            if self.all.len() >= MOST_PACES {
                return None;
            }
            // each waits a little differently, so that they do not all come back at once
            let pace = Pace::new(mode, key.0 ^ key.1, now);
            let kept = Kept { pace, key, used: now, running: 0 };
            self.by_key.insert(key, self.all.insert(kept));
        }
        self.enter(key, need, now)
    }

    pub fn get(&mut self, at: usize) -> Option<&mut Pace> {
        self.all.get_mut(at).map(|kept| &mut kept.pace)
    }

    pub fn leave(&mut self, (at, sent): (usize, Sent), used: Option<Need>, now: u64) {
        let Some(kept) = self.all.get_mut(at) else { return };
        kept.pace.finished(sent, used, now);
        (kept.used, kept.running) = (now, kept.running.saturating_sub(1));
    }

    /// As people see them, the busiest first.
    pub fn states(&self, now: u64) -> Vec<State> {
        let mut states: Vec<_> = self.all.iter().map(|(_, kept)| kept.pace.state(now)).collect();
        states.sort_by_key(|state| std::cmp::Reverse((state.in_flight, state.throttled)));
        states
    }

    pub fn sweep(&mut self, now: u64) {
        let by_key = &mut self.by_key;
        self.all.retain(|_, kept| {
            let stays = kept.running > 0 || now.saturating_sub(kept.used) < FORGET;
            if !stays {
                by_key.remove(&kept.key);
            }
            stays
        });
    }
}

impl super::Book {
    /// The pool of an upstream, made without bounds where there is none.
    pub fn pool_of(&mut self, name: &Arc<str>) -> PoolId {
        let known = self.pools.iter().position(|pool| pool.rule.name == *name);
        known.unwrap_or_else(|| {
            let name = Arc::clone(name);
            self.pool(PoolRule { name, slots: None, pacing: None, wait: Duration::ZERO })
        })
    }

    /// The pool of an upstream; the rule takes effect at once.
    pub fn pool(&mut self, rule: PoolRule) -> PoolId {
        if let Some(at) = self.pools.iter().position(|pool| pool.rule.name == rule.name) {
            self.pools[at].rule = rule;
            return at;
        }
        let (pool, own) = (self.pools.len(), self.entrances.len());
        self.entrances.push(Entrance::new(pool, None));
        self.pools.push(Pool::new(rule, own));
        pool
    }

    /// Whether a call may go as far as its upstream and its lane are concerned.
    pub(super) fn has_room(&self, plan: &Plan, now: u64) -> bool {
        let pool = &self.pools[plan.pool];
        let goes = plan.here
            || (pool.has_slot()
                && self.lane_has_slot(plan.lane)
                && pool.paces.ready(plan, now).is_ok());
        plan.not_before <= now && goes
    }
}

//! The handles of one (route, upstream) that a request touches: one lock when it ends, which no
//! other thread wants (see `shards`).
use std::fmt;
use std::sync::Arc;

use super::shards::Shards;
use super::tally::{ModelNames, Tally};
use super::{Finished, PoolGauges};

/// The handles for the calls of one route to one upstream.
pub struct Target {
    shards: Shards<Tally>,
    pool: Arc<PoolGauges>,
    models: Arc<ModelNames>,
}

impl Target {
    pub(super) fn new(pool: Arc<PoolGauges>, models: Arc<ModelNames>) -> Self {
        Self { shards: Shards::default(), pool, models }
    }

    /// A call begins. Each is followed by exactly one `finished`, on any thread.
    pub fn started(&self) {
        self.shards.begin();
    }

    /// A call that had begun here has moved to another target: it ends there.
    pub fn moved_away(&self) {
        self.shards.unbegin();
    }

    /// A call has ended.
    pub fn finished(&self, call: &Finished<'_>) {
        self.shards.edit(|tally| tally.add(call, &self.models));
    }

    /// The connections of this target's upstream.
    pub fn pool(&self) -> &Arc<PoolGauges> {
        &self.pool
    }

    /// Calls begun and not ended.
    pub fn in_flight(&self) -> u64 {
        let ended = self.fold(0, |sum, tally| sum + tally.finished);
        self.begun().saturating_sub(ended)
    }

    /// Whether it ever had a call.
    pub(super) fn used(&self) -> bool {
        self.begun() > 0 || self.fold(false, |_, _| true)
    }

    pub(super) fn begun(&self) -> u64 {
        self.shards.begun()
    }

    /// Over the tallies of all threads, one lock at a time.
    pub(super) fn fold<T>(&self, start: T, step: impl FnMut(T, &Tally) -> T) -> T {
        self.shards.fold(start, step)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("in_flight", &self.in_flight()).finish_non_exhaustive()
    }
}

//! The handles of one (route, upstream) that a request touches: one lock when it ends.
//!
//! A target has eight shards and each thread a home among them. A call is counted in the home
//! shard, with plain integers under its lock. Workers do not share cache lines, and where the lock
//! is taken (by a scrape, or by a ninth worker) the next shard is tried: a worker never waits
//! while any shard is free. The rejected alternative, one set of atomics for all threads, costs
//! some thirty cache misses a request as soon as two workers are busy.
use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::tally::{ModelNames, Tally};
use super::{Finished, PoolGauges};

const SHARDS: usize = 8;

/// The handles for the calls of one route to one upstream.
pub struct Target {
    shards: [Shard; SHARDS],
    pool: Arc<PoolGauges>,
    models: Arc<ModelNames>,
}

// Two cache lines: some processors fetch them in pairs.
#[repr(align(128))]
#[derive(Default)]
struct Shard {
    started: AtomicU64,
    /// Made when first used: most targets of a long policy never are.
    tally: Mutex<Option<Box<Tally>>>,
}

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static HOME: Cell<usize> = Cell::new(THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS);
}

impl Target {
    pub(super) fn new(pool: Arc<PoolGauges>, models: Arc<ModelNames>) -> Self {
        Self { shards: Default::default(), pool, models }
    }

    /// A call begins. Each is followed by exactly one `finished`, on any thread.
    pub fn started(&self) {
        self.shards[HOME.get()].started.fetch_add(1, Ordering::Relaxed);
    }

    /// A call has ended.
    pub fn finished(&self, call: &Finished<'_>) {
        let home = HOME.get();
        let (after, before) = (self.shards[home..].iter(), self.shards[..home].iter());
        let free = after.chain(before).find_map(|shard| shard.tally.try_lock());
        let mut tally = free.unwrap_or_else(|| self.shards[home].tally.lock());
        tally.get_or_insert_with(|| Box::new(Tally::new())).add(call, &self.models);
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
        self.begun() > 0 || self.shards.iter().any(|shard| shard.tally.lock().is_some())
    }

    pub(super) fn begun(&self) -> u64 {
        self.shards.iter().map(|shard| shard.started.load(Ordering::Relaxed)).sum()
    }

    /// Over the tallies of all threads, one lock at a time.
    pub(super) fn fold<T>(&self, start: T, mut step: impl FnMut(T, &Tally) -> T) -> T {
        self.shards.iter().fold(start, |so_far, shard| match &*shard.tally.lock() {
            Some(tally) => step(so_far, tally),
            None => so_far,
        })
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("in_flight", &self.in_flight()).finish_non_exhaustive()
    }
}

//! A value that every thread adds to at each call, and a scrape reads now and then.
//!
//! There are eight shards, and each thread has a home among them. An edit takes the lock of the
//! home shard. Workers do not share cache lines, and where the lock is taken (by a scrape, or by a
//! ninth worker) the next shard is tried: a worker never waits while any shard is free. The
//! rejected alternative, one set of atomics for all threads, costs some thirty cache misses a
//! request as soon as two workers are busy.
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

const SHARDS: usize = 8;

/// The parts of one value; their sum is the value.
#[derive(Debug)]
pub(super) struct Shards<T>([Shard<T>; SHARDS]);

// Two cache lines: some processors fetch them in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Shard<T> {
    begun: AtomicU64,
    /// Made when first used: most are never.
    part: Mutex<Option<Box<T>>>,
}

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static HOME: Cell<usize> = Cell::new(THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS);
}

impl<T: Default> Shards<T> {
    /// Counts one more, without the lock.
    pub(super) fn begin(&self) {
        self.0[HOME.get()].begun.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes one `begin` of this thread's back.
    pub(super) fn unbegin(&self) {
        self.0[HOME.get()].begun.fetch_sub(1, Ordering::Relaxed);
    }

    /// How often `begin` was called, by all threads.
    pub(super) fn begun(&self) -> u64 {
        self.0.iter().fold(0, |sum, shard| sum.wrapping_add(shard.begun.load(Ordering::Relaxed)))
    }

    /// Adds to a part of the value: this thread's own, unless it is being read.
    pub(super) fn edit(&self, edit: impl FnOnce(&mut T)) {
        let home = HOME.get();
        let (after, before) = (self.0[home..].iter(), self.0[..home].iter());
        let free = after.chain(before).find_map(|shard| shard.part.try_lock());
        let mut part = free.unwrap_or_else(|| self.0[home].part.lock());
        edit(part.get_or_insert_default());
    }

    /// Over the parts of all threads, one lock at a time.
    pub(super) fn fold<A>(&self, start: A, mut step: impl FnMut(A, &T) -> A) -> A {
        self.0.iter().fold(start, |so_far, shard| match &*shard.part.lock() {
            Some(part) => step(so_far, part),
            None => so_far,
        })
    }
}

impl<T> Default for Shards<T> {
    fn default() -> Self {
        let shard = |_| Shard { begun: AtomicU64::new(0), part: Mutex::new(None) };
        Self(std::array::from_fn(shard))
    }
}

//! Counters off the request's usual path: plain atomics, read at scrape.
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::{Deadline, Metrics};
use crate::identity::Class;

/// Room for refusals: there are some 95 of them (the gate's 32 faults, and the codes in
/// `pipeline/refusal`).
pub(super) const REFUSALS: usize = 128;

/// Counters by `N` labels whose values are words of the program, so their number is bounded by
/// the source code. Lock-free: slots are filled once and never move.
#[derive(Debug)]
pub struct Reasons<const N: usize> {
    slots: Box<[Slot<N>]>,
    other: AtomicU64,
}

#[derive(Debug)]
struct Slot<const N: usize> {
    labels: OnceLock<[&'static str; N]>,
    count: AtomicU64,
}

impl<const N: usize> Reasons<N> {
    const SLOTS: usize = 64;

    pub fn new() -> Self {
        Self::with_room(Self::SLOTS)
    }

    /// For so many different label sets.
    pub fn with_room(slots: usize) -> Self {
        let slot = |_| Slot { labels: OnceLock::new(), count: AtomicU64::new(0) };
        Self { slots: (0..slots).map(slot).collect(), other: AtomicU64::new(0) }
    }

    /// Counts one. Past the different label sets that there is room for, under `other`.
    pub fn add(&self, labels: [&'static str; N]) {
        for slot in &self.slots {
            // A slot that another thread fills at the same moment is compared like any other.
            if *slot.labels.get_or_init(|| labels) == labels {
                slot.count.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
        self.other.fetch_add(1, Ordering::Relaxed);
    }

    /// Label sets seen so far with their counts.
    pub fn read(&self) -> Vec<([&'static str; N], u64)> {
        let filled = self.slots.iter().filter_map(|slot| {
            slot.labels.get().map(|labels| (*labels, slot.count.load(Ordering::Relaxed)))
        });
        let other = self.other.load(Ordering::Relaxed);
        filled.chain((other > 0).then_some((["other"; N], other))).collect()
    }

    /// All of them together.
    pub fn total(&self) -> u64 {
        self.read().iter().map(|(_, count)| count).sum()
    }
}

impl<const N: usize> Default for Reasons<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// The connections of one upstream, over all workers. The pool keeps the gauges true; all
/// accesses may be relaxed.
#[derive(Debug, Default)]
pub struct PoolGauges {
    /// Connections that exist, idle ones included.
    pub open: AtomicI64,
    pub idle: AtomicI64,
    /// Calls sent and not finished.
    pub in_flight: AtomicI64,
    /// Calls that wait for a place in the bulkhead or for a connection.
    pub waiting: AtomicI64,
    /// Connections made.
    pub dialled: AtomicU64,
    /// Connections that could not be made, by reason.
    pub dial_failed: Reasons<1>,
    /// Calls that went over a connection made earlier.
    pub reused: AtomicU64,
    /// Connections closed by us or found closed, by reason (`age`, `idle`, `closed`, …).
    pub retired: Reasons<1>,
    /// Calls sent again on a fresh connection.
    pub retried: AtomicU64,
    /// Answers that said "too many requests".
    pub rate_limited: AtomicU64,
    /// Of its credentials and models, those that are held back until the backend lets them go on.
    pub paused: AtomicI64,
    /// Places for calls at once; 0 where they are not bounded.
    pub slots: AtomicI64,
    /// Calls sent, by what came of each attempt.
    pub attempts: Reasons<1>,
    /// Second requests beside a late one, by what came of them.
    pub hedges: Reasons<1>,
    /// 0 closed, 1 half open, 2 open.
    pub breaker: AtomicI64,
    /// Times that it opened, by reason.
    pub opened: Reasons<1>,
    /// Addresses that get no calls now.
    pub ejected: AtomicI64,
    /// Times that an address was taken out, by reason.
    pub ejections: Reasons<1>,
    /// Active checks of an address that did not go well.
    pub check_failed: AtomicU64,
    /// Keys that are set aside now.
    pub keys_aside: AtomicI64,
    retries: Reasons<1>,
    queued: [AtomicI64; Class::ALL.len()],
    deadlines: Reasons<1>,
}

impl PoolGauges {
    /// A call is sent once more, to this upstream, because of what came of the attempt before.
    pub fn retried(&self, why: &'static str) {
        self.retries.add([why]);
    }

    /// A deadline of this upstream ran out.
    pub fn deadline(&self, which: Deadline) {
        self.deadlines.add([which.as_str()]);
    }

    /// Calls of one class that wait in the fair queue.
    pub fn queued(&self, class: Class) -> &AtomicI64 {
        let [interactive, usual, batch] = &self.queued;
        match class {
            Class::Interactive => interactive,
            Class::Default => usual,
            Class::Batch => batch,
        }
    }

    /// Its upstream is not in the policy any more: nothing is known of how it does, and there are no
    /// bounds. Connections and calls that are left are counted to their end.
    fn clear(&self) {
        for gauge in [&self.breaker, &self.ejected, &self.keys_aside, &self.paused, &self.slots] {
            gauge.store(0, Ordering::Relaxed);
        }
    }

    pub fn deadlines(&self) -> &Reasons<1> {
        &self.deadlines
    }

    /// Calls that were sent again, by why; those on a fresh connection are among them.
    pub(super) fn retries(&self) -> Vec<([&'static str; 1], u64)> {
        let fresh = (["stale_connection"], self.retried.load(Ordering::Relaxed));
        std::iter::once(fresh).chain(self.retries.read()).collect()
    }
}

impl Metrics {
    /// The gate turned a request away.
    pub fn gate_refused(&self, reason: &'static str) {
        self.shared.gate_refusals.add([reason]);
    }

    /// An answer that upstream did not give: who is at fault (`agent`, `us`, `upstream`) and why.
    pub fn refused(&self, source: &'static str, reason: &'static str) {
        self.shared.refusals.add([source, reason]);
    }

    /// Upstreams that a reload has removed are in no trouble, or alerts would go on for ever.
    pub fn clear_removed(&self, stays: impl Fn(&str) -> bool) {
        let pools = self.shared.pools.lock();
        pools.iter().filter(|(name, _)| !stays(name)).for_each(|(_, gauges)| gauges.clear());
    }
}

/// One limit of a policy.
#[derive(Debug, Default)]
pub struct LimitCount(AtomicU64);

impl LimitCount {
    /// It refused a call, or would have.
    pub fn refused(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How full the fullest bucket of a limit is.
#[derive(Debug, Clone, PartialEq)]
pub struct LimitUse {
    pub policy: Arc<str>,
    /// What it measures (`tokens`),
    pub measure: &'static str,
    /// and how it is meant (`hard`).
    pub mode: &'static str,
    /// Used and held, of what there is; above 1 is debt.
    pub ratio: f64,
}

/// A socket that agents connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerUse {
    pub name: String,
    /// Connections that were gone before they were accepted,
    pub aborted: u64,
    /// and times that none could be, for want of descriptors or memory.
    pub exhausted: u64,
    /// When its certificate runs out, in Unix seconds; `None` for none.
    pub not_after: Option<i64>,
}

/// Lines of a log: handed to the writer's sink, or lost because it did not keep up.
#[derive(Debug, Default)]
pub struct LineCounts {
    pub written: AtomicU64,
    pub dropped: AtomicU64,
}

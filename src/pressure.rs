//! The budget of memory for what calls hold: how much is used of it, and what is given up first.
//!
//! What bounds what: `max_connections`, lowered to what descriptors allow, the connections; hyper's
//! buffers and a hundred HTTP/2 streams, each of them; this budget, all that their calls hold.
//!
//! Counted are request bodies while they are read and until nobody needs them, the logs of calls that
//! others may join, answers that are gathered, what is kept back of streams and tunnels, and [`CALL`]
//! bytes for each call's own state, so that the budget bounds the number of calls too. The cache has
//! bounds of its own. It is what we know that we hold, not what the allocator has from the system:
//! that one comes late, and falls later still.
//!
//! The steps are those of Envoy's overload manager: each gives up something dearer than the last.
//! Whoever holds has a [`Held`], which gives back on drop. Reading the level is two loads and a
//! comparison; counting is one addition; nothing is locked.
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};

pub mod cgroup;

/// What a call is counted with besides: its tasks, buffers and notes, and a body of this size.
pub const CALL: u64 = 16 * 1024;
/// A growing hold is counted in steps of this size, so that small pieces cost nothing.
const STEP: u64 = 4 * 1024;

/// How near the budget is, and what is given up for that. Each level includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Calm,
    /// From 80 %: nothing new is cached or shared.
    NoSharing,
    /// From 90 %: nothing is tried again or hedged, idle connections are closed soon.
    NoExtras,
    /// From 95 %: calls of the batch class are refused.
    Urgent,
    /// From 98 %: every new call is refused.
    Full,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::NoSharing => "no_sharing",
            Self::NoExtras => "no_extras",
            Self::Urgent => "urgent",
            Self::Full => "full",
        }
    }
}

/// The budget, and what is used of it. One for all workers.
#[derive(Debug)]
pub struct Pressure {
    /// In bytes.
    budget: AtomicU64,
    /// What the machine allows at most, whatever the policy wants.
    ceiling: u64,
    used: AtomicU64,
    /// The budget was overrun, and holders are being cut until enough is free.
    cutting: AtomicBool,
}

impl Default for Pressure {
    /// Without a bound.
    fn default() -> Self {
        Self::new(u64::MAX)
    }
}

impl Pressure {
    /// `ceiling`: no policy may have more, in bytes.
    pub fn new(ceiling: u64) -> Self {
        Self {
            budget: AtomicU64::new(ceiling),
            ceiling,
            used: AtomicU64::new(0),
            cutting: AtomicBool::new(false),
        }
    }

    /// Takes effect at once. Gives what is in force: the machine may allow less.
    pub fn set_budget(&self, wanted: u64) -> u64 {
        let budget = wanted.min(self.ceiling);
        self.budget.store(budget, Relaxed);
        budget
    }

    /// In bytes.
    pub fn budget(&self) -> u64 {
        self.budget.load(Relaxed)
    }

    /// In bytes.
    pub fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    pub fn level(&self) -> Level {
        let (used, budget) = (self.used(), self.budget());
        let from = |percent| share(budget, percent);
        match used {
            used if used < from(80) => Level::Calm,
            used if used < from(90) => Level::NoSharing,
            used if used < from(95) => Level::NoExtras,
            used if used < from(98) => Level::Urgent,
            _ => Level::Full,
        }
    }

    /// Whether new calls may be cached and shared.
    pub fn may_share(&self) -> bool {
        self.level() < Level::NoSharing
    }

    /// Whether anything may be tried again, or hedged.
    pub fn may_repeat(&self) -> bool {
        self.level() < Level::NoExtras
    }

    /// The largest body that can be held at all, by a call that is alone.
    pub fn largest_body(&self) -> u64 {
        self.full().saturating_sub(CALL + 1)
    }

    /// Where [`Level::Full`] begins.
    fn full(&self) -> u64 {
        share(self.budget(), 98)
    }

    /// Whether holders are to be cut: from the moment that the budget is used up until it is used
    /// less than fully again.
    pub fn is_overrun(&self) -> bool {
        let (used, budget) = (self.used(), self.budget());
        if used >= budget {
            self.cutting.store(true, Relaxed);
            return true;
        }
        if used < self.full() && self.cutting.load(Relaxed) {
            self.cutting.store(false, Relaxed);
        }
        self.cutting.load(Relaxed)
    }

    /// Without a guard: whoever adds must [`Self::give_back`] as much.
    pub fn add(&self, bytes: u64) {
        self.used.fetch_add(bytes, Relaxed);
    }

    pub fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Relaxed);
    }

    /// Holds so many bytes, whatever the level.
    pub fn hold(self: &Arc<Self>, bytes: u64) -> Held {
        self.add(bytes);
        Held { of: Arc::clone(self), bytes }
    }

    /// Holds so many bytes, if everything together then stays below [`Level::Full`].
    pub fn try_hold(self: &Arc<Self>, bytes: u64) -> Option<Held> {
        self.take(bytes).then(|| Held { of: Arc::clone(self), bytes })
    }

    fn take(&self, bytes: u64) -> bool {
        let full = self.full();
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum < full);
        self.used.fetch_update(Relaxed, Relaxed, fits).is_ok()
    }
}

/// So many percent of it.
fn share(budget: u64, percent: u64) -> u64 {
    // first divided, for a budget may be as large as can be said
    budget / 100 * percent + budget % 100 * percent / 100
}

/// Bytes of the budget, given back on drop.
#[derive(Debug)]
pub struct Held {
    of: Arc<Pressure>,
    bytes: u64,
}

impl Held {
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// As many as that from now on, in steps.
    pub fn set(&mut self, bytes: u64) {
        let bytes = bytes.div_ceil(STEP) * STEP;
        match bytes.cmp(&self.bytes) {
            std::cmp::Ordering::Greater => self.of.add(bytes - self.bytes),
            std::cmp::Ordering::Less => self.of.give_back(self.bytes - bytes),
            std::cmp::Ordering::Equal => {}
        }
        self.bytes = bytes;
    }

    /// At least as many as that, in steps, if there is room for more. On `false` it holds what it held.
    pub fn try_grow_to(&mut self, bytes: u64) -> bool {
        let bytes = bytes.div_ceil(STEP) * STEP;
        if bytes <= self.bytes {
            return true;
        }
        let taken = self.of.take(bytes - self.bytes);
        if taken {
            self.bytes = bytes;
        }
        taken
    }

    pub fn pressure(&self) -> &Arc<Pressure> {
        &self.of
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.of.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests;

//! What is in the way of a plan.
use crate::limits::book::table::Entry;
use crate::limits::bucket::{Full, Refill};

/// Why a plan does not fit.
#[derive(Debug, Clone, Copy)]
pub enum Blocked {
    Limit(Held),
    /// It fits, but the budget is not yet on disk.
    Unsaved {
        bucket: usize,
    },
}

/// The limits that are in the way.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    /// The one that will be for longest.
    pub bucket: usize,
    pub full: Full,
    /// One that only this agent's calls fill.
    pub own: Option<usize>,
    /// One that has no queue.
    pub strict: Option<(usize, Full)>,
    /// One where nothing comes free before the calendar turns, in so many nanoseconds; the last to.
    /// A call that runs may yet give back what it was charged: if it is never sent, say.
    pub period: Option<(usize, u64)>,
}

impl Held {
    pub fn found(bucket: usize, full: Full, entry: &Entry) -> Self {
        Self {
            bucket,
            full,
            own: entry.is_own().then_some(bucket),
            strict: entry.limit.queue.is_none().then_some((bucket, full)),
            period: match (full, &entry.limit.shape.refill) {
                (Full::For(nanos), Refill::Calendar(_)) if entry.bucket.running() == 0 => {
                    Some((bucket, nanos))
                }
                _ => None,
            },
        }
    }

    pub fn and(self, other: Self) -> Self {
        let worst = if is_worse(other.full, self.full) { other } else { self };
        let strict = match (self.strict, other.strict) {
            (Some(one), Some(two)) if is_worse(two.1, one.1) => Some(two),
            (one, two) => one.or(two),
        };
        let period = self.period.into_iter().chain(other.period).max_by_key(|(_, nanos)| *nanos);
        Self { own: self.own.or(other.own), strict, period, ..worst }
    }
}

fn is_worse(full: Full, than: Full) -> bool {
    let rank = |full| match full {
        Full::Never => u64::MAX,
        Full::For(nanos) => nanos,
        Full::UntilFree => 0,
    };
    rank(full) > rank(than)
}

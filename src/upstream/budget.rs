//! How many retries an upstream is spared: a share of its calls over the last ten seconds, and a
//! reserve for quiet times, so that retries cannot make an overload worse (as Finagle's and tower's
//! retry budgets).
//!
//! Ten slots of a second, each with what calls have earned in it less what retries have taken. Without
//! a lock: a retry is taken first and given back if it was too much, so that never too many are, and
//! under contention one too few may be.
use std::time::Instant;

use crate::sync::{AtomicU64, Ordering::Relaxed};

/// In thousandths of a retry.
const ONE: i64 = 1000;
/// Ten a second, over the window.
const RESERVE: i64 = 100 * ONE;
const SLOTS: u64 = 10;

pub struct Budget {
    begun: Instant,
    /// The second (upper half) and its balance.
    slots: [AtomicU64; SLOTS as usize],
}

impl Budget {
    pub fn new(now: Instant) -> Self {
        Self { begun: now, slots: std::array::from_fn(|_| AtomicU64::new(0)) }
    }

    /// A call comes. `percent`: what it is worth.
    pub fn earn(&self, percent: f64, now: Instant) {
        self.add((percent * 10.0) as i64, self.second(now));
    }

    /// May one be sent again?
    pub fn spend(&self, now: Instant) -> bool {
        let second = self.second(now);
        self.add(-ONE, second);
        let allowed = self.balance(second) >= 0;
        if !allowed {
            self.add(ONE, second);
        }
        allowed
    }

    /// Retries that are left now.
    pub fn left(&self, now: Instant) -> u64 {
        u64::try_from(self.balance(self.second(now)) / ONE).unwrap_or(0)
    }

    fn balance(&self, second: u64) -> i64 {
        let recent = self.slots.iter().map(|slot| Slot::read(slot.load(Relaxed)));
        let counts = recent.filter(|slot| second - slot.second.min(second) < SLOTS);
        RESERVE + counts.map(|slot| i64::from(slot.balance)).sum::<i64>()
    }

    fn add(&self, amount: i64, second: u64) {
        let slot = &self.slots[(second % SLOTS) as usize];
        let add = |packed| {
            let old = Slot::read(packed);
            // whoever is late adds to the newer second: no word is lost
            let (balance, second) =
                if old.second < second { (0, second) } else { (old.balance, old.second) };
            let sum = i64::from(balance) + amount;
            let sum = sum.clamp(i64::from(i32::MIN), i64::from(i32::MAX));
            Some(Slot { second, balance: sum as i32 }.pack())
        };
        // cannot fail: `add` always gives a value
        let _ = slot.fetch_update(Relaxed, Relaxed, add);
    }

    /// Counted from 1: a slot of second 0 was never used.
    fn second(&self, now: Instant) -> u64 {
        1 + now.saturating_duration_since(self.begun).as_secs()
    }
}

struct Slot {
    second: u64,
    balance: i32,
}

impl Slot {
    fn read(packed: u64) -> Self {
        Self { second: packed >> 32, balance: (packed as u32).cast_signed() }
    }

    fn pack(&self) -> u64 {
        self.second << 32 | u64::from(self.balance.cast_unsigned())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn spent(budget: &Budget, now: Instant, most: usize) -> usize {
        (0..most).filter(|_| budget.spend(now)).count()
    }

    #[test]
    fn the_reserve_alone_is_a_hundred_over_ten_seconds() {
        let start = Instant::now();
        let budget = Budget::new(start);
        assert_eq!(spent(&budget, start, 1000), 100);
        assert_eq!(spent(&budget, start + Duration::from_secs(9), 1000), 0);
        assert_eq!(spent(&budget, start + Duration::from_secs(10), 1000), 100, "a window later");
    }

    #[test]
    fn calls_earn_their_share_and_it_fades() {
        let start = Instant::now();
        let budget = Budget::new(start);
        for _ in 0..1000 {
            budget.earn(20.0, start);
        }
        assert_eq!(budget.left(start), 300);
        assert_eq!(spent(&budget, start + Duration::from_secs(5), 1000), 300);
        assert_eq!(budget.left(start + Duration::from_secs(11)), 0, "what was spent still counts");
        assert_eq!(budget.left(start + Duration::from_secs(16)), 100);
    }

    #[test]
    fn an_outage_is_not_made_worse_than_the_share_allows() {
        let start = Instant::now();
        let budget = Budget::new(start);
        let mut retries = 0;
        for call in 0..100_000_u64 {
            // a thousand a second, each of which would be tried twice more
            let now = start + Duration::from_millis(call);
            budget.earn(20.0, now);
            retries += spent(&budget, now, 2);
        }
        assert!((20_000..=21_200).contains(&retries), "{retries}");
    }

    #[test]
    fn no_word_is_lost_between_threads() {
        let start = Instant::now();
        let budget = Budget::new(start);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        budget.earn(10.0, start);
                    }
                });
            }
        });
        assert_eq!(budget.left(start), 100 + 4_000);
    }

    #[test]
    fn threads_together_spend_no_more_than_there_is() {
        let start = Instant::now();
        let budget = Budget::new(start);
        let taken: usize = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| spent(&budget, start, 100))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!(taken <= 100, "{taken}");
    }
}

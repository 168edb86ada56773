//! The limiter's clock: nanoseconds that never go back, and a calendar that does not jump.
//!
//! The calendar is read once and then moves with the steady clock. Where the system's differs, it
//! follows by a hundredth of the time that passes: a clock that is set, in either direction, neither
//! refills a budget nor ends its period.
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::bucket::Moment;

/// Most that one correction moves the calendar; there is one a second.
const STEP: i64 = 10_000_000;

pub struct SteadyClock {
    begun: Instant,
    /// Unix nanoseconds at `begun`, as corrected so far.
    base: AtomicI64,
}

impl SteadyClock {
    pub fn new() -> Self {
        Self { begun: Instant::now(), base: AtomicI64::new(system()) }
    }

    pub fn now(&self) -> Moment {
        self.at(self.begun.elapsed())
    }

    fn at(&self, elapsed: Duration) -> Moment {
        let at = elapsed.as_nanos() as u64;
        let wall = self.base.load(Relaxed).saturating_add_unsigned(at);
        Moment { at, wall: wall.div_euclid(1_000_000_000) }
    }

    /// Moves the calendar a little towards the system's.
    pub fn correct(&self) {
        self.towards(system(), self.begun.elapsed());
    }

    fn towards(&self, system: i64, elapsed: Duration) {
        let expected = self.base.load(Relaxed).saturating_add(elapsed.as_nanos() as i64);
        self.base.fetch_add((system - expected).clamp(-STEP, STEP), Relaxed);
    }
}

fn system() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_moves_the_calendar_by_a_hundredth() {
        let clock = SteadyClock::new();
        let before = clock.at(Duration::ZERO).wall;
        for (day, second) in [(1_i64, 1_u64), (-1, 2)] {
            let set = clock.base.load(Relaxed) + day * 86_400_000_000_000;
            for step in 0..100 {
                clock.towards(set, Duration::from_secs(second * 100 + step));
            }
        }
        let after = clock.at(Duration::from_mins(5));
        assert_eq!(after.at, 300_000_000_000);
        assert!((after.wall - before - 300).abs() <= 1, "{} {}", after.wall, before);
    }

    #[test]
    fn a_clock_that_was_wrong_comes_right() {
        let clock = SteadyClock::new();
        let right = clock.base.load(Relaxed) + 3_000_000_000;
        for second in 0..400 {
            let elapsed = Duration::from_secs(second);
            clock.towards(right + elapsed.as_nanos() as i64, elapsed);
        }
        assert_eq!(clock.base.load(Relaxed), right);
    }
}

#[cfg(test)]
mod faults {
    use super::*;
    use crate::config::{Calendar, Mode};
    use crate::limits::bucket::{Bucket, Refill, SECOND, Shape};
    use crate::limits::calendar::Periods;

    const HOUR: i64 = 3600 * 1_000_000_000;

    /// The system's clock is set, by an hour or by a moment, forwards and back: steady rates go by
    /// another one, and a budget's period neither ends early nor begins anew.
    #[test]
    fn a97_a_clock_that_is_set() {
        let steady = Refill::Steady { amount: 60, per: 60 * SECOND };
        let daily = Refill::Calendar(Periods::new(Calendar::Day, "UTC"));
        for step in [HOUR, -HOUR, HOUR / 36_000, -HOUR / 36_000] {
            let clock = SteadyClock::new();
            // noon: far from where the day turns
            let noon = 1_790_856_000_000_000_000_i64;
            clock.base.store(noon, Relaxed);
            let shapes = [&steady, &daily].map(|refill| {
                let refill = refill.clone();
                Shape { refill, capacity: 1000, mode: Mode::Hard }
            });
            let start = clock.at(Duration::ZERO);
            let mut buckets = shapes.each_ref().map(|shape| Bucket::new(shape, start));
            let resets = buckets[1].resets;
            for bucket in &mut buckets {
                bucket.use_up(500, 0, 0);
            }
            let mut last = start;
            for second in 1..=60_u64 {
                let elapsed = Duration::from_secs(second);
                clock.towards(noon + step + elapsed.as_nanos() as i64, elapsed);
                let now = clock.at(elapsed);
                assert!(now.at > last.at && now.wall >= last.wall, "{step}: it goes back");
                last = now;
                for (bucket, shape) in buckets.iter_mut().zip(&shapes) {
                    bucket.refill(shape, now);
                    assert!((0..=500).contains(&bucket.level()), "{step}: {}", bucket.level());
                }
            }
            assert_eq!(buckets[0].level(), 440, "{step}: a minute's worth, of whatever hour");
            assert_eq!((buckets[1].level(), buckets[1].resets), (500, resets), "{step}");
        }
    }
}

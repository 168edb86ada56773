//! Successes and failures of the last window, exactly: ten buckets that come and go whole.
use std::time::{Duration, Instant};

const BUCKETS: u32 = 10;

#[derive(Debug, Default)]
pub struct Ring {
    /// Where slots are counted from; set by the first word.
    from: Option<From>,
    newest: u64,
    /// So long the newest stays that, for a window of this length.
    lasts: Option<(Duration, Instant)>,
    buckets: [Bucket; BUCKETS as usize],
}

#[derive(Debug, Clone, Copy)]
struct From {
    at: Instant,
    slot: u64,
    /// How long a slot is.
    long: Duration,
}

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    good: u32,
    failed: u32,
}

/// What a window holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    good: u64,
    failed: u64,
}

impl Share {
    /// Whether the failures are at least `errors` percent of at least `least`.
    pub fn reaches(self, errors: f64, least: u32) -> bool {
        let all = self.good + self.failed;
        all >= u64::from(least) && self.failed as f64 * 100.0 >= errors * all as f64
    }
}

impl Ring {
    /// Counts a success. The slot that it is in, for [`Self::failed`].
    pub fn good(&mut self, window: Duration, now: Instant) -> u64 {
        self.turn(window, now);
        let bucket = self.bucket(self.newest);
        bucket.good = bucket.good.saturating_add(1);
        self.newest
    }

    /// Counts a failure; of a visit that was a success so far, in that slot, in its stead.
    pub fn failed(&mut self, window: Duration, now: Instant, was: Option<u64>) -> Share {
        self.turn(window, now);
        let oldest = (self.newest + 1).saturating_sub(u64::from(BUCKETS));
        if let Some(slot) = was.filter(|slot| (oldest..=self.newest).contains(slot)) {
            let bucket = self.bucket(slot);
            bucket.good = bucket.good.saturating_sub(1);
        }
        let bucket = self.bucket(self.newest);
        bucket.failed = bucket.failed.saturating_add(1);
        self.share()
    }

    fn share(&self) -> Share {
        let sum = |pick: fn(&Bucket) -> u32| self.buckets.iter().map(pick).map(u64::from).sum();
        Share { good: sum(|bucket| bucket.good), failed: sum(|bucket| bucket.failed) }
    }

    fn bucket(&mut self, slot: u64) -> &mut Bucket {
        &mut self.buckets[(slot % u64::from(BUCKETS)) as usize]
    }

    /// Empties what has left the window.
    fn turn(&mut self, window: Duration, now: Instant) {
        // most words fall into the slot of the one before
        if self.lasts.is_some_and(|(of, until)| of == window && now < until) {
            return;
        }
        let long = (window / BUCKETS).max(Duration::from_millis(1));
        let from = match self.from {
            Some(from) if from.long == long => from,
            known => {
                if known.is_some() {
                    self.gather();
                }
                *self.from.insert(From { at: now, slot: self.newest, long })
            }
        };
        // a moment of another thread may lie a little behind
        let passed = now.saturating_duration_since(from.at).as_millis() as u64;
        let millis = from.long.as_millis().max(1) as u64;
        let slot = from.slot + passed / millis;
        if slot > self.newest + u64::from(BUCKETS) {
            self.buckets = Default::default();
        } else {
            for gone in self.newest + 1..=slot {
                *self.bucket(gone) = Bucket::default();
            }
        }
        self.newest = self.newest.max(slot);
        let ends = millis.saturating_mul(self.newest - from.slot + 1);
        let until = from.at.checked_add(Duration::from_millis(ends));
        self.lasts = until.map(|until| (window, until));
    }

    /// The window's length is another: what is known counts as new, rather than being forgotten.
    fn gather(&mut self) {
        let Share { good, failed } = self.share();
        let whole = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        self.buckets = Default::default();
        *self.bucket(self.newest) = Bucket { good: whole(good), failed: whole(failed) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    #[test]
    fn what_is_older_than_the_window_is_gone_and_the_rest_is_exact() {
        let (mut ring, start) = (Ring::default(), Instant::now());
        for second in 0..10 {
            ring.good(WINDOW, start + Duration::from_secs(second));
        }
        let share = |ring: &mut Ring, second| {
            ring.failed(WINDOW, start + Duration::from_secs(second), None)
        };
        assert_eq!(share(&mut ring, 9), Share { good: 10, failed: 1 });
        assert_eq!(share(&mut ring, 12), Share { good: 7, failed: 2 });
        assert_eq!(share(&mut ring, 19), Share { good: 0, failed: 2 }, "that of second 9 is gone");
        assert_eq!(share(&mut ring, 500), Share { good: 0, failed: 1 });
    }

    #[test]
    fn a_slot_ends_to_the_moment() {
        let (mut ring, start) = (Ring::default(), Instant::now());
        let slots = [0, 999, 1000, 1999, 2000]
            .map(|millis| ring.good(WINDOW, start + Duration::from_millis(millis)));
        assert_eq!(slots, [0, 0, 1, 1, 2]);
        let share = ring.failed(WINDOW, start + Duration::from_secs(11), None);
        assert_eq!(share, Share { good: 1, failed: 1 }, "the first two are gone");
    }

    #[test]
    fn a_success_that_breaks_off_is_counted_once() {
        let (mut ring, start) = (Ring::default(), Instant::now());
        let slot = ring.good(WINDOW, start);
        let share = ring.failed(WINDOW, start + Duration::from_secs(3), Some(slot));
        assert_eq!(share, Share { good: 0, failed: 1 });
        let late = ring.failed(WINDOW, start + Duration::from_secs(30), Some(slot));
        assert_eq!(late, Share { good: 0, failed: 1 }, "a slot that is gone is left alone");
    }

    #[test]
    fn another_window_forgets_nothing() {
        let (mut ring, start) = (Ring::default(), Instant::now());
        for second in 0..5 {
            ring.good(WINDOW, start + Duration::from_secs(second));
        }
        let longer = ring.failed(Duration::from_mins(1), start + Duration::from_secs(5), None);
        assert_eq!(longer, Share { good: 5, failed: 1 });
        let still = ring.failed(Duration::from_mins(1), start + Duration::from_secs(50), None);
        assert_eq!(still, Share { good: 5, failed: 2 });
    }

    #[test]
    fn a_moment_of_another_thread_may_lie_behind() {
        let (mut ring, start) = (Ring::default(), Instant::now());
        ring.good(WINDOW, start + Duration::from_secs(5));
        let share = ring.failed(WINDOW, start + Duration::from_secs(2), None);
        assert_eq!(share, Share { good: 1, failed: 1 });
    }

    #[test]
    fn a_share_says_nothing_of_few() {
        let share = Share { good: 9, failed: 10 };
        assert!(!share.reaches(50.0, 20) && share.reaches(50.0, 19));
        assert!(!Share { good: 11, failed: 9 }.reaches(50.0, 20));
    }
}

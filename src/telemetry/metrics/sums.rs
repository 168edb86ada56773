//! The sums of all targets at one moment, for who shows how they move: whole numbers, and the same
//! that a scrape reads, so that what moves between two looks adds up to the counters.
use super::histogram::{self, Buckets, Histogram};
use super::tally::Tally;
use super::{Metrics, Outcome, Saved};

/// What the cache makes of calls, in the order of [`Sums::cache`].
pub const CACHE: [&str; 7] =
    ["hit", "canonical", "semantic", "joined", "partial", "miss", "bypass"];

/// Everything since the start of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sums {
    pub complete: u64,
    pub refused: u64,
    /// Upstream failed, broke, or stopped short.
    pub upstream: u64,
    pub deadline: u64,
    /// Their client left, or an operator ended them.
    pub left: u64,
    /// As upstream reported them.
    pub input_tokens: u64,
    pub output_tokens: u64,
    /// Billionths of a dollar.
    pub spend_nano: u64,
    pub saved: Saved,
    pub cache: [u64; CACHE.len()],
    /// Counts by bucket, one more than there are bounds.
    pub first_token: [u64; 17],
    pub overhead: [u64; 14],
    /// Calls begun and not ended.
    pub in_flight: u64,
}

/// Upper bounds of the buckets, in seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Bounds {
    pub first_token: Vec<f64>,
    pub overhead: Vec<f64>,
}

impl Sums {
    pub fn calls(&self) -> u64 {
        self.complete + self.refused + self.upstream + self.deadline + self.left
    }

    fn add(&mut self, tally: &Tally) {
        for (_, outcome, count) in &tally.codes {
            let sum = match outcome {
                Outcome::Complete => &mut self.complete,
                Outcome::Refused => &mut self.refused,
                Outcome::UpstreamError | Outcome::UpstreamBroken | Outcome::Truncated => {
                    &mut self.upstream
                }
                Outcome::Deadline(_) => &mut self.deadline,
                Outcome::ClientGone | Outcome::Cancelled => &mut self.left,
            };
            *sum += count;
        }
        for model in tally.models.iter() {
            self.input_tokens += model.tokens.input;
            self.output_tokens += model.tokens.output;
            self.spend_nano = self.spend_nano.saturating_add(model.spend_nano);
        }
        self.saved.merge(&tally.kept.saved);
        for (how, count) in &tally.kept.results {
            if let Some(at) = CACHE.iter().position(|word| word == how) {
                self.cache[at] += count;
            }
        }
        add_counts(&mut self.first_token, &tally.first_token);
        add_counts(&mut self.overhead, &tally.overhead);
    }
}

fn add_counts(sums: &mut [u64], histogram: &Histogram) {
    for (sum, count) in sums.iter_mut().zip(histogram.counts()) {
        *sum += count;
    }
}

impl Metrics {
    /// How everything stands. Takes a lock a target and thread; nothing for a call's path.
    pub fn sums(&self) -> Sums {
        let targets: Vec<_> = self.shared.targets.lock().values().cloned().collect();
        let mut sums = Sums::default();
        for target in &targets {
            target.fold((), |(), tally| sums.add(tally));
            sums.in_flight += target.in_flight();
        }
        sums
    }

    /// The bounds of [`Sums::first_token`] and [`Sums::overhead`].
    pub fn bounds() -> Bounds {
        let seconds = |buckets: &Buckets| buckets.bounds().collect();
        Bounds { first_token: seconds(&histogram::CALL), overhead: seconds(&histogram::OVERHEAD) }
    }

    /// When the process began to count, in Unix milliseconds.
    pub fn started_ms(&self) -> u64 {
        (self.shared.started_at * 1e3) as u64
    }

    /// When the policy in force was loaded, in Unix milliseconds.
    pub fn loaded_ms(&self) -> u64 {
        self.shared.reload_success_at.load(std::sync::atomic::Ordering::Relaxed) * 1000
    }
}

//! Which of several addresses gets a call, among those that may.
//!
//! *Least busy*: the better of two at random (Mitzenmacher, "The Power of Two Choices"), by calls in
//! flight times the latency of late, in which a peak shows at once and fades over ten seconds (peak
//! EWMA, as Finagle has it). *Prefix*, *session*: rendezvous hashing (Thaler and Ravishankar), so that
//! an address that leaves moves its own calls alone; with bounded loads (Mirrokni, Thorup,
//! Zadimoghaddam), so that one hot prefix does not bury its address.
//!
//! Pure: candidates are indices, chance is a number that is given, and nothing is remembered.
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use crate::sync::Mutex;

/// Over this time a latency loses two thirds of what it was.
const FADES: Duration = Duration::from_secs(10);
/// Of the mean of calls in flight, in quarters: more than this and one, and an address is passed over.
const BOUND: usize = 5;

/// What an address takes to begin an answer.
#[derive(Default)]
pub struct Latency(Mutex<Option<Seen>>);

#[derive(Debug, Clone, Copy)]
struct Seen {
    /// In seconds.
    cost: f64,
    at: Instant,
}

impl Seen {
    /// How much is left of what was known then, from 1 down to 0.
    fn left(self, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.at);
        (-passed.as_secs_f64() / FADES.as_secs_f64()).exp()
    }
}

impl Latency {
    pub fn observe(&self, took: Duration, now: Instant) {
        let took = took.as_secs_f64();
        let mut seen = self.0.lock();
        let cost = match *seen {
            Some(seen) if seen.cost > took => {
                let left = seen.left(now);
                seen.cost * left + took * (1.0 - left)
            }
            _ => took,
        };
        *seen = Some(Seen { cost, at: now });
    }

    /// A visit that came to nothing after this time. As dear as it was, and twice what is known:
    /// an address must not be liked for failing fast.
    pub fn failed(&self, took: Duration, now: Instant) {
        let known = self.seconds(now).unwrap_or(0.0);
        let dear = Duration::try_from_secs_f64(known * 2.0).unwrap_or(DEAREST).min(DEAREST);
        self.observe(took.max(dear), now);
    }

    /// In seconds, faded since: who is asked no more must be asked again to be known. `None`: never
    /// seen.
    pub fn seconds(&self, now: Instant) -> Option<f64> {
        let seen = *self.0.lock();
        seen.map(|seen| seen.cost * seen.left(now))
    }
}

/// What failures alone may make of a latency.
const DEAREST: Duration = Duration::from_mins(1);

/// The better of two, drawn without replacement. `load`: the less the better.
pub fn least_busy(
    candidates: &(impl Iterator<Item = usize> + Clone),
    load: impl Fn(usize) -> f64,
    draw: u64,
) -> Option<usize> {
    let count = candidates.clone().count();
    if count < 2 {
        return candidates.clone().next();
    }
    let first = (draw >> 32) as usize % count;
    let second = (first + 1 + (draw as u32) as usize % (count - 1)) % count;
    let pick = |rank| candidates.clone().nth(rank);
    match (pick(first), pick(second)) {
        (Some(one), Some(other)) if load(other) < load(one) => Some(other),
        // a candidate may have gone since they were counted
        (one, other) => one.or(other),
    }
}

/// One after the other. `turn`: a number that grows by one with each call.
pub fn round_robin(
    candidates: &(impl Iterator<Item = usize> + Clone),
    turn: usize,
) -> Option<usize> {
    let count = candidates.clone().count();
    candidates.clone().nth(turn % count.max(1)).or_else(|| candidates.clone().next())
}

/// The one that `key` belongs to, unless it has more in flight than its share: then the next one.
/// `identity`: a hash of what an address is, the same in every process.
pub fn rendezvous(
    candidates: &(impl Iterator<Item = usize> + Clone),
    identity: impl Fn(usize) -> u64,
    busy: impl Fn(usize) -> usize,
    key: u64,
) -> Option<usize> {
    let (count, total) =
        candidates.clone().fold((0, 0), |(count, total), at| (count + 1, total + busy(at)));
    let has_room = |at: &usize| 4 * busy(*at) * count <= BOUND * total + 4 * count;
    let weight = |at: &usize| mix(key ^ mix(identity(*at)));
    let best = candidates.clone().filter(has_room).max_by_key(weight);
    best.or_else(|| candidates.clone().max_by_key(weight))
}

/// Spreads every bit over all (the finalizer of `SplitMix64`).
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// A random number: the keyed hash of nothing under a key of its own.
pub fn draw() -> u64 {
    RandomState::new().hash_one(())
}

#[cfg(test)]
mod tests;

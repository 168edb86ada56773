//! What others do with a token limit, and the formula that the project's limiter comes from.
//!
//! Each is the idea in its cleanest form, in floating point, without hurry. All wait in one line,
//! first come first served, for at most 30 s; [`Line`] is that line, a [`Policy`] says who fits.
//!
//! - post-hoc: a counter for each minute, charged when the answer's usage is known;
//! - clamp at zero: charges the prompt, then the rest, and forgives what the bucket cannot give;
//! - reserve input: charges the prompt, then the rest as debt; nothing more for a client that left;
//! - reserve `max_tokens`: charges the worst case and gives back what was not used;
//! - reserve q80: charges the likely size, more as an answer outgrows it, gives back the rest;
//! - held in full, rate-aware: charge what passes as it passes, and hold the growth that is likely
//!   against the burst, in full or only as far as refill does not cover it while it grows.
mod held;
mod line;
mod reserve;

pub use held::{Held, How};
pub use line::{Line, MAX_WAIT, POLL};
pub use reserve::{Clamp, PostHoc, Reserve, Reserved};

use crate::engine::End;
use crate::workload::{Call, Nanos};

/// One limit. Units are tokens and seconds.
pub trait Policy {
    fn fits(&mut self, call: &Call, now: Nanos) -> bool;
    fn admit(&mut self, call: &Call, now: Nanos);
    fn produced(&mut self, call: &Call, tokens: u64, now: Nanos);
    fn ended(&mut self, call: &Call, end: End, now: Nanos);
}

/// What the limit says.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// Tokens a second.
    pub rate: f64,
    pub burst: f64,
}

/// A histogram of sizes that forgets: four bins an octave, each sample weighs 1 % less than the next.
#[derive(Debug)]
pub struct Sizes {
    bins: [f64; 80],
    count: u32,
    /// Until there are five samples.
    prior: f64,
}

impl Sizes {
    pub fn new(prior: f64) -> Self {
        Self { bins: [0.0; 80], count: 0, prior }
    }

    pub fn learn(&mut self, tokens: u64) {
        let bin = ((tokens.max(1) as f64 + 1.0).log2() * 4.0) as usize;
        self.bins.iter_mut().for_each(|weight| *weight *= 0.99);
        self.bins[bin.min(79)] += 1.0;
        self.count += 1;
    }

    pub fn quantile(&self, share: f64) -> f64 {
        if self.count < 5 {
            return self.prior;
        }
        let mut rest = share * self.bins.iter().sum::<f64>();
        let bin = self.bins.iter().position(|weight| {
            rest -= weight;
            rest <= 0.0
        });
        2f64.powf((bin.unwrap_or(79) + 1) as f64 / 4.0)
    }
}

//! Charge what passes as it passes, and hold what is still to come.
//!
//! Careful is the same with two rules more. A prompt is charged by the most that it may be, and what
//! was too much is given back at the end; but of that no more than the lowest level since: what has
//! drained in between was never there to drain, and would be given back twice.
use std::collections::HashMap;

use super::{Limit, Policy, Sizes};
use crate::engine::{End, SPEED};
use crate::workload::{Call, GUESS, Nanos, seconds};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Holds all that is likely to come.
    Full,
    /// Only the growth that refill does not cover while it grows.
    RateAware,
    /// The same, and exact where guesses of the prompt are wrong.
    Careful,
}

pub struct Held {
    limit: Limit,
    how: How,
    level: f64,
    last: Nanos,
    sizes: Sizes,
    /// Of all calls in flight: what they are still likely to bring, and how fast.
    growth: f64,
    speed: f64,
    calls: HashMap<usize, Running>,
}

struct Running {
    held: f64,
    charged: f64,
    /// The level was never below, since it went.
    lowest: f64,
}

/// What an answer that outgrows its prediction is given at a time.
const MORE: f64 = 64.0;

impl Held {
    pub fn new(limit: Limit, how: How) -> Self {
        let sizes = Sizes::new(512.0);
        let calls = HashMap::new();
        Self { limit, how, level: 0.0, last: 0, sizes, growth: 0.0, speed: 0.0, calls }
    }

    fn drain(&mut self, now: Nanos) {
        self.level = (self.level - self.limit.rate * seconds(now - self.last)).max(0.0);
        self.last = now;
        for call in self.calls.values_mut() {
            call.lowest = call.lowest.min(self.level);
        }
    }

    fn charge(&self, call: &Call) -> f64 {
        let margin = if self.how == How::Careful { 1.0 + GUESS } else { 1.0 };
        call.guess as f64 * margin
    }

    fn likely(&self, call: &Call) -> f64 {
        self.sizes.quantile(0.8).min(call.bound as f64)
    }
}

impl Policy for Held {
    fn fits(&mut self, call: &Call, now: Nanos) -> bool {
        self.drain(now);
        let speed = self.speed + SPEED as f64;
        let share = match self.how {
            How::Full => 1.0,
            How::RateAware | How::Careful => (1.0 - self.limit.rate / speed).max(0.0),
        };
        let growth = share * (self.growth + self.likely(call));
        let input = self.charge(call).min(self.limit.burst);
        // alone, a call is excused its growth; what others left behind it has to wait for
        let growth = if self.calls.is_empty() { 0.0 } else { growth };
        self.level + input + growth <= self.limit.burst
    }

    fn admit(&mut self, call: &Call, _now: Nanos) {
        let (held, charged) = (self.likely(call), self.charge(call));
        self.level += charged;
        self.growth += held;
        self.speed += SPEED as f64;
        self.calls.insert(call.id, Running { held, charged, lowest: self.level });
    }

    fn produced(&mut self, call: &Call, tokens: u64, now: Nanos) {
        self.drain(now);
        self.level += tokens as f64;
        let Some(running) = self.calls.get_mut(&call.id) else { return };
        let passed = running.held.min(tokens as f64);
        running.held -= passed;
        self.growth -= passed;
        if running.held <= 0.0 {
            running.held = MORE;
            self.growth += MORE;
        }
    }

    fn ended(&mut self, call: &Call, end: End, now: Nanos) {
        self.drain(now);
        self.sizes.learn(end.produced);
        let Some(Running { held, charged, lowest }) = self.calls.remove(&call.id) else { return };
        self.growth -= held;
        self.speed -= SPEED as f64;
        let correction = call.input as f64 - charged;
        let least = if self.how == How::Careful { -lowest } else { -self.level };
        self.level += correction.max(least);
    }
}

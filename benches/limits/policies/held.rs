//! Charge what passes as it passes, and hold what is still to come.
use std::collections::HashMap;

use super::{Limit, Policy, Sizes};
use crate::engine::{End, SPEED};
use crate::workload::{Call, Nanos, seconds};

pub struct Held {
    limit: Limit,
    /// Hold only the growth that refill does not cover while it grows.
    rate_aware: bool,
    level: f64,
    last: Nanos,
    sizes: Sizes,
    /// Of all calls in flight: what they are still likely to bring, and how fast.
    held: f64,
    speed: f64,
    calls: HashMap<usize, f64>,
}

/// What an answer that outgrows its prediction is given at a time.
const MORE: f64 = 64.0;

impl Held {
    pub fn new(limit: Limit, rate_aware: bool) -> Self {
        let sizes = Sizes::new(512.0);
        let calls = HashMap::new();
        Self { limit, rate_aware, level: 0.0, last: 0, sizes, held: 0.0, speed: 0.0, calls }
    }

    fn drain(&mut self, now: Nanos) {
        self.level = (self.level - self.limit.rate * seconds(now - self.last)).max(0.0);
        self.last = now;
    }

    fn likely(&self, call: &Call) -> f64 {
        self.sizes.quantile(0.8).min(call.bound as f64)
    }
}

impl Policy for Held {
    fn fits(&mut self, call: &Call, now: Nanos) -> bool {
        self.drain(now);
        let speed = self.speed + SPEED as f64;
        let share = if self.rate_aware { (1.0 - self.limit.rate / speed).max(0.0) } else { 1.0 };
        let growth = share * (self.held + self.likely(call));
        let input = (call.guess as f64).min(self.limit.burst);
        // alone, a call is excused its growth; what others left behind it has to wait for
        let growth = if self.calls.is_empty() { 0.0 } else { growth };
        self.level + input + growth <= self.limit.burst
    }

    fn admit(&mut self, call: &Call, _now: Nanos) {
        let likely = self.likely(call);
        self.level += call.guess as f64;
        self.held += likely;
        self.speed += SPEED as f64;
        self.calls.insert(call.id, likely);
    }

    fn produced(&mut self, call: &Call, tokens: u64, now: Nanos) {
        self.drain(now);
        self.level += tokens as f64;
        let Some(held) = self.calls.get_mut(&call.id) else { return };
        let passed = held.min(tokens as f64);
        *held -= passed;
        self.held -= passed;
        if *held <= 0.0 {
            *held = MORE;
            self.held += MORE;
        }
    }

    fn ended(&mut self, call: &Call, end: End, now: Nanos) {
        self.drain(now);
        self.sizes.learn(end.produced);
        let Some(held) = self.calls.remove(&call.id) else { return };
        self.held -= held;
        self.speed -= SPEED as f64;
        self.level = (self.level + call.input as f64 - call.guess as f64).max(0.0);
    }
}

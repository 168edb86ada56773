//! Policies that decide by what they have charged already.
use std::collections::HashMap;

use super::{Limit, Policy, Sizes};
use crate::engine::End;
use crate::workload::{Call, Nanos, seconds};

/// A counter for each minute.
pub struct PostHoc {
    allowance: f64,
    minute: u64,
    spent: f64,
}

impl PostHoc {
    pub fn new(limit: Limit) -> Self {
        Self { allowance: limit.rate * 60.0, minute: 0, spent: 0.0 }
    }

    fn turn(&mut self, now: Nanos) {
        let minute = (seconds(now) / 60.0) as u64;
        if minute != self.minute {
            (self.minute, self.spent) = (minute, 0.0);
        }
    }
}

impl Policy for PostHoc {
    fn fits(&mut self, _call: &Call, now: Nanos) -> bool {
        self.turn(now);
        self.spent < self.allowance
    }

    fn admit(&mut self, _call: &Call, _now: Nanos) {}

    fn produced(&mut self, _call: &Call, _tokens: u64, _now: Nanos) {}

    fn ended(&mut self, call: &Call, end: End, now: Nanos) {
        self.turn(now);
        self.spent += (call.input + end.produced) as f64;
    }
}

/// A bucket that cannot go below empty.
pub struct Clamp {
    limit: Limit,
    available: f64,
    last: Nanos,
}

impl Clamp {
    pub fn new(limit: Limit) -> Self {
        Self { limit, available: limit.burst, last: 0 }
    }

    fn refill(&mut self, now: Nanos) {
        let refill = self.limit.rate * seconds(now - self.last);
        self.available = (self.available + refill).min(self.limit.burst);
        self.last = now;
    }
}

impl Policy for Clamp {
    fn fits(&mut self, call: &Call, now: Nanos) -> bool {
        self.refill(now);
        self.available >= (call.guess as f64).min(self.limit.burst)
    }

    fn admit(&mut self, call: &Call, _now: Nanos) {
        self.available = (self.available - call.guess as f64).max(0.0);
    }

    fn produced(&mut self, _call: &Call, _tokens: u64, _now: Nanos) {}

    fn ended(&mut self, call: &Call, end: End, now: Nanos) {
        self.refill(now);
        let rest = (call.input + end.produced) as f64 - call.guess as f64;
        self.available = (self.available - rest).clamp(0.0, self.limit.burst);
    }
}

/// What is charged before the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserved {
    Input,
    MaxTokens,
    /// Four of five answers are not longer.
    Likely,
}

/// A bucket with debt.
pub struct Reserve {
    limit: Limit,
    reserved: Reserved,
    level: f64,
    last: Nanos,
    sizes: Sizes,
    held: HashMap<usize, (f64, u64)>,
}

/// What an answer that outgrows its reservation is given at a time.
const MORE: f64 = 64.0;

impl Reserve {
    pub fn new(limit: Limit, reserved: Reserved) -> Self {
        let sizes = Sizes::new(512.0);
        Self { limit, reserved, level: 0.0, last: 0, sizes, held: HashMap::new() }
    }

    fn drain(&mut self, now: Nanos) {
        self.level = (self.level - self.limit.rate * seconds(now - self.last)).max(0.0);
        self.last = now;
    }

    /// A call larger than the burst waits until the bucket is empty, and goes.
    fn ask(&self, call: &Call) -> f64 {
        let output = match self.reserved {
            Reserved::Input => 0.0,
            Reserved::MaxTokens => call.bound as f64,
            Reserved::Likely => self.sizes.quantile(0.8).min(call.bound as f64),
        };
        (call.guess as f64 + output).min(self.limit.burst)
    }
}

impl Policy for Reserve {
    fn fits(&mut self, call: &Call, now: Nanos) -> bool {
        self.drain(now);
        self.level + self.ask(call) <= self.limit.burst
    }

    fn admit(&mut self, call: &Call, _now: Nanos) {
        let ask = self.ask(call);
        self.level += ask;
        self.held.insert(call.id, (ask, 0));
    }

    fn produced(&mut self, call: &Call, tokens: u64, now: Nanos) {
        self.drain(now);
        let Some((held, produced)) = self.held.get_mut(&call.id) else { return };
        *produced += tokens;
        if self.reserved == Reserved::Likely && (call.input + *produced) as f64 > *held {
            *held += MORE;
            self.level += MORE;
        }
    }

    fn ended(&mut self, call: &Call, end: End, now: Nanos) {
        self.drain(now);
        self.sizes.learn(end.produced);
        let Some((held, _)) = self.held.remove(&call.id) else { return };
        if self.reserved == Reserved::Input && end.left {
            return;
        }
        self.level = (self.level + (call.input + end.produced) as f64 - held).max(0.0);
    }
}

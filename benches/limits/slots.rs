//! Who goes next where many agents share one upstream: the orders that others use.
//!
//! One upstream key with so many places at once and one token limit, charged as tokens pass: nobody
//! goes while the bucket is full. Each agent has its own line; [`Order`] says whose turn it is.
//!
//! - first come, first served; round robin: a call each in turn;
//! - deficit round robin (Shreedhar and Varghese, 1995), by predicted size, set right at the end;
//! - virtual token counters (Sheng et al., OSDI 2024), as published: charged as tokens pass.
use std::collections::VecDeque;

use crate::engine::{Change, Decision, End, Limiter};
use crate::policies::{Limit, MAX_WAIT, POLL, Sizes};
use crate::seen::OUTPUT;
use crate::workload::{Call, Nanos, seconds};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    FirstCome,
    RoundRobin,
    Deficit,
    Counters,
}

/// What a turn of deficit round robin is worth.
const QUANTUM: f64 = 2_000.0;
const PRIOR: f64 = 300.0;

struct Line {
    waiting: VecDeque<Call>,
    /// The service it got; of deficit round robin, what it may still take.
    counter: f64,
    sizes: Sizes,
}

pub struct Shared {
    order: Order,
    limit: Limit,
    free: usize,
    level: f64,
    last: Nanos,
    lines: Vec<Line>,
    /// Whose turn it is, where they take turns.
    turn: usize,
    changes: Vec<Change>,
}

impl Shared {
    pub fn new(order: Order, limit: Limit, slots: usize, agents: usize) -> Self {
        let line = || Line { waiting: VecDeque::new(), counter: 0.0, sizes: Sizes::new(PRIOR) };
        let lines = (0..agents).map(|_| line()).collect();
        let changes = Vec::new();
        Self { order, limit, free: slots, level: 0.0, last: 0, lines, turn: 0, changes }
    }

    fn take(&mut self, tokens: u64, now: Nanos) {
        let drained = self.limit.rate * seconds(now - self.last);
        self.level = (self.level - drained).max(0.0) + tokens as f64;
        self.last = now;
    }

    fn expire(&mut self, now: Nanos) {
        for line in &mut self.lines {
            while let Some(call) = line.waiting.pop_front_if(|call| now - call.at > MAX_WAIT) {
                self.changes.push(Change::Expired(call.id));
            }
        }
    }

    fn next(&mut self) -> Option<usize> {
        let waiting = self.lines.iter().enumerate().filter_map(|(agent, line)| {
            let first = line.waiting.front()?;
            Some((agent, first.at, line.counter))
        });
        match self.order {
            Order::FirstCome => waiting.min_by_key(|(_, at, _)| *at).map(|(agent, ..)| agent),
            Order::Counters => {
                waiting.min_by(|one, other| one.2.total_cmp(&other.2)).map(|(agent, ..)| agent)
            }
            Order::RoundRobin => {
                let all = self.lines.len();
                let after = (0..all).map(|step| (self.turn + step) % all);
                let agent = after.into_iter().find(|at| !self.lines[*at].waiting.is_empty())?;
                self.turn = (agent + 1) % all;
                Some(agent)
            }
            Order::Deficit => {
                waiting.count().checked_sub(1)?;
                Some(self.by_deficit())
            }
        }
    }

    /// Somebody waits.
    fn by_deficit(&mut self) -> usize {
        loop {
            let at = self.turn;
            let line = &mut self.lines[at];
            match line.waiting.front() {
                Some(call) => {
                    let cost = call.input as f64 + OUTPUT * line.sizes.quantile(0.5);
                    if line.counter >= cost {
                        line.counter -= cost;
                        return at;
                    }
                    line.counter += QUANTUM;
                }
                None => line.counter = line.counter.min(0.0),
            }
            self.turn = (at + 1) % self.lines.len();
        }
    }
}

impl Limiter for Shared {
    fn arrive(&mut self, call: &Call, _now: Nanos) -> Decision {
        let active = self.lines.iter().filter(|line| !line.waiting.is_empty());
        let lowest = active.map(|line| line.counter).min_by(f64::total_cmp);
        let line = &mut self.lines[call.agent];
        if self.order == Order::Counters && line.waiting.is_empty() {
            // idling saves nothing up
            line.counter = line.counter.max(lowest.unwrap_or(line.counter));
        }
        line.waiting.push_back(*call);
        Decision::Wait
    }

    fn tick(&mut self, call: &Call, tokens: u64, now: Nanos) {
        self.take(tokens, now);
        if self.order == Order::Counters {
            self.lines[call.agent].counter += OUTPUT * tokens as f64;
        }
    }

    fn finish(&mut self, call: &Call, end: End, _now: Nanos) {
        self.free += 1;
        let line = &mut self.lines[call.agent];
        if self.order == Order::Deficit {
            line.counter -= OUTPUT * (end.produced as f64 - line.sizes.quantile(0.5));
        }
        line.sizes.learn(end.produced);
    }

    fn poll(&mut self, now: Nanos, changes: &mut Vec<Change>) {
        self.take(0, now);
        self.expire(now);
        while self.free > 0 && self.level < self.limit.burst {
            let Some(agent) = self.next() else { break };
            let Some(call) = self.lines[agent].waiting.pop_front() else { break };
            self.free -= 1;
            self.take(call.input, now);
            if self.order == Order::Counters {
                self.lines[agent].counter += call.input as f64;
            }
            self.changes.push(Change::Go(call.id, call.bound));
        }
        changes.append(&mut self.changes);
    }

    fn wake_at(&self, now: Nanos) -> Option<Nanos> {
        self.lines.iter().any(|line| !line.waiting.is_empty()).then_some(now + POLL)
    }
}

//! One line for one limit.
use std::collections::VecDeque;

use super::Policy;
use crate::engine::{Change, Decision, End, Limiter};
use crate::workload::{Call, Nanos, SECOND};

/// The longest that a call waits.
pub const MAX_WAIT: Nanos = 30 * SECOND;
/// How often a line that waits for refill looks again.
pub const POLL: Nanos = SECOND / 4;

pub struct Line<P> {
    policy: P,
    waiting: VecDeque<Call>,
}

impl<P: Policy> Line<P> {
    pub fn new(policy: P) -> Self {
        Self { policy, waiting: VecDeque::new() }
    }
}

impl<P: Policy> Limiter for Line<P> {
    fn arrive(&mut self, call: &Call, _now: Nanos) -> Decision {
        self.waiting.push_back(*call);
        Decision::Wait
    }

    fn tick(&mut self, call: &Call, tokens: u64, now: Nanos) {
        self.policy.produced(call, tokens, now);
    }

    fn finish(&mut self, call: &Call, end: End, now: Nanos) {
        self.policy.ended(call, end, now);
    }

    fn poll(&mut self, now: Nanos, changes: &mut Vec<Change>) {
        while let Some(call) = self.waiting.front().copied() {
            if now - call.at > MAX_WAIT {
                changes.push(Change::Expired(call.id));
            } else if self.policy.fits(&call, now) {
                self.policy.admit(&call, now);
                changes.push(Change::Go(call.id, call.bound));
            } else {
                return;
            }
            self.waiting.pop_front();
        }
    }

    fn wake_at(&self, now: Nanos) -> Option<Nanos> {
        (!self.waiting.is_empty()).then_some(now + POLL)
    }
}

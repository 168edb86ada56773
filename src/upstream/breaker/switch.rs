//! A breaker that all workers share: behind a lock, with its state beside it for those who only ask.
//!
//! While it is closed, asking takes no lock. A visit that asks in the moment of an opening goes as one
//! that was sent before it.
use std::time::{Duration, Instant};

use super::{Breaker, Change, Pass, Status, Why};
use crate::config::Breaker as Rule;
use crate::sync::{AtomicU64, Mutex, Ordering::Relaxed};

#[derive(Default)]
pub struct Switch {
    breaker: Mutex<Breaker>,
    /// Its era, doubled; odd when it is not closed.
    seen: AtomicU64,
}

impl Switch {
    pub fn ask(&self, rule: &Rule, now: Instant) -> Result<Pass, Duration> {
        if self.is_closed() {
            return Ok(self.pass());
        }
        self.with(|breaker| breaker.ask(rule, now))
    }

    pub fn look(&self, rule: &Rule, now: Instant) -> Result<(), Duration> {
        if self.is_closed() { Ok(()) } else { self.breaker.lock().look(rule, now) }
    }

    pub fn is_closed(&self) -> bool {
        self.seen.load(Relaxed) & 1 == 0
    }

    /// For a visit that goes whatever the state.
    pub fn pass(&self) -> Pass {
        Pass { era: (self.seen.load(Relaxed) >> 1) as u32, ..Pass::default() }
    }

    pub fn began(&self, rule: &Rule, pass: &mut Pass, now: Instant) -> Option<Change> {
        self.with(|breaker| breaker.began(rule, pass, now))
    }

    pub fn failed(&self, rule: &Rule, pass: Pass, now: Instant, draw: u64) -> Option<Change> {
        self.with(|breaker| breaker.failed(rule, pass, now, draw))
    }

    pub fn neutral(&self, pass: Pass) {
        if pass.probe {
            self.with(|breaker| breaker.neutral(pass));
        }
    }

    pub fn trip(&self, rule: &Rule, why: Why, now: Instant, draw: u64) -> Option<Change> {
        self.with(|breaker| breaker.trip(rule, why, now, draw))
    }

    pub fn close(&self) -> Option<Change> {
        if self.is_closed() { None } else { self.with(Breaker::close) }
    }

    pub fn status(&self, now: Instant) -> Status {
        self.breaker.lock().status(now)
    }

    fn with<T>(&self, word: impl FnOnce(&mut Breaker) -> T) -> T {
        let mut breaker = self.breaker.lock();
        let result = word(&mut breaker);
        let open = !matches!(breaker.state, super::State::Closed);
        self.seen.store(u64::from(breaker.era) << 1 | u64::from(open), Relaxed);
        result
    }
}

//! When a backend is spared for a while: a state machine without a clock, a lock or chance of its own.
//!
//! Closed, it counts. So many failures in a row open it, or their share in a window (as linkerd2-proxy
//! does it: an exact ring, not a moving average, in which a tight burst hides). Open, it lets nobody
//! pass until its time is over; then one call alone, the probe. That one's success closes it, its
//! failure opens it for twice as long. A probe that hangs is overtaken: once it has been out for as long
//! as the rule keeps it open, another may go.
//!
//! Invariants: one probe in each such time; an opening never ends earlier than the one before it; what
//! was sent before an opening says nothing after it; a probe that was overtaken can close it, for the
//! backend has answered, and do nothing else. No moment is stored that a rule could change: rules
//! come with each word, so a new one is in force at once and nothing is forgotten.
mod ring;
mod switch;

use std::time::{Duration, Instant};

use self::ring::Ring;
pub use self::switch::Switch;
use crate::config::Breaker as Rule;

/// One backend's, or one address's.
#[derive(Debug, Default)]
pub struct Breaker {
    state: State,
    /// Counts openings. A visit belongs to the era in which it was sent.
    era: u32,
    /// Openings since it was closed last.
    times: u32,
    /// Counts probes, so that one that was overtaken is told from the last.
    probes: u32,
    row: Row,
    ring: Ring,
}

#[derive(Debug, Clone, Copy, Default)]
enum State {
    #[default]
    Closed,
    Open {
        until: Instant,
    },
    /// The probe is on its way.
    HalfOpen {
        since: Instant,
    },
}

/// What a visit is to a breaker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pass {
    era: u32,
    /// Everybody waits for how it goes.
    pub probe: bool,
    /// Which probe it is.
    number: u32,
    /// It has been counted as a success, and where.
    good: Option<Good>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Good {
    slot: u64,
    /// Which end of a row of failures it was.
    end: u32,
}

/// What a word to a breaker has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Opened { why: Why, pause: Duration },
    Closed,
}

/// Why a breaker has opened, or an address is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Failures in a row.
    Row,
    /// Their share in the window.
    Share,
    Probe,
    /// No address is left that is not out.
    Last,
    /// Active checks.
    Check,
}

impl Why {
    /// As a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Row => "consecutive",
            Self::Share => "share",
            Self::Probe => "probe",
            Self::Last => "no_address_left",
            Self::Check => "check",
        }
    }
}

/// As people see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Closed,
    HalfOpen,
    /// For so long; zero when it waits for a call to probe with.
    Open(Duration),
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open(_) => "open",
        }
    }
}

/// How long those may be told to wait who come while a probe is on its way.
const PROBING: Duration = Duration::from_secs(1);

impl Breaker {
    /// Leave to visit, or how long there is none. Takes the probe when it is due.
    pub fn ask(&mut self, rule: &Rule, now: Instant) -> Result<Pass, Duration> {
        self.look(rule, now)?;
        if matches!(self.state, State::Closed) {
            return Ok(self.pass());
        }
        self.state = State::HalfOpen { since: now };
        self.probes = self.probes.wrapping_add(1);
        Ok(Pass { probe: true, number: self.probes, ..self.pass() })
    }

    /// What [`Self::ask`] would say. Takes nothing.
    pub fn look(&self, rule: &Rule, now: Instant) -> Result<(), Duration> {
        let (left, most) = match self.state {
            State::Closed => return Ok(()),
            State::Open { until } => (until.saturating_duration_since(now), Duration::MAX),
            State::HalfOpen { since } => {
                let out = now.saturating_duration_since(since);
                (rule.open.saturating_sub(out), PROBING)
            }
        };
        if left.is_zero() { Ok(()) } else { Err(left.min(most)) }
    }

    /// For a visit that goes whatever the state.
    fn pass(&self) -> Pass {
        Pass { era: self.era, ..Pass::default() }
    }

    /// An answer has begun well. Any visit that was sent since it opened closes it; usually that is
    /// the probe.
    pub fn began(&mut self, rule: &Rule, pass: &mut Pass, now: Instant) -> Option<Change> {
        if pass.era != self.era || pass.good.is_some() {
            return None;
        }
        pass.probe = false;
        let change = self.close();
        pass.good = Some(Good { slot: self.ring.good(rule.window, now), end: self.row.end() });
        change
    }

    /// It is in order again, by other evidence.
    pub fn close(&mut self) -> Option<Change> {
        if matches!(self.state, State::Closed) {
            return None;
        }
        (self.state, self.times) = (State::Closed, 0);
        (self.row, self.ring) = (Row::default(), Ring::default());
        Some(Change::Closed)
    }

    /// The backend was at fault. `draw`: a random number.
    pub fn failed(&mut self, rule: &Rule, pass: Pass, now: Instant, draw: u64) -> Option<Change> {
        if pass.era != self.era || self.has_overtaken(pass) {
            return None;
        }
        match self.state {
            State::HalfOpen { .. } if pass.probe => Some(self.open(rule, Why::Probe, now, draw)),
            // a visit that went although it was open
            State::HalfOpen { .. } | State::Open { .. } => None,
            State::Closed => {
                let row = self.row.failed(pass.good);
                let share = self.ring.failed(rule.window, now, pass.good.map(|good| good.slot));
                let why = if row >= rule.failures {
                    Why::Row
                } else if share.reaches(rule.errors, rule.least) {
                    Why::Share
                } else {
                    return None;
                };
                Some(self.open(rule, why, now, draw))
            }
        }
    }

    /// It ended, and says nothing of the backend: the probe is free again.
    pub fn neutral(&mut self, pass: Pass) {
        let last = pass.probe && pass.era == self.era && !self.has_overtaken(pass);
        if let (State::HalfOpen { since }, true) = (self.state, last) {
            self.state = State::Open { until: since };
        }
    }

    /// Another probe was sent after this one.
    fn has_overtaken(&self, pass: Pass) -> bool {
        pass.probe && pass.number != self.probes
    }

    /// Opens it by other evidence; one that is not closed stays as it is.
    pub fn trip(&mut self, rule: &Rule, why: Why, now: Instant, draw: u64) -> Option<Change> {
        matches!(self.state, State::Closed).then(|| self.open(rule, why, now, draw))
    }

    pub fn status(&self, now: Instant) -> Status {
        match self.state {
            State::Closed => Status::Closed,
            State::HalfOpen { .. } => Status::HalfOpen,
            State::Open { until } => Status::Open(until.saturating_duration_since(now)),
        }
    }

    fn open(&mut self, rule: &Rule, why: Why, now: Instant, draw: u64) -> Change {
        let pause = pause(rule, self.times, draw);
        let until = now.checked_add(pause).unwrap_or(now);
        self.state = State::Open { until };
        self.era = self.era.wrapping_add(1);
        self.times = self.times.saturating_add(1);
        Change::Opened { why, pause }
    }
}

/// Twice as long each time, up to the longest; up to a tenth less, so that many instances that saw
/// one backend fail do not all probe it at one moment.
fn pause(rule: &Rule, times: u32, draw: u64) -> Duration {
    let doubled = rule.open.saturating_mul(1 << times.min(20)).min(rule.longest.max(rule.open));
    doubled.saturating_sub(doubled / 10_000 * (draw % 1001) as u32)
}

/// Failures in a row. A success ends it, unless that success turns out to be none: an answer that
/// began well and broke off. Then the row goes on as if it had not been.
#[derive(Debug, Default)]
struct Row {
    failures: u32,
    /// How long it was when it was ended last.
    before: u32,
    ends: u32,
}

impl Row {
    fn end(&mut self) -> u32 {
        self.before = std::mem::take(&mut self.failures);
        self.ends = self.ends.wrapping_add(1);
        self.ends
    }

    fn failed(&mut self, good: Option<Good>) -> u32 {
        if good.is_some_and(|good| good.end == self.ends) {
            self.failures = self.failures.saturating_add(std::mem::take(&mut self.before));
        }
        self.failures = self.failures.saturating_add(1);
        self.failures
    }
}

#[cfg(test)]
mod tests;

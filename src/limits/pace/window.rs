//! One of the backend's limits, mirrored: what is left of it, and how fast it comes back to us.
//!
//! An answer tells what was left when its call was let in, so the calls sent after that one are
//! debited here, and an answer to an older call than the last that was heard tells nothing new. The
//! refill is learned, because others may draw on the same limit: what came back between two answers,
//! over the time between them, forgotten exponentially. The level never goes below what a whole
//! limit's debt is, and once the time passes at which the backend said to be full, it is full.
use std::time::Duration;

use super::{SECOND, seconds};

/// The longest reset that is believed.
const LONGEST: Duration = Duration::from_hours(24);
/// Where no reset tells, limits are per minute.
const PERIOD: f64 = 60.0;
/// How fast what was learned is forgotten: the time constant, in seconds.
const MEMORY: f64 = 20.0;
/// Seconds to have watched before what was learned counts.
const ENOUGH: f64 = 3.0;
/// The least that is believed of a refill, as a share of the nominal one.
const LEAST: f64 = 0.02;
/// Above this share of the limit a refill cannot be seen: the window is full.
const FULL: f64 = 0.98;
/// Room left for what is not seen: others, and the backend's own way to count.
const MARGIN: f64 = 1.15;
/// A reset shorter than this is too coarse to tell a refill (some vendors round to a second).
const TELLING_RESET: f64 = 5.0;

/// What an answer told of this window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    pub(super) limit: Option<u64>,
    pub(super) remaining: u64,
    pub(super) reset: Option<Duration>,
}

/// The call that was answered, as this window sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answered {
    /// Calls are numbered as they are sent.
    pub(super) order: u64,
    pub(super) sent_at: u64,
    pub(super) cost: u64,
    /// All debits ever: up to and with this call, and until now.
    pub(super) debited_then: u64,
    pub(super) debited_now: u64,
    /// Refused calls were not debited.
    pub(super) refused: bool,
}

/// Calls that wait; how much of the learned refill is trusted; the time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) cost: u64,
    /// No call is on its way: what is known of the window is all there is.
    pub(super) idle: bool,
    pub(super) trust: f64,
    pub(super) now: u64,
}

#[derive(Debug)]
pub(super) struct Window {
    limit: f64,
    /// As of `at`; less than zero while calls are on their way that will not all fit.
    level: f64,
    at: u64,
    full_at: u64,
    told_at: u64,
    /// Units a second, learned; and as the backend would give them to us alone.
    refill: f64,
    nominal: f64,
    /// What came back, and in how many seconds.
    gained: f64,
    watched: f64,
    last: Option<Seen>,
}

/// The youngest call whose answer told something.
#[derive(Debug, Clone, Copy)]
struct Seen {
    order: u64,
    sent_at: u64,
    remaining: f64,
    debited: u64,
}

impl Window {
    /// `None` where the limit is told as nothing at all.
    pub(super) fn new(told: Told, now: u64) -> Option<Self> {
        let limit = told.limit.unwrap_or(told.remaining);
        (limit > 0).then(|| {
            let limit = limit as f64;
            let nominal = limit / PERIOD;
            Self {
                limit,
                level: limit,
                at: now,
                full_at: now,
                told_at: now,
                refill: nominal,
                nominal,
                gained: 0.0,
                watched: 0.0,
                last: None,
            }
        })
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit as u64
    }

    /// Units a second.
    pub(super) fn refill(&self) -> f64 {
        self.refill
    }

    pub(super) fn told_at(&self) -> u64 {
        self.told_at
    }

    /// What is left by now.
    pub(super) fn level(&self, trust: f64, now: u64) -> f64 {
        if now >= self.full_at {
            return self.limit;
        }
        let refilled = self.refill * trust * seconds(now.saturating_sub(self.at));
        (self.level + refilled).min(self.limit)
    }

    /// Whether a call of this cost fits; else when it will.
    pub(super) fn fits(&self, asked: Asked) -> Result<(), u64> {
        let cost = asked.cost as f64;
        let now = asked.now;
        let level = self.level(asked.trust, now);
        // what is larger than the limit goes alone, through a full window, or it would never go
        let wanted = (cost * MARGIN).min(self.limit);
        if level < wanted {
            let wait = (wanted - level) / (self.refill * asked.trust);
            let refilled = now.saturating_add((wait * SECOND as f64) as u64 + 1);
            return Err(refilled.min(self.full_at));
        }
        if cost > self.limit && !asked.idle {
            return Err(now.saturating_add(SECOND));
        }
        Ok(())
    }

    /// Whether a call of this cost would find it short, or anyone soon.
    pub(super) fn is_short(&self, asked: Asked) -> bool {
        self.fits(asked).is_err() || self.level(asked.trust, asked.now) < self.limit / 10.0
    }

    /// Until it is full again, as far as the backend told.
    pub(super) fn until_full(&self, now: u64) -> u64 {
        self.full_at.saturating_sub(now)
    }

    pub(super) fn debit(&mut self, cost: u64, trust: f64, now: u64) {
        // a nonsensical cost weighs as much as the whole limit
        let cost = (cost as f64).min(self.limit);
        self.level = (self.level(trust, now) - cost).max(-self.limit);
        self.at = now;
        let later = (cost / self.nominal * SECOND as f64) as u64;
        self.full_at = within_a_day(self.full_at.max(now).saturating_add(later), now);
    }

    /// An answer told something.
    pub(super) fn hear(&mut self, told: Told, call: &Answered, trust: f64, now: u64) {
        // a reset of nothing, though something is missing, is how some say that they do not know
        let reset = told.reset.filter(|reset| !reset.is_zero() && *reset <= LONGEST);
        let told = Told { reset, ..told };
        self.told_at = now;
        if self.last.is_some_and(|last| last.order > call.order) {
            return;
        }
        self.resize(told);
        let remaining = (told.remaining as f64).min(self.limit);
        self.rate(told, remaining);
        self.learn(remaining, call);
        self.last = Some(Seen {
            order: call.order,
            sent_at: call.sent_at,
            remaining,
            debited: call.debited_then,
        });
        let since = seconds(now.saturating_sub(call.sent_at));
        let refilled = (remaining + self.refill * trust * since).min(self.limit);
        let after = call.debited_now.saturating_sub(call.debited_then) as f64;
        self.level = (refilled - after).max(-self.limit);
        self.at = now;
        let missing = (self.limit - remaining + after).min(2.0 * self.limit) / self.nominal;
        let reset = match told.reset {
            Some(reset) => reset.as_secs_f64() + after.min(self.limit) / self.nominal,
            None => missing,
        };
        self.full_at = within_a_day(now.saturating_add((reset * SECOND as f64) as u64), now);
    }

    /// A refusal that told nothing: what was not debited cannot be told from what came back.
    pub(super) fn unlearn_last(&mut self) {
        if let Some(last) = &mut self.last {
            last.remaining = self.limit;
        }
    }

    /// A limit that is not told is the most that ever remained.
    fn resize(&mut self, told: Told) {
        let limit = match told.limit {
            Some(limit) if limit > 0 => limit as f64,
            _ => self.limit.max(told.remaining as f64),
        };
        let scale = limit / self.limit;
        if (scale - 1.0).abs() > f64::EPSILON {
            self.limit = limit;
            self.refill *= scale;
            self.nominal *= scale;
            self.gained *= scale;
        }
    }

    /// The refill that the backend itself speaks of: per minute, unless its reset says slower.
    fn rate(&mut self, told: Told, remaining: f64) {
        let reset = told.reset.map_or(0.0, |reset| reset.as_secs_f64());
        let missing = self.limit - remaining;
        self.nominal = self.limit / PERIOD;
        if reset >= TELLING_RESET && missing > 0.0 {
            self.nominal = self.nominal.min(missing / reset);
        }
        self.refill = self.refill.clamp(self.nominal * LEAST, self.nominal);
    }

    fn learn(&mut self, remaining: f64, call: &Answered) {
        let Some(last) = self.last else { return };
        if last.remaining >= self.limit * FULL || remaining >= self.limit * FULL {
            return;
        }
        let mut debited = call.debited_then.saturating_sub(last.debited);
        if call.refused {
            debited = debited.saturating_sub(call.cost);
        }
        let gap = seconds(call.sent_at.saturating_sub(last.sent_at));
        let kept = (-gap / MEMORY).exp();
        self.gained = self.gained * kept + (remaining - last.remaining + debited as f64);
        self.watched = self.watched * kept + gap;
        if self.watched > ENOUGH {
            let refill = self.gained / self.watched;
            self.refill = refill.clamp(self.nominal * LEAST, self.nominal);
        }
    }
}

/// However slowly it seems to refill: the longest that is believed.
fn within_a_day(at: u64, now: u64) -> u64 {
    at.min(now.saturating_add(LONGEST.as_nanos() as u64))
}

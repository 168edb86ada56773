//! One bucket: what has been used of one limit, and what the calls that go on may still use.
//!
//! A debt bucket. `level` is what was used and has not refilled; it may rise above the capacity, and
//! is then a debt that only time pays off. Beside it stand what running calls are expected to add
//! (`held`) and how fast they do (`speed`), so that a call is let in when refill covers the growth,
//! and not only when the worst case fits. The rule is in [`Bucket::fits`].
//!
//! Whole numbers, exact: refill that is no whole unit is carried. `now` is an argument; a clock that
//! goes back changes nothing. The same arithmetic as GCRA (ITU-T I.371), whose theoretical arrival
//! time is `level / rate` ahead of now.
use super::calendar::Periods;
use crate::config::Mode;

pub const SECOND: u64 = 1_000_000_000;
/// Periods that are made up for at once: hours of a year.
const MOST_PERIODS: u32 = 24 * 366;

/// A moment, in two clocks: one that never goes back, and the calendar's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moment {
    /// Nanoseconds since the limiter began.
    pub at: u64,
    /// Unix seconds.
    pub wall: i64,
}

/// How a bucket empties.
#[derive(Debug, Clone)]
pub enum Refill {
    /// `amount` in `per` nanoseconds, steadily.
    Steady { amount: i64, per: u64 },
    /// All at once, when the calendar turns.
    Calendar(Periods),
    /// With the call that fills it: concurrency.
    Running,
}

/// What a limit allows.
#[derive(Debug, Clone)]
pub struct Shape {
    pub refill: Refill,
    pub capacity: i64,
    pub mode: Mode,
}

/// What one call asks of one bucket, in the bucket's units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Demand {
    /// Used as soon as the call goes.
    pub now: i64,
    /// What the prompt may be more than that. Held in full until the backend's count is known: were it
    /// charged, it would drain, and be given back on top of that.
    pub margin: i64,
    /// Likely to be added while it runs; under a hard limit, at most.
    pub growth: i64,
    /// A second, while it runs.
    pub speed: i64,
}

/// Why a call cannot go now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// In so many nanoseconds it fits, if nothing else happens.
    For(u64),
    /// When another call ends.
    UntilFree,
    /// More than the limit ever allows at once.
    Never,
}

#[derive(Debug, Clone, Default)]
pub struct Bucket {
    level: i64,
    held: i64,
    margin: i64,
    speed: i64,
    running: u32,
    /// When `level` was right.
    at: u64,
    /// Refill that was no whole unit yet, in parts of `per`.
    carry: u64,
    /// When the calendar's period ends, in Unix seconds.
    pub resets: i64,
}

impl Bucket {
    pub fn new(shape: &Shape, now: Moment) -> Self {
        let resets = match &shape.refill {
            Refill::Calendar(periods) => periods.end_after(now.wall),
            _ => 0,
        };
        Self { at: now.at, resets, ..Self::default() }
    }

    /// Lets time pass.
    pub fn refill(&mut self, shape: &Shape, now: Moment) {
        match &shape.refill {
            Refill::Steady { amount, per } => {
                let elapsed = now.at.saturating_sub(self.at);
                self.at = self.at.max(now.at);
                if self.level == 0 {
                    self.carry = 0;
                    return;
                }
                let parts = u128::from(elapsed) * (*amount as u128) + u128::from(self.carry);
                let units = parts / u128::from(*per);
                self.carry = (parts % u128::from(*per)) as u64;
                self.level = self.level.saturating_sub(i64::try_from(units).unwrap_or(i64::MAX));
                if self.level <= 0 {
                    (self.level, self.carry) = (0, 0);
                }
            }
            Refill::Calendar(periods) => {
                // each period takes off a capacity, and debt goes along into the next
                for _ in 0..MOST_PERIODS {
                    if now.wall < self.resets || self.level == 0 {
                        break;
                    }
                    self.level = self.level.saturating_sub(shape.capacity).max(0);
                    self.resets = periods.end_after(self.resets);
                }
                if now.wall >= self.resets {
                    self.resets = periods.end_after(now.wall);
                }
            }
            Refill::Running => {}
        }
    }

    /// Whether a call may go, after [`Self::refill`].
    ///
    /// Hard limits count all that is held. The others count of it only the share that refill will not
    /// have covered by the time it is used: `1 - rate / (speed of all)`. A call alone in an empty
    /// bucket may be larger than the bucket, where only its prediction makes it so.
    pub fn fits(&self, shape: &Shape, demand: &Demand, now: Moment) -> Result<(), Full> {
        if let Refill::Running = shape.refill {
            let free = i64::from(self.running) < shape.capacity;
            return if free { Ok(()) } else { Err(Full::UntilFree) };
        }
        if demand.now > shape.capacity {
            return Err(Full::Never);
        }
        let input = demand.now.saturating_add(demand.margin);
        let share = self.share(shape, demand);
        // a whole is exact, however large
        let of = |units: i64| {
            if share < 1.0 { (units as f64 * share).ceil() as i64 } else { units }
        };
        let growth = of(self.held.saturating_add(demand.growth));
        let certain = self.level.saturating_add(self.margin).saturating_add(input);
        let together = certain.saturating_add(growth);
        let mut over = together.saturating_sub(shape.capacity);
        if shape.mode != Mode::Hard && self.running == 0 {
            let alone = input.saturating_add(of(demand.growth)).min(shape.capacity);
            over = over.min(self.level.saturating_add(alone) - shape.capacity);
        } else if shape.mode == Mode::Hard && input.saturating_add(demand.growth) > shape.capacity {
            return Err(Full::Never);
        }
        if over <= 0 { Ok(()) } else { Err(self.wait(shape, over, now)) }
    }

    /// Of what is held, the share that counts.
    fn share(&self, shape: &Shape, demand: &Demand) -> f64 {
        let speed = self.speed.saturating_add(demand.speed);
        match &shape.refill {
            Refill::Steady { amount, per } if shape.mode != Mode::Hard && speed > 0 => {
                let rate = *amount as f64 * SECOND as f64 / *per as f64;
                (1.0 - rate / speed as f64).max(0.0)
            }
            _ => 1.0,
        }
    }

    /// Until `over` units are free again.
    fn wait(&self, shape: &Shape, over: i64, now: Moment) -> Full {
        match &shape.refill {
            // what is held stands in the way: no refill will do
            Refill::Steady { .. } if over > self.level => Full::UntilFree,
            // calls that end may make room sooner
            Refill::Steady { amount, per } => {
                let nanos = over as u128 * u128::from(*per) / (*amount).max(1) as u128;
                Full::For(u64::try_from(nanos).unwrap_or(u64::MAX).saturating_add(1))
            }
            Refill::Calendar(_) if over > self.held() => {
                Full::For(self.resets_in(shape, now).max(1))
            }
            _ => Full::UntilFree,
        }
    }

    /// Of a wait of so many nanoseconds, what is left if all that run end now and use no more.
    pub fn wait_if_freed(&self, shape: &Shape, nanos: u64) -> u64 {
        match &shape.refill {
            Refill::Steady { amount, per } => {
                let held = self.held() as u128 * u128::from(*per) / (*amount).max(1) as u128;
                nanos.saturating_sub(u64::try_from(held).unwrap_or(u64::MAX))
            }
            _ => nanos,
        }
    }

    /// The call goes.
    pub fn enter(&mut self, demand: &Demand) {
        self.level = self.level.saturating_add(demand.now);
        self.held = self.held.saturating_add(demand.growth);
        self.margin = self.margin.saturating_add(demand.margin);
        self.speed = self.speed.saturating_add(demand.speed);
        self.running += 1;
    }

    /// A running call, which holds `held`, has used so much. Gives what it holds now: one that
    /// outgrows its prediction takes `chunk` more, so that the next call sees it coming.
    pub fn use_up(&mut self, units: i64, held: i64, chunk: i64) -> i64 {
        self.level = self.level.saturating_add(units);
        let left = held - units;
        let left = if left > 0 { left } else { chunk };
        self.held = self.held.saturating_add(left - held);
        left
    }

    /// What was used after all was not.
    pub fn give_back(&mut self, units: i64) {
        self.level = self.level.saturating_sub(units).max(0);
    }

    /// The call is over: what it held goes, and the count is set right by `correction`.
    pub fn leave(&mut self, held: i64, margin: i64, speed: i64, correction: i64) {
        self.margin = (self.margin - margin).max(0);
        self.held = (self.held - held).max(0);
        self.speed = (self.speed - speed).max(0);
        self.running = self.running.saturating_sub(1);
        self.level = self.level.saturating_add(correction).max(0);
    }

    /// Used and not refilled; above the capacity it is debt.
    pub fn level(&self) -> i64 {
        self.level
    }

    pub fn held(&self) -> i64 {
        self.held.saturating_add(self.margin)
    }

    pub fn speed(&self) -> i64 {
        self.speed
    }

    pub fn running(&self) -> u32 {
        self.running
    }

    /// What is left for a call that begins now; never below zero.
    pub fn remaining(&self, shape: &Shape) -> i64 {
        match shape.refill {
            Refill::Running => (shape.capacity - i64::from(self.running)).max(0),
            _ => shape.capacity.saturating_sub(self.level).saturating_sub(self.held()).max(0),
        }
    }

    /// Nanoseconds until it is empty again, or the calendar turns.
    pub fn resets_in(&self, shape: &Shape, now: Moment) -> u64 {
        match &shape.refill {
            Refill::Steady { amount, per } => {
                let nanos = self.level.max(0) as u128 * u128::from(*per) / (*amount).max(1) as u128;
                u64::try_from(nanos).unwrap_or(u64::MAX)
            }
            Refill::Calendar(_) => ((self.resets - now.wall).max(0) as u64).saturating_mul(SECOND),
            Refill::Running => 0,
        }
    }

    /// As good as new: it may be forgotten.
    pub fn is_idle(&self) -> bool {
        self.level == 0 && self.running == 0
    }

    /// As it was before a restart.
    pub fn restore(&mut self, level: i64, resets: i64) {
        self.level = self.level.saturating_add(level);
        if resets > 0 {
            self.resets = resets;
        }
    }
}

#[cfg(test)]
mod tests;

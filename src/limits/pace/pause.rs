//! The time after a refusal: nothing goes until it is over, then one call tries the water.
//!
//! Only when that call was not refused do the others follow. A backend refuses at once or not at
//! all, so a probe that has not been refused for a while has got through: an answer that is not
//! streamed says so only at its end, and the others need not wait that long.
use super::SECOND;

/// Not refused for so long: let in.
const PATIENCE: u64 = 5 * SECOND;
/// The longest that a pause of our own lasts.
const LONGEST_OWN: u64 = 60 * SECOND;
/// The longest that we are told to wait and do.
const LONGEST_TOLD: u64 = 86_400 * SECOND;

#[derive(Debug)]
pub(super) struct Pause {
    stage: Stage,
    /// Calls from this number on were sent after the last refusal was heard.
    since: u64,
    /// Refusals in a row, each of a call sent after the one before was heard.
    streak: u32,
    random: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    Until(u64),
    Probing { order: u64, at: u64 },
}

impl Pause {
    pub(super) fn new(seed: u64) -> Self {
        Self { stage: Stage::Open, since: 0, streak: 0, random: seed }
    }

    /// Whether a call may go; else when to ask again.
    pub(super) fn over(&self, now: u64) -> Result<(), u64> {
        match self.stage {
            Stage::Until(until) if now < until => Err(until),
            Stage::Probing { at, .. } if now < at.saturating_add(PATIENCE) => {
                Err(at.saturating_add(PATIENCE))
            }
            _ => Ok(()),
        }
    }

    /// The end of the pause, while it lasts.
    pub(super) fn until(&self, now: u64) -> Option<u64> {
        match self.stage {
            Stage::Until(until) if now < until => Some(until),
            _ => None,
        }
    }

    pub(super) fn probing(&self) -> bool {
        matches!(self.stage, Stage::Probing { .. })
    }

    pub(super) fn sent(&mut self, order: u64, now: u64) {
        match self.stage {
            Stage::Until(until) if now >= until => self.stage = Stage::Probing { order, at: now },
            Stage::Probing { at, .. } if now >= at.saturating_add(PATIENCE) => {
                self.stage = Stage::Open;
            }
            _ => {}
        }
    }

    /// Not refused.
    pub(super) fn passed(&mut self, order: u64) {
        if order >= self.since {
            self.streak = 0;
        }
        if matches!(self.stage, Stage::Probing { order: probe, .. } if probe == order) {
            self.stage = Stage::Open;
        }
    }

    /// Over before its answer came: it tried nothing out, the next call does.
    pub(super) fn lost(&mut self, order: u64, now: u64) {
        if matches!(self.stage, Stage::Probing { order: probe, .. } if probe == order) {
            self.stage = Stage::Until(now);
        }
    }

    /// Refused. For as long as we were told, else for 1, 2, 4, … seconds, spread by a quarter each
    /// way. Says whether the call was sent after the last refusal was heard: whether it is news.
    pub(super) fn refused(&mut self, order: u64, next: u64, told: Option<u64>, now: u64) -> bool {
        let news = order >= self.since;
        let length = match told {
            Some(told) => told.min(LONGEST_TOLD),
            None => self.own(),
        };
        if news {
            self.streak = self.streak.saturating_add(1);
            self.since = next;
        }
        let until = now.saturating_add(length);
        self.stage = Stage::Until(self.until(now).map_or(until, |before| before.max(until)));
        news
    }

    fn own(&mut self) -> u64 {
        let doubled = SECOND << self.streak.min(6);
        let spread = 750 + self.draw() % 500;
        (doubled / 1000 * spread).min(LONGEST_OWN)
    }

    /// `SplitMix64` (Steele, Lea, Flood 2014).
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

//! How many calls at once, where a backend refuses and no header says why: additive increase,
//! multiplicative decrease (Chiu and Jain 1989, as in TCP).
//!
//! There is no width until the first refusal, so a backend that never refuses is never slowed. It
//! fades: after two minutes without a refusal it doubles every half minute, until it is so wide that
//! it is none.
use super::{SECOND, seconds};

const CUT: f64 = 0.7;
/// One crowd is refused once, however many of its calls are.
const CUT_EVERY: u64 = 2 * SECOND;
const QUIET: u64 = 120 * SECOND;
const DOUBLES_EVERY: f64 = 30.0;
/// As good as none.
const WIDEST: f64 = 1e6;

#[derive(Debug, Default)]
pub(super) struct Width(Option<Cut>);

#[derive(Debug, Clone, Copy)]
struct Cut {
    width: f64,
    at: u64,
}

impl Width {
    /// Calls at once, at least one; `None`: as many as there are.
    pub(super) fn at(&self, now: u64) -> Option<f64> {
        let cut = self.0?;
        let quiet = seconds(now.saturating_sub(cut.at).saturating_sub(QUIET));
        let width = cut.width * (quiet / DOUBLES_EVERY).exp2();
        (width < WIDEST).then_some(width)
    }

    pub(super) fn passed(&mut self, now: u64) {
        let wide = self.at(now);
        self.0 = self.0.zip(wide).map(|(cut, wide)| Cut { width: cut.width + 1.0 / wide, ..cut });
    }

    pub(super) fn refused(&mut self, in_flight: u32, now: u64) {
        if self.0.is_some_and(|cut| now < cut.at.saturating_add(CUT_EVERY)) {
            return;
        }
        // a width that was not filled has not been tried
        let tried = f64::from(in_flight);
        let width = self.at(now).map_or(tried, |width| width.min(tried));
        self.0 = Some(Cut { width: (width * CUT).max(1.0), at: now });
    }
}

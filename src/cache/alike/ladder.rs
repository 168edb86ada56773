//! The least likeness that a policy serves at: it rises by what was learnt, and never falls alone.
//!
//! Rungs stand every half hundredth of cosine. A trial counts on each rung that is not above its
//! similarity. A rung on which hits are shown to be wrong too often is broken, and the one above it
//! is looked at, with all that is known of it already. Rungs are tested in a fixed order, each only
//! when all below it are broken: the chance that the first good one is ever broken is one test's,
//! [`DOUBT`], however many rungs there are (fixed-sequence testing, as in Angelopoulos and others,
//! "Learn then Test", arXiv 2110.01052). Above the last rung nothing is served.
use std::collections::BTreeMap;

use super::betting::{Interval, Labels};

/// The chance that a rung breaks that should not. A rise without need costs hits, not answers.
pub const DOUBT: f64 = 0.1;
/// The chance that an interval is wrong at any time.
const INTERVAL_DOUBT: f64 = 0.05;
/// Rungs from 0 to 1.
const RUNGS: u16 = 200;
/// What rounding to eight bits may take from a cosine of one.
pub const ROUNDING: f64 = 1e-4;
/// Shares explored that differ; each reload may bring one. Trials at more are not counted.
const MOST_PROPENSITIES: usize = 64;
/// Rungs that are told.
const MOST_SHOWN: usize = 41;

/// What was learnt of one policy.
#[derive(Debug, Default)]
pub struct Ladder {
    /// Trials by the rung below their similarity.
    trials: BTreeMap<u16, Labels>,
    /// The lowest rung that is not broken.
    risen: u16,
}

impl Ladder {
    /// The least similarity that is served at; infinite when nothing is.
    pub fn threshold(&self, configured: f64) -> f64 {
        match self.risen {
            0 => configured,
            rung if rung > RUNGS => f64::INFINITY,
            rung => configured.max(f64::from(rung) / f64::from(RUNGS)),
        }
    }

    /// A trial came back. The new threshold, if it has risen.
    pub fn label(&mut self, trial: &Label, configured: f64, most: f64) -> Option<f64> {
        let labels = self.trials.entry(rung(trial.similarity)).or_default();
        if labels.kinds() >= MOST_PROPENSITIES && !labels.knows(trial.propensity) {
            return None;
        }
        labels.add(trial.propensity, trial.wrong);
        let from = self.risen.max(rung(configured));
        let mut to = from;
        while to <= RUNGS && self.from(to).above(most, DOUBT) {
            to += 1;
        }
        (to > from).then(|| {
            self.risen = to;
            self.threshold(configured)
        })
    }

    /// How often hits are wrong at the threshold in force.
    pub fn wrong(&self, configured: f64) -> Interval {
        self.from(self.risen.max(rung(configured))).interval(INTERVAL_DOUBT)
    }

    /// What each rung from the configured one on has come to. `hits`: by the rung below their
    /// similarity.
    pub fn curve(&self, configured: f64, hits: &BTreeMap<u16, u64>) -> Vec<Rung> {
        let least = rung(configured).min(RUNGS);
        let step = usize::from(RUNGS - least) / (MOST_SHOWN - 1) + 1;
        let rungs = (least..=RUNGS).step_by(step).map(|at| {
            let labels = self.from(at);
            Rung {
                threshold: f64::from(at) / f64::from(RUNGS),
                would: hits.range(at..).map(|(_, count)| count).sum(),
                compared: labels.count(),
                wrong: labels.interval(INTERVAL_DOUBT),
            }
        });
        rungs.collect()
    }

    fn from(&self, rung: u16) -> Labels {
        let mut all = Labels::default();
        self.trials.range(rung..).for_each(|(_, labels)| all.join(labels));
        all
    }
}

/// What hits at a threshold would have come to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rung {
    pub threshold: f64,
    /// Hits at it or above, given or not.
    pub would: u64,
    /// Of these, compared with what upstream answered.
    pub compared: u64,
    pub wrong: Interval,
}

/// What a trial said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Label {
    pub similarity: f64,
    pub propensity: f64,
    pub wrong: bool,
}

pub fn rung(similarity: f64) -> u16 {
    let at = (similarity.clamp(0.0, 1.0) + ROUNDING) * f64::from(RUNGS);
    at as u16
}

#[cfg(test)]
mod tests;

//! How often hits are wrong, told from a sample of them, at any time and without a plan.
//!
//! Each labelled trial multiplies the wealth of a gambler who bets that the rate of wrong hits is
//! above (or below) some `m`. If it is not, the wealth grows past `1/δ` with a chance of `δ` at most,
//! however often and whenever one looks (Ville's inequality). Waudby-Smith and Ramdas, "Estimating
//! means of bounded random variables by betting" (JRSS B 86, 2024); with the chance that a hit was
//! sent upstream as its inverse weight: Waudby-Smith, Wu, Ramdas, Karampatziakis and Mineiro,
//! "Anytime-valid off-policy inference for contextual bandits" (ACM/IMS J. Data Science 1, 2024).
//!
//! A bet on one trial is `1 + λ (wrong − m) / propensity`: hits without a label say nothing, and one
//! that was drawn at 5 % speaks for twenty. `λ` is not tuned: the wealth is the mean over a fixed set
//! of bets. So counts by propensity are all that must be kept, and nothing is kept for any `m`.
use std::collections::BTreeMap;

/// Bets of a mixture, each half of the one before.
const BETS: i32 = 12;
/// Share of the wealth that the boldest bet puts at risk.
const BOLDEST: f64 = 0.9;

/// Labelled trials by propensity.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Labels(BTreeMap<u64, Count>);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Count {
    wrong: u64,
    right: u64,
}

/// What is known of a rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// `None`: no label yet.
    pub estimate: Option<f64>,
    pub low: f64,
    pub high: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claim {
    Above,
    Below,
}

impl Labels {
    /// One more; `propensity` is in (0, 1], and was settled before the hit was.
    pub fn add(&mut self, propensity: f64, wrong: bool) {
        // bits of positive floats are in the order of the floats
        let count = self.0.entry(propensity.to_bits()).or_default();
        *(if wrong { &mut count.wrong } else { &mut count.right }) += 1;
    }

    pub fn count(&self) -> u64 {
        self.0.values().map(|count| count.wrong + count.right).sum()
    }

    pub fn join(&mut self, other: &Self) {
        for (propensity, more) in &other.0 {
            let count = self.0.entry(*propensity).or_default();
            count.wrong += more.wrong;
            count.right += more.right;
        }
    }

    /// Propensities that differ.
    pub fn kinds(&self) -> usize {
        self.0.len()
    }

    pub fn knows(&self, propensity: f64) -> bool {
        self.0.contains_key(&propensity.to_bits())
    }

    /// Whether the rate is above `most`. Says so in error with a chance of `delta` at most, over all
    /// times that it is asked.
    pub fn above(&self, most: f64, delta: f64) -> bool {
        self.wealth(Claim::Above, most) >= -delta.ln()
    }

    /// The rate of wrong hits, and where it lies at all times at once but for a chance of `delta`.
    pub fn interval(&self, delta: f64) -> Interval {
        let (mut weight, mut wrong) = (0.0, 0.0);
        for (propensity, count) in self.parts() {
            weight += (count.wrong + count.right) as f64 / propensity;
            wrong += count.wrong as f64 / propensity;
        }
        let estimate = (weight > 0.0).then(|| wrong / weight);
        // each wealth is monotone in the rate it bets against
        let enough = -(delta / 2.0).ln();
        let low = edge(|rate| self.wealth(Claim::Above, rate) >= enough);
        let high = 1.0 - edge(|rate| self.wealth(Claim::Below, 1.0 - rate) >= enough);
        Interval { estimate, low, high }
    }

    fn parts(&self) -> impl Iterator<Item = (f64, Count)> {
        self.0.iter().map(|(bits, count)| (f64::from_bits(*bits), *count))
    }

    /// The logarithm of what one has become.
    fn wealth(&self, claim: Claim, rate: f64) -> f64 {
        let odds = (1.0 - rate) / rate;
        let logs = (0..BETS).map(|nth| {
            let bet = BOLDEST * 0.5_f64.powi(nth);
            let parts = self.parts().map(|(propensity, count)| {
                // never more than can be paid; known before the hit, so it stays a fair bet
                let risk = (bet / propensity).min(BOLDEST);
                let (lose, wrong, right) =
                    ((1.0 - risk).ln(), count.wrong as f64, count.right as f64);
                match claim {
                    Claim::Above => wrong * (risk * odds).ln_1p() + right * lose,
                    Claim::Below => right * (risk / odds).ln_1p() + wrong * lose,
                }
            });
            parts.sum::<f64>()
        });
        mean(&logs.collect::<Vec<_>>())
    }
}

/// The logarithm of the mean of what these are the logarithms of.
fn mean(logs: &[f64]) -> f64 {
    let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logs.iter().map(|log| (log - most).exp()).sum();
    most + (sum / logs.len() as f64).ln()
}

/// Up to where in (0, 1) something holds that holds up to somewhere; on its safe side.
fn edge(holds: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..24 {
        let middle = f64::midpoint(low, high);
        *(if holds(middle) { &mut low } else { &mut high }) = middle;
    }
    low
}

#[cfg(test)]
pub mod tests;

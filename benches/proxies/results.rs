//! Figures by peer and measure, one for each round, and what is made of them.
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub struct Results(BTreeMap<(&'static str, String), Vec<f64>>);

impl Results {
    pub fn add(&mut self, peer: &'static str, measure: &str, value: f64) {
        self.0.entry((peer, measure.to_owned())).or_default().push(value);
    }

    /// Of all rounds, in their order.
    pub fn rounds(&self, peer: &str, measure: &str) -> &[f64] {
        let found = self.0.iter().find(|((p, m), _)| *p == peer && m == measure);
        found.map_or(&[], |(_, values)| values)
    }

    pub fn median(&self, peer: &str, measure: &str) -> Option<f64> {
        median(self.rounds(peer, measure).to_vec())
    }

    /// The median of `combine(own, other's)` over the rounds. Round by round, because what the
    /// machine does beside us changes more from one to the next than within one.
    pub fn against(
        &self,
        peer: &str,
        other: &str,
        measure: &str,
        combine: fn(f64, f64) -> f64,
    ) -> Option<f64> {
        median(self.each_against(peer, other, measure, combine))
    }

    /// The same for each round.
    pub fn each_against(
        &self,
        peer: &str,
        other: &str,
        measure: &str,
        combine: fn(f64, f64) -> f64,
    ) -> Vec<f64> {
        let (own, others) = (self.rounds(peer, measure), self.rounds(other, measure));
        own.iter().zip(others).map(|(&own, &other)| combine(own, other)).collect()
    }

    /// How far the rounds of one figure lie apart, as a part of their median.
    pub fn spread(&self, peer: &str, measure: &str) -> Option<f64> {
        let rounds = self.rounds(peer, measure);
        let high = rounds.iter().copied().reduce(f64::max)?;
        let low = rounds.iter().copied().reduce(f64::min)?;
        Some((high - low) / self.median(peer, measure)?)
    }

    pub fn json(&self) -> serde_json::Value {
        let mut peers = serde_json::Map::new();
        for ((peer, measure), rounds) in &self.0 {
            let of_peer = peers.entry(*peer).or_insert_with(|| serde_json::json!({}));
            of_peer[measure] = serde_json::json!(rounds);
        }
        peers.into()
    }
}

pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

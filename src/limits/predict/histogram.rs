//! A histogram that forgets slowly, and knows one of its quantiles at any time.
//!
//! Four buckets an octave, as in an HDR histogram with two bits of precision: values below four have
//! their own, the last holds all from 2²⁰ on. Each sample weighs 1/0.99 of the one before it, which
//! is the same as fading all older ones by 0.99, but touches one bucket; weights are scaled down long
//! before a float ends. The quantile's bucket moves along with the samples: a step or two, no search.

/// Buckets: four below 4, and four for each octave from 2² to 2²⁰.
const BUCKETS: usize = 4 + 4 * 18 + 1;

/// What is left of a sample's weight after the next one.
const FADE: f32 = 0.99;
const GROW: f32 = 1.0 / FADE;

/// Weights are scaled down when the next would be above; far from the end of `f32`.
const HEAVY: f32 = 1e12;

/// A quantile of `PERCENT`.
#[derive(Debug)]
pub(super) struct Histogram<const PERCENT: u8> {
    weights: [f32; BUCKETS],
    /// Of all buckets.
    total: f32,
    /// Of the buckets before `at`.
    below: f32,
    /// Of the next sample.
    next: f32,
    /// Where the quantile is.
    at: usize,
    samples: u64,
}

impl<const PERCENT: u8> Default for Histogram<PERCENT> {
    fn default() -> Self {
        let weights = [0.0; BUCKETS];
        Self { weights, total: 0.0, below: 0.0, next: 1.0, at: 0, samples: 0 }
    }
}

impl<const PERCENT: u8> Histogram<PERCENT> {
    /// All that were ever added.
    pub(super) fn samples(&self) -> u64 {
        self.samples
    }

    /// The smallest and the largest value of the bucket where the quantile is. Nothing for no
    /// samples.
    pub(super) fn quantile(&self) -> Option<(u64, u64)> {
        (self.samples > 0).then(|| (least(self.at), least(self.at + 1) - 1))
    }

    pub(super) fn add(&mut self, value: u64) {
        if self.next > HEAVY {
            self.scale_down();
        }
        let bucket = bucket(value);
        self.weights[bucket] += self.next;
        self.total += self.next;
        if bucket < self.at {
            self.below += self.next;
        }
        self.next *= GROW;
        self.samples += 1;
        self.settle();
    }

    /// Moves to the first bucket up to whose end there is enough.
    fn settle(&mut self) {
        let enough = self.total * const { PERCENT as f32 / 100.0 };
        while self.at > 0 && self.below >= enough {
            self.at -= 1;
            self.below -= self.weights[self.at];
        }
        if self.at == 0 {
            // exactly, whatever rounding has left
            self.below = 0.0;
        }
        while self.at < BUCKETS - 1 && self.below + self.weights[self.at] < enough {
            self.below += self.weights[self.at];
            self.at += 1;
        }
    }

    /// Sums are made anew, so that no rounding gathers in them.
    fn scale_down(&mut self) {
        for weight in &mut self.weights {
            *weight /= self.next;
        }
        self.next = 1.0;
        self.total = self.weights.iter().sum();
        self.below = self.weights[..self.at].iter().sum();
    }
}

fn bucket(value: u64) -> usize {
    let Some(octave) = value.checked_ilog2().filter(|octave| *octave >= 2) else {
        return value as usize;
    };
    let quarter = (value >> (octave - 2)) & 3;
    (4 * (octave as usize - 1) + quarter as usize).min(BUCKETS - 1)
}

/// The smallest value of a bucket.
fn least(bucket: usize) -> u64 {
    let (octave, quarter) = (bucket as u64 / 4, bucket as u64 % 4);
    if octave == 0 { quarter } else { (4 + quarter) << (octave - 1) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buckets_are_a_quarter_of_an_octave_wide() {
        for value in 0..1 << 21 {
            let bucket = bucket(value);
            assert!(least(bucket) <= value, "{value}");
            assert!(value < least(bucket + 1) || bucket == BUCKETS - 1, "{value}");
        }
        assert_eq!(least(BUCKETS - 1), 1 << 20);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn it_knows_the_quantile() {
        let mut histogram = Histogram::<80>::default();
        assert_eq!(histogram.quantile(), None);
        (0..79).for_each(|_| histogram.add(100));
        (0..21).for_each(|_| histogram.add(3000));
        // the newest weigh more
        assert_eq!(histogram.quantile(), Some((2560, 3071)));
        let mut histogram = Histogram::<80>::default();
        (0..100).for_each(|number| histogram.add(if number % 10 == 0 { 3000 } else { 100 }));
        assert_eq!(histogram.quantile(), Some((96, 111)));
    }

    #[test]
    fn it_forgets_and_does_so_without_end() {
        let mut histogram = Histogram::<80>::default();
        (0..10_000).for_each(|_| histogram.add(100_000));
        assert_eq!(histogram.quantile(), Some((98_304, 114_687)));
        // the new ones are four fifths of all after 161: 0.99^160 = 0.2003, 0.99^161 = 0.1983
        (0..160).for_each(|_| histogram.add(7));
        assert_eq!(histogram.quantile(), Some((98_304, 114_687)));
        (0..2).for_each(|_| histogram.add(7));
        assert_eq!(histogram.quantile(), Some((7, 7)));
        (0..1_000_000).for_each(|_| histogram.add(50));
        assert_eq!(histogram.quantile(), Some((48, 55)));
        assert!(histogram.total.is_finite() && histogram.next <= HEAVY / FADE);
        assert_eq!(histogram.samples(), 1_010_162);
    }

    /// As it is defined: every sample fades all before it.
    fn by_definition(values: &[u64]) -> [f64; BUCKETS] {
        let mut weights = [0.0; BUCKETS];
        for value in values {
            weights = weights.map(|weight| weight * f64::from(FADE));
            weights[bucket(*value)] += 1.0;
        }
        weights
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_definition(
            shapes in prop::collection::vec((0..22_u32, 0..4_u64), 1..6),
            picks in prop::collection::vec(0..6_usize, 1..6000),
        ) {
            let value = |pick: usize| {
                let (octave, quarter) = shapes[pick % shapes.len()];
                (4 + quarter) << octave
            };
            let values: Vec<_> = picks.into_iter().map(value).collect();
            let mut histogram = Histogram::<80>::default();
            for value in &values {
                histogram.add(*value);
            }
            let weights = by_definition(&values);
            let share = |end: usize| {
                weights[..end].iter().sum::<f64>() / weights.iter().sum::<f64>()
            };
            prop_assert!(share(histogram.at) < 0.8 + 1e-4, "too far: {}", histogram.at);
            prop_assert!(share(histogram.at + 1) > 0.8 - 1e-4, "not far enough: {}", histogram.at);
        }
    }
}

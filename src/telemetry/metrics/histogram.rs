//! Histograms of plain integers, with fixed buckets and no allocation.
//!
//! Values are whole nanoseconds or tokens; the unit of the metric comes in at scrape. Each bucket
//! counts alone; a scrape sums them up. The buckets of `gen_ai_*` are
//! those that the `OpenTelemetry` conventions advise.
use std::time::Duration;

use super::Seen;

const MAX_BOUNDS: usize = 16;
const NANOS: f64 = 1e9;

/// Upper bounds of a histogram's buckets, inclusive and ascending, and how many make one unit.
#[derive(Debug)]
pub(super) struct Buckets {
    bounds: &'static [u64],
    per_unit: f64,
}

impl Buckets {
    /// In the unit of the metric.
    pub(super) fn bounds(&self) -> impl Iterator<Item = f64> {
        self.bounds.iter().map(|bound| *bound as f64 / self.per_unit)
    }
}

/// A call of a model: 5 ms to 10 minutes.
pub(super) static CALL: Buckets = Buckets {
    bounds: &micros([
        5_000,
        10_000,
        25_000,
        50_000,
        100_000,
        250_000,
        500_000,
        1_000_000,
        2_500_000,
        5_000_000,
        10_000_000,
        30_000_000,
        60_000_000,
        120_000_000,
        300_000_000,
        600_000_000,
    ]),
    per_unit: NANOS,
};

/// Our own work: 5 µs to 50 ms.
pub(super) static OVERHEAD: Buckets = Buckets {
    bounds: &micros([5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000]),
    per_unit: NANOS,
};

/// Waiting for a place; the first bucket is "hardly waited".
pub(super) static QUEUE: Buckets = Buckets {
    bounds: &micros([
        100, 1_000, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
        10_000_000, 30_000_000, 60_000_000,
    ]),
    per_unit: NANOS,
};

/// A task in the queue: nobody waits for it, and it may wait for a day.
pub(super) static TASK_WAIT: Buckets = Buckets {
    bounds: &micros([
        1_000,
        10_000,
        100_000,
        1_000_000,
        5_000_000,
        15_000_000,
        60_000_000,
        300_000_000,
        900_000_000,
        3_600_000_000,
        14_400_000_000,
        86_400_000_000,
    ]),
    per_unit: NANOS,
};

/// A session of an agent: a second to a day.
pub(super) static RUN: Buckets = Buckets {
    bounds: &micros([
        1_000_000,
        5_000_000,
        15_000_000,
        60_000_000,
        300_000_000,
        900_000_000,
        1_800_000_000,
        3_600_000_000,
        7_200_000_000,
        14_400_000_000,
        43_200_000_000,
        86_400_000_000,
    ]),
    per_unit: NANOS,
};

pub(super) static GEN_AI_DURATION: Buckets = Buckets {
    bounds: &micros([
        10_000, 20_000, 40_000, 80_000, 160_000, 320_000, 640_000, 1_280_000, 2_560_000, 5_120_000,
        10_240_000, 20_480_000, 40_960_000, 81_920_000,
    ]),
    per_unit: NANOS,
};

pub(super) static GEN_AI_TOKENS: Buckets = Buckets {
    bounds: &[
        1, 4, 16, 64, 256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216,
        67_108_864,
    ],
    per_unit: 1.0,
};

pub(super) static GEN_AI_FIRST_TOKEN: Buckets = Buckets {
    bounds: &micros([
        1_000, 5_000, 10_000, 20_000, 40_000, 60_000, 80_000, 100_000, 250_000, 500_000, 750_000,
        1_000_000, 2_500_000, 5_000_000, 7_500_000, 10_000_000,
    ]),
    per_unit: NANOS,
};

pub(super) static GEN_AI_PER_TOKEN: Buckets = Buckets {
    bounds: &micros([
        10_000, 25_000, 50_000, 75_000, 100_000, 150_000, 200_000, 300_000, 400_000, 500_000,
        750_000, 1_000_000, 2_500_000,
    ]),
    per_unit: NANOS,
};

/// Bounds are written in microseconds and kept in nanoseconds.
const fn micros<const N: usize>(mut bounds: [u64; N]) -> [u64; N] {
    assert!(N <= MAX_BOUNDS);
    let mut at = 0;
    while at < N {
        bounds[at] *= 1000;
        at += 1;
    }
    bounds
}

/// Counts by bucket, and the sum.
#[derive(Debug, Clone)]
pub(in crate::telemetry) struct Histogram {
    buckets: &'static Buckets,
    counts: [u64; MAX_BOUNDS + 1],
    // Ten thousand streams at once would overflow 64 bits of nanoseconds in three weeks.
    sum: u128,
    /// Of each bucket the last value that a trace tells of; made with the first of them.
    exemplars: Option<Box<[Option<Exemplar>; MAX_BOUNDS + 1]>>,
}

/// A value, and the trace of the call that it was seen in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::telemetry) struct Exemplar {
    /// Nanoseconds or tokens.
    pub value: u64,
    pub seen: Seen,
}

impl Histogram {
    pub(super) const fn new(buckets: &'static Buckets) -> Self {
        Self { buckets, counts: [0; MAX_BOUNDS + 1], sum: 0, exemplars: None }
    }

    pub(super) fn observe(&mut self, value: u64) {
        let bucket = self.buckets.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
            self.sum += u128::from(value);
        }
    }

    pub(super) fn observe_time(&mut self, time: Duration) {
        self.observe(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// The same of a call, whose trace it keeps where there is one.
    pub(super) fn observe_seen(&mut self, time: Duration, seen: Option<&Seen>) {
        self.observe_time(time);
        let Some(seen) = seen else { return };
        let value = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let bucket = self.buckets.bounds.partition_point(|bound| *bound < value);
        let exemplars = self.exemplars.get_or_insert_with(|| Box::new([None; MAX_BOUNDS + 1]));
        if let Some(place) = exemplars.get_mut(bucket) {
            *place = Some(Exemplar { value, seen: *seen });
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.sum += other.sum;
        let Some(theirs) = &other.exemplars else { return };
        let mine = self.exemplars.get_or_insert_with(|| Box::new([None; MAX_BOUNDS + 1]));
        for (mine, theirs) in mine.iter_mut().zip(theirs.iter()) {
            let time = |of: &Option<Exemplar>| of.map(|exemplar| exemplar.seen.unix_nanos);
            if time(theirs) > time(mine) {
                *mine = *theirs;
            }
        }
    }

    /// Of the bucket at that place.
    pub(in crate::telemetry) fn exemplar(&self, at: usize) -> Option<&Exemplar> {
        self.exemplars.as_ref()?.get(at)?.as_ref()
    }

    /// A value as it was observed, in the unit of the metric.
    pub(in crate::telemetry) fn in_unit(&self, value: u64) -> f64 {
        value as f64 / self.buckets.per_unit
    }

    pub(in crate::telemetry) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// By bucket, one more than there are bounds.
    pub(super) fn counts(&self) -> &[u64] {
        &self.counts[..=self.buckets.bounds.len()]
    }

    /// In the unit of the metric.
    pub(in crate::telemetry) fn sum(&self) -> f64 {
        self.sum as f64 / self.buckets.per_unit
    }

    /// Upper bound in the unit of the metric, and the count of that bucket alone.
    pub(in crate::telemetry) fn buckets(&self) -> Vec<(f64, u64)> {
        self.buckets.bounds().chain([f64::INFINITY]).zip(self.counts).collect()
    }
}

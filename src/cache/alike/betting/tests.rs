use super::*;

/// A fair die, the same in each run: splitmix64.
pub struct Die(pub u64);

impl Die {
    pub fn throw(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

const RUNS: u64 = 200;

/// Share of streams of hits in which something is ever true of the labels. Each hit is labelled with
/// its propensity, as `propensity` says by its number; a label is wrong at `rate`.
fn share(
    hits: u32,
    rate: f64,
    propensity: fn(u32) -> f64,
    mut ever: impl FnMut(&Labels) -> bool,
) -> f64 {
    let broken = (0..RUNS).filter(|run| {
        let mut die = Die(run * 1_000_003);
        let mut labels = Labels::default();
        (0..hits).any(|hit| {
            let propensity = propensity(hit);
            let labelled = die.throw() < propensity;
            let wrong = die.throw() < rate;
            labelled && {
                labels.add(propensity, wrong);
                ever(&labels)
            }
        })
    });
    broken.count() as f64 / RUNS as f64
}

/// All first, then few, then more.
fn changing(hit: u32) -> f64 {
    match hit {
        0..200 => 1.0,
        200..2_000 => 0.05,
        _ => 0.25,
    }
}

#[test]
fn a_rate_that_is_kept_to_is_called_broken_no_oftener_than_said() {
    for most in [0.02, 0.1] {
        for propensity in [changing as fn(u32) -> f64, |_| 1.0, |_| 0.05] {
            let broken = share(3_000, most, propensity, |labels| labels.above(most, 0.1));
            assert!(broken <= 0.1, "{broken} of the runs at {most}");
        }
    }
}

#[test]
fn a_rate_that_is_broken_is_noticed() {
    let noticed =
        |rate, hits, propensity| share(hits, rate, propensity, |labels| labels.above(0.02, 0.1));
    let all = |_| 1.0;
    let few = |_| 0.05;
    assert!(noticed(0.50, 12, all) > 0.95, "half are wrong: {}", noticed(0.50, 12, all));
    assert!(noticed(0.20, 60, all) > 0.95, "a fifth is: {}", noticed(0.20, 60, all));
    assert!(noticed(0.06, 500, all) > 0.9, "three times too many: {}", noticed(0.06, 500, all));
    assert!(noticed(0.20, 1_200, few) > 0.9, "by a sample: {}", noticed(0.20, 1_200, few));
}

#[test]
fn an_interval_holds_the_rate_at_all_times() {
    let enough = 40_f64.ln();
    for rate in [0.005, 0.03, 0.3, 0.9] {
        let missed = share(3_000, rate, changing, |labels| {
            let missed = [Claim::Above, Claim::Below]
                .into_iter()
                .any(|claim| labels.wealth(claim, rate) >= enough);
            // the interval is where neither wealth is enough; it takes longer to ask
            let asked = labels.0.values().map(|count| count.wrong + count.right).sum::<u64>();
            if asked % 250 == 0 {
                let Interval { low, high, .. } = labels.interval(0.05);
                assert_eq!(missed, rate < low || rate > high, "{low} {rate} {high}");
            }
            missed
        });
        assert!(missed <= 0.05, "{missed} of the runs at {rate}");
    }
}

#[test]
fn an_interval_closes_in() {
    let mut labels = Labels::default();
    let nothing = labels.interval(0.05);
    assert_eq!(nothing.estimate, None);
    assert!(nothing.low < 1e-6 && nothing.high > 1.0 - 1e-6, "{nothing:?}");
    for hit in 0..2_000 {
        labels.add(1.0, hit % 50 == 0);
    }
    let Interval { estimate, low, high } = labels.interval(0.05);
    assert_eq!(estimate, Some(0.02));
    assert!(low > 0.009 && high < 0.036, "{low} to {high}");
}

#[test]
fn an_estimate_weighs_by_what_a_label_stands_for() {
    let mut labels = Labels::default();
    for _ in 0..100 {
        labels.add(1.0, false);
    }
    for hit in 0..10 {
        labels.add(0.1, hit == 0);
    }
    let estimate = labels.interval(0.05).estimate.unwrap_or_default();
    assert!((estimate - 0.05).abs() < 1e-12, "ten of two hundred, not one of 110: {estimate}");
}

use proptest::prelude::*;

use super::super::betting::tests::Die;
use super::*;

const MOST: f64 = 0.02;

fn label(similarity: f64, wrong: bool) -> Label {
    Label { similarity, propensity: 1.0, wrong }
}

#[test]
fn it_rises_above_the_likeness_at_which_hits_are_wrong() {
    let mut ladder = Ladder::default();
    let mut die = Die(7);
    for _ in 0..3_000 {
        let similarity = 0.92 + die.throw() * 0.08;
        // below 0.96 a fifth is wrong, above none
        let wrong = similarity < 0.96 && die.throw() < 0.2;
        if similarity >= ladder.threshold(0.92) {
            ladder.label(&label(similarity, wrong), 0.92, MOST);
        }
    }
    let threshold = ladder.threshold(0.92);
    assert!((0.94..=0.96).contains(&threshold), "{threshold}");
    let Interval { low, high, .. } = ladder.wrong(0.92);
    assert!(low <= MOST && high < 0.05, "what is still served is right: {low} to {high}");
}

#[test]
fn a_ladder_on_which_all_is_right_stays() {
    let mut ladder = Ladder::default();
    for _ in 0..5_000 {
        assert_eq!(ladder.label(&label(0.95, false), 0.92, MOST), None);
    }
    assert!((ladder.threshold(0.92) - 0.92).abs() < f64::EPSILON);
}

#[test]
fn nothing_is_served_where_even_the_most_alike_are_wrong() {
    let mut ladder = Ladder::default();
    let risen: Vec<f64> =
        (0..50).filter_map(|_| ladder.label(&label(1.0, true), 0.92, MOST)).collect();
    assert_eq!(risen, [f64::INFINITY]);
    assert!(ladder.threshold(0.5).is_infinite());
}

#[test]
fn a_rung_broken_by_chance_is_as_rare_as_said() {
    let broken = (0..300).filter(|run| {
        let mut die = Die(run * 99_991);
        let mut ladder = Ladder::default();
        (0..1_500).any(|_| {
            let similarity = 0.92 + die.throw() * 0.08;
            let wrong = die.throw() < MOST;
            ladder.label(&label(similarity, wrong), 0.92, MOST).is_some()
        })
    });
    let share = broken.count() as f64 / 300.0;
    assert!(share <= DOUBT, "{share}");
}

proptest! {
    #[test]
    fn it_never_falls_alone(
        labels in prop::collection::vec((0.9..1.0_f64, 1..=4_u8, any::<bool>()), 1..200),
        reloads in prop::collection::vec(0.85..1.0_f64, 1..10),
    ) {
        let mut ladder = Ladder::default();
        let mut least = 0.0_f64;
        for (nth, (similarity, quarters, wrong)) in labels.into_iter().enumerate() {
            let configured = reloads[nth / 20 % reloads.len()];
            let propensity = f64::from(quarters) / 4.0;
            let risen = ladder.label(&Label { similarity, propensity, wrong }, configured, MOST);
            let threshold = ladder.threshold(configured);
            prop_assert!(risen.is_none_or(|risen| risen >= threshold && threshold > least));
            prop_assert!(threshold >= configured);
            // what was learnt holds whatever the policy says next
            least = least.max(risen.unwrap_or_default());
            prop_assert!(ladder.threshold(0.0) >= least - 1e-9 || least <= configured);
            prop_assert!(reloads.iter().all(|other| ladder.threshold(*other) >= *other));
        }
    }
}

#[test]
fn the_curve_tells_what_each_threshold_would_give() {
    let (mut ladder, mut hits) = (Ladder::default(), BTreeMap::new());
    for (similarity, wrong) in [(0.93, true), (0.96, false), (0.99, false)] {
        *hits.entry(rung(similarity)).or_default() += 2;
        ladder.label(&Label { similarity, propensity: 1.0, wrong }, 0.92, 1.0);
    }
    let curve = ladder.curve(0.92, &hits);
    assert_eq!(curve.len(), 17, "each half hundredth from there to one");
    let at = |rung: usize| (curve[rung].would, curve[rung].compared);
    assert_eq!([at(0), at(2), at(6), at(16)], [(6, 3), (6, 3), (4, 2), (0, 0)]);
    let estimates = [0, 6].map(|rung: usize| curve[rung].wrong.estimate.unwrap());
    assert!(estimates[0] > 0.3 && estimates[1] < 0.1, "{estimates:?}");
    assert!(curve[16].wrong.estimate.is_none());
    for configured in [0.0, 0.3, 0.8, 1.0] {
        let curve = ladder.curve(configured, &hits);
        assert!((1..=41).contains(&curve.len()), "{}", curve.len());
        assert!(curve.iter().all(|one| one.threshold >= configured - 0.005));
    }
}

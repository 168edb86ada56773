//! One bucket against its definition: what may be charged, and when.
use proptest::prelude::*;

use super::*;
use crate::config::Calendar;

fn at(nanos: u64) -> Moment {
    Moment { at: nanos, wall: 1_800_000_000 + (nanos / SECOND).cast_signed() }
}

fn steady(amount: i64, per: u64, capacity: i64, mode: Mode) -> Shape {
    Shape { refill: Refill::Steady { amount, per }, capacity, mode }
}

fn daily(capacity: i64, mode: Mode) -> Shape {
    Shape { refill: Refill::Calendar(Periods::new(Calendar::Day, "UTC")), capacity, mode }
}

fn now(units: i64) -> Demand {
    Demand { now: units, ..Demand::default() }
}

/// A bucket with so much in it.
fn filled(shape: &Shape, level: i64) -> Bucket {
    let mut bucket = Bucket::new(shape, at(0));
    bucket.enter(&now(level));
    bucket.leave(0, 0, 0, 0);
    bucket
}

#[test]
fn what_fits_and_for_how_long_it_does_not() {
    let soft = steady(10, SECOND, 100, Mode::Soft);
    let hard = steady(10, SECOND, 100, Mode::Hard);
    let grows = |now, growth, speed| Demand { margin: 0, now, growth, speed };
    let second = |n: u64| Err(Full::For(n * SECOND + 1));
    for (name, shape, level, running, demand, want) in [
        ("empty", &soft, 0, None, now(100), Ok(())),
        ("more than ever", &soft, 0, None, now(101), Err(Full::Never)),
        ("full", &soft, 60, None, now(50), second(1)),
        ("debt", &soft, 300, None, now(100), second(30)),
        ("only its prediction is too large", &soft, 0, None, grows(50, 500, 0), Ok(())),
        ("so it needs all of it", &soft, 10, None, grows(50, 500, 0), second(1)),
        // nothing is used that could refill
        ("and not beside another", &soft, 0, Some(now(0)), grows(50, 60, 0), Err(Full::UntilFree)),
        ("refill covers the growth", &soft, 40, Some(grows(0, 90, 5)), grows(60, 90, 5), Ok(())),
        ("half of the growth", &soft, 50, Some(grows(0, 50, 10)), grows(0, 50, 10), Ok(())),
        (
            "and one more",
            &soft,
            51,
            Some(grows(0, 50, 10)),
            grows(0, 51, 10),
            Err(Full::For(SECOND / 5 + 1)),
        ),
        ("hard counts all of it", &hard, 40, Some(grows(0, 30, 5)), grows(20, 20, 5), second(1)),
        ("hard can never", &hard, 0, None, grows(50, 51, 0), Err(Full::Never)),
    ] {
        let mut bucket = filled(shape, level);
        if let Some(running) = running {
            bucket.enter(&running);
        }
        assert_eq!(bucket.fits(shape, &demand, at(0)), want, "{name}");
    }
}

#[test]
fn places_are_free_when_calls_end() {
    let shape = Shape { refill: Refill::Running, capacity: 2, mode: Mode::Hard };
    let mut bucket = Bucket::new(&shape, at(0));
    for _ in 0..2 {
        assert_eq!(bucket.fits(&shape, &Demand::default(), at(0)), Ok(()));
        bucket.enter(&Demand::default());
    }
    bucket.refill(&shape, at(1000 * SECOND));
    assert_eq!(bucket.fits(&shape, &Demand::default(), at(0)), Err(Full::UntilFree));
    assert_eq!(bucket.remaining(&shape), 0);
    bucket.leave(0, 0, 0, 0);
    assert_eq!(bucket.fits(&shape, &Demand::default(), at(0)), Ok(()));
}

#[test]
fn a_calendar_turns_and_debt_goes_along() {
    let shape = daily(100, Mode::Soft);
    let day = 86_400 * SECOND;
    for (days, want) in [(0, 350), (1, 250), (2, 150), (3, 50), (4, 0), (400, 0)] {
        let mut bucket = filled(&shape, 350);
        bucket.refill(&shape, at(days * day));
        assert_eq!(bucket.level(), want, "after {days} days away");
        assert!(bucket.resets > at(days * day).wall);
        assert!(bucket.resets <= at((days + 1) * day).wall);
    }
    // by the day or all at once
    let mut bucket = filled(&shape, 350);
    (1..=3).for_each(|days| bucket.refill(&shape, at(days * day)));
    assert_eq!(bucket.level(), 50);
    // what runs on holds on
    bucket.enter(&Demand { margin: 0, now: 0, growth: 30, speed: 0 });
    bucket.refill(&shape, at(4 * day));
    assert_eq!((bucket.level(), bucket.held()), (0, 30));
}

#[test]
fn a_spent_calendar_says_when_it_turns() {
    let shape = daily(100, Mode::Hard);
    let mut bucket = filled(&shape, 90);
    let left = bucket.resets_in(&shape, at(0));
    assert_eq!(bucket.fits(&shape, &now(11), at(0)), Err(Full::For(left)));
    // one that runs may give it back sooner
    bucket.enter(&Demand { margin: 0, now: 0, growth: 10, speed: 0 });
    assert_eq!(bucket.fits(&shape, &now(10), at(0)), Err(Full::UntilFree));
    assert_eq!(bucket.fits(&shape, &now(11), at(0)), Err(Full::For(left)));
}

#[test]
fn what_hard_calls_hold_may_come_back_before_time_does() {
    let shape = steady(10, SECOND, 100, Mode::Hard);
    let mut bucket = Bucket::new(&shape, at(0));
    bucket.enter(&Demand { margin: 0, now: 90, growth: 10, speed: 0 });
    let Err(Full::For(nanos)) = bucket.fits(&shape, &now(60), at(0)) else { panic!() };
    assert_eq!(nanos, 6 * SECOND + 1);
    assert_eq!(bucket.wait_if_freed(&shape, nanos), 5 * SECOND + 1);
}

#[test]
fn a_large_hard_budget_is_exact() {
    // beyond what a float holds exactly
    let capacity = (1 << 54) + 1;
    let shape = daily(capacity, Mode::Hard);
    let bucket = Bucket::new(&shape, at(0));
    let grows = |growth| Demand { margin: 0, now: 0, growth, speed: 0 };
    assert_eq!(bucket.fits(&shape, &grows(capacity), at(0)), Ok(()));
    let mut bucket = Bucket::new(&shape, at(0));
    bucket.enter(&grows(1));
    assert!(bucket.fits(&shape, &grows(capacity), at(0)).is_err());
    assert_eq!(bucket.fits(&shape, &grows(capacity - 1), at(0)), Ok(()));
}

/// What happens to a bucket: time in nanoseconds, then what a call asks for and what it comes to.
#[derive(Debug, Clone)]
struct Step {
    pause: u64,
    demand: Demand,
    /// Of the growth, in hundredths.
    uses: i64,
    /// It ends before the next so many calls have come.
    lasts: usize,
}

fn steps(most_used: i64) -> impl Strategy<Value = Vec<Step>> {
    let pause = prop_oneof![Just(0), 0..SECOND, 0..30 * SECOND];
    let demand = (0..120_i64, 0..120_i64, 0..20_i64);
    let demand = demand.prop_map(|(now, growth, speed)| Demand { margin: 0, now, growth, speed });
    let step = (pause, demand, 0..=most_used, 0..5_usize);
    let step = step.prop_map(|(pause, demand, uses, lasts)| Step { pause, demand, uses, lasts });
    prop::collection::vec(step, 1..60)
}

/// Runs the steps. Gives every charge with its time, and what was charged beyond reservations.
fn run(shape: &Shape, steps: &[Step]) -> (Vec<(u64, i64)>, i64) {
    let mut bucket = Bucket::new(shape, at(0));
    let (mut time, mut charges, mut overrun) = (0, Vec::new(), 0);
    let mut running: Vec<(usize, Demand, i64)> = Vec::new();
    for (nth, step) in steps.iter().enumerate() {
        time += step.pause;
        bucket.refill(shape, at(time));
        running.retain(|(until, demand, uses)| {
            if *until > nth {
                return true;
            }
            let used = demand.growth * uses / 100;
            // half of it is counted on the way
            let held = bucket.use_up(used / 2, demand.growth, 0);
            bucket.leave(held, demand.margin, demand.speed, used - used / 2);
            charges.push((time, used));
            overrun += (used - demand.growth).max(0);
            false
        });
        assert!(bucket.level() >= 0 && bucket.held() >= 0);
        if bucket.fits(shape, &step.demand, at(time)).is_ok() {
            let alone = bucket.running() == 0;
            let whole = step.demand.now + step.demand.growth;
            if alone {
                // it may be larger than the bucket
                overrun += (whole - shape.capacity).max(0);
            }
            bucket.enter(&step.demand);
            charges.push((time, step.demand.now));
            running.push((nth + 1 + step.lasts, step.demand, step.uses));
        }
        if shape.mode == Mode::Hard {
            assert!(bucket.level() + bucket.held() <= shape.capacity);
        }
    }
    (charges, overrun)
}

/// The most that any window of time saw beyond its refill.
fn worst(charges: &[(u64, i64)], amount: i64, per: u64) -> i64 {
    let mut worst = 0;
    for (from, (begin, _)) in charges.iter().enumerate() {
        let mut sum = 0;
        for (end, units) in &charges[from..] {
            sum += units;
            let refill = u128::from(end - begin) * amount as u128 / u128::from(per);
            worst = worst.max(sum - refill as i64);
        }
    }
    worst
}

proptest! {
    #[test]
    fn what_is_known_before_never_exceeds_burst_and_refill(
        steps in steps(0), amount in 1..50_i64, capacity in 1..200_i64,
    ) {
        let shape = steady(amount, SECOND, capacity, Mode::Soft);
        let known: Vec<_> = steps.into_iter().map(|step| Step { demand: now(step.demand.now), ..step }).collect();
        let (charges, _) = run(&shape, &known);
        // one unit is on its way in the carry
        prop_assert!(worst(&charges, amount, SECOND) <= capacity + 1);
    }

    #[test]
    fn a_hard_limit_is_never_overrun(
        steps in steps(100), amount in 1..50_i64, capacity in 1..200_i64,
    ) {
        let shape = steady(amount, SECOND, capacity, Mode::Hard);
        let (charges, overrun) = run(&shape, &steps);
        prop_assert_eq!(overrun, 0);
        prop_assert!(worst(&charges, amount, SECOND) <= capacity + 1);
    }

    #[test]
    fn a_soft_limit_is_overrun_by_what_was_not_predicted(
        steps in steps(300), amount in 1..50_i64, capacity in 1..200_i64,
    ) {
        let shape = steady(amount, SECOND, capacity, Mode::Soft);
        // without speeds all that is held counts
        let still = |step: Step| Step { demand: Demand { speed: 0, ..step.demand }, ..step };
        let (charges, overrun) = run(&shape, &steps.into_iter().map(still).collect::<Vec<_>>());
        prop_assert!(worst(&charges, amount, SECOND) <= capacity + overrun + 1);
    }

    #[test]
    fn a_hard_budget_is_never_overrun(steps in steps(100), capacity in 1..500_i64) {
        let (charges, _) = run(&daily(capacity, Mode::Hard), &steps);
        // half an hour of one day
        prop_assert!(charges.iter().map(|(_, units)| units).sum::<i64>() <= capacity);
    }

    #[test]
    fn many_small_steps_refill_what_one_large_does(
        level in 0..1_000_000_i64, amount in 1..1_000_000_i64, per in 1..100 * SECOND,
        pauses in prop::collection::vec(0..SECOND, 1..50),
    ) {
        let shape = steady(amount, per, 100, Mode::Soft);
        let (mut small, mut large) = (filled(&shape, level), filled(&shape, level));
        let mut time = 0;
        for pause in pauses {
            time += pause;
            small.refill(&shape, at(time));
        }
        large.refill(&shape, at(time));
        let exact = u128::from(time) * amount as u128 / u128::from(per);
        prop_assert_eq!(small.level(), large.level());
        prop_assert_eq!(i128::from(small.level()), (i128::from(level) - exact.cast_signed()).max(0));
        // it is empty when it says so, and not a nanosecond sooner
        let rest = small.resets_in(&shape, at(time));
        let mut later = small.clone();
        later.refill(&shape, at(time + rest + 1));
        prop_assert_eq!(later.level(), 0);
    }

    #[test]
    fn it_fits_when_it_says_so(
        level in 0..1000_i64, amount in 1..100_i64, per in 1..10 * SECOND,
        demand in (0..100_i64, 0..100_i64), hard: bool,
    ) {
        let mode = if hard { Mode::Hard } else { Mode::Soft };
        let shape = steady(amount, per, 100, mode);
        let mut bucket = filled(&shape, level);
        let demand = Demand { margin: 0, now: demand.0, growth: demand.1, speed: 0 };
        if let Err(Full::For(nanos)) = bucket.fits(&shape, &demand, at(0)) {
            bucket.refill(&shape, at(nanos));
            prop_assert_eq!(bucket.fits(&shape, &demand, at(nanos)), Ok(()));
        }
    }

    #[test]
    fn calls_that_end_together_may_end_in_any_order(
        calls in prop::collection::vec((0..100_i64, 0..100_i64, 0..200_i64), 1..12), turn in 0..12_usize,
    ) {
        let shape = daily(100, Mode::Soft);
        let ends = |calls: &[(i64, i64, i64)], order: &[(i64, i64, i64)]| {
            let mut bucket = Bucket::new(&shape, at(0));
            for (now, growth, _) in calls {
                bucket.enter(&Demand { margin: 0, now: *now, growth: *growth, speed: 1 });
            }
            for (now, growth, used) in order {
                bucket.leave(*growth, 0, 1, used - now);
            }
            bucket
        };
        let mut other = calls.clone();
        other.rotate_left(turn % calls.len());
        other.reverse();
        let (one, two) = (ends(&calls, &calls), ends(&calls, &other));
        prop_assert_eq!(one.level(), calls.iter().map(|(_, _, used)| used).sum::<i64>());
        prop_assert_eq!(one.level(), two.level());
        for bucket in [one, two] {
            prop_assert_eq!((bucket.held, bucket.speed, bucket.running), (0, 0, 0));
        }
    }

    #[test]
    fn a_clock_that_goes_back_changes_nothing(level in 1..1000_i64, back in 0..100 * SECOND) {
        for shape in [steady(7, SECOND, 100, Mode::Soft), daily(100, Mode::Soft)] {
            let mut bucket = filled(&shape, level);
            let then = at(100 * SECOND);
            bucket.refill(&shape, then);
            let before = bucket.clone();
            bucket.refill(&shape, at(back));
            prop_assert_eq!((bucket.level, bucket.resets), (before.level, before.resets));
            // and the time that is lived twice refills once
            bucket.refill(&shape, then);
            prop_assert_eq!(bucket.level, before.level);
        }
    }

    #[test]
    fn no_amount_overflows(
        amount in 1..=i64::MAX, per in 1..=u64::MAX, capacity in 1..=i64::MAX,
        numbers in prop::collection::vec(prop_oneof![0..=i64::MAX, (i64::MAX - 2)..=i64::MAX, 0..=2_i64], 3..40),
        times in prop::collection::vec(any::<u64>(), 3..40), hard: bool,
    ) {
        let mode = if hard { Mode::Hard } else { Mode::Soft };
        for shape in [steady(amount, per, capacity, mode), daily(capacity, mode)] {
            let mut bucket = Bucket::new(&shape, at(0));
            let mut held = 0;
            for (three, time) in numbers.chunks_exact(3).zip(&times) {
                let demand = Demand { margin: 0, now: three[0], growth: three[1], speed: three[2] };
                bucket.refill(&shape, at(*time));
                if let Err(Full::For(nanos)) = bucket.fits(&shape, &demand, at(*time)) {
                    bucket.wait_if_freed(&shape, nanos);
                }
                bucket.enter(&demand);
                held = bucket.use_up(three[2], demand.growth, three[0]);
                prop_assert!(bucket.level() >= 0 && bucket.remaining(&shape) >= 0);
                bucket.resets_in(&shape, at(*time));
            }
            bucket.leave(held, 0, i64::MAX, -i64::MAX);
            prop_assert!(bucket.level() >= 0);
        }
    }
}

use proptest::prelude::*;

use super::*;

fn pressure(budget: u64) -> Arc<Pressure> {
    let pressure = Arc::new(Pressure::new(u64::MAX));
    pressure.set_budget(budget);
    pressure
}

#[test]
fn each_level_begins_at_its_percentage() {
    let pressure = pressure(1_000_000);
    let mut held = Vec::new();
    let mut at = |bytes: u64| {
        held.clear();
        held.push(pressure.hold(bytes));
        pressure.level()
    };
    assert_eq!(at(0), Level::Calm);
    assert_eq!((at(799_999), at(800_000)), (Level::Calm, Level::NoSharing));
    assert_eq!((at(899_999), at(900_000)), (Level::NoSharing, Level::NoExtras));
    assert_eq!((at(949_999), at(950_000)), (Level::NoExtras, Level::Urgent));
    assert_eq!((at(979_999), at(980_000)), (Level::Urgent, Level::Full));
    assert_eq!(at(5_000_000), Level::Full);
}

#[test]
fn a_level_gives_up_what_those_before_it_do() {
    let pressure = pressure(100);
    let may = |bytes| {
        let _held = pressure.hold(bytes);
        (pressure.may_share(), pressure.may_repeat())
    };
    assert_eq!(may(79), (true, true));
    assert_eq!(may(80), (false, true));
    assert_eq!(may(90), (false, false));
    assert_eq!(may(99), (false, false));
}

#[test]
fn the_largest_budget_overflows_nothing() {
    let pressure = Arc::new(Pressure::default());
    let _held = pressure.hold(1 << 50);
    assert_eq!(pressure.level(), Level::Calm);
    assert!(pressure.full() > u64::MAX / 100 * 97);
    assert!(pressure.try_hold(u64::MAX).is_none());
}

#[test]
fn nothing_is_taken_that_would_leave_no_room() {
    let pressure = pressure(1000);
    let first = pressure.try_hold(500).unwrap();
    assert!(pressure.try_hold(480).is_none(), "that would be full");
    let second = pressure.try_hold(479).unwrap();
    assert_eq!(pressure.used(), 979);
    drop(first);
    assert!(pressure.try_hold(480).is_some());
    drop(second);
    assert_eq!(pressure.used(), 0);
}

#[test]
fn what_does_not_fit_leaves_a_hold_as_it_was() {
    let pressure = pressure(10 * STEP);
    let mut held = pressure.try_hold(STEP).unwrap();
    assert!(held.try_grow_to(8 * STEP + 1));
    assert_eq!(held.bytes(), 9 * STEP);
    assert!(!held.try_grow_to(10 * STEP));
    assert_eq!((held.bytes(), pressure.used()), (9 * STEP, 9 * STEP));
    assert!(held.try_grow_to(1), "it never shrinks");
    assert_eq!(held.bytes(), 9 * STEP);
}

#[test]
fn small_pieces_are_counted_in_steps() {
    let pressure = pressure(1 << 20);
    let mut held = pressure.hold(0);
    held.set(1);
    assert_eq!(pressure.used(), STEP);
    held.set(STEP);
    assert_eq!(pressure.used(), STEP);
    held.set(STEP + 1);
    assert_eq!(pressure.used(), 2 * STEP);
    held.set(0);
    assert_eq!(pressure.used(), 0);
}

#[test]
fn holders_are_cut_from_overrun_until_there_is_room_again() {
    let pressure = pressure(1000);
    let most = pressure.hold(980);
    assert!(!pressure.is_overrun(), "full is not overrun");
    let last = pressure.hold(20);
    assert!(pressure.is_overrun());
    drop(last);
    assert!(pressure.is_overrun(), "still full");
    drop(most);
    assert!(!pressure.is_overrun());
    let _full = pressure.hold(985);
    assert!(!pressure.is_overrun(), "it begins anew");
}

#[test]
fn a_policy_gets_no_more_than_the_machine_allows() {
    let pressure = Pressure::new(1000);
    assert_eq!(pressure.budget(), 1000);
    assert_eq!(pressure.set_budget(2000), 1000);
    assert_eq!(pressure.set_budget(400), 400);
    assert_eq!(pressure.budget(), 400);
}

#[test]
fn a_smaller_budget_counts_at_once_for_what_is_held_already() {
    let pressure = pressure(1000);
    let held = pressure.hold(500);
    assert_eq!(pressure.level(), Level::Calm);
    pressure.set_budget(400);
    assert_eq!(pressure.level(), Level::Full);
    assert!(pressure.is_overrun());
    drop(held);
    assert_eq!((pressure.level(), pressure.used()), (Level::Calm, 0));
}

#[test]
fn the_largest_body_fits_beside_its_call_and_nothing_larger_does() {
    let pressure = pressure(1 << 20);
    let _call = pressure.hold(CALL);
    let most = pressure.largest_body();
    assert!(pressure.try_hold(most + 1).is_none());
    assert!(pressure.try_hold(most).is_some());
    pressure.set_budget(1000);
    assert_eq!(pressure.largest_body(), 0);
}

#[derive(Debug, Clone)]
enum Step {
    Hold(u16),
    TryHold(u16),
    Set(usize, u16),
    Grow(usize, u16),
    Drop(usize),
    Budget(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        any::<u16>().prop_map(Step::Hold),
        any::<u16>().prop_map(Step::TryHold),
        (any::<usize>(), any::<u16>()).prop_map(|(at, bytes)| Step::Set(at, bytes)),
        (any::<usize>(), any::<u16>()).prop_map(|(at, bytes)| Step::Grow(at, bytes)),
        any::<usize>().prop_map(Step::Drop),
        (1_u32..400_000).prop_map(Step::Budget),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #[test]
    fn what_is_used_is_what_is_held(steps in steps()) {
        let pressure = pressure(200_000);
        let mut held: Vec<Held> = Vec::new();
        for step in steps {
            let before = pressure.used();
            let len = held.len().max(1);
            match step {
                Step::Hold(bytes) => held.push(pressure.hold(bytes.into())),
                Step::TryHold(bytes) => {
                    let new = pressure.try_hold(bytes.into());
                    let fits = before + u64::from(bytes) < pressure.full();
                    prop_assert_eq!(new.is_some(), fits);
                    held.extend(new);
                }
                Step::Set(at, bytes) => {
                    if let Some(one) = held.get_mut(at % len) {
                        one.set(bytes.into());
                        prop_assert!(one.bytes() >= bytes.into());
                    }
                }
                Step::Grow(at, bytes) => {
                    if let Some(one) = held.get_mut(at % len) && !one.try_grow_to(bytes.into()) {
                        prop_assert_eq!(pressure.used(), before);
                    }
                }
                Step::Drop(at) => {
                    if at % len < held.len() {
                        held.swap_remove(at % len);
                    }
                }
                Step::Budget(bytes) => {
                    pressure.set_budget(bytes.into());
                }
            }
            prop_assert_eq!(pressure.used(), held.iter().map(Held::bytes).sum::<u64>());
        }
        drop(held);
        prop_assert_eq!(pressure.used(), 0);
    }
}

#[test]
fn threads_that_take_together_never_take_too_much() {
    let pressure = pressure(100_000);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let pressure = Arc::clone(&pressure);
            std::thread::spawn(move || {
                for _ in 0..2000 {
                    let held: Vec<_> = (0..3).filter_map(|_| pressure.try_hold(20_000)).collect();
                    assert!(pressure.used() < pressure.full());
                    drop(held);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(pressure.used(), 0);
}

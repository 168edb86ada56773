#![allow(clippy::unwrap_used)]
use super::*;

const OPEN: Duration = Duration::from_secs(15);

fn rule() -> Rule {
    Rule { open: OPEN, ..Rule::default() }
}

/// Moments of a test: seconds since its start.
struct World {
    breaker: Breaker,
    rule: Rule,
    start: Instant,
}

impl World {
    fn new() -> Self {
        Self { breaker: Breaker::default(), rule: rule(), start: Instant::now() }
    }

    fn at(&self, second: f64) -> Instant {
        self.start + Duration::from_secs_f64(second)
    }

    fn ask(&mut self, second: f64) -> Result<Pass, Duration> {
        self.breaker.ask(&self.rule, self.at(second))
    }

    fn fail(&mut self, pass: Pass, second: f64) -> Option<Change> {
        let now = self.at(second);
        self.breaker.failed(&self.rule, pass, now, 0)
    }

    fn begin(&mut self, pass: &mut Pass, second: f64) -> Option<Change> {
        let now = self.at(second);
        self.breaker.began(&self.rule, pass, now)
    }

    /// A whole visit that fails.
    fn bad(&mut self, second: f64) -> Option<Change> {
        let pass = self.ask(second).unwrap();
        self.fail(pass, second)
    }

    fn good(&mut self, second: f64) -> Option<Change> {
        let mut pass = self.ask(second).unwrap();
        self.begin(&mut pass, second)
    }

    /// One that opens at second 0.
    fn opened() -> Self {
        let mut world = Self::new();
        assert!((0..4).all(|_| world.bad(0.0).is_none()));
        assert_eq!(world.bad(0.0), Some(Change::Opened { why: Why::Row, pause: OPEN }));
        world
    }
}

#[test]
fn failures_in_a_row_open_it_and_a_success_ends_the_row() {
    let mut world = World::new();
    (0..4).for_each(|_| assert_eq!(world.bad(0.0), None));
    assert_eq!(world.good(0.0), None);
    (0..4).for_each(|_| assert_eq!(world.bad(0.0), None));
    assert_eq!(world.bad(0.0), Some(Change::Opened { why: Why::Row, pause: OPEN }));
    assert_eq!(world.ask(1.0), Err(Duration::from_secs(14)));
    assert_eq!(world.breaker.look(&world.rule, world.at(14.9)), Err(Duration::from_millis(100)));
}

#[test]
fn twenty_five_straight_500s_leave_rotation() {
    let mut world = World::new();
    let reached = (0..25).filter(|_| world.ask(0.0).map(|pass| world.fail(pass, 0.0)).is_ok());
    assert_eq!(reached.count(), 5);
}

#[test]
fn half_of_enough_visits_open_it_though_none_are_in_a_row() {
    let mut world = World::new();
    for visit in 0..19 {
        let change = if visit % 2 == 0 { world.bad(0.1) } else { world.good(0.1) };
        assert_eq!(change, None, "{visit}");
    }
    assert_eq!(world.bad(0.2), Some(Change::Opened { why: Why::Share, pause: OPEN }));
}

#[test]
fn a_smaller_share_does_not() {
    let mut world = World::new();
    for visit in 0..1000 {
        let second = f64::from(visit) / 50.0;
        let change = if visit % 5 < 2 { world.bad(second) } else { world.good(second) };
        assert_eq!(change, None, "{visit}");
    }
}

#[test]
fn a_share_of_long_ago_says_nothing() {
    let mut world = World::new();
    for visit in 0..18 {
        if visit % 2 == 0 {
            world.bad(0.0)
        } else {
            world.good(0.0)
        };
    }
    assert_eq!(world.bad(11.0), None);
    assert_eq!(world.bad(11.0), None);
}

#[test]
fn a_callers_own_timeout_does_not_open_it() {
    let mut world = World::new();
    for _ in 0..100 {
        let pass = world.ask(0.0).unwrap();
        world.breaker.neutral(pass);
    }
    assert_eq!(world.breaker.status(world.at(0.0)), Status::Closed);
    (0..4).for_each(|_| assert_eq!(world.bad(0.0), None, "nor does it count towards it"));
}

#[test]
fn one_probe_at_a_time_and_its_success_closes() {
    let mut world = World::opened();
    let mut probe = world.ask(15.0).unwrap();
    assert!(probe.probe);
    assert_eq!(world.breaker.status(world.at(15.0)), Status::HalfOpen);
    (0..10).for_each(|_| assert_eq!(world.ask(16.0), Err(PROBING)));
    assert_eq!(world.begin(&mut probe, 17.0), Some(Change::Closed));
    assert!(!probe.probe && !world.ask(17.0).unwrap().probe);
    (0..4).for_each(|_| assert_eq!(world.bad(17.0), None, "it begins anew"));
}

#[test]
fn looking_does_not_take_the_probe() {
    let mut world = World::opened();
    (0..3).for_each(|_| assert_eq!(world.breaker.look(&world.rule, world.at(15.0)), Ok(())));
    assert!(world.ask(15.0).unwrap().probe);
    assert!(world.breaker.look(&world.rule, world.at(15.0)).is_err());
}

#[test]
fn a_probe_that_says_nothing_is_given_back() {
    let mut world = World::opened();
    let probe = world.ask(20.0).unwrap();
    world.breaker.neutral(probe);
    assert!(world.ask(20.0).unwrap().probe);
}

#[test]
fn a_probe_that_hangs_is_overtaken_by_one_in_each_open_time() {
    let mut world = World::opened();
    let mut probes = vec![world.ask(15.0).unwrap()];
    for second in [15.0, 22.0, 29.9] {
        assert!(world.ask(second).is_err());
    }
    assert_eq!(world.ask(29.5), Err(Duration::from_millis(500)), "when it is worth asking again");
    assert!(world.breaker.look(&world.rule, world.at(30.0)).is_ok(), "it takes nothing");
    probes.push(world.ask(30.0).unwrap());
    assert!(world.ask(30.0).is_err() && world.ask(44.9).is_err());
    probes.push(world.ask(45.0).unwrap());
    assert!(probes.iter().all(|pass| pass.probe) && world.ask(45.0).is_err());
    assert_eq!(world.breaker.status(world.at(45.0)), Status::HalfOpen);
}

#[test]
fn what_becomes_of_an_overtaken_probe_is_not_taken_for_the_last_ones() {
    // it says nothing, or fails: the last one is still waited for
    let mut world = World::opened();
    let old = world.ask(15.0).unwrap();
    let last = world.ask(30.0).unwrap();
    world.breaker.neutral(old);
    assert!(world.ask(31.0).is_err());
    assert_eq!(world.fail(old, 31.0), None);
    assert_eq!(world.breaker.status(world.at(31.0)), Status::HalfOpen);
    let pause = OPEN * 2;
    assert_eq!(world.fail(last, 32.0), Some(Change::Opened { why: Why::Probe, pause }));

    // it is answered at last: so the backend lives, whatever is on its way
    let mut world = World::opened();
    let mut old = world.ask(15.0).unwrap();
    let last = world.ask(30.0).unwrap();
    assert_eq!(world.begin(&mut old, 31.0), Some(Change::Closed));
    world.breaker.neutral(last);
    assert_eq!(world.breaker.status(world.at(31.0)), Status::Closed);

    // it fails behind a success of the last: it is older than that
    let mut world = World::opened();
    let old: Vec<_> = (0..9).map(|n| world.ask(15.0 * f64::from(n + 1)).unwrap()).collect();
    assert_eq!(world.good(150.0), Some(Change::Closed));
    for pass in old {
        assert_eq!(world.fail(pass, 151.0), None);
    }
    assert_eq!(world.breaker.status(world.at(151.0)), Status::Closed);
}

#[test]
fn each_failed_probe_doubles_the_pause_up_to_the_longest() {
    let mut world = World::opened();
    let (mut second, mut pauses) = (0.0, Vec::new());
    for _ in 0..7 {
        let Status::Open(left) = world.breaker.status(world.at(second)) else { panic!("closed") };
        pauses.push(left.as_secs());
        second += left.as_secs_f64();
        let Some(Change::Opened { why: Why::Probe, .. }) = world.bad(second) else {
            panic!("a failed probe opens it")
        };
    }
    assert_eq!(pauses, [15, 30, 60, 120, 240, 300, 300]);
    assert_eq!(world.good(second + 300.0), Some(Change::Closed));
    (0..4).for_each(|_| assert_eq!(world.bad(second + 300.0), None));
    let opened = world.bad(second + 300.0);
    assert_eq!(opened, Some(Change::Opened { why: Why::Row, pause: OPEN }), "short again");
}

#[test]
fn reopening_keeps_the_longer_deadline() {
    let mut world = World::opened();
    // what comes back late from before, or is told by others, with a shorter rule by now
    world.rule.open = Duration::from_secs(1);
    assert_eq!(world.fail(Pass::default(), 2.0), None);
    let now = world.at(3.0);
    assert_eq!(world.breaker.trip(&world.rule, Why::Last, now, 0), None);
    assert_eq!(world.ask(5.0), Err(Duration::from_secs(10)));
}

#[test]
fn a_pause_is_drawn_and_is_never_longer_than_the_rule_says() {
    let pauses: Vec<_> = (0..1001).map(|draw| pause(&rule(), 0, draw)).collect();
    assert_eq!(*pauses.iter().max().unwrap(), OPEN);
    assert_eq!(*pauses.iter().min().unwrap(), OPEN.mul_f64(0.9));
    assert!(pause(&rule(), u32::MAX, 0) == rule().longest);
}

#[test]
fn what_was_sent_before_it_opened_says_nothing_after() {
    let mut world = World::new();
    let mut old: Vec<_> = (0..30).map(|_| world.ask(0.0).unwrap()).collect();
    let changes = (0..20).filter_map(|_| world.fail(old.pop().unwrap(), 1.0)).count();
    assert_eq!(changes, 1, "a mass of failures opens it once");
    let mut good = old.pop().unwrap();
    assert_eq!(world.begin(&mut good, 2.0), None, "an old success does not close it");
    assert_eq!(world.good(16.0), Some(Change::Closed));
    for pass in old {
        assert_eq!(world.fail(pass, 17.0), None, "nor do old failures open it again");
    }
}

#[test]
fn answers_that_begin_well_and_break_off_are_a_row() {
    let mut world = World::new();
    for visit in 0..5 {
        let mut pass = world.ask(0.0).unwrap();
        assert_eq!(world.begin(&mut pass, 0.0), None);
        let change = world.fail(pass, 60.0 * f64::from(visit));
        assert_eq!(change.is_some(), visit == 4, "{visit}: {change:?}");
    }
}

#[test]
fn a_stream_that_breaks_off_among_good_ones_is_no_row() {
    let mut world = World::new();
    (0..4).for_each(|_| assert_eq!(world.bad(0.0), None));
    let mut stream = world.ask(0.0).unwrap();
    world.begin(&mut stream, 0.0);
    world.good(30.0);
    assert_eq!(world.fail(stream, 60.0), None);
}

#[test]
fn a_changed_rule_is_in_force_at_once_and_forgets_nothing() {
    let mut world = World::new();
    (0..3).for_each(|_| assert_eq!(world.bad(0.0), None));
    world.rule.failures = 4;
    assert_eq!(world.bad(0.0), Some(Change::Opened { why: Why::Row, pause: OPEN }));
    let mut world = World::new();
    for visit in 0..19 {
        if visit % 2 == 0 {
            world.bad(0.0)
        } else {
            world.good(0.0)
        };
    }
    world.rule.window = Duration::from_mins(1);
    assert_eq!(world.bad(9.0), Some(Change::Opened { why: Why::Share, pause: OPEN }));
}

#[test]
fn a_switch_says_what_its_breaker_says() {
    let (switch, now) = (Switch::default(), Instant::now());
    assert!(switch.is_closed());
    for _ in 0..5 {
        let pass = switch.ask(&rule(), now).unwrap();
        switch.failed(&rule(), pass, now, 0);
    }
    assert!(
        !switch.is_closed()
            && switch.ask(&rule(), now).is_err()
            && switch.look(&rule(), now).is_err()
    );
    let later = now + OPEN;
    assert!(switch.look(&rule(), later).is_ok());
    let mut probe = switch.ask(&rule(), later).unwrap();
    assert!(probe.probe && switch.ask(&rule(), later).is_err());
    switch.neutral(probe);
    probe = switch.ask(&rule(), later).unwrap();
    assert_eq!(switch.began(&rule(), &mut probe, later), Some(Change::Closed));
    assert!(switch.is_closed() && switch.ask(&rule(), later) == Ok(switch.pass()));
}

#[test]
fn closed_ask_and_tell_cost_little() {
    let (switch, rule, now) = (Switch::default(), rule(), Instant::now());
    let begun = Instant::now();
    for _ in 0..100_000 {
        let mut pass = switch.ask(&rule, now).unwrap();
        switch.began(&rule, &mut pass, now);
    }
    let each = begun.elapsed() / 100_000;
    // in a debug build, on a loaded machine; released it is a tenth of this
    assert!(each < Duration::from_micros(10), "{each:?}");
}

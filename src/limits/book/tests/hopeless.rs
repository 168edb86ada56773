//! Who waits for a budget that is used up is told at once, and not when its patience ends.
use super::turns::{daily, queued};
use super::*;

/// Until midnight, in seconds.
const REST: u64 = 16 * 3600;

fn rest(after: u64) -> Duration {
    Duration::from_secs(REST - after)
}

impl Bench {
    fn told(&mut self, call: CallId) -> Denial {
        match self.book.poll(call, Waker::noop()) {
            Some(Err(denial)) => *denial,
            other => panic!("{other:?}"),
        }
    }

    fn still_waits(&mut self, call: CallId) {
        assert!(self.book.poll(call, Waker::noop()).is_none());
    }
}

#[test]
fn waiters_are_told_when_the_budget_is_spent() {
    let mut bench = Bench::new(&[queued(vec![daily(1000, Mode::Hard)], Per::All)], None);
    let first = bench.go(&agent("a"), 40, Some(900), 0.0);
    // longer than what is looked at of one line; and several lines behind one gate
    let names = ["a", "b", "c"];
    let waiting: Vec<_> = (0..120).map(|n| bench.waits(&agent(names[n % 3]), 800, 0.1)).collect();
    bench.book.take_woken();
    for call in &waiting {
        bench.still_waits(*call);
    }
    bench.book.settle(first, &answered(10, 990), at(5.0));
    assert_eq!(bench.book.take_woken().len(), 120);
    assert_eq!((bench.book.waiting(), bench.book.agents(at(5.0)).len()), (0, 3));
    assert!(bench.book.agents(at(5.0)).iter().all(|line| line.waiting == 0));
    for call in waiting {
        let denial = bench.told(call);
        assert_eq!(denial.why, Why::Spent);
        assert_eq!(denial.retry, Some(rest(5)));
        assert_eq!(denial.limit.unwrap().0.measure, Measure::Tokens);
        assert_eq!((denial.standing.len(), denial.standing[0].remaining), (1, 0));
    }
    assert_eq!(bench.line(5.0).refused, 120);
    let Decision::No(newcomer) = bench.ask(&agent("b"), 800, Some(1), 5.0) else { panic!() };
    assert_eq!((newcomer.why, newcomer.retry), (Why::Spent, Some(rest(5))));
}

#[test]
fn who_waits_for_a_soft_budget_is_told_as_a_newcomer_is() {
    let mut bench = Bench::new(&[queued(vec![daily(1000, Mode::Soft)], Per::Agent)], None);
    let first = bench.go(&agent("a"), 40, Some(900), 0.0);
    let call = bench.waits(&agent("a"), 2000, 0.0);
    bench.book.settle(first, &answered(10, 990), at(1.0));
    let denial = bench.told(call);
    assert_eq!((denial.why, denial.retry), (Why::Full, Some(rest(1))));
}

#[test]
fn who_may_yet_get_what_is_given_back_waits_on() {
    let mut bench = Bench::new(&[queued(vec![daily(1000, Mode::Hard)], Per::All)], None);
    let first = bench.go(&agent("a"), 40, Some(450), 0.0);
    let second = bench.go(&agent("b"), 40, Some(450), 0.0);
    let large = bench.waits(&agent("c"), 800, 0.0);
    let small = bench.waits(&agent("d"), 100, 0.0);
    // what the second one holds may come back
    bench.book.settle(first, &answered(10, 450), at(1.0));
    bench.still_waits(small);
    // 230 are left: enough for one of them
    bench.book.settle(second, &answered(10, 300), at(2.0));
    assert_eq!(bench.told(large).why, Why::Spent);
    let grant = bench.turn_of(small).unwrap();
    bench.book.settle(grant, &answered(100, 1), at(3.0));
    assert_eq!(bench.line(3.0).used, 871_000);
}

#[test]
fn who_runs_may_give_back_even_what_is_charged_for_good() {
    let requests = Limit {
        window: Window::Calendar(Calendar::Day),
        ..limit(Measure::Requests, 3, 1, Mode::Hard)
    };
    let mut bench = Bench::new(&[queued(vec![requests], Per::All)], Some(2));
    let (first, second) =
        (bench.go(&agent("a"), 4, Some(1), 0.0), bench.go(&agent("b"), 4, Some(1), 0.0));
    let (third, last) = (bench.waits(&agent("c"), 4, 0.0), bench.waits(&agent("d"), 4, 0.0));
    bench.book.settle(first, &answered(1, 1), at(1.0));
    let third = bench.turn_of(third).unwrap();
    bench.book.settle(second, &answered(1, 1), at(2.0));
    // three of three are used, but one of them is not sent yet
    bench.still_waits(last);
    bench.book.settle(third, &End::unsent(), at(3.0));
    let last = bench.turn_of(last).unwrap();
    bench.book.settle(last, &answered(1, 1), at(4.0));
    assert_eq!(bench.line(4.0).used / 1000, 3);
}

#[test]
fn who_can_wait_for_the_next_period_does() {
    let mut bench = Bench::new(&[queued(vec![daily(1000, Mode::Hard)], Per::All)], None);
    let midnight = REST as f64;
    let first = bench.go(&agent("a"), 40, Some(900), midnight - 31.0);
    let early = bench.waits(&agent("b"), 800, midnight - 30.6);
    let late = bench.waits(&agent("b"), 800, midnight - 29.9);
    // by the whole second in which it is seen, the period seems to end too late for both
    bench.book.settle(first, &answered(10, 990), at(midnight - 29.1));
    assert_eq!(bench.told(early).why, Why::Spent);
    bench.still_waits(late);
    bench.book.advance(at(midnight));
    assert!(bench.turn_of(late).is_some());
}

#[test]
fn a_budget_without_a_queue_ends_the_wait_for_a_place() {
    let budget = Policy { queue: None, ..queued(vec![daily(1000, Mode::Hard)], Per::All) };
    let mut bench = Bench::new(&[budget], Some(1));
    let first = bench.go(&agent("a"), 40, Some(400), 0.0);
    let call = bench.waits(&agent("b"), 40, 0.0);
    bench.book.settle(first, &answered(10, 990), at(1.0));
    assert_eq!(bench.told(call).why, Why::Spent);
}

#[test]
fn who_is_under_another_limit_stays_in_line() {
    let mine = Policy {
        matches: Matcher { agent: Some("poor".into()), ..Matcher::default() },
        ..queued(vec![daily(1000, Mode::Hard)], Per::Agent)
    };
    let steady = limit(Measure::Requests, 1, 20, Mode::Soft);
    let mut bench = Bench::new(&[mine, queued(vec![steady], Per::All)], None);
    let first = bench.go(&agent("poor"), 40, Some(900), 0.0);
    let (poor, rich) = (bench.waits(&agent("poor"), 800, 0.0), bench.waits(&agent("rich"), 4, 0.0));
    bench.book.settle(first, &answered(10, 990), at(1.0));
    assert_eq!(bench.told(poor).limit.unwrap().0.measure, Measure::Tokens);
    bench.still_waits(rich);
    bench.book.advance(at(20.0));
    assert!(bench.turn_of(rich).is_some());
}

#[test]
fn who_leaves_before_it_hears_of_it_leaves_nothing_behind() {
    let mut bench = Bench::new(&[queued(vec![daily(1000, Mode::Hard)], Per::Agent)], None);
    let first = bench.go(&agent("a"), 40, Some(900), 0.0);
    let call = bench.waits(&agent("a"), 800, 0.0);
    bench.book.settle(first, &answered(10, 990), at(1.0));
    assert_eq!((bench.book.position(call), bench.book.waiting()), (None, 0));
    bench.book.leave(call, at(1.0));
    assert!(bench.book.poll(call, Waker::noop()).is_none(), "it is forgotten");
    // its bucket as well, once it is empty
    let forgotten = REST as f64 + 1.0;
    bench.book.sweep(at(forgotten));
    assert!(bench.book.limits(at(forgotten)).is_empty());
}

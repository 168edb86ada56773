//! Who waits for what, and who is held up by whom.
use super::*;

pub(super) fn queued(limits: Vec<Limit>, per: Per) -> Policy {
    let queue = Some(Queue { wait: Duration::from_secs(30), depth: 10_000 });
    Policy { per, limits, queue, ..Policy::default() }
}

fn burst(mut one: Limit, burst: i64) -> Limit {
    one.burst = Some(burst * one.measure.scale());
    one
}

fn at_once(amount: i64) -> Limit {
    Limit { window: Window::Now, ..limit(Measure::Concurrency, amount, 1, Mode::Soft) }
}

pub(super) fn daily(amount: i64, mode: Mode) -> Limit {
    Limit { window: Window::Calendar(Calendar::Day), ..limit(Measure::Tokens, amount, 1, mode) }
}

impl Bench {
    pub(super) fn waits(&mut self, who: &Identity, bytes: u64, now: f64) -> CallId {
        match self.ask(who, bytes, Some(1), now) {
            Decision::Wait { call, .. } => call,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn turn_of(&mut self, call: CallId) -> Option<Box<Grant>> {
        self.book.poll(call, Waker::noop()).map(Result::unwrap)
    }

    fn again(&mut self, policies: &[Policy], now: f64) {
        self.book.apply(Arc::new(Rules::prepare(policies, &Metrics::new())), [], [], at(now));
    }
}

fn denied(decision: Decision) -> Denial {
    match decision {
        Decision::No(denial) => denial,
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_has_waited_in_between_is_told_of() {
    let mut bench = Bench::new(&[queued(vec![at_once(1)], Per::Agent)], None);
    let one = agent("one");
    let running = bench.go(&one, 40, Some(1), 0.0);
    let calls: Vec<_> = (0..3).map(|_| bench.waits(&one, 40, 0.0)).collect();
    bench.book.leave(calls[0], at(0.0));
    bench.book.leave(calls[1], at(0.0));
    assert_eq!(bench.book.take_most_waited(), 3);
    assert_eq!(bench.book.take_most_waited(), 1, "one waits yet");
    bench.book.leave(calls[2], at(0.0));
    assert_eq!(bench.book.take_most_waited(), 0);
    drop(running);
}

#[test]
fn who_waits_for_a_limit_of_its_own_is_in_nobodys_way() {
    let own = Policy {
        matches: crate::config::Matcher { agent: Some("greedy".into()), ..Default::default() },
        ..queued(vec![at_once(1)], Per::Agent)
    };
    let mut bench = Bench::new(&[own], Some(4));
    // this upstream has no queue of its own
    let rule = PoolRule { name: "up".into(), slots: Some(4), pacing: None, wait: Duration::ZERO };
    bench.book.pool(rule);
    let greedy = agent("greedy");
    let running = bench.go(&greedy, 40, Some(1), 0.0);
    let waiting: Vec<_> = (0..2000).map(|_| bench.waits(&greedy, 40, 0.0)).collect();
    let others: Vec<_> = (0..3).map(|_| bench.go(&agent("other"), 40, Some(1), 0.0)).collect();
    // and where there is no room it says so
    assert_eq!(denied(bench.ask(&agent("third"), 40, Some(1), 0.0)).why, Why::Full);
    assert_eq!(bench.book.waiting(), 2000);
    for other in others {
        bench.book.settle(other, &answered(1, 1), at(1.0));
    }
    bench.book.settle(running, &answered(1, 1), at(1.0));
    assert!(bench.turn_of(waiting[0]).is_some() && bench.turn_of(waiting[1]).is_none());
}

#[test]
fn a_shared_limit_is_not_kept_for_who_waits_for_its_own() {
    let shared = burst(limit(Measure::InputTokens, 600, 60, Mode::Soft), 100);
    let own = queued(vec![at_once(1)], Per::Agent);
    let mut bench = Bench::new(&[queued(vec![shared], Per::All), own], None);
    let _known = bench.go(&agent("small"), 4, Some(1), 0.0);
    let _first = bench.go(&agent("large"), 4, Some(1), 0.0);
    // too much for the shared limit as well, for a while
    let large = bench.waits(&agent("large"), 396, 0.0);
    let _other = bench.go(&agent("third"), 40, Some(1), 0.0);
    assert!(bench.turn_of(large).is_none());
}

#[test]
fn a_large_call_is_not_overtaken_by_small_ones_for_ever() {
    for per in [Per::Agent, Per::All] {
        let one = burst(limit(Measure::InputTokens, 600, 60, Mode::Soft), 100);
        let mut bench = Bench::new(&[queued(vec![one], per)], None);
        let who = agent("a");
        let first = bench.go(&who, 200, Some(1), 0.0);
        bench.book.settle(first, &answered(50, 1), at(0.0));
        let large = bench.waits(&who, 400, 0.0);
        let mut small = Vec::new();
        let mut time = 0.0;
        while bench.turn_of(large).is_none() {
            time += 0.5;
            small.push(bench.waits(&who, 4, time));
            bench.book.advance(at(time));
            assert!(time < 20.0, "{per:?}: overtaken");
        }
        assert!(small.into_iter().all(|call| bench.turn_of(call).is_none()));
    }
}

#[test]
fn what_an_agent_gives_back_lets_its_call_to_another_upstream_go() {
    let mut bench = Bench::new(&[queued(vec![at_once(1)], Per::Agent)], None);
    let running = bench.go(&agent("a"), 4, Some(1), 0.0);
    let first = bench.pool;
    bench.pool = bench.book.pool_of(&"elsewhere".into());
    assert_ne!(first, bench.pool);
    let waiting = bench.waits(&agent("a"), 4, 0.0);
    bench.book.settle(running, &answered(1, 1), at(0.001));
    assert!(bench.turn_of(waiting).is_some());
}

#[test]
fn agents_of_one_session_share_its_limit_fairly() {
    let mut bench = Bench::new(&[queued(vec![at_once(1)], Per::Session)], None);
    let with = |name| Identity { session: Some("s".into()), ..agent(name) };
    let (busy, patient) = (with("busy"), with("patient"));
    let mut running = bench.go(&busy, 4000, Some(1), 0.0);
    let waiting: Vec<_> = (0..5).map(|_| bench.waits(&busy, 4000, 0.0)).collect();
    let wanted = bench.waits(&patient, 4000, 0.0);
    for call in waiting {
        bench.book.settle(running, &answered(1000, 1), at(0.0));
        if bench.turn_of(wanted).is_some() {
            return;
        }
        running = bench.turn_of(call).unwrap();
    }
    panic!("the other agent of the session starves");
}

#[test]
fn of_many_sessions_one_that_is_full_holds_up_no_other() {
    let mut bench = Bench::new(&[queued(vec![at_once(1)], Per::Session)], None);
    let session = |name: &str| Identity { session: Some(name.into()), ..agent("a") };
    let _running = bench.go(&session("full"), 4, Some(1), 0.0);
    for _ in 0..10 {
        bench.waits(&session("full"), 4, 0.0);
    }
    let _other = bench.go(&session("free"), 4, Some(1), 0.0);
}

#[test]
fn a_limit_without_a_queue_refuses_whatever_the_others_say() {
    let strict = Policy { queue: None, ..queued(vec![at_once(1)], Per::All) };
    let patient = queued(vec![burst(limit(Measure::Requests, 60, 60, Mode::Soft), 1)], Per::All);
    let mut bench = Bench::new(&[strict, patient], None);
    let running = bench.go(&agent("a"), 4, Some(1), 0.0);
    let denial = denied(bench.ask(&agent("b"), 4, Some(1), 0.0));
    assert_eq!(denial.limit.unwrap().0.measure, Measure::Concurrency);
    bench.book.settle(running, &answered(1, 1), at(0.0));
    bench.waits(&agent("b"), 4, 0.0);
}

#[test]
fn a_refusal_names_the_limit_that_lasts_longest() {
    let limits = vec![
        burst(limit(Measure::Requests, 60, 60, Mode::Soft), 1),
        burst(limit(Measure::InputTokens, 60, 60, Mode::Soft), 10),
        limit(Measure::Tokens, 1000, 60, Mode::Soft),
    ];
    let mut bench = Bench::new(&[policy(limits)], None);
    let _running = bench.go(&agent("a"), 40, Some(1), 0.0);
    let denial = denied(bench.ask(&agent("a"), 40, Some(1), 0.0));
    let (limit, whose) = denial.limit.unwrap();
    assert_eq!((limit.measure, &*whose), (Measure::InputTokens, "a"));
    let retry = denial.retry.unwrap().as_secs_f64();
    assert!((9.9..10.1).contains(&retry), "{retry}");
    assert_eq!(denial.standing.len(), 3);
    let refused: Vec<_> = bench.book.limits(at(0.0)).iter().map(|line| line.refused).collect();
    assert_eq!(refused.iter().sum::<u64>(), 1);
    assert_eq!(denied(bench.ask(&agent("a"), 4000, Some(1), 0.0)).why, Why::TooLarge);
}

#[test]
fn a_limit_that_observes_blocks_and_charges_nobody() {
    let watched = burst(limit(Measure::Requests, 60, 60, Mode::Observe), 2);
    let mut bench = Bench::new(&[policy(vec![watched])], None);
    let grants: Vec<_> = (0..5).map(|_| bench.go(&agent("a"), 4, Some(1), 0.0)).collect();
    let would = grants.iter().filter(|grant| grant.would_refuse.is_some()).count();
    assert_eq!((would, bench.line(0.0).would_refuse), (3, 3));
    // what would not have gone has used nothing
    assert_eq!(bench.line(0.0).used, 2000);
    for grant in grants {
        bench.book.settle(grant, &answered(1, 1), at(0.0));
    }
    assert_eq!(bench.line(0.0).used, 2000);
}

#[test]
fn a_lower_limit_can_be_watched_beside_one_that_holds() {
    let holds = limit(Measure::Requests, 600, 60, Mode::Soft);
    let watches = limit(Measure::Requests, 60, 60, Mode::Observe);
    let mut bench = Bench::new(&[policy(vec![holds]), policy(vec![watches])], None);
    let _grants: Vec<_> = (0..61).map(|_| bench.go(&agent("a"), 4, Some(1), 0.0)).collect();
    let mut lines = bench.book.limits(at(0.0));
    lines.sort_by_key(|line| line.capacity);
    assert_eq!((lines[0].used, lines[0].would_refuse), (60_000, 1));
    assert_eq!((lines[1].used, lines[1].would_refuse), (61_000, 0));
}

#[test]
fn a_reload_keeps_what_was_used() {
    let rate = |amount| queued(vec![limit(Measure::Requests, amount, 60, Mode::Soft)], Per::Agent);
    let mut bench = Bench::new(&[rate(10)], None);
    let grants: Vec<_> = (0..10).map(|_| bench.go(&agent("a"), 4, Some(1), 0.0)).collect();
    let waiting: Vec<_> = (0..3).map(|_| bench.waits(&agent("a"), 4, 0.0)).collect();
    bench.again(&[rate(5)], 0.0);
    assert_eq!((bench.line(0.0).used, bench.line(0.0).capacity), (10_000, 5_000));
    assert!(bench.turn_of(waiting[0]).is_none());
    // raised: one goes at once
    bench.again(&[rate(11)], 0.0);
    assert!(bench.turn_of(waiting[0]).is_some() && bench.turn_of(waiting[1]).is_none());
    // gone: nobody is held up
    bench.again(&[], 0.0);
    assert!(bench.turn_of(waiting[1]).is_some() && bench.turn_of(waiting[2]).is_some());
    for grant in grants {
        bench.book.settle(grant, &answered(1, 1), at(0.0));
    }
    (0..200).for_each(|_| bench.book.sweep(at(1.0)));
    // and back: what was used has not been forgotten
    bench.again(&[rate(10)], 1.0);
    assert!(bench.line(1.0).used >= 12_000);
    bench.waits(&agent("a"), 4, 1.0);
}

#[test]
fn a_call_that_a_reload_makes_impossible_holds_up_nobody() {
    let rate = |most| {
        queued(vec![burst(limit(Measure::InputTokens, 600, 60, Mode::Soft), most)], Per::All)
    };
    let mut bench = Bench::new(&[rate(100)], None);
    let first = bench.go(&agent("a"), 200, Some(1), 0.0);
    bench.book.settle(first, &answered(50, 0), at(0.0));
    let never = bench.waits(&agent("b"), 400, 0.0);
    let small = bench.waits(&agent("c"), 40, 0.0);
    bench.again(&[rate(60)], 0.0);
    // it waits until its time is up; the reload after it may be kinder
    assert!(bench.turn_of(small).is_some() && bench.turn_of(never).is_none());
    bench.book.leave(never, at(1.0));
    assert_eq!(bench.book.waiting(), 0);
}

#[test]
fn who_waits_for_a_call_to_end_goes_when_the_calendar_turns() {
    let mut bench = Bench::new(&[queued(vec![daily(1000, Mode::Soft)], Per::All)], None);
    let mut running = bench.go(&agent("a"), 2000, Some(300), 0.0);
    let _ = bench.book.use_up(&mut running, 0, at(0.0));
    let waiting = bench.waits(&agent("b"), 1600, 0.0);
    let tomorrow = 86_400.0;
    let wake = bench.book.wake_at().unwrap();
    assert!(wake <= SECOND, "{wake}");
    bench.book.advance(at(tomorrow));
    assert!(bench.turn_of(waiting).is_some());
}

#[test]
fn a_call_waits_for_what_a_hard_limit_only_holds() {
    let one = limit(Measure::Tokens, 1000, 60, Mode::Hard);
    let queue = Some(Queue { wait: Duration::from_secs(5), depth: 8 });
    let mut bench = Bench::new(&[Policy { limits: vec![one], queue, ..Policy::default() }], None);
    // all that is left is held, and little of it will be used
    let running = bench.go(&agent("a"), 40, None, 0.0);
    let waiting = bench.waits(&agent("a"), 400, 0.0);
    bench.book.settle(running, &answered(10, 10), at(1.0));
    assert!(bench.turn_of(waiting).is_some());
}

#[test]
fn a_hard_call_at_its_bound_holds_no_more() {
    let mut bench = Bench::new(&[policy(vec![limit(Measure::Tokens, 1000, 60, Mode::Hard)])], None);
    let mut grant = bench.go(&agent("a"), 40, Some(200), 0.0);
    for tokens in [100, 200, 200] {
        bench.book.use_up(&mut grant, tokens, at(0.0));
        let line = bench.line(0.0);
        assert!(line.used + line.held <= line.capacity);
        // what the prompt may be more than guessed is held to the end
        let margin = (40 + 64 - 10) * 1000;
        assert_eq!(line.held, margin + 200_000 - i64::try_from(tokens).unwrap() * 1000);
    }
}

#[test]
fn invented_names_share_a_bucket_where_the_table_is_full() {
    let mut bench = Bench::new(&[policy(vec![limit(Measure::Requests, 60, 60, Mode::Soft)])], None);
    bench.book.table.most = 100;
    let mut refused = 0;
    for name in 0..1000 {
        match bench.ask(&agent(&format!("a{name}")), 4, Some(1), 0.0) {
            Decision::Go(grant) => {
                bench.book.settle(grant, &answered(1, 1), at(0.0));
            }
            _ => refused += 1,
        }
    }
    assert_eq!(bench.book.limits(at(0.0)).len(), 101);
    assert_eq!(refused, 1000 - 100 - 60);
    // those that have refilled make room again
    bench.book.sweep(at(61.0));
    assert!(bench.book.limits(at(61.0)).is_empty());
    bench.book.sweep(at(1000.0));
    assert!(bench.book.agents(at(1000.0)).is_empty());
}

#[test]
#[ignore = "a measurement"]
fn what_it_takes() {
    let one = burst(limit(Measure::Requests, 600, 60, Mode::Soft), 1);
    let mut bench = Bench::new(&[queued(vec![one], Per::All)], None);
    let running = bench.go(&agent("a"), 4, Some(1), 0.0);
    let agents: Vec<_> = (0..10_000).map(|name| agent(&format!("a{name}"))).collect();
    let begun = std::time::Instant::now();
    let waiting: Vec<_> = agents.iter().take(9_999).map(|who| bench.waits(who, 4, 0.0)).collect();
    println!("9999 agents join a queue: {:?}", begun.elapsed());
    let begun = std::time::Instant::now();
    (0..1000).for_each(|_| bench.book.advance(at(0.0)));
    println!("1000 turns where nobody may go: {:?}", begun.elapsed());
    bench.book.settle(running, &answered(1, 1), at(0.0));
    let begun = std::time::Instant::now();
    for second in 1..=1000 {
        bench.book.advance(at(f64::from(second) / 9.0));
    }
    println!("1000 turns where one may go: {:?}", begun.elapsed());
    let went = waiting.into_iter().filter(|call| bench.turn_of(*call).is_some()).count();
    assert_eq!(went, 1000);
}

#[test]
fn who_is_answered_here_waits_for_no_pause_of_the_upstream() {
    use crate::limits::pace::{Heard, Mode as Pacing};
    use crate::wire::Quota;
    // one longer than anybody waits, and one that is not
    for seconds in [60, 20] {
        let one = queued(vec![limit(Measure::Requests, 1, 1, Mode::Soft)], Per::Agent);
        let mut bench = Bench::new(&[one], None);
        let wait = Duration::from_secs(10);
        let pacing = Some(Pacing::Auto);
        bench.book.pool(PoolRule { name: "up".into(), slots: None, pacing, wait });
        let quota = Quota { retry_after: Some(Duration::from_secs(seconds)), ..Quota::default() };
        let heard = Heard { quota: &quota, limited: true, overloaded: false };
        bench.book.overheard(bench.pool, 0, "m", &heard, at(0.0));
        // whose answer has to come from there waits for it, or is refused
        let sent = bench.ask(&agent("other"), 0, Some(1), 0.0);
        assert_eq!(matches!(sent, Decision::Wait { .. }), seconds == 20, "{sent:?}");

        let who = agent("a");
        let hit = Ask { here: true, ..bench.asked(&who) };
        let first = bench.book.ask(&hit, at(0.0));
        assert!(matches!(first, Decision::Go(_)), "{first:?}");
        let second = bench.book.ask(&hit, at(0.0));
        let Decision::Wait { call, .. } = second else { panic!("{second:?}") };
        bench.book.advance(at(1.1));
        assert!(bench.turn_of(call).is_some(), "a pause of {seconds} s");
    }
}

//! The book as a whole: what goes, what waits, what is refused, and that all is given back.
mod hopeless;
mod kept;
mod lanes;
mod moved;
mod random;
mod turns;

use std::task::Waker;

use super::super::bucket::SECOND;
use super::super::rules::Subject;
use super::*;
use crate::config::{
    Calendar, Limit, Matcher, Measure, Mode, Per, Policy, Queue, Runaway, RunawayAction, Window,
};
use crate::identity::{Class, Identity, Rung};
use crate::telemetry::metrics::Metrics;
use crate::wire::{Conversation, ToolCall, Usage};

pub fn at(seconds: f64) -> Moment {
    Moment { at: (seconds * SECOND as f64) as u64, wall: 1_800_000_000 + seconds as i64 }
}

pub fn agent(name: &str) -> Identity {
    Identity {
        agent: name.into(),
        rung: Rung::Key,
        parent: None,
        session: None,
        team: None,
        team_proven: false,
        class: Class::Default,
        credential: None,
        grant: None,
        unlisted: None,
    }
}

pub fn limit(measure: Measure, amount: i64, per: u64, mode: Mode) -> Limit {
    let window = Window::Rate(Duration::from_secs(per));
    Limit { measure, amount: amount * measure.scale(), window, burst: None, mode }
}

fn policy(limits: Vec<Limit>) -> Policy {
    Policy { limits, ..Policy::default() }
}

pub struct Bench {
    pub book: Book,
    pub pool: PoolId,
}

impl Bench {
    pub fn new(policies: &[Policy], slots: Option<usize>) -> Self {
        let mut book = Book::new();
        let rule =
            PoolRule { name: "up".into(), slots, pacing: None, wait: Duration::from_secs(10) };
        let pool = book.pool_of(&rule.name);
        let rules = Rules::prepare(policies, &Metrics::new());
        book.apply(Arc::new(rules), [rule], [], at(0.0));
        Self { book, pool }
    }

    /// A call of so many bytes (four to a token) and a bound.
    pub fn ask(&mut self, who: &Identity, bytes: u64, max: Option<u64>, now: f64) -> Decision {
        self.ask_in(who, bytes, max, None, now)
    }

    pub fn ask_in(
        &mut self,
        who: &Identity,
        bytes: u64,
        max: Option<u64>,
        conversation: Option<Conversation>,
        now: f64,
    ) -> Decision {
        let bound = Ask { prompt_bytes: bytes, max_tokens: max, ..self.asked(who) };
        self.book.ask(&Ask { conversation, ..bound }, at(now))
    }

    pub fn asked<'a>(&self, who: &'a Identity) -> Ask<'a> {
        Ask {
            subject: Subject { who, model: "m", route: "r", upstream: "up" },
            pool: self.pool,
            lane: None,
            kind: 0,
            reasoning: false,
            counted: true,
            generates: true,
            prompt_bytes: 0,
            max_tokens: None,
            least: 0,
            answers: 1,
            rate: None,
            credential: 0,
            patience: None,
            here: false,
            paid: false,
            conversation: None,
        }
    }

    pub fn go(&mut self, who: &Identity, bytes: u64, max: Option<u64>, now: f64) -> Box<Grant> {
        match self.ask(who, bytes, max, now) {
            Decision::Go(grant) => grant,
            other => panic!("{other:?}"),
        }
    }

    pub fn line(&mut self, now: f64) -> LimitLine {
        self.book.limits(at(now)).remove(0)
    }
}

pub fn answered(input: u64, output: u64) -> End {
    let usage = Some(Usage { input, output, ..Usage::default() });
    End { fate: Fate::Answered, usage, produced: output, complete: true, ..End::unsent() }
}

#[test]
fn of_five_calls_at_once_under_a_small_limit_one_goes() {
    let mut bench = Bench::new(&[policy(vec![limit(Measure::Tokens, 100, 60, Mode::Soft)])], None);
    let who = agent("a");
    let decisions: Vec<_> = (0..5).map(|_| bench.ask(&who, 40, Some(120), 0.0)).collect();
    let went = decisions.iter().filter(|one| matches!(one, Decision::Go(_))).count();
    assert_eq!(went, 1);
    for decision in &decisions[1..] {
        let Decision::No(denial) = decision else { panic!("{decision:?}") };
        assert_eq!(denial.why, Why::Full);
        assert!(denial.retry.is_some_and(|wait| wait <= Duration::from_mins(2)));
    }
}

#[test]
fn an_agent_alone_pays_its_debt_before_it_goes_on() {
    let mut bench = Bench::new(&[policy(vec![limit(Measure::Tokens, 600, 60, Mode::Soft)])], None);
    let who = agent("a");
    let grant = bench.go(&who, 40, Some(100), 0.0);
    bench.book.settle(grant, &answered(10, 1790), at(1.0));
    // 1800 used, 10 a second refill: 1200 of debt above the capacity
    assert!(matches!(bench.ask(&who, 40, Some(100), 60.0), Decision::No(_)));
    assert!(matches!(bench.ask(&who, 40, Some(100), 133.0), Decision::Go(_)));
}

#[test]
fn a_hard_limit_clamps_the_bound_to_what_is_left() {
    let mut bench = Bench::new(&[policy(vec![limit(Measure::Tokens, 4000, 60, Mode::Hard)])], None);
    let who = agent("a");
    let first = bench.go(&who, 400, Some(10_000), 0.0);
    // cold, a byte may be a token
    let clamp = first.clamp.unwrap();
    assert!(clamp.tokens <= 4000 - 400 && clamp.tokens > 3000, "{clamp:?}");
    assert!(matches!(bench.ask(&who, 400, Some(100), 0.0), Decision::No(_)));
    bench.book.settle(first, &answered(100, 300), at(0.0));
    assert_eq!(bench.line(0.0).used, 400_000);
    let second = bench.go(&who, 400, Some(100), 0.0);
    assert_eq!(second.clamp, None);
    bench.book.settle(second, &End::unsent(), at(0.0));
    assert_eq!(bench.line(0.0).used, 400_000);
}

#[test]
fn a_call_that_waits_goes_when_the_bucket_has_refilled() {
    let queue = Some(Queue { wait: Duration::from_secs(30), depth: 8 });
    let limits = vec![limit(Measure::Requests, 60, 60, Mode::Soft)];
    let limits = limits.into_iter().map(|one| Limit { burst: Some(1000), ..one }).collect();
    let mut bench = Bench::new(&[Policy { limits, queue, ..Policy::default() }], None);
    let who = agent("a");
    let _first = bench.go(&who, 0, Some(1), 0.0);
    let Decision::Wait { call, longest } = bench.ask(&who, 0, Some(1), 0.0) else { panic!() };
    assert_eq!(longest, Duration::from_secs(30));
    assert!(bench.book.poll(call, Waker::noop()).is_none());
    let wake = bench.book.wake_at().unwrap();
    assert!((900_000_000..=1_000_000_001).contains(&wake), "{wake}");
    bench.book.advance(at(1.01));
    assert!(bench.book.poll(call, Waker::noop()).is_some());
}

#[test]
fn slots_go_round_and_a_leaver_frees_its_place() {
    let mut bench = Bench::new(&[], Some(1));
    let (hog, light) = (agent("hog"), agent("light"));
    let running = bench.go(&hog, 4000, Some(1000), 0.0);
    let mut waiting = Vec::new();
    for who in [&hog, &hog, &hog, &light] {
        let Decision::Wait { call, .. } = bench.ask(who, 4000, Some(1000), 0.0) else { panic!() };
        waiting.push(call);
    }
    bench.book.leave(waiting[0], at(0.1));
    bench.book.settle(running, &answered(1000, 1000), at(1.0));
    // a newcomer starts level with the lowest, and goes before it
    assert!(bench.book.poll(waiting[1], Waker::noop()).is_none());
    let light = bench.book.poll(waiting[3], Waker::noop()).unwrap().unwrap();
    bench.book.settle(light, &answered(10, 10), at(2.0));
    let second = bench.book.poll(waiting[1], Waker::noop()).unwrap().unwrap();
    bench.book.settle(second, &answered(1000, 1000), at(3.0));
    // a turn that came and was not taken goes on
    bench.book.leave(waiting[2], at(3.0));
    assert_eq!(bench.book.queues(at(3.0))[0].running, 0);
    assert_eq!(bench.book.waiting(), 0);
}

#[test]
fn a_hard_budget_is_on_disk_before_it_is_used() {
    let window = Window::Calendar(Calendar::Day);
    let one = Limit {
        measure: Measure::Tokens,
        amount: 1_000_000,
        window,
        burst: None,
        mode: Mode::Hard,
    };
    let policies = [Policy { limits: vec![one], per: Per::All, ..Policy::default() }];
    let mut bench = Bench::new(&policies, None);
    bench.book.restore([]);
    let who = agent("a");
    let Decision::Wait { call, .. } = bench.ask(&who, 40, Some(100), 0.0) else { panic!() };
    let unsaved = bench.book.take_unsaved(false, at(0.0));
    assert_eq!(unsaved.len(), 1);
    assert!(bench.book.poll(call, Waker::noop()).is_none());
    bench.book.saved(&unsaved, at(0.1));
    let grant = bench.book.poll(call, Waker::noop()).unwrap().unwrap();
    bench.book.settle(grant, &answered(10, 90), at(0.2));
    // the process dies here: what is on disk is not less than what was used
    let mut after = Bench::new(&policies, None);
    after.book.restore(unsaved.iter().map(|one| (one.key, one.saved)));
    let (Decision::No(_) | Decision::Wait { .. }) = after.ask(&who, 40, Some(600), 1.0) else {
        panic!()
    };
    assert!(after.line(1.0).used >= 100_000);
}

#[test]
fn a_slowed_loop_waits_on_its_own_and_holds_nobody_up() {
    let runaway = Runaway { repeats: 2, factor: 10.0, action: RunawayAction::Slow };
    let policies = [Policy { runaway: Some(runaway), ..Policy::default() }];
    let mut bench = Bench::new(&policies, Some(1));
    let (looper, other) = (agent("looper"), agent("other"));
    let say = |turn| Some(Conversation { id: 1, tool: Some(ToolCall { hash: 7, turn }) });
    let Decision::Go(first) = bench.ask_in(&looper, 40, None, say(3), 0.0) else { panic!() };
    bench.book.settle(first, &answered(10, 10), at(0.0));
    let decision = bench.ask_in(&looper, 40, None, say(5), 0.0);
    assert!(bench.book.runaway(&decision).is_some_and(|flag| flag.fresh));
    let Decision::Wait { call, longest } = decision else { panic!("{decision:?}") };
    // a second for its fault, and as long as anybody for a place
    assert_eq!(longest, Duration::from_secs(11));
    assert_eq!(bench.book.agents(at(0.0)).iter().filter(|one| one.runaway).count(), 1);
    for turn in 0..5 {
        let grant = bench.go(&other, 40, None, 0.1 * f64::from(turn));
        assert_eq!(grant.runaway, None);
        bench.book.settle(grant, &answered(10, 10), at(0.1 * f64::from(turn)));
    }
    assert!(bench.book.poll(call, Waker::noop()).is_none());
    let wake = bench.book.wake_at().unwrap();
    assert!(wake <= SECOND, "{wake}");
    bench.book.advance(at(1.0));
    let grant = bench.book.poll(call, Waker::noop()).unwrap().unwrap();
    assert!(grant.runaway.is_some());
    // who leaves while it waits leaves nothing behind
    bench.book.settle(grant, &answered(10, 10), at(1.0));
    let Decision::Wait { call, .. } = bench.ask_in(&looper, 40, None, say(7), 1.0) else {
        panic!()
    };
    bench.book.leave(call, at(1.5));
    assert_eq!((bench.book.waiting(), bench.book.queues(at(1.5))[0].running), (0, 0));
}

#[test]
fn a_stopped_loop_holds_nothing() {
    let runaway = Runaway { repeats: 2, factor: 10.0, action: RunawayAction::Stop };
    let limits = vec![limit(Measure::Requests, 60, 60, Mode::Soft)];
    let policies = [Policy { runaway: Some(runaway), limits, ..Policy::default() }];
    let mut bench = Bench::new(&policies, None);
    let who = agent("a");
    let say = |turn| Some(Conversation { id: 1, tool: Some(ToolCall { hash: 7, turn }) });
    let Decision::Go(first) = bench.ask_in(&who, 40, None, say(3), 0.0) else { panic!() };
    let decision = bench.ask_in(&who, 40, None, say(5), 0.0);
    let Decision::No(denial) = &decision else { panic!("{decision:?}") };
    assert_eq!((denial.why, denial.retry), (Why::Runaway, None));
    bench.book.settle(first, &End::unsent(), at(0.0));
    assert_eq!((bench.line(0.0).used, bench.line(0.0).held), (0, 0));
}

#[test]
fn what_calls_used_feeds_the_guard() {
    let stop = |action| Runaway { repeats: 5, factor: 10.0, action };
    let policies = [RunawayAction::Observe, RunawayAction::Stop].map(|action| Policy {
        runaway: Some(stop(action)),
        matches: Matcher { model: Some("m".into()), ..Matcher::default() },
        ..Policy::default()
    });
    let mut bench = Bench::new(&policies, None);
    let who = agent("a");
    let mut now = 0.0;
    let mut call = |bench: &mut Bench, tokens: u64| {
        now += 5.0;
        let decision = bench.ask(&who, 40, None, now);
        let flag = bench.book.runaway(&decision);
        match decision {
            Decision::Go(grant) => {
                let end = answered(tokens / 2, tokens / 2);
                bench.book.settle(grant, &end, at(now));
            }
            Decision::No(denial) => assert_eq!(denial.why, Why::Runaway),
            Decision::Wait { .. } => panic!("it waits"),
        }
        flag
    };
    for _ in 0..240 {
        assert_eq!(call(&mut bench, 1000), None);
    }
    let flags: Vec<_> = (0..20).filter_map(|_| call(&mut bench, 40_000)).collect();
    assert!(flags.len() > 5, "{flags:?}");
    assert!(flags.iter().all(|flag| flag.action == RunawayAction::Stop));
    assert_eq!(flags.iter().filter(|flag| flag.fresh).count(), 1);
}

#[test]
fn a_slowed_call_keeps_no_limit_from_others_before_its_time() {
    let runaway = Runaway { repeats: 2, factor: 10.0, action: RunawayAction::Slow };
    let tokens = limit(Measure::Tokens, 600, 60, Mode::Soft);
    let policies = [Policy {
        runaway: Some(runaway),
        limits: vec![tokens],
        per: Per::All,
        queue: Some(Queue { wait: Duration::from_mins(2), depth: 8 }),
        ..Policy::default()
    }];
    let mut bench = Bench::new(&policies, None);
    let (looper, other) = (agent("looper"), agent("other"));
    let say = |turn| Some(Conversation { id: 1, tool: Some(ToolCall { hash: 7, turn }) });
    let Decision::Go(first) = bench.ask_in(&looper, 400, Some(1), say(3), 0.0) else { panic!() };
    bench.book.settle(first, &End::unsent(), at(0.0));
    let filling = bench.go(&agent("filler"), 400, Some(1), 0.0);
    bench.book.settle(filling, &answered(100, 500), at(0.0));
    // its large call would keep the small one out for most of a minute
    let large = bench.ask_in(&looper, 2000, Some(1), say(5), 0.0);
    let small = bench.ask_in(&other, 4, Some(1), None, 0.1);
    let (Decision::Wait { call: large, .. }, Decision::Wait { call: small, .. }) = (large, small)
    else {
        panic!("there is room")
    };
    bench.book.advance(at(0.9));
    assert!(bench.book.poll(small, Waker::noop()).is_some());
    assert!(bench.book.poll(large, Waker::noop()).is_none());
    bench.book.advance(at(60.0));
    assert!(bench.book.poll(large, Waker::noop()).is_some());
}

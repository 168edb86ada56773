//! Budgets that outlive the process: it may die at any moment.
use std::collections::HashMap;

use proptest::prelude::*;

use super::super::ledger::{Saved, SavedKey, Unsaved};
use super::*;

const BUDGET: i64 = 5_000;
/// In seconds.
const DAY: f64 = 86_400.0;

fn policies(mode: Mode) -> Vec<Policy> {
    let window = Window::Calendar(Calendar::Day);
    let one = Limit { window, ..limit(Measure::Tokens, BUDGET, 1, mode) };
    let queue = Some(Queue { wait: Duration::from_secs(20), depth: 50 });
    vec![Policy { limits: vec![one], per: Per::Agent, queue, ..Policy::default() }]
}

#[derive(Debug, Clone)]
enum Step {
    Ask {
        agent: usize,
        bytes: u64,
        max: u64,
    },
    UseUp(usize, u64),
    Settle(usize, u64),
    Leave(usize),
    Sweep,
    /// So many writes reach the disk; whether the book is told.
    Write(usize, bool),
    Crash,
    /// All that runs ends, and then the calendar turns.
    NextDay,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3_usize, 0..400_u64, 1..900_u64)
            .prop_map(|(agent, bytes, max)| Step::Ask { agent, bytes, max }),
        3 => (any::<usize>(), 0..100_u64).prop_map(|(nth, part)| Step::UseUp(nth, part)),
        4 => (any::<usize>(), 0..=100_u64).prop_map(|(nth, part)| Step::Settle(nth, part)),
        1 => any::<usize>().prop_map(Step::Leave),
        2 => Just(Step::Sweep),
        6 => (any::<usize>(), prop::bool::weighted(0.9)).prop_map(|(some, told)| Step::Write(some, told)),
        1 => Just(Step::Crash),
        1 => Just(Step::NextDay),
    ]
}

/// Calls that run, with the most that they can use: whose, input and output.
type Running = (usize, Box<Grant>, u64, u64);

struct World {
    bench: Bench,
    mode: Mode,
    disk: HashMap<SavedKey, Saved>,
    /// Handed over and not yet on disk, in order; then those on disk that the book has not heard of.
    queue: Vec<Unsaved>,
    unheard: Vec<Unsaved>,
    running: Vec<Running>,
    waiting: Vec<(usize, CallId, u64, u64)>,
    /// Thousandths of tokens that the backend has billed, by agent.
    used: [i64; 3],
    /// As of the last sweep that is on disk.
    swept: [i64; 3],
    now: f64,
}

impl World {
    fn new(mode: Mode) -> Self {
        let mut bench = Bench::new(&policies(mode), None);
        bench.book.restore([]);
        Self {
            bench,
            mode,
            disk: HashMap::new(),
            queue: Vec::new(),
            unheard: Vec::new(),
            running: Vec::new(),
            waiting: Vec::new(),
            used: [0; 3],
            swept: [0; 3],
            now: 0.0,
        }
    }

    fn went(&mut self, agent: usize, grant: Box<Grant>, bytes: u64, max: u64) {
        let max = grant.clamp.map_or(max, |clamp| clamp.tokens);
        self.running.push((agent, grant, bytes / 4, max));
    }

    fn step(&mut self, step: &Step) {
        self.now += 0.001;
        let now = at(self.now);
        match *step {
            Step::Ask { agent: nth, bytes, max } => {
                match self.bench.ask(&agent(&format!("a{nth}")), bytes, Some(max), self.now) {
                    Decision::Go(grant) => self.went(nth, grant, bytes, max),
                    Decision::Wait { call, .. } => self.waiting.push((nth, call, bytes, max)),
                    Decision::No(_) => {}
                }
            }
            Step::UseUp(nth, part) => {
                let Some(at) = nth.checked_rem(self.running.len()) else { return };
                let (_, grant, _, most) = &mut self.running[at];
                self.bench.book.use_up(grant, *most * part / 100, now);
            }
            Step::Settle(nth, part) => {
                let Some(at) = nth.checked_rem(self.running.len()) else { return };
                self.settle(at, part);
            }
            Step::Leave(nth) => {
                let Some(at) = nth.checked_rem(self.waiting.len()) else { return };
                let (_, call, ..) = self.waiting.remove(at);
                self.bench.book.leave(call, now);
            }
            Step::Sweep => {
                self.bench.book.sweep(now);
                self.queue.extend(self.bench.book.take_unsaved(true, now));
            }
            Step::Write(some, told) => {
                let some = some % (self.queue.len() + 1);
                for one in self.queue.drain(..some) {
                    self.disk.insert(one.key, one.saved);
                    self.unheard.push(one);
                }
                if told {
                    let told = std::mem::take(&mut self.unheard);
                    self.bench.book.saved(&told, now);
                }
            }
            Step::Crash => self.crash(),
            Step::NextDay => {
                // who ends lets others go
                while !self.running.is_empty() {
                    self.settle(0, 50);
                    self.poll();
                }
                self.now += DAY;
                // no debt to go along: none is let past the budget
                self.used = [0; 3];
            }
        }
        self.queue.extend(self.bench.book.take_unsaved(false, at(self.now)));
        self.poll();
        self.queue.extend(self.bench.book.take_unsaved(false, at(self.now)));
    }

    fn poll(&mut self) {
        for (nth, call, bytes, max) in std::mem::take(&mut self.waiting) {
            match self.bench.book.poll(call, Waker::noop()) {
                Some(Ok(grant)) => self.went(nth, grant, bytes, max),
                Some(Err(_)) => {}
                None => self.waiting.push((nth, call, bytes, max)),
            }
        }
    }

    fn settle(&mut self, at: usize, part: u64) {
        let (agent, grant, input, most) = self.running.swap_remove(at);
        let output = most * part / 100;
        self.bench.book.settle(grant, &answered(input, output), super::at(self.now));
        self.used[agent] += i64::try_from(input + output).unwrap() * 1000;
    }

    /// The process dies. What ran may still cost all that it was allowed.
    fn crash(&mut self) {
        for (agent, grant, input, most) in self.running.drain(..) {
            // its bound, or what it had been predicted under a soft limit
            let most = if self.mode == Mode::Hard { most } else { 0 };
            self.used[agent] += i64::try_from(input + most).unwrap() * 1000;
            drop(grant);
        }
        self.waiting.clear();
        self.queue.clear();
        self.unheard.clear();
        let mut bench = Bench::new(&policies(self.mode), None);
        bench.book.restore(self.disk.clone());
        self.bench = bench;
    }

    /// What a book that starts from the disk knows of an agent.
    fn known(&self, nth: usize) -> i64 {
        let mut bench = Bench::new(&policies(self.mode), None);
        bench.book.restore(self.disk.clone());
        // only to find its bucket
        let _ = bench.ask(&agent(&format!("a{nth}")), 0, Some(1), self.now);
        bench.line(self.now).used
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_crash_loses_a_debit_of_a_hard_budget(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::new(Mode::Hard);
        for step in steps.iter().chain([&Step::Crash]) {
            world.step(step);
            for agent in 0..3 {
                let known = world.known(agent);
                prop_assert!(known >= world.used[agent], "{} of {}", known, world.used[agent]);
                prop_assert!(world.used[agent] <= BUDGET * 1000);
            }
        }
    }

    #[test]
    fn a_crash_loses_of_a_soft_budget_what_came_after_the_last_sweep(
        steps in prop::collection::vec(step(), 1..40), after in prop::collection::vec(step(), 0..20),
    ) {
        let mut world = World::new(Mode::Soft);
        for step in steps.iter().filter(|step| !matches!(step, Step::Crash | Step::NextDay)) {
            world.step(step);
        }
        // twice: the first may find a write under way
        for _ in 0..2 {
            world.step(&Step::Write(world.queue.len(), true));
            world.step(&Step::Sweep);
        }
        world.swept = world.used;
        world.step(&Step::Write(world.queue.len(), true));
        for step in after.iter().filter(|step| !matches!(step, Step::Crash | Step::NextDay)) {
            world.step(step);
        }
        for agent in 0..3 {
            prop_assert!(world.known(agent) >= world.swept[agent]);
        }
    }
}

#[test]
fn a_store_that_is_lost_holds_up_nobody_and_forgives_nothing() {
    let who = agent("a");
    let mut bench = Bench::new(&policies(Mode::Hard), None);
    bench.book.restore([]);
    let Decision::Wait { call, .. } = bench.ask(&who, 40, Some(4_000), 0.0) else { panic!() };
    let unsaved = bench.book.take_unsaved(false, at(0.0));
    bench.book.lose_store(at(0.0));
    assert!(bench.book.poll(call, Waker::noop()).is_some());
    // a late answer of the writer changes nothing
    bench.book.saved(&unsaved, at(0.0));
    assert!(bench.book.take_unsaved(true, at(0.0)).is_empty());

    // in the next life the store is lost before the agent comes
    let mut after = Bench::new(&policies(Mode::Hard), None);
    after.book.restore(unsaved.iter().map(|one| (one.key, one.saved)));
    after.book.lose_store(at(1.0));
    assert!(
        matches!(after.ask(&who, 40, Some(4_000), 1.0), Decision::Go(grant) if grant.clamp.is_some())
    );
    assert!(after.line(1.0).used >= 4_000_000);
}

/// A call of so many tokens goes once its budget is written down, and uses them all.
fn used_up(bench: &mut Bench, tokens: u64, now: f64) -> Vec<Unsaved> {
    let Decision::Wait { call, .. } = bench.ask(&agent("a"), 0, Some(tokens), now) else {
        panic!()
    };
    let unsaved = bench.book.take_unsaved(false, at(now));
    bench.book.saved(&unsaved, at(now));
    let grant = bench.book.poll(call, Waker::noop()).unwrap().unwrap();
    bench.book.settle(grant, &answered(0, tokens), at(now));
    unsaved
}

/// What a process that starts from these knows to be used, in thousandths of tokens.
fn used_after_a_crash(kept: &[Unsaved], now: f64) -> i64 {
    let mut after = Bench::new(&policies(Mode::Hard), None);
    after.book.restore(kept.iter().map(|one| (one.key, one.saved)));
    let _ = after.ask(&agent("a"), 0, Some(1), now);
    after.line(now).used
}

#[test]
fn a_crash_after_the_calendar_has_turned_loses_no_debit() {
    let mut bench = Bench::new(&policies(Mode::Hard), None);
    bench.book.restore([]);
    let yesterday = used_up(&mut bench, 4_000, 0.0);
    assert_eq!(used_after_a_crash(&yesterday, DAY), 0);

    // what is on disk is of yesterday: it says nothing of today
    let Decision::Wait { call, .. } = bench.ask(&agent("a"), 0, Some(900), DAY) else { panic!() };
    let today = bench.book.take_unsaved(false, at(DAY));
    assert!(bench.book.poll(call, Waker::noop()).is_none());
    bench.book.saved(&today, at(DAY));
    assert!(bench.book.poll(call, Waker::noop()).unwrap().is_ok());
    assert!(used_after_a_crash(&today, DAY) >= 900_000, "{today:?}");
}

#[test]
fn a_write_that_was_under_way_when_the_calendar_turned_covers_nothing_of_the_new_day() {
    let mut bench = Bench::new(&policies(Mode::Hard), None);
    bench.book.restore([]);
    let who = agent("a");
    let ask = bench.ask(&who, 0, Some(4_000), 0.0);
    let Decision::Wait { call: first, .. } = ask else { panic!() };
    let yesterday = bench.book.take_unsaved(false, at(0.0));
    bench.book.leave(first, at(0.0));
    let Decision::Wait { call, .. } = bench.ask(&who, 0, Some(900), DAY) else { panic!() };
    // one write at a time
    assert!(bench.book.take_unsaved(false, at(DAY)).is_empty());
    bench.book.saved(&yesterday, at(DAY));
    assert!(bench.book.poll(call, Waker::noop()).is_none());
    let today = bench.book.take_unsaved(false, at(DAY));
    bench.book.saved(&today, at(DAY));
    assert!(bench.book.poll(call, Waker::noop()).unwrap().is_ok());
    let used = used_after_a_crash(&today, DAY);
    assert!((900_000..2_000_000).contains(&used), "{used}");
}

#[test]
fn names_that_read_alike_keep_their_budgets_apart() {
    let mut bench = Bench::new(&policies(Mode::Soft), None);
    bench.book.restore([]);
    let team = Identity { team: Some("growth".into()), ..agent("a") };
    for (who, tokens) in [(&team, 4000), (&agent("growth/a"), 10)] {
        let grant = bench.go(who, 0, Some(100), 0.0);
        bench.book.settle(grant, &answered(0, tokens), at(0.0));
    }
    let unsaved = bench.book.take_unsaved(true, at(0.0));
    let keys: std::collections::HashSet<_> = unsaved.iter().map(|one| one.key).collect();
    assert_eq!((unsaved.len(), keys.len()), (2, 2));
}

#[test]
fn a_limit_that_was_away_keeps_its_hard_budget() {
    let mut bench = Bench::new(&policies(Mode::Hard), None);
    bench.book.restore([]);
    let who = agent("a");
    let Decision::Wait { call, .. } = bench.ask(&who, 0, Some(4_000), 0.0) else { panic!() };
    let unsaved = bench.book.take_unsaved(false, at(0.0));
    bench.book.saved(&unsaved, at(0.0));
    let grant = bench.book.poll(call, Waker::noop()).unwrap().unwrap();
    bench.book.settle(grant, &answered(0, 4_000), at(0.0));
    let apply = |bench: &mut Bench, policies: &[Policy]| {
        bench.book.apply(Arc::new(Rules::prepare(policies, &Metrics::new())), [], [], at(1.0));
        (0..10).for_each(|_| bench.book.sweep(at(1.0)));
    };
    apply(&mut bench, &[]);
    apply(&mut bench, &policies(Mode::Hard));
    assert_eq!(bench.line(1.0).used, 4_000_000);
}

#[test]
fn a_backend_that_goes_past_its_bound_is_written_down_at_once() {
    let mut bench = Bench::new(&policies(Mode::Hard), None);
    bench.book.restore([]);
    let Decision::Wait { call, .. } = bench.ask(&agent("a"), 0, Some(100), 0.0) else { panic!() };
    let unsaved = bench.book.take_unsaved(false, at(0.0));
    bench.book.saved(&unsaved, at(0.0));
    let grant = bench.book.poll(call, Waker::noop()).unwrap().unwrap();
    bench.book.settle(grant, &answered(0, 3_000), at(0.1));
    let unsaved = bench.book.take_unsaved(false, at(0.1));
    assert!(unsaved.iter().any(|one| one.saved.level >= 3_000_000), "{unsaved:?}");
}

//! Whatever happens in whatever order: nothing is lost, nothing is given back twice, and nobody waits
//! for ever.
use std::collections::HashMap;

use proptest::prelude::*;

use super::super::ledger::Unsaved;
use super::super::line::{Turn, Waiting};
use super::*;
use crate::limits::price::{PriceList, Rate};

/// One thing that happens. Numbers choose among what there is.
#[derive(Debug, Clone)]
enum Step {
    Ask {
        agent: usize,
        pool: usize,
        lane: Option<usize>,
        bytes: u64,
        max: Option<u64>,
        answers: u64,
        patience: Option<u64>,
    },
    Poll(usize),
    UseUp(usize, u64),
    Settle(usize, Fate, Option<u64>),
    /// One that runs moves to another upstream.
    Move {
        nth: usize,
        fate: Fate,
        pool: usize,
        patient: bool,
    },
    Leave(usize),
    Pass(u64),
    Apply(usize),
    Lanes(usize),
    Sweep,
    Write(usize),
    LoseStore,
}

fn step() -> impl Strategy<Value = Step> {
    let fate = prop_oneof![
        Just(Fate::Unsent),
        Just(Fate::Rejected),
        Just(Fate::Failed),
        Just(Fate::Answered)
    ];
    let max = prop::option::of(prop_oneof![1..200_u64, Just(u64::MAX)]);
    let patience = prop::option::weighted(0.2, 0..3_u64);
    let lane = prop::option::of(0..2_usize);
    let ask = (0..5_usize, 0..2_usize, lane, 0..600_u64, max, 0..4_u64, patience);
    prop_oneof![
        8 => ask.prop_map(|(agent, pool, lane, bytes, max, answers, patience)| {
            Step::Ask { agent, pool, lane, bytes, max, answers, patience }
        }),
        3 => any::<usize>().prop_map(Step::Poll),
        2 => (any::<usize>(), 0..300_u64).prop_map(|(nth, tokens)| Step::UseUp(nth, tokens)),
        4 => (any::<usize>(), fate.clone(), prop::option::of(0..300_u64))
            .prop_map(|(nth, fate, usage)| Step::Settle(nth, fate, usage)),
        2 => (any::<usize>(), fate, 0..2_usize, any::<bool>())
            .prop_map(|(nth, fate, pool, patient)| Step::Move { nth, fate, pool, patient }),
        2 => any::<usize>().prop_map(Step::Leave),
        3 => (0..5_000_u64).prop_map(Step::Pass),
        1 => (0..RULES).prop_map(Step::Apply),
        1 => (0..LANES.len()).prop_map(Step::Lanes),
        1 => Just(Step::Sweep),
        3 => any::<usize>().prop_map(Step::Write),
        1 => prop::bool::weighted(0.1).prop_map(|lost| if lost { Step::LoseStore } else { Step::Sweep }),
    ]
}

const RULES: usize = 5;

/// Places of the lanes, one set after the other; without a number the lane is not in the policy.
const LANES: [[Option<usize>; 2]; 4] =
    [[Some(2), Some(3)], [Some(1), Some(1)], [None, Some(3)], [None, None]];

/// Policies of which one follows the other.
fn rules(which: usize) -> Vec<Policy> {
    let queue = Some(Queue { wait: Duration::from_secs(20), depth: 50 });
    let at_once = |amount| Limit {
        window: Window::Now,
        ..limit(Measure::Concurrency, amount, 1, Mode::Soft)
    };
    let day = Window::Calendar(Calendar::Day);
    let budget = |measure, amount, mode| Limit { window: day, ..limit(measure, amount, 1, mode) };
    let of = |per, limits| Policy { per, limits, queue, ..Policy::default() };
    let scale = if which == 1 { 1 } else { 2 };
    let mut all = vec![
        of(Per::Agent, vec![limit(Measure::Requests, 6 * scale, 6, Mode::Soft), at_once(2)]),
        of(Per::All, vec![limit(Measure::Tokens, 2_000 * scale, 10, Mode::Soft), at_once(5)]),
        of(Per::Session, vec![limit(Measure::OutputTokens, 300 * scale, 10, Mode::Hard)]),
        of(Per::Team, vec![limit(Measure::InputTokens, 400, 10, Mode::Observe)]),
        of(Per::All, vec![budget(Measure::Tokens, 40_000, Mode::Hard)]),
        of(Per::Agent, vec![budget(Measure::OutputTokens, 9_000, Mode::Soft)]),
        of(Per::Team, vec![budget(Measure::Spend, 1, Mode::Hard)]),
    ];
    match which {
        2 => all.truncate(1),
        3 => all.clear(),
        4 => all.iter_mut().for_each(|policy| policy.queue = None),
        _ => {}
    }
    all
}

const LANE_NAMES: [&str; 2] = ["chat", "tools"];

/// As the book hands them out.
#[allow(clippy::vec_box)]
type Grants = Vec<Box<Grant>>;

/// A book, and all that has been given out of it.
struct World {
    book: Book,
    pools: [PoolId; 2],
    lanes: [LaneId; 2],
    /// Which policies are in force, and which lanes.
    in_force: (usize, usize),
    waiting: Vec<CallId>,
    running: Grants,
    unsaved: Vec<Unsaved>,
    now: Moment,
    metrics: Metrics,
    agents: Vec<Identity>,
    rate: Rate,
}

impl World {
    fn new() -> Self {
        let mut book = Book::new();
        let pool = |name: &str, slots| PoolRule {
            name: name.into(),
            slots,
            pacing: None,
            wait: Duration::from_secs(5),
        };
        let pools = [pool("one", Some(3)), pool("two", None)].map(|rule| book.pool(rule));
        let lanes = LANE_NAMES.map(|name| book.lane_of(&name.into()));
        book.restore([]);
        let team = |nth: usize| (nth.is_multiple_of(2)).then(|| "team".into());
        let session = |nth: usize| (nth.is_multiple_of(3)).then(|| "session".into());
        let classes = [Class::Interactive, Class::Default, Class::Batch];
        let agents = (0..5).map(|nth| Identity {
            team: team(nth),
            session: session(nth),
            class: classes[nth % 3],
            ..agent(&format!("a{nth}"))
        });
        let mut world = Self {
            book,
            pools,
            lanes,
            in_force: (0, 0),
            waiting: Vec::new(),
            running: Vec::new(),
            unsaved: Vec::new(),
            now: at(0.0),
            metrics: Metrics::new(),
            agents: agents.collect(),
            rate: PriceList::default().of("gpt-4o"),
        };
        world.apply(0, 0);
        world
    }

    fn apply(&mut self, which: usize, lanes: usize) {
        self.in_force = (which, lanes);
        let rules = Rules::prepare(&rules(which), &self.metrics);
        let wait = Duration::from_secs(5);
        let lane = |(name, slots): (&str, Option<usize>)| {
            Some(LaneRule { name: name.into(), slots: Some(slots?), depth: 20, wait })
        };
        let lanes = LANE_NAMES.into_iter().zip(LANES[lanes]).filter_map(lane);
        self.book.apply(Arc::new(rules), [], lanes, self.now);
    }

    fn ask(&self, agent: usize, pool: usize, lane: Option<usize>) -> Ask<'_> {
        let who = &self.agents[agent];
        Ask {
            subject: Subject { who, model: "m", route: "r", upstream: "up" },
            pool: self.pools[pool],
            lane: lane.map(|lane| self.lanes[lane]),
            kind: 0,
            reasoning: false,
            counted: true,
            generates: true,
            prompt_bytes: 40,
            max_tokens: None,
            least: 0,
            answers: 1,
            rate: Some(self.rate),
            credential: 0,
            patience: None,
            here: false,
            paid: false,
            conversation: None,
        }
    }

    fn decided(&mut self, decision: Decision) {
        match decision {
            Decision::Go(grant) => self.running.push(grant),
            Decision::Wait { call, .. } => self.waiting.push(call),
            Decision::No(_) => {}
        }
    }

    /// Places that are taken, and how many there are: of pools, and of lanes.
    fn places(&self) -> Vec<(usize, Option<usize>)> {
        let pools = self.book.pools.iter().map(|pool| (pool.running, pool.rule.slots));
        pools.chain(self.book.lanes.iter().map(|lane| (lane.running, lane.rule.slots))).collect()
    }

    fn step(&mut self, step: &Step) {
        let before = self.places();
        self.take_step(step);
        for ((was, _), (is, slots)) in before.into_iter().zip(self.places()) {
            // what ran before a bound was lowered goes on
            assert!(is <= was || slots.is_none_or(|slots| is <= slots), "{was} {is} {slots:?}");
        }
    }

    fn take_step(&mut self, step: &Step) {
        match *step {
            Step::Ask { agent, pool, lane, bytes, max, answers, patience } => {
                let mut book = std::mem::take(&mut self.book);
                let ask = Ask {
                    counted: !bytes.is_multiple_of(7),
                    generates: !bytes.is_multiple_of(5),
                    prompt_bytes: bytes,
                    max_tokens: max,
                    answers,
                    patience: patience.map(Duration::from_secs),
                    ..self.ask(agent, pool, lane)
                };
                let decision = book.ask(&ask, self.now);
                self.book = book;
                self.decided(decision);
            }
            Step::Poll(nth) => {
                let Some(at) = nth.checked_rem(self.waiting.len()) else { return };
                if let Some(turn) = self.book.poll(self.waiting[at], Waker::noop()) {
                    self.waiting.remove(at);
                    self.running.extend(turn);
                }
            }
            Step::UseUp(nth, tokens) => {
                let Some(at) = nth.checked_rem(self.running.len()) else { return };
                self.book.use_up(&mut self.running[at], tokens, self.now);
            }
            Step::Settle(nth, fate, output) => {
                let Some(at) = nth.checked_rem(self.running.len()) else { return };
                let grant = self.running.swap_remove(at);
                let usage =
                    output.map(|output| Usage { input: output / 2, output, ..Usage::default() });
                let end = End { fate, usage, produced: nth as u64 % 100, ..answered(0, 0) };
                self.book.settle(grant, &end, self.now);
            }
            Step::Move { nth, fate, pool, patient } => {
                let Some(at) = nth.checked_rem(self.running.len()) else { return };
                let grant = self.running.swap_remove(at);
                let lane = self.lanes.iter().position(|lane| grant.lane == Some(*lane));
                let hash = grant.agent;
                let mut book = std::mem::take(&mut self.book);
                let whose = |who: &Identity| book.name_hash(&(&who.team, &who.agent)) == hash;
                let agent = self.agents.iter().position(whose).unwrap();
                let patience = (!patient).then_some(Duration::ZERO);
                let ask = Ask { patience, ..self.ask(agent, pool, lane) };
                let end = End { fate, ..answered(0, 0) };
                let (_, decision) = book.exchange(grant, &end, &ask, self.now);
                assert!(patient || !matches!(decision, Decision::Wait { .. }));
                self.book = book;
                self.decided(decision);
            }
            Step::Leave(nth) => {
                let Some(at) = nth.checked_rem(self.waiting.len()) else { return };
                self.book.leave(self.waiting.remove(at), self.now);
            }
            Step::Pass(ms) => self.pass(ms),
            Step::Apply(which) => self.apply(which, self.in_force.1),
            Step::Lanes(which) => self.apply(self.in_force.0, which),
            Step::Sweep => {
                self.book.sweep(self.now);
                self.unsaved.extend(self.book.take_unsaved(true, self.now));
            }
            Step::Write(some) => {
                let some = some % (self.unsaved.len() + 1);
                let done: Vec<_> = self.unsaved.drain(..some).collect();
                self.book.saved(&done, self.now);
            }
            Step::LoseStore => {
                self.unsaved.clear();
                self.book.lose_store(self.now);
            }
        }
        // as the door does after each
        self.book.take_woken();
        self.unsaved.extend(self.book.take_unsaved(false, self.now));
    }

    fn pass(&mut self, ms: u64) {
        self.now.at += ms * 1_000_000;
        self.now.wall = 1_800_000_000 + (self.now.at / SECOND).cast_signed();
        if self.book.wake_at().is_some_and(|at| at <= self.now.at) {
            self.book.advance(self.now);
        }
    }

    /// What buckets, pools and queues say is what has been given out.
    fn check(&mut self) {
        let book = &self.book;
        let turns = book.waits.iter().filter_map(|(_, one)| match &one.turn {
            Some(Turn::Go(grant)) => Some(grant),
            _ => None,
        });
        let grants: Vec<&Grant> = self.running.iter().chain(turns).map(|grant| &**grant).collect();
        let mut of: HashMap<usize, (i64, i64, u32, u32)> = HashMap::new();
        for part in grants.iter().flat_map(|grant| &grant.parts) {
            let sum = of.entry(part.bucket).or_default();
            *sum = (sum.0 + part.held + part.margin, sum.1 + part.speed, sum.2 + 1, sum.3 + 1);
        }
        // who is not let go lets go of its buckets when it hears of it
        let lines = book.waits.iter().filter(|(_, one)| !matches!(one.turn, Some(Turn::Go(_))));
        for part in lines.flat_map(|(_, one)| &one.plan.parts) {
            of.entry(part.bucket).or_default().3 += 1;
        }
        for (at, entry) in &book.table.entries {
            let (held, speed, running, users) = of.remove(&at).unwrap_or_default();
            assert_eq!(entry.bucket.held(), held, "{}", entry.limit.label);
            assert_eq!(entry.bucket.speed(), speed, "{}", entry.limit.label);
            assert_eq!(entry.bucket.running(), running, "{}", entry.limit.label);
            assert_eq!(entry.users, users, "{}", entry.limit.label);
        }
        assert!(of.is_empty());
        for (at, pool) in book.pools.iter().enumerate() {
            assert_eq!(pool.running, grants.iter().filter(|grant| grant.pool == at).count());
        }
        for (at, lane) in book.lanes.iter().enumerate() {
            assert_eq!(lane.running, grants.iter().filter(|grant| grant.lane == Some(at)).count());
        }
        for (at, entrance) in book.entrances.iter().enumerate() {
            let waits = |one: &&Waiting| one.plan.entrance == at && one.turn.is_none();
            let all = book.waits.iter().map(|(_, one)| one);
            assert_eq!(entrance.waiting(), all.filter(waits).count());
        }
        for (hash, present) in &book.agents {
            assert_eq!(
                present.running as usize,
                grants.iter().filter(|grant| grant.agent == *hash).count()
            );
        }
    }

    /// Drives it as the program would: by the time it asks to be woken, and by writes that come
    /// back. In the end nobody waits but for what can never be.
    fn finish(&mut self) {
        for round in 0..2_000 {
            while !self.running.is_empty() {
                self.step(&Step::Settle(0, Fate::Answered, Some(20)));
            }
            self.step(&Step::Write(self.unsaved.len()));
            for nth in (0..self.waiting.len()).rev() {
                self.step(&Step::Poll(nth));
            }
            self.check();
            if !self.running.is_empty() || !self.unsaved.is_empty() {
                continue;
            }
            let impossible = self.impossible();
            if self.waiting.len() == impossible {
                break;
            }
            let wake = self.book.wake_at();
            let wake = wake.expect("calls wait, nothing runs, and nobody is to wake them");
            // some wait for the calendar, which is looked at every second
            let hour = if round > 30 { 3_600_000 } else { 0 };
            self.pass((wake.saturating_sub(self.now.at) / 1_000_000 + 1).max(hour));
        }
        assert_eq!(self.waiting.len(), self.impossible(), "calls wait though there is room");
        while !self.waiting.is_empty() {
            self.step(&Step::Leave(0));
        }
    }

    /// Waiting calls of which a limit is now too small.
    fn impossible(&mut self) -> usize {
        let now = self.now;
        let Book { waits, table, .. } = &mut self.book;
        let mut never = |waiting: &Waiting| {
            let checked = table.check(&waiting.plan, now);
            matches!(checked, Err(Blocked::Limit(held)) if held.full == super::super::super::bucket::Full::Never)
        };
        waits
            .iter()
            .map(|(_, one)| one)
            .filter(|one| one.turn.is_none())
            .filter(|one| never(one))
            .count()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn everything_is_given_back_once_and_nobody_waits_for_ever(
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            world.check();
        }
        world.finish();
        world.check();
        for queue in world.book.queues(world.now) {
            prop_assert_eq!((queue.running, queue.waiting, queue.agents), (0, [0; 3], 0));
        }
        prop_assert!(world.book.lanes.iter().all(|lane| lane.running == 0));
        prop_assert!(world.book.waits.is_empty());
        // what is empty and written down is forgotten
        for _ in 0..4 {
            world.pass(2 * 86_400_000);
            world.step(&Step::Sweep);
            world.step(&Step::Write(world.unsaved.len()));
            world.step(&Step::Sweep);
        }
        prop_assert!(world.book.limits(world.now).is_empty());
        prop_assert!(world.book.agents(world.now).is_empty());
    }
}

//! The book of limits under any sequence of calls, with a clock of its own: what is held is what
//! was given out, a hard limit is never overrun, and in the end all has been given back.
//!
//! Input: what happens, byte by byte.
#![no_main]

use std::sync::{Arc, LazyLock};
use std::task::Waker;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use tidegate::config::{Calendar, Limit, Measure, Mode, Per, Policy, Queue, Window};
use tidegate::identity::{Class, Identity, Rung};
use tidegate::limits::book::{
    Ask, Book, Decision, End, Fate, Grant, LaneId, LaneRule, PoolId, PoolRule, Unsaved,
};
use tidegate::limits::bucket::{Moment, SECOND};
use tidegate::limits::price::{PriceList, Rate};
use tidegate::limits::rules::{Rules, Subject};
use tidegate::telemetry::metrics::Metrics;
use tidegate::wire::Usage;
use tidegate_fuzz::Dice;

const AGENTS: usize = 5;
const SLOTS: usize = 3;
/// Of a day, for all.
const DAY: i64 = 40_000;
/// Eight in the morning, and how long that day certainly lasts.
const BEGIN: i64 = 1_800_000_000;
const HOURS: i64 = 4 * 3600;

fuzz_target!(|input: &[u8]| {
    let mut dice = Dice::new(input);
    let mut world = World::new();
    while !dice.is_empty() {
        world.step(&mut dice);
        world.check();
    }
    world.finish();
});

static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);
static RULES: LazyLock<Vec<Arc<Rules>>> = LazyLock::new(|| {
    (0..5).map(|which| Arc::new(Rules::prepare(&policies(which), &METRICS))).collect()
});

/// Policies of which one follows the other.
fn policies(which: usize) -> Vec<Policy> {
    let limit = |measure: Measure, amount: i64, window, mode| Limit {
        measure,
        amount: amount * measure.scale(),
        window,
        burst: None,
        mode,
    };
    let seconds = |seconds| Window::Rate(Duration::from_secs(seconds));
    let day = Window::Calendar(Calendar::Day);
    let at_once = |amount| limit(Measure::Concurrency, amount, Window::Now, Mode::Soft);
    let queue = Some(Queue { wait: Duration::from_secs(20), depth: 50 });
    let of = |per, limits| Policy { per, limits, queue, ..Policy::default() };
    let scale = if which == 1 { 1 } else { 2 };
    let mut all = vec![
        of(Per::All, vec![limit(Measure::Tokens, DAY, day, Mode::Hard)]),
        of(
            Per::Agent,
            vec![limit(Measure::Requests, 6 * scale, seconds(6), Mode::Soft), at_once(2)],
        ),
        of(
            Per::All,
            vec![limit(Measure::Tokens, 2_000 * scale, seconds(10), Mode::Soft), at_once(5)],
        ),
        of(Per::Session, vec![limit(Measure::OutputTokens, 300 * scale, seconds(10), Mode::Hard)]),
        of(Per::Team, vec![limit(Measure::InputTokens, 400, seconds(10), Mode::Observe)]),
        of(Per::Agent, vec![limit(Measure::OutputTokens, 9_000, day, Mode::Soft)]),
        of(Per::Team, vec![limit(Measure::Spend, 1, day, Mode::Hard)]),
    ];
    match which {
        2 => all.truncate(1),
        3 => all.clear(),
        4 => all.iter_mut().for_each(|policy| policy.queue = None),
        _ => {}
    }
    all
}

/// Places of the lanes; without a number the policy has no such lane.
const LANES: [[Option<usize>; 2]; 3] = [[Some(2), Some(3)], [Some(1), Some(1)], [None, Some(3)]];

fn lanes(which: usize) -> impl Iterator<Item = LaneRule> {
    let wait = Duration::from_secs(5);
    ["chat", "tools"].into_iter().zip(LANES[which]).filter_map(move |(name, slots)| {
        Some(LaneRule { name: name.into(), slots: Some(slots?), depth: 20, wait })
    })
}

/// A call that runs.
struct Running {
    grant: Box<Grant>,
    asked: Asked,
}

#[derive(Clone, Copy)]
struct Asked {
    agent: usize,
    pool: PoolId,
    lane: Option<LaneId>,
    prompt_bytes: u64,
    max: Option<u64>,
    answers: u64,
    counted: bool,
    generates: bool,
    /// It needs no place at a backend.
    here: bool,
}

struct Waiting {
    call: usize,
    asked: Asked,
}

struct World {
    book: Book,
    pools: [PoolId; 2],
    lanes: [LaneId; 2],
    /// Which policies are in force, and which lanes.
    in_force: (usize, usize),
    waiting: Vec<Waiting>,
    running: Vec<Running>,
    unsaved: Vec<Unsaved>,
    now: Moment,
    agents: Vec<Identity>,
    rate: Rate,
    /// Some backend has told more than a call was let in for.
    liar: bool,
    /// The policies always had the same hard limits.
    bounded: bool,
    /// Both lanes always had a bound.
    laned: bool,
    /// Tokens, by a count of our own.
    spent: u64,
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
        let pools = [pool("one", Some(SLOTS)), pool("two", None)].map(|rule| book.pool(rule));
        let lane_ids = ["chat", "tools"].map(|name| book.lane_of(&name.into()));
        book.restore([]);
        let classes = [Class::Interactive, Class::Default, Class::Batch];
        let agents = (0..AGENTS).map(|nth| Identity {
            agent: format!("a{nth}").into(),
            rung: Rung::Key,
            parent: None,
            session: nth.is_multiple_of(3).then(|| "session".into()),
            team: nth.is_multiple_of(2).then(|| "team".into()),
            team_proven: false,
            class: classes[nth % 3],
            credential: None,
            grant: None,
            unlisted: None,
        });
        let now = Moment { at: 0, wall: BEGIN };
        book.apply(Arc::clone(&RULES[0]), [], lanes(0), now);
        Self {
            book,
            pools,
            lanes: lane_ids,
            in_force: (0, 0),
            waiting: Vec::new(),
            running: Vec::new(),
            unsaved: Vec::new(),
            now,
            agents: agents.collect(),
            rate: PriceList::default().of("gpt-4o"),
            liar: false,
            bounded: true,
            laned: true,
            spent: 0,
        }
    }

    fn step(&mut self, dice: &mut Dice<'_>) {
        match dice.byte() % 18 {
            0..=4 => self.ask(dice),
            5 | 6 => self.poll(dice),
            7 => self.use_up(dice),
            8..=10 => self.settle(dice),
            11 => {
                let Some(at) = some(dice, self.waiting.len()) else { return };
                self.book.leave(self.waiting.remove(at).call, self.now);
            }
            12 => self.pass(dice.below(5_000)),
            13 => {
                let which = dice.below(RULES.len() as u64) as usize;
                self.bounded &= ![2, 3].contains(&which);
                self.apply(which, self.in_force.1);
            }
            15 => {
                let which = dice.below(LANES.len() as u64) as usize;
                self.laned &= LANES[which].iter().all(Option::is_some);
                self.apply(self.in_force.0, which);
            }
            16 => self.exchange(dice),
            14 => {
                let some = dice.below(self.unsaved.len() as u64 + 1) as usize;
                let done: Vec<_> = self.unsaved.drain(..some).collect();
                self.book.saved(&done, self.now);
            }
            _ if dice.byte() == 0 => {
                self.unsaved.clear();
                self.book.lose_store(self.now);
            }
            _ => {
                self.book.sweep(self.now);
                self.unsaved.extend(self.book.take_unsaved(true, self.now));
            }
        }
        // as the door does after each
        self.book.take_woken();
        self.unsaved.extend(self.book.take_unsaved(false, self.now));
    }

    fn apply(&mut self, rules: usize, which: usize) {
        self.in_force = (rules, which);
        self.book.apply(Arc::clone(&RULES[rules]), [], lanes(which), self.now);
    }

    fn ask(&mut self, dice: &mut Dice<'_>) {
        let agent = dice.below(AGENTS as u64) as usize;
        let pool = self.pools[dice.below(2) as usize];
        let bits = dice.byte();
        let asked = Asked {
            agent,
            pool,
            lane: dice.maybe(2).map(|lane| self.lanes[lane as usize]),
            prompt_bytes: dice.below(600),
            max: if bits & 128 != 0 { Some(u64::MAX) } else { dice.maybe(200).map(|max| max + 1) },
            answers: dice.below(4),
            counted: bits & 7 != 0,
            generates: bits & 0x38 != 0,
            here: bits == 33,
        };
        let patience = (bits & 64 != 0).then(|| Duration::from_secs(dice.below(3)));
        let decision = self.book.ask(&asked.ask(&self.agents, self.rate, patience), self.now);
        self.decided(decision, asked);
    }

    /// A call moves to another backend.
    fn exchange(&mut self, dice: &mut Dice<'_>) {
        let Some(at) = some(dice, self.running.len()) else { return };
        let Running { grant, asked } = self.running.swap_remove(at);
        let asked = Asked { pool: self.pools[dice.below(2) as usize], ..asked };
        let patience = (dice.byte() & 1 == 0).then_some(Duration::ZERO);
        let fates = [Fate::Unsent, Fate::Rejected, Fate::Failed, Fate::Answered];
        let end = End { fate: fates[dice.below(4) as usize], ..End::unsent() };
        let ask = asked.ask(&self.agents, self.rate, patience);
        let (settled, decision) = self.book.exchange(grant, &end, &ask, self.now);
        assert!(patience.is_none() || !matches!(decision, Decision::Wait { .. }), "it waits");
        self.count(&asked, &settled.usage);
        self.decided(decision, asked);
    }

    fn decided(&mut self, decision: Decision, asked: Asked) {
        match decision {
            Decision::Go(grant) => self.running.push(Running { grant, asked }),
            Decision::Wait { call, .. } => self.waiting.push(Waiting { call, asked }),
            Decision::No(_) => {}
        }
    }

    fn poll(&mut self, dice: &mut Dice<'_>) {
        let Some(at) = some(dice, self.waiting.len()) else { return };
        if let Some(turn) = self.book.poll(self.waiting[at].call, Waker::noop()) {
            let Waiting { asked, .. } = self.waiting.remove(at);
            self.running.extend(turn.map(|grant| Running { grant, asked }));
        }
    }

    fn use_up(&mut self, dice: &mut Dice<'_>) {
        let Some(at) = some(dice, self.running.len()) else { return };
        let running = &mut self.running[at];
        let tokens = dice.below(running.most().min(400) + 1);
        self.book.use_up(&mut running.grant, tokens, self.now);
    }

    fn settle(&mut self, dice: &mut Dice<'_>) {
        let Some(at) = some(dice, self.running.len()) else { return };
        let Running { grant, asked } = self.running.swap_remove(at);
        let most = most(&grant, asked).min(60_000);
        let fates = [Fate::Unsent, Fate::Rejected, Fate::Failed, Fate::Answered, Fate::Spared];
        let fate = fates[dice.below(fates.len() as u64) as usize];
        // one in many is a backend that tells more than it was let
        let lies = dice.byte() == 255;
        self.liar |= lies;
        let told = |dice: &mut Dice<'_>| Usage {
            input: dice.below(grant.input + 1),
            output: if lies { 70_000 } else { dice.below(most + 1) },
            ..Usage::default()
        };
        let end = End {
            usage: dice.maybe(1).map(|_| told(dice)),
            produced: dice.below(most + 1),
            complete: dice.byte() & 1 == 0,
            elapsed: Duration::from_millis(dice.below(3_000)),
            fate,
            ..End::unsent()
        };
        self.end(grant, asked, &end);
    }

    fn end(&mut self, grant: Box<Grant>, asked: Asked, end: &End) {
        let settled = self.book.settle(grant, end, self.now);
        self.count(&asked, &settled.usage);
    }

    /// One that needs no place has been answered here: whatever it is told of uses no backend.
    fn count(&mut self, asked: &Asked, usage: &Usage) {
        if asked.counted && !asked.here {
            self.spent += usage.input + usage.output;
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now.at += ms * 1_000_000;
        self.now.wall = BEGIN + (self.now.at / SECOND).cast_signed();
        if self.book.wake_at().is_some_and(|at| at <= self.now.at) {
            self.book.advance(self.now);
        }
    }

    fn check(&mut self) {
        for (line, pool) in self.book.queues(self.now).iter().zip(self.pools) {
            assert!(line.slots.is_none_or(|slots| line.running <= slots), "{line:?}");
            let of_pool = |asked: &Asked| asked.pool == pool && !asked.here;
            let waiting = self.waiting.iter().filter(|one| of_pool(&one.asked)).count();
            let running = self.running.iter().filter(|one| of_pool(&one.asked)).count();
            // these stand in line, and then need no place
            let here = |one: &&Waiting| one.asked.pool == pool && one.asked.here;
            let here = self.waiting.iter().filter(here).count();
            let total = line.running + line.waiting.iter().sum::<usize>();
            // who has been told stands in no line: whether it goes, and so runs, it has yet to ask
            let told =
                |one: &&Waiting| of_pool(&one.asked) && self.book.position(one.call).is_none();
            let told = self.waiting.iter().filter(told).count();
            let expected = running + waiting - told..=running + waiting + here;
            assert!(expected.contains(&total), "{expected:?} in {line:?}");
        }
        for (line, most) in self.book.lanes().iter().zip([2, 3]) {
            assert!(!self.laned || line.running <= most, "{line:?}");
        }
        for line in self.book.limits(self.now) {
            assert!(line.held >= 0 && line.used >= 0 && line.remaining >= 0, "{line:?}");
            // a policy may be lowered under those who run, to half
            let ceiling = match line.measure {
                Measure::OutputTokens if line.mode == Mode::Hard => 2 * line.capacity,
                _ => line.capacity,
            };
            // who was let in while there was no such limit is counted when it comes back
            let hard = line.mode == Mode::Hard && !self.liar;
            if self.bounded && (line.measure == Measure::Concurrency || hard) {
                assert!(line.used.saturating_add(line.held) <= ceiling, "{line:?}");
            }
        }
        let one_day = self.now.wall - BEGIN < HOURS;
        if self.bounded && one_day && !self.liar {
            assert!(self.spent <= DAY.cast_unsigned(), "{} tokens of {DAY}", self.spent);
        }
    }

    /// Drives it to its end, as the program would: all that runs ends, all that waits goes or leaves.
    fn finish(&mut self) {
        for _ in 0..64 {
            while let Some(Running { grant, asked }) = self.running.pop() {
                let usage = Some(Usage { output: most(&grant, asked).min(20), ..Usage::default() });
                let end = End { usage, fate: Fate::Answered, complete: true, ..End::unsent() };
                self.end(grant, asked, &end);
            }
            self.unsaved.extend(self.book.take_unsaved(true, self.now));
            let done = std::mem::take(&mut self.unsaved);
            self.book.saved(&done, self.now);
            self.pass(1_000);
            for at in (0..self.waiting.len()).rev() {
                let Some(turn) = self.book.poll(self.waiting[at].call, Waker::noop()) else {
                    continue;
                };
                let Waiting { asked, .. } = self.waiting.remove(at);
                self.running.extend(turn.map(|grant| Running { grant, asked }));
            }
            self.check();
            if self.running.is_empty() && self.waiting.is_empty() {
                break;
            }
            assert!(
                !self.running.is_empty() || self.book.wake_at().is_some() || self.impossible(),
                "calls wait, nothing runs, and nobody is to wake them"
            );
        }
        for Running { grant, .. } in std::mem::take(&mut self.running) {
            self.book.settle(grant, &End::unsent(), self.now);
        }
        for waiting in std::mem::take(&mut self.waiting) {
            self.book.leave(waiting.call, self.now);
        }
        self.check();
        for line in self.book.limits(self.now) {
            assert_eq!(line.held, 0, "not given back: {line:?}");
            assert!(line.measure != Measure::Concurrency || line.used == 0, "{line:?}");
        }
        for line in self.book.queues(self.now) {
            assert_eq!((line.running, line.waiting, line.agents), (0, [0; 3], 0), "{line:?}");
        }
        assert!(self.book.lanes().iter().all(|line| line.running == 0));
        assert!(self.book.agents(self.now).iter().all(|line| line.running + line.waiting == 0));
    }

    /// Some wait for what a policy that came later never allows.
    fn impossible(&mut self) -> bool {
        let calls: Vec<_> = self.waiting.iter().map(|one| one.call).collect();
        calls.iter().any(|call| self.book.waits_for(*call, self.now).is_some())
    }
}

impl Asked {
    fn ask(self, agents: &[Identity], rate: Rate, patience: Option<Duration>) -> Ask<'_> {
        Ask {
            subject: Subject { who: &agents[self.agent], model: "m", route: "r", upstream: "up" },
            pool: self.pool,
            lane: self.lane,
            kind: 0,
            reasoning: false,
            counted: self.counted,
            generates: self.generates,
            prompt_bytes: self.prompt_bytes,
            max_tokens: self.max,
            least: 0,
            answers: self.answers,
            rate: Some(rate),
            credential: 0,
            patience,
            here: self.here,
            conversation: None,
            paid: false,
        }
    }
}

impl Running {
    fn most(&self) -> u64 {
        most(&self.grant, self.asked)
    }
}

/// The output that the call was let in for.
fn most(grant: &Grant, asked: Asked) -> u64 {
    if !asked.generates {
        return 0;
    }
    let each = grant.clamp.map(|clamp| clamp.tokens).or(asked.max).unwrap_or(500);
    each.min(100_000_000) * asked.answers.max(1)
}

fn some(dice: &mut Dice<'_>, of: usize) -> Option<usize> {
    (of > 0).then(|| dice.below(of as u64) as usize)
}

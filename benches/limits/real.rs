//! The project's own limiter under the simulation: the book of limits itself, told what the pipeline
//! tells it, with the virtual clock as its time.
use std::collections::HashMap;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use tidegate::config::{Limit as Configured, Measure, Mode, Per, Policy, Queue, Window};
use tidegate::identity::{Class, Identity, Rung};
use tidegate::limits::book::{self, Ask, Book, Fate, Grant, PoolId, PoolRule};
use tidegate::limits::bucket::Moment;
use tidegate::limits::rules::{Rules, Subject};
use tidegate::telemetry::metrics::Metrics;
use tidegate::wire::Usage;

use crate::engine::{Change, Decision, End, FIRST_TOKEN, Limiter, SPEED};
use crate::policies::{Limit, MAX_WAIT};
use crate::workload::{Call, Nanos, SECOND};

/// The policy under test.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    pub limit: Limit,
    pub hard: bool,
    /// One bucket for all agents; else one each.
    pub shared: bool,
    /// Calls at once, where that is limited too.
    pub at_once: Option<u32>,
}

pub struct Tidegate {
    book: Book,
    pool: PoolId,
    agents: Vec<Identity>,
    /// In line: our number, the book's, and until when.
    waiting: Vec<(usize, usize, Nanos)>,
    /// Some of them have not yet left a waker.
    unasked: bool,
    running: HashMap<usize, Running>,
    swept: Nanos,
}

struct Running {
    grant: Box<Grant>,
    produced: u64,
    since: Nanos,
}

/// Bytes a token, as the prompts of the load have it.
const BYTES: u64 = 4;

fn moment(now: Nanos) -> Moment {
    Moment { at: now, wall: 1_800_000_000 + (now / SECOND).cast_signed() }
}

fn tokens(count: f64) -> i64 {
    (count * Measure::Tokens.scale() as f64).round() as i64
}

impl Rule {
    fn policy(&self) -> Policy {
        let mode = if self.hard { Mode::Hard } else { Mode::Soft };
        let mut limits = vec![Configured {
            measure: Measure::Tokens,
            amount: tokens(self.limit.rate * 60.0),
            window: Window::Rate(Duration::from_mins(1)),
            burst: Some(tokens(self.limit.burst)),
            mode,
        }];
        limits.extend(self.at_once.map(|most| Configured {
            measure: Measure::Concurrency,
            amount: i64::from(most),
            window: Window::Now,
            burst: None,
            mode: Mode::Soft,
        }));
        let wait = Duration::from_nanos(MAX_WAIT);
        Policy {
            per: if self.shared { Per::All } else { Per::Agent },
            limits,
            queue: Some(Queue { wait, depth: usize::MAX }),
            ..Policy::default()
        }
    }
}

pub fn identity(agent: usize) -> Identity {
    Identity {
        agent: format!("agent-{agent}").into(),
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

/// A plain call for text, at most `bound` tokens of it.
pub fn ask(who: &Identity, pool: PoolId, bytes: u64, bound: u64) -> Ask<'_> {
    Ask {
        subject: Subject { who, model: "model", route: "route", upstream: "upstream" },
        pool,
        lane: None,
        kind: 0,
        reasoning: false,
        counted: true,
        generates: true,
        prompt_bytes: bytes,
        max_tokens: Some(bound),
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

impl Tidegate {
    pub fn new(rule: &Rule, slots: Option<usize>, agents: usize) -> Self {
        let mut book = Book::new();
        let wait = Duration::from_nanos(MAX_WAIT);
        let upstream = PoolRule { name: "upstream".into(), slots, pacing: None, wait };
        let pool = book.pool_of(&upstream.name);
        let rules = Rules::prepare(&[rule.policy()], &Metrics::new());
        book.apply(Arc::new(rules), [upstream], [], moment(0));
        let agents = (0..agents).map(identity).collect();
        let (waiting, running) = (Vec::new(), HashMap::new());
        Self { book, pool, agents, waiting, unasked: false, running, swept: 0 }
    }

    fn start(&mut self, id: usize, grant: Box<Grant>, now: Nanos) -> u64 {
        let bound = grant.clamp.map_or(u64::MAX, |clamp| clamp.tokens);
        self.running.insert(id, Running { grant, produced: 0, since: now });
        bound
    }

    fn is_overdue(&self, now: Nanos) -> bool {
        self.waiting.iter().any(|(_, _, until)| *until <= now)
    }
}

impl Limiter for Tidegate {
    fn arrive(&mut self, call: &Call, now: Nanos) -> Decision {
        let who = &self.agents[call.agent];
        let ask = ask(who, self.pool, call.guess * BYTES, call.bound);
        match self.book.ask(&ask, moment(now)) {
            book::Decision::Go(grant) => {
                let bound = self.start(call.id, grant, now);
                Decision::Go(bound.min(call.bound))
            }
            book::Decision::Wait { call: place, longest } => {
                let until = now + longest.as_nanos() as Nanos;
                self.waiting.push((call.id, place, until));
                self.unasked = true;
                Decision::Wait
            }
            book::Decision::No(_) => Decision::Deny,
        }
    }

    fn tick(&mut self, call: &Call, tokens: u64, now: Nanos) {
        let Some(running) = self.running.get_mut(&call.id) else { return };
        running.produced += tokens;
        self.book.use_up(&mut running.grant, running.produced, moment(now));
    }

    fn finish(&mut self, call: &Call, end: End, now: Nanos) {
        let Some(running) = self.running.remove(&call.id) else { return };
        let usage = Usage { input: call.input, output: end.produced, ..Usage::default() };
        let end = book::End {
            fate: Fate::Answered,
            usage: (!end.left).then_some(usage),
            produced: end.produced,
            complete: !end.left,
            first_token: Some(Duration::from_nanos(FIRST_TOKEN)),
            generating: Some(Duration::from_nanos(end.produced * SECOND / SPEED)),
            elapsed: Duration::from_nanos(now - running.since),
        };
        self.book.settle(running.grant, &end, moment(now));
    }

    fn poll(&mut self, now: Nanos, changes: &mut Vec<Change>) {
        if self.book.wake_at().is_some_and(|at| at <= now) {
            self.book.advance(moment(now));
        }
        if now >= self.swept + SECOND {
            self.book.sweep(moment(now));
            self.swept = now;
        }
        // only who is woken asks again, as in the program: a lost wake-up would show
        while !self.book.take_woken().is_empty() || self.unasked || self.is_overdue(now) {
            self.unasked = false;
            for (id, place, until) in std::mem::take(&mut self.waiting) {
                match self.book.poll(place, Waker::noop()) {
                    Some(Ok(grant)) => {
                        let bound = self.start(id, grant, now);
                        changes.push(Change::Go(id, bound));
                    }
                    Some(Err(_)) => changes.push(Change::Expired(id)),
                    None if until <= now => {
                        self.book.leave(place, moment(now));
                        changes.push(Change::Expired(id));
                    }
                    None => self.waiting.push((id, place, until)),
                }
            }
        }
    }

    fn wake_at(&self, _now: Nanos) -> Option<Nanos> {
        let first = self.waiting.iter().map(|(_, _, until)| *until).min();
        first.into_iter().chain(self.book.wake_at()).min()
    }

    fn residue(&mut self, now: Nanos) -> Option<String> {
        let queue = self.book.queues(moment(now)).remove(self.pool);
        let held: i64 = self.book.limits(moment(now)).iter().map(|limit| limit.held).sum();
        let left = queue.running + queue.waiting.iter().sum::<usize>();
        (left > 0 || held != 0).then(|| format!("{left} calls, {held} units held"))
    }
}

//! What a call will ask of which buckets, worked out before anything is taken.
use std::time::Duration;

use super::super::bucket::{Bucket, Demand, Full, Moment, Shape};
use super::super::pace::Need;
use super::super::predict::Subject as History;
use super::super::price::Rate;
use super::super::queue::{FlowId, service};
use super::super::rules::{LimitOf, Rule, Subject};
use super::pool::PoolId;
use super::{Book, Denial, Grant, Why};
use crate::config::{Measure, Mode};
use crate::identity::Class;

/// A thousandth of a token is a token bucket's unit.
const TOKEN: i64 = 1000;
/// A bound on the output that is lower than this helps nobody, unless the limit itself is small.
const USEFUL: u64 = 256;
/// What hard limits reserve where neither the call nor the price list says how long an answer may be.
const UNBOUND: u64 = 16_384;
/// What a call may ask for; more is nonsense, and would only make sums overflow.
const MOST_ANSWERS: u64 = 1024;
const LONGEST: u64 = 100_000_000;
/// Calls of one agent that wait, where no policy says.
const DEPTH: usize = 1024;

/// A call that asks to go.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    pub subject: Subject<'a>,
    pub pool: PoolId,
    /// Of call: histories of kinds do not mix.
    pub kind: u8,
    /// The model thinks first.
    pub reasoning: bool,
    /// Whether it is a call whose tokens we know how to count.
    pub counted: bool,
    /// Whether its answer is tokens, and not numbers.
    pub generates: bool,
    pub prompt_bytes: u64,
    /// The bound on the output that the call itself gives.
    pub max_tokens: Option<u64>,
    /// How many answers are asked for.
    pub answers: u64,
    /// `None`: no policy asks for prices.
    pub rate: Option<Rate>,
    /// Whose limits at the backend it uses.
    pub credential: u64,
    /// The longest that the caller will wait. `None`: it does not say.
    pub patience: Option<Duration>,
}

/// What the forwarded call must say of its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clamp {
    /// Most tokens of each answer.
    pub tokens: u64,
    /// The call asked for more, or for no bound at all.
    pub asked: Option<u64>,
}

/// Why a plan does not fit.
#[derive(Debug, Clone, Copy)]
pub(super) enum Blocked {
    Limit {
        bucket: usize,
        full: Full,
        /// Only this agent's calls fill it.
        own: bool,
    },
    /// It fits, but the budget is not yet on disk.
    Unsaved,
}

/// What is asked of one bucket.
#[derive(Debug, Clone, Copy)]
pub(super) struct PlanPart {
    pub bucket: usize,
    pub demand: Demand,
    /// What one token of output costs there.
    pub per_token: i64,
}

/// All that a call asks for.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub parts: Vec<PlanPart>,
    pub pool: PoolId,
    pub pace_key: (u64, u64),
    pub need: Need,
    pub agent: u64,
    pub weight: u32,
    pub class: Class,
    pub depth: usize,
    /// Most tokens of each answer: as asked, or what hard limits assume.
    pub bound: Option<u64>,
    asked: Option<u64>,
    answers: u64,
    history: History,
    rate: Option<Rate>,
    input: u64,
    output: u64,
    prompt_bytes: u64,
    patience: Option<Duration>,
    /// A policy's own wait; longer than the pool's or not.
    wait: Option<Duration>,
    hard: bool,
    hard_money: bool,
    cuts: bool,
    counts_tokens: bool,
}

impl Plan {
    pub fn uses_any(&self, buckets: &[usize]) -> bool {
        !buckets.is_empty() && self.parts.iter().any(|part| buckets.contains(&part.bucket))
    }

    /// Tokens of each answer that a hard limit has room for; at least so many that the call is of
    /// use, and then it does not fit.
    pub fn fitting(&self, bucket: &Bucket, shape: &Shape, part: &PlanPart) -> u64 {
        let Some(bound) = self.bound.filter(|_| part.per_token > 0) else { return u64::MAX };
        let each = part.per_token.saturating_mul(count(self.answers)).max(1);
        let tokens = |units: i64| (units / each).max(0) as u64;
        let free = shape.capacity - bucket.level() - bucket.held() - part.demand.now;
        let useful = USEFUL.min(bound).min(tokens(shape.capacity) / 4).max(1);
        tokens(free).max(useful).min(bound)
    }

    /// The most that a call so bound can use.
    pub fn worst(&self, part: &PlanPart, bound: Option<u64>) -> Demand {
        let growth = match bound {
            Some(bound) if part.per_token > 0 => {
                let tokens = bound.saturating_mul(self.answers.max(1));
                part.per_token.saturating_mul(count(tokens))
            }
            _ => part.demand.growth,
        };
        Demand { growth, ..part.demand }
    }

    /// What must be written into the call so that the bound holds.
    pub fn clamp(&self, bound: Option<u64>) -> Option<Clamp> {
        let tokens =
            bound.filter(|bound| self.hard && self.asked.is_none_or(|asked| asked > *bound));
        tokens.map(|tokens| Clamp { tokens, asked: self.asked })
    }
}

impl Book {
    /// Which buckets, and how much of each.
    pub(super) fn plan(&mut self, ask: &Ask<'_>, now: Moment) -> Plan {
        let subject = &ask.subject;
        let agent = self.meet(subject.who, now);
        let model = self.name_hash(&subject.model);
        let history = History { agent, model, kind: ask.kind, reasoning: ask.reasoning };
        let answers = ask.answers.clamp(1, MOST_ANSWERS);
        let max_tokens = ask.max_tokens.map(|most| most.min(LONGEST));
        let (input, output) = if ask.counted {
            let output =
                if ask.generates { self.predictor.output(history, max_tokens, answers) } else { 0 };
            (self.predictor.input(model, ask.prompt_bytes), output)
        } else {
            (0, 0)
        };
        let mut plan = Plan {
            pool: ask.pool,
            pace_key: (ask.credential, model),
            need: Need { input_tokens: input, output_tokens: output },
            agent,
            weight: 1,
            class: subject.who.class,
            depth: DEPTH,
            asked: max_tokens,
            answers,
            history,
            rate: ask.rate,
            input,
            output,
            prompt_bytes: ask.prompt_bytes,
            patience: ask.patience,
            parts: self.spare_plans.pop().unwrap_or_default(),
            ..Plan::default()
        };
        let rules = std::sync::Arc::clone(&self.rules);
        for rule in rules.all.iter().filter(|rule| rule.matches(subject)) {
            plan.obey(rule);
            for limit in &rule.limits {
                if limit.counts_tokens() && !ask.counted {
                    continue;
                }
                let bucket = self.table.find(limit, subject, &self.hasher, now);
                let part = self.part(ask, &plan, limit, bucket);
                plan.parts.push(part);
            }
        }
        if plan.hard && ask.generates {
            let known = ask.rate.and_then(|rate| rate.max_output);
            plan.bound = Some(max_tokens.or(known).unwrap_or(UNBOUND).max(1));
        }
        for part in &plan.parts {
            if let Some(entry) = self.table.get_mut(part.bucket) {
                entry.users += 1;
            }
        }
        plan
    }

    fn part(&self, ask: &Ask<'_>, plan: &Plan, limit: &LimitOf, bucket: usize) -> PlanPart {
        let hard = limit.shape.mode == Mode::Hard;
        let input = if hard {
            self.predictor.input_most(plan.history.model, ask.prompt_bytes)
        } else {
            plan.input
        };
        let tokens = |tokens| count(tokens).saturating_mul(TOKEN);
        // long prompts may cost more, also for what is answered to them
        let rate = ask.rate.map(|rate| rate.for_prompt(input));
        let spend = |of: fn(&Rate, u64) -> i64, count| rate.map_or(0, |rate| of(&rate, count));
        let generates = i64::from(ask.generates);
        let (now, per_token) = match limit.measure {
            Measure::Requests => (TOKEN, 0),
            Measure::InputTokens => (tokens(input), 0),
            Measure::OutputTokens => (0, TOKEN * generates),
            Measure::Tokens => (tokens(input), TOKEN * generates),
            Measure::Spend if hard => {
                let most = |input, output| rate.map_or(0, |rate| rate.most(input, output));
                (most(input, 0), most(0, 1) * generates)
            }
            Measure::Spend => (spend(Rate::input, input), spend(Rate::output, 1) * generates),
            Measure::Concurrency => (0, 0),
        };
        let output = count(plan.output);
        let speed = if per_token > 0 { count(self.predictor.speed(plan.history.model)) } else { 0 };
        let demand = Demand {
            now,
            growth: per_token.saturating_mul(output),
            speed: per_token.saturating_mul(speed).saturating_mul(count(plan.answers)),
        };
        PlanPart { bucket, demand, per_token }
    }

    /// What no waiting will change.
    pub(super) fn impossible(plan: &Plan, ask: &Ask<'_>) -> Option<Denial> {
        let unpriced = plan.hard_money && ask.counted && ask.rate.is_none_or(|rate| !rate.known);
        unpriced.then_some(Denial {
            why: Why::Unpriced,
            limit: None,
            retry: None,
            lines: Vec::new(),
        })
    }

    /// A limit that is full, and whose policy has no queue, or none long enough.
    pub(super) fn may_not_wait(&self, plan: &Plan, bucket: usize, full: Full) -> Option<Denial> {
        let entry = self.table.get(bucket)?;
        let (retry, why) = match full {
            Full::Never => (None, Why::TooLarge),
            Full::For(nanos) if entry.limit.is_hard_budget() => {
                (Some(Duration::from_nanos(nanos)), Why::Spent)
            }
            Full::For(nanos) => (Some(Duration::from_nanos(nanos)), Why::Full),
            Full::UntilFree => (None, Why::Full),
        };
        let denial = |why| Denial {
            why,
            limit: Some((std::sync::Arc::clone(&entry.limit), entry.label.clone())),
            retry,
            lines: Vec::new(),
        };
        if full == Full::Never {
            return Some(denial(Why::TooLarge));
        }
        let Some(queue) = entry.limit.queue else { return Some(denial(why)) };
        let longest = plan.patience.map_or(queue.wait, |patience| patience.min(queue.wait));
        retry.is_some_and(|retry| retry > longest).then(|| denial(why))
    }

    /// How long a call will stand in line at most.
    pub(super) fn patience(
        &self,
        plan: &Plan,
        blocked: &Result<Option<Clamp>, Blocked>,
        now: Moment,
    ) -> Duration {
        let pool = &self.pools[plan.pool];
        let longest = match blocked {
            Err(Blocked::Limit { bucket, .. }) => self
                .table
                .get(*bucket)
                .and_then(|entry| entry.limit.queue)
                .map_or(Duration::ZERO, |queue| queue.wait),
            _ => plan.wait.unwrap_or(pool.rule.wait),
        };
        let longest = plan.patience.map_or(longest, |patience| patience.min(longest));
        // a pause that is longer than anybody waits is told at once
        match pool.paces.ready(plan, now.at) {
            Err(until) if until != u64::MAX && Duration::from_nanos(until - now.at) > longest => {
                Duration::ZERO
            }
            _ => longest,
        }
    }

    pub(super) fn denial_of(
        &self,
        plan: &Plan,
        blocked: &Result<Option<Clamp>, Blocked>,
        now: Moment,
    ) -> Denial {
        let limit = match blocked {
            Err(Blocked::Limit { bucket, .. }) => self.table.get(*bucket),
            _ => None,
        };
        let paused = self.pools[plan.pool].paces.ready(plan, now.at).err();
        let retry = paused.map(|until| Duration::from_nanos(until.saturating_sub(now.at)));
        Denial {
            why: Why::Full,
            limit: limit.map(|entry| (std::sync::Arc::clone(&entry.limit), entry.label.clone())),
            retry,
            lines: Vec::new(),
        }
    }

    /// Says no, and counts it where it belongs.
    pub(super) fn refuse(
        &mut self,
        plan: Plan,
        mut denial: Denial,
        now: Moment,
    ) -> super::Decision {
        let buckets = plan.parts.iter().map(|part| part.bucket);
        denial.lines =
            buckets.filter_map(|at| self.table.get_mut(at).map(|entry| entry.line(now))).collect();
        if let Some((limit, label)) = &denial.limit {
            let refusing = plan.parts.iter().map(|part| part.bucket).find(|at| {
                let is = |entry: &super::table::Entry| {
                    entry.limit.id == limit.id && entry.label == *label
                };
                self.table.get(*at).is_some_and(is)
            });
            if let Some(entry) = refusing.and_then(|at| self.table.get_mut(at)) {
                entry.refused += 1;
                entry.limit.count.refused();
            }
        }
        self.release(plan);
        super::Decision::No(denial)
    }

    /// A plan that comes to nothing lets its buckets go.
    pub(super) fn release(&mut self, plan: Plan) {
        for part in &plan.parts {
            if let Some(entry) = self.table.get_mut(part.bucket) {
                entry.users = entry.users.saturating_sub(1);
            }
        }
        self.recycle(plan);
    }

    /// Takes all that the plan says; it has been checked under the same lock.
    pub(super) fn grant(&mut self, plan: &Plan, clamp: Option<Clamp>, now: Moment) -> Box<Grant> {
        let mut parts = self.spare.pop().unwrap_or_default();
        let would_refuse = self.table.enter(plan, clamp, &mut parts, now);
        let output = clamp.map_or(plan.output, |clamp| {
            plan.output.min(clamp.tokens.saturating_mul(plan.answers))
        });
        let pool = &mut self.pools[plan.pool];
        pool.running += 1;
        let service = service(plan.input, output);
        let flow: FlowId = pool.queue.flow(plan.agent, plan.weight, now.at);
        pool.queue.start(flow, service);
        let pace = pool.paces.enter(plan.pace_key, plan.need, now.at);
        self.present(plan.agent, |agent| agent.running += 1);
        Box::new(Grant {
            parts,
            pool: plan.pool,
            flow,
            pace,
            pace_key: plan.pace_key,
            need: plan.need,
            agent: plan.agent,
            history: plan.history,
            rate: plan.rate,
            answers: plan.answers,
            service,
            prompt_bytes: plan.prompt_bytes,
            input: plan.input,
            output,
            produced: 0,
            clamp,
            would_refuse,
            cuts: plan.cuts,
            counts_tokens: plan.counts_tokens,
        })
    }
}

/// A count as a factor.
fn count(of: u64) -> i64 {
    i64::try_from(of).unwrap_or(i64::MAX)
}

impl Plan {
    /// A policy that matches.
    fn obey(&mut self, rule: &Rule) {
        self.weight = self.weight.max(rule.weight);
        if let Some(priority) = rule.priority {
            self.class = priority;
        }
        if let Some(queue) = rule.queue {
            self.wait = Some(self.wait.map_or(queue.wait, |wait| wait.max(queue.wait)));
            self.depth = self.depth.min(queue.depth);
        }
        for limit in &rule.limits {
            self.counts_tokens |= limit.counts_tokens();
            let hard = limit.shape.mode == Mode::Hard && limit.counts_tokens();
            self.hard |= hard;
            self.hard_money |= hard && limit.measure == Measure::Spend;
            self.cuts |= hard && limit.cut_streams && limit.measure == Measure::Spend;
        }
    }
}

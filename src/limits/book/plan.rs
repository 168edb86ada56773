//! What a call will ask of which buckets, worked out before anything is taken.
mod held;
mod part;

use std::time::Duration;

pub(super) use self::held::{Blocked, Held};
pub(super) use self::part::{Paid, PlanPart};
use super::super::bucket::{Bucket, Demand, Moment, Shape};
use super::super::pace::Need;
use super::super::predict::{Prompt, Subject as History};
use super::super::price::Rate;
use super::super::queue::{FlowId, service};
use super::super::rules::{Rule, Scope, Subject};
use super::super::runaway::{Caller, Flag};
use super::entrance::EntranceId;
use super::lane::LaneId;
use super::pool::PoolId;
use super::{Book, Grant};
use crate::config::{Measure, Mode, Per};
use crate::identity::Class;
use crate::wire::Conversation;

/// A thousandth of a token is a token bucket's unit.
const TOKEN: i64 = 1000;
/// A bound on the output that is lower than this helps nobody, unless the limit itself is small.
const USEFUL: u64 = 256;
/// What hard limits reserve, and write into the call, where neither the call nor the price list says
/// how long an answer may be. Larger ones are refused by backends with a small context.
const UNBOUND: u64 = 4096;
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
    /// The lane of its route, if it has one.
    pub lane: Option<LaneId>,
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
    /// A lower bound on its output is of no use to it.
    pub least: u64,
    /// How many answers are asked for.
    pub answers: u64,
    /// `None`: no policy asks for prices.
    pub rate: Option<Rate>,
    /// Whose limits at the backend it uses.
    pub credential: u64,
    /// The longest that the caller will wait. `None`: it does not say.
    pub patience: Option<Duration>,
    /// It is answered from what is kept: it counts as a request, and needs nothing else.
    pub here: bool,
    /// An earlier attempt of it was sent, and counts as its request; it is under no grant now.
    pub paid: bool,
    /// Where a guard against loops looks at it.
    pub conversation: Option<Conversation>,
}

/// What the forwarded call must say of its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clamp {
    /// Most tokens of each answer.
    pub tokens: u64,
    /// The call asked for more, or for no bound at all.
    pub asked: Option<u64>,
}

/// All that a call asks for.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub parts: Vec<PlanPart>,
    pub pool: PoolId,
    pub lane: Option<LaneId>,
    pub entrance: EntranceId,
    pub pace_key: (u64, u64),
    pub need: Need,
    pub agent: u64,
    pub weight: u32,
    pub class: Class,
    /// Most calls of this agent that wait. `None`: no policy says.
    depth: Option<usize>,
    /// Most tokens of each answer: as asked, or what hard limits assume.
    pub bound: Option<u64>,
    asked: Option<u64>,
    answers: u64,
    least: u64,
    history: History,
    rate: Option<Rate>,
    input: u64,
    output: u64,
    prompt_bytes: u64,
    pub patience: Option<Duration>,
    /// A policy's own wait; longer than the pool's or not.
    pub wait: Option<Duration>,
    pub runaway: Option<Flag>,
    guarded: Option<Caller>,
    /// It is slowed down until then.
    pub not_before: u64,
    pub here: bool,
    /// It comes from another upstream, and has waited.
    pub moved: bool,
    hard: bool,
    pub hard_money: bool,
    cuts: bool,
    counts_tokens: bool,
    /// Under a limit of a calendar's period.
    pub budgeted: bool,
}

impl Plan {
    pub fn depth(&self) -> usize {
        self.depth.unwrap_or(DEPTH)
    }

    /// Tokens of each answer that a hard limit has room for; at least so many that the call is of
    /// use, and then it does not fit.
    pub fn fitting(&self, bucket: &Bucket, shape: &Shape, part: &PlanPart) -> u64 {
        let Some(bound) = self.bound.filter(|_| part.per_token > 0) else { return u64::MAX };
        let each = part.per_token.saturating_mul(count(self.answers)).max(1);
        let tokens = |units: i64| (units / each).max(0) as u64;
        let input = part.demand.now.saturating_add(part.demand.margin);
        let taken = bucket.level().saturating_add(bucket.held()).saturating_add(input);
        let free = shape.capacity.saturating_sub(taken);
        let useful = USEFUL.min(tokens(shape.capacity) / 4).max(self.least).clamp(1, bound);
        tokens(free).clamp(useful, bound)
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
    /// Which buckets, and how much of each. `moved`: what the call had at another upstream.
    pub(super) fn plan(&mut self, ask: &Ask<'_>, moved: Option<&Grant>, now: Moment) -> Plan {
        let subject = &ask.subject;
        let agent = self.meet(subject.who, now);
        let model = self.name_hash(&subject.model);
        let history = History { agent, model, kind: ask.kind, reasoning: ask.reasoning };
        let answers = ask.answers.clamp(1, MOST_ANSWERS);
        let max_tokens = ask.max_tokens.map(|most| most.min(LONGEST));
        let mut prompt = Prompt::default();
        let mut output = 0;
        if ask.counted {
            prompt = self.predictor.prompt(model, ask.prompt_bytes);
            if ask.generates {
                output = self.predictor.output(history, max_tokens, answers);
            }
        }
        let input = prompt.likely;
        let mut plan = Plan {
            pool: ask.pool,
            lane: ask.lane,
            entrance: self.entrance_to(ask.pool, ask.lane),
            moved: moved.is_some(),
            pace_key: (ask.credential, model),
            here: ask.here,
            need: Need { input_tokens: input, output_tokens: output },
            agent,
            weight: 1,
            class: subject.who.class,
            asked: max_tokens,
            answers,
            least: ask.least,
            history,
            rate: ask.rate,
            input,
            output,
            prompt_bytes: ask.prompt_bytes,
            // what is left of it must be enough for the first token
            patience: ask.patience.map(|patience| {
                patience.saturating_sub(self.predictor.first_token(model).unwrap_or_default())
            }),
            parts: self.spare_plans.pop().unwrap_or_default(),
            ..Plan::default()
        };
        let rules = std::sync::Arc::clone(&self.rules);
        let mut seen = None;
        let mut whose = [None; Per::ALL.len()];
        for rule in rules.all.iter().filter(|rule| rule.matches(subject)) {
            plan.obey(rule);
            if let Some(runaway) = &rule.runaway {
                let caller = Caller { agent, session: self.session_hash(subject.who) };
                plan.guarded = Some(caller);
                // a call is judged once
                if moved.is_none() && !ask.paid {
                    let see = || self.guard.see(caller, ask.conversation, now.at);
                    seen.get_or_insert_with(see).judge(runaway);
                }
            }
            let mut near = None;
            for limit in &rule.limits {
                let counts = !ask.here || limit.measure == Measure::Requests;
                if !counts || (limit.counts_tokens() && !ask.counted) {
                    continue;
                }
                let scope = || Scope::of(limit.per, subject).hash(&self.hasher);
                let whose = *whose[limit.per as usize].get_or_insert_with(scope);
                let bucket = self.table.find(limit, subject, whose, near, now);
                near = Some(bucket);
                let part = part::part(ask, &plan, &prompt, limit, bucket);
                let paid = ask.paid && rule.is_paid_elsewhere(limit);
                plan.parts.push(if paid { part.paid() } else { part });
            }
        }
        let judged = |seen| self.guard.decide(&seen);
        let known = |grant: &Grant| grant.runaway.map(Flag::known);
        plan.flag(moved.map_or_else(|| seen.and_then(judged), known), now);
        plan.bound = plan.assumed(ask);
        for part in &plan.parts {
            self.table.join(part.bucket, agent);
        }
        plan
    }

    /// A plan that comes to nothing lets its buckets go.
    pub(super) fn release(&mut self, plan: Plan) {
        for part in &plan.parts {
            if let Some(entry) = self.table.get_mut(part.bucket) {
                entry.users = entry.users.saturating_sub(1);
                if part.paid.is_some_and(|paid| !paid.sunk) {
                    entry.bucket.give_back(part.counted());
                    entry.touch();
                }
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
        let service = service(plan.input, output);
        let entrance = &mut self.entrances[plan.entrance];
        let flow: FlowId = entrance.queue.flow(plan.agent, now.at);
        entrance.queue.start(flow, service, plan.weight);
        let mut pace = None;
        if !plan.here {
            self.turns += 1;
            entrance.enter(self.turns);
            if let Some(lane) = plan.lane {
                self.lanes[lane].running += 1;
            }
            let pool = &mut self.pools[plan.pool];
            pool.running += 1;
            pace = pool.paces.enter(plan.pace_key, plan.need, now.at);
        }
        self.present(plan.agent, |agent| agent.running += 1);
        Box::new(Grant {
            parts,
            pool: plan.pool,
            lane: plan.lane,
            entrance: plan.entrance,
            flow,
            pace,
            pace_key: plan.pace_key,
            need: plan.need,
            agent: plan.agent,
            history: plan.history,
            rate: plan.rate,
            answers: plan.answers,
            service,
            weight: plan.weight,
            prompt_bytes: plan.prompt_bytes,
            input: plan.input,
            output,
            produced: 0,
            clamp,
            would_refuse,
            runaway: plan.runaway,
            guarded: plan.guarded,
            cuts: plan.cuts,
            counts_tokens: plan.counts_tokens,
            budgeted: plan.budgeted,
            here: plan.here,
        })
    }
}

/// A count as a factor.
fn count(of: u64) -> i64 {
    i64::try_from(of).unwrap_or(i64::MAX)
}

impl Plan {
    /// What the guard against loops makes of it.
    fn flag(&mut self, flag: Option<Flag>, now: Moment) {
        let wait = flag.map_or(0, |flag| flag.wait.as_nanos() as u64);
        self.runaway = flag;
        self.not_before = if wait > 0 { now.at.saturating_add(wait) } else { 0 };
    }

    /// Most tokens of each answer, where a hard limit must know them.
    fn assumed(&self, ask: &Ask<'_>) -> Option<u64> {
        let known = ask.rate.and_then(|rate| rate.max_output);
        let bound = self.asked.or(known).unwrap_or(UNBOUND).max(1);
        (self.hard && ask.generates).then_some(bound)
    }

    /// A policy that matches.
    fn obey(&mut self, rule: &Rule) {
        self.weight = self.weight.max(rule.weight);
        if let Some(priority) = rule.priority {
            self.class = priority;
        }
        if let Some(queue) = rule.queue {
            self.wait = Some(self.wait.map_or(queue.wait, |wait| wait.max(queue.wait)));
            self.depth = Some(self.depth.map_or(queue.depth, |depth| depth.min(queue.depth)));
        }
        for limit in &rule.limits {
            self.counts_tokens |= limit.counts_tokens();
            self.budgeted |= limit.may_run_out();
            let hard = limit.shape.mode == Mode::Hard && limit.counts_tokens();
            self.hard |= hard;
            self.hard_money |= hard && limit.measure == Measure::Spend;
            self.cuts |= hard && limit.cut_streams && limit.measure == Measure::Spend;
        }
    }
}

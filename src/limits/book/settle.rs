//! While a call runs, and when it is over: what it really used.
use std::time::Duration;

use super::super::bucket::Moment;
use super::super::pace::{Heard, Need};
use super::super::predict::Sample;
use super::super::queue::service;
use super::super::rules::LimitOf;
use super::pool::PoolId;
use super::{Book, Grant};
use crate::config::{Measure, Mode, TokenWeights};
use crate::telemetry::usage::Sunk;
use crate::wire::Usage;

const TOKEN: i64 = 1000;
/// A call that outgrows its prediction takes so many tokens more at a time.
const CHUNK: i64 = 64;

/// How a call ended, as far as its bill goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The backend never had it: all is given back.
    Unsent,
    /// The backend said no: it counts as a request, and used no token.
    Rejected,
    /// It needed no backend: it counts as a request, and used no token.
    Spared,
    /// The backend failed: its output is given back.
    Failed,
    /// It answered, wholly or in part.
    Answered,
}

/// What is known of a call at its end.
#[derive(Debug, Clone, Copy)]
pub struct End {
    pub fate: Fate,
    /// As the backend reported it.
    pub usage: Option<Usage>,
    /// Tokens of output that were seen to pass, where nothing was reported.
    pub produced: u64,
    /// It came to its end.
    pub complete: bool,
    pub first_token: Option<Duration>,
    /// From the first token to the last.
    pub generating: Option<Duration>,
    /// Since it was sent; of a call cut before it said anything, the only measure there is.
    pub elapsed: Duration,
}

impl End {
    pub fn unsent() -> Self {
        Self {
            fate: Fate::Unsent,
            usage: None,
            produced: 0,
            complete: false,
            first_token: None,
            generating: None,
            elapsed: Duration::ZERO,
        }
    }
}

/// What a call came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settled {
    pub usage: Usage,
    /// Billionths of a dollar; `None` where no policy asks for prices.
    pub spend: Option<i64>,
    /// The price is known, and no stand-in.
    pub priced: bool,
    /// The usage is an estimate of ours.
    pub estimated: bool,
    /// What attempts before it have cost, or beside it, that came to nothing.
    pub sunk: Sunk,
}

impl Settled {
    /// The same for a call that is answered by another attempt.
    pub fn in_vain(&self) -> Sunk {
        let (Usage { input, output, .. }, nano) = (self.usage, self.spend.unwrap_or(0));
        let charged = input > 0 || output > 0 || nano > 0;
        let mut sunk = self.sunk;
        sunk.add(Sunk {
            attempts: u32::from(charged),
            input,
            output,
            nano,
            unpriced: charged && !self.priced,
        });
        sunk
    }
}

impl Book {
    /// A running call has produced so many tokens in all. `false`: a budget wants it ended.
    pub fn use_up(&mut self, grant: &mut Grant, tokens: u64, now: Moment) -> bool {
        let new = tokens.saturating_sub(grant.produced);
        grant.produced += new;
        let new = i64::try_from(new).unwrap_or(i64::MAX);
        let mut goes_on = true;
        for part in grant.parts.iter_mut().filter(|part| part.per_token > 0) {
            let Some(entry) = self.table.get_mut(part.bucket) else { continue };
            let (limit, bucket) = (&entry.limit, &mut entry.bucket);
            bucket.refill(&limit.shape, now);
            let units = part.per_token.saturating_mul(new);
            // a hard limit holds the worst case: a call that is at its bound takes no more
            let ends = limit.shape.mode == Mode::Hard && units <= part.held;
            let chunk = if ends { 0 } else { part.per_token.saturating_mul(CHUNK) };
            part.held = bucket.use_up(units, part.held, chunk);
            part.counted = part.counted.saturating_add(units);
            if limit.cut_streams && limit.is_hard_budget() && bucket.level() >= limit.shape.capacity
            {
                goes_on = false;
            }
            entry.touch();
            if entry.is_past_mark() {
                self.table.ledgers.want(part.bucket);
            }
        }
        goes_on || !grant.cuts
    }

    /// A session has used so much in all, as the backend reports it, and goes on. `false`: a hard limit
    /// is used up. What it costs is rounded once, so the sum at its end is charged exactly.
    pub fn charge(&mut self, grant: &mut Grant, usage: &Usage, now: Moment) -> bool {
        let spend = grant.rate.map_or(0, |rate| rate.cost(usage));
        let mut goes_on = true;
        for part in &mut grant.parts {
            let Some(entry) = self.table.get_mut(part.bucket) else { continue };
            let (limit, bucket) = (&entry.limit, &mut entry.bucket);
            if !limit.counts_tokens() {
                continue;
            }
            bucket.refill(&limit.shape, now);
            let used = used(limit, Fate::Answered, usage, spend);
            let units = used.saturating_sub(part.counted).max(0);
            part.held = bucket.use_up(units, part.held, 0);
            part.counted = part.counted.saturating_add(units);
            let hard = limit.shape.mode == Mode::Hard;
            goes_on &= !hard || bucket.level() < limit.shape.capacity;
            entry.touch();
            if entry.is_past_mark() {
                self.table.ledgers.want(part.bucket);
            }
        }
        goes_on
    }

    /// The head of the answer told something of the backend's limits.
    pub fn heard(&mut self, grant: &mut Grant, heard: &Heard<'_>, now: Moment) {
        let pool = &mut self.pools[grant.pool];
        let Some(mode) = pool.rule.pacing else { return };
        if grant.pace.is_none() {
            grant.pace = pool.paces.begin(grant.pace_key, mode, grant.need, now.at);
        }
        if let Some((at, sent)) = &mut grant.pace
            && let Some(pace) = pool.paces.get(*at)
        {
            pace.heard(sent, heard, now.at);
        }
        self.drain(grant.pool, now);
    }

    /// What a backend told a call that had not asked to go: nobody was watching it yet.
    pub fn overheard(
        &mut self,
        pool: PoolId,
        credential: u64,
        model: &str,
        heard: &Heard<'_>,
        now: Moment,
    ) {
        let key = (credential, self.name_hash(&model));
        let pool = &mut self.pools[pool];
        let Some(mode) = pool.rule.pacing else { return };
        if let Some((at, mut sent)) = pool.paces.begin(key, mode, Need::default(), now.at) {
            if let Some(pace) = pool.paces.get(at) {
                pace.heard(&mut sent, heard, now.at);
            }
            pool.paces.leave((at, sent), None, now.at);
        }
    }

    /// The first token has come, so long after the call was sent.
    pub fn first_token(&mut self, grant: &mut Grant, after: Duration, now: Moment) {
        if let Some((at, sent)) = &mut grant.pace
            && let Some(pace) = self.pools[grant.pool].paces.get(*at)
        {
            pace.first_token(sent, after, grant.input, now.at);
        }
    }

    /// The call is over: gives back what it held, and sets the count right.
    pub fn settle(&mut self, grant: Box<Grant>, end: &End, now: Moment) -> Settled {
        let (agent, budgeted) = (grant.agent, grant.budgeted);
        let settled = self.close(grant, end, now);
        self.drain_waiting(agent, budgeted, now);
        settled
    }

    /// The same, and lets nobody go yet.
    pub(super) fn close(&mut self, grant: Box<Grant>, end: &End, now: Moment) -> Settled {
        let settled = self.bill(&grant, end);
        let usage = &settled.usage;
        for part in &grant.parts {
            let Some(entry) = self.table.get_mut(part.bucket) else { continue };
            let limit = &entry.limit;
            entry.bucket.refill(&limit.shape, now);
            let fate = if part.sunk { Fate::Rejected } else { end.fate };
            let used = used(limit, fate, usage, settled.spend.unwrap_or(0));
            let correction = used.saturating_sub(part.counted);
            entry.bucket.leave(part.held, part.margin, part.speed, correction);
            entry.users = entry.users.saturating_sub(1);
            entry.touch();
            if entry.is_past_mark() {
                self.table.ledgers.want(part.bucket);
            }
        }
        let pool = &mut self.pools[grant.pool];
        let actual = service(usage.input, usage.output);
        let entrance = &mut self.entrances[grant.entrance];
        entrance.queue.end(grant.flow, grant.service, actual, grant.weight, now.at);
        if !grant.here {
            entrance.leave(actual);
            pool.running = pool.running.saturating_sub(1);
            if let Some(lane) = grant.lane.and_then(|lane| self.lanes.get_mut(lane)) {
                lane.running = lane.running.saturating_sub(1);
            }
        }
        if let Some(pace) = grant.pace {
            let need = Need { input_tokens: usage.input, output_tokens: usage.output };
            pool.paces.leave(pace, (end.fate == Fate::Answered).then_some(need), now.at);
        }
        if end.fate == Fate::Answered {
            let sample = Sample {
                bytes: grant.prompt_bytes,
                answers: grant.answers,
                usage: end.usage,
                generating: end.generating,
                first_token: end.first_token,
                complete: end.complete,
            };
            self.predictor.learn(grant.history, &sample);
        }
        let tokens = usage.input.saturating_add(usage.output);
        if let Some(caller) = grant.guarded.filter(|_| tokens > 0) {
            let known = grant.rate.is_some_and(|rate| rate.known);
            self.guard.settled(caller, tokens, settled.spend.filter(|_| known), now.at);
        }
        self.present(grant.agent, |agent| agent.running = agent.running.saturating_sub(1));
        let mut parts = grant.parts;
        parts.clear();
        if self.spare.len() < super::SPARE {
            self.spare.push(parts);
        }
        settled
    }

    /// The tokens and the money of a call that is over.
    fn bill(&self, grant: &Grant, end: &End) -> Settled {
        let (usage, estimated) = match (end.fate, end.usage) {
            (Fate::Unsent | Fate::Rejected | Fate::Spared, _) => (Usage::default(), false),
            (Fate::Failed, None) => (Usage { input: grant.input, ..Usage::default() }, true),
            (_, Some(usage)) => {
                // cut before its last count: what was seen to pass counts as well
                let output = usage.output.max(if end.complete { 0 } else { end.produced });
                (Usage { output, ..usage }, output != usage.output)
            }
            (Fate::Answered, None) => {
                let output = end.produced.max(grant.produced).max(self.unseen(grant, end));
                (Usage { input: grant.input, output, ..Usage::default() }, true)
            }
        };
        let spend = grant.rate.map(|rate| rate.cost(&usage));
        let priced = grant.rate.is_none_or(|rate| rate.known);
        Settled { usage, spend, priced, estimated, sunk: Sunk::default() }
    }

    /// Tokens that a call may have cost whose client left before anything came: what the model makes
    /// in that time, up to the prediction. Else leaving early would be free.
    fn unseen(&self, grant: &Grant, end: &End) -> u64 {
        if end.complete || end.produced > 0 {
            return 0;
        }
        self.made(grant, end.elapsed)
    }

    /// Tokens that the model makes in that time, up to the prediction.
    fn made(&self, grant: &Grant, elapsed: Duration) -> u64 {
        let speed = self.predictor.speed(grant.history.model);
        let made = u128::from(speed) * elapsed.as_millis() / 1000;
        u64::try_from(made).unwrap_or(u64::MAX).min(grant.output)
    }

    /// What a response of a session has likely used that ran for so long, on a prompt of so many
    /// bytes, and was never heard of again.
    pub fn guess(&self, grant: &Grant, prompt_bytes: u64, elapsed: Duration) -> Usage {
        let input = self.predictor.input(grant.history.model, prompt_bytes);
        Usage { input, output: self.made(grant, elapsed), ..Usage::default() }
    }

    /// Lets calls go that waited for what an agent has given back. `budgeted`: or that have no hope of
    /// it any more, whatever else they wait for.
    pub(super) fn drain_waiting(&mut self, agent: u64, budgeted: bool, now: Moment) {
        if self.waits.is_empty() {
            return;
        }
        for entrance in self.entrances.iter_mut().filter(|one| one.waiting() > 0) {
            entrance.queue.unpark(agent, budgeted);
        }
        self.drain_each(now);
    }
}

/// What a call has used of a limit, in the limit's units.
fn used(limit: &LimitOf, fate: Fate, usage: &Usage, spend: i64) -> i64 {
    let weights = &limit.weights;
    match limit.measure {
        Measure::Requests if fate == Fate::Unsent => 0,
        Measure::Requests => TOKEN,
        Measure::InputTokens => input(weights, usage),
        Measure::OutputTokens => output(weights, usage),
        Measure::Tokens => input(weights, usage).saturating_add(output(weights, usage)),
        Measure::Spend => spend,
        Measure::Concurrency => 0,
    }
}

/// Thousandths of tokens, as weighed.
fn input(weights: &TokenWeights, usage: &Usage) -> i64 {
    let special = usage.cached_input.saturating_add(usage.cache_write).min(usage.input);
    let plain = usage.input - special;
    weigh(plain, 1000)
        .saturating_add(weigh(usage.cached_input.min(usage.input), weights.cached_input))
        .saturating_add(weigh(
            usage.cache_write.min(usage.input.saturating_sub(usage.cached_input)),
            weights.cache_write,
        ))
}

fn output(weights: &TokenWeights, usage: &Usage) -> i64 {
    let reasoning = usage.reasoning.min(usage.output);
    weigh(usage.output - reasoning, 1000).saturating_add(weigh(reasoning, weights.reasoning))
}

fn weigh(tokens: u64, thousandths: u32) -> i64 {
    i64::try_from(tokens.saturating_mul(u64::from(thousandths))).unwrap_or(i64::MAX)
}

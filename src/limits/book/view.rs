//! What people want to see of the book: agents, their limits, and the queues.
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use super::super::bucket::Moment;
use super::{Book, Settled};
use crate::config::{Measure, Mode, Per};
use crate::identity::Class;

/// Most agents that are counted apart.
const MOST_AGENTS: usize = 10_000;
/// One that has not called for so long is forgotten, in nanoseconds.
const FORGET: u64 = 3600 * 1_000_000_000;

/// What an agent came to so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    agent: Arc<str>,
    team: Option<Arc<str>>,
    running: u32,
    calls: u64,
    input: u64,
    output: u64,
    spend: i64,
    waits: u64,
    waited: u64,
    refused: u64,
    used: u64,
}

/// One agent, as `/state` shows it.
#[derive(Debug, Clone)]
pub struct AgentLine {
    pub agent: Arc<str>,
    pub team: Option<Arc<str>>,
    pub running: u32,
    pub calls: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    /// Billionths of a dollar.
    pub spend: i64,
    pub waits: u64,
    /// Nanoseconds, of all waits together.
    pub waited: u64,
    pub refused: u64,
}

/// One bucket, as `/state` and the headers of an answer show it.
#[derive(Debug, Clone)]
pub struct LimitLine {
    pub policy: Arc<str>,
    pub measure: Measure,
    pub per: Per,
    pub mode: Mode,
    /// Whose it is.
    pub scope: Arc<str>,
    /// In the measure's units.
    pub used: i64,
    pub held: i64,
    pub capacity: i64,
    pub remaining: i64,
    /// Nanoseconds.
    pub resets_in: u64,
    pub refused: u64,
    pub would_refuse: u64,
    /// The time over which it refills, in seconds.
    pub window: u64,
}

/// One upstream's queue.
#[derive(Debug, Clone)]
pub struct QueueLine {
    pub upstream: Arc<str>,
    pub slots: Option<usize>,
    pub running: usize,
    /// By class.
    pub waiting: [usize; 3],
    pub agents: u32,
}

impl Book {
    pub(super) fn name_hash(&self, name: &impl Hash) -> u64 {
        self.hasher.hash_one(name)
    }

    /// Sees to it that an agent is counted under its name.
    pub fn introduce(&mut self, who: &crate::identity::Identity, now: Moment) {
        let hash = self.name_hash(&(&who.team, &who.agent));
        if self.by_agent.len() < MOST_AGENTS || self.by_agent.contains_key(&hash) {
            let tally = self.by_agent.entry(hash).or_insert_with(|| Tally {
                agent: Arc::clone(&who.agent),
                team: who.team.clone(),
                ..Tally::default()
            });
            tally.used = now.at;
        }
    }

    pub(super) fn began(&mut self, agent: u64) {
        self.tally(agent, |tally| tally.running += 1);
    }

    pub(super) fn waited(&mut self, agent: u64, nanos: u64) {
        self.tally(agent, |tally| {
            tally.waits += 1;
            tally.waited += nanos;
        });
    }

    pub(super) fn count_refused(&mut self, agent: u64) {
        self.tally(agent, |tally| tally.refused += 1);
    }

    pub(super) fn ended(&mut self, agent: u64, settled: &Settled, now: u64) {
        self.tally(agent, |tally| {
            tally.running = tally.running.saturating_sub(1);
            tally.calls += 1;
            tally.input += settled.usage.input;
            tally.output += settled.usage.output;
            tally.spend = tally.spend.saturating_add(settled.spend.unwrap_or(0));
            tally.used = now;
        });
    }

    fn tally(&mut self, agent: u64, edit: impl FnOnce(&mut Tally)) {
        if let Some(tally) = self.by_agent.get_mut(&agent) {
            edit(tally);
        }
    }

    pub(super) fn forget_agents(&mut self, now: u64) {
        self.by_agent
            .retain(|_, tally| tally.running > 0 || now.saturating_sub(tally.used) < FORGET);
    }

    pub fn agents(&self) -> Vec<AgentLine> {
        let line = |tally: &Tally| AgentLine {
            agent: Arc::clone(&tally.agent),
            team: tally.team.clone(),
            running: tally.running,
            calls: tally.calls,
            input_tokens: tally.input,
            output_tokens: tally.output,
            spend: tally.spend,
            waits: tally.waits,
            waited: tally.waited,
            refused: tally.refused,
        };
        self.by_agent.values().map(line).collect()
    }

    pub fn limits(&mut self, now: Moment) -> Vec<LimitLine> {
        self.table.iter_mut().map(|entry| entry.line(now)).collect()
    }

    pub fn queues(&self) -> Vec<QueueLine> {
        let line = |pool: &super::pool::Pool| QueueLine {
            upstream: Arc::clone(&pool.rule.name),
            slots: pool.rule.slots,
            running: pool.running,
            waiting: Class::ALL.map(|class| pool.queue.waiting_of(class)),
            agents: pool.queue.active(),
        };
        self.pools.iter().map(line).collect()
    }

    /// The limits that a running call is under, as they stand now.
    pub fn limits_of(&mut self, grant: &super::Grant, now: Moment) -> Vec<LimitLine> {
        let parts = grant.parts.iter().map(|part| part.bucket);
        parts.filter_map(|at| self.table.get_mut(at).map(|entry| entry.line(now))).collect()
    }
}

impl super::table::Entry {
    fn line(&mut self, now: Moment) -> LimitLine {
        let shape = &self.limit.shape;
        self.bucket.refill(shape, now);
        LimitLine {
            policy: Arc::clone(&self.limit.policy),
            measure: self.limit.measure,
            per: self.limit.per,
            mode: shape.mode,
            scope: Arc::clone(&self.label),
            used: if self.limit.measure == Measure::Concurrency {
                i64::from(self.bucket.running())
            } else {
                self.bucket.level()
            },
            held: self.bucket.held(),
            capacity: shape.capacity,
            remaining: self.bucket.remaining(shape),
            resets_in: self.bucket.resets_in(shape, now),
            refused: self.refused,
            would_refuse: self.would_refuse,
            window: self.limit.window.as_secs(),
        }
    }
}

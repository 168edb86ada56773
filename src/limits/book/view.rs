//! What people want to see of the book: agents, their limits, and the queues.
use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use super::super::bucket::Moment;
use super::super::pace::State;
use super::super::rules::LimitOf;
use super::super::runaway::Flag;
use super::entrance::EntranceId;
use super::{Book, Decision};
use crate::config::{Measure, Mode, Per};
use crate::identity::{Class, Identity};

/// Most agents that are counted apart.
const MOST_AGENTS: usize = 10_000;
/// One that has not called for so long is forgotten, in nanoseconds.
const FORGET: u64 = 600 * 1_000_000_000;

/// An agent that is here.
#[derive(Debug)]
pub(super) struct Present {
    agent: Arc<str>,
    team: Option<Arc<str>>,
    pub running: u32,
    pub waiting: u32,
    used: u64,
}

/// What an agent does now, as `/state` shows it.
#[derive(Debug, Clone)]
pub struct AgentLine {
    pub agent: Arc<str>,
    pub team: Option<Arc<str>>,
    pub running: u32,
    pub waiting: u32,
    /// The guard against loops has flagged one of its sessions.
    pub runaway: bool,
}

/// A limit as it stands for one call; what headers tell.
#[derive(Debug, Clone)]
pub struct Standing {
    pub limit: Arc<LimitOf>,
    /// In the measure's units.
    pub remaining: i64,
    /// Nanoseconds.
    pub resets_in: u64,
}

/// One bucket, as `/state` shows it.
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
}

/// One upstream's places, and who waits for them, in all lanes and in none.
#[derive(Debug, Clone)]
pub struct QueueLine {
    pub upstream: Arc<str>,
    pub slots: Option<usize>,
    pub running: usize,
    /// By class.
    pub waiting: [usize; 3],
    /// Agents that wait or run; one in two lanes counts twice.
    pub agents: u32,
    /// One for each credential and model that the upstream has spoken of its limits to.
    pub paces: Vec<State>,
}

/// One route's lane.
#[derive(Debug, Clone)]
pub struct LaneLine {
    pub route: Arc<str>,
    pub slots: Option<usize>,
    /// Most that may wait.
    pub depth: usize,
    pub running: usize,
    /// By class.
    pub waiting: [usize; 3],
}

/// By policy, measure and mode.
pub type Fullest = BTreeMap<(Arc<str>, &'static str, &'static str), f64>;

impl Book {
    pub(super) fn name_hash(&self, name: &impl Hash) -> u64 {
        self.hasher.hash_one(name)
    }

    /// An agent calls: its number here.
    pub(super) fn meet(&mut self, who: &Identity, now: Moment) -> u64 {
        let hash = self.name_hash(&(&who.team, &who.agent));
        if let Some(agent) = self.agents.get_mut(&hash) {
            agent.used = now.at;
        } else if self.agents.len() < MOST_AGENTS {
            let (agent, team) = (Arc::clone(&who.agent), who.team.clone());
            let present = Present { agent, team, running: 0, waiting: 0, used: now.at };
            self.agents.insert(hash, present);
        }
        hash
    }

    /// A session's number; of an agent that tells none, the agent's own.
    pub(super) fn session_hash(&self, who: &Identity) -> u64 {
        self.name_hash(&(&who.team, &who.agent, &who.session))
    }

    pub(super) fn present(&mut self, agent: u64, edit: impl FnOnce(&mut Present)) {
        if let Some(agent) = self.agents.get_mut(&agent) {
            edit(agent);
        }
    }

    pub(super) fn forget_agents(&mut self, now: u64) {
        self.agents.retain(|_, agent| {
            agent.running > 0 || agent.waiting > 0 || now.saturating_sub(agent.used) < FORGET
        });
    }

    pub fn agents(&self, now: Moment) -> Vec<AgentLine> {
        let flagged: HashSet<u64> = self.guard.flagged(now.at).collect();
        let line = |(hash, agent): (&u64, &Present)| AgentLine {
            agent: Arc::clone(&agent.agent),
            team: agent.team.clone(),
            running: agent.running,
            waiting: agent.waiting,
            runaway: flagged.contains(hash),
        };
        self.agents.iter().map(line).collect()
    }

    pub fn limits(&mut self, now: Moment) -> Vec<LimitLine> {
        self.table.iter_mut().map(|entry| entry.line(now)).collect()
    }

    /// A page of them, from a place on; where the next page begins, if there is one.
    pub fn limits_from(
        &mut self,
        from: usize,
        now: Moment,
        into: &mut Vec<LimitLine>,
    ) -> Option<usize> {
        self.table.page(from, |entry| into.push(entry.line(now)))
    }

    /// Of each limit its fullest bucket: policy, measure, mode, and how full; a page of buckets.
    pub fn fullest_from(
        &mut self,
        from: usize,
        now: Moment,
        fullest: &mut Fullest,
    ) -> Option<usize> {
        self.table.page(from, |entry| {
            let line = entry.line(now);
            // in a concurrency limit what runs is all there is
            let held = if line.measure == Measure::Concurrency { 0 } else { line.held };
            let full = line.used.saturating_add(held) as f64 / line.capacity.max(1) as f64;
            let key = (line.policy, line.measure.as_str(), line.mode.as_str());
            let at = fullest.entry(key).or_insert(0.0_f64);
            *at = at.max(full);
        })
    }

    pub fn queues(&self, now: Moment) -> Vec<QueueLine> {
        let agents = |at: &EntranceId| self.entrances[*at].queue.active();
        let line = |pool: &super::pool::Pool| QueueLine {
            upstream: Arc::clone(&pool.rule.name),
            slots: pool.rule.slots,
            running: pool.running,
            waiting: self.by_class(&pool.entrances),
            agents: pool.entrances.iter().map(agents).sum(),
            paces: pool.paces.states(now.at),
        };
        self.pools.iter().map(line).collect()
    }

    /// The lanes of the policy, and those it has no more where calls still run or wait.
    pub fn lanes(&self) -> Vec<LaneLine> {
        let is_shown = |lane: &&super::lane::Lane| {
            lane.in_force || lane.running > 0 || self.waiting_at(&lane.entrances) > 0
        };
        let line = |lane: &super::lane::Lane| LaneLine {
            route: Arc::clone(&lane.rule.name),
            slots: lane.rule.slots,
            depth: lane.rule.depth,
            running: lane.running,
            waiting: self.by_class(&lane.entrances),
        };
        self.lanes.iter().filter(is_shown).map(line).collect()
    }

    fn by_class(&self, entrances: &[EntranceId]) -> [usize; 3] {
        let waiting =
            |class| entrances.iter().map(move |at| self.entrances[*at].queue.waiting_of(class));
        Class::ALL.map(|class| waiting(class).sum())
    }

    /// What the guard against loops makes of a call that has asked to go.
    pub fn runaway(&self, decision: &Decision) -> Option<Flag> {
        match decision {
            Decision::Go(grant) => grant.runaway,
            Decision::Wait { call, .. } => self.waits.get(*call)?.plan.runaway,
            Decision::No(denial) => denial.runaway,
        }
    }

    /// The limits that a running call is under, as they stand now.
    pub fn standing(&mut self, grant: &super::Grant, now: Moment) -> Vec<Standing> {
        self.table.standing(grant.parts.iter().map(|part| part.bucket), now)
    }
}

impl super::table::Table {
    pub fn standing(
        &mut self,
        buckets: impl ExactSizeIterator<Item = usize>,
        now: Moment,
    ) -> Vec<Standing> {
        let mut all = Vec::with_capacity(buckets.len());
        for at in buckets {
            let Some(entry) = self.get_mut(at) else { continue };
            let (limit, bucket) = (&entry.limit, &mut entry.bucket);
            bucket.refill(&limit.shape, now);
            all.push(Standing {
                remaining: bucket.remaining(&limit.shape),
                resets_in: bucket.resets_in(&limit.shape, now),
                limit: Arc::clone(limit),
            });
        }
        all
    }
}

impl super::table::Entry {
    pub fn line(&mut self, now: Moment) -> LimitLine {
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
        }
    }
}

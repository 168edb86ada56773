//! What each agent had: calls, tokens, money, waits and refusals, as plain integers.
//!
//! Kept as targets are (see `shards`): a call takes one lock that no other thread wants, once, at
//! its end. An agent that this thread has seen costs a comparison or a hash of its name, and no
//! allocation. Names may be a client's own word, so they are labels only within bounds (`Names`);
//! what is beyond them is counted under `other`, so that no call is lost. No histograms: a
//! thousand agents are some eight thousand lines of a scrape already.
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;

use super::kept::Saved;
use super::shards::Shards;
use super::tally::{OTHER, is_label};
use super::{Deadline, Finished, MAX_AGENTS, MAX_NAME_BYTES, Outcome, Usage};
use crate::identity::{Class, Rung};

/// Different reasons of refusals that are told apart for one agent; later ones are `other`.
const MAX_REASONS: usize = 32;
/// Between agent and team; no name that is a label holds it.
const SEPARATOR: char = '\u{1f}';

/// What one agent had since the start.
#[derive(Debug, Clone, Default)]
pub struct AgentTally {
    pub calls: u64,
    pub usage: Usage,
    /// Billionths of a dollar.
    pub spend_nano: u64,
    /// What the cache saved it.
    pub saved: Saved,
    /// All waits together.
    pub waited: Duration,
    /// Calls that were told no, whatever became of them.
    pub refused: u64,
    /// Calls that the guard against loops flagged.
    pub runaway: u64,
    pub(super) outcomes: Vec<(Outcome, u64)>,
    pub(super) reasons: Vec<(&'static str, u64)>,
    /// How the agent was told, and what its calls are; of one of the last calls.
    pub rung: Option<Rung>,
    pub class: Class,
    recent: Recent,
}

/// One agent of one team.
#[derive(Debug, Clone)]
pub struct AgentTotals {
    pub agent: Arc<str>,
    /// Empty for none.
    pub team: Arc<str>,
    pub tally: AgentTally,
}

/// The last waits, in whole milliseconds.
#[derive(Debug, Clone, Default)]
struct Recent {
    waits: Vec<u32>,
    next: usize,
}

impl Recent {
    /// Of one thread.
    const KEPT: usize = 16;

    fn add(&mut self, wait: Duration) {
        let wait = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        if self.waits.len() < Self::KEPT {
            // all at once, so that a known agent never allocates again
            self.waits.reserve_exact(Self::KEPT - self.waits.len());
            self.waits.push(wait);
        } else {
            self.waits[self.next] = wait;
            self.next = (self.next + 1) % Self::KEPT;
        }
    }
}

impl AgentTally {
    fn add(&mut self, call: &Finished<'_>) {
        self.calls += 1;
        count(&mut self.outcomes, call.outcome);
        if let Some(usage) = &call.usage {
            self.usage.add(usage);
        }
        self.spend_nano = self.spend_nano.saturating_add(call.held.spend());
        self.saved.add(call);
        self.waited += call.queued;
        self.recent.add(call.queued);
        self.runaway += u64::from(call.held.runaway);
        if matches!(call.outcome, Outcome::Refused | Outcome::Deadline(Deadline::Queue)) {
            self.refused += 1;
            let full = self.reasons.len() >= MAX_REASONS;
            let reason = call.error.unwrap_or(OTHER);
            let known = !full || self.reasons.iter().any(|(known, _)| *known == reason);
            count(&mut self.reasons, if known { reason } else { OTHER });
        }
        self.rung = call.who.rung;
        self.class = call.who.class;
    }

    fn merge(&mut self, other: &Self) {
        self.calls += other.calls;
        for (outcome, by) in &other.outcomes {
            count_by(&mut self.outcomes, *outcome, *by);
        }
        for (reason, by) in &other.reasons {
            count_by(&mut self.reasons, *reason, *by);
        }
        self.usage.add(&other.usage);
        self.spend_nano = self.spend_nano.saturating_add(other.spend_nano);
        self.saved.merge(&other.saved);
        self.waited += other.waited;
        self.refused += other.refused;
        self.runaway += other.runaway;
        self.rung = self.rung.or(other.rung);
        self.class = other.class;
        self.recent.waits.extend(&other.recent.waits);
    }

    /// Why it was told no, and how often: most first, and not more than so many.
    pub fn most_refused(&self, most: usize) -> Vec<(String, u64)> {
        let mut reasons = self.reasons.clone();
        reasons.sort_by_key(|(reason, count)| (std::cmp::Reverse(*count), *reason));
        reasons.truncate(most);
        reasons.into_iter().map(|(reason, count)| (reason.to_owned(), count)).collect()
    }

    /// Median and longest of the last waits, of up to 16 calls a worker.
    pub fn recent_waits(&self) -> (Duration, Duration) {
        let mut waits = self.recent.waits.clone();
        waits.sort_unstable();
        let at = |n: usize| Duration::from_millis(waits.get(n).copied().unwrap_or(0).into());
        (at(waits.len() / 2), at(waits.len().saturating_sub(1)))
    }
}

fn count<K: PartialEq>(rows: &mut Vec<(K, u64)>, key: K) {
    count_by(rows, key, 1);
}

/// Linear: there are a handful.
fn count_by<K: PartialEq>(rows: &mut Vec<(K, u64)>, key: K, by: u64) {
    match rows.iter_mut().find(|(known, _)| *known == key) {
        Some((_, count)) => *count += by,
        None => rows.push((key, by)),
    }
}

/// The agents of the process.
#[derive(Debug, Default)]
pub(super) struct Agents {
    names: Names,
    shards: Shards<Rows>,
}

impl Agents {
    /// A call has ended. Without an agent it is not counted here.
    pub(super) fn add(&self, call: &Finished<'_>) {
        if !call.who.agent.is_empty() {
            self.shards.edit(|rows| rows.of(call, &self.names).add(call));
        }
    }

    /// Each pair of agent and team once, in the order of their names.
    pub(super) fn totals(&self) -> Vec<AgentTotals> {
        let mut all: BTreeMap<(Arc<str>, Arc<str>), AgentTally> = BTreeMap::new();
        self.shards.fold((), |(), rows| {
            for row in &rows.list {
                let key = (Arc::clone(&row.agent), Arc::clone(&row.team));
                all.entry(key).or_default().merge(&row.tally);
            }
        });
        all.into_iter().map(|((agent, team), tally)| AgentTotals { agent, team, tally }).collect()
    }

    /// How many have labels of their own.
    pub(super) fn len(&self) -> usize {
        self.names.0.read().len()
    }
}

/// The agents that one thread has seen. Calls mostly repeat the last one, which is found without
/// hashing.
#[derive(Debug, Default)]
struct Rows {
    list: Vec<AgentTotals>,
    index: HashMap<Box<str>, usize>,
    last: usize,
    key: String,
    /// The row of those without labels.
    other: Option<usize>,
    /// All names that will ever be labels are in `index`: the shared set is not asked any more.
    complete: bool,
}

impl Rows {
    fn of(&mut self, call: &Finished<'_>, names: &Names) -> &mut AgentTally {
        let (agent, team) = (call.who.agent, call.who.team);
        let is_last = |row: &AgentTotals| *row.agent == *agent && *row.team == *team;
        if !self.list.get(self.last).is_some_and(is_last) {
            self.last = self.find(call, names);
        }
        &mut self.list[self.last].tally
    }

    fn find(&mut self, call: &Finished<'_>, names: &Names) -> usize {
        let (agent, team) = (call.who.agent, call.who.team);
        if agent.len() <= MAX_NAME_BYTES && team.len() <= MAX_NAME_BYTES {
            self.key.clear();
            self.key.push_str(agent);
            self.key.push(SEPARATOR);
            self.key.push_str(team);
            if let Some(at) = self.index.get(&*self.key) {
                return *at;
            }
            if !self.complete {
                if names.admit(&self.key, call) {
                    return self.place(agent, team);
                }
                self.complete(names);
            }
        }
        let other = self.other.unwrap_or_else(|| self.push(OTHER, OTHER));
        self.other = Some(other);
        other
    }

    fn complete(&mut self, names: &Names) {
        let names = names.0.read();
        if names.len() < MAX_AGENTS {
            return;
        }
        for name in names.iter() {
            if !self.index.contains_key(name) {
                let (agent, team) = name.split_once(SEPARATOR).unwrap_or((name, ""));
                self.key.clear();
                self.key.push_str(name);
                self.place(agent, team);
            }
        }
        self.complete = true;
    }

    /// A row that is found under `key`.
    fn place(&mut self, agent: &str, team: &str) -> usize {
        let at = self.push(agent, team);
        self.index.insert(self.key.as_str().into(), at);
        at
    }

    fn push(&mut self, agent: &str, team: &str) -> usize {
        let tally = AgentTally::default();
        self.list.push(AgentTotals { agent: agent.into(), team: team.into(), tally });
        self.list.len() - 1
    }
}

/// Names that may be labels, over all threads. They are never forgotten: a counter that goes away
/// and comes back at zero would be read as a reset.
#[derive(Debug, Default)]
struct Names(RwLock<HashSet<Box<str>>>);

impl Names {
    /// A name that nothing proved, and that no answer ever came for, takes no place: invented
    /// names cannot push real ones out so cheaply.
    fn admit(&self, key: &str, call: &Finished<'_>) -> bool {
        {
            let names = self.0.read();
            if names.contains(key) {
                return true;
            }
            if names.len() >= MAX_AGENTS {
                return false;
            }
        }
        let who = &call.who;
        let answered = call.status < 400 && call.outcome == Outcome::Complete;
        let real = answered || who.rung.is_some_and(Rung::authorizes);
        if !real || !is_label(who.agent) || !(who.team.is_empty() || is_label(who.team)) {
            return false;
        }
        let mut names = self.0.write();
        // another thread may have filled the last place, or placed this very name
        if names.len() < MAX_AGENTS {
            names.insert(key.into());
        }
        names.contains(key)
    }
}

//! What `/state` says of agents and queues, of the cache (`view/cache.rs`) and of tasks
//! (`view/tasks.rs`): the shapes that the instance writes and `tidegate agents`, `tidegate cache` and
//! `tidegate tasks` read, in one place.
//!
//! Readers take what they know and leave the rest, so that both may be of different versions.
//! Amounts are whole: requests, tokens, calls at once; money is in billionths of a dollar.
mod cache;
mod live;
mod tasks;

use serde::{Deserialize, Serialize};

pub use self::cache::{
    AlikeView, CachePolicyView, CacheView, DiskView, MemoryView, RungView, ShareView,
};
pub use self::live::{
    AddressView, BreakerView, CallView, HeldView, KeysView, LiveView, LoadedView, PoolView,
    TotalsView, UpstreamView,
};
pub use self::tasks::{
    OffloadView, StreamsView, TaskErrorView, TaskListView, TaskView, TasksView, WebhooksView,
};

use super::metrics::AgentTotals;
use crate::identity::Rung;

/// The database of budgets, keys and tasks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StoreView {
    pub directory: String,
    /// What is written is kept.
    pub healthy: bool,
    /// Since the start, each of them synced.
    pub commits: u64,
    pub operations: u64,
    /// Operations refused because too many waited.
    pub refused: u64,
    /// On its disk; `None` where that cannot be told.
    pub free_bytes: Option<u64>,
}

/// Reasons of refusals that are shown of an agent.
const REASONS: usize = 4;

/// The part of `/state` that is about agents.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentsView {
    pub agents: Vec<AgentView>,
    pub queues: Vec<QueueView>,
    pub lanes: Vec<LaneView>,
    /// Buckets of all limits, the fullest first; not all of very many.
    pub limits: Vec<LimitView>,
}

/// One agent of one team, since the start of the process.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentView {
    pub agent: String,
    /// Empty for none.
    pub team: String,
    /// What told its name; empty where nothing did.
    pub rung: String,
    pub class: String,
    pub in_flight: u64,
    pub waiting: u64,
    pub calls: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub spend_nano: u64,
    /// Calls that had their answer without an upstream call, and what they did not cost.
    pub saved_calls: u64,
    pub saved_tokens: u64,
    pub saved_nano: u64,
    /// All waits together.
    pub waited_ms: u64,
    /// Median and longest of the last waits.
    pub wait_p50_ms: u64,
    pub wait_max_ms: u64,
    pub refused: u64,
    /// Why it was refused, and how often; the four most frequent, most first.
    pub refusals: Vec<(String, u64)>,
    /// The guard against loops holds it, or would.
    pub runaway: bool,
    pub limits: Vec<LimitView>,
}

/// One limit that holds for the agent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitView {
    pub policy: String,
    pub measure: String,
    /// Whose bucket it is: of what (`team`), and which one (`growth`).
    pub per: String,
    pub scope: String,
    /// May be more than `limit`: debt.
    pub used: i64,
    /// Reserved by running calls, beside what is used.
    pub held: i64,
    pub limit: i64,
    /// Until nothing of it is used. `None`: when the calls end.
    pub resets_in_ms: Option<u64>,
    pub mode: String,
}

/// One upstream's line of waiting calls.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct QueueView {
    pub upstream: String,
    pub depth: u64,
    /// `None`: no bound.
    pub slots: Option<u64>,
    pub running: u64,
    /// `None`: it is not paced.
    pub pace: Option<PaceView>,
}

/// One route's lane.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LaneView {
    pub route: String,
    pub running: u64,
    /// `None`: no bound.
    pub slots: Option<u64>,
    pub waiting: u64,
    /// Most that may wait.
    pub depth: u64,
}

/// How fast an upstream lets us go. `None`: not known.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PaceView {
    /// Until calls may go on; 0 when they may.
    pub paused_ms: u64,
    pub requests_per_min: Option<u64>,
    pub tokens_per_min: Option<u64>,
    /// Calls at once.
    pub window: Option<u64>,
}

impl AgentView {
    /// What the tally knows; calls now, the guard and the limits are for others to add.
    pub fn of(totals: &AgentTotals) -> Self {
        let tally = &totals.tally;
        let (p50, max) = tally.recent_waits();
        Self {
            agent: totals.agent.to_string(),
            team: totals.team.to_string(),
            rung: tally.rung.map_or("", Rung::as_str).to_owned(),
            class: tally.class.as_str().to_owned(),
            calls: tally.calls,
            input_tokens: tally.usage.input,
            output_tokens: tally.usage.output,
            spend_nano: tally.spend_nano,
            saved_calls: tally.saved.calls,
            saved_tokens: tally.saved.tokens,
            saved_nano: tally.saved.nano,
            waited_ms: tally.waited.as_millis() as u64,
            wait_p50_ms: p50.as_millis() as u64,
            wait_max_ms: max.as_millis() as u64,
            refused: tally.refused,
            refusals: tally.most_refused(REASONS),
            ..Self::default()
        }
    }
}

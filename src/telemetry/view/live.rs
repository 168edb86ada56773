//! What the page is told each second (`GET /live`), and the rows of calls and upstreams that `/state`
//! has as well. Lists are cut to what a page can show; totals stand beside them.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    AgentView, CacheView, LaneView, LimitView, QueueView, StreamsView, TaskView, TasksView,
    WebhooksView,
};

/// Everything now. Times are Unix milliseconds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LiveView {
    pub at_ms: u64,
    pub started_ms: u64,
    pub version: String,
    pub stage: String,
    pub ready: bool,
    pub why: Vec<String>,
    /// What the page may end: `off`; `open`, as it is; `token`, with the token.
    pub actions: String,
    /// Where agents call: `127.0.0.1:8080`, `unix:/run/x.sock`.
    pub listen: Vec<String>,
    pub policy: LoadedView,
    pub connections: u64,
    pub memory: HeldView,
    pub in_flight: u64,
    pub waiting: u64,
    /// The last whole point of the history; null before the first.
    pub point: Option<Value>,
    pub totals: TotalsView,
    pub agents_total: u64,
    pub agents: Vec<AgentView>,
    pub limits: Vec<LimitView>,
    pub upstreams_total: u64,
    pub upstreams: Vec<UpstreamView>,
    pub lanes: Vec<LaneView>,
    pub calls_total: u64,
    pub calls: Vec<CallView>,
    pub tasks: Option<TasksView>,
    /// `None`: they are not shown here.
    pub task_rows: Option<Vec<TaskView>>,
    pub webhooks: Option<WebhooksView>,
    pub streams: StreamsView,
    pub cache: Option<CacheView>,
}

/// The policy in force.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LoadedView {
    pub loaded_ms: u64,
}

/// Memory that calls hold, in bytes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HeldView {
    pub held: u64,
    pub budget: u64,
    pub level: String,
}

/// Since the start of the process. Money is in billionths of a dollar.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TotalsView {
    pub calls: u64,
    pub spend_nano: u64,
    pub saved_nano: u64,
    /// What the cache made of calls.
    pub cache: BTreeMap<String, u64>,
}

/// One call in flight.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CallView {
    pub request_id: String,
    pub upstream: Option<String>,
    pub operation: String,
    pub model: Option<String>,
    pub agent: Option<String>,
    /// Calls before it in its agent's line.
    pub position: Option<u64>,
    pub stage: String,
    pub age_ms: u64,
    /// Of the answer so far,
    pub bytes: u64,
    /// and its tokens, about. `None`: they cannot be seen.
    pub tokens: Option<u64>,
}

/// One upstream.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct UpstreamView {
    pub name: String,
    pub in_flight: i64,
    pub waiting: i64,
    /// `None`: no bound.
    pub concurrency: Option<u64>,
    pub pool: PoolView,
    pub breaker: BreakerView,
    pub retries_left: u64,
    pub keys: KeysView,
    pub addresses: Vec<AddressView>,
    /// `None`: nothing ever waited for it.
    pub queue: Option<QueueView>,
}

/// Connections; the last three since the start.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PoolView {
    pub open: i64,
    pub idle: i64,
    pub dialled: u64,
    pub reused: u64,
    pub retried: u64,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BreakerView {
    pub state: String,
    /// Until a call is tried again, where it is open.
    pub left_ms: Option<u64>,
}

/// Keys of ours, and how many of them are set aside.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct KeysView {
    pub held: u64,
    pub aside: u64,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AddressView {
    pub host: String,
    pub tls: bool,
    pub in_flight: u64,
    pub state: String,
    pub left_ms: Option<u64>,
    pub latency_ms: Option<u64>,
}

//! Metrics: what is counted, and the one type that the rest of the program holds.
//!
//! The names are in `names`, the request path in `target`, `tally`, `kept` and `agents`, the colder counters
//! in `counters` and `tasks`, the scrape in `scrape`, which says the same as text and as OTLP's
//! points. The official client's `Family` and `Histogram` take a lock shared by
//! all threads for each touch, about 25 of them a request; here a request takes two locks that
//! no other thread wants (see `shards`). A label value that a client can choose is bounded.
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use super::view::{CacheView, LaneView, OffloadView, StoreView};
use crate::identity::{Class, Rung};
use crate::pressure::Pressure;

mod agents;
mod counters;
mod histogram;
mod kept;
mod names;
mod outcome;
mod process;
mod runs;
mod scrape;
mod shards;
mod signals;
mod sums;
mod tally;
mod target;
mod tasks;
#[cfg(test)]
mod tests;
mod watched;

pub use crate::wire::Usage;
pub use agents::{AgentTally, AgentTotals};
pub use counters::{LimitCount, LimitUse, LineCounts, ListenerUse, PoolGauges, Reasons};
pub(in crate::telemetry) use histogram::Histogram;
pub use kept::{Kept, KeptTally, Saved};
pub(in crate::telemetry) use names::{Kind, Name};
pub use outcome::{Deadline, Outcome};
pub(in crate::telemetry) use scrape::{Families, Number};
pub use signals::{Seen, SignalCount, SignalCounts};
pub use sums::{Bounds, CACHE, Sums};
pub use target::Target;
pub use tasks::TaskCounts;

/// Distinct model names that get a label of their own, over the life of the process. Names that
/// come later, that are too long or malformed, or that never had an answer count as `other`.
pub const MAX_MODELS: usize = 1000;
/// Of these, the first ones that also get histograms of their own; the others share those of
/// `other`. A thousand would make a scrape of 13 MB.
pub const MAX_DETAILED: usize = 100;
/// Pairs of agent and team that get labels of their own, over the life of the process. Agents that
/// come later, whose names are too long or malformed, or that nothing proves and nothing ever
/// answered to, count as `other`.
pub const MAX_AGENTS: usize = 1000;
/// Longest name of a model, an agent or a team that is used as a label, in bytes.
pub const MAX_NAME_BYTES: usize = 128;

/// What one call came to. All times are measured from the request's first byte.
#[derive(Debug, Clone)]
pub struct Finished<'a> {
    /// What the client was told; 499 when it left before an answer.
    pub status: u16,
    pub outcome: Outcome,
    /// As the request named it; empty for none.
    pub model: &'a str,
    /// `gen_ai.operation.name`, or our own word where there is none.
    pub operation: &'static str,
    /// It asks a model for something, and for no list or count.
    pub inference: bool,
    pub duration: Duration,
    /// Until the first byte of upstream's answer.
    pub first_byte: Option<Duration>,
    /// Until the first content of a stream.
    pub first_token: Option<Duration>,
    /// Our own part of the duration, without waiting for upstream, the client or a queue.
    pub overhead: Duration,
    /// Waiting for a place, zero when there was one at once.
    pub queued: Duration,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub usage: Option<Usage>,
    pub stream: bool,
    /// Events of a stream that carried content.
    pub content_events: u64,
    /// A code of ours, never a text from outside.
    pub error: Option<&'static str>,
    pub who: Who<'a>,
    pub held: Held<'a>,
    pub kept: Kept,
    /// Where its trace is found, if it has one.
    pub seen: Option<Seen>,
}

/// Who made a call, as far as it is known. Names may be a client's own word; empty for none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Who<'a> {
    pub agent: &'a str,
    pub team: &'a str,
    pub session: &'a str,
    /// The agent that started this one.
    pub parent: &'a str,
    /// What told us the agent's name.
    pub rung: Option<Rung>,
    pub class: Class,
}

/// What the limits and the prices made of a call.
#[derive(Debug, Clone, Copy, Default)]
pub struct Held<'a> {
    /// What it cost, in billionths of a dollar. `None`: nothing was used, or nobody counted.
    pub spend_nano: Option<i64>,
    /// The price is known; otherwise `spend_nano` follows from a stand-in.
    pub priced: bool,
    /// Tokens that were expected of the call, prompt and answer together.
    pub predicted_tokens: Option<u64>,
    /// The policy and the limit that refused it, or made it wait.
    pub limited_by: Option<&'a str>,
    /// The policy and the limit that would have refused it, and only observe.
    pub would_refuse: Option<&'a str>,
    /// The bound on the answer's tokens that was put in place of the client's.
    pub clamped: Option<u64>,
    /// The guard against loops flagged it.
    pub runaway: bool,
}

impl Held<'_> {
    /// As counters take it: never negative.
    pub(in crate::telemetry) fn spend(&self) -> u64 {
        self.spend_nano.and_then(|nano| u64::try_from(nano).ok()).unwrap_or(0)
    }
}

/// Every number of the process. Shared by all threads; lives as long as the process, so that a
/// reload resets nothing.
pub struct Metrics {
    shared: Arc<Shared>,
}

/// What the scrape reads.
#[derive(Debug)]
pub(crate) struct Shared {
    targets: Mutex<BTreeMap<TargetKey, Arc<Target>>>,
    pools: Mutex<BTreeMap<Arc<str>, Arc<PoolGauges>>>,
    models: Arc<tally::ModelNames>,
    agents: agents::Agents,
    runs: runs::Runs,
    limits: Mutex<BTreeMap<LimitKey, Arc<LimitCount>>>,
    cache: kept::Source,
    tasks: tasks::Source,
    store: watched::Watched<StoreView>,
    fullest: watched::Watched<Vec<LimitUse>>,
    /// As they stood when somebody last looked.
    lanes: Mutex<Vec<LaneView>>,
    runaways: Reasons<1>,
    connections_open: AtomicI64,
    connections_accepted: AtomicU64,
    connections_refused: Reasons<1>,
    gate_refusals: Reasons<1>,
    refusals: Reasons<2>,
    reloads_ok: AtomicU64,
    reloads_failed: AtomicU64,
    reload_succeeded: AtomicBool,
    /// Unix seconds.
    reload_success_at: AtomicU64,
    drain_stage: AtomicU64,
    overload_refused: Reasons<1>,
    overload_cut: AtomicU64,
    pressure: OnceLock<Arc<Pressure>>,
    access_lines: Arc<LineCounts>,
    usage_lines: Arc<LineCounts>,
    event_lines: Arc<LineCounts>,
    listeners: watched::Watched<Vec<ListenerUse>>,
    signals: Arc<SignalCounts>,
    /// Unix seconds.
    started_at: f64,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct TargetKey {
    route: Arc<str>,
    upstream: Arc<str>,
    provider: Arc<str>,
}

/// Policy, measure, mode.
type LimitKey = (Arc<str>, &'static str, &'static str);

impl Metrics {
    pub fn new() -> Self {
        let shared = Arc::new(Shared {
            targets: Mutex::default(),
            pools: Mutex::default(),
            models: Arc::default(),
            agents: agents::Agents::default(),
            runs: runs::Runs::default(),
            limits: Mutex::default(),
            cache: kept::Source::default(),
            tasks: tasks::Source::default(),
            store: watched::Watched::default(),
            fullest: watched::Watched::default(),
            lanes: Mutex::default(),
            runaways: Reasons::new(),
            connections_open: AtomicI64::new(0),
            connections_accepted: AtomicU64::new(0),
            connections_refused: Reasons::new(),
            gate_refusals: Reasons::new(),
            refusals: Reasons::with_room(counters::REFUSALS),
            reloads_ok: AtomicU64::new(0),
            reloads_failed: AtomicU64::new(0),
            reload_succeeded: AtomicBool::new(true),
            reload_success_at: AtomicU64::new(unix_now() as u64),
            drain_stage: AtomicU64::new(0),
            overload_refused: Reasons::new(),
            overload_cut: AtomicU64::new(0),
            pressure: OnceLock::new(),
            access_lines: Arc::default(),
            usage_lines: Arc::default(),
            event_lines: Arc::default(),
            listeners: watched::Watched::default(),
            signals: Arc::default(),
            started_at: unix_now(),
        });
        Self { shared }
    }

    /// The handles for calls of one route to one upstream. The same labels give the same handles,
    /// so counters go on across reloads. Takes a lock and may allocate: once per snapshot, not
    /// per call.
    pub fn target(&self, route: &str, upstream: &str, provider: &str) -> Arc<Target> {
        let pool = self.pool(upstream);
        let key =
            TargetKey { route: route.into(), upstream: upstream.into(), provider: provider.into() };
        let mut targets = self.shared.targets.lock();
        let new = || Arc::new(Target::new(pool, Arc::clone(&self.shared.models)));
        Arc::clone(targets.entry(key).or_insert_with(new))
    }

    /// The gauges and counters of one upstream's connections, shared by its targets and workers.
    pub fn pool(&self, upstream: &str) -> Arc<PoolGauges> {
        Arc::clone(self.shared.pools.lock().entry(upstream.into()).or_default())
    }

    /// The counter of one limit of a policy: what it measures (`tokens`), and how it is meant
    /// (`observe`, `soft`, `hard`). The same words give the same counter. Once per snapshot, as
    /// `target`.
    pub fn limit(
        &self,
        policy: &str,
        measure: &'static str,
        mode: &'static str,
    ) -> Arc<LimitCount> {
        Arc::clone(self.shared.limits.lock().entry((policy.into(), measure, mode)).or_default())
    }

    /// A call has ended: counts it for its agent. Every call comes here once, routed or not.
    pub fn finished(&self, call: &Finished<'_>) {
        self.shared.agents.add(call);
        if !call.who.session.is_empty() {
            self.shared.runs.add(call, Instant::now());
        }
    }

    /// What each agent had, by name; those without labels of their own together as `other`.
    pub fn agents(&self) -> Vec<AgentTotals> {
        self.shared.agents.totals()
    }

    /// What the cache made of all calls together.
    pub fn kept(&self) -> KeptTally {
        let targets: Vec<_> = self.shared.targets.lock().values().map(Arc::clone).collect();
        let mut all = KeptTally::default();
        for target in &targets {
            target.fold((), |(), tally| all.merge(&tally.kept));
        }
        all
    }

    /// How the routes' lanes stand now; all of them.
    pub fn lanes_are(&self, lanes: Vec<LaneView>) {
        *self.shared.lanes.lock() = lanes;
    }

    /// Where a scrape finds what the cache holds. Only the first is asked.
    pub fn watch_cache(&self, figures: impl Fn() -> CacheView + Send + Sync + 'static) {
        self.shared.cache.set(Box::new(figures));
    }

    /// Where a scrape finds how tasks and kept streams stand. Only the first is asked.
    pub fn watch_tasks(
        &self,
        counts: Option<Arc<TaskCounts>>,
        figures: impl Fn() -> OffloadView + Send + Sync + 'static,
    ) {
        self.shared.tasks.set(counts, Box::new(figures));
    }

    /// Where a scrape finds how much memory calls hold. Only the first is asked.
    pub fn watch_pressure(&self, pressure: &Arc<Pressure>) {
        self.shared.pressure.get_or_init(|| Arc::clone(pressure));
    }

    /// A new call was refused for want of memory, at that level.
    pub fn overload_refused(&self, level: &'static str) {
        self.shared.overload_refused.add([level]);
    }

    /// A call was cut because it held most when there was no memory left.
    pub fn overload_cut(&self) {
        self.shared.overload_cut.fetch_add(1, Ordering::Relaxed);
    }

    /// The guard against loops did something (`observe`, `slow`, `stop`).
    pub fn runaway(&self, action: &'static str) {
        self.shared.runaways.add([action]);
    }

    /// An accepted connection; `connection_closed` takes it back from the gauge.
    pub fn connection_opened(&self) {
        self.shared.connections_accepted.fetch_add(1, Ordering::Relaxed);
        self.shared.connections_open.fetch_add(1, Ordering::Relaxed);
    }

    pub fn connection_closed(&self) {
        self.shared.connections_open.fetch_sub(1, Ordering::Relaxed);
    }

    /// A connection that was closed before it could ask (`limit`, `tls`, …).
    pub fn connection_refused(&self, reason: &'static str) {
        self.shared.connections_refused.add([reason]);
    }

    /// A reload was tried.
    pub fn reloaded(&self, ok: bool) {
        let shared = &self.shared;
        shared.reload_succeeded.store(ok, Ordering::Relaxed);
        if ok {
            shared.reloads_ok.fetch_add(1, Ordering::Relaxed);
            shared.reload_success_at.store(unix_now() as u64, Ordering::Relaxed);
        } else {
            shared.reloads_failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How far the graceful end is: 0 serving, then up.
    pub fn drain_stage(&self, stage: u8) {
        self.shared.drain_stage.store(u64::from(stage), Ordering::Relaxed);
    }

    /// For the access log to count its lines in.
    pub fn access_lines(&self) -> Arc<LineCounts> {
        Arc::clone(&self.shared.access_lines)
    }

    /// For the usage records to be counted in.
    pub fn usage_lines(&self) -> Arc<LineCounts> {
        Arc::clone(&self.shared.usage_lines)
    }

    /// For the event log to count its lines in.
    pub fn event_lines(&self) -> Arc<LineCounts> {
        Arc::clone(&self.shared.event_lines)
    }

    /// Connections that clients hold open now.
    pub fn connections_open(&self) -> i64 {
        self.shared.connections_open.load(Ordering::Relaxed)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics(…)")
    }
}

fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

//! What the page is told: the history once, and everything now each second, made once for all readers.
//!
//! Lists are cut to what a page can show, the most important rows first; the bounds are told in
//! `admin/page/page.js`, which reads them.
use std::sync::Arc;

use serde_json::json;

use super::crew::Crew;
use super::shown::Shown;
use super::tasks::now_ms;
use super::{Shared, agents, cache, calls, state, upstreams};
use crate::admin::{BoxFuture, Frame, PageDoor, task_rows};
use crate::config;
use crate::drain::Drain;
use crate::pipeline::shared::Hubs;
use crate::snapshot::Live;
use crate::telemetry::history::{EVERY, History};
use crate::telemetry::metrics::{CACHE, Metrics, Sums};
use crate::telemetry::view::{
    AgentView, AgentsView, HeldView, LimitView, LiveView, LoadedView, OffloadView, TotalsView,
    UpstreamView,
};

const MOST_LISTENERS: usize = 8;
const MOST_AGENTS: usize = 50;
/// Of one agent, the fullest.
const MOST_OF_AGENT: usize = 8;
const MOST_LIMITS: usize = 50;
const MOST_UPSTREAMS: usize = 50;
const MOST_ADDRESSES: usize = 16;
const MOST_LANES: usize = 50;
const MOST_CALLS: usize = 200;
const MOST_TASKS: usize = 50;
const MOST_POLICIES: usize = 20;
/// Limits that stand at no agent.
const APART: [&str; 5] = ["session", "credential", "model", "route", "upstream"];

/// Where all of it is found.
#[derive(Clone)]
pub struct Source {
    pub live: Arc<Live>,
    pub metrics: Arc<Metrics>,
    pub shared: Arc<Shared>,
    pub crew: Arc<Crew>,
    pub hubs: Arc<Hubs>,
    pub drain: Drain,
    pub shown: Shown,
    /// Where agents call.
    pub listen: Arc<[String]>,
    /// `off`, `open`, `token`.
    pub actions: &'static str,
    /// Who looks may see whose tasks there are.
    pub shows_tasks: bool,
}

/// What the admin door asks for.
pub fn door(source: Source) -> PageDoor {
    let source = Arc::new(source);
    let history = Arc::new(History::default());
    let tick = {
        let (source, history) = (Arc::clone(&source), Arc::clone(&history));
        move || source.look(&history)
    };
    let window = {
        let (source, history) = (Arc::clone(&source), Arc::clone(&history));
        move || {
            let (window, point) = history.window(source.metrics.started_ms());
            Frame { text: window.to_string(), point }
        }
    };
    let now = {
        let (source, history) = (Arc::clone(&source), Arc::clone(&history));
        move || -> BoxFuture<Frame> {
            let (source, history) = (Arc::clone(&source), Arc::clone(&history));
            Box::pin(async move { source.now(&history).await })
        }
    };
    let cancel = {
        let crew = Arc::clone(&source.crew);
        move |id: &str| -> BoxFuture<bool> {
            let (crew, id) = (Arc::clone(&crew), Arc::from(id));
            Box::pin(async move { calls::cancel(&crew, id).await })
        }
    };
    PageDoor {
        every: EVERY,
        tick: Box::new(tick),
        history: Box::new(window),
        now: Box::new(now),
        policy: Box::new(move || config::redacted(&source.live.load().config)),
        cancel: Box::new(cancel),
    }
}

impl Source {
    fn look(&self, history: &History) {
        let waiting = self.live.limits.with(|book, _| book.take_most_waited() as u64);
        history.look(&self.metrics.sums(), waiting, now_ms());
    }

    async fn now(&self, history: &History) -> Frame {
        let mut calls = calls::in_flight(&self.crew).await;
        let sums = self.metrics.sums();
        let last = history.last();
        let OffloadView { tasks, webhooks, streams } = self.shown.view();
        let ready = state::readiness(&self.shared, &self.drain, &self.crew);
        let mut view = LiveView {
            at_ms: now_ms(),
            started_ms: self.metrics.started_ms(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            stage: state::stage(&self.drain),
            ready: ready.ready,
            why: ready.why,
            actions: self.actions.to_owned(),
            listen: self.listen.iter().take(MOST_LISTENERS).cloned().collect(),
            policy: LoadedView { loaded_ms: self.metrics.loaded_ms() },
            connections: self.crew.connections() as u64,
            memory: self.memory(),
            in_flight: sums.in_flight,
            point: history.point(),
            totals: totals(&sums),
            calls_total: calls.len() as u64,
            task_rows: self.task_rows(),
            tasks,
            webhooks,
            streams,
            ..LiveView::default()
        };
        calls.truncate(MOST_CALLS);
        view.calls = calls;
        let mut cache = cache::view(&self.live.cache, &self.hubs, &self.metrics);
        cache.policies.truncate(MOST_POLICIES);
        view.cache = Some(cache).filter(|cache| !cache.policies.is_empty());
        self.rows(&mut view);
        Frame { text: json!(view).to_string(), point: last }
    }

    fn memory(&self) -> HeldView {
        let pressure = &self.live.pressure;
        HeldView {
            held: pressure.used(),
            budget: pressure.budget(),
            level: pressure.level().as_str().to_owned(),
        }
    }

    fn task_rows(&self) -> Option<Vec<crate::telemetry::view::TaskView>> {
        let offload = self.shown.offload.as_ref().filter(|_| self.shows_tasks)?;
        Some(task_rows(&offload.tasks, MOST_TASKS))
    }

    /// Agents, limits, upstreams and lanes.
    fn rows(&self, view: &mut LiveView) {
        let AgentsView { mut agents, queues, mut lanes, limits } =
            agents::view(&self.live.limits, &self.metrics);
        view.waiting = agents.iter().map(|agent| agent.waiting).sum();
        view.agents_total = agents.len() as u64;
        agents.sort_by_cached_key(|agent| {
            let busy = agent.in_flight + agent.waiting > 0;
            std::cmp::Reverse((busy, agent.spend_nano, agent.calls))
        });
        agents.truncate(MOST_AGENTS);
        agents.iter_mut().for_each(cut);
        view.agents = agents;
        let apart = limits.into_iter().filter(|limit| APART.contains(&&*limit.per));
        view.limits = apart.take(MOST_LIMITS).collect();
        let snapshot = self.live.load();
        view.upstreams_total = snapshot.upstreams.len() as u64;
        let used = upstreams::view(&snapshot, &queues).into_iter().filter(was_used);
        view.upstreams = used.take(MOST_UPSTREAMS).collect();
        for upstream in &mut view.upstreams {
            upstream.addresses.truncate(MOST_ADDRESSES);
        }
        lanes.truncate(MOST_LANES);
        view.lanes = lanes;
    }
}

/// Leaves the fullest limits.
fn cut(agent: &mut AgentView) {
    let full = |limit: &LimitView| {
        let taken = i128::from(limit.used) + i128::from(limit.held);
        std::cmp::Reverse(taken * 1_000_000 / i128::from(limit.limit.max(1)))
    };
    agent.limits.sort_by_cached_key(full);
    agent.limits.truncate(MOST_OF_AGENT);
}

/// It had a call or a connection.
fn was_used(upstream: &UpstreamView) -> bool {
    let pool = &upstream.pool;
    upstream.in_flight != 0
        || upstream.waiting != 0
        || pool.open != 0
        || pool.dialled + pool.reused + pool.retried > 0
        || upstream.breaker.state != "closed"
}

fn totals(sums: &Sums) -> TotalsView {
    let cache = CACHE.iter().zip(sums.cache).filter(|(_, count)| *count > 0);
    TotalsView {
        calls: sums.calls(),
        spend_nano: sums.spend_nano,
        saved_nano: sums.saved.nano,
        cache: cache.map(|(word, count)| ((*word).to_owned(), count)).collect(),
    }
}

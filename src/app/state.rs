//! What the admin listener shows: readiness, liveness, and the state of everything as JSON.
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::crew::Crew;
use super::worker::Message;
use super::{Shared, agents, cache};
use crate::admin::{CacheDoor, Doors, KeysDoor, Readiness};
use crate::drain::{Drain, Stage};
use crate::flight::Seen;
use crate::limits::Limits;
use crate::pipeline::shared::Hubs;
use crate::pressure::Level;
use crate::snapshot::Live;
use crate::store::Store;
use crate::telemetry::metrics::Metrics;
use crate::upstream::Upstream;
use crate::upstream::breaker::Status;

/// How long a worker may take to say what it has in flight.
const PATIENCE: Duration = Duration::from_secs(1);

/// What went wrong since the start, and is not over.
#[derive(Debug, Default)]
pub struct Health {
    failed_reload: Mutex<Option<String>>,
}

impl Health {
    /// `None`: the last reload went well.
    pub fn reloaded(&self, fault: Option<String>) {
        *self.failed_reload.lock() = fault;
    }
}

/// What the admin listener sees through.
pub struct Parts<'p> {
    pub shared: &'p Arc<Shared>,
    pub live: &'p Arc<Live>,
    pub metrics: &'p Arc<Metrics>,
    pub drain: &'p Drain,
}

impl Parts<'_> {
    pub fn doors(&self, crew: &Arc<Crew>, hubs: &Arc<Hubs>, keys: Option<KeysDoor>) -> Doors {
        let Self { shared, live, metrics, drain } = *self;
        let ready = {
            let (shared, drain, crew) = (Arc::clone(shared), drain.clone(), Arc::clone(crew));
            move || readiness(&shared, &drain, &crew)
        };
        let alive = {
            let crew = Arc::clone(crew);
            move || crew.alive()
        };
        let cache = {
            let (cache, hubs) = (Arc::clone(&live.cache), Arc::clone(hubs));
            let metrics = Arc::clone(metrics);
            Arc::new(move || cache::view(&cache, &hubs, &metrics))
        };
        let state = {
            let (live, drain, crew) = (Arc::clone(live), drain.clone(), Arc::clone(crew));
            let (metrics, shared, cache) =
                (Arc::clone(metrics), Arc::clone(shared), Arc::clone(&cache));
            move || -> crate::admin::BoxFuture<Value> {
                let (metrics, live) = (Arc::clone(&metrics), Arc::clone(&live));
                let state = state(metrics, live, drain.clone(), Arc::clone(&crew));
                let store = shared.lasting.store.as_deref().map(store);
                let cache = cache();
                Box::pin(async move {
                    let mut state = state.await;
                    state["store"] = json!(store);
                    state["cache"] = json!(cache);
                    state
                })
            }
        };
        Doors {
            metrics: Arc::clone(metrics),
            ready: Box::new(ready),
            live: Box::new(alive),
            state: Box::new(state),
            cache: Some(CacheDoor {
                view: Box::new(move || cache()),
                cache: Arc::clone(&live.cache),
            }),
            keys,
            hosts: Vec::new(),
        }
    }
}

fn readiness(shared: &Shared, drain: &Drain, crew: &Crew) -> Readiness {
    let mut why = Vec::new();
    let mut ready = true;
    if drain.stage() > Stage::Serving {
        ready = false;
        why.push("shutting down".to_owned());
    }
    if !crew.alive() {
        ready = false;
        why.push("a worker stands still".to_owned());
    }
    if let Some(fault) = shared.health.failed_reload.lock().as_ref() {
        why.push(format!("the last reload failed, the policy before it is in force: {fault}"));
    }
    if shared.lasting.store.as_ref().is_some_and(|store| !store.healthy()) {
        why.push("the store has failed: budgets and keys are no longer kept".to_owned());
    }
    let pressure = &shared.lasting.pressure;
    let level = pressure.level();
    if level > Level::Calm {
        let (used, budget) = (pressure.used() >> 20, pressure.budget() >> 20);
        let level = level.as_str();
        why.push(format!("memory is short ({level}): calls hold {used} of {budget} MiB"));
    }
    Readiness { ready, why }
}

async fn state(metrics: Arc<Metrics>, live: Arc<Live>, drain: Drain, crew: Arc<Crew>) -> Value {
    let snapshot = live.load();
    let calls = in_flight(&crew).await;
    let view = agents::view(&live.limits, &metrics);
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "stage": format!("{:?}", drain.stage()).to_lowercase(),
        "workers": crew.len(),
        "connections": crew.connections(),
        "memory": {
            "held": live.pressure.used(),
            "budget": live.pressure.budget(),
            "level": live.pressure.level().as_str(),
        },
        "descriptors": {
            "limit": crew.descriptors.limit,
            "connections": snapshot.config.server.max_connections.min(crew.descriptors.connections),
        },
        "upstreams": snapshot.upstreams.iter().map(|one| upstream(one)).collect::<Vec<_>>(),
        "calls": calls.iter().map(call).collect::<Vec<_>>(),
        "agents": view.agents,
        "queues": view.queues,
        "lanes": view.lanes,
        "limits": view.limits,
    })
}

fn store(store: &Store) -> Value {
    let figures = store.figures();
    json!({
        "directory": store.directory().display().to_string(),
        "healthy": store.healthy(),
        "commits": figures.commits,
        "operations": figures.operations,
        "refused": figures.refused,
    })
}

fn upstream(upstream: &Upstream) -> Value {
    let now = Instant::now();
    let gauges = &upstream.shared.gauges;
    let seen = upstream.addresses.iter().zip(upstream.roster.seen(now));
    let addresses: Vec<_> = seen
        .map(|(address, seen)| {
            json!({
                "host": seen.address,
                "tls": address.origin.tls,
                "in_flight": seen.busy,
                "state": seen.state,
                "left_ms": seen.left.map(millis),
                "latency_ms": seen.latency.map(millis),
            })
        })
        .collect();
    let breaker = upstream.roster.breaker(now);
    let left = if let Status::Open(left) = breaker { Some(millis(left)) } else { None };
    json!({
        "name": &*upstream.config.name,
        "in_flight": gauges.in_flight.load(Relaxed),
        "waiting": gauges.waiting.load(Relaxed),
        "concurrency": upstream.config.concurrency,
        "pool": {
            "open": gauges.open.load(Relaxed),
            "idle": gauges.idle.load(Relaxed),
            "dialled": gauges.dialled.load(Relaxed),
            "reused": gauges.reused.load(Relaxed),
            "retried": gauges.retried.load(Relaxed),
        },
        "breaker": { "state": breaker.as_str(), "left_ms": left },
        "retries_left": upstream.retries_left(now),
        "keys": { "held": upstream.keys.len(), "aside": upstream.keys_aside(now) },
        "addresses": addresses,
    })
}

fn millis(time: Duration) -> u64 {
    time.as_millis() as u64
}

fn call(seen: &Report) -> Value {
    json!({
        "request_id": seen.request_id,
        "upstream": seen.upstream.as_deref(),
        "operation": seen.operation,
        "model": seen.model,
        "agent": seen.agent.as_deref(),
        "position": seen.position,
        "stage": seen.stage,
        "age_ms": seen.age.as_millis() as u64,
        "bytes": seen.bytes,
    })
}

/// One call, as it can leave its worker's thread.
pub struct Report {
    request_id: String,
    upstream: Option<Arc<str>>,
    operation: &'static str,
    model: Option<String>,
    agent: Option<Arc<str>>,
    /// Calls before it in its agent's line.
    position: Option<usize>,
    stage: &'static str,
    age: Duration,
    bytes: u64,
}

impl Report {
    pub fn of(seen: Seen, limits: &Limits) -> Self {
        let in_line = seen.about.in_line;
        let position = in_line.and_then(|call| limits.with(|book, _| book.position(call)));
        Self {
            position,
            agent: seen.about.agent,
            request_id: seen.about.request_id.as_str().to_owned(),
            upstream: seen.about.upstream,
            operation: seen.about.operation,
            model: seen.about.model.as_deref().map(str::to_owned),
            stage: seen.stage.as_str(),
            age: seen.age,
            bytes: seen.bytes,
        }
    }
}

async fn in_flight(crew: &Crew) -> Vec<Report> {
    let asked: Vec<_> = crew
        .mailboxes()
        .into_iter()
        .filter_map(|mailbox| {
            let (answer, receiver) = oneshot::channel();
            mailbox.send(Message::Report(answer)).ok().map(|()| receiver)
        })
        .collect();
    let mut all = Vec::new();
    for receiver in asked {
        if let Ok(Ok(mut calls)) = tokio::time::timeout(PATIENCE, receiver).await {
            all.append(&mut calls);
        }
    }
    all.sort_by_key(|call| std::cmp::Reverse(call.age));
    all
}

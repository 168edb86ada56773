//! What the admin listener shows: readiness, liveness, and the state of everything as JSON.
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::crew::Crew;
use super::shown::Shown;
use super::{Shared, agents, cache, calls, live, upstreams};
use crate::admin::{CacheDoor, Doors, Guard, KeysDoor, Readiness};
use crate::drain::{Drain, Stage};
use crate::pipeline::shared::Hubs;
use crate::pressure::Level;
use crate::snapshot::Live;
use crate::store::Store;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::view::{OffloadView, StoreView};

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
    pub shown: &'p Shown,
    /// Where agents call, for people.
    pub listen: Vec<String>,
}

impl Parts<'_> {
    pub fn doors(&self, crew: &Arc<Crew>, hubs: &Arc<Hubs>, guard: Guard) -> Doors {
        let Self { shared, live, metrics, drain, shown, listen } = self;
        let (shared, live, metrics, drain, shown) = (*shared, *live, *metrics, *drain, *shown);
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
            let shown = shown.clone();
            move || -> crate::admin::BoxFuture<Value> {
                let (metrics, live) = (Arc::clone(&metrics), Arc::clone(&live));
                let state = state(metrics, live, drain.clone(), Arc::clone(&crew));
                let store = shared.lasting.store.as_deref().map(store);
                let cache = cache();
                let OffloadView { tasks, webhooks, streams } = shown.view();
                Box::pin(async move {
                    let mut state = state.await;
                    state["store"] = json!(store);
                    state["cache"] = json!(cache);
                    state["tasks"] = json!(tasks);
                    state["webhooks"] = json!(webhooks);
                    state["streams"] = json!(streams);
                    state
                })
            }
        };
        let page = live::Source {
            live: Arc::clone(live),
            metrics: Arc::clone(metrics),
            shared: Arc::clone(shared),
            crew: Arc::clone(crew),
            hubs: Arc::clone(hubs),
            drain: drain.clone(),
            shown: shown.clone(),
            listen: listen.as_slice().into(),
            actions: guard.actions(),
            // without a proof, only where the page may end them
            shows_tasks: guard.demanded || guard.actions,
        };
        Doors {
            page: Some(live::door(page)),
            metrics: Arc::clone(metrics),
            ready: Box::new(ready),
            live: Box::new(alive),
            state: Box::new(state),
            cache: Some(CacheDoor {
                view: Box::new(move || cache()),
                cache: Arc::clone(&live.cache),
            }),
            tasks: shown.door(),
            keys: keys(shared.lasting.store.as_ref()),
            guard,
        }
    }
}

fn keys(store: Option<&Arc<Store>>) -> Option<KeysDoor> {
    store.map(|store| KeysDoor { store: Arc::clone(store) })
}

/// `serving`, `leaving`, `draining`, `ending`
pub fn stage(drain: &Drain) -> String {
    format!("{:?}", drain.stage()).to_lowercase()
}

pub fn readiness(shared: &Shared, drain: &Drain, crew: &Crew) -> Readiness {
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
    let calls = calls::in_flight(&crew).await;
    let view = agents::view(&live.limits, &metrics);
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "stage": stage(&drain),
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
        "upstreams": upstreams::view(&snapshot, &view.queues),
        "calls": calls,
        "agents": view.agents,
        "queues": view.queues,
        "lanes": view.lanes,
        "limits": view.limits,
    })
}

pub fn store(store: &Store) -> StoreView {
    let figures = store.figures();
    StoreView {
        directory: store.directory().display().to_string(),
        healthy: store.healthy(),
        commits: figures.commits,
        operations: figures.operations,
        refused: figures.refused,
        free_bytes: figures.free,
    }
}

//! One consistent view of the policy: what a request sees from its first byte to its last.
//!
//! [`Snapshot::prepare`] may fail and changes nothing; [`Live::swap`] is one atomic store and cannot.
//! What must outlive a policy (connections, budgets, counters) is kept outside, found again by name.
use std::sync::Arc;

use arc_swap::ArcSwap;
use thiserror::Error;

use crate::agents::{self, Ladder};
use crate::cache::Cache;
use crate::config::{self, CacheRule, Config, Pacing};
use crate::limits::Limits;
use crate::limits::book::{LaneRule, PoolRule};
use crate::limits::pace;
use crate::limits::price::{PriceError, PriceList};
use crate::limits::rules::Rules;
use crate::pressure::{Pressure, cgroup};
use crate::route::{Route, Routes, Target};
use crate::semantic;
use crate::store::Store;
use crate::telemetry::metrics::Metrics;
use crate::upstream::{self, Registry, Upstream};

/// Most calls that wait in one route's lane.
const LANE_DEPTH: usize = 1_000;

/// Why a policy cannot take effect.
#[derive(Debug, Error)]
pub enum SetupError {
    #[error(transparent)]
    Upstream(#[from] upstream::SetupError),
    #[error(transparent)]
    Prices(#[from] PriceError),
}

pub struct Snapshot {
    pub config: Config,
    pub upstreams: Vec<Arc<Upstream>>,
    pub routes: Routes,
    /// Who calls.
    pub agents: Ladder,
    pub rules: Arc<Rules>,
    pub prices: PriceList,
    limits: Arc<Limits>,
    cache: Arc<Cache>,
    pressure: Arc<Pressure>,
}

/// What outlives every snapshot.
pub struct Lasting {
    pub upstreams: Registry,
    pub limits: Arc<Limits>,
    pub agents: Arc<agents::Shared>,
    pub cache: Arc<Cache>,
    pub pressure: Arc<Pressure>,
    /// `None`: state is in memory only.
    pub store: Option<Arc<Store>>,
}

impl Lasting {
    /// With what `store` keeps secret, and a place for answers beside it.
    pub fn new(store: Option<Arc<Store>>) -> Self {
        let pepper = store.as_ref().map(|store| store.pepper().expose());
        let agents = Arc::new(agents::Shared::new(pepper));
        let directory = store.as_ref().map(|store| store.directory().to_owned());
        let cache = Cache::new(agents.secret("tidegate answers v1"), directory);
        Self {
            upstreams: Registry::default(),
            limits: Arc::default(),
            agents,
            cache: Arc::new(cache),
            pressure: Arc::new(Pressure::new(cgroup::ceiling().unwrap_or(u64::MAX))),
            store,
        }
    }
}

impl Default for Lasting {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Snapshot {
    /// Reads certificate files: call it off the I/O threads.
    pub fn prepare(
        config: Config,
        lasting: &Lasting,
        metrics: &Metrics,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, SetupError> {
        let in_other_words = |policy: &config::Policy| matches!(&policy.cache, Some(CacheRule::On(rule)) if rule.canonical || rule.semantic.is_some());
        if config.policies.iter().any(in_other_words) {
            semantic::warm();
        }
        let upstreams = config
            .upstreams
            .iter()
            .map(|upstream| {
                let pool = lasting.limits.with(|book, _| book.pool_of(&upstream.name));
                Upstream::prepare(upstream, &lasting.upstreams, pool, metrics, env).map(Arc::new)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let routes = config
            .routes
            .iter()
            .filter_map(|route| {
                let target = |goal: &config::Goal| {
                    let upstream = upstreams.get(goal.to)?;
                    let of = &upstream.config;
                    let handles = metrics.target(&route.name, &of.name, &of.provider);
                    Some(Target::new(goal, Arc::clone(upstream), handles))
                };
                let targets: Vec<_> =
                    route.to.iter().chain(&route.fallback).filter_map(target).collect();
                let lane = route
                    .concurrency
                    .map(|_| lasting.limits.with(|book, _| book.lane_of(&route.name)));
                (!targets.is_empty()).then(|| Route::new(route, targets, lane))
            })
            .collect();
        Ok(Self {
            agents: Ladder::new(&config.agents, &lasting.agents),
            rules: Arc::new(Rules::prepare(&config.policies, metrics)),
            prices: PriceList::prepare(&config.prices)?,
            limits: Arc::clone(&lasting.limits),
            cache: Arc::clone(&lasting.cache),
            pressure: Arc::clone(&lasting.pressure),
            routes: Routes::new(routes),
            upstreams,
            config,
        })
    }

    /// What takes effect at once, also for calls that are already going on: limits and places.
    fn take_effect(&self) {
        let wanted = self.config.server.memory;
        let budget = self.pressure.set_budget(wanted);
        if budget < wanted {
            let why = "the control group allows less memory than server.memory wants for calls";
            tracing::warn!(wanted, budget, "{why}");
        }
        let pools: Vec<_> = self.upstreams.iter().map(|one| pool(&one.config)).collect();
        let lanes: Vec<_> = self.config.routes.iter().filter_map(|one| self.lane(one)).collect();
        self.limits.with(|book, now| book.apply(Arc::clone(&self.rules), pools, lanes, now));
        let caches = self.config.policies.iter().filter_map(|policy| match &policy.cache {
            Some(CacheRule::On(cache)) => Some((Arc::clone(&policy.name), &**cache)),
            Some(CacheRule::Off) | None => None,
        });
        self.cache.spaces.apply(&caches.collect::<Vec<_>>());
    }

    /// The lane of a route that has one. Its calls wait as long as for the most patient of the
    /// upstreams that it leads to.
    fn lane(&self, route: &config::Route) -> Option<LaneRule> {
        let goals = route.to.iter().chain(&route.fallback);
        let upstreams = goals.filter_map(|goal| self.upstreams.get(goal.to));
        Some(LaneRule {
            name: Arc::clone(&route.name),
            slots: Some(route.concurrency?),
            depth: LANE_DEPTH,
            wait: upstreams.map(|one| one.config.timeouts.queue).max().unwrap_or_default(),
        })
    }
}

fn pool(upstream: &config::Upstream) -> PoolRule {
    PoolRule {
        name: Arc::clone(&upstream.name),
        slots: upstream.concurrency,
        pacing: match upstream.pacing {
            Pacing::Auto => Some(pace::Mode::Auto),
            Pacing::Latency => Some(pace::Mode::Latency),
            Pacing::Off => None,
        },
        wait: upstream.timeouts.queue,
    }
}

/// The snapshot in force.
pub struct Live {
    pub limits: Arc<Limits>,
    pub cache: Arc<Cache>,
    pub pressure: Arc<Pressure>,
    current: ArcSwap<Snapshot>,
}

impl Live {
    pub fn new(snapshot: Snapshot) -> Self {
        snapshot.take_effect();
        Self {
            limits: Arc::clone(&snapshot.limits),
            cache: Arc::clone(&snapshot.cache),
            pressure: Arc::clone(&snapshot.pressure),
            current: ArcSwap::from_pointee(snapshot),
        }
    }

    /// For a short look.
    pub fn peek(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.current.load()
    }

    pub fn load(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    pub fn swap(&self, snapshot: Snapshot) {
        snapshot.take_effect();
        self.current.store(Arc::new(snapshot));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::book::LaneLine;

    /// The lanes of a policy whose first route has such a bound.
    fn lanes(lasting: &Lasting, slots: Option<usize>) -> (String, Vec<LaneLine>) {
        let text = "upstreams: { ollama: {} }\nroutes: [{ to: ollama }]";
        let mut config = config::parse("test.yaml", text, &|_| None).unwrap();
        config.routes[0].concurrency = slots;
        let name = config.routes[0].name.to_string();
        let snapshot = Snapshot::prepare(config, lasting, &Metrics::new(), &|_| None).unwrap();
        let _live = Live::new(snapshot);
        (name, lasting.limits.with(|book, _| book.lanes()))
    }

    #[test]
    fn a_route_has_a_lane_as_long_as_the_policy_bounds_it() {
        let lasting = Lasting::default();
        assert!(lanes(&lasting, None).1.is_empty());
        for slots in [2, 3] {
            let (name, lanes) = lanes(&lasting, Some(slots));
            let one = |lane: &LaneLine| (lane.route.to_string(), lane.slots, lane.depth);
            let want = (name, Some(slots), LANE_DEPTH);
            assert_eq!(lanes.iter().map(one).collect::<Vec<_>>(), [want]);
        }
        assert!(lanes(&lasting, None).1.is_empty());
    }
}

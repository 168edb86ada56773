//! One consistent view of the policy: what a request sees from its first byte to its last.
//!
//! [`Snapshot::prepare`] may fail and changes nothing; [`Live::swap`] is one atomic store and cannot.
//! What must outlive a policy (connections, bulkheads, counters) is kept outside, found again by name.
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::config::Config;
use crate::route::{Route, Routes};
use crate::store::Store;
use crate::telemetry::metrics::Metrics;
use crate::upstream::{Registry, SetupError, Upstream};

pub struct Snapshot {
    pub config: Config,
    pub upstreams: Vec<Arc<Upstream>>,
    pub routes: Routes,
}

/// What outlives every snapshot.
#[derive(Default)]
pub struct Lasting {
    pub upstreams: Registry,
    /// `None`: state is in memory only.
    pub store: Option<Arc<Store>>,
}

impl Snapshot {
    /// Reads certificate files: call it off the I/O threads.
    pub fn prepare(
        config: Config,
        lasting: &Lasting,
        metrics: &Metrics,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, SetupError> {
        let upstreams = config
            .upstreams
            .iter()
            .map(|upstream| {
                Upstream::prepare(upstream, &lasting.upstreams, metrics, env).map(Arc::new)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let routes = config
            .routes
            .iter()
            .filter_map(|route| {
                let upstream = upstreams.get(route.to)?;
                let of = &upstream.config;
                let handles = metrics.target(&route.name, &of.name, &of.provider);
                Some(Route::new(route, Arc::clone(upstream), handles))
            })
            .collect();
        Ok(Self { config, upstreams, routes: Routes::new(routes) })
    }

    /// What takes effect at once for calls that are already going on: the bulkheads' sizes.
    fn take_effect(&self) {
        for upstream in &self.upstreams {
            upstream.shared.bulkhead.resize(upstream.config.concurrency);
        }
    }
}

/// The snapshot in force.
pub struct Live {
    current: ArcSwap<Snapshot>,
}

impl Live {
    pub fn new(snapshot: Snapshot) -> Self {
        snapshot.take_effect();
        Self { current: ArcSwap::from_pointee(snapshot) }
    }

    pub fn load(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    pub fn swap(&self, snapshot: Snapshot) {
        snapshot.take_effect();
        self.current.store(Arc::new(snapshot));
    }
}

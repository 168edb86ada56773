//! The active checks of the policy in force: one worker makes them for all. They end with the policy
//! that asked for them, and what they found stays with the addresses.
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::task::AbortHandle;

use crate::snapshot::Snapshot;
use crate::telemetry::metrics::Metrics;
use crate::upstream::health::watch;
use crate::upstream::pool::Pools;

/// What runs of them.
#[derive(Default)]
pub struct Checks {
    of: Option<Arc<Snapshot>>,
    running: Vec<AbortHandle>,
}

impl Checks {
    /// Starts those of a new policy and ends those of the old one, and shows how backends are.
    pub fn follow(&mut self, snapshot: &Arc<Snapshot>, pools: &Rc<Pools>, metrics: &Metrics) {
        let now = Instant::now();
        snapshot.upstreams.iter().for_each(|upstream| upstream.show(now));
        // each time: calls of the policy before may still find things out
        metrics
            .clear_removed(|name| snapshot.upstreams.iter().any(|one| *one.config.name == *name));
        if self.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, snapshot)) {
            return;
        }
        self.of = Some(Arc::clone(snapshot));
        self.running.drain(..).for_each(|check| check.abort());
        for upstream in snapshot.upstreams.iter().filter(|one| one.config.health.is_some()) {
            let start = |at| {
                let check = watch(Rc::clone(pools), Arc::clone(upstream), at);
                tokio::task::spawn_local(check).abort_handle()
            };
            self.running.extend((0..upstream.addresses.len()).map(start));
        }
    }
}

//! What one worker thread has for itself, and what it shares with the others.
//!
//! Everything a request touches often is the worker's own: no lock, no atomic that another thread
//! writes. Workers meet in the snapshot, the metrics, the limits and the drain signal.
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::shared::Hubs;
use crate::cache::Cache;
use crate::clock::Clock;
use crate::drain::Drain;
use crate::flight::Flights;
use crate::limits::Limits;
use crate::request_id::RequestIds;
use crate::snapshot::{Live, Snapshot};
use crate::telemetry::access::Lines;
use crate::telemetry::metrics::Metrics;
use crate::upstream::pool::Pools;

pub struct Worker {
    pub clock: Arc<Clock>,
    pub flights: Rc<Flights>,
    pub pools: Rc<Pools>,
    pub ids: RequestIds,
    pub limits: Arc<Limits>,
    pub cache: Arc<Cache>,
    /// Calls in flight that others may join; shared by all workers.
    pub hubs: Arc<Hubs>,
    pub live: Arc<Live>,
    pub metrics: Arc<Metrics>,
    pub lines: RefCell<Lines>,
    pub drain: Drain,
}

impl Worker {
    pub fn new(
        live: Arc<Live>,
        metrics: Arc<Metrics>,
        lines: Lines,
        drain: Drain,
        workers: usize,
        hubs: Arc<Hubs>,
    ) -> Self {
        let clock = Arc::new(Clock::new());
        Self {
            flights: Rc::default(),
            pools: Rc::new(Pools::new(Arc::clone(&clock), workers)),
            clock,
            ids: RequestIds::new(),
            limits: Arc::clone(&live.limits),
            cache: Arc::clone(&live.cache),
            hubs,
            live,
            metrics,
            lines: RefCell::new(lines),
            drain,
        }
    }

    /// The policy that a request starting now is served under, to its end.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.live.load()
    }
}

//! May this call go on now? A place in the upstream's bulkhead, waited for in order of arrival.
//!
//! A [`Lease`] is the proof: dispatch demands one, and only `admit` gives it. It is held to the last
//! byte of the answer and given back by being dropped.
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::refusal::Refusal;
use super::worker::Worker;
use crate::flight::{Flight, Stage};
use crate::telemetry::metrics::PoolGauges;
use crate::upstream::Upstream;
use crate::upstream::bulkhead::Place;

/// Leave to make one call.
pub struct Lease {
    _place: Option<Place>,
    gauges: Arc<PoolGauges>,
    /// How long the call waited for its place.
    pub queued: Duration,
}

impl Lease {
    fn new(upstream: &Upstream, place: Option<Place>, queued: Duration) -> Self {
        let gauges = Arc::clone(&upstream.shared.gauges);
        gauges.in_flight.fetch_add(1, Relaxed);
        Self { _place: place, gauges, queued }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.gauges.in_flight.fetch_sub(1, Relaxed);
    }
}

pub async fn admit(
    worker: &Worker,
    flight: &Flight,
    upstream: &Upstream,
) -> Result<Lease, Refusal> {
    if upstream.config.concurrency.is_none() {
        return Ok(Lease::new(upstream, None, Duration::ZERO));
    }
    if let Some(place) = upstream.shared.bulkhead.try_enter() {
        return Ok(Lease::new(upstream, Some(place), Duration::ZERO));
    }
    let since = Instant::now();
    flight.enter(Stage::Queued, worker.clock.now());
    let _waiting = Waiting::at(&upstream.shared.gauges);
    match flight.guard(upstream.shared.bulkhead.enter()).await {
        Ok(place) => Ok(Lease::new(upstream, place, since.elapsed())),
        Err(expired) => Err(Refusal::expired(expired, &upstream.config)),
    }
}

struct Waiting<'g>(&'g PoolGauges);

impl<'g> Waiting<'g> {
    fn at(gauges: &'g PoolGauges) -> Self {
        gauges.waiting.fetch_add(1, Relaxed);
        Self(gauges)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

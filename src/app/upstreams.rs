//! Upstreams, as `/state` and the page show them.
use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::snapshot::Snapshot;
use crate::telemetry::view::{
    AddressView, BreakerView, KeysView, PoolView, QueueView, UpstreamView,
};
use crate::upstream::Upstream;
use crate::upstream::breaker::Status;

/// In the order of the policy, each with its line of waiting calls.
pub fn view(snapshot: &Snapshot, queues: &[QueueView]) -> Vec<UpstreamView> {
    let queues: HashMap<_, _> = queues.iter().map(|queue| (&*queue.upstream, queue)).collect();
    let all = snapshot.upstreams.iter().map(|one| {
        let queue = queues.get(&*one.config.name).map(|queue| (*queue).clone());
        UpstreamView { queue, ..upstream(one) }
    });
    all.collect()
}

fn upstream(upstream: &Upstream) -> UpstreamView {
    let now = Instant::now();
    let gauges = &upstream.shared.gauges;
    let seen = upstream.addresses.iter().zip(upstream.roster.seen(now));
    let addresses = seen.map(|(address, seen)| AddressView {
        host: seen.address.to_owned(),
        tls: address.origin.tls,
        in_flight: seen.busy as u64,
        state: seen.state.to_owned(),
        left_ms: seen.left.map(millis),
        latency_ms: seen.latency.map(millis),
    });
    let breaker = upstream.roster.breaker(now);
    let left_ms = if let Status::Open(left) = breaker { Some(millis(left)) } else { None };
    UpstreamView {
        name: upstream.config.name.to_string(),
        in_flight: gauges.in_flight.load(Relaxed),
        waiting: gauges.waiting.load(Relaxed),
        concurrency: upstream.config.concurrency.map(|most| most as u64),
        pool: PoolView {
            open: gauges.open.load(Relaxed),
            idle: gauges.idle.load(Relaxed),
            dialled: gauges.dialled.load(Relaxed),
            reused: gauges.reused.load(Relaxed),
            retried: gauges.retried.load(Relaxed),
        },
        breaker: BreakerView { state: breaker.as_str().to_owned(), left_ms },
        retries_left: upstream.retries_left(now),
        keys: KeysView { held: upstream.keys.len() as u64, aside: upstream.keys_aside(now) as u64 },
        addresses: addresses.collect(),
        queue: None,
    }
}

fn millis(time: Duration) -> u64 {
    time.as_millis() as u64
}

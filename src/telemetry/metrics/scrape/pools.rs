//! Upstreams: their connections, their queues, and how they are.
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Labels, Out};
use crate::identity::Class;
use crate::telemetry::metrics::PoolGauges;
use crate::telemetry::metrics::names;

type Pools = [(Arc<str>, Arc<PoolGauges>)];

pub(super) fn encode(out: &mut Out<'_>, pools: &Pools) -> fmt::Result {
    fn rows<'a, T>(
        pools: &'a Pools,
        pick: impl Fn(&'a PoolGauges) -> T + 'a,
    ) -> impl Iterator<Item = (Labels<'a, 1>, T)> {
        pools.iter().map(move |(name, pool)| ([("upstream", &**name)], pick(pool)))
    }
    fn by<'a>(
        pools: &'a Pools,
        label: &'static str,
        pick: impl Fn(&'a PoolGauges) -> Vec<([&'static str; 1], u64)> + 'a,
    ) -> impl Iterator<Item = (Labels<'a, 2>, u64)> {
        pools.iter().flat_map(move |(name, pool)| {
            pick(pool)
                .into_iter()
                .map(move |([value], count)| ([("upstream", &**name), (label, value)], count))
        })
    }
    let now = Ordering::Relaxed;
    out.gauges(&names::POOL_OPEN, rows(pools, |pool| pool.open.load(now)))?;
    out.gauges(&names::POOL_IDLE, rows(pools, |pool| pool.idle.load(now)))?;
    out.gauges(&names::UPSTREAM_IN_FLIGHT, rows(pools, |pool| pool.in_flight.load(now)))?;
    out.gauges(&names::UPSTREAM_WAITING, rows(pools, |pool| pool.waiting.load(now)))?;
    let queued = pools.iter().flat_map(|(name, pool)| {
        let row = |class: Class| {
            let labels = [("upstream", &**name), ("class", class.as_str())];
            (labels, pool.queued(class).load(now))
        };
        Class::ALL.map(row)
    });
    out.gauges(&names::QUEUE_DEPTH, queued)?;
    out.counters(&names::RATE_LIMITED, rows(pools, |pool| pool.rate_limited.load(now)))?;
    out.gauges(&names::PAUSED, rows(pools, |pool| pool.paused.load(now)))?;
    out.counters(&names::DIALLED, rows(pools, |pool| pool.dialled.load(now)))?;
    out.counters(&names::DIAL_FAILED, by(pools, "reason", |pool| pool.dial_failed.read()))?;
    out.counters(&names::REUSED, rows(pools, |pool| pool.reused.load(now)))?;
    out.counters(&names::RETIRED, by(pools, "reason", |pool| pool.retired.read()))?;
    let slots = rows(pools, |pool| pool.slots.load(now)).filter(|(_, slots)| *slots > 0);
    out.gauges(&names::UPSTREAM_SLOTS, slots)?;
    out.counters(&names::ATTEMPTS, by(pools, "verdict", |pool| pool.attempts.read()))?;
    out.counters(&names::HEDGES, by(pools, "result", |pool| pool.hedges.read()))?;
    out.counters(&names::RETRIED, by(pools, "why", PoolGauges::retries))?;
    out.gauges(&names::BREAKER, rows(pools, |pool| pool.breaker.load(now)))?;
    out.counters(&names::OPENED, by(pools, "why", |pool| pool.opened.read()))?;
    out.gauges(&names::EJECTED, rows(pools, |pool| pool.ejected.load(now)))?;
    out.counters(&names::EJECTIONS, by(pools, "why", |pool| pool.ejections.read()))?;
    out.counters(&names::CHECK_FAILED, rows(pools, |pool| pool.check_failed.load(now)))?;
    out.gauges(&names::KEYS_ASIDE, rows(pools, |pool| pool.keys_aside.load(now)))?;
    out.counters(&names::DEADLINES, by(pools, "kind", |pool| pool.deadlines().read()))
}

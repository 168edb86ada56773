//! The families of the cache: what it made of calls, and what it holds.
use std::fmt;

use super::{Labels, Out, Sums, dollars};
use crate::telemetry::metrics::names::{self, Name};
use crate::telemetry::view::{AlikeView, CachePolicyView, CacheView, DiskView, ShareView};

pub(super) fn encode_calls(out: &mut Out<'_>, sums: &Sums) -> fmt::Result {
    let results = sums.routes.iter().flat_map(|((route, upstream), (tally, _))| {
        tally.kept.results.iter().map(move |(result, count)| {
            ([("route", &**route), ("upstream", upstream), ("result", result)], *count)
        })
    });
    out.counters(&names::CACHE_REQUESTS, results)?;
    let saved = || {
        let rows = sums.by_route(|tally, _| tally.kept.saved);
        rows.filter(|(_, saved)| saved.calls > 0 || saved.tokens > 0)
    };
    out.counters(&names::CACHE_SAVED_TOKENS, saved().map(|(at, saved)| (at, saved.tokens)))?;
    out.counters(&names::CACHE_SAVED, saved().map(|(at, saved)| (at, dollars(saved.nano))))
}

pub(super) fn encode_figures(out: &mut Out<'_>, view: &CacheView) -> fmt::Result {
    let all = &view.policies;
    out.gauges(&names::CACHE_IN_FLIGHT, [([], view.in_flight)])?;
    let tiers = |memory: fn(&CachePolicyView) -> u64, disk: fn(&DiskView) -> u64| {
        all.iter().flat_map(move |one| {
            let disk = one.disk.as_ref().map(|there| (tier(one, "disk"), disk(there)));
            std::iter::once((tier(one, "memory"), memory(one))).chain(disk)
        })
    };
    out.gauges(&names::CACHE_ENTRIES, tiers(|one| one.memory.entries, |disk| disk.records))?;
    out.gauges(&names::CACHE_BYTES, tiers(|one| one.memory.bytes, |disk| disk.bytes))?;
    out.gauges(&names::CACHE_BUDGET, tiers(|one| one.memory.budget, |disk| disk.budget))?;
    out.counters(&names::CACHE_STORES, tiers(|one| one.memory.stores, |disk| disk.stores))?;
    let memory = |pick: fn(&CachePolicyView) -> u64| {
        all.iter().map(move |one| ([("policy", one.policy.as_str())], pick(one)))
    };
    out.counters(&names::CACHE_EVICTIONS, memory(|one| one.memory.evictions))?;
    out.counters(&names::CACHE_EXPIRED, memory(|one| one.memory.expired))?;
    let disk = |pick: fn(&DiskView) -> u64| {
        let disks = all.iter().filter_map(|one| Some((one, one.disk.as_ref()?)));
        disks.map(move |(one, disk)| ([("policy", one.policy.as_str())], pick(disk)))
    };
    out.counters(&names::CACHE_DISK_READS, disk(|disk| disk.reads))?;
    out.counters(&names::CACHE_DISK_DROPPED, disk(|disk| disk.dropped))?;
    let faults = all.iter().filter_map(|one| Some((one, one.disk.as_ref()?)));
    let faults = faults.flat_map(|(one, disk)| {
        [("damaged", disk.damaged), ("failed", disk.failures)]
            .map(|(kind, count)| (with(one, "kind", kind), count))
    });
    out.counters(&names::CACHE_DISK_FAULTS, faults)?;
    out.gauges(&names::CACHE_DISK_HEALTHY, disk(|disk| u64::from(disk.healthy)))?;
    encode_alike(out, all)
}

fn encode_alike(out: &mut Out<'_>, all: &[CachePolicyView]) -> fmt::Result {
    let views = || all.iter().filter_map(|one| Some((one, one.alike.as_ref()?)));
    let plain = |pick: fn(&AlikeView) -> u64| {
        views().map(move |(one, alike)| ([("policy", one.policy.as_str())], pick(alike)))
    };
    out.gauges(&names::CACHE_QUESTIONS, plain(|alike| alike.questions))?;
    out.counters(&names::ALIKE_LOOKS, plain(|alike| alike.looks))?;
    let by = |out: &mut Out<'_>,
              name: &'static Name,
              label: &'static str,
              pick: &dyn Fn(&AlikeView) -> Vec<(&'static str, u64)>| {
        let rows: Vec<_> = views()
            .flat_map(|(one, alike)| {
                pick(alike).into_iter().map(move |(value, count)| (with(one, label, value), count))
            })
            .collect();
        out.counters(name, rows)
    };
    by(out, &names::ALIKE_HITS, "kind", &|alike| {
        vec![("canonical", alike.canonical), ("likeness", alike.would)]
    })?;
    out.counters(&names::ALIKE_SERVED, plain(|alike| alike.served))?;
    by(out, &names::ALIKE_TRIALS, "verdict", &|alike| {
        vec![("same", alike.agreed), ("different", alike.disagreed), ("unsure", alike.unsure)]
    })?;
    let forgone = views()
        .map(|(one, alike)| ([("policy", one.policy.as_str())], dollars(alike.forgone_nano)));
    out.counters(&names::ALIKE_FORGONE, forgone)?;
    let precision = views().flat_map(|(one, alike)| {
        let ShareView { estimate, low, high } = alike.precision;
        let bounds = [("low", Some(low)), ("estimate", estimate), ("high", Some(high))];
        bounds.into_iter().filter_map(|(bound, share)| Some((with(one, "bound", bound), share?)))
    });
    out.gauges(&names::ALIKE_PRECISION, precision)?;
    let thresholds = views()
        .filter_map(|(one, alike)| Some(([("policy", one.policy.as_str())], alike.threshold?)));
    out.gauges(&names::ALIKE_THRESHOLD, thresholds)?;
    out.counters(&names::ALIKE_QUARANTINED, plain(|alike| alike.quarantined))
}

fn tier<'a>(one: &'a CachePolicyView, tier: &'static str) -> Labels<'a, 2> {
    with(one, "tier", tier)
}

fn with<'a>(one: &'a CachePolicyView, label: &'static str, value: &'static str) -> Labels<'a, 2> {
    [("policy", &one.policy), (label, value)]
}

//! The cache, as `/cache`, `/state` and `/metrics` show it: what it holds, and what it made of calls.
use std::collections::BTreeMap;

use crate::cache::alike::{Interval, PolicyFigures, Rung};
use crate::cache::{Cache, DiskFigures, MemoryFigures, SpaceFigures};
use crate::config::SemanticMode;
use crate::pipeline::shared::Hubs;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::view::{
    AlikeView, CachePolicyView, CacheView, DiskView, MemoryView, RungView, ShareView,
};

/// Everything.
pub fn view(cache: &Cache, hubs: &Hubs, metrics: &Metrics) -> CacheView {
    let kept = metrics.kept();
    let calls = kept.results.iter().map(|(how, count)| ((*how).to_owned(), *count));
    CacheView {
        calls: calls.collect(),
        saved_calls: kept.saved.calls,
        saved_tokens: kept.saved.tokens,
        saved_nano: kept.saved.nano,
        ..holds(cache, hubs)
    }
}

/// What it holds now; of calls, metrics know.
pub fn holds(cache: &Cache, hubs: &Hubs) -> CacheView {
    let alike = cache.alike.figures();
    let mut questions: BTreeMap<_, _> =
        alike.policies.iter().map(|one| (&one.policy, self::alike(one))).collect();
    let spaces = cache.spaces.figures();
    let policies = spaces.iter().map(|(name, SpaceFigures { memory, disk })| CachePolicyView {
        policy: name.to_string(),
        memory: self::memory(memory),
        disk: disk.as_ref().map(self::disk),
        alike: questions.remove(name),
    });
    CacheView {
        policies: policies.collect(),
        in_flight: hubs.len() as u64,
        alike_bytes: alike.bytes,
        alike_budget: alike.budget,
        ..CacheView::default()
    }
}

fn memory(figures: &MemoryFigures) -> MemoryView {
    let MemoryFigures { entries, bytes, budget, stores, evictions, expired } = *figures;
    MemoryView { entries, bytes, budget, stores, evictions, expired }
}

fn disk(figures: &DiskFigures) -> DiskView {
    let DiskFigures { records, bytes, budget, waiting, stores, .. } = *figures;
    let DiskFigures { reads, dropped, damaged, failures, healthy, scanned, .. } = *figures;
    DiskView {
        records,
        bytes,
        budget,
        waiting,
        stores,
        reads,
        dropped,
        damaged,
        failures,
        healthy,
        scanned,
    }
}

fn alike(figures: &PolicyFigures) -> AlikeView {
    let learnt = &figures.learnt;
    let counts = learnt.counts;
    let reasons = learnt.reasons.iter().map(|(why, count)| ((*why).to_owned(), *count));
    AlikeView {
        partitions: figures.partitions as u64,
        questions: figures.questions as u64,
        looks: counts.looks,
        canonical: counts.canonical,
        would: counts.would,
        served: counts.served,
        compared: counts.explored,
        would_hit_rate: (counts.looks > 0).then(|| counts.would as f64 / counts.looks as f64),
        agreed: counts.agreed,
        disagreed: counts.disagreed,
        unsure: counts.unsure,
        forgone_nano: counts.forgone_nano,
        precision: right(learnt.wrong),
        mode: learnt.mode.map_or("", mode).to_owned(),
        curve: learnt.curve.iter().map(rung).collect(),
        threshold: learnt.threshold.filter(|least| least.is_finite()),
        stopped: learnt.threshold.is_some_and(f64::is_infinite),
        rises: counts.rises,
        quarantined: counts.quarantined,
        reported: counts.reported,
        reasons: reasons.collect(),
    }
}

fn rung(rung: &Rung) -> RungView {
    let Rung { threshold, would, compared, wrong } = *rung;
    RungView { threshold, would, compared, precision: right(wrong) }
}

/// The share that is right, of the share that is wrong.
fn right(Interval { estimate, low, high }: Interval) -> ShareView {
    ShareView { estimate: estimate.map(|wrong| 1.0 - wrong), low: 1.0 - high, high: 1.0 - low }
}

fn mode(mode: SemanticMode) -> &'static str {
    match mode {
        SemanticMode::Off => "off",
        SemanticMode::Shadow => "shadow",
        SemanticMode::On => "on",
    }
}

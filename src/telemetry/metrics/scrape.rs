//! A scrape: merges the shards, then writes family after family.
//!
//! Targets with the same labels (two routes to one upstream share its tokens; a reload changed a
//! provider) are summed, so no series appears twice. Families without a sample are left out.
//! Order is by label, the same in every scrape.
mod agents;
mod cache;
mod memory;
mod out;
mod pools;
mod store;
mod tasks;
mod text;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use self::out::Labels;
use self::out::Out;
pub(in crate::telemetry) use self::out::{Families, Number};
pub(in crate::telemetry) use self::text::Text;
use super::names;
use super::process::Process;
use super::tally::{Series, Tally};
use super::{ListenerUse, Shared, TargetKey, Usage};
use crate::telemetry::view::LaneView;

/// Says everything that is counted, family by family.
pub(in crate::telemetry) fn encode(shared: &Shared, to: &mut dyn Families) -> fmt::Result {
    let mut out = Out(to);
    let sums = Sums::of(shared);
    sums.encode_routes(&mut out)?;
    sums.encode_models(&mut out)?;
    agents::encode_agents(&mut out, shared)?;
    agents::encode_runs(&mut out, shared)?;
    agents::encode_limits(&mut out, shared)?;
    cache::encode_calls(&mut out, &sums)?;
    if let Some(figures) = shared.cache.read() {
        cache::encode_figures(&mut out, &figures)?;
    }
    let pools: Vec<_> = {
        let pools = shared.pools.lock();
        pools.iter().map(|(name, pool)| (Arc::clone(name), Arc::clone(pool))).collect()
    };
    pools::encode(&mut out, &pools)?;
    encode_lanes(&mut out, &shared.lanes.lock())?;
    if let Some((counts, view)) = shared.tasks.read() {
        tasks::encode(&mut out, counts, &view)?;
    }
    if let Some(view) = shared.store.read() {
        store::encode(&mut out, &view)?;
    }
    encode_clients(&mut out, shared)?;
    memory::encode_memory(&mut out, shared)?;
    encode_ourselves(&mut out, shared)?;
    encode_process(&mut out, &Process::read(), shared.started_at)
}

/// All targets, summed by the labels of the families.
struct Sums {
    routes: BTreeMap<(Arc<str>, Arc<str>), (Tally, u64)>,
    tokens: BTreeMap<(Arc<str>, Arc<str>), Usage>,
    /// By route, upstream and model, in billionths of a dollar.
    spend: BTreeMap<[Arc<str>; 3], u64>,
    /// By model.
    unpriced: BTreeMap<Arc<str>, u64>,
    series: BTreeMap<(Arc<str>, &'static str, Arc<str>), Series>,
    model_names: usize,
}

impl Sums {
    fn of(shared: &Shared) -> Self {
        let mut sums = Self {
            routes: BTreeMap::new(),
            tokens: BTreeMap::new(),
            spend: BTreeMap::new(),
            unpriced: BTreeMap::new(),
            series: BTreeMap::new(),
            model_names: shared.models.len(),
        };
        // The map's lock is not held while the shards are read: a reload need not wait.
        let targets: Vec<_> = {
            let targets = shared.targets.lock();
            targets.iter().map(|(key, target)| (key.clone(), Arc::clone(target))).collect()
        };
        for (key, target) in targets.iter().filter(|(_, target)| target.used()) {
            let (tally, in_flight) = sums
                .routes
                .entry((Arc::clone(&key.route), Arc::clone(&key.upstream)))
                .or_insert_with(|| (Tally::new(), 0));
            let before = tally.finished;
            target.fold((), |(), shard| tally.merge(shard));
            // Ended is read before begun, so the difference is never negative.
            *in_flight += target.begun().saturating_sub(tally.finished - before);
            target.fold((), |(), shard| sums.merge_models(key, shard));
        }
        sums
    }

    fn merge_models(&mut self, key: &TargetKey, shard: &Tally) {
        for model in shard.models.iter() {
            let name = || Arc::clone(&model.name);
            let (route, upstream) = (Arc::clone(&key.route), Arc::clone(&key.upstream));
            self.tokens.entry((Arc::clone(&upstream), name())).or_default().add(&model.tokens);
            if model.spend_nano > 0 {
                let spend = self.spend.entry([route, upstream, name()]).or_default();
                *spend = spend.saturating_add(model.spend_nano);
            }
            if model.unpriced > 0 {
                *self.unpriced.entry(name()).or_default() += model.unpriced;
            }
            for (operation, part) in &model.operations {
                let at = (Arc::clone(&key.provider), *operation, name());
                self.series.entry(at).or_insert_with(Series::new).merge(part);
            }
        }
    }

    fn encode_routes(&self, out: &mut Out<'_>) -> fmt::Result {
        let codes: Vec<_> = self
            .routes
            .iter()
            .flat_map(|(key, (tally, _))| tally.codes.iter().map(move |row| (key, row)))
            .map(|(key, (code, outcome, count))| (key, code_label(*code), *outcome, *count))
            .collect();
        out.counters(
            &names::REQUESTS,
            codes.iter().map(|((route, upstream), code, outcome, count)| {
                let outcome = ("outcome", outcome.as_str());
                ([("route", &**route), ("upstream", upstream), ("code", code), outcome], *count)
            }),
        )?;
        out.gauges(&names::IN_FLIGHT, self.by_route(|_, in_flight| in_flight))?;
        out.histograms(&names::DURATION, self.by_route(|tally, _| &tally.duration))?;
        out.histograms(&names::FIRST_BYTE, self.by_route(|tally, _| &tally.first_byte))?;
        out.histograms(&names::FIRST_TOKEN, self.by_route(|tally, _| &tally.first_token))?;
        out.histograms(&names::OVERHEAD, self.by_route(|tally, _| &tally.overhead))?;
        out.histograms(&names::QUEUE_WAIT, self.by_route(|tally, _| &tally.queued))?;
        out.histograms(&names::DRIFT, self.by_route(|tally, _| &tally.drift))?;
        out.counters(&names::REQUEST_BYTES, self.by_route(|tally, _| tally.request_bytes))?;
        out.counters(&names::RESPONSE_BYTES, self.by_route(|tally, _| tally.response_bytes))?;
        out.counters(&names::STREAM_EVENTS, self.by_route(|tally, _| tally.content_events))
    }

    fn by_route<'a, T>(
        &'a self,
        pick: impl Fn(&'a Tally, u64) -> T + 'a,
    ) -> impl Iterator<Item = (Labels<'a, 2>, T)> {
        self.routes.iter().map(move |((route, upstream), (tally, in_flight))| {
            ([("route", &**route), ("upstream", &**upstream)], pick(tally, *in_flight))
        })
    }

    fn encode_models(&self, out: &mut Out<'_>) -> fmt::Result {
        out.counters(
            &names::TOKENS,
            self.tokens.iter().flat_map(|((upstream, model), usage)| {
                token_types(usage).into_iter().map(move |(kind, count)| {
                    ([("upstream", &**upstream), ("model", model), ("type", kind)], count)
                })
            }),
        )?;
        let spend = self.spend.iter().map(|([route, upstream, model], nano)| {
            ([("route", &**route), ("upstream", upstream), ("model", model)], dollars(*nano))
        });
        out.counters(&names::SPEND, spend)?;
        let unpriced = self.unpriced.iter().map(|(model, calls)| ([("model", &**model)], *calls));
        out.counters(&names::UNPRICED, unpriced)?;
        let by_error = self.series.iter().flat_map(|(key, series)| {
            let failed = series.failed.iter().map(|(outcome, row)| (outcome.as_str(), row));
            std::iter::once(("", &series.duration)).chain(failed).map(move |(error, row)| {
                let [provider, operation, model] = gen_ai(key);
                ([provider, operation, model, ("error_type", error)], row)
            })
        });
        out.histograms(&names::GEN_AI_DURATION, by_error)?;
        let by_type = self.series.iter().flat_map(|(key, series)| {
            [("input", &series.input), ("output", &series.output)].map(|(kind, row)| {
                let [provider, operation, model] = gen_ai(key);
                ([provider, operation, model, ("gen_ai_token_type", kind)], row)
            })
        });
        out.histograms(&names::GEN_AI_TOKENS, by_type)?;
        let series = || self.series.iter();
        let rows = series().map(|(key, series)| (gen_ai(key), &series.first_token));
        out.histograms(&names::GEN_AI_FIRST_TOKEN, rows)?;
        let rows = series().map(|(key, series)| (gen_ai(key), &series.per_token));
        out.histograms(&names::GEN_AI_PER_TOKEN, rows)?;
        out.gauges(&names::MODEL_NAMES, [([], self.model_names as u64)])
    }
}

fn gen_ai<'a>(key: &'a (Arc<str>, &'static str, Arc<str>)) -> Labels<'a, 3> {
    [
        ("gen_ai_provider_name", &*key.0),
        ("gen_ai_operation_name", key.1),
        ("gen_ai_request_model", &*key.2),
    ]
}

fn token_types(usage: &Usage) -> impl IntoIterator<Item = (&'static str, u64)> {
    [
        ("input", usage.input),
        ("output", usage.output),
        ("cached_input", usage.cached_input),
        ("cache_write", usage.cache_write),
        ("reasoning", usage.reasoning),
    ]
    .into_iter()
    .filter(|(_, count)| *count > 0)
}

/// Sums are whole billionths; this is their last step, and the nearest number to the sum.
fn dollars(nano: u64) -> f64 {
    nano as f64 / 1e9
}

fn code_label(status: u16) -> String {
    if status == 0 { super::tally::OTHER.to_owned() } else { status.to_string() }
}

fn encode_lanes(out: &mut Out<'_>, lanes: &[LaneView]) -> fmt::Result {
    let rows = |of: fn(&LaneView) -> Option<u64>| {
        lanes.iter().filter_map(move |lane| Some(([("route", &*lane.route)], of(lane)?)))
    };
    out.gauges(&names::LANE_RUNNING, rows(|lane| Some(lane.running)))?;
    out.gauges(&names::LANE_WAITING, rows(|lane| Some(lane.waiting)))?;
    out.gauges(&names::LANE_SLOTS, rows(|lane| lane.slots))
}

fn encode_clients(out: &mut Out<'_>, shared: &Shared) -> fmt::Result {
    let now = Ordering::Relaxed;
    let reason = |rows: Vec<([&'static str; 1], u64)>| {
        rows.into_iter().map(|([reason], count)| ([("reason", reason)], count))
    };
    out.gauges(&names::CONNECTIONS_OPEN, [([], shared.connections_open.load(now))])?;
    out.counters(&names::CONNECTIONS_ACCEPTED, [([], shared.connections_accepted.load(now))])?;
    out.counters(&names::CONNECTIONS_REFUSED, reason(shared.connections_refused.read()))?;
    out.counters(&names::GATE_REFUSALS, reason(shared.gate_refusals.read()))?;
    let refusals = shared.refusals.read().into_iter();
    out.counters(
        &names::REFUSALS,
        refusals.map(|([source, why], count)| ([("source", source), ("reason", why)], count)),
    )
}

fn encode_ourselves(out: &mut Out<'_>, shared: &Shared) -> fmt::Result {
    let now = Ordering::Relaxed;
    let results =
        [("ok", shared.reloads_ok.load(now)), ("failed", shared.reloads_failed.load(now))];
    out.counters(&names::RELOADS, results.map(|(result, count)| ([("result", result)], count)))?;
    let ok = u64::from(shared.reload_succeeded.load(now));
    out.gauges(&names::RELOAD_OK, [([], ok)])?;
    out.gauges(&names::RELOAD_AT, [([], shared.reload_success_at.load(now))])?;
    out.gauges(&names::DRAIN_STAGE, [([], shared.drain_stage.load(now))])?;
    if let Some(listeners) = shared.listeners.read() {
        encode_listeners(out, &listeners)?;
    }
    let logs = [("access", &shared.access_lines), ("events", &shared.event_lines)];
    let written = logs.map(|(log, lines)| ([("log", log)], lines.written.load(now)));
    out.counters(&names::LOG_LINES, written)?;
    let dropped = logs.map(|(log, lines)| ([("log", log)], lines.dropped.load(now)));
    out.counters(&names::LOG_DROPPED, dropped)?;
    let records = &shared.usage_lines;
    out.counters(&names::USAGE_RECORDS, [([], records.written.load(now))])?;
    out.counters(&names::USAGE_DROPPED, [([], records.dropped.load(now))])?;
    if shared.signals.on.load(now) {
        let signals = [("traces", &shared.signals.traces), ("metrics", &shared.signals.metrics)];
        let sent = signals.map(|(signal, of)| ([("signal", signal)], of.sent.load(now)));
        out.counters(&names::TELEMETRY_SENT, sent)?;
        let dropped = signals.map(|(signal, of)| ([("signal", signal)], of.dropped.load(now)));
        out.counters(&names::TELEMETRY_DROPPED, dropped)?;
    }
    out.info(&names::BUILD, [("version", env!("CARGO_PKG_VERSION"))])
}

fn encode_listeners(out: &mut Out<'_>, all: &[ListenerUse]) -> fmt::Result {
    let aborted: u64 = all.iter().map(|one| one.aborted).sum();
    let exhausted: u64 = all.iter().map(|one| one.exhausted).sum();
    let faults = [("aborted", aborted), ("exhausted", exhausted)];
    out.counters(&names::ACCEPT_ERRORS, faults.map(|(why, times)| ([("reason", why)], times)))?;
    let dated = all.iter().filter_map(|one| Some(([("listener", &*one.name)], one.not_after?)));
    out.gauges(&names::CERTIFICATE, dated)
}

fn encode_process(out: &mut Out<'_>, process: &Process, started_at: f64) -> fmt::Result {
    let one = |value: Option<u64>| value.map(|value| ([], value));
    out.counters(&names::PROCESS_CPU, process.cpu_seconds.map(|seconds| ([], seconds)))?;
    out.gauges(&names::PROCESS_RESIDENT, one(process.resident_bytes))?;
    out.gauges(&names::PROCESS_VIRTUAL, one(process.virtual_bytes))?;
    out.gauges(&names::PROCESS_THREADS, one(process.threads))?;
    out.gauges(&names::PROCESS_FDS, one(process.open_fds))?;
    out.gauges(&names::PROCESS_MAX_FDS, one(process.max_fds))?;
    out.gauges(&names::PROCESS_START, [([], started_at)])
}

//! The families of agents and of limits.
use std::fmt;
use std::time::Instant;

use super::{Labels, Out, Shared, dollars, token_types};
use crate::telemetry::metrics::{AgentTotals, names};

pub(super) fn encode_agents(out: &mut Out<'_>, shared: &Shared) -> fmt::Result {
    let agents = shared.agents.totals();
    let all = || agents.iter();
    let ended = all().flat_map(|one| {
        let row = |(outcome, count): &(super::super::Outcome, u64)| {
            (with(one, "outcome", outcome.as_str()), *count)
        };
        one.tally.outcomes.iter().map(row)
    });
    out.counters(&names::AGENT_REQUESTS, ended)?;
    let tokens = all().flat_map(|one| {
        let types = token_types(&one.tally.usage).into_iter();
        types.map(|(kind, count)| (with(one, "type", kind), count))
    });
    out.counters(&names::AGENT_TOKENS, tokens)?;
    let spend = all().filter(|one| one.tally.spend_nano > 0);
    let spend = spend.map(|one| (labels(one), dollars(one.tally.spend_nano)));
    out.counters(&names::AGENT_SPEND, spend)?;
    let saved = all().filter(|one| one.tally.saved.nano > 0);
    let saved = saved.map(|one| (labels(one), dollars(one.tally.saved.nano)));
    out.counters(&names::AGENT_SAVED, saved)?;
    let waited = all().map(|one| (labels(one), one.tally.waited.as_secs_f64()));
    out.counters(&names::AGENT_WAIT, waited)?;
    let refusals = all().flat_map(|one| {
        let reasons = one.tally.reasons.iter();
        reasons.map(|(reason, count)| (with(one, "reason", reason), *count))
    });
    out.counters(&names::AGENT_REFUSALS, refusals)?;
    out.gauges(&names::AGENT_NAMES, [([], shared.agents.len() as u64)])
}

pub(super) fn encode_runs(out: &mut Out<'_>, shared: &Shared) -> fmt::Result {
    let (on, ended) = shared.runs.read(Instant::now());
    out.gauges(&names::AGENT_RUNS, [([], on)])?;
    let times = ended
        .iter()
        .map(|((agent, team), times)| ([("agent", &**agent), ("team", &**team)], times));
    out.histograms(&names::AGENT_RUN, times)
}

fn labels(one: &AgentTotals) -> Labels<'_, 2> {
    [("agent", &one.agent), ("team", &one.team)]
}

fn with<'a>(one: &'a AgentTotals, label: &'static str, value: &'a str) -> Labels<'a, 3> {
    [("agent", &one.agent), ("team", &one.team), (label, value)]
}

pub(super) fn encode_limits(out: &mut Out<'_>, shared: &Shared) -> fmt::Result {
    let limits: Vec<_> = {
        let limits = shared.limits.lock();
        limits.iter().map(|(key, limit)| (key.clone(), limit.read())).collect()
    };
    let rows = limits.iter().map(|((policy, measure, mode), count)| {
        ([("policy", &**policy), ("measure", *measure), ("mode", *mode)], *count)
    });
    out.counters(&names::LIMIT_REFUSALS, rows)?;
    let fullest = shared.fullest.read().unwrap_or_default();
    let fullest = fullest.iter().map(|one| {
        ([("policy", &*one.policy), ("measure", one.measure), ("mode", one.mode)], one.ratio)
    });
    out.gauges(&names::LIMIT_USED, fullest)?;
    let runaways = shared.runaways.read().into_iter();
    let runaways = runaways.map(|([action], count)| ([("action", action)], count));
    out.counters(&names::RUNAWAY, runaways)
}

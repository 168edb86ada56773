//! What happened between two looks: rates over the last of them, quantiles over the last ten.
use std::collections::{HashMap, VecDeque};

use serde::Serialize;

use super::look::Look;
use crate::telemetry::exposition::{Buckets, Totals};
use crate::telemetry::view::AgentView;

/// Looks that quantiles go back over.
const LOOKS: usize = 11;

/// `None`: there was nothing to tell it from.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Figures {
    pub requests_per_second: Option<f64>,
    pub refusals_per_second: Option<f64>,
    pub input_tokens_per_second: Option<f64>,
    pub output_tokens_per_second: Option<f64>,
    pub spend_dollars_per_minute: Option<f64>,
    /// Since the start of the instance.
    pub spend_dollars: f64,
    pub saved_dollars: f64,
    pub first_token_seconds: Quantiles,
    pub overhead_seconds: Quantiles,
    pub running: u64,
    pub waiting: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Quantiles {
    pub p50: Option<f64>,
    pub p99: Option<f64>,
}

/// Agent and team.
pub(super) type Name = (String, String);

/// The last looks at one run of an instance.
#[derive(Default)]
pub(super) struct History {
    looks: VecDeque<Look>,
}

impl History {
    /// Another run of the instance begins a history of its own.
    pub fn add(&mut self, look: Look) {
        let other_run = |last: &Look| {
            last.totals.started.to_bits() != look.totals.started.to_bits()
                || last.totals.requests > look.totals.requests
        };
        if self.looks.back().is_some_and(other_run) {
            self.looks.clear();
        }
        if self.looks.len() == LOOKS {
            self.looks.pop_front();
        }
        self.looks.push_back(look);
    }

    pub fn last(&self) -> Option<&Look> {
        self.looks.back()
    }

    fn before(&self) -> Option<&Look> {
        self.looks.iter().rev().nth(1)
    }

    pub fn figures(&self) -> Figures {
        let Some(now) = self.last() else { return Figures::default() };
        let before = self.before();
        let rate = |of: fn(&Totals) -> f64| {
            Some(per_second(of(&before?.totals), of(&now.totals), seconds(before?, now)))
        };
        let oldest = self.looks.front().filter(|_| before.is_some());
        let quantiles = |of: fn(&Totals) -> &Buckets| {
            let share = |share| of(&now.totals).quantile(of(&oldest?.totals), share);
            Quantiles { p50: share(0.5), p99: share(0.99) }
        };
        let upstreams = &now.state.upstreams;
        Figures {
            requests_per_second: rate(|totals| totals.requests),
            refusals_per_second: rate(|totals| totals.refusals),
            input_tokens_per_second: rate(|totals| totals.input),
            output_tokens_per_second: rate(|totals| totals.output),
            spend_dollars_per_minute: rate(|totals| totals.spend).map(|rate| rate * 60.0),
            spend_dollars: now.totals.spend,
            saved_dollars: now.totals.saved,
            first_token_seconds: quantiles(|totals| &totals.first_token),
            overhead_seconds: quantiles(|totals| &totals.overhead),
            running: upstreams.iter().map(|one| one.in_flight).sum(),
            waiting: upstreams.iter().map(|one| one.waiting).sum(),
        }
    }

    /// Tokens a second of each agent; empty where there is nothing to tell it from.
    pub fn paces(&self) -> HashMap<Name, f64> {
        let (Some(before), Some(now)) = (self.before(), self.last()) else {
            return HashMap::new();
        };
        let tokens = |look: &Look| -> HashMap<Name, f64> {
            look.state.agents.iter().map(|agent| (name(agent), tokens(agent))).collect()
        };
        let (earlier, seconds) = (tokens(before), seconds(before, now));
        let pace = |(name, tokens): (Name, f64)| {
            let more = tokens - earlier.get(&name).copied().unwrap_or(0.0);
            (name, (more / seconds).max(0.0))
        };
        tokens(now).into_iter().map(pace).collect()
    }
}

pub(super) fn name(agent: &AgentView) -> Name {
    (agent.agent.clone(), agent.team.clone())
}

fn tokens(agent: &AgentView) -> f64 {
    agent.input_tokens.saturating_add(agent.output_tokens) as f64
}

fn seconds(before: &Look, now: &Look) -> f64 {
    now.at.saturating_duration_since(before.at).as_secs_f64().max(1e-3)
}

fn per_second(before: f64, now: f64, seconds: f64) -> f64 {
    ((now - before) / seconds).max(0.0)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::look::State;
    use super::*;

    fn look(at: Instant, started: f64, requests: f64, tokens: u64) -> Look {
        let agent = AgentView { agent: "a".into(), output_tokens: tokens, ..AgentView::default() };
        let state = State { agents: vec![agent], ..State::default() };
        Look { at, state, totals: Totals { started, requests, ..Totals::default() } }
    }

    #[test]
    fn rates_are_of_the_last_two_looks_at_one_run() {
        let (from, mut history) = (Instant::now(), History::default());
        let at = |seconds| from + Duration::from_secs(seconds);
        history.add(look(at(0), 1.0, 10.0, 0));
        assert_eq!(history.figures().requests_per_second, None);
        history.add(look(at(2), 1.0, 30.0, 500));
        assert_eq!(history.figures().requests_per_second, Some(10.0));
        let pace = history.paces()[&("a".to_owned(), String::new())];
        assert!((pace - 250.0).abs() < 1e-9, "{pace}");
        history.add(look(at(3), 2.0, 40.0, 600));
        assert_eq!(history.figures().requests_per_second, None, "it was started anew");
        for n in 0..50 {
            history.add(look(at(4 + n), 2.0, 40.0, 600));
        }
        assert_eq!((history.looks.len(), history.figures().requests_per_second), (11, Some(0.0)));
    }
}

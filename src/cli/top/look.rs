//! One look at an instance: what `/state` and `/metrics` say now, as far as it is shown.
//!
//! What an older or newer instance does not say is taken as nothing.
use std::io;
use std::time::Instant;

use serde::Deserialize;

use crate::cli::instance::Instance;
use crate::telemetry::exposition::Totals;
use crate::telemetry::view::{AgentView, QueueView, TasksView};

/// Why there is nothing to show.
#[derive(Debug)]
pub(super) enum LookError {
    Nobody(io::Error),
    /// It is no Tidegate's admin listener.
    Stranger,
    Refused(u16),
}

#[derive(Debug, Clone)]
pub(super) struct Look {
    pub at: Instant,
    pub state: State,
    pub totals: Totals,
}

/// The part of `/state` that is shown.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct State {
    pub version: String,
    pub stage: String,
    pub connections: u64,
    pub memory: Memory,
    pub upstreams: Vec<Upstream>,
    pub calls: Vec<Call>,
    pub agents: Vec<AgentView>,
    pub queues: Vec<QueueView>,
    pub tasks: Option<TasksView>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Memory {
    pub held: u64,
    pub budget: u64,
    pub level: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Upstream {
    pub name: String,
    pub in_flight: u64,
    pub waiting: u64,
    pub concurrency: Option<u64>,
    pub pool: Pool,
    pub breaker: Breaker,
    pub keys: Keys,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Pool {
    pub open: u64,
    pub idle: u64,
    pub dialled: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Breaker {
    pub state: String,
    pub left_ms: Option<u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Keys {
    pub held: u64,
    pub aside: u64,
}

/// A call in flight.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Call {
    pub agent: Option<String>,
    pub upstream: Option<String>,
    pub model: Option<String>,
    pub stage: String,
    pub age_ms: u64,
    pub bytes: u64,
}

impl Look {
    pub fn at(instance: &Instance) -> Result<Self, LookError> {
        let page = |path| match instance.text(path) {
            Err(error) => Err(LookError::Nobody(error)),
            Ok(Some((200, text))) => Ok(text),
            Ok(Some((status, _))) => Err(LookError::Refused(status)),
            Ok(None) => Err(LookError::Stranger),
        };
        let state = page("/state")?;
        let state: State = serde_json::from_str(&state).map_err(|_| LookError::Stranger)?;
        if state.version.is_empty() {
            return Err(LookError::Stranger);
        }
        let totals = Totals::of(&page("/metrics")?);
        Ok(Self { at: Instant::now(), state, totals })
    }
}

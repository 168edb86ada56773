//! `tasks`: calls that are answered at once and made in the background.
//!
//! On wherever `state` names a directory, for what was promised must outlive the process; `tasks: off`
//! switches them off. The targets of webhooks are in `webhooks.rs`.
use std::time::Duration;

use super::file::Kind;
use super::keys::{PER_AGENT, TASKS};
use super::read::{At, Fields, Reader};
use super::webhooks::{self, Webhook};
use crate::units::show_size;

const KIB: u64 = 1 << 10;
const TIB: u64 = 1 << 40;
const MOST_WORKERS: u64 = 10_000;
const MOST_COUNT: u64 = 1_000_000;
const MOST_ATTEMPTS: u64 = 20;

/// How tasks are kept and made.
#[derive(Debug, Clone, PartialEq)]
pub struct Tasks {
    /// Most that run at once.
    pub workers: usize,
    /// Most tasks of one agent that are not over.
    pub per_agent_count: usize,
    /// Most bytes of all that is kept of its tasks.
    pub per_agent_bytes: u64,
    /// How long a result is kept.
    pub keep: Duration,
    /// A task that has not come to its end by then is expired.
    pub max_age: Duration,
    /// Times a task may be tried, the first included.
    pub attempts: u32,
    /// Largest result, in bytes.
    pub max_result: u64,
    /// In the order of the file.
    pub webhooks: Vec<Webhook>,
}

/// Whether calls of a route become tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Offload {
    /// Whatever the call says.
    Always,
    /// Those that ask for it.
    #[default]
    Offered,
    /// Not even those.
    Never,
}

/// How a task ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TaskEnd {
    Succeeded,
    Failed,
    Cancelled,
    Expired,
    Interrupted,
}

impl Offload {
    pub const ALL: [Self; 3] = [Self::Always, Self::Offered, Self::Never];

    /// As in the policy file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Offered => "offered",
            Self::Never => "never",
        }
    }
}

impl TaskEnd {
    pub const ALL: [Self; 5] =
        [Self::Succeeded, Self::Failed, Self::Cancelled, Self::Expired, Self::Interrupted];

    /// As in the policy file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Interrupted => "interrupted",
        }
    }
}

impl Default for Tasks {
    fn default() -> Self {
        Self {
            workers: 32,
            per_agent_count: 1000,
            per_agent_bytes: 256 << 20,
            keep: Duration::from_hours(24),
            max_age: Duration::from_hours(24),
            attempts: 3,
            max_result: 32 << 20,
            webhooks: Vec::new(),
        }
    }
}

/// A mapping, or `off`: `None` then, and when it is at fault. `state`: there is a place to keep them.
pub(super) fn tasks<'r>(reader: &'r Reader<'r>, at: &At<'_>, state: bool) -> Option<Tasks> {
    if !matches!(at.node.kind, Kind::Map(_)) {
        let expected = "`off`, or a mapping like { keep: 24h }";
        return reader.instead(at, &["off"], expected).and(None);
    }
    if !state {
        let expected = "`state` at the root, like `state: ./tidegate-data`; or `off`";
        reader.wrong(at, "`tasks` without `state`", expected);
    }
    let fields = reader.section(at, &TASKS)?;
    let default = Tasks::default();
    let quota = (default.per_agent_count, default.per_agent_bytes);
    let (per_agent_count, per_agent_bytes) = fields.read("per_agent", quota, per_agent);
    let workers =
        fields.read("workers", default.workers as u64, |r, at| r.count(at, 1, MOST_WORKERS));
    let attempts =
        fields.read("attempts", default.attempts.into(), |r, at| r.count(at, 1, MOST_ATTEMPTS));
    Some(Tasks {
        workers: workers as usize,
        per_agent_count,
        per_agent_bytes,
        keep: fields.read("keep", default.keep, Reader::some_time),
        max_age: fields.read("max_age", default.max_age, Reader::some_time),
        attempts: attempts as u32,
        max_result: max_result(reader, &fields, default.max_result, per_agent_bytes),
        webhooks: fields.read("webhooks", Vec::new(), |r, at| Some(webhooks::webhooks(r, at))),
    })
}

fn per_agent<'r>(reader: &'r Reader<'r>, at: &At<'_>) -> Option<(usize, u64)> {
    let fields = reader.section(at, &PER_AGENT)?;
    let default = Tasks::default();
    let count =
        fields.read("count", default.per_agent_count as u64, |r, at| r.count(at, 1, MOST_COUNT));
    let bytes = fields.read("bytes", default.per_agent_bytes, |r, at| r.size(at, 64 * KIB, TIB));
    Some((count as usize, bytes))
}

/// One result must fit into what its agent may have.
fn max_result(reader: &Reader<'_>, fields: &Fields<'_, '_>, default: u64, bytes: u64) -> u64 {
    let written = fields.maybe("max_result", |r, at| r.size(at, KIB, TIB));
    if let (Some(size), Some(at)) = (written, fields.get("max_result"))
        && size > bytes
    {
        let expected = format!("at most per_agent.bytes, which is {}", show_size(bytes));
        reader.wrong(&at, format!("`{}`", show_size(size)), &expected);
    }
    written.unwrap_or(default.min(bytes))
}

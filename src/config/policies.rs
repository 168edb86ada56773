//! What calls may use up: limits, and what happens where one is full; and whether answers are given
//! a second time.
//!
//! The types are here, the text of a limit in `policies/limit.rs`, the readers of the section in
//! `policies/read.rs` and `policies/cache.rs`. Values are checked: no limit is zero, no amount is near the end of `i64`.
mod cache;
mod limit;
mod read;

use std::sync::Arc;
use std::time::Duration;

pub(super) use read::policies;

use super::cache::Cache;
use crate::identity::Class;

/// One rule. Every policy that matches a call applies; all limits of all of them must hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// How refusals and metrics call it: `name`, or `policy-1` for the first.
    pub name: Arc<str>,
    pub matches: Matcher,
    /// Whose bucket.
    pub per: Per,
    /// Share in the fair queue; 1 is usual.
    pub weight: u32,
    /// `None`: as the call says.
    pub priority: Option<Class>,
    pub limits: Vec<Limit>,
    pub token_weights: TokenWeights,
    /// `None`: a full limit refuses at once.
    pub queue: Option<Queue>,
    pub runaway: Option<Runaway>,
    /// `None`: another policy decides.
    pub cache: Option<CacheRule>,
    /// How long a stream can be taken up again after its client was lost; zero: not at all.
    /// `None`: another policy decides.
    pub resume: Option<Duration>,
    /// A hard money budget may end a stream that would go past it.
    pub cut_streams: bool,
    /// An IANA name, for calendar budgets.
    pub time_zone: Arc<str>,
}

/// Whether answers may be given again.
#[derive(Debug, Clone, PartialEq)]
pub enum CacheRule {
    Off,
    On(Arc<Cache>),
}

/// Globs; `None` matches anything.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Matcher {
    pub agent: Option<Arc<str>>,
    pub team: Option<Arc<str>>,
    pub session: Option<Arc<str>>,
    pub model: Option<Arc<str>>,
    pub route: Option<Arc<str>>,
    pub upstream: Option<Arc<str>>,
    pub class: Option<Class>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Per {
    Agent,
    Team,
    Session,
    Credential,
    Model,
    Route,
    Upstream,
    /// One bucket for all.
    All,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    pub measure: Measure,
    /// In the measure's own unit, see [`Measure`].
    pub amount: i64,
    pub window: Window,
    /// Most at once. `None`: the amount of one minute, or all of a shorter or longer window.
    pub burst: Option<i64>,
    pub mode: Mode,
}

/// What is counted. Amounts are whole thousandths (requests, tokens) or billionths of a dollar;
/// calls at once are whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Measure {
    Requests,
    InputTokens,
    OutputTokens,
    Tokens,
    Spend,
    Concurrency,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Window {
    /// Refills steadily, the amount in this time.
    Rate(Duration),
    /// Starts anew with the calendar.
    Calendar(Calendar),
    /// Of calls at once.
    Now,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Calendar {
    Hour,
    Day,
    Month,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// Counts and tells, refuses nothing.
    Observe,
    /// Predicts; a wrong prediction becomes debt.
    Soft,
    /// Reserves the worst case; never overrun.
    Hard,
}

/// How much a token of each class counts against token limits, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenWeights {
    pub cached_input: u32,
    pub cache_write: u32,
    pub reasoning: u32,
}

/// Waiting instead of refusing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    pub wait: Duration,
    /// Most calls of one agent that wait.
    pub depth: usize,
}

/// The guard against loops.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Runaway {
    /// The same tool call with the same arguments, this often in a row.
    pub repeats: u32,
    /// Burning this many times faster than its own history.
    pub factor: f64,
    pub action: RunawayAction,
}

/// The gentlest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RunawayAction {
    Observe,
    /// Each further call waits a little longer.
    Slow,
    Stop,
}

impl Measure {
    pub const ALL: [Self; 6] = [
        Self::Requests,
        Self::InputTokens,
        Self::OutputTokens,
        Self::Tokens,
        Self::Spend,
        Self::Concurrency,
    ];

    /// As in the policy file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::InputTokens => "input_tokens",
            Self::OutputTokens => "output_tokens",
            Self::Tokens => "tokens",
            Self::Spend => "spend",
            Self::Concurrency => "concurrency",
        }
    }

    pub fn is_tokens(self) -> bool {
        matches!(self, Self::InputTokens | Self::OutputTokens | Self::Tokens)
    }

    /// Parts of the measure's unit that one whole of it has.
    pub fn scale(self) -> i64 {
        match self {
            Self::Requests | Self::InputTokens | Self::OutputTokens | Self::Tokens => 1_000,
            Self::Spend => 1_000_000_000,
            Self::Concurrency => 1,
        }
    }
}

impl Per {
    pub const ALL: [Self; 8] = [
        Self::Agent,
        Self::Team,
        Self::Session,
        Self::Credential,
        Self::Model,
        Self::Route,
        Self::Upstream,
        Self::All,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Team => "team",
            Self::Session => "session",
            Self::Credential => "credential",
            Self::Model => "model",
            Self::Route => "route",
            Self::Upstream => "upstream",
            Self::All => "all",
        }
    }
}

impl RunawayAction {
    pub const ALL: [Self; 3] = [Self::Observe, Self::Slow, Self::Stop];

    /// As in the policy file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Slow => "slow",
            Self::Stop => "stop",
        }
    }
}

impl Mode {
    pub const ALL: [Self; 3] = [Self::Observe, Self::Soft, Self::Hard];

    /// As in the policy file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Soft => "soft",
            Self::Hard => "hard",
        }
    }
}

impl Calendar {
    /// As in the policy file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
        }
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self { wait: Duration::from_secs(30), depth: 256 }
    }
}

impl Default for Runaway {
    fn default() -> Self {
        Self { repeats: 5, factor: 10.0, action: RunawayAction::Observe }
    }
}

impl TokenWeights {
    /// The most that an amount of input, and one of output, can come to by them.
    pub fn at_most(&self, input: i64, output: i64) -> (i64, i64) {
        let by = |amount: i64, weight: u32| {
            let whole = i128::from(amount) * i128::from(weight.max(1000)) / 1000;
            i64::try_from(whole).unwrap_or(i64::MAX)
        };
        (by(input, self.cached_input.max(self.cache_write)), by(output, self.reasoning))
    }
}

impl Default for TokenWeights {
    fn default() -> Self {
        Self { cached_input: 1000, cache_write: 1000, reasoning: 1000 }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            name: Arc::from("policy-1"),
            matches: Matcher::default(),
            per: Per::Agent,
            weight: 1,
            priority: None,
            limits: Vec::new(),
            token_weights: TokenWeights::default(),
            queue: None,
            runaway: None,
            cache: None,
            resume: None,
            cut_streams: false,
            time_zone: Arc::from("UTC"),
        }
    }
}

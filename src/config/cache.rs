//! What a policy says of answers that are given a second time.
//!
//! The last policy that matches a call and has a `cache` decides for it, whole; `cache: off` there
//! means none. The readers are in `policies/cache.rs`, the keys in `keys/cache.rs`.
use std::sync::Arc;
use std::time::Duration;

/// One `cache` section.
#[derive(Debug, Clone, PartialEq)]
pub struct Cache {
    /// How long an answer may be given again.
    pub ttl: Duration,
    /// Who shares answers.
    pub scope: Scope,
    /// Bytes in memory, for all answers under this policy.
    pub memory: u64,
    /// Bytes on disk; only where `state` names a directory. Zero: none.
    pub disk: u64,
    /// A larger answer is not kept, nor joined by others.
    pub max_entry: u64,
    /// Calls with a higher temperature are not looked up. `None`: whatever it is.
    pub temperature: Option<f64>,
    /// Whether answers that call tools are kept.
    pub tool_calls: bool,
    pub replay: Replay,
    /// Whether identical calls in flight share one upstream call.
    pub coalesce: bool,
    /// Whether inputs of embeddings are kept one by one.
    pub embeddings: bool,
    /// Whether requests may say `Cache-Control` and `x-tidegate-cache-*`.
    pub control: bool,
    /// Whether questions that differ in case, punctuation or politeness alone are one.
    pub canonical: bool,
    /// `None`: off; the reader leaves none with [`Mode::Off`].
    pub semantic: Option<Semantic>,
}

/// Who shares answers; the narrowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    Credential,
    Agent,
    Team,
    Shared,
}

/// How a recorded stream is given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Replay {
    AtOnce,
    /// With the pauses that it came with.
    Recorded,
}

/// The semantic tier.
#[derive(Debug, Clone, PartialEq)]
pub struct Semantic {
    pub mode: Mode,
    /// Least cosine of the two questions.
    pub threshold: f64,
    /// How long an answer may be given to a question that is only like it.
    pub ttl: Duration,
    /// Share of would-be hits that is sent upstream all the same, to learn from.
    pub explore: f64,
    /// Most wrong answers among hits; past it the threshold rises.
    pub max_wrong: f64,
    /// Calls with a higher temperature are not looked up.
    pub temperature: f64,
    /// Most questions of one partition.
    pub entries: usize,
    pub embedder: Embedder,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    Off,
    /// Looks up, compares, serves nothing.
    Shadow,
    On,
}

/// What turns a question into a vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Embedder {
    /// The table that came with the program.
    Builtin,
    /// An OpenAI-compatible `/v1/embeddings` of an upstream.
    Remote { upstream: Arc<str>, model: Arc<str> },
}

impl Scope {
    pub const ALL: [Self; 4] = [Self::Credential, Self::Agent, Self::Team, Self::Shared];

    /// As in the policy file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Credential => "credential",
            Self::Agent => "agent",
            Self::Team => "team",
            Self::Shared => "shared",
        }
    }
}

impl Replay {
    pub const ALL: [Self; 2] = [Self::AtOnce, Self::Recorded];

    /// As in the policy file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AtOnce => "at_once",
            Self::Recorded => "recorded",
        }
    }
}

impl Mode {
    pub const ALL: [Self; 3] = [Self::Off, Self::Shadow, Self::On];

    /// As in the policy file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Shadow => "shadow",
            Self::On => "on",
        }
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            ttl: Duration::from_hours(1),
            scope: Scope::Credential,
            memory: 64 << 20,
            disk: 1 << 30,
            max_entry: 4 << 20,
            temperature: None,
            tool_calls: true,
            replay: Replay::AtOnce,
            coalesce: true,
            embeddings: true,
            control: true,
            canonical: false,
            semantic: None,
        }
    }
}

impl Default for Semantic {
    fn default() -> Self {
        Self {
            mode: Mode::Shadow,
            threshold: 0.80,
            ttl: Duration::from_hours(1),
            explore: 0.05,
            max_wrong: 0.02,
            temperature: 0.7,
            entries: 10_000,
            embedder: Embedder::Builtin,
        }
    }
}

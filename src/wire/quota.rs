//! What a backend says of its own limits, in the headers of an answer.
use std::time::{Duration, SystemTime};

use http::HeaderMap;

/// One of the backend's limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Allowance {
    pub limit: Option<u64>,
    pub remaining: Option<u64>,
    /// Until it is full again.
    pub reset: Option<Duration>,
}

/// What the headers told. What they did not tell, or told as nonsense (negative), is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quota {
    pub requests: Option<Allowance>,
    pub tokens: Option<Allowance>,
    pub input_tokens: Option<Allowance>,
    pub output_tokens: Option<Allowance>,
    pub retry_after: Option<Duration>,
    pub should_retry: Option<bool>,
}

/// Reads the headers of every vendor that has some.
pub fn quota(_headers: &HeaderMap, _now: SystemTime) -> Quota {
    Quota::default()
}

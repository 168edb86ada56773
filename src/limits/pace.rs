//! How fast a backend lets us go, learned from what it says.
use std::time::Duration;

use crate::wire::Quota;

/// What a call will use up, as the backend counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Need {
    pub input_tokens: u64,
    /// Asked for, or expected.
    pub output_tokens: u64,
}

/// How a call is paced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// By the backend's headers; by its 429s where it sends none.
    Auto,
    /// The same, and by its time to the first token: for backends of our own.
    Latency,
}

/// What the head of an answer told.
#[derive(Debug, Clone, Copy)]
pub struct Heard<'h> {
    pub quota: &'h Quota,
    /// 429 or its like: the backend wants less.
    pub limited: bool,
    /// 503, 529: it is overloaded.
    pub overloaded: bool,
}

/// One credential and model of one backend. Times are nanoseconds of a clock that never goes back.
#[derive(Debug)]
pub struct Pace {}

impl Pace {
    pub fn new(_mode: Mode, _now: u64) -> Self {
        Self {}
    }

    /// Whether a call may go now; else when to ask again.
    pub fn ready(&self, _need: Need, _now: u64) -> Result<(), u64> {
        Ok(())
    }

    /// A call goes.
    pub fn sent(&mut self, _need: Need, _now: u64) {}

    /// The head of its answer has come.
    pub fn heard(&mut self, _need: Need, _heard: &Heard<'_>, _now: u64) {}

    /// Its first token has come, after so long; the prompt had so many tokens.
    pub fn first_token(&mut self, _after: Duration, _input_tokens: u64, _now: u64) {}

    /// It is over, however it ended.
    pub fn finished(&mut self, _need: Need, _used: Option<Need>, _now: u64) {}
}

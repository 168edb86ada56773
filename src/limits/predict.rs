//! How many tokens a call will take, learned from the calls before it.
use std::time::Duration;

use crate::wire::Usage;

/// Whose history a prediction comes from: hashes of names, and what kind of call it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Subject {
    pub agent: u64,
    pub model: u64,
    /// Chat, embeddings, …: histories do not mix.
    pub kind: u8,
    /// The model thinks first.
    pub reasoning: bool,
}

/// What one call came to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    /// Bytes of the prompt.
    pub bytes: u64,
    /// As the backend reported it.
    pub usage: Option<Usage>,
    /// From the first token to the last.
    pub generating: Option<Duration>,
    pub first_token: Option<Duration>,
    /// The answer came to its end.
    pub complete: bool,
}

/// The histories.
#[derive(Debug, Default)]
pub struct Predictor {}

impl Predictor {
    /// Likely tokens of a prompt.
    pub fn input(&self, _model: u64, bytes: u64) -> u64 {
        bytes.div_ceil(4)
    }

    /// Tokens that a prompt will hardly exceed; for limits that must hold.
    pub fn input_most(&self, _model: u64, bytes: u64) -> u64 {
        bytes
    }

    /// Likely tokens of all `n` answers, at most `max_tokens` each.
    pub fn output(&self, _of: Subject, max_tokens: Option<u64>, n: u64) -> u64 {
        max_tokens.unwrap_or(4096).min(4096) * n
    }

    /// Tokens a second of one answer.
    pub fn speed(&self, _model: u64) -> u64 {
        60
    }

    /// The usual time to the first token.
    pub fn first_token(&self, _model: u64) -> Option<Duration> {
        None
    }

    pub fn learn(&mut self, _of: Subject, _sample: &Sample) {}
}

//! What a call uses while its answer goes by, and whether a budget lets it go on.
use std::time::{Duration, Instant};

use super::Lease;
use crate::wire::Usage;

/// What a running call has used is told to the book in steps of so many tokens, or after so long.
const STEP: u64 = 16;
const PAUSE: Duration = Duration::from_millis(250);

impl Lease {
    /// So many tokens have passed in all. `false`: a budget wants the stream ended.
    pub fn produced(&mut self, tokens: u64) -> bool {
        self.produced = self.produced.max(tokens);
        let Some(grant) = &mut self.grant else { return true };
        let new = self.produced.saturating_sub(self.told);
        let lately = || self.told_at.or(self.sent).is_some_and(|at| at.elapsed() < PAUSE);
        if new == 0 || (new < STEP && lately()) {
            return true;
        }
        (self.told, self.told_at) = (self.produced, Some(Instant::now()));
        let tokens = self.produced;
        self.limits.with(|book, now| book.use_up(grant, tokens, now))
    }

    /// A session has used so much in all. `false`: a hard limit wants it ended.
    pub fn used(&mut self, usage: &Usage) -> bool {
        let Some(grant) = &mut self.grant else { return true };
        self.limits.with(|book, now| book.charge(grant, usage, now))
    }

    /// What a response of a session has likely used; see [`crate::limits::book::Book::guess`]. Nothing
    /// where nothing counts it.
    pub fn guess(&self, prompt_bytes: u64, elapsed: Duration) -> Usage {
        let Some(grant) = &self.grant else { return Usage::default() };
        self.limits.with(|book, _| book.guess(grant, prompt_bytes, elapsed))
    }
}

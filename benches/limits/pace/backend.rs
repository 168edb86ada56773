//! A provider with a token limit per minute that others draw on too, unseen.
//!
//! A bucket of 100,000 tokens, refilled steadily over a minute. A call is let in if its prompt and
//! its reservation for the answer fit; what the answer really took is settled at its end. Others take
//! a share of the refill that changes every five minutes. Answers carry the headers that OpenAI
//! documents: limit, remaining, reset (until full, were we alone), and `retry-after` on a refusal.
use std::time::Duration;

use tidegate::wire::{Allowance, Quota};

pub const LIMIT: f64 = 100_000.0;
/// Tokens a second.
pub const REFILL: f64 = LIMIT / 60.0;
/// Reserved for an answer, whatever it will take.
pub const RESERVED: u64 = 1_024;
/// The others change their mind so often, in seconds.
const PHASE: f64 = 300.0;

#[derive(Debug)]
pub struct Backend {
    level: f64,
    at: f64,
    /// Of the refill, in even and in odd phases.
    others: [f64; 2],
}

/// What a call found.
#[derive(Debug, Clone, Copy)]
pub struct Verdict {
    pub admitted: bool,
    pub quota: Quota,
}

impl Backend {
    pub fn new(others: [f64; 2]) -> Self {
        Self { level: LIMIT, at: 0.0, others }
    }

    fn refill(&mut self, now: f64) {
        while self.at < now {
            let phase = (self.at / PHASE).floor();
            let until = ((phase + 1.0) * PHASE).min(now);
            let left = REFILL * (1.0 - self.others[phase as usize % 2]);
            self.level = (self.level + left * (until - self.at)).clamp(-LIMIT, LIMIT);
            self.at = until;
        }
    }

    pub fn room(&mut self, need: u64, now: f64) -> bool {
        self.refill(now);
        self.level >= need as f64
    }

    /// When that much would fit, as far as the backend knows.
    pub fn wait(&mut self, need: u64, now: f64) -> f64 {
        self.refill(now);
        ((need as f64 - self.level) / REFILL).max(0.05)
    }

    pub fn ask(&mut self, need: u64, now: f64) -> Verdict {
        let admitted = self.room(need, now);
        if admitted {
            self.level -= need as f64;
        }
        let tokens = Allowance {
            limit: Some(LIMIT as u64),
            remaining: Some(self.level.max(0.0) as u64),
            reset: Some(Duration::from_secs_f64(((LIMIT - self.level) / REFILL).max(0.0))),
        };
        let retry_after = (!admitted).then(|| Duration::from_secs_f64(self.wait(need, now)));
        Verdict { admitted, quota: Quota { tokens: Some(tokens), retry_after, ..Quota::default() } }
    }

    pub fn settle(&mut self, output: u64, now: f64) {
        self.refill(now);
        self.level = (self.level + RESERVED as f64 - output as f64).clamp(-LIMIT, LIMIT);
    }
}

//! What is written down of a sampled call's attempts.
use std::sync::Arc;
use std::time::Instant;

use http::HeaderValue;

use super::{CallTrace, mixed, parent};

/// Attempts of a call that are written down; more are not made in earnest.
const MOST: usize = 32;

/// Where an attempt goes.
#[derive(Debug, Clone)]
pub struct Goes {
    pub upstream: Arc<str>,
    /// `gen_ai.provider.name`
    pub provider: Arc<str>,
    /// The model it is asked for, where that is another than the call names.
    pub model: Option<Arc<str>>,
    /// A host; `None` for a Unix socket.
    pub host: Option<Arc<str>>,
    pub port: u16,
}

/// One time that a call was sent.
#[derive(Debug)]
pub struct Attempt {
    pub span: u64,
    pub goes: Goes,
    pub begun: Instant,
    /// `None`: its end is that of the call, or it was left for another.
    pub ended: Option<Instant>,
    /// Of its answer; 0 for none.
    pub status: u16,
    /// Why it came to nothing; empty where it is the answer.
    pub verdict: &'static str,
    /// It is the one that answers the call.
    pub answers: bool,
}

impl CallTrace {
    /// An attempt begins: its place among them, and what its request says of the trace.
    pub fn attempt(&self, goes: Goes, begun: Instant) -> Option<(usize, HeaderValue)> {
        let attempts = &mut self.told.borrow_mut().attempts;
        let at = attempts.len();
        if at >= MOST {
            return None;
        }
        let span = mixed(self.span.wrapping_add(at as u64 + 1)).max(1);
        let header = parent::header(self.trace, span)?;
        let (ended, status, verdict, answers) = (None, 0, "", false);
        attempts.push(Attempt { span, goes, begun, ended, status, verdict, answers });
        Some((at, header))
    }

    /// The attempt at that place is the answer.
    pub fn answers(&self, at: usize, status: u16) {
        let mut told = self.told.borrow_mut();
        for (place, attempt) in told.attempts.iter_mut().enumerate() {
            attempt.answers = place == at;
        }
        if let Some(attempt) = told.attempts.get_mut(at) {
            (attempt.status, attempt.ended, attempt.verdict) = (status, None, "");
        }
    }

    /// It came to nothing; `status`: of the answer that it had, 0 for none.
    pub fn failed(&self, at: usize, verdict: &'static str, status: u16) {
        if let Some(attempt) = self.told.borrow_mut().attempts.get_mut(at) {
            attempt.ended = Some(Instant::now());
            (attempt.status, attempt.verdict) = (status, verdict);
        }
    }
}

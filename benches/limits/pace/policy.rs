//! Ways to live with a provider's limit: what SDKs and proxies do, what we do, and what only one who
//! sees the provider's bucket could do.
use tidegate::limits::pace::{Heard, Mode, Need, Pace, Sent};
use tidegate::wire::Quota;

use super::backend::{Backend, LIMIT, REFILL};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Each call for itself: 0.5 s doubled up to 8 s, less up to a quarter, four retries.
    Sdk,
    /// One queue that stops for as long as the last refusal said.
    RetryAfter,
    /// The same, and the headers with the refill that they promise.
    Nominal,
    /// [`Pace`] with the provider's headers.
    Learned,
    /// [`Pace`] with `retry-after` alone.
    Aimd,
    /// Sees the bucket.
    Oracle,
}

impl Kind {
    pub const ALL: [Self; 6] =
        [Self::Sdk, Self::RetryAfter, Self::Nominal, Self::Learned, Self::Aimd, Self::Oracle];

    pub fn name(self) -> &'static str {
        match self {
            Self::Sdk => "SDK backoff",
            Self::RetryAfter => "honour retry-after",
            Self::Nominal => "headers, nominal refill",
            Self::Learned => "headers, learned refill (ours)",
            Self::Aimd => "no headers, AIMD (ours)",
            Self::Oracle => "oracle: sees the bucket",
        }
    }
}

#[derive(Debug)]
pub struct Policy {
    pub kind: Kind,
    pace: Pace,
    blocked: f64,
    level: f64,
    at: f64,
    debited: u64,
}

/// What a policy keeps of a call that is on its way.
#[derive(Debug)]
pub struct Trace {
    sent: Sent,
    at: f64,
    debited: u64,
}

impl Policy {
    pub fn new(kind: Kind, seed: u64) -> Self {
        Self {
            kind,
            pace: Pace::new(Mode::Auto, seed, 0),
            blocked: 0.0,
            level: LIMIT,
            at: 0.0,
            debited: 0,
        }
    }

    /// Whether a call may go; else when to ask again, in seconds.
    pub fn ready(&mut self, need: Need, backend: &mut Backend, now: f64) -> Result<(), f64> {
        let whole = need.input_tokens + need.output_tokens;
        match self.kind {
            Kind::RetryAfter | Kind::Nominal if now < self.blocked => Err(self.blocked),
            Kind::Sdk | Kind::RetryAfter => Ok(()),
            Kind::Nominal => {
                let missing = whole as f64 - self.remaining(now);
                if missing <= 0.0 { Ok(()) } else { Err(now + missing / REFILL + 0.001) }
            }
            Kind::Learned | Kind::Aimd => {
                self.pace.ready(need, nanos(now)).map_err(|at| at as f64 / 1e9)
            }
            Kind::Oracle if backend.room(whole, now) => Ok(()),
            Kind::Oracle => Err(now + backend.wait(whole, now)),
        }
    }

    pub fn sent(&mut self, need: Need, now: f64) -> Trace {
        let whole = need.input_tokens + need.output_tokens;
        self.level = self.remaining(now) - whole as f64;
        self.at = now;
        self.debited += whole;
        Trace { sent: self.pace.sent(need, nanos(now)), at: now, debited: self.debited }
    }

    pub fn heard(&mut self, trace: &mut Trace, quota: &Quota, refused: bool, now: f64) {
        if let Some(tokens) = quota.tokens {
            let remaining = tokens.remaining.unwrap_or_default() as f64;
            let refilled = (remaining + REFILL * (now - trace.at)).min(LIMIT);
            self.level = refilled - (self.debited - trace.debited) as f64;
            self.at = now;
        }
        if let Some(wait) = quota.retry_after {
            self.blocked = self.blocked.max(now + wait.as_secs_f64());
        }
        let bare = Quota { retry_after: quota.retry_after, ..Quota::default() };
        let quota = if self.kind == Kind::Aimd { &bare } else { quota };
        let heard = Heard { quota, limited: refused, overloaded: false };
        self.pace.heard(&mut trace.sent, &heard, nanos(now));
    }

    pub fn finished(&mut self, trace: Trace, used: Option<Need>, now: f64) {
        self.pace.finished(trace.sent, used, nanos(now));
    }

    fn remaining(&self, now: f64) -> f64 {
        (self.level + REFILL * (now - self.at)).min(LIMIT)
    }
}

fn nanos(seconds: f64) -> u64 {
    (seconds * 1e9).ceil() as u64
}

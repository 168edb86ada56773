//! A provider's rate limits: for each credential a bucket of requests and one of tokens.
//!
//! The buckets refill steadily, hold a minute's worth and start full, as Anthropic describes its
//! own ("Rate limits", token bucket; November 2026). A call takes its prompt and the bound on its
//! answer when it comes, both buckets or none, and gives back what it did not use when it ends. A
//! call that is refused takes nothing. Headers are those of OpenAI's and Anthropic's references;
//! the other vendors have none.
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::Mutex;

use super::text::{Put, hash};
use crate::wire::Dialect;

/// Of all credentials that came by.
#[derive(Debug, Default)]
pub(super) struct Quotas(Mutex<HashMap<u64, Pair>>);

#[derive(Debug)]
struct Pair {
    requests: Bucket,
    tokens: Bucket,
}

#[derive(Debug)]
struct Bucket {
    /// A minute's worth, and most at once; 0: no limit.
    limit: u32,
    level: f64,
    at: Instant,
}

/// What is left of one bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Left {
    pub limit: u32,
    pub remaining: u64,
    /// Until it is full.
    pub reset: Duration,
}

/// What is left of both; `None` for no limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Standing {
    pub requests: Option<Left>,
    pub tokens: Option<Left>,
}

/// A bucket has too little.
#[derive(Debug, PartialEq)]
pub(super) struct Full {
    pub message: String,
    /// Until there is enough; `None`: there never will be.
    pub wait: Option<Duration>,
}

/// The tokens that one call took.
#[derive(Debug)]
pub(super) struct Charge {
    quotas: Arc<Quotas>,
    key: u64,
    taken: u64,
    used: Cell<u64>,
}

impl Charge {
    /// What the call has really used so far; until this is said, nothing.
    pub fn used(&self, tokens: u64) {
        self.used.set(tokens);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(pair) = self.quotas.0.lock().get_mut(&self.key) {
            pair.tokens.settle(self.taken, self.used.get());
        }
    }
}

impl Quotas {
    /// One request and so many tokens, all or nothing; and what is left then.
    pub fn take(
        self: &Arc<Self>,
        credential: &[u8],
        rpm: u32,
        tpm: u32,
        tokens: u64,
    ) -> (Result<Charge, Full>, Standing) {
        self.take_at(Instant::now(), credential, rpm, tpm, tokens)
    }

    fn take_at(
        self: &Arc<Self>,
        now: Instant,
        credential: &[u8],
        rpm: u32,
        tpm: u32,
        tokens: u64,
    ) -> (Result<Charge, Full>, Standing) {
        /// Beyond this many credentials all begin anew.
        const REMEMBERED: usize = 65_536;
        let key = hash(credential, (u64::from(rpm) << 32) | u64::from(tpm));
        let mut all = self.0.lock();
        if all.len() >= REMEMBERED && !all.contains_key(&key) {
            all.clear();
        }
        let new = || Pair { requests: Bucket::full(rpm, now), tokens: Bucket::full(tpm, now) };
        let pair = all.entry(key).or_insert_with(new);
        pair.requests.refill(now);
        pair.tokens.refill(now);
        let full = pair
            .requests
            .lacks(1, "requests per min (RPM)")
            .or_else(|| pair.tokens.lacks(tokens, "tokens per min (TPM)"));
        let taken = if let Some(full) = full {
            Err(full)
        } else {
            pair.requests.level -= 1.0;
            pair.tokens.level -= tokens as f64;
            let quotas = Arc::clone(self);
            Ok(Charge { quotas, key, taken: tokens, used: Cell::new(0) })
        };
        (taken, Standing { requests: pair.requests.left(), tokens: pair.tokens.left() })
    }
}

impl Bucket {
    fn full(limit: u32, now: Instant) -> Self {
        Self { limit, level: limit.into(), at: now }
    }

    fn rate(&self) -> f64 {
        f64::from(self.limit) / 60.0
    }

    fn refill(&mut self, now: Instant) {
        let more = now.saturating_duration_since(self.at).as_secs_f64() * self.rate();
        self.level = (self.level + more).min(self.limit.into());
        self.at = self.at.max(now);
    }

    fn settle(&mut self, taken: u64, used: u64) {
        self.level = (self.level + taken as f64 - used as f64).min(self.limit.into());
    }

    fn lacks(&self, need: u64, what: &str) -> Option<Full> {
        let (limit, missing) = (self.limit, need as f64 - self.level);
        if limit == 0 || missing <= 0.0 {
            return None;
        }
        if need > limit.into() {
            let message = format!(
                "Request too large on {what}: Limit {limit}, Requested {need}. The input or \
                 output tokens must be reduced in order to run successfully."
            );
            return Some(Full { message, wait: None });
        }
        let wait = Duration::from_secs_f64(missing / self.rate());
        let used = u64::from(limit).saturating_sub(self.remaining());
        let mut message = format!(
            "Rate limit reached on {what}: Limit {limit}, Used {used}, Requested {need}. Please \
             try again in "
        )
        .into_bytes();
        put_go(&mut message, wait);
        message.put(".");
        let message = String::from_utf8(message).unwrap_or_default();
        Some(Full { message, wait: Some(wait) })
    }

    fn remaining(&self) -> u64 {
        self.level.max(0.0) as u64
    }

    fn left(&self) -> Option<Left> {
        if self.limit == 0 {
            return None;
        }
        let missing = f64::from(self.limit) - self.level;
        let reset = Duration::from_secs_f64(missing.max(0.0) / self.rate());
        Some(Left { limit: self.limit, remaining: self.remaining(), reset })
    }
}

/// Appends the header lines that say what is left.
pub(super) fn put_standing(out: &mut Vec<u8>, dialect: Dialect, standing: &Standing) {
    for (kind, left) in [("requests", standing.requests), ("tokens", standing.tokens)] {
        let Some(left) = left else { continue };
        let (limit, remaining) = (left.limit.into(), left.remaining);
        match dialect {
            Dialect::OpenAi => {
                out.put("x-ratelimit-limit-").put(kind).put(": ").num(limit);
                out.put("\r\nx-ratelimit-remaining-").put(kind).put(": ").num(remaining);
                out.put("\r\nx-ratelimit-reset-").put(kind).put(": ");
                put_go(out, left.reset);
                out.put("\r\n");
            }
            Dialect::Anthropic => {
                let prefix = "anthropic-ratelimit-";
                out.put(prefix).put(kind).put("-limit: ").num(limit).put("\r\n");
                out.put(prefix).put(kind).put("-remaining: ").num(remaining).put("\r\n");
                out.put(prefix).put(kind).put("-reset: ").put(&moment(left.reset)).put("\r\n");
            }
            _ => {}
        }
    }
}

/// Appends the header lines that say when to come back.
pub(super) fn put_retry(out: &mut Vec<u8>, dialect: Dialect, wait: Option<Duration>) {
    let Some(wait) = wait else { return };
    let millis = wait.as_nanos().div_ceil(1_000_000) as u64;
    out.put("retry-after: ").num(millis.div_ceil(1000).max(1)).put("\r\n");
    if dialect == Dialect::OpenAi {
        out.put("retry-after-ms: ").num(millis.max(1)).put("\r\n");
    }
}

/// A duration as Go writes it: `76ms`, `1.5s`, `6m0s`. Rounded up to the millisecond.
fn put_go(out: &mut Vec<u8>, time: Duration) {
    let millis = time.as_nanos().div_ceil(1_000_000) as u64;
    let (seconds, rest) = (millis / 1000, millis % 1000);
    if seconds == 0 {
        out.num(rest).put(if rest == 0 { "s" } else { "ms" });
        return;
    }
    if seconds >= 3600 {
        out.num(seconds / 3600).put("h");
    }
    if seconds >= 60 {
        out.num(seconds / 60 % 60).put("m");
    }
    out.num(seconds % 60);
    if rest > 0 {
        let digits = format!(".{rest:03}");
        out.put(digits.trim_end_matches('0'));
    }
    out.put("s");
}

/// So long from now, in RFC 3339, in whole seconds and never early.
fn moment(after: Duration) -> String {
    let at = Timestamp::now().saturating_add(after).unwrap_or(Timestamp::MAX);
    let second = at.as_second() + i64::from(at.subsec_nanosecond() > 0);
    Timestamp::from_second(second).unwrap_or(Timestamp::MAX).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(standing: Standing) -> (u64, u64) {
        let remaining = |left: Option<Left>| left.map_or(0, |left| left.remaining);
        (remaining(standing.requests), remaining(standing.tokens))
    }

    #[test]
    fn a_call_takes_its_bound_and_gives_back_what_it_did_not_use() {
        let quotas = Arc::new(Quotas::default());
        let now = Instant::now();
        let take = |now, tokens| quotas.take_at(now, b"a", 60, 600, tokens);
        let (charge, standing) = take(now, 400);
        assert_eq!(left(standing), (59, 200));
        let (full, standing) = take(now, 300);
        // 100 more, at 10 a second
        assert_eq!(full.unwrap_err().wait, Some(Duration::from_secs(10)));
        assert_eq!(left(standing), (59, 200), "what is refused takes nothing");
        let charge = charge.unwrap();
        charge.used(150);
        drop(charge);
        let (second, standing) = take(now, 450);
        assert_eq!(left(standing), (58, 0));
        drop(second);
        assert_eq!(take(now, 601).0.unwrap_err().wait, None);
        let other = quotas.take_at(now, b"b", 60, 600, 600);
        assert!(other.0.is_ok(), "another credential");
    }

    #[test]
    fn buckets_refill_steadily_and_not_beyond_a_minutes_worth() {
        let quotas = Arc::new(Quotas::default());
        let start = Instant::now();
        let take = |seconds, tokens| {
            let at = start + Duration::from_secs(seconds);
            let (taken, standing) = quotas.take_at(at, b"", 0, 600, tokens);
            if let Ok(charge) = &taken {
                charge.used(tokens);
            }
            (taken.is_ok(), left(standing).1)
        };
        assert_eq!(take(0, 600), (true, 0));
        assert_eq!(take(1, 20), (false, 10));
        assert_eq!(take(2, 20), (true, 0));
        assert_eq!(take(1, 1), (false, 0), "a clock that goes back gives nothing");
        assert_eq!(take(1000, 0), (true, 600));
    }

    #[test]
    fn durations_are_those_of_go() {
        for (millis, text) in [
            (0, "0s"),
            (76, "76ms"),
            (1000, "1s"),
            (7660, "7.66s"),
            (360_000, "6m0s"),
            (3_600_001, "1h0m0.001s"),
        ] {
            let mut out = Vec::new();
            put_go(&mut out, Duration::from_millis(millis));
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }
}

//! When a first token is late, by the model's own history, and what may be spent on a second request
//! then. Hedging as in Dean and Barroso, "The Tail at Scale" (2013): a request only when the first is
//! slower than nearly all others, and out of a budget, so that it turns itself off in an outage.
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use dashmap::DashMap;

/// Times kept of one model, and those below which they tell nothing.
const KEPT: usize = 128;
const LEAST: usize = 20;
/// Most models whose history is kept.
const MODELS: usize = 256;
/// What is saved up at most: so many requests, and so many tokens for each of them.
const MOST_REQUESTS: i64 = 10;
const MOST_TOKENS: i64 = 100_000;
/// A budget counts in thousandths.
const WHOLE: i64 = 1000;

/// Of one upstream; outlives a reload.
#[derive(Default)]
pub struct Late {
    /// Of whole answers, and of streams: the first of a whole one comes when all of it is made.
    models: DashMap<Arc<str>, [Recent; 2]>,
    requests: AtomicI64,
    tokens: AtomicI64,
}

/// The last times to the first token, in milliseconds.
#[derive(Default)]
struct Recent {
    times: Vec<u32>,
    next: usize,
}

impl Late {
    /// A first token has come after so long.
    pub fn heard(&self, model: &str, streams: bool, took: Duration) {
        let took = u32::try_from(took.as_millis()).unwrap_or(u32::MAX);
        if let Some(mut recent) = self.models.get_mut(model) {
            return recent[usize::from(streams)].push(took);
        }
        if self.models.len() < MODELS {
            self.models.entry(model.into()).or_default()[usize::from(streams)].push(took);
        }
    }

    /// Later than this is late: the 95th percentile, and three times the median. `None`: too little
    /// is known.
    pub fn bound(&self, model: &str, streams: bool) -> Option<Duration> {
        let mut times = self.models.get(model)?[usize::from(streams)].times.clone();
        if times.len() < LEAST {
            return None;
        }
        times.sort_unstable();
        let (half, high) = (times[times.len() / 2], times[times.len() * 95 / 100]);
        Some(Duration::from_millis(u64::from(high.max(half.saturating_mul(3)))))
    }

    /// A call goes by, with a prompt of so many tokens: `percent` of it may be spent.
    pub fn earn(&self, percent: f64, tokens: u64) {
        let share = (percent / 100.0 * WHOLE as f64) as i64;
        let tokens = i64::try_from(tokens).unwrap_or(MOST_TOKENS).min(MOST_TOKENS);
        let most = MOST_REQUESTS * WHOLE;
        let _ = self.requests.fetch_update(Relaxed, Relaxed, |has| Some((has + share).min(most)));
        let more = share * tokens;
        let most = MOST_TOKENS * WHOLE;
        let _ = self.tokens.fetch_update(Relaxed, Relaxed, |has| Some((has + more).min(most)));
    }

    /// May a second request of so many tokens go out? Takes it, if so.
    pub fn spend(&self, tokens: u64) -> bool {
        let tokens = i64::try_from(tokens).unwrap_or(i64::MAX).saturating_mul(WHOLE);
        let take = |of: &AtomicI64, cost: i64| {
            of.fetch_update(Relaxed, Relaxed, |has| has.checked_sub(cost).filter(|left| *left >= 0))
                .is_ok()
        };
        if !take(&self.requests, WHOLE) {
            return false;
        }
        let goes = take(&self.tokens, tokens);
        if !goes {
            self.requests.fetch_add(WHOLE, Relaxed);
        }
        goes
    }
}

impl Recent {
    fn push(&mut self, took: u32) {
        if self.times.len() < KEPT {
            self.times.push(took);
        } else {
            self.times[self.next] = took;
        }
        self.next = (self.next + 1) % KEPT;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_is_beyond_the_95th_percentile_and_three_medians() {
        let late = Late::default();
        for _ in 0..LEAST - 1 {
            late.heard("m", true, Duration::from_millis(100));
        }
        assert_eq!(late.bound("m", true), None, "too little is known");
        late.heard("m", true, Duration::from_millis(100));
        assert_eq!(late.bound("m", true), Some(Duration::from_millis(300)));
        assert_eq!(late.bound("m", false), None, "a whole answer takes its time");
        for _ in 0..KEPT {
            late.heard("m", true, Duration::from_millis(500));
        }
        assert_eq!(
            late.bound("m", true),
            Some(Duration::from_millis(1500)),
            "only the last ones count"
        );
        for at in 0..KEPT {
            late.heard("n", true, Duration::from_millis(if at % 10 == 0 { 2000 } else { 100 }));
        }
        assert_eq!(late.bound("n", true), Some(Duration::from_secs(2)));
        assert_eq!(late.bound("unknown", true), None);
    }

    #[test]
    fn one_in_twenty_may_be_hedged_by_requests_and_by_tokens() {
        let late = Late::default();
        assert!(!late.spend(1), "nothing is saved up at the start");
        let mut hedged = 0;
        for _ in 0..1000 {
            late.earn(5.0, 100);
            hedged += u32::from(late.spend(100));
        }
        assert_eq!(hedged, 50);
        for _ in 0..1000 {
            late.earn(5.0, 10);
        }
        assert!(!late.spend(10_000), "more tokens than were saved up");
        assert!(late.spend(100), "and a refused one costs no request");
    }

    #[test]
    fn histories_are_bounded() {
        let late = Late::default();
        for at in 0..2 * MODELS {
            late.heard(&format!("m{at}"), true, Duration::from_millis(1));
        }
        assert_eq!(late.models.len(), MODELS);
    }
}

//! How many calls at once a backend of our own takes before they queue there, by the time to the
//! first token.
//!
//! The algorithm is `Gradient2Limit` of Netflix' concurrency-limits: the usual time over that of the
//! last second is the gradient; it shrinks the limit where calls queue, by half at most, and the
//! square root of the limit is always added, so that it grows while they do not. Ours differs in
//! three ways. Times are a prompt token's share, since long prompts take longer. There is no limit
//! until calls queue. And calls that already speak are being served, so the limit holds only while
//! some wait: the backend is never left without work.
use std::time::Duration;

use super::{SECOND, seconds};

/// Of the old limit in the new one.
const SMOOTHING: f64 = 0.2;
/// So much slower than usual is still usual.
const TOLERANCE: f64 = 1.5;
/// Windows that the usual time is an average of, and those before it is one.
const LONG: f64 = 600.0;
const WARM: f64 = 10.0;
/// A window is so long, and saw so many calls.
const WINDOW: u64 = SECOND;
const SAMPLES: u32 = 8;
/// What a call costs besides its prompt, in prompt tokens.
const BASE: f64 = 512.0;
/// Calls that may always wait for their first token.
const FLOOR: u32 = 4;
/// Nothing heard for so long: no limit.
const STALE: u64 = 120 * SECOND;
/// As good as none.
const WIDEST: f64 = 1e6;

#[derive(Debug)]
pub(super) struct Gradient {
    limit: Option<f64>,
    /// Nanoseconds a token, usually.
    usual: f64,
    windows: f64,
    /// This window.
    sum: f64,
    samples: u32,
    most: u32,
    begun: u64,
    /// The last window's end.
    moved: u64,
}

impl Gradient {
    pub(super) fn new(now: u64) -> Self {
        Self {
            limit: None,
            usual: 0.0,
            windows: 0.0,
            sum: 0.0,
            samples: 0,
            most: 0,
            begun: now,
            moved: now,
        }
    }

    /// Calls at once; `None`: as many as there are.
    pub(super) fn limit(&self, now: u64) -> Option<f64> {
        self.limit.filter(|_| now.saturating_sub(self.moved) < STALE)
    }

    pub(super) fn allows(&self, in_flight: u32, waiting: u32, now: u64) -> bool {
        waiting < FLOOR || self.limit(now).is_none_or(|limit| f64::from(in_flight) + 1.0 <= limit)
    }

    /// A first token came.
    pub(super) fn sample(&mut self, after: Duration, prompt: u64, in_flight: u32, now: u64) {
        self.sum += seconds_of(after) / (BASE + prompt as f64);
        self.samples += 1;
        self.most = self.most.max(in_flight);
        if now.saturating_sub(self.begun) < WINDOW || self.samples < SAMPLES {
            return;
        }
        let recent = self.sum / f64::from(self.samples);
        let most = f64::from(self.most);
        self.limit = self.limit(now);
        (self.sum, self.samples, self.most) = (0.0, 0, 0);
        (self.begun, self.moved) = (now, now);
        if recent > 0.0 {
            self.remember(recent);
            self.update(recent, most);
        }
    }

    fn remember(&mut self, recent: f64) {
        self.windows += 1.0;
        let weight = if self.windows <= WARM { 1.0 / self.windows } else { 2.0 / (LONG + 1.0) };
        self.usual += (recent - self.usual) * weight;
        // back from a long overload: do not take it for the usual
        if self.usual > 2.0 * recent {
            self.usual *= 0.9;
        }
    }

    fn update(&mut self, recent: f64, most: f64) {
        let gradient = (TOLERANCE * self.usual / recent).clamp(0.5, 1.0);
        let limit = match self.limit {
            Some(limit) => limit,
            None if gradient < 1.0 && self.windows > WARM => most,
            None => return,
        };
        // a limit that is not used is not known to be too low
        if gradient >= 1.0 && most < limit / 2.0 {
            return;
        }
        let aim = limit * gradient + limit.sqrt();
        let next = limit + (aim - limit) * SMOOTHING;
        self.limit = Some(next.max(f64::from(FLOOR))).filter(|limit| *limit < WIDEST);
    }
}

fn seconds_of(after: Duration) -> f64 {
    seconds(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX))
}

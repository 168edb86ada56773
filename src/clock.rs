//! Time for the request path.
//!
//! Deadlines need no more than a tenth of a second, so each worker thread keeps a coarse tick that
//! its sweep moves on (`app/worker.rs`); reading it is a load from a cell. Latencies that are
//! measured use `std::time::Instant` itself, a few times a call.
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Milliseconds since the worker began, as of its last tick. 49 days in, it wraps; differences of
/// two ticks stay right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tick(u32);

impl Tick {
    /// For keeping a tick in an atomic.
    pub fn raw(self) -> u32 {
        self.0
    }

    pub fn from_raw(raw: u32) -> Self {
        Self(raw)
    }

    #[must_use]
    pub fn before(self, by: Duration) -> Self {
        Self(self.0.wrapping_sub(by.as_millis() as u32))
    }

    pub fn since(self, earlier: Tick) -> Duration {
        Duration::from_millis(u64::from(self.0.wrapping_sub(earlier.0)))
    }
}

/// One a worker thread.
#[derive(Debug)]
pub struct Clock {
    begun: Instant,
    /// Written by the worker alone; an atomic because a connection's parts must be `Send`.
    now: AtomicU32,
}

impl Clock {
    pub fn new() -> Self {
        Self { begun: Instant::now(), now: AtomicU32::new(0) }
    }

    pub fn now(&self) -> Tick {
        Tick(self.now.load(Relaxed))
    }

    /// Reads the real clock; called by the sweep.
    pub fn advance(&self) -> Tick {
        let tick = self.begun.elapsed().as_millis() as u32;
        self.now.store(tick, Relaxed);
        Tick(tick)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_survives_the_wrap() {
        assert_eq!(Tick(5).since(Tick(u32::MAX - 4)), Duration::from_millis(10));
    }
}

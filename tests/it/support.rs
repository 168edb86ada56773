//! What the integration tests share.
#![allow(clippy::expect_used, reason = "helpers of tests fail the test")]
pub mod app;
pub mod client;
pub mod gated;
pub mod h2;
pub mod h2frames;
pub mod origin;
pub mod raw;
pub mod schema;

use std::time::{Duration, Instant};

/// Longest wait for something that must come about; generous, because machines are loaded.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Waits for a condition that comes about in another process or thread; says how long it took.
pub async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) -> Duration {
    let from = Instant::now();
    while !done().await {
        assert!(from.elapsed() < PATIENCE, "it never came about: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    from.elapsed()
}

/// The same every time: a linear congruence (Knuth, MMIX).
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

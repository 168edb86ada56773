//! What the integration tests share.
#![allow(clippy::expect_used, reason = "helpers of tests fail the test")]
pub mod app;
pub mod client;
pub mod gated;
pub mod h2;
pub mod h2frames;
pub mod origin;
pub mod raw;

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

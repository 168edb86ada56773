//! A sidecar's life as the machine around it sees it: the real binary, its signals, its sockets.
mod agent;
pub mod child;
mod doors;
mod drain;
mod machine;
mod nagle;
mod reload;

pub use child::{PATIENCE, signal, tidegate, tidegate_after};

pub const CHAT: &str = "/v1/chat/completions";

/// Waits for what comes about in another process, a moment after it was said.
async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let from = std::time::Instant::now();
    while !done().await {
        assert!(from.elapsed() < PATIENCE, "it never came about: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

//! The credentials that the policy holds for an upstream. One that the backend refuses, or that is
//! spent, is set aside for a while; the next one is used instead. The last one never is.
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue};

/// One of them, as it is sent.
pub struct Key {
    pub name: HeaderName,
    pub value: HeaderValue,
    /// Tells it from the others, also over a reload; 0 where there is only one. Tells nothing of it.
    pub id: u64,
    pub state: Arc<KeyState>,
}

/// What is known of a key; outlives a reload.
#[derive(Debug, Default)]
pub struct KeyState {
    /// Milliseconds since `begun` until which it is not used.
    until: AtomicU64,
}

/// What a key's times are counted from.
pub static BEGUN: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);

impl Key {
    /// The backend refused it (401, 403), it is spent, or it has reached a limit: others go first.
    pub fn set_aside(&self, pause: Duration, now: Instant) {
        let until = (now + pause).saturating_duration_since(*BEGUN).as_millis() as u64;
        self.state.until.fetch_max(until, Relaxed);
    }

    pub fn is_usable(&self, now: Instant) -> bool {
        self.state.until.load(Relaxed) <= now.saturating_duration_since(*BEGUN).as_millis() as u64
    }
}

/// The key for a call: one that is usable and was not tried; `None` where there is none left.
pub fn pick<'k>(keys: &'k [Key], tried: &[u64], now: Instant) -> Option<&'k Key> {
    let mut left = keys.iter().filter(|key| !tried.contains(&key.id));
    left.clone().find(|key| key.is_usable(now)).or_else(|| left.next())
}

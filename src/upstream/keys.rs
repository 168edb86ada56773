//! The credentials that the policy holds for an upstream, each call one of them in turn.
//!
//! One that the backend refuses, or that is spent, is set aside for a while, and others are used
//! instead. The last one never is: a backend that is wrong about all of them is still asked.
//! Nothing here shows a value; a key is named by its place in the policy.
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue};

use super::Upstream;

/// One of them, as it is sent.
pub struct Key {
    pub name: HeaderName,
    pub value: HeaderValue,
    /// Tells it from the others, also over a reload; 0 where there is only one. Tells nothing of it.
    pub id: u64,
    pub state: Arc<KeyState>,
    /// Whose turn it is among the keys of its upstream.
    pub turn: Arc<AtomicUsize>,
}

/// What is known of a key; outlives a reload.
#[derive(Debug, Default)]
pub struct KeyState {
    /// Milliseconds since [`BEGUN`] until which it is not used.
    until: AtomicU64,
}

/// What a key's times are counted from.
pub static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Why a key is set aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aside {
    /// The backend does not know it, or does not let it: 401, 403.
    Refused,
    /// Its credit is used up.
    Spent,
    /// It has reached a limit, and may go on after this.
    Limited(Duration),
}

impl Aside {
    /// `hint`: how long, as the backend has it. Five minutes at most; a second, if it does not say.
    pub fn limited(hint: Option<Duration>) -> Self {
        Self::Limited(hint.unwrap_or(Duration::from_secs(1)).min(Duration::from_mins(5)))
    }

    pub fn pause(self) -> Duration {
        match self {
            Self::Refused => Duration::from_mins(5),
            Self::Spent => Duration::from_mins(10),
            Self::Limited(pause) => pause,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Spent => "spent",
            Self::Limited(_) => "limited",
        }
    }
}

impl Key {
    /// Others go first for so long. A longer pause that runs already stays.
    pub fn set_aside(&self, pause: Duration, now: Instant) {
        self.state.until.fetch_max(millis(now).saturating_add(pause.as_millis() as u64), Relaxed);
    }

    pub fn is_usable(&self, now: Instant) -> bool {
        self.state.until.load(Relaxed) <= millis(now)
    }
}

/// The key for a call: of those that it has not tried the next one in turn that is usable, else the
/// one that will be first; `None` where all were tried.
pub fn pick<'k>(keys: &'k [Key], tried: &[u64], now: Instant) -> Option<&'k Key> {
    if let [only] = keys {
        return (!tried.contains(&only.id)).then_some(only);
    }
    let left = keys.iter().filter(|key| !tried.contains(&key.id));
    let usable = left.clone().filter(|key| key.is_usable(now));
    let count = usable.clone().count();
    if count > 0 {
        let turn = keys[0].turn.fetch_add(1, Relaxed);
        // one may have been set aside since they were counted
        return usable.clone().nth(turn % count).or_else(|| left.clone().next());
    }
    left.min_by_key(|key| key.state.until.load(Relaxed))
}

/// The same for a call that has tried none yet.
pub fn first(keys: &[Key]) -> Option<&Key> {
    // most upstreams have one or none, and the clock changes nothing there
    if keys.len() < 2 { keys.first() } else { pick(keys, &[], Instant::now()) }
}

impl Upstream {
    /// Sets a key aside, and says so. The only one there is goes on being used.
    pub fn set_aside(&self, id: u64, why: Aside, now: Instant) {
        let Some(at) = self.keys.iter().position(|key| key.id == id) else { return };
        if self.keys.len() < 2 {
            return;
        }
        let was_usable = self.keys[at].is_usable(now);
        self.keys[at].set_aside(why.pause(), now);
        self.show_keys(now);
        if was_usable {
            let pause_ms = why.pause().as_millis() as u64;
            let (upstream, key, why) = (&*self.config.name, at + 1, why.as_str());
            tracing::warn!(upstream, key, why, pause_ms, "a key is set aside");
        }
    }

    pub(super) fn show_keys(&self, now: Instant) {
        let aside = i64::try_from(self.keys_aside(now)).unwrap_or(i64::MAX);
        self.shared.gauges.keys_aside.store(aside, Relaxed);
    }

    /// Keys that are set aside now.
    pub fn keys_aside(&self, now: Instant) -> usize {
        if self.keys.len() < 2 {
            return 0;
        }
        self.keys.iter().filter(|key| !key.is_usable(now)).count()
    }
}

fn millis(at: Instant) -> u64 {
    at.saturating_duration_since(*BEGUN).as_millis() as u64
}

#[cfg(test)]
mod tests;

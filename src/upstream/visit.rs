//! One attempt at one address, as its health counts it.
//!
//! A [`Visit`] is got by [`super::Upstream::choose`] and lives as long as the answer: it counts the
//! address as busy, holds the probe of a breaker that is half open, and says at the end how it went.
//! Dropped without a word (the client has left, our own deadline of the caller's making) it is neutral.
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::{Address, PoolKey, Upstream};

/// By what calls are spread over addresses: hashes of how the call begins, and of its session.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spread {
    pub prefix: Option<u64>,
    pub session: Option<u64>,
}

/// No address may be asked now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// The upstream is in trouble; in so long one call may try.
    Breaker(Duration),
    /// All that there are have been tried.
    Tried,
}

/// One attempt at one address.
#[derive(Debug)]
pub struct Visit {
    /// Index of the address in its upstream.
    pub at: usize,
    busy: Arc<AtomicUsize>,
}

impl Upstream {
    /// An address for the next attempt of a call. `tried`: those that it has had already.
    pub fn choose(&self, _by: Spread, tried: &[PoolKey], _now: Instant) -> Result<Visit, Closed> {
        let free = self.addresses.iter().enumerate();
        let (at, address) = free
            .filter(|(_, address)| !tried.contains(&address.key))
            .min_by_key(|(_, address)| address.busy.load(Relaxed))
            .ok_or(Closed::Tried)?;
        address.busy.fetch_add(1, Relaxed);
        Ok(Visit { at, busy: Arc::clone(&address.busy) })
    }

    /// Whether [`Self::choose`] would find one for a new call.
    pub fn is_open_for(&self, _now: Instant) -> bool {
        true
    }

    pub fn address(&self, visit: &Visit) -> &Address {
        &self.addresses[visit.at.min(self.addresses.len() - 1)]
    }

    /// A call comes; earns a part of a retry.
    pub fn earn_retry(&self, _now: Instant) {}

    /// May a call be sent once more?
    pub fn spend_retry(&self, _now: Instant) -> bool {
        true
    }
}

impl Visit {
    /// Its answer has begun well: head of a plain answer, first content of a stream. A probe has
    /// found the backend well.
    pub fn began(&mut self, _now: Instant) {}

    /// It has come to a good end.
    pub fn worked(self) {}

    /// The backend was at fault: no connection, 5xx, an error in its stream, silence, a cut.
    pub fn failed(self, _now: Instant) {}
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.busy.fetch_sub(1, Relaxed);
    }
}

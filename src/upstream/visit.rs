//! One attempt at one address, as its health counts it.
//!
//! A [`Visit`] is got by [`super::Upstream::choose`] and lives as long as the answer: it counts the
//! address as busy, holds the probe of a breaker that is half open, and says at the end how it went.
//! Dropped without a word (the client has left, our own deadline of the caller's making) it is neutral.
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::breaker::Pass;
use super::roster::Roster;
use super::{Address, PoolKey, Upstream};
use crate::identity::Identity;
use crate::sync::Ordering::Relaxed;

/// By what calls are spread over addresses: hashes of how the call begins, and of its session.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spread {
    pub prefix: Option<u64>,
    pub session: Option<u64>,
}

impl Spread {
    /// Calls of one session are alike; where none is known, those of one agent.
    pub fn by_session(who: &Identity) -> Self {
        let mut hash = DefaultHasher::new();
        who.session.as_deref().unwrap_or(&who.agent).hash(&mut hash);
        Self { prefix: None, session: Some(hash.finish()) }
    }
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
pub struct Visit {
    /// Index of the address in its upstream.
    pub at: usize,
    roster: Arc<Roster>,
    /// To the upstream's breaker, and to the address's own.
    over: Pass,
    own: Pass,
    sent: Instant,
    begun: bool,
}

impl Upstream {
    /// An address for the next attempt of a call. `tried`: those that it has had already, which get
    /// it again only where no other stands.
    pub fn choose(&self, by: Spread, tried: &[PoolKey], now: Instant) -> Result<Visit, Closed> {
        self.roster.choose(by, tried, now)
    }

    /// That address, for what is known there alone.
    pub fn visit(&self, at: usize, now: Instant) -> Result<Visit, Closed> {
        self.roster.visit(at, now)
    }

    /// Whether [`Self::choose`] would find one for a new call. Takes nothing.
    pub fn is_open_for(&self, now: Instant) -> bool {
        self.roster.is_open_for(now)
    }

    pub fn address(&self, visit: &Visit) -> &Address {
        &self.addresses[visit.at.min(self.addresses.len() - 1)]
    }

    /// A call comes; earns a part of a retry.
    pub fn earn_retry(&self, now: Instant) {
        self.shared.budget.earn(self.config.retry.budget, now);
    }

    /// May a call be sent once more?
    pub fn spend_retry(&self, now: Instant) -> bool {
        self.shared.budget.spend(now)
    }
}

impl Visit {
    pub(super) fn new(roster: Arc<Roster>, at: usize, over: Pass, own: Pass, now: Instant) -> Self {
        Self { at, roster, over, own, sent: now, begun: false }
    }

    /// Everybody else waits for how this one goes.
    pub fn is_probe(&self) -> bool {
        self.over.probe || self.own.probe
    }

    /// Its answer has begun well: head of a plain answer, first content of a stream. A probe has
    /// found the backend well. Said twice, it counts once.
    pub fn began(&mut self, now: Instant) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let latency = &self.roster.members[self.at].latency;
        latency.observe(now.saturating_duration_since(self.sent), now);
        self.roster.began(self.at, &mut self.over, &mut self.own, now);
    }

    /// It has come to a good end.
    pub fn worked(mut self) {
        if !self.begun {
            self.began(Instant::now());
        }
    }

    /// The backend was at fault: no connection, 5xx, an error in its stream, silence, a cut.
    pub fn failed(self, now: Instant) {
        if !self.begun {
            let latency = &self.roster.members[self.at].latency;
            latency.failed(now.saturating_duration_since(self.sent), now);
        }
        self.roster.failed(self.at, self.over, self.own, now);
    }
}

impl fmt::Debug for Visit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Visit")
            .field("at", &self.at)
            .field("begun", &self.begun)
            .finish_non_exhaustive()
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.roster.members[self.at].busy.fetch_sub(1, Relaxed);
        self.roster.neutral(self.at, self.over, self.own);
    }
}

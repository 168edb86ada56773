//! An answer that is kept: the bytes that the client was sent, and what they are.
//!
//! Nothing here is ever rebuilt: `body` is what passed, `frames` says in which pieces and when.
use std::ops::AddAssign;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::key::Key;
use crate::wire::{Form, Kind, Usage};

/// One answer. Weighs what [`Entry::weight`] says.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub kind: Kind,
    pub form: Form,
    /// The call asked for a stream.
    pub stream: bool,
    /// Of the answer; the only header that is kept.
    pub content_type: Option<Box<[u8]>>,
    pub body: Bytes,
    /// Pieces of the body as they came; empty for one that came whole.
    pub frames: Box<[Piece]>,
    /// To the millisecond.
    pub stored: SystemTime,
    /// From `stored` on; whole milliseconds.
    pub ttl: Duration,
    /// What the backend counted.
    pub usage: Option<Usage>,
    /// What it cost, in billionths of a dollar.
    pub cost_nano: Option<i64>,
    pub author: Author,
}

/// One piece of a recorded stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Where it ends in the body.
    pub end: u32,
    /// When it came, in milliseconds since the call was sent.
    pub at_ms: u32,
}

/// Who asked, so that what one agent left can be found and taken out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Author {
    pub agent: Arc<str>,
    /// As the call named it; empty for none.
    pub model: Arc<str>,
    pub route: Arc<str>,
    pub upstream: Arc<str>,
    /// A keyed hash of the credential; zero for none.
    pub credential: u64,
}

impl Entry {
    /// What an entry takes beside its bytes, about: the struct, the map's own, the allocations.
    pub const OVERHEAD: u64 = 400;

    /// Bytes of memory, about.
    pub fn weight(&self) -> u64 {
        let pieces = self.frames.len() * size_of::<Piece>();
        Self::OVERHEAD + (self.body.len() + pieces) as u64
    }

    /// How old it is; zero for one that a clock set back made newer than now.
    pub fn age(&self, now: SystemTime) -> Duration {
        now.duration_since(self.stored).unwrap_or_default()
    }

    /// How long it may still be given. `None`: not any more.
    pub fn left(&self, now: SystemTime) -> Option<Duration> {
        self.ttl.checked_sub(self.age(now)).filter(|left| !left.is_zero())
    }
}

/// What a purge took out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Purged {
    /// Entries of memory.
    pub memory: u64,
    /// Records on disk, those that were replaced or out of date too; and what waited to be written.
    pub disk: u64,
    /// Files whose bytes could not be erased. What was in them is not given any more; it may come
    /// back after a restart. Zero: the purge is complete.
    pub failed: u64,
}

impl AddAssign for Purged {
    fn add_assign(&mut self, other: Self) {
        self.memory += other.memory;
        self.disk += other.disk;
        self.failed += other.failed;
    }
}

/// Which entries to take out; all that is said must hold, and nothing said means all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// A glob, as the next three.
    pub policy: Option<Box<str>>,
    pub agent: Option<Box<str>>,
    pub model: Option<Box<str>>,
    pub route: Option<Box<str>>,
    pub older_than: Option<Duration>,
    /// The key in hexadecimal begins so, as `Cache-Status` shows it.
    pub prefix: Option<Box<str>>,
}

impl Filter {
    /// Whether an entry is meant; the policy is looked at by whoever holds the entries of one.
    pub fn takes(&self, key: &Key, author: &Author, age: Duration) -> bool {
        let Self { policy: _, agent, model, route, older_than, prefix } = self;
        let glob = |wanted: &Option<Box<str>>, name: &str| {
            wanted.as_deref().is_none_or(|glob| crate::units::glob_matches(glob, name))
        };
        glob(agent, &author.agent)
            && glob(model, &author.model)
            && glob(route, &author.route)
            && older_than.is_none_or(|least| age > least)
            && prefix.as_deref().is_none_or(|prefix| key.begins_with(prefix))
    }
}

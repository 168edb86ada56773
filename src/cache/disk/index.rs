//! Where the answers are on disk, kept in memory.
//!
//! Sixteen maps, so that none is ever long in growing. Readers of the hot path ask whether a key is
//! there; the owner of the files alone puts places in.
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::RwLock;

use crate::cache::{Key, KeyBits};

const SHARDS: usize = 16;

/// A record in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u32,
    pub(super) offset: u32,
    /// Of head and payload.
    pub(super) len: u32,
    /// Milliseconds since 1970.
    pub(super) expires: u64,
}

#[derive(Default)]
pub(super) struct Index {
    shards: [RwLock<HashMap<Key, Place, BuildHasherDefault<KeyBits>>>; SHARDS],
    len: AtomicU64,
}

impl Index {
    pub(super) fn get(&self, key: &Key) -> Option<Place> {
        self.shards[shard(key)].read().get(key).copied()
    }

    /// Whether this record is the one that is given for that key.
    pub(super) fn names(&self, key: &Key, segment: u32, offset: u32) -> bool {
        self.get(key).is_some_and(|it| (it.segment, it.offset) == (segment, offset))
    }

    pub(super) fn len(&self) -> u64 {
        self.len.load(Relaxed)
    }

    /// Unless a newer record of that key is known.
    pub(super) fn put(&self, key: Key, place: Place) {
        let mut places = self.shards[shard(&key)].write();
        let age = |place: &Place| (place.segment, place.offset);
        if places.get(&key).is_none_or(|known| age(known) < age(&place)) {
            let before = places.insert(key, place);
            self.len.fetch_add(u64::from(before.is_none()), Relaxed);
        }
    }

    pub(super) fn remove(&self, key: &Key) {
        let gone = self.shards[shard(key)].write().remove(key);
        self.len.fetch_sub(u64::from(gone.is_some()), Relaxed);
    }

    /// Unless another record has taken its place. Whether it was there.
    pub(super) fn remove_record(&self, key: &Key, segment: u32, offset: u32) -> bool {
        let mut places = self.shards[shard(key)].write();
        let known = places.get(key).is_some_and(|it| (it.segment, it.offset) == (segment, offset));
        if known {
            places.remove(key);
            self.len.fetch_sub(1, Relaxed);
        }
        known
    }

    /// Takes out all that is in a segment.
    pub(super) fn cut(&self, segment: u32) {
        for shard in &self.shards {
            let mut places = shard.write();
            let before = places.len();
            places.retain(|_, it| it.segment != segment);
            self.len.fetch_sub((before - places.len()) as u64, Relaxed);
            if places.len() < places.capacity() / 4 {
                places.shrink_to_fit();
            }
        }
    }
}

fn shard(key: &Key) -> usize {
    // not one of the bytes that the maps go by
    usize::from(key.0[31]) % SHARDS
}

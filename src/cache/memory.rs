//! The first tier: answers in memory, bounded by what they weigh.
//!
//! Sixteen maps, each behind a lock of its own and in the order of use; one budget for all. Every
//! use takes the next number of one counter, and every shard shows the number of its oldest entry,
//! so the entry that leaves first is the least recently used of all shards, not of one. When `put`
//! returns, the total is within the budget. Answers out of date leave when they are asked for, when
//! they are the oldest, or by [`Memory::sweep`]. Nothing waits for anything but a lock that is held
//! for a look-up, except in a purge, which walks each shard once.
#[cfg(test)]
pub(super) mod tests;

use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use lru::LruCache;
use parking_lot::Mutex;

use super::entry::{Entry, Filter, Purged};
use super::key::{Key, KeyBits};

const SHARDS: usize = 16;
/// Entries that a sweep looks at before it lets others have the lock.
const LOOK: usize = 4096;
/// The number of the oldest entry of a shard that has none.
const NONE: u64 = u64::MAX;

pub struct Memory {
    shards: [Shard; SHARDS],
    /// Numbers of uses.
    uses: AtomicU64,
    budget: AtomicU64,
    bytes: AtomicU64,
    entries: AtomicU64,
    stores: AtomicU64,
    evictions: AtomicU64,
    expired: AtomicU64,
}

/// On a cache line of its own.
#[repr(align(64))]
struct Shard {
    slots: Mutex<Slots>,
    /// When its oldest entry was used; written with the lock held.
    oldest: AtomicU64,
}

type Slots = LruCache<Key, Slot, BuildHasherDefault<KeyBits>>;

struct Slot {
    entry: Arc<Entry>,
    used: u64,
}

/// What is there, and what has happened since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryFigures {
    pub entries: u64,
    /// What they weigh.
    pub bytes: u64,
    pub budget: u64,
    pub stores: u64,
    /// Taken out to make room.
    pub evictions: u64,
    /// Taken out because their time was over.
    pub expired: u64,
}

impl Memory {
    /// `budget`: most bytes, as [`Entry::weight`] counts them.
    pub fn new(budget: u64) -> Self {
        Self {
            shards: std::array::from_fn(|_| Shard {
                slots: Mutex::new(LruCache::unbounded_with_hasher(BuildHasherDefault::default())),
                oldest: AtomicU64::new(NONE),
            }),
            uses: AtomicU64::new(0),
            budget: AtomicU64::new(budget),
            bytes: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            stores: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
            expired: AtomicU64::new(0),
        }
    }

    /// Makes room at once where the new budget is lower.
    pub fn set_budget(&self, budget: u64) {
        self.budget.store(budget, Relaxed);
        self.make_room();
    }

    /// The answer, if it is there and may still be given.
    pub fn get(&self, key: &Key, now: SystemTime) -> Option<Arc<Entry>> {
        let shard = self.shard(key);
        let mut slots = shard.slots.lock();
        let slot = slots.get_mut(key)?;
        if slot.entry.left(now).is_some() {
            let entry = Arc::clone(&slot.entry);
            let before = std::mem::replace(&mut slot.used, self.uses.fetch_add(1, Relaxed));
            // only the oldest one leaves its place to another
            if before == shard.oldest.load(Relaxed) {
                shard.show_oldest(&slots);
            }
            return Some(entry);
        }
        let gone = slots.pop(key);
        self.forget(shard, &slots, gone.as_ref());
        self.expired.fetch_add(1, Relaxed);
        // freed without the lock
        drop(slots);
        drop(gone);
        None
    }

    /// Keeps it in the place of any before. `false`: it is larger than the budget.
    pub fn put(&self, key: Key, entry: Arc<Entry>) -> bool {
        if entry.weight() > self.budget.load(Relaxed) {
            self.remove(&key);
            return false;
        }
        let shard = self.shard(&key);
        let before = self.insert(shard, &mut shard.slots.lock(), key, entry);
        drop(before);
        self.make_room();
        true
    }

    /// Keeps it unless another one is there already; that one is the answer then.
    pub fn put_new(&self, key: Key, entry: Arc<Entry>, now: SystemTime) -> Arc<Entry> {
        if entry.weight() > self.budget.load(Relaxed) {
            return entry;
        }
        let shard = self.shard(&key);
        let mut slots = shard.slots.lock();
        let there = slots.peek(&key).filter(|slot| slot.entry.left(now).is_some());
        if let Some(there) = there {
            return Arc::clone(&there.entry);
        }
        let before = self.insert(shard, &mut slots, key, Arc::clone(&entry));
        drop(slots);
        drop(before);
        self.make_room();
        entry
    }

    /// What was there before is freed by the caller, without the lock.
    fn insert(
        &self,
        shard: &Shard,
        slots: &mut Slots,
        key: Key,
        entry: Arc<Entry>,
    ) -> Option<Slot> {
        self.bytes.fetch_add(entry.weight(), Relaxed);
        self.entries.fetch_add(1, Relaxed);
        self.stores.fetch_add(1, Relaxed);
        let before = slots.put(key, Slot { entry, used: self.uses.fetch_add(1, Relaxed) });
        self.forget(shard, slots, before.as_ref());
        before
    }

    /// Whether it was there.
    pub fn remove(&self, key: &Key) -> bool {
        let shard = self.shard(key);
        let mut slots = shard.slots.lock();
        let gone = slots.pop(key);
        self.forget(shard, &slots, gone.as_ref());
        drop(slots);
        gone.is_some()
    }

    /// Takes out what the filter means. Walks all entries.
    pub fn purge(&self, filter: &Filter, now: SystemTime) -> Purged {
        let mut purged = Purged::default();
        for shard in &self.shards {
            let meant =
                |key: &Key, slot: &Slot| filter.takes(key, &slot.entry.author, slot.entry.age(now));
            purged.memory += self.take(shard, usize::MAX, meant).0;
        }
        purged
    }

    /// Takes out what is out of date, as far as it is found among those not used for longest: one
    /// that was used after them is found when it is asked for, or once it is among them.
    pub fn sweep(&self, now: SystemTime) {
        for shard in &self.shards {
            loop {
                let over = |_: &Key, slot: &Slot| slot.entry.left(now).is_none();
                let (taken, looked) = self.take(shard, LOOK, over);
                self.expired.fetch_add(taken, Relaxed);
                // where half of them were out of date, more may be
                if looked < LOOK || taken < LOOK as u64 / 2 {
                    break;
                }
            }
        }
    }

    pub fn figures(&self) -> MemoryFigures {
        MemoryFigures {
            entries: self.entries.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            budget: self.budget.load(Relaxed),
            stores: self.stores.load(Relaxed),
            evictions: self.evictions.load(Relaxed),
            expired: self.expired.load(Relaxed),
        }
    }

    fn shard(&self, key: &Key) -> &Shard {
        // not one of the bytes that the maps go by
        &self.shards[usize::from(key.0[31]) % SHARDS]
    }

    /// Counts out what has left `slots`, whose lock is held.
    fn forget(&self, shard: &Shard, slots: &Slots, gone: Option<&Slot>) {
        if let Some(gone) = gone {
            self.bytes.fetch_sub(gone.entry.weight(), Relaxed);
            self.entries.fetch_sub(1, Relaxed);
        }
        shard.show_oldest(slots);
    }

    /// Takes out, of the `most` oldest entries of a shard, those that are meant. How many were
    /// taken, and how many looked at.
    fn take(
        &self,
        shard: &Shard,
        most: usize,
        meant: impl Fn(&Key, &Slot) -> bool,
    ) -> (u64, usize) {
        let mut slots = shard.slots.lock();
        let looked = slots.len().min(most);
        let oldest = slots.iter().rev().take(most);
        let keys: Vec<Key> =
            oldest.filter(|(key, slot)| meant(key, slot)).map(|(key, _)| *key).collect();
        let gone: Vec<Slot> = keys.iter().filter_map(|key| slots.pop(key)).collect();
        for slot in &gone {
            self.forget(shard, &slots, Some(slot));
        }
        drop(slots);
        (gone.len() as u64, looked)
    }

    /// Takes out the least recently used until the rest is within the budget.
    fn make_room(&self) {
        while self.bytes.load(Relaxed) > self.budget.load(Relaxed) {
            let oldest = |shard: &&Shard| shard.oldest.load(Relaxed);
            let Some(shard) = self.shards.iter().min_by_key(oldest) else { return };
            if oldest(&shard) == NONE {
                return;
            }
            let mut slots = shard.slots.lock();
            let gone = slots.pop_lru().map(|(_, slot)| slot);
            self.forget(shard, &slots, gone.as_ref());
            drop(slots);
            self.evictions.fetch_add(u64::from(gone.is_some()), Relaxed);
        }
    }
}

impl Shard {
    fn show_oldest(&self, slots: &Slots) {
        let oldest = slots.peek_lru().map_or(NONE, |(_, slot)| slot.used);
        self.oldest.store(oldest, Relaxed);
    }
}

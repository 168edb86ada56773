//! Entries that were served wrongly once, by name.
//!
//! They are kept apart from the partitions, so that one that comes back, or whose partition was
//! given up, stays out. Bounded: the oldest of [`MOST`] is let go.
use std::collections::{HashMap, VecDeque};

use crate::cache::Key;

const MOST: usize = 1 << 15;

/// What an entry may no longer be given by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ban {
    Likeness,
    /// By likeness and by its folded form.
    Both,
}

#[derive(Debug, Default)]
pub struct Quarantine {
    bans: HashMap<Key, Ban>,
    order: VecDeque<Key>,
}

impl Quarantine {
    /// Whether that is new. A ban grows, and never shrinks.
    pub fn put(&mut self, entry: Key, ban: Ban) -> bool {
        let old = self.bans.get(&entry).copied();
        if old >= Some(ban) {
            return false;
        }
        self.bans.insert(entry, ban);
        if old.is_none() {
            self.order.push_back(entry);
        }
        if self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.bans.remove(&oldest);
        }
        true
    }

    pub fn get(&self, entry: &Key) -> Option<Ban> {
        self.bans.get(entry).copied()
    }
}

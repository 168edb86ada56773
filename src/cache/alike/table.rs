//! All partitions by name, bounded in bytes: the one that was used longest ago goes first.
//!
//! The table's lock is held for a few map operations, never while rows are searched. Each partition
//! has its own; the bytes that all take change under that one, so that a partition which was given
//! up while somebody held it weighs nothing: it says that it is gone, and the writer asks again. The
//! table's lock may be taken inside a partition's; nobody waits for a partition's inside the table's.
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::quarantine::{Ban, Quarantine};
use super::rows::Rows;
use super::standing::Standing;
use crate::cache::Key;

/// What a partition takes beside its rows: its maps and its places in the table, about.
const OVERHEAD: u64 = 1280;

/// The questions that may share answers.
#[derive(Debug)]
pub struct Partition {
    pub standing: Arc<Standing>,
    inside: RwLock<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    rows: Rows,
    gone: bool,
}

#[derive(Debug)]
pub struct Table {
    budget: u64,
    bytes: AtomicU64,
    lists: Mutex<Lists>,
}

#[derive(Debug, Default)]
struct Lists {
    partitions: HashMap<Key, Slot>,
    /// By the time of their last use; the lowest was longest ago.
    by_use: BTreeMap<u64, Key>,
    uses: u64,
    /// By policy.
    standings: HashMap<Arc<str>, Arc<Standing>>,
    quarantine: Quarantine,
    given_up: u64,
}

#[derive(Debug)]
struct Slot {
    partition: Arc<Partition>,
    used: u64,
}

impl Partition {
    pub fn read<T>(&self, look: impl FnOnce(&Rows) -> T) -> T {
        look(&self.inside.read().rows)
    }
}

impl Table {
    pub fn new(budget: u64) -> Self {
        Self { budget, bytes: AtomicU64::new(0), lists: Mutex::default() }
    }

    /// Bytes of all partitions, about.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub fn budget(&self) -> u64 {
        self.budget
    }

    /// Partitions that had to go for others.
    pub fn given_up(&self) -> u64 {
        self.lists.lock().given_up
    }

    /// A partition, if it is there; it counts as used. And what is known of the policy.
    pub fn find(&self, name: &Key, policy: &Arc<str>) -> (Option<Arc<Partition>>, Arc<Standing>) {
        let mut lists = self.lists.lock();
        let partition = lists.touch(name);
        let standing = match &partition {
            Some(partition) => partition.standing.clone(),
            None => lists.standing(policy),
        };
        (partition, standing)
    }

    /// Without counting as a use.
    pub fn peek(&self, name: &Key) -> Option<Arc<Partition>> {
        self.lists.lock().partitions.get(name).map(|slot| slot.partition.clone())
    }

    /// Changes the rows of a partition, which is made if it is not there.
    pub fn change<T>(
        &self,
        name: &Key,
        policy: &Arc<str>,
        mut change: impl FnMut(&mut Rows) -> T,
    ) -> T {
        loop {
            let partition = self.lists.lock().make(name, policy, &self.bytes);
            if let Some(done) = self.write(&partition, &mut change) {
                self.shrink();
                return done;
            }
        }
    }

    /// Changes the rows of one that is at hand. `None`: it is gone.
    pub fn write<T>(
        &self,
        partition: &Partition,
        change: impl FnOnce(&mut Rows) -> T,
    ) -> Option<T> {
        let mut inside = partition.inside.write();
        if inside.gone {
            return None;
        }
        let before = inside.rows.bytes();
        let done = change(&mut inside.rows);
        let after = inside.rows.bytes();
        // wraps around where it has become less
        self.bytes.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
        Some(done)
    }

    /// Gives partitions up until the rest fits.
    fn shrink(&self) {
        while self.bytes() > self.budget {
            let given_up = self.lists.lock().give_up();
            let Some(partition) = given_up else { return };
            self.close(&partition);
        }
    }

    /// Its bytes count no more; whoever still holds it finds it gone.
    fn close(&self, partition: &Partition) {
        let mut inside = partition.inside.write();
        let rows = std::mem::take(&mut inside.rows);
        inside.gone = true;
        drop(inside);
        self.bytes.fetch_sub(rows.bytes() + OVERHEAD, Ordering::Relaxed);
    }

    /// Takes partitions without rows out.
    pub fn tidy(&self) {
        for (name, _) in self.all() {
            if self.lists.lock().remove_empty(&name) {
                self.bytes.fetch_sub(OVERHEAD, Ordering::Relaxed);
            }
        }
    }

    /// Every partition that is there now.
    pub fn all(&self) -> Vec<(Key, Arc<Partition>)> {
        let lists = self.lists.lock();
        lists.partitions.iter().map(|(name, slot)| (*name, slot.partition.clone())).collect()
    }

    pub fn standings(&self) -> Vec<Arc<Standing>> {
        self.lists.lock().standings.values().cloned().collect()
    }

    pub fn standing(&self, policy: &str) -> Option<Arc<Standing>> {
        self.lists.lock().standings.get(policy).cloned()
    }

    pub fn ban(&self, entry: Key, ban: Ban) -> bool {
        self.lists.lock().quarantine.put(entry, ban)
    }

    pub fn banned(&self, entry: &Key) -> Option<Ban> {
        self.lists.lock().quarantine.get(entry)
    }
}

impl Lists {
    fn touch(&mut self, name: &Key) -> Option<Arc<Partition>> {
        let slot = self.partitions.get_mut(name)?;
        self.by_use.remove(&slot.used);
        self.uses += 1;
        slot.used = self.uses;
        self.by_use.insert(self.uses, *name);
        Some(slot.partition.clone())
    }

    fn standing(&mut self, policy: &Arc<str>) -> Arc<Standing> {
        if let Some(standing) = self.standings.get(policy) {
            return standing.clone();
        }
        let standing = Arc::new(Standing::new(policy.clone()));
        self.standings.insert(policy.clone(), standing.clone());
        standing
    }

    fn make(&mut self, name: &Key, policy: &Arc<str>, bytes: &AtomicU64) -> Arc<Partition> {
        if let Some(partition) = self.touch(name) {
            return partition;
        }
        let standing = self.standing(policy);
        let partition = Arc::new(Partition { standing, inside: RwLock::default() });
        self.uses += 1;
        let slot = Slot { partition: partition.clone(), used: self.uses };
        self.by_use.insert(self.uses, *name);
        self.partitions.insert(*name, slot);
        bytes.fetch_add(OVERHEAD, Ordering::Relaxed);
        partition
    }

    /// The one that was used longest ago; never the last one.
    fn give_up(&mut self) -> Option<Arc<Partition>> {
        if self.partitions.len() < 2 {
            return None;
        }
        let (_, name) = self.by_use.pop_first()?;
        self.given_up += 1;
        self.partitions.remove(&name).map(|slot| slot.partition)
    }

    /// Takes a partition out that has no rows, and that nobody is changing.
    fn remove_empty(&mut self, name: &Key) -> bool {
        let Some(slot) = self.partitions.get(name) else { return false };
        let Some(mut inside) = slot.partition.inside.try_write() else { return false };
        if !inside.rows.is_empty() {
            return false;
        }
        inside.gone = true;
        drop(inside);
        self.by_use.remove(&slot.used);
        self.partitions.remove(name);
        true
    }
}

#[cfg(test)]
mod tests;

//! What each policy keeps, apart from what others keep: a [`Space`] has both tiers.
//!
//! Spaces outlive reloads: a policy of the same name finds its answers again, under new budgets.
//! What belongs to no policy any more is deleted, in memory and on disk.
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::RwLock;

use super::disk::{Disk, DiskFigures};
use super::entry::{Entry, Filter, Purged};
use super::key::Key;
use super::memory::{Memory, MemoryFigures};
use crate::config;

/// All spaces, by the name of their policy.
pub struct Spaces {
    directory: Option<PathBuf>,
    spaces: RwLock<HashMap<Arc<str>, Arc<Space>>>,
}

/// The answers of one policy.
pub struct Space {
    memory: Memory,
    disk: Option<Disk>,
    /// Held to read while an answer goes from disk to memory; see [`Space::purge`].
    moving: RwLock<()>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpaceFigures {
    pub memory: MemoryFigures,
    /// `None`: there is no directory to keep anything in.
    pub disk: Option<DiskFigures>,
}

impl Spaces {
    /// `state`: the directory of the store, if there is one. It must be this process's alone. No
    /// space exists before [`Spaces::apply`].
    pub fn new(state: Option<PathBuf>) -> Self {
        let directory = state.map(|state| state.join("cache"));
        Self { directory, spaces: RwLock::default() }
    }

    /// Makes a space for each policy that has none, gives the others their new budgets, and empties
    /// those of policies that are not named; directories that belong to none are deleted.
    pub fn apply(&self, policies: &[(Arc<str>, &config::Cache)]) {
        let mut spaces = self.spaces.write();
        spaces.retain(|name, _| policies.iter().any(|(wanted, _)| wanted == name));
        for (name, cache) in policies {
            if let Some(space) = spaces.get(name) {
                space.set_budgets(cache);
                continue;
            }
            let directory = self.directory.as_ref();
            let directory = directory.map(|all| all.join(format!("{name}.answers")));
            spaces.insert(Arc::clone(name), Arc::new(Space::new(directory, cache)));
        }
    }

    pub fn space(&self, policy: &str) -> Option<Arc<Space>> {
        self.spaces.read().get(policy).cloned()
    }

    /// Takes out what the filter means, in every tier. When it is done, none of it is given any
    /// more, and none comes back after a crash; unless [`Purged::failed`] says so.
    pub async fn purge(&self, filter: &Filter, now: SystemTime) -> Purged {
        let meant = |name: &str| {
            filter.policy.as_deref().is_none_or(|glob| crate::units::glob_matches(glob, name))
        };
        let spaces: Vec<_> = {
            let spaces = self.spaces.read();
            spaces.iter().filter(|(name, _)| meant(name)).map(|(_, it)| Arc::clone(it)).collect()
        };
        let mut purged = Purged::default();
        for space in spaces {
            purged += space.purge(filter, now).await;
        }
        purged
    }

    /// By policy, in the order of their names.
    pub fn figures(&self) -> Vec<(Arc<str>, SpaceFigures)> {
        let spaces = self.spaces.read();
        let mut figures: Vec<_> =
            spaces.iter().map(|(name, space)| (Arc::clone(name), space.figures())).collect();
        drop(spaces);
        figures.sort_by(|(a, _), (b, _)| a.cmp(b));
        figures
    }

    /// Takes what is out of date out of memory; to be called every minute or so.
    pub fn sweep(&self, now: SystemTime) {
        for space in self.spaces.read().values() {
            space.memory.sweep(now);
        }
    }

    /// Writes what waits and ends, `within` at most; whether all came to its end. Blocks.
    pub fn close(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let left = || deadline.saturating_duration_since(Instant::now());
        let spaces = std::mem::take(&mut *self.spaces.write());
        let ended: Vec<_> = spaces.values().map(|space| space.close(left())).collect();
        ended.into_iter().all(|ended| ended)
    }
}

impl Space {
    fn new(directory: Option<PathBuf>, cache: &config::Cache) -> Self {
        Self {
            memory: Memory::new(cache.memory),
            disk: directory.map(|directory| Disk::open(directory, cache.disk)),
            moving: RwLock::new(()),
        }
    }

    fn set_budgets(&self, cache: &config::Cache) {
        self.memory.set_budget(cache.memory);
        if let Some(disk) = &self.disk {
            disk.set_budget(cache.disk);
        }
    }

    /// The answer, if it is in memory. For the path of every call: one lock, no allocation.
    pub fn get_now(&self, key: &Key, now: SystemTime) -> Option<Arc<Entry>> {
        self.memory.get(key, now)
    }

    /// Whether [`Space::get_from_disk`] is worth a wait. Does not touch the disk.
    pub fn on_disk(&self, key: &Key, now: SystemTime) -> bool {
        self.disk.as_ref().is_some_and(|disk| disk.holds(key, now))
    }

    /// The answer, if it is on disk; it is in memory from then on.
    pub async fn get_from_disk(&self, key: &Key, now: SystemTime) -> Option<Arc<Entry>> {
        let disk = self.disk.as_ref()?;
        let entry = disk.get(key).await.filter(|entry| entry.left(now).is_some())?;
        let _moving = self.moving.read();
        // a purge may have come meanwhile
        if !disk.holds(key, now) {
            return None;
        }
        self.memory.put(*key, Arc::clone(&entry));
        Some(entry)
    }

    /// Keeps it in both tiers, in the place of any before. Does not wait for the disk.
    pub fn put(&self, key: Key, entry: Arc<Entry>) {
        if let Some(disk) = &self.disk {
            disk.put(key, Arc::clone(&entry));
        }
        self.memory.put(key, entry);
    }

    /// As [`Spaces::purge`], here; the policy that the filter names is not looked at.
    pub async fn purge(&self, filter: &Filter, now: SystemTime) -> Purged {
        let mut purged = Purged::default();
        if let Some(disk) = &self.disk {
            purged += disk.purge(filter, now).await;
        }
        // whoever found it on disk before has put it into memory now; nobody finds it any more
        drop(self.moving.write());
        purged += self.memory.purge(filter, now);
        purged
    }

    pub fn figures(&self) -> SpaceFigures {
        SpaceFigures { memory: self.memory.figures(), disk: self.disk.as_ref().map(Disk::figures) }
    }

    fn close(&self, within: Duration) -> bool {
        self.disk.as_ref().is_none_or(|disk| disk.close(within))
    }
}

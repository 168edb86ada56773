//! What each policy keeps, apart from what others keep: a [`Space`] has both tiers.
//!
//! Spaces outlive reloads: a policy of the same name finds its answers again, under new budgets.
//! What belongs to no policy any more is deleted, in memory and on disk.
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Mutex, RwLock};

use super::disk::{Disk, DiskFigures, Ended};
use super::entry::{Entry, Filter, Purged};
use super::key::Key;
use super::memory::{Memory, MemoryFigures};
use crate::config;

/// Below the directory of the state.
const DIRECTORY: &str = "cache";
/// Behind the name of a policy, which may be `..`.
const SUFFIX: &str = ".answers";

/// All spaces, by the name of their policy.
pub struct Spaces {
    directory: Option<PathBuf>,
    by_policy: RwLock<HashMap<Arc<str>, Arc<Space>>>,
    /// Directories that are being deleted; who needs one again waits for that.
    leaving: Mutex<HashMap<PathBuf, Ended>>,
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
        let directory = state.map(|state| state.join(DIRECTORY));
        Self { directory, by_policy: RwLock::default(), leaving: Mutex::default() }
    }

    /// Makes a space for each policy that has none, gives the others their new budgets, and empties
    /// those of policies that are not named; directories that belong to none are deleted, without
    /// waiting for it.
    pub fn apply(&self, policies: &[(Arc<str>, &config::Cache)]) {
        let mut leaving = self.leaving.lock();
        leaving.retain(|_, ended| ended.try_recv() == Err(TryRecvError::Empty));
        let mut spaces = self.by_policy.write();
        let named = |name: &Arc<str>| policies.iter().any(|(wanted, _)| wanted == name);
        for (name, space) in spaces.extract_if(|name, _| !named(name)) {
            if let (Some(directory), Some(ended)) = (self.directory_of(&name), space.delete()) {
                leaving.insert(directory, ended);
            }
        }
        for (name, cache) in policies {
            if let Some(space) = spaces.get(name) {
                space.set_budgets(cache);
                continue;
            }
            let disk = self.directory_of(name).map(|directory| {
                let after = leaving.remove(&directory);
                Disk::open_after(directory, cache.disk, after)
            });
            spaces.insert(Arc::clone(name), Arc::new(Space::new(cache.memory, disk)));
        }
        self.delete_strangers(&spaces, &mut leaving);
    }

    fn directory_of(&self, policy: &str) -> Option<PathBuf> {
        Some(self.directory.as_ref()?.join(format!("{policy}{SUFFIX}")))
    }

    /// Directories that an earlier process left, of policies that are no more.
    fn delete_strangers(
        &self,
        spaces: &HashMap<Arc<str>, Arc<Space>>,
        leaving: &mut HashMap<PathBuf, Ended>,
    ) {
        // none were ever made, or nobody can say
        let Some(Ok(found)) = self.directory.as_ref().map(fs::read_dir) else { return };
        for directory in found.filter_map(Result::ok).map(|entry| entry.path()) {
            let name = directory.file_name().and_then(|name| name.to_str()?.strip_suffix(SUFFIX));
            let stranger = name.is_some_and(|name| !spaces.contains_key(name));
            if stranger && !leaving.contains_key(&directory) {
                let ended = Disk::open(directory.clone(), 0).delete();
                leaving.extend(ended.map(|ended| (directory, ended)));
            }
        }
    }

    pub fn space(&self, policy: &str) -> Option<Arc<Space>> {
        self.by_policy.read().get(policy).cloned()
    }

    /// Takes out what the filter means, in every tier. When it is done, none of it is given any
    /// more, and none comes back after a crash; unless [`Purged::failed`] says so.
    pub async fn purge(&self, filter: &Filter, now: SystemTime) -> Purged {
        let meant = |name: &str| {
            filter.policy.as_deref().is_none_or(|glob| crate::units::glob_matches(glob, name))
        };
        let spaces: Vec<_> = {
            let spaces = self.by_policy.read();
            spaces.iter().filter(|(name, _)| meant(name)).map(|(_, it)| Arc::clone(it)).collect()
        };
        // all of them begin, also if nobody waits to the end
        let begun: Vec<_> = spaces.iter().map(|space| space.purge(filter, now)).collect();
        let mut purged = Purged::default();
        for done in begun {
            purged += done.await;
        }
        purged
    }

    /// By policy, in the order of their names.
    pub fn figures(&self) -> Vec<(Arc<str>, SpaceFigures)> {
        let spaces = self.by_policy.read();
        let mut figures: Vec<_> =
            spaces.iter().map(|(name, space)| (Arc::clone(name), space.figures())).collect();
        drop(spaces);
        figures.sort_by(|(a, _), (b, _)| a.cmp(b));
        figures
    }

    /// Takes what is out of date out of memory; to be called every minute or so.
    pub fn sweep(&self, now: SystemTime) {
        for space in self.by_policy.read().values() {
            space.memory.sweep(now);
        }
    }

    /// Writes what waits and ends, `within` at most; whether all came to its end. Blocks.
    pub fn close(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let left = || deadline.saturating_duration_since(Instant::now());
        let spaces = std::mem::take(&mut *self.by_policy.write());
        let ended: Vec<_> = spaces.values().map(|space| space.close(left())).collect();
        ended.into_iter().all(|ended| ended)
    }
}

impl Space {
    fn new(memory: u64, disk: Option<Disk>) -> Self {
        Self { memory: Memory::new(memory), disk, moving: RwLock::new(()) }
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
        // a newer one may have come meanwhile, or a purge
        if let Some(newer) = self.memory.get(key, now) {
            return Some(newer);
        }
        disk.holds(key, now).then(|| self.memory.put_new(*key, entry, now))
    }

    /// Keeps it in both tiers, in the place of any before. Does not wait for the disk.
    pub fn put(&self, key: Key, entry: Arc<Entry>) {
        if let Some(disk) = &self.disk {
            disk.put(key, Arc::clone(&entry));
        }
        self.memory.put(key, entry);
    }

    /// As [`Spaces::purge`], here; the policy that the filter names is not looked at. Begins at
    /// once, also if nobody waits for the future.
    pub fn purge(&self, filter: &Filter, now: SystemTime) -> impl Future<Output = Purged> + Send {
        let on_disk = self.disk.as_ref().map(|disk| disk.purge(filter, now));
        let mut purged = self.memory.purge(filter, now);
        async move {
            if let Some(on_disk) = on_disk {
                purged += on_disk.await;
                // who found one on disk before has put it into memory by then; now nobody finds one
                drop(self.moving.write());
                purged += self.memory.purge(filter, now);
            }
            purged
        }
    }

    pub fn figures(&self) -> SpaceFigures {
        SpaceFigures { memory: self.memory.figures(), disk: self.disk.as_ref().map(Disk::figures) }
    }

    /// Who holds the space still may put into it; nobody will find it.
    fn delete(&self) -> Option<Ended> {
        self.memory.set_budget(0);
        self.disk.as_ref()?.delete()
    }

    fn close(&self, within: Duration) -> bool {
        self.disk.as_ref().is_none_or(|disk| disk.close(within))
    }
}

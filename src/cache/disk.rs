//! The second tier: answers in a directory, there again after a restart.
//!
//! Append-only files of records (`segment.rs`, `record.rs`), written by one thread (`owner.rs`) and
//! read by others (`readers.rs`); where the answers are is known in memory (`index.rs`). Nobody who
//! puts waits: what the disk cannot take is dropped and counted. Nothing is synced but a purge: a
//! crash may cost answers, and never gives a wrong one, because what is read must have the checksum
//! that was written with it. A disk that is full, broken or gone keeps nothing and is tried again.
//!
//! The design is Bitcask's (Sheehy and Smith, 2010) without its merge: files leave oldest first.
mod files;
#[cfg(fuzzing)]
pub mod fuzz;
mod index;
mod owner;
mod queue;
mod readers;
mod record;
mod segment;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, RwLock};

use self::index::Index;
use self::queue::{End, Queue};
use self::readers::Readers;
use self::record::millis;
use self::segment::Segment;
use super::entry::{Entry, Filter, Purged};
use super::key::Key;

/// Answers in a directory, which must be this one's alone. Dropping it ends it without waiting.
pub struct Disk {
    shared: Arc<Shared>,
    owner: Mutex<Owner>,
}

/// The thread that owns the files.
enum Owner {
    /// Not needed before there is a budget. It must wait for an earlier one of the same directory.
    None { after: Option<Ended> },
    /// Disconnected when it has ended.
    Some(Ended),
}

/// Disconnected when the owner of a directory has ended; nothing is ever sent.
pub(super) type Ended = Receiver<()>;

/// What the threads share.
struct Shared {
    directory: PathBuf,
    index: Index,
    /// For reading; by their numbers.
    segments: RwLock<BTreeMap<u32, Arc<Segment>>>,
    queue: Queue,
    readers: Readers,
    budget: AtomicU64,
    bytes: AtomicU64,
    stores: AtomicU64,
    reads: AtomicU64,
    dropped: AtomicU64,
    damaged: AtomicU64,
    failures: AtomicU64,
    healthy: AtomicBool,
    scanned: AtomicBool,
}

/// What is there, and what has happened since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskFigures {
    /// Answers that can be found.
    pub records: u64,
    /// Of all files.
    pub bytes: u64,
    pub budget: u64,
    /// Weight of the answers that wait to be written.
    pub waiting: u64,
    /// Answers written.
    pub stores: u64,
    /// Answers read.
    pub reads: u64,
    /// Answers not written: too much waited, they are too large, or the disk takes nothing.
    pub dropped: u64,
    /// Records and ends of files that are not what was written; none of them was given.
    pub damaged: u64,
    /// What the system refused.
    pub failures: u64,
    /// Whether it can be written to, as far as is known.
    pub healthy: bool,
    /// Whether all that an earlier process left has been found.
    pub scanned: bool,
}

impl Disk {
    /// Never fails: a directory that cannot be used keeps nothing, says so once in the log and in
    /// the figures, and is tried again. What an earlier process left there is found by and by.
    /// Without a `budget` (in bytes of files) there is no thread, unless there is something left to
    /// delete. Blocks for a look at the directory.
    pub fn open(directory: PathBuf, budget: u64) -> Self {
        Self::open_after(directory, budget, None)
    }

    /// As [`Disk::open`], after another one has let go of the directory.
    pub(super) fn open_after(directory: PathBuf, budget: u64, after: Option<Ended>) -> Self {
        let shared = Shared::new(directory);
        let disk = Self { shared: Arc::new(shared), owner: Mutex::new(Owner::None { after }) };
        disk.set_budget(budget);
        disk
    }

    /// Deletes the oldest files where the new budget is lower; all of them where there is none.
    pub fn set_budget(&self, budget: u64) {
        self.shared.budget.store(budget, Relaxed);
        if budget > 0 || fs::exists(&self.shared.directory).unwrap_or(true) {
            self.start();
        }
        self.shared.queue.budget_changed();
    }

    fn start(&self) {
        let mut owner = self.owner.lock();
        let Owner::None { after } = &mut *owner else { return };
        match owner::start(Arc::clone(&self.shared), after.take()) {
            Ok(ended) => *owner = Owner::Some(ended),
            Err(error) => {
                let directory = self.shared.directory.display();
                tracing::warn!(%directory, %error, "no thread for the cache: no disk is used");
                self.shared.healthy.store(false, Relaxed);
                self.shared.queue.end(End::Keep);
            }
        }
    }

    /// Keeps it in the place of any before, if the disk can. Does not wait.
    pub fn put(&self, key: Key, entry: Arc<Entry>) {
        if self.shared.budget.load(Relaxed) == 0 {
            return;
        }
        // also if the new one is lost, the old one is not given any more
        self.shared.index.remove(&key);
        if !self.shared.queue.put(key, entry) {
            self.shared.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Whether it is there and may still be given. Does not touch the disk.
    pub fn holds(&self, key: &Key, now: SystemTime) -> bool {
        self.shared.index.get(key).is_some_and(|place| millis(now) < place.expires)
    }

    /// The answer, out of date or not. `None`: it is not there, it cannot be read, or too many wait.
    pub async fn get(&self, key: &Key) -> Option<Arc<Entry>> {
        self.shared.index.get(key)?;
        readers::ask(&self.shared, key).await.ok().flatten()
    }

    /// Takes out what the filter means, what waits to be written too; begins at once, also if
    /// nobody waits for the future. When that resolves, the records have been overwritten with
    /// zeros, or their files deleted, and that is synced.
    pub fn purge(
        &self,
        filter: &Filter,
        now: SystemTime,
    ) -> impl Future<Output = Purged> + Send + 'static {
        // without an owner there is nothing
        let none = matches!(*self.owner.lock(), Owner::None { .. });
        let done = (!none).then(|| self.shared.queue.purge(filter, now));
        async move {
            match done {
                None => Purged::default(),
                Some(done) => done.await.unwrap_or(Purged { failed: 1, ..Purged::default() }),
            }
        }
    }

    pub fn figures(&self) -> DiskFigures {
        let shared = &self.shared;
        DiskFigures {
            records: shared.index.len(),
            bytes: shared.bytes.load(Relaxed),
            budget: shared.budget.load(Relaxed),
            waiting: shared.queue.bytes(),
            stores: shared.stores.load(Relaxed),
            reads: shared.reads.load(Relaxed),
            dropped: shared.dropped.load(Relaxed),
            damaged: shared.damaged.load(Relaxed),
            failures: shared.failures.load(Relaxed),
            healthy: shared.healthy.load(Relaxed),
            scanned: shared.scanned.load(Relaxed),
        }
    }

    /// Takes no more and writes what waits, `within` at most; whether it came to its end. Blocks.
    pub fn close(&self, within: Duration) -> bool {
        self.end(End::Keep);
        match &*self.owner.lock() {
            Owner::None { .. } => true,
            Owner::Some(ended) => {
                matches!(ended.recv_timeout(within), Err(RecvTimeoutError::Disconnected))
            }
        }
    }

    /// Takes no more and deletes the directory with all that is in it. Does not wait for it: the
    /// next one of that directory must.
    pub(super) fn delete(&self) -> Option<Ended> {
        // what no process of today has looked at is deleted too
        self.start();
        self.end(End::Delete);
        match std::mem::replace(&mut *self.owner.lock(), Owner::None { after: None }) {
            Owner::None { .. } => None,
            Owner::Some(ended) => Some(ended),
        }
    }

    fn end(&self, end: End) {
        self.shared.queue.end(end);
        readers::close(&self.shared);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.end(End::Keep);
    }
}

impl Shared {
    fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            index: Index::default(),
            segments: RwLock::default(),
            queue: Queue::default(),
            readers: Readers::default(),
            budget: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            stores: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            damaged: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            healthy: AtomicBool::new(true),
            scanned: AtomicBool::new(false),
        }
    }

    /// The answer in the record that the index names. Blocks.
    fn read(&self, key: &Key) -> Option<Entry> {
        let place = self.index.get(key)?;
        let segment = self.segments.read().get(&place.segment).cloned()?;
        let read = segment.read(place.offset.into(), place.len, key);
        let counter = match read {
            Ok(Some(entry)) => {
                self.reads.fetch_add(1, Relaxed);
                return Some(entry);
            }
            Ok(None) => &self.damaged,
            Err(_) => &self.failures,
        };
        // unless it was purged or deleted meanwhile
        if self.index.remove_record(key, place.segment, place.offset) {
            counter.fetch_add(1, Relaxed);
        }
        None
    }
}

//! The second tier: answers on disk. Keeps nothing yet.
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::entry::{Entry, Filter, Purged};
use super::key::Key;

pub struct Disk {}

/// What is there, and what has happened since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskFigures {
    /// Answers that can be given.
    pub records: u64,
    /// Of all files.
    pub bytes: u64,
    pub budget: u64,
    /// Records written.
    pub stores: u64,
    /// Answers read and given.
    pub reads: u64,
    /// Answers not written because too much waited, or because the disk takes nothing.
    pub dropped: u64,
    /// Records that did not hold what was written; none of them was given.
    pub damaged: u64,
    /// Writes and reads that the system refused.
    pub failures: u64,
    /// Whether it can be used, as far as is known.
    pub healthy: bool,
    /// Whether all that an earlier process left has been found.
    pub scanned: bool,
}

impl Disk {
    pub fn open(_directory: PathBuf, _budget: u64) -> Self {
        Self {}
    }

    pub fn set_budget(&self, _budget: u64) {}

    pub fn put(&self, _key: Key, _entry: Arc<Entry>) {}

    pub fn holds(&self, _key: &Key, _now: SystemTime) -> bool {
        false
    }

    #[allow(clippy::unused_async)]
    pub async fn get(&self, _key: &Key) -> Option<Arc<Entry>> {
        None
    }

    #[allow(clippy::unused_async)]
    pub async fn purge(&self, _filter: &Filter, _now: SystemTime) -> Purged {
        Purged::default()
    }

    pub fn figures(&self) -> DiskFigures {
        DiskFigures::default()
    }

    pub fn close(&self, _within: Duration) -> bool {
        true
    }
}

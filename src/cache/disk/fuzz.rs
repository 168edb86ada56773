//! A door for the fuzzer, there only under `--cfg fuzzing`: a directory as a start finds it, without
//! threads, and records with right checksums around a payload that nobody wrote.
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

pub use super::record::fuzz::decoded;

use super::Shared;
use super::files::Files;
use crate::cache::{Entry, Filter, Key, Purged};

/// What is found in a directory.
pub struct Found {
    shared: Arc<Shared>,
    files: Files,
}

impl Found {
    pub fn open(directory: &Path, budget: u64) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(directory.to_owned()));
        shared.budget.store(budget, Relaxed);
        let mut files = Files::new(Arc::clone(&shared));
        files.list()?;
        while !files.are_scanned() {
            files.scan();
        }
        Ok(Self { shared, files })
    }

    pub fn write(&mut self, key: &Key, entry: &Entry) -> io::Result<bool> {
        self.files.write(key, entry)
    }

    pub fn read(&self, key: &Key) -> Option<Entry> {
        self.shared.read(key)
    }

    pub fn purge(&mut self, filter: &Filter, now: SystemTime) -> Purged {
        self.files.purge(filter, now)
    }

    /// Records and ends of files that are not what was written.
    pub fn damaged(&self) -> u64 {
        self.shared.damaged.load(Relaxed)
    }
}

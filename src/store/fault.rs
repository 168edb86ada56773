//! What can go wrong with the store: at its start, and later.
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why the store cannot be used. Every text names the directory or the file.
#[derive(Debug, Error)]
pub enum StoreError {
    #[error("state: {} cannot be used: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "state: another process has {} open; each instance needs a directory of its own",
        directory.display()
    )]
    InUse { directory: PathBuf },
    #[error(
        "state: {} is damaged or no database of Tidegate's: {why}; restore it from a copy, or move \
         it away to begin anew without its budgets and keys",
        path.display()
    )]
    Damaged { path: PathBuf, why: String },
    #[error("state: {} was written by a newer version of Tidegate", path.display())]
    Newer { path: PathBuf },
    #[error(
        "state: {} must hold the 64 hexadecimal digits that it was made with: no stored key can be \
         told without them; restore it from a copy",
        path.display()
    )]
    Pepper { path: PathBuf },
    #[error("state: the table {table} cannot be read: {source}")]
    Read { table: &'static str, source: Box<redb::Error> },
    #[error("state: what the start makes of tasks cannot be written down: {why}")]
    Unwritten { why: Failed },
    #[error("state: the system gives no random bytes")]
    Random,
    #[error("state: the store is closed")]
    Closed,
}

impl StoreError {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// Why a write was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Failed {
    #[error("the store has failed and keeps nothing any more")]
    Broken,
    #[error("too many writes wait for the disk")]
    Full,
    #[error("the store is closed")]
    Closed,
    /// For what is new alone: see [`super::Store::admit`].
    #[error("the disk is full: nothing new is kept until there is room")]
    NoSpace,
}

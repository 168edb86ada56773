//! What outlives the process: an embedded database in the directory that `state` names.
//!
//! One thread writes; what came together is one commit (group commit), so callers never wait for
//! the disk and a thousand writes cost the syncs of a few. Two strengths: [`Store::put`] is kept
//! within half a second and the newest value of a key wins; [`Store::write`] tells when its
//! operations are on the disk, all of them or none. A full disk costs only what is new its
//! admission ([`Store::admit`]); all else is written into room that was held back. Once a write has
//! failed otherwise nothing is kept any more: the store says so once and in [`Store::healthy`], and
//! the process goes on.
//!
//! It knows bytes, and the keys of agents (`store/keys.rs`); what a budget means is its owner's
//! affair. The file is redb's: a copy-on-write B-tree that a crash leaves as the last commit made
//! it. One process at a time.
mod ballast;
mod base;
mod directory;
mod fault;
mod keys;
mod queue;
mod secret;
mod table;
mod writer;

#[cfg(test)]
pub(crate) mod tests;

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;

pub use self::directory::{DATABASE, TOKEN, read_pepper, read_token};
pub use self::fault::{Failed, StoreError};
pub use self::keys::{KeyBook, KeyError, KeyHmac, KeyRecord, KeyView, NewRecord};
pub use self::secret::{NewKey, Pepper, Token};
pub use self::table::{NewRow, Op, Table};

use self::ballast::Ballast;
use self::base::Base;
use self::queue::Queue;
use self::writer::Writer;

/// Between two tries to open a database that another process holds.
const RETRY: Duration = Duration::from_millis(50);

/// How long a drop may wait for the disk.
const DROP_PATIENCE: Duration = Duration::from_secs(1);

/// An open database. Dropping it closes it, with little patience: [`Store::close`] it before.
pub struct Store {
    directory: PathBuf,
    pepper: Pepper,
    keys: KeyBook,
    queue: Arc<Queue>,
    base: Arc<Base>,
    /// Disconnected when the writer has ended.
    ended: Mutex<Receiver<()>>,
}

/// A key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// What has been written since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Commits, each of them synced.
    pub commits: u64,
    /// Operations asked for; one that replaced another before it was written counts as well.
    pub operations: u64,
    /// Operations refused because too many waited.
    pub refused: u64,
    /// Bytes free on its disk, as of a minute ago at most; `None` where that cannot be told.
    pub free: Option<u64>,
}

impl Store {
    /// Opens or makes the database in `directory`, which is made if need be (mode 0700; its parent
    /// must be there). Blocks for a few milliseconds. Only one process can have it open.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        directory::make(directory)?;
        let first = Mutex::new(Some(directory::database(directory)?));
        let at = directory.to_owned();
        let opener = move || match first.lock().take() {
            Some(opened) => Ok(opened),
            None => directory::reopen(&at, false),
        };
        let base = Base::new(Box::new(opener))?;
        Self::start(directory, base, Ballast::new(directory))
    }

    /// As [`Store::open`]; waits for another process to let go of it, `patience` at most: the
    /// command line may have it open for a moment.
    pub fn open_patiently(directory: &Path, patience: Duration) -> Result<Self, StoreError> {
        let deadline = Instant::now() + patience;
        loop {
            match Self::open(directory) {
                Err(StoreError::InUse { .. }) if Instant::now() < deadline => {
                    thread::park_timeout(RETRY);
                }
                opened => return opened,
            }
        }
    }

    fn start(directory: &Path, base: Base, ballast: Ballast) -> Result<Self, StoreError> {
        let rows = read(&base, Table::Keys)?;
        let pepper = directory::pepper(directory, !rows.is_empty())?;
        let (base, queue) = (Arc::new(base), Arc::new(Queue::default()));
        let keys = KeyBook::new(rows, Arc::clone(&queue));
        let ended = Writer::start(directory, Arc::clone(&base), Arc::clone(&queue), ballast)?;
        let (directory, ended) = (directory.to_owned(), Mutex::new(ended));
        Ok(Self { directory, pepper, keys, queue, base, ended })
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The key of the keyed hashes in the table of keys.
    pub fn pepper(&self) -> &Pepper {
        &self.pepper
    }

    /// The keys that are kept here.
    pub fn keys(&self) -> &KeyBook {
        &self.keys
    }

    /// Makes a new token and writes it to the directory, for its owner alone: who knows it can
    /// read the directory. A token made before no longer counts. Blocks for a small write.
    pub fn new_token(&self) -> Result<Token, StoreError> {
        directory::token(&self.directory)
    }

    /// Keeps a value within half a second; until then a newer one takes its place. Nothing is
    /// allocated for a key that waits already. When the store has failed, or too many keys wait,
    /// it is not kept: [`Store::healthy`] and [`Store::figures`] tell.
    pub fn put(&self, table: Table, key: &[u8], value: &[u8]) {
        self.queue.put(table, key, Some(value));
    }

    /// Takes a key out within half a second.
    pub fn delete(&self, table: Table, key: &[u8]) {
        self.queue.put(table, key, None);
    }

    /// Keeps all of `ops` or none. `on_durable` runs once: when they are on the disk, or when
    /// they will never be. It runs on the writer's thread (here, if the store takes nothing any
    /// more), so it must be short and must not panic.
    pub fn write(
        &self,
        ops: Vec<Op>,
        on_durable: impl FnOnce(Result<(), Failed>) + Send + 'static,
    ) {
        self.queue.write(ops, Box::new(on_durable), false);
    }

    /// As [`Store::write`], for async callers.
    pub fn durably(&self, ops: Vec<Op>) -> Ack {
        self.queue.durably(ops)
    }

    /// As [`Store::write`]; on an error, which comes at once, `on_durable` has not run and will
    /// not. So it can be called under a lock that `on_durable` takes too.
    pub fn try_write(
        &self,
        ops: Vec<Op>,
        on_durable: impl FnOnce(Result<(), Failed>) + Send + 'static,
    ) -> Result<(), Failed> {
        self.queue.try_write(ops, Box::new(on_durable), false).map_err(|(why, _)| why)
    }

    /// Keeps rows that are new, all of them or none: those alone are refused when the disk is
    /// full. Nobody else may write their keys before `on_durable` has run. Else as
    /// [`Store::try_write`].
    pub fn admit(
        &self,
        rows: Vec<NewRow>,
        on_durable: impl FnOnce(Result<(), Failed>) + Send + 'static,
    ) -> Result<(), Failed> {
        self.queue.admit(rows, Box::new(on_durable))
    }

    /// As [`Store::put`], of something bulky. Gives it back if too much waits, or if nothing is
    /// kept any more.
    pub fn keep(
        &self,
        table: Table,
        key: impl Into<Box<[u8]>>,
        value: Vec<u8>,
    ) -> Result<(), Vec<u8>> {
        self.queue.keep(table, key.into(), value)
    }

    /// All of a table as it is on the disk; writes that wait are not in it. Blocks: for the start.
    pub fn scan(&self, table: Table) -> Result<Vec<Row>, StoreError> {
        read(&self.base, table)
    }

    /// One value as it is on the disk. Blocks.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.base.get(table, key)
    }

    /// Hands over each row whose key begins with `prefix`, from the key `from` on and in order,
    /// as they are on the disk at the beginning; `false` ends it. Blocks, and keeps a full disk
    /// from being mended meanwhile: `each` must be short, and must not come back here.
    pub fn each(
        &self,
        table: Table,
        prefix: &[u8],
        from: &[u8],
        mut each: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        self.base.each(table, prefix, from, &mut each)
    }

    /// All rows whose key begins with `prefix`. Blocks.
    pub fn range(&self, table: Table, prefix: &[u8]) -> Result<Vec<Row>, StoreError> {
        let mut rows = Vec::new();
        self.base.each(table, prefix, prefix, &mut |key, value| {
            rows.push((key.to_vec(), value.to_vec()));
            true
        })?;
        Ok(rows)
    }

    /// Whether something new is admitted: `false` while the disk is full.
    pub fn has_room(&self) -> bool {
        !self.queue.short.load(Relaxed)
    }

    /// Whether writes are kept.
    pub fn healthy(&self) -> bool {
        !self.queue.failed.load(Relaxed)
    }

    pub fn figures(&self) -> Figures {
        Figures {
            commits: self.queue.commits.load(Relaxed),
            operations: self.queue.operations.load(Relaxed),
            refused: self.queue.refused.load(Relaxed),
            free: Some(self.queue.free.load(Relaxed)).filter(|free| *free > 0),
        }
    }

    /// Writes what waits, and waits for it `within` at most; says whether it is on the disk.
    /// Blocks.
    pub fn flush(&self, within: Duration) -> bool {
        let (done, is_done) = sync_channel(1);
        let said = move |result: Result<(), Failed>| {
            // nobody may be waiting any more
            let _ = done.try_send(result.is_ok());
        };
        self.queue.write(Vec::new(), Box::new(said), true);
        is_done.recv_timeout(within).unwrap_or(false)
    }

    /// Takes no more, writes what waits and lets go of the file; waits for it `within` at most
    /// and says whether all is done and kept. Blocks.
    pub fn close(&self, within: Duration) -> bool {
        self.queue.close();
        let ended =
            matches!(self.ended.lock().recv_timeout(within), Err(RecvTimeoutError::Disconnected));
        ended && self.healthy()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close(DROP_PATIENCE);
    }
}

/// Resolves when the operations are on the disk, or never will be.
#[derive(Debug)]
pub struct Ack(oneshot::Receiver<Result<(), Failed>>);

impl Future for Ack {
    type Output = Result<(), Failed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let said = ready!(Pin::new(&mut self.0).poll(cx));
        // a writer that died has said nothing
        Poll::Ready(said.unwrap_or(Err(Failed::Broken)))
    }
}

/// Whether there is a database in `directory`.
pub fn exists(directory: &Path) -> bool {
    fs::exists(directory.join(DATABASE)).unwrap_or(true)
}

fn read(base: &Base, table: Table) -> Result<Vec<Row>, StoreError> {
    let mut rows = Vec::new();
    base.each(table, &[], &[], &mut |key, value| {
        rows.push((key.to_vec(), value.to_vec()));
        true
    })?;
    Ok(rows)
}

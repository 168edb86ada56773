//! What outlives the process: an embedded database in the directory that `state` names.
//!
//! One thread writes; what came together is one commit (group commit), so callers never wait for
//! the disk and a thousand writes cost the syncs of a few. Two strengths: [`Store::put`] is kept
//! within half a second and the newest value of a key wins; [`Store::write`] tells when its
//! operations are on the disk, all of them or none. Once a write has failed nothing is kept any
//! more: the store says so once and in [`Store::healthy`], and the process goes on.
//!
//! It knows bytes, and the keys of agents (`store/keys.rs`); what a budget means is its owner's
//! affair. The file is redb's: a copy-on-write B-tree that a crash leaves as the last commit made
//! it. One process at a time.
mod directory;
mod fault;
mod keys;
mod queue;
mod secret;
mod table;
mod writer;

#[cfg(test)]
mod tests;

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
use redb::{Database, ReadableDatabase, ReadableTable};
use tokio::sync::oneshot;

pub use self::directory::{DATABASE, read_pepper, read_token};
pub use self::fault::{Failed, StoreError};
pub use self::keys::{KeyBook, KeyError, KeyHmac, KeyRecord, KeyView, NewRecord};
pub use self::secret::{NewKey, Pepper, Token};
pub use self::table::{Op, Table};

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
    /// For reading; the writer has its own. `None` once closed.
    database: Mutex<Option<Arc<Database>>>,
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
}

impl Store {
    /// Opens or makes the database in `directory`, which is made if need be (mode 0700; its parent
    /// must be there). Blocks for a few milliseconds. Only one process can have it open.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        directory::make(directory)?;
        let database = directory::database(directory)?;
        let has_keys = !read(&database, Table::Keys)?.is_empty();
        let pepper = directory::pepper(directory, has_keys)?;
        Self::start(directory, pepper, database)
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

    fn start(directory: &Path, pepper: Pepper, database: Database) -> Result<Self, StoreError> {
        let queue = Arc::new(Queue::default());
        let keys = KeyBook::new(read(&database, Table::Keys)?, Arc::clone(&queue));
        let database = Arc::new(database);
        let ended = Writer::start(directory, Arc::clone(&database), Arc::clone(&queue))?;
        Ok(Self {
            directory: directory.to_owned(),
            pepper,
            keys,
            queue,
            database: Mutex::new(Some(database)),
            ended: Mutex::new(ended),
        })
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

    /// All of a table as it is on the disk; writes that wait are not in it. Blocks: for the start.
    pub fn scan(&self, table: Table) -> Result<Vec<Row>, StoreError> {
        let database = self.database.lock().clone().ok_or(StoreError::Closed)?;
        read(&database, table)
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
        self.database.lock().take();
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

fn read(database: &Database, table: Table) -> Result<Vec<Row>, StoreError> {
    let rows = || -> Result<_, redb::Error> {
        let open = database.begin_read()?.open_table(table.definition())?;
        let mut rows = Vec::new();
        for row in open.iter()? {
            let (key, value) = row?;
            rows.push((key.value().to_vec(), value.value().to_vec()));
        }
        Ok(rows)
    };
    rows().map_err(|source| StoreError::Read { table: table.name(), source: Box::new(source) })
}

//! The thread that writes, and the only one that does.
//!
//! A commit is two-phase and records what is free ("quick repair"): a second sync for each, and in
//! return a crash costs no walk over the whole file at the next start. Those who wait are told
//! after the sync, never before. The first error ends it: what a failed sync left on the disk is
//! unknown, and to try again could report as kept what is not.
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use redb::Database;

use super::queue::{Batch, Queue};
use super::{Failed, StoreError, Table};

const STACK: usize = 512 * 1024;
const FAILED: &str = "the store has failed: budgets and keys are no longer kept";

pub(super) struct Writer {
    directory: PathBuf,
    queue: Arc<Queue>,
    /// What is being written, and who is to be told.
    batch: Batch,
    /// Whether it came to its end; until then its end is a failure.
    ended: bool,
}

impl Writer {
    /// The receiver is disconnected when the writer has ended and let go of the database.
    pub(super) fn start(
        directory: &Path,
        database: Arc<Database>,
        queue: Arc<Queue>,
    ) -> Result<Receiver<()>, StoreError> {
        let (running, ended) = sync_channel(0);
        let writer =
            Self { directory: directory.to_owned(), queue, batch: Batch::default(), ended: false };
        let run = move || {
            // the first is dropped last, also after a panic
            let _running: SyncSender<()> = running;
            let (database, mut writer) = (database, writer);
            writer.run(&database);
            drop(writer);
            if let Some(Err(error)) = Arc::into_inner(database).map(Database::close) {
                tracing::warn!(%error, "the store was not closed well");
            }
        };
        thread::Builder::new()
            .name("store".to_owned())
            .stack_size(STACK)
            .spawn(run)
            .map_err(StoreError::io(directory))?;
        Ok(ended)
    }

    fn run(&mut self, database: &Database) {
        while self.queue.take(&mut self.batch) {
            match commit(database, &self.batch) {
                Ok(synced) => self.queue.commits.fetch_add(u64::from(synced), Relaxed),
                Err(error) => {
                    let directory = self.directory.display();
                    tracing::error!(%directory, %error, "{FAILED}");
                    return;
                }
            };
            self.tell(Ok(()));
            self.batch.clear();
        }
        self.ended = true;
    }

    /// In order, and one at a time: when one panics, the others are still there to be told.
    fn tell(&mut self, result: Result<(), Failed>) {
        self.batch.told.reverse();
        while let Some(told) = self.batch.told.pop() {
            told(result);
        }
    }
}

impl Drop for Writer {
    /// After an error, and after a panic.
    fn drop(&mut self) {
        if !self.ended {
            self.queue.fail();
            self.tell(Err(Failed::Broken));
        }
    }
}

/// Whether there was anything to write.
fn commit(database: &Database, batch: &Batch) -> Result<bool, redb::Error> {
    if batch.changes.iter().all(HashMap::is_empty) {
        return Ok(false);
    }
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    for (table, changes) in Table::ALL.into_iter().zip(&batch.changes) {
        if changes.is_empty() {
            continue;
        }
        let mut open = transaction.open_table(table.definition())?;
        for (key, value) in changes {
            match value {
                Some(value) => open.insert(&**key, value.as_slice())?,
                None => open.remove(&**key)?,
            };
        }
    }
    transaction.commit()?;
    Ok(true)
}

//! What age and wish take away: waits that are too long, answers, tombstones.
//!
//! An answer goes with all that was kept of its task; a tombstone stays as long as it is told of
//! ([`super::entry::REMEMBERED`]), or as an idempotency key names it. Nothing is taken out of the
//! index before the store has taken it on.
use std::sync::Arc;

use thiserror::Error;
use tokio::sync::oneshot;

use super::book::Book;
use super::record::{Owner, Record};
use super::{TaskId, Tasks};
use crate::store::{Failed, Op, Table};

/// Tasks that one sweep looks at.
const SWEPT: usize = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DeleteError {
    #[error("the task is not over")]
    NotOver,
    #[error("tasks cannot be kept")]
    Broken,
}

impl Tasks {
    /// Purges the answer of a task that is over. It is not shown any more; its key names it until
    /// its time is over. `None`: as [`Self::view`].
    pub async fn delete(&self, owner: &Owner, id: TaskId) -> Option<Result<(), DeleteError>> {
        let (said, durable) = oneshot::channel();
        let purged = {
            let mut book = self.book.lock();
            let entry = book.get(id).filter(|entry| entry.is_shown_to(Some(owner)))?;
            if !entry.record.state.is_terminal() {
                return Some(Err(DeleteError::NotOver));
            }
            let now = book.now();
            self.purge(&mut book, id, now, true, move |done| {
                // nobody may be waiting any more
                let _ = said.send(done);
            })
        };
        let done = match purged {
            Ok(()) => durable.await.unwrap_or(Err(Failed::Broken)),
            Err(why) => Err(why),
        };
        Some(done.map_err(|_| DeleteError::Broken))
    }

    /// Makes a tombstone of a task that is over, or nothing at all where none is needed.
    fn purge(
        &self,
        book: &mut Book,
        id: TaskId,
        now: u64,
        deleted: bool,
        told: impl FnOnce(Result<(), Failed>) + Send + 'static,
    ) -> Result<(), Failed> {
        let Some(entry) = book.get(id) else { return Err(Failed::Closed) };
        let mut record = Record::clone(&entry.record);
        record.purged_ms.get_or_insert(now);
        record.deleted |= deleted;
        if let Some(result) = &mut record.result {
            result.headers.clear();
        }
        let forget = record.deadline() <= now;
        let key = id.as_bytes().to_vec();
        let row = if forget {
            Op::delete(Table::Tasks, key.clone())
        } else {
            Op::put(Table::Tasks, key.clone(), record.row())
        };
        self.store.try_write(vec![row, Op::delete_prefix(Table::TaskData, key)], told)?;
        if forget {
            book.remove(id);
        } else {
            book.change(id, |entry| entry.record = Arc::new(record));
        }
        Ok(())
    }

    /// What age does, once a second: ends what waited or ran too long, purges answers, forgets
    /// tombstones; makes due what is to be tried again.
    pub fn sweep(&self, now_ms: u64) {
        let mut book = self.book.lock();
        book.tell_time(now_ms);
        let due = book.release(now_ms);
        for id in book.overdue(now_ms, SWEPT) {
            let Some(record) = book.get(id).map(|entry| Arc::clone(&entry.record)) else {
                continue;
            };
            if !record.state.is_terminal() {
                self.expire(&mut book, id);
            } else if self.purge(&mut book, id, now_ms, false, drop).is_err() {
                // the store takes no more now
                break;
            }
        }
        self.end_untaken(&mut book, now_ms);
        for id in book.unsent() {
            self.send_end(&mut book, id);
        }
        let logs = book.logs();
        drop(book);
        for (id, log) in logs {
            log.save(id, &self.store);
        }
        for _ in 0..due {
            self.due.notify_one();
        }
    }
}

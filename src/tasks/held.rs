//! Tasks whose upstream goes on making the answer, and can be asked for it again.
//!
//! Such an attempt ends with its answer alone: neither a restart nor a worker that is lost makes it
//! another one. It is set down with what has come, and whoever claims it next goes on behind that:
//! the same rows, the same numbers of events. Where the answer is to be had ([`Holder`]) is written
//! at once, for the time until then is the one in which it would be lost with the process.
//!
//! One that is to end while it rests is still made there, and paid for. So it is handed to a worker
//! first, with its stop already set, beyond the places there are: it is over as soon as that is
//! written, and its holder is told. Where no worker takes it for a while it ends without.
use std::sync::Arc;
use std::time::Duration;

use super::book::{Book, LONGEST_WAIT};
use super::ends::End;
use super::entry::Stage;
use super::lead::{Held, Lead, wait};
use super::record::Holder;
use super::{State, Stop, TaskId, Tasks, View, kept};
use crate::store::{Failed, Op, Table};

/// How long a task waits for a worker that tells its holder of its end, in milliseconds.
const UNTOLD: u64 = 5000;

impl Book {
    /// It is at rest, and is to end once its holder knows.
    pub(super) fn stop_at_rest(&mut self, id: TaskId, stop: Stop) {
        let now = self.now();
        self.to_stop.entry(id).or_insert((stop, now));
    }

    /// The next of them for a worker.
    pub(super) fn next_to_stop(&mut self) -> Option<(TaskId, Stop)> {
        self.to_stop.pop_first().map(|(id, (stop, _))| (id, stop))
    }
}

impl Tasks {
    /// Ends those that no worker has taken: none is to be had while memory is short, or in a drain.
    pub(super) fn end_untaken(&self, book: &mut Book, now: u64) {
        let untaken = book.to_stop.extract_if(.., |_, (_, since)| now.abs_diff(*since) >= UNTOLD);
        for (id, (stop, _)) in untaken.collect::<Vec<_>>() {
            drop(self.decide(book, id, End::of(stop.state())));
        }
    }
}

/// The attempt rests, and keeps what has come. What is to be written of it.
pub(super) fn set_down(book: &mut Book, id: TaskId, next_ms: Option<u64>) -> Option<Vec<Op>> {
    let mut run = None;
    let changed = book.change(id, |entry| {
        let record = Arc::make_mut(&mut entry.record);
        record.state = State::RetryWait;
        record.next_ms = next_ms;
        run = entry.run.take();
        if let (Some(head), Some(run)) = (&mut record.result, &run) {
            head.bytes = run.log.bytes();
        }
    });
    let last = run.and_then(|run| {
        let last = run.log.last_row(id);
        run.log.close();
        last
    });
    let row = book.get(id).filter(|_| changed)?.record.row();
    let row = Op::put(Table::Tasks, id.as_bytes().to_vec(), row);
    Some(last.into_iter().chain([row]).collect())
}

impl Lead {
    /// Its upstream has taken it on: from here on it is asked for there, and nowhere else.
    pub fn held_by(&self, holder: Holder) {
        let mut book = self.tasks.book.lock();
        let open = book.get(self.id).is_some_and(|entry| matches!(entry.stage, Stage::Open));
        let changed = open
            && book.change_unseen(self.id, |entry| {
                let record = Arc::make_mut(&mut entry.record);
                if !record.aliases.contains(&holder.response) {
                    record.aliases.push(holder.response.clone());
                }
                record.holder = Some(holder);
            });
        let Some(entry) = book.get(self.id).filter(|_| changed) else { return };
        let row = Op::put(Table::Tasks, self.id.as_bytes().to_vec(), entry.record.row());
        // under the lock, so that the newest row is written last; if the store has failed, it says
        // so itself
        let _ = self.tasks.store.try_write(vec![row], drop);
    }

    /// Takes up what has come of the answer, once it is durable that the attempt runs again. An error:
    /// it cannot be read.
    pub async fn restore(&self) -> Result<(), Failed> {
        let rows = kept::rows(&self.tasks.store, self.id, self.log.run).await;
        self.log.restore(rows.map_err(|_| Failed::Broken)?);
        Ok(())
    }

    /// Who makes the answer.
    pub fn holder(&self) -> Option<Holder> {
        self.tasks.view_for(None, self.id)?.record.holder.clone()
    }

    /// Sets it down, to be taken up again `after` so long, an hour at most. A cancel or the task's age
    /// that came first ends it.
    pub async fn set_down(mut self, after: Duration) -> Result<View, Failed> {
        self.held = Held::Over;
        let (id, tasks) = (self.id, Arc::clone(&self.tasks));
        let waits = {
            let mut book = tasks.book.lock();
            let Some(entry) = book.get(id) else { return Err(Failed::Closed) };
            let goes_on = matches!(entry.stage, Stage::Open)
                && entry.record.state == State::Running
                && self.stop.borrow().is_none();
            if goes_on {
                let after = (after.as_millis() as u64).min(LONGEST_WAIT);
                let next = book.now().saturating_add(after);
                let ops = set_down(&mut book, id, Some(next));
                Ok(ops.map(|ops| tasks.store.durably(ops)))
            } else {
                Err(tasks.decide(&mut book, id, End::of(State::Interrupted)))
            }
        };
        tasks.due.notify_one();
        match waits {
            Err(told) => wait(told).await,
            Ok(durable) => {
                durable.ok_or(Failed::Closed)?.await?;
                tasks.view_for(None, id).ok_or(Failed::Closed)
            }
        }
    }
}

//! The book of tasks: calls that were answered 202 and are made in the background.
//!
//! It keeps what was asked, says who is next, holds what is answered, and knows how it ended; how
//! a call is made is the affair of whoever claims it. Invariants: what was acknowledged is on the
//! disk; a state changes only as its table allows ([`State::may_become`]), under one lock; the
//! first end wins, and is told when it is durable. Rows and their crash rules: [`Record`] and
//! `tasks/recover.rs`. Quotas count what is not over, and all that is kept. Needs a runtime only to wait, and a thread
//! to read the disk on. Credentials are kept in memory, never on the disk.
mod age;
mod book;
mod ends;
mod entry;
mod follow;
mod held;
mod id;
mod kept;
mod lead;
mod log;
mod record;
mod recover;
mod state;
mod submit;
mod tell;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

pub use self::age::DeleteError;
pub use self::book::Figures;
pub use self::follow::{Follow, Follower};
pub use self::id::TaskId;
pub use self::lead::{Job, Lead, Stop};
pub use self::log::TooLarge;
pub use self::record::{
    Caller, Credential, Form, Headers, Holder, Idempotency, Owner, Record, Request, ResultHead,
    TaskError, Usage,
};
pub use self::recover::Recovered;
pub use self::state::State;
pub use self::submit::{NewTask, Quota, SubmitError, Submitted};

use self::book::Book;
use self::entry::{Entry, Stage};
use crate::pressure::Pressure;
use crate::store::{Store, StoreError, Table};
use crate::telemetry::metrics::TaskCounts;

/// Ids of upstreams that are kept of a task.
const MOST_ALIASES: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Tasks that run at once.
    pub workers: usize,
    /// Tasks of one owner that are not over.
    pub per_agent_count: usize,
    /// Bytes of all its tasks: of requests, then of answers as long as they are kept, and
    /// a KiB for each. What runs may go beyond it by its answers.
    pub per_agent_bytes: u64,
    /// How long an answer is kept.
    pub keep: Duration,
    /// What is not over by then is expired.
    pub max_age: Duration,
    pub attempts: u32,
    /// In bytes.
    pub max_result: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            workers: 32,
            per_agent_count: 1000,
            per_agent_bytes: 256 << 20,
            keep: Duration::from_hours(24),
            max_age: Duration::from_hours(24),
            attempts: 3,
            max_result: 32 << 20,
        }
    }
}

/// A task as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Without the headers of its request.
    pub record: Arc<Record>,
    /// How many of its owner's go before it, while it waits to run.
    pub position: Option<usize>,
    /// Of the answer so far.
    pub bytes: u64,
    pub output_tokens: u64,
    /// Another whenever the record changes; the position, and what came of the answer, do not
    /// change it. No two are alike, over restarts too.
    pub version: u64,
}

/// All tasks. One for the process.
pub struct Tasks {
    me: Weak<Self>,
    store: Arc<Store>,
    pressure: Arc<Pressure>,
    settings: Mutex<Settings>,
    book: Mutex<Book>,
    /// Something may be due, or a place free.
    due: Notify,
    /// Something has ended that somebody is to be told of.
    ends: Notify,
    recovered: Recovered,
    counts: Arc<TaskCounts>,
}

impl Tasks {
    /// Reads what the store has, and ends or renews what was running. Blocks.
    pub fn open(
        store: Arc<Store>,
        settings: Settings,
        pressure: Arc<Pressure>,
        now_ms: u64,
    ) -> Result<Arc<Self>, StoreError> {
        let (book, recovered) = recover::book(&store, &settings, now_ms)?;
        let counts = Arc::<TaskCounts>::default();
        recovered.tell(&counts);
        Ok(Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            store,
            pressure,
            settings: Mutex::new(settings),
            book: Mutex::new(book),
            due: Notify::new(),
            ends: Notify::new(),
            recovered,
            counts,
        }))
    }

    /// Takes effect for what comes.
    pub fn set_settings(&self, settings: Settings) {
        *self.settings.lock() = settings;
        self.due.notify_waiters();
    }

    pub fn settings(&self) -> Settings {
        *self.settings.lock()
    }

    /// What the start found, for the log.
    pub fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// What has been counted since the start.
    pub fn counts(&self) -> &Arc<TaskCounts> {
        &self.counts
    }

    /// A task of whomever, for the operator. `None`: it is not there.
    pub fn show(&self, id: TaskId) -> Option<View> {
        self.view_for(None, id)
    }

    pub fn figures(&self) -> Figures {
        self.book.lock().figures()
    }

    /// `None`: it is not there, or not this owner's.
    pub fn view(&self, owner: &Owner, id: TaskId) -> Option<View> {
        self.view_for(Some(owner), id)
    }

    fn view_for(&self, owner: Option<&Owner>, id: TaskId) -> Option<View> {
        let book = self.book.lock();
        book.get(id).filter(|entry| entry.is_shown_to(owner)).map(|entry| book.view(entry))
    }

    /// By an id that its answer has at the upstream.
    pub fn find_alias(&self, owner: &Owner, alias: &str) -> Option<TaskId> {
        self.book.lock().by_alias(owner, alias)
    }

    /// Kept within half a second.
    pub fn add_alias(&self, id: TaskId, alias: String) {
        self.alter(id, |record| {
            if record.aliases.len() < MOST_ALIASES && !record.aliases.contains(&alias) {
                record.aliases.push(alias);
            }
        });
    }

    /// Changes what is known of the answer of a task that is under way; kept within half a second.
    fn alter(&self, id: TaskId, alter: impl FnOnce(&mut Record)) {
        let mut book = self.book.lock();
        let open = book.get(id).is_some_and(|entry| matches!(entry.stage, Stage::Open));
        if open && book.change_unseen(id, |entry| alter(Arc::make_mut(&mut entry.record))) {
            self.keep(&book, id);
        }
    }

    /// Under the book's lock, so that the newest row is written last.
    fn keep(&self, book: &Book, id: TaskId) {
        if let Some(entry) = book.get(id) {
            self.store.put(Table::Tasks, id.as_bytes(), &entry.record.row());
        }
    }

    /// Newest first; `after`: those that are older than this one. `owner`: `None` for everybody's.
    pub fn list(
        &self,
        owner: Option<&Owner>,
        state: Option<State>,
        after: Option<TaskId>,
        limit: usize,
    ) -> Vec<View> {
        self.book.lock().list(owner, state, after, limit)
    }

    /// Resolves when the task's version is another, or the task is gone.
    pub async fn changed(&self, id: TaskId, since_version: u64) {
        if let Some(mut seen) = self.changes(id) {
            // an error: it is gone
            let _ = seen.wait_for(|version| *version != since_version).await;
        }
    }

    fn changes(&self, id: TaskId) -> Option<watch::Receiver<u64>> {
        self.book.lock().get_mut(id).map(Entry::watch)
    }

    /// Reads the answer from its beginning. `None`: as [`Self::view`].
    pub fn follow(&self, owner: &Owner, id: TaskId) -> Option<Follower> {
        self.view(owner, id)?;
        self.me.upgrade().map(|tasks| Follower::new(tasks, id))
    }

    /// The whole answer of a task that is over; `None`: there is none, or it is gone. An error: it
    /// cannot be read now.
    pub async fn result_of(&self, owner: &Owner, id: TaskId) -> Result<Option<Bytes>, StoreError> {
        let record = self.view(owner, id).map(|view| view.record);
        let over = |record: &Arc<Record>| record.state.is_terminal() && record.has_result();
        let Some(record) = record.filter(over) else { return Ok(None) };
        let bytes = record.result.as_ref().map_or(0, |head| head.bytes);
        let answer = kept::answer(&self.store, id, record.runs).await?;
        // it may have been purged meanwhile
        Ok((answer.len() as u64 == bytes).then_some(answer))
    }
}

//! Taking a task on: its key, its quota, and then the disk.
//!
//! A task that is on its way to the disk counts and holds its key already, and nobody sees it; so
//! quotas are exact and one key makes one task, however many ask at once. Whoever asks may leave:
//! the store's thread opens the task, or takes it out again.
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::{oneshot, watch};

use super::entry::{Stage, TASK};
use super::record::{Caller, Credential, Data, Form, Headers, Idempotency, Owner, Record, Request};
use super::{Settings, State, TaskId, Tasks, View, kept};
use crate::store::{Failed, NewRow, Table};

/// All tasks together may take one part in so many of the budget of memory.
const SHARE: u64 = 4;

/// What is to be done.
#[derive(Debug, Clone)]
pub struct NewTask {
    pub owner: Owner,
    /// `body_bytes` is set from `body`.
    pub request: Request,
    pub caller: Caller,
    pub route: String,
    pub model: Option<String>,
    pub idempotency: Option<Idempotency>,
    pub webhooks: Vec<String>,
    pub form: Form,
    pub body: Bytes,
    pub credential: Option<Credential>,
    /// The least of this and the settings' counts.
    pub max_age: Option<Duration>,
}

#[derive(Debug, Clone)]
pub struct Submitted {
    pub view: View,
    /// `false`: the key named a task that was there.
    pub fresh: bool,
}

/// What is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quota {
    /// The owner's tasks that are not over.
    Count,
    /// The owner's room on the disk.
    Bytes,
    /// The index of all tasks.
    Memory,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SubmitError {
    #[error("there are too many tasks")]
    Full { what: Quota },
    #[error("the idempotency key was used for another request")]
    Mismatch,
    #[error("the disk is full")]
    NoSpace,
    #[error("tasks cannot be kept")]
    Broken,
}

/// What a submission has come to.
enum Begun {
    Known(View),
    /// The same is under way.
    Under(watch::Receiver<u64>),
    New(Arc<Record>),
}

impl Tasks {
    /// Takes a task on: when this says so it is on the disk, also if nobody waits any more. The
    /// same key of the same owner gives the same task.
    pub async fn submit(&self, new: NewTask, now_ms: u64) -> Result<Submitted, SubmitError> {
        let done = self.take_on(new, now_ms).await;
        if let Err(why) = &done {
            self.counts.refused(why.as_str());
        }
        done
    }

    async fn take_on(&self, new: NewTask, now_ms: u64) -> Result<Submitted, SubmitError> {
        let begun = Instant::now();
        let record = loop {
            match self.begin(&new, now_ms)? {
                Begun::Known(view) => return Ok(Submitted { view, fresh: false }),
                // durable, or given up: it is looked at again
                Begun::Under(mut seen) => drop(seen.changed().await),
                Begun::New(record) => break record,
            }
        };
        let id = record.id;
        let (said, durable) = oneshot::channel();
        let me = Weak::clone(&self.me);
        let taken = self.store.admit(rows(&record, &new), move |done| {
            let view = me.upgrade().map(|me| me.admitted(id, done, begun));
            // nobody may be waiting any more
            let _ = said.send(view.unwrap_or(Err(SubmitError::Broken)));
        });
        if let Err(why) = taken {
            self.book.lock().remove(id);
            return Err(why.into());
        }
        let view = durable.await.unwrap_or(Err(SubmitError::Broken))?;
        Ok(Submitted { view, fresh: true })
    }

    fn begin(&self, new: &NewTask, now_ms: u64) -> Result<Begun, SubmitError> {
        let settings = self.settings();
        let mut book = self.book.lock();
        book.tell_time(now_ms);
        if let Some(idempotency) = &new.idempotency
            && let Some(id) = book.by_key(&new.owner, &idempotency.key)
            && let Some(entry) = book.get_mut(id)
        {
            let same = |known: Idempotency| known.fingerprint == idempotency.fingerprint;
            if !entry.record.idempotency.is_some_and(same) {
                return Err(SubmitError::Mismatch);
            }
            if matches!(entry.stage, Stage::Admitting) {
                return Ok(Begun::Under(entry.watch()));
            }
            let view = book.get(id).map(|entry| book.view(entry));
            return view.map(Begun::Known).ok_or(SubmitError::Broken);
        }
        let (count, bytes) = book.load(&new.owner);
        if count >= settings.per_agent_count {
            return Err(SubmitError::Full { what: Quota::Count });
        }
        let record = new.record(TaskId::new(), &settings, now_ms);
        if bytes.saturating_add(record.room()) > settings.per_agent_bytes {
            return Err(SubmitError::Full { what: Quota::Bytes });
        }
        if book.len() as u64 >= self.pressure.budget() / SHARE / TASK {
            return Err(SubmitError::Full { what: Quota::Memory });
        }
        let record = Arc::new(record);
        let credential = new.credential.clone().map(Box::new);
        book.insert(Arc::clone(&record), Stage::Admitting, credential);
        Ok(Begun::New(record))
    }

    /// On the store's thread.
    fn admitted(
        &self,
        id: TaskId,
        done: Result<(), Failed>,
        begun: Instant,
    ) -> Result<View, SubmitError> {
        let mut book = self.book.lock();
        if let Err(why) = done {
            book.remove(id);
            return Err(why.into());
        }
        book.change(id, |entry| entry.stage = Stage::Open);
        let view = book.get(id).map(|entry| book.view(entry));
        drop(book);
        self.counts.submitted(begun.elapsed());
        self.due.notify_one();
        view.ok_or(SubmitError::Broken)
    }
}

impl NewTask {
    pub(super) fn record(&self, id: TaskId, settings: &Settings, now_ms: u64) -> Record {
        let age = self.max_age.unwrap_or(settings.max_age).min(settings.max_age);
        let Request { method, path_and_query, .. } = &self.request;
        let request = Request {
            method: method.clone(),
            path_and_query: path_and_query.clone(),
            headers: Headers::new(),
            body_bytes: self.body.len() as u64,
            ..self.request
        };
        Record {
            id,
            owner: self.owner,
            state: State::Queued,
            created_ms: now_ms,
            started_ms: None,
            finished_ms: None,
            attempts: 0,
            runs: 0,
            next_ms: None,
            expires_ms: now_ms.saturating_add(age.as_millis() as u64),
            keep_until_ms: None,
            purged_ms: None,
            deleted: false,
            request,
            caller: self.caller.clone(),
            route: self.route.clone(),
            model: self.model.clone(),
            idempotency: self.idempotency,
            webhooks: self.webhooks.clone(),
            told: false,
            form: self.form,
            aliases: Vec::new(),
            holder: None,
            events_before: 0,
            result: None,
            usage: None,
            cost_microdollars: None,
            error: None,
        }
    }
}

/// What is durable before a task is acknowledged.
fn rows(record: &Record, new: &NewTask) -> Vec<NewRow> {
    let id = record.id;
    // strings and bytes: it cannot fail
    let headers = serde_json::to_vec(&new.request.headers).unwrap_or_default();
    let row = |table, key: Vec<u8>, value| NewRow { table, key: key.into(), value };
    let mut rows = vec![
        row(Table::Tasks, id.as_bytes().to_vec(), record.row().into()),
        row(Table::TaskData, Data::Headers.key(id, 0), headers.into()),
    ];
    rows.extend(
        kept::body_rows(id, &new.body).map(|(key, value)| row(Table::TaskData, key, value)),
    );
    rows
}

impl SubmitError {
    /// In a word, for those who count.
    fn as_str(self) -> &'static str {
        match self {
            Self::Full { what: Quota::Memory } => "memory",
            Self::Full { .. } => "quota",
            Self::Mismatch => "mismatch",
            Self::NoSpace => "no_space",
            Self::Broken => "broken",
        }
    }
}

impl From<Failed> for SubmitError {
    fn from(why: Failed) -> Self {
        match why {
            Failed::NoSpace => Self::NoSpace,
            Failed::Broken | Failed::Full | Failed::Closed => Self::Broken,
        }
    }
}

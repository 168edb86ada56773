//! A task that runs: what its worker is given, and what it tells of it.
//!
//! A [`Lead`] is the one hand on a running task. It ends it or gives it back; dropped without
//! either, the attempt counts as lost with its process, and the same rule decides as after a
//! crash. Whatever it is told, the first end wins.
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::sleep;

use super::book::{Book, LONGEST_WAIT};
use super::ends::{End, Told};
use super::entry::{Run, Stage};
use super::held::set_down;
use super::log::{Log, TooLarge};
use super::record::{Credential, Data, Record, ResultHead, TaskError, Usage};
use super::recover::{EVENTS_GAP, LOST};
use super::{State, TaskId, Tasks, View, kept};
use crate::store::{Ack, Failed, Op, Table};

/// Before another claim where the disk could not be read.
const UNREAD: Duration = Duration::from_secs(1);

/// Why an attempt should end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    Cancelled,
    Expired,
}

impl Stop {
    /// What becomes of the task.
    pub fn state(self) -> State {
        match self {
            Self::Cancelled => State::Cancelled,
            Self::Expired => State::Expired,
        }
    }
}

/// A task to be run.
pub struct Job {
    /// With the headers of its request.
    pub record: Record,
    pub body: Bytes,
    pub credential: Option<Credential>,
    pub lead: Lead,
    /// Resolves when it is durable that it runs. Before that nothing may be asked of a backend: a
    /// restart would take the task for one that was never begun, and do its work twice.
    pub marked: Ack,
}

pub struct Lead {
    pub(super) tasks: Arc<Tasks>,
    pub(super) id: TaskId,
    pub(super) log: Arc<Log>,
    pub(super) stop: watch::Receiver<Option<Stop>>,
    last: bool,
    pub(super) held: Held,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    /// Nobody has it yet.
    Claimed,
    Given,
    /// Ended, or given back.
    Over,
}

impl Tasks {
    /// Waits for a task that is due and a place to run it. The owner with the fewest running goes
    /// first, then the oldest task.
    pub async fn claim(&self) -> Job {
        loop {
            let mut notified = pin!(self.due.notified());
            // from here on nothing is missed
            notified.as_mut().enable();
            let Some((mut lead, record, credential, marked)) = self.take() else {
                notified.await;
                continue;
            };
            let Ok(read) = kept::request(&self.store, lead.id).await else {
                // it is due again
                drop(lead);
                sleep(UNREAD).await;
                continue;
            };
            let whole = |body: &Bytes| body.len() as u64 == record.request.body_bytes;
            let Some((headers, body)) = read.filter(|(_, body)| whole(body)) else {
                let lost = TaskError::new("request_lost", "the request cannot be read");
                // nobody is told but by the task itself
                let _ = lead.finish(State::Failed, Some(lost), None, None).await;
                continue;
            };
            lead.held = Held::Given;
            let mut record = Record::clone(&record);
            record.request.headers = headers;
            return Job { record, body, credential, lead, marked };
        }
    }

    fn take(&self) -> Option<(Lead, Arc<Record>, Option<Credential>, Ack)> {
        let settings = self.settings();
        let tasks = self.me.upgrade()?;
        let mut book = self.book.lock();
        if !self.store.healthy() {
            return None;
        }
        loop {
            let (id, mut stop) = match book.next_to_stop() {
                Some((id, stop)) => (id, Some(stop)),
                None if book.running() >= settings.workers => return None,
                None => (book.next()?, None),
            };
            let (entry, now) = (book.get(id)?, book.now());
            let bare = entry.record.request.needs_credential && entry.credential.is_none();
            let late = entry.record.expires_ms <= now;
            if late && entry.is_held() {
                stop = stop.or(Some(Stop::Expired));
            }
            if bare || late && stop.is_none() {
                let end = if bare { credential_lost() } else { End::of(State::Expired) };
                self.decide(&mut book, id, end)?;
                continue;
            }
            let (stop, stopped) = watch::channel(stop);
            // an attempt that its upstream goes on with is no other
            let new = u32::from(entry.record.holder.is_none());
            let (run, before) = (entry.record.runs + new, entry.record.events_before);
            let kept = entry.record.result.as_ref().map_or(0, |head| head.bytes);
            let log = Log::new(run, before, settings.max_result, kept, &self.pressure);
            let log = Arc::new(log);
            let run = Box::new(Run { log: Arc::clone(&log), stop });
            book.change(id, |entry| {
                let record = Arc::make_mut(&mut entry.record);
                if record.state != State::Cancelling {
                    record.state = State::Running;
                }
                record.attempts += new;
                record.runs += new;
                record.next_ms = None;
                record.started_ms.get_or_insert(now);
                entry.run = Some(run);
            });
            let entry = book.get(id)?;
            if entry.record.runs == 1 && new == 1 {
                let waited = now.saturating_sub(entry.record.created_ms);
                self.counts.started(Duration::from_millis(waited));
            }
            // under the lock, so that the newest row is written last
            let row = Op::put(Table::Tasks, id.as_bytes().to_vec(), entry.record.row());
            let marked = self.store.durably(vec![row]);
            let last = entry.record.attempts >= settings.attempts;
            let credential = entry.credential.as_deref().cloned();
            let lead = Lead { tasks, id, log, stop: stopped, last, held: Held::Claimed };
            return Some((lead, Arc::clone(&entry.record), credential, marked));
        }
    }

    /// The attempt was lost; `given`: and part of it may have been made.
    fn lost(&self, id: TaskId, given: bool, last: bool) {
        let mut book = self.book.lock();
        let Some(entry) = book.get(id) else { return };
        let stopped = entry.run.as_ref().is_some_and(|run| run.stop.borrow().is_some());
        let record = &entry.record;
        if record.state == State::Running && !stopped && record.holder.is_some() {
            let ops = set_down(&mut book, id, None);
            // a row that is not written says that it runs, and a restart makes the same of it
            let _ = ops.map(|ops| self.store.try_write(ops, drop));
            drop(book);
            self.due.notify_one();
            return;
        }
        let again = !given || record.request.repeats && !last;
        if record.state != State::Running || stopped || !again {
            drop(self.decide(&mut book, id, End::of(State::Interrupted)));
            return;
        }
        let state = if given { State::RetryWait } else { State::Queued };
        let ops = put_back(&mut book, id, state, |record| {
            record.attempts -= u32::from(!given);
            record.events_before += EVENTS_GAP * u64::from(given);
        });
        // a row that is not written says that it runs, and a restart makes the same of it
        let _ = ops.map(|ops| self.store.try_write(ops, drop));
        drop(book);
        if given {
            self.counts.retried(LOST);
        }
        self.due.notify_one();
    }
}

/// An attempt is over and another follows; what it had answered goes. What is to be written of it.
fn put_back(
    book: &mut Book,
    id: TaskId,
    state: State,
    alter: impl FnOnce(&mut Record),
) -> Option<Vec<Op>> {
    let run = book.get(id)?.record.runs;
    let mut log = None;
    let changed = book.change(id, |entry| {
        let record = Arc::make_mut(&mut entry.record);
        record.state = state;
        record.result = None;
        alter(record);
        log = entry.run.take().map(|run| run.log);
    });
    if let Some(log) = log {
        log.close();
    }
    let row = book.get(id).filter(|_| changed)?.record.row();
    Some(vec![
        Op::delete_prefix(Table::TaskData, Data::Answer { run }.prefix(id)),
        Op::put(Table::Tasks, id.as_bytes().to_vec(), row),
    ])
}

pub(super) fn credential_lost() -> End {
    let message = "the caller's credential is not kept over a restart: submit it again";
    End::failed("credential_lost", message)
}

impl Lead {
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// No attempt is left after this one.
    pub fn is_last(&self) -> bool {
        self.last
    }

    /// The head of the answer; its `bytes` and `whole` are the book's.
    pub fn begin(&self, head: ResultHead) {
        let head = ResultHead { bytes: 0, whole: false, ..head };
        self.tasks.alter(self.id, |record| record.result = Some(head));
    }

    /// A piece of the answer, behind its head.
    pub fn push(&self, piece: Bytes) -> Result<(), TooLarge> {
        self.log.push(self.id, piece, &self.tasks.store)
    }

    /// All of the answer at once, whatever of it was kept before.
    pub fn replace(&self, whole: Bytes) -> Result<(), TooLarge> {
        self.log.replace(whole)
    }

    /// What the answer is called at its upstream.
    pub fn add_alias(&self, alias: String) {
        self.tasks.add_alias(self.id, alias);
    }

    /// Whether it comes in lines, and what of it has come.
    pub fn answer(&self) -> (bool, Vec<Bytes>) {
        let view = self.tasks.view_for(None, self.id);
        let head = view.and_then(|view| view.record.result.clone());
        (head.is_some_and(|head| head.format == "ndjson"), self.log.all())
    }

    pub fn progress(&self, output_tokens: u64) {
        self.log.progress(output_tokens);
    }

    /// Resolves when it is to end.
    pub async fn cancelled(&self) -> Stop {
        let mut stop = self.stop.clone();
        let asked = stop.wait_for(Option::is_some).await;
        // without a sender it is over already
        asked.ok().and_then(|asked| *asked).unwrap_or(Stop::Cancelled)
    }

    /// Ends the task: its state when that is durable. It is another than `state` where a cancel or
    /// the task's age came first. An error: that can never be kept, and nobody is told.
    pub async fn finish(
        self,
        state: State,
        error: Option<TaskError>,
        usage: Option<Usage>,
        cost_microdollars: Option<u64>,
    ) -> Result<View, Failed> {
        let end = End { state, error, usage, cost: cost_microdollars, whole: false };
        self.end(end).await
    }

    /// As [`Self::finish`], for an answer that failed and came whole.
    pub async fn finish_whole(
        self,
        state: State,
        error: Option<TaskError>,
        usage: Option<Usage>,
        cost_microdollars: Option<u64>,
    ) -> Result<View, Failed> {
        let end = End { state, error, usage, cost: cost_microdollars, whole: true };
        self.end(end).await
    }

    async fn end(mut self, end: End) -> Result<View, Failed> {
        self.held = Held::Over;
        let told = self.tasks.decide(&mut self.tasks.book.lock(), self.id, end);
        wait(told).await
    }

    /// Gives it back, to be tried again `after` so long, an hour at most. `counts`: it was an
    /// attempt; if it was the last, this ends the task. `events`: how many of its events were told;
    /// if there were some, one more says that the next begins. A cancel or the task's age that came
    /// first ends it.
    pub async fn retry(
        mut self,
        after: Duration,
        counts: bool,
        events: u64,
    ) -> Result<View, Failed> {
        self.held = Held::Over;
        let (id, tasks) = (self.id, Arc::clone(&self.tasks));
        let waits = {
            let mut book = tasks.book.lock();
            let Some(entry) = book.get(id) else { return Err(Failed::Closed) };
            let stopped = self.stop.borrow().is_some();
            let goes_on = matches!(entry.stage, Stage::Open)
                && entry.record.state == State::Running
                && !stopped
                && !(counts && self.last);
            if goes_on {
                let after = (after.as_millis() as u64).min(LONGEST_WAIT);
                let next = book.now().saturating_add(after);
                let ops = put_back(&mut book, id, State::RetryWait, |record| {
                    record.next_ms = Some(next);
                    record.attempts -= u32::from(!counts);
                    record.events_before += events + u64::from(events > 0);
                });
                Ok(ops.map(|ops| tasks.store.durably(ops)))
            } else {
                let end = End::failed("attempts_exhausted", "no attempt is left");
                Err(tasks.decide(&mut book, id, end))
            }
        };
        tasks.due.notify_one();
        match waits {
            Err(told) => wait(told).await,
            Ok(durable) => {
                tasks.counts.retried(if counts { "failed" } else { "limits" });
                durable.ok_or(Failed::Closed)?.await?;
                tasks.view_for(None, id).ok_or(Failed::Closed)
            }
        }
    }
}

pub(super) async fn wait(told: Option<Told>) -> Result<View, Failed> {
    told.ok_or(Failed::Closed)?.await.unwrap_or(Err(Failed::Broken))
}

impl Drop for Lead {
    fn drop(&mut self) {
        if self.held != Held::Over {
            self.tasks.lost(self.id, self.held == Held::Given, self.last);
        }
    }
}

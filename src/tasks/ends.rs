//! How tasks end: decided once under the lock, written, and told when it is durable.
//!
//! The first end that is decided wins; whoever comes later waits for it and sees it. An end that
//! the store has no room for is offered again by the sweep. When the store has failed an end is
//! never told: what a restart then makes of the task may be another.
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::oneshot;

use super::book::Book;
use super::entry::{Ending, Stage};
use super::record::{Data, Owner, Record};
use super::{State, Stop, TaskError, TaskId, Tasks, Usage, View};
use crate::store::{Failed, Op, Table};

/// What is known at an end.
#[derive(Debug, Clone)]
pub(super) struct End {
    pub(super) state: State,
    pub(super) error: Option<TaskError>,
    pub(super) usage: Option<Usage>,
    pub(super) cost: Option<u64>,
    /// The answer's end was seen.
    pub(super) whole: bool,
}

impl End {
    pub(super) fn of(state: State) -> Self {
        let error = match state {
            State::Expired => Some(("expired", "the task was not done in time")),
            State::Interrupted => Some(("interrupted", "the task was lost with its process")),
            _ => None,
        };
        let error = error.map(|(kind, message)| TaskError::new(kind, message));
        Self { state, error, usage: None, cost: None, whole: false }
    }

    pub(super) fn failed(kind: &str, message: &str) -> Self {
        Self { error: Some(TaskError::new(kind, message)), ..Self::of(State::Failed) }
    }
}

/// Says how it ended; an error if that cannot be kept.
pub(super) type Told = oneshot::Receiver<Result<View, Failed>>;

impl Record {
    /// `bytes`: of the answer of the last attempt.
    pub(super) fn end(&mut self, end: End, bytes: u64, now: u64, keep: Duration) {
        self.state = end.state;
        self.finished_ms = Some(now);
        self.keep_until_ms = Some(now.saturating_add(keep.as_millis() as u64));
        self.next_ms = None;
        self.usage = end.usage.or(self.usage);
        self.cost_microdollars = end.cost.or(self.cost_microdollars);
        self.error = end.error;
        if let Some(head) = &mut self.result {
            head.bytes = bytes;
            head.whole = end.whole || end.state == State::Succeeded;
        }
    }
}

impl Tasks {
    /// Decides an end, or finds the one that was decided. `None`: it is gone.
    pub(super) fn decide(&self, book: &mut Book, id: TaskId, mut end: End) -> Option<Told> {
        let (told, tells) = oneshot::channel();
        let (now, keep) = (book.now(), self.settings().keep);
        let entry = book.get_mut(id)?;
        match &mut entry.stage {
            Stage::Admitting => return None,
            Stage::Ending(ending) if ending.lost => drop(told.send(Err(Failed::Broken))),
            Stage::Ending(ending) => ending.told.push(told),
            Stage::Open if entry.record.state.is_terminal() => {
                let view = book.get(id).map(|entry| book.view(entry))?;
                drop(told.send(Ok(view)));
            }
            Stage::Open => {
                let stop = entry.run.as_ref().and_then(|run| *run.stop.borrow());
                let done = end.state == State::Succeeded;
                if entry.record.state == State::Cancelling {
                    end = End { state: State::Cancelled, error: None, ..end };
                } else if stop == Some(Stop::Expired) && !done {
                    end = End { error: End::of(State::Expired).error, ..end };
                    end.state = State::Expired;
                }
                if !entry.record.state.may_become(end.state) {
                    tracing::error!(%id, end = end.state.as_str(), "a task may not end so");
                    end.state = State::Failed;
                }
                let mut record = Record::clone(&entry.record);
                let kept = entry.record.result.as_ref().map_or(0, |head| head.bytes);
                let bytes = entry.run.as_ref().map_or(kept, |run| run.log.bytes());
                record.end(end, bytes, now, keep);
                let ending = Ending { record, told: vec![told], lost: false };
                // it is seen when it is durable
                book.change_unseen(id, |entry| entry.stage = Stage::Ending(Box::new(ending)));
                self.send_end(book, id);
            }
        }
        Some(tells)
    }

    /// Under the lock, so that no older row is written behind it.
    pub(super) fn send_end(&self, book: &mut Book, id: TaskId) {
        let Some(entry) = book.get_mut(id) else { return };
        let Stage::Ending(ending) = &mut entry.stage else { return };
        let data = |kind: Data| Op::delete_prefix(Table::TaskData, kind.prefix(id));
        let mut ops = vec![
            Op::put(Table::Tasks, id.as_bytes().to_vec(), ending.record.row()),
            data(Data::Headers),
            data(Data::Body),
        ];
        if let Some(run) = &entry.run {
            // the attempt is over: it gets no more
            run.log.save(id, &self.store);
            ops.extend(run.log.last_row(id));
        }
        let me = Weak::clone(&self.me);
        let sent = self.store.try_write(ops, move |done| {
            if let Some(me) = me.upgrade() {
                me.ended(id, done);
            }
        });
        match sent {
            Ok(()) => {}
            Err(Failed::Full | Failed::NoSpace) => book.offer_again(id),
            Err(Failed::Broken | Failed::Closed) => lose(book, id),
        }
    }

    /// On the store's thread: an end is durable, or will never be.
    fn ended(&self, id: TaskId, done: Result<(), Failed>) {
        let mut book = self.book.lock();
        if done.is_err() {
            lose(&mut book, id);
            return;
        }
        let (mut told, mut run) = (Vec::new(), None);
        book.change(id, |entry| {
            let Stage::Ending(ending) = std::mem::replace(&mut entry.stage, Stage::Open) else {
                return;
            };
            told = ending.told;
            run = entry.run.take();
            entry.record = Arc::new(ending.record);
            entry.credential = None;
        });
        if let Some(run) = run {
            run.log.close();
        }
        let view = book.get(id).map(|entry| book.view(entry));
        drop(book);
        if let Some(view) = view {
            self.counts.ended(view.record.state.as_str());
            if view.record.is_untold() {
                self.ends.notify_one();
            }
            for told in told {
                // nobody may be waiting any more
                let _ = told.send(Ok(view.clone()));
            }
        }
        self.due.notify_one();
    }

    /// Asks for its end. `None`: it is not there, or not this owner's (`None`: anybody's). A task
    /// that waits is cancelled at once, one that runs is told to stop, and so is one that rests
    /// while its answer is made elsewhere; one that is over stays as it is.
    pub async fn cancel(&self, owner: Option<&Owner>, id: TaskId) -> Option<View> {
        enum Asked {
            End(Told),
            Running(oneshot::Receiver<Result<(), Failed>>),
            Nothing,
        }
        let asked = {
            let mut book = self.book.lock();
            let entry = book.get(id).filter(|entry| entry.is_shown_to(owner))?;
            match (&entry.stage, entry.record.state) {
                (Stage::Open, State::Running) => {
                    self.ask_to_cancel(&mut book, id).map(Asked::Running)
                }
                (Stage::Open, State::RetryWait) if entry.is_held() => {
                    book.stop_at_rest(id, Stop::Cancelled);
                    let asked = self.ask_to_cancel(&mut book, id).map(Asked::Running);
                    self.due.notify_one();
                    asked
                }
                (Stage::Open, State::Cancelling) => Some(Asked::Nothing),
                _ => self.decide(&mut book, id, End::of(State::Cancelled)).map(Asked::End),
            }
        };
        match asked? {
            // what the disk says of it changes nothing for who asked
            Asked::End(told) => drop(told.await),
            Asked::Running(durable) => drop(durable.await),
            Asked::Nothing => {}
        }
        self.view_for(owner, id)
    }

    fn ask_to_cancel(
        &self,
        book: &mut Book,
        id: TaskId,
    ) -> Option<oneshot::Receiver<Result<(), Failed>>> {
        book.change(id, |entry| {
            let record = Arc::make_mut(&mut entry.record);
            (record.state, record.next_ms) = (State::Cancelling, None);
            if let Some(run) = &entry.run {
                run.stop.send_replace(Some(Stop::Cancelled));
            }
        });
        let row = book.get(id)?.record.row();
        let (said, durable) = oneshot::channel();
        let op = Op::put(Table::Tasks, id.as_bytes().to_vec(), row);
        let told = move |done| {
            // nobody may be waiting any more
            let _ = said.send(done);
        };
        // on an error the sender is dropped, which is heard as well
        let _ = self.store.try_write(vec![op], told);
        Some(durable)
    }

    /// Its time is over: at once while it waits, else the attempt, or who goes on with it, is told to
    /// stop.
    pub(super) fn expire(&self, book: &mut Book, id: TaskId) {
        let Some(entry) = book.get(id) else { return };
        match (&entry.stage, &entry.run) {
            (Stage::Open, Some(run)) => {
                // who asked first is heard
                run.stop
                    .send_if_modified(|stop| stop.replace(stop.unwrap_or(Stop::Expired)).is_none());
            }
            (Stage::Open, None) if entry.record.state.is_waiting() && entry.is_held() => {
                book.stop_at_rest(id, Stop::Expired);
                self.due.notify_one();
            }
            (Stage::Open, None) if entry.record.state.is_waiting() => {
                drop(self.decide(book, id, End::of(State::Expired)));
            }
            _ => {}
        }
    }
}

/// The end will never be durable. Who follows reads on to where the answer ends; what nobody reads
/// takes no memory any more.
fn lose(book: &mut Book, id: TaskId) {
    let (mut told, mut run) = (Vec::new(), None);
    book.change(id, |entry| {
        if let Stage::Ending(ending) = &mut entry.stage {
            ending.lost = true;
            told = std::mem::take(&mut ending.told);
        }
        run = entry.run.take();
    });
    if let Some(run) = run {
        run.log.close();
    }
    for told in told {
        // nobody may be waiting any more
        let _ = told.send(Err(Failed::Broken));
    }
}

//! What a start makes of the tasks that are on the disk.
//!
//! What waited waits again. What ran is taken up again where its upstream goes on making the answer,
//! with what had come of it; else it is tried again if it may be repeated and an attempt is left;
//! else it is `interrupted`, with what of its answer had reached the disk. What was being
//! cancelled is; what needs a credential that was in memory has failed; what is too old is
//! expired; an upstream that goes on with the answer is told of either before it is over. All of it
//! is durable before anybody is told.
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use super::book::Book;
use super::ends::End;
use super::entry::Stage;
use super::lead::credential_lost;
use super::record::{Data, Record};
use super::{Settings, State, Stop, TaskId, kept};
use crate::store::{Failed, Op, Store, StoreError, Table};
use crate::telemetry::metrics::TaskCounts;

/// Between the events of an attempt that was lost and those of the next: how many had been told is
/// not known, and no number may be told twice.
pub(super) const EVENTS_GAP: u64 = 1 << 20;
/// Why an attempt is made again that was lost with its process or its worker.
pub(super) const LOST: &str = "lost";
/// Operations of one commit.
const TOGETHER: usize = 3000;

/// What a start found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// All of them, tombstones among them.
    pub tasks: usize,
    /// Those that are not over.
    pub open: usize,
    /// Running ones that are to be tried again.
    pub again: usize,
    /// Those that are gone on with where their answer is made, or are to be told of there.
    pub taken_up: usize,
    pub interrupted: usize,
    pub credential_lost: usize,
    pub cancelled: usize,
    pub expired: usize,
    /// Rows that are no records; they stay where they are.
    pub unreadable: usize,
    pub took: Duration,
}

pub(super) fn book(
    store: &Store,
    settings: &Settings,
    now_ms: u64,
) -> Result<(Book, Recovered), StoreError> {
    let begun = Instant::now();
    let mut found = Recovered::default();
    let mut book = Book::new(now_ms);
    let mut changed = Vec::new();
    store.each(Table::Tasks, &[], &[], |key, row| {
        match serde_json::from_slice::<Record>(row) {
            Ok(record) if record.id.as_bytes() == key => {
                found.tasks += 1;
                match verdict(&record, settings, now_ms) {
                    Some(verdict) => changed.push((record, verdict)),
                    None => book.insert(Arc::new(record), Stage::Open, None),
                }
            }
            _ => found.unreadable += 1,
        }
        true
    })?;
    let mut ops = Vec::new();
    for (mut record, verdict) in changed {
        let (id, stop) = (record.id, verdict.stop());
        ops.extend(change(store, settings, now_ms, &mut record, verdict)?);
        found.count(&record);
        book.insert(Arc::new(record), Stage::Open, None);
        if let Some(stop) = stop {
            book.stop_at_rest(id, stop);
        }
        if ops.len() >= TOGETHER {
            write(store, std::mem::take(&mut ops))?;
        }
    }
    write(store, ops)?;
    let open = State::ALL.iter().filter(|state| !state.is_terminal());
    found.open = open.map(|state| book.figures().of(*state)).sum();
    found.took = begun.elapsed();
    Ok((book, found))
}

/// What becomes of one that cannot stay as it is.
enum Verdict {
    End(End),
    Again,
    /// The attempt goes on.
    TakeUp,
    /// It goes no further, and who makes the answer is still to be told.
    Stop(Stop),
}

impl Verdict {
    fn stop(&self) -> Option<Stop> {
        match self {
            Self::Stop(stop) => Some(*stop),
            _ => None,
        }
    }
}

fn verdict(record: &Record, settings: &Settings, now_ms: u64) -> Option<Verdict> {
    if record.state.is_terminal() {
        return None;
    }
    let held = record.holder.is_some() && !record.request.needs_credential;
    let end = if record.state == State::Cancelling {
        if held {
            return Some(Verdict::Stop(Stop::Cancelled));
        }
        End::of(State::Cancelled)
    } else if record.expires_ms <= now_ms {
        if held {
            return Some(Verdict::Stop(Stop::Expired));
        }
        End::of(State::Expired)
    } else if record.request.needs_credential {
        credential_lost()
    } else if record.state != State::Running {
        return None;
    } else if record.holder.is_some() {
        return Some(Verdict::TakeUp);
    } else if record.request.repeats && record.attempts < settings.attempts {
        return Some(Verdict::Again);
    } else {
        End::of(State::Interrupted)
    };
    Some(Verdict::End(end))
}

fn change(
    store: &Store,
    settings: &Settings,
    now_ms: u64,
    record: &mut Record,
    verdict: Verdict,
) -> Result<Vec<Op>, StoreError> {
    let id: TaskId = record.id;
    let answer = Data::Answer { run: record.runs };
    let gone = |kind: Data| Op::delete_prefix(Table::TaskData, kind.prefix(id));
    let mut ops = Vec::with_capacity(3);
    match verdict {
        Verdict::Again => {
            record.state = State::RetryWait;
            record.result = None;
            record.next_ms = None;
            record.events_before += EVENTS_GAP;
            ops.push(gone(answer));
        }
        Verdict::TakeUp | Verdict::Stop(_) => {
            if record.state != State::Cancelling {
                record.state = State::RetryWait;
            }
            record.next_ms = None;
            let bytes = kept::answer_bytes(store, id, record.runs)?;
            if let Some(head) = &mut record.result {
                head.bytes = bytes;
            }
        }
        Verdict::End(end) => {
            let has_answer = record.result.is_some();
            let bytes = if has_answer { kept::answer_bytes(store, id, record.runs)? } else { 0 };
            record.end(end, bytes, now_ms, settings.keep);
            ops.extend([gone(Data::Headers), gone(Data::Body)]);
        }
    }
    ops.push(Op::put(Table::Tasks, id.as_bytes().to_vec(), record.row()));
    Ok(ops)
}

impl Recovered {
    fn count(&mut self, record: &Record) {
        let which = match record.state {
            State::RetryWait | State::Cancelling if record.holder.is_some() => &mut self.taken_up,
            State::RetryWait => &mut self.again,
            State::Interrupted => &mut self.interrupted,
            State::Failed => &mut self.credential_lost,
            State::Cancelled => &mut self.cancelled,
            _ => &mut self.expired,
        };
        *which += 1;
    }

    /// What it made of tasks, to those who count it.
    pub(super) fn tell(&self, counts: &TaskCounts) {
        (0..self.again).for_each(|_| counts.retried(LOST));
        for (state, many) in [
            (State::Interrupted, self.interrupted),
            (State::Failed, self.credential_lost),
            (State::Cancelled, self.cancelled),
            (State::Expired, self.expired),
        ] {
            (0..many).for_each(|_| counts.ended(state.as_str()));
        }
    }
}

fn write(store: &Store, ops: Vec<Op>) -> Result<(), StoreError> {
    if ops.is_empty() {
        return Ok(());
    }
    let (said, is_said) = sync_channel(1);
    store.write(ops, move |done| {
        // it is waited for right below
        let _ = said.try_send(done);
    });
    let done = is_said.recv().unwrap_or(Err(Failed::Broken));
    done.map_err(|why| StoreError::Unwritten { why })
}

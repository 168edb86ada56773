//! What waits for the owner of the files.
//!
//! Answers to be written, bounded by what they weigh; past that they are dropped, so nobody who
//! puts ever waits. A purge goes before them and takes out those that it means: what was put before
//! a purge is never written after it.
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::cache::{Entry, Filter, Key, Purged};

/// Most bytes of answers that wait; a larger one may wait alone. They are shared with the memory
/// tier as long as that keeps them.
const MOST: u64 = 16 << 20;

#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    purges: VecDeque<Purge>,
    puts: VecDeque<(Key, Arc<Entry>)>,
    bytes: u64,
    budget_changed: bool,
    end: Option<End>,
}

/// What to do next.
pub(super) enum Next {
    Put(Key, Arc<Entry>),
    Purge(Purge),
    /// Look at the budget.
    Budget,
    /// Nothing came in time.
    Nothing,
    End(End),
}

pub(super) struct Purge {
    pub(super) filter: Filter,
    pub(super) now: SystemTime,
    /// What was taken out so far: of what waited.
    pub(super) purged: Purged,
    pub(super) done: oneshot::Sender<Purged>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// After all that waits.
    Keep,
    /// At once, and all files with it.
    Delete,
}

impl Queue {
    /// Whether it was taken.
    pub(super) fn put(&self, key: Key, entry: Arc<Entry>) -> bool {
        let weight = entry.weight();
        let mut waiting = self.waiting.lock();
        let full = waiting.bytes > 0 && waiting.bytes + weight > MOST;
        if full || waiting.end.is_some() {
            return false;
        }
        waiting.bytes += weight;
        waiting.puts.push_back((key, entry));
        drop(waiting);
        self.changed.notify_one();
        true
    }

    /// Resolves when it is done. With an error, if it never will be: the owner has ended.
    pub(super) fn purge(&self, filter: &Filter, now: SystemTime) -> oneshot::Receiver<Purged> {
        let (done, is_done) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        if waiting.end.is_none() {
            let before = waiting.puts.len();
            waiting.puts.retain(|(key, entry)| !filter.takes(key, &entry.author, entry.age(now)));
            waiting.bytes = waiting.puts.iter().map(|(_, entry)| entry.weight()).sum();
            let disk = (before - waiting.puts.len()) as u64;
            let purged = Purged { disk, ..Purged::default() };
            waiting.purges.push_back(Purge { filter: filter.clone(), now, purged, done });
        }
        drop(waiting);
        self.changed.notify_one();
        is_done
    }

    pub(super) fn budget_changed(&self) {
        self.waiting.lock().budget_changed = true;
        self.changed.notify_one();
    }

    /// Takes no more. Nothing takes back a [`End::Delete`].
    pub(super) fn end(&self, end: End) {
        let mut waiting = self.waiting.lock();
        if end == End::Delete {
            *waiting = Waiting::default();
            waiting.end = Some(end);
        }
        waiting.end.get_or_insert(end);
        drop(waiting);
        self.changed.notify_one();
    }

    /// Weight of what waits to be written.
    pub(super) fn bytes(&self) -> u64 {
        self.waiting.lock().bytes
    }

    /// Waits for something to do. `patience`: `None` waits for ever.
    pub(super) fn take(&self, patience: Option<Duration>) -> Next {
        let mut waiting = self.waiting.lock();
        let mut patient = true;
        loop {
            if let Some(next) = waiting.next() {
                return next;
            }
            if !patient {
                return Next::Nothing;
            }
            match patience {
                None => self.changed.wait(&mut waiting),
                Some(patience) => {
                    patient = !self.changed.wait_for(&mut waiting, patience).timed_out();
                }
            }
        }
    }
}

impl Waiting {
    fn next(&mut self) -> Option<Next> {
        if let Some(purge) = self.purges.pop_front() {
            return Some(Next::Purge(purge));
        }
        if std::mem::take(&mut self.budget_changed) {
            return Some(Next::Budget);
        }
        if let Some((key, entry)) = self.puts.pop_front() {
            self.bytes -= entry.weight();
            if self.puts.is_empty() {
                self.puts.shrink_to_fit();
            }
            return Some(Next::Put(key, entry));
        }
        self.end.map(Next::End)
    }
}

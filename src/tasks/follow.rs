//! Reading the answer of a task from its beginning: what came, what comes, and how it ended.
//!
//! A follower of a running attempt reads the attempt's log, which lives as long as it is read, so
//! an end in the middle takes nothing from it; one of a finished task reads the rows on the disk.
//! Both see the same bytes. The end is told when it is durable, never before.
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::entry::Stage;
use super::log::{Log, Next};
use super::{TaskId, Tasks, View, kept};

/// What a follower sees next.
#[derive(Debug, Clone)]
pub enum Follow {
    Piece(Bytes),
    /// All before it belongs to an attempt that has failed; another begins.
    Restarted,
    /// How it ended. Nothing follows.
    Ended(View),
    /// It cannot be told how it ends, or the rest is gone. Nothing follows.
    Broken,
}

pub struct Follower {
    tasks: Arc<Tasks>,
    id: TaskId,
    from: From,
    /// The attempt that pieces were told of.
    run: Option<u32>,
    /// Bytes of it that were told from a log.
    had: u64,
    before: u64,
}

enum From {
    /// For an attempt to begin, or for the end.
    Waiting(watch::Receiver<u64>),
    Log {
        log: Arc<Log>,
        at: usize,
        grown: watch::Receiver<u64>,
    },
    /// From the row `next` on, of so many bytes in all.
    Disk {
        next: Option<u32>,
        left: u64,
        ended: View,
    },
    Nothing,
}

/// What the book says of it.
enum Found {
    Log(Arc<Log>),
    Ended(View),
    Waiting(watch::Receiver<u64>),
    Broken,
}

impl Follower {
    pub(super) fn new(tasks: Arc<Tasks>, id: TaskId) -> Self {
        let from = tasks.changes(id).map_or(From::Nothing, From::Waiting);
        Self { tasks, id, from, run: None, had: 0, before: 0 }
    }

    /// How many events were told of attempts before the one whose pieces come.
    pub fn events_before(&self) -> u64 {
        self.before
    }

    /// May be dropped while it waits: nothing is lost.
    pub async fn next(&mut self) -> Follow {
        loop {
            match &mut self.from {
                From::Waiting(seen) => {
                    // what was seen before is looked at now
                    seen.borrow_and_update();
                    match self.tasks.found(self.id, self.run) {
                        Found::Waiting(later) => {
                            let mut later = later;
                            if later.changed().await.is_err() {
                                self.from = From::Nothing;
                                return Follow::Broken;
                            }
                            self.from = From::Waiting(later);
                        }
                        found => {
                            if let Some(follow) = self.turn_to(found) {
                                return follow;
                            }
                        }
                    }
                }
                From::Log { log, at, grown } => {
                    grown.borrow_and_update();
                    match log.piece(*at) {
                        Next::Piece(piece) => {
                            *at += 1;
                            self.had += piece.len() as u64;
                            return Follow::Piece(piece);
                        }
                        Next::Wait => {
                            // the log is ours too: its sender is there
                            let _ = grown.changed().await;
                        }
                        Next::Over => {
                            let seen = self.tasks.changes(self.id);
                            self.from = seen.map_or(From::Nothing, From::Waiting);
                        }
                    }
                }
                From::Disk { next: Some(from), left, .. } => {
                    let (id, run) = (self.id, self.run.unwrap_or_default());
                    let part = kept::part(&self.tasks.store, id, run, *from).await;
                    let Some(part) = part.ok().filter(|part| !part.bytes.is_empty()) else {
                        self.from = From::Nothing;
                        return Follow::Broken;
                    };
                    *left = left.saturating_sub(part.bytes.len() as u64);
                    if let From::Disk { next, .. } = &mut self.from {
                        *next = part.next;
                    }
                    return Follow::Piece(part.bytes);
                }
                From::Disk { next: None, left, ended } => {
                    let follow =
                        if *left == 0 { Follow::Ended(ended.clone()) } else { Follow::Broken };
                    self.from = From::Nothing;
                    return follow;
                }
                From::Nothing => return Follow::Broken,
            }
        }
    }

    fn turn_to(&mut self, found: Found) -> Option<Follow> {
        match found {
            Found::Log(log) => {
                let again = self.run.replace(log.run).is_some();
                self.had = 0;
                self.before = log.before;
                self.from = From::Log { grown: log.watch(), log, at: 0 };
                again.then_some(Follow::Restarted)
            }
            Found::Ended(view) => {
                let run = view.record.runs;
                let left = view.record.result.as_ref().map_or(0, |head| head.bytes);
                let left = if view.record.has_result() { left } else { 0 };
                let same = self.run == Some(run);
                if same && (1..left).contains(&self.had) {
                    // it was set down meanwhile, and gone on with
                    self.from = From::Nothing;
                    return Some(Follow::Broken);
                }
                if left == 0 || same && self.had > 0 {
                    self.from = From::Nothing;
                    return Some(Follow::Ended(view));
                }
                // of the same one nothing was told: it ended before its log had what was kept
                let again = self.run.replace(run).is_some_and(|had| had != run);
                self.before = view.record.events_before;
                self.from = From::Disk { next: Some(0), left, ended: view };
                again.then_some(Follow::Restarted)
            }
            Found::Waiting(seen) => {
                self.from = From::Waiting(seen);
                None
            }
            Found::Broken => {
                self.from = From::Nothing;
                Some(Follow::Broken)
            }
        }
    }
}

impl Tasks {
    /// Where to read on; `run`: the attempt that was read to its end.
    fn found(&self, id: TaskId, run: Option<u32>) -> Found {
        let mut book = self.book.lock();
        let Some(entry) = book.get_mut(id) else { return Found::Broken };
        let log = entry.run.as_ref().map(|attempt| &attempt.log);
        if let Some(log) = log.filter(|log| Some(log.run) != run) {
            return Found::Log(Arc::clone(log));
        }
        // it goes on in another log: who comes back reads on there
        let goes_on = log.is_some_and(|log| !log.is_over());
        if goes_on || matches!(&entry.stage, Stage::Ending(end) if end.lost) {
            return Found::Broken;
        }
        if !entry.record.state.is_terminal() {
            return Found::Waiting(entry.watch());
        }
        book.get(id).map_or(Found::Broken, |entry| Found::Ended(book.view(entry)))
    }
}

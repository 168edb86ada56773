//! What waits for the disk: the newest value of each key, and who wants to be told.
//!
//! A map by key, so writes of one key coalesce by themselves and the bound is one of keys. All that
//! waits goes into the next commit: operations of one caller stay together, and a caller that is
//! told of its value is told of all that was put before it. The lock is held for a look-up and a
//! copy; the writer takes the maps as a whole and leaves emptied ones behind.
use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::{Ack, Failed, Op, Table};

/// How long a write that someone waits for may wait for others to share its sync.
const GROUP: Duration = Duration::from_millis(5);
/// So many of them wait no longer.
const GROUP_OPS: usize = 256;
/// The same for writes that nobody waits for.
const SOFT: Duration = Duration::from_millis(500);
/// Keys that may wait; half as many are written at once.
pub(super) const MOST: usize = 10_000;
/// Room that an emptied map keeps.
const KEPT: usize = 1024;

/// The newest value of each key; `None` takes the key out.
pub(super) type Changes = HashMap<Box<[u8]>, Option<Vec<u8>>>;
pub(super) type OnDurable = Box<dyn FnOnce(Result<(), Failed>) + Send>;

#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// The writer must look again.
    changed: Condvar,
    pub(super) failed: AtomicBool,
    pub(super) commits: AtomicU64,
    pub(super) operations: AtomicU64,
    pub(super) refused: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    batch: Batch,
    /// Operations that someone waits for.
    awaited: usize,
    /// When to write; `None` when nothing waits.
    due: Option<Instant>,
    /// Why nothing is taken any more.
    shut: Option<Failed>,
}

/// What goes into one commit.
#[derive(Default)]
pub(super) struct Batch {
    /// By [`Table`].
    pub(super) changes: [Changes; Table::ALL.len()],
    pub(super) told: Vec<OnDurable>,
}

impl Batch {
    fn keys(&self) -> usize {
        self.changes.iter().map(HashMap::len).sum()
    }

    fn set(&mut self, op: Op) {
        let (table, key, value) = op.into_parts();
        self.changes[table as usize].insert(key, value);
    }

    /// Ready to be filled again, and no larger than it need be.
    pub(super) fn clear(&mut self) {
        self.told.clear();
        for changes in &mut self.changes {
            changes.clear();
            changes.shrink_to(KEPT);
        }
    }
}

impl Queue {
    pub(super) fn put(&self, table: Table, key: &[u8], value: Option<&[u8]>) {
        let mut waiting = self.waiting.lock();
        if waiting.shut.is_some() {
            return;
        }
        self.operations.fetch_add(1, Relaxed);
        if let Some(slot) = waiting.batch.changes[table as usize].get_mut(key) {
            match (slot, value) {
                (Some(old), Some(new)) => {
                    old.clear();
                    old.extend_from_slice(new);
                }
                (slot, new) => *slot = new.map(<[u8]>::to_vec),
            }
            return;
        }
        if waiting.batch.keys() >= MOST {
            drop(waiting);
            self.refuse(1);
            return;
        }
        waiting.batch.changes[table as usize].insert(key.into(), value.map(<[u8]>::to_vec));
        if waiting.awaken(SOFT) {
            self.changed.notify_one();
        }
    }

    /// `now`: without waiting for others.
    pub(super) fn write(&self, ops: Vec<Op>, told: OnDurable, now: bool) {
        let mut waiting = self.waiting.lock();
        let full = waiting.batch.keys() + ops.len() > MOST && !ops.is_empty();
        if let Some(why) = waiting.shut.or(full.then_some(Failed::Full)) {
            drop(waiting);
            if why == Failed::Full {
                self.refuse(ops.len() as u64);
            }
            told(Err(why));
            return;
        }
        self.operations.fetch_add(ops.len() as u64, Relaxed);
        waiting.awaited += ops.len();
        for op in ops {
            waiting.batch.set(op);
        }
        waiting.batch.told.push(told);
        if waiting.awaken(if now { Duration::ZERO } else { GROUP }) {
            self.changed.notify_one();
        }
    }

    pub(super) fn durably(&self, ops: Vec<Op>) -> Ack {
        let (said, ack) = oneshot::channel();
        let told = move |result| {
            // nobody may be waiting any more
            let _ = said.send(result);
        };
        self.write(ops, Box::new(told), false);
        Ack(ack)
    }

    fn refuse(&self, count: u64) {
        if self.refused.fetch_add(count, Relaxed) == 0 {
            tracing::warn!(waiting = MOST, "the disk does not keep up: state is not kept");
        }
    }

    /// Takes no more; the writer ends when all is written.
    pub(super) fn close(&self) {
        let mut waiting = self.waiting.lock();
        waiting.shut.get_or_insert(Failed::Closed);
        drop(waiting);
        self.changed.notify_one();
    }

    /// Waits until a commit is due, and takes all that waits into `batch`, which must be empty.
    /// `false`: nothing waits and nothing will.
    pub(super) fn take(&self, batch: &mut Batch) -> bool {
        let mut waiting = self.waiting.lock();
        loop {
            let Some(due) = waiting.due else {
                if waiting.shut.is_some() {
                    return false;
                }
                self.changed.wait(&mut waiting);
                continue;
            };
            if waiting.shut.is_some() || waiting.is_enough() || due <= Instant::now() {
                break;
            }
            self.changed.wait_until(&mut waiting, due);
        }
        std::mem::swap(&mut waiting.batch, batch);
        waiting.awaited = 0;
        waiting.due = None;
        true
    }

    /// Nothing is kept any more; who waits is told. Without effect on a queue that has ended well.
    pub(super) fn fail(&self) {
        let mut waiting = self.waiting.lock();
        let told = std::mem::take(&mut waiting.batch).told;
        waiting.due = None;
        waiting.shut = Some(Failed::Broken);
        self.failed.store(true, Relaxed);
        drop(waiting);
        for told in told {
            told(Err(Failed::Broken));
        }
    }
}

impl Waiting {
    /// Whether there is no point in waiting for more.
    fn is_enough(&self) -> bool {
        self.awaited >= GROUP_OPS || self.batch.keys() >= MOST / 2
    }

    /// Something waits, for so long at most. Whether the writer must be told.
    fn awaken(&mut self, within: Duration) -> bool {
        let due = Instant::now() + within;
        let sooner = self.due.is_none_or(|before| due < before);
        if sooner {
            self.due = Some(due);
        }
        sooner || self.is_enough()
    }
}

//! What waits for the disk: the newest value of each key, and who wants to be told.
//!
//! A map by key, so writes of one key coalesce by themselves and the bound is one of keys. All that
//! waits goes into the next commit: operations of one caller stay together, and a caller that is
//! told of its value is told of all that was put before it. What asks to be admitted stands apart:
//! on a full disk it is refused, and all else is written without it. The lock is held for a
//! look-up and a copy; the writer takes the maps as a whole and leaves emptied ones behind.
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::table::{NewRow, after};
use super::{Ack, Failed, Op, Table};

/// How long a write that someone waits for may wait for others to share its sync.
const GROUP: Duration = Duration::from_millis(5);
/// So many of them wait no longer.
const GROUP_OPS: usize = 256;
/// The same for writes that nobody waits for.
const SOFT: Duration = Duration::from_millis(500);
/// Keys that may wait; half as many are written at once.
pub(super) const MOST: usize = 10_000;
/// Bytes of values that may wait before more of the bulky ones are refused; an eighth of it is
/// written at once.
const MOST_BYTES: usize = 64 << 20;

/// The newest value of each key; `None` takes the key out.
pub(super) type Changes = BTreeMap<Box<[u8]>, Option<Vec<u8>>>;
pub(super) type OnDurable = Box<dyn FnOnce(Result<(), Failed>) + Send>;

#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// The writer must look again.
    changed: Condvar,
    pub(super) failed: AtomicBool,
    /// The disk is full: nothing new is admitted.
    pub(super) short: AtomicBool,
    /// Bytes free on the disk, when the writer looked last; 0 where it could not.
    pub(super) free: AtomicU64,
    pub(super) commits: AtomicU64,
    pub(super) operations: AtomicU64,
    pub(super) refused: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    batch: Batch,
    /// Operations that someone waits for.
    awaited: usize,
    /// Of values, roughly: what was replaced meanwhile still counts.
    bytes: usize,
    /// When to write; `None` when nothing waits.
    due: Option<Instant>,
    /// Why nothing is taken any more.
    shut: Option<Failed>,
}

/// What goes into one commit.
#[derive(Default)]
pub(super) struct Batch {
    /// By [`Table`]: what goes before the changes are made.
    pub(super) prefixes: [Vec<Box<[u8]>>; Table::ALL.len()],
    /// By [`Table`].
    pub(super) changes: [Changes; Table::ALL.len()],
    pub(super) told: Vec<OnDurable>,
    pub(super) admissions: Vec<Admission>,
}

/// New rows under keys that nobody else writes.
pub(super) struct Admission {
    pub(super) rows: Vec<NewRow>,
    pub(super) told: OnDurable,
}

/// What the writer is to do.
pub(super) enum Turn {
    Write,
    /// Nothing waits; it is time to look whether there is room again.
    Idle,
    End,
}

impl Batch {
    fn keys(&self) -> usize {
        let changes: usize = self.changes.iter().map(BTreeMap::len).sum();
        let prefixes: usize = self.prefixes.iter().map(Vec::len).sum();
        let admitted: usize = self.admissions.iter().map(|one| one.rows.len()).sum();
        changes + prefixes + admitted
    }

    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.keys() == 0
    }

    fn set(&mut self, op: Op) {
        match op {
            Op::Put { table, key, value } => {
                self.changes[table as usize].insert(key, Some(value));
            }
            Op::Delete { table, key } => {
                self.changes[table as usize].insert(key, None);
            }
            Op::DeletePrefix { table, prefix } => {
                let changes = &mut self.changes[table as usize];
                let until = after(&prefix).map_or(Bound::Unbounded, Bound::Excluded);
                let range = (Bound::Included(prefix.to_vec()), until);
                let waiting = changes.range::<[u8], _>((
                    range.0.as_ref().map(Vec::as_slice),
                    range.1.as_ref().map(Vec::as_slice),
                ));
                let waiting: Vec<_> = waiting.map(|(key, _)| key.clone()).collect();
                for key in waiting {
                    changes.remove(&key);
                }
                self.prefixes[table as usize].push(prefix);
            }
        }
    }

    /// Ready to be filled again.
    pub(super) fn clear(&mut self) {
        self.told.clear();
        self.admissions.clear();
        self.prefixes.iter_mut().for_each(Vec::clear);
        self.changes.iter_mut().for_each(BTreeMap::clear);
    }
}

fn size(op: &Op) -> usize {
    match op {
        Op::Put { value, .. } => value.len(),
        Op::Delete { .. } | Op::DeletePrefix { .. } => 0,
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
        waiting.bytes += value.map_or(0, <[u8]>::len);
        waiting.batch.changes[table as usize].insert(key.into(), value.map(<[u8]>::to_vec));
        if waiting.awaken(SOFT) {
            self.changed.notify_one();
        }
    }

    /// As `put`, of something bulky; gives it back when there is no room.
    pub(super) fn keep(&self, table: Table, key: Box<[u8]>, value: Vec<u8>) -> Result<(), Vec<u8>> {
        let mut waiting = self.waiting.lock();
        let full = waiting.batch.keys() >= MOST || waiting.bytes >= MOST_BYTES;
        if waiting.shut.is_some() || full {
            return Err(value);
        }
        self.operations.fetch_add(1, Relaxed);
        waiting.bytes += value.len();
        waiting.batch.changes[table as usize].insert(key, Some(value));
        if waiting.awaken(SOFT) {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// `now`: without waiting for others. On an error `told` was not called, and is not.
    pub(super) fn try_write(
        &self,
        ops: Vec<Op>,
        told: OnDurable,
        now: bool,
    ) -> Result<(), (Failed, OnDurable)> {
        let mut waiting = self.waiting.lock();
        let full = waiting.batch.keys() + ops.len() > MOST && !ops.is_empty();
        if let Some(why) = waiting.shut.or(full.then_some(Failed::Full)) {
            drop(waiting);
            if why == Failed::Full {
                self.refuse(ops.len() as u64);
            }
            return Err((why, told));
        }
        self.operations.fetch_add(ops.len() as u64, Relaxed);
        waiting.awaited += ops.len();
        for op in ops {
            waiting.bytes += size(&op);
            waiting.batch.set(op);
        }
        waiting.batch.told.push(told);
        if waiting.awaken(if now { Duration::ZERO } else { GROUP }) {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// As [`Self::try_write`]; `told` is called in any case, here or by the writer.
    pub(super) fn write(&self, ops: Vec<Op>, told: OnDurable, now: bool) {
        if let Err((why, told)) = self.try_write(ops, told, now) {
            told(Err(why));
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

    /// On an error `told` is not called.
    pub(super) fn admit(&self, rows: Vec<NewRow>, told: OnDurable) -> Result<(), Failed> {
        let mut waiting = self.waiting.lock();
        let bytes: usize = rows.iter().map(|row| row.value.len()).sum();
        let full = waiting.batch.keys() + rows.len() > MOST || waiting.bytes >= MOST_BYTES;
        let short = self.short.load(Relaxed).then_some(Failed::NoSpace);
        if let Some(why) = waiting.shut.or(short).or(full.then_some(Failed::Full)) {
            drop(waiting);
            if why == Failed::Full {
                self.refuse(rows.len() as u64);
            }
            return Err(why);
        }
        self.operations.fetch_add(rows.len() as u64, Relaxed);
        waiting.awaited += rows.len();
        waiting.bytes += bytes;
        waiting.batch.admissions.push(Admission { rows, told });
        if waiting.awaken(GROUP) {
            self.changed.notify_one();
        }
        Ok(())
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

    pub(super) fn is_shut(&self) -> bool {
        self.waiting.lock().shut.is_some()
    }

    /// Waits until a commit is due, and takes all that waits into `batch`, which must be empty;
    /// `idle`: so long at most.
    pub(super) fn take(&self, batch: &mut Batch, idle: Option<Duration>) -> Turn {
        let until = idle.map(|idle| Instant::now() + idle);
        let mut waiting = self.waiting.lock();
        loop {
            let Some(due) = waiting.due else {
                if waiting.shut.is_some() {
                    return Turn::End;
                }
                match until {
                    None => self.changed.wait(&mut waiting),
                    Some(until) if Instant::now() < until => {
                        self.changed.wait_until(&mut waiting, until);
                    }
                    Some(_) => return Turn::Idle,
                }
                continue;
            };
            if waiting.shut.is_some() || waiting.is_enough() || due <= Instant::now() {
                break;
            }
            self.changed.wait_until(&mut waiting, due);
        }
        std::mem::swap(&mut waiting.batch, batch);
        waiting.awaited = 0;
        waiting.bytes = 0;
        waiting.due = None;
        Turn::Write
    }

    /// Waits so long, or until it is shut.
    pub(super) fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut waiting = self.waiting.lock();
        while waiting.shut.is_none() && Instant::now() < until {
            self.changed.wait_until(&mut waiting, until);
        }
    }

    /// Nothing is kept any more; who waits is told. Without effect on a queue that has ended well.
    pub(super) fn fail(&self) {
        let mut waiting = self.waiting.lock();
        let Batch { told, admissions, .. } = std::mem::take(&mut waiting.batch);
        waiting.due = None;
        waiting.shut = Some(Failed::Broken);
        self.failed.store(true, Relaxed);
        drop(waiting);
        for told in told.into_iter().chain(admissions.into_iter().map(|one| one.told)) {
            told(Err(Failed::Broken));
        }
    }
}

impl Waiting {
    /// Whether there is no point in waiting for more.
    fn is_enough(&self) -> bool {
        self.awaited >= GROUP_OPS || self.batch.keys() >= MOST / 2 || self.bytes >= MOST_BYTES / 8
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

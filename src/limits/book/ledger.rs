//! Budgets that outlive the process.
//!
//! A hard budget is written down ahead of what is spent: a mark that stands above all that is used
//! and held is on disk before a call may go, so that a crash can lose no debit, and at most makes the
//! budget a step smaller. The others are written as they stand, once a second. Of each bucket one
//! write is under way at a time, so that a low mark never overtakes a high one.
use std::collections::HashMap;

use super::super::bucket::{Bucket, Demand, Moment, Refill};
use super::super::rules::{LimitOf, Scope};
use super::table::{Entry, Table};

/// A bucket's name in the store: limit, and whose.
pub type SavedKey = [u8; 16];

/// A budget as it is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Saved {
    pub level: i64,
    /// End of its period, in Unix seconds; 0 for a rate.
    pub resets: i64,
    /// When it was written, in Unix seconds.
    pub wall: i64,
}

/// What is to be written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsaved {
    pub key: SavedKey,
    pub saved: Saved,
    /// Which bucket, for [`super::Book::saved`].
    pub bucket: usize,
    /// A call may be waiting for it.
    pub urgent: bool,
}

/// How much of a lasting bucket is on disk.
pub(super) struct Ledger {
    key: SavedKey,
    /// What is spent and held may rise to this without another write, in this period.
    mark: i64,
    /// The period that the mark and the need are of, by its end.
    period: i64,
    /// Handed over, not yet on disk; one at a time, so that a low mark never overtakes a high one.
    under_way: bool,
    /// What a waiting call needs it to be.
    needed: i64,
    dirty: bool,
}

/// What is on disk, and what is to be.
#[derive(Default)]
pub(super) struct Ledgers {
    /// What a store gave back at the start.
    restored: HashMap<SavedKey, Saved>,
    /// There is a store: budgets are written down.
    durable: bool,
    /// What calls wait for.
    urgent: Vec<usize>,
}

impl Ledgers {
    /// A new bucket goes on where the store has it. `None` for a scope: the one that many share.
    pub fn open(
        &mut self,
        limit: &LimitOf,
        scope: Option<&Scope<'_>>,
        bucket: &mut Bucket,
        now: Moment,
    ) -> Option<Ledger> {
        if !limit.lasting || (!self.durable && self.restored.is_empty()) {
            return None;
        }
        let key = saved_key(&limit.id, scope);
        // also when the store has been lost since: what was spent is spent
        if let Some(saved) = self.restored.remove(&key) {
            restore(bucket, limit, &saved, now);
        }
        let (mark, period) = (bucket.level(), bucket.resets);
        let ledger = Ledger { key, mark, period, under_way: false, needed: 0, dirty: false };
        self.durable.then_some(ledger)
    }

    /// A bucket's mark must rise.
    pub fn want(&mut self, bucket: usize) {
        self.urgent.push(bucket);
    }
}

impl Table {
    /// What a store has kept, before the first call.
    pub fn restore(&mut self, all: impl IntoIterator<Item = (SavedKey, Saved)>) {
        self.ledgers.restored.extend(all);
        self.ledgers.durable = true;
    }

    /// What is to be written down now: what calls wait for, and with `all` what has changed.
    pub fn take_unsaved(&mut self, all: bool, now: Moment) -> Vec<Unsaved> {
        let urgent = std::mem::take(&mut self.ledgers.urgent);
        let mut unsaved = Vec::new();
        for at in urgent {
            let Some(entry) = self.entries.get_mut(at) else { continue };
            unsaved.extend(entry.write_down(at, true, now));
        }
        if all {
            for (at, entry) in &mut self.entries {
                if entry.ledger.as_ref().is_some_and(|ledger| ledger.dirty) {
                    entry.bucket.refill(&entry.limit.shape, now);
                    unsaved.extend(entry.write_down(at, false, now));
                }
            }
        }
        unsaved
    }

    /// A mark is on disk.
    pub fn saved(&mut self, one: &Unsaved) {
        if let Some(entry) = self.entries.get_mut(one.bucket)
            && let Some(ledger) = &mut entry.ledger
            && ledger.key == one.key
        {
            ledger.under_way = false;
            ledger.turn_to(entry.bucket.resets);
            // a period may have ended while the write was under way
            if one.saved.resets == ledger.period {
                ledger.mark = one.saved.level;
            }
        }
    }

    /// Nothing can be written down any more: budgets go on in memory.
    pub fn lose_store(&mut self) {
        self.ledgers.durable = false;
        for (_, entry) in &mut self.entries {
            entry.ledger = None;
        }
    }
}

impl Ledger {
    pub fn is_written(&self) -> bool {
        !self.dirty && !self.under_way
    }

    /// What is on disk of a period that is over falls away with it at a restart: it covers nothing of
    /// the next, whose first call waits for a write.
    fn turn_to(&mut self, period: i64) {
        if self.period != period {
            (self.period, self.mark, self.needed) = (period, 0, 0);
        }
    }
}

impl Entry {
    /// It has changed since it was written down.
    pub fn touch(&mut self) {
        if let Some(ledger) = &mut self.ledger {
            ledger.dirty = true;
        }
    }

    /// Whether what is on disk covers this demand as well.
    pub fn covers(&mut self, demand: &Demand) -> bool {
        if !self.limit.is_hard_budget() {
            return true;
        }
        let taken = self.bucket.level().saturating_add(self.bucket.held());
        let after = taken
            .saturating_add(demand.now)
            .saturating_add(demand.margin)
            .saturating_add(demand.growth);
        let Some(ledger) = &mut self.ledger else { return true };
        ledger.turn_to(self.bucket.resets);
        let covered = after <= ledger.mark;
        if !covered {
            ledger.needed = ledger.needed.max(after);
        }
        covered
    }

    /// Whether more is used and held than is on disk: a backend that went past what it was asked for.
    pub fn is_past_mark(&mut self) -> bool {
        if !self.limit.is_hard_budget() {
            return false;
        }
        let used = self.bucket.level().saturating_add(self.bucket.held());
        let Some(ledger) = &mut self.ledger else { return false };
        ledger.turn_to(self.bucket.resets);
        used > ledger.mark
    }

    /// What to write: of a hard budget in use, a step above all that is used and held.
    fn write_down(&mut self, at: usize, urgent: bool, now: Moment) -> Option<Unsaved> {
        let hard = self.limit.is_hard_budget();
        let step = if hard { (self.limit.shape.capacity / 64).max(1) } else { 0 };
        let held = if hard { self.bucket.held() } else { 0 };
        let used = self.bucket.level().saturating_add(held);
        let (resets, running) = (self.bucket.resets, self.bucket.running() > 0);
        let ledger = self.ledger.as_mut()?;
        if ledger.under_way || !(urgent || ledger.dirty) {
            return None;
        }
        ledger.turn_to(resets);
        let needed = std::mem::take(&mut ledger.needed);
        let level = if urgent || running { used.max(needed).saturating_add(step) } else { used };
        ledger.dirty = urgent || running;
        ledger.under_way = true;
        // a lower mark holds from now on, a higher one once it is on disk
        ledger.mark = ledger.mark.min(level);
        let saved = Saved { level, resets, wall: now.wall };
        Some(Unsaved { key: ledger.key, saved, bucket: at, urgent })
    }
}

/// As it would be, had the process not ended.
fn restore(bucket: &mut Bucket, limit: &LimitOf, saved: &Saved, now: Moment) {
    // a clock that went back neither refills nor expires
    let away = now.wall.saturating_sub(saved.wall).max(0);
    let level = match &limit.shape.refill {
        Refill::Steady { amount, per } => {
            let nanos = u128::from(away as u64) * 1_000_000_000;
            let refilled = nanos * (*amount as u128) / u128::from(*per);
            saved.level.saturating_sub(i64::try_from(refilled).unwrap_or(i64::MAX)).max(0)
        }
        _ => saved.level,
    };
    bucket.restore(level, saved.resets);
    bucket.refill(&limit.shape, now);
}

fn saved_key(limit: &[u8; 16], scope: Option<&Scope<'_>>) -> SavedKey {
    let mut hasher = blake3::Hasher::new();
    hasher.update(limit);
    match scope {
        Some(scope) => scope.name_to(&mut hasher),
        None => {
            hasher.update(&[0]);
        }
    }
    let mut key = [0; 16];
    key.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    key
}

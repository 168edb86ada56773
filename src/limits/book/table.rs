//! All buckets: found by limit and by whose they are, made when first asked for, forgotten when they
//! are as good as new.
//!
//! Bounded: what clients invent can fill the table, and then shares one bucket a limit. Budgets that
//! outlive the process are written down ahead of what is spent: a mark that stands above what is
//! used and held is on disk before a call may go, so that a crash can lose no debit.
use std::collections::HashMap;
use std::sync::Arc;

use slab::Slab;

use super::super::bucket::{Bucket, Demand, Full, Moment, Refill};
use super::super::prehashed::Prehashed;
use super::super::rules::{LimitOf, Rules, Scope, Subject};
use super::Part;
use super::plan::{Blocked, Clamp, Plan};
use crate::config::Mode;

/// Most buckets.
const MOST: usize = 200_000;
/// How many are looked at in one sweep.
const SWEPT: usize = 2_000;
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

/// One bucket, and what is known of it.
pub(super) struct Entry {
    pub limit: Arc<LimitOf>,
    /// Whose it is, as people read it.
    pub label: Arc<str>,
    pub bucket: Bucket,
    key: (u64, u64),
    /// Calls that wait or run with it.
    pub users: u32,
    pub refused: u64,
    pub would_refuse: u64,
    pub waited: u64,
    ledger: Option<Ledger>,
    /// Its limit is gone from the policy.
    dead: bool,
}

/// How much of a lasting bucket is on disk.
struct Ledger {
    key: SavedKey,
    /// What is spent and held may rise to this without another write.
    mark: i64,
    /// Handed over, not yet on disk; one at a time, so that a low mark never overtakes a high one.
    under_way: bool,
    /// What a waiting call needs it to be.
    needed: i64,
    dirty: bool,
}

#[derive(Default)]
pub(super) struct Table {
    entries: Slab<Entry>,
    /// By limit, and whose.
    index: Prehashed<(u64, u64), usize>,
    /// What a store gave back at the start.
    restored: HashMap<SavedKey, Saved>,
    /// There is a store: budgets are written down.
    pub durable: bool,
    swept: usize,
    unsaved: Vec<usize>,
}

impl Table {
    /// Buckets follow their limits: the same ones go on, with the new amounts.
    pub fn apply(&mut self, rules: &Rules, now: Moment) {
        let limits: HashMap<_, _> =
            rules.all.iter().flat_map(|rule| &rule.limits).map(|limit| (limit.id, limit)).collect();
        for (_, entry) in &mut self.entries {
            // what has refilled so far has done so at the old rate
            entry.bucket.refill(&entry.limit.shape, now);
            match limits.get(&entry.limit.id) {
                Some(limit) => {
                    entry.limit = Arc::clone(limit);
                    entry.dead = false;
                }
                None => entry.dead = true,
            }
        }
    }

    pub fn get(&self, at: usize) -> Option<&Entry> {
        self.entries.get(at)
    }

    pub fn get_mut(&mut self, at: usize) -> Option<&mut Entry> {
        self.entries.get_mut(at)
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.iter_mut().map(|(_, entry)| entry)
    }

    /// The bucket of a call under a limit.
    pub fn find(
        &mut self,
        limit: &Arc<LimitOf>,
        subject: &Subject<'_>,
        whose: u64,
        now: Moment,
    ) -> usize {
        let key = (limit.key, whose);
        if let Some(at) = self.index.get(&key) {
            return *at;
        }
        let (key, label) = if self.entries.len() < MOST {
            (key, Scope::of(limit.per, subject).label())
        } else {
            ((limit.key, u64::MAX), Arc::from("other"))
        };
        if let Some(at) = self.index.get(&key) {
            return *at;
        }
        let mut bucket = Bucket::new(&limit.shape, now);
        let mut ledger = None;
        if self.durable && limit.lasting {
            let name = saved_key(&limit.id, &label);
            if let Some(saved) = self.restored.remove(&name) {
                restore(&mut bucket, limit, &saved, now);
            }
            let mark = bucket.level();
            ledger = Some(Ledger { key: name, mark, under_way: false, needed: 0, dirty: false });
        }
        let entry = Entry {
            limit: Arc::clone(limit),
            label,
            bucket,
            key,
            users: 0,
            refused: 0,
            would_refuse: 0,
            waited: 0,
            ledger,
            dead: false,
        };
        let at = self.entries.insert(entry);
        self.index.insert(key, at);
        at
    }

    /// Whether all buckets of a plan have room; with the bound on its output that makes it fit.
    pub fn check(&mut self, plan: &Plan, now: Moment) -> Result<Option<Clamp>, Blocked> {
        let mut bound = plan.bound;
        let mut blocked: Option<(usize, Full, bool)> = None;
        let mut unsaved = false;
        for part in &plan.parts {
            let Some(entry) = self.entries.get_mut(part.bucket) else { continue };
            if entry.dead {
                continue;
            }
            entry.bucket.refill(&entry.limit.shape, now);
            let mode = entry.limit.shape.mode;
            let demand = if mode == Mode::Hard {
                let tokens = plan.fitting(&entry.bucket, &entry.limit.shape, part);
                bound = bound.map(|bound| bound.min(tokens));
                plan.worst(part, bound)
            } else {
                part.demand
            };
            match entry.bucket.fits(&entry.limit.shape, &demand, now) {
                Ok(()) => {}
                Err(_) if mode == Mode::Observe => {}
                Err(full) => {
                    let own = entry.limit.is_private();
                    if blocked.is_none_or(|(_, worst, _)| is_worse(full, worst)) {
                        blocked = Some((part.bucket, full, own));
                    }
                }
            }
            if mode == Mode::Hard && !entry.covers(&demand) {
                unsaved = true;
                self.unsaved.push(part.bucket);
            }
        }
        match blocked {
            Some((bucket, full, own)) => Err(Blocked::Limit { bucket, full, own }),
            None if unsaved => Err(Blocked::Unsaved),
            None => Ok(plan.clamp(bound)),
        }
    }

    /// The call goes: takes what the plan says of every bucket. Gives a limit that is only watched
    /// and would have said no; such a one is not charged, as the call would not have been made.
    pub fn enter(
        &mut self,
        plan: &Plan,
        clamp: Option<Clamp>,
        parts: &mut Vec<Part>,
        now: Moment,
    ) -> Option<Arc<LimitOf>> {
        let bound = clamp.map(|clamp| clamp.tokens).or(plan.bound);
        let mut would_refuse = None;
        for part in &plan.parts {
            let Some(entry) = self.entries.get_mut(part.bucket) else { continue };
            let Entry { limit, bucket, .. } = entry;
            let demand = match limit.shape.mode {
                Mode::Hard => plan.worst(part, bound),
                Mode::Soft | Mode::Observe => part.demand,
            };
            if limit.shape.mode == Mode::Observe && bucket.fits(&limit.shape, &demand, now).is_err()
            {
                would_refuse = Some(Arc::clone(limit));
                limit.count.refused();
                entry.would_refuse += 1;
                entry.users = entry.users.saturating_sub(1);
                continue;
            }
            bucket.enter(&demand);
            entry.touch();
            parts.push(Part {
                bucket: part.bucket,
                held: demand.growth,
                speed: demand.speed,
                counted: demand.now,
                per_token: part.per_token,
            });
        }
        would_refuse
    }

    /// Somebody waits for a bucket.
    pub fn hold_up(&mut self, at: usize) {
        if let Some(entry) = self.entries.get_mut(at) {
            entry.waited += 1;
        }
    }

    /// Forgets buckets that are as good as new.
    pub fn sweep(&mut self, now: Moment) {
        let end = self.swept + SWEPT;
        for at in self.swept..end {
            let Some(entry) = self.entries.get_mut(at) else { continue };
            entry.bucket.refill(&entry.limit.shape, now);
            let written = entry.ledger.as_ref().is_none_or(|own| !own.dirty && !own.under_way);
            if entry.users == 0 && (entry.dead || (entry.bucket.is_idle() && written)) {
                let entry = self.entries.remove(at);
                self.index.remove(&entry.key);
            }
        }
        self.swept = if end >= self.entries.capacity() { 0 } else { end };
    }

    /// What a store has kept, before the first call.
    pub fn restore(&mut self, all: impl IntoIterator<Item = (SavedKey, Saved)>) {
        self.restored.extend(all);
        self.durable = true;
    }

    /// What is to be written down now: what calls wait for, and with `all` what has changed.
    pub fn take_unsaved(&mut self, all: bool, now: Moment) -> Vec<Unsaved> {
        let urgent = std::mem::take(&mut self.unsaved);
        let mut unsaved = Vec::new();
        for at in urgent {
            let Some(entry) = self.entries.get_mut(at) else { continue };
            unsaved.extend(entry.write_down(at, true, now));
        }
        if all {
            for (at, entry) in &mut self.entries {
                entry.bucket.refill(&entry.limit.shape, now);
                unsaved.extend(entry.write_down(at, false, now));
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
            (ledger.mark, ledger.under_way) = (one.saved.level, false);
        }
    }

    /// Nothing can be written down any more: budgets go on in memory.
    pub fn lose_store(&mut self) {
        self.durable = false;
        for (_, entry) in &mut self.entries {
            entry.ledger = None;
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
    fn covers(&mut self, demand: &Demand) -> bool {
        if !self.limit.is_hard_budget() {
            return true;
        }
        let after = self.bucket.level() + self.bucket.held() + demand.now + demand.growth;
        let Some(ledger) = &mut self.ledger else { return true };
        let covered = after <= ledger.mark;
        if !covered {
            ledger.needed = ledger.needed.max(after);
        }
        covered
    }

    /// What to write: of a hard budget in use, a step above all that is used and held.
    fn write_down(&mut self, at: usize, urgent: bool, now: Moment) -> Option<Unsaved> {
        let hard = self.limit.is_hard_budget();
        let step = if hard { (self.limit.shape.capacity / 64).max(1) } else { 0 };
        let used = self.bucket.level() + if hard { self.bucket.held() } else { 0 };
        let (resets, running) = (self.bucket.resets, self.bucket.running() > 0);
        let ledger = self.ledger.as_mut()?;
        if ledger.under_way || !(urgent || ledger.dirty) {
            return None;
        }
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

fn is_worse(full: Full, than: Full) -> bool {
    let rank = |full| match full {
        Full::Never => u64::MAX,
        Full::For(nanos) => nanos,
        Full::UntilFree => 0,
    };
    rank(full) > rank(than)
}

fn saved_key(limit: &[u8; 16], label: &str) -> SavedKey {
    let mut hasher = blake3::Hasher::new();
    hasher.update(limit).update(label.as_bytes());
    let mut key = [0; 16];
    key.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    key
}

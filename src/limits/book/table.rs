//! All buckets: found by limit and by whose they are, made when first asked for, forgotten when they
//! are as good as new.
//!
//! Bounded: what clients invent can fill the table, and then shares one bucket a limit. A bucket whose
//! limit has left the policy holds nobody up, and goes on where it stood if the limit comes back.
use std::collections::HashMap;
use std::sync::Arc;

use slab::Slab;

use super::super::bucket::{Bucket, Moment};
use super::super::prehashed::Prehashed;
use super::super::rules::{LimitOf, Rules, Scope, Subject};
use super::Part;
use super::ledger::{Ledger, Ledgers};
use super::plan::{Blocked, Clamp, Held, Plan, PlanPart};
use crate::config::Mode;

/// Most buckets.
const MOST: usize = 200_000;
/// How many are looked at in one sweep.
const SWEPT: usize = 2_000;
/// How many are shown at a time: nobody is kept waiting for all of them.
const PAGE: usize = 4_000;

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
    pub(super) ledger: Option<Ledger>,
    /// Its limit is gone from the policy.
    dead: bool,
    users_are: Users,
    /// In which round of turns somebody was found to wait for it.
    closed: u64,
}

/// Whose calls a bucket has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Users {
    Nobody,
    One(u64),
    Several,
}

pub(super) struct Table {
    pub(super) entries: Slab<Entry>,
    /// By limit, and whose.
    index: Prehashed<(u64, u64), usize>,
    pub ledgers: Ledgers,
    /// Most entries.
    pub(super) most: usize,
    swept: usize,
    round: u64,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            entries: Slab::new(),
            index: Prehashed::default(),
            ledgers: Ledgers::default(),
            most: MOST,
            swept: 0,
            round: 0,
        }
    }
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

    /// Looks at some of them, from a place on; where the next begin. Between two pages a place may
    /// be freed or taken.
    pub fn page(&mut self, from: usize, mut each: impl FnMut(&mut Entry)) -> Option<usize> {
        let end = from.saturating_add(PAGE).min(self.entries.capacity());
        for at in from..end {
            if let Some(entry) = self.entries.get_mut(at) {
                each(entry);
            }
        }
        (end < self.entries.capacity()).then_some(end)
    }

    /// The bucket of a call under a limit.
    pub fn find(
        &mut self,
        limit: &Arc<LimitOf>,
        subject: &Subject<'_>,
        whose: u64,
        near: Option<usize>,
        now: Moment,
    ) -> usize {
        let key = (limit.key, whose);
        // buckets of one policy were made one after the other, and mostly lie so
        if let Some(next) = near.map(|near| near + 1)
            && self.entries.get(next).is_some_and(|entry| entry.key == key)
        {
            return next;
        }
        if let Some(at) = self.index.get(&key) {
            return *at;
        }
        let own = self.entries.len() < self.most;
        let scope = Scope::of(limit.per, subject);
        let (key, label) =
            if own { (key, scope.label()) } else { ((limit.key, u64::MAX), Arc::from("other")) };
        if let Some(at) = self.index.get(&key) {
            return *at;
        }
        let mut bucket = Bucket::new(&limit.shape, now);
        let ledger = self.ledgers.open(limit, own.then_some(&scope), &mut bucket, now);
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
            users_are: Users::Nobody,
            closed: 0,
        };
        let at = self.entries.insert(entry);
        self.index.insert(key, at);
        at
    }

    /// A call of this agent waits or runs with a bucket.
    pub fn join(&mut self, at: usize, agent: u64) {
        let Some(entry) = self.entries.get_mut(at) else { return };
        entry.users += 1;
        entry.users_are = match entry.users_are {
            Users::Nobody => Users::One(agent),
            Users::One(known) if known == agent => Users::One(agent),
            _ => Users::Several,
        };
    }

    /// A new round of turns: nobody is known to wait for anything.
    /// Gives its number.
    pub fn begin_round(&mut self) -> u64 {
        self.round += 1;
        self.round
    }

    /// Somebody waits for a bucket: until the round is over it is not taken from under him.
    pub fn close(&mut self, at: usize) {
        if let Some(entry) = self.entries.get_mut(at) {
            entry.closed = self.round;
        }
    }

    /// A bucket of these that somebody waits for, the agent's own first; and whether it is that.
    pub fn closed(&self, parts: &[PlanPart]) -> Option<(usize, bool)> {
        let mut found = None;
        for part in parts.iter().filter(|part| part.paid.is_none()) {
            let Some(entry) = self.entries.get(part.bucket) else { continue };
            if entry.closed == self.round && !entry.dead {
                if entry.is_own() {
                    return Some((part.bucket, true));
                }
                found = found.or(Some((part.bucket, false)));
            }
        }
        found
    }

    /// Whether all buckets of a plan have room; with the bound on its output that makes it fit.
    pub fn check(&mut self, plan: &Plan, now: Moment) -> Result<Option<Clamp>, Blocked> {
        let mut bound = plan.bound;
        let mut held_up = None::<Held>;
        let mut unsaved = None;
        for part in &plan.parts {
            let Some(entry) = self.entries.get_mut(part.bucket) else { continue };
            entry.bucket.refill(&entry.limit.shape, now);
            if entry.dead || part.paid.is_some() {
                continue;
            }
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
                    let found = Held::found(part.bucket, full, entry);
                    held_up = Some(held_up.map_or(found, |known| known.and(found)));
                }
            }
            if mode == Mode::Hard && !entry.covers(&demand) {
                unsaved = unsaved.or(Some(part.bucket));
                self.ledgers.want(part.bucket);
            }
        }
        match (held_up, unsaved) {
            (Some(held), _) => Err(Blocked::Limit(held)),
            (None, Some(bucket)) => Err(Blocked::Unsaved { bucket }),
            (None, None) => Ok(plan.clamp(bound)),
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
            let observes = limit.shape.mode == Mode::Observe && part.paid.is_none();
            if observes && bucket.fits(&limit.shape, &demand, now).is_err() {
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
                margin: demand.margin,
                speed: demand.speed,
                counted: part.counted(),
                sunk: part.paid.is_some_and(|paid| paid.sunk),
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
            let written = entry.ledger.as_ref().is_none_or(Ledger::is_written);
            if entry.users == 0 && entry.bucket.is_idle() && written {
                let entry = self.entries.remove(at);
                self.index.remove(&entry.key);
            }
        }
        self.swept = if end >= self.entries.capacity() { 0 } else { end };
    }
}

impl Entry {
    /// Only one agent's calls fill it.
    pub fn is_own(&self) -> bool {
        matches!(self.users_are, Users::One(_))
    }
}

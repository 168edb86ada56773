//! When the answer is no: what may not wait, and what a refusal tells.
use std::sync::Arc;
use std::time::Duration;

use super::super::bucket::{Full, Moment, Refill};
use super::super::queue::CallId;
use super::lane::LaneId;
use super::plan::{Ask, Blocked, Clamp, Held, Plan};
use super::table::Entry;
use super::{Book, Decision, Denial, Why};
use crate::config::{Mode, RunawayAction};

/// What a call that was slowed down has at least to go in.
const TURN: Duration = Duration::from_secs(1);

impl Book {
    /// What no waiting will change.
    pub(super) fn impossible(plan: &Plan, ask: &Ask<'_>) -> Option<Denial> {
        let refusal = |why| Denial { why, ..Denial::default() };
        if plan.runaway.is_some_and(|flag| flag.action == RunawayAction::Stop) {
            return Some(refusal(Why::Runaway));
        }
        let unpriced = plan.hard_money && ask.counted && ask.rate.is_none_or(|rate| !rate.known);
        unpriced.then(|| refusal(Why::Unpriced))
    }

    /// A limit that is full, and whose policy has no queue, or none long enough.
    pub(super) fn may_not_wait(&self, plan: &Plan, held: &Held) -> Option<Denial> {
        let (bucket, full) = match (held.full, held.strict) {
            (Full::Never, _) | (_, None) => (held.bucket, held.full),
            (_, Some(strict)) => strict,
        };
        let entry = self.table.get(bucket)?;
        let denial = entry.denial(full);
        let Some(queue) = entry.limit.queue.filter(|_| full != Full::Never) else {
            return Some(denial);
        };
        let longest = plan.patience.map_or(queue.wait, |patience| patience.min(queue.wait));
        let shape = &entry.limit.shape;
        let soonest = match full {
            // what it holds is the worst case, and most of that comes back
            Full::For(nanos) if shape.mode == Mode::Hard => {
                entry.bucket.wait_if_freed(shape, nanos)
            }
            Full::For(nanos) => nanos,
            Full::UntilFree | Full::Never => 0,
        };
        (Duration::from_nanos(soonest) > longest).then_some(denial)
    }

    /// How long a call will stand in line at most.
    pub(super) fn patience(
        &self,
        plan: &Plan,
        blocked: &Result<Option<Clamp>, Blocked>,
        now: Moment,
    ) -> Duration {
        let longest = match blocked {
            Err(Blocked::Limit(held)) => self
                .table
                .get(held.bucket)
                .and_then(|entry| entry.limit.queue)
                .map_or(Duration::ZERO, |queue| queue.wait),
            _ => plan.wait.unwrap_or_else(|| self.usual_wait(plan.entrance)),
        };
        // what slows it down comes before its turn, and takes nothing off that
        let longest = match plan.not_before.saturating_sub(now.at) {
            0 => longest,
            slowed => longest.max(TURN).saturating_add(Duration::from_nanos(slowed)),
        };
        let longest = plan.patience.map_or(longest, |patience| patience.min(longest));
        // a pause that is longer than anybody waits is told at once
        match self.pools[plan.pool].paces.ready(plan, now.at) {
            Err(until)
                if until != u64::MAX
                    && Duration::from_nanos(until.saturating_sub(now.at)) > longest =>
            {
                Duration::ZERO
            }
            _ => longest,
        }
    }

    pub(super) fn denial_of(
        &self,
        plan: &Plan,
        blocked: &Result<Option<Clamp>, Blocked>,
        now: Moment,
    ) -> Denial {
        let limit = match blocked {
            Err(Blocked::Limit(held)) => self.table.get(held.bucket),
            _ => None,
        };
        // the lane is what is in the way, and not what lies behind it
        let is_full =
            |lane: &LaneId| !self.lanes[*lane].has_slot() || self.is_full_of_waiting(plan.entrance);
        let lane = plan.lane.filter(|lane| limit.is_none() && is_full(lane));
        let paused = self.pools[plan.pool].paces.ready(plan, now.at).err();
        let retry = paused.map(|until| Duration::from_nanos(until.saturating_sub(now.at)));
        Denial {
            why: Why::Full,
            limit: limit.map(|entry| (Arc::clone(&entry.limit), entry.label.clone())),
            lane: lane.map(|lane| Arc::clone(&self.lanes[lane].rule.name)),
            retry,
            ..Denial::default()
        }
    }

    /// Says no, and counts it where it belongs.
    pub(super) fn refuse(&mut self, plan: Plan, mut denial: Denial, now: Moment) -> Decision {
        self.tell(&plan, &mut denial, now);
        self.release(plan);
        Decision::No(denial)
    }

    /// What a call waits for whose time is up; it counts as refused by that. It is still in line, and
    /// to [`Self::leave`].
    pub fn waits_for(&mut self, call: CallId, now: Moment) -> Option<Denial> {
        let plan = std::mem::take(&mut self.waits.get_mut(call)?.plan);
        let blocked = self.table.check(&plan, now);
        let mut denial = self.denial_of(&plan, &blocked, now);
        if let Err(Blocked::Limit(Held { full: Full::For(nanos), .. })) = blocked {
            denial.retry = Some(Duration::from_nanos(nanos));
        }
        self.tell(&plan, &mut denial, now);
        if let Some(waiting) = self.waits.get_mut(call) {
            waiting.plan = plan;
        }
        Some(denial)
    }

    /// Adds how all limits stand, and counts the refusal.
    pub(super) fn tell(&mut self, plan: &Plan, denial: &mut Denial, now: Moment) {
        let buckets = plan.parts.iter().map(|part| part.bucket);
        denial.runaway = plan.runaway;
        denial.standing = self.table.standing(buckets, now);
        if let Some((limit, label)) = &denial.limit {
            let refusing = plan.parts.iter().map(|part| part.bucket).find(|at| {
                let is = |entry: &Entry| entry.limit.id == limit.id && entry.label == *label;
                self.table.get(*at).is_some_and(is)
            });
            if let Some(entry) = refusing.and_then(|at| self.table.get_mut(at)) {
                entry.refused += 1;
                entry.limit.count.refused();
            }
        }
    }
}

impl Entry {
    /// What a call is told that finds it full.
    pub(super) fn denial(&self, full: Full) -> Denial {
        let (retry, why) = match full {
            Full::Never => (None, Why::TooLarge),
            Full::For(nanos) if self.limit.is_hard_budget() => {
                (Some(Duration::from_nanos(nanos)), Why::Spent)
            }
            Full::For(nanos) => (Some(Duration::from_nanos(nanos)), Why::Full),
            Full::UntilFree => (self.pays_off(), Why::Full),
        };
        let limit = Some((Arc::clone(&self.limit), self.label.clone()));
        Denial { why, limit, retry, ..Denial::default() }
    }

    /// Until what is used of a steady rate has refilled; a hint, where nobody knows when what is held
    /// comes free.
    fn pays_off(&self) -> Option<Duration> {
        let shape = &self.limit.shape;
        let Refill::Steady { .. } = shape.refill else { return None };
        let nanos = self.bucket.resets_in(shape, Moment::default());
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }
}

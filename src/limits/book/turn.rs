//! Whose turn it is: goes through a queue, and lets go who can.
use super::super::bucket::{Full, Moment};
use super::super::queue::{CallId, Look};
use super::Book;
use super::plan::{Blocked, Clamp, Plan};
use super::pool::{Paces, PoolId};
use super::table::Table;

impl Book {
    pub(super) fn drain_all(&mut self, now: Moment) {
        self.wake_at = None;
        for pool in 0..self.pools.len() {
            self.drain(pool, now);
        }
    }

    /// Lets waiting calls of one pool go, as long as any can.
    pub(super) fn drain(&mut self, at: PoolId, now: Moment) {
        if self.pools[at].queue.waiting() == 0 {
            return;
        }
        self.pools[at].queue.advance(now.at);
        let mut held_up = HeldUp { buckets: Vec::new(), wake: u64::MAX };
        while let Some((call, clamp)) = self.next(at, &mut held_up, now) {
            let waiting = &mut self.waits[call];
            let plan = std::mem::take(&mut waiting.plan);
            self.present(plan.agent, |agent| agent.waiting = agent.waiting.saturating_sub(1));
            let grant = self.grant(&plan, clamp, now);
            self.recycle(plan);
            let waiting = &mut self.waits[call];
            waiting.turn = Some(grant);
            self.woken.extend(waiting.waker.take());
        }
        let wake = held_up.wake.min(self.pools[at].queue.wake_at().unwrap_or(u64::MAX));
        if wake < u64::MAX {
            self.wake_at = Some(self.wake_at.map_or(wake, |at| at.min(wake)));
        }
    }

    /// The next call of a pool that may go, with its clamp.
    fn next(
        &mut self,
        at: PoolId,
        held_up: &mut HeldUp,
        now: Moment,
    ) -> Option<(CallId, Option<Clamp>)> {
        let Self { pools, waits, table, .. } = self;
        let pool = &mut pools[at];
        if !pool.has_slot() {
            return None;
        }
        let share = pool.share();
        let paces = &pool.paces;
        let mut clamp = None;
        let (_, call) = pool.queue.take(now.at, share, |call| {
            let Some(waiting) = waits.get(call) else { return Look::HeldByShared };
            match held_up.look(&waiting.plan, paces, table, now) {
                Ok(found) => {
                    clamp = found;
                    Look::Go
                }
                Err(look) => look,
            }
        })?;
        Some((call, clamp))
    }
}

/// What one round through a queue has found full.
struct HeldUp {
    /// Somebody waits for these already: they are not taken from under them.
    buckets: Vec<usize>,
    wake: u64,
}

impl HeldUp {
    /// Whether a waiting call may go.
    fn look(
        &mut self,
        plan: &Plan,
        paces: &Paces,
        table: &mut Table,
        now: Moment,
    ) -> Result<Option<Clamp>, Look> {
        if plan.uses_any(&self.buckets) {
            return Err(Look::HeldByShared);
        }
        if let Err(until) = paces.ready(plan, now.at) {
            self.wake = self.wake.min(until);
            return Err(Look::HeldByShared);
        }
        match table.check(plan, now) {
            Ok(clamp) => Ok(clamp),
            Err(Blocked::Limit { full, own: true, .. }) => {
                Err(Look::HeldByOwn(until(full, now.at)))
            }
            Err(Blocked::Limit { bucket, full, own: false }) => {
                self.wake = self.wake.min(until(full, now.at));
                self.buckets.push(bucket);
                Err(Look::HeldByShared)
            }
            Err(Blocked::Unsaved) => Err(Look::HeldByShared),
        }
    }
}

/// When to look again at a bucket that is full.
fn until(full: Full, now: u64) -> u64 {
    match full {
        Full::For(nanos) => now.saturating_add(nanos),
        Full::UntilFree | Full::Never => u64::MAX,
    }
}

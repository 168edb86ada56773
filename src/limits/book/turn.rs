//! Whose turn it is: goes through the queues before an upstream, and lets go who can.
use super::super::bucket::{Full, Moment};
use super::super::queue::{CallId, Gate, LOOK_AGAIN, Look};
use super::Book;
use super::line::{Hopeless, Turn, Waiting};
use super::plan::{Blocked, Clamp, Held};
use super::pool::{Paces, PoolId};
use super::table::Table;

impl Book {
    pub(super) fn drain_all(&mut self, now: Moment) {
        self.wake_at = None;
        self.drain_each(now);
    }

    /// Lets waiting calls go, as long as any can. Of a lane that leads to several upstreams, who has
    /// been without a turn for longest comes first: the upstreams of the others are looked at again
    /// when that one has gone, or could not.
    pub(super) fn drain_each(&mut self, now: Moment) {
        let mut gave_way = false;
        for pool in 0..self.pools.len() {
            gave_way |= self.drain_in(pool, true, now);
        }
        for pool in (0..self.pools.len()).filter(|_| gave_way) {
            self.drain(pool, now);
        }
    }

    /// The same at one upstream.
    pub(super) fn drain(&mut self, at: PoolId, now: Moment) {
        self.drain_in(at, false, now);
    }

    /// `polite`: it stops where a call is to give way to another of its lane, and says so.
    fn drain_in(&mut self, at: PoolId, polite: bool, now: Moment) -> bool {
        if self.waiting_at(&self.pools[at].entrances) == 0 {
            return false;
        }
        for entrance in &self.pools[at].entrances {
            self.entrances[*entrance].queue.advance(now.at);
        }
        let round = self.table.begin_round();
        let mut held_up = HeldUp {
            round,
            polite,
            gave_way: false,
            paces: Vec::new(),
            hopeless: Vec::new(),
            wake: u64::MAX,
        };
        while let Some((call, clamp)) = self.next(at, &mut held_up, now) {
            let waiting = &mut self.waits[call];
            let plan = std::mem::take(&mut waiting.plan);
            self.present(plan.agent, |agent| agent.waiting = agent.waiting.saturating_sub(1));
            let grant = self.grant(&plan, clamp, now);
            self.recycle(plan);
            let waiting = &mut self.waits[call];
            waiting.turn = Some(Turn::Go(grant));
            self.woken.extend(waiting.waker.take());
        }
        let all = self.pools[at].entrances.iter();
        let parked = all.filter_map(|entrance| self.entrances[*entrance].queue.wake_at()).min();
        let wake = held_up.wake.min(parked.unwrap_or(u64::MAX));
        if wake < u64::MAX {
            self.wake_at = Some(self.wake_at.map_or(wake, |at| at.min(wake)));
        }
        held_up.gave_way
    }

    /// The next call of a pool that may go, with its clamp.
    fn next(
        &mut self,
        at: PoolId,
        held_up: &mut HeldUp,
        now: Moment,
    ) -> Option<(CallId, Option<Clamp>)> {
        while self.pools[at].has_slot() {
            let chosen = self.whose_turn(at, held_up.round)?;
            if held_up.polite && self.gives_way(chosen) {
                held_up.gave_way = true;
                return None;
            }
            let share = self.share(chosen);
            let Self { pools, entrances, waits, table, .. } = self;
            let paces = &pools[at].paces;
            let mut clamp = None;
            let taken = entrances[chosen].queue.take(now.at, share, |call| {
                let Some(waiting) = waits.get(call) else { return Look::HeldByOwn(u64::MAX) };
                match held_up.look(call, waiting, paces, table, now) {
                    Ok(found) => {
                        clamp = found;
                        Look::Go
                    }
                    Err(look) => look,
                }
            });
            if taken.is_none() {
                entrances[chosen].passed = held_up.round;
            }
            self.give_up_on(&mut held_up.hopeless);
            if let Some((_, call)) = taken {
                self.had_turn(chosen);
                return Some((call, clamp));
            }
        }
        None
    }
}

/// What one round through an upstream's queues has found full, beside the buckets that the table has closed.
struct HeldUp {
    /// The round's number.
    round: u64,
    polite: bool,
    gave_way: bool,
    paces: Vec<(u64, u64)>,
    /// Who has left the line for good, and is to be told.
    hopeless: Vec<(CallId, Hopeless)>,
    wake: u64,
}

impl HeldUp {
    /// Whether a waiting call may go. What holds it up is kept for it: who comes after it in the
    /// round and asks for the same waits as well, be it for less.
    fn look(
        &mut self,
        call: CallId,
        waiting: &Waiting,
        paces: &Paces,
        table: &mut Table,
        now: Moment,
    ) -> Result<Option<Clamp>, Look> {
        let plan = &waiting.plan;
        // before all else: what it will ask for then is kept for nobody now
        if plan.not_before > now.at {
            self.wake = self.wake.min(plan.not_before);
            return Err(Look::HeldByOwn(plan.not_before));
        }
        let closed = table.closed(&plan.parts).map(|closed| match closed {
            (_, true) => Look::HeldByOwn(u64::MAX),
            (bucket, false) => Look::HeldByShared(Gate::Bucket(bucket)),
        });
        if let Some(closed) = closed.filter(|_| !plan.budgeted) {
            return Err(closed);
        }
        let checked = table.check(plan, now);
        if let Err(Blocked::Limit(held)) = checked {
            if let Some(hopeless) = waiting.is_hopeless(&held, now) {
                self.hopeless.push((call, hopeless));
                return Err(Look::Hopeless);
            }
            if closed.is_none() {
                return Err(self.hold(&held, table, now));
            }
        }
        if let Some(closed) = closed {
            return Err(closed);
        }
        let key = plan.pace_key;
        let gate = Look::HeldByShared(Gate::Pace(key.0, key.1));
        if !plan.here && self.paces.contains(&key) {
            return Err(gate);
        }
        if let Err(until) = paces.ready(plan, now.at) {
            self.wake = self.wake.min(until);
            self.paces.push(key);
            return Err(gate);
        }
        checked.map_err(|blocked| match blocked {
            Blocked::Limit(held) => self.hold(&held, table, now),
            Blocked::Unsaved { bucket } => Look::HeldByShared(Gate::Bucket(bucket)),
        })
    }

    fn hold(&mut self, held: &Held, table: &mut Table, now: Moment) -> Look {
        let until = match held.full {
            // it can only run out of time, and is in nobody's way
            Full::Never => return Look::HeldByOwn(u64::MAX),
            Full::For(nanos) => now.at.saturating_add(nanos),
            // another call's end is told; a calendar that turns is not
            Full::UntilFree => u64::MAX,
        };
        if let Some(own) = held.own {
            table.close(own);
            return Look::HeldByOwn(until);
        }
        table.close(held.bucket);
        self.wake = self.wake.min(until.min(now.at.saturating_add(LOOK_AGAIN)));
        Look::HeldByShared(Gate::Bucket(held.bucket))
    }
}

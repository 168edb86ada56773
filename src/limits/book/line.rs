//! A call in line: how it comes to stand there, and how it leaves.
use std::task::Waker;

use super::super::bucket::{Full, Moment, SECOND};
use super::super::queue::{CallId, FlowId};
use super::plan::{Blocked, Clamp, Held, Plan};
use super::settle::End;
use super::{Book, Decision, Denial, Grant, Why};
use crate::identity::Class;

/// A call in line.
pub(super) struct Waiting {
    pub plan: Plan,
    pub flow: FlowId,
    pub class: Class,
    /// The last moment of its patience.
    until: u64,
    pub waker: Option<Waker>,
    pub turn: Option<Turn>,
}

/// What has become of it; it stands in no line any more.
pub(super) enum Turn {
    Go(Box<Grant>),
    No(Hopeless),
}

/// A limit has nothing to give before its calendar turns, and that is too late.
pub(super) struct Hopeless {
    bucket: usize,
    /// In nanoseconds.
    opens_in: u64,
    seen: Moment,
}

impl Waiting {
    /// Whether its patience ends before the period of a limit that is used up. Of other limits nobody
    /// knows: calls that end may make room at any time.
    pub fn is_hopeless(&self, held: &Held, now: Moment) -> Option<Hopeless> {
        let (bucket, opens_in) = held.period?;
        // the calendar counts in whole seconds
        let late = now.at.saturating_add(opens_in) > self.until.saturating_add(SECOND);
        late.then_some(Hopeless { bucket, opens_in, seen: now })
    }
}

impl Book {
    /// Puts a call in line, and lets those go who can: it may be the first of them, as who stands
    /// there already may wait for something else.
    pub(super) fn wait(
        &mut self,
        plan: Plan,
        blocked: &Result<Option<Clamp>, Blocked>,
        now: Moment,
    ) -> Decision {
        let longest = self.patience(&plan, blocked, now);
        let queue = &mut self.entrances[plan.entrance].queue;
        let flow = queue.flow(plan.agent, now.at);
        let is_full =
            queue.waiting_in(flow) >= plan.depth() || self.is_full_of_waiting(plan.entrance);
        let no =
            if longest.is_zero() { Some(Why::Full) } else { is_full.then_some(Why::QueueFull) };
        if let Some(why) = no
            && (blocked.is_err() || !self.has_room(&plan, now.at))
        {
            let denial = Denial { why, ..self.denial_of(&plan, blocked, now) };
            return self.refuse(plan, denial, now);
        }
        if let Err(Blocked::Limit(held)) = blocked {
            self.table.hold_up(held.bucket);
        }
        self.present(plan.agent, |agent| agent.waiting += 1);
        let (pool, entrance, class) = (plan.pool, plan.entrance, plan.class);
        let until = now.at.saturating_add(u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX));
        let waiting = Waiting { plan, flow, class, until, waker: None, turn: None };
        let call = self.waits.insert(waiting);
        self.push(entrance, flow, class, call);
        self.drain(pool, now);
        match self.had(call) {
            Some(Ok(grant)) => return Decision::Go(grant),
            Some(Err(denial)) => return Decision::No(*denial),
            None => {}
        }
        let Some(why) = no else {
            self.most_waited = self.most_waited.max(self.waits.len());
            return Decision::Wait { call, longest };
        };
        let plan = self.take_from_line(call);
        let denial = Denial { why, ..self.denial_of(&plan, blocked, now) };
        self.refuse(plan, denial, now)
    }

    /// A call that has not had its turn leaves the line.
    fn take_from_line(&mut self, call: CallId) -> Plan {
        let Waiting { plan, flow, class, .. } = self.waits.remove(call);
        self.entrances[plan.entrance].queue.remove(flow, class, call);
        self.present(plan.agent, |agent| agent.waiting = agent.waiting.saturating_sub(1));
        plan
    }

    /// Whether a waiting call's turn has come, or never will in its time; else `waker` is told when
    /// it does.
    pub fn poll(&mut self, call: CallId, waker: &Waker) -> Option<Result<Box<Grant>, Box<Denial>>> {
        if let Some(had) = self.had(call) {
            return Some(had);
        }
        let waiting = self.waits.get_mut(call)?;
        match &mut waiting.waker {
            Some(known) => known.clone_from(waker),
            None => waiting.waker = Some(waker.clone()),
        }
        None
    }

    /// What has become of a waiting call, which is forgotten then.
    fn take_turn(&mut self, call: CallId) -> Option<(Turn, Plan)> {
        let turn = self.waits.get_mut(call)?.turn.take()?;
        Some((turn, self.waits.remove(call).plan))
    }

    /// The same, as the caller is told.
    fn had(&mut self, call: CallId) -> Option<Result<Box<Grant>, Box<Denial>>> {
        let (turn, plan) = self.take_turn(call)?;
        Some(match turn {
            Turn::Go(grant) => Ok(grant),
            Turn::No(Hopeless { bucket, opens_in, seen }) => {
                let entry = self.table.get(bucket);
                let denial = entry.map(|entry| entry.denial(Full::For(opens_in)));
                let mut denial = denial.unwrap_or_default();
                self.tell(&plan, &mut denial, seen);
                self.release(plan);
                Err(Box::new(denial))
            }
        })
    }

    /// These are out of the line, and will be told what who asks now is told. That is made up only
    /// when they ask for it: they may be many, and the book is locked.
    pub(super) fn give_up_on(&mut self, hopeless: &mut Vec<(CallId, Hopeless)>) {
        for (call, hopeless) in hopeless.drain(..) {
            let Some(waiting) = self.waits.get_mut(call) else { continue };
            let agent = waiting.plan.agent;
            waiting.turn = Some(Turn::No(hopeless));
            self.woken.extend(waiting.waker.take());
            self.present(agent, |agent| agent.waiting = agent.waiting.saturating_sub(1));
        }
    }

    /// A waiting call gives up. If its turn had come, that is undone.
    pub fn leave(&mut self, call: CallId, now: Moment) {
        match self.take_turn(call) {
            Some((Turn::Go(grant), _)) => {
                self.settle(grant, &End::unsent(), now);
                return;
            }
            Some((Turn::No(_), plan)) => return self.release(plan),
            None => {}
        }
        if !self.waits.contains(call) {
            return;
        }
        let plan = self.take_from_line(call);
        let pool = plan.pool;
        self.release(plan);
        // another call of this agent may be next in line
        self.drain(pool, now);
    }

    /// Calls before it in its agent's line.
    pub fn position(&self, call: CallId) -> Option<usize> {
        let waiting = self.waits.get(call).filter(|waiting| waiting.turn.is_none())?;
        let queue = &self.entrances[waiting.plan.entrance].queue;
        queue.position(waiting.flow, waiting.class, call)
    }
}

//! A call moves: its attempt at one upstream is over, and it asks for a place at another.
//!
//! Between the two nobody is let go, so that it does not lose to a waiting call what it has just
//! given back. As a request it counts once in each limit that both attempts are under, however the
//! first one ended; tokens and money count for each attempt.
use super::super::bucket::{Demand, Moment};
use super::plan::{Ask, Paid, Plan};
use super::settle::{End, Fate, Settled};
use super::{Book, Decision, Grant, Part};
use crate::config::Measure;

impl Book {
    /// Settles what the call had, and asks anew. It goes before those who wait if there is a place;
    /// else it stands in line, or with no patience ([`Ask::patience`]) is refused at once.
    pub fn exchange(
        &mut self,
        mut grant: Box<Grant>,
        end: &End,
        ask: &Ask<'_>,
        now: Moment,
    ) -> (Settled, Decision) {
        let mut plan = self.plan(ask, Some(&grant), now);
        self.take_along(&mut plan, &mut grant, end.fate);
        let (agent, budgeted) = (grant.agent, grant.budgeted);
        let settled = self.close(grant, end, now);
        let decision = self.decide(plan, ask, now);
        self.drain_waiting(agent, budgeted, now);
        (settled, decision)
    }

    /// What the first attempt counts as a request serves the next one as well.
    fn take_along(&mut self, plan: &mut Plan, grant: &mut Grant, fate: Fate) {
        for part in &mut plan.parts {
            let Some(entry) = self.table.get(part.bucket) else { continue };
            let is_same = |old: &&mut Part| old.bucket == part.bucket;
            let Some(old) = grant.parts.iter_mut().find(is_same) else { continue };
            if entry.limit.measure != Measure::Requests {
                continue;
            }
            let sunk = old.sunk || fate != Fate::Unsent;
            (part.paid, part.demand) = (Some(Paid { sunk }), Demand::default());
            // settling it gives nothing back
            old.sunk = true;
        }
    }
}

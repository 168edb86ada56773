//! How an upstream call goes, for whoever answers for it.
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Record;
use crate::limits::book::Settled;
use crate::pipeline::status::Saved;
use crate::route::Aim;
use crate::telemetry::metrics::Kept;
use crate::telemetry::trace::CallTrace;
use crate::upstream::answer::Answer;
use crate::wire::Usage;

/// Whoever wants to know how an upstream call goes.
pub trait Watch {
    fn sent(&mut self, at: Instant);
    /// It goes to another target than was thought.
    fn moved(&mut self, aim: &Aim);
    fn answered(&mut self, answer: &Answer);
    /// So often it was sent by now.
    fn tried(&mut self, times: u32);
    /// What the call has cost, where a limit has counted it.
    fn billed(&mut self, settled: Option<&Settled>);
    /// Where its attempts are written down, if the call is sampled.
    fn trace(&self) -> Option<Rc<CallTrace>>;
}

/// How an upstream call goes that several calls wait for; the record of the first follows it.
#[derive(Clone, Default)]
pub struct Trace {
    pub sent: Option<Instant>,
    pub arrived: Option<Instant>,
    pub attempts: u32,
    pub reused: bool,
    pub first_token: Option<Instant>,
    pub usage: Option<Usage>,
    pub content_events: u64,
    pub settled: Option<Settled>,
    /// Where it went in the end, if not where it was sent first.
    pub aim: Option<Aim>,
    /// What it did not have to ask for.
    pub saved: Option<(Saved, Usage)>,
    /// Of the call that began it.
    pub spans: Option<Rc<CallTrace>>,
}

impl Watch for Trace {
    fn sent(&mut self, at: Instant) {
        self.sent.get_or_insert(at);
    }

    fn moved(&mut self, aim: &Aim) {
        self.aim = Some(aim.clone());
    }

    fn answered(&mut self, answer: &Answer) {
        self.arrived = Some(answer.arrived);
        (self.attempts, self.reused) = (answer.tries, answer.reused);
    }

    fn tried(&mut self, times: u32) {
        self.attempts = times;
    }

    fn billed(&mut self, settled: Option<&Settled>) {
        self.settled = settled.copied();
    }

    fn trace(&self) -> Option<Rc<CallTrace>> {
        self.spans.clone()
    }
}

impl Watch for Record {
    fn sent(&mut self, at: Instant) {
        self.note(|facts| {
            facts.sent.get_or_insert(at);
        });
    }

    fn moved(&mut self, aim: &Aim) {
        self.note(|facts| {
            facts.goes_to(aim);
            let Some(routed) = &mut facts.route else { return };
            if Arc::ptr_eq(&routed.target, &aim.target().metrics) {
                return;
            }
            routed.target.moved_away();
            aim.target().metrics.started();
            routed.upstream = Arc::clone(aim.upstream());
            routed.target = Arc::clone(&aim.target().metrics);
        });
    }

    fn answered(&mut self, answer: &Answer) {
        self.note(|facts| {
            facts.arrived = Some(answer.arrived);
            facts.attempts = answer.tries;
            facts.reused = answer.reused;
        });
    }

    fn tried(&mut self, times: u32) {
        self.note(|facts| facts.attempts = times);
    }

    fn billed(&mut self, settled: Option<&Settled>) {
        let Some(settled) = settled else { return };
        self.note(|facts| facts.settled = Some(*settled));
    }

    fn trace(&self) -> Option<Rc<CallTrace>> {
        Self::trace(self).cloned()
    }
}

impl Record {
    /// The cache was searched for so long; what it had is told later.
    pub fn searched(&mut self, time: Duration) {
        self.note(|facts| {
            facts.searched = Some(time);
            // a wait that follows is none of it
            if let Some(trace) = facts.trace() {
                trace.looked();
            }
        });
    }

    /// What the cache had for the call, in a word.
    pub fn looked(&mut self, how: &'static str) {
        self.note(|facts| facts.kept.how = Some(how));
    }

    /// The call needed no upstream of its own: what its tokens would have cost.
    pub fn saved(&mut self, saved: &Saved, usage: Option<Usage>) {
        let usage = usage.unwrap_or_default();
        let cost = saved.rate.map_or(0, |rate| rate.cost(&usage));
        self.note(|facts| {
            facts.kept = Kept {
                how: Some(saved.how),
                tokens: usage.input.saturating_add(usage.output),
                nano: u64::try_from(cost).unwrap_or(0),
            };
        });
    }

    /// What is known by now of an upstream call that somebody else makes.
    pub fn follow(&mut self, trace: &Trace) {
        if let Some(aim) = &trace.aim {
            self.moved(aim);
        }
        self.note(|facts| {
            facts.sent = trace.sent;
            facts.attempts = trace.attempts;
            if let Some(arrived) = trace.arrived {
                (facts.arrived, facts.reused) = (Some(arrived), trace.reused);
            }
            facts.usage = trace.usage;
            facts.content_events = trace.content_events;
            let since = |at: Instant| at.saturating_duration_since(facts.started);
            facts.first_token = trace.first_token.map(since);
        });
        self.billed(trace.settled.as_ref());
        if let Some((saved, usage)) = &trace.saved {
            self.saved(saved, Some(*usage));
        }
    }

    /// Takes what is known of the call out, to be closed by another.
    pub fn hand_over(&mut self) -> Option<Self> {
        let facts = self.facts.take()?;
        Some(Self { id: self.id, worker: Rc::clone(&self.worker), facts: Some(facts) })
    }
}

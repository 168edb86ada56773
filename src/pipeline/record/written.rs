//! The end of a record: what metrics and the access log are told of it.
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::{CLIENT_GONE, Facts, Routed};
use crate::limits::book::Settled;
use crate::pipeline::Took;
use crate::pipeline::worker::Worker;
use crate::request_id::RequestId;
use crate::route::Aim;
use crate::telemetry::access::Entry;
use crate::telemetry::metrics::{Finished, Held, Outcome, Who};
use crate::telemetry::otlp::Tracer;
use crate::telemetry::usage::{Billed, Sunk};
use crate::wire::Kind;

impl Facts {
    fn who(&self) -> Who<'_> {
        let Some(who) = &self.who else { return Who::default() };
        Who {
            agent: &who.agent,
            team: who.team.as_deref().unwrap_or(""),
            session: who.session.as_deref().unwrap_or(""),
            parent: who.parent.as_deref().unwrap_or(""),
            rung: Some(who.rung),
            class: who.class,
        }
    }

    /// Which model it is that has to be paid. Sessions name theirs as they go.
    pub(super) fn goes_to(&mut self, aim: &Aim) {
        let said = self.model.as_deref();
        let sends = aim.model(said).filter(|sends| Some(*sends) != said);
        self.sends = sends.filter(|_| self.kind != Kind::Session).map(Arc::from);
    }

    /// What the answer has cost, and whether its price is known. What no limit has is priced here.
    fn spend(&self, worker: &Worker) -> Option<(i64, bool)> {
        let settled = self.settled.as_ref();
        if let Some(Settled { spend: Some(nano), priced, .. }) = settled {
            return Some((*nano, *priced));
        }
        let counted = settled.filter(|settled| settled.estimated).map(|settled| settled.usage);
        let usage = counted.or(self.usage)?;
        let model = self.sends.as_deref().or(self.model.as_deref());
        let rate = worker.rate(model.unwrap_or(""));
        Some((rate.cost(&usage), rate.known))
    }

    /// What limits and prices made of it: also of attempts that came to nothing.
    fn held(&self, worker: &Worker) -> Held<'_> {
        let sunk = self.sunk();
        let spend = match self.spend(worker) {
            None if sunk.attempts == 0 => None,
            own => {
                let (nano, known) = own.unwrap_or((0, true));
                Some((nano.saturating_add(sunk.nano), known && !sunk.unpriced))
            }
        };
        let held = self.held.as_deref();
        Held {
            spend_nano: spend.map(|(nano, _)| nano),
            priced: spend.is_none_or(|(_, known)| known),
            predicted_tokens: held.and_then(|held| held.predicted),
            limited_by: held.and_then(|held| held.limited_by.as_deref()),
            would_refuse: held.and_then(|held| held.would_refuse.as_deref()),
            clamped: held.and_then(|held| held.clamped),
            runaway: held.is_some_and(|held| held.runaway),
        }
    }

    fn sunk(&self) -> Sunk {
        self.settled.map(|settled| settled.sunk).unwrap_or_default()
    }

    fn billed(&self) -> Billed<'_> {
        let counted = self.settled.filter(|settled| settled.estimated);
        Billed {
            sent_model: self.sends.as_deref().unwrap_or(""),
            usage: counted.map(|settled| settled.usage).or(self.usage).unwrap_or_default(),
            estimated: counted.is_some(),
            unknown: self.is_unknown(),
            sunk: self.sunk(),
        }
    }

    /// It was sent, the backend has told no usage, and no limit made us count: it may have used
    /// something all the same, unless the backend has refused it, or there is nothing to be used.
    fn is_unknown(&self) -> bool {
        let free = matches!(self.kind, Kind::Models | Kind::CountTokens | Kind::GeminiCount);
        self.attempts > 0
            && !free
            && self.usage.is_none()
            && self.settled.is_none()
            && !(400..CLIENT_GONE).contains(&self.status)
    }

    pub fn write(&self, worker: &Worker, id: &RequestId, outcome: Outcome) {
        let since = |at: Instant| at.duration_since(self.started);
        let late = || worker.tracer.as_ref().map(Tracer::late);
        let late = if self.is_worth_a_trace(outcome) { late() } else { None };
        let trace = self.trace().map(AsRef::as_ref).or(late.as_ref());
        let finished = Finished {
            status: self.status,
            outcome,
            model: self.model.as_deref().unwrap_or(""),
            operation: self.kind.operation(),
            inference: self.kind.counts(),
            duration: self.started.elapsed(),
            first_byte: self.arrived.map(since),
            first_token: self.first_token,
            overhead: self.overhead,
            queued: self.queued,
            request_bytes: self.request_bytes,
            response_bytes: self.response_bytes,
            usage: self.usage,
            stream: self.stream,
            content_events: self.content_events,
            error: self.error,
            who: self.who(),
            held: self.held(worker),
            kept: self.kept,
            seen: Self::seen(trace),
        };
        worker.metrics.finished(&finished);
        if let Some(took) = &self.took {
            took.set(Took { usage: self.usage, cancelled: outcome == Outcome::Cancelled });
        }
        if let Some(routed) = &self.route {
            routed.target.finished(&finished);
            if let Outcome::Deadline(which) = outcome {
                routed.upstream.shared.gauges.deadline(which);
            }
        }
        if let Some(trace) = trace {
            let task = self.task.map(|id| id.to_string());
            let task = task.as_deref().unwrap_or("");
            self.write_spans(worker, trace, (id.as_str(), &finished, task));
        }
        let mut lines = worker.lines.borrow_mut();
        if !lines.enabled() {
            return;
        }
        let name =
            |of: fn(&Routed) -> &Arc<str>| self.route.as_ref().map_or("", |routed| of(routed));
        let task = self.task.map(|id| id.to_string());
        let entry = Entry {
            time_ms: unix_ms(),
            call: &finished,
            request_id: id.as_str(),
            peer: &self.peer,
            method: self.method.as_str(),
            path: self.path.path(),
            route: name(|routed| &routed.route),
            upstream: name(|routed| &routed.upstream.config.name),
            attempts: self.attempts,
            reused: self.reused,
            resumed: self.resumed,
            task: task.as_deref().unwrap_or(""),
            user_agent: self.user_agent.as_ref().and_then(|value| value.to_str().ok()),
        };
        lines.access.write(&entry);
        if lines.usage.enabled() {
            lines.usage.write(&entry, &self.billed());
        }
    }
}

fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

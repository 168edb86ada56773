//! The end of a record: what metrics and the access log are told of it.
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::{Facts, Routed};
use crate::pipeline::worker::Worker;
use crate::request_id::RequestId;
use crate::telemetry::access::Entry;
use crate::telemetry::metrics::{Finished, Held, Outcome, Who};

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

    /// What limits and prices made of it. What no limit has counted is priced here.
    fn held(&self, worker: &Worker) -> Held<'_> {
        let spend = self.spend.or_else(|| {
            let usage = self.usage?;
            let rate = worker.live.peek().prices.of(self.model.as_deref().unwrap_or(""));
            Some((rate.cost(&usage), rate.known))
        });
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

    pub fn write(&self, worker: &Worker, id: &RequestId, outcome: Outcome) {
        let since = |at: Instant| at.duration_since(self.started);
        let finished = Finished {
            status: self.status,
            outcome,
            model: self.model.as_deref().unwrap_or(""),
            operation: self.kind.operation(),
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
        };
        worker.metrics.finished(&finished);
        if let Some(routed) = &self.route {
            routed.target.finished(&finished);
            if let Outcome::Deadline(which) = outcome {
                routed.upstream.shared.gauges.deadline(which);
            }
        }
        let mut lines = worker.lines.borrow_mut();
        if !lines.enabled() {
            return;
        }
        let name =
            |of: fn(&Routed) -> &Arc<str>| self.route.as_ref().map_or("", |routed| of(routed));
        lines.write(&Entry {
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
            user_agent: self.user_agent.as_ref().and_then(|value| value.to_str().ok()),
        });
    }
}

fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

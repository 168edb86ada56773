//! What a record has to do with tracing: most calls are not sampled, and for them this is nothing.
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use http::HeaderValue;

use super::{Facts, Record};
use crate::pipeline::call::Call;
use crate::pipeline::worker::Worker;
use crate::telemetry::metrics::{Finished, Outcome, Seen};
use crate::telemetry::otlp::{Ended, Tracer};
use crate::telemetry::trace::{Begun, CallTrace};

impl Record {
    /// Where what happens to the call is written down, if it is sampled.
    pub fn trace(&self) -> Option<&Rc<CallTrace>> {
        self.facts.as_ref().and_then(|facts| facts.trace())
    }

    pub fn is_traced(&self) -> bool {
        self.trace().is_some()
    }

    /// The cache is asked for it.
    pub fn looks(&self) {
        if let Some(trace) = self.trace() {
            trace.looks();
        }
    }

    /// For what is made of this call later: its own span.
    pub fn traceparent(&self) -> Option<HeaderValue> {
        self.trace()?.header()
    }

    pub(super) fn shows(&self, call: &Call) {
        if let Some(trace) = self.trace()
            && self.worker.tracer.as_ref().is_some_and(Tracer::shows_content)
        {
            trace.asks(&call.bytes_read());
        }
    }
}

impl Facts {
    pub(super) fn trace(&self) -> Option<&Rc<CallTrace>> {
        match &self.trace {
            Begun::Sampled(trace) => Some(trace),
            Begun::Free | Begun::No => None,
        }
    }

    pub(super) fn stood_in_line(&self, queued: Duration) {
        if let Some((trace, since)) = self.trace().zip(Instant::now().checked_sub(queued)) {
            trace.waited(since);
        }
    }

    /// The call has failed, and nobody has said that its trace is not wanted.
    pub(super) fn is_worth_a_trace(&self, outcome: Outcome) -> bool {
        let theirs = matches!(outcome, Outcome::Complete | Outcome::Refused | Outcome::ClientGone);
        matches!(self.trace, Begun::Free) && (!theirs || self.status >= 500)
    }

    /// Where the trace of a sampled call is found, for those who see its figures.
    pub(super) fn seen(trace: Option<&CallTrace>) -> Option<Seen> {
        let CallTrace { trace, span, .. } = trace?;
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
        Some(Seen { trace: *trace, span: *span, unix_nanos: since.as_nanos() as u64 })
    }

    pub(super) fn write_spans(
        &self,
        worker: &Worker,
        trace: &CallTrace,
        (id, call, task): (&str, &Finished<'_>, &str),
    ) {
        let Some((tracer, seen)) = worker.tracer.as_ref().zip(call.seen) else { return };
        let route = self.route.as_ref();
        tracer.ended(&Ended {
            call,
            trace,
            started: self.started,
            now: self.started + call.duration,
            unix_nanos: seen.unix_nanos,
            request_id: id,
            method: self.method.as_str(),
            scheme: match (&self.took, self.tls) {
                (Some(_), _) => "",
                (None, true) => "https",
                (None, false) => "http",
            },
            path: self.path.path(),
            peer: &self.peer,
            user_agent: self.user_agent.as_ref().and_then(|value| value.to_str().ok()),
            route: route.map_or("", |routed| &routed.route),
            upstream: route.map_or("", |routed| &routed.upstream.config.name),
            attempts: self.attempts,
            task,
            late: matches!(self.trace, Begun::Free),
        });
    }
}

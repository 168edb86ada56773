//! What a sampled call's trace is told of its attempts. One that is not sampled is asked for it once an
//! attempt, and that is all.
use std::sync::Arc;
use std::time::Instant;

use super::{Failed, Run, Why};
use crate::config::Host;
use crate::pipeline::record::Watch;
use crate::pipeline::reply::Sent;
use crate::telemetry::trace::{Goes, TRACEPARENT, TRACESTATE};
use crate::upstream::Upstream;
use crate::upstream::visit::Visit;

impl<W: Watch> Run<'_, '_, W> {
    /// An attempt begins: its request names its own span.
    pub(super) fn trace_begins(&mut self, upstream: &Upstream, visit: &Visit, now: Instant) {
        let Some(trace) = self.watch.trace() else { return };
        let origin = &upstream.address(visit).origin;
        let host = match &origin.host {
            Host::Name(name) => Some(Arc::clone(name)),
            Host::Unix(_) => None,
        };
        let said = self.call.model();
        let other = self.to.aim.model(said).filter(|model| Some(*model) != said);
        let goes = Goes {
            upstream: Arc::clone(&upstream.config.name),
            provider: Arc::clone(&upstream.config.provider),
            model: other.map(Arc::from),
            host,
            port: origin.port,
        };
        let Some((at, header)) = trace.attempt(goes, now) else { return };
        self.tried.span = Some(at);
        self.head.headers.insert(TRACEPARENT, header);
        if trace.parent == 0 {
            // it belongs to a context that is not continued
            self.head.headers.remove(TRACESTATE);
        }
    }

    pub(super) fn trace_ends(&mut self, came: &Result<Sent, Box<Failed>>) {
        let Some((at, trace)) = self.tried.span.zip(self.watch.trace()) else { return };
        match came {
            Ok(sent) => trace.answers(at, sent.answer.status.as_u16()),
            Err(failed) => {
                let status =
                    failed.kept.as_ref().map_or(0, |kept| kept.sent.answer.status.as_u16());
                trace.failed(at, failed.why.as_str(), status);
                if failed.why == Why::Slow {
                    self.tried.slow_span.get_or_insert(at);
                }
            }
        }
    }

    /// The slow stream is the answer after all.
    pub(super) fn trace_slow(&self, sent: &Sent) {
        if let Some((at, trace)) = self.tried.slow_span.zip(self.watch.trace()) {
            trace.answers(at, sent.answer.status.as_u16());
        }
    }
}

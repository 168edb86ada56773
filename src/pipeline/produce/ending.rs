//! The end of an upstream call that several may read: its bill first, then what is kept of it, and
//! only then is its end told.
use http::{StatusCode, header};

use super::Answering;
use crate::pipeline::admit::Came;
use crate::pipeline::lookup::{Answered, Lookup};
use crate::pipeline::refusal::Refusal;
use crate::pipeline::reply::{outcome, went};
use crate::pipeline::resume::Kept;
use crate::pipeline::shared::{Ended, Failure};
use crate::telemetry::metrics::Outcome;
use crate::wire::Meter;

impl Answering {
    /// All has come: settles what it has cost, before its end is told.
    pub(super) fn settle(&mut self) {
        if let Some(meter) = &mut self.meter {
            meter.finish();
        }
        let outcome = outcome(self.head.status, self.meter.as_ref());
        self.body.told(went(outcome));
        self.bill(outcome == Outcome::Complete);
        let usage = self.tab.trace.borrow().usage;
        // the first end is the only one
        let _ = self.head.end.set(Ended { outcome, usage });
    }

    /// The answer has ended by its own framing.
    pub(super) fn end(mut self, lookup: Option<Box<Lookup>>, clamped: bool) -> Option<Kept> {
        self.settle();
        if let Some(hiding) = &mut self.hiding {
            hiding.finish();
            for piece in hiding.ready.drain(..) {
                self.lead.push(piece, 0);
            }
        }
        let &Ended { outcome, usage } = self.head.end.get()?;
        let status = self.head.status;
        let whole = outcome == Outcome::Complete && status == StatusCode::OK && !self.substituted;
        if whole
            && let Some(lookup) = lookup
            && let Some(recorded) = self.lead.recorded()
            && lookup.holds(&recorded)
        {
            let content_type = self.head.headers.get(header::CONTENT_TYPE);
            let answered = Answered {
                kind: self.kind,
                form: self.head.form,
                content_type: content_type.map(|value| value.as_bytes().into()),
                recorded,
                usage,
                clamped,
            };
            lookup.keep(&self.worker, answered);
        }
        self.lead.complete();
        self.kept.take()
    }

    /// Nobody waits for its end any more. Behind the terminal event it is whole for all that.
    pub(super) fn leave(mut self) -> Option<Kept> {
        let kept = self.kept.take().filter(|_| self.head.said.get().is_some());
        if kept.is_some() {
            self.lead.complete();
        }
        kept
    }

    /// The answer will not end by itself.
    pub(super) fn fail(mut self, refusal: Refusal) -> Option<Kept> {
        self.bill(false);
        self.body.told(went(refusal.outcome()));
        self.body.abandon();
        let failure = Failure { refusal, between: self.between_events() };
        if self.ticket.was_cut() {
            self.lead.discard(failure);
        } else {
            self.lead.fail(failure);
        }
        self.kept.take()
    }

    /// Settles what the call has cost, once.
    fn bill(&mut self, complete: bool) {
        let Some(lease) = self.lease.take() else { return };
        let meter = self.meter.as_ref();
        let produced = meter.map_or(0, Meter::produced);
        let mut usage = meter.and_then(Meter::usage);
        if let Some(spent) = self.spent {
            let usage = usage.get_or_insert_default();
            usage.input = usage.input.saturating_add(spent.input);
        }
        let settled = lease.settle(&Came { usage, produced, complete });
        let mut trace = self.tab.trace.borrow_mut();
        trace.usage = usage;
        trace.content_events = meter.map_or(0, Meter::content_events);
        if let Some((spans, model)) = trace.spans.as_ref().zip(meter.and_then(Meter::model)) {
            spans.answered_by(model);
        }
        trace.settled = settled;
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        // nobody reads any more, or all is settled already
        self.bill(false);
        self.tab.close();
    }
}

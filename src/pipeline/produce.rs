//! The upstream call of an answer that is to be kept, or shared: a task of its own, so that nobody
//! who reads it has special rights. It ends with its answer, or when nobody reads any more.
//!
//! It holds the lease of the call that began it and settles it; it watches the answer as a plain
//! reply does, and what is complete and worth it goes into the cache before its end is told, so
//! that whoever comes then finds it in one place or the other. Behind the terminal event clients
//! leave; the end of the framing is waited for all the same, for a moment. A stream that can be taken
//! up again is made in the same way, see [`super::resume`].
mod ending;
mod linger;
mod step;

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderValue, header, request};

use self::linger::Linger;
use self::step::Step;
use super::admit::Lease;
use super::call::Call;
use super::dispatch::{self, Going, Prepared};
use super::embeddings;
use super::lookup::{Lookup, Miss};
use super::refusal::Refusal;
use super::reply::beat::{self, Counted, KEEP_ALIVE, may_beat, numbers_events};
use super::reply::{CLAMPED, Hiding, SHOULD_RETRY, Sent, outcome, pass_head};
use super::resume::{Kept, Wish};
use super::shared::{Ended, Failure, Head, Lead, Tab, unless_deserted};
use super::worker::Worker;
use crate::cache::Vectors;
use crate::flight::{Due, Ticket};
use crate::identity::Identity;
use crate::snapshot::Snapshot;
use crate::telemetry::metrics::Outcome;
use crate::upstream::answer::AnswerBody;
use crate::wire::{Dialect, Form, Kind, Meter, Usage};

/// An upstream call to be made.
pub struct Production {
    pub worker: Rc<Worker>,
    pub snapshot: Arc<Snapshot>,
    pub who: Rc<Identity>,
    pub lead: Lead,
    pub miss: Miss,
    pub tab: Rc<Tab>,
    pub ticket: Ticket,
    pub lease: Lease,
    pub to: Prepared<'static>,
    pub head: request::Parts,
    pub call: Call,
    pub dialect: Dialect,
    /// `None`: nothing of it is to be kept in the cache.
    pub lookup: Option<Box<Lookup>>,
    /// It is to be a stream that can be taken up again.
    pub wish: Option<Box<Wish>>,
    /// What an earlier try has used, that came to nothing.
    pub spent: Option<Usage>,
}

impl Production {
    /// Begins it in the background.
    pub fn start(self) {
        // the runtime moves a task a few times: a pointer is moved cheaply
        tokio::task::spawn_local(Box::pin(self.run()));
    }

    async fn run(self) {
        let vectors = self.lookup.as_ref().and_then(|lookup| lookup.vectors.as_ref());
        if !vectors.is_some_and(Vectors::any_known) {
            return Box::pin(self.whole()).await;
        }
        if let Some(production) = Box::pin(embeddings::fewer(self)).await {
            Box::pin(production.whole()).await;
        }
    }

    /// As it came.
    async fn whole(self) {
        let Self { worker, snapshot, who, lead, miss, tab, ticket, mut lease, to, .. } = self;
        let Self { mut head, call, dialect, lookup, wish, spent, .. } = self;
        let clamped = lease.clamp().is_some();
        let sent = {
            let (mut call, mut to, mut watch) = (call, to, &*tab);
            let going = Going { worker: &worker, snapshot: &snapshot, flight: &ticket, who: &who };
            let asked = dispatch::dispatch(
                going,
                (&mut lease, miss),
                &mut to,
                &mut head,
                &mut call,
                &mut watch,
            );
            unless_deserted(&lead, asked).await
        };
        match sent {
            Some(Ok(sent)) => {
                let mut answer = Answering::new(worker, lead, tab, ticket, lease, sent, dialect);
                answer.spent = spent;
                answer.begin(wish, lookup.is_some());
                let pressure = Arc::clone(&answer.worker.pressure);
                if let Some(kept) = answer.stream(lookup, clamped).await {
                    // the call is over: no more is held than what was said
                    tokio::task::spawn_local(kept.outlive(pressure));
                }
            }
            Some(Err(refusal)) => {
                lead.fail(Failure { refusal, between: true });
                tab.close();
            }
            None => tab.close(),
        }
    }
}

/// An answer as it comes.
struct Answering {
    worker: Rc<Worker>,
    lead: Lead,
    tab: Rc<Tab>,
    ticket: Ticket,
    /// Given back with the last byte.
    lease: Option<Lease>,
    head: Arc<Head>,
    body: AnswerBody,
    kind: Kind,
    meter: Option<Meter>,
    /// Of an earlier try.
    spent: Option<Usage>,
    hiding: Option<Hiding>,
    begun: Instant,
    /// Not of the model that the caller named: nothing to be kept under its question.
    substituted: bool,
    untouched: bool,
    /// There was no room for more.
    held_up: bool,
    linger: Linger,
    /// It can be taken up again.
    kept: Option<Kept>,
}

impl Answering {
    fn new(
        worker: Rc<Worker>,
        lead: Lead,
        tab: Rc<Tab>,
        ticket: Ticket,
        lease: Lease,
        sent: Sent,
        dialect: Dialect,
    ) -> Self {
        let Sent { answer, kind, form, hides_usage, retried, substituted, .. } = sent;
        let (status, mut headers, body) = (answer.status, answer.headers, answer.body);
        pass_head(&mut headers);
        if retried && !status.is_success() {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        let streaming = matches!(form, Form::Sse | Form::NdJson);
        if streaming {
            ticket.set_streaming();
        }
        let hides = hides_usage && form == Form::Sse;
        if hides {
            headers.remove(header::CONTENT_LENGTH);
        }
        // all who share the answer share its bound
        if let Some(clamp) = lease.clamp() {
            headers.insert(CLAMPED, clamp.tokens.into());
        }
        let eventful = streaming && !headers.contains_key(header::CONTENT_LENGTH);
        let (said, end, offer) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        let head = Arc::new(Head { status, headers, form, dialect, eventful, said, end, offer });
        let begun = tab.trace.borrow().sent.unwrap_or_else(Instant::now);
        let meter = (form != Form::Opaque).then(|| Meter::new(kind, form));
        Self {
            worker,
            lead,
            tab,
            ticket,
            lease: Some(lease),
            head,
            body,
            kind,
            meter,
            spent: None,
            hiding: hides.then(Hiding::default),
            begun,
            substituted,
            untouched: true,
            held_up: false,
            linger: Linger::default(),
            kept: None,
        }
    }

    /// Tells everybody that it has begun. `cached`: it may be kept, or joined by others.
    fn begin(&mut self, wish: Option<Box<Wish>>, cached: bool) {
        let Self { worker, lead, ticket, head, kind, meter, .. } = self;
        let Head { status, form, eventful, .. } = **head;
        if matches!(form, Form::Sse | Form::NdJson) && status.is_success() {
            self.kept = wish.and_then(|wish| worker.streams.begin(&wish, head, *kind, lead));
        }
        if let Some(kept) = &self.kept {
            self.linger.grant(kept.grace(), lead);
        }
        // who reads on counts what it has had: what it is sent must stand in the log, and what is to
        // be kept has no place for comments
        let beats = may_beat(*kind, form, eventful) && !(cached && self.kept.is_some());
        beat::begin(ticket, meter.as_ref(), beats, worker.clock.now());
        lead.head(Arc::clone(head));
    }

    /// Hands everything on, to its end. Gives what is kept of it.
    async fn stream(mut self, lookup: Option<Box<Lookup>>, clamped: bool) -> Option<Kept> {
        loop {
            if self.body.ended() {
                return self.end(lookup, clamped);
            }
            match poll_fn(|cx| self.poll_step(cx)).await {
                Step::Piece(data) => {
                    if !self.passed(&data) {
                        return self.fail(Refusal::budget_ended());
                    }
                    self.nears_end();
                    self.forward(data);
                }
                Step::End => return self.end(lookup, clamped),
                Step::Broken(refusal) => return self.fail(refusal),
                Step::Deserted => return self.leave(),
            }
        }
    }

    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if self.linger.poll_deserted(&self.lead, &self.worker.drain, cx).is_ready() {
            return Poll::Ready(Step::Deserted);
        }
        if self.is_cancelled() {
            return Poll::Ready(Step::Broken(Refusal::stream_cancelled()));
        }
        if self.lead.poll_room(cx).is_pending() {
            self.held_up = true;
            let cut = self.ticket.poll_cut(cx);
            return cut
                .map_or(Poll::Pending, |cut| Poll::Ready(Step::Broken(Refusal::expired(cut))));
        }
        if std::mem::take(&mut self.held_up) {
            // it was the readers who had stood still
            self.ticket.resumed(self.worker.clock.now());
        }
        match self.body.poll_data(cx) {
            Poll::Ready(Some(Ok(data))) => Poll::Ready(Step::Piece(data)),
            Poll::Ready(Some(Err(error))) => {
                Poll::Ready(Step::Broken(Refusal::broken_answer(error)))
            }
            Poll::Ready(None) => Poll::Ready(Step::End),
            Poll::Pending => loop {
                match self.ticket.poll_due(cx) {
                    None => return Poll::Pending,
                    Some(Due::Expired(expired)) => {
                        return Poll::Ready(Step::Broken(Refusal::expired(expired)));
                    }
                    Some(Due::Heartbeat) => self.beat(),
                }
            },
        }
    }

    /// Whether its owner has stopped it. Others who share it keep it.
    fn is_cancelled(&mut self) -> bool {
        if self.kept.is_none() {
            return false;
        }
        let alone = self.lead.cancelled();
        if alone == Some(false) {
            self.kept = None;
            self.linger.revoke(&self.lead);
        }
        alone == Some(true)
    }

    /// The client is to be told that all is well.
    fn beat(&mut self) {
        if self.kept.is_none() {
            self.tab.beat();
        } else if self.between_events() {
            self.ticket.spoke(self.worker.clock.now());
            self.lead.push(KEEP_ALIVE, 0);
        }
    }

    /// What was sent ends with a whole event.
    fn between_events(&self) -> bool {
        match &self.hiding {
            Some(hiding) => hiding.hide.between(),
            None => self.meter.as_ref().is_none_or(Meter::between_events),
        }
    }

    /// Before a piece is handed on: who has read the last one may go at once.
    fn nears_end(&mut self) {
        if self.body.ended() {
            return self.settle();
        }
        let Some(meter) = self.meter.as_ref() else { return };
        let streaming = matches!(self.head.form, Form::Sse | Form::NdJson);
        let outcome = outcome(self.head.status, Some(meter));
        if !streaming || outcome != Outcome::Complete || !self.head.status.is_success() {
            return;
        }
        if self.head.said.set(Ended { outcome, usage: meter.usage() }).is_ok() {
            self.linger.said(&self.lead);
        }
    }

    /// Looks at a piece that goes by. `false`: a budget wants the stream ended here.
    fn passed(&mut self, data: &Bytes) -> bool {
        let now = self.worker.clock.now();
        self.ticket.moved(data.len(), now);
        let Some(meter) = &mut self.meter else { return true };
        let counted = Counted::of(meter);
        if self.body.ended() && self.untouched {
            meter.whole(data, self.tab.trace.borrow().spans.is_some());
        } else {
            if std::mem::take(&mut self.untouched) && numbers_events(data) {
                self.ticket.end_beats();
            }
            meter.push(data);
        }
        counted.tell(&self.ticket, meter, now);
        let Some(lease) = &mut self.lease else { return true };
        let mut trace = self.tab.trace.borrow_mut();
        if trace.first_token.is_none() && meter.content_started() {
            let now = Instant::now();
            trace.first_token = Some(now);
            lease.first_token(now);
            self.body.began(now);
        }
        lease.produced(meter.produced()) || self.body.ended()
    }

    fn forward(&mut self, data: Bytes) {
        let at_ms = u32::try_from(self.begun.elapsed().as_millis()).unwrap_or(u32::MAX);
        let now = self.worker.clock.now();
        let pass = |piece| {
            self.ticket.spoke(now);
            let held = self.lead.push(piece, at_ms);
            self.ticket.holds_answer(held as u64);
        };
        let Some(hiding) = &mut self.hiding else { return pass(data) };
        hiding.take(data, self.body.ended());
        hiding.ready.drain(..).for_each(pass);
    }
}

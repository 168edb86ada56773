//! The answer on its way to the client: watched, never rebuilt.
//!
//! [`Streamed`] hands out the frames of the upstream's answer as they arrive; a meter looks at the
//! same bytes. Nothing is read ahead: the client's pace is the upstream's. Dropping the body (the
//! client has gone) drops the upstream call with it. An answer that dies ends as an error: its
//! dialect's error event, then the connection is broken off; never a clean end.
pub mod beat;
mod body;
mod failing;
mod handover;
mod hiding;
mod outcome;

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use thiserror::Error;

use self::beat::{Counted, KEEP_ALIVE, may_beat, numbers_events};
pub use self::body::ReplyBody;
pub use self::failing::{Failing, after_a_torn_event};
pub use self::handover::Handover;
pub use self::hiding::Hiding;
pub use self::outcome::{outcome, went};
use super::admit::{Came, Lease};
use super::dispatch::VIA;
use super::follow::Following;
use super::offload::Live;
use super::record::{Record, Watch};
use super::refusal::Refusal;
use super::replay::Replaying;
use super::told;
use super::upgrade::Tunnel;
use crate::clock::Clock;
use crate::flight::{Due, Ticket};
use crate::telemetry::metrics::Outcome;
use crate::upstream::answer::{Answer, AnswerBody};
use crate::wire::{Dialect, Ending, Form, Kind, Meter, form};

pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-tidegate-request-id");
pub const SOURCE: HeaderName = HeaderName::from_static("x-tidegate-source");
/// The bound on its output that a hard limit put into the call.
pub const CLAMPED: HeaderName = HeaderName::from_static("x-tidegate-max-tokens");
/// What the SDKs obey: no more attempts, there have been some.
pub const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
pub const SOURCE_UPSTREAM: HeaderValue = HeaderValue::from_static("upstream");
const SOURCE_POLICY: HeaderValue = HeaderValue::from_static("policy");

/// What is said to the client.
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub content: Content,
}

pub enum Content {
    Whole(Bytes),
    Streamed(Box<Streamed>),
    /// Of an upstream call that several may read.
    Shared(Box<Following>),
    /// From the cache.
    Replayed(Box<Replaying>),
    /// Told as it happens.
    Live(Box<Live>),
    /// After 101.
    Tunnel(Box<Tunnel>),
}

/// An upstream's answer whose head has come.
pub struct Sent {
    pub answer: Answer,
    pub kind: Kind,
    /// How its body is written, as far as we look into it.
    pub form: Form,
    /// The stream reports its usage because we asked, and the client did not.
    pub hides_usage: bool,
    pub clock: Arc<Clock>,
    /// It was sent more than once.
    pub retried: bool,
    /// The answer of another model than the one the caller named.
    pub substituted: bool,
}

impl Sent {
    pub fn reply(self, ticket: Ticket, lease: Lease, dialect: Dialect) -> Reply {
        let Self { answer, kind, form, hides_usage, clock, retried, .. } = self;
        let Answer { status, mut headers, body, .. } = answer;
        pass_head(&mut headers);
        if retried && !status.is_success() {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        let streaming = matches!(form, Form::Sse | Form::NdJson);
        if streaming {
            ticket.set_streaming();
        }
        told::tell(&mut headers, dialect, &lease.standing);
        if let Some(clamp) = lease.clamp() {
            headers.insert(CLAMPED, clamp.tokens.into());
        }
        let hides = hides_usage && form == Form::Sse;
        if hides {
            // what is sent will be shorter than what came
            headers.remove(header::CONTENT_LENGTH);
        }
        let eventful = streaming && !headers.contains_key(header::CONTENT_LENGTH);
        let meter = (form != Form::Opaque).then(|| Meter::new(kind, form));
        beat::begin(&ticket, meter.as_ref(), may_beat(kind, form, eventful), clock.now());
        let streamed = Streamed {
            meter,
            body,
            ticket,
            record: None,
            lease: Some(lease),
            clock,
            status,
            dialect,
            kind,
            form,
            eventful,
            hiding: hides.then(Box::default),
            untouched: true,
            failing: Failing::No,
            heir: None,
        };
        Reply { status, headers, content: Content::Streamed(Box::new(streamed)) }
    }
}

/// Makes a backend's headers the client's; says what its body is.
pub fn pass_head(headers: &mut HeaderMap) {
    headers.remove(header::UPGRADE);
    // tells clients to go round us
    headers.remove(header::ALT_SVC);
    headers.append(header::VIA, VIA);
    headers.insert(SOURCE, SOURCE_UPSTREAM);
}

/// How a body with these headers is written.
pub fn form_of(headers: &HeaderMap) -> Form {
    let value = |name| headers.get(name).map(HeaderValue::as_bytes);
    form(value(header::CONTENT_TYPE), value(header::CONTENT_ENCODING))
}

impl Reply {
    /// An answer of our own.
    pub fn ours(status: StatusCode, body: Bytes) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(SOURCE, SOURCE_POLICY);
        Self { status, headers, content: Content::Whole(body) }
    }

    /// The response; the record goes with the body.
    pub fn into_response(self, mut record: Record) -> Response<ReplyBody> {
        let Self { status, mut headers, content } = self;
        if let Ok(id) = HeaderValue::from_bytes(record.id.as_bytes()) {
            headers.insert(REQUEST_ID, id);
        }
        record.replying(status);
        if let Some(timing) = record.timing() {
            headers.append(SERVER_TIMING, timing);
        }
        let body = match content {
            Content::Whole(body) => {
                record.passed(body.len());
                record.close(Outcome::Complete);
                ReplyBody::Whole(body)
            }
            Content::Streamed(mut streamed) => {
                record.streaming(matches!(streamed.form, Form::Sse | Form::NdJson));
                streamed.record = Some(record);
                if streamed.body.ended() {
                    streamed.end();
                }
                ReplyBody::Streamed(streamed)
            }
            Content::Shared(following) => following.open(record),
            Content::Replayed(replaying) => replaying.open(record),
            Content::Live(live) => ReplyBody::Live(live.open(record)),
            Content::Tunnel(tunnel) => {
                tunnel.start(record);
                ReplyBody::Whole(Bytes::new())
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

/// Breaks the client's connection off; what was wrong has been said before.
#[derive(Debug, Error)]
#[error("the answer broke off")]
pub struct BrokenOff;

/// An upstream's answer passing through.
pub struct Streamed {
    body: AnswerBody,
    meter: Option<Meter>,
    ticket: Ticket,
    /// Taken when it is closed.
    record: Option<Record>,
    /// Given back with the last byte.
    lease: Option<Lease>,
    clock: Arc<Clock>,
    status: StatusCode,
    dialect: Dialect,
    kind: Kind,
    form: Form,
    /// An error event can be added to it.
    eventful: bool,
    /// Takes out the report of usage that only we asked for.
    hiding: Option<Box<Hiding>>,
    /// Nothing of it has gone to the meter yet.
    untouched: bool,
    failing: Failing,
    /// Who goes on with the call if this answer is not all of it.
    heir: Option<Rc<Handover>>,
}

impl Streamed {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        if let Some(step) = self.failing.poll_step(cx) {
            return step;
        }
        loop {
            if let Some(data) = self.hiding.as_mut().and_then(|hiding| hiding.ready.pop_front()) {
                return self.speak(data);
            }
            let Poll::Ready(next) = self.body.poll_data(cx) else {
                match self.ticket.poll_due(cx) {
                    None => return Poll::Pending,
                    Some(Due::Expired(expired)) => {
                        return self.fail(&Refusal::expired(expired), cx);
                    }
                    Some(Due::Heartbeat) if self.between_events() => return self.speak(KEEP_ALIVE),
                    // half of an event stands there
                    Some(Due::Heartbeat) => continue,
                }
            };
            match next {
                Some(Ok(data)) => {
                    if !self.passed(&data) {
                        return self.fail(&Refusal::budget_ended(), cx);
                    }
                    match &mut self.hiding {
                        Some(hiding) => hiding.take(data, self.body.ended()),
                        None => return self.speak(data),
                    }
                }
                Some(Err(error)) => return self.fail(&Refusal::broken_answer(error), cx),
                None => {
                    self.end();
                    if !self.hiding.as_mut().is_some_and(|hiding| hiding.finish()) {
                        return Poll::Ready(None);
                    }
                }
            }
        }
    }

    /// Hands something to the client.
    fn speak(&self, data: Bytes) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        self.ticket.spoke(self.clock.now());
        Poll::Ready(Some(Ok(data)))
    }

    /// Looks at a frame that goes by. `false`: a budget wants the stream ended here.
    fn passed(&mut self, data: &Bytes) -> bool {
        let now = self.clock.now();
        self.ticket.moved(data.len(), now);
        if let Some(record) = &mut self.record {
            record.passed(data.len());
        }
        let mut goes_on = true;
        if let Some(meter) = &mut self.meter {
            let counted = Counted::of(meter);
            if self.body.ended() && self.untouched {
                meter.whole(data, self.record.as_ref().is_some_and(Record::is_traced));
            } else {
                if std::mem::take(&mut self.untouched) && numbers_events(data) {
                    self.ticket.end_beats();
                }
                meter.push(data);
            }
            counted.tell(&self.ticket, meter, now);
            if let Some(lease) = &mut self.lease {
                if meter.content_started()
                    && let Some(record) = &mut self.record
                    && record.awaits_content()
                {
                    let now = Instant::now();
                    record.content_started(now);
                    lease.first_token(now);
                    self.body.began(now);
                }
                goes_on = lease.produced(meter.produced());
            }
        }
        if self.body.ended() {
            self.end();
            return true;
        }
        goes_on
    }

    /// Whether it came to a clean end. Asked after each frame, the error event too: hyper would
    /// take a yes there for the end of the body, and finish it.
    fn has_ended(&self) -> bool {
        let seen = self.hiding.as_ref().is_none_or(|hiding| hiding.ready.is_empty());
        self.failing == Failing::No && self.record.is_none() && self.body.ended() && seen
    }

    /// The answer has ended by its own framing.
    fn end(&mut self) {
        if let Some(meter) = &mut self.meter {
            meter.finish();
        }
        let outcome = outcome(self.status, self.meter.as_ref());
        self.body.told(went(outcome));
        self.bill(outcome == Outcome::Complete);
        if let Some(record) = self.record.take() {
            record.close(outcome);
        }
    }

    /// Settles what the call has cost, once; and tells the record.
    fn bill(&mut self, complete: bool) {
        let came = Came {
            usage: self.meter.as_ref().and_then(Meter::usage),
            produced: self.meter.as_ref().map_or(0, Meter::produced),
            complete,
        };
        let lease = self.lease.take().and_then(|lease| self.settled_by_me(lease, &came));
        let settled = lease.and_then(|lease| lease.settle(&came));
        if let Some(record) = &mut self.record {
            if let Some(meter) = &self.meter {
                record.metered(meter);
            }
            record.billed(settled.as_ref());
        }
    }

    /// What the client has got ends with a whole event.
    fn between_events(&self) -> bool {
        match &self.hiding {
            Some(hiding) => hiding.hide.between(),
            None => self.meter.as_ref().is_none_or(Meter::between_events),
        }
    }

    /// The answer will not end by itself: closes the record, and gives the client its error event
    /// first where there can be one.
    fn fail(
        &mut self,
        refusal: &Refusal,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        self.bill(false);
        self.body.told(went(refusal.outcome()));
        self.failing = Failing::Flush;
        // the client may be slow to take the rest: the upstream call does not wait for that
        self.body.abandon();
        let Some(record) = self.record.take() else { return self.poll_next(cx) };
        let whole_events = self.between_events();
        let event = if self.eventful {
            refusal.event(self.dialect, self.form, self.kind, &record)
        } else {
            None
        };
        record.fail(refusal);
        match event {
            Some(event) if whole_events => Poll::Ready(Some(Ok(event))),
            Some(event) => Poll::Ready(Some(Ok(after_a_torn_event(self.form, &event)))),
            // what came before is to be seen all the same
            None => self.poll_next(cx),
        }
    }
}

impl Drop for Streamed {
    /// The client has left, or all is settled already.
    fn drop(&mut self) {
        let streaming = matches!(self.form, Form::Sse | Form::NdJson);
        let ending = self.meter.as_ref().map(Meter::ending);
        if streaming && self.record.is_some() && ending == Some(Ending::Complete) {
            // with the terminal event it has everything, and waits for no end of the framing
            self.end();
        } else {
            self.bill(false);
        }
    }
}

#[cfg(test)]
mod tests;

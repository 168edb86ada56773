//! What is known of one call, and its one closing: a line in the access log, and the metrics.
//!
//! A record is closed by consuming it. Whoever drops it open has lost the client, or met a fault of
//! this program: `Drop` says so.
mod traced;
mod watch;
mod written;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header, request};

pub use self::watch::{Trace, Watch};

use super::Caller;
use super::Took;
use super::admit::Lease;
use super::call::Call;
use super::refusal::{BROKEN, Refusal};
use super::worker::Worker;
use crate::identity::Identity;
use crate::limits::book::Settled;
use crate::request_id::RequestId;
use crate::route::Aim;
use crate::tasks::TaskId;
use crate::telemetry::metrics::{Kept, Outcome, Target};
use crate::telemetry::otlp::Tracer;
use crate::telemetry::trace::Begun;
use crate::upstream::Upstream;
use crate::wire::{Kind, Meter, Usage};

/// The status that logs give a call whose client left before an answer.
const CLIENT_GONE: u16 = 499;

pub struct Record {
    pub id: RequestId,
    worker: Rc<Worker>,
    facts: Option<Box<Facts>>,
}

/// Boxed: a record is moved a few times on its way to the reply's body.
struct Facts {
    started: Instant,
    peer: Arc<str>,
    method: Method,
    path: http::Uri,
    user_agent: Option<HeaderValue>,
    /// Its connection is safe.
    tls: bool,
    route: Option<Routed>,
    kind: Kind,
    model: Option<Rc<str>>,
    /// The model that the backend is asked for, where it is another.
    sends: Option<Arc<str>>,
    stream: bool,
    status: u16,
    error: Option<&'static str>,
    /// What a refusal came to; an answer of ours is sent whole, and still no success.
    refused: Option<Outcome>,
    attempts: u32,
    reused: bool,
    /// It reads on in a stream that an earlier call began.
    resumed: bool,
    /// It is this task's call, or asked for this task.
    task: Option<TaskId>,
    /// Where a task's call tells what it took.
    took: Option<Rc<Cell<Took>>>,
    request_bytes: u64,
    response_bytes: u64,
    queued: Duration,
    /// How long the cache was searched, if it was.
    searched: Option<Duration>,
    /// When our own time began to run: the request was complete.
    ready: Instant,
    sent: Option<Instant>,
    arrived: Option<Instant>,
    overhead: Duration,
    first_token: Option<Duration>,
    usage: Option<Usage>,
    content_events: u64,
    who: Option<Rc<Identity>>,
    /// What limits made of it; boxed, for most calls have none.
    held: Option<Box<Holding>>,
    /// What the cache made of it.
    kept: Kept,
    /// What a limit has counted.
    settled: Option<Settled>,
    trace: Begun,
}

/// What limits made of a call.
#[derive(Default)]
struct Holding {
    predicted: Option<u64>,
    limited_by: Option<Arc<str>>,
    would_refuse: Option<Arc<str>>,
    clamped: Option<u64>,
    runaway: bool,
}

struct Routed {
    route: Arc<str>,
    upstream: Arc<Upstream>,
    target: Arc<Target>,
}

impl Record {
    pub fn open(
        worker: &Rc<Worker>,
        caller: &Caller,
        head: &request::Parts,
        started: Instant,
    ) -> Self {
        let tracer = worker.tracer.as_ref();
        let begin = |tracer: &Tracer| tracer.begin(&head.headers, caller.task.is_some());
        let facts = Facts {
            started,
            peer: Arc::clone(&caller.peer),
            method: head.method.clone(),
            path: head.uri.clone(),
            user_agent: head.headers.get(header::USER_AGENT).cloned(),
            tls: caller.seen.tls,
            route: None,
            kind: Kind::Other,
            model: None,
            sends: None,
            stream: false,
            status: CLIENT_GONE,
            error: None,
            refused: None,
            attempts: 0,
            reused: false,
            resumed: false,
            task: caller.task.as_ref().map(|task| task.id),
            took: caller.task.as_ref().map(|task| Rc::clone(&task.took)),
            request_bytes: 0,
            response_bytes: 0,
            queued: Duration::ZERO,
            searched: None,
            ready: started,
            sent: None,
            arrived: None,
            overhead: Duration::ZERO,
            first_token: None,
            usage: None,
            content_events: 0,
            who: None,
            held: None,
            kept: Kept::default(),
            settled: None,
            trace: tracer.map_or(Begun::No, begin),
        };
        Self { id: worker.ids.next(), worker: Rc::clone(worker), facts: Some(Box::new(facts)) }
    }

    pub fn path(&self) -> &str {
        self.facts.as_ref().map_or("/", |facts| facts.path.path())
    }

    pub fn started(&self) -> Instant {
        self.facts.as_ref().map_or_else(Instant::now, |facts| facts.started)
    }

    fn note(&mut self, edit: impl FnOnce(&mut Facts)) {
        if let Some(facts) = &mut self.facts {
            edit(facts);
        }
    }

    pub fn read(&mut self, call: &Call) {
        self.note(|facts| {
            facts.model = call.shared_model();
            facts.stream = call.stream;
            facts.request_bytes = call.bytes;
            facts.ready = call.complete.unwrap_or(facts.ready);
        });
        self.shows(call);
    }

    pub fn routed(&mut self, aim: &Aim, kind: Kind) {
        aim.target().metrics.started();
        self.note(|facts| {
            facts.kind = kind;
            facts.goes_to(aim);
            facts.route = Some(Routed {
                route: Arc::clone(&aim.route.name),
                upstream: Arc::clone(aim.upstream()),
                target: Arc::clone(&aim.target().metrics),
            });
        });
    }

    /// Who calls: as far as the head tells, and then with what the body does.
    pub fn identified(&mut self, who: &Rc<Identity>) {
        self.note(|facts| facts.who = Some(Rc::clone(who)));
    }

    /// How long the call stood in line, whatever came of it.
    pub fn waited(&mut self, queued: Duration) {
        self.note(|facts| {
            facts.queued = queued;
            facts.stood_in_line(queued);
        });
    }

    pub fn admitted(&mut self, lease: &Lease) {
        let held = Holding {
            predicted: lease.predicted(),
            clamped: lease.clamp().map(|clamp| clamp.tokens),
            would_refuse: lease.would_refuse().map(|limit| Arc::clone(&limit.label)),
            runaway: lease.runaway,
            ..Holding::default()
        };
        if held.predicted.is_some() {
            self.note(|facts| facts.held = Some(Box::new(held)));
        }
    }

    /// `Server-Timing`: where the time went until the answer began, in milliseconds. `None`: neither
    /// a backend nor the cache has a part in it.
    pub fn timing(&self) -> Option<HeaderValue> {
        let facts = self.facts.as_ref()?;
        let upstream = facts.sent.zip(facts.arrived);
        if upstream.is_none() && (facts.searched.is_none() || facts.refused.is_some()) {
            return None;
        }
        let mut text = Vec::with_capacity(112);
        let mut part = |name: &str, time: Duration| {
            text.extend_from_slice(name.as_bytes());
            let mut number = itoa::Buffer::new();
            let micros = time.as_micros() as u64;
            text.extend_from_slice(number.format(micros / 1000).as_bytes());
            let hundredths = (micros % 1000 / 10) as u8;
            text.extend_from_slice(&[b'.', b'0' + hundredths / 10, b'0' + hundredths % 10]);
        };
        part("queue;dur=", facts.queued);
        if let Some(searched) = facts.searched {
            part(", cache;dur=", searched);
        }
        if let Some((sent, arrived)) = upstream {
            part(", upstream;dur=", arrived.saturating_duration_since(sent));
            part(", overhead;dur=", facts.overhead);
        }
        HeaderValue::from_maybe_shared(Bytes::from(text)).ok()
    }

    /// The answer goes out; our own time ends.
    pub fn replying(&mut self, status: StatusCode) {
        self.note(|facts| {
            facts.status = status.as_u16();
            // never sent: what passed was waiting, and nobody's overhead
            let before = facts.sent.map_or(Duration::ZERO, |sent| sent - facts.ready);
            let after = facts.arrived.map_or(Duration::ZERO, |arrived| arrived.elapsed());
            facts.overhead = before.saturating_sub(facts.queued) + after;
        });
    }

    /// It reads on in a stream that an earlier call began.
    pub fn resumed(&mut self) {
        self.note(|facts| facts.resumed = true);
    }

    /// It asked for this task.
    pub fn is_of(&mut self, task: TaskId) {
        self.note(|facts| facts.task = Some(task));
    }

    pub fn streaming(&mut self, stream: bool) {
        self.note(|facts| facts.stream = stream);
    }

    /// So many bytes of the answer went by.
    pub fn passed(&mut self, bytes: usize) {
        self.note(|facts| facts.response_bytes += bytes as u64);
    }

    pub fn awaits_content(&self) -> bool {
        self.facts.as_ref().is_some_and(|facts| facts.stream && facts.first_token.is_none())
    }

    pub fn content_started(&mut self, at: Instant) {
        self.note(|facts| facts.first_token = Some(at.duration_since(facts.started)));
    }

    pub fn metered(&mut self, meter: &Meter) {
        self.note(|facts| {
            facts.usage = meter.usage();
            facts.content_events = meter.content_events();
            if let Some((trace, model)) = facts.trace().zip(meter.model()) {
                trace.answered_by(model);
            }
        });
    }

    /// What a session has come to so far.
    pub fn session(&mut self, usage: Option<Usage>, content_events: u64) {
        self.note(|facts| (facts.usage, facts.content_events) = (usage, content_events));
    }

    /// So many bytes of a session came from the client.
    pub fn sent_bytes(&mut self, bytes: u64) {
        self.note(|facts| facts.request_bytes = bytes);
    }

    /// The first content came so long after it was asked for.
    pub fn first_token_after(&mut self, wait: Duration) {
        self.note(|facts| facts.first_token = Some(wait));
    }

    /// A session says its model, where the request did not.
    pub fn names_model(&mut self, model: &str) {
        self.note(|facts| {
            facts.model.get_or_insert_with(|| Rc::from(model));
        });
    }

    /// An answer of our own instead of a backend's.
    pub fn refused(&mut self, refusal: &Refusal) {
        self.worker.metrics.refused(refusal.source(), refusal.code());
        self.say(refusal);
        let (limit, runaway) = (refusal.limit().cloned(), refusal.is_runaway());
        self.note(|facts| {
            facts.error = Some(refusal.code());
            facts.refused = Some(refusal.outcome());
            if limit.is_some() || runaway {
                let held = facts.held.get_or_insert_default();
                (held.limited_by, held.runaway) = (limit, runaway || held.runaway);
            }
        });
    }

    fn say(&self, refusal: &Refusal) {
        let id = self.id.as_str();
        match refusal.cause() {
            Some(cause) if refusal.source() == "upstream" => {
                tracing::warn!(request_id = id, code = refusal.code(), cause = %chain(cause), "an upstream failed");
            }
            Some(cause) => {
                tracing::debug!(request_id = id, code = refusal.code(), cause = %chain(cause), "a call was refused");
            }
            None => tracing::debug!(request_id = id, code = refusal.code(), "a call was refused"),
        }
    }

    /// Closes the record of an answer that died.
    pub fn fail(mut self, refusal: &Refusal) {
        self.say(refusal);
        self.note(|facts| facts.error = Some(refusal.code()));
        self.close(refusal.outcome());
    }

    pub fn close(mut self, outcome: Outcome) {
        if let Some(facts) = self.facts.take() {
            let outcome = facts.refused.filter(|_| outcome == Outcome::Complete).unwrap_or(outcome);
            facts.write(&self.worker, &self.id, outcome);
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let Some(mut facts) = self.facts.take() else { return };
        let fault = std::thread::panicking().then(|| facts.broke(&self.worker));
        facts.write(&self.worker, &self.id, fault.unwrap_or(Outcome::ClientGone));
    }
}

impl Facts {
    /// Nobody has left: it is our own fault, and the caller is told so where that is possible.
    fn broke(&mut self, worker: &Worker) -> Outcome {
        worker.metrics.refused("us", BROKEN);
        self.error = Some(BROKEN);
        if self.status != CLIENT_GONE {
            return Outcome::ClientGone;
        }
        self.status = 500;
        Outcome::Refused
    }
}

/// An error and what caused it, in one line.
fn chain(error: &(dyn std::error::Error + Send + Sync)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

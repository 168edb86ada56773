//! The path of a request, top to bottom:
//!
//! ```text
//! gate → identify → read call → route → (look up) → admit → dispatch → reply (metered) → record
//! ```
//!
//! Each step is a function of a snapshot and the results of the steps before it. What a step needs
//! is a parameter, so that the order is held by types: `dispatch` demands the [`admit::Lease`] that
//! only `admit` gives, and the [`lookup::Miss`] that only `lookup` gives. [`refusal::Refusal`] is the path's one error and the only place that knows
//! status codes. A call's [`record::Record`] is closed exactly once, by the reply's body or here.
pub mod admit;
mod attempts;
mod cached;
pub mod call;
mod control;
pub mod dispatch;
mod embedder;
mod embeddings;
mod follow;
pub mod gate;
mod hold;
mod identify;
mod local;
pub mod lookup;
pub mod offload;
mod produce;
pub mod record;
pub mod refusal;
mod replay;
pub mod reply;
pub mod resume;
pub mod shared;
mod similar;
mod status;
mod told;
mod upgrade;
pub mod worker;

use std::any::Any;
use std::borrow::Cow;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::{Method, Request, Response, Uri, request};
use hyper::body::Incoming;

use self::cached::Asking;
use self::call::{Body, Call};
use self::dispatch::Going;
use self::gate::{Bounds, Cleared, HeadFacts};
use self::local::Local;
use self::lookup::Planned;
use self::record::Record;
use self::refusal::Refusal;
use self::reply::{Handover, ReplyBody};
use self::resume::Wish;
use self::worker::Worker;
use crate::agents::{Places, Seen};
use crate::drain::Stage;
use crate::flight::{About, Limits, Ticket};
use crate::identity::Identity;
use crate::limits::rules::Subject;
use crate::pressure::Level;
use crate::route::{Aim, Asked, Match};
use crate::snapshot::Snapshot;
use crate::tasks::TaskId;
use crate::wire::{self, Dialect, Endpoint, Kind};

/// What the listener knows of a request beside the request itself.
#[derive(Debug, Clone)]
pub struct Caller {
    /// How logs call the caller: an address, or `unix`.
    pub peer: Arc<str>,
    /// What the connection says of its peer.
    pub seen: Arc<Seen>,
    /// What was read of the raw head; nothing over HTTP/2.
    pub facts: HeadFacts,
    pub place: Place,
    /// It is a task, whose caller was asked before.
    pub task: Option<TaskCaller>,
}

/// Who asked for a task, when it is made.
#[derive(Debug, Clone)]
pub struct TaskCaller {
    pub id: TaskId,
    pub who: Rc<Identity>,
    /// What became of the call, once it is over.
    pub took: Rc<Cell<Took>>,
    /// Its answer is made at its backend, whatever becomes of this call.
    pub heir: Option<Rc<Handover>>,
}

/// What a task's call came to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Took {
    /// What the backend said that it took; also where the caller does not see that.
    pub usage: Option<wire::Usage>,
    /// An operator ended the call.
    pub cancelled: bool,
}

/// The connection's place in the worker's count. It is free again when the last one who has it lets
/// go; whoever takes over the connection's socket takes it along.
pub type Place = Rc<dyn Any>;

/// Answers one request. Never fails: what goes wrong is an answer in the caller's dialect.
///
/// No `async fn`: that would keep each argument twice for as long as the call lasts. Inlined, so that
/// what it gives is made where it will stay.
#[inline]
pub fn serve(
    worker: Rc<Worker>,
    caller: Caller,
    request: Request<Incoming>,
) -> impl Future<Output = Response<ReplyBody>> {
    let (head, body) = request.into_parts();
    perform(worker, caller, head, Body::Arriving(body))
}

/// The same for a request that does not come over a connection.
pub fn perform(
    worker: Rc<Worker>,
    caller: Caller,
    mut head: request::Parts,
    body: Body,
) -> impl Future<Output = Response<ReplyBody>> {
    let mut record = Record::open(&worker, &caller, &head, Instant::now());
    async move {
        let snapshot = worker.snapshot();
        match run(&worker, &snapshot, &caller, &mut head, body, &mut record).await {
            Ok(reply) => reply.into_response(record),
            Err(Refused { refusal, dialect }) => {
                let dialect = dialect.unwrap_or_else(|| caller_dialect(record.path()));
                refusal.answer(dialect, record)
            }
        }
    }
}

/// A refusal, and the dialect to say it in once that is known.
struct Refused {
    refusal: Refusal,
    dialect: Option<Dialect>,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, dialect: None }
    }
}

async fn run(
    worker: &Rc<Worker>,
    snapshot: &Arc<Snapshot>,
    caller: &Caller,
    head: &mut request::Parts,
    body: Body,
    record: &mut Record,
) -> Result<reply::Reply, Refused> {
    if worker.drain.stage() >= Stage::Draining {
        return Err(Refusal::draining().into());
    }
    let cleared = gate::check(head, caller.facts, &bounds(snapshot)).map_err(|fault| {
        worker.metrics.gate_refused(fault.reason());
        Refusal::gate(&fault)
    })?;
    if let Some(reply) = local::answer(&head.method, &cleared.path, cleared.asterisk) {
        return Ok(reply);
    }
    let (method, uri) = (head.method.clone(), head.uri.clone());
    let path = of_parts(cleared.path, &uri);
    let query = cleared.query.and(uri.query());
    let cleared = Cleared { path, query, ..cleared };
    let (identity, ours) = match &caller.task {
        Some(task) => (Rc::clone(&task.who), Places::default()),
        None => identify::identify(worker, snapshot, caller, head, query)?,
    };
    record.identified(&identity);
    ours.strip(&mut head.headers);
    if Local::may_answer(&cleared.path) {
        let (who, headers) = (&identity, &head.headers);
        let local = Local { worker, who, method: &method, query, headers };
        if let Some(answer) = Box::pin(local.answer(&cleared.path, record)).await {
            return answer.map_err(Refused::from);
        }
    }
    let known = Known { method: &method, cleared: &cleared, identity: &identity, ours };
    pass(worker, snapshot, caller, known, head, body, record).await
}

/// A request, and who makes it.
#[derive(Clone, Copy)]
struct Known<'r> {
    method: &'r Method,
    cleared: &'r Cleared<'r>,
    identity: &'r Rc<Identity>,
    /// Where keys of ours stood.
    ours: Places,
}

/// A request that is not for us goes to a backend, or becomes a task.
async fn pass(
    worker: &Rc<Worker>,
    snapshot: &Arc<Snapshot>,
    caller: &Caller,
    known: Known<'_>,
    head: &mut request::Parts,
    body: Body,
    record: &mut Record,
) -> Result<reply::Reply, Refused> {
    let Known { method, cleared, identity, ours } = known;
    let &Cleared { ref path, query, body_len, upgrade, unexpected_body, .. } = cleared;
    let asked = Asked { method, path, who: identity, headers: &head.headers };
    let first = snapshot.routes.first(asked).ok_or_else(|| Refusal::no_route(path))?;
    let upgrade = upgrade.filter(|_| upgrade::is_offered(&first));
    let endpoint = upgrade::endpoint(first.endpoint, first.rest, upgrade);
    let dialect = endpoint.dialect;
    let in_dialect = |refusal| Refused { refusal, dialect };
    if unexpected_body && endpoint.kind != Kind::Other {
        return Err(in_dialect(Refusal::unexpected_body()));
    }
    let max_body = snapshot.config.server.max_body.min(worker.pressure.largest_body());
    if endpoint.kind.reads_body() && body_len.is_some_and(|length| length > max_body) {
        return Err(in_dialect(Refusal::body_too_large(max_body)));
    }
    let bodiless = body.is_empty();
    worker.takes(identity.class).map_err(|_| in_dialect(Refusal::overloaded_with(bodiless)))?;

    let ticket = begin(worker, snapshot, &endpoint, record);
    let mut call = Call::read(worker, snapshot, &ticket, &head.headers, &endpoint, body, body_len)
        .await
        .map_err(in_dialect)?;
    if endpoint.kind == Kind::Session {
        let later = wire::names_model_later(first.rest);
        call.opens_session(query, later).map_err(in_dialect)?;
    }
    record.read(&call);
    let chosen = if snapshot.routes.need_model() {
        snapshot.routes.select(asked, call.model(), first.meaning())
    } else {
        Some(first)
    };
    let Some(Match { route, endpoint, rest }) = chosen else {
        return Err(in_dialect(Refusal::no_route_for_model(call.model())));
    };
    let endpoint = upgrade::endpoint(endpoint, rest, upgrade);
    let aim = Aim::new(route, route.pick_by(attempts::dice));
    let upstream = aim.upstream();
    record.routed(&aim, endpoint.kind);
    ticket.set_limits(limits(snapshot, &upstream.config.timeouts));
    ticket.set_wants_stream(call.stream);
    ticket.describe(|about| about.upstream = Some(Arc::clone(&upstream.config.name)));

    let dialect = endpoint.dialect.or(Some(upstream.config.dialect));
    let in_dialect = |refusal| Refused { refusal, dialect };
    let who = identify::allow(snapshot, Rc::clone(identity), route, &call).map_err(in_dialect)?;
    record.identified(&who);
    ticket.describe(|about| about.agent = Some(Arc::clone(&who.agent)));
    if caller.task.is_none()
        && let Some(wish) = offload::Wish::of(worker, &head.headers, route, upstream, &call)
    {
        drop(ticket);
        let (call, who) = (&call, &who);
        let later = offload::Submission { worker, snapshot, who, head, ours, route, call };
        return Box::pin(offload::submit(later, wish, record)).await.map_err(in_dialect);
    }
    let to = dispatch::Prepared::new(aim, &endpoint, rest, ours, query);
    let who = &who;
    let dialect = dialect.unwrap_or(Dialect::Http);
    let call = &mut call;
    let mut asking =
        Asking { worker, snapshot, ticket, who, to, head, call, dialect, record, wish: None };
    if caller.task.is_none() {
        asking.wish = Wish::of(&asking).map_err(in_dialect)?;
    }
    answer(asking, caller, upgrade.is_some()).await.map_err(in_dialect)
}

/// The rest of the path, now that all is known of a call that can be known of it.
async fn answer(
    mut asking: Asking<'_>,
    caller: &Caller,
    upgrade: bool,
) -> Result<reply::Reply, Refusal> {
    // what goes along with the connection
    let place = upgrade.then_some(&caller.place);
    let planned = lookup::plan(asking.worker, asking.snapshot, &asking.facts());
    let (miss, status) = match planned {
        Planned::Look(_) if place.is_some() => Planned::Off.uncached(),
        Planned::Look(lookup) if asking.worker.pressure.may_share() => {
            return Box::pin(asking.look(lookup)).await;
        }
        Planned::Look(mut lookup) => match lookup.peek(asking.worker, SystemTime::now()) {
            Some(found) => return Box::pin(asking.spared(found, &lookup)).await,
            None if lookup.only_if_cached() => return Err(Refusal::not_kept()),
            None => Planned::Bypass("pressure").uncached(),
        },
        planned => planned.uncached(),
    };
    let Asking { worker, snapshot, ticket, who, to, head, call, record, wish, .. } = &mut asking;
    if status.is_some() {
        record.looked("bypass");
    }
    if worker.pressure.level() >= Level::Urgent {
        // only now can policies say how urgent it is
        let (model, route) = (call.model().unwrap_or(""), &to.aim.route.name);
        let upstream = &to.aim.upstream().config.name;
        let class = snapshot.rules.class_of(&Subject { who, model, route, upstream });
        worker.takes_read(class).map_err(|_| Refusal::overloaded())?;
    }
    let mut lease = admit::admit(worker, snapshot, ticket, who, &to.aim, call, record).await?;
    record.admitted(&lease);
    if place.is_none() && wish.is_some() && worker.pressure.may_share() {
        return Box::pin(asking.alone(lease, miss, status)).await;
    }
    if let Some(place) = place {
        let Asking { worker, snapshot, ticket, who, to, head, call, record, .. } = asking;
        let call = std::mem::replace(call, Call::empty(Kind::Session));
        let opening = upgrade::Opening { worker, snapshot, who, place, ticket, to, call };
        return Box::pin(opening.upgrade(lease, head, record)).await;
    }
    let going = Going { worker, snapshot, flight: ticket, who };
    let sent = dispatch::dispatch(going, (&mut lease, miss), to, head, call, *record).await?;
    let heir = caller.task.as_ref().and_then(|task| task.heir.as_ref());
    if let Some(heir) = heir {
        heir.went_to(&asking.to.aim, sent.answer.body.at(), lease.key);
    }
    let mut reply = sent.reply(asking.ticket, lease, asking.dialect);
    if let Some(heir) = heir {
        reply.hand_over(heir);
    }
    if let Some(status) = status {
        reply.headers.append(status::CACHE_STATUS, status);
    }
    Ok(reply)
}

/// What was borrowed from the head is borrowed from its parts, for the head goes on.
fn of_parts<'u>(path: Cow<'_, str>, uri: &'u Uri) -> Cow<'u, str> {
    match path {
        Cow::Borrowed(_) => Cow::Borrowed(uri.path()),
        Cow::Owned(path) => Cow::Owned(path),
    }
}

/// The call joins the list of calls in flight, under the bounds for reading its body.
fn begin(
    worker: &Rc<Worker>,
    snapshot: &Snapshot,
    endpoint: &Endpoint<'_>,
    record: &Record,
) -> Ticket {
    let about = About::new(record.id, endpoint.kind.operation(), record.started());
    let timeouts = crate::config::Timeouts::unbounded();
    worker.flights.begin(&worker.clock, limits(snapshot, &timeouts), about)
}

fn limits(snapshot: &Snapshot, timeouts: &crate::config::Timeouts) -> Limits {
    Limits {
        reading: snapshot.config.server.body_timeout,
        queued: timeouts.queue,
        first_byte: timeouts.first_byte,
        first_content: timeouts.first_content,
        idle: timeouts.idle(),
        idle_before_content: timeouts.idle_before_content(),
        between_tokens: timeouts.between_tokens,
        total: timeouts.total,
        heartbeat: snapshot.config.server.heartbeat,
    }
}

fn bounds(snapshot: &Snapshot) -> Bounds {
    let server = &snapshot.config.server;
    Bounds {
        max_head: server.max_head,
        max_headers: server.max_headers,
        max_target: server.max_target,
        // a bound on what is read into memory; uploads that stream through have none
        max_body: u64::MAX,
    }
}

/// Before a route is known: the dialect that the path itself speaks.
fn caller_dialect(path: &str) -> Dialect {
    let of = |path| crate::wire::endpoint(&Method::POST, path).dialect;
    let below_prefix = || path.get(1..).and_then(|path| path.find('/').map(|at| &path[at..]));
    of(path).or_else(|| below_prefix().and_then(of)).unwrap_or(Dialect::Http)
}

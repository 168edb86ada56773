//! A session's opening, until a backend says 101.
//!
//! Nothing is done for a session before that, so it may be asked for again: at the next address where
//! no connection can be made, and with the next key where one is refused, spent or at its limit. The
//! last answer is passed on as it was, like a plain reply. After 101 nothing is tried again.
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use hyper::upgrade::OnUpgrade;

use super::terms::Terms;
use super::way::BUFFER;
use super::{Held, Tunnel};
use crate::agents::strip_protocol;
use crate::flight::{Expired, Stage, Ticket};
use crate::identity::Identity;
use crate::pipeline::Place;
use crate::pipeline::admit::Lease;
use crate::pipeline::call::Call;
use crate::pipeline::dispatch::{Prepared, key_of};
use crate::pipeline::gate::Upgrade;
use crate::pipeline::hold;
use crate::pipeline::record::{Record, Watch};
use crate::pipeline::refusal::{Refusal, ran_out};
use crate::pipeline::reply::{Content, Reply, Sent};
use crate::pipeline::worker::Worker;
use crate::snapshot::Snapshot;
use crate::upstream::PoolKey;
use crate::upstream::answer::{Answer, Went};
use crate::upstream::call::{CallError, Missed, Outbound, send_upgrade};
use crate::upstream::keys::{self, Aside};
use crate::upstream::outgoing::Outgoing;
use crate::upstream::visit::{Closed, Spread};
use crate::wire::{self, Dialect, Form, Kind, Verdict};

const UPGRADE: HeaderValue = HeaderValue::from_static("upgrade");

/// Who asks for what.
pub struct Opening<'c> {
    pub worker: &'c Rc<Worker>,
    pub snapshot: &'c Arc<Snapshot>,
    pub who: &'c Rc<Identity>,
    pub place: &'c Place,
    pub ticket: Ticket,
    pub to: Prepared<'c>,
    pub call: Call,
}

/// Where it has been asked for.
#[derive(Default)]
struct Tried {
    attempts: u32,
    addresses: Vec<PoolKey>,
    keys: Vec<u64>,
}

impl Opening<'_> {
    /// Passes the upgrade on. Any answer but 101 is a plain reply.
    pub async fn upgrade(
        self,
        mut lease: Lease,
        head: &mut Parts,
        record: &mut Record,
    ) -> Result<Reply, Refusal> {
        let client =
            head.extensions.remove::<OnUpgrade>().ok_or_else(Refusal::upgrade_not_possible)?;
        let upstream = self.to.aim.upstream();
        let seat = upstream.open_session().ok_or_else(Refusal::too_many_sessions)?;
        let metered = self.call.kind == Kind::Session;
        let terms = metered.then(|| {
            let call = self.call.with_body(Bytes::new());
            Terms::new(self.snapshot, self.who, &self.to.aim, call, head)
        });
        Prepared::strip(head, Some(Upgrade::WebSocket));
        if metered {
            head.headers.remove(header::SEC_WEBSOCKET_EXTENSIONS);
        }
        let answer = self.open(&mut lease, head, record).await?;
        let bounds = upstream.config.websocket.clone();
        let Self { worker, place, ticket, .. } = self;
        ticket.enter(Stage::Answering, worker.clock.now());
        if answer.status != StatusCode::SWITCHING_PROTOCOLS {
            let retried = answer.tries > 1;
            let sent = Sent {
                answer,
                kind: Kind::Other,
                form: Form::Opaque,
                hides_usage: false,
                clock: Arc::clone(&worker.clock),
                retried,
                substituted: false,
            };
            return Ok(sent.reply(ticket, lease, Dialect::Http));
        }
        let mut headers = answer.headers;
        headers.insert(header::CONNECTION, UPGRADE);
        let (backend, first, mut visit) =
            answer.body.into_upgraded().ok_or_else(Refusal::upgrade_not_possible)?;
        if let Some(visit) = &mut visit {
            visit.began(Instant::now());
        }
        let drain = worker.drain.clone();
        let hold = drain.hold();
        let place = Rc::clone(place);
        let held = Held {
            visit,
            ticket,
            _buffers: worker.pressure.hold(2 * BUFFER as u64),
            _seat: seat,
            _place: place,
            _hold: hold,
        };
        let tunnel = Tunnel { client, backend, first, terms, bounds, lease, drain, held };
        Ok(Reply { status: answer.status, headers, content: Content::Tunnel(Box::new(tunnel)) })
    }

    /// Asks for it, as often as it may be asked for.
    async fn open(
        &self,
        lease: &mut Lease,
        head: &mut Parts,
        record: &mut Record,
    ) -> Result<Answer, Refusal> {
        let upstream = self.to.aim.upstream();
        let caller = head.headers.clone();
        let mut tried = Tried::default();
        let path = self.to.path();
        let spread = Spread::by_session(self.who);
        loop {
            let now = Instant::now();
            let visit = upstream.choose(spread, &tried.addresses, now).map_err(closed)?;
            let address = upstream.address(&visit).key;
            let key = key_of(upstream, lease);
            self.to.dress(&mut head.headers, key);
            if key.is_some() {
                strip_protocol(&mut head.headers);
            }
            tried.attempts += 1;
            record.sent(now);
            record.tried(tried.attempts);
            lease.sent(now);
            let outbound = Outbound {
                method: &head.method,
                target: &path,
                headers: &mut head.headers,
                body: Outgoing::whole(Bytes::new()),
                repeats: &|_| false,
            };
            let pools = &self.worker.pools;
            let why = match send_upgrade(pools, &self.ticket, upstream, visit, outbound).await {
                Ok(mut answer) => {
                    answer.tries = tried.attempts;
                    record.answered(&answer);
                    lease.answered(answer.status, &answer.headers, self.call.model());
                    if !self.gives_way(&mut answer, lease, &mut tried).await? {
                        return Ok(answer);
                    }
                    "key"
                }
                Err(missed) => {
                    tried.addresses.push(address);
                    let again =
                        is_unreached(&missed) && tried.addresses.len() < upstream.addresses.len();
                    let refusal = refused(missed, lease);
                    if !again {
                        let retried = tried.attempts > 1;
                        return Err(if retried { refusal.after_retries() } else { refusal });
                    }
                    "unreachable"
                }
            };
            upstream.shared.gauges.retried(why);
            head.headers.clone_from(&caller);
        }
    }

    /// Whether the answer is about the key, and there is another one to ask with.
    async fn gives_way(
        &self,
        answer: &mut Answer,
        lease: &mut Lease,
        tried: &mut Tried,
    ) -> Result<bool, Refusal> {
        let upstream = self.to.aim.upstream();
        let is_error = answer.status.is_client_error() || answer.status.is_server_error();
        let key = key_of(upstream, lease).filter(|_| is_error && upstream.keys.len() > 1);
        let Some(key) = key else { return Ok(false) };
        let body = hold::short_body(&self.ticket, &mut answer.body).await;
        let body = body.map_err(|error| {
            answer.body.told(Went::Badly);
            Refusal::broken_answer(error)
        })?;
        let verdict = wire::verdict(self.call.kind.dialect(), answer.status.as_u16(), &body);
        let aside = match verdict {
            Verdict::KeyRefused => Some(Aside::Refused),
            Verdict::KeySpent => Some(Aside::Spent),
            Verdict::Limited => {
                let hint = wire::quota(&answer.headers, SystemTime::now).retry_after;
                Some(Aside::limited(hint))
            }
            // it is as good as ever for other models
            Verdict::Denied => None,
            _ => return Ok(false),
        };
        answer.body.told(Went::Unjudged);
        let now = Instant::now();
        tried.keys.push(key.id);
        if let Some(aside) = aside {
            upstream.set_aside(key.id, aside, now);
        }
        if tried.attempts >= upstream.config.retry.attempts {
            return Ok(false);
        }
        let next = keys::pick(&upstream.keys, &tried.keys, now).filter(|key| key.is_usable(now));
        let Some(next) = next else { return Ok(false) };
        tried.addresses.clear();
        let Self { snapshot, who, to, call, .. } = self;
        Ok(lease.move_to(snapshot, who, &to.aim, call, Some(next), false).is_ok())
    }
}

fn closed(closed: Closed) -> Refusal {
    match closed {
        Closed::Breaker(wait) => Refusal::unavailable(wait),
        Closed::Tried => Refusal::lost(),
    }
}

/// The backend was not reached, and another might be. Time that is up, and descriptors that have run
/// out, are the same everywhere.
fn is_unreached(missed: &Missed) -> bool {
    let ours = match &missed.error {
        CallError::Expired(_) => true,
        CallError::Connect(error) => ran_out(error),
        _ => false,
    };
    missed.unbegun && !ours
}

/// No answer came. It is the backend's doing, unless the call's own time was up or we have run out
/// of descriptors.
fn refused(missed: Missed, lease: &mut Lease) -> Refusal {
    let Missed { error, visit, unbegun, .. } = missed;
    lease.unanswered(unbegun);
    let blameless = match &error {
        CallError::Expired(expired) => {
            !matches!(expired, Expired::FirstByte | Expired::FirstContent)
        }
        CallError::Connect(error) => ran_out(error),
        _ => false,
    };
    if !blameless {
        visit.failed(Instant::now());
    }
    Refusal::call(error)
}

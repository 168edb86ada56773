//! One question to the holder of a response: at its address, under the key that it was made with, over
//! the connections of every call.
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, header, request};

use crate::agents::Places;
use crate::flight::{About, Expired, Ticket};
use crate::pipeline::dispatch::Prepared;
use crate::pipeline::limits;
use crate::pipeline::offload::run::hint;
use crate::pipeline::worker::Worker;
use crate::route::{Aim, Route};
use crate::snapshot::Snapshot;
use crate::tasks::{Holder, Record};
use crate::upstream::answer::{Answer, Went};
use crate::upstream::call::{Outbound, send};
use crate::upstream::keys;
use crate::upstream::outgoing::Outgoing;
use crate::upstream::visit::Closed;
use crate::wire;

/// Where a response is to be had.
pub struct Asking<'t> {
    worker: &'t Rc<Worker>,
    pub snapshot: Arc<Snapshot>,
    pub aim: Aim,
    /// The address, by its place in the upstream.
    at: usize,
    holder: Holder,
    headers: HeaderMap,
    /// The path below the route's prefix, without the id; and the query.
    rest: String,
    query: Option<String>,
}

/// An answer whose head has come.
pub struct Asked {
    pub answer: Answer,
    ticket: Ticket,
    worker: Rc<Worker>,
}

/// Why a body was not read to its end.
pub enum Torn {
    Broken,
    /// It says nothing for longer than the policy waits.
    Silent,
    TooLarge,
    /// An operator has ended the question.
    Cancelled,
}

/// Why nobody has answered.
pub enum Unheard {
    /// How long to wait, where that is known.
    Later(Option<Duration>),
    Cancelled,
}

impl<'t> Asking<'t> {
    /// `head`: of the request that was made of it. `None`: the policy does not know the holder any
    /// more.
    pub fn new(
        worker: &'t Rc<Worker>,
        task: &Record,
        mut head: request::Parts,
        holder: Holder,
    ) -> Option<Self> {
        let snapshot = worker.snapshot();
        let aim = aim(&snapshot, &task.route, &holder)?;
        let mut seen = aim.upstream().roster.seen(Instant::now());
        let at = seen.position(|seen| seen.address == holder.address)?;
        drop(seen);
        let rest = aim.route.below(head.uri.path())?.trim_end_matches('/').to_owned();
        let query = head.uri.query().map(str::to_owned);
        Prepared::strip(&mut head, None);
        let mut headers = head.headers;
        for name in [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::CONTENT_LENGTH] {
            headers.remove(name);
        }
        Some(Self { worker, snapshot, aim, at, holder, headers, rest, query })
    }

    /// Sends it.
    pub async fn ask(
        &self,
        method: &Method,
        verb: &str,
        more: Option<&str>,
    ) -> Result<Asked, Unheard> {
        let (worker, upstream, now) = (self.worker, self.aim.upstream(), Instant::now());
        let query = match (&self.query, more) {
            (Some(query), Some(more)) => Some(format!("{query}&{more}")),
            (query, more) => query.clone().or_else(|| more.map(str::to_owned)),
        };
        let endpoint = wire::endpoint(&Method::POST, &self.rest);
        let rest = format!("{}/{}{verb}", self.rest, self.holder.response);
        let to =
            Prepared::new(self.aim.clone(), &endpoint, &rest, Places::default(), query.as_deref());
        let same = upstream.keys.iter().find(|key| key.id == self.holder.key);
        // another of the same account knows it as well; of another account none does
        let key = same.or_else(|| keys::pick(&upstream.keys, &[], now));
        let mut headers = self.headers.clone();
        to.dress(&mut headers, key);
        let about = About::new(worker.ids.next(), "responses", Instant::now());
        let bounds = limits(&self.snapshot, &upstream.config.timeouts);
        let ticket = worker.flights.begin(&worker.clock, bounds, about);
        ticket.describe(|about| about.upstream = Some(Arc::clone(&upstream.config.name)));
        let visit = upstream.visit(self.at, now).map_err(|closed| match closed {
            Closed::Breaker(left) => Unheard::Later(Some(left)),
            Closed::Tried => Unheard::Later(None),
        })?;
        let mut outbound = Outbound {
            method,
            target: &to.path(),
            headers: &mut headers,
            body: Outgoing::whole(Bytes::new()),
            repeats: &|_| true,
        };
        match send(&worker.pools, &ticket, upstream, visit, &mut outbound).await {
            Ok(answer) => Ok(Asked { answer, ticket, worker: Rc::clone(worker) }),
            Err(missed) => {
                if ticket.was_cancelled() {
                    return Err(Unheard::Cancelled);
                }
                missed.visit.failed(Instant::now());
                Err(Unheard::Later(None))
            }
        }
    }
}

/// The route that it went by, if that leads there still; else any that does.
fn aim(snapshot: &Snapshot, named: &str, holder: &Holder) -> Option<Aim> {
    let leads = |route: &Arc<Route>| {
        let mut targets = route.targets.iter();
        let at = targets.position(|target| *target.upstream.config.name == *holder.upstream)?;
        Some(Aim::new(route, at))
    };
    let routes = snapshot.routes.all();
    let same = routes.iter().find(|route| *route.name == *named).and_then(leads);
    same.or_else(|| routes.iter().find_map(leads))
}

impl Asked {
    /// Whether it may be asked again: an error, and how long to wait where that is said.
    pub fn accepted(mut self) -> Result<(), Unheard> {
        let later = self.is_later();
        self.judged();
        if later { Err(Unheard::Later(hint(&self.answer.headers))) } else { Ok(()) }
    }

    /// Its holder cannot say now.
    pub fn is_later(&self) -> bool {
        let status = self.answer.status;
        status.is_server_error() || matches!(status.as_u16(), 408 | 409 | 425 | 429)
    }

    /// Tells how it went, as far as the head does.
    pub fn judged(&mut self) {
        let badly = self.answer.status.is_server_error();
        self.answer.body.told(if badly { Went::Badly } else { Went::Well });
    }

    /// From here on only silence ends it.
    pub fn streams(&self) {
        self.ticket.set_streaming();
    }

    /// The next piece of the body.
    pub async fn next(&mut self) -> Option<Result<Bytes, Torn>> {
        let body = &mut self.answer.body;
        if body.ended() {
            body.told(Went::Well);
            return None;
        }
        let step = self.ticket.guard(poll_fn(|cx| body.poll_data(cx))).await;
        match step {
            Ok(None) => {
                self.answer.body.told(Went::Well);
                None
            }
            Ok(Some(Ok(data))) => {
                self.ticket.moved(data.len(), self.worker.clock.now());
                Some(Ok(data))
            }
            Ok(Some(Err(_))) => {
                self.answer.body.told(Went::Badly);
                Some(Err(Torn::Broken))
            }
            Err(Expired::Cancelled) => Some(Err(Torn::Cancelled)),
            // it may think for long
            Err(_) => Some(Err(Torn::Silent)),
        }
    }

    pub async fn whole(&mut self, most: u64) -> Result<Bytes, Torn> {
        let mut whole = BytesMut::new();
        while let Some(data) = self.next().await {
            whole.extend_from_slice(&data?);
            if whole.len() as u64 > most {
                return Err(Torn::TooLarge);
            }
        }
        Ok(whole.freeze())
    }
}

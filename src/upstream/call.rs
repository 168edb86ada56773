//! One attempt at one address: get a connection, send, wait for the head.
//!
//! Two things are tried again here, once and on a fresh connection, and nothing else (what else may be
//! tried is for the pipeline's attempts to say): a call that the backend cannot have begun, for nothing
//! of it was written to a reused connection, or an HTTP/2 backend says so (RFC 9113 section 8.7); and
//! one on a reused connection that died before any byte of an answer. That connection was most likely
//! closed while idle (RFC 9112 section 9.3.1), but nobody can know: so the caller says whether the
//! work may be done twice (RFC 9110 section 9.2.2). Never after a timeout.
use std::borrow::Cow;
use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use thiserror::Error;

use super::answer::{Answer, AnswerBody, From};
use super::connect::ConnectError;
use super::h1::{self, H1Error};
use super::h2;
use super::outgoing::{BoxError, Outgoing};
use super::pool::{Checkout, DialError, Pooled, Pools};
use super::visit::{Closed, Visit};
use super::{Address, Upstream};
use crate::clock::Clock;
use crate::flight::{Expired, Flight, Stage};

/// What to send. `target` is path and query below the address's own path; `headers` has neither
/// framing nor hop-by-hop fields, and no `Host`.
pub struct Outbound<'c> {
    pub method: &'c Method,
    pub target: &'c str,
    pub headers: &'c mut HeaderMap,
    pub body: Outgoing,
    /// Whether a call with these headers may be sent once more although a backend may have begun it.
    /// Asked when that is the question, and not before.
    pub repeats: &'c dyn Fn(&HeaderMap) -> bool,
}

#[derive(Debug, Error)]
pub enum CallError {
    #[error("cannot connect to the upstream: {0}")]
    Connect(#[source] Arc<ConnectError>),
    #[error("the upstream takes no calls now")]
    Closed(Closed),
    #[error(transparent)]
    H1(H1Error),
    #[error("the upstream's HTTP/2 connection broke")]
    H2(#[source] hyper::Error),
    /// Over either protocol; the backend has no part in it.
    #[error("the client's request body ended early")]
    RequestBody(#[source] BoxError),
    #[error("the request cannot be expressed in HTTP/2")]
    Request(#[source] http::Error),
    #[error("deadline: {}", .0.as_str())]
    Expired(Expired),
}

impl std::convert::From<H1Error> for CallError {
    fn from(error: H1Error) -> Self {
        match error {
            H1Error::RequestBody(fault) => Self::RequestBody(fault),
            error => Self::H1(error),
        }
    }
}

impl std::convert::From<DialError> for CallError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Connect(error) => Self::Connect(error),
            DialError::Handshake(error) => Self::H2(error),
        }
    }
}

/// An attempt that got no answer.
#[derive(Debug)]
pub struct Missed {
    pub error: CallError,
    pub visit: Visit,
    /// The backend cannot have begun the work.
    pub unbegun: bool,
    /// How often the call was sent.
    pub tries: u32,
}

/// What is known of a call's work when no answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// The backend cannot have begun it.
    Unbegun,
    /// The connection died before a byte of an answer: it may have been begun, or never been read.
    Unheard,
    /// It is taken for begun.
    Begun,
}

/// Sends the call to the address of the visit, under the flight's deadlines.
///
/// Here and below no `async fn`: what is handed over would be kept twice for as long as it waits.
pub fn send(
    pools: &Pools,
    flight: &Flight,
    upstream: &Upstream,
    visit: Visit,
    call: &mut Outbound<'_>,
) -> impl Future<Output = Result<Answer, Missed>> {
    let address = upstream.address(&visit);
    let pool = pools.pool(upstream, address);
    // sent again; and what was sent before may have been begun
    let (mut fresh, mut begun) = (false, false);
    async move {
        loop {
            let tries = 1 + u32::from(fresh);
            let taken = if fresh { None } else { pool.take() };
            let reused = taken.is_some();
            let checkout = if let Some(checkout) = taken {
                checkout
            } else {
                flight.enter(Stage::Connecting, pools.clock.now());
                // boxed: a dial is rare and its state large, and every call would carry it
                match flight.guard(Box::pin(pool.dial(upstream, address))).await {
                    Ok(Ok(checkout)) => checkout,
                    Ok(Err(error)) => {
                        return Err(Missed { error: error.into(), visit, unbegun: !begun, tries });
                    }
                    Err(expired) => {
                        let error = CallError::Expired(expired);
                        return Err(Missed { error, visit, unbegun: !begun, tries });
                    }
                }
            };
            flight.enter(Stage::FirstByte, pools.clock.now());
            call.headers.insert(header::HOST, address.host.clone());
            let answered = match checkout {
                Checkout::H1(pooled) => over_h1(flight, &pools.clock, pooled, address, call).await,
                Checkout::H2(share) => {
                    Box::pin(over_h2(flight, &pools.clock, share, address, call)).await
                }
            };
            match answered {
                Ok(answer) if answer.status == StatusCode::SWITCHING_PROTOCOLS => {
                    let error =
                        H1Error::Malformed("101 to a call that asked for no upgrade").into();
                    return Err(Missed { error, visit, unbegun: false, tries });
                }
                Ok(mut answer) => {
                    flight.enter(Stage::Answering, pools.clock.now());
                    answer.reused = reused;
                    answer.tries += u32::from(fresh);
                    answer.body.visit = Some(visit);
                    return Ok(answer);
                }
                Err((error, work)) => {
                    let again = match work {
                        // whatever the age of an HTTP/2 connection
                        Work::Unbegun => reused || matches!(error, CallError::H2(_)),
                        Work::Unheard => reused && (call.repeats)(call.headers),
                        Work::Begun => false,
                    };
                    if !again || fresh || !call.body.rewind() {
                        let unbegun = work == Work::Unbegun && !begun;
                        return Err(Missed { error, visit, unbegun, tries });
                    }
                    pool.gauges.retried.fetch_add(1, Relaxed);
                    (fresh, begun) = (true, work != Work::Unbegun);
                }
            }
        }
    }
}

impl Missed {
    /// No connection could be made.
    fn unmade(error: CallError, visit: Visit) -> Self {
        Self { error, visit, unbegun: true, tries: 1 }
    }
}

/// Makes a call that asks for an upgrade: on a connection of its own, over HTTP/1.1, once.
pub async fn send_upgrade(
    pools: &Pools,
    flight: &Flight,
    upstream: &Upstream,
    visit: Visit,
    mut call: Outbound<'_>,
) -> Result<Answer, Missed> {
    let address = upstream.address(&visit);
    flight.enter(Stage::Connecting, pools.clock.now());
    let pool = pools.pool(upstream, address);
    let pooled = match flight.guard(pin!(pool.dial_h1(upstream, address))).await {
        Ok(Ok(pooled)) => pooled,
        Ok(Err(error)) => return Err(Missed::unmade(error.into(), visit)),
        Err(expired) => return Err(Missed::unmade(CallError::Expired(expired), visit)),
    };
    flight.enter(Stage::FirstByte, pools.clock.now());
    call.headers.insert(header::HOST, address.host.clone());
    match over_h1(flight, &pools.clock, pooled, address, &mut call).await {
        Ok(mut answer) => {
            answer.body.visit = Some(visit);
            Ok(answer)
        }
        Err((error, _)) => Err(Missed { error, visit, unbegun: false, tries: 1 }),
    }
}

/// What is asked for of the address: its own path stands before the call's.
fn target<'t>(address: &Address, target: &'t str) -> Cow<'t, str> {
    match &*address.origin.path {
        "" => Cow::Borrowed(target),
        path => Cow::Owned(format!("{path}{target}")),
    }
}

fn over_h1(
    flight: &Flight,
    clock: &Clock,
    mut pooled: Pooled,
    address: &Address,
    call: &mut Outbound<'_>,
) -> impl Future<Output = Result<Answer, (CallError, Work)>> {
    // an upload that goes on is no silence
    let progress = |stage| flight.enter(stage, clock.now());
    async move {
        let Some(connection) = pooled.connection() else {
            return Err((H1Error::Closed.into(), Work::Begun));
        };
        let target = target(address, call.target);
        let exchange =
            connection.exchange(call.method, &target, call.headers, &mut call.body, &progress);
        let head = match flight.guard(pin!(exchange)).await {
            Err(expired) => return Err((CallError::Expired(expired), Work::Begun)),
            Ok(Err(h1::Failure { error, answered, unsent })) => {
                let lost = matches!(error, H1Error::Closed | H1Error::Io(_)) && !answered;
                let work = match lost {
                    true if unsent => Work::Unbegun,
                    true => Work::Unheard,
                    false => Work::Begun,
                };
                return Err((error.into(), work));
            }
            Ok(Ok(head)) => head,
        };
        let ended = connection.body_ended() && head.status != StatusCode::SWITCHING_PROTOCOLS;
        let from = if ended {
            pooled.finish();
            From::Done
        } else {
            From::H1(pooled)
        };
        Ok(Answer::new(head.status, head.headers, AnswerBody::new(from)))
    }
}

async fn over_h2(
    flight: &Flight,
    clock: &Clock,
    share: h2::Share,
    address: &Address,
    call: &mut Outbound<'_>,
) -> Result<Answer, (CallError, Work)> {
    let body = std::mem::replace(&mut call.body, Outgoing::whole(Bytes::new()));
    let again = match &body {
        Outgoing::Whole { body, .. } => Some(body.clone()),
        Outgoing::Streaming { .. } => None,
    };
    let body = h2::Sending::new(body);
    let upload = body.upload();
    let request = h2_request(address, call, body)
        .map_err(|error| (CallError::Request(error), Work::Begun))?;
    let mut sender = share.of().sender();
    // the connection's own state says nothing about this call: others share it
    let unsent = Cell::new(true);
    let mut sending = pin!(async {
        sender.ready().await?;
        sender.try_send_request(request).await.map_err(|mut refused| {
            // handed back: it never went out
            unsent.set(refused.take_message().is_some());
            refused.into_error()
        })
    });
    let heard = poll_fn(|cx| {
        let answered = sending.as_mut().poll(cx);
        match &upload {
            Some(upload) => hear(flight, clock, upload, answered, cx),
            None => answered.map(Ok),
        }
    });
    let answer = match flight.guard(heard).await {
        Err(expired) => return Err((CallError::Expired(expired), Work::Begun)),
        Ok(Err(fault)) => return Err((CallError::RequestBody(fault), Work::Begun)),
        Ok(Ok(Err(error))) => {
            let whole = again.is_some();
            if let Some(body) = again {
                call.body = Outgoing::whole(body);
            }
            let undone = unsent.get() || h2::is_undone(&error);
            if undone || !h2::is_of_stream(&error) {
                share.of().retired.set(true);
            }
            let work = if undone && whole { Work::Unbegun } else { Work::Begun };
            return Err((CallError::H2(error), work));
        }
        Ok(Ok(Ok(answer))) => answer,
    };
    let (parts, body) = answer.into_parts();
    let from = From::H2 { body, upload, _share: share };
    Ok(Answer::new(parts.status, parts.headers, AnswerBody::new(from)))
}

/// What has come of a call whose body another task sends. It says whom it waits for: an upload that
/// goes on is no silence. A client whose body failed has nothing to wait for, but an answer that is
/// there is given to it.
fn hear<A>(
    flight: &Flight,
    clock: &Clock,
    upload: &h2::Upload,
    answered: Poll<Result<A, hyper::Error>>,
    cx: &Context<'_>,
) -> Poll<Result<Result<A, hyper::Error>, BoxError>> {
    if let Some(stage) = upload.news(cx) {
        flight.enter(stage, clock.now());
    }
    if let Poll::Ready(Ok(answer)) = answered {
        return Poll::Ready(Ok(Ok(answer)));
    }
    match upload.take_fault() {
        Some(fault) => Poll::Ready(Err(fault)),
        None => answered.map(Ok),
    }
}

fn h2_request(
    address: &Address,
    call: &Outbound<'_>,
    body: h2::Sending,
) -> Result<Request<h2::Sending>, http::Error> {
    let uri = Uri::builder()
        .scheme(if address.origin.tls { "https" } else { "http" })
        .authority(address.host.as_bytes())
        .path_and_query(&*target(address, call.target))
        .build()?;
    let mut request = Request::new(body);
    *request.method_mut() = call.method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = call.headers.clone();
    request.headers_mut().remove(header::HOST);
    Ok(request)
}

/// Opens the connections that an upstream wants warm, on this worker. Failures are only counted:
/// the first call will say what is wrong.
pub async fn warm(pools: Rc<Pools>, upstream: Arc<Upstream>) {
    for address in &upstream.addresses {
        for _ in 0..pools.missing_warm(&upstream, address) {
            let pool = pools.pool(&upstream, address);
            match pool.dial(&upstream, address).await {
                Ok(Checkout::H1(pooled)) => pooled.finish(),
                Ok(Checkout::H2(_)) => {}
                Err(_) => break,
            }
        }
    }
}

#[cfg(test)]
mod tests;

//! One attempt at one address: get a connection, send, wait for the head.
//!
//! Two things are tried again here, and nothing else (what else may be tried is for the pipeline's
//! attempts to say): a call on a reused connection that died before any byte of an answer goes once
//! to a fresh connection (RFC 9112 section 9.3.1: such a connection was most likely closed while
//! idle), and so does one that an HTTP/2 backend says it has not begun (RFC 9113 section 8.7).
//! Never after a timeout: the work may have been done.
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use thiserror::Error;

use super::answer::{Answer, AnswerBody, From};
use super::connect::ConnectError;
use super::h1::{self, H1Error};
use super::h2;
use super::outgoing::Outgoing;
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
}

#[derive(Debug, Error)]
pub enum CallError {
    #[error("cannot connect to the upstream: {0}")]
    Connect(#[from] ConnectError),
    #[error("the upstream takes no calls now")]
    Closed(Closed),
    #[error(transparent)]
    H1(#[from] H1Error),
    #[error("the upstream's HTTP/2 connection broke")]
    H2(#[source] hyper::Error),
    #[error("the request cannot be expressed in HTTP/2")]
    Request(#[source] http::Error),
    #[error("deadline: {}", .0.as_str())]
    Expired(Expired),
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
}

/// Sends the call to the address of the visit, under the flight's deadlines.
pub async fn send(
    pools: &Pools,
    flight: &Flight,
    upstream: &Upstream,
    visit: Visit,
    call: &mut Outbound<'_>,
) -> Result<Answer, Missed> {
    let address = upstream.address(&visit);
    let pool = pools.pool(upstream, address);
    let mut fresh = false;
    loop {
        let taken = if fresh { None } else { pool.take() };
        let reused = taken.is_some();
        let checkout = if let Some(checkout) = taken {
            checkout
        } else {
            flight.enter(Stage::Connecting, pools.clock.now());
            // boxed: a dial is rare and its state large, and every call would carry it
            match flight.guard(Box::pin(pool.dial(upstream, address))).await {
                Ok(Ok(checkout)) => checkout,
                Ok(Err(error)) => return Err(Missed::unbegun(error.into(), visit)),
                Err(expired) => return Err(Missed::unbegun(CallError::Expired(expired), visit)),
            }
        };
        flight.enter(Stage::FirstByte, pools.clock.now());
        call.headers.insert(header::HOST, address.host.clone());
        match once(flight, &pools.clock, checkout, address, call).await {
            Ok(answer) if answer.status == StatusCode::SWITCHING_PROTOCOLS => {
                let error = H1Error::Malformed("101 to a call that asked for no upgrade").into();
                return Err(Missed { error, visit, unbegun: false });
            }
            Ok(mut answer) => {
                flight.enter(Stage::Answering, pools.clock.now());
                answer.reused = reused;
                answer.tries += u32::from(fresh);
                answer.body.visit = Some(visit);
                return Ok(answer);
            }
            // what an HTTP/2 backend has not begun may be sent again whatever the connection's age
            Err((error, true))
                if (reused || matches!(error, CallError::H2(_)))
                    && !fresh
                    && call.body.rewind() =>
            {
                pool.gauges.retried.fetch_add(1, Relaxed);
                fresh = true;
            }
            Err((error, lost)) => {
                let unbegun = lost && matches!(error, CallError::H2(_));
                return Err(Missed { error, visit, unbegun });
            }
        }
    }
}

impl Missed {
    fn unbegun(error: CallError, visit: Visit) -> Self {
        Self { error, visit, unbegun: true }
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
    let pooled = match flight.guard(pool.dial_h1(upstream, address)).await {
        Ok(Ok(pooled)) => pooled,
        Ok(Err(error)) => return Err(Missed::unbegun(error.into(), visit)),
        Err(expired) => return Err(Missed::unbegun(CallError::Expired(expired), visit)),
    };
    flight.enter(Stage::FirstByte, pools.clock.now());
    call.headers.insert(header::HOST, address.host.clone());
    match once(flight, &pools.clock, Checkout::H1(pooled), address, &mut call).await {
        Ok(mut answer) => {
            answer.body.visit = Some(visit);
            Ok(answer)
        }
        Err((error, _)) => Err(Missed { error, visit, unbegun: false }),
    }
}

/// One attempt. The flag of an error: nothing came back, so a fresh connection may be tried.
async fn once(
    flight: &Flight,
    clock: &Clock,
    checkout: Checkout,
    address: &Address,
    call: &mut Outbound<'_>,
) -> Result<Answer, (CallError, bool)> {
    let path = &address.origin.path;
    let joined;
    let target = if path.is_empty() {
        call.target
    } else {
        joined = format!("{path}{}", call.target);
        &joined
    };
    match checkout {
        Checkout::H1(pooled) => over_h1(flight, clock, pooled, target, call).await,
        Checkout::H2(share) => Box::pin(over_h2(flight, share, address, target, call)).await,
    }
}

async fn over_h1(
    flight: &Flight,
    clock: &Clock,
    mut pooled: Pooled,
    target: &str,
    call: &mut Outbound<'_>,
) -> Result<Answer, (CallError, bool)> {
    let Some(connection) = pooled.connection() else {
        return Err((H1Error::Closed.into(), false));
    };
    // an upload that goes on is no silence
    let progress = |stage| flight.enter(stage, clock.now());
    let exchange =
        connection.exchange(call.method, target, call.headers, &mut call.body, &progress);
    let head = match flight.guard(exchange).await {
        Err(expired) => return Err((CallError::Expired(expired), false)),
        Ok(Err(h1::Failure { error, answered })) => {
            let lost = matches!(error, H1Error::Closed | H1Error::Io(_));
            return Err((error.into(), lost && !answered));
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

async fn over_h2(
    flight: &Flight,
    share: h2::Share,
    address: &Address,
    target: &str,
    call: &mut Outbound<'_>,
) -> Result<Answer, (CallError, bool)> {
    let body = std::mem::replace(&mut call.body, Outgoing::whole(Bytes::new()));
    let again = match &body {
        Outgoing::Whole { body, .. } => Some(body.clone()),
        Outgoing::Streaming { .. } => None,
    };
    let request = h2_request(address, target, call, body)
        .map_err(|error| (CallError::Request(error), false))?;
    let mut sender = share.of().sender();
    // the connection's own state says nothing about this call: others share it
    let unsent = Cell::new(true);
    let sending = async {
        sender.ready().await?;
        sender.try_send_request(request).await.map_err(|mut refused| {
            // handed back: it never went out
            unsent.set(refused.take_message().is_some());
            refused.into_error()
        })
    };
    let answer = match flight.guard(sending).await {
        Err(expired) => return Err((CallError::Expired(expired), false)),
        Ok(Err(error)) => {
            let whole = again.is_some();
            if let Some(body) = again {
                call.body = Outgoing::whole(body);
            }
            let undone = unsent.get() || h2::is_undone(&error);
            if undone || !h2::is_of_stream(&error) {
                share.of().retired.set(true);
            }
            return Err((CallError::H2(error), undone && whole));
        }
        Ok(Ok(answer)) => answer,
    };
    let (parts, body) = answer.into_parts();
    let from = From::H2 { body, _share: share };
    Ok(Answer::new(parts.status, parts.headers, AnswerBody::new(from)))
}

fn h2_request(
    address: &Address,
    target: &str,
    call: &Outbound<'_>,
    body: Outgoing,
) -> Result<Request<Outgoing>, http::Error> {
    let uri = Uri::builder()
        .scheme(if address.origin.tls { "https" } else { "http" })
        .authority(address.host.as_bytes())
        .path_and_query(target)
        .build()?;
    let mut request = Request::new(body.unframed());
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

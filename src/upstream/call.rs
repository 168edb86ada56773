//! One call to an upstream: choose an address, get a connection, send, wait for the head.
//!
//! Three things are tried again, and nothing else: an address that cannot be connected to gives way
//! to the next one; a call on a reused connection that died before any byte of an answer goes once
//! to a fresh connection (RFC 9112 section 9.3.1: such a connection was most likely closed while
//! idle), and so does one that an HTTP/2 backend says it has not begun (RFC 9113 section 8.7).
//! Never after a timeout: the work may have been done.
use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use http_body::Body;
use hyper::body::Incoming;
use thiserror::Error;

use super::connect::ConnectError;
use super::h1::{self, H1Error};
use super::h2;
use super::outgoing::Outgoing;
use super::pool::{Checkout, DialError, Pooled, Pools};
use super::{Address, PoolKey, Upstream};
use crate::clock::Clock;
use crate::flight::{Expired, Flight, Stage};
use crate::io::Stream;

/// What to send. `target` is path and query below the address's own path; `headers` has neither
/// framing nor hop-by-hop fields, and no `Host`.
pub struct Outbound<'c> {
    pub method: &'c Method,
    pub target: &'c str,
    pub headers: &'c mut HeaderMap,
    pub body: Outgoing,
}

/// An upstream's answer: its head, and a body to be read.
pub struct Answer {
    pub status: StatusCode,
    /// Without hop-by-hop fields.
    pub headers: HeaderMap,
    pub body: AnswerBody,
    pub tries: u32,
    pub reused: bool,
    /// When its head had been read.
    pub arrived: Instant,
}

/// The rest of an answer. Dropping it ends the call at the upstream.
pub struct AnswerBody {
    from: From,
    /// Counts this call at its address for as long as it lasts.
    _busy: Busy,
}

enum From {
    H1(Pooled),
    H2 { body: Incoming, _share: h2::Share },
    Done,
}

#[derive(Debug, Error)]
pub enum CallError {
    #[error("cannot connect to the upstream: {0}")]
    Connect(#[from] ConnectError),
    #[error("the upstream has no address")]
    NoAddress,
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

/// One more call at an address.
struct Busy(Arc<AtomicUsize>);

impl Busy {
    fn at(address: &Address) -> Self {
        address.busy.fetch_add(1, Relaxed);
        Self(Arc::clone(&address.busy))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Makes the call under the flight's deadlines.
pub async fn send(
    pools: &Pools,
    flight: &Flight,
    upstream: &Upstream,
    mut call: Outbound<'_>,
) -> Result<Answer, CallError> {
    let mut refused: Vec<PoolKey> = Vec::new();
    let mut tries = 0;
    let mut fresh = false;
    loop {
        let Some(address) = upstream.least_busy(&refused) else {
            return Err(CallError::NoAddress);
        };
        let busy = Busy::at(address);
        let pool = pools.pool(upstream, address);
        tries += 1;
        let taken = if fresh { None } else { pool.take() };
        let reused = taken.is_some();
        let checkout = if let Some(checkout) = taken {
            checkout
        } else {
            flight.enter(Stage::Connecting, pools.clock.now());
            // boxed: a dial is rare and its state large, and every call would carry it
            let dialling = flight.guard(Box::pin(pool.dial(upstream, address))).await;
            match dialling.map_err(CallError::Expired)? {
                Ok(checkout) => checkout,
                Err(error) if refused.len() + 1 < upstream.addresses.len() => {
                    tracing::debug!(%error, upstream = %upstream.config.name, "another address");
                    refused.push(address.key);
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
        };
        flight.enter(Stage::FirstByte, pools.clock.now());
        call.headers.insert(header::HOST, address.host.clone());
        match once(flight, &pools.clock, checkout, address, &mut call, busy).await {
            Ok(answer) if answer.status == StatusCode::SWITCHING_PROTOCOLS => {
                return Err(H1Error::Malformed("101 to a call that asked for no upgrade").into());
            }
            Ok(mut answer) => {
                flight.enter(Stage::Answering, pools.clock.now());
                (answer.tries, answer.reused) = (tries, reused);
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
            Err((error, _)) => return Err(error),
        }
    }
}

/// Makes a call that asks for an upgrade: on a connection of its own, over HTTP/1.1, once.
pub async fn send_upgrade(
    pools: &Pools,
    flight: &Flight,
    upstream: &Upstream,
    mut call: Outbound<'_>,
) -> Result<Answer, CallError> {
    let address = upstream.least_busy(&[]).ok_or(CallError::NoAddress)?;
    let busy = Busy::at(address);
    flight.enter(Stage::Connecting, pools.clock.now());
    let pool = pools.pool(upstream, address);
    let dialling = pool.dial_h1(upstream, address);
    let pooled = flight.guard(dialling).await.map_err(CallError::Expired)??;
    flight.enter(Stage::FirstByte, pools.clock.now());
    call.headers.insert(header::HOST, address.host.clone());
    let answer = once(flight, &pools.clock, Checkout::H1(pooled), address, &mut call, busy).await;
    answer.map_err(|(error, _)| error)
}

/// One attempt. The flag of an error: nothing came back, so a fresh connection may be tried.
async fn once(
    flight: &Flight,
    clock: &Clock,
    checkout: Checkout,
    address: &Address,
    call: &mut Outbound<'_>,
    busy: Busy,
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
        Checkout::H1(pooled) => over_h1(flight, clock, pooled, target, call, busy).await,
        Checkout::H2(share) => Box::pin(over_h2(flight, share, address, target, call, busy)).await,
    }
}

async fn over_h1(
    flight: &Flight,
    clock: &Clock,
    mut pooled: Pooled,
    target: &str,
    call: &mut Outbound<'_>,
    busy: Busy,
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
    let body = AnswerBody { from, _busy: busy };
    Ok(Answer::new(head.status, head.headers, body))
}

async fn over_h2(
    flight: &Flight,
    share: h2::Share,
    address: &Address,
    target: &str,
    call: &mut Outbound<'_>,
    busy: Busy,
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
    Ok(Answer::new(parts.status, parts.headers, AnswerBody { from, _busy: busy }))
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

impl Answer {
    fn new(status: StatusCode, headers: HeaderMap, body: AnswerBody) -> Self {
        Self { status, headers, body, tries: 1, reused: false, arrived: Instant::now() }
    }
}

impl AnswerBody {
    /// The next piece as it arrived; `None` after the end. The connection goes back to its pool
    /// with the last piece, not with the `None` behind it.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, CallError>>> {
        match &mut self.from {
            From::Done => Poll::Ready(None),
            From::H1(pooled) => {
                let Some(connection) = pooled.connection() else { return Poll::Ready(None) };
                let data = ready!(connection.poll_data(cx));
                let failed = matches!(data, Some(Err(_)));
                if failed || data.is_none() || connection.body_ended() {
                    let from = std::mem::replace(&mut self.from, From::Done);
                    if let (From::H1(pooled), false) = (from, failed) {
                        pooled.finish();
                    }
                }
                Poll::Ready(data.map(|data| data.map_err(CallError::H1)))
            }
            From::H2 { body, .. } => loop {
                match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                    Some(Ok(frame)) => {
                        if let Ok(data) = frame.into_data() {
                            return Poll::Ready(Some(Ok(data)));
                        }
                    }
                    Some(Err(error)) => {
                        self.from = From::Done;
                        return Poll::Ready(Some(Err(CallError::H2(error))));
                    }
                    None => {
                        self.from = From::Done;
                        return Poll::Ready(None);
                    }
                }
            },
        }
    }

    /// Ends the call at the upstream now; there is no more to be read.
    pub fn abandon(&mut self) {
        self.from = From::Done;
    }

    /// All of it has been handed out.
    pub fn ended(&self) -> bool {
        match &self.from {
            From::Done => true,
            From::H1(_) => false,
            From::H2 { body, .. } => body.is_end_stream(),
        }
    }

    /// After 101: the bare stream, and what was read beyond the head.
    pub fn into_upgraded(self) -> Option<(Stream, BytesMut)> {
        match self.from {
            From::H1(pooled) => {
                pooled.into_connection().map(|connection| connection.into_upgraded())
            }
            From::H2 { .. } | From::Done => None,
        }
    }
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

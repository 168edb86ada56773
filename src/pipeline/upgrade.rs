//! WebSocket: the upgrade is passed on, and once both sides agree, bytes are copied both ways.
//!
//! Nothing is sent to the backend beyond the request until it has said 101. The tunnel is a task of
//! its own: it holds the call's place and record, and ends when either side does.
use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, StatusCode, header, request};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::admit::Lease;
use super::dispatch::{Prepared, key_of};
use super::record::{Record, Watch};
use super::refusal::Refusal;
use super::reply::{Content, Reply, Sent};
use super::worker::Worker;
use crate::drain::{Drain, Stage};
use crate::flight::Ticket;
use crate::io::Stream;
use crate::telemetry::metrics::Outcome;
use crate::upstream::call::{Outbound, send_upgrade};
use crate::upstream::outgoing::Outgoing;
use crate::upstream::visit::Spread;
use crate::wire::{Dialect, Kind};

const UPGRADE: HeaderValue = HeaderValue::from_static("upgrade");

/// How long one side may go on when the other has ended.
const LINGER: Duration = Duration::from_secs(1);
/// What one direction of a tunnel holds.
const BUFFER: usize = 16 * 1024;

/// Two streams to be joined, once the client has been told.
pub struct Tunnel {
    client: OnUpgrade,
    backend: Stream,
    /// What the backend sent behind its 101.
    first: BytesMut,
    ticket: Ticket,
    lease: Lease,
    drain: Drain,
}

/// Passes the upgrade on. Any answer but 101 is a plain reply.
pub async fn upgrade(
    worker: &Rc<Worker>,
    ticket: Ticket,
    mut lease: Lease,
    to: Prepared<'_>,
    head: &mut request::Parts,
    record: &mut Record,
) -> Result<Reply, Refusal> {
    let client = head.extensions.remove::<OnUpgrade>().ok_or_else(Refusal::upgrade_not_possible)?;
    Prepared::strip(head, Some(super::gate::Upgrade::WebSocket));
    let upstream = to.aim.upstream();
    to.dress(&mut head.headers, key_of(upstream, &lease));
    let path = to.path();
    let outbound = Outbound {
        method: &head.method,
        target: &path,
        headers: &mut head.headers,
        body: Outgoing::whole(Bytes::new()),
    };
    let now = Instant::now();
    record.sent(now);
    lease.sent(now);
    let visit = upstream.choose(Spread::default(), &[], now).map_err(|_| Refusal::lost())?;
    let answer = send_upgrade(&worker.pools, &ticket, upstream, visit, outbound)
        .await
        .map_err(|missed| Refusal::call(missed.error))?;
    record.answered(&answer);
    lease.answered(answer.status, &answer.headers, None);
    if answer.status != StatusCode::SWITCHING_PROTOCOLS {
        let clock = Arc::clone(&worker.clock);
        let sent = Sent {
            answer,
            kind: Kind::Other,
            metered: false,
            hides_usage: false,
            clock,
            retried: false,
            substituted: false,
        };
        return Ok(sent.reply(ticket, lease, Dialect::Http));
    }
    let mut headers = answer.headers;
    headers.insert(header::CONNECTION, UPGRADE);
    let (backend, first) = answer.body.into_upgraded().ok_or_else(Refusal::upgrade_not_possible)?;
    let tunnel = Tunnel { client, backend, first, ticket, lease, drain: worker.drain.clone() };
    Ok(Reply { status: answer.status, headers, content: Content::Tunnel(Box::new(tunnel)) })
}

impl Tunnel {
    /// Joins the two in the background: until either side ends, or the sidecar does.
    pub fn start(self, mut record: Record) {
        let Self { client, mut backend, first, ticket, lease, drain } = self;
        tokio::task::spawn_local(async move {
            let (_ticket, _lease) = (ticket, lease);
            let Ok(client) = client.await else { return };
            let (received, mut client) = (Cell::new(0), TokioIo::new(client));
            let ended = tokio::select! {
                () = join(&mut client, &mut backend, &first, &received) => Outcome::Complete,
                () = drain.reached(Stage::Draining) => Outcome::ClientGone,
            };
            record.passed(received.get());
            record.close(ended);
        });
    }
}

/// Copies both ways until one side ends, and then the rest of the other for a moment. Either may
/// simply go: a broken tunnel is how most of them end.
async fn join<C, B>(client: &mut C, backend: &mut B, first: &[u8], received: &Cell<usize>)
where
    C: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (from_client, mut to_client) = tokio::io::split(client);
    let (from_backend, to_backend) = tokio::io::split(backend);
    let down = async {
        if to_client.write_all(first).await.is_ok() {
            received.set(first.len());
            pump(from_backend, to_client, received).await;
        }
    };
    let sent = Cell::new(0);
    let up = pump(from_client, to_backend, &sent);
    let (mut down, mut up) = (pin!(down), pin!(up));
    tokio::select! {
        () = &mut down => drop(timeout(LINGER, up).await),
        () = &mut up => drop(timeout(LINGER, down).await),
    }
}

/// Copies to the end of `from`, and passes the end on. `passed` counts the bytes.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    passed: &Cell<usize>,
) {
    let mut buffer = BytesMut::with_capacity(BUFFER);
    while let Ok(1..) = from.read_buf(&mut buffer).await {
        if to.write_all(&buffer).await.is_err() || to.flush().await.is_err() {
            return;
        }
        passed.set(passed.get() + buffer.len());
        buffer.clear();
    }
    // the other side has gone when this fails, and then there is no one to tell
    _ = to.shutdown().await;
}

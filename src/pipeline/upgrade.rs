//! WebSocket: the upgrade is passed on, and once both sides agree, bytes are copied both ways.
//!
//! Nothing is sent to the backend beyond the request until it has said 101. The tunnel is a task of
//! its own: it holds the call's place and record, and ends when either side does.
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, StatusCode, header, request};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWriteExt, copy_bidirectional};

use super::admit::Lease;
use super::dispatch::Prepared;
use super::record::Record;
use super::refusal::Refusal;
use super::reply::{Content, Reply, Sent};
use super::worker::Worker;
use crate::drain::{Drain, Stage};
use crate::flight::Ticket;
use crate::io::Stream;
use crate::telemetry::metrics::Outcome;
use crate::upstream::call::{Outbound, send_upgrade};
use crate::upstream::outgoing::Outgoing;
use crate::wire::{Dialect, Kind};

const UPGRADE: HeaderValue = HeaderValue::from_static("upgrade");

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
    lease: Lease,
    to: Prepared<'_>,
    mut head: request::Parts,
    record: &mut Record,
) -> Result<Reply, Refusal> {
    let client = head.extensions.remove::<OnUpgrade>().ok_or_else(Refusal::upgrade_not_possible)?;
    to.rewrite(&mut head, Some(super::gate::Upgrade::WebSocket));
    let outbound = Outbound {
        method: &head.method,
        target: &to.target,
        headers: &mut head.headers,
        body: Outgoing::whole(Bytes::new()),
    };
    record.sent(Instant::now());
    let answer = send_upgrade(&worker.pools, &ticket, &to.upstream, outbound)
        .await
        .map_err(|error| Refusal::call(error, &to.upstream.config))?;
    record.answered(&answer);
    if answer.status != StatusCode::SWITCHING_PROTOCOLS {
        let clock = Arc::clone(&worker.clock);
        let sent = Sent { answer, kind: Kind::Other, metered: false, clock };
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
            let mut client = TokioIo::new(client);
            let joined = async {
                client.write_all(&first).await?;
                copy_bidirectional(&mut client, &mut backend).await
            };
            let joined = tokio::select! {
                joined = joined => joined,
                () = drain.reached(Stage::Draining) => return record.close(Outcome::ClientGone),
            };
            if let Ok((_, received)) = &joined {
                record.passed(usize::try_from(*received).unwrap_or(usize::MAX));
            }
            // either side may simply go: a broken tunnel is how most of them end
            record.close(Outcome::Complete);
        });
    }
}

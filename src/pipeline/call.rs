//! Reading the call: its body, bounded, and the few fields in it that routes and limits ask for.
//!
//! Calls that we know are read whole, because their model may stand in the last line; every other
//! body streams through untouched. What is read is forwarded as it came: the view borrows.
use std::pin::Pin;
use std::rc::Rc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body::Body;
use hyper::body::Incoming;

use super::refusal::Refusal;
use super::worker::Worker;
use crate::flight::{Flight, Stage};
use crate::snapshot::Snapshot;
use crate::upstream::outgoing::Outgoing;
use crate::wire::{Endpoint, Kind, View, ViewFault, view};

/// Most memory taken on a client's word before bytes have come.
const TRUSTED: u64 = 1024 * 1024;

/// A call as read.
pub struct Call {
    pub kind: Kind,
    pub body: Outgoing,
    /// Bytes of the body, as far as they are known.
    pub bytes: u64,
    /// The answer is asked for as a stream.
    pub stream: bool,
    model: Option<Rc<str>>,
    /// When the last byte of the body had come; our own time begins there.
    pub complete: Option<Instant>,
}

impl Call {
    pub async fn read(
        worker: &Worker,
        snapshot: &Snapshot,
        flight: &Flight,
        headers: &HeaderMap,
        endpoint: &Endpoint<'_>,
        body: Incoming,
        announced: Option<u64>,
    ) -> Result<Self, Refusal> {
        let kind = endpoint.kind;
        let mut call = Self {
            kind,
            body: Outgoing::whole(Bytes::new()),
            bytes: announced.unwrap_or(0),
            stream: kind.streams_by_default() || kind == Kind::StreamGenerate,
            model: endpoint.model.map(Rc::from),
            complete: None,
        };
        if body.is_end_stream() {
            return Ok(call);
        }
        if !kind.reads_body() {
            call.body = Outgoing::streaming(body, announced);
            return Ok(call);
        }
        let whole =
            collect(worker, flight, body, announced, snapshot.config.server.max_body).await?;
        call.complete = Some(Instant::now());
        call.bytes = whole.len() as u64;
        if !is_encoded(headers) {
            match view(kind, &whole) {
                Ok(view) => call.look(&view),
                Err(fault @ ViewFault::Duplicate { .. }) => {
                    return Err(Refusal::unreadable(&fault));
                }
                Err(fault) if snapshot.routes.need_model() => {
                    return Err(Refusal::unreadable(&fault));
                }
                // not ours to judge: the backend will say what it thinks of it
                Err(_) => {}
            }
        }
        call.body = Outgoing::whole(whole);
        if let Some(model) = &call.model {
            flight.describe(|about| about.model = Some(Rc::clone(model)));
        }
        Ok(call)
    }

    fn look(&mut self, view: &View<'_>) {
        if let Some(stream) = view.stream {
            self.stream = stream;
        }
        if self.model.is_none() {
            self.model = view.model.as_deref().map(Rc::from);
        }
    }

    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    pub fn shared_model(&self) -> Option<Rc<str>> {
        self.model.clone()
    }
}

fn is_encoded(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// The whole body; one that comes in one piece is not copied.
async fn collect(
    worker: &Worker,
    flight: &Flight,
    mut body: Incoming,
    announced: Option<u64>,
    max: u64,
) -> Result<Bytes, Refusal> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut read = 0_u64;
    loop {
        let frame = flight
            .guard(std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)))
            .await
            .map_err(|_| Refusal::body_timeout())?;
        let Some(frame) = frame else { break };
        let Ok(data) = frame.map_err(|error| Refusal::body_broken(error.into()))?.into_data()
        else {
            continue;
        };
        flight.enter(Stage::Reading, worker.clock.now());
        read += data.len() as u64;
        if read > max {
            return Err(Refusal::body_too_large(max));
        }
        if first.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                let expected = announced.unwrap_or(0).clamp(read, TRUSTED.max(read));
                rest.reserve(usize::try_from(expected).unwrap_or(0));
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&data);
        }
        if body.is_end_stream() {
            break;
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

//! A body that arrives, and is read whole.
//!
//! Its memory is asked for before it is read, where its length is announced, and as it comes
//! elsewhere: many large bodies at once end in refusals, not in a process without memory. Who
//! announces much has to send it: what is held for a body that drips is missing to others.
use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use hyper::body::Incoming;

use super::super::refusal::Refusal;
use super::super::worker::{Worker, held};
use crate::flight::{Flight, Stage};
use crate::pressure::{CALL, Held, Level};
use crate::snapshot::Snapshot;

/// Most memory taken on a client's word before bytes have come.
const TRUSTED: u64 = 1024 * 1024;
/// Bytes a second that are progress.
const SLOWEST: u64 = 1024;
/// The most times that the bound on progress may pass until an announced body is whole.
const WINDOWS: u64 = 16;

/// The part that has come.
pub struct Arriving<'w> {
    worker: &'w Worker,
    max: u64,
    announced: Option<u64>,
    first: Bytes,
    rest: BytesMut,
    read: u64,
    /// Bytes that are progress, and those that came since there was some.
    stride: u64,
    since: u64,
    /// What it counts for beyond what every call does.
    held: Option<Held>,
}

impl<'w> Arriving<'w> {
    /// Fails where there is no memory for what is announced.
    pub fn new(
        worker: &'w Worker,
        snapshot: &Snapshot,
        announced: Option<u64>,
    ) -> Result<Self, Refusal> {
        let server = &snapshot.config.server;
        let large = announced.filter(|announced| *announced > CALL);
        let held = large.map(|large| worker.pressure.try_hold(large).ok_or(())).transpose();
        Ok(Self {
            worker,
            max: server.max_body.min(worker.pressure.largest_body()),
            announced,
            first: Bytes::new(),
            rest: BytesMut::new(),
            read: 0,
            stride: stride(server.body_timeout, announced),
            since: 0,
            held: held.map_err(|()| refused(worker))?,
        })
    }

    /// The whole body; one that comes in one piece is not copied.
    pub async fn read(mut self, flight: &Flight, mut body: Incoming) -> Result<Bytes, Refusal> {
        flight.holds_body(self.held.as_ref().map_or(0, Held::bytes));
        loop {
            let frame = flight
                .guard(poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)))
                .await
                .map_err(|why| Refusal::expired(why).closing())?;
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|error| Refusal::body_broken(error.into()))?;
            let Ok(data) = frame.into_data() else { continue };
            self.take(flight, data)?;
            if body.is_end_stream() {
                break;
            }
        }
        flight.holds_body(self.held.as_ref().map_or(0, Held::bytes));
        let whole = if self.rest.is_empty() { self.first } else { self.rest.freeze() };
        Ok(match self.held {
            Some(counted) => held(whole, counted),
            None => whole,
        })
    }

    fn take(&mut self, flight: &Flight, data: Bytes) -> Result<(), Refusal> {
        self.read += data.len() as u64;
        if self.read > self.max {
            return Err(Refusal::body_too_large(self.max));
        }
        self.since += data.len() as u64;
        if self.since >= self.stride {
            self.since = 0;
            flight.enter(Stage::Reading, self.worker.clock.now());
        }
        if self.read > CALL {
            self.hold(flight)?;
        }
        if self.first.is_empty() {
            self.first = data;
            return Ok(());
        }
        if self.rest.is_empty() {
            let announced = self.announced.unwrap_or(0);
            let expected = announced.clamp(self.read, TRUSTED.max(self.read));
            self.rest.reserve(usize::try_from(expected).unwrap_or(0));
            self.rest.extend_from_slice(&self.first);
        }
        self.rest.extend_from_slice(&data);
        Ok(())
    }

    /// Counts what has come, where its length was not known before.
    fn hold(&mut self, flight: &Flight) -> Result<(), Refusal> {
        let pressure = &self.worker.pressure;
        let held = self.held.get_or_insert_with(|| pressure.hold(0));
        if held.bytes() >= self.read {
            return Ok(());
        }
        if !held.try_grow_to(self.read) {
            return Err(refused(self.worker));
        }
        flight.holds_body(held.bytes());
        Ok(())
    }
}

fn refused(worker: &Worker) -> Refusal {
    worker.metrics.overload_refused(Level::Full.as_str());
    Refusal::overloaded().closing()
}

/// How many bytes have to come within the bound on progress to count as some.
fn stride(bound: Duration, announced: Option<u64>) -> u64 {
    let by_rate = bound.as_secs().saturating_mul(SLOWEST);
    by_rate.max(announced.unwrap_or(0) / WINDOWS).max(1)
}

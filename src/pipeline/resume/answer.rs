//! `/-/streams/{id}`: reading on, and stopping.
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};

use super::had::Said;
use super::{Been, READERS, Stream, StreamId};
use crate::cache::Unresumed;
use crate::flight::{About, Limits, Stage};
use crate::pipeline::follow::Following;
use crate::pipeline::local::Local;
use crate::pipeline::lookup;
use crate::pipeline::record::Record;
use crate::pipeline::refusal::{Methods, Refusal};
use crate::pipeline::reply::{Content, Reply};

/// The byte of the stream that the answer begins with.
const OFFSET: HeaderName = HeaderName::from_static("x-tidegate-stream-offset");

/// Answers what is asked below `/-/streams/`. `rest`: the path behind that.
pub fn answer(here: &Local<'_>, rest: &str, record: &mut Record) -> Result<Reply, Refusal> {
    let (id, verb) = rest.split_once('/').map_or((rest, None), |(id, verb)| (id, Some(verb)));
    let stops = match (verb, here.method) {
        (None, &Method::GET) => false,
        (None, &Method::DELETE) | (Some("cancel"), &Method::POST) => true,
        (None, _) => return Err(Refusal::wrong_method(Methods::GetDelete)),
        (Some("cancel"), _) => return Err(Refusal::wrong_method(Methods::Post)),
        (Some(_), _) => return Err(Refusal::unknown_stream()),
    };
    let owner = lookup::owner(here.worker, here.who, here.headers);
    let found = StreamId::read(id).and_then(|id| Some((id, here.worker.streams.find(&id, owner)?)));
    let (id, stream) = found.ok_or_else(Refusal::unknown_stream)?;
    if !stops {
        return read(here, &stream, record);
    }
    // its name is free before anybody can ask again
    here.worker.streams.forget(&id);
    stream.log.cancel();
    Ok(Reply::ours(StatusCode::NO_CONTENT, Bytes::new()))
}

fn read(here: &Local<'_>, stream: &Stream, record: &mut Record) -> Result<Reply, Refusal> {
    let said = Said::read(here.query, here.headers).ok_or_else(Refusal::offset_unread)?;
    let mut been = Been::new(said, stream.head.form);
    let seat = stream.log.resume(READERS, &mut been).map_err(|why| match why {
        Unresumed::Forgotten => Refusal::forgotten_stream(),
        Unresumed::Busy => Refusal::too_many_readers(),
    })?;
    record.resumed();
    let worker = here.worker;
    worker.streams.resumed.fetch_add(1, Relaxed);
    // its deadlines are those of the call itself
    let about = About::new(record.id, stream.kind.operation(), record.started());
    let ticket = worker.flights.begin(&worker.clock, Limits::UNBOUNDED, about);
    ticket.describe(|about| about.agent = Some(Arc::clone(&here.who.agent)));
    ticket.enter(Stage::Answering, worker.clock.now());
    ticket.set_streaming();
    let mut headers = stream.head.headers.clone();
    // of what is left nobody knows it
    headers.remove(header::CONTENT_LENGTH);
    if let Some(offer) = stream.head.offer.get() {
        offer.tell(&mut headers);
    }
    if let Some(at) = been.starts_at() {
        headers.insert(OFFSET, HeaderValue::from(at));
    }
    let head = Arc::clone(&stream.head);
    let status = head.status;
    let following = Following::resumed(Rc::clone(worker), seat, head, stream.kind, (ticket, been));
    Ok(Reply { status, headers, content: Content::Shared(Box::new(following)) })
}

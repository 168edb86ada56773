//! OpenAI's responses: the response out of its last event.
//!
//! `response.completed` and `response.incomplete` bring the whole response, so that nothing has to
//! be put together. Where an item that came is not among those, there is no plain form: some
//! backends leave them all out.
mod unfold;

use std::sync::LazyLock;

use bytes::Bytes;

use super::events::{Event, events};
use super::joined::{checked, elements, members};
use crate::wire::json::Raw;
use crate::wire::meter::Form;
use crate::wire::seek::{Seek, needle};

pub(super) use unfold::unfold;

static ADDED: Seek = LazyLock::new(|| needle(b"\"response.output_item.added\""));
static DONE: Seek = LazyLock::new(|| needle(b"\"response.output_item.done\""));

pub(super) fn fold(body: &[u8]) -> Option<Bytes> {
    let (mut added, mut done): (u64, u64) = (0, 0);
    let mut last: Option<Event<'_>> = None;
    for event in events(Form::Sse, body) {
        if event.data.trim_ascii() == b"[DONE]" {
            continue;
        }
        // a needle in a string would be escaped
        added += u64::from(ADDED.stands(&event.data));
        done += u64::from(DONE.stands(&event.data));
        last = Some(event);
    }
    let last = last?;
    let data = Raw(last.data.trim_ascii());
    let status: &[u8] = match kind(data)? {
        b"response.completed" => b"\"completed\"",
        b"response.incomplete" => b"\"incomplete\"",
        _ => return None,
    };
    let mut response = None;
    members(data, |name, value| {
        match name {
            b"type" | b"sequence_number" => {}
            b"response" => response = Some(value),
            _ => return None,
        }
        Some(())
    })?;
    let response = response?;
    let mut items = 0;
    elements(response.get(b"output")?, |_| {
        items += 1;
        Some(())
    })?;
    let told = response.get(b"usage").is_some_and(|usage| !usage.is_null());
    if response.get(b"status")?.0 != status || items < added.max(done) || !told {
        return None;
    }
    checked(response.0.to_vec())
}

/// The type of an event, without quotes.
fn kind(event: Raw<'_>) -> Option<&[u8]> {
    match event.get(b"type")?.0 {
        [b'"', kind @ .., b'"'] => Some(kind),
        _ => None,
    }
}

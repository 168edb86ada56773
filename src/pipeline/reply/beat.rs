//! What deadlines and heartbeats want of a stream that goes by.
//!
//! A client that has heard nothing for long is sent a comment, which the rules of server-sent events
//! bid it to pass over (HTML standard, section 9.2.6). Not every client keeps to them. Google's take
//! each line for a part of the answer, so they get none; and the Python SDKs of OpenAI and Anthropic
//! see an event without data in the blank line behind a comment, once an event has had an `id`, so
//! a stream that numbers its events gets none either. A comment is no part of the answer: it is
//! neither counted nor kept, and stands between events alone.
use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem::Finder;

use crate::clock::Tick;
use crate::flight::Flight;
use crate::wire::{Dialect, Ending, Form, Kind, Meter};

/// What a client is sent that is to know that its stream is alive.
pub const KEEP_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");

static NUMBER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\nid:"));

/// Whether comments may be put into an answer. `eventful`: it has no fixed length.
pub fn may_beat(kind: Kind, form: Form, eventful: bool) -> bool {
    let patient = matches!(kind.dialect(), Dialect::OpenAi | Dialect::Anthropic);
    eventful && form == Form::Sse && patient
}

/// Whether these, the first bytes of a stream, number its events.
pub fn numbers_events(first: &[u8]) -> bool {
    first.starts_with(b"id:") || NUMBER.find(first).is_some()
}

/// An answer begins to go by.
pub fn begin(flight: &Flight, meter: Option<&Meter>, beats: bool, now: Tick) {
    if meter.is_some_and(Meter::sees_events) {
        flight.await_content();
    }
    if beats {
        flight.begin_beats(now);
    }
}

/// What a meter has counted so far.
#[derive(Clone, Copy)]
pub struct Counted {
    content: u64,
    steps: u64,
}

impl Counted {
    pub fn of(meter: &Meter) -> Self {
        Self { content: meter.content_events(), steps: meter.steps() }
    }

    /// Tells the flight what has come since.
    pub fn tell(self, flight: &Flight, meter: &Meter, now: Tick) {
        if meter.content_events() > self.content {
            flight.content(now);
        } else if meter.steps() > self.steps {
            flight.stepped(now);
        }
        flight.produced(meter.produced());
        flight.keeps(meter.carried());
        if meter.ending() != Ending::Open {
            flight.over();
        }
    }
}

/// The last bytes of a stream of events, for one who does not read it.
#[derive(Default)]
pub struct Tail {
    /// The last three, and how many there are.
    last: [u8; 3],
    len: u8,
}

impl Tail {
    /// Nothing has passed.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn passed(&mut self, piece: &[u8]) {
        for &byte in &piece[piece.len().saturating_sub(self.last.len())..] {
            self.last.rotate_left(1);
            self.last[2] = byte;
            self.len = (self.len + 1).min(3);
        }
    }

    /// Whether it ends with a blank line, of any spelling, or has not begun.
    pub fn between_events(&self) -> bool {
        let ended = |byte| matches!(byte, b'\n' | b'\r');
        match &self.last[3 - usize::from(self.len)..] {
            [] => true,
            [before @ .., b'\r', b'\n'] => before.last().copied().is_some_and(ended),
            [.., before, b'\n' | b'\r'] => ended(*before),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blank_line_is_known_by_its_last_bytes_however_they_came() {
        for (text, between) in [
            ("", true),
            ("data: 1\n\n", true),
            ("data: 1\r\n\r\n", true),
            ("data: 1\r\r", true),
            ("data: 1\n\r\n", true),
            ("data: 1\r\r\n", true),
            ("data: 1\r\n\r", true),
            ("data: 1\r\n\n", true),
            ("data: 1\n\ndata: 2", false),
            ("data: 1\n", false),
            ("data: 1\r\n", false),
            ("data: 1\r", false),
            ("data", false),
            ("\n\nd", false),
        ] {
            for size in 1..=text.len().max(1) {
                let mut tail = Tail::default();
                text.as_bytes().chunks(size).for_each(|piece| tail.passed(piece));
                assert_eq!(tail.between_events(), between, "{text:?} in pieces of {size}");
                assert_eq!(tail.is_empty(), text.is_empty());
            }
        }
    }

    #[test]
    fn comments_are_for_clients_that_pass_them_over() {
        assert!(may_beat(Kind::Chat, Form::Sse, true));
        assert!(may_beat(Kind::Messages, Form::Sse, true));
        assert!(!may_beat(Kind::StreamGenerate, Form::Sse, true));
        assert!(!may_beat(Kind::OllamaChat, Form::NdJson, true));
        assert!(!may_beat(Kind::Chat, Form::Json, true));
        assert!(!may_beat(Kind::Chat, Form::Sse, false), "its length was announced");
        assert!(numbers_events(b"id: 1\ndata: {}\n\n"));
        assert!(numbers_events(b"data: {}\nid:1\n\n"));
        assert!(!numbers_events(b"data: {\"id\": 1}\n\n"));
    }
}

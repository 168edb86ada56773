//! What a reader who comes back has had: so many bytes, or so many events.
use http::HeaderMap;

use crate::cache::Had;
use crate::wire::{Form, Past};

const LAST_EVENT_ID: &str = "last-event-id";

/// Where it had been, as it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// `offset=N`: bytes.
    Bytes(u64),
    /// `starting_after=N`, or `Last-Event-ID: N`: events, the first of them number 1.
    Events(u64),
}

/// The same, as pieces of the stream go by.
pub struct Been {
    /// Bytes of it that went by so far.
    at: u64,
    by: By,
}

enum By {
    Bytes(u64),
    Events(Past),
}

impl Said {
    /// The query goes before the header. Nothing said is nothing had. `None`: it makes no sense.
    pub fn read(query: Option<&str>, headers: &HeaderMap) -> Option<Self> {
        let mut said = None;
        for pair in query.unwrap_or("").split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let one = match name {
                "offset" => Self::Bytes(number(value)?),
                "starting_after" => Self::Events(number(value)?),
                _ => continue,
            };
            if said.replace(one).is_some() {
                return None;
            }
        }
        if said.is_some() {
            return said;
        }
        match headers.get(LAST_EVENT_ID) {
            Some(last) => Some(Self::Events(number(last.to_str().ok()?.trim())?)),
            None => Some(Self::Bytes(0)),
        }
    }
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

impl Been {
    pub fn new(said: Said, form: Form) -> Self {
        let by = match said {
            Said::Bytes(bytes) => By::Bytes(bytes),
            Said::Events(events) => By::Events(Past::new(form, events)),
        };
        Self { at: 0, by }
    }

    /// The byte that it goes on with. `None`: that has not come yet, and cannot be told.
    pub fn starts_at(&self) -> Option<u64> {
        match &self.by {
            By::Bytes(bytes) => Some(*bytes),
            By::Events(past) => past.is_over().then_some(self.at),
        }
    }
}

impl Had for Been {
    fn begins_at(&mut self, gone: u64) -> bool {
        self.at = gone;
        match self.by {
            By::Bytes(bytes) => gone <= bytes,
            // what is gone cannot be counted
            By::Events(_) => gone == 0,
        }
    }

    fn of(&mut self, piece: &[u8]) -> usize {
        let of = match &mut self.by {
            By::Bytes(bytes) => usize::try_from(*bytes - self.at).unwrap_or(usize::MAX),
            By::Events(past) => past.of(piece),
        };
        let of = of.min(piece.len());
        self.at += of as u64;
        of
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_once_and_as_a_number() {
        let mut headers = HeaderMap::new();
        let read = |query, headers: &HeaderMap| Said::read(query, headers);
        assert_eq!(read(None, &headers), Some(Said::Bytes(0)));
        assert_eq!(read(Some("key=x&offset=17"), &headers), Some(Said::Bytes(17)));
        assert_eq!(read(Some("starting_after=3"), &headers), Some(Said::Events(3)));
        for wrong in [
            "offset=",
            "offset=-1",
            "offset=+1",
            "offset=1&offset=1",
            "offset",
            "offset=99999999999999999999",
            "starting_after=x",
            "offset=1&starting_after=1",
        ] {
            assert_eq!(read(Some(wrong), &headers), None, "{wrong}");
        }
        headers.insert(LAST_EVENT_ID, "12".parse().unwrap());
        assert_eq!(read(None, &headers), Some(Said::Events(12)));
        assert_eq!(read(Some("offset=5"), &headers), Some(Said::Bytes(5)));
        headers.insert(LAST_EVENT_ID, "abc".parse().unwrap());
        assert_eq!(read(None, &headers), None);
    }

    #[test]
    fn bytes_are_passed_over_wherever_pieces_end() {
        let text = b"data: 1\n\ndata: 2\n\n";
        for had in 0..=text.len() + 3 {
            for size in 1..=text.len() {
                let mut been = Been::new(Said::Bytes(had as u64), Form::Sse);
                assert!(been.begins_at(0));
                let of: usize = text.chunks(size).map(|piece| been.of(piece)).sum();
                assert_eq!(of, had.min(text.len()));
                assert_eq!(been.starts_at(), Some(had as u64));
            }
        }
        let mut been = Been::new(Said::Bytes(7), Form::Sse);
        assert!(!been.begins_at(8) && been.begins_at(5));
        assert_eq!(been.of(b"abc"), 2);
        assert_eq!(been.of(b"abc"), 0);
    }

    #[test]
    fn events_need_the_beginning() {
        let mut been = Been::new(Said::Events(1), Form::Sse);
        assert!(!been.begins_at(1) && been.begins_at(0));
        assert_eq!(been.starts_at(), None);
        assert_eq!(been.of(b"data: 1\n\ndata: 2\n\n"), 9);
        assert_eq!(been.starts_at(), Some(9));
    }
}

//! Where the first so many events of a stream end, for a reader who has had them.
//!
//! An event is what the rules of server-sent events dispatch as one: a block with data that a blank
//! line ends; comments alone are none. In JSON lines it is a line that is not blank. What ends an
//! event belongs to it, also where its two bytes come in two chunks.
use memchr::memchr;

use super::{Blanks, NdJsonSplit, SseSplit};
use crate::wire::Form;

/// Passes over the first events of a stream.
pub struct Past {
    /// So many are still to come.
    left: u64,
    by: By,
}

enum By {
    Blanks(Blanks, SseSplit),
    Lines(NdJsonSplit),
}

impl Past {
    /// The first `events` of a stream in this form.
    pub fn new(form: Form, events: u64) -> Self {
        let by = match form {
            Form::NdJson => By::Lines(NdJsonSplit::new()),
            _ => By::Blanks(Blanks::default(), SseSplit::new()),
        };
        Self { left: events, by }
    }

    /// How many bytes of the next chunk belong to them.
    pub fn of(&mut self, chunk: &[u8]) -> usize {
        let Self { left, by } = self;
        match by {
            By::Blanks(blanks, events) => {
                let mut at = blanks.begin(chunk);
                let mut from = 0;
                while *left > 0 {
                    let Some(blank) = blanks.next(chunk, at) else {
                        events.push(&chunk[from..], &mut |_| {});
                        return chunk.len();
                    };
                    events.push(&chunk[from..blank.end], &mut |_| *left = left.saturating_sub(1));
                    (from, at) = (blank.end, blank.end);
                }
                at
            }
            By::Lines(lines) => {
                let mut at = 0;
                while *left > 0 {
                    let Some(found) = memchr(b'\n', &chunk[at..]) else {
                        lines.push(&chunk[at..], &mut |_| {});
                        return chunk.len();
                    };
                    let end = at + found + 1;
                    lines.push(&chunk[at..end], &mut |_| *left = left.saturating_sub(1));
                    at = end;
                }
                at
            }
        }
    }

    /// Whether their end is known: nothing that comes belongs to them.
    pub fn is_over(&self) -> bool {
        let torn = matches!(&self.by, By::Blanks(blanks, _) if blanks.after_cr);
        self.left == 0 && !torn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn past(form: Form, events: u64, text: &[u8], size: usize) -> (usize, bool) {
        let mut past = Past::new(form, events);
        let mut had = 0;
        for chunk in text.chunks(size) {
            let of = past.of(chunk);
            had += of;
            if of < chunk.len() {
                assert_eq!(past.of(b"data: more\n\n"), 0, "what it has not had is over");
                break;
            }
        }
        (had, past.is_over())
    }

    #[test]
    fn events_end_where_clients_dispatch_them() {
        let parts: [&[u8]; 5] = [
            b": hello\n\ndata: 1\n\n",
            b"event: x\ndata: 2\r\n\r\n",
            b": beat\n\n\n\ndata: 3\r\r",
            b"data\n\n",
            b"data: 5\n",
        ];
        let text = parts.concat();
        for size in 1..=text.len() {
            let mut end = 0;
            for (events, part) in parts.iter().enumerate() {
                let found = past(Form::Sse, events as u64, &text, size);
                assert_eq!(found, (end, true), "{events} in pieces of {size}");
                end += part.len();
            }
            assert_eq!(past(Form::Sse, 5, &text, size), (text.len(), false), "it is not over");
        }
    }

    #[test]
    fn a_line_end_in_two_pieces_belongs_to_the_event_before_it() {
        let mut past = Past::new(Form::Sse, 1);
        assert_eq!(past.of(b"data: 1\r\n\r"), 10);
        assert!(!past.is_over(), "one byte may follow");
        assert_eq!(past.of(b"\ndata: 2"), 1);
        assert!(past.is_over());
        assert_eq!(past.of(b"\n\n"), 0);
    }

    #[test]
    fn lines_are_counted_and_blank_ones_are_not() {
        let text = b"{\"a\":1}\n\r\n\n{\"b\":2}\r\n{\"c\"";
        for size in 1..=text.len() {
            assert_eq!(past(Form::NdJson, 0, text, size), (0, true));
            assert_eq!(past(Form::NdJson, 1, text, size), (8, true));
            assert_eq!(past(Form::NdJson, 2, text, size), (20, true));
            assert_eq!(past(Form::NdJson, 3, text, size), (text.len(), false));
        }
    }
}

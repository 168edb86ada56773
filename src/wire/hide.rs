//! Takes the event out of a stream that is there only because we asked for it.
//!
//! After `stream_options.include_usage` the last event before `[DONE]` has no choices and a usage;
//! a caller who did not ask for it may trip over the missing choice. Everything else passes as
//! slices of the frames that came, Azure's first event too, which has no choices and no usage.
//! Whole events are never held back. Of an event that is not whole, at most [`MOST`] bytes are; a
//! larger one is none of ours and passes. What passes is the same for every chunking.
use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};

use super::json::{Raw, skip_space};
use super::seek::{Seek, needle};
use super::split::{Blanks, show};

/// The largest event that is looked at, in bytes.
const MOST: usize = 64 << 10;

/// Hides the usage-only events of one stream of chat or completions.
#[derive(Default)]
pub struct Hide {
    blanks: Blanks,
    /// The beginning of an event that is not whole: a slice of its frame, and copies of what came
    /// after that.
    held: Bytes,
    more: BytesMut,
    /// The event at hand is too large, and its beginning has passed.
    passing: bool,
    /// The last whole event was hidden.
    hidden: bool,
}

impl Hide {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next frame, and passes on what of it, and of what was held, may be seen.
    pub fn push(&mut self, frame: Bytes, out: &mut impl FnMut(Bytes)) {
        let mut at = self.blanks.begin(&frame);
        // before `from` all has passed or is hidden; the event at hand begins at `start`
        let (mut from, mut start) = (0, 0);
        if at == 1 && self.between() && self.held.is_empty() {
            // the last byte of the event before
            from = usize::from(self.hidden);
            start = 1;
        }
        while let Some(blank) = self.blanks.next(&frame, at) {
            self.hidden = self.is_ours(&frame[start..blank.start]);
            if self.hidden {
                (self.held, self.more) = (Bytes::new(), BytesMut::new());
                pass(frame.slice(from..start), out);
                from = blank.end;
            } else {
                self.release(out);
            }
            self.passing = false;
            (start, at) = (blank.end, blank.end);
        }
        let rest = frame.len() - start;
        if !self.passing && self.held.len() + self.more.len() + rest > MOST {
            self.release(out);
            self.passing = true;
        }
        if self.passing || rest == 0 {
            pass(if from == 0 { frame } else { frame.slice(from..) }, out);
        } else {
            pass(frame.slice(from..start), out);
            self.hold(frame.slice(start..));
        }
    }

    /// The stream has ended. An event that no blank line closed is treated as if one had.
    pub fn finish(&mut self, out: &mut impl FnMut(Bytes)) {
        if self.is_ours(&[]) {
            (self.held, self.more) = (Bytes::new(), BytesMut::new());
        }
        self.release(out);
    }

    /// What has passed ends with an event, so one of our own may follow; what is held is then lost.
    pub fn between(&self) -> bool {
        !self.passing
    }

    fn hold(&mut self, piece: Bytes) {
        if self.held.is_empty() {
            self.held = piece;
        } else {
            self.more.extend_from_slice(&piece);
        }
    }

    fn release(&mut self, out: &mut impl FnMut(Bytes)) {
        pass(std::mem::take(&mut self.held), out);
        pass(self.more.split().freeze(), out);
    }

    /// Whether what is held, with this as its end, is the event that we asked for.
    fn is_ours(&self, end: &[u8]) -> bool {
        if self.passing || self.held.len() + self.more.len() + end.len() > MOST {
            return false;
        }
        if self.held.is_empty() {
            return usage_alone(end);
        }
        let whole = [&self.held[..], &self.more[..], end].concat();
        usage_alone(&whole)
    }
}

fn pass(piece: Bytes, out: &mut impl FnMut(Bytes)) {
    if !piece.is_empty() {
        out(piece);
    }
}

static CHOICES: Seek = LazyLock::new(|| needle(b"\"choices\""));

/// Whether an event has a usage and no choices.
fn usage_alone(event: &[u8]) -> bool {
    let empty = CHOICES.value(event).is_some_and(|value| {
        value.first() == Some(&b'[') && value.get(skip_space(value, 1)) == Some(&b']')
    });
    let mut alone = false;
    if empty {
        show(event, None, &mut |event| alone = is_usage(event.data));
    }
    alone
}

/// The same of the event's data.
pub(super) fn is_usage(data: &[u8]) -> bool {
    let Some(mut members) = Raw(data).members() else { return false };
    let (mut choices, mut usage) = (false, false);
    while let Ok(Some((key, value))) = members.next() {
        match key.0 {
            b"choices" => choices = value.is_empty(),
            b"usage" => usage = !value.is_null(),
            b"error" if !value.is_empty() => return false,
            _ => {}
        }
    }
    choices && usage
}

#[cfg(test)]
mod tests;

//! Server-sent events one by one, each with the very bytes that it came in. The one that has not
//! ended yet is held back.
use bytes::{Bytes, BytesMut};

use super::{Blanks, fields};

/// Cuts a stream behind each event that is whole.
#[derive(Default)]
pub struct WholeEvents {
    blanks: Blanks,
    held: BytesMut,
}

impl WholeEvents {
    /// Takes the next bytes and shows what they complete: an event's bytes with the blank line that
    /// ends it, and its data. `None`: it is a comment, or has no data.
    pub fn push(&mut self, chunk: &[u8], mut on_event: impl FnMut(Bytes, Option<&[u8]>)) {
        let before = self.held.len();
        self.held.extend_from_slice(chunk);
        let (mut at, mut cut) = (self.blanks.begin(chunk), 0);
        while let Some(blank) = self.blanks.next(chunk, at) {
            at = blank.end;
            let raw = self.held.split_to(before + at - cut).freeze();
            cut = before + at;
            on_event(raw.clone(), fields(&raw).map(|(_, data)| data).as_deref());
        }
    }

    /// Bytes of the event that has not ended.
    pub fn held(&self) -> usize {
        self.held.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_whole_whatever_the_chunks_and_none_of_their_bytes_is_lost() {
        for text in [
            "event: a\ndata: 1\n\n: c\n\ndata: 2\ndata: 3\n\n",
            "event: a\r\ndata: 1\r\n\r\n: c\r\n\r\ndata: 2\r\ndata: 3\r\n\r\n",
        ] {
            let torn = format!("{text}data: to");
            for size in 1..torn.len() {
                let (mut whole, mut raw, mut seen) =
                    (WholeEvents::default(), Vec::new(), Vec::new());
                for chunk in torn.as_bytes().chunks(size) {
                    whole.push(chunk, |bytes, data| {
                        raw.extend_from_slice(&bytes);
                        seen.push(data.map(<[u8]>::to_vec));
                    });
                }
                let want = [Some(b"1".to_vec()), None, Some(b"2\n3".to_vec())];
                assert_eq!(seen, want, "{size}");
                // the second half of a line end may come with what follows
                let end = torn.len() - raw.len();
                assert_eq!(whole.held(), end, "{size}");
                assert!(torn.as_bytes().starts_with(&raw) && end <= "\ndata: to".len(), "{size}");
            }
        }
    }
}

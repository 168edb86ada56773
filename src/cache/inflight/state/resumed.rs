//! Readers who come back: a seat that begins where they had been, and a word to end it all.
use std::time::Instant;

use super::State;
use crate::cache::inflight::Reader;

/// What a reader who comes back has had.
pub trait Had {
    /// So many bytes, the first ones, are there no more. `false`: then it cannot be brought to where
    /// it was.
    fn begins_at(&mut self, gone: u64) -> bool;
    /// How many bytes of the next piece it has had: the first ones.
    fn of(&mut self, piece: &[u8]) -> usize;
}

/// Why there is no seat for a reader who comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unresumed {
    /// What it wants was let go of.
    Forgotten,
    /// As many read as may.
    Busy,
}

impl<H, F> State<H, F> {
    /// A seat behind what a reader has had. What it has had of pieces that are still to come is told
    /// by `had`. `most`: so many may read beside those who joined.
    pub fn resume(&mut self, most: usize, had: &mut impl Had) -> Result<usize, Unresumed> {
        let own = self.seats.iter().filter(|(_, reader)| !reader.joined && !reader.lost).count();
        if own >= most {
            return Err(Unresumed::Busy);
        }
        if !had.begins_at(self.gone_bytes) {
            return Err(Unresumed::Forgotten);
        }
        let (mut next, mut cut) = (self.gone, 0);
        for (piece, _) in &self.pieces {
            let of = had.of(piece);
            if of < piece.len() {
                cut = of;
                break;
            }
            next += 1;
        }
        self.left = None;
        // it is to know that somebody is there again
        self.wake_writer();
        Ok(self.seats.insert(Reader { next, cut, waker: None, lost: false, joined: false }))
    }

    pub fn cancel(&mut self) {
        self.cancelled = true;
        self.wake_writer();
    }

    /// Whether it was cancelled; and then, whether nobody else reads it.
    pub fn cancelled(&self) -> Option<bool> {
        let others = || self.seats.iter().any(|(_, reader)| reader.joined && !reader.lost);
        self.cancelled.then(|| !others())
    }

    /// Nothing has been let go of.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// When the last reader went. `None`: somebody reads.
    pub fn left(&self) -> Option<Instant> {
        self.left
    }
}

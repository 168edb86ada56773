//! Answers that are given a second time, and calls that share one.
//!
//! [`Key`]s name answers and hold the walls between tenants; an [`Entry`] is one answer as it was
//! sent. What a policy keeps is kept apart from what others keep, in a [`Space`] of two tiers: memory
//! and, where there is a directory for it, disk. [`Hubs`] are calls in flight that others may join.
//! [`alike`] finds entries by questions that say the same in other words. Nothing in here knows HTTP
//! statuses, headers or the pipeline.
pub mod alike;
mod disk;
mod entry;
mod inflight;
mod key;
mod memory;
mod spaces;
mod vectors;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

pub use alike::Alike;
#[cfg(fuzzing)]
pub use disk::fuzz;
pub use disk::{Disk, DiskFigures};
pub use entry::{Author, Entry, Filter, Piece, Purged};
pub use inflight::{Claim, Gone, Had, Hubs, Lead, Log, Recorded, Seat, Unresumed};
pub use key::{Key, KeyBits, Keyer, Naming, Purpose, Walls, length};
pub use memory::{Memory, MemoryFigures};
pub use spaces::{Space, SpaceFigures, Spaces};
pub use vectors::{Keeping, Vectors};

/// All that is kept; outlives every policy.
pub struct Cache {
    pub keyer: Keyer,
    pub spaces: Spaces,
    pub alike: Alike,
}

impl Cache {
    /// `secret`: the key of all names; `directory`: for the entries on disk, `None` for none.
    pub fn new(secret: [u8; 32], directory: Option<PathBuf>) -> Self {
        Self {
            keyer: Keyer::new(secret),
            spaces: Spaces::new(directory),
            alike: Alike::new(Alike::BYTES),
        }
    }

    /// Takes out what the filter means: in memory, on disk, and the questions that lead there. As
    /// [`Spaces::purge`] otherwise. How many questions went is told beside.
    pub async fn purge(&self, filter: &Filter, now: SystemTime) -> (Purged, usize) {
        // what is gone from the index leads to nothing; the other way round it would for a moment
        let questions = self.alike.purge(filter, now);
        let purged = self.spaces.purge(filter, now).await;
        (purged, questions + self.alike.purge(filter, now))
    }

    /// Takes out what is out of date; to be called every minute or so. Not for an I/O thread.
    pub fn sweep(&self, now: SystemTime) {
        self.spaces.sweep(now);
        self.alike.sweep(now);
    }

    /// Keeps nothing any more, and writes what waits; as [`Spaces::close`]. Blocks.
    pub fn close(&self, within: Duration) -> bool {
        self.spaces.close(within)
    }
}

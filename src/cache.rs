//! Answers that are given a second time, and calls that share one.
//!
//! [`Key`]s name answers and hold the walls between tenants; an [`Entry`] is one answer as it was
//! sent. What a policy keeps is kept apart from what others keep. Nothing in here knows HTTP
//! statuses, headers or the pipeline.
mod disk;
mod entry;
mod key;
mod memory;
mod spaces;

pub use disk::{Disk, DiskFigures};
pub use entry::{Author, Entry, Filter, Piece, Purged};
pub use key::{Key, KeyBits, Keyer, Naming, Purpose, Walls};
pub use memory::{Memory, MemoryFigures};
pub use spaces::{Space, SpaceFigures, Spaces};

//! Answers that are given a second time, and calls that share one.
//!
//! [`Key`]s name answers and hold the walls between tenants; an [`Entry`] is one answer as it was
//! sent. What a policy keeps is kept apart from what others keep. Nothing in here knows HTTP
//! statuses, headers or the pipeline.
mod entry;
mod inflight;
mod key;

pub use entry::{Author, Entry, Filter, Piece};
pub use inflight::{Claim, Gone, Hubs, Lead, Recorded, Seat};
pub use key::{Key, Keyer, Naming, Purpose, Walls};

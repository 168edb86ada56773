//! Answers that are given a second time, and calls that share one.
//!
//! [`Key`]s name answers and hold the walls between tenants; an [`Entry`] is one answer as it was
//! sent. What a policy keeps is kept apart from what others keep. [`alike`] finds entries by
//! questions that say the same in other words. Nothing in here knows HTTP statuses, headers or the
//! pipeline.
pub mod alike;
mod entry;
mod key;

pub use entry::{Author, Entry, Filter, Piece};
pub use key::{Key, Keyer, Naming, Purpose, Walls};

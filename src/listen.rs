//! (laid out next)
pub mod head;

//! (laid out next)
pub mod gate;

//! (laid out next)
pub mod inherited;
pub mod notify;
pub mod socket;
pub mod tls;

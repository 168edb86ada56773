//! Connections to backends.
pub mod connect;
mod dial;
pub mod dns;
pub mod proxy;
pub mod tls;

//! Being seen: metrics, the access log, and the event log.
//!
//! The request path only touches ready handles and buffers of its own thread; nothing here makes
//! a worker wait for a scrape, a disk or a terminal. Every metric name is in `metrics/names.rs`.
pub mod access;
pub mod log;
pub mod metrics;
mod redact;
mod sink;
pub mod view;

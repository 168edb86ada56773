//! Being seen: metrics, the access log, usage records, and the event log.
//!
//! The request path only touches ready handles and buffers of its own thread; nothing here makes
//! a worker wait for a scrape, a disk or a terminal. Every metric name is in `metrics/names.rs`.
pub mod access;
mod blocks;
pub mod exposition;
pub mod history;
pub mod log;
pub mod logs;
pub mod metrics;
pub mod otlp;
mod outlet;
mod redact;
mod sink;
pub mod trace;
pub mod usage;
pub mod view;

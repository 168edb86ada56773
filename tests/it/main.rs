//! The integration tests: one binary, one module a subject.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panic")]
mod cli;
mod config;
mod gate;
mod net;
mod support;

mod telemetry;
// the settings that allow these in tests do not reach helper functions
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod simulate;

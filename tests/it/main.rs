//! The integration tests: one binary, one module a subject.
// clippy's allowances for tests do not reach helper functions
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panic")]
mod cache;
mod cache_admin;
mod cli;
mod config;
mod demo;
mod embeddings;
mod failover;
mod faults;
mod gate;
mod health;
mod identity;
mod life;
mod limits;
mod net;
mod overload;
mod pacing;
mod proxy;
mod runaway;
mod simulate;
mod state;
mod support;
mod telemetry;
mod websocket;

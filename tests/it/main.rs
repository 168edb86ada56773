//! The integration tests: one binary, one module a subject.
// clippy's allowances for tests do not reach helper functions
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panic")]
mod admin;
mod cache;
mod cache_admin;
mod cli;
mod config;
mod demo;
mod doctor;
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
mod resume;
mod runaway;
mod simulate;
mod state;
mod support;
mod tasks;
mod tasks_admin;
mod tasks_killed;
mod telemetry;
mod websocket;

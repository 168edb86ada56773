//! Tidegate: the sidecar between AI agents and their models.
//!
//! A map, lowest layer first; a file uses only what stands below it, or its own folder
//! (`tests/architecture.rs` holds this):
//!
//! - 0 [`wire`] what the bytes of each vendor mean; [`flight`] calls and their deadlines;
//!   [`identity`] who calls, as facts; [`semantic`] whether two questions ask the same; [`clock`],
//!   [`drain`], [`io`], [`pressure`], [`request_id`], [`sync`], [`units`]
//! - 1 [`config`] the policy file
//! - 2 [`telemetry`] metrics, access log, tracing; [`store`] what outlives the process
//! - 3 [`upstream`] connections to backends; [`route`] which call goes where; [`agents`] who calls;
//!   [`limits`] who may use how much, and who goes next; [`cache`] answers given a second time,
//!   and calls that share one; [`tasks`] calls that are made in the background
//! - 4 [`snapshot`] one consistent view of the configuration
//! - 5 [`pipeline`] the path of a request: read this one first
//! - 6 [`reload`] a new policy without a restart; [`webhook`] telling of the ends of tasks;
//!   [`collector`] sending traces and metrics
//! - 7 [`listen`], [`admin`] the two doors; [`simulate`] a backend that needs no key
//! - 8 [`app`] puts the parts together
//! - 9 [`cli`] what a person starts; [`demo`] the whole in one minute
pub mod admin;
pub mod agents;
pub mod app;
pub mod cache;
pub mod cli;
pub mod clock;
pub mod collector;
pub mod config;
pub mod demo;
pub mod drain;
pub mod flight;
pub mod identity;
pub mod io;
pub mod limits;
pub mod listen;
pub mod pipeline;
pub mod pressure;
pub mod reload;
pub mod request_id;
pub mod route;
pub mod semantic;
pub mod simulate;
pub mod snapshot;
pub mod store;
pub mod sync;
pub mod tasks;
pub mod telemetry;
pub mod units;
pub mod upstream;
pub mod webhook;
pub mod wire;
pub mod work;

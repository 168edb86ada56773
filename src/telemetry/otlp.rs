//! What goes to an OpenTelemetry collector, as bytes of OTLP
//! (<https://opentelemetry.io/docs/specs/otlp/>, 1.9): spans of sampled calls, and all metrics.
//!
//! A worker writes the spans of a call that is over into a block of its own, as protobuf, and hands
//! whole blocks over without waiting; whoever sends them (`collector`) only puts an envelope around.
//! What cannot be handed over is dropped and counted. Metrics are what a scrape reads, under the same
//! names, but for those of the `GenAI` conventions (`names.rs`). No credential and no query is in any of
//! it, and no prompt unless the policy says so.
mod content;
mod envelope;
mod names;
mod near;
mod points;
mod proto;
mod span;
#[cfg(test)]
mod tests;

pub use self::envelope::{Envelope, Rejected, rejected, retry_delay};
pub use self::near::{Block, Settings, Tracer, blocks};
pub use self::points::Chunk;
pub use self::span::Ended;

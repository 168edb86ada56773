//! What may come next of an answer, and whether its end is waited for.
use std::pin::Pin;

use bytes::Bytes;
use tokio::time::Sleep;

use crate::pipeline::refusal::Refusal;

/// Whether the end is waited for when nobody reads any more.
pub(super) enum Linger {
    No,
    /// The terminal event has come. Many clients leave with it, before the end of the framing has.
    Yes,
    /// They have.
    Until(Pin<Box<Sleep>>),
}

/// What came next.
pub(super) enum Step {
    Piece(Bytes),
    End,
    Broken(Refusal),
    Deserted,
}

//! What may come next of an answer.
use bytes::Bytes;

use crate::pipeline::refusal::Refusal;

pub(super) enum Step {
    Piece(Bytes),
    End,
    Broken(Refusal),
    Deserted,
}

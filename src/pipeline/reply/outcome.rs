//! What an answer came to, and what that says of its backend.
use http::StatusCode;

use crate::telemetry::metrics::{Deadline, Outcome};
use crate::upstream::answer::Went;
use crate::wire::{Ending, Meter};

/// What an answer came to that has ended by its own framing.
pub fn outcome(status: StatusCode, meter: Option<&Meter>) -> Outcome {
    match meter.map(Meter::ending) {
        _ if status.is_server_error() => Outcome::UpstreamError,
        Some(Ending::Failed) if status.is_success() => Outcome::UpstreamError,
        Some(Ending::Open) if status.is_success() => Outcome::Truncated,
        _ => Outcome::Complete,
    }
}

/// What an outcome says of the backend.
pub fn went(outcome: Outcome) -> Went {
    match outcome {
        Outcome::Complete => Went::Well,
        // ours, or the caller's doing
        Outcome::Refused
        | Outcome::ClientGone
        | Outcome::Cancelled
        | Outcome::Deadline(Deadline::Total | Deadline::Queue | Deadline::Body) => Went::Unjudged,
        Outcome::UpstreamError
        | Outcome::UpstreamBroken
        | Outcome::Truncated
        | Outcome::Deadline(_) => Went::Badly,
    }
}

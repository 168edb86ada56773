//! Streams that are taken up again: what cannot be.
use std::time::Duration;

use http::StatusCode;

use super::{Refusal, Retry, Source};
use crate::telemetry::metrics::Outcome;

/// The methods that a path of ours knows; small, for every refusal has room for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Methods {
    Get,
    GetDelete,
    Post,
}

impl Methods {
    /// As `Allow` says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::GetDelete => "GET, DELETE",
            Self::Post => "POST",
        }
    }
}

impl Refusal {
    pub fn resume_unread() -> Self {
        let message = "The header `x-tidegate-resume` is no duration like 30s.";
        Self::new(StatusCode::BAD_REQUEST, "invalid_resume", Source::Agent, message)
    }

    pub fn offset_unread() -> Self {
        let message = "Where to go on is said by one of `offset` and `starting_after`, or by the \
                       header `Last-Event-ID`, as a whole number.";
        Self::new(StatusCode::BAD_REQUEST, "invalid_offset", Source::Agent, message)
    }

    /// Or another agent's, or its time is over.
    pub fn unknown_stream() -> Self {
        let message = "There is no such stream, or it can no longer be taken up again.";
        Self::new(StatusCode::NOT_FOUND, "stream_not_found", Source::Agent, message)
    }

    /// What its reader has not had is not kept any more.
    pub fn forgotten_stream() -> Self {
        let message = "What stands there in the stream is not kept any more: it became too long, or \
                       memory too short.";
        let mut refusal = Self::new(StatusCode::GONE, "stream_forgotten", Source::Us, message);
        refusal.retry = Retry::No;
        refusal
    }

    pub fn too_many_readers() -> Self {
        let message = "As many connections read this stream as may.";
        let status = StatusCode::TOO_MANY_REQUESTS;
        let mut refusal = Self::new(status, "too_many_readers", Source::Agent, message);
        refusal.retry = Retry::After(Duration::from_secs(1));
        refusal
    }

    /// Its owner has stopped it.
    pub fn stream_cancelled() -> Self {
        let message = "The stream was cancelled.";
        let mut refusal = Self::new(StatusCode::GONE, "stream_cancelled", Source::Agent, message);
        refusal.outcome = Outcome::ClientGone;
        refusal.retry = Retry::No;
        refusal
    }

    /// The path is one of ours, and knows other methods.
    pub fn wrong_method(allow: Methods) -> Self {
        let message = "This path of the sidecar does not know the method.";
        let status = StatusCode::METHOD_NOT_ALLOWED;
        let mut refusal = Self::new(status, "method_not_allowed", Source::Agent, message);
        refusal.allow = Some(allow);
        refusal
    }
}

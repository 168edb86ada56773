//! Deadlines that ran out.
use std::time::Duration;

use http::StatusCode;

use super::{Refusal, Retry, Source};
use crate::flight::Expired;
use crate::telemetry::metrics::{Deadline, Outcome};

/// What the APIs of Google answer for a call that was cancelled (`google.rpc.Code.CANCELLED`); no SDK
/// takes it for a reason to try again.
pub const CANCELLED: u16 = 499;

impl Refusal {
    /// An operator has ended the call.
    pub fn cancelled() -> Self {
        let status = StatusCode::from_u16(CANCELLED).unwrap_or(StatusCode::CONFLICT);
        let message = "An operator of this sidecar has ended the call.";
        let mut refusal = Self::new(status, "cancelled", Source::Us, message);
        (refusal.outcome, refusal.retry) = (Outcome::Cancelled, Retry::No);
        refusal
    }

    /// A deadline, told apart from all others by its code.
    pub fn expired(expired: Expired) -> Self {
        let (status, code, source, which, message) = match expired {
            Expired::Reading => return Self::body_timeout(),
            Expired::Overrun => return Self::overloaded(),
            Expired::Cancelled => return Self::cancelled(),
            Expired::Queued => (
                StatusCode::REQUEST_TIMEOUT,
                "queue_timeout",
                Source::Us,
                Deadline::Queue,
                "The upstream had no free place for this call in time.",
            ),
            Expired::FirstByte => (
                StatusCode::GATEWAY_TIMEOUT,
                "upstream_first_byte_timeout",
                Source::Upstream,
                Deadline::FirstByte,
                "The upstream did not begin to answer in time.",
            ),
            Expired::FirstContent => (
                StatusCode::GATEWAY_TIMEOUT,
                "upstream_first_content_timeout",
                Source::Upstream,
                Deadline::FirstContent,
                "The upstream did not begin to say anything in time.",
            ),
            Expired::BetweenTokens => (
                StatusCode::GATEWAY_TIMEOUT,
                "upstream_stall_timeout",
                Source::Upstream,
                Deadline::BetweenTokens,
                "The upstream stopped in the middle of its answer, though its connection is alive.",
            ),
            Expired::Idle => (
                StatusCode::GATEWAY_TIMEOUT,
                "upstream_idle_timeout",
                Source::Upstream,
                Deadline::Idle,
                "The upstream fell silent in the middle of its answer.",
            ),
            Expired::Total => (
                StatusCode::GATEWAY_TIMEOUT,
                "upstream_total_timeout",
                Source::Upstream,
                Deadline::Total,
                "The call took longer than the policy allows.",
            ),
        };
        let mut refusal = Self::new(status, code, source, message);
        refusal.outcome = Outcome::Deadline(which);
        if expired == Expired::Queued {
            refusal.retry = Retry::After(Duration::from_secs(1));
        }
        refusal
    }
}

//! Sessions over WebSocket: refused before they begin, or ended by us.
use std::time::Duration;

use http::StatusCode;

use super::{Refusal, Retry, Source};
use crate::telemetry::metrics::{Deadline, Outcome};

impl Refusal {
    /// As many sessions are open at the upstream as may be.
    pub fn too_many_sessions() -> Self {
        let message = "As many WebSocket sessions are open at this upstream as may be.";
        let status = StatusCode::TOO_MANY_REQUESTS;
        let mut refusal = Self::new(status, "too_many_sessions", Source::Us, message);
        refusal.retry = Retry::After(Duration::from_secs(1));
        refusal
    }

    /// Neither side has sent a message for long.
    pub fn session_idle() -> Self {
        let message = "Neither side has sent a message for as long as the policy allows.";
        Self::of_session("session_idle", Source::Us, message)
            .ending(Outcome::Deadline(Deadline::Idle))
    }

    pub fn session_too_long() -> Self {
        let message = "The session has lasted as long as the policy allows.";
        Self::of_session("session_too_long", Source::Us, message)
            .ending(Outcome::Deadline(Deadline::Total))
    }

    /// One side has sent what is no frame of a WebSocket, or uses an extension.
    pub fn session_malformed() -> Self {
        let message = "What was sent is no WebSocket frame without extensions.";
        Self::of_session("session_malformed", Source::Agent, message)
    }

    /// The backend's connection ended without a goodbye.
    pub fn session_broken() -> Self {
        let message = "The upstream's connection ended in the middle of the session.";
        Self::of_session("upstream_broken", Source::Upstream, message)
    }

    /// The client's did. For the log alone.
    pub fn session_deserted() -> Self {
        Self::of_session("client_gone", Source::Agent, "The client has gone.")
            .ending(Outcome::ClientGone)
    }

    /// A hard limit is used up.
    pub fn session_spent() -> Self {
        let message = "A hard limit that applies to this session is used up.";
        Self::of_session("insufficient_quota", Source::Agent, message)
    }

    /// A message asks for another model than the session's.
    pub fn session_model() -> Self {
        let message =
            "The session keeps to the model that it was begun with; open another session.";
        Self::of_session("session_model", Source::Agent, message)
    }

    /// The policy sends calls for the model that was named elsewhere.
    pub fn session_elsewhere() -> Self {
        let message = "The policy sends this model elsewhere; name it in the query of the opening.";
        Self::of_session("session_elsewhere", Source::Agent, message)
    }

    /// The backend might read a message otherwise than we do.
    pub fn session_unclear() -> Self {
        let message = "A message is not one JSON object, or gives a name more than once.";
        Self::of_session("session_unclear", Source::Agent, message)
    }

    /// A message that cannot be looked into.
    pub fn session_binary() -> Self {
        let message = "Binary messages are not read here; send text.";
        Self::of_session("session_binary", Source::Agent, message)
    }

    /// The query names a model more than once, or illegibly.
    pub fn query_model() -> Self {
        let message = "The query of a session names its model once, as `model` or `deployment`.";
        Self::new(StatusCode::BAD_REQUEST, "invalid_query", Source::Agent, message)
    }

    /// The client is never shown a status: it has had its 101.
    fn of_session(code: &'static str, source: Source, message: &'static str) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, code, source, message)
    }

    fn ending(self, outcome: Outcome) -> Self {
        Self { outcome, ..self }
    }
}

//! Every answer that is not a backend's: the one place that knows status codes.
//!
//! A refusal says whose fault it was, what the client is told, whether trying again helps, and keeps
//! the cause for our own log. What the client is told never holds a secret, an address of a backend
//! or anything the client sent.
mod broken;
mod expired;
mod limits;
mod overload;
mod resume;
mod session;
mod tasks;

pub use self::overload::ran_out;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};

pub use self::broken::{CODE as BROKEN, broken};
pub use self::expired::CANCELLED;
pub use self::resume::Methods;
use super::gate::GateFault;
use super::record::Record;
use super::reply::{Reply, ReplyBody};
use super::told;
use crate::limits::book::Standing;
use crate::telemetry::metrics::{Deadline, Outcome};
use crate::upstream::call::CallError;
use crate::upstream::connect::ConnectError;
use crate::upstream::h1::H1Error;
use crate::wire::{Dialect, Fault, Form, Kind, ViewFault, error_body, error_event};

/// Whose doing it was; a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Agent,
    Us,
    Upstream,
}

/// Whether the same call may succeed later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    No,
    After(Duration),
    /// As the client thinks fit.
    Unsaid,
}

#[derive(Debug, Clone)]
pub struct Refusal {
    status: StatusCode,
    /// For programs: `request_timeout`, `upstream_unreachable`. Also the metric's reason.
    code: &'static str,
    message: Cow<'static, str>,
    source: Source,
    retry: Retry,
    outcome: Outcome,
    /// The connection is of no further use: its bytes can no longer be told apart.
    close: bool,
    /// The limit that said no.
    limit: Option<Arc<str>>,
    runaway: bool,
    /// The methods that the path knows.
    allow: Option<Methods>,
    /// What the caller is told of it.
    standing: Vec<Standing>,
    /// For our log alone.
    cause: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// The longest wait that a caller is told; beyond it there is no use in trying again.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// The status that logs give a call whose client left before an answer.
pub const CLIENT_GONE: u16 = 499;

/// Where the SDKs look for the id of a request; the answer is ours, so no backend has said one.
fn request_id(dialect: Dialect) -> HeaderName {
    HeaderName::from_static(match dialect {
        Dialect::Anthropic => "request-id",
        _ => "x-request-id",
    })
}

/// Whether a body ended because its connection did, rather than by a fault in its framing.
fn has_left(cause: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let ended = |error: &std::io::Error| {
        matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
    };
    std::iter::successors(Some(cause), |error| error.source()).any(|error| {
        error.downcast_ref().is_some_and(ended)
            || error.downcast_ref().is_some_and(h2::Error::is_reset)
            || error.downcast_ref().is_some_and(hyper::Error::is_incomplete_message)
    })
}

impl Refusal {
    fn new(
        status: StatusCode,
        code: &'static str,
        source: Source,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            source,
            retry: Retry::Unsaid,
            outcome: match source {
                Source::Upstream => Outcome::UpstreamBroken,
                Source::Agent | Source::Us => Outcome::Refused,
            },
            close: false,
            limit: None,
            runaway: false,
            allow: None,
            standing: Vec::new(),
            cause: None,
        }
    }

    fn because(mut self, cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.cause = Some(Arc::new(cause));
        self
    }

    #[must_use]
    pub fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    pub fn gate(fault: &GateFault) -> Self {
        let status = fault.kind().status();
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
        let mut refusal = Self::new(status, fault.reason(), Source::Agent, fault.message());
        refusal.close = fault.closes();
        refusal
    }

    pub fn draining() -> Self {
        let mut refusal = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "draining",
            Source::Us,
            "This sidecar is shutting down and takes no new calls.",
        );
        refusal.retry = Retry::After(Duration::from_secs(1));
        refusal.closing()
    }

    pub fn no_route(_path: &str) -> Self {
        let message = "No route of this sidecar's policy matches the path of the request.";
        Self::new(StatusCode::NOT_FOUND, "no_route", Source::Agent, message)
    }

    pub fn no_route_for_model(model: Option<&str>) -> Self {
        let message = match model {
            Some(_) => "No route of this sidecar's policy matches the model of the request.",
            None => "The policy routes by model, and the request names none.",
        };
        Self::new(StatusCode::NOT_FOUND, "model_not_found", Source::Agent, message)
    }

    pub fn unexpected_body() -> Self {
        let message = "A GET or HEAD request for this path has no body.";
        Self::new(StatusCode::BAD_REQUEST, "unexpected_body", Source::Agent, message).closing()
    }

    pub fn body_too_large(max: u64) -> Self {
        let message = format!("The request body is larger than the {max} bytes that are allowed.");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", Source::Agent, message)
            .closing()
    }

    pub fn body_timeout() -> Self {
        let message = "The request body stopped arriving.";
        let mut refusal =
            Self::new(StatusCode::REQUEST_TIMEOUT, "request_body_timeout", Source::Agent, message);
        refusal.outcome = Outcome::Deadline(Deadline::Body);
        refusal.closing()
    }

    pub fn body_broken(cause: Box<dyn std::error::Error + Send + Sync>) -> Self {
        let refusal = if has_left(cause.as_ref()) {
            // nobody hears it: for the log alone
            let status = StatusCode::from_u16(CLIENT_GONE).unwrap_or(StatusCode::BAD_REQUEST);
            let message = "The client left before its request was whole.";
            let refusal = Self::new(status, "client_gone", Source::Agent, message);
            Self { outcome: Outcome::ClientGone, ..refusal }
        } else {
            let message = "The request body is not framed as its head announced.";
            Self::new(StatusCode::BAD_REQUEST, "malformed_body", Source::Agent, message)
        };
        Self { cause: Some(Arc::from(cause)), ..refusal.closing() }
    }

    pub fn unreadable(fault: &ViewFault) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_body", Source::Agent, fault.to_string())
    }

    pub fn upgrade_not_possible() -> Self {
        let message = "The connection cannot be upgraded.";
        Self::new(StatusCode::BAD_REQUEST, "upgrade_not_possible", Source::Agent, message)
    }

    /// A call that got no answer.
    pub fn call(error: CallError) -> Self {
        match error {
            CallError::Expired(expired) => Self::expired(expired),
            CallError::Connect(error) => Self::connect(error),
            error => Self::broken_answer(error),
        }
    }

    fn connect(error: Arc<ConnectError>) -> Self {
        if ran_out(&error) {
            return Self::no_descriptors().because(error);
        }
        if let ConnectError::TimedOut { .. } = *error {
            let message = "No connection to the upstream could be made in time.";
            let mut refusal = Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                "upstream_connect_timeout",
                Source::Upstream,
                message,
            );
            refusal.outcome = Outcome::Deadline(Deadline::Connect);
            return refusal.because(error);
        }
        let message = "No connection to the upstream could be made.";
        Self::new(StatusCode::BAD_GATEWAY, "upstream_unreachable", Source::Upstream, message)
            .because(error)
    }

    /// An answer that died, or never was one.
    pub fn broken_answer(error: CallError) -> Self {
        // an upload may go on behind the answer's head
        let error = match error {
            CallError::RequestBody(cause) => return Self::body_broken(cause),
            error => error,
        };
        let (code, message) = match &error {
            CallError::H1(H1Error::Malformed(_)) => {
                ("upstream_malformed", "The upstream's answer is not valid HTTP.")
            }
            _ => {
                ("upstream_broken", "The upstream's connection broke before its answer was whole.")
            }
        };
        Self::new(StatusCode::BAD_GATEWAY, code, Source::Upstream, message).because(error)
    }

    /// The caller wants an answer from the cache, and there is none (RFC 9111, section 5.2.1.7).
    pub fn not_kept() -> Self {
        let message = "The answer is not in the cache, and the request allows no other.";
        let mut refusal =
            Self::new(StatusCode::GATEWAY_TIMEOUT, "not_cached", Source::Agent, message);
        refusal.retry = Retry::No;
        refusal
    }

    /// Whoever made the upstream call has vanished, or its reader was too slow.
    pub fn lost() -> Self {
        let message = "The answer could not be read to its end.";
        Self::new(StatusCode::BAD_GATEWAY, "answer_lost", Source::Us, message)
    }

    /// Every backend that may take the call is in trouble, and is spared.
    pub fn unavailable(wait: Duration) -> Self {
        let message = "The backends for this call are failing, and get no new calls for a moment.";
        let mut refusal = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "upstream_unavailable",
            Source::Upstream,
            message,
        );
        refusal.retry = Retry::After(wait);
        refusal
    }

    /// The call has been tried more than once: its caller need not do the same.
    #[must_use]
    pub fn after_retries(mut self) -> Self {
        self.retry = Retry::No;
        self
    }

    pub fn limit(&self) -> Option<&Arc<str>> {
        self.limit.as_ref()
    }

    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    pub fn code(&self) -> &'static str {
        self.code
    }

    /// What the caller is told.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// How long to wait before the same is asked for again, where that is known.
    pub fn wait(&self) -> Option<Duration> {
        match self.retry {
            Retry::After(wait) => Some(wait),
            Retry::No | Retry::Unsaid => None,
        }
    }

    pub fn source(&self) -> &'static str {
        match self.source {
            Source::Agent => "agent",
            Source::Us => "us",
            Source::Upstream => "upstream",
        }
    }

    pub fn cause(&self) -> Option<&(dyn std::error::Error + Send + Sync)> {
        self.cause.as_deref()
    }

    fn fault<'f>(&'f self, record: &'f Record) -> Fault<'f> {
        Fault {
            status: self.status.as_u16(),
            code: self.code,
            message: &self.message,
            request_id: record.id.as_str(),
        }
    }

    /// The error as an event of a stream that has begun.
    pub fn event(
        &self,
        dialect: Dialect,
        form: Form,
        kind: Kind,
        record: &Record,
    ) -> Option<Bytes> {
        error_event(dialect, form, kind, &self.fault(record))
    }

    /// The whole answer, in the caller's dialect.
    pub fn answer(self, dialect: Dialect, mut record: Record) -> Response<ReplyBody> {
        let body = error_body(dialect, &self.fault(&record));
        let mut reply = Reply::ours(self.status, body);
        let headers = &mut reply.headers;
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Ok(id) = HeaderValue::from_str(record.id.as_str()) {
            headers.insert(request_id(dialect), id);
        }
        told::tell(headers, dialect, &self.standing);
        if let Retry::After(wait) = self.retry {
            // SDKs sleep as long as they are told, or raise above two minutes
            let told = wait.min(LONGEST_WAIT);
            let seconds = told.as_millis().div_ceil(1000).max(1) as u64;
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            // rounded up: who comes back too early is refused again
            let millis = HeaderValue::from(told.as_nanos().div_ceil(1_000_000).max(1) as u64);
            headers.insert(HeaderName::from_static("retry-after-ms"), millis);
        }
        let too_long = matches!(self.retry, Retry::After(wait) if wait > LONGEST_WAIT);
        if self.retry == Retry::No || too_long {
            let no = HeaderValue::from_static("false");
            headers.insert(HeaderName::from_static("x-should-retry"), no);
        }
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow.as_str()));
        }
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        record.refused(&self);
        reply.into_response(record)
    }
}

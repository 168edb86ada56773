//! Our own errors, in the shape that the caller's SDK reads.
//!
//! A body is always valid JSON, whatever stands in the message. An error event tells a client in
//! mid-stream what went wrong; the transport must then be aborted, because the SDKs take a clean
//! end for success. Texts come from outside this module and must hold no secret.
//! Shapes: the vendors' error pages, checked against what their SDKs raise.
use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;

use super::endpoint::Kind;
use super::meter::Form;
use super::{Dialect, anthropic, gemini, ollama, openai};

/// What went wrong, one for each status that we answer with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    BadRequest,
    Unauthorized,
    PaymentRequired,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    /// The caller was too slow, or waited too long for its turn.
    Timeout,
    TooLarge,
    UriTooLong,
    ExpectationFailed,
    RateLimited,
    HeadersTooLarge,
    Internal,
    /// The upstream could not be reached, or broke.
    Upstream,
    Unavailable,
    GatewayTimeout,
}

impl FaultKind {
    /// Every kind, by rising status.
    pub const ALL: [Self; 16] = [
        Self::BadRequest,
        Self::Unauthorized,
        Self::PaymentRequired,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Timeout,
        Self::TooLarge,
        Self::UriTooLong,
        Self::ExpectationFailed,
        Self::RateLimited,
        Self::HeadersTooLarge,
        Self::Internal,
        Self::Upstream,
        Self::Unavailable,
        Self::GatewayTimeout,
    ];

    /// The HTTP status.
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::PaymentRequired => 402,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Timeout => 408,
            Self::TooLarge => 413,
            Self::UriTooLong => 414,
            Self::ExpectationFailed => 417,
            Self::RateLimited => 429,
            Self::HeadersTooLarge => 431,
            Self::Internal => 500,
            Self::Upstream => 502,
            Self::Unavailable => 503,
            Self::GatewayTimeout => 504,
        }
    }

    /// The kind with that status, or the nearest in meaning.
    pub fn of(status: u16) -> Self {
        let exact = Self::ALL.into_iter().find(|kind| kind.status() == status);
        exact.unwrap_or(match status {
            529 => Self::Unavailable,
            400..500 => Self::BadRequest,
            _ => Self::Internal,
        })
    }

    /// The word for it in OpenAI's `code`, where there is no better one.
    pub fn code(self) -> &'static str {
        match self {
            Self::BadRequest => "invalid_request",
            Self::Unauthorized => "invalid_api_key",
            Self::PaymentRequired => "insufficient_quota",
            Self::Forbidden => "permission_denied",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Timeout => "request_timeout",
            Self::TooLarge => "request_too_large",
            Self::UriTooLong => "uri_too_long",
            Self::ExpectationFailed => "expectation_failed",
            Self::RateLimited => "rate_limit_exceeded",
            Self::HeadersTooLarge => "headers_too_large",
            Self::Internal => "internal_error",
            Self::Upstream => "upstream_error",
            Self::Unavailable => "unavailable",
            Self::GatewayTimeout => "upstream_timeout",
        }
    }
}

/// An error of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault<'a> {
    /// The HTTP status; the dialects take the error's type from it.
    pub status: u16,
    /// A word for programs; only the OpenAI dialect carries it.
    pub code: &'a str,
    /// A sentence for people. Never a secret, never the upstream's account.
    pub message: &'a str,
    pub request_id: &'a str,
}

impl<'a> Fault<'a> {
    /// A fault of that kind, with its usual code.
    pub fn new(kind: FaultKind, message: &'a str, request_id: &'a str) -> Self {
        Self { status: kind.status(), code: kind.code(), message, request_id }
    }

    pub(super) fn kind(&self) -> FaultKind {
        FaultKind::of(self.status)
    }
}

/// The body of an answer of ours: `application/json`, in the caller's dialect.
pub fn error_body(dialect: Dialect, fault: &Fault<'_>) -> Bytes {
    match dialect {
        Dialect::OpenAi | Dialect::Http => openai::error_body(fault),
        Dialect::Anthropic => anthropic::error_body(fault),
        Dialect::Gemini => gemini::error_body(fault),
        Dialect::Ollama => ollama::error_body(fault),
    }
}

/// What to send into a stream before it is aborted. To be sent between events only, see
/// [`super::Meter::between_events`]. `None`: this form has no place for it.
pub fn error_event(dialect: Dialect, form: Form, kind: Kind, fault: &Fault<'_>) -> Option<Bytes> {
    match (form, dialect) {
        (Form::Sse, Dialect::OpenAi | Dialect::Http) => Some(openai::error_event(kind, fault)),
        (Form::Sse, Dialect::Anthropic) => Some(anthropic::error_event(fault)),
        (Form::Sse, Dialect::Gemini) => Some(gemini::error_event(fault)),
        (Form::NdJson, Dialect::Ollama) => {
            let body = ollama::error_body(fault);
            let mut line = BytesMut::with_capacity(body.len() + 1);
            line.put_slice(&body);
            line.put_u8(b'\n');
            Some(line.freeze())
        }
        _ => None,
    }
}

/// One server-sent event. `data` is one line: JSON has no bare line ends.
pub(super) fn event(name: Option<&str>, data: &[u8]) -> Bytes {
    let mut event = BytesMut::with_capacity(data.len() + 32);
    if let Some(name) = name {
        event.put_slice(b"event: ");
        event.put_slice(name.as_bytes());
        event.put_u8(b'\n');
    }
    event.put_slice(b"data: ");
    event.put_slice(data);
    event.put_slice(b"\n\n");
    event.freeze()
}

/// Strings and numbers in fixed structs: writing them cannot fail.
pub(super) fn json(body: &impl Serialize) -> Bytes {
    serde_json::to_vec(body).unwrap_or_default().into()
}

#[cfg(test)]
mod tests;

//! Why the gate turned a request away: a closed list, each with a metric label and a message.
//!
//! A fault knows what kind of answer it deserves, never a status code. Messages say what was wrong
//! and what would be right; they carry no byte that the client sent.
use std::borrow::Cow;

use crate::wire::FaultKind;

/// One reason to refuse a request at the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateFault {
    // the head's bytes
    /// The raw head was not seen, or does not fit the parsed one.
    OutOfStep,
    BareLf,
    Folded,
    SpacedName,
    // framing
    LengthAndCoding,
    RepeatedLength,
    BadLength,
    RepeatedCoding,
    BadCoding,
    // method and target
    Connect,
    Trace,
    BadTarget,
    Fragment,
    UserInfo,
    NotAscii,
    EncodedSlash,
    BadEscape,
    DotSegment,
    // host
    NoHost,
    RepeatedHost,
    BadHost,
    HostMismatch,
    // fields
    /// This field was sent more than once.
    Repeated(&'static str),
    /// This field has a byte outside of ASCII.
    FieldNotAscii(&'static str),
    /// `Connection` is malformed, or names a field that is meant for the receiver.
    BadConnection,
    /// A field that speaks about one connection, in HTTP/2.
    ConnectionField,
    Expectation,
    // bounds
    TargetTooLong,
    HeadTooLarge,
    TooManyFields,
    BodyTooLarge,
    /// A body where none is allowed. The gate only marks this ([`super::Cleared::unexpected_body`]);
    /// the route decides.
    UnexpectedBody,
}

impl GateFault {
    /// The kind of answer that it deserves.
    pub fn kind(self) -> FaultKind {
        match self {
            GateFault::Connect | GateFault::Trace => FaultKind::MethodNotAllowed,
            GateFault::Expectation => FaultKind::ExpectationFailed,
            GateFault::TargetTooLong => FaultKind::UriTooLong,
            GateFault::HeadTooLarge | GateFault::TooManyFields => FaultKind::HeadersTooLarge,
            GateFault::BodyTooLarge => FaultKind::TooLarge,
            _ => FaultKind::BadRequest,
        }
    }

    /// A metric label: one word a variant, whatever the client sent.
    pub fn reason(self) -> &'static str {
        match self {
            GateFault::OutOfStep => "out_of_step",
            GateFault::BareLf => "bare_lf",
            GateFault::Folded => "folded_line",
            GateFault::SpacedName => "spaced_name",
            GateFault::LengthAndCoding => "length_and_coding",
            GateFault::RepeatedLength => "repeated_length",
            GateFault::BadLength => "bad_length",
            GateFault::RepeatedCoding => "repeated_coding",
            GateFault::BadCoding => "bad_coding",
            GateFault::Connect => "connect",
            GateFault::Trace => "trace",
            GateFault::BadTarget => "bad_target",
            GateFault::Fragment => "fragment",
            GateFault::UserInfo => "user_info",
            GateFault::NotAscii => "target_not_ascii",
            GateFault::EncodedSlash => "encoded_slash",
            GateFault::BadEscape => "bad_escape",
            GateFault::DotSegment => "dot_segment",
            GateFault::NoHost => "no_host",
            GateFault::RepeatedHost => "repeated_host",
            GateFault::BadHost => "bad_host",
            GateFault::HostMismatch => "host_mismatch",
            GateFault::Repeated(_) => "repeated_field",
            GateFault::FieldNotAscii(_) => "field_not_ascii",
            GateFault::BadConnection => "bad_connection",
            GateFault::ConnectionField => "connection_field",
            GateFault::Expectation => "expectation",
            GateFault::TargetTooLong => "target_too_long",
            GateFault::HeadTooLarge => "head_too_large",
            GateFault::TooManyFields => "too_many_fields",
            GateFault::BodyTooLarge => "body_too_large",
            GateFault::UnexpectedBody => "unexpected_body",
        }
    }

    /// What to tell the client. Allocates only where a field is named.
    pub fn message(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            GateFault::OutOfStep => "the request head could not be verified",
            GateFault::BareLf => "a line of the request head ends in LF; lines end in CR LF",
            GateFault::Folded => "a header is folded over several lines",
            GateFault::SpacedName => "white space before the colon of a header",
            GateFault::LengthAndCoding => "both Content-Length and Transfer-Encoding are present",
            GateFault::RepeatedLength => "Content-Length is present more than once",
            GateFault::BadLength => "Content-Length must be a decimal number without leading zeros",
            GateFault::RepeatedCoding => "Transfer-Encoding is present more than once",
            GateFault::BadCoding => "the only supported Transfer-Encoding is chunked",
            GateFault::Connect => "CONNECT is not allowed: this is no forward proxy",
            GateFault::Trace => "TRACE is not allowed",
            GateFault::BadTarget => "the request target must be a path that starts with a slash",
            GateFault::Fragment => "the request target must not have a fragment",
            GateFault::UserInfo => "the request target must not carry user information",
            GateFault::NotAscii => "the request target must be percent-encoded ASCII",
            GateFault::EncodedSlash => "the path must not have an encoded slash or a backslash",
            GateFault::BadEscape => "the path has a malformed or forbidden percent-escape",
            GateFault::DotSegment => "the path must not have '.' or '..' segments",
            GateFault::NoHost => "the Host header is missing or empty",
            GateFault::RepeatedHost => "the Host header is present more than once",
            GateFault::BadHost => "the Host header is not a host with an optional port",
            GateFault::HostMismatch => "the Host header differs from the request target's host",
            GateFault::Repeated(name) => {
                return Cow::Owned(format!("the header '{name}' is present more than once"));
            }
            GateFault::FieldNotAscii(name) => {
                return Cow::Owned(format!("the header '{name}' must be ASCII"));
            }
            GateFault::BadConnection => "Connection must name hop-by-hop headers only",
            GateFault::ConnectionField => "a connection-specific header is not allowed in HTTP/2",
            GateFault::Expectation => "the only supported Expect is 100-continue",
            GateFault::TargetTooLong => "the request target is too long",
            GateFault::HeadTooLarge => "the request head is too large",
            GateFault::TooManyFields => "the request has too many headers",
            GateFault::BodyTooLarge => "the request body is too large",
            GateFault::UnexpectedBody => "this request must not have a body",
        })
    }

    /// Whether an HTTP/1.x connection must be closed after the answer: always, unless it is
    /// certain where this request ends.
    pub fn closes(self) -> bool {
        !matches!(self, GateFault::Trace | GateFault::UnexpectedBody)
    }
}

impl std::fmt::Display for GateFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message())
    }
}

impl std::error::Error for GateFault {}

//! The request gate: what is not one clear request goes no further.
//!
//! It looks at the parsed head and at the facts of the raw one ([`HeadFacts`]), and answers with
//! what the next step needs (normalised path, body length) or with one [`GateFault`]. Pure: no I/O,
//! no clock, no config beyond [`Bounds`]. After RFC 9110, 9112, 9113, read strictly: where two
//! readers could differ about a request, it is refused.
//!
//! Not here: bytes of the body (its length while it is read, its chunks), status codes, routes.
//! The usual request costs no allocation; the path borrows from the head.
mod facts;
mod fault;
mod fields;
mod host;
mod path;
mod strip;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use http::request::Parts;
use http::{Method, Uri, Version};

pub use self::facts::{Flaws, Framing, HeadFacts};
pub use self::fault::GateFault;
pub use self::path::normalise;
pub use self::strip::{
    named_by_connection, passes_request, passes_response, strip_request, strip_response,
};

use self::fields::Fields;

/// The most that a request may bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of request line and headers.
    pub max_head: usize,
    /// Header lines.
    pub max_headers: usize,
    /// Bytes of the request target.
    pub max_target: usize,
    /// Bytes of the body.
    pub max_body: u64,
}

/// A request that may go on.
#[derive(Debug, PartialEq, Eq)]
pub struct Cleared<'r> {
    /// Normalised: match this and forward this. `*` only together with `asterisk`.
    pub path: Cow<'r, str>,
    /// As it came, without the question mark.
    pub query: Option<&'r str>,
    /// Bytes; `None` where only the end of the body will tell.
    pub body_len: Option<u64>,
    /// The client asks for this, in order; the route decides.
    pub upgrade: Option<Upgrade>,
    /// `OPTIONS *`: about this server, to be answered here and forwarded nowhere.
    pub asterisk: bool,
    /// GET or HEAD with a body: for a route that knows no such call, [`GateFault::UnexpectedBody`].
    pub unexpected_body: bool,
}

/// A protocol that may take over the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upgrade {
    WebSocket,
}

/// Judges one request head. `facts` are ignored for HTTP/2, where the framing says it all.
pub fn check<'r>(
    head: &'r Parts,
    facts: HeadFacts,
    bounds: &Bounds,
) -> Result<Cleared<'r>, GateFault> {
    let http1 = head.version <= Version::HTTP_11;
    let framing = if http1 { Some(framing(head, facts)?) } else { None };
    match head.method {
        Method::CONNECT => return Err(GateFault::Connect),
        Method::TRACE => return Err(GateFault::Trace),
        _ => {}
    }
    if head.headers.len() > bounds.max_headers {
        return Err(GateFault::TooManyFields);
    }
    let target_len = target_len(&head.uri);
    if target_len > bounds.max_target {
        return Err(GateFault::TargetTooLong);
    }
    let fields = fields::read(&head.headers)?;
    let head_len = if http1 { facts.len as usize } else { target_len + fields.bytes };
    if head_len > bounds.max_head {
        return Err(GateFault::HeadTooLarge);
    }
    place(head, &fields, http1)?;
    let (path, query, asterisk) = target(head)?;
    let body_len = match framing {
        Some(Framing::Empty) => Some(0),
        Some(Framing::Length(len)) => Some(len),
        Some(Framing::Chunked) => None,
        None => http2_length(&fields)?,
    };
    if body_len.is_some_and(|len| len > bounds.max_body) {
        return Err(GateFault::BodyTooLarge);
    }
    // HTTP/1.0 knows no Expect; RFC 9110 10.1.1 says to ignore it there
    if fields.strange_expect && head.version != Version::HTTP_10 {
        return Err(GateFault::Expectation);
    }
    let bodied = body_len.map_or(http1, |len| len > 0);
    let safe = head.method == Method::GET || head.method == Method::HEAD;
    let upgrade = fields.websocket
        && fields.connection_upgrade
        && head.method == Method::GET
        && head.version == Version::HTTP_11
        && !bodied;
    Ok(Cleared {
        path,
        query,
        body_len,
        upgrade: upgrade.then_some(Upgrade::WebSocket),
        asterisk,
        unexpected_body: safe && bodied,
    })
}

/// Where an HTTP/1.x body ends, if the raw head leaves no doubt about it.
fn framing(head: &Parts, facts: HeadFacts) -> Result<Framing, GateFault> {
    let flaws = facts.flaws;
    if facts.len == 0 {
        return Err(GateFault::OutOfStep);
    }
    if !flaws.is_empty() {
        return Err(match flaws {
            _ if flaws.has(Flaws::BARE_LF) => GateFault::BareLf,
            _ if flaws.has(Flaws::FOLD) => GateFault::Folded,
            _ if flaws.has(Flaws::SPACED_NAME) => GateFault::SpacedName,
            _ if flaws.has(Flaws::BAD_LENGTH) => GateFault::BadLength,
            _ if flaws.has(Flaws::BAD_CODING) => GateFault::BadCoding,
            _ => GateFault::Fragment,
        });
    }
    if facts.content_lengths > 0 && facts.transfer_encodings > 0 {
        return Err(GateFault::LengthAndCoding);
    }
    if facts.content_lengths > 1 {
        return Err(GateFault::RepeatedLength);
    }
    if facts.transfer_encodings > 1 {
        return Err(GateFault::RepeatedCoding);
    }
    if facts.hosts > 1 {
        return Err(GateFault::RepeatedHost);
    }
    // with nothing merged, both readers must have counted the same lines: else these are the
    // facts of another request
    if usize::from(facts.fields) != head.headers.len() {
        return Err(GateFault::OutOfStep);
    }
    facts.framing().ok_or(GateFault::OutOfStep)
}

/// HTTP/2 frames its bodies, but a declared length must still be one clear number.
fn http2_length(fields: &Fields<'_>) -> Result<Option<u64>, GateFault> {
    if fields.connection_specific {
        return Err(GateFault::ConnectionField);
    }
    match fields.content_length {
        None => Ok(None),
        Some(value) => match exact_length(value.as_bytes()) {
            Some(len) => Ok(Some(len)),
            None => Err(GateFault::BadLength),
        },
    }
}

/// A length as `0`, or up to 16 digits without a leading zero: nothing that overflows, nothing
/// that one reader could take for octal.
pub fn exact_length(digits: &[u8]) -> Option<u64> {
    match digits {
        [b'0'] => Some(0),
        [b'1'..=b'9', ..] if digits.len() <= 16 => digits.iter().try_fold(0_u64, |sum, byte| {
            byte.is_ascii_digit().then(|| sum * 10 + u64::from(byte - b'0'))
        }),
        _ => None,
    }
}

fn target_len(uri: &Uri) -> usize {
    uri.path_and_query().map_or(0, |target| target.as_str().len())
        + uri.authority().map_or(0, |authority| authority.as_str().len())
}

/// Host and target authority: one place, clearly named.
fn place(head: &Parts, fields: &Fields<'_>, http1: bool) -> Result<(), GateFault> {
    let host = match fields.host {
        Some(value) => Some(host::parse(value.as_bytes())?),
        None => None,
    };
    let Some(authority) = head.uri.authority() else {
        // HTTP/1.0 had no Host yet
        if host.is_none() && head.version != Version::HTTP_10 {
            return Err(GateFault::NoHost);
        }
        return Ok(());
    };
    if authority.as_str().contains('@') {
        return Err(GateFault::UserInfo);
    }
    let default_port = match head.uri.scheme_str() {
        Some("http") => 80,
        Some("https") => 443,
        _ => return Err(GateFault::BadTarget),
    };
    let named = host::parse(authority.as_str().as_bytes())?;
    match host {
        Some(host) if host.same_place(&named, default_port) => Ok(()),
        Some(_) => Err(GateFault::HostMismatch),
        None if http1 && head.version == Version::HTTP_11 => Err(GateFault::NoHost),
        None => Ok(()),
    }
}

/// Path and query in the form that may be matched, and whether it is `OPTIONS *`.
fn target(head: &Parts) -> Result<(Cow<'_, str>, Option<&str>, bool), GateFault> {
    let uri = &head.uri;
    if uri.path() == "*" {
        let asked = head.method == Method::OPTIONS;
        return if asked {
            Ok((Cow::Borrowed("*"), None, true))
        } else {
            Err(GateFault::BadTarget)
        };
    }
    let query = uri.query();
    if query.is_some_and(|query| !query.is_ascii()) {
        return Err(GateFault::NotAscii);
    }
    Ok((normalise(uri.path())?, query, false))
}

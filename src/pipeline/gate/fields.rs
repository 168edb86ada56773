//! One pass over the headers: everything the gate wants to know of them.
//!
//! Headers that somebody interprets (we, or the backend's front door) must be ASCII and be there
//! once; all others pass as they are, for SDK metadata may well be UTF-8.
use http::{HeaderMap, HeaderValue};

use super::fault::GateFault;

/// What a request's headers say.
#[derive(Debug, Default)]
pub struct Fields<'r> {
    pub host: Option<&'r HeaderValue>,
    pub content_length: Option<&'r HeaderValue>,
    /// Names and values together, in bytes.
    pub bytes: usize,
    /// `Expect` asks for something other than `100-continue`.
    pub strange_expect: bool,
    /// `Connection` names `upgrade`.
    pub connection_upgrade: bool,
    /// `Upgrade` names `websocket`.
    pub websocket: bool,
    /// A header of RFC 9113 8.2.2.
    pub connection_specific: bool,
    once: u16,
}

/// Bits of the headers that may come once only.
mod bit {
    pub const HOST: u16 = 1;
    pub const AUTHORIZATION: u16 = 1 << 1;
    pub const CONTENT_TYPE: u16 = 1 << 2;
    pub const CONTENT_LENGTH: u16 = 1 << 3;
    pub const X_API_KEY: u16 = 1 << 4;
    pub const API_KEY: u16 = 1 << 5;
    pub const X_GOOG_API_KEY: u16 = 1 << 6;
    pub const IDEMPOTENCY_KEY: u16 = 1 << 7;
    pub const X_AGENT_ID: u16 = 1 << 8;
    pub const EXPECT: u16 = 1 << 9;
    pub const CONTENT_ENCODING: u16 = 1 << 10;
}

/// Reads all headers once.
pub fn read(headers: &HeaderMap) -> Result<Fields<'_>, GateFault> {
    let mut fields = Fields::default();
    for (name, value) in headers {
        let name = name.as_str();
        fields.bytes += name.len() + value.len();
        match name {
            "host" => {
                fields.once(bit::HOST, GateFault::RepeatedHost)?;
                fields.host = Some(value);
            }
            "content-length" => {
                fields.once(bit::CONTENT_LENGTH, GateFault::RepeatedLength)?;
                fields.content_length = Some(value);
            }
            "authorization" => fields.interpreted(bit::AUTHORIZATION, "authorization", value)?,
            "content-type" => fields.interpreted(bit::CONTENT_TYPE, "content-type", value)?,
            "content-encoding" => {
                fields.interpreted(bit::CONTENT_ENCODING, "content-encoding", value)?;
            }
            "x-api-key" => fields.interpreted(bit::X_API_KEY, "x-api-key", value)?,
            "api-key" => fields.interpreted(bit::API_KEY, "api-key", value)?,
            "x-goog-api-key" => fields.interpreted(bit::X_GOOG_API_KEY, "x-goog-api-key", value)?,
            "idempotency-key" => {
                fields.interpreted(bit::IDEMPOTENCY_KEY, "idempotency-key", value)?;
            }
            "x-agent-id" => fields.interpreted(bit::X_AGENT_ID, "x-agent-id", value)?,
            "expect" => {
                fields.interpreted(bit::EXPECT, "expect", value)?;
                fields.strange_expect = !value.as_bytes().eq_ignore_ascii_case(b"100-continue");
            }
            "connection" => {
                fields.connection_specific = true;
                fields.connection_upgrade |= connection(value)?;
            }
            "upgrade" => {
                fields.connection_specific = true;
                fields.websocket |= value.as_bytes().eq_ignore_ascii_case(b"websocket");
            }
            "te" => fields.connection_specific |= value != "trailers",
            "transfer-encoding" | "keep-alive" | "proxy-connection" => {
                fields.connection_specific = true;
            }
            _ => {}
        }
    }
    Ok(fields)
}

impl Fields<'_> {
    fn once(&mut self, bit: u16, fault: GateFault) -> Result<(), GateFault> {
        if self.once & bit != 0 {
            return Err(fault);
        }
        self.once |= bit;
        Ok(())
    }

    fn interpreted(
        &mut self,
        bit: u16,
        name: &'static str,
        value: &HeaderValue,
    ) -> Result<(), GateFault> {
        self.once(bit, GateFault::Repeated(name))?;
        if value.as_bytes().is_ascii() { Ok(()) } else { Err(GateFault::FieldNotAscii(name)) }
    }
}

/// Whether a `Connection` value names `upgrade`; a fault if it names what is not ours to drop.
fn connection(value: &HeaderValue) -> Result<bool, GateFault> {
    let bytes = value.as_bytes();
    if bytes == b"keep-alive" || bytes == b"close" {
        return Ok(false);
    }
    let text = value.to_str().map_err(|_| GateFault::BadConnection)?;
    let mut upgrade = false;
    for token in tokens(text) {
        if !token.bytes().all(is_tchar) || is_protected(token) {
            return Err(GateFault::BadConnection);
        }
        upgrade |= token.eq_ignore_ascii_case("upgrade");
    }
    Ok(upgrade)
}

/// The tokens of a comma-separated list, trimmed, empty ones left out.
pub fn tokens(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(|token| token.trim_matches([' ', '\t'])).filter(|token| !token.is_empty())
}

/// Headers that are meant for the receiver, whatever `Connection` says: dropping one of them on
/// a client's word would change who is asking, or for what.
pub fn is_protected(name: &str) -> bool {
    const PROTECTED: [&str; 13] = [
        "authorization",
        "host",
        "content-length",
        "content-type",
        "content-encoding",
        "cookie",
        "x-api-key",
        "api-key",
        "x-goog-api-key",
        "idempotency-key",
        "transfer-encoding",
        "cache-control",
        "anthropic-version",
    ];
    PROTECTED.iter().any(|protected| name.eq_ignore_ascii_case(protected))
}

fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

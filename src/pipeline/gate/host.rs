//! Authorities: is it `host[:port]`, and do two of them mean the same place?
//!
//! Stricter than RFC 3986: a registered name is letters, digits, `-`, `.` and `_`. A comma, a space, a
//! slash or an `@` in a Host is an attempt to be read in two ways, never a name.
use super::fault::GateFault;

/// A host and its port, as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authority<'a> {
    host: &'a str,
    port: Option<u16>,
}

/// Reads `name`, `name:port`, `1.2.3.4:port`, `[v6]:port`. An empty port counts as none.
pub fn parse(text: &[u8]) -> Result<Authority<'_>, GateFault> {
    if text.is_empty() {
        return Err(GateFault::NoHost);
    }
    let text = std::str::from_utf8(text).map_err(|_| GateFault::BadHost)?;
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (inner, after) = rest.split_once(']').ok_or(GateFault::BadHost)?;
            if inner.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(GateFault::BadHost);
            }
            let port = if after.is_empty() {
                None
            } else {
                Some(after.strip_prefix(':').ok_or(GateFault::BadHost)?)
            };
            (inner, port)
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let named = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if host.is_empty() || (!text.starts_with('[') && !host.bytes().all(named)) {
        return Err(GateFault::BadHost);
    }
    Ok(Authority { host, port: read_port(port.unwrap_or_default())? })
}

fn read_port(digits: &str) -> Result<Option<u16>, GateFault> {
    if digits.is_empty() {
        return Ok(None);
    }
    // FromStr of integers accepts a sign
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(GateFault::BadHost);
    }
    digits.parse().map(Some).map_err(|_| GateFault::BadHost)
}

impl Authority<'_> {
    /// Whether both name the same place when a missing port means `default_port`.
    pub fn same_place(&self, other: &Authority<'_>, default_port: u16) -> bool {
        self.host.eq_ignore_ascii_case(other.host)
            && self.port.unwrap_or(default_port) == other.port.unwrap_or(default_port)
    }
}

//! Removes what belongs to one connection, in both directions (RFC 9110 7.6.1).
//!
//! Requests also lose what we answer or write ourselves: `Expect`, `Content-Length` (we frame anew),
//! `Forwarded` and `X-Forwarded-*` (a client could invent them) and our own `x-tidegate-*`.
//! Nothing is allocated when `Connection` is absent or says only `keep-alive` or `close`.
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, FORWARDED, HeaderMap, HeaderName, HeaderValue, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};

use super::Upgrade;
use super::fields::{is_protected, tokens};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
/// Removed by name: those of both directions, then those of requests alone.
const DROPPED: [HeaderName; 10] = [
    CONNECTION,
    KEEP_ALIVE,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HTTP2_SETTINGS,
    EXPECT,
    CONTENT_LENGTH,
    FORWARDED,
];

/// A request's headers as they may go upstream. With `upgrade`, the two lines that ask for it
/// are written anew.
pub fn strip_request(headers: &mut HeaderMap, upgrade: Option<Upgrade>) {
    strip(headers, true, upgrade);
}

/// A reply's headers as they may go to the client.
pub fn strip_response(headers: &mut HeaderMap, upgrade: Option<Upgrade>) {
    strip(headers, false, upgrade);
}

/// Whether a request header of this name goes upstream, as far as the name alone tells: for a
/// writer that filters instead of removing. What `Connection` names is [`named_by_connection`].
pub fn passes_request(name: &HeaderName) -> bool {
    matches!(class(name.as_str(), true), Class::Pass)
}

/// Like [`passes_request`], for a reply.
pub fn passes_response(name: &HeaderName) -> bool {
    matches!(class(name.as_str(), false), Class::Pass)
}

/// Whether `Connection` names this header as hop-by-hop. Protected headers are never taken for it.
pub fn named_by_connection(headers: &HeaderMap, name: &HeaderName) -> bool {
    headers.get_all(CONNECTION).iter().filter(|value| !is_plain(value)).any(|value| {
        value.to_str().is_ok_and(|list| {
            tokens(list).any(|token| token.eq_ignore_ascii_case(name.as_str()))
                && !is_protected(name.as_str())
        })
    })
}

enum Class {
    Pass,
    /// By its place in `DROPPED`.
    Drop(u8),
    /// By its beginning.
    Prefix,
}

fn class(name: &str, request: bool) -> Class {
    match name {
        "connection" => Class::Drop(0),
        "keep-alive" => Class::Drop(1),
        "te" => Class::Drop(2),
        "trailer" => Class::Drop(3),
        "transfer-encoding" => Class::Drop(4),
        "upgrade" => Class::Drop(5),
        "http2-settings" => Class::Drop(6),
        "expect" if request => Class::Drop(7),
        "content-length" if request => Class::Drop(8),
        "forwarded" if request => Class::Drop(9),
        _ if name.starts_with("proxy-") || name.starts_with("x-tidegate-") => Class::Prefix,
        _ if request && name.starts_with("x-forwarded-") => Class::Prefix,
        _ => Class::Pass,
    }
}

fn strip(headers: &mut HeaderMap, request: bool, upgrade: Option<Upgrade>) {
    // one look at all names: to remove a header costs far more than to see that it is not there
    let (mut present, mut prefixed) = (0_u16, false);
    for name in headers.keys() {
        match class(name.as_str(), request) {
            Class::Pass => {}
            Class::Drop(at) => present |= 1 << at,
            Class::Prefix => prefixed = true,
        }
    }
    if present & 1 != 0 {
        remove_named(headers);
    }
    for (at, name) in DROPPED.iter().enumerate() {
        if present >> at & 1 != 0 {
            headers.remove(name);
        }
    }
    while prefixed {
        let found =
            headers.keys().find(|name| matches!(class(name.as_str(), request), Class::Prefix));
        match found.cloned() {
            Some(name) => drop(headers.remove(name)),
            None => prefixed = false,
        }
    }
    if let Some(Upgrade::WebSocket) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
}

/// Removes what `Connection` names.
fn remove_named(headers: &mut HeaderMap) {
    if headers.get_all(CONNECTION).iter().all(is_plain) {
        return;
    }
    let lists: Vec<HeaderValue> = headers.get_all(CONNECTION).iter().cloned().collect();
    for list in lists.iter().filter_map(|value| value.to_str().ok()) {
        for token in tokens(list).filter(|token| !is_protected(token)) {
            headers.remove(token);
        }
    }
}

fn is_plain(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    bytes.eq_ignore_ascii_case(b"keep-alive") || bytes.eq_ignore_ascii_case(b"close")
}

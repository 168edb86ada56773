//! Headers that a policy file may set.
use http::{HeaderName, HeaderValue};

use crate::config::read::{At, Reader};

/// Headers that frame a message or belong to one connection: not for people to set.
const FRAMING: [&str; 9] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Headers that hold credentials: their values must not become names in logs and metrics, and no
/// rule may tell them apart.
const CREDENTIALS: [&str; 7] = [
    "api-key",
    "authorization",
    "cookie",
    "set-cookie",
    "x-api-key",
    "x-auth-token",
    "x-goog-api-key",
];

pub(in crate::config) fn holds_credentials(name: &HeaderName) -> bool {
    CREDENTIALS.contains(&name.as_str())
}

/// A name that people may set.
pub(in crate::config) fn header_name(text: &str) -> Option<HeaderName> {
    let name: HeaderName = text.parse().ok()?;
    let framing = FRAMING.contains(&name.as_str())
        || name.as_str().starts_with("proxy-")
        || name.as_str().starts_with("x-tidegate-");
    (!framing).then_some(name)
}

pub(super) fn headers(reader: &Reader<'_>, at: &At<'_>) -> Vec<(HeaderName, HeaderValue)> {
    let mut out: Vec<(HeaderName, HeaderValue)> = Vec::new();
    for (name, place, value) in reader.names(at, "names of headers, each with its value") {
        let Some(name) = header_name(name) else {
            let found = "no name of a header that may be set";
            reader.fault(place, &value.path, found, "a header that is not of the connection's own");
            continue;
        };
        if out.iter().any(|(other, _)| *other == name) {
            reader.fault(place, &value.path, "the header a second time", "each header once");
            continue;
        }
        let Some(text) = reader.text(&value, "text, the header's value") else { continue };
        let Ok(mut header) = HeaderValue::from_str(&text.value) else {
            let found = "a value with control characters";
            reader.wrong(&value, found, "visible ASCII characters and spaces");
            continue;
        };
        // it may well be a credential
        header.set_sensitive(true);
        out.push((name, header));
    }
    out
}

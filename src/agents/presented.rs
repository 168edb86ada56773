//! The credentials that a request carries, and where.
//!
//! Looks wherever clients put a key: `x-tidegate-key`, `Authorization`, the vendors' headers, and
//! `key=` in the query (Gemini); browsers, which can set no header of a WebSocket, put it among the
//! protocols that they offer (OpenAI's `openai-insecure-api-key.`). A tidegate key is taken out before the request goes on; a
//! credential for the backend beside it stays. Nothing here is ever shown: no `Debug` of values.
use std::borrow::Cow;
use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// How every key begins that we make.
pub const PREFIX: &str = "tgk_";
/// What stands before a key among the protocols of a WebSocket.
const PROTOCOL_PREFIX: &[u8] = b"openai-insecure-api-key.";

/// Where a credential stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    TidegateKey,
    Authorization,
    XApiKey,
    XGoogApiKey,
    ApiKey,
    /// Among the protocols that a WebSocket offers.
    Protocol,
    Query,
}

impl Place {
    /// In the order in which they are asked.
    pub const ALL: [Self; 7] = [
        Self::TidegateKey,
        Self::Authorization,
        Self::XApiKey,
        Self::XGoogApiKey,
        Self::ApiKey,
        Self::Protocol,
        Self::Query,
    ];

    /// `None`: the query.
    pub fn header(self) -> Option<HeaderName> {
        Some(match self {
            Self::TidegateKey => HeaderName::from_static("x-tidegate-key"),
            Self::Authorization => header::AUTHORIZATION,
            Self::XApiKey => HeaderName::from_static("x-api-key"),
            Self::XGoogApiKey => HeaderName::from_static("x-goog-api-key"),
            Self::ApiKey => HeaderName::from_static("api-key"),
            Self::Protocol => header::SEC_WEBSOCKET_PROTOCOL,
            Self::Query => return None,
        })
    }
}

/// The places where tidegate keys stood: they are for us alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Places(u8);

impl Places {
    pub fn add(&mut self, place: Place) {
        self.0 |= 1 << place as u8;
    }

    pub fn has(self, place: Place) -> bool {
        self.0 & 1 << place as u8 != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Takes them out of the headers; the others stay.
    pub fn strip(self, headers: &mut HeaderMap) {
        for place in Place::ALL.into_iter().filter(|place| self.has(*place)) {
            if place == Place::Protocol {
                strip_protocol(headers);
            } else if let Some(name) = place.header() {
                headers.remove(name);
            }
        }
    }

    /// The query without `key=`, where a tidegate key stood there; else as it is. `None` when
    /// nothing is left of it.
    pub fn strip_query(self, query: &str) -> Option<Cow<'_, str>> {
        if !self.has(Place::Query) {
            return Some(Cow::Borrowed(query));
        }
        let mut rest = query.split('&').filter(|part| key_value(part).is_none());
        let first = rest.next()?.to_owned();
        let joined = rest.fold(first, |mut joined, part| {
            joined.push('&');
            joined.push_str(part);
            joined
        });
        Some(Cow::Owned(joined))
    }
}

/// At most one credential a place.
#[derive(Default)]
pub struct Presented<'r> {
    found: [Option<Cow<'r, [u8]>>; Place::ALL.len()],
    /// A header stood there twice; the last one is kept.
    pub repeated: bool,
}

impl<'r> Presented<'r> {
    /// A header of this place.
    pub fn header(&mut self, place: Place, value: &'r HeaderValue) {
        let value = value.as_bytes().trim_ascii();
        let credential = match place {
            Place::Authorization => authorization(value),
            Place::Protocol => protocols(value).find_map(protocol_key),
            _ => Some(value),
        };
        let Some(credential) = credential.filter(|credential| !credential.is_empty()) else {
            return;
        };
        let before = self.found[place as usize].replace(Cow::Borrowed(credential));
        self.repeated |= before.is_some();
    }

    /// What follows `?`. Of several keys, one of ours comes first, or else the first.
    pub fn query(&mut self, query: &'r str) {
        let mut keys = query.split('&').filter_map(key_value).filter(|key| !key.is_empty());
        let Some(mut key) = keys.next() else { return };
        if !is_ours(&key) {
            key = keys.find(|other| is_ours(other)).unwrap_or(key);
        }
        self.found[Place::Query as usize] = Some(key);
    }

    pub fn iter(&self) -> impl Iterator<Item = (Place, &[u8])> {
        Place::ALL
            .into_iter()
            .filter_map(|place| Some((place, &**self.found[place as usize].as_ref()?)))
    }
}

/// The places alone.
impl fmt::Debug for Presented<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|(place, _)| place)).finish()
    }
}

/// Whether it has the form of a tidegate key, known or not.
pub fn is_ours(credential: &[u8]) -> bool {
    credential.starts_with(PREFIX.as_bytes())
}

/// Takes a key out of the protocols that a WebSocket offers; the others stay, in order.
pub fn strip_protocol(headers: &mut HeaderMap) {
    let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let all = || lines.iter().flat_map(|line| protocols(line.as_bytes()));
    if all().all(|protocol| protocol_key(protocol).is_none()) {
        return;
    }
    let kept: Vec<_> = all().filter(|protocol| protocol_key(protocol).is_none()).collect();
    let kept = HeaderValue::from_bytes(&kept.join(&b", "[..]));
    headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
    if let Some(kept) = kept.ok().filter(|kept| !kept.is_empty()) {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, kept);
    }
}

fn protocols(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

fn protocol_key(protocol: &[u8]) -> Option<&[u8]> {
    let (prefix, key) = protocol.split_at_checked(PROTOCOL_PREFIX.len())?;
    prefix.eq_ignore_ascii_case(PROTOCOL_PREFIX).then_some(key)
}

/// The token of `Bearer` and `Basic`, or a bare one. Other schemes sign each request anew: they
/// name nobody.
fn authorization(value: &[u8]) -> Option<&[u8]> {
    let is_known =
        |scheme: &[u8]| [&b"bearer"[..], b"basic"].iter().any(|b| scheme.eq_ignore_ascii_case(b));
    let Some(space) = memchr::memchr(b' ', value) else {
        return (!is_known(value)).then_some(value);
    };
    let (scheme, token) = value.split_at(space);
    is_known(scheme).then(|| token.trim_ascii())
}

/// The value of a `key=`.
fn key_value(part: &str) -> Option<Cow<'_, [u8]>> {
    let (name, value) = part.split_once('=')?;
    (&*decoded(name) == b"key").then(|| decoded(value))
}

/// `%74` is a `t`: a backend would read it so.
fn decoded(text: &str) -> Cow<'_, [u8]> {
    let bytes = text.as_bytes();
    if memchr::memchr(b'%', bytes).is_none() {
        return Cow::Borrowed(bytes);
    }
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escaped = (*byte == b'%').then(|| Some(digit(at + 1)? * 16 + digit(at + 2)?)).flatten();
        out.push(escaped.map_or(*byte, |value| value as u8));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(Place, &str)], query: &str) -> Vec<(Place, String)> {
        let values: Vec<_> = headers
            .iter()
            .map(|(place, value)| (*place, HeaderValue::from_str(value).unwrap()))
            .collect();
        let mut presented = Presented::default();
        for (place, value) in &values {
            presented.header(*place, value);
        }
        presented.query(query);
        assert!(!format!("{presented:?}").contains("sk-"));
        presented
            .iter()
            .map(|(place, value)| (place, String::from_utf8(value.to_vec()).unwrap()))
            .collect()
    }

    #[test]
    fn a_credential_is_found_wherever_clients_put_it() {
        use Place::{ApiKey, Authorization, Query, TidegateKey, XApiKey, XGoogApiKey};
        for (value, want) in [
            ("Bearer sk-1", "sk-1"),
            ("bearer   sk-1 ", "sk-1"),
            ("Basic c2stMQ==", "c2stMQ=="),
            ("sk-1", "sk-1"),
        ] {
            assert_eq!(read(&[(Authorization, value)], ""), [(Authorization, want.to_owned())]);
        }
        for nothing in ["AWS4-HMAC-SHA256 Credential=A, Signature=sk-1", "Bearer", "basic ", ""] {
            assert!(read(&[(Authorization, nothing)], "a=b&keys=c&key=").is_empty(), "{nothing}");
        }
        let found = read(
            &[(ApiKey, "sk-4"), (XGoogApiKey, "sk-3"), (XApiKey, "sk-2"), (TidegateKey, "sk-0")],
            "alt=sse&key=sk-5",
        );
        let places: Vec<_> = found.iter().map(|(place, _)| *place).collect();
        assert_eq!(places, [TidegateKey, XApiKey, XGoogApiKey, ApiKey, Query]);
        assert_eq!(found.last().unwrap().1, "sk-5");
    }

    #[test]
    fn a_query_is_read_as_a_backend_would() {
        for (query, want) in [
            ("key=a&key=b", "a"),
            ("key=a&x=1&key=tgk_b", "tgk_b"),
            ("key=tgk_a&key=tgk_b", "tgk_a"),
            ("%6bey=%74gk%5Fb", "tgk_b"),
            ("key=%zz%4", "%zz%4"),
        ] {
            assert_eq!(read(&[], query)[0].1, want, "{query}");
        }
    }

    #[test]
    fn a_key_among_the_protocols_is_found_and_taken_out() {
        let offer = "realtime, openai-insecure-api-key.sk-1,openai-beta.realtime-v1";
        assert_eq!(read(&[(Place::Protocol, offer)], ""), [(Place::Protocol, "sk-1".to_owned())]);
        assert!(read(&[(Place::Protocol, "realtime, openai-insecure-api-key")], "").is_empty());
        for (offers, rest) in [
            (&[offer][..], Some("realtime, openai-beta.realtime-v1")),
            (&["realtime", "OpenAI-Insecure-API-Key.sk-1", "x"], Some("realtime, x")),
            (&["openai-insecure-api-key.sk-1"], None),
            (&["graphql-ws"], Some("graphql-ws")),
        ] {
            let mut headers = HeaderMap::new();
            for offer in offers {
                headers.append(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(offer));
            }
            let mut places = Places::default();
            places.add(Place::Protocol);
            places.strip(&mut headers);
            let left =
                headers.get(header::SEC_WEBSOCKET_PROTOCOL).map(|left| left.to_str().unwrap());
            assert_eq!(left, rest, "{offers:?}");
        }
    }

    #[test]
    fn a_header_twice_is_told() {
        let value = HeaderValue::from_static("tgk_1");
        let mut presented = Presented::default();
        presented.header(Place::TidegateKey, &value);
        assert!(!presented.repeated);
        presented.header(Place::TidegateKey, &value);
        assert!(presented.repeated);
    }

    #[test]
    fn only_our_own_places_are_stripped() {
        let mut headers = HeaderMap::new();
        for place in Place::ALL {
            if let Some(name) = place.header() {
                headers.insert(name, HeaderValue::from_static("x"));
            }
        }
        let mut places = Places::default();
        places.strip(&mut headers);
        assert_eq!((headers.len(), places.is_empty()), (6, true));
        assert_eq!(places.strip_query("key=a&b=c").as_deref(), Some("key=a&b=c"));
        places.add(Place::XApiKey);
        places.add(Place::Query);
        places.strip(&mut headers);
        assert_eq!((headers.len(), headers.contains_key("x-api-key")), (5, false));
        assert_eq!(places.strip_query("a=b&key=x&c&%6Bey=y&d=").as_deref(), Some("a=b&c&d="));
        assert_eq!(places.strip_query("key=x"), None);
    }
}

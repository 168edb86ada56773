//! What callers are told of the cache: `Cache-Status` (RFC 9211).
use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::lookup::{Hit, Tier};
use crate::cache::Key;
use crate::limits::price::Rate;

pub const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

pub const MISS: HeaderValue = HeaderValue::from_static("tidegate; fwd=miss");
/// Some inputs of a batch were kept.
pub const PARTIAL: HeaderValue = HeaderValue::from_static("tidegate; fwd=partial");
pub const JOINED: HeaderValue = HeaderValue::from_static("tidegate; fwd=miss; collapsed");
const REQUEST: HeaderValue = HeaderValue::from_static("tidegate; fwd=request");

/// What a call saved that needed no upstream.
#[derive(Debug, Clone, Copy)]
pub struct Saved {
    /// A word for logs and metrics.
    pub how: &'static str,
    /// What its tokens would have cost.
    pub rate: Option<Rate>,
}

/// The word for logs and metrics.
pub fn word(tier: Tier) -> &'static str {
    match tier {
        Tier::Memory | Tier::Disk => "hit",
        Tier::Canonical => "canonical",
        Tier::Semantic { .. } => "semantic",
    }
}

/// `tidegate; hit; ttl=240; detail=semantic; key="0123456789abcdef"`
pub fn hit(hit: &Hit) -> HeaderValue {
    let detail = match hit.tier {
        Tier::Memory => "memory",
        Tier::Disk => "disk",
        Tier::Canonical => "canonical",
        Tier::Semantic { .. } => "semantic",
    };
    let mut ttl = itoa::Buffer::new();
    let ttl = ttl.format(hit.left.as_secs()).as_bytes();
    let key = digits(&hit.key);
    let parts: [&[u8]; 7] =
        [b"tidegate; hit; ttl=", ttl, b"; detail=", detail.as_bytes(), b"; key=\"", &key, b"\""];
    // the parts have 85 bytes at most
    let (mut text, mut len) = ([0; 96], 0);
    for part in parts {
        text[len..len + part.len()].copy_from_slice(part);
        len += part.len();
    }
    HeaderValue::from_bytes(&text[..len]).unwrap_or(MISS)
}

/// Not looked up, or not allowed to be; why, in a word.
pub fn bypass(why: &'static str) -> HeaderValue {
    if why == "request" {
        return REQUEST;
    }
    let mut text = b"tidegate; fwd=bypass; detail=".to_vec();
    text.extend_from_slice(why.as_bytes());
    HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or(REQUEST)
}

/// Enough of an entry's name to find it by.
fn digits(key: &Key) -> [u8; 16] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    std::array::from_fn(|at| {
        let byte = key.0[at / 2];
        DIGITS[usize::from(if at % 2 == 0 { byte >> 4 } else { byte & 15 })]
    })
}

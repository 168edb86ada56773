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
    let mut text = Vec::with_capacity(80);
    text.extend_from_slice(b"tidegate; hit; ttl=");
    text.extend_from_slice(itoa::Buffer::new().format(hit.left.as_secs()).as_bytes());
    text.extend_from_slice(b"; detail=");
    text.extend_from_slice(detail.as_bytes());
    key(&mut text, &hit.key);
    value(text)
}

/// Not looked up, or not allowed to be; why, in a word.
pub fn bypass(why: &'static str) -> HeaderValue {
    if why == "request" {
        return REQUEST;
    }
    let mut text = b"tidegate; fwd=bypass; detail=".to_vec();
    text.extend_from_slice(why.as_bytes());
    value(text)
}

/// Enough of an entry's name to find it by.
fn key(text: &mut Vec<u8>, key: &Key) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    text.extend_from_slice(b"; key=\"");
    for byte in &key.0[..8] {
        text.push(DIGITS[usize::from(byte >> 4)]);
        text.push(DIGITS[usize::from(byte & 15)]);
    }
    text.push(b'"');
}

/// Visible ASCII alone.
fn value(text: Vec<u8>) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or(MISS)
}

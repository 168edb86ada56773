//! `upstreams`: what was written, completed from the vendor's preset.
//!
//! The preset is picked by the host of the url, else by the upstream's name. What is written
//! wins over the preset. The version segment at the end of a url (`/v1`) moves to `api_prefix`,
//! so that a url may be given with or without it.
mod address;
mod credentials;
mod headers;
mod resilience;

use std::sync::Arc;

use http::HeaderName;

use super::file::{Kind, Place};
use super::keys::{
    BACKGROUNDS, BUILTINS, DIALECTS, HTTP2, PACINGS, POOL, TIMEOUTS, UPSTREAM, UPSTREAM_TLS,
};
use super::read::{At, Fields, Reader};
use super::url;
use super::vendors::{self, VENDORS, Vendor};
use super::{Auth, Host, Http2, Origin, Pacing, Pool, ProxyRule, Timeouts, Upstream, UpstreamTls};
use crate::wire::Dialect;
use address::{complete, origin, urls};
use credentials::keys;
use headers::headers;
pub(super) use headers::{header_name, holds_credentials};

/// Most of anything that is counted per upstream.
const MOST: u64 = 1_000_000;

/// Every known vendor that has an address, in the order of the table.
pub(super) fn all_vendors() -> Vec<Upstream> {
    VENDORS
        .iter()
        .filter_map(|vendor| {
            let origin = url::origin(vendor.base?).ok()?;
            let (urls, api_prefix) = complete(vec![origin], Some(vendor), vendor.dialect).ok()?;
            Some(Upstream {
                dialect: vendor.dialect,
                provider: Arc::from(vendor.provider),
                background: vendor.background,
                urls,
                api_prefix,
                auth: preset_auth(Some(vendor)),
                ..Upstream::new(vendor.name)
            })
        })
        .collect()
}

/// Reads `upstreams`. One that is at fault is left out. `lanes`: calls of some route may wait for
/// an upstream that has no bound of its own.
pub(super) fn upstreams(reader: &Reader<'_>, at: &At<'_>, lanes: bool) -> Vec<Upstream> {
    let names = reader.names(at, "names of upstreams, each with its url");
    names.iter().filter_map(|(name, place, at)| upstream(reader, name, *place, at, lanes)).collect()
}

fn upstream(
    reader: &Reader<'_>,
    name: &str,
    place: Place,
    at: &At<'_>,
    lanes: bool,
) -> Option<Upstream> {
    check_name(reader, name, place, at);
    if let Kind::Text(_) = at.node.kind {
        let origin = origin(reader, at)?;
        return build(reader, name, at, vec![origin], None);
    }
    let fields = reader.section(at, &UPSTREAM)?;
    let dialect = fields.maybe("dialect", |r, at| r.word(at, DIALECTS)).map(dialect_of);
    let builtin = fields.maybe("builtin", |r, at| r.word(at, BUILTINS)).is_some();
    let urls = urls(reader, &fields, name, at);
    let urls_right = urls.is_some();
    let mut built = build(reader, name, at, urls.unwrap_or_default(), dialect)
        .unwrap_or_else(|| Upstream::new(name));
    built.builtin = builtin;
    built.keys = keys(reader, &fields);
    built.auth = fields.read("auth", built.auth, auth);
    built.headers = fields.read("headers", Vec::new(), |r, at| Some(headers(r, at)));
    built.concurrency =
        fields.maybe("concurrency", |r, at| r.count(at, 1, MOST)).map(|n| n as usize);
    built.pool = fields.read("pool", built.pool, pool);
    let pacings = [Pacing::Auto, Pacing::Latency, Pacing::Off];
    built.pacing = fields.read("pacing", built.pacing, |r, at| r.choice(at, PACINGS, &pacings));
    // paced calls wait as well
    let waits = lanes || fields.get("concurrency").is_some() || built.pacing != Pacing::Off;
    built.timeouts = fields.read("timeouts", built.timeouts, |r, at| timeouts(r, at, waits));
    built.tls = fields.read("tls", built.tls, tls);
    built.http2 = match fields.maybe("http2", |r, at| r.word(at, HTTP2)) {
        Some(1) => Http2::Never,
        Some(2) => Http2::Always,
        _ => Http2::Auto,
    };
    built.background = match fields.maybe("background", |r, at| r.word(at, BACKGROUNDS)) {
        Some(1) => true,
        Some(2) => false,
        _ => built.background,
    };
    built.proxy = fields.read("proxy", built.proxy, proxy);
    resilience::read(&fields, &mut built);
    idle_keys(reader, &fields, &built);
    urls_right.then_some(built)
}

/// The name becomes a path segment and a label.
fn check_name(reader: &Reader<'_>, name: &str, place: Place, at: &At<'_>) {
    let well_formed = name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if !well_formed {
        let found = "a name that cannot stand in a path";
        let expected = "letters, digits, `-`, `_` and `.`; 64 at most, a letter or digit first";
        reader.fault(place, &at.path, found, expected);
    }
}

/// An upstream at these urls with everything else as the vendor or the defaults say.
fn build(
    reader: &Reader<'_>,
    name: &str,
    at: &At<'_>,
    urls: Vec<Origin>,
    dialect: Option<Dialect>,
) -> Option<Upstream> {
    let by_host = urls.first().and_then(|origin| match &origin.host {
        Host::Name(host) => vendors::by_host(host),
        Host::Unix(_) => None,
    });
    let vendor = by_host.or_else(|| vendors::by_name(name));
    let dialect =
        dialect.or_else(|| vendor.map(|vendor| vendor.dialect)).unwrap_or(Dialect::OpenAi);
    let (urls, api_prefix) = match complete(urls, vendor, dialect) {
        Ok(done) => done,
        Err(expected) => {
            reader.wrong(at, "urls with different versions in their paths", expected);
            return None;
        }
    };
    let provider = vendor.map_or(name, |vendor| vendor.provider);
    Some(Upstream {
        dialect,
        provider: Arc::from(provider),
        background: !urls.is_empty() && urls.iter().all(has_background),
        urls,
        api_prefix,
        auth: preset_auth(vendor),
        ..Upstream::new(name)
    })
}

/// By its host.
fn has_background(origin: &Origin) -> bool {
    match &origin.host {
        Host::Name(host) => vendors::by_host(host).is_some_and(|vendor| vendor.background),
        Host::Unix(_) => false,
    }
}

fn dialect_of(index: usize) -> Dialect {
    match index {
        1 => Dialect::Anthropic,
        2 => Dialect::Gemini,
        3 => Dialect::Ollama,
        4 => Dialect::Http,
        _ => Dialect::OpenAi,
    }
}

fn preset_auth(vendor: Option<&Vendor>) -> Auth {
    match vendor.and_then(|vendor| vendor.key_header) {
        Some(name) => Auth::Header(HeaderName::from_static(name)),
        None => Auth::Bearer,
    }
}

fn auth(reader: &Reader<'_>, at: &At<'_>) -> Option<Auth> {
    const EXPECTED: &str = "bearer, or the name of a header: x-api-key";
    let text = reader.text(at, EXPECTED)?;
    if text.value.eq_ignore_ascii_case("bearer") {
        return Some(Auth::Bearer);
    }
    let name = header_name(&text.value);
    if name.is_none() {
        reader.wrong(at, text.shown(), EXPECTED);
    }
    name.map(Auth::Header)
}

fn pool<'r>(reader: &'r Reader<'r>, at: &At<'_>) -> Option<Pool> {
    let fields = reader.section(at, &POOL)?;
    let default = Pool::default();
    let max_idle = fields.read("max_idle", default.max_idle as u64, |r, at| r.count(at, 1, MOST));
    let warm = fields.read("warm", default.warm as u64, |r, at| r.count(at, 0, MOST));
    if let Some(at) = fields.get("warm").filter(|_| warm > max_idle) {
        let expected = format!("at most max_idle, which is {max_idle}");
        reader.wrong(&at, format!("the number {warm}"), &expected);
    }
    Some(Pool {
        connect_timeout: fields.read("connect_timeout", default.connect_timeout, Reader::some_time),
        idle_timeout: fields.read("idle_timeout", default.idle_timeout, Reader::some_time),
        max_idle: max_idle as usize,
        max_age: fields.read("max_age", default.max_age, Reader::some_time),
        warm: warm as usize,
    })
}

/// A default that would outlast a shorter `total` is shortened to it; one that was written is a
/// fault.
fn timeouts<'r>(reader: &'r Reader<'r>, at: &At<'_>, waits: bool) -> Option<Timeouts> {
    let fields = reader.section(at, &TIMEOUTS)?;
    if let Some(at) = fields.get("queue").filter(|_| !waits) {
        let expected = "`concurrency` here or of a route, or pacing";
        reader.wrong(&at, "`queue`, but nothing to wait for", expected);
    }
    let default = Timeouts::default();
    let total = fields.read("total", default.total, Reader::some_time);
    let part = |name: &str, default| fields.time_within(name, default, total, "total");
    Some(Timeouts {
        queue: fields.read("queue", default.queue, Reader::duration),
        first_byte: part("first_byte", default.first_byte),
        first_content: part("first_content", default.first_content),
        idle: fields.maybe_within("idle", total, "total", Reader::some_time),
        between_tokens: part("between_tokens", default.between_tokens),
        total,
    })
}

fn tls<'r>(reader: &'r Reader<'r>, at: &At<'_>) -> Option<UpstreamTls> {
    let fields = reader.section(at, &UPSTREAM_TLS)?;
    for (one, other) in [("cert", "key"), ("key", "cert")] {
        if let Some(at) = fields.get(one).filter(|_| fields.get(other).is_none()) {
            reader.wrong(
                &at,
                format!("`{one}` without `{other}`"),
                "`cert` and `key`, both or none",
            );
        }
    }
    Some(UpstreamTls {
        ca: fields.maybe("ca", Reader::pem),
        cert: fields.maybe("cert", Reader::pem),
        key: fields.maybe("key", Reader::pem),
    })
}

fn proxy(reader: &Reader<'_>, at: &At<'_>) -> Option<ProxyRule> {
    let text = reader.text(at, "env, off or http://[user:password@]host[:port]")?;
    match text.value.as_ref() {
        "env" => Some(ProxyRule::Environment),
        "off" => Some(ProxyRule::Never),
        other => {
            url::proxy(other).map_err(|expected| reader.wrong(at, text.shown(), expected)).ok()
        }
    }
}

/// A key that would do nothing here is a fault.
fn idle_keys(reader: &Reader<'_>, fields: &Fields<'_, '_>, upstream: &Upstream) {
    let some_https = upstream.urls.iter().any(|origin| origin.tls);
    let some_url = !upstream.urls.is_empty();
    let lone = |key: &str, idle: bool, found: &str, expected: &str| {
        if let Some(at) = fields.get(key).filter(|_| idle) {
            reader.wrong(&at, found, expected);
        }
    };
    if upstream.builtin {
        for key in ["key", "keys", "auth", "headers", "tls", "http2", "proxy"] {
            lone(key, true, "a key that a builtin upstream has no use for", "no such key here");
        }
        return;
    }
    let has_key = fields.get("key").or_else(|| fields.get("keys")).is_some();
    lone("auth", !has_key, "`auth` without a `key` to send", "`key` beside it");
    lone("tls", some_url && !some_https, "`tls`, but no https url", "a url with https://");
    lone("proxy", some_url && !some_https, "`proxy`, but no https url", "a url with https://");
    if let (Some(at), Auth::Header(name), true) = (fields.get("headers"), &upstream.auth, has_key)
        && upstream.headers.iter().any(|(other, _)| other == name)
    {
        let found = format!("`{name}`, which `key` sets already");
        reader.wrong(&at, found, "the credential in `key` or in `headers`, not in both");
    }
}

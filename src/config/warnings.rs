//! What a sound policy does that its author may not have meant. Nothing here refuses a policy: that is
//! for the readers. Told at start, at each reload, and by `tidegate check`.
//!
//! An upstream without a key of its own is sent the caller's. On a route that leads to two vendors, the
//! second one is shown a credential that was made for the first.
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use http::Method;

use super::vendors::by_host;
use super::{Config, Host, Route, Upstream};
use crate::wire;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// The callers' own credentials reach a second vendor.
    SecondVendor {
        /// The route's name.
        route: Arc<str>,
        /// Where it leads first.
        first: Arc<str>,
        /// The upstream that is shown them, and its host.
        upstream: Arc<str>,
        host: Arc<str>,
    },
    /// There is nowhere for a second request to go.
    IdleHedge { upstream: Arc<str> },
    /// The path of a call is taken away whole, as a route's prefix.
    WholePath {
        /// The route's name, and its path.
        route: Arc<str>,
        path: Arc<str>,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SecondVendor { route, first, upstream, host } => write!(
                f,
                "route {route}: calls for {first} may go to {upstream}, which has no `key`: \
                 the caller's own credential is shown to a second vendor, at {host}"
            ),
            Self::IdleHedge { upstream } => write!(
                f,
                "upstreams.{upstream}.hedge: of no use: there is one url, and no route to it has \
                 a second target"
            ),
            Self::WholePath { route, path } => write!(
                f,
                "route {route}: {path} is taken away as its prefix, and what is left says nothing: \
                 such calls are passed on without limits of tokens, prices or a cache; say the part \
                 before it (`path: /v1`), and what else tells them apart"
            ),
        }
    }
}

/// In the order of the upstreams, and then of the routes, twice; each upstream once a route.
pub fn warnings(config: &Config) -> Vec<Warning> {
    let idle = config.upstreams.iter().enumerate().filter(|(at, one)| {
        one.hedge.is_some()
            && one.urls.len() < 2
            && !config.routes.iter().any(|of| spreads(of, *at))
    });
    let idle = idle.map(|(_, one)| Warning::IdleHedge { upstream: Arc::clone(&one.name) });
    let second = config.routes.iter().flat_map(|route| on(route, &config.upstreams));
    let whole = config.routes.iter().filter(|route| is_whole(route));
    let whole = whole.map(|route| Warning::WholePath {
        route: Arc::clone(&route.name),
        path: Arc::clone(&route.path),
    });
    idle.chain(second).chain(whole).collect()
}

/// Whether its path is that of a call.
fn is_whole(route: &Route) -> bool {
    let kind = wire::endpoint(&Method::POST, &route.path).kind;
    route.path.starts_with('/') && kind.reads_body()
}

/// The route leads to this upstream, and has a second target.
fn spreads(route: &Route, upstream: usize) -> bool {
    let mut to = route.to.iter().chain(&route.fallback);
    to.clone().count() > 1 && to.any(|goal| goal.to == upstream)
}

fn on<'c>(route: &'c Route, upstreams: &'c [Upstream]) -> impl Iterator<Item = Warning> + 'c {
    let mut goals = route.to.iter().chain(&route.fallback).map(|goal| goal.to);
    let first = goals.next().and_then(|at| upstreams.get(at));
    let others: BTreeSet<usize> = goals.collect();
    let others = others.into_iter().filter_map(|at| upstreams.get(at));
    others.zip(std::iter::repeat(first)).filter_map(|(upstream, first)| {
        let (first, passed) = (first?, upstream.keys.is_empty() && !upstream.builtin);
        let known: BTreeSet<&str> = hosts(first).map(|host| vendor(host)).collect();
        let mut strange = hosts(upstream).filter(|host| !known.contains(vendor(host)));
        Some(Warning::SecondVendor {
            route: Arc::clone(&route.name),
            first: Arc::clone(&first.name),
            upstream: Arc::clone(&upstream.name),
            host: Arc::clone(strange.next().filter(|_| passed)?),
        })
    })
}

/// Those of others: this machine, and the network that it is in, are no vendor.
fn hosts(upstream: &Upstream) -> impl Iterator<Item = &Arc<str>> {
    upstream.urls.iter().filter_map(|origin| match &origin.host {
        Host::Name(host) if !is_near(host) => Some(host),
        Host::Name(_) | Host::Unix(_) => None,
    })
}

fn is_near(host: &str) -> bool {
    match host.parse() {
        Ok(std::net::IpAddr::V4(ip)) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        Ok(std::net::IpAddr::V6(ip)) => {
            ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()
        }
        // names that no public zone has
        Err(_) => match host.rsplit_once('.') {
            Some((_, zone)) => matches!(zone, "local" | "internal" | "localhost"),
            None => true,
        },
    }
}

/// By a name for all its hosts, where it is known.
fn vendor(host: &str) -> &str {
    by_host(host).map_or(host, |vendor| vendor.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    const UPSTREAMS: &str = "upstreams:\n  \
        openai: {}\n  \
        eu: { dialect: openai, url: 'https://api.openai.com' }\n  \
        keyed: { dialect: openai, url: 'https://api.mistral.ai', key: '${KEY}' }\n  \
        groq: {}\n  \
        other: { dialect: openai, urls: ['https://llm.example', 'https://llm.example.org'] }\n  \
        near: { dialect: openai, urls: ['http://127.0.0.1:8000', 'http://10.0.0.4:8000'] }\n  \
        here: { dialect: openai, url: 'http://vllm:8000' }\n";

    fn found(route: &str) -> Vec<String> {
        let text = format!("{UPSTREAMS}routes: [{{ {route} }}]\n");
        let config = parse("test.yaml", &text, &|name| {
            (!name.starts_with("OTEL_")).then(|| "secret".to_owned())
        })
        .unwrap();
        let all = warnings(&config);
        assert!(all.iter().all(|one| !one.to_string().contains("secret")));
        let shown = all.iter().map(|one| match one {
            Warning::SecondVendor { upstream, host, .. } => format!("{upstream} at {host}"),
            Warning::IdleHedge { .. } | Warning::WholePath { .. } => one.to_string(),
        });
        shown.collect()
    }

    #[test]
    fn a_credential_that_reaches_a_second_vendor_is_told() {
        for (route, want) in [
            ("to: openai, fallback: [groq]", &["groq at api.groq.com"][..]),
            ("to: { openai: 9, other: 1 }", &["other at llm.example"]),
            (
                "to: openai, fallback: [{ to: groq, model: m }, other, { to: groq, model: n }]",
                &["groq at api.groq.com", "other at llm.example"],
            ),
            // it may be meant for nobody but us
            ("to: keyed, fallback: [groq]", &["groq at api.groq.com"]),
            ("to: near, fallback: [openai]", &["openai at api.openai.com"]),
            // the second vendor gets our key
            ("to: openai, fallback: [keyed]", &[]),
            // the same one
            ("to: openai, fallback: [eu, { to: openai, model: m }]", &[]),
            // nobody's but ours
            ("to: openai, fallback: [near, here]", &[]),
            ("to: openai", &[]),
        ] {
            assert_eq!(found(route), want, "{route}");
        }
    }

    #[test]
    fn a_route_that_takes_the_path_of_its_calls_away_is_told() {
        for (path, told) in [
            ("/v1/messages", true),
            ("/chat/completions", true),
            ("/api/chat", true),
            ("/v1", false),
            ("/openai", false),
            ("/v1/models", false),
            ("/search", false),
        ] {
            let found = found(&format!("path: {path}, to: near"));
            assert_eq!(
                found.iter().any(|one| one.contains("taken away")),
                told,
                "{path}: {found:?}"
            );
        }
    }
}

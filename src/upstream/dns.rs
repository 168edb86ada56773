//! Names to addresses, with a small cache in front of the system's resolver.
//!
//! The system resolver is kept (not a DNS client of our own) because it honours /etc/hosts,
//! nsswitch and the search paths of Kubernetes. An answer is fresh for 30 s. After that it is
//! asked for again; while the resolver fails or is slow, the old answer goes on serving. One
//! lookup a name at a time, whoever waits. Each answer is handed out rotated by one, so that
//! connections spread over all addresses. Only names from the configuration come here: the map
//! cannot grow.
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long an answer is used without asking again.
const FRESH: Duration = Duration::from_secs(30);
/// With an old answer at hand, how long the resolver may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// After a failure: with an old answer at hand, and without one.
const RETRY_STALE: Duration = Duration::from_secs(5);
const RETRY_UNKNOWN: Duration = Duration::from_millis(500);

pub type Answer = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;
/// Asks for the addresses of a name.
pub type Resolve = dyn Fn(&str) -> Answer + Send + Sync;

/// The resolver of one upstream.
pub struct Dns {
    resolve: Box<Resolve>,
    names: Mutex<HashMap<Box<str>, Arc<Entry>>>,
    turn: AtomicUsize,
}

#[derive(Default)]
struct Entry {
    known: Mutex<Known>,
    /// Held while the resolver is asked.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    addresses: Arc<[IpAddr]>,
    /// Until when nobody needs to ask. `None`: never asked.
    until: Option<Instant>,
    failure: Option<(io::ErrorKind, String)>,
}

impl Dns {
    /// Asks the system (`getaddrinfo`).
    pub fn system() -> Self {
        Self::with(Box::new(|name| {
            let name = name.to_owned();
            Box::pin(async move {
                let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
                Ok(found.map(|address| address.ip()).collect())
            })
        }))
    }

    pub fn with(resolve: Box<Resolve>) -> Self {
        Self { resolve, names: Mutex::default(), turn: AtomicUsize::new(0) }
    }

    /// The addresses of `host` in the order to try them; never empty.
    pub async fn lookup(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        if host.eq_ignore_ascii_case("localhost") {
            return Ok(vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()]);
        }
        let entry = self.entry(host);
        let addresses = match entry.current() {
            Some(addresses) => addresses,
            None => self.ask(host, &entry).await?,
        };
        Ok(in_order(&addresses, self.turn.fetch_add(1, Ordering::Relaxed)))
    }

    fn entry(&self, host: &str) -> Arc<Entry> {
        let mut names = self.names.lock();
        if let Some(entry) = names.get(host) {
            return Arc::clone(entry);
        }
        Arc::clone(names.entry(host.into()).or_default())
    }

    async fn ask(&self, host: &str, entry: &Entry) -> io::Result<Arc<[IpAddr]>> {
        let old = entry.addresses();
        if old.is_empty() {
            let _asking = entry.asking.lock().await;
            // somebody else may have asked while we waited, with either outcome
            if let Some(settled) = entry.settled() {
                return settled;
            }
            let outcome = (self.resolve)(host).await;
            return entry.learn(outcome);
        }
        let Ok(_asking) = entry.asking.try_lock() else { return Ok(old) };
        let outcome = tokio::time::timeout(PATIENCE, (self.resolve)(host))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        entry.learn(outcome)
    }
}

impl Entry {
    fn addresses(&self) -> Arc<[IpAddr]> {
        Arc::clone(&self.known.lock().addresses)
    }

    /// The addresses, if they need no new lookup.
    fn current(&self) -> Option<Arc<[IpAddr]>> {
        let known = self.known.lock();
        let fresh = known.until.is_some_and(|until| Instant::now() < until);
        (fresh && !known.addresses.is_empty()).then(|| Arc::clone(&known.addresses))
    }

    /// The outcome of a recent lookup, a failure too.
    fn settled(&self) -> Option<io::Result<Arc<[IpAddr]>>> {
        let known = self.known.lock();
        if known.until.is_none_or(|until| until <= Instant::now()) {
            return None;
        }
        match &known.failure {
            Some((kind, text)) if known.addresses.is_empty() => {
                Some(Err(io::Error::new(*kind, text.clone())))
            }
            _ => Some(Ok(Arc::clone(&known.addresses))),
        }
    }

    fn learn(&self, outcome: io::Result<Vec<IpAddr>>) -> io::Result<Arc<[IpAddr]>> {
        let none = || io::Error::new(io::ErrorKind::NotFound, "no address for this name");
        let outcome =
            outcome.and_then(|found| if found.is_empty() { Err(none()) } else { Ok(found) });
        let mut known = self.known.lock();
        match outcome {
            Ok(mut found) => {
                // resolvers shuffle and repeat: the rotation is ours alone
                found.sort_unstable();
                found.dedup();
                known.addresses = found.into();
                known.until = Some(Instant::now() + FRESH);
                known.failure = None;
            }
            Err(error) if known.addresses.is_empty() => {
                known.until = Some(Instant::now() + RETRY_UNKNOWN);
                known.failure = Some((error.kind(), error.to_string()));
                return Err(error);
            }
            Err(_) => known.until = Some(Instant::now() + RETRY_STALE),
        }
        Ok(Arc::clone(&known.addresses))
    }
}

/// IPv6 first and the families in turn (RFC 8305, section 4), each family rotated.
fn in_order(addresses: &[IpAddr], turn: usize) -> Vec<IpAddr> {
    let family = |six: bool| {
        let count = addresses.iter().filter(|address| address.is_ipv6() == six).count();
        let of_family = addresses.iter().copied().filter(move |address| address.is_ipv6() == six);
        of_family.cycle().skip(turn.checked_rem(count).unwrap_or(0)).take(count)
    };
    let (mut six, mut four) = (family(true), family(false));
    let mut ordered = Vec::with_capacity(addresses.len());
    loop {
        let pair = [six.next(), four.next()];
        if pair == [None, None] {
            return ordered;
        }
        ordered.extend(pair.into_iter().flatten());
    }
}

#[cfg(test)]
mod tests;

//! Backends: where they are, how many calls they are given, and the connections kept to them.
//!
//! An [`Upstream`] is prepared from its configuration and shared by all workers; what must outlive a
//! reload (its gauges, how each address stands, its breaker) is in [`Shared`], found again by name.
//! [`Upstream::choose`] gives an address for an attempt: a [`visit::Visit`], by which the health of
//! the backend is known. Connections belong to one worker each ([`pool::Pools`]): no lock stands
//! between a call and its connection. [`call::send`] makes one attempt.
//!
//! Nothing here knows about dialects or status codes for clients.
pub mod answer;
mod balance;
pub mod breaker;
mod budget;
pub mod call;
pub mod connect;
mod dial;
pub mod dns;
pub mod h1;
mod h2;
pub mod health;
pub mod keys;
pub mod late;
pub mod outgoing;
pub mod pool;
pub mod post;
pub mod proxy;
pub mod roster;
pub mod session;
mod standing;
pub mod tls;
pub mod visit;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Instant;

use dashmap::DashMap;
use http::{HeaderName, HeaderValue, header};
use thiserror::Error;

use self::breaker::Switch;
use self::budget::Budget;
use self::connect::Connector;
use self::keys::{Key, KeyState};
use self::roster::Roster;
use self::standing::Standing;
use crate::config::{self, Auth, Host, Origin};
use crate::telemetry::metrics::{Metrics, PoolGauges};

/// Why an upstream of the policy file cannot be set up.
#[derive(Debug, Error)]
pub enum SetupError {
    #[error("upstreams.{name}: {source}")]
    Connector { name: Arc<str>, source: connect::SetupError },
    #[error("upstreams.{name}.key: the value cannot be sent in a header")]
    Key { name: Arc<str> },
    #[error("upstreams.{name}: `{host}` cannot be sent as a host name")]
    Host { name: Arc<str>, host: String },
}

/// One backend, ready to be called.
pub struct Upstream {
    pub config: config::Upstream,
    /// Its queue, in the book of limits.
    pub pool: usize,
    /// What it says of its limits is listened to.
    pub paces: bool,
    pub shared: Arc<Shared>,
    pub addresses: Vec<Address>,
    /// How they stand, and the choice between them.
    pub roster: Arc<Roster>,
    pub connector: Connector,
    /// For upgrades, which only HTTP/1.1 has.
    pub h1_connector: Connector,
    /// What replaces the caller's credential, one of them.
    pub keys: Vec<Key>,
    /// A hash of where it is and what the policy sends it: answers from elsewhere are others.
    pub wall: [u8; 32],
}

/// One of a backend's URLs.
pub struct Address {
    pub origin: Origin,
    /// The value of `Host`.
    pub host: HeaderValue,
    /// What its connections are kept under: two addresses with one key could share them.
    pub key: PoolKey,
}

/// A hash over everything that makes connections interchangeable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PoolKey([u8; 16]);

/// What outlives a reload.
pub struct Shared {
    /// It has told of its limits, so that calls must ask before they go.
    pub paced: AtomicBool,
    pub gauges: Arc<PoolGauges>,
    /// Over all of its addresses.
    breaker: Switch,
    budget: Budget,
    /// For second requests.
    pub late: late::Late,
    /// Sessions over WebSocket that are open.
    sessions: AtomicUsize,
    /// Whose turn it is: among the addresses, and among the keys.
    turn: AtomicUsize,
    key_turn: Arc<AtomicUsize>,
    standings: DashMap<PoolKey, Arc<Standing>>,
    keys: DashMap<u64, Arc<KeyState>>,
}

/// The [`Shared`] of every upstream there ever was, by name.
#[derive(Default)]
pub struct Registry {
    by_name: DashMap<Arc<str>, Arc<Shared>>,
}

impl Registry {
    fn shared(&self, name: &Arc<str>, metrics: &Metrics) -> Arc<Shared> {
        let new = || {
            Arc::new(Shared {
                paced: AtomicBool::new(false),
                gauges: metrics.pool(name),
                breaker: Switch::default(),
                budget: Budget::new(Instant::now()),
                late: late::Late::default(),
                sessions: AtomicUsize::new(0),
                turn: AtomicUsize::new(0),
                key_turn: Arc::default(),
                standings: DashMap::new(),
                keys: DashMap::new(),
            })
        };
        Arc::clone(&self.by_name.entry(Arc::clone(name)).or_insert_with(new))
    }
}

impl Shared {
    fn standing(&self, address: &Address) -> Arc<Standing> {
        let new = || Arc::new(Standing::new(address.key, &address.origin));
        Arc::clone(&self.standings.entry(address.key).or_insert_with(new))
    }
}

impl Upstream {
    /// May read certificate files; call it off the I/O threads.
    pub fn prepare(
        config: &config::Upstream,
        registry: &Registry,
        pool: usize,
        metrics: &Metrics,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, SetupError> {
        let name = &config.name;
        let connector = Connector::new(config, env)
            .map_err(|source| SetupError::Connector { name: Arc::clone(name), source })?;
        let h1_only = config::Upstream { http2: config::Http2::Never, ..config.clone() };
        let h1_connector = Connector::new(&h1_only, env)
            .map_err(|source| SetupError::Connector { name: Arc::clone(name), source })?;
        let shared = registry.shared(name, metrics);
        let addresses = config
            .urls
            .iter()
            .map(|origin| Address::prepare(config, origin))
            .collect::<Result<Vec<_>, _>>()?;
        let standings = addresses.iter().map(|address| shared.standing(address));
        let roster = Arc::new(Roster::new(config, &shared, standings));
        let keys = config
            .keys
            .iter()
            .map(|key| prepare_key(config, key, &shared))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| SetupError::Key { name: Arc::clone(name) })?;
        Ok(Self {
            config: config.clone(),
            pool,
            paces: config.pacing != config::Pacing::Off,
            shared,
            addresses,
            roster,
            connector,
            h1_connector,
            wall: wall(config, &keys),
            keys,
        })
    }

    /// Sets the gauges of its health to what is so; for what time alone changes.
    pub fn show(&self, now: Instant) {
        self.roster.show(now);
        self.show_keys(now);
    }

    /// Retries that are left of the budget.
    pub fn retries_left(&self, now: Instant) -> u64 {
        self.shared.budget.left(now)
    }

    /// It has a background mode of its own, whose responses it keeps.
    pub fn answers_later(&self) -> bool {
        self.config.background
    }

    /// The caller's credential is replaced.
    pub fn holds_key(&self) -> bool {
        !self.keys.is_empty()
    }
}

fn wall(config: &config::Upstream, keys: &[Key]) -> [u8; 32] {
    let mut hash = blake3::Hasher::new();
    let mut part = |part: &[u8]| {
        hash.update(&(part.len() as u64).to_le_bytes()).update(part);
    };
    for origin in &config.urls {
        part(format!("{origin:?}").as_bytes());
    }
    let keys = keys.iter().map(|key| (&key.name, &key.value));
    for (name, value) in config.headers.iter().map(|(name, value)| (name, value)).chain(keys) {
        part(name.as_str().as_bytes());
        part(value.as_bytes());
    }
    *hash.finalize().as_bytes()
}

impl Address {
    fn prepare(config: &config::Upstream, origin: &Origin) -> Result<Self, SetupError> {
        let host = host_of(origin);
        let host = HeaderValue::from_str(&host)
            .map_err(|_| SetupError::Host { name: Arc::clone(&config.name), host })?;
        Ok(Self { origin: origin.clone(), host, key: PoolKey::of(config, origin) })
    }
}

impl PoolKey {
    fn of(config: &config::Upstream, origin: &Origin) -> Self {
        let parts = (&config.name, origin, &config.tls, config.http2, &config.proxy);
        // Debug shows no secret, and two proxies that differ only in their password are one
        let hash = blake3::hash(format!("{parts:?}").as_bytes());
        let mut key = [0; 16];
        key.copy_from_slice(&hash.as_bytes()[..16]);
        Self(key)
    }
}

/// The value of `Host`.
pub fn host_of(origin: &Origin) -> String {
    let Host::Name(name) = &origin.host else { return "localhost".to_owned() };
    let name = if name.contains(':') { format!("[{name}]") } else { name.to_string() };
    let usual = if origin.tls { 443 } else { 80 };
    if origin.port == usual { name } else { format!("{name}:{}", origin.port) }
}

fn prepare_key(
    config: &config::Upstream,
    key: &config::Secret,
    shared: &Shared,
) -> Result<Key, header::InvalidHeaderValue> {
    let (name, value) = credential(&config.auth, key)?;
    // among several each has its own limits, and its own troubles
    let hash = blake3::derive_key("tidegate upstream key v1", key.expose().as_bytes());
    let id = hash.first_chunk().map_or(1, |half| u64::from_be_bytes(*half) | 1);
    let id = if config.keys.len() > 1 { id } else { 0 };
    let state = Arc::clone(&shared.keys.entry(id).or_default());
    Ok(Key { name, value, id, state, turn: Arc::clone(&shared.key_turn) })
}

/// The header that carries a key of the policy; never shown.
pub fn credential(
    auth: &Auth,
    key: &config::Secret,
) -> Result<(HeaderName, HeaderValue), header::InvalidHeaderValue> {
    let (name, mut value) = match auth {
        Auth::Bearer => {
            (header::AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {}", key.expose()))?)
        }
        Auth::Header(name) => (name.clone(), HeaderValue::from_str(key.expose())?),
    };
    value.set_sensitive(true);
    Ok((name, value))
}

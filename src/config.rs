//! The policy file, in two levels: what people wrote (`config/file.rs`, the YAML as a tree that
//! knows its lines) and what the program will do (the types here). `config/validate.rs` walks
//! the one into the other and reports every fault at once; `config/keys.rs` is the table of all
//! keys, and the JSON Schema is made from it.
//!
//! Values here are checked and complete: no defaults are left to decide, no reference dangles.
mod admin;
mod agents;
mod cache;
mod fault;
mod file;
mod interpolate;
mod keys;
mod known;
mod listen;
mod load;
mod otlp;
mod policies;
mod prices;
mod read;
mod reference;
mod resilience;
mod routes;
mod schema;
mod secret;
mod show;
mod tasks;
mod upstream;
mod url;
mod validate;
mod vendors;
mod warnings;
mod webhooks;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

pub use admin::{Admin, is_far, open_to_strangers, remedy};
pub use agents::{Access, AgentKey, Agents, Certificate, KeyHash, Network, Peer};
pub use cache::{Cache, Embedder, Mode as SemanticMode, Replay, Scope, Semantic};
pub use fault::{Fault, Faults};
pub use listen::address;
pub use load::{Loaded, Overrides, Reach, Source, load, parse, without_file};
pub use otlp::{Otlp, OtlpProtocol};
pub use policies::{
    CacheRule, Calendar, Limit, Matcher, Measure, Mode, Per, Policy, Queue, Runaway, RunawayAction,
    TokenWeights, Window,
};
pub use prices::{Price, Prices};
pub use reference::reference;
pub use resilience::{
    Balance, Breaker, Exhausted, Goal, HealthCheck, Hedge, Retry, Route, Timeouts, WebSocket,
};
pub use schema::schema;
pub use secret::Secret;
pub use show::redacted;
pub use tasks::{Offload, TaskEnd, Tasks};
pub use url::proxy;
pub use validate::is_level;
pub use warnings::{Warning, warnings};
pub use webhooks::{SigningSecret, Webhook};

use crate::wire::Dialect;

/// Everything the program will do.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub listen: Vec<Listen>,
    /// `None`: no admin listener.
    pub admin: Option<Admin>,
    pub server: Server,
    /// In the order of the file; routes refer to them by index.
    pub upstreams: Vec<Upstream>,
    pub routes: Vec<Route>,
    /// Where budgets, keys and tasks are kept. `None`: in memory only.
    pub state: Option<PathBuf>,
    /// `None`: no call becomes a task. There only with `state`.
    pub tasks: Option<Tasks>,
    pub agents: Agents,
    pub prices: Prices,
    pub policies: Vec<Policy>,
    pub telemetry: Telemetry,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Listen {
    pub at: Address,
    pub tls: Option<ListenTls>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
    /// A socket handed over by systemd; by its `FileDescriptorName=`, or all that are left.
    Inherited(Option<String>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenTls {
    pub cert: PathBuf,
    pub key: PathBuf,
    /// With it, clients may show a certificate of this CA; `client_auth` says whether they must.
    pub client_ca: Option<PathBuf>,
    pub client_required: bool,
}

/// Bounds on what a client may do, and on how we end.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    pub max_connections: usize,
    /// Largest request body that is read into memory, in bytes.
    pub max_body: u64,
    /// Request target and all header bytes together.
    pub max_head: usize,
    pub max_headers: usize,
    pub max_target: usize,
    /// From the first byte of a head to its last.
    pub head_timeout: Duration,
    /// Longest time without progress while a request body arrives: 1 KiB for each second of it,
    /// and a sixteenth of the length that was announced; of a body that streams through, 1 KiB.
    pub body_timeout: Duration,
    /// An idle keep-alive connection is closed after this.
    pub idle_timeout: Duration,
    /// Longest time a client may leave our bytes unread.
    pub write_timeout: Duration,
    /// Most bytes of bodies, answers and logs of streams that are held at once, over all workers.
    pub memory: u64,
    /// A client that waits for its stream gets a comment this often. `None`: it does not.
    pub heartbeat: Option<Duration>,
    /// Readiness fails, then this long new work is still taken.
    pub drain_delay: Duration,
    /// How long running calls may take to finish after that.
    pub drain_timeout: Duration,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_body: 32 << 20,
            max_head: 32 << 10,
            max_headers: 100,
            max_target: 8 << 10,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_mins(1),
            memory: 512 << 20,
            heartbeat: Some(Duration::from_secs(15)),
            drain_delay: Duration::from_secs(5),
            drain_timeout: Duration::from_mins(10),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    pub name: Arc<str>,
    pub dialect: Dialect,
    /// OpenTelemetry's `gen_ai.provider.name`.
    pub provider: Arc<str>,
    /// It makes responses with `background: true` itself. Where the file does not say so, by its hosts:
    /// a name says nothing of who answers.
    pub background: bool,
    /// At least one.
    pub urls: Vec<Origin>,
    /// What a bare SDK path (`/chat/completions`) is given in front: `/v1`, `/v1beta`, or nothing.
    pub api_prefix: Arc<str>,
    /// One of them replaces the caller's credential. Empty: the caller's own passes through.
    pub keys: Vec<Secret>,
    pub auth: Auth,
    /// Added to every request, replacing what the caller sent under that name.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Most calls at once, over all workers. `None`: no bulkhead.
    pub concurrency: Option<usize>,
    pub pool: Pool,
    pub timeouts: Timeouts,
    pub tls: UpstreamTls,
    pub http2: Http2,
    pub proxy: ProxyRule,
    /// Slowing down before the backend says 429.
    pub pacing: Pacing,
    pub balance: Balance,
    pub retry: Retry,
    /// `None`: a backend in trouble gets its calls all the same.
    pub breaker: Option<Breaker>,
    pub health: Option<HealthCheck>,
    pub hedge: Option<Hedge>,
    pub websocket: WebSocket,
    /// `builtin: simulator`: the app starts a simulator and `urls` is filled in at start.
    pub builtin: bool,
}

/// Where to connect, and the path everything is put under there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    pub tls: bool,
    pub host: Host,
    pub port: u16,
    /// Without a trailing slash; empty for none.
    pub path: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// A DNS name or an IP address without brackets.
    Name(Arc<str>),
    /// `unix:/run/backend.sock`
    Unix(PathBuf),
}

/// How a vendor wants its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// `Authorization: Bearer KEY`
    Bearer,
    /// `NAME: KEY`
    Header(HeaderName),
}

impl Upstream {
    /// With no address yet, and everything else at its default.
    pub fn new(name: &str) -> Self {
        Self {
            name: Arc::from(name),
            dialect: Dialect::OpenAi,
            provider: Arc::from(name),
            background: false,
            urls: Vec::new(),
            api_prefix: Arc::from("/v1"),
            keys: Vec::new(),
            auth: Auth::Bearer,
            headers: Vec::new(),
            concurrency: None,
            pool: Pool::default(),
            timeouts: Timeouts::default(),
            tls: UpstreamTls::default(),
            http2: Http2::Auto,
            proxy: ProxyRule::Environment,
            pacing: Pacing::Auto,
            balance: Balance::LeastBusy,
            retry: Retry::default(),
            breaker: Some(Breaker::default()),
            health: None,
            hedge: None,
            websocket: WebSocket::default(),
            builtin: false,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    pub connect_timeout: Duration,
    pub idle_timeout: Duration,
    /// Idle connections kept, over all workers.
    pub max_idle: usize,
    /// A connection is retired after this, give or take a fifth, so that DNS changes are followed.
    pub max_age: Duration,
    /// Connections opened before they are needed.
    pub warm: usize,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(55),
            max_idle: 256,
            max_age: Duration::from_mins(5),
            warm: 0,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UpstreamTls {
    /// A private CA, used instead of the system's roots.
    pub ca: Option<PathBuf>,
    /// A client certificate: chain and key.
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Http2 {
    /// By ALPN over TLS, never on cleartext.
    Auto,
    Never,
    /// Only HTTP/2; on cleartext by prior knowledge.
    Always,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyRule {
    /// `HTTPS_PROXY` and `NO_PROXY`, for `https` upstreams.
    Environment,
    Never,
    /// `http://[user:password@]host[:port]`. `authorization` is the whole value of
    /// `Proxy-Authorization`.
    Through {
        host: Arc<str>,
        port: u16,
        authorization: Option<Secret>,
    },
}

/// How a backend's own limits are kept to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pacing {
    /// By its headers; by its 429s where it sends none.
    Auto,
    /// The same, and by its time to the first token: for backends of our own.
    Latency,
    Off,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Telemetry {
    /// A filter as `RUST_LOG` takes it: `info`, `tidegate=debug,warn`.
    pub level: String,
    pub form: LogForm,
    /// A line a call.
    pub access_log: LogTo,
    /// A record for each call that used something, for whoever bills.
    pub usage: LogTo,
    /// `None`: nothing is sent.
    pub otlp: Option<Otlp>,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            form: LogForm::Auto,
            access_log: LogTo::Stdout,
            usage: LogTo::Off,
            otlp: None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogForm {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    Json,
    Text,
}

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTo {
    Off,
    Stdout,
    Stderr,
    /// Appended to; opened anew at SIGUSR1.
    File(PathBuf),
}

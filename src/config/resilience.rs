//! What keeps one thing's failure from becoming another's: where calls may go instead, how often
//! they are tried, how long each part of them may take, and what a backend in trouble is spared.
//!
//! The types alone; the readers are in `routes.rs` and `upstream/`.
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::Offload;
use crate::identity::Class;
use crate::wire::Dialect;

/// Which calls go where. The first that matches wins.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// `/openai`: the prefix to match on a segment boundary, and to strip. Empty: any path.
    pub path: Arc<str>,
    /// Only calls in this dialect (told by their path). Used by the routes made for bare SDK paths.
    pub dialect: Option<Dialect>,
    /// A glob over the model's name, `gpt-*`, as the caller says it.
    pub model: Option<Arc<str>>,
    /// A glob over the agent's name.
    pub agent: Option<Arc<str>>,
    pub class: Option<Class>,
    /// Globs over headers; all must match. One that is not there matches nothing.
    pub headers: Vec<(HeaderName, Arc<str>)>,
    /// At least one; calls are spread over them by their weights.
    pub to: Vec<Goal>,
    /// Tried in this order when those in `to` have failed. Of one dialect with them.
    pub fallback: Vec<Goal>,
    /// Other names for models, by globs over what the caller says; the first match wins.
    pub models: Vec<(Arc<str>, Arc<str>)>,
    /// Most calls at once, with a queue of their own. `None`: no lane of its own.
    pub concurrency: Option<usize>,
    pub on_exhausted: Exhausted,
    /// Whether its calls become tasks; of no meaning without `tasks`.
    pub offload: Offload,
    /// How logs and metrics call it.
    pub name: Arc<str>,
}

/// A target of a route, by the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Goal {
    /// Index into `Config::upstreams`.
    pub to: usize,
    /// Its share; at least 1. Of no meaning among fallbacks.
    pub weight: u32,
    /// The model to ask it for. `None`: the one the call names.
    pub model: Option<Arc<str>>,
}

impl Goal {
    pub fn new(to: usize) -> Self {
        Self { to, weight: 1, model: None }
    }
}

impl Route {
    /// Any call, to this upstream.
    pub fn new(name: &str, to: usize) -> Self {
        Self {
            path: Arc::from(""),
            dialect: None,
            model: None,
            agent: None,
            class: None,
            headers: Vec::new(),
            to: vec![Goal::new(to)],
            fallback: Vec::new(),
            models: Vec::new(),
            concurrency: None,
            on_exhausted: Exhausted::Refuse,
            offload: Offload::Offered,
            name: Arc::from(name),
        }
    }
}

/// What becomes of a call that no target can take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exhausted {
    /// The last answer of a backend, or a 503 of ours.
    Refuse,
    /// It waits until one can, as long as `timeouts.queue` of its upstream.
    Queue,
    /// All are asked once more, for another model.
    Downgrade(Arc<str>),
}

/// Which of an upstream's addresses gets a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    /// The better of two at random, by calls in flight and times of late (peak EWMA).
    LeastBusy,
    /// Calls that begin alike (system, tools, first turn) go to one address, so that its prompt
    /// cache is warm (rendezvous hashing).
    Prefix,
    /// Calls of one session go to one address.
    Session,
    RoundRobin,
}

impl Balance {
    pub const ALL: [Self; 4] = [Self::LeastBusy, Self::Prefix, Self::Session, Self::RoundRobin];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::LeastBusy => "least_busy",
            Self::Prefix => "prefix",
            Self::Session => "session",
            Self::RoundRobin => "round_robin",
        }
    }
}

/// Trying again.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// Times a call may be sent, the first included.
    pub attempts: u32,
    /// Attempts beyond the first, as a percentage of the calls of the last ten seconds; a hundred in
    /// that time, ten a second, are allowed whatever the share.
    pub budget: f64,
    /// The first pause before the same upstream is asked again; doubled each time, with jitter.
    pub backoff: Duration,
    /// The longest pause; a backend that asks for more is not waited for.
    pub longest: Duration,
    /// How long a stream's head is kept back while nothing of its content has come, so that an
    /// error in it can still be answered by another target. Zero: not at all.
    pub hold: Duration,
    /// A stream without content by then is given up for another target. `None`: it is waited for.
    pub slow: Option<Duration>,
    /// A call whose deadline has passed is tried elsewhere, although it may have been billed.
    pub on_timeout: bool,
    /// An upstream with one address and one key is asked again itself. Its callers' SDKs do that
    /// already.
    pub in_place: bool,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 3,
            budget: 20.0,
            backoff: Duration::from_millis(100),
            longest: Duration::from_secs(5),
            hold: Duration::from_secs(2),
            slow: None,
            on_timeout: false,
            in_place: false,
        }
    }
}

impl Retry {
    /// A call is sent once, and nothing of its answer is kept back.
    pub fn off() -> Self {
        Self { attempts: 1, hold: Duration::ZERO, ..Self::default() }
    }
}

/// When a backend gets no calls for a while.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Breaker {
    /// Share of failed attempts, in percent.
    pub errors: f64,
    pub window: Duration,
    /// Attempts in the window below which the share says nothing.
    pub least: u32,
    /// Failures in a row.
    pub failures: u32,
    /// How long it stays open; twice as long after each failed probe.
    pub open: Duration,
    /// And at most.
    pub longest: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            errors: 50.0,
            window: Duration::from_secs(10),
            least: 20,
            failures: 5,
            open: Duration::from_secs(15),
            longest: Duration::from_mins(5),
        }
    }
}

/// Asking addresses whether they are well, beside the calls.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthCheck {
    /// Asked with GET, below the url's own path; any 2xx is well.
    pub path: Arc<str>,
    pub every: Duration,
    pub timeout: Duration,
    /// In a row, until an address is taken out.
    pub failures: u32,
    /// In a row, until it is taken back.
    pub successes: u32,
}

impl HealthCheck {
    /// With everything else at its default.
    pub fn new(path: &str) -> Self {
        Self {
            path: Arc::from(path),
            every: Duration::from_secs(10),
            timeout: Duration::from_secs(2),
            failures: 3,
            successes: 2,
        }
    }
}

/// A second request when the first token is late.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hedge {
    /// When. `None`: later than the model's own history lets expect (p95, and three times the median).
    pub after: Option<Duration>,
    /// Of requests and of tokens, in percent.
    pub budget: f64,
}

impl Default for Hedge {
    fn default() -> Self {
        Self { after: None, budget: 5.0 }
    }
}

/// Sessions over WebSocket.
#[derive(Debug, Clone, PartialEq)]
pub struct WebSocket {
    /// Most at once. `None`: no bound.
    pub sessions: Option<usize>,
    /// Without a byte from either side.
    pub idle: Duration,
    pub longest: Duration,
}

impl Default for WebSocket {
    fn default() -> Self {
        Self { sessions: None, idle: Duration::from_mins(10), longest: Duration::from_hours(2) }
    }
}

/// How long each part of a call may take.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeouts {
    /// Waiting for a place in the bulkhead.
    pub queue: Duration,
    /// From the request's last byte to the answer's first.
    pub first_byte: Duration,
    /// From the request's last byte to the first of the answer's content.
    pub first_content: Duration,
    /// Longest silence inside an answer; any byte ends it. One that is written holds from the
    /// answer's head on. `None`: [`Timeouts::IDLE`], and none before the content begins that we can
    /// see: a model may think without a word as long as `first_content`.
    pub idle: Option<Duration>,
    /// Longest time between two pieces of content; pings do not count.
    pub between_tokens: Duration,
    /// From the call's start to the answer's last byte; never cuts a stream that is sending.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            queue: Duration::from_secs(10),
            first_byte: Duration::from_mins(10),
            first_content: Duration::from_mins(15),
            idle: None,
            between_tokens: Duration::from_mins(5),
            total: Duration::from_hours(1),
        }
    }
}

impl Timeouts {
    /// Longest silence inside an answer where the policy says nothing of it.
    pub const IDLE: Duration = Duration::from_mins(2);

    /// Longest silence inside an answer.
    pub fn idle(&self) -> Duration {
        self.idle.unwrap_or(Self::IDLE.min(self.total))
    }

    /// The same where content can be seen and has not begun.
    pub fn idle_before_content(&self) -> Duration {
        self.idle.unwrap_or(Duration::MAX)
    }

    /// For the time before an upstream is known.
    pub fn unbounded() -> Self {
        Self {
            queue: Duration::MAX,
            first_byte: Duration::MAX,
            first_content: Duration::MAX,
            idle: Some(Duration::MAX),
            between_tokens: Duration::MAX,
            total: Duration::MAX,
        }
    }
}

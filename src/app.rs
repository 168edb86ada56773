//! The composition root: puts the parts together in order, and hands back what runs.
//!
//! ```text
//! policy → metrics → simulators → store → snapshot → sockets → logs → workers → admin
//! ```
//!
//! Each worker is a thread with a runtime of its own (`app/worker.rs`); the admin listener has
//! another, so that it answers under full load. What follows once all runs (reload, drain, the end)
//! is in `app/life.rs`.
mod agents;
mod cache;
mod calls;
mod checks;
mod crew;
pub mod descriptors;
mod door;
mod entrance;
mod keep;
mod life;
mod live;
mod shown;
mod state;
mod tasks;
mod upstreams;
mod worker;

use std::net::SocketAddr;
use std::num::NonZero;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::mpsc::UnboundedSender;

use self::crew::Crew;
use self::descriptors::Descriptors;
use self::door::Door;
use self::entrance::Entrance;
pub use self::life::run;
use self::shown::Shown;
use self::worker::Message;
use crate::admin::{self, AdminHandle};
use crate::collector::{self, Collector};
use crate::config::{Config, Loaded, Source};
use crate::drain::{self, Stage, Trigger};
use crate::io::pem::TlsSetupError;
use crate::listen::inherited::InheritError;
use crate::listen::notify::Notifier;
use crate::listen::socket::{self, BindError, Inherited};
use crate::listen::tls::ServerTls;
use crate::pipeline::shared::Hubs;
use crate::simulate::{self, Simulator};
use crate::snapshot::{Lasting, Live, SetupError, Snapshot};
use crate::store::{Store, StoreError, Token};
use crate::telemetry::logs::{Logs, LogsError};
use crate::telemetry::metrics::Metrics;
use crate::webhook;

/// What is needed to serve, and to load the policy again later.
pub struct Start {
    pub source: Source,
    pub loaded: Loaded,
    /// `None`: one for each processor.
    pub workers: Option<usize>,
    /// Made before anything is logged, because lost log lines are counted.
    pub metrics: Arc<Metrics>,
}

/// Why nothing is served.
#[derive(Debug, Error)]
pub enum StartError {
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error("tls: {0}")]
    Tls(#[from] TlsSetupError),
    #[error(transparent)]
    Inherit(#[from] InheritError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Collector(#[from] collector::StartError),
    #[error(transparent)]
    Webhooks(#[from] webhook::SetupError),
    #[error(transparent)]
    Logs(#[from] LogsError),
    #[error(
        "admin: {at} can be reached from other machines, and asks for nothing; expected {expected}"
    )]
    OpenDoor { at: String, expected: String },
    #[error("{what}: {source}")]
    System { what: &'static str, source: std::io::Error },
}

impl StartError {
    fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}

/// How long the store may be in another's hands at the start: the command line's, mostly.
const STORE_PATIENCE: Duration = Duration::from_secs(2);
/// For the store to write what waits, at the end.
const STORE_END: Duration = Duration::from_secs(5);

/// For each log to be written, at the end; a blocked pipe is not waited for longer.
const LOGS_END: Duration = Duration::from_secs(1);

/// A sidecar that serves.
pub struct Running {
    /// Where agents connect, in the order of the policy; `None` for a Unix socket.
    pub addrs: Vec<Option<SocketAddr>>,
    /// The same for people.
    pub listening: Vec<String>,
    /// `None` for a Unix socket too.
    pub admin: Option<SocketAddr>,
    /// Where operators look, for people: `http://127.0.0.1:8081`.
    pub looked_at: Option<String>,
    pub metrics: Arc<Metrics>,
    trigger: Trigger,
    live: Arc<Live>,
    shared: Arc<Shared>,
    entrances: Arc<[Entrance]>,
    workers: Vec<JoinHandle<()>>,
    crew: Arc<Crew>,
    logs: Logs,
    offload: Option<tasks::Offload>,
    admin_handle: Option<AdminHandle>,
    collector: Option<Collector>,
    /// Keeps a Unix socket's file for as long as it is served.
    door: Option<Door>,
}

/// What a reload needs again, and what outlives every policy.
struct Shared {
    source: Source,
    lasting: Lasting,
    /// One for all upstreams that ask for the built-in one.
    simulator: Option<Simulator>,
    health: state::Health,
}

/// Starts everything; returns when all sockets listen.
pub fn start(start: Start) -> Result<Running, StartError> {
    let logs = Logs::start(&start.loaded.config.telemetry, &start.metrics)?;
    start_logging_to(start, logs)
}

/// The same with logs of the caller's, whatever the policy says of them.
pub fn start_logging_to(start: Start, logs: Logs) -> Result<Running, StartError> {
    let Start { source, loaded, workers, metrics } = start;
    let mut config = loaded.config;
    let workers = workers.unwrap_or_else(processors);
    // before anything is opened
    let descriptors = Descriptors::raise(workers);
    descriptors.check(config.server.max_connections);
    life::warn(&config);
    let simulator = simulator_for(&config)?;
    point_to(&mut config, simulator.as_ref());
    let store = open_store(&config)?;
    let token = store.as_ref().map(|store| store.new_token()).transpose()?;
    let lasting = lasting(store)?;
    let offload = tasks::open(&config, &lasting)?;
    let snapshot = Snapshot::prepare(config, &lasting, &metrics, &environment)?;
    let (entrances, door) = bind(&snapshot.config)?;
    let (trigger, drain) = drain::pair();
    let live = Arc::new(Live::new(snapshot));
    let shared = Arc::new(Shared { source, lasting, simulator, health: state::Health::default() });

    let crew = Arc::new(Crew::new(workers, descriptors));
    let hubs = Arc::new(Hubs::new(Arc::clone(&live.pressure)));
    watch(&metrics, &live, &shared, &entrances, door.as_ref());
    let (kept, flying) = (Arc::clone(&live.cache), Arc::clone(&hubs));
    metrics.watch_cache(move || cache::holds(&kept, &flying));
    let shown = Shown { offload: offload.clone(), streams: Arc::default() };
    shown.watch(&metrics);
    let otlp = live.load().config.telemetry.otlp.clone();
    let collector = otlp.map(|otlp| Collector::start(&otlp, &metrics, &environment)).transpose()?;
    let threads = worker::spawn_all(&worker::Parts {
        live: Arc::clone(&live),
        metrics: Arc::clone(&metrics),
        logs: logs.clone(),
        drain: drain.clone(),
        entrances: Arc::clone(&entrances),
        crew: Arc::clone(&crew),
        hubs: Arc::clone(&hubs),
        streams: Arc::clone(&shown.streams),
        offload: offload.clone(),
        traces: collector.as_ref().and_then(|collector| collector.traces.clone()),
    })
    .map_err(StartError::system("a worker thread cannot be started"))?;

    let parts = state::Parts {
        shared: &shared,
        live: &live,
        metrics: &metrics,
        drain: &drain,
        shown: &shown,
        listen: entrances.iter().map(Entrance::called).collect(),
    };
    let admin_handle = door.as_ref().map(|door| serve(door, &parts, (&crew, &hubs), token));
    let admin_handle = admin_handle.transpose()?;
    Ok(Running {
        addrs: entrances.iter().map(|entrance| entrance.bound.addr).collect(),
        listening: entrances.iter().map(Entrance::shown).collect(),
        admin: door.as_ref().and_then(|door| door.bound.addr),
        looked_at: door.as_ref().map(Door::shown),
        metrics,
        trigger,
        live,
        shared,
        entrances,
        workers: threads,
        crew,
        logs,
        offload,
        admin_handle,
        door,
        collector,
    })
}

/// Where metrics find what others keep.
fn watch(
    metrics: &Metrics,
    live: &Live,
    shared: &Shared,
    entrances: &Arc<[Entrance]>,
    door: Option<&Door>,
) {
    metrics.watch_pressure(&live.pressure);
    let limits = Arc::clone(&live.limits);
    metrics.watch_limits(move || agents::used(&limits));
    let doors = Arc::clone(entrances);
    let admin = door.map(Door::watched);
    metrics.watch_listeners(move || {
        let all = doors.iter().map(Entrance::view);
        all.chain(admin.as_ref().map(|view| view())).collect()
    });
    if let Some(store) = shared.lasting.store.clone() {
        metrics.watch_store(move || state::store(&store));
    }
}

impl Running {
    /// Ends at once; what is running is cut.
    pub fn stop(self) {
        self.trigger.advance(Stage::Ending);
        for worker in self.workers {
            // a worker that panicked has said so
            let _ = worker.join();
        }
        if let Some(admin) = self.admin_handle {
            admin.stop();
        }
        // before another process may have the directory
        if !self.live.cache.close(STORE_END) {
            tracing::warn!("answers on disk could not be written to their end: some are lost");
        }
        if let Some(store) = &self.shared.lasting.store {
            // what is on its way goes first: a budget is written once at a time
            store.flush(STORE_END);
            self.shared.lasting.limits.sweep();
            store.flush(STORE_END);
            if !store.close(STORE_END) {
                tracing::error!("the store could not be written to its end");
            }
        }
        if !self.logs.close(LOGS_END) {
            tracing::error!("the logs could not be written to their end");
        }
        // last: nothing that is to be kept waits for it
        if let Some(collector) = self.collector
            && !collector.close(collector::END)
        {
            tracing::warn!("the collector did not take all traces and metrics at the end");
        }
    }

    /// Where state is kept, in words.
    pub fn state(&self) -> String {
        match &self.shared.lasting.store {
            Some(store) => store.directory().display().to_string(),
            None => "in memory only, lost at restart".to_owned(),
        }
    }

    /// The first address that agents connect to.
    pub fn addr(&self) -> Option<SocketAddr> {
        self.addrs.iter().copied().flatten().next()
    }
}

pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn open_store(config: &Config) -> Result<Option<Arc<Store>>, StoreError> {
    let open = |directory| Store::open_patiently(directory, STORE_PATIENCE).map(Arc::new);
    config.state.as_deref().map(open).transpose()
}

/// What outlives every policy, with what the store has kept of the last run.
fn lasting(store: Option<Arc<Store>>) -> Result<Lasting, StoreError> {
    let lasting = Lasting::new(store);
    if let Some(store) = &lasting.store {
        keep::budgets(store, &lasting.limits)?;
        keep::keys(store, &lasting.agents);
    }
    Ok(lasting)
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// Opens the operators' door.
fn serve(
    door: &Door,
    parts: &state::Parts<'_>,
    (crew, hubs): (&Arc<Crew>, &Arc<Hubs>),
    token: Option<Token>,
) -> Result<AdminHandle, StartError> {
    let doors = parts.doors(crew, hubs, door.guard(token));
    let listener = door.listener();
    listener
        .and_then(|listener| admin::spawn(vec![listener], doors))
        .map_err(StartError::system("the admin listener cannot be started"))
}

/// The sockets of the policy, those of the admin listener apart.
fn bind(config: &Config) -> Result<(Arc<[Entrance]>, Option<Door>), StartError> {
    let mut inherited = Inherited::from_env()?;
    // named ones first: an unnamed `systemd:` takes all that are left
    let admin = match &config.admin {
        Some(admin) => Door::bind(admin, &mut inherited, config.state.is_some())?,
        None => None,
    };
    let mut entrances = Vec::new();
    for listen in &config.listen {
        let tls = listen.tls.as_ref().map(ServerTls::new).transpose()?.map(Arc::new);
        for bound in socket::bind(&listen.at, &mut inherited)? {
            entrances.push(Entrance { bound, tls: tls.clone() });
        }
    }
    Ok((entrances.into(), admin))
}

fn simulator_for(config: &Config) -> Result<Option<Simulator>, StartError> {
    if !config.upstreams.iter().any(|upstream| upstream.builtin) {
        return Ok(None);
    }
    let options = simulate::Options {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        ..simulate::Options::default()
    };
    let simulator = simulate::start(options)
        .map_err(StartError::system("the built-in simulator cannot be started"))?;
    Ok(Some(simulator))
}

/// Gives built-in upstreams the address of the simulator.
fn point_to(config: &mut Config, simulator: Option<&Simulator>) {
    let Some(simulator) = simulator else { return };
    for upstream in config.upstreams.iter_mut().filter(|upstream| upstream.builtin) {
        upstream.urls = vec![crate::config::Origin {
            tls: false,
            host: crate::config::Host::Name("127.0.0.1".into()),
            port: simulator.addr.port(),
            path: "".into(),
        }];
    }
}

/// To one worker.
type Mailbox = UnboundedSender<Message>;

/// For the service manager; without one it does nothing.
fn notifier() -> Notifier {
    Notifier::from_env(&environment).unwrap_or_else(|error| {
        tracing::warn!(%error, "NOTIFY_SOCKET names a socket that is not there");
        Notifier::default()
    })
}

//! `tidegate demo`: the sidecar at work on a machine without a key and without a network.
//!
//! The real thing in one process: a simulated backend, the sidecar in front of it as it runs
//! without a policy file (every vendor's address is the simulator's) but for what the acts about
//! limits, caches and tasks need (`demo/policy.rs`), and agents that call over real sockets. What the
//! tables say comes from the sidecar's own records: its access log goes into a channel instead of to
//! stdout. What it keeps is in a directory that goes with it.
//! After the show it keeps serving, and every further call is shown as a line of the first table.
//! On a terminal the answers flow at a readable pace; elsewhere nothing waits but for limits, and
//! nothing is styled.
mod client;
mod policy;
mod records;
mod screen;
mod show;
mod table;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tempfile::TempDir;
use tokio::runtime::LocalRuntime;
use tokio::signal::unix::{SignalKind, signal};

use self::records::{Records, Tap};
use self::screen::Screen;
use crate::app::{self, Running, Start, StartError};
use crate::config::{Config, Loaded, Source};
use crate::listen::socket::BindError;
use crate::simulate::{self, Simulator};
use crate::telemetry::access::AccessLog;

/// Where the demo serves, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
pub struct Options {
    /// Where agents connect; without it 127.0.0.1:8080, or a free port if that is taken
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// The admin listener; without it 127.0.0.1:8081, or a free port if that is taken
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<SocketAddr>,
    /// End after the table
    #[arg(long)]
    pub once: bool,
}

const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8081);

/// A sidecar with its backend and its records.
struct Stage {
    running: Running,
    addr: SocketAddr,
    /// Addresses that were taken by another program, so that free ones serve.
    taken: Vec<SocketAddr>,
    records: Records,
    /// What is kept, and the token of the admin listener: gone with the show.
    state: TempDir,
    _backend: Simulator,
}

/// Runs the demo until it is told to end, or with `once` until the table is shown.
pub fn run(options: &Options) -> Result<(), StartError> {
    let runtime = LocalRuntime::new().map_err(system("no runtime can be made"))?;
    runtime.block_on(async {
        let unseen = "signals cannot be watched";
        let mut terminate = signal(SignalKind::terminate()).map_err(system(unseen))?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(system(unseen))?;
        let mut screen = Screen::stdout();
        let mut stage = Stage::set(options, screen.paced())?;
        let shown = tokio::select! {
            shown = show::play(&mut stage, &mut screen, options.once) => shown,
            _ = terminate.recv() => screen.leave(),
            _ = interrupt.recv() => screen.leave(),
        };
        stage.running.stop();
        match shown {
            // the reader has seen enough
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            shown => shown.map_err(system("the demo broke off")),
        }
    })
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::System { what, source }
}

impl Stage {
    fn set(options: &Options, paced: bool) -> Result<Self, StartError> {
        let simulator = simulate::start(simulate::Options {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            // people who call it after the show see tokens flow as well
            ttft: Duration::from_millis(if paced { 200 } else { 0 }),
            rate: if paced { 40.0 } else { 0.0 },
            tokens: 48,
            ..simulate::Options::default()
        })
        .map_err(system("the simulated backend cannot be started"))?;
        let state = tempfile::Builder::new().prefix("tidegate-demo-").tempdir();
        let state = state.map_err(system("no directory can be made for what is kept"))?;
        let (tap, records) = records::channel();
        let mut listen = options.listen.unwrap_or(LISTEN);
        let mut admin = options.admin.unwrap_or(ADMIN);
        let mut taken = Vec::new();
        loop {
            let config = policy::config(simulator.addr, listen, admin, state.path())
                .map_err(io::Error::other)
                .map_err(system("the demo's policy is wrong"))?;
            let error = match start(config, tap.clone()) {
                Ok(running) => {
                    let addr = running.addr().unwrap_or(listen);
                    return Ok(Self { running, addr, taken, records, state, _backend: simulator });
                }
                Err(error) => error,
            };
            let StartError::Bind(BindError::InUse { at }) = &error else { return Err(error) };
            let wanted = [(&mut listen, options.listen), (&mut admin, options.admin)];
            // an address that was asked for is not given up, nor is a free port that is not free
            let in_use = wanted.into_iter().find(|(addr, asked)| {
                asked.is_none() && addr.port() != 0 && addr.to_string() == *at
            });
            let Some((addr, _)) = in_use else { return Err(error) };
            taken.push(*addr);
            addr.set_port(0);
        }
    }
}

fn start(config: Config, tap: Tap) -> Result<Running, StartError> {
    let metrics = std::sync::Arc::default();
    let loaded = Loaded { config, files: Vec::new(), digest: String::new() };
    let start = Start { source: Source::default(), loaded, workers: None, metrics };
    let log = AccessLog::to(Box::new(tap), false, start.metrics.access_lines())
        .map_err(system("the access log cannot be started"))?;
    app::start_logging_to(start, log.into())
}

//! From "all runs" to the end: reloads, and a drain in stages.
//!
//! SIGTERM or SIGINT: readiness fails, the delay passes while everything is still served, then no
//! new work is taken and running work has the drain's time to finish. A second signal ends at once.
//! SIGUSR1: log files are opened anew under their names; also while it drains.
//! SIGHUP or a changed file: the policy is read and prepared off to the side and put in force with
//! one swap; a policy with faults changes nothing and is said in the log, a metric and `/readyz`. It is
//! tried again every few seconds, for a file that it names may come later.
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::LocalRuntime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Running, Start, StartError, environment, notifier, point_to};
use crate::config::{self, Config, Loaded};
use crate::drain::Stage;
use crate::listen::notify::Notifier;
use crate::reload::Watch;
use crate::snapshot::Snapshot;
use crate::telemetry::logs::Logs;

/// For calls of connections that were accepted just before their socket was left to the next process.
const SETTLE: Duration = Duration::from_millis(500);

/// Between two tries to take up a policy that has faults: a file that it names may come after it, and
/// is known to nobody before.
const AGAIN: Duration = Duration::from_secs(5);

/// Serves until told to end. `started` runs once all sockets listen.
pub fn run(start: Start, started: impl FnOnce(&Running)) -> Result<(), StartError> {
    let runtime = LocalRuntime::new().map_err(StartError::system("no runtime can be made"))?;
    runtime.block_on(async move {
        let files = start.loaded.files.clone();
        let digest = start.loaded.digest.clone();
        // before anything listens, so that no signal is missed
        let watch = Watch::new(files).map_err(StartError::system("files cannot be watched"))?;
        let signals = Signals::new().map_err(StartError::system("signals cannot be watched"))?;
        let running = super::start(start)?;
        started(&running);
        let notifier = notifier();
        notifier.ready("serving");
        let life = Life { running, notifier, digest, fault: None };
        life.live(watch, signals).await;
        Ok(())
    })
}

/// A new policy, `None` where nothing has changed, or what is wrong with it.
type Prepared = Result<Option<(Snapshot, Loaded)>, String>;

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    reopen: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            reopen: signal(SignalKind::user_defined1())?,
        })
    }

    /// Returns when told to end. Log files are opened anew meanwhile, when that is asked for.
    async fn end(&mut self, logs: &Logs) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.reopen.recv() => logs.reopen(),
            }
        }
    }
}

struct Life {
    running: Running,
    notifier: Notifier,
    digest: String,
    /// Why the newest policy is not in force.
    fault: Option<String>,
}

impl Life {
    async fn live(mut self, mut watch: Watch, mut signals: Signals) {
        let (crew, logs) = (Arc::clone(&self.running.crew), self.running.logs.clone());
        let notifier = std::mem::take(&mut self.notifier);
        let watchdog = notifier.watchdog(|| crew.alive());
        let living = async {
            loop {
                tokio::select! {
                    () = signals.end(&logs) => break,
                    cause = watch.next() => {
                        tracing::info!(?cause, "reloading the policy");
                        notifier.reloading();
                        let prepared = self.prepare().await;
                        self.reload(prepared, &mut watch);
                        notifier.ready("serving");
                        // a burst of signals costs no more than a few loads a second
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                    () = tokio::time::sleep(AGAIN), if self.fault.is_some() => {
                        let prepared = self.prepare().await;
                        // the same has been said
                        if prepared.as_ref().err() != self.fault.as_ref() {
                            self.reload(prepared, &mut watch);
                        }
                    }
                }
            }
            notifier.stopping("finishing running calls");
            tokio::select! {
                () = self.drain() => {}
                () = signals.end(&logs) => tracing::warn!("told twice: ending at once"),
            }
        };
        tokio::select! {
            () = living => {}
            () = watchdog => {}
        }
        self.running.stop();
    }

    async fn drain(&self) {
        let server = self.running.live.load().config.server.clone();
        let trigger = &self.running.trigger;
        self.enter(Stage::Leaving);
        tracing::info!(delay = ?server.drain_delay, "shutting down: readiness fails from now on");
        tokio::time::sleep(server.drain_delay).await;
        let entrances = &self.running.entrances;
        // who has just come in on a socket that the next process has, too, makes its call yet
        if entrances.iter().filter(|entrance| entrance.bound.let_go()).count() > 0 {
            tokio::time::sleep(SETTLE).await;
        }
        self.enter(Stage::Draining);
        self.running.entrances.iter().for_each(|entrance| entrance.bound.refuse());
        tracing::info!(running = trigger.held(), "no new calls are taken");
        if tokio::time::timeout(server.drain_timeout, trigger.idle()).await.is_err() {
            tracing::warn!(
                running = trigger.held(),
                "the drain's time is over: cutting what is left"
            );
        }
    }

    fn enter(&self, stage: Stage) {
        self.running.trigger.advance(stage);
        self.running.metrics.drain_stage(stage as u8);
    }

    fn reload(&mut self, prepared: Prepared, watch: &mut Watch) {
        match prepared {
            Ok(None) => self.done(None),
            Ok(Some((snapshot, loaded))) => {
                watch.set_files(loaded.files);
                self.digest = loaded.digest;
                self.running.crew.descriptors.check(snapshot.config.server.max_connections);
                if let Some(offload) = &self.running.offload {
                    offload.follow(&snapshot.config);
                }
                self.running.live.swap(snapshot);
                tracing::info!("the new policy is in force");
                self.done(None);
            }
            Err(fault) => {
                tracing::error!(%fault, "the reload failed: the policy before it stays in force");
                self.done(Some(fault));
            }
        }
    }

    fn done(&mut self, fault: Option<String>) {
        self.running.metrics.reloaded(fault.is_none());
        self.running.shared.health.reloaded(fault.clone());
        self.fault = fault;
    }

    /// A policy that can be put in force; `None` when nothing has changed.
    async fn prepare(&self) -> Prepared {
        let shared = Arc::clone(&self.running.shared);
        let metrics = Arc::clone(&self.running.metrics);
        let entrances = Arc::clone(&self.running.entrances);
        let door = self.running.door.as_ref().and_then(|door| door.tls.clone());
        let (before, digest) = (self.running.live.load(), self.digest.clone());
        let preparing = tokio::task::spawn_blocking(move || {
            let served = entrances.iter().filter_map(|entrance| entrance.tls.as_ref());
            for tls in served.chain(&door) {
                tls.reload().map_err(|error| format!("tls: {error}"))?;
            }
            let loaded = shared.source.load().map_err(|faults| faults.to_string())?;
            if loaded.digest == digest {
                return Ok(None);
            }
            let mut config = loaded.config.clone();
            point_to(&mut config, shared.simulator.as_ref());
            needs_restart(&before.config, &config);
            warn(&config);
            let snapshot = Snapshot::prepare(config, &shared.lasting, &metrics, &environment)
                .map_err(|error| error.to_string())?;
            Ok(Some((snapshot, loaded)))
        });
        preparing.await.unwrap_or_else(|_| Err("the new policy could not be prepared".to_owned()))
    }
}

/// Says what the policy does that may not be meant.
pub fn warn(config: &Config) {
    for warning in config::warnings(config) {
        tracing::warn!("{warning}");
    }
}

/// Says which changes cannot take effect in a running process.
fn needs_restart(before: &Config, after: &Config) {
    let changes = [
        ("listen", before.listen != after.listen),
        ("admin", before.admin != after.admin),
        ("state", before.state != after.state),
        ("telemetry", before.telemetry != after.telemetry),
        ("server.max_headers", before.server.max_headers != after.server.max_headers),
    ];
    for (key, _) in changes.iter().filter(|(_, changed)| *changed) {
        tracing::warn!(key, "this change takes effect after a restart");
    }
}

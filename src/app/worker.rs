//! A worker: one thread, one runtime, its own connections on both sides.
//!
//! All workers accept from the same sockets. One that has more connections than another hands the
//! new one over, so that long-lived connections spread evenly however they arrive.
//!
//! Alternative rejected: one runtime with work stealing. It moves a call between threads in the
//! middle and so needs locks around pools and timers (figures in benches/README.md).
use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use tokio::runtime::LocalRuntime;
use tokio::sync::{mpsc, oneshot};

use super::agents::show_queues;
use super::calls;
use super::checks::Checks;
use super::crew::Crew;
use super::entrance::Entrance;
use super::tasks::{Offload, now_ms};
use crate::drain::{Drain, Stage};
use crate::flight::TICK;
use crate::io::Stream;
use crate::listen::Door;
use crate::listen::connection::Bounds;
use crate::listen::socket::Peer;
use crate::pipeline::Place;
use crate::pipeline::resume::Streams;
use crate::pipeline::shared::Hubs;
use crate::pipeline::worker::Worker;
use crate::snapshot::{Live, Snapshot};
use crate::telemetry::logs::Logs;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::otlp::Settings;
use crate::telemetry::view::CallView;
use crate::upstream::call::warm;

/// How often idle connections are looked at.
const SLOW_TICK: Duration = Duration::from_secs(1);
/// How often what is out of date is taken out of the cache.
const CACHE_SWEEP: Duration = Duration::from_mins(1);
/// How long a quiet worker sleeps. What the last calls used is written down when it wakes, which
/// must be within a second.
const QUIET: Duration = Duration::from_millis(400);
/// The longest that an idle connection is kept where memory is short.
const IDLE_UNDER_PRESSURE: Duration = Duration::from_secs(5);

/// What every worker needs.
pub struct Parts {
    pub live: Arc<Live>,
    pub metrics: Arc<Metrics>,
    pub logs: Logs,
    pub drain: Drain,
    pub entrances: Arc<[Entrance]>,
    pub crew: Arc<Crew>,
    pub hubs: Arc<Hubs>,
    pub streams: Arc<Streams>,
    pub offload: Option<Offload>,
    /// Where spans go; `None`: no call is traced.
    pub traces: Option<Settings>,
}

/// To a worker, from others.
pub enum Message {
    /// A connection that another worker accepted at this entrance.
    Connection { entrance: usize, socket: Socket, peer: Peer },
    /// What is in flight?
    Report(oneshot::Sender<Vec<CallView>>),
    /// Ends the call of that id; whether it was here.
    Cancel(Arc<str>, oneshot::Sender<bool>),
}

/// A connection between two runtimes.
pub enum Socket {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

/// Starts a thread for each member of the crew.
pub fn spawn_all(parts: &Parts) -> io::Result<Vec<JoinHandle<()>>> {
    let mut threads = Vec::new();
    for me in 0..parts.crew.len() {
        let (mailbox, messages) = mpsc::unbounded_channel();
        *parts.crew.members[me].mailbox.lock() = Some(mailbox);
        let seat = Seat {
            me,
            live: Arc::clone(&parts.live),
            metrics: Arc::clone(&parts.metrics),
            logs: parts.logs.clone(),
            drain: parts.drain.clone(),
            entrances: Arc::clone(&parts.entrances),
            crew: Arc::clone(&parts.crew),
            hubs: Arc::clone(&parts.hubs),
            streams: Arc::clone(&parts.streams),
            offload: parts.offload.clone(),
            traces: parts.traces.clone(),
        };
        let thread = std::thread::Builder::new()
            .name(format!("worker-{me}"))
            .spawn(move || seat.run(messages))?;
        threads.push(thread);
    }
    Ok(threads)
}

struct Seat {
    me: usize,
    live: Arc<Live>,
    metrics: Arc<Metrics>,
    logs: Logs,
    drain: Drain,
    entrances: Arc<[Entrance]>,
    crew: Arc<Crew>,
    hubs: Arc<Hubs>,
    streams: Arc<Streams>,
    offload: Option<Offload>,
    traces: Option<Settings>,
}

/// One worker on its own thread.
struct Shift {
    seat: Seat,
    worker: Rc<Worker>,
    door: Rc<Door>,
    /// The budget of memory was overrun a tick ago already.
    overrun: Cell<bool>,
}

/// A connection, as this worker counts it.
struct Counted {
    me: usize,
    crew: Arc<Crew>,
    metrics: Arc<Metrics>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.crew.members[self.me].connections.fetch_sub(1, Relaxed);
        self.metrics.connection_closed();
    }
}

impl Seat {
    fn run(self, messages: mpsc::UnboundedReceiver<Message>) {
        let runtime = match LocalRuntime::new() {
            Ok(runtime) => runtime,
            Err(error) => return tracing::error!(%error, "a worker has no runtime"),
        };
        runtime.block_on(async move {
            let tasks = self.offload.as_ref().map(|offload| Arc::clone(&offload.tasks));
            let worker = Rc::new(Worker::new(
                Arc::clone(&self.live),
                Arc::clone(&self.metrics),
                self.logs.lines(),
                self.drain.clone(),
                self.crew.len(),
                (Arc::clone(&self.hubs), Arc::clone(&self.streams), tasks, self.traces.clone()),
            ));
            let max_headers = worker.snapshot().config.server.max_headers;
            let max_head = worker.snapshot().config.server.max_head;
            let door = Rc::new(Door::new(Rc::clone(&worker), max_headers, max_head));
            let overrun = Cell::new(false);
            Rc::new(Shift { seat: self, worker, door, overrun }).work(messages).await;
        });
    }
}

impl Shift {
    async fn work(self: Rc<Self>, messages: mpsc::UnboundedReceiver<Message>) {
        for entrance in 0..self.seat.entrances.len() {
            tokio::task::spawn_local(Rc::clone(&self).accept(entrance));
        }
        tokio::task::spawn_local(Rc::clone(&self).receive(messages));
        tokio::task::spawn_local(Rc::clone(&self).sweep());
        if let Some(offload) = &self.seat.offload {
            offload.begin(&self.worker, self.seat.me == 0);
        }
        self.seat.drain.reached(Stage::Draining).await;
        self.door.connections.nudge_all();
        self.seat.drain.reached(Stage::Ending).await;
        self.door.connections.nudge_all();
        // the cut connections drop their calls, which write their last lines
        let deadline = Instant::now() + Duration::from_millis(500);
        while !self.door.connections.is_empty() && Instant::now() < deadline {
            tokio::task::yield_now().await;
        }
        self.worker.flush();
    }

    async fn accept(self: Rc<Self>, at: usize) {
        let Seat { me, drain, entrances, crew, metrics, live, .. } = &self.seat;
        let listener = match entrances[at].bound.listener() {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "a socket cannot be listened on"),
        };
        loop {
            let full = crew.is_full(live.peek().config.server.max_connections);
            let accepted = tokio::select! {
                // first: the sockets are closed right after the stage is reached
                biased;
                () = drain.reached(Stage::Draining) => return,
                () = entrances[at].bound.is_let_go() => return,
                // those who come now wait in the kernel's queue
                () = tokio::time::sleep(Duration::from_millis(20)), if full => continue,
                accepted = listener.accept(), if !full => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => return tracing::error!(%error, "a socket stopped listening"),
            };
            metrics.connection_opened();
            let to = crew.least_loaded(*me);
            crew.members[to].connections.fetch_add(1, Relaxed);
            if to == *me {
                self.admit(at, stream, peer, self.place());
            } else if self.hand_over(to, at, stream, peer).is_err() {
                // it went down on the way; the client sees a closed connection
                crew.members[to].connections.fetch_sub(1, Relaxed);
                metrics.connection_closed();
            }
        }
    }

    fn hand_over(&self, to: usize, entrance: usize, stream: Stream, peer: Peer) -> Result<(), ()> {
        let socket = match stream {
            Stream::Tcp(tcp) => tcp.into_std().map(Socket::Tcp),
            Stream::Unix(unix) => unix.into_std().map(Socket::Unix),
            Stream::ServerTls(_) | Stream::ClientTls(_) => return Err(()),
        };
        let socket = socket.map_err(|_| ())?;
        let mailbox = self.seat.crew.members[to].mailbox.lock().clone();
        let message = Message::Connection { entrance, socket, peer };
        mailbox.ok_or(())?.send(message).map_err(|_| ())
    }

    async fn receive(self: Rc<Self>, mut messages: mpsc::UnboundedReceiver<Message>) {
        while let Some(message) = messages.recv().await {
            match message {
                Message::Report(to) => {
                    let list = self.worker.flights.list().into_iter();
                    let report = |seen| calls::seen(seen, &self.worker.limits);
                    // nobody may be waiting any more
                    let _ = to.send(list.map(report).collect());
                }
                Message::Cancel(id, to) => {
                    let _ = to.send(self.worker.flights.cancel(&id));
                }
                Message::Connection { entrance, socket, peer } => {
                    let stream = match socket {
                        Socket::Tcp(tcp) => tokio::net::TcpStream::from_std(tcp).map(Stream::Tcp),
                        Socket::Unix(unix) => {
                            tokio::net::UnixStream::from_std(unix).map(Stream::Unix)
                        }
                    };
                    let place = self.place();
                    if let Ok(stream) = stream {
                        self.admit(entrance, stream, peer, place);
                    }
                }
            }
        }
    }

    /// What a connection that has been counted holds until it ends.
    fn place(&self) -> Place {
        let Seat { me, crew, metrics, .. } = &self.seat;
        Rc::new(Counted { me: *me, crew: Arc::clone(crew), metrics: Arc::clone(metrics) })
    }

    /// Serves a connection.
    fn admit(self: &Rc<Self>, entrance: usize, stream: Stream, peer: Peer, place: Place) {
        let this = Rc::clone(self);
        let hold = self.seat.drain.hold();
        tokio::task::spawn_local(async move {
            let tls = this.seat.entrances[entrance].tls.as_ref();
            let stream = match (tls, stream) {
                (Some(tls), Stream::Tcp(tcp)) => tls.accept(tcp).await,
                (_, stream) => Ok(stream),
            };
            match stream {
                Ok(stream) => Rc::clone(&this.door).serve(stream, peer, place).await,
                Err(error) => {
                    this.seat.metrics.connection_refused("tls");
                    tracing::debug!(%error, "a TLS handshake failed");
                }
            }
            drop(hold);
        });
    }

    /// Moves the clock on, ends what is overdue, and keeps the pools in order.
    async fn sweep(self: Rc<Self>) {
        let worker = &self.worker;
        let mut last_slow = None::<Instant>;
        let mut last_cache = Instant::now();
        let mut known: Option<Arc<Snapshot>> = None;
        let mut checks = Checks::default();
        loop {
            let now = worker.clock.advance();
            worker.flights.sweep(now);
            self.relieve();
            worker.limits.turn();
            if last_slow.is_none_or(|last| last.elapsed() >= SLOW_TICK) {
                last_slow = Some(Instant::now());
                let snapshot = worker.snapshot();
                self.beat();
                self.door.connections.sweep(now, &self.bounds(&snapshot));
                worker.pools.sweep();
                if let Some(tasks) = worker.tasks.as_ref().filter(|_| self.seat.me == 0) {
                    tasks.sweep(now_ms());
                }
                if self.seat.me == 0 {
                    checks.follow(&snapshot, &worker.pools, &worker.metrics);
                }
                self.follow(&mut known, &snapshot);
            }
            if self.seat.me == 0 && last_cache.elapsed() >= CACHE_SWEEP {
                last_cache = Instant::now();
                let cache = Arc::clone(&worker.cache);
                tokio::task::spawn_blocking(move || cache.sweep(SystemTime::now()));
            }
            if worker.limits.sweep_if_due() {
                show_queues(&worker.limits, &worker.snapshot(), &worker.metrics);
            }
            if worker.flights.is_empty() {
                worker.flush();
                tokio::select! {
                    () = worker.flights.sleep() => {}
                    () = tokio::time::sleep(QUIET) => continue,
                }
            }
            worker.flush_if_due(now_ms());
            tokio::time::sleep(TICK).await;
        }
    }

    /// Where the budget of memory is overrun, the call that holds most of all workers' calls is cut;
    /// one a tick, until there is room again.
    fn relieve(&self) {
        let Self { seat, worker, .. } = self;
        let mine = &seat.crew.members[seat.me].largest;
        if !worker.pressure.is_overrun() {
            if self.overrun.replace(false) {
                mine.store(0, Relaxed);
            }
            return;
        }
        mine.store(worker.flights.largest(), Relaxed);
        // the others say theirs within a tick
        if self.overrun.replace(true) && seat.crew.holds_most(seat.me) {
            let bytes = worker.flights.cut_largest();
            mine.store(worker.flights.largest(), Relaxed);
            worker.metrics.overload_cut();
            tracing::warn!(bytes, "no memory is left: the call that held most is cut");
        }
    }

    fn bounds(&self, snapshot: &Snapshot) -> Bounds {
        let server = &snapshot.config.server;
        let hurried = !self.worker.may_repeat();
        let idle = server.idle_timeout;
        let idle = if hurried { idle.min(IDLE_UNDER_PRESSURE) } else { idle };
        Bounds { head: server.head_timeout, idle, write: server.write_timeout }
    }

    fn beat(&self) {
        let now = self.seat.crew.begun.elapsed().as_millis() as u64;
        self.seat.crew.members[self.seat.me].last_beat.store(now, Relaxed);
    }

    /// Makes the pools follow the policy, and opens what it wants warm.
    fn follow(&self, known: &mut Option<Arc<Snapshot>>, snapshot: &Arc<Snapshot>) {
        if !known.as_ref().is_some_and(|known| Arc::ptr_eq(known, snapshot)) {
            let upstreams = snapshot.upstreams.iter().map(AsRef::as_ref);
            self.worker.pools.retain(upstreams);
            *known = Some(Arc::clone(snapshot));
        }
        for upstream in snapshot.upstreams.iter().filter(|upstream| upstream.config.pool.warm > 0) {
            if self.worker.pools.wants_warming(upstream) {
                let pools = Rc::clone(&self.worker.pools);
                tokio::task::spawn_local(warm(pools, Arc::clone(upstream)));
            }
        }
    }
}

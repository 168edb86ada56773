//! The threads: each has a runtime of its own, a listener of its own on the shared port, and all
//! its connections to itself. What they share is counters, the memory of
//! `times=`, and what is left of the rate limits.
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::watch;

use super::Seen;
use super::connection::Connection;
use super::faults::Fault;
use super::quota::Quotas;
use super::script::Script;
use super::text::mix;

/// One thread's counters, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Counters {
    pub accepted: AtomicU64,
    pub closed: AtomicU64,
    pub requests: AtomicU64,
    pub streams: AtomicU64,
    pub faults: AtomicU64,
    pub cancelled: AtomicU64,
    pub limited: AtomicU64,
    pub bytes_in: AtomicU64,
    pub bytes_out: AtomicU64,
}

/// What all threads know.
#[derive(Debug)]
pub(super) struct Shared {
    base: Script,
    counters: Box<[Counters]>,
    rolls: AtomicU64,
    times: Mutex<HashMap<u64, u32>>,
    quotas: Arc<Quotas>,
}

impl Shared {
    pub fn new(base: Script, threads: usize) -> Self {
        Self {
            base,
            counters: std::iter::repeat_with(Counters::default).take(threads).collect(),
            rolls: AtomicU64::new(0),
            times: Mutex::new(HashMap::new()),
            quotas: Arc::default(),
        }
    }

    pub fn seen(&self) -> Seen {
        let sum = |of: fn(&Counters) -> &AtomicU64| -> u64 {
            self.counters.iter().map(|counters| of(counters).load(Relaxed)).sum()
        };
        let (closed, accepted) = (sum(|c| &c.closed), sum(|c| &c.accepted));
        Seen {
            requests: sum(|c| &c.requests),
            streams: sum(|c| &c.streams),
            faults: sum(|c| &c.faults),
            cancelled: sum(|c| &c.cancelled),
            limited: sum(|c| &c.limited),
            accepted,
            open: accepted.saturating_sub(closed),
            bytes_in: sum(|c| &c.bytes_in),
            bytes_out: sum(|c| &c.bytes_out),
        }
    }
}

/// One thread's view of it all.
#[derive(Debug)]
pub(super) struct Worker {
    shared: Arc<Shared>,
    index: usize,
}

impl Worker {
    /// A script as the flags make it.
    pub fn script(&self) -> Script {
        self.shared.base
    }

    pub fn quotas(&self) -> &Arc<Quotas> {
        &self.shared.quotas
    }

    pub fn counters(&self) -> &Counters {
        &self.shared.counters[self.index]
    }

    pub fn seen(&self) -> Seen {
        self.shared.seen()
    }

    /// The fault that a request meets: its script's, unless chance or `times=` spare it.
    /// `key` tells equal requests.
    pub fn meets(&self, script: &Script, key: impl FnOnce() -> u64) -> Option<Fault> {
        /// Beyond this many different requests `times=` forgets.
        const REMEMBERED: usize = 65_536;
        let fault = script.fault?;
        if script.fault_rate < 1.0 {
            let roll = mix(script.seed ^ self.shared.rolls.fetch_add(1, Relaxed));
            if roll as f64 / u64::MAX as f64 >= script.fault_rate {
                return None;
            }
        }
        if let Some(times) = script.times {
            let mut met = self.shared.times.lock();
            if met.len() >= REMEMBERED {
                met.clear();
            }
            let count = met.entry(key()).or_default();
            if *count >= times {
                return None;
            }
            *count += 1;
        }
        self.counters().faults.fetch_add(1, Relaxed);
        Some(fault)
    }
}

/// Binds one listener a thread. With several, the kernel spreads connections over them.
pub(super) fn bind(addr: SocketAddr, threads: usize) -> io::Result<Vec<TcpListener>> {
    let mut addr = addr;
    let mut listeners = Vec::with_capacity(threads);
    for _ in 0..threads {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        // not for one alone: a second process could take half of its connections unnoticed
        socket.set_reuse_port(threads > 1)?;
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        socket.listen(4096)?;
        let listener = TcpListener::from(socket);
        addr = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Serves until `stop`'s other end is dropped; then every connection ends.
pub(super) fn run(
    listener: TcpListener,
    shared: Arc<Shared>,
    index: usize,
    mut stop: watch::Receiver<()>,
) -> io::Result<()> {
    let runtime = tokio::runtime::LocalRuntime::new()?;
    let worker = Rc::new(Worker { shared, index });
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        tokio::select! {
            () = accept(&listener, &worker) => {}
            _ = stop.changed() => {}
        }
        Ok(())
    })
}

async fn accept(listener: &tokio::net::TcpListener, worker: &Rc<Worker>) {
    loop {
        match listener.accept().await {
            Ok((io, _)) => {
                // a connection that is already gone shows itself on its first read
                _ = io.set_nodelay(true);
                worker.counters().accepted.fetch_add(1, Relaxed);
                tokio::task::spawn_local(Connection::new(io, Rc::clone(worker)).serve());
            }
            // out of descriptors, most likely: others must end first
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

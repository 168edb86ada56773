//! Connections one worker keeps to backends: HTTP/1.1 ones on a stack, the warmest on top, and
//! shared HTTP/2 ones beside it.
//!
//! Bounded (`max_idle`, over all workers), warmed, idle-timed, and retired by age give or take a
//! fifth, so that a change in DNS is followed without every connection ending at once. How many are
//! open at once is bounded by the upstream's bulkhead: HTTP/1.1 has one call a connection. A worker
//! has pools of its own; nothing here is shared between threads but the gauges.
//!
//! Alternatives rejected, by measurement (see benches/README.md): hyper-util's client, with one lock
//! around one pool for all threads and a task for each connection.
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Waker};
use std::time::Duration;

use super::connect::{ConnectError, Connected};
use super::{Address, PoolKey, Upstream, h1, h2};
use crate::clock::{Clock, Tick};
use crate::config::Http2;
use crate::telemetry::metrics::PoolGauges;

/// All pools of one worker.
pub struct Pools {
    by_key: RefCell<HashMap<PoolKey, Rc<Pool>>>,
    pub clock: Arc<Clock>,
    workers: usize,
}

/// Connections to one address.
pub struct Pool {
    idle: RefCell<Vec<Idle>>,
    shared: RefCell<Vec<Rc<h2::Shared>>>,
    /// The last connection made spoke HTTP/2, or the next one must: new calls wait for one dial instead of each making one.
    speaks_h2: Cell<bool>,
    dialling: tokio::sync::Mutex<()>,
    /// How many dials have failed under that lock, and why the last did: all that waited share its end.
    failed: Cell<u64>,
    failure: RefCell<Option<Arc<ConnectError>>>,
    pub gauges: Arc<PoolGauges>,
    clock: Arc<Clock>,
    limits: Cell<Limits>,
}

#[derive(Clone, Copy)]
struct Limits {
    idle_timeout: Duration,
    max_age: Duration,
    /// This worker's part.
    max_idle: usize,
    warm: usize,
}

struct Idle {
    connection: Box<h1::Connection>,
    born: Tick,
    max_age: Duration,
    since: Tick,
}

impl Pools {
    pub fn new(clock: Arc<Clock>, workers: usize) -> Self {
        Self { by_key: RefCell::default(), clock, workers: workers.max(1) }
    }

    pub fn pool(&self, upstream: &Upstream, address: &Address) -> Rc<Pool> {
        if let Some(pool) = self.by_key.borrow().get(&address.key) {
            return Rc::clone(pool);
        }
        let pool = Rc::new(Pool {
            idle: RefCell::default(),
            shared: RefCell::default(),
            speaks_h2: Cell::new(upstream.config.http2 == Http2::Always),
            dialling: tokio::sync::Mutex::new(()),
            failed: Cell::new(0),
            failure: RefCell::default(),
            gauges: Arc::clone(&upstream.shared.gauges),
            clock: Arc::clone(&self.clock),
            limits: Cell::new(Limits::of(upstream, self.workers)),
        });
        self.by_key.borrow_mut().insert(address.key, Rc::clone(&pool));
        pool
    }

    /// Follows a new policy: limits change, pools that nobody names any more are closed.
    pub fn retain<'u>(&self, upstreams: impl Iterator<Item = &'u Upstream>) {
        let mut named = HashMap::new();
        for upstream in upstreams {
            for address in &upstream.addresses {
                named.insert(address.key, Limits::of(upstream, self.workers));
            }
        }
        self.by_key.borrow_mut().retain(|key, pool| {
            let limits = named.get(key);
            match limits {
                Some(limits) => pool.limits.set(*limits),
                None => pool.close_idle(),
            }
            limits.is_some()
        });
    }

    /// Closes what has been idle too long or is too old.
    pub fn sweep(&self) {
        for pool in self.by_key.borrow().values() {
            pool.sweep();
        }
    }

    /// Whether any address has fewer connections than it should have warm.
    pub fn wants_warming(&self, upstream: &Upstream) -> bool {
        upstream.addresses.iter().any(|address| self.missing_warm(upstream, address) > 0)
    }

    /// How many connections each worker's pool should have and has not.
    pub fn missing_warm(&self, upstream: &Upstream, address: &Address) -> usize {
        let pool = self.pool(upstream, address);
        let shared = pool.shared.borrow().iter().filter(|shared| shared.has_room()).count();
        if shared > 0 {
            return 0;
        }
        pool.limits.get().warm.saturating_sub(pool.idle.borrow().len())
    }
}

impl Limits {
    fn of(upstream: &Upstream, workers: usize) -> Self {
        let pool = &upstream.config.pool;
        Self {
            idle_timeout: pool.idle_timeout,
            max_age: pool.max_age,
            max_idle: pool.max_idle.div_ceil(workers),
            warm: pool.warm.div_ceil(workers),
        }
    }
}

/// What a call gets: a connection of its own, or a part of a shared one.
pub enum Checkout {
    H1(Pooled),
    H2(h2::Share),
}

impl Pool {
    /// An idle connection that is still good, or a part of a shared one.
    pub fn take(self: &Rc<Self>) -> Option<Checkout> {
        let shared = self.shared.borrow().iter().find(|shared| shared.has_room()).cloned();
        if let Some(shared) = shared {
            self.gauges.reused.fetch_add(1, Relaxed);
            return Some(Checkout::H2(shared.enter()));
        }
        let now = self.clock.now();
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            let mut idle = self.idle.borrow_mut().pop()?;
            self.gauges.idle.fetch_sub(1, Relaxed);
            let too_old = now.since(idle.born) > idle.max_age;
            if too_old || idle.connection.is_stale(&mut cx) {
                self.gauges.retired.add([if too_old { "age" } else { "closed" }]);
                self.gauges.open.fetch_sub(1, Relaxed);
                continue;
            }
            self.gauges.reused.fetch_add(1, Relaxed);
            return Some(Checkout::H1(Pooled {
                connection: Some(idle.connection),
                pool: Rc::clone(self),
                born: idle.born,
                max_age: idle.max_age,
                reused: true,
            }));
        }
    }

    /// Opens a connection. Where the backend speaks HTTP/2, one dial serves all who wait, with either
    /// outcome: each with a dial of its own, the last would wait as often as there are calls.
    pub async fn dial(
        self: &Rc<Self>,
        upstream: &Upstream,
        address: &Address,
    ) -> Result<Checkout, DialError> {
        let (connector, origin) = (&upstream.connector, &address.origin);
        let mut turn = None;
        if self.speaks_h2.get() {
            let failed = self.failed.get();
            turn = Some(connector.turn(origin, self.dialling.lock()).await.map_err(Arc::new)?);
            if self.speaks_h2.get()
                && let Some(shared) = self.take()
            {
                return Ok(shared);
            }
            if let Some(failure) = self.failure_since(failed) {
                return Err(failure.into());
            }
        }
        let connected = connector.connect(origin).await.map_err(|error| {
            self.gauges.dial_failed.add([error.reason()]);
            let error = Arc::new(error);
            if turn.is_some() {
                self.failed.set(self.failed.get() + 1);
                *self.failure.borrow_mut() = Some(Arc::clone(&error));
            }
            error
        })?;
        self.gauges.dialled.fetch_add(1, Relaxed);
        self.adopt(connected).await
    }

    /// Why a dial failed that ended since so many had.
    fn failure_since(&self, failed: u64) -> Option<Arc<ConnectError>> {
        self.failure.borrow().clone().filter(|_| self.failed.get() != failed)
    }

    /// Opens a connection that is certain to speak HTTP/1.1, for an upgrade.
    pub async fn dial_h1(
        self: &Rc<Self>,
        upstream: &Upstream,
        address: &Address,
    ) -> Result<Pooled, DialError> {
        let connected = upstream.h1_connector.connect(&address.origin).await.map_err(Arc::new)?;
        self.gauges.dialled.fetch_add(1, Relaxed);
        self.gauges.open.fetch_add(1, Relaxed);
        Ok(self.own(connected))
    }

    fn own(self: &Rc<Self>, connected: Connected) -> Pooled {
        Pooled {
            connection: Some(Box::new(h1::Connection::new(connected.stream))),
            pool: Rc::clone(self),
            born: self.clock.now(),
            max_age: jittered(self.limits.get().max_age),
            reused: false,
        }
    }

    async fn adopt(self: &Rc<Self>, connected: Connected) -> Result<Checkout, DialError> {
        self.gauges.open.fetch_add(1, Relaxed);
        let open = OpenGuard(Arc::clone(&self.gauges));
        self.speaks_h2.set(connected.http2);
        if connected.http2 {
            let shared =
                h2::Shared::open(connected.stream, self.clock.now(), move || drop(open)).await?;
            self.shared.borrow_mut().push(Rc::clone(&shared));
            return Ok(Checkout::H2(shared.enter()));
        }
        // from here on `Pooled` keeps the count
        std::mem::forget(open);
        Ok(Checkout::H1(self.own(connected)))
    }

    fn put(&self, idle: Idle) {
        let limits = self.limits.get();
        let mut stack = self.idle.borrow_mut();
        if stack.len() >= limits.max_idle || idle.since.since(idle.born) > idle.max_age {
            self.gauges.retired.add(["surplus"]);
            self.gauges.open.fetch_sub(1, Relaxed);
            return;
        }
        self.gauges.idle.fetch_add(1, Relaxed);
        stack.push(idle);
    }

    fn sweep(&self) {
        let now = self.clock.now();
        let limits = self.limits.get();
        let mut cx = Context::from_waker(Waker::noop());
        let mut closed = 0_i64;
        self.idle.borrow_mut().retain_mut(|idle| {
            let why = if now.since(idle.since) > limits.idle_timeout {
                "idle"
            } else if now.since(idle.born) > idle.max_age {
                "age"
            } else if idle.connection.is_stale(&mut cx) {
                "closed"
            } else {
                return true;
            };
            self.gauges.retired.add([why]);
            closed += 1;
            false
        });
        self.gauges.idle.fetch_sub(closed, Relaxed);
        self.gauges.open.fetch_sub(closed, Relaxed);
        self.shared.borrow_mut().retain(|shared| {
            if !shared.is_idle() {
                shared.idle_since.set(now);
            }
            if now.since(shared.born) > limits.max_age {
                shared.retired.set(true);
            }
            let spent = shared.is_idle()
                && (shared.retired.get()
                    || now.since(shared.idle_since.get()) > limits.idle_timeout);
            !shared.is_closed() && !spent
        });
    }

    fn close_idle(&self) {
        let closed = std::mem::take(&mut *self.idle.borrow_mut()).len();
        let closed = i64::try_from(closed).unwrap_or(0);
        self.gauges.idle.fetch_sub(closed, Relaxed);
        self.gauges.open.fetch_sub(closed, Relaxed);
        self.shared.borrow_mut().clear();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.close_idle();
    }
}

struct OpenGuard(Arc<PoolGauges>);

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

/// `age`, give or take a fifth.
fn jittered(age: Duration) -> Duration {
    let draw = RandomState::new().hash_one(0_u8) % 401;
    age.mul_f64(0.8 + draw as f64 / 1000.0)
}

/// Why a connection could not be had.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error(transparent)]
    Connect(#[from] Arc<ConnectError>),
    #[error("the HTTP/2 handshake failed")]
    Handshake(#[from] hyper::Error),
}

/// A connection that a call holds. Given back by [`Pooled::finish`]; dropped before that, it is
/// closed at once, which is how a backend learns that the caller has gone.
pub struct Pooled {
    /// Boxed: it is handed from step to step of a call, and each would hold room for it.
    connection: Option<Box<h1::Connection>>,
    pool: Rc<Pool>,
    born: Tick,
    max_age: Duration,
    pub reused: bool,
}

impl Pooled {
    pub fn connection(&mut self) -> Option<&mut h1::Connection> {
        self.connection.as_deref_mut()
    }

    /// Ends the call: the connection goes back if it can carry another.
    pub fn finish(mut self) {
        let Some(connection) = self.connection.take_if(|connection| connection.is_reusable())
        else {
            return;
        };
        let since = self.pool.clock.now();
        self.pool.put(Idle { connection, born: self.born, max_age: self.max_age, since });
    }

    /// After 101: it is no longer the pool's.
    pub fn into_connection(mut self) -> Option<Box<h1::Connection>> {
        let connection = self.connection.take();
        self.pool.gauges.open.fetch_sub(1, Relaxed);
        connection
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        if self.connection.take().is_some() {
            self.pool.gauges.open.fetch_sub(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;

//! What is known of each open connection, and the sweep that ends the ones that have stood too long.
//!
//! A connection is busy (calls are going on), inside a head, or idle; each has its own bound, and a
//! client that leaves our bytes unread has another. Reads and writes store a coarse tick; the sweep
//! compares once a second, so no connection has a timer of its own.
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::server::conn::auto::UpgradeableConnection;
use parking_lot::Mutex;
use slab::Slab;

use super::head::{HeadFacts, HeadTrail};
use super::streams::Streams;
use crate::clock::{Clock, Tick};
use crate::drain::{Drain, Stage};
use crate::flight::TICK;

/// How a connection is to end.
const GO_ON: u8 = 0;
const CUT: u8 = 2;

/// Shared by a connection's I/O, its calls and the sweep; all on one thread, but hyper's upgrades
/// ask for `Send`.
pub struct Watch {
    clock: Arc<Clock>,
    trail: Mutex<HeadTrail>,
    calls: AtomicU32,
    /// When the connection became idle, or the head it is in began.
    since: AtomicU32,
    stalled: AtomicBool,
    stalled_since: AtomicU32,
    end: AtomicU8,
    waker: Mutex<Option<Waker>>,
}

impl Watch {
    pub fn new(clock: Arc<Clock>) -> Self {
        // a worker without calls moves its clock on once a second only
        let now = clock.advance().raw();
        Self {
            clock,
            trail: Mutex::new(HeadTrail::new()),
            calls: AtomicU32::new(0),
            since: AtomicU32::new(now),
            stalled: AtomicBool::new(false),
            stalled_since: AtomicU32::new(now),
            end: AtomicU8::new(GO_ON),
            waker: Mutex::new(None),
        }
    }

    /// Every byte that is read passes here, in order.
    pub fn read(&self, bytes: &[u8]) {
        let mut trail = self.trail.lock();
        let was_inside = trail.is_inside_head();
        trail.feed(bytes);
        // seldom: a head mostly comes whole
        if !was_inside && trail.is_inside_head() {
            self.since.store(self.clock.advance().raw(), Relaxed);
        }
    }

    /// A write could go on, or had to wait.
    pub fn wrote(&self, waits: bool) {
        if waits && !self.stalled.load(Relaxed) {
            self.stalled_since.store(self.clock.now().raw(), Relaxed);
        }
        if waits != self.stalled.load(Relaxed) {
            self.stalled.store(waits, Relaxed);
        }
    }

    pub fn trail<T>(&self, look: impl FnOnce(&HeadTrail) -> T) -> T {
        look(&self.trail.lock())
    }

    /// The facts of the request that hyper hands over now.
    pub fn take_facts(&self) -> HeadFacts {
        self.trail.lock().take()
    }

    /// A call begins; it ends when the guard is dropped.
    pub fn begin_call(self: &Arc<Self>) -> Active {
        self.calls.fetch_add(1, Relaxed);
        Active(Arc::clone(self))
    }

    #[cfg(test)]
    pub fn is_stalled(&self) -> bool {
        self.stalled.load(Relaxed)
    }

    pub fn is_busy(&self) -> bool {
        self.calls.load(Relaxed) > 0
    }

    fn overdue(&self, now: Tick, bounds: &Bounds) -> bool {
        let age = |tick: &AtomicU32| now.since(Tick::from_raw(tick.load(Relaxed)));
        // ticks of calls may be one old: late rather than early
        if self.stalled.load(Relaxed)
            && age(&self.stalled_since) > bounds.write.saturating_add(TICK)
        {
            return true;
        }
        if self.is_busy() {
            return false;
        }
        let inside = self.trail.lock().is_inside_head();
        age(&self.since) > if inside { bounds.head } else { bounds.idle.saturating_add(TICK) }
    }

    fn nudge(&self) {
        if let Some(waker) = self.waker.lock().as_ref() {
            waker.wake_by_ref();
        }
    }
}

/// A call that is going on.
pub struct Active(Arc<Watch>);

impl Active {
    pub fn now(&self) -> Tick {
        self.0.clock.now()
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        if self.0.calls.fetch_sub(1, Relaxed) == 1 {
            self.0.since.store(self.0.clock.now().raw(), Relaxed);
        }
    }
}

/// How long a connection may stand.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub head: Duration,
    pub idle: Duration,
    pub write: Duration,
}

/// The open connections of one worker.
#[derive(Default)]
pub struct Connections {
    all: RefCell<Slab<Arc<Watch>>>,
    pub(super) streams: Rc<Streams>,
}

impl Connections {
    pub fn enter(self: &Rc<Self>, watch: &Arc<Watch>) -> Listed {
        let key = self.all.borrow_mut().insert(Arc::clone(watch));
        Listed { key, of: Rc::clone(self) }
    }

    pub fn len(&self) -> usize {
        self.all.borrow().len()
    }

    pub fn is_empty(&self) -> bool {
        self.all.borrow().is_empty()
    }

    /// Cuts what is overdue.
    pub fn sweep(&self, now: Tick, bounds: &Bounds) {
        self.streams.sweep(now, bounds.write);
        for (_, watch) in self.all.borrow().iter() {
            if watch.overdue(now, bounds) {
                watch.end.store(CUT, Relaxed);
                watch.nudge();
            }
        }
    }

    /// Lets every connection look at the drain stage.
    pub fn nudge_all(&self) {
        for (_, watch) in self.all.borrow().iter() {
            watch.nudge();
        }
    }
}

pub struct Listed {
    key: usize,
    of: Rc<Connections>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.of.all.borrow_mut().remove(self.key);
    }
}

/// A connection under the sweep and the drain: when draining it is told to end after the calls it
/// has; when its time is up, or at the very end, it is dropped.
pub struct Supervised<'c, C> {
    watch: &'c Watch,
    drain: &'c Drain,
    connection: Pin<&'c mut C>,
    told: bool,
    /// The same as the watch has, to be looked at without its lock.
    waker: Option<Waker>,
}

impl<'c, C> Supervised<'c, C> {
    pub fn new(watch: &'c Watch, drain: &'c Drain, connection: Pin<&'c mut C>) -> Self {
        Self { watch, drain, connection, told: false, waker: None }
    }
}

impl<I, S, E, B> Future for Supervised<'_, UpgradeableConnection<'_, I, S, E>>
where
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>>,
    S::Future: 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: http_body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    E: hyper_util::server::conn::auto::HttpServerConnExec<S::Future, B>,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
            self.watch.waker.lock().clone_from(&self.waker);
        }
        let stage = self.drain.stage();
        if self.watch.end.load(Relaxed) == CUT || stage >= Stage::Ending {
            return Poll::Ready(());
        }
        if stage >= Stage::Draining && !self.told {
            self.told = true;
            self.connection.as_mut().graceful_shutdown();
        }
        self.connection.as_mut().poll(cx).map(|ended| {
            if let Err(error) = ended {
                tracing::trace!(error = %error, "a connection ended with an error");
            }
        })
    }
}

#[cfg(test)]
mod tests;

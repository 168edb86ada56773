//! Calls in flight on one worker, and the deadlines they are under.
//!
//! Every call has one [`Flight`]: the stage it is in, when it last moved, and what it is. A sweep
//! every [`TICK`] compares and wakes the call whose time is up, so that the request path arms no
//! timer at all: progress is a store into a cell. Deadlines are late by at most two ticks, never
//! early, even when the thread was held up: a tick stored since the last sweep may be as old as that,
//! so the sweep takes it for one of now. Nothing here is shared between threads.
//!
//! Alternative rejected: one tokio timer per call, re-armed at each stage; it costs an entry in the
//! timer wheel and its lock for each of them.
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use slab::Slab;
use tokio::sync::Notify;

use crate::clock::{Clock, Tick};
use crate::pressure::{CALL, Pressure};
use crate::request_id::RequestId;

/// How often deadlines are looked at.
pub const TICK: Duration = Duration::from_millis(100);
/// The finest step of a tick.
const MOMENT: Duration = Duration::from_millis(1);

/// Where a call is; each stage has its own longest silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The request's body is arriving.
    Reading,
    /// Standing in the fair queue.
    Queued,
    /// A connection is being made; the connector has its own timer.
    Connecting,
    /// The request is sent, nothing has come back.
    FirstByte,
    /// The answer is arriving.
    Answering,
}

impl Stage {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reading => "reading",
            Self::Queued => "queued",
            Self::Connecting => "connecting",
            Self::FirstByte => "first_byte",
            Self::Answering => "answering",
        }
    }
}

/// Why the sweep ended a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expired {
    /// The client sent no more of its request.
    Reading,
    Queued,
    FirstByte,
    Idle,
    Total,
    /// It held most when there was no memory left.
    Overrun,
}

impl Expired {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reading => "request_body",
            Self::Queued => "queue",
            Self::FirstByte => "first_byte",
            Self::Idle => "idle",
            Self::Total => "total",
            Self::Overrun => "overrun",
        }
    }
}

/// The longest silence allowed in each stage.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub reading: Duration,
    pub queued: Duration,
    pub first_byte: Duration,
    pub idle: Duration,
    /// Over the whole call; a stream that is sending is never cut by it.
    pub total: Duration,
}

/// One call in flight.
#[derive(Debug)]
pub struct Flight {
    pub started: Instant,
    limits: Cell<Limits>,
    stage: Cell<Stage>,
    begun: Cell<Tick>,
    moved: Cell<Tick>,
    streaming: Cell<bool>,
    fate: Cell<Option<Expired>>,
    waker: RefCell<Option<Waker>>,
    bytes: Cell<u64>,
    /// Bytes of the request's body, held until the answer begins.
    body: Cell<u64>,
    /// Bytes of the answer that are held.
    log: Cell<u64>,
    about: RefCell<About>,
}

/// What `/state` shows of a call.
#[derive(Debug, Clone)]
pub struct About {
    pub request_id: RequestId,
    pub upstream: Option<Arc<str>>,
    pub operation: &'static str,
    pub model: Option<Rc<str>>,
    pub agent: Option<Arc<str>>,
    /// Its number in the queue, while it waits there.
    pub in_line: Option<usize>,
}

impl About {
    pub fn new(request_id: RequestId, operation: &'static str) -> Self {
        Self { request_id, upstream: None, operation, model: None, agent: None, in_line: None }
    }
}

impl Flight {
    pub fn enter(&self, stage: Stage, now: Tick) {
        self.stage.set(stage);
        self.moved.set(now);
        // it got on for all that
        if self.fate.get() == Some(Expired::Queued) {
            self.fate.set(None);
        }
    }

    /// Bytes of the answer went by.
    pub fn moved(&self, bytes: usize, now: Tick) {
        self.moved.set(now);
        // it was the client that had stood still
        if self.fate.get() == Some(Expired::Idle) {
            self.fate.set(None);
        }
        self.bytes.set(self.bytes.get() + bytes as u64);
    }

    /// So many bytes of the request's body are held.
    pub fn holds_body(&self, bytes: u64) {
        self.body.set(bytes);
    }

    /// So many bytes of its answer are held.
    pub fn holds_answer(&self, bytes: u64) {
        self.log.set(bytes);
    }

    /// What would be free without it, about. In bytes.
    fn held(&self) -> u64 {
        let body = if self.stage.get() == Stage::Answering { 0 } else { self.body.get() };
        body + self.log.get()
    }

    pub fn set_limits(&self, limits: Limits) {
        self.limits.set(limits);
    }

    /// The call stands in line, for so long at most.
    pub fn queue(&self, longest: Duration, now: Tick) {
        self.limits.set(Limits { queued: longest, ..self.limits.get() });
        self.enter(Stage::Queued, now);
    }

    /// The answer is a stream: from its first byte on, only silence ends it.
    pub fn set_streaming(&self) {
        self.streaming.set(true);
    }

    pub fn describe(&self, edit: impl FnOnce(&mut About)) {
        edit(&mut self.about.borrow_mut());
    }

    /// Whether the sweep has ended this call; otherwise it will wake this task when it does.
    pub fn poll_expired(&self, cx: &mut Context<'_>) -> Option<Expired> {
        if let Some(fate) = self.fate.get() {
            return Some(fate);
        }
        let mut waker = self.waker.borrow_mut();
        match waker.as_mut() {
            Some(known) if known.will_wake(cx.waker()) => {}
            Some(known) => known.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
        None
    }

    /// Whether it was cut for what it holds; otherwise this task is woken when it is. For who waits
    /// for readers, whom no deadline of a backend concerns.
    pub fn poll_cut(&self, cx: &mut Context<'_>) -> Option<Expired> {
        let fate = self.poll_expired(cx);
        if fate.is_some() && !self.was_cut() {
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            return None;
        }
        fate
    }

    pub fn was_cut(&self) -> bool {
        self.fate.get() == Some(Expired::Overrun)
    }

    /// Ends it, whatever was to become of it.
    fn cut(&self, why: Expired) {
        self.fate.set(Some(why));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Runs a step of the call under its deadlines.
    pub async fn guard<F: Future>(&self, step: F) -> Result<F::Output, Expired> {
        let mut step = pin!(step);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(done) = step.as_mut().poll(cx) {
                return Poll::Ready(Ok(done));
            }
            match self.poll_expired(cx) {
                Some(fate) => Poll::Ready(Err(fate)),
                None => Poll::Pending,
            }
        })
        .await
    }

    /// What happened since the last sweep, `gap` ago, happened a moment before this one at the latest.
    fn settle(&self, now: Tick, gap: Duration) {
        for tick in [&self.begun, &self.moved] {
            if now.since(tick.get()) <= gap {
                tick.set(now.before(MOMENT));
            }
        }
    }

    fn overdue(&self, now: Tick) -> Option<Expired> {
        let limits = self.limits.get();
        let silent = now.since(self.moved.get());
        let (bound, why) = match self.stage.get() {
            Stage::Reading => (limits.reading, Expired::Reading),
            Stage::Queued => (limits.queued, Expired::Queued),
            Stage::Connecting => (Duration::MAX, Expired::Total),
            Stage::FirstByte => (limits.first_byte, Expired::FirstByte),
            Stage::Answering => (limits.idle, Expired::Idle),
        };
        if silent > bound.saturating_add(MOMENT) {
            return Some(why);
        }
        let sending = self.streaming.get() && self.stage.get() == Stage::Answering;
        (!sending && now.since(self.begun.get()) > limits.total.saturating_add(MOMENT))
            .then_some(Expired::Total)
    }
}

/// What `/state` shows of one call.
#[derive(Debug, Clone)]
pub struct Seen {
    pub about: About,
    pub stage: Stage,
    pub age: Duration,
    pub bytes: u64,
}

/// All calls in flight of one worker.
#[derive(Debug, Default)]
pub struct Flights {
    all: RefCell<Slab<Rc<Flight>>>,
    /// The sweep has stopped for want of calls; the next call wakes it.
    asleep: Cell<bool>,
    /// When the sweep came by last.
    swept: Cell<Tick>,
    wake: Notify,
    pressure: Arc<Pressure>,
}

impl Flights {
    /// Each call counts there.
    pub fn new(pressure: Arc<Pressure>) -> Self {
        Self { pressure, ..Self::default() }
    }

    /// A new call, in stage [`Stage::Reading`].
    pub fn begin(self: &Rc<Self>, clock: &Clock, limits: Limits, about: About) -> Ticket {
        if self.asleep.replace(false) {
            clock.advance();
            self.wake.notify_one();
        }
        let now = clock.now();
        let flight = Rc::new(Flight {
            started: Instant::now(),
            limits: Cell::new(limits),
            stage: Cell::new(Stage::Reading),
            begun: Cell::new(now),
            moved: Cell::new(now),
            streaming: Cell::new(false),
            fate: Cell::new(None),
            waker: RefCell::new(None),
            bytes: Cell::new(0),
            body: Cell::new(0),
            log: Cell::new(0),
            about: RefCell::new(about),
        });
        let key = self.all.borrow_mut().insert(Rc::clone(&flight));
        self.pressure.add(CALL);
        Ticket { flight, key, flights: Rc::clone(self) }
    }

    /// Sleeps until a call begins; there must be none now.
    pub async fn sleep(&self) {
        self.asleep.set(true);
        self.wake.notified().await;
    }

    pub fn is_empty(&self) -> bool {
        self.all.borrow().is_empty()
    }

    /// Ends what is overdue.
    pub fn sweep(&self, now: Tick) {
        let gap = now.since(self.swept.replace(now));
        for (_, flight) in self.all.borrow().iter() {
            flight.settle(now, gap);
            if flight.fate.get().is_none()
                && let Some(why) = flight.overdue(now)
            {
                flight.cut(why);
            }
        }
    }

    /// What the call holds that holds most, about; zero when none holds anything. In bytes.
    pub fn largest(&self) -> u64 {
        let all = self.all.borrow();
        let left = all.iter().filter(|(_, flight)| !flight.was_cut());
        left.map(|(_, flight)| flight.held()).max().unwrap_or(0)
    }

    /// Ends the call that holds most. Gives what it held.
    pub fn cut_largest(&self) -> u64 {
        let all = self.all.borrow();
        let left = all.iter().filter(|(_, flight)| !flight.was_cut());
        let holding = left.map(|(_, flight)| (flight.held(), flight)).filter(|(held, _)| *held > 0);
        let Some((held, flight)) = holding.max_by_key(|(held, _)| *held) else { return 0 };
        flight.cut(Expired::Overrun);
        held
    }

    pub fn list(&self) -> Vec<Seen> {
        let all = self.all.borrow();
        all.iter()
            .map(|(_, flight)| Seen {
                about: flight.about.borrow().clone(),
                stage: flight.stage.get(),
                age: flight.started.elapsed(),
                bytes: flight.bytes.get(),
            })
            .collect()
    }
}

/// Keeps a call in the list; dropping it takes the call off.
#[derive(Debug)]
pub struct Ticket {
    flight: Rc<Flight>,
    key: usize,
    flights: Rc<Flights>,
}

impl std::ops::Deref for Ticket {
    type Target = Flight;

    fn deref(&self) -> &Flight {
        &self.flight
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.flights.all.borrow_mut().remove(self.key);
        self.flights.pressure.give_back(CALL);
    }
}

#[cfg(test)]
mod tests;

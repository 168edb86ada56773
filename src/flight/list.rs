//! The calls in flight of one worker, and the sweep over them.
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;
use tokio::sync::Notify;

use super::{About, Awaited, Beats, Expired, Flight, Limits, Stage, UNSEEN};
use crate::clock::{Clock, Tick};
use crate::pressure::{CALL, Pressure};

/// What `/state` shows of one call.
#[derive(Debug, Clone)]
pub struct Seen {
    pub about: About,
    pub stage: Stage,
    pub age: Duration,
    pub bytes: u64,
    /// Tokens of the answer so far, about. `None`: they cannot be seen.
    pub tokens: Option<u64>,
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
    /// What all calls keep back, as of the last sweep. In bytes.
    kept: Cell<u64>,
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
            bounds: Cell::new(limits.into()),
            stage: Cell::new(Stage::Reading),
            begun: Cell::new(now),
            moved: Cell::new(now),
            wants_stream: Cell::new(false),
            streaming: Cell::new(false),
            awaited: Cell::new(Awaited::Nothing),
            awaits: Cell::new(now),
            beats: Cell::new(Beats::Off),
            spoke: Cell::new(now),
            fate: Cell::new(None),
            waker: RefCell::new(None),
            bytes: Cell::new(0),
            tokens: Cell::new(UNSEEN),
            body: Cell::new(0),
            log: Cell::new(0),
            kept: Cell::new(0),
            about: RefCell::new(about),
        });
        let key = self.all.borrow_mut().insert(Rc::clone(&flight));
        self.pressure.add(CALL);
        Ticket { flight, key, flights: Rc::clone(self) }
    }

    /// Sleeps until a call begins; there must be none now.
    pub async fn sleep(&self) {
        self.keep(0);
        self.asleep.set(true);
        self.wake.notified().await;
    }

    pub fn is_empty(&self) -> bool {
        self.all.borrow().is_empty()
    }

    /// Ends what is overdue, and wakes what has something to say.
    pub fn sweep(&self, now: Tick) {
        let gap = now.since(self.swept.replace(now));
        let mut kept = 0;
        for (_, flight) in self.all.borrow().iter() {
            kept += flight.kept.get();
            flight.settle(now, gap);
            if flight.falls_due(now)
                && let Some(waker) = flight.waker.take()
            {
                waker.wake();
            }
        }
        self.keep(kept);
    }

    /// Counts what all calls keep back now.
    fn keep(&self, bytes: u64) {
        let before = self.kept.replace(bytes);
        self.pressure.add(bytes.saturating_sub(before));
        self.pressure.give_back(before.saturating_sub(bytes));
    }

    /// What the call holds that holds most, about; zero when none holds anything. In bytes.
    pub fn largest(&self) -> u64 {
        let all = self.all.borrow();
        let left = all.iter().filter(|(_, flight)| !flight.was_ended());
        left.map(|(_, flight)| flight.held()).max().unwrap_or(0)
    }

    /// Ends the call that holds most, whatever was to become of it. Gives what it held.
    pub fn cut_largest(&self) -> u64 {
        let all = self.all.borrow();
        let left = all.iter().filter(|(_, flight)| !flight.was_ended());
        let holding = left.map(|(_, flight)| (flight.held(), flight)).filter(|(held, _)| *held > 0);
        let Some((held, flight)) = holding.max_by_key(|(held, _)| *held) else { return 0 };
        flight.fate.set(Some(Expired::Overrun));
        if let Some(waker) = flight.waker.take() {
            waker.wake();
        }
        held
    }

    /// Ends the call of that id. Whether it was there.
    pub fn cancel(&self, request_id: &str) -> bool {
        let all = self.all.borrow();
        let is_meant = |flight: &Flight| flight.about.borrow().request_id.as_str() == request_id;
        let Some((_, flight)) = all.iter().find(|(_, flight)| is_meant(flight)) else {
            return false;
        };
        flight.fate.set(Some(Expired::Cancelled));
        if let Some(waker) = flight.waker.take() {
            waker.wake();
        }
        true
    }

    pub fn list(&self) -> Vec<Seen> {
        let all = self.all.borrow();
        all.iter()
            .map(|(_, flight)| (flight, flight.about.borrow().clone()))
            .map(|(flight, about)| Seen {
                age: about.started.elapsed(),
                about,
                stage: flight.stage.get(),
                bytes: flight.bytes.get(),
                tokens: Some(flight.tokens.get()).filter(|it| *it != UNSEEN).map(u64::from),
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

//! What one worker thread has for itself, and what it shares with the others.
//!
//! Everything a request touches often is the worker's own: no lock, no atomic that another thread
//! writes. Workers meet in the snapshot, the metrics, the limits and the drain signal.
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Instant;

use bytes::Bytes;

use super::resume::Streams;
use super::shared::Hubs;
use crate::cache::Cache;
use crate::clock::Clock;
use crate::drain::Drain;
use crate::flight::Flights;
use crate::identity::Class;
use crate::limits::Limits;
use crate::limits::price::{MAX_NAME, Rate};
use crate::pressure::{CALL, Held, Level, Pressure};
use crate::request_id::RequestIds;
use crate::snapshot::{Live, Snapshot};
use crate::tasks::Tasks;
use crate::telemetry::logs::Lines;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::otlp::{Settings, Tracer};
use crate::upstream::pool::Pools;

/// What all workers share beside the policy.
pub type Shared = (Arc<Hubs>, Arc<Streams>, Option<Arc<Tasks>>, Option<Settings>);

pub struct Worker {
    pub clock: Arc<Clock>,
    pub flights: Rc<Flights>,
    pub pools: Rc<Pools>,
    pub ids: RequestIds,
    pub limits: Arc<Limits>,
    pub cache: Arc<Cache>,
    /// Calls in flight that others may join; shared by all workers.
    pub hubs: Arc<Hubs>,
    /// Streams that can be taken up again; shared by all workers.
    pub streams: Arc<Streams>,
    /// Calls that are answered later; `None`: the policy wants none.
    pub tasks: Option<Arc<Tasks>>,
    pub live: Arc<Live>,
    pub metrics: Arc<Metrics>,
    pub lines: RefCell<Lines>,
    /// Who is traced; `None`: nobody.
    pub tracer: Option<Tracer>,
    pub drain: Drain,
    /// What all calls together hold in memory.
    pub pressure: Arc<Pressure>,
    priced: RefCell<Option<Priced>>,
}

/// What was priced last. Its policy may be gone, and is not kept for it.
struct Priced {
    policy: Weak<Snapshot>,
    model: Box<str>,
    rate: Rate,
}

impl Worker {
    pub fn new(
        live: Arc<Live>,
        metrics: Arc<Metrics>,
        lines: Lines,
        drain: Drain,
        workers: usize,
        (hubs, streams, tasks, traces): Shared,
    ) -> Self {
        let clock = Arc::new(Clock::new());
        Self {
            flights: Rc::new(Flights::new(Arc::clone(&live.pressure))),
            pools: Rc::new(Pools::new(Arc::clone(&clock), workers)),
            clock,
            ids: RequestIds::new(),
            limits: Arc::clone(&live.limits),
            cache: Arc::clone(&live.cache),
            pressure: Arc::clone(&live.pressure),
            hubs,
            streams,
            tasks,
            live,
            metrics,
            lines: RefCell::new(lines),
            tracer: traces.map(Tracer::new),
            drain,
            priced: RefCell::default(),
        }
    }

    /// What a model costs under the policy of now. Calls mostly repeat the last one's.
    pub fn rate(&self, model: &str) -> Rate {
        let live = self.live.peek();
        let mut last = self.priced.borrow_mut();
        let is_last = |last: &&Priced| {
            *last.model == *model && std::ptr::eq(last.policy.as_ptr(), Arc::as_ptr(&live))
        };
        if let Some(last) = last.as_ref().filter(is_last) {
            return last.rate;
        }
        let rate = live.prices.of(model);
        if model.len() <= MAX_NAME {
            *last = Some(Priced { policy: Arc::downgrade(&live), model: model.into(), rate });
        }
        rate
    }

    /// The policy that a request starting now is served under, to its end.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.live.load()
    }

    /// Hands over what logs and traces are told by now.
    pub fn flush(&self) {
        self.lines.borrow_mut().flush();
        if let Some(tracer) = &self.tracer {
            tracer.flush();
        }
    }

    /// The same of what is older than it should be.
    pub fn flush_if_due(&self, now_ms: u64) {
        self.lines.borrow_mut().flush_if_due(now_ms);
        if let Some(tracer) = &self.tracer {
            tracer.flush_if_due(Instant::now());
        }
    }

    /// Whether a call may be tried again, or hedged: not where memory is short.
    pub fn may_repeat(&self) -> bool {
        self.pressure.may_repeat()
    }

    /// Whether a new call may begin, as far as memory goes. Counts those that may not.
    pub fn takes(&self, class: Class) -> Result<(), Level> {
        let bound = if class == Class::Batch { Level::Urgent } else { Level::Full };
        self.below(bound)
    }

    /// The same for a call that has been read: it goes on, unless it can wait.
    pub fn takes_read(&self, class: Class) -> Result<(), Level> {
        if class == Class::Batch { self.below(Level::Urgent) } else { Ok(()) }
    }

    fn below(&self, bound: Level) -> Result<(), Level> {
        let level = self.pressure.level();
        if level < bound {
            return Ok(());
        }
        self.metrics.overload_refused(level.as_str());
        Err(level)
    }

    /// The same bytes, counted for as long as anybody has them. Few of them are part of what a call
    /// is counted with anyway.
    pub fn counted(&self, bytes: Bytes) -> Bytes {
        let len = bytes.len() as u64;
        if len <= CALL { bytes } else { held(bytes, self.pressure.hold(len)) }
    }
}

/// The bytes with what they count for; given back with the last that refers to them.
pub fn held(bytes: Bytes, held: Held) -> Bytes {
    Bytes::from_owner(Counted { bytes, _held: held })
}

struct Counted {
    bytes: Bytes,
    _held: Held,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

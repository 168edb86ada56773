//! Which calls are traced, and what is known of one while it runs.
//!
//! The context of a caller (`traceparent`, W3C Trace Context, level 1 and 2) is continued: its flag
//! decides whether the call is sampled. Where it brings none, a share of the calls is, by their trace
//! ids, as the samplers of OpenTelemetry's SDKs do it. A call that is not sampled costs a look at its
//! headers and keeps nothing; a sampled one has its attempts written down, and its spans are made when
//! it is over (`otlp/span.rs`). A header that breaks the rules is none.
mod attempts;
mod parent;

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

pub use self::attempts::{Attempt, Goes};
pub use self::parent::{Parent, SAMPLED};

pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// The longest `tracestate` that is put on a span; the header itself passes whatever its length.
const LONGEST_STATE: usize = 512;

/// Which calls are sampled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampler {
    /// Trace ids whose lower 63 bits are below it are sampled; all, where it is `1 << 63`.
    below: u64,
    /// A caller's own decision goes before.
    by_parent: bool,
}

impl Sampler {
    /// `ratio`: from 0 to 1.
    pub fn new(ratio: f64, by_parent: bool) -> Self {
        let below = if ratio >= 1.0 { 1 << 63 } else { (ratio.max(0.0) * 2_f64.powi(63)) as u64 };
        Self { below, by_parent }
    }

    fn takes(self, trace: u128) -> bool {
        (trace as u64) >> 1 < self.below
    }

    fn decides(self, parent: &Parent) -> bool {
        if self.by_parent { parent.is_sampled() } else { self.takes(parent.trace) }
    }
}

/// Random ids, for one thread: nothing is asked of the kernel per call. They name spans and grant
/// nothing, so they need not be hard to guess. splitmix64 (Steele, Lea and Flood, 2014).
#[derive(Debug)]
pub struct Ids(Cell<u64>);

impl Default for Ids {
    fn default() -> Self {
        Self(Cell::new(RandomState::new().hash_one(std::time::SystemTime::now())))
    }
}

impl Ids {
    /// Never zero: that is no id.
    fn next(&self) -> u64 {
        self.0.set(self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        mixed(self.0.get()).max(1)
    }

    /// The same of 128 bits.
    fn next_trace(&self) -> u128 {
        u128::from(self.next()) << 64 | u128::from(self.next())
    }
}

fn mixed(seed: u64) -> u64 {
    let seed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let seed = (seed ^ (seed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    seed ^ (seed >> 31)
}

/// What a call does to those who trace it.
#[derive(Debug)]
pub enum Begun {
    Sampled(Rc<CallTrace>),
    /// It is not sampled, but nobody has said that it must not be.
    Free,
    /// Its caller has said no.
    No,
}

/// A sampled call. It and whoever makes its attempts are on one thread.
#[derive(Debug)]
pub struct CallTrace {
    pub trace: u128,
    /// Of the whole call.
    pub span: u64,
    /// The caller's span; 0 for none.
    pub parent: u64,
    /// A call that led to this one, in a trace of its own.
    pub link: Option<Parent>,
    pub state: Option<HeaderValue>,
    told: RefCell<Told>,
}

/// What is told of it as it goes.
#[derive(Debug, Default)]
pub struct Told {
    pub attempts: Vec<Attempt>,
    /// When it stood in line.
    pub queued: Option<(Instant, Instant)>,
    /// When the cache was asked, first and last.
    pub looked: Option<(Instant, Option<Instant>)>,
    /// What it asks, where that is shown.
    pub asks: Option<Bytes>,
    /// The model that answered, as the answer names it.
    pub answered_by: Option<Box<str>>,
}

impl CallTrace {
    /// What a call with these headers does. `task`: what the headers say of a context is that of the
    /// call that asked for the task.
    pub fn begin(sampler: Sampler, ids: &Ids, headers: &HeaderMap, task: bool) -> Begun {
        let parent = Parent::of(headers);
        let sampled = parent.as_ref().map(|parent| sampler.decides(parent));
        let (trace, links) = match (&parent, task) {
            (Some(parent), false) => (parent.trace, false),
            (parent, _) => (ids.next_trace(), parent.is_some()),
        };
        if !sampled.unwrap_or_else(|| sampler.takes(trace)) {
            return if parent.is_some() { Begun::No } else { Begun::Free };
        }
        let state = headers.get(TRACESTATE).filter(|state| state.len() <= LONGEST_STATE);
        let (parent, link) = if links { (None, parent) } else { (parent, None) };
        Begun::Sampled(Rc::new(Self {
            trace,
            span: ids.next(),
            parent: parent.as_ref().map_or(0, |parent| parent.span),
            link,
            state: state.filter(|_| parent.is_some()).cloned(),
            told: RefCell::default(),
        }))
    }

    /// One whose spans are made though nobody has sampled it: it begins with its end.
    pub fn late(ids: &Ids) -> Self {
        let (trace, span) = (ids.next_trace(), ids.next());
        Self { trace, span, parent: 0, link: None, state: None, told: RefCell::default() }
    }

    /// It stood in line, from then until now.
    pub fn waited(&self, since: Instant) {
        self.told.borrow_mut().queued = Some((since, Instant::now()));
    }

    /// The cache is asked for it.
    pub fn looks(&self) {
        self.told.borrow_mut().looked.get_or_insert_with(|| (Instant::now(), None));
    }

    /// It has been.
    pub fn looked(&self) {
        if let Some((_, until)) = &mut self.told.borrow_mut().looked {
            until.get_or_insert_with(Instant::now);
        }
    }

    /// What it asks, to be shown.
    pub fn asks(&self, body: &Bytes) {
        self.told.borrow_mut().asks = Some(body.clone());
    }

    /// The answer names its model.
    pub fn answered_by(&self, model: &str) {
        let known = &mut self.told.borrow_mut().answered_by;
        if known.as_deref() != Some(model) {
            *known = Some(model.into());
        }
    }

    pub fn told(&self) -> std::cell::Ref<'_, Told> {
        self.told.borrow()
    }

    /// For what is kept of this call and made later: it names the call's own span.
    pub fn header(&self) -> Option<HeaderValue> {
        parent::header(self.trace, self.span)
    }
}

#[cfg(test)]
mod tests;

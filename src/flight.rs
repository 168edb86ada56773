//! Calls in flight on one worker, and the deadlines they are under.
//!
//! Every call has one [`Flight`]: the stage it is in, when it last moved, and what it is. A sweep
//! every [`TICK`] compares and wakes the call whose time is up, so that the request path arms no
//! timer at all: progress is a store into a cell. Deadlines are late by at most two ticks, never
//! early, even when the thread was held up: a tick stored since the last sweep may be as old as that,
//! so the sweep takes it for one of now. Nothing here is shared between threads.
//!
//! Bytes and content of a stream have deadlines of their own: a backend's pings show that it is
//! alive, and not that it gets on; and one that thinks says nothing, so that until content begins
//! silence has a bound of its own. The same sweep sees that a client has heard nothing for long.
//!
//! Alternative rejected: one tokio timer per call, re-armed at each stage; it costs an entry in the
//! timer wheel and its lock for each of them.
mod limits;
mod list;
mod progress;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use self::limits::Bounds;
pub use self::limits::{Expired, Limits, Stage};
pub use self::list::{Flights, Seen, Ticket};
pub use self::progress::Progress;
use crate::clock::Tick;
use crate::request_id::RequestId;

/// How often deadlines are looked at.
pub const TICK: Duration = Duration::from_millis(100);
/// The finest step of a tick.
const MOMENT: Duration = Duration::from_millis(1);

/// Of no answer that is counted.
const UNSEEN: u32 = u32::MAX;

/// What content of a stream is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    /// None, or none that could be seen.
    Nothing,
    First,
    /// Of a plain answer: any byte is.
    Body,
    Next,
}

/// Whether a client is told now and then that its stream is still alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beats {
    Off,
    On,
    Due,
}

/// What the sweep wants of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    Expired(Expired),
    /// The client has heard nothing for long, and can be told that all is well; once.
    Heartbeat,
}

/// One call in flight.
#[derive(Debug)]
pub struct Flight {
    bounds: Cell<Bounds>,
    stage: Cell<Stage>,
    begun: Cell<Tick>,
    moved: Cell<Tick>,
    /// The caller wants a stream.
    wants_stream: Cell<bool>,
    streaming: Cell<bool>,
    awaited: Cell<Awaited>,
    /// Since when.
    awaits: Cell<Tick>,
    beats: Cell<Beats>,
    /// When the client was sent something.
    spoke: Cell<Tick>,
    fate: Cell<Option<Expired>>,
    waker: RefCell<Option<Waker>>,
    bytes: Cell<u64>,
    /// Tokens of the answer so far, about; [`UNSEEN`] where they cannot be seen.
    tokens: Cell<u32>,
    /// Bytes of the request's body, held until the answer begins.
    body: Cell<u64>,
    /// Bytes of the answer that are held.
    log: Cell<u64>,
    /// Bytes kept back of what goes by.
    kept: Cell<u64>,
    about: RefCell<About>,
}

/// What `/state` shows of a call.
#[derive(Debug, Clone)]
pub struct About {
    pub request_id: RequestId,
    pub started: Instant,
    pub upstream: Option<Arc<str>>,
    pub operation: &'static str,
    pub model: Option<Rc<str>>,
    pub agent: Option<Arc<str>>,
    /// Its number in the queue, while it waits there.
    pub in_line: Option<usize>,
}

impl About {
    pub fn new(request_id: RequestId, operation: &'static str, started: Instant) -> Self {
        let (upstream, model, agent, in_line) = (None, None, None, None);
        Self { request_id, started, upstream, operation, model, agent, in_line }
    }
}

impl Flight {
    pub fn enter(&self, stage: Stage, now: Tick) {
        self.stage.set(stage);
        self.moved.set(now);
        self.awaited.set(Awaited::Nothing);
        if stage == Stage::FirstByte {
            self.awaits.set(now);
            if self.wants_stream.get() {
                self.awaited.set(Awaited::First);
            }
        }
        // it got on for all that, or begins anew
        self.forgive(|fate| {
            !matches!(fate, Expired::Total | Expired::Overrun | Expired::Cancelled)
        });
    }

    pub fn stage(&self) -> Stage {
        self.stage.get()
    }

    /// Bytes of the answer came.
    pub fn moved(&self, bytes: usize, now: Tick) {
        self.moved.set(now);
        // it was the client that had stood still
        self.forgive(|fate| fate == Expired::Idle);
        self.bytes.set(self.bytes.get() + bytes as u64);
        if bytes > 0 && self.awaited.get() == Awaited::Body {
            self.awaited.set(Awaited::Nothing);
            self.forgive(|fate| fate == Expired::FirstContent);
        }
    }

    /// So many tokens of the answer have come, about.
    pub fn produced(&self, tokens: u64) {
        self.tokens.set(u32::try_from(tokens).unwrap_or(UNSEEN - 1));
    }

    /// So many bytes of the request's body are held.
    pub fn holds_body(&self, bytes: u64) {
        self.body.set(bytes);
    }

    /// So many bytes of its answer are held.
    pub fn holds_answer(&self, bytes: u64) {
        self.log.set(bytes);
    }

    /// So many bytes are kept back of what goes by, until it goes on. Counted at the next sweep.
    pub fn keeps(&self, bytes: usize) {
        self.kept.set(bytes as u64);
    }

    /// What would be free without it, about. In bytes.
    fn held(&self) -> u64 {
        let body = if self.stage.get() == Stage::Answering { 0 } else { self.body.get() };
        body + self.log.get() + self.kept.get()
    }

    /// Whoever reads the answer had stood still: the backend had no chance to be heard.
    pub fn resumed(&self, now: Tick) {
        self.moved(0, now);
        if self.awaited.get() == Awaited::Next {
            self.content(now);
        }
    }

    /// The answer is a stream whose content can be seen. To be asked for behind
    /// [`Stage::Answering`].
    pub fn await_content(&self) {
        if self.awaited.get() == Awaited::Nothing {
            self.awaited.set(Awaited::First);
        }
    }

    /// The answer is a plain one that we know: its first byte is waited for as content is. To be
    /// asked for as [`Self::await_content`].
    pub fn await_body(&self) {
        self.awaited.set(Awaited::Body);
    }

    /// A frame has brought content.
    pub fn content(&self, now: Tick) {
        self.awaited.set(Awaited::Next);
        self.stepped(now);
    }

    /// A frame has shown that the backend gets on, although it says nothing: a tool of its own.
    pub fn stepped(&self, now: Tick) {
        self.awaits.set(now);
        self.forgive(|fate| matches!(fate, Expired::FirstContent | Expired::BetweenTokens));
    }

    /// The stream has said its last: what may follow is the end of its framing.
    pub fn over(&self) {
        self.awaited.set(Awaited::Nothing);
        self.beats.set(Beats::Off);
        self.forgive(|fate| matches!(fate, Expired::FirstContent | Expired::BetweenTokens));
    }

    fn forgive(&self, which: impl FnOnce(Expired) -> bool) {
        if self.fate.get().is_some_and(which) {
            self.fate.set(None);
        }
    }

    pub fn set_limits(&self, limits: Limits) {
        self.bounds.set(limits.into());
    }

    /// The call stands in line, for so long at most.
    pub fn queue(&self, longest: Duration, now: Tick) {
        self.bounds.set(Bounds { queued: limits::millis(longest), ..self.bounds.get() });
        self.enter(Stage::Queued, now);
    }

    /// The caller wants a stream: its first content has a deadline from when the request is sent.
    pub fn set_wants_stream(&self, wants: bool) {
        self.wants_stream.set(wants);
    }

    /// The answer is a stream: from its first byte on, only silence ends it.
    pub fn set_streaming(&self) {
        self.streaming.set(true);
    }

    /// The client can be told that its stream is alive: from now on [`Due::Heartbeat`] comes when
    /// [`Self::spoke`] has not for long.
    pub fn begin_beats(&self, now: Tick) {
        self.beats.set(Beats::On);
        self.spoke.set(now);
    }

    pub fn end_beats(&self) {
        self.beats.set(Beats::Off);
    }

    /// Something is sent to the client.
    pub fn spoke(&self, now: Tick) {
        self.spoke.set(now);
        if self.beats.get() == Beats::Due {
            self.beats.set(Beats::On);
        }
    }

    pub fn describe(&self, edit: impl FnOnce(&mut About)) {
        edit(&mut self.about.borrow_mut());
    }

    /// What is due now; otherwise the sweep will wake this task when something is.
    pub fn poll_due(&self, cx: &mut Context<'_>) -> Option<Due> {
        if let Some(fate) = self.fate.get() {
            return Some(Due::Expired(fate));
        }
        if self.beats.get() == Beats::Due {
            self.beats.set(Beats::On);
            return Some(Due::Heartbeat);
        }
        let mut waker = self.waker.borrow_mut();
        match waker.as_mut() {
            Some(known) if known.will_wake(cx.waker()) => {}
            Some(known) => known.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
        None
    }

    /// The same for whoever tells the client nothing: whether the sweep has ended this call.
    pub fn poll_expired(&self, cx: &mut Context<'_>) -> Option<Expired> {
        loop {
            if let Due::Expired(fate) = self.poll_due(cx)? {
                return Some(fate);
            }
        }
    }

    /// Whether it was cut for what it holds, or ended by an operator; otherwise this task is woken when
    /// it is. For who waits for readers, whom no deadline of a backend concerns.
    pub fn poll_cut(&self, cx: &mut Context<'_>) -> Option<Expired> {
        let fate = self.poll_expired(cx);
        if fate.is_some() && !self.was_ended() {
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            return None;
        }
        fate
    }

    /// Whether it was cut or cancelled: whatever has come of it, it goes no further.
    pub fn was_ended(&self) -> bool {
        matches!(self.fate.get(), Some(Expired::Overrun | Expired::Cancelled))
    }

    /// By an operator.
    pub fn was_cancelled(&self) -> bool {
        self.fate.get() == Some(Expired::Cancelled)
    }

    pub fn was_cut(&self) -> bool {
        self.fate.get() == Some(Expired::Overrun)
    }

    /// Runs a step of the call under its deadlines. No `async fn`: that would keep the step twice.
    pub fn guard<F: Future + Unpin>(
        &self,
        mut step: F,
    ) -> impl Future<Output = Result<F::Output, Expired>> + Unpin {
        std::future::poll_fn(move |cx| {
            if let Poll::Ready(done) = Pin::new(&mut step).poll(cx) {
                return Poll::Ready(Ok(done));
            }
            match self.poll_expired(cx) {
                Some(fate) => Poll::Ready(Err(fate)),
                None => Poll::Pending,
            }
        })
    }

    /// What happened since the last sweep, `gap` ago, happened a moment before this one at the latest.
    fn settle(&self, now: Tick, gap: Duration) {
        for tick in [&self.begun, &self.moved, &self.awaits] {
            if now.since(tick.get()) <= gap {
                tick.set(now.before(MOMENT));
            }
        }
    }

    fn overdue(&self, now: Tick) -> Option<Expired> {
        let bounds = self.bounds.get();
        let exceeds = |tick: &Cell<Tick>, bound: u32| passed(now, tick) > bound.saturating_add(1);
        let (stage, awaited) = (self.stage.get(), self.awaited.get());
        let (bound, why) = match stage {
            Stage::Reading => (bounds.reading, Expired::Reading),
            Stage::Queued => (bounds.queued, Expired::Queued),
            Stage::Connecting => (u32::MAX, Expired::Total),
            Stage::FirstByte => (bounds.first_byte, Expired::FirstByte),
            Stage::Answering if matches!(awaited, Awaited::First | Awaited::Body) => {
                (bounds.idle_before_content, Expired::Idle)
            }
            Stage::Answering => (bounds.idle, Expired::Idle),
        };
        if exceeds(&self.moved, bound) {
            return Some(why);
        }
        let (bound, why) = match awaited {
            Awaited::Nothing => (u32::MAX, Expired::FirstContent),
            Awaited::First | Awaited::Body => (bounds.first_content, Expired::FirstContent),
            Awaited::Next => (bounds.between_tokens, Expired::BetweenTokens),
        };
        if exceeds(&self.awaits, bound) {
            return Some(why);
        }
        let sending = self.streaming.get() && stage == Stage::Answering;
        (!sending && exceeds(&self.begun, bounds.total)).then_some(Expired::Total)
    }

    /// Looks at the clock. Says whether the call's task is to look too.
    fn falls_due(&self, now: Tick) -> bool {
        if self.fate.get().is_some() {
            return false;
        }
        if let Some(why) = self.overdue(now) {
            self.fate.set(Some(why));
            return true;
        }
        let silent = passed(now, &self.spoke) > self.bounds.get().heartbeat;
        let beats = silent && self.beats.get() == Beats::On;
        if beats {
            self.beats.set(Beats::Due);
            // half of an event may stand there: then the next turn is as far away as any
            self.spoke.set(now);
        }
        beats
    }
}

/// Milliseconds since a tick.
fn passed(now: Tick, tick: &Cell<Tick>) -> u32 {
    now.raw().wrapping_sub(tick.get().raw())
}

#[cfg(test)]
mod tests;

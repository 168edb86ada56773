//! What those who share one upstream call know of it.
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use http::{HeaderMap, StatusCode};

use super::record::{Record, Trace, Watch};
use super::refusal::Refusal;
use super::resume::Offer;
use crate::cache;
use crate::limits::book::Settled;
use crate::route::Aim;
use crate::telemetry::metrics::Outcome;
use crate::telemetry::trace::CallTrace;
use crate::upstream::answer::Answer;
use crate::wire::{Dialect, Form, Usage};

/// All calls in flight that others may join; one for all workers.
pub type Hubs = cache::Hubs<Head, Failure>;
pub type Lead = cache::Lead<Head, Failure>;
pub type Seat = cache::Seat<Head, Failure>;
pub type Log = cache::Log<Head, Failure>;

/// The head of an answer that several may read.
pub struct Head {
    pub status: StatusCode,
    /// As the backend said it, but for what is between the two of us.
    pub headers: HeaderMap,
    pub form: Form,
    pub dialect: Dialect,
    /// An error event can be added to it.
    pub eventful: bool,
    /// What its terminal event says of it; the end of its framing may come later.
    pub said: OnceLock<Ended>,
    /// How it ended, set before its end is told.
    pub end: OnceLock<Ended>,
    /// It is a stream that can be taken up again by who began it.
    pub offer: OnceLock<Offer>,
}

/// How an answer ended that came to its end.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    pub outcome: Outcome,
    pub usage: Option<Usage>,
}

impl Head {
    /// How it ended, for one who has read all of it and does not wait for the end of the framing.
    pub fn ended(&self) -> Option<Ended> {
        self.end.get().or_else(|| self.said.get()).copied()
    }
}

/// Why there is no (more) answer.
pub struct Failure {
    pub refusal: Refusal,
    /// What was sent ends with a whole event.
    pub between: bool,
}

/// Runs a step for as long as somebody waits for what comes of it.
pub async fn unless_deserted<T>(lead: &Lead, step: impl Future<Output = T>) -> Option<T> {
    let mut step = pin!(step);
    poll_fn(|cx| {
        if lead.poll_deserted(cx).is_ready() {
            return Poll::Ready(None);
        }
        step.as_mut().poll(cx).map(Some)
    })
    .await
}

/// What the call that began it shares with the task that makes it: both are on one thread.
#[derive(Default)]
pub struct Tab {
    pub trace: RefCell<Trace>,
    /// Left by a caller who did not wait for the end: closed when the bill is known. With how the
    /// answer had ended for it, if it had.
    left: Cell<Option<(Record, Option<Outcome>)>>,
    /// It is known.
    over: Cell<bool>,
    /// The caller has heard nothing for long.
    beat: Cell<bool>,
    listens: RefCell<Option<Waker>>,
}

impl Watch for &Tab {
    fn sent(&mut self, at: Instant) {
        self.trace.borrow_mut().sent(at);
    }

    fn moved(&mut self, aim: &Aim) {
        self.trace.borrow_mut().moved(aim);
    }

    fn answered(&mut self, answer: &Answer) {
        self.trace.borrow_mut().answered(answer);
    }

    fn tried(&mut self, times: u32) {
        self.trace.borrow_mut().tried(times);
    }

    fn billed(&mut self, settled: Option<&Settled>) {
        self.trace.borrow_mut().billed(settled);
    }

    fn trace(&self) -> Option<Rc<CallTrace>> {
        self.trace.borrow().spans.clone()
    }
}

impl Tab {
    /// The first caller has gone; its record waits for the bill. `ended`: it had read everything.
    pub fn leave(&self, record: Option<Record>, ended: Option<Outcome>) {
        self.left.set(record.map(|record| (record, ended)));
        if self.over.get() {
            self.close();
        }
    }

    /// The caller is to be told that its stream is alive.
    pub fn beat(&self) {
        self.beat.set(true);
        if let Some(waker) = self.listens.take() {
            waker.wake();
        }
    }

    /// Whether it is to be told now, once; otherwise this task is woken when it is.
    pub fn poll_beat(&self, cx: &mut Context<'_>) -> bool {
        let beat = self.beat.take();
        if !beat {
            *self.listens.borrow_mut() = Some(cx.waker().clone());
        }
        beat
    }

    /// It has heard something.
    pub fn spoke(&self) {
        self.beat.set(false);
    }

    /// The upstream call is over.
    pub fn close(&self) {
        self.over.set(true);
        if let Some((mut record, ended)) = self.left.take() {
            record.follow(&self.trace.borrow());
            if let Some(outcome) = ended {
                record.close(outcome);
            }
        }
    }
}

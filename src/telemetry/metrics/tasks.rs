//! What the book of tasks counts, and where a scrape finds how tasks, webhooks and streams stand.
//!
//! Each of these touches the disk, or ends a call: a lock is cheap here.
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

use super::counters::Reasons;
use super::histogram::{self, Histogram};
use crate::telemetry::view::OffloadView;

/// Since the start of the process. Reasons and states are words of the program.
#[derive(Debug)]
pub struct TaskCounts {
    submitted: AtomicU64,
    ended: Reasons<1>,
    retries: Reasons<1>,
    refused: Reasons<1>,
    submit: Mutex<Histogram>,
    wait: Mutex<Histogram>,
}

impl Default for TaskCounts {
    fn default() -> Self {
        Self {
            submitted: AtomicU64::new(0),
            ended: Reasons::new(),
            retries: Reasons::new(),
            refused: Reasons::new(),
            submit: Mutex::new(Histogram::new(&histogram::QUEUE)),
            wait: Mutex::new(Histogram::new(&histogram::TASK_WAIT)),
        }
    }
}

impl TaskCounts {
    /// One was taken on; it was durable after so long.
    pub fn submitted(&self, took: Duration) {
        self.submitted.fetch_add(1, Relaxed);
        self.submit.lock().observe_time(took);
    }

    /// One was not taken on (`quota`, `mismatch`, …).
    pub fn refused(&self, why: &'static str) {
        self.refused.add([why]);
    }

    /// One has its first attempt, after it stood in the queue for so long.
    pub fn started(&self, waited: Duration) {
        self.wait.lock().observe_time(waited);
    }

    /// An attempt is followed by another.
    pub fn retried(&self, why: &'static str) {
        self.retries.add([why]);
    }

    /// An end is durable.
    pub fn ended(&self, state: &'static str) {
        self.ended.add([state]);
    }

    pub fn submissions(&self) -> u64 {
        self.submitted.load(Relaxed)
    }

    /// By state.
    pub fn ends(&self) -> Vec<([&'static str; 1], u64)> {
        self.ended.read()
    }

    /// By reason.
    pub fn retries(&self) -> Vec<([&'static str; 1], u64)> {
        self.retries.read()
    }

    /// By reason.
    pub fn refusals(&self) -> Vec<([&'static str; 1], u64)> {
        self.refused.read()
    }

    pub(super) fn submit_times(&self) -> Histogram {
        self.submit.lock().clone()
    }

    pub(super) fn waits(&self) -> Histogram {
        self.wait.lock().clone()
    }
}

type Figures = Box<dyn Fn() -> OffloadView + Send + Sync>;

/// What is asked at a scrape, once it is known where to ask.
#[derive(Default)]
pub(super) struct Source(OnceLock<(Option<Arc<TaskCounts>>, Figures)>);

impl Source {
    pub(super) fn set(&self, counts: Option<Arc<TaskCounts>>, figures: Figures) {
        // the book outlives every policy: there is one
        let _ = self.0.set((counts, figures));
    }

    pub(super) fn read(&self) -> Option<(Option<&TaskCounts>, OffloadView)> {
        self.0.get().map(|(counts, figures)| (counts.as_deref(), figures()))
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source(…)")
    }
}

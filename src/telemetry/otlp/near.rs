//! The near end, one for each worker: who is sampled, and the block that spans are written into.
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use http::HeaderMap;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::span::{Ended, Memos, write};
use crate::telemetry::metrics::SignalCounts;
use crate::telemetry::trace::{Begun, CallTrace, Ids, Sampler};

/// A block is handed over at this size, or with so many spans.
const BLOCK: usize = 64 * 1024;
const SPANS: u64 = 512;
/// What the next one begins with at most.
const LARGEST_BLOCK: usize = 256 * 1024;
/// Or when its first span is this old.
const MAX_AGE: Duration = Duration::from_secs(1);
/// Blocks on their way to who sends them: 4 MiB at most.
const BLOCKS: usize = 64;

/// Spans as they are sent: fields of a `ScopeSpans`.
#[derive(Debug, Default)]
pub struct Block {
    pub bytes: Vec<u8>,
    pub spans: u64,
}

/// The way from the workers to who sends. What does not fit is dropped by the workers.
pub fn blocks() -> (Sender<Block>, Receiver<Block>) {
    channel(BLOCKS)
}

/// What every worker needs.
#[derive(Debug, Clone)]
pub struct Settings {
    pub sampler: Sampler,
    /// Whether spans hold what was asked.
    pub content: bool,
    pub to: Sender<Block>,
    pub counts: Arc<SignalCounts>,
}

/// One worker's.
pub struct Tracer {
    settings: Settings,
    ids: Ids,
    near: RefCell<Near>,
}

#[derive(Default)]
struct Near {
    block: Block,
    first: Option<Instant>,
    memos: Memos,
}

impl Tracer {
    pub fn new(settings: Settings) -> Self {
        Self { settings, ids: Ids::default(), near: RefCell::default() }
    }

    /// What a call with these headers does; see [`CallTrace::begin`].
    pub fn begin(&self, headers: &HeaderMap, task: bool) -> Begun {
        CallTrace::begin(self.settings.sampler, &self.ids, headers, task)
    }

    /// For a call that has failed, and would else not be seen.
    pub fn late(&self) -> CallTrace {
        CallTrace::late(&self.ids)
    }

    pub fn shows_content(&self) -> bool {
        self.settings.content
    }

    /// A sampled call is over: writes its spans down.
    pub fn ended(&self, call: &Ended<'_>) {
        let near = &mut *self.near.borrow_mut();
        near.first.get_or_insert(call.now);
        near.block.spans += write(&mut near.block.bytes, &mut near.memos, call);
        if near.block.bytes.len() >= BLOCK || near.block.spans >= SPANS {
            self.hand_over(near);
        } else {
            self.hand_over_if_due(near, call.now);
        }
    }

    /// From a worker's tick, so that the last spans before a pause are seen.
    pub fn flush_if_due(&self, now: Instant) {
        self.hand_over_if_due(&mut self.near.borrow_mut(), now);
    }

    /// Hands over what there is.
    pub fn flush(&self) {
        self.hand_over(&mut self.near.borrow_mut());
    }

    fn hand_over_if_due(&self, near: &mut Near, now: Instant) {
        if near.first.is_some_and(|first| now.saturating_duration_since(first) >= MAX_AGE) {
            self.hand_over(near);
        }
    }

    fn hand_over(&self, near: &mut Near) {
        near.first = None;
        if near.block.spans == 0 {
            return;
        }
        let next = Vec::with_capacity(near.block.bytes.len().min(LARGEST_BLOCK));
        let block = std::mem::replace(&mut near.block, Block { bytes: next, spans: 0 });
        let spans = block.spans;
        if self.settings.to.try_send(block).is_err() {
            self.settings.counts.traces.dropped.fetch_add(spans, Relaxed);
        }
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.flush();
    }
}

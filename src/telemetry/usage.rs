//! Usage records: one JSON line for each call that was sent to a backend, or had its answer from
//! what is kept. Made to be summed: tokens and billionths of a dollar are whole numbers, always there.
//!
//! The sum of `spend_nano` is what the metrics and the budgets count, to the last digit; also what
//! attempts have cost that did not answer. A record is final: a call has one, when it is over. Each
//! has the name of the process's run and a number in it without gaps, drawn before the line is handed
//! over: a record that is lost on the way is missed. The last line of a run says how many there were.
//! What was refused here, or reads on in a stream or a task of another call, used nothing and has none.
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use super::access::Entry;
use super::access::memo::Memos;
use super::blocks::Blocks;
use super::metrics::{LineCounts, Usage};
use super::outlet;
use super::sink::Sink;
use crate::config::LogTo;
use crate::request_id::run_id;

mod format;
#[cfg(test)]
mod tests;

/// What is billed of a call, beside what the access log says of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Billed<'a> {
    /// The model that the backend was asked for; empty where it is the one that the caller named.
    pub sent_model: &'a str,
    /// Of the answer. As the backend reported it, or as it was counted here.
    pub usage: Usage,
    /// It was counted here, wholly or in part.
    pub estimated: bool,
    /// Something may have been used, and nobody has counted it.
    pub unknown: bool,
    pub sunk: Sunk,
}

/// What attempts have cost that did not answer the call: given up, or slower than a second one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sunk {
    pub attempts: u32,
    pub input: u64,
    pub output: u64,
    /// Billionths of a dollar.
    pub nano: i64,
    /// By a stand-in for some price.
    pub unpriced: bool,
}

impl Sunk {
    pub fn add(&mut self, other: Self) {
        self.attempts = self.attempts.saturating_add(other.attempts);
        self.input = self.input.saturating_add(other.input);
        self.output = self.output.saturating_add(other.output);
        self.nano = self.nano.saturating_add(other.nano);
        self.unpriced |= other.unpriced;
    }
}

/// The usage records of the process. Clones share the writer and the numbers.
#[derive(Clone)]
pub struct UsageLog {
    sink: Option<Sink>,
    run: Arc<Run>,
}

/// One run of the process.
struct Run {
    instance: String,
    /// Records until now.
    records: AtomicU64,
}

impl UsageLog {
    /// Starts the writer thread, unless there are to be no records.
    pub fn start(to: &LogTo, counts: Arc<LineCounts>) -> io::Result<Self> {
        let Some((outlet, _)) = outlet::of(to)? else { return Ok(Self::off()) };
        Ok(Self::through(Sink::start("usage", outlet, counts)?))
    }

    /// Through a writer that another log uses too.
    pub(super) fn through(sink: Sink) -> Self {
        Self { sink: Some(sink), ..Self::off() }
    }

    /// Writes nothing.
    pub fn off() -> Self {
        let run = Run { instance: run_id(), records: AtomicU64::new(0) };
        Self { sink: None, run: Arc::new(run) }
    }

    pub(super) fn sink(&self) -> Option<&Sink> {
        self.sink.as_ref()
    }

    /// The near end for one worker.
    pub fn lines(&self) -> Lines {
        Lines {
            blocks: Blocks::new(self.sink.clone()),
            run: Arc::clone(&self.run),
            memos: Memos::default(),
        }
    }

    /// Says how many records there were, and waits until all is written, `within` at most; says
    /// whether it is. The workers' `Lines` must have been flushed or dropped before.
    pub fn close(&self, within: Duration) -> bool {
        let Some(sink) = &self.sink else { return true };
        let mut line = sink.block();
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now_ms = since.map_or(0, |since| since.as_millis() as u64);
        let records = self.run.records.load(Ordering::Relaxed);
        format::end(&mut line, &mut Memos::default(), now_ms, (&self.run.instance, records));
        sink.close_with(line, within)
    }
}

/// One worker's records.
pub struct Lines {
    blocks: Blocks,
    run: Arc<Run>,
    memos: Memos,
}

impl Lines {
    pub fn enabled(&self) -> bool {
        self.blocks.enabled()
    }

    /// Adds the record of a call, if it is one that has any.
    pub fn write(&mut self, entry: &Entry<'_>, billed: &Billed<'_>) {
        let Self { blocks, run, memos } = self;
        if !blocks.enabled() || !has_record(entry) {
            return;
        }
        let seq = run.records.fetch_add(1, Ordering::Relaxed) + 1;
        blocks.line(entry.time_ms, |out| {
            format::record(out, memos, (&run.instance, seq), entry, billed);
        });
    }

    /// Hands over what has waited for long enough.
    pub fn flush_if_due(&mut self, now_ms: u64) {
        self.blocks.flush_if_due(now_ms);
    }

    /// Hands over what there is.
    pub fn flush(&mut self) {
        self.blocks.flush();
    }
}

/// It was sent, or answered from what is kept; or it cost something, however that came about.
fn has_record(entry: &Entry<'_>) -> bool {
    let call = entry.call;
    entry.attempts > 0 || call.kept.is_free() || call.kept.nano > 0 || call.held.spend() > 0
}

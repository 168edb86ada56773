//! The access log: one line a call, JSON or text, without bodies, queries or secrets.
//!
//! A worker formats into a buffer of its own and hands over blocks (64 KiB, or what came within
//! 100 ms) to the writer thread; it never writes and never waits. Lines that the reader of the
//! log cannot take are dropped and counted. Every text that a client chose is cut to a length,
//! escaped so that no terminal obeys it, and masked where it looks like a credential.
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use super::blocks::Blocks;
use super::metrics::{Finished, LineCounts};
use super::outlet::{self, Outlet};
use super::sink::Sink;
use crate::config;

pub(super) mod format;
pub(super) mod memo;
#[cfg(test)]
mod tests;

use format::Form;
use memo::Memos;

/// What one line says. Empty texts are left out.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// When the call ended, in Unix milliseconds.
    pub time_ms: u64,
    pub call: &'a Finished<'a>,
    pub request_id: &'a str,
    pub peer: &'a str,
    pub method: &'a str,
    /// Without the query: queries carry keys.
    pub path: &'a str,
    pub route: &'a str,
    pub upstream: &'a str,
    /// Times the call was sent.
    pub attempts: u32,
    /// Sent over a connection made earlier.
    pub reused: bool,
    /// It read on in a stream that an earlier call began.
    pub resumed: bool,
    /// The id of the task whose call it is, or which it asked for (`task_…`).
    pub task: &'a str,
    pub user_agent: Option<&'a str>,
}

/// The access log of the process. Clones share the writer.
#[derive(Clone)]
pub struct AccessLog {
    sink: Option<Sink>,
    form: Form,
}

impl AccessLog {
    /// Starts the writer thread, unless the log is off.
    pub fn start(
        to: &config::LogTo,
        form: config::LogForm,
        counts: Arc<LineCounts>,
    ) -> io::Result<Self> {
        let Some((outlet, terminal)) = outlet::of(to)? else { return Ok(Self::off()) };
        let text = match form {
            config::LogForm::Auto => terminal,
            config::LogForm::Json => false,
            config::LogForm::Text => true,
        };
        Self::through(outlet, text, counts)
    }

    /// Into any writer; `text` for people, else JSON.
    pub fn to(to: Box<dyn Write + Send>, text: bool, counts: Arc<LineCounts>) -> io::Result<Self> {
        Self::through(to.into(), text, counts)
    }

    fn through(to: Outlet, text: bool, counts: Arc<LineCounts>) -> io::Result<Self> {
        let form = if text { Form::Text } else { Form::Json };
        Ok(Self { sink: Some(Sink::start("access-log", to, counts)?), form })
    }

    /// Writes nothing.
    pub fn off() -> Self {
        Self { sink: None, form: Form::Json }
    }

    pub(super) fn sink(&self) -> Option<&Sink> {
        self.sink.as_ref()
    }

    /// The near end for one worker.
    pub fn lines(&self) -> Lines {
        Lines { blocks: Blocks::new(self.sink.clone()), form: self.form, memos: Memos::default() }
    }

    /// Waits until all that was flushed is written, `within` at most; says whether it is.
    /// The workers' `Lines` must have been flushed or dropped before.
    pub fn close(&self, within: Duration) -> bool {
        self.sink.as_ref().is_none_or(|sink| sink.close(within))
    }
}

/// One worker's lines.
pub struct Lines {
    blocks: Blocks,
    form: Form,
    memos: Memos,
}

impl Lines {
    /// Whether a line would be written at all: without a log, an entry need not be put together.
    pub fn enabled(&self) -> bool {
        self.blocks.enabled()
    }

    /// Adds a line.
    pub fn write(&mut self, entry: &Entry<'_>) {
        let Self { blocks, form, memos } = self;
        blocks.line(entry.time_ms, |out| form.write(out, memos, entry));
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

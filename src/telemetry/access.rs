//! The access log: one line a call, JSON or text, without bodies, queries or secrets.
//!
//! A worker formats into a buffer of its own and hands over blocks (64 KiB, or what came within
//! 100 ms) to the writer thread; it never writes and never waits. Lines that the reader of the
//! log cannot take are dropped and counted. Every text that a client chose is cut to a length,
//! escaped so that no terminal obeys it, and masked where it looks like a credential.
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use super::metrics::{Finished, LineCounts};
use super::sink::Sink;
use crate::config;

mod format;
mod memo;
#[cfg(test)]
mod tests;

use format::Form;
use memo::Memos;

/// A block is handed over at this size.
const BLOCK: usize = 64 * 1024;
/// Or when its first line is this old.
const MAX_AGE_MS: u64 = 100;

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
        to: config::AccessLog,
        form: config::LogForm,
        counts: Arc<LineCounts>,
    ) -> io::Result<Self> {
        let (descriptor, terminal) = match to {
            config::AccessLog::Off => return Ok(Self::off()),
            config::AccessLog::Stdout => {
                (io::stdout().as_fd().try_clone_to_owned()?, io::stdout().is_terminal())
            }
            config::AccessLog::Stderr => {
                (io::stderr().as_fd().try_clone_to_owned()?, io::stderr().is_terminal())
            }
        };
        let text = match form {
            config::LogForm::Auto => terminal,
            config::LogForm::Json => false,
            config::LogForm::Text => true,
        };
        // The descriptor itself: std's stdout would flush line by line under a lock.
        Self::to(Box::new(File::from(descriptor)), text, counts)
    }

    /// Into any writer; `text` for people, else JSON.
    pub fn to(to: Box<dyn Write + Send>, text: bool, counts: Arc<LineCounts>) -> io::Result<Self> {
        let form = if text { Form::Text } else { Form::Json };
        Ok(Self { sink: Some(Sink::start("access-log", to, counts)?), form })
    }

    /// Writes nothing.
    pub fn off() -> Self {
        Self { sink: None, form: Form::Json }
    }

    /// The near end for one worker.
    pub fn lines(&self) -> Lines {
        Lines {
            sink: self.sink.clone(),
            form: self.form,
            block: Vec::new(),
            count: 0,
            first_ms: 0,
            memos: Memos::default(),
        }
    }

    /// Waits until all that was flushed is written, `within` at most; says whether it is.
    /// The workers' `Lines` must have been flushed or dropped before.
    pub fn close(&self, within: Duration) -> bool {
        self.sink.as_ref().is_none_or(|sink| sink.close(within))
    }
}

/// One worker's lines.
pub struct Lines {
    sink: Option<Sink>,
    form: Form,
    block: Vec<u8>,
    count: u64,
    /// Time of the block's first line.
    first_ms: u64,
    memos: Memos,
}

impl Lines {
    /// Whether a line would be written at all: without a log, an entry need not be put together.
    pub fn enabled(&self) -> bool {
        self.sink.is_some()
    }

    /// Adds a line.
    pub fn write(&mut self, entry: &Entry<'_>) {
        if self.sink.is_none() {
            return;
        }
        if self.count == 0 {
            self.first_ms = entry.time_ms;
            self.block = self.sink.as_ref().map(Sink::block).unwrap_or_default();
        }
        self.form.write(&mut self.block, &mut self.memos, entry);
        self.count += 1;
        if self.block.len() >= BLOCK {
            self.flush();
        } else {
            self.flush_if_due(entry.time_ms);
        }
    }

    /// Hands the block over when its first line is 100 ms old, or the clock went back. A worker
    /// calls it from its tick, so that the last lines before a pause are seen.
    pub fn flush_if_due(&mut self, now_ms: u64) {
        if self.count > 0 && now_ms.checked_sub(self.first_ms).is_none_or(|age| age >= MAX_AGE_MS) {
            self.flush();
        }
    }

    /// Hands over what there is.
    pub fn flush(&mut self) {
        if let Some(sink) = &self.sink
            && self.count > 0
        {
            sink.offer(std::mem::take(&mut self.block), std::mem::take(&mut self.count));
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.flush();
    }
}

//! The two logs of calls together: one line a call for whoever looks, one record for whoever bills.
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use thiserror::Error;

use super::access::{self, AccessLog};
use super::metrics::Metrics;
use super::usage::{self, UsageLog};
use crate::config::{LogTo, Telemetry};

/// Why a log cannot be begun.
#[derive(Debug, Error)]
pub enum LogsError {
    #[error("the access log cannot be started: {0}")]
    Access(#[source] io::Error),
    #[error("the usage records cannot be started: {0}")]
    Usage(#[source] io::Error),
}

/// Under whatever names: two writers would tear each other's lines.
fn is_one_file(one: &Path, other: &Path) -> bool {
    let inode = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    inode(one).is_some_and(|one| inode(other) == Some(one))
}

/// Both logs of the process. Clones share the writers.
#[derive(Clone)]
pub struct Logs {
    access: AccessLog,
    usage: UsageLog,
}

/// One worker's near ends.
pub struct Lines {
    pub access: access::Lines,
    pub usage: usage::Lines,
}

impl Logs {
    /// As the policy says; a file that cannot be opened is an error.
    pub fn start(telemetry: &Telemetry, metrics: &Metrics) -> Result<Self, LogsError> {
        let lines = metrics.access_lines();
        let access = AccessLog::start(&telemetry.access_log, telemetry.form, lines)
            .map_err(LogsError::Access)?;
        let records = metrics.usage_lines();
        let shared = access.sink().filter(|_| telemetry.usage == telemetry.access_log);
        let usage = match shared {
            Some(sink) => UsageLog::through(sink.beside(records)),
            None => UsageLog::start(&telemetry.usage, records).map_err(LogsError::Usage)?,
        };
        if let (LogTo::File(one), LogTo::File(other)) = (&telemetry.access_log, &telemetry.usage)
            && is_one_file(one, other)
        {
            let why = format!("{}: that is the file of the access log", other.display());
            return Err(LogsError::Usage(io::Error::other(why)));
        }
        Ok(Self { access, usage })
    }

    /// Writes nothing.
    pub fn off() -> Self {
        AccessLog::off().into()
    }

    pub fn lines(&self) -> Lines {
        Lines { access: self.access.lines(), usage: self.usage.lines() }
    }

    /// Has files opened anew under their names, as whoever has moved them away asks for.
    pub fn reopen(&self) {
        let logs = [self.access.sink(), self.usage.sink()];
        logs.into_iter().flatten().for_each(super::sink::Sink::reopen);
    }

    /// Waits until all that was flushed is written, `within` at most for each; says whether it is.
    /// The workers' lines must have been flushed or dropped before.
    pub fn close(&self, within: Duration) -> bool {
        // what is billed goes first: the two may share a writer
        let usage = self.usage.close(within);
        self.access.close(within) && usage
    }
}

/// Without usage records.
impl From<AccessLog> for Logs {
    fn from(access: AccessLog) -> Self {
        Self { access, usage: UsageLog::off() }
    }
}

impl Lines {
    /// Whether anything would be written at all.
    pub fn enabled(&self) -> bool {
        self.access.enabled() || self.usage.enabled()
    }

    /// Hands over what has waited for long enough.
    pub fn flush_if_due(&mut self, now_ms: u64) {
        self.access.flush_if_due(now_ms);
        self.usage.flush_if_due(now_ms);
    }

    /// Hands over what there is.
    pub fn flush(&mut self) {
        self.access.flush();
        self.usage.flush();
    }
}

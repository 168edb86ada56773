//! The event log: `tracing` to stderr, text for people, JSON for machines.
//!
//! Lines go through the same kind of writer thread as the access log, so a reader that stops
//! never stalls a worker; what it misses is counted. Each line is masked as a whole, whatever
//! field it came from. Colours are not used: they would hide names from the masking.
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use tracing::Subscriber;
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::fmt::{MakeWriter, layer};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use super::metrics::LineCounts;
use super::outlet;
use super::redact;
use super::sink::Sink;
use crate::config::{LogForm, Telemetry};

/// What the command line or the environment says instead of the policy file.
#[derive(Debug, Clone, Copy, Default)]
pub struct Overrides<'a> {
    /// A filter, as in [`Telemetry::level`].
    pub level: Option<&'a str>,
    pub form: Option<LogForm>,
}

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("`{filter}` is no log filter (like `info` or `tidegate=debug,warn`)")]
    Filter { filter: String, source: ParseError },
    #[error("cannot start the log writer")]
    Start(#[source] io::Error),
    #[error("a log is set up already")]
    Twice(#[source] TryInitError),
}

/// The event log while it is open.
#[must_use = "dropping it closes the log"]
pub struct Log {
    sink: Sink,
}

/// Sets up the log of the process, once.
pub fn init(
    telemetry: &Telemetry,
    overrides: Overrides<'_>,
    counts: Arc<LineCounts>,
) -> Result<Log, LogError> {
    let filter = parse(overrides.level.unwrap_or(&telemetry.level))?;
    let text = match overrides.form.unwrap_or(telemetry.form) {
        LogForm::Auto => io::stderr().is_terminal(),
        LogForm::Json => false,
        LogForm::Text => true,
    };
    let to = outlet::standard_error().map_err(LogError::Start)?;
    let sink = Sink::start("event-log", to, counts).map_err(LogError::Start)?;
    subscriber(filter, text, sink.clone()).try_init().map_err(LogError::Twice)?;
    Ok(Log { sink })
}

/// Whether a filter can be used; for checking a policy before it is in force.
pub fn check_filter(filter: &str) -> Result<(), LogError> {
    parse(filter).map(drop)
}

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    let fault = |source| LogError::Filter { filter: filter.to_owned(), source };
    EnvFilter::builder().parse(filter).map_err(fault)
}

fn subscriber(filter: EnvFilter, text: bool, sink: Sink) -> impl Subscriber + Send + Sync {
    let masked = Masked(sink);
    let (json, plain) = if text {
        (None, Some(layer().with_ansi(false).with_writer(masked)))
    } else {
        (Some(layer().json().flatten_event(true).with_writer(masked)), None)
    };
    tracing_subscriber::registry().with(filter).with(json).with(plain)
}

impl Log {
    /// Waits until what was logged is written, `within` at most; says whether it is. What is
    /// logged later is lost.
    pub fn close(self, within: Duration) -> bool {
        self.sink.close(within)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.sink.close(Duration::from_millis(500));
    }
}

struct Masked(Sink);

impl<'a> MakeWriter<'a> for Masked {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { sink: &self.0, bytes: Vec::new() }
    }
}

/// One event's line, handed over when it is complete.
struct Line<'a> {
    sink: &'a Sink,
    bytes: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if !self.bytes.is_empty() {
            let line = redact::mask(&String::from_utf8_lossy(&self.bytes)).into_owned();
            self.sink.offer(line.into_bytes(), 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    /// What is written for the events of `act`.
    fn written(filter: &str, text: bool, act: impl FnOnce()) -> String {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let to: Box<dyn Write + Send> = Box::new(writer);
        let sink = Sink::start("test", to, Arc::default()).expect("a thread");
        let filter = parse(filter).expect("a filter");
        tracing::subscriber::with_default(subscriber(filter, text, sink.clone()), act);
        assert!(sink.close(Duration::from_secs(10)));
        drop(sink);
        let mut all = String::new();
        reader.read_to_string(&mut all).expect("text");
        all
    }

    fn leak() {
        let header = "Bearer sk-canary-0123456789";
        let error = io::Error::other("x-api-key: canary0123456789 was refused");
        let span = tracing::info_span!("call", key = "AIzacanary0123456789abcdefghijk");
        let _entered = span.enter();
        tracing::info!(authorization = header, %error, "GET /x?key=canary0123456789&a=1");
        tracing::debug!("not at this level");
    }

    #[test]
    fn secrets_are_masked_in_every_field_of_both_forms() {
        for text in [true, false] {
            let line = written("info", text, leak);
            assert!(!line.contains("canary"), "{line}");
            assert!(line.contains("was refused") && line.contains("***"), "{line}");
            assert_eq!(line.lines().count(), 1, "{line}");
        }
    }

    #[test]
    fn json_is_json_and_nothing_is_coloured() {
        let hostile = "a\u{1b}[31m\"\nb";
        let line = written("info", false, || tracing::warn!(peer = hostile, "odd {hostile}"));
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(
            (value["level"].as_str(), value["peer"].as_str()),
            (Some("WARN"), Some(hostile))
        );
        let text = written("info", true, || tracing::warn!("odd {hostile}"));
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }

    #[test]
    fn filters_are_checked() {
        assert!(check_filter("tidegate=debug,warn").is_ok());
        let error = check_filter("tidegate=loud").expect_err("no level");
        assert!(error.to_string().contains("tidegate=loud"), "{error}");
    }
}

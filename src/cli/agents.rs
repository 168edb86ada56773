//! `tidegate agents`: who calls a running instance, as a table that keeps itself up to date.
//!
//! It asks the admin listener for `/state` and changes nothing. On a terminal each table is drawn
//! over the one before; elsewhere tables follow each other, without any control characters. The
//! instance may end and come back: only an instance that never answered is an error.
mod ask;
mod table;

use std::io::{self, IsTerminal, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use tokio::runtime::LocalRuntime;

use self::ask::{AskError, Told, ask};
use self::table::Table;
use super::instance::{Instance, Lost, Which, show};
use crate::config::Address;
use crate::units;

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    which: Which,
    /// Print one table and end
    #[arg(long)]
    once: bool,
    /// Time between two tables
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = interval)]
    interval: Duration,
    /// Print what the instance told as JSON, one line each time
    #[arg(long)]
    json: bool,
    /// Agents shown on a terminal, the busiest first; 0: all
    #[arg(long, value_name = "N", default_value_t = 30)]
    rows: usize,
}

pub(super) fn interval(text: &str) -> Result<Duration, String> {
    let least = Duration::from_millis(100);
    match units::duration(text) {
        Ok(time) if time >= least => Ok(time),
        Ok(_) => Err("expected 100ms or more".to_owned()),
        Err(fault) => Err(format!("expected {fault}")),
    }
}

pub(super) fn run(options: &Options) -> ExitCode {
    let instance = match options.which.to_look() {
        Ok(instance) => instance,
        Err(lost) => return lost.end("tidegate agents"),
    };
    let runtime = LocalRuntime::new().map_err(|error| error.to_string());
    match runtime.and_then(|runtime| runtime.block_on(watch(&instance, options))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => Lost::Why(why).end("tidegate agents"),
    }
}

/// Asks and shows until told to end. The error is a sentence.
async fn watch(instance: &Instance, options: &Options) -> Result<(), String> {
    let at = &instance.at;
    let drawn = io::stdout().is_terminal() && !options.once && !options.json;
    let rows = if drawn && options.rows > 0 { options.rows } else { usize::MAX };
    let mut table = Table::new(show(at), rows);
    let mut answered = false;
    loop {
        let text = match ask(instance).await {
            Ok(told) => {
                answered = true;
                if options.json { told.line() } else { table.of(&told.view, Instant::now()) }
            }
            Err(error) if answered => {
                let why = explain(at, &error);
                if drawn { table.stale(&why) } else { format!("{why}\n") }
            }
            Err(error) => return Err(explain(at, &error)),
        };
        let text = if drawn { table::over(&text) } else { text };
        match print(&text) {
            // the reader has seen enough
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            printed => printed.map_err(|error| format!("stdout: {error}"))?,
        }
        if options.once {
            return Ok(());
        }
        tokio::time::sleep(options.interval).await;
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn explain(at: &Address, error: &AskError) -> String {
    let at = show(at);
    match error {
        AskError::Nobody(error) => format!(
            "nobody answers at {at}: {error}. Is it running, and is this its admin listener? \
             --admin says another address"
        ),
        AskError::Silent => format!("{at} does not answer in time"),
        AskError::Stranger => format!("what answers at {at} is no admin listener of Tidegate"),
        AskError::Refused(401) => format!(
            "the instance at {at} asks for its token: set TIDEGATE_ADMIN_TOKEN, or say with --config \
             which policy file names its `token` or its `state`"
        ),
        AskError::Refused(status) => format!("{at} answers with status {status}"),
        AskError::NoAgents => format!("the instance at {at} does not tell about agents"),
    }
}

impl Told {
    fn line(&self) -> String {
        format!("{}\n", self.json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_durations() {
        assert_eq!(interval("500ms"), Ok(Duration::from_millis(500)));
        assert!(interval("10ms").is_err() && interval("2").is_err());
    }
}

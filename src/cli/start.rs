//! The commands that serve. The one place where the command line meets the parts that run.
use std::process::ExitCode;

use super::{CANNOT_START, NO_STORE, tell};
use crate::app::{self, Running, Start, StartError};
use crate::telemetry::log;
use crate::{demo, simulate};

/// Serves until told to end.
pub(super) fn serve(start: Start) -> ExitCode {
    let telemetry = start.loaded.config.telemetry.clone();
    let log = match log::init(&telemetry, log::Overrides::default(), start.metrics.event_lines()) {
        Ok(log) => log,
        Err(error) => {
            tell(&format!("tidegate: {error}\n"));
            return ExitCode::from(CANNOT_START);
        }
    };
    let served = app::run(start, announce);
    log.close(std::time::Duration::from_secs(1));
    end(served)
}

/// What a person who started it by hand wants to know, and scripts can wait for.
fn announce(running: &Running) {
    tracing::info!(
        listen = running.listening.join(" "),
        admin = running.looked_at.as_deref().unwrap_or("off"),
        state = running.state(),
        version = env!("CARGO_PKG_VERSION"),
        "serving"
    );
}

fn end(served: Result<(), StartError>) -> ExitCode {
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("tidegate: {error}\n"));
            ExitCode::from(if matches!(error, StartError::Store(_)) {
                NO_STORE
            } else {
                CANNOT_START
            })
        }
    }
}

pub(super) fn simulate(options: &simulate::Options) -> ExitCode {
    simulate::run(*options)
}

pub(super) fn demo(options: &demo::Options) -> ExitCode {
    end(demo::run(options))
}

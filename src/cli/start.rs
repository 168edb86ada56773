//! The commands that serve. The one place where the command line meets the parts that run.
use std::process::ExitCode;

use clap::Args;

use super::{INTERNAL, tell};
use crate::config::{Loaded, Source};

/// All that is needed to serve, and to load the policy again later.
#[derive(Debug)]
pub(super) struct Start {
    pub source: Source,
    pub loaded: Loaded,
    /// `None`: one for each processor.
    pub workers: Option<usize>,
}

/// Options of the simulated backend.
#[derive(Debug, Args)]
pub(super) struct Simulate {}

/// Serves until told to end.
pub(super) fn serve(start: Start) -> ExitCode {
    let Start { source, loaded, workers } = start;
    tracing::debug!(?source.path, loaded.digest, workers, "policy loaded");
    missing("the server")
}

pub(super) fn simulate(_options: Simulate) -> ExitCode {
    missing("the simulated backend")
}

pub(super) fn demo() -> ExitCode {
    missing("the demo")
}

/// Says so plainly, rather than to do nothing and succeed.
fn missing(part: &str) -> ExitCode {
    tell(&format!("tidegate: {part} is not part of this build\n"));
    ExitCode::from(INTERNAL)
}

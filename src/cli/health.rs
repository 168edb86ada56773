//! `tidegate health`: whether a running instance lives, or is ready, as an exit code.
//!
//! For an image without a shell or curl: a container's health check runs this in it. It asks the
//! admin listener for `/livez` or `/readyz`, which want no proof.
use std::process::ExitCode;

use clap::Args;

use super::instance::{Failure, Instance, Which, show};
use super::{say, tell};

/// It answers, and says no.
const ILL: u8 = 1;

const CODES: &str = "\
Exit codes:
  0  it is well
  1  it answers, and is not
  3  nobody answers";

#[derive(Debug, Args)]
#[command(after_help = CODES)]
pub(super) struct Options {
    #[command(flatten)]
    which: Which,
    /// Whether it takes new work, too
    #[arg(long)]
    ready: bool,
}

pub(super) fn run(options: &Options) -> ExitCode {
    look(options).unwrap_or_else(|failure| failure.end("tidegate health"))
}

fn look(options: &Options) -> Result<ExitCode, Failure> {
    // neither path asks who looks
    let instance = Instance { token: None, ..options.which.to_look()? };
    let path = if options.ready { "/readyz" } else { "/livez" };
    let told = instance.text(path).map_err(|error| {
        Failure::Nobody(format!("nobody answers at {}: {error}", show(&instance.at)))
    })?;
    match told {
        Some((200, text)) => Ok(say(&text)),
        Some((_, text)) => {
            tell(&text);
            Ok(ExitCode::from(ILL))
        }
        None => Err(instance.stranger("its health")),
    }
}

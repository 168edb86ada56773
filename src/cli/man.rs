//! `tidegate man`: the manual, one page for each command, in the language of `man`.
//!
//! Made from the definition of the command line, as completions are; the same for the same version.
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Command, CommandFactory as _};
use clap_mangen::Man;

use super::{BAD_USAGE, CANNOT_START, Cli, INTERNAL, say, tell};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The command that the page is about: `keys new`; without it, the whole
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
    /// Write all pages into this directory, which is there
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "command")]
    all: Option<PathBuf>,
}

pub(super) fn run(options: &Options) -> ExitCode {
    // built: commands below know their full names
    let mut whole = Cli::command();
    whole.build();
    if let Some(directory) = &options.all {
        return match pages(&whole, "tidegate")
            .iter()
            .try_for_each(|(name, page)| std::fs::write(directory.join(format!("{name}.1")), page))
        {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tell(&format!("tidegate man: {}: {error}\n", directory.display()));
                ExitCode::from(CANNOT_START)
            }
        };
    }
    let wanted = std::iter::once("tidegate").chain(options.command.iter().map(String::as_str));
    let wanted = wanted.collect::<Vec<_>>().join("-");
    match pages(&whole, "tidegate").into_iter().find(|(name, _)| *name == wanted) {
        Some((_, page)) if !page.is_empty() => say(&String::from_utf8_lossy(&page)),
        Some(_) => ExitCode::from(INTERNAL),
        None => {
            tell(&format!("tidegate man: no command `{}`\n", options.command.join(" ")));
            ExitCode::from(BAD_USAGE)
        }
    }
}

/// Of a command and all below it that are to be seen, by name: `tidegate-keys-new`.
fn pages(command: &Command, name: &str) -> Vec<(String, Vec<u8>)> {
    let mut page = Vec::new();
    // a Vec takes all that is written
    let _ = Man::new(command.clone()).title(name).render(&mut page);
    let mut all = vec![(name.to_owned(), page)];
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        all.extend(pages(below, &format!("{name}-{}", below.get_name())));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let mut whole = Cli::command();
        whole.build();
        let pages = pages(&whole, "tidegate");
        let names: Vec<&str> = pages.iter().map(|(name, _)| &**name).collect();
        for name in ["tidegate", "tidegate-doctor", "tidegate-keys-new", "tidegate-man"] {
            assert!(names.contains(&name), "{name} of {names:?}");
        }
        assert!(!names.iter().any(|name| name.contains("features")), "hidden");
        for (name, page) in &pages {
            let page = String::from_utf8_lossy(page);
            assert!(page.contains(".TH") && page.contains(".SH SYNOPSIS"), "{name}");
        }
    }
}

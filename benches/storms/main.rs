//! Storms: one thing fails on purpose, and what others feel of it is measured, on the real binary.
//!
//! `cargo bench --bench storms -- --help`; the parts and their bounds are told in
//! `benches/README.md`. Where the machine was too busy to say, the table says so.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command: the table is its output"
)]
mod apart;
mod ask;
#[path = "../soak/child.rs"]
mod child;
mod drain;
#[path = "../proxies/load/http.rs"]
mod http;
mod kill;
#[allow(dead_code, reason = "shared with the bench of proxies, which asks for more")]
#[path = "../proxies/machine.rs"]
mod machine;
mod misses;
#[allow(dead_code, reason = "as above")]
#[path = "../proxies/process.rs"]
mod process;
mod readers;
mod reload;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use tokio::runtime::{Builder, LocalOptions};

use self::child::Child;
use self::report::{Line, Word};

/// Lets one thing fail at a time and prints what others felt.
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench storms --", no_binary_name = false)]
struct Options {
    /// Only this part (may be given several times)
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Smaller and shorter: to see that it works
    #[arg(long)]
    quick: bool,
    /// Another build of the tidegate binary
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_tidegate"))]
    tidegate: PathBuf,
    /// What cargo says to a bench
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// SIGTERM while streams run
    Drain,
    /// Policies change under load
    Reload,
    /// One of three backends is killed
    Kill,
    /// One upstream fails, and another route is measured
    Apart,
    /// A thousand clients that read slowly
    Readers,
    /// Thousands of calls at once that the cache does not know
    Misses,
}

/// What is the same for all parts of a run.
struct Lab {
    program: PathBuf,
    dir: tempfile::TempDir,
    quick: bool,
}

impl Lab {
    fn child(&self, name: &str, policy: &str) -> anyhow::Result<Child> {
        Child::start(&self.program, &self.dir.path().join(name), policy)
    }

    /// `full`, or `quick` when it is only to be seen that it works.
    fn size<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

fn main() -> ExitCode {
    if !std::env::args().any(|arg| arg == "--bench" || arg == "--help") {
        println!("storms: measures only as `cargo bench --bench storms`");
        return ExitCode::SUCCESS;
    }
    match run(Options::parse()) {
        Ok(lines) if lines.iter().all(|line| line.word != Word::Short) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("storms: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> anyhow::Result<Vec<Line>> {
    let does = |part| options.only.is_empty() || options.only.contains(&part);
    let lab = Lab { program: options.tidegate, dir: tempfile::tempdir()?, quick: options.quick };
    println!("{}, load {:.1}\n\n{}", machine::describe(), machine::load_average(), report::HEAD);
    let mut lines = Vec::new();
    for part in Part::value_variants() {
        if !does(*part) {
            continue;
        }
        // one for each part: what one leaves behind must not be the next one's trouble
        let runtime =
            Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
        let seen = runtime.block_on(async {
            match part {
                Part::Drain => drain::run(&lab).await,
                Part::Reload => reload::run(&lab).await,
                Part::Kill => kill::run(&lab).await,
                Part::Apart => apart::run(&lab).await,
                Part::Readers => readers::run(&lab).await,
                Part::Misses => misses::run(&lab).await,
            }
        });
        let seen = seen.unwrap_or_else(|error| vec![Line::failed(*part, &error)]);
        for line in &seen {
            println!("{line}");
        }
        lines.extend(seen);
    }
    Ok(lines)
}

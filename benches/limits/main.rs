//! Limits, fairness and pacing under a virtual clock: the project's limiter beside what others do.
//!
//! `cargo bench --bench limits -- --help`; what is simulated, and what the columns mean, is in
//! `benches/README.md`. A run depends on nothing but its seeds: it prints the same each time.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command: the tables are its output"
)]
mod admission;
mod engine;
mod fairness;
mod overrun;
mod pace;
mod policies;
mod random;
mod real;
mod report;
mod seen;
mod slots;
mod workload;

use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use self::report::Verdict;

/// Simulates limits and queues, and prints tables.
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench limits --", no_binary_name = false)]
pub struct Options {
    /// Only this part (may be given several times)
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Runs of each cell, each with a seed of its own
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: Option<u64>,
    /// Fewer seeds and rounds where that takes long: to see that it works
    #[arg(long)]
    quick: bool,
    /// Exit with 1 where a target is missed
    #[arg(long)]
    check: bool,
    /// What cargo says to a bench
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// How exactly a token limit is held
    Overrun,
    /// How fairly an upstream is shared
    Fairness,
    /// How well a backend's own limit is kept
    Pace,
    /// What admission costs
    Admission,
}

/// With fewer, the judged figures are noise.
const SEEDS: u64 = 6;

impl Options {
    fn does(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    /// `quick`: so many where not much time is to be spent.
    fn seeds(&self, quick: u64) -> u64 {
        self.seeds.unwrap_or(if self.quick { quick } else { SEEDS })
    }
}

fn main() -> ExitCode {
    if !std::env::args().any(|arg| arg == "--bench" || arg == "--help") {
        println!("limits: simulates only as `cargo bench --bench limits`");
        return ExitCode::SUCCESS;
    }
    let options = Options::parse();
    let mut verdicts: Vec<Verdict> = Vec::new();
    if options.does(Part::Overrun) {
        println!("{}", overrun::run(&options, &mut verdicts));
    }
    if options.does(Part::Fairness) {
        println!("{}", fairness::run(&options, &mut verdicts));
    }
    if options.does(Part::Pace) {
        verdicts.extend(paced(&options));
    }
    if options.does(Part::Admission) {
        println!("{}", admission::run(&options, &mut verdicts));
    }
    let (text, passed) = report::verdicts(&verdicts);
    println!("\n{text}");
    if passed || !options.check {
        return ExitCode::SUCCESS;
    }
    eprintln!("limits: a target was missed");
    ExitCode::FAILURE
}

fn paced(options: &Options) -> Option<Verdict> {
    match pace::run(options.seeds(SEEDS), &mut std::io::stdout()) {
        Ok(reached) => Some(Verdict::that("pacing, as above", reached, None)),
        // nobody reads the tables any more
        Err(_) => None,
    }
}

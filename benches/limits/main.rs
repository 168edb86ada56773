#![expect(clippy::print_stdout, reason = "a command: the tables are its output")]
mod engine;
mod overrun;
mod policies;
mod random;
mod report;
mod seen;
mod workload;

use std::process::ExitCode;

use clap::Parser;

#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench limits --", no_binary_name = false)]
pub struct Options {
    /// Runs of each cell
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: Option<u64>,
    #[arg(long)]
    quick: bool,
    #[arg(long)]
    check: bool,
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    fn seeds(&self) -> u64 {
        self.seeds.unwrap_or(if self.quick { 2 } else { 6 })
    }

    fn minutes(&self) -> f64 {
        if self.quick { 10.0 } else { 30.0 }
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let mut verdicts = Vec::new();
    println!("{}", overrun::run(&options, &mut verdicts));
    ExitCode::SUCCESS
}

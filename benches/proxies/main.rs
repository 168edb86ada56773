//! Tidegate beside bare floors, nginx and haproxy: the same work, one table.
//!
//! `cargo bench --bench proxies -- --help`; what is measured and what it ought to cost is in
//! `benches/README.md`. This binary is the driver, and with `--role` also the floors and the load,
//! so that a run needs nothing but the project.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command: the table is its output"
)]
mod collector;
mod floor;
mod load;
mod machine;
mod measure;
mod onlookers;
mod page;
mod peers;
mod process;
#[path = "../semantic/questions.rs"]
mod questions;
mod report;
mod results;

use std::process::ExitCode;

use clap::Parser;

/// Measures proxies side by side and prints one table.
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench proxies --", no_binary_name = false)]
pub struct Options {
    /// Only this part (may be given several times)
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<measure::Part>,
    /// Rounds: in each, every peer is measured once
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Only these peers (direct and floor-legacy always take part)
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// One round with short windows: to see that it works, not to compare
    #[arg(long)]
    quick: bool,
    /// Streams to hold open for the memory figures
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=9_500))]
    held: u32,
    /// Another build of the tidegate binary
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_tidegate"))]
    tidegate: std::path::PathBuf,
    /// Judge this peer by the targets
    #[arg(long, value_name = "PEER", default_value = "tidegate")]
    judge: String,
    /// Write every figure of every round there
    #[arg(long, value_name = "FILE")]
    json: Option<std::path::PathBuf>,
    /// What cargo says to a bench
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let done = match args.get(1).map(String::as_str) {
        Some("--role") => role(&args[2..]),
        _ if args.iter().any(|arg| arg == "--bench" || arg == "--help") => {
            measure::run(&Options::parse())
        }
        _ => {
            println!("proxies: measures only as `cargo bench --bench proxies`");
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("proxies: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn role(args: &[String]) -> anyhow::Result<()> {
    let Some((role, args)) = args.split_first() else { anyhow::bail!("--role NAME") };
    match role.as_str() {
        "load" => load::main(args),
        "floor-legacy" | "floor-multi" | "floor-conn" => floor::main(role, args),
        other => anyhow::bail!("no role {other:?}"),
    }
}

//! What it costs to look a question up among others that were asked before.
//!
//! `cargo bench --bench semantic -- --help`; what is measured is told in `benches/README.md`. The
//! index is the program's own, filled with questions from a template; what streams feel of lookups
//! beside them is the part `semantic` of the bench `proxies`.
#![expect(clippy::print_stdout, reason = "a command: the table is its output")]
mod questions;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::ensure;
use clap::Parser;
use rustix::time::{ClockId, clock_gettime};
use tidegate::cache::alike::{Alike, Asked, Cost, Look};
use tidegate::cache::{Author, Key};
use tidegate::config;

use self::questions::question;

/// Fills partitions, looks questions up in them, and prints a table.
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench semantic --", no_binary_name = false)]
struct Options {
    /// Questions in the partition (may be given several times)
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 100_000])]
    rows: Vec<u64>,
    /// Lookups for each figure
    #[arg(long, default_value_t = 4_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    lookups: u64,
    /// Fewer lookups: to see that it works
    #[arg(long)]
    quick: bool,
    /// Exit with 1 where a target is missed
    #[arg(long)]
    check: bool,
    /// What cargo says to a bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// The size that the target is for, and the target for it: CPU at p99.
const JUDGED: (u64, Duration) = (10_000, Duration::from_millis(1));
/// No partition is cut short here, whatever a process would give it.
const BUDGET: u64 = 4 << 30;
const HOUR: Duration = Duration::from_hours(1);

fn main() -> anyhow::Result<ExitCode> {
    if !std::env::args().any(|arg| arg == "--bench" || arg == "--help") {
        println!("semantic: measures only as `cargo bench --bench semantic`");
        return Ok(ExitCode::SUCCESS);
    }
    let options = Options::parse();
    let lookups = if options.quick { options.lookups.min(200) } else { options.lookups };
    println!("| rows | lookups | CPU µs p50 | p99 | wall µs p50 | p99 | judged | inline | found |");
    println!("|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    let mut met = true;
    let mut verdict = None;
    for &rows in &options.rows {
        let seen = Desk::filled(rows)?.measure(rows, lookups);
        println!("{}", seen.line(rows, lookups));
        if rows == JUDGED.0 {
            let found = quantile(&seen.cpu, 0.99);
            met &= found <= JUDGED.1;
            verdict = Some((if met { "PASS " } else { "SHORT" }, micros(found)));
        }
    }
    println!();
    match verdict {
        Some((word, found)) => println!(
            "{word} CPU of a lookup among {} questions, p99: {found:.0} µs, wanted ≤ {:.0}",
            JUDGED.0,
            micros(JUDGED.1)
        ),
        None => println!("-     CPU of a lookup among {} questions: not measured", JUDGED.0),
    }
    Ok(if options.check && !met { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A policy, and one partition of it.
struct Desk {
    alike: Alike,
    policy: Arc<str>,
    rule: config::Cache,
    author: Author,
}

/// Times of single lookups, sorted, and what became of them.
struct Seen {
    cpu: Vec<Duration>,
    wall: Vec<Duration>,
    /// Had a neighbour near enough to be judged.
    judged: u64,
    /// Would have been done on the I/O thread.
    inline: u64,
    found: u64,
}

impl Desk {
    fn filled(rows: u64) -> anyhow::Result<Self> {
        let semantic = config::Semantic {
            mode: config::SemanticMode::On,
            entries: usize::try_from(rows).unwrap_or(usize::MAX),
            ..config::Semantic::default()
        };
        let name = || Arc::from("bench");
        let desk = Self {
            alike: Alike::new(BUDGET),
            policy: name(),
            rule: config::Cache { semantic: Some(semantic), ..config::Cache::default() },
            author: Author {
                agent: name(),
                model: name(),
                route: name(),
                upstream: name(),
                credential: 1,
            },
        };
        let now = SystemTime::now();
        for number in 0..rows {
            let entry = Key(*blake3::hash(&number.to_le_bytes()).as_bytes());
            desk.alike.add(&desk.asked(&question(number)), entry, now + HOUR, now);
        }
        let kept: usize = desk.alike.figures().policies.iter().map(|it| it.questions).sum();
        ensure!(kept as u64 == rows, "{kept} of {rows} questions were kept");
        Ok(desk)
    }

    fn asked<'a>(&'a self, text: &'a str) -> Asked<'a> {
        let Self { policy, rule, author, .. } = self;
        let partition = Key([7; 32]);
        Asked { policy, partition, text, rule, author, tighten: None, vector: None }
    }

    /// Looks up questions that were not asked before.
    fn measure(&self, rows: u64, lookups: u64) -> Seen {
        let (mut cpu, mut wall) = (Vec::new(), Vec::new());
        let (mut judged, mut inline, mut found) = (0, 0, 0);
        let warm = lookups / 10;
        for number in 0..warm + lookups {
            let text = question(rows + number);
            let asked = self.asked(&text);
            inline += u64::from(self.alike.cost(&asked) == Cost::Inline);
            let (begun, used) = (Instant::now(), thread_cpu());
            let look = self.alike.look(&asked, SystemTime::now());
            let (used, took) = (thread_cpu().saturating_sub(used), begun.elapsed());
            if number < warm {
                inline = 0;
                continue;
            }
            cpu.push(used);
            wall.push(took);
            match look {
                Look::Like { .. } | Look::Canonical { .. } => {
                    (judged, found) = (judged + 1, found + 1);
                }
                Look::None { why, .. } => {
                    judged += u64::from(!["new", "below-threshold"].contains(&why));
                }
            }
        }
        cpu.sort_unstable();
        wall.sort_unstable();
        Seen { cpu, wall, judged, inline, found }
    }
}

impl Seen {
    fn line(&self, rows: u64, lookups: u64) -> String {
        let Self { cpu, wall, judged, inline, found } = self;
        let at = |times: &[Duration], q| micros(quantile(times, q));
        let share = |part: &u64| *part as f64 * 100.0 / lookups as f64;
        format!(
            "| {rows} | {lookups} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} % | {:.0} % | {:.1} % |",
            at(cpu, 0.5),
            at(cpu, 0.99),
            at(wall, 0.5),
            at(wall, 0.99),
            share(judged),
            share(inline),
            share(found),
        )
    }
}

/// Of sorted times.
fn quantile(sorted: &[Duration], q: f64) -> Duration {
    let at = (sorted.len().saturating_sub(1) as f64 * q).round() as usize;
    sorted.get(at).copied().unwrap_or_default()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// What this thread has had of a CPU.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

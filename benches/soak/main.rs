//! Soak: the real binary under a mixed load for minutes, with backends that fail now and then, and
//! a verdict on what is left of it: memory, files, threads, gauges, and every call accounted for.
//!
//! `cargo bench --bench soak -- --help`; the mix is in `calls.rs`, the judge in `judge.rs`. The exit
//! code is the verdict. It says nothing of speed.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command: the verdict is its output"
)]
mod calls;
mod child;
#[path = "../proxies/load/http.rs"]
mod http;
mod judge;
mod load;
#[allow(dead_code, reason = "shared with the bench of proxies, which asks for more")]
#[path = "../proxies/machine.rs"]
mod machine;
#[allow(dead_code, reason = "as above")]
#[path = "../proxies/process.rs"]
mod process;
#[allow(dead_code, reason = "shared with the bench of limits")]
#[path = "../limits/random.rs"]
mod random;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use tidegate::simulate::{self, Simulator};
use tokio::runtime::{Builder, LocalOptions};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use self::calls::Ending;
use self::child::{Child, Metrics};
use self::judge::{Sample, Verdict};
use self::load::Tally;

/// Loads the program for minutes and judges what is left.
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench soak --", no_binary_name = false)]
struct Options {
    /// How long the load lasts; below three, memory is still warming up when it is judged
    #[arg(long, default_value_t = 3.0)]
    minutes: f64,
    /// Clients at once
    #[arg(long, default_value_t = 96, value_parser = clap::value_parser!(u64).range(1..=2000))]
    clients: u64,
    /// Another build of the tidegate binary
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_tidegate"))]
    tidegate: PathBuf,
    /// What cargo says to a bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// Between two reloads.
const RELOAD: Duration = Duration::from_secs(20);
/// How long the process may take to come to rest.
const REST: Duration = Duration::from_secs(30);

/// What must be zero when nobody calls.
const GAUGES: [&str; 8] = [
    "tidegate_requests_in_flight",
    "tidegate_upstream_in_flight",
    "tidegate_upstream_waiting",
    "tidegate_queue_depth",
    "tidegate_lane_waiting",
    "tidegate_cache_in_flight",
    "tidegate_connections_open",
    "tidegate_memory_held_bytes",
];

fn main() -> ExitCode {
    if !std::env::args().any(|arg| arg == "--bench" || arg == "--help") {
        println!("soak: loads only as `cargo bench --bench soak`");
        return ExitCode::SUCCESS;
    }
    match soak(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn soak(options: &Options) -> anyhow::Result<bool> {
    let dir = tempfile::tempdir()?;
    let backends = backends()?;
    let child = Child::start(&options.tidegate, dir.path(), &policy(&backends, 0))?;
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    let run = runtime.block_on(run(options, &child, &backends))?;
    let log = child.end().context("its end")?;
    let seen = backends.iter().map(|it| it.seen().requests).sum();
    let mut verdicts = judge::judge(&run.samples);
    verdicts.extend(rested(&run.rest));
    verdicts.push(behaved(&run.tally));
    verdicts.push(accounted(&log, seen, &run));
    for ((kind, ending), count) in &run.tally {
        println!("{count:>8} {kind:?} {ending:?}");
    }
    for ((outcome, attempts), count) in &outcomes(&log) {
        println!("{count:>8} lines of the log: {outcome}, attempts: {attempts}");
    }
    println!();
    for verdict in &verdicts {
        println!("{}", verdict.line());
    }
    Ok(verdicts.iter().all(|verdict| verdict.passed))
}

/// Two addresses that err now and then, the one to fall back on, and the one in trouble.
fn backends() -> anyhow::Result<Vec<Simulator>> {
    let fault = |name: &str| name.parse().ok();
    let faults = [(fault("500"), 0.02), (fault("reset"), 0.02), (None, 0.0), (None, 1.0)];
    let start = |(fault, fault_rate)| {
        let listen = ([127, 0, 0, 1], 0).into();
        let options =
            simulate::Options { listen, fault, fault_rate, ..simulate::Options::default() };
        simulate::start(options).context("a backend")
    };
    faults.into_iter().map(start).collect()
}

/// `turn` makes it differ from the last.
fn policy(backends: &[Simulator], turn: usize) -> String {
    let [first, second, spare, trouble] = [0, 1, 2, 3].map(|index| {
        backends.get(index).map_or_else(String::new, |it| format!("http://{}", it.addr))
    });
    let places = 512 + turn % 2;
    format!(
        "server: {{ memory: 256MiB, drain: {{ delay: 0s, timeout: 20s }} }}
upstreams:
  main:
    dialect: openai
    urls: [\"{first}\", \"{second}\"]
    balance: least_busy
    concurrency: {places}
    retry: {{ attempts: 4, budget: 50% }}
  spare: {{ dialect: openai, url: \"{spare}\" }}
  trouble:
    dialect: openai
    url: \"{trouble}\"
    timeouts: {{ queue: 1s, first_byte: 1s, idle: 1s }}
    breaker: {{ open: 1s, longest: 2s }}
routes:
  - {{ path: /trouble, to: trouble }}
  - {{ path: /, to: main, fallback: [spare] }}
policies:
  - name: all
    limits: {{ requests: 100M/min, tokens: 100G/min, concurrency: 2000 }}
    cache: {{ ttl: 1h, memory: 4MiB }}
"
    )
}

/// What a run leaves to be judged.
struct Run {
    samples: Vec<Sample>,
    tally: Tally,
    /// After the load.
    rest: Metrics,
    reloads: usize,
}

async fn run(options: &Options, child: &Child, backends: &[Simulator]) -> anyhow::Result<Run> {
    let begun = Instant::now();
    let until = begun + Duration::from_secs_f64(options.minutes * 60.0);
    let tally = Rc::new(RefCell::new(Tally::new()));
    let clients: Vec<_> = (0..options.clients)
        .map(|number| {
            let (tally, at) = (Rc::clone(&tally), child.at);
            tokio::task::spawn_local(async move { load::client(at, number, until, &tally).await })
        })
        .collect();
    let mut samples = Vec::new();
    let (mut reloads, mut reload_at) = (0, begun + RELOAD);
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while Instant::now() < until {
        second.tick().await;
        samples.push(Sample {
            at: begun.elapsed().as_secs_f64(),
            rss: machine::rss(child.id()),
            files: entries(child.id(), "fd"),
            threads: entries(child.id(), "task"),
        });
        if Instant::now() >= reload_at {
            reloads += 1;
            child.reload(&policy(backends, reloads))?;
            reload_at += RELOAD;
        }
    }
    for client in clients {
        client.await?;
    }
    let tally = tally.take();
    Ok(Run { samples, tally, rest: rest(child).await?, reloads })
}

/// How many there are in a folder of the process's own in /proc.
fn entries(pid: u32, folder: &str) -> usize {
    fs::read_dir(format!("/proc/{pid}/{folder}")).map_or(0, Iterator::count)
}

/// Waits until nothing is left, or the time for it is over.
async fn rest(child: &Child) -> anyhow::Result<Metrics> {
    let until = Instant::now() + REST;
    loop {
        let metrics = child.metrics().await?;
        let quiet = GAUGES.iter().all(|gauge| metrics.sum(gauge, "") == 0.0);
        if quiet || Instant::now() > until {
            return Ok(metrics);
        }
        sleep(Duration::from_millis(250)).await;
    }
}

fn rested(rest: &Metrics) -> Vec<Verdict> {
    let left = GAUGES.map(|gauge| (gauge, rest.sum(gauge, "")));
    let left: Vec<_> = left.iter().filter(|(_, value)| *value != 0.0).collect();
    let figure = if left.is_empty() { "none".to_owned() } else { format!("{left:?}") };
    let dropped = rest.sum("tidegate_log_dropped_lines_total", "");
    vec![
        Verdict::new("gauges above zero at rest", figure, "none", left.is_empty()),
        Verdict::new("lost log lines", dropped.to_string(), "0", dropped == 0.0),
    ]
}

fn behaved(tally: &Tally) -> Verdict {
    let calls: u64 = tally.values().sum();
    let wrong: Vec<_> = tally.iter().filter(|((kind, ending), _)| !kind.allows(ending)).collect();
    let count: u64 = wrong.iter().map(|(_, count)| **count).sum();
    let figure = match wrong.first() {
        Some(((kind, ending), _)) => format!("{count} of {calls}, as {kind:?} {ending:?}"),
        None => format!("0 of {calls}"),
    };
    Verdict::new("calls that ended as they must not", figure, "0", count == 0 && calls > 0)
}

/// What the log says, in short.
fn outcomes(log: &[serde_json::Value]) -> BTreeMap<(&str, u64), u64> {
    let mut counts = BTreeMap::new();
    for line in log {
        let key = (line["outcome"].as_str().unwrap_or("-"), line["attempts"].as_u64().unwrap_or(0));
        *counts.entry(key).or_default() += 1;
    }
    counts
}

/// Attempts by the log against requests that reached a backend. Who leaves early may leave between
/// the two. What was sent again because a kept connection had gone, and got no answer then either, is
/// in the metrics alone; nothing else may reach a backend that the log does not know.
fn accounted(log: &[serde_json::Value], seen: u64, run: &Run) -> Verdict {
    let attempts: u64 = log.iter().filter_map(|line| line["attempts"].as_u64()).sum();
    let is_left = |ending: &Ending| matches!(ending, Ending::Left);
    let left: u64 = run.tally.iter().filter(|((_, it), _)| is_left(it)).map(|(_, n)| n).sum();
    let stale = run.rest.sum("tidegate_upstream_retries_total", "stale_connection") as u64;
    let reloaded = run.rest.sum("tidegate_config_reloads_total", "failed") == 0.0;
    Verdict::new(
        "attempts in the log, requests at the backends, calls left, sent again, reloads",
        format!("{attempts}, {seen}, {left}, {stale}, {}", run.reloads),
        "attempts - left <= requests <= attempts + sent again, no failed reload",
        reloaded && seen > 0 && seen <= attempts + stale && attempts <= seen + left,
    )
}

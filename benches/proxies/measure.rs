//! The driver: starts the peers, sends the load through one after the other, round by round, and
//! collects the figures. It sleeps while the load runs.
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::Options;
use crate::load::{Beside, Job, Kind, Outcome};
use crate::machine::{self, Pins};
use crate::peers::{self, Bench, DIRECT, FLOOR, HIT, MISS, PLAIN, Peer, Running};
use crate::process::{Output, Process, pause};
use crate::report;
use crate::results::Results;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// 1 kB requests and answers, without streaming
    Requests,
    /// 200 streams of 100 tokens, one every 20 ms
    Streams,
    /// Request bodies of 1 MB and 10 MB
    Bodies,
    /// Calls that a cache answers, and calls that it does not
    Cache,
    /// The same streams beside lookups of questions by likeness
    Semantic,
    /// Start, idle memory, memory with many streams held open, size of the binary
    Memory,
}

/// Everything that was found, and what a reader must know of it.
#[derive(Default)]
pub struct Findings {
    pub results: Results,
    pub notes: Vec<String>,
    /// One-minute load averages, taken before every measurement.
    pub loads: Vec<f64>,
    /// The streams' hashes without a proxy.
    expected: Vec<String>,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    let parts =
        [Part::Requests, Part::Streams, Part::Bodies, Part::Cache, Part::Semantic, Part::Memory];
    let parts = parts.into_iter().filter(|p| options.only.is_empty() || options.only.contains(p));
    let parts: Vec<Part> = parts.collect();
    let mut peers = choose(&options.peers)?;
    let steps: Vec<Step> = parts.iter().flat_map(|&part| steps(part)).copied().collect();
    peers.retain(|&peer| {
        let memory = parts.contains(&Part::Memory) && peer.has_memory();
        peer.name == DIRECT || memory || steps.iter().any(|step| step.concerns(peer))
    });
    let bench = Bench {
        dir: tempfile::tempdir()?,
        pins: Pins::choose(),
        itself: std::env::current_exe()?,
        tidegate: options.tidegate.clone(),
    };
    let mut found = Findings::default();
    if bench.pins.proxy.is_none() {
        found.notes.push("fewer than two CPUs or no taskset: nothing is pinned".to_owned());
    }
    let backend = bench.backend()?;
    let mut running = Vec::new();
    for peer in peers {
        match bench.start(peer, backend.1) {
            Ok(started) => {
                fill(&bench, &started, options)?;
                running.push(started);
            }
            Err(why) => found.notes.push(format!("{} takes no part: {why:#}", peer.name)),
        }
    }
    let rounds = if options.quick { 1 } else { options.rounds as usize };
    for round in 0..rounds {
        // Each step goes through all peers before the next: what is compared lies close in time.
        for &step in &steps {
            progress(&format!("round {} of {rounds}: {step:?}", round + 1));
            each(&mut running, round, &mut found, |running, found| {
                bench.forget_logs()?;
                if !step.concerns(running.peer) {
                    return Ok(());
                }
                steady(&bench, step, running, options, found)
            });
        }
    }
    let took_part: Vec<Peer> = running.iter().map(|running| running.peer).collect();
    let seen = crate::onlookers::told(&running, &mut found.notes);
    // The long-lived ones end here: memory is measured on fresh processes.
    drop(running);
    if parts.contains(&Part::Memory) {
        for peer in took_part.iter().filter(|peer| peer.has_memory()) {
            progress(&format!("memory: {}", peer.name));
            found.loads.push(machine::load_average());
            if let Err(why) = memory(&bench, *peer, backend.1, options, &mut found) {
                found.notes.push(format!("{}: no memory figures: {why:#}", peer.name));
            }
        }
    }
    println!("{}", report::render(&found, &took_part, &options.judge));
    if let Some(file) = &options.json {
        let text = serde_json::to_string_pretty(&report::json(&found))?;
        std::fs::write(file, text).with_context(|| file.display().to_string())?;
    }
    seen
}

/// The peers asked for; those that all others are compared with always.
fn choose(names: &[String]) -> anyhow::Result<Vec<Peer>> {
    for name in names {
        let known: Vec<&str> = peers::ALL.iter().map(|peer| peer.name).collect();
        ensure!(known.contains(&name.as_str()), "no peer {name:?}; there are {}", known.join(", "));
    }
    let wanted = |peer: &Peer| {
        names.is_empty()
            || [DIRECT, FLOOR].contains(&peer.name)
            || names.iter().any(|n| n == peer.name)
    };
    Ok(peers::ALL.into_iter().filter(wanted).collect())
}

/// Measures every peer once, in another order each round; one that fails is left out from then on.
fn each(
    running: &mut Vec<Running>,
    round: usize,
    found: &mut Findings,
    mut measure: impl FnMut(&Running, &mut Findings) -> anyhow::Result<()>,
) {
    let mut failed = Vec::new();
    // Direct first, always: the others' streams are compared with its.
    let others = running.len().saturating_sub(1).max(1);
    for index in 0..running.len() {
        let index = if index == 0 { 0 } else { 1 + (index - 1 + round) % others };
        let peer = &running[index];
        found.loads.push(machine::load_average());
        if let Err(why) = measure(peer, found) {
            found.notes.push(format!(
                "{} was left out in round {}: {why:#}",
                peer.peer.name,
                round + 1
            ));
            failed.push(peer.peer);
        }
        pause(Duration::from_millis(100));
    }
    running.retain(|running| !failed.contains(&running.peer));
}

/// One measurement of one peer.
#[derive(Debug, Clone, Copy)]
enum Step {
    Requests { connections: usize },
    Streams,
    Body { megabytes: usize },
    Cache { kilobytes: usize },
    Beside,
}

impl Step {
    fn concerns(self, peer: Peer) -> bool {
        match self {
            Self::Requests { .. } | Self::Streams | Self::Body { .. } => !peer.caches(),
            Self::Cache { kilobytes: 1 } => [FLOOR, PLAIN, HIT, MISS].contains(&peer.name),
            Self::Cache { .. } => [PLAIN, MISS].contains(&peer.name),
            Self::Beside => peer.name == MISS || peer.questions().is_some(),
        }
    }
}

/// What a part does in a round; memory is not measured in rounds.
fn steps(part: Part) -> &'static [Step] {
    match part {
        Part::Requests => &[
            Step::Requests { connections: 1 },
            Step::Requests { connections: 64 },
            Step::Requests { connections: 256 },
        ],
        Part::Streams => &[Step::Streams],
        Part::Bodies => &[Step::Body { megabytes: 1 }, Step::Body { megabytes: 10 }],
        Part::Cache => &[Step::Cache { kilobytes: 1 }, Step::Cache { kilobytes: 100 }],
        Part::Semantic => &[Step::Beside],
        Part::Memory => &[],
    }
}

fn steady(
    bench: &Bench,
    step: Step,
    running: &Running,
    options: &Options,
    found: &mut Findings,
) -> anyhow::Result<()> {
    let peer = running.peer;
    let closed = |connections, body_bytes, window_ms| {
        let window_ms = if options.quick { window_ms / 4 } else { window_ms };
        Kind::Requests { connections, body_bytes, warm_ms: 300, window_ms, fresh: false }
    };
    let outcome = match step {
        Step::Requests { connections } => {
            let outcome = load(bench, running, closed(connections, 1024, 1_200))?;
            requests(&mut found.results, peer, connections, &outcome);
            outcome
        }
        Step::Streams => {
            let count = if options.quick { 50 } else { 200 };
            let kind = Kind::Streams { count, tokens: 100, gap_ms: 20, beside: None };
            let outcome = load(bench, running, kind)?;
            streams(found, peer, &outcome);
            outcome
        }
        Step::Body { megabytes } => {
            let window_ms = if megabytes > 1 { 2_000 } else { 1_000 };
            let outcome = load(bench, running, closed(1, megabytes * 1_000_000, window_ms))?;
            if peer.name != DIRECT {
                let cpu = outcome.usage.cpu_ns as f64 / outcome.done as f64 / 1e6;
                found.results.add(peer.name, &format!("body{megabytes}.cpu"), cpu);
            }
            outcome
        }
        Step::Cache { kilobytes } => {
            cached(bench, kilobytes, running, options, &mut found.results)?
        }
        Step::Beside => beside(bench, running, options, &mut found.results)?,
    };
    broken(found, peer, &outcome);
    Ok(())
}

/// Calls in a closed loop, with a cache or without one.
fn cached(
    bench: &Bench,
    kilobytes: usize,
    running: &Running,
    options: &Options,
    results: &mut Results,
) -> anyhow::Result<Outcome> {
    let (peer, small) = (running.peer, kilobytes == 1);
    let outcome = load(
        bench,
        running,
        Kind::Requests {
            connections: if small { 64 } else { 16 },
            body_bytes: if small { 1024 } else { kilobytes * 1000 },
            warm_ms: 300,
            window_ms: if options.quick { 400 } else { 1_200 },
            fresh: peer.name != HIT,
        },
    )?;
    let (done, cpu) = (outcome.done as f64, outcome.usage.cpu_ns as f64);
    results.add(peer.name, &format!("cache{kilobytes}.rate"), done / outcome.seconds);
    results.add(peer.name, &format!("cache{kilobytes}.cpu"), cpu / done / 1e3);
    Ok(outcome)
}

/// Streams, and a question that is new every few milliseconds beside them.
fn beside(
    bench: &Bench,
    running: &Running,
    options: &Options,
    results: &mut Results,
) -> anyhow::Result<Outcome> {
    let peer = running.peer;
    let asked = results.rounds(peer.name, "beside.gap99").len() as u64;
    let from = u64::from(peer.questions().unwrap_or(0)) + asked * A_ROUND;
    let outcome = load(
        bench,
        running,
        Kind::Streams {
            count: if options.quick { 50 } else { 200 },
            tokens: 100,
            gap_ms: 20,
            beside: Some(Beside { from, gap_ms: 10 }),
        },
    )?;
    let mut add = |what: &str, value: f64| results.add(peer.name, what, value);
    add("beside.gap50", outcome.gap.p50);
    add("beside.gap99", outcome.gap.p99);
    add("beside.cpu", outcome.usage.cpu_ns as f64 / outcome.done as f64 / 1e6);
    Ok(outcome)
}

/// More questions than are asked in a round.
const A_ROUND: u64 = 10_000;

/// Asks as many questions as the peer is to know.
fn fill(bench: &Bench, running: &Running, options: &Options) -> anyhow::Result<()> {
    let Some(count) = running.peer.questions() else { return Ok(()) };
    let count = u64::from(if options.quick { count / 10 } else { count });
    progress(&format!("{}: {count} questions", running.peer.name));
    load(bench, running, Kind::Questions { from: 0, count }).map(drop)
}

fn requests(results: &mut Results, peer: Peer, connections: usize, outcome: &Outcome) {
    let done = outcome.done as f64;
    let mut add =
        |what: &str, value: f64| results.add(peer.name, &format!("c{connections}.{what}"), value);
    add("rate", done / outcome.seconds);
    add("p50", outcome.latency.p50 * 1e3);
    add("p99", outcome.latency.p99 * 1e3);
    if peer.name != DIRECT {
        let cpu = outcome.usage.cpu_ns as f64 / done / 1e3;
        add("cpu", cpu);
        let (user, system) = (outcome.usage.user_ticks as f64, outcome.usage.system_ticks as f64);
        add("user", cpu * user / (user + system));
        add("wakeups", outcome.usage.wakeups as f64 / done);
    }
}

fn streams(found: &mut Findings, peer: Peer, outcome: &Outcome) {
    if found.expected.is_empty() {
        found.expected.clone_from(&outcome.hashes);
    }
    let same = outcome.hashes.iter().zip(&found.expected).filter(|(own, direct)| own == direct);
    let (count, same) = (outcome.hashes.len() as f64, same.count() as f64);
    let mut add = |what: &str, value: f64| found.results.add(peer.name, what, value);
    add("streams.count", count);
    add("streams.same", same);
    add("streams.first50", outcome.latency.p50);
    add("streams.first99", outcome.latency.p99);
    add("streams.gap50", outcome.gap.p50);
    add("streams.gap99", outcome.gap.p99);
    if peer.name != DIRECT {
        // Milliseconds a stream are seconds a thousand streams.
        add("streams.cpu", outcome.usage.cpu_ns as f64 / count / 1e6);
        add("streams.wakeups", outcome.usage.wakeups as f64 / count / 100.0);
    }
}

fn broken(found: &mut Findings, peer: Peer, outcome: &Outcome) {
    found.results.add(peer.name, "broken", outcome.broken as f64);
    if let Some(fault) = &outcome.fault {
        let note = format!("{}: {} broken, the first: {fault}", peer.name, outcome.broken);
        found.notes.push(note);
    }
}

/// Several starts of one peer; the last of them idles, then holds streams.
fn memory(
    bench: &Bench,
    peer: Peer,
    backend: std::net::SocketAddr,
    options: &Options,
    found: &mut Findings,
) -> anyhow::Result<()> {
    let count = if options.quick { options.held.min(500) } else { options.held } as usize;
    if let Some(size) = peer.program(bench).as_deref().and_then(|file| stripped_size(bench, file)) {
        found.results.add(peer.name, "size", size as f64 / 1e6);
    }
    for _ in 0..if options.quick { 2 } else { 7 } {
        let running = bench.start(peer, backend)?;
        found.results.add(peer.name, "start", running.start.as_secs_f64() * 1e3);
    }
    let running = bench.start(peer, backend)?;
    let id = running.id().context("no process")?;
    pause(Duration::from_millis(500));
    let idle = machine::rss(id);
    found.results.add(peer.name, "idle", idle as f64 / 1e6);
    let wanted = count as u64 * 2 + 200;
    let files = machine::open_files();
    ensure!(files >= wanted, "{count} streams need {wanted} open files, the limit is {files}");
    let outcome = load(bench, &running, Kind::Hold { count, hold_ms: 5_000 })?;
    let per_stream = outcome.peak_rss.saturating_sub(idle) as f64 / count as f64 / 1e3;
    found.results.add(peer.name, "held.each", per_stream);
    found.results.add(peer.name, "held.ok", outcome.done as f64);
    found.results.add(peer.name, "held.count", count as f64);
    broken(found, peer, &outcome);
    Ok(())
}

/// The size of a binary without its symbols, in bytes.
fn stripped_size(bench: &Bench, file: &Path) -> Option<u64> {
    let copy = bench.dir.path().join("stripped");
    let strip = machine::tool("strip")?;
    let done = Command::new(strip).arg("-o").arg(&copy).arg(file).status().ok()?.success();
    let size = std::fs::metadata(if done { &copy } else { file }).ok()?.len();
    Some(size)
}

/// Runs the load in its own process and reads its outcome.
fn load(bench: &Bench, running: &Running, kind: Kind) -> anyhow::Result<Outcome> {
    let job = Job { to: running.at, proxy: running.id(), kind };
    let args = ["--role".to_owned(), "load".to_owned(), serde_json::to_string(&job)?];
    let stderr = bench.dir.path().join("load.err");
    let cpus = bench.pins.load.as_deref();
    let process = Process::start(&bench.itself, &args, cpus, &Output::Piped, &stderr)?;
    let printed = process.finish(Duration::from_secs(90))?;
    let errors = || std::fs::read_to_string(&stderr).unwrap_or_default();
    let outcome: Outcome = serde_json::from_str(&printed).with_context(errors)?;
    let fault = outcome.fault.clone().unwrap_or_default();
    ensure!(outcome.done > 0, "nothing was answered: {fault}");
    Ok(outcome)
}

#[expect(clippy::print_stderr, reason = "for the person who waits; the table goes to stdout")]
fn progress(line: &str) {
    eprintln!("{line}");
}

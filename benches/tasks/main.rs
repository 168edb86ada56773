//! What tasks cost from outside, on the real binary: the wait for a 202 with real fsync, the memory
//! of a long queue, and the time until a start has found it all again after `kill -9`.
//!
//! `cargo bench --bench tasks -- --help`; what is wanted is told in `benches/README.md`.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command: the table is its output"
)]
#[allow(dead_code, reason = "shared with the bench of storms, which asks for more")]
#[path = "../soak/child.rs"]
mod child;
#[path = "../proxies/load/http.rs"]
mod http;
#[allow(dead_code, reason = "as above")]
#[path = "../proxies/machine.rs"]
mod machine;
#[allow(dead_code, reason = "as above")]
#[path = "../proxies/process.rs"]
mod process;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::{Parser, ValueEnum};
use rustix::process::Signal;
use tokio::runtime::{Builder, LocalOptions};
use tokio::time::Instant as At;

use self::child::Child;
use self::http::Connection;
use self::process::{Output, Process, free_address};

/// Submits tasks and prints what they cost.
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench tasks --", no_binary_name = false)]
struct Options {
    /// Only this part
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Smaller and shorter: to see that it works
    #[arg(long)]
    quick: bool,
    /// Another build of the tidegate binary
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_tidegate"))]
    tidegate: PathBuf,
    /// Where tasks are kept, on the disk to be measured; a directory of its own below this one
    #[arg(long, value_name = "DIR", default_value = ".")]
    disk: PathBuf,
    /// What cargo says to a bench
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The wait for a 202
    Accept,
    /// Memory of tasks that wait, and a start with many
    Queue,
}

struct Lab {
    options: Options,
    dir: tempfile::TempDir,
    state: tempfile::TempDir,
    /// Answers at once, or never.
    backend: (Process, SocketAddr),
    short: bool,
}

fn main() -> ExitCode {
    if !std::env::args().any(|arg| arg == "--bench" || arg == "--help") {
        println!("tasks: measures only as `cargo bench --bench tasks`");
        return ExitCode::SUCCESS;
    }
    match run(Options::parse()) {
        Ok(false) => ExitCode::SUCCESS,
        Ok(true) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("tasks: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether something fell short.
fn run(options: Options) -> anyhow::Result<bool> {
    let dir = tempfile::tempdir()?;
    let state = tempfile::tempdir_in(std::path::absolute(&options.disk)?)?;
    let at = free_address()?;
    let args = ["simulate", "--listen", &at.to_string()];
    let mut backend =
        Process::start(&options.tidegate, &args, None, &Output::Null, &dir.path().join("backend"))?;
    backend.ready(at).context("the backend")?;
    let mut lab = Lab { options, dir, state, backend: (backend, at), short: false };
    println!("{}, load {:.1}\n", machine::describe(), machine::load_average());
    println!("| | what | figure | wanted |\n|---|---|---|---|");
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(async {
        if lab.options.only != Some(Part::Queue) {
            lab.accept().await?;
        }
        if lab.options.only != Some(Part::Accept) {
            lab.queue().await?;
        }
        anyhow::Ok(())
    })?;
    Ok(lab.short)
}

impl Lab {
    fn start(&self, name: &str, workers: u32) -> anyhow::Result<Child> {
        let (at, state) = (self.backend.1, self.state.path().join(name));
        let policy = format!(
            "state: '{}'
tasks: {{ workers: {workers}, per_agent: {{ count: 1000000, bytes: 100GiB }} }}
upstreams: {{ one: {{ dialect: openai, url: \"http://{at}\", pacing: off }} }}
routes: [{{ to: one }}]
",
            state.display()
        );
        Child::start(&self.options.tidegate, &self.dir.path().join(name), &policy)
    }

    fn size<T>(&self, full: T, quick: T) -> T {
        if self.options.quick { quick } else { full }
    }

    fn say(&mut self, good: Option<bool>, what: &str, figure: &str, wanted: &str) {
        let word = match good {
            Some(true) => "PASS",
            Some(false) => "SHORT",
            None => "",
        };
        self.short |= good == Some(false);
        println!("| {word} | {what} | {figure} | {wanted} |");
    }

    /// The wait for a 202, while tasks are made as well: by callers that ask one after the other, and
    /// by such as come at a rate.
    async fn accept(&mut self) -> anyhow::Result<()> {
        for (callers, rate) in [(1, None), (64, Some(100)), (64, Some(300)), (64, None)] {
            let child = self.start(&format!("accept-{callers}-{rate:?}"), 32)?;
            let count = self.size(if callers == 1 { 1000 } else { 6000 }, 200);
            let count = rate.map_or(count, |rate: u32| count.min(rate * 20));
            let load = Load { callers, count, rate, body: 4096, stalled: false };
            let mut took = submit(child.at, load).await?;
            took.0.sort_unstable();
            let at = |share: usize| {
                took.0
                    .get((took.0.len() - 1) * share / 100)
                    .map_or(0.0, |time| time.as_secs_f64() * 1e3)
            };
            let figure = format!(
                "p50 {:.1} ms, p99 {:.1} ms, most {:.1} ms at {:.0} a second",
                at(50),
                at(99),
                at(100),
                f64::from(count) / took.1.as_secs_f64()
            );
            let p99 = at(99);
            let what = match rate {
                Some(rate) => format!("202 to {callers} callers, {rate} a second in all"),
                None => format!("202 to {callers} callers, one after the other"),
            };
            let judged = callers == 1 || rate.is_some();
            self.say(
                judged.then_some(p99 < 40.0),
                &what,
                &figure,
                if judged { "p99 < 40 ms" } else { "" },
            );
            child.signal(Signal::KILL)?;
        }
        Ok(())
    }

    /// Memory of tasks that wait, and how soon all of them are there again.
    async fn queue(&mut self) -> anyhow::Result<()> {
        let (few, many) = self.size((10_000, 100_000), (1000, 5000));
        let child = self.start("queue", 1)?;
        let load = |count| Load { callers: 64, count, rate: None, body: 8192, stalled: true };
        // what the first calls cost is no task's
        submit(child.at, load(64)).await?;
        let before = machine::rss(child.id());
        submit(child.at, load(few)).await?;
        let grown = machine::rss(child.id()).saturating_sub(before);
        let mib = grown as f64 / 1024.0 / 1024.0;
        let figure = format!("{mib:.1} MiB more, {} bytes each", grown / u64::from(few));
        self.say(Some(mib < 100.0), &format!("{few} queued tasks of 8 KiB"), &figure, "< 100 MB");
        submit(child.at, Load { body: 256, ..load(many - few) }).await?;
        let rss = machine::rss(child.id()) / 1024 / 1024;
        child.signal(Signal::KILL)?;
        drop(child);
        let from = Instant::now();
        let child = self.start("queue", 1)?;
        let ready = from.elapsed();
        let took = recovered(&self.dir.path().join("queue/stderr"), many)?;
        let figure = format!(
            "{:.2} s (listening after {:.2} s); {} MiB resident before, {} after",
            took.as_secs_f64(),
            ready.as_secs_f64(),
            rss,
            machine::rss(child.id()) / 1024 / 1024
        );
        let what = format!("{many} tasks found again after kill -9");
        self.say(Some(took < Duration::from_secs(2)), &what, &figure, "< 2 s");
        child.signal(Signal::KILL)?;
        Ok(())
    }
}

/// What a start says of the tasks that it found: at least `count`.
fn recovered(log: &Path, count: u32) -> anyhow::Result<Duration> {
    let text = std::fs::read_to_string(log)?;
    let line = text.lines().rev().find(|line| line.contains("tasks of the last run"));
    let line = line.context("the start says nothing of tasks")?;
    let field = |name: &str| {
        let (_, rest) = line.split_once(name)?;
        rest.split([',', ' ', '}']).next()
    };
    let found: u32 = field("tasks: ").context("how many")?.parse()?;
    ensure!(found >= count, "{found} of {count} tasks were found");
    let took = field("took: ").context("how long")?;
    let end = took.find(|c: char| !c.is_ascii_digit() && c != '.').context("a unit")?;
    let (number, unit) = took.split_at(end);
    let scale = match unit {
        "s" => 1.0,
        "ms" => 1e-3,
        _ => 1e-6,
    };
    Ok(Duration::from_secs_f64(number.parse::<f64>()? * scale))
}

#[derive(Clone, Copy)]
struct Load {
    callers: u32,
    count: u32,
    /// A second, of all callers together; `None`: each asks again when it is answered.
    rate: Option<u32>,
    body: usize,
    /// The backend never answers.
    stalled: bool,
}

/// Submits tasks: how long each waited for its 202, and how long all of them took. A call that is due
/// waits from then on, whatever its caller was doing.
async fn submit(to: SocketAddr, load: Load) -> anyhow::Result<(Vec<Duration>, Duration)> {
    let request = Rc::new(request(load));
    let from = At::now();
    let callers: Vec<_> = (0..load.callers)
        .map(|number| {
            let request = Rc::clone(&request);
            tokio::task::spawn_local(async move {
                let mut connection = Connection::open(to, 16 * 1024).await?;
                let mut all = Vec::new();
                for turn in (number..load.count).step_by(load.callers as usize) {
                    let mut begun = At::now();
                    if let Some(rate) = load.rate {
                        begun = from + Duration::from_secs(1) * turn / rate;
                        tokio::time::sleep_until(begun).await;
                    }
                    let status = connection.send(&request).await?;
                    while connection.data(|_| ()).await? {}
                    ensure!(status == 202, "a submission was answered {status}");
                    all.push(begun.elapsed());
                }
                anyhow::Ok(all)
            })
        })
        .collect();
    let mut all = Vec::new();
    for caller in callers {
        all.extend(caller.await??);
    }
    Ok((all, from.elapsed()))
}

fn request(load: Load) -> Vec<u8> {
    let text = "x".repeat(load.body);
    let body = format!(
        "{{\"model\":\"sim-1\",\"messages\":[{{\"role\":\"user\",\"content\":\"{text}\"}}]}}"
    );
    let simulate = if load.stalled { "fault=stall" } else { "tokens=20" };
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nprefer: respond-async\r\n\
         content-type: application/json\r\nx-simulate: {simulate}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

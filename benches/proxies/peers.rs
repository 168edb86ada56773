//! The peers: who is measured, how each is started, and the backend behind them all.
//!
//! Configurations are minimal and tuned for this work: one worker, keep-alive on both sides, no
//! buffering of answers, no access log but where the name says so.
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;

use crate::machine::{self, Pins};
use crate::onlookers::Taken;
use crate::page;
use crate::process::{Output, Process, free_address};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    Direct,
    /// A role of this binary.
    Floor,
    Nginx {
        log: bool,
    },
    Haproxy {
        log: bool,
    },
    Tidegate {
        workers: u8,
        policy: Policy,
    },
}

/// What a tidegate is told to do beside passing calls on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    Nothing,
    /// With an agent known by its key, five limits on it, and prices.
    Limits,
    Cache,
    /// With lookups among as many questions at most.
    Alike(u32),
    /// With the page open in some tabs.
    Page,
    /// With metrics, and traces of so many calls of a hundred, to a collector.
    Otlp(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    pub name: &'static str,
    start: Start,
    /// Has two workers, and two CPUs.
    wide: bool,
}

pub const DIRECT: &str = "direct";
pub const FLOOR: &str = "floor-legacy";
pub const PLAIN: &str = "tidegate";
/// With limits on.
pub const LIMITED: &str = "tidegate-limits";
/// With a cache that is sent the same call again and again.
pub const HIT: &str = "tidegate-hit";
/// With a cache that is never sent the same call twice.
pub const MISS: &str = "tidegate-miss";
/// The same, where questions are looked up by likeness besides: among ten thousand of them, and among
/// as many as a partition takes.
pub const ALIKE: &str = "tidegate-alike";
pub const ALIKE_FULL: &str = "tidegate-alike-full";

/// With traces of one call in twenty, as by default, and metrics, sent to a collector.
pub const OTLP: &str = "tidegate-otlp";
/// With traces of all calls.
pub const OTLP_ALL: &str = "tidegate-otlp-all";
/// With the page open in four tabs.
pub const PAGE: &str = "tidegate-page";

const fn peer(name: &'static str, start: Start, wide: bool) -> Peer {
    Peer { name, start, wide }
}

const fn tidegate_of(workers: u8, policy: Policy) -> Start {
    Start::Tidegate { workers, policy }
}

/// In the order of the table.
pub const ALL: [Peer; 18] = [
    peer(DIRECT, Start::Direct, false),
    peer(FLOOR, Start::Floor, false),
    peer("floor-conn", Start::Floor, false),
    peer("nginx", Start::Nginx { log: false }, false),
    peer("nginx-logged", Start::Nginx { log: true }, false),
    peer("haproxy", Start::Haproxy { log: false }, false),
    peer("haproxy-logged", Start::Haproxy { log: true }, false),
    peer(PLAIN, tidegate_of(1, Policy::Nothing), false),
    peer(LIMITED, tidegate_of(1, Policy::Limits), false),
    peer(OTLP, tidegate_of(1, Policy::Otlp(5)), false),
    peer(OTLP_ALL, tidegate_of(1, Policy::Otlp(100)), false),
    peer(PAGE, tidegate_of(1, Policy::Page), false),
    peer(HIT, tidegate_of(1, Policy::Cache), false),
    peer(MISS, tidegate_of(1, Policy::Cache), false),
    peer(ALIKE, tidegate_of(1, Policy::Alike(10_000)), false),
    peer(ALIKE_FULL, tidegate_of(1, Policy::Alike(50_000)), false),
    peer("floor-multi", Start::Floor, true),
    peer("tidegate-2", tidegate_of(2, Policy::Nothing), true),
];

impl Peer {
    /// Whether its memory is looked at: a log makes no difference there.
    pub fn has_memory(self) -> bool {
        let logged = matches!(
            self.start,
            Start::Direct | Start::Nginx { log: true } | Start::Haproxy { log: true }
        );
        !logged && !self.caches() && !self.sends()
    }

    /// Questions to be asked before its streams are measured.
    pub fn questions(self) -> Option<u32> {
        match self.start {
            Start::Tidegate { policy: Policy::Alike(questions), .. } => Some(questions),
            _ => None,
        }
    }

    /// Is there for parts of its own alone.
    pub fn caches(self) -> bool {
        use Policy::{Alike, Cache};
        matches!(self.start, Start::Tidegate { policy: Cache | Alike(_), .. })
    }

    /// Is watched: telemetry goes to a collector, or the page is open.
    fn sends(self) -> bool {
        use Policy::{Otlp, Page};
        matches!(self.start, Start::Tidegate { policy: Otlp(_) | Page, .. })
    }

    /// The binary whose size says something: the floors are inside this one.
    pub fn program(self, bench: &Bench) -> Option<PathBuf> {
        match self.start {
            Start::Direct | Start::Floor => None,
            Start::Nginx { .. } => machine::tool("nginx"),
            Start::Haproxy { .. } => machine::tool("haproxy"),
            Start::Tidegate { .. } => Some(bench.tidegate.clone()),
        }
    }
}

/// What is the same for all peers of a run.
pub struct Bench {
    /// Configurations, logs, pid files; removed at the end.
    pub dir: tempfile::TempDir,
    pub pins: Pins,
    pub itself: PathBuf,
    pub tidegate: PathBuf,
}

/// A peer that answers.
pub struct Running {
    pub peer: Peer,
    pub at: SocketAddr,
    /// `None`: there is no proxy.
    pub process: Option<Process>,
    /// From the start to the first answer.
    pub start: Duration,
    /// What those got who look on.
    pub onlookers: Vec<Taken>,
}

impl Running {
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }
}

impl Bench {
    /// The simulator of the project, on a CPU that is not the proxy's.
    pub fn backend(&self) -> anyhow::Result<(Process, SocketAddr)> {
        let at = free_address()?;
        let listen = at.to_string();
        let args = ["simulate", "--listen", &listen, "--threads", "1", "--answer-bytes", "1024"];
        let stderr = self.dir.path().join("backend.err");
        let cpus = self.pins.backend.as_deref();
        let mut process = Process::start(&self.tidegate, &args, cpus, &Output::Null, &stderr)?;
        process.ready(at).map_err(|why| explain(why, &stderr)).context("the backend")?;
        Ok((process, at))
    }

    /// Starts a peer and waits for its first answer. An error says why it cannot take part.
    pub fn start(&self, peer: Peer, backend: SocketAddr) -> anyhow::Result<Running> {
        if peer.start == Start::Direct {
            return Ok(Running {
                peer,
                at: backend,
                process: None,
                start: Duration::ZERO,
                onlookers: vec![],
            });
        }
        let at = free_address()?;
        let dir = self.dir.path().join(format!("{}-{}", peer.name, at.port()));
        fs::create_dir(&dir)?;
        let mut onlookers = Vec::new();
        let (program, args, output) = self.command(peer, at, backend, &dir, &mut onlookers)?;
        let output = output.as_deref().map_or(Output::Null, Output::File);
        let pins = if peer.wide { &self.pins.wide } else { &self.pins.proxy };
        let stderr = dir.join("stderr");
        let mut process = Process::start(&program, &args, pins.as_deref(), &output, &stderr)?;
        let start = process.ready(at).map_err(|why| explain(why, &stderr))?;
        Ok(Running { peer, at, process: Some(process), start, onlookers })
    }

    /// Program, arguments, and the file that takes its output (the access log).
    fn command(
        &self,
        peer: Peer,
        at: SocketAddr,
        backend: SocketAddr,
        dir: &Path,
        onlookers: &mut Vec<Taken>,
    ) -> anyhow::Result<(PathBuf, Vec<String>, Option<PathBuf>)> {
        let config = dir.join("config");
        let file = config.display().to_string();
        let log = dir.join("access.log");
        let args = |args: &[&str]| args.iter().map(ToString::to_string).collect::<Vec<_>>();
        Ok(match peer.start {
            Start::Direct | Start::Floor => {
                let args = args(&["--role", peer.name, &at.to_string(), &backend.to_string()]);
                (self.itself.clone(), args, None)
            }
            Start::Nginx { log } => {
                fs::write(&config, nginx(at, backend, dir, log))?;
                let program = machine::tool("nginx").context("not installed")?;
                (program, args(&["-c", &file, "-e", "stderr"]), None)
            }
            Start::Haproxy { log: logged } => {
                fs::write(&config, haproxy(at, backend, logged))?;
                let program = machine::tool("haproxy").context("not installed")?;
                (program, args(&["-db", "-f", &file]), logged.then_some(log))
            }
            Start::Tidegate { workers, policy } => {
                let admin = free_address()?;
                fs::write(&config, tidegate(at, admin, backend) + &policy.text(onlookers)?)?;
                if policy == Policy::Page {
                    onlookers.extend(page::look(admin));
                }
                let workers = workers.to_string();
                let args = args(&["run", "-c", &file, "--workers", &workers]);
                (self.tidegate.clone(), args, Some(log))
            }
        })
    }

    /// Empties the access logs, so that a long run does not fill the disk.
    pub fn forget_logs(&self) -> anyhow::Result<()> {
        for dir in fs::read_dir(self.dir.path())? {
            let log = dir?.path().join("access.log");
            if log.exists() {
                // All are opened for appending: the next line lands at the new end.
                fs::File::options().write(true).open(log)?.set_len(0)?;
            }
        }
        Ok(())
    }
}

fn nginx(at: SocketAddr, backend: SocketAddr, dir: &Path, log: bool) -> String {
    let dir = dir.display();
    let log = if log { format!("{dir}/access.log combined") } else { "off".to_owned() };
    format!(
        "daemon off; worker_processes 1; user root; pid {dir}/pid; error_log stderr crit;
worker_rlimit_nofile 20000;
events {{ worker_connections 16384; accept_mutex off; multi_accept on; }}
http {{
  access_log {log};
  client_body_temp_path {dir}; proxy_temp_path {dir}; fastcgi_temp_path {dir};
  uwsgi_temp_path {dir}; scgi_temp_path {dir};
  tcp_nodelay on; keepalive_timeout 75s; keepalive_requests 1000000000; client_max_body_size 64m;
  client_body_buffer_size 128k;
  upstream backend {{
    server {backend};
    keepalive 512; keepalive_requests 1000000000; keepalive_time 24h;
  }}
  server {{
    listen {at} backlog=4096;
    location / {{
      proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection \"\";
      proxy_buffering off; proxy_request_buffering off;
      proxy_read_timeout 1h; proxy_send_timeout 1h;
    }}
  }}
}}
"
    )
}

fn haproxy(at: SocketAddr, backend: SocketAddr, log: bool) -> String {
    let (target, option) =
        if log { ("log stdout format raw local0 info", "option httplog") } else { ("", "") };
    format!(
        "global
  nbthread 1
  maxconn 9000
  {target}
defaults
  mode http
  log global
  {option}
  option http-no-delay
  http-reuse always
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout http-keep-alive 75s
frontend agents
  bind {at} backlog 4096
  default_backend simulator
backend simulator
  server one {backend}
"
    )
}

/// Everything on: gate, metrics, deadlines, and the access log, which goes to a file.
fn tidegate(at: SocketAddr, admin: SocketAddr, backend: SocketAddr) -> String {
    format!(
        "listen: {at}
admin: {admin}
upstreams:
  simulator: {{ dialect: openai, url: \"http://{backend}\" }}
routes:
  - {{ path: /, to: simulator }}
telemetry:
  access_log: stdout
"
    )
}

impl Policy {
    fn text(self, onlookers: &mut Vec<Taken>) -> anyhow::Result<String> {
        let alike = |questions| {
            format!(
                "policies:\n  - cache: {{ ttl: 1h, semantic: {{ mode: shadow, entries: {questions} }} }}\n"
            )
        };
        Ok(match self {
            Self::Nothing | Self::Page => String::new(),
            Self::Limits => LIMITS.to_owned(),
            Self::Cache => "policies:\n  - cache: { ttl: 1h }\n".to_owned(),
            Self::Alike(questions) => alike(questions),
            // under `telemetry`, which is last
            Self::Otlp(share) => {
                let (to, taken) = crate::collector::start()?;
                onlookers.extend(taken);
                format!("  otlp: {{ endpoint: \"http://{to}\", sample: {share}% }}\n")
            }
        })
    }
}

/// The key is the one that the load sends. Wide enough that nothing is ever refused.
const LIMITS: &str = "agents:
  access: open
  keys:
    - { agent: bench, team: load, sha256: 21c084e080215d9e9d0f274a5fcf30179fa1fff6803c18061a2c4f7eb96f0f9f }
policies:
  - name: bench
    limits:
      requests: 1G/min
      tokens: 100G/min
      output_tokens: 100G/min
      spend: $1000000/day
      concurrency: 100000
";

/// Adds what the process said on its way out.
fn explain(why: anyhow::Error, stderr: &Path) -> anyhow::Error {
    let said = fs::read_to_string(stderr).unwrap_or_default();
    match said.lines().next() {
        Some(line) => why.context(line.to_owned()),
        None => why,
    }
}

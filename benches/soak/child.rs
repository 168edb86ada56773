//! The real binary as a child, with a policy of ours: started, told things, looked at, ended.
//!
//! It is seen from outside alone: its metrics, its logs, and what the kernel says of its process.
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::http::Connection;
use crate::process::{Output, Process, free_address};

pub struct Child {
    process: Process,
    started: Instant,
    dir: PathBuf,
    pub at: SocketAddr,
    pub admin: SocketAddr,
}

/// One look at `/metrics`: each series with its labels, as written.
#[derive(Debug, Default, Clone)]
pub struct Metrics(BTreeMap<String, f64>);

impl Child {
    /// Starts `program` in `dir` with `policy`, which says nothing of doors and logs, and waits until
    /// a call is answered.
    pub fn start(program: &Path, dir: &Path, policy: &str) -> anyhow::Result<Self> {
        fs::create_dir_all(dir)?;
        let (at, admin) = (free_address()?, free_address()?);
        let file = dir.join("policy.yaml");
        fs::write(&file, whole(at, admin, policy))?;
        let args = ["run", "-c", &file.display().to_string(), "--workers", "1"];
        let (log, stderr) = (dir.join("access.log"), dir.join("stderr"));
        let started = Instant::now();
        let mut process = Process::start(program, &args, None, &Output::File(&log), &stderr)?;
        process.ready(at).with_context(|| said(&stderr))?;
        Ok(Self { process, started, dir: dir.to_owned(), at, admin })
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Another policy, told of by SIGHUP.
    pub fn reload(&self, policy: &str) -> anyhow::Result<()> {
        // in one step, so that no half of it is ever read
        let new = self.dir.join("policy.new");
        fs::write(&new, whole(self.at, self.admin, policy))?;
        fs::rename(&new, self.dir.join("policy.yaml"))?;
        self.signal(Signal::HUP)
    }

    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.id()).ok().and_then(Pid::from_raw).context("no such id")?;
        Ok(kill_process(pid, signal)?)
    }

    pub async fn metrics(&self) -> anyhow::Result<Metrics> {
        let asked = tokio::time::timeout(Duration::from_secs(10), get(self.admin, "/metrics"));
        Ok(Metrics::parse(&asked.await.context("the admin door does not answer")??))
    }

    /// Waits for its end, which must be a good one, and returns its access log, read by lines.
    pub fn finish(self, within: Duration) -> anyhow::Result<Vec<serde_json::Value>> {
        let Self { process, started, dir, .. } = self;
        process.finish(started.elapsed() + within)?;
        let words = fs::read_to_string(dir.join("stderr"))?;
        if let Some(line) = words.lines().find(|line| line.contains("panicked")) {
            bail!("a panic: {line}");
        }
        let log = fs::read_to_string(dir.join("access.log"))?;
        log.lines().map(|line| serde_json::from_str(line).context("a log line")).collect()
    }

    /// Asks it to end, as an init system does, and waits.
    pub fn end(self) -> anyhow::Result<Vec<serde_json::Value>> {
        self.signal(Signal::TERM)?;
        self.finish(Duration::from_mins(1))
    }
}

impl Metrics {
    fn parse(text: &str) -> Self {
        let series = text.lines().filter(|line| !line.starts_with('#'));
        Self(
            series
                .filter_map(|line| {
                    let (name, value) = line.rsplit_once(' ')?;
                    Some((name.to_owned(), value.parse().ok()?))
                })
                .collect(),
        )
    }

    /// The sum of all series of this name whose labels hold `label`, or of all where it is empty.
    pub fn sum(&self, name: &str, label: &str) -> f64 {
        let of_name = |series: &&str| {
            let rest = series.strip_prefix(name);
            rest.is_some_and(|rest| {
                (rest.is_empty() || rest.starts_with('{')) && rest.contains(label)
            })
        };
        let keys = self.0.keys().map(String::as_str).filter(of_name);
        // -0.0 would be the empty sum, and look odd
        keys.filter_map(|key| self.0.get(key)).fold(0.0, |sum, value| sum + value)
    }
}

fn whole(at: SocketAddr, admin: SocketAddr, policy: &str) -> String {
    format!(
        "listen: {at}\nadmin: {admin}\ntelemetry: {{ access_log: stdout, form: json }}\n{policy}"
    )
}

async fn get(at: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut connection = Connection::open(at, 64 * 1024).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n");
    let status = connection.send(request.as_bytes()).await?;
    ensure!(status == 200, "{path}: {status}");
    let mut body = Vec::new();
    while connection.data(|piece| body.extend_from_slice(piece)).await? {}
    Ok(String::from_utf8(body)?)
}

/// What a process said on its way out.
fn said(stderr: &Path) -> String {
    let text = fs::read_to_string(stderr).unwrap_or_default();
    text.lines().last().unwrap_or("it said nothing").to_owned()
}

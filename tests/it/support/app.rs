//! The program itself, in a process of its own, and all that can be seen of it from outside.
//!
//! Every run carries two canaries: the key that clients send and the key that the policy holds.
//! When an [`App`] ends, everything it ever showed (access log, usage records, event log, metrics,
//! state) is searched for both. Each line of a log keeps to its schema, and what the records say was
//! spent is what the metrics say.
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::Value;

use super::{PATIENCE, schema, until};

/// What clients of these tests present. It looks like a key, so a last guard would mask it.
pub const AGENT_KEY: &str = "sk-canary-4f1d2c0b9a8877665544332211";
/// What the policy holds. No guard could tell it from any other word.
pub const UPSTREAM_KEY: &str = "zwielicht.canary.0042";

/// The file of the usage records, in the directory of the policy.
const RECORDS: &str = "usage.jsonl";

type Text = Arc<Mutex<Vec<String>>>;

/// A running sidecar; dropping it ends the process.
pub struct App {
    child: Child,
    pub addr: SocketAddr,
    pub admin: SocketAddr,
    access: Text,
    events: Text,
    readers: Vec<JoinHandle<()>>,
    /// Whether calls of a test may still be going on when it ends.
    pub unfinished: bool,
    /// A header line that its admin listener asks for.
    pub proof: String,
    /// What it must never show, beside the two canaries.
    pub secrets: Vec<String>,
    directory: tempfile::TempDir,
}

impl App {
    /// Starts with one worker; `listen` and `admin` are added where the policy has none.
    pub fn start(policy: &str) -> Self {
        Self::with(policy, &["--workers", "1", "--log", "tidegate=trace,info"])
    }

    pub fn with(policy: &str, args: &[&str]) -> Self {
        Self::by(Command::new(env!("CARGO_BIN_EXE_tidegate")), policy, args)
    }

    /// By a command that the arguments are added to.
    pub fn by(mut command: Command, policy: &str, args: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("policy.yaml");
        fs::write(&file, whole(policy, directory.path())).expect("a policy file");
        let mut child = command
            .arg("--config")
            .arg(&file)
            .args(args)
            .env("CANARY", UPSTREAM_KEY)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let (access, events) = (Text::default(), Text::default());
        let readers = vec![
            gather(child.stdout.take().expect("stdout"), &access),
            gather(child.stderr.take().expect("stderr"), &events),
        ];
        let (addr, admin) = served_at(&events);
        Self {
            child,
            addr,
            admin,
            access,
            events,
            readers,
            unfinished: false,
            proof: String::new(),
            secrets: Vec::new(),
            directory,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&mut self) {
        self.child.kill().expect("it can be ended");
        self.child.wait().expect("it ends");
    }

    /// Asks it to end, and waits until it has.
    pub async fn end(&mut self) {
        self.signal("TERM");
        until("it ends", async || self.has_ended()).await;
    }

    /// Sends it a signal: `TERM`, `HUP`, `STOP`.
    pub fn signal(&self, name: &str) {
        let id = self.pid().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().expect("kill runs");
        assert!(sent.success());
    }

    /// How it ended, once it has, and all that it wrote is read.
    pub async fn exited(&mut self) -> ExitStatus {
        until("it ends", async || self.has_ended()).await;
        for reader in self.readers.drain(..) {
            reader.join().expect("its output is read");
        }
        self.child.wait().expect("its status")
    }

    /// Whether it writes them: the policy may have a word of its own on that.
    fn has_records(&self) -> bool {
        let policy = fs::read_to_string(self.policy_file()).unwrap_or_default();
        policy.contains(RECORDS)
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("its status").is_some()
    }

    pub fn policy_file(&self) -> PathBuf {
        self.directory.path().join("policy.yaml")
    }

    /// Puts another policy in the place of the first, in one step.
    pub fn rewrite(&self, policy: &str) {
        let next = self.directory.path().join("next");
        fs::write(&next, whole(policy, self.directory.path())).expect("a policy file");
        fs::rename(&next, self.policy_file()).expect("the policy's place");
    }

    /// Puts another policy in force; it must be sound.
    pub async fn reload(&self, policy: &str) {
        let lines = || self.events().matches("the new policy is in force").count();
        let before = lines();
        self.rewrite(policy);
        // its watcher may see it before, or not at all
        self.signal("HUP");
        until("the new policy is in force", async || lines() > before).await;
    }

    /// Resident memory in KiB.
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// What the admin listener answers.
    pub fn page(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).expect("the admin listener");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let host = self.admin;
        let proof = &self.proof;
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{proof}\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        let (_, body) = text.split_once("\r\n\r\n").expect("a head");
        body.to_owned()
    }

    /// The sum of a metric's samples whose labels hold all of `labels` (`outcome="complete"`).
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.page("/metrics");
        let samples = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let (found, value) = if let Some(rest) = rest.strip_prefix('{') {
                rest.split_once("} ")?
            } else {
                ("", rest.strip_prefix(' ')?)
            };
            let value = value.split(' ').next()?;
            labels.iter().all(|label| found.contains(label)).then(|| value.parse::<f64>().ok())?
        });
        samples.sum()
    }

    pub fn state(&self) -> Value {
        serde_json::from_str(&self.page("/state")).expect("the state as JSON")
    }

    /// What `/state` says of the first upstream.
    pub fn upstream(&self) -> Value {
        self.state()["upstreams"][0].clone()
    }

    /// A figure of the first upstream's pool: `open`, `idle`, `dialled`, `reused`, `retried`.
    pub fn pool(&self, figure: &str) -> i64 {
        self.upstream()["pool"][figure].as_i64().expect("a figure")
    }

    /// The access lines of all calls so far, once there are `count` of them and none is in flight.
    pub async fn lines(&self, count: usize) -> Vec<Value> {
        let lines = || self.access.lock().iter().filter(|line| line.starts_with('{')).count();
        until(&format!("{count} access lines"), async || lines() >= count).await;
        let idle = async || self.count("tidegate_requests_in_flight", &[]) == 0;
        until("no call in flight", idle).await;
        let text = self.access.lock().clone();
        let all: Vec<Value> =
            text.iter().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
        assert_eq!(all.len(), count, "one line a call: {text:#?}");
        all
    }

    /// The access lines so far.
    pub fn written(&self) -> Vec<Value> {
        let text = self.access.lock().clone();
        let lines = text.iter().filter(|line| line.starts_with('{'));
        lines.map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// The usage records so far, once all are written that were made; in the order of their numbers.
    pub async fn records(&self) -> Vec<Value> {
        let written = async || self.count("tidegate_usage_records_total", &[]);
        let of_calls = |all: Vec<Value>| -> Vec<Value> {
            all.into_iter().filter(|line| line["log"] == "usage").collect()
        };
        // the last of them is at most a tick behind its call
        tokio::time::sleep(Duration::from_millis(300)).await;
        let all = async || {
            of_calls(self.record_file().lines().map(|l| serde_json::from_str(l).unwrap()).collect())
        };
        until("all records are written", async || all().await.len() == written().await).await;
        let mut all = all().await;
        all.sort_unstable_by_key(|record| record["seq"].as_u64());
        for (at, record) in all.iter().enumerate() {
            assert_eq!(record["seq"].as_u64(), Some(at as u64 + 1), "{record}");
        }
        all
    }

    /// What is in the file of the usage records.
    pub fn record_file(&self) -> String {
        fs::read_to_string(self.directory.path().join(RECORDS)).unwrap_or_default()
    }

    /// What the records say was spent is what the metrics say, once all are written.
    fn compare_spend(&self) {
        let spent = |line: &str| {
            let record: Value = serde_json::from_str(line).expect("a record");
            record["spend_nano"].as_u64().unwrap_or(0)
        };
        let from = Instant::now();
        loop {
            let file = self.record_file();
            let whole = file.rfind('\n').map_or("", |end| &file[..end]);
            let sum = whole.lines().map(spent).sum::<u64>() as f64 / 1e9;
            let metric = self.metric("tidegate_spend_dollars_total", &[]);
            if (sum - metric).abs() < 1e-9_f64.max(sum * 1e-15) {
                return;
            }
            if self.count("tidegate_usage_dropped_records_total", &[]) > 0 {
                // on a disk that a test has filled up; the gaps in their numbers tell as much
                return;
            }
            assert!(from.elapsed() < PATIENCE, "records say {sum}, metrics {metric}: {file}");
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// The one call there was.
    pub async fn line(&self) -> Value {
        self.lines(1).await.remove(0)
    }

    /// A figure of all queues, by the state: `running`, `depth`.
    pub fn queues(&self, figure: &str) -> u64 {
        let state = self.state();
        let all = state["queues"].as_array().expect("queues").iter();
        all.map(|queue| queue[figure].as_u64().expect("a figure")).sum()
    }

    /// Waits until nobody calls and nobody waits, and sees that nothing is held.
    pub async fn quiet(&self) {
        let none = async || {
            let state = self.state();
            let idle = |up: &Value| up["in_flight"] == 0 && up["waiting"] == 0;
            let ups = state["upstreams"].as_array().expect("upstreams");
            self.queues("running") + self.queues("depth") == 0 && ups.iter().all(idle)
        };
        until("no call runs or waits", none).await;
        let state = self.state();
        for limit in state["limits"].as_array().expect("limits") {
            assert_eq!(limit["held"], 0, "{limit}");
            assert!(limit["measure"] != "concurrency" || limit["used"] == 0, "{limit}");
        }
        for agent in state["agents"].as_array().expect("agents") {
            assert!(agent["in_flight"] == 0 && agent["waiting"] == 0, "{agent}");
        }
        assert_eq!(state["calls"].as_array().map(Vec::len), Some(0));
    }

    /// A metric that counts.
    pub fn count(&self, name: &str, labels: &[&str]) -> usize {
        self.metric(name, labels) as usize
    }

    /// How many calls ended so, by the metrics.
    pub fn ended(&self, outcome: &str) -> usize {
        self.count("tidegate_requests_total", &[&format!("outcome=\"{outcome}\"")])
    }

    /// Everything that was logged as an event.
    pub fn events(&self) -> String {
        self.events.lock().join("\n")
    }
}

impl Drop for App {
    #[expect(clippy::print_stderr, reason = "the test harness shows it with the failure")]
    fn drop(&mut self) {
        let shown = if std::thread::panicking() || self.has_ended() {
            String::new()
        } else {
            format!("{}\n{}", self.page("/metrics"), self.page("/state"))
        };
        let in_flight =
            shown.lines().filter(|line| line.starts_with("tidegate_requests_in_flight"));
        let still: Vec<String> =
            in_flight.filter(|line| !line.ends_with(" 0")).map(str::to_owned).collect();
        if still.is_empty() && !shown.is_empty() && !self.unfinished && self.has_records() {
            self.compare_spend();
        }
        self.child.kill().expect("it can be ended");
        self.child.wait().expect("it ends");
        for reader in self.readers.drain(..) {
            reader.join().expect("its output is read");
        }
        let access = self.access.lock().join("\n");
        if std::thread::panicking() {
            // the end of it is what helps
            let last = |text: &str| text.lines().rev().take(12).collect::<Vec<_>>().join("\n");
            eprintln!(
                "last access lines:\n{}\nlast events:\n{}",
                last(&access),
                last(&self.events())
            );
            return;
        }
        let records = self.record_file();
        for (what, text) in [
            ("metrics or state", &shown),
            ("access", &access),
            ("usage records", &records),
            ("events", &self.events()),
        ] {
            let secrets = self.secrets.iter().map(String::as_str);
            for canary in [AGENT_KEY, UPSTREAM_KEY].into_iter().chain(secrets) {
                assert!(!text.contains(canary), "a key is shown in {what}");
            }
        }
        assert!(self.unfinished || still.is_empty(), "calls still in flight: {still:?}");
        for log in [&access, &records] {
            keep_to_schemas(log);
        }
    }
}

/// A policy with the addresses that it leaves out, and with usage records.
fn whole(policy: &str, directory: &Path) -> String {
    let listen = if policy.contains("listen:") { "" } else { "listen: 127.0.0.1:0\n" };
    let usage = directory.join(RECORDS);
    let telemetry = if policy.contains("telemetry:") {
        String::new()
    } else {
        format!("telemetry: {{ usage: '{}' }}\n", usage.display())
    };
    let admin = if policy.contains("admin:") { "" } else { "admin: 127.0.0.1:0\n" };
    format!("{listen}{admin}{telemetry}{policy}")
}

/// Each whole line of a log is as its schema says. A process that was killed may leave half a line.
fn keep_to_schemas(log: &str) {
    let read = |schema| serde_json::from_str::<Value>(schema).expect("a schema");
    let access = read(include_str!("../../../packaging/access.schema.json"));
    let usage = read(include_str!("../../../packaging/usage.schema.json"));
    for line in log.lines().filter(|line| line.starts_with('{')) {
        let Ok(value) = serde_json::from_str::<Value>(line) else { continue };
        let schema = if value["log"] == "access" { &access } else { &usage };
        if let Some(fault) = schema::fault(schema, &value) {
            panic!("{fault}\nin {line}");
        }
    }
}

fn gather(from: impl Read + Send + 'static, into: &Text) -> JoinHandle<()> {
    let into = Arc::clone(into);
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            into.lock().push(line);
        }
    })
}

/// Waits for the line that says where it serves.
fn served_at(events: &Text) -> (SocketAddr, SocketAddr) {
    let from = Instant::now();
    loop {
        let found = events.lock().iter().find(|line| line.contains("\"serving\"")).cloned();
        if let Some(line) = found {
            let line: Value = serde_json::from_str(&line).expect("JSON");
            let at = |key: &str| {
                let text = line[key].as_str().expect("an address");
                let first = text.split(' ').next().expect("a first one");
                let (_, address) = first.split_once("://").expect("a URL");
                address.parse().expect("an address")
            };
            return (at("listen"), at("admin"));
        }
        assert!(from.elapsed() < PATIENCE, "it does not start: {:?}", events.lock());
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

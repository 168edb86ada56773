//! A child process, started so that measurements are fair and nothing is left behind.
//!
//! Each has a session of its own (the kernel shares the CPU between sessions), is pinned, may open
//! as many files as allowed, and is killed with its group when dropped, or by the kernel when we
//! die first. That is done by small programs that replace themselves (setpriv, prlimit, taskset,
//! setsid), so that the child's id is the proxy's own; one that is missing is left out.
use std::ffi::OsStr;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::machine;

pub struct Process {
    child: Child,
    started: Instant,
}

/// Where a child's output goes.
pub enum Output<'a> {
    Null,
    Piped,
    /// Appended, as a log is.
    File(&'a Path),
}

impl Process {
    pub fn start<A: AsRef<OsStr>>(
        program: &Path,
        args: &[A],
        cpus: Option<&str>,
        stdout: &Output<'_>,
        stderr: &Path,
    ) -> anyhow::Result<Self> {
        let files = machine::open_files();
        let mut words: Vec<String> = Vec::new();
        let mut wrap = |tool: &str, args: &[&str]| {
            if machine::tool(tool).is_some() {
                words.push(tool.to_owned());
                words.extend(args.iter().map(ToString::to_string));
            }
        };
        wrap("setpriv", &["--pdeathsig", "TERM"]);
        wrap("prlimit", &[&format!("--nofile={files}:{files}")]);
        if let Some(cpus) = cpus {
            wrap("taskset", &["-c", cpus]);
        }
        wrap("setsid", &[]);
        let mut command = match words.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.args(args).stdin(Stdio::null());
        command.stdout(match stdout {
            Output::Null => Stdio::null(),
            Output::Piped => Stdio::piped(),
            Output::File(path) => append(path)?.into(),
        });
        command.stderr(append(stderr)?);
        // Settings of the person who runs the bench must not change what is measured.
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            if ["TIDEGATE_", "OTEL_"].iter().any(|ours| name_text.starts_with(ours)) {
                command.env_remove(&name);
            }
        }
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("start {}", program.display()))?;
        Ok(Self { child, started })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until a whole call is answered with 200; returns the time since the start.
    pub fn ready(&mut self, at: SocketAddr) -> anyhow::Result<Duration> {
        loop {
            if probe(at).is_ok_and(|status| status == 200) {
                return Ok(self.started.elapsed());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("ended with {status}");
            }
            if self.started.elapsed() > Duration::from_secs(5) {
                bail!("does not answer");
            }
            pause(Duration::from_millis(1));
        }
    }

    /// Waits for the end, which must be a success, and returns what was printed. `within` counts from
    /// the start.
    pub fn finish(mut self, within: Duration) -> anyhow::Result<String> {
        let mut text = String::new();
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if self.started.elapsed() > within {
                bail!("did not end within {within:?}");
            }
            pause(Duration::from_millis(5));
        };
        ensure!(status.success(), "ended with {status}");
        if let Some(mut pipe) = self.child.stdout.take() {
            std::io::Read::read_to_string(&mut pipe, &mut text)?;
        }
        Ok(text)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // Not reaped yet, so the id is still the child's; its group has the same.
            let group = format!("kill -s KILL -- -{}", self.child.id());
            _ = Command::new("sh").args(["-c", &group]).stderr(Stdio::null()).status();
            _ = self.child.kill();
            _ = self.child.wait();
        }
    }
}

/// One small chat completion; returns the status.
fn probe(at: SocketAddr) -> anyhow::Result<u16> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(at)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let body = r#"{"model":"sim-1","messages":[{"role":"user","content":"hello"}]}"#;
    write!(
        stream,
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).context("not HTTP")?;
    Ok(status.parse()?)
}

/// An address that nobody listens on.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn append(path: &Path) -> anyhow::Result<File> {
    let file = File::options().create(true).append(true).open(path);
    file.with_context(|| path.display().to_string())
}

#[expect(clippy::disallowed_methods, reason = "there is no runtime here: the driver only waits")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

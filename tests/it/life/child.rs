//! The real binary as a child process with a policy of the test's, ended by its own id.
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

/// Longest wait for something that must come about; generous, because machines are loaded.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Addresses that are free, and no access log in between.
const USUAL: &str = "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\n";

pub struct Sidecar {
    pub child: Child,
    /// The first TCP address for agents.
    pub addr: SocketAddr,
    pub admin: SocketAddr,
    /// Lines of the event log that nobody has waited for.
    lines: UnboundedReceiver<String>,
    directory: TempDir,
}

/// The binary, without what the environment of the tests would set.
pub fn tidegate() -> Command {
    clean(Command::new(env!("CARGO_BIN_EXE_tidegate")))
}

/// The binary, started by `sh` after `script` has set the scene.
pub fn tidegate_after(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{script} exec \"$0\" \"$@\"")]);
    command.arg(env!("CARGO_BIN_EXE_tidegate"));
    clean(command)
}

fn clean(mut command: Command) -> Command {
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TIDEGATE_")) {
        command.env_remove(name);
    }
    command.env_remove("NOTIFY_SOCKET").env_remove("LISTEN_FDS");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

impl Sidecar {
    /// With free ports; `policy` is the rest of the file.
    pub async fn start(policy: &str) -> Self {
        Self::start_by(tidegate(), &format!("{USUAL}{policy}")).await
    }

    /// With the whole policy, and a command that the arguments are added to.
    pub async fn start_by(mut command: Command, policy: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("policy.yaml");
        fs::write(&file, policy).unwrap();
        let mut child = command.args(["--log-form", "json", "-c"]).arg(&file).spawn().unwrap();
        let (sender, lines) = unbounded_channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                // read to the end even if nobody looks: a full pipe would lose lines
                let _ = sender.send(line);
            }
        });
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut sidecar = Self { child, addr: nowhere, admin: nowhere, lines, directory };
        let said: Value =
            serde_json::from_str(&sidecar.logged("\"message\":\"serving\"").await).unwrap();
        let at = |name: &str| {
            let text = said[name].as_str().unwrap();
            let urls = text.split(' ').filter_map(|url| url.split_once("://"));
            urls.map(|(_, addr)| addr.parse().unwrap()).next()
        };
        sidecar.addr = at("listen").unwrap_or(nowhere);
        sidecar.admin = at("admin").unwrap_or(nowhere);
        sidecar
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Puts another policy in the place of the first, in one step.
    pub fn rewrite(&self, policy: &str) {
        fs::write(self.path("next"), format!("{USUAL}{policy}")).unwrap();
        fs::rename(self.path("next"), self.path("policy.yaml")).unwrap();
    }

    /// `TERM`, `INT`, `HUP`.
    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// The next line of the event log that holds this.
    pub async fn logged(&mut self, words: &str) -> String {
        let found = async {
            loop {
                let line = self.lines.recv().await.expect("the log ended before it was said");
                if line.contains(words) {
                    return line;
                }
            }
        };
        timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("never logged: {words}"))
    }

    /// How it ended.
    pub async fn ended(&mut self) -> ExitStatus {
        ended(&mut self.child).await
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        // the one that was started here, if it has not ended by itself
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn signal(child: &Child, name: &str) {
    let script = format!("kill -s {name} {}", child.id());
    assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
}

pub async fn ended(child: &mut Child) -> ExitStatus {
    let from = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(from.elapsed() < PATIENCE, "it does not end");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

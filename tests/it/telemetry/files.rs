//! Logs in files, from outside: rotation under load, disks that are full, pipes that nobody reads, and
//! the end of a run.
use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::app::App;
use crate::support::client::{ask, post};
use crate::support::origin::{Origin, whole};
use crate::support::until;

const CHAT: &str = "/v1/chat/completions";
const PLAIN: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
const GOOD: &str = r#"{"choices":[{"message":{"content":"good"},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":3}}"#;

/// A backend, and a policy with these places for logs.
async fn behind(access: &Path, usage: &Path) -> (Origin, String) {
    let origin = Origin::saying(whole("200 OK", "content-type: application/json\r\n", GOOD)).await;
    let policy = format!(
        "server: {{ drain: {{ delay: 0s, timeout: 5s }} }}\n\
         prices: {{ m: {{ input: 1000, output: 1000 }} }}\n\
         telemetry: {{ access_log: '{}', usage: '{}' }}\n\
         upstreams: {{ up: '{}' }}\nroutes: [{{ to: up }}]\n",
        access.display(),
        usage.display(),
        origin.url()
    );
    (origin, policy)
}

async fn calls(app: &App, count: usize) {
    for _ in 0..count {
        assert_eq!(ask(app.addr, &post(CHAT, "", PLAIN)).await.status, 200);
    }
}

/// The lines of all files whose names begin so.
fn lines(dir: &Path, name: &str) -> Vec<Value> {
    let mut all = Vec::new();
    for file in fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()) {
        if file.file_name().unwrap().to_str().unwrap().starts_with(name) {
            let text = fs::read_to_string(file).unwrap();
            all.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
        }
    }
    all
}

#[tokio::test]
async fn files_are_rotated_under_load_and_a_drain_writes_to_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (_origin, policy) = behind(&at("access"), &at("usage")).await;
    let mut app = App::with(&policy, &["--workers", "2"]);
    for round in 0..5 {
        calls(&app, 20).await;
        fs::rename(at("access"), at(&format!("access.{round}"))).unwrap();
        fs::rename(at("usage"), at(&format!("usage.{round}"))).unwrap();
        app.signal("USR1");
        calls(&app, 20).await;
        until("both are there again", async || at("access").exists() && at("usage").exists()).await;
    }
    for name in ["access", "usage"] {
        let mode = fs::metadata(at(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    app.end().await;
    assert_eq!(lines(dir.path(), "access").len(), 200);
    let mut records = lines(dir.path(), "usage");
    let end = records.iter().position(|line| line["log"] == "usage_end").expect("a last line");
    assert_eq!(records.remove(end)["records"], 200);
    let mut numbers: Vec<_> =
        records.iter().map(|record| record["seq"].as_u64().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=200).collect::<Vec<_>>());
    let instances = records.iter().all(|record| record["instance"] == records[0]["instance"]);
    assert!(instances, "one run");
}

#[tokio::test]
async fn a_full_disk_drops_counts_and_stalls_nobody() {
    let full = Path::new("/dev/full");
    let dir = tempfile::tempdir().unwrap();
    let (_origin, policy) = behind(&dir.path().join("access"), full).await;
    let app = App::start(&policy);
    calls(&app, 30).await;
    until("all are dropped", async || app.count("tidegate_usage_dropped_records_total", &[]) == 30)
        .await;
    assert_eq!(app.count("tidegate_usage_records_total", &[]), 0);
    assert_eq!(app.count("tidegate_log_dropped_lines_total", &[]), 0, "the other log goes on");
    let said = app.events().matches("a log file cannot be written to").count();
    assert_eq!(said, 1, "{}", app.events());
    until("the other one is written", async || lines(dir.path(), "access").len() == 30).await;
}

/// A pipe by its name: nobody reads, so it fills up; what is lost leaves a gap in the numbers.
#[tokio::test]
async fn a_pipe_that_nobody_reads_drops_and_stalls_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("usage.pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (_origin, policy) = behind(&dir.path().join("access"), &pipe).await;
    let app = App::start(&policy);
    let reader = OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let dropped = || app.count("tidegate_usage_dropped_records_total", &[]);
    // a block every 100 ms: after the pipe and the channel are full the rest is lost
    let long = format!("x-agent-id: {}\r\n", "a".repeat(100));
    let mut made = 0;
    while dropped() == 0 {
        for _ in 0..200 {
            assert_eq!(ask(app.addr, &post(CHAT, &long, PLAIN)).await.status, 200);
        }
        made += 200;
        assert!(made < 20_000, "nothing is lost");
    }
    drop(reader);
    assert!(app.count("tidegate_requests_total", &[]) >= made);
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_is_an_error_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("no/such/directory/usage");
    let (_origin, policy) = behind(&dir.path().join("access"), &missing).await;
    let file = dir.path().join("policy.yaml");
    fs::write(&file, format!("listen: 127.0.0.1:0\nadmin: off\n{policy}")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .arg("-c")
        .arg(&file)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    let expected = format!("the usage records cannot be started: {}", missing.display());
    assert!(said.contains(&expected), "{said}");
}

/// Both in one place: one writer, so no line tears another.
#[tokio::test]
async fn both_logs_may_share_stdout() {
    let (origin, _) = behind(Path::new("stdout"), Path::new("stdout")).await;
    let policy = format!(
        "telemetry: {{ access_log: stdout, usage: stdout }}\nupstreams: {{ up: '{}' }}\n\
         routes: [{{ to: up }}]\n",
        origin.url()
    );
    let app = App::start(&policy);
    calls(&app, 50).await;
    until("100 lines", async || app.written().len() == 100).await;
    let usage = app.written().iter().filter(|line| line["log"] == "usage").count();
    assert_eq!(usage, 50);
}

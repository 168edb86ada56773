//! What is written down, and cannot be: cases 92 to 94.
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::{CHAT, PLAIN, after, answering, ask, policy, served};
use crate::support::app::App;
use crate::support::client::{Client, get, post};
use crate::support::origin::Origin;
use crate::support::until;

const TRACE: [&str; 6] = ["--workers", "1", "--log", "tidegate=trace,info", "--log-form", "json"];

/// The program, started by a shell that has set the scene.
fn after_script(script: &str, policy: &str) -> App {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{script} exec \"$0\" \"$@\"")]);
    command.arg(env!("CARGO_BIN_EXE_tidegate"));
    App::by(command, policy, &TRACE)
}

/// Budgets on disk, per model, so that there is always more to write; and answers kept there.
fn kept(origin: &Origin, state: &std::path::Path) -> String {
    let limits =
        "policies:\n  - { name: all, per: model, limits: { tokens: 900M/day calendar } }\n";
    format!("state: '{}'\n{}", state.display(), policy(&origin.url(), "", limits))
}

/// Uses up the disk: a call a model, until the store has failed.
async fn fill(app: &App) -> usize {
    let mut calls = 0;
    while app.state()["store"]["healthy"] == true {
        for _ in 0..200 {
            let body = PLAIN.replace("\"m\"", &format!("\"m{calls}\""));
            assert_eq!(ask(app, &post(CHAT, "", &body)).await.status, 200, "calls go on");
            calls += 1;
        }
        assert!(calls < 20_000, "it never fails: {}", app.state()["store"]);
    }
    calls
}

/// Files may not grow beyond what the database takes already: what a full disk is like.
async fn on_a_full_disk(origin: &Origin, state: &std::path::Path) -> App {
    let policy = kept(origin, state);
    // made while there is room
    let mut app = App::start(&policy);
    served(&app).await;
    app.end().await;
    drop(app);
    let size = std::fs::metadata(state.join("tidegate.redb")).unwrap().len();
    // beyond it a write fails, where the signal is ignored
    after_script(&format!("trap '' XFSZ; ulimit -S -f {};", size.div_ceil(512)), &policy)
}

/// There are no tasks here that would have to be kept before they are taken; calls need no disk.
#[tokio::test]
async fn a92_a_full_disk() {
    let origin = answering().await;
    let state = tempfile::tempdir().unwrap();
    let app = on_a_full_disk(&origin, state.path()).await;
    let calls = fill(&app).await;
    until("it is said", async || app.events().contains("budgets cannot be written down")).await;
    assert!(app.page("/readyz").contains("the store has failed"), "and calls are taken still");
    let from = Instant::now();
    for _ in 0..20 {
        served(&app).await;
    }
    assert!(from.elapsed() < Duration::from_secs(10), "nobody waits for the disk");
    after::over(&app, &vec![(200, "complete"); calls + 20]).await;
    after::let_go(&app, &origin).await;
}

/// A log on a full disk loses lines, and counts them; calls do not wait for it.
#[tokio::test]
async fn a92_a_log_on_a_full_disk() {
    let origin = answering().await;
    let app = after_script("exec 1>/dev/full;", &policy(&origin.url(), "", super::COUNTED));
    for _ in 0..50 {
        served(&app).await;
    }
    until("lost lines are counted", async || {
        app.count("tidegate_log_dropped_lines_total", &["log=\"access\""]) >= 50
    })
    .await;
    assert_eq!(app.ended("complete"), 50);
    after::at_rest(&app).await;
    after::let_go(&app, &origin).await;
    assert!(app.written().is_empty());
}

/// Once a write or a sync has failed, nobody knows what the disk holds: nothing is said to be kept any
/// more, and a disk that is well again changes nothing until the next start. (That a sync is never
/// tried twice is seen beside the store, on a disk that only forgets.)
#[tokio::test]
async fn a93_a_store_that_failed_stays_failed() {
    let origin = answering().await;
    let state = tempfile::tempdir().unwrap();
    let mut app = on_a_full_disk(&origin, state.path()).await;
    let calls = fill(&app).await;
    let commits = app.state()["store"]["commits"].clone();
    let pid = Pid::from_raw(i32::try_from(app.pid()).unwrap());
    prlimit(pid, Resource::Fsize, Rlimit { current: None, maximum: None }).unwrap();
    for nth in 0..50 {
        let body = PLAIN.replace("\"m\"", &format!("\"after{nth}\""));
        assert_eq!(ask(&app, &post(CHAT, "", &body)).await.status, 200);
    }
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let store = app.state()["store"].clone();
    assert_eq!((&store["healthy"], &store["commits"]), (&false.into(), &commits), "{store}");
    after::over(&app, &vec![(200, "complete"); calls + 50]).await;
    after::let_go(&app, &origin).await;
    app.end().await;
    drop(app);
    // and what the disk holds can be opened: as it was before the failure, or later
    let app = App::start(&kept(&origin, state.path()));
    assert_eq!(app.state()["store"]["healthy"], true);
    served(&app).await;
    after::over(&app, &[(200, "complete")]).await;
}

/// The reader of the log stands still. Lines are dropped, whole, and counted; calls go on, and what is
/// read in the end is lines.
#[tokio::test]
async fn a94_a_log_that_nobody_reads() {
    let origin = answering().await;
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("log");
    assert!(Command::new("mkfifo").arg(&pipe).stdout(Stdio::null()).status().unwrap().success());
    // open for both, so that neither side waits for the other
    let mut reader = OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let script = format!("exec 1>'{}';", pipe.display());
    let app = after_script(&script, &policy(&origin.url(), "", super::COUNTED));
    let wordy = get(
        &format!("/nowhere/{}", "x".repeat(250)),
        &format!("user-agent: {}\r\n", "u".repeat(250)),
    );
    let dropped = || app.count("tidegate_log_dropped_lines_total", &["log=\"access\""]);
    let mut client = Client::connect(app.addr).await;
    let from = Instant::now();
    while dropped() == 0 {
        for _ in 0..500 {
            client.send(&wordy).await;
            assert_eq!(client.answer().await.status, 200);
        }
        assert!(from.elapsed() < Duration::from_mins(2), "it never drops any");
    }
    let from = Instant::now();
    served(&app).await;
    assert!(from.elapsed() < Duration::from_secs(2), "nobody waits: {:?}", from.elapsed());
    after::at_rest(&app).await;
    after::let_go(&app, &origin).await;
    let before = app.resident();
    for _ in 0..500 {
        client.send(&wordy).await;
        assert_eq!(client.answer().await.status, 200);
    }
    assert!(app.resident() < before + (4 << 10), "what is dropped takes no memory");
    drop(app);
    let text = drained(&mut reader);
    assert!(!text.contains(crate::support::app::AGENT_KEY));
    let (whole, _) = text.rsplit_once('\n').unwrap();
    assert!(whole.lines().count() > 50);
    for line in whole.lines() {
        serde_json::from_str::<serde_json::Value>(line)
            .unwrap_or_else(|error| panic!("{error}: {line}"));
    }
}

/// All that is in the pipe: no one writes to it any more.
fn drained(pipe: &mut File) -> String {
    let mut all = Vec::new();
    while let Ok(left @ 1..) = rustix::io::ioctl_fionread(&*pipe) {
        let mut part = vec![0; usize::try_from(left).unwrap()];
        pipe.read_exact(&mut part).unwrap();
        all.extend(part);
    }
    String::from_utf8(all).unwrap()
}

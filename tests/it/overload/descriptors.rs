//! Few file descriptors: connections wait instead of taking the last ones, and where there is none
//! left, nothing spins, nothing is blamed on a backend, and all goes on when there are some again.
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::net::TcpStream;

use super::{CHAT, policy};
use crate::support::app::App;
use crate::support::client::{Client, ask, post};
use crate::support::origin::{self, Origin};
use crate::support::until;

const SMALL: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;

async fn origin() -> Origin {
    Origin::saying(origin::whole("200 OK", "content-type: application/json\r\n", "{}")).await
}

/// With so many descriptors at most.
fn limited(limit: u64, origin: &Origin) -> App {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {limit}; exec \"$0\" \"$@\"")]);
    command.arg(env!("CARGO_BIN_EXE_tidegate"));
    App::by(command, &policy("head_timeout: 60s", &origin.url(), ""), &["--workers", "2"])
}

fn open(app: &App) -> u64 {
    std::fs::read_dir(format!("/proc/{}/fd", app.pid())).unwrap().count() as u64
}

/// Seconds of the processor that it has used, in hundredths.
fn ticks(app: &App) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", app.pid())).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test]
async fn case_102_no_more_connections_are_taken_than_there_are_descriptors_for() {
    let origin = origin().await;
    let app = limited(200, &origin);
    let most = (200 - 80) / 2;
    assert_eq!(app.state()["descriptors"]["limit"], 200);
    assert_eq!(app.state()["descriptors"]["connections"], most);
    assert!(app.events().contains("too few file descriptors"), "{}", app.events());
    let mut crowd = Vec::new();
    for _ in 0..150 {
        crowd.push(TcpStream::connect(app.addr).await.unwrap());
    }
    until("all that may are in", async || app.count("tidegate_connections_open", &[]) >= most)
        .await;
    // nobody else comes in, and there are descriptors for everything else
    let before = ticks(&app);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let used = ticks(&app) - before;
    assert!(used < 30, "{used} hundredths of a second: it spins");
    let taken = app.count("tidegate_connections_open", &[]);
    assert!(taken <= most + 2, "{taken}");
    assert_eq!(app.page("/livez"), "ok\n");
    // who waited is served
    let mut waiting = Client::connect(app.addr).await;
    waiting.send(&post(CHAT, "", SMALL)).await;
    drop(crowd);
    assert_eq!(waiting.answer().await.status, 200);
    assert!(!app.events().contains("none can be accepted"), "{}", app.events());
    app.lines(1).await;
}

#[tokio::test]
async fn the_limit_is_raised_as_far_as_it_may_be() {
    let origin = origin().await;
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -S -n 100; exec \"$0\" \"$@\""]);
    command.arg(env!("CARGO_BIN_EXE_tidegate"));
    let app = App::by(command, &policy("", &origin.url(), ""), &["--workers", "1"]);
    let limit = app.state()["descriptors"]["limit"].as_u64();
    assert!(limit.is_none_or(|limit| limit > 100), "{limit:?}");
}

#[tokio::test]
async fn without_descriptors_nothing_spins_and_no_backend_is_blamed() {
    let origin = origin().await;
    let app = limited(200, &origin);
    let mut known = Client::connect(app.addr).await;
    known.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(known.answer().await.status, 200);
    let pid = Pid::from_raw(i32::try_from(app.pid()).unwrap());
    let limit = |most: u64| {
        let limit = Rlimit { current: Some(most), maximum: Some(200) };
        prlimit(pid, Resource::Nofile, limit).unwrap();
    };
    until("the admin's connection is closed", async || {
        let before = open(&app);
        tokio::time::sleep(Duration::from_millis(50)).await;
        before == open(&app)
    })
    .await;
    limit(open(&app));
    let waiting = TcpStream::connect(app.addr).await.unwrap();
    known.send(&post(CHAT, "", SMALL)).await;
    let answer = known.answer().await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (503, &"overloaded".into()));
    until("it is said", async || app.events().contains("none can be accepted")).await;
    let (before, from) = (ticks(&app), Instant::now());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let used = ticks(&app) - before;
    assert!(used < 30, "{used} hundredths in {:?}: it spins", from.elapsed());
    limit(200);
    drop(waiting);
    assert_eq!(ask(app.addr, &post(CHAT, "", SMALL)).await.status, 200);
    let lines = app.lines(3).await;
    let refused = lines.iter().find(|line| line["status"] == 503).unwrap();
    assert_eq!(refused["error"], "overloaded", "{refused}");
}

//! Starts: after an end in order, with other amounts, with a directory that cannot be used.
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use super::*;
use crate::life::tidegate;
use crate::support::until;

#[tokio::test]
async fn an_end_in_order_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (origin, _) = backend().await;
    let day = 86_400.0;
    for (limit, unit, a_second) in [
        ("spend: $100/day", COST, 0.0),
        ("tokens: 1M/day", 15, 1e6 / day),
        ("requests: 1k/day", 1, 1e3 / day),
    ] {
        let from = Instant::now();
        let state = directory.path().join(unit.to_string());
        let policy = policy(&origin, Some(&state), limit);
        for round in 0..3 {
            let mut app = App::start(&format!("server: {{ drain: {{ delay: 0s }} }}\n{policy}"));
            for _ in 0..5 {
                assert_eq!(chat(app.addr).await.status, 200);
            }
            app.lines(5).await;
            let (spent, all) = (used(&app), (round + 1) * 5 * unit);
            // rates give back a little in that time, and time away counts in whole seconds
            let seconds = from.elapsed().as_secs_f64() + round as f64;
            let refilled = 2 + (a_second * seconds) as u64;
            assert!(spent <= all && spent + refilled >= all, "{limit} {round}: {spent} of {all}");
            app.end().await;
        }
    }
}

#[tokio::test]
async fn a_lowered_limit_holds_from_the_start_and_a_raised_one_lets_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let (origin, calls) = backend().await;
    for (limit, goes, mode) in [
        ("spend: $10/day hard", true, ""),
        ("spend: $1/day hard", false, "402"),
        ("spend: $1/day", false, "429"),
        ("spend: $10/day", true, ""),
        // of another meaning: another budget
        ("spend: $1/month hard", true, ""),
    ] {
        let mut app = App::start(&policy(&origin, Some(directory.path()), limit));
        let before = calls.load(Relaxed);
        let got = chat(app.addr).await;
        assert_eq!(got.status == 200, goes, "{limit}: {}", got.text());
        assert!(goes || got.status.to_string() == mode, "{limit}: {}", got.status);
        if limit == "spend: $10/day hard" {
            for _ in 0..59 {
                assert_eq!(chat(app.addr).await.status, 200);
            }
        }
        assert_eq!(calls.load(Relaxed) > before, goes, "{limit}");
        app.kill();
    }
}

#[tokio::test]
async fn without_a_directory_the_start_says_so_and_nothing_is_kept() {
    let (origin, _) = backend().await;
    // a call must have room for the worst it could be, which is more than it comes to
    let policy = policy(&origin, None, "spend: $0.50/day hard");
    let mut went = Vec::new();
    for _ in 0..2 {
        let mut app = App::start(&policy);
        assert!(app.events().contains("in memory only, lost at restart"), "{}", app.events());
        let mut calls = 0;
        while chat(app.addr).await.status == 200 {
            calls += 1;
        }
        went.push(calls);
        assert_eq!(chat(app.addr).await.status, 402);
        assert_eq!(app.state()["store"], Value::Null);
        app.kill();
    }
    assert!(went[0] > 10 && went[0] == went[1], "{went:?}");
    let directory = tempfile::tempdir().unwrap();
    let kept = super::policy(&origin, Some(directory.path()), "spend: $1/day");
    let app = App::start(&kept);
    let shown = directory.path().display().to_string();
    assert!(app.events().contains(&shown) && !app.events().contains("in memory only"));
    assert_eq!(app.state()["store"]["directory"], shown);
}

/// A start that is to fail.
fn failing(policy: &str) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("policy.yaml");
    std::fs::write(&file, format!("listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\n{policy}")).unwrap();
    let mut command = tidegate();
    command.arg("-c").arg(&file);
    let Output { status, stderr, .. } = command.stdout(Stdio::null()).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[tokio::test]
async fn a_directory_that_cannot_be_used_is_named() {
    let (origin, _) = backend().await;
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let limit = "spend: $1/day hard";
    let app = App::start(&policy(&origin, Some(&state), limit));
    // in another's hands
    let (code, said) = failing(&policy(&origin, Some(&state), limit));
    assert!(code.is_some_and(|code| code != 0), "{code:?}");
    assert!(
        said.contains("another process has") && said.contains(&state.display().to_string()),
        "{said}"
    );
    assert_eq!(chat(app.addr).await.status, 200, "the first goes on");
    drop(app);
    // a file stands there; nothing can be made there; what is there is not ours
    let file = directory.path().join("file");
    std::fs::write(&file, "hello").unwrap();
    let foreign = directory.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("tidegate.redb"), "this is no database of ours".repeat(300))
        .unwrap();
    for at in [&file, Path::new("/proc/tidegate"), &foreign] {
        let (code, said) = failing(&policy(&origin, Some(at), limit));
        assert!(code.is_some_and(|code| code != 0 && code != 101), "{code:?} {said}");
        let named = said.contains("state: ") && said.contains(&at.display().to_string());
        assert!(named && !said.contains("panicked"), "{said}");
    }
    let (_, said) = failing(&policy(&origin, Some(&foreign), limit));
    assert!(said.contains("is damaged or no database"), "{said}");
}

#[tokio::test]
async fn a_directory_for_reading_alone_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    std::fs::create_dir(&state).unwrap();
    std::fs::set_permissions(&state, std::os::unix::fs::PermissionsExt::from_mode(0o500)).unwrap();
    if std::fs::write(state.join("try"), "").is_ok() {
        // who may do everything can write there all the same
        return;
    }
    let (origin, _) = backend().await;
    let (code, said) = failing(&policy(&origin, Some(&state), "spend: $1/day"));
    assert!(code.is_some_and(|code| code != 0) && said.contains("Permission denied"), "{said}");
}

/// The program with files that may not grow beyond this size: what a full disk is like.
fn on_a_full_disk(policy: &str, bytes: u64) -> App {
    // in blocks of 512 bytes; beyond it a write fails, where the signal is ignored
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", bytes.div_ceil(512));
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_tidegate")]);
    App::by(command, policy, &["--workers", "1"])
}

#[tokio::test]
async fn a_disk_that_is_full_is_said_and_calls_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let (origin, _) = backend().await;
    let limits = "spend: $1/day hard, tokens: 1M/day";
    let kept = policy(&origin, Some(directory.path()), limits)
        .replace("per: all", "per: model")
        .replace("{ m:", "{ 'm*':");
    // made while there is room
    let mut app = App::start(&kept);
    assert_eq!(chat(app.addr).await.status, 200);
    app.kill();
    drop(app);
    let size = std::fs::metadata(directory.path().join("tidegate.redb")).unwrap().len();
    let app = on_a_full_disk(&kept, size);
    let mut calls = 0;
    let failed = "the store has failed";
    while !app.page("/readyz").contains(failed) {
        for _ in 0..200 {
            let body = BODY.replace("\"m\"", &format!("\"m{calls}\""));
            assert_eq!(ask(app.addr, &post(CHAT, "", &body)).await.status, 200);
            calls += 1;
        }
        assert!(calls < 10_000, "it never fails: {}", app.state()["store"]);
    }
    let said = || app.events().contains("budgets cannot be written down");
    until("the log says it", async || said()).await;
    assert_eq!(app.state()["store"]["healthy"], false);
    // and budgets hold on in memory
    let mut more = 0;
    while chat(app.addr).await.status == 200 {
        more += 1;
    }
    assert!((30..=49).contains(&more), "$1 is fifty calls at most, one was made before: {more}");
    assert_eq!(chat(app.addr).await.status, 402);
    app.lines(calls + more + 2).await;
}

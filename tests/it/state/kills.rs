//! `kill -9` at random moments, under load.
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::*;

/// Calls without end on a few connections, until the program is gone.
fn load(to: SocketAddr, clients: usize) -> JoinSet<()> {
    let mut all = JoinSet::new();
    for _ in 0..clients {
        all.spawn(async move {
            let Ok(mut io) = TcpStream::connect(to).await else { return };
            let mut answer = vec![0; 4096];
            // an answer of this origin comes in one piece
            while io.write_all(&post(CHAT, "", BODY)).await.is_ok() {
                if !matches!(io.read(&mut answer).await, Ok(1..)) {
                    return;
                }
            }
        });
    }
    all
}

/// Anything, spread over a range; seeded by the clock, and shown where a test fails.
fn millis(range: std::ops::Range<u64>) -> Duration {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let drawn = (now.as_nanos() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
    Duration::from_millis(range.start + drawn % (range.end - range.start))
}

#[tokio::test]
async fn a_hard_budget_loses_no_debit_over_twenty_kills() {
    const KILLS: u32 = 22;
    let directory = tempfile::tempdir().unwrap();
    let (origin, calls) = backend().await;
    let policy = policy(&origin, Some(directory.path()), "spend: $100000/month hard");
    let mut before = 0;
    for kill in 0..KILLS {
        let mut app = App::start(&policy);
        app.unfinished = true;
        let known = calls.load(Relaxed);
        assert_eq!(chat(app.addr).await.status, 200);
        let spent = used(&app);
        assert!(spent >= (known + 1) * COST, "{kill}: {spent} of {} calls", known + 1);
        // what was marked ahead of use is lost with each kill: a 64th, and what was under way
        assert!(spent <= before + 100_000_000_000_000 / 64 + (known + 1) * COST, "{kill}: {spent}");
        before = spent;
        let clients = load(app.addr, 4);
        let after = millis(0..120);
        tokio::time::sleep(after).await;
        app.kill();
        clients.join_all().await;
    }
    let app = App::start(&policy);
    assert_eq!(chat(app.addr).await.status, 200);
    let (spent, served) = (used(&app), calls.load(Relaxed));
    assert!(served > u64::from(KILLS) * 4, "it was under load: {served}");
    assert!(spent >= served * COST, "{spent} of {served} calls");
    app.lines(1).await;
}

#[tokio::test]
async fn a_small_hard_budget_is_never_overrun_however_often_it_dies() {
    let directory = tempfile::tempdir().unwrap();
    let (origin, calls) = backend().await;
    // for two hundred calls
    let policy = policy(&origin, Some(directory.path()), "spend: $4/month hard");
    let mut kills = 0;
    loop {
        let mut app = App::start(&policy);
        app.unfinished = true;
        let got = chat(app.addr).await;
        if got.status == 402 {
            assert_eq!(got.json()["error"]["code"], "insufficient_quota");
            break;
        }
        assert_eq!(got.status, 200);
        let clients = load(app.addr, 4);
        tokio::time::sleep(millis(0..12)).await;
        app.kill();
        clients.join_all().await;
        kills += 1;
        assert!(kills < 100, "it never ends: {} calls", calls.load(Relaxed));
    }
    let served = calls.load(Relaxed);
    assert!(served * COST <= 4_000_000_000, "{served} calls, {kills} kills");
    assert!(kills > 0 && served > 20, "{served} calls, {kills} kills");
}

#[tokio::test]
async fn a_soft_budget_loses_a_second_at_most() {
    for kill in 0..4 {
        let directory = tempfile::tempdir().unwrap();
        let (origin, calls) = backend().await;
        let policy = policy(&origin, Some(directory.path()), "spend: $100000/month");
        let mut app = App::start(&policy);
        app.unfinished = true;
        let clients = load(app.addr, 2);
        let from = Instant::now();
        let whole = millis(1600..2600);
        // of each write, what had been spent when the one before it was seen: all of it is in it
        let (mut written, mut spent_then, mut least) = (0, 0, 0);
        while from.elapsed() < whole {
            let spent = calls.load(Relaxed);
            let commits = app.state()["store"]["commits"].as_u64().unwrap();
            if commits > written {
                (written, least, spent_then) = (commits, spent_then, spent);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let ran = from.elapsed();
        app.kill();
        clients.join_all().await;
        let all = calls.load(Relaxed);
        let app = App::start(&policy);
        assert_eq!(chat(app.addr).await.status, 200);
        let spent = used(&app) / COST;
        // two may have been on their way
        assert!(
            spent + 2 >= least && spent <= all + 1,
            "{kill}: {spent} of {least} to {all} calls"
        );
        // twice as often as promised, for machines that have more to do
        assert!(written >= ran.as_secs(), "{kill}: {written} writes in {ran:?}");
        assert!(written > 0 && least > 0, "{kill}: {written} writes, {least} calls");
        app.lines(1).await;
    }
}

//! What is still to be told when the program ends, by whatever end.
use std::collections::{HashMap, HashSet};
use std::time::Instant;

use super::*;
use crate::support::Dice;

#[tokio::test]
async fn a_kill_before_the_receiver_has_answered_has_it_told_after_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let (backend, receiver) = (backend().await, Receiver::slow_at_first(PATIENCE).await);
    let policy = policy(&backend, directory.path(), "", &target("ops", &receiver.url()));
    let mut app = start(&policy);
    let id = submitted(app.addr, "m").await;
    until("it is being told", async || receiver.count() == 1).await;
    assert_eq!(state(app.addr, &id).await, "succeeded");
    app.kill();
    let mut app = start(&policy);
    let got = receiver.messages(2).await;
    assert_eq!(told(&got), [(&*id, "task.succeeded"); 2]);
    assert_eq!(got[0].id, got[1].id, "so that a receiver that had taken it knows it again");
    // what was taken is not told a third time
    app.end().await;
    let app = start(&policy);
    let last = submitted(app.addr, "m").await;
    assert_eq!(told(&receiver.messages(1).await), [(&*last, "task.succeeded")]);
}

#[tokio::test]
async fn what_ran_when_it_was_killed_is_told_as_interrupted() {
    let directory = tempfile::tempdir().unwrap();
    let (backend, receiver) = (backend().await, Receiver::new().await);
    let hook = target("ops", &receiver.url());
    let policy = policy(&backend, directory.path(), "attempts: 1,", &hook);
    let mut app = start(&policy);
    let id = submitted(app.addr, "hang").await;
    until("it runs", async || backend.requests() == 1).await;
    // the row that says so is on the disk within half a second
    tokio::time::sleep(Duration::from_secs(1)).await;
    app.kill();
    let app = start(&policy);
    assert_eq!(told(&receiver.messages(1).await), [(&*id, "task.interrupted")]);
    assert_eq!(state(app.addr, &id).await, "interrupted");
}

#[tokio::test]
async fn a_kill_in_the_midst_of_the_schedule_keeps_to_the_schedule() {
    let directory = tempfile::tempdir().unwrap();
    let backend = backend().await;
    let busy = whole("503 Service Unavailable", "", "");
    let receiver = Receiver::by_turns([&*busy, TAKEN]).await;
    let policy = policy(&backend, directory.path(), "", &target("ops", &receiver.url()));
    let mut app = start(&policy);
    let id = submitted(app.addr, "m").await;
    let first = receiver.messages(1).await;
    let at = Instant::now();
    // the attempt's row goes to the disk with the next commit
    tokio::time::sleep(Duration::from_secs(1)).await;
    app.kill();
    let _app = start(&policy);
    let second = receiver.messages(1).await;
    assert_eq!(told(&second), [(&*id, "task.succeeded")]);
    assert_eq!(first, second);
    // five seconds, give or take a fifth; the first attempt again would have come at once
    assert!(at.elapsed() > Duration::from_millis(3500), "{:?}", at.elapsed());
}

#[tokio::test]
async fn a_drain_waits_for_the_receiver_that_is_being_told() {
    let directory = tempfile::tempdir().unwrap();
    let (backend, receiver) =
        (backend().await, Receiver::slow_at_first(Duration::from_secs(1)).await);
    let hook = target("ops", &receiver.url());
    let policy = policy(&backend, directory.path(), "", &hook);
    let mut app = start(&policy);
    let id = submitted(app.addr, "m").await;
    until("it is being told", async || receiver.count() == 1).await;
    app.end().await;
    assert_eq!(told(&receiver.messages(1).await), [(&*id, "task.succeeded")]);
    let app = start(&policy);
    let last = submitted(app.addr, "m").await;
    assert_eq!(told(&receiver.messages(1).await), [(&*last, "task.succeeded")]);
}

#[tokio::test]
async fn kills_under_load_lose_no_end_and_tell_no_two_of_one_task() {
    let directory = tempfile::tempdir().unwrap();
    let (backend, receiver) = (backend().await, Receiver::new().await);
    let policy = policy(&backend, directory.path(), "", &target("ops", &receiver.url()));
    let kills = if std::env::var_os("LONG").is_some() { 60 } else { 5 };
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let mut dice = Dice(seed.as_nanos() as u64);
    let mut ids = HashSet::new();
    for _ in 0..kills {
        let mut app = start(&policy);
        let until = Instant::now() + Duration::from_millis(dice.roll(400));
        while ids.is_empty() || Instant::now() < until {
            let model = if dice.roll(3) == 0 { "bad" } else { "m" };
            ids.insert(submitted(app.addr, model).await);
        }
        app.kill();
    }
    let app = start(&policy);
    let mut ends: HashMap<String, String> = HashMap::new();
    let mut seen: HashMap<String, String> = HashMap::new();
    // 64 a second, and what broke off in the middle after five seconds
    let from = Instant::now();
    while seen.len() < ids.len() {
        assert!(from.elapsed() < 6 * PATIENCE, "{} of {} are told", seen.len(), ids.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
        for message in receiver.take().iter().map(|request| read(request, SECRET)) {
            assert!(ids.contains(&message.task));
            let known = seen.entry(message.task.clone()).or_insert_with(|| message.id.clone());
            assert_eq!(*known, message.id, "told again, it is the same message");
            ends.insert(message.task, message.state);
        }
    }
    for id in &ids {
        assert_eq!(ends[id], state(app.addr, id).await, "an end that was told stays");
    }
}

//! Crashes at every step of a task's life, and disks that fail: what was acknowledged is there,
//! and what is there is legal.
use std::collections::HashMap;

use super::*;
use crate::store::tests::disk::{Disk, Fault};

fn over(disk: &Disk, directory: &std::path::Path) -> (Arc<Store>, Arc<Tasks>) {
    let store = Arc::new(disk.store(directory));
    let tasks = open(&store, Settings { attempts: 2, ..Settings::default() });
    (store, tasks)
}

/// What a restart may make of what was seen last before the crash. `soft`: the state had been
/// seen, and was not acknowledged.
fn legal(seen: State, found: State, repeats: bool) -> bool {
    use State::{Cancelled, Cancelling, Interrupted, Queued, RetryWait, Running};
    let lost = if repeats { RetryWait } else { Interrupted };
    match seen {
        Queued => matches!(found, Queued),
        Running => found == lost || matches!(found, Queued | RetryWait),
        RetryWait => found == RetryWait,
        Cancelling => found == Cancelled,
        over => found == over,
    }
}

/// A power cut after each step, in every way that a life can go.
#[tokio::test]
async fn a_power_cut_at_every_step_leaves_what_was_acknowledged() {
    for repeats in [true, false] {
        for end in ["succeed", "fail", "retry", "cancel", "cancel-first"] {
            let directory = tempfile::tempdir().unwrap();
            let disk = Disk::new(directory.path());
            let (store, tasks) = over(&disk, directory.path());
            let request = Request { repeats, ..new(A, "").request };
            let asked = NewTask { request, ..keyed(A, 9, 9) };
            let id = submitted(&tasks, NewTask { body: "question".into(), ..asked.clone() }).await;
            let check = async |state: State| {
                let place = tempfile::tempdir().unwrap();
                std::fs::copy(directory.path().join("pepper"), place.path().join("pepper"))
                    .unwrap();
                let (_store, left) = over(&disk.after_power_cut(), place.path());
                let found = left.view(&A, id).expect("acknowledged").record;
                let context = format!("{end}: {state:?} became {:?}", found.state);
                assert!(legal(state, found.state, repeats), "{context}");
                if found.state.is_waiting() {
                    assert_eq!(body_of(&left, id).await.unwrap(), "question", "{context}");
                    left.sweep(NOW + 60_000);
                    assert_eq!(claimed(&left).await.record.id, id);
                }
                if found.state == State::Succeeded {
                    assert_eq!(answer_of(&left, &A, id).await.unwrap(), "answer", "{context}");
                }
                let again = left.submit(asked.clone(), NOW).await.unwrap();
                assert_eq!((again.fresh, again.view.record.id), (false, id), "{context}");
            };
            check(State::Queued).await;
            if end == "cancel-first" {
                tasks.cancel(Some(&A), id).await.unwrap();
                check(State::Cancelled).await;
                continue;
            }
            let Job { lead, .. } = claimed(&tasks).await;
            check(State::Running).await;
            lead.begin(head());
            check(State::Running).await;
            lead.push(Bytes::from_static(b"answer")).unwrap();
            assert!(tokio::task::spawn_blocking(move || store.flush(PATIENCE)).await.unwrap());
            check(State::Running).await;
            let ended = match end {
                "succeed" => lead.finish(State::Succeeded, None, None, None).await,
                "fail" => lead.finish(State::Failed, None, None, None).await,
                "retry" => lead.retry(Duration::from_secs(9), true, 1).await,
                _ => {
                    tasks.cancel(Some(&A), id).await.unwrap();
                    check(State::Cancelling).await;
                    lead.finish(State::Failed, None, None, None).await
                }
            };
            check(ended.unwrap().record.state).await;
        }
    }
}

#[tokio::test]
async fn an_interrupted_task_keeps_what_had_reached_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(directory.path()).unwrap());
    let tasks = open(&store, Settings::default());
    let request = Request { repeats: false, ..new(A, "").request };
    let id = submitted(&tasks, NewTask { request, ..new(A, "") }).await;
    let Job { lead, .. } = claimed(&tasks).await;
    lead.begin(head());
    lead.push(vec![b'x'; 70_000].into()).unwrap();
    lead.push(Bytes::from_static(b"never written")).unwrap();
    assert!(store.flush(PATIENCE));
    // the memory is gone, the disk is as it is
    std::mem::forget(lead);
    drop(tasks);
    let again = open(&store, Settings::default());
    let record = again.view(&A, id).unwrap().record;
    assert_eq!(record.state, State::Interrupted);
    let kept = record.result.as_ref().unwrap();
    assert_eq!((kept.bytes, kept.whole, kept.status), (70_000, false, 200));
    assert_eq!(answer_of(&again, &A, id).await.unwrap().len(), 70_000);
    assert_eq!(again.recovered().interrupted, 1);
}

/// Everything that a client may be told is on the disk before: the last bytes before an
/// acknowledgement are cut at every place.
#[tokio::test]
async fn a_cut_at_any_byte_before_an_acknowledgement_leaves_a_legal_task() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::new(directory.path());
    let (_store, tasks) = over(&disk, directory.path());
    let first = submitted(&tasks, new(A, "first")).await;
    disk.mark();
    let second = submitted(&tasks, new(A, "second")).await;
    let admitted = disk.writes().len();
    let Job { record, lead, .. } = claimed(&tasks).await;
    lead.begin(head());
    lead.push(Bytes::from_static(b"answer")).unwrap();
    lead.finish(State::Succeeded, None, None, None).await.unwrap();
    let (ran, writes) = (record.id, disk.writes());
    let last = writes.iter().rposition(|bytes| *bytes > 0).unwrap();
    let mut found = HashMap::new();
    for (at, bytes) in writes.iter().copied().enumerate() {
        let step = if at == last { 1 } else { (bytes / 3).max(1) };
        for cut in (0..=bytes).step_by(step) {
            let (_store, left) = over(&disk.cut(at, cut), directory.path());
            let state = |id| left.view(&A, id).map(|view| view.record.state);
            for id in [first, second] {
                let legal = match state(id) {
                    None => id == second && at < admitted,
                    Some(State::Succeeded | State::RetryWait) => id == ran,
                    Some(State::Queued) => true,
                    Some(_) => false,
                };
                assert!(legal, "{at}:{cut}: {id} is {:?}", state(id));
            }
            if state(ran) == Some(State::Succeeded) {
                assert_eq!(answer_of(&left, &A, ran).await.unwrap(), "answer");
            }
            *found.entry(state(ran)).or_insert(0) += 1;
        }
    }
    println!("cuts by what they left: {found:?}");
    assert!(found.len() > 1, "{found:?}");
}

#[tokio::test]
async fn a_full_disk_refuses_new_tasks_and_ends_those_that_run() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::new(directory.path());
    let (store, tasks) = over(&disk, directory.path());
    let id = submitted(&tasks, new(A, "")).await;
    let Job { lead, .. } = claimed(&tasks).await;
    lead.begin(head());
    disk.fail(Fault::Space(0));
    assert_eq!(tasks.submit(keyed(A, 1, 1), NOW).await.err(), Some(SubmitError::NoSpace));
    assert_eq!(tasks.book.lock().load(&A), (1, TASK), "what was refused does not count");
    lead.push(Bytes::from_static(b"answer")).unwrap();
    lead.finish(State::Succeeded, None, None, None).await.unwrap();
    assert_eq!(answer_of(&tasks, &A, id).await.unwrap(), "answer");
    assert_eq!(tasks.submit(keyed(A, 1, 1), NOW).await.err(), Some(SubmitError::NoSpace));
    assert_eq!(tasks.counts().refusals(), [(["no_space"], 2)]);
    disk.mend();
    let from = std::time::Instant::now();
    while !store.has_room() {
        assert!(from.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(tasks.submit(keyed(A, 1, 1), NOW).await.unwrap().fresh);
}

/// While nothing at all can be written the store is closed at times. What cannot be read then is
/// there still.
#[tokio::test]
async fn a_disk_without_any_room_loses_no_task() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::new(directory.path());
    let (store, tasks) = over(&disk, directory.path());
    let over = submitted(&tasks, new(A, "")).await;
    let Job { lead, .. } = claimed(&tasks).await;
    lead.begin(head());
    lead.push(Bytes::from_static(b"answer")).unwrap();
    lead.finish(State::Succeeded, None, None, None).await.unwrap();
    let waits = submitted(&tasks, new(A, "body")).await;
    disk.fail(Fault::NoSpaceAtAll);
    assert_eq!(tasks.submit(new(B, ""), NOW).await.err(), Some(SubmitError::NoSpace));
    let claim = {
        let tasks = Arc::clone(&tasks);
        tokio::spawn(async move { tasks.claim().await })
    };
    let from = std::time::Instant::now();
    while tasks.result_of(&A, over).await.is_ok() {
        assert!(from.elapsed() < PATIENCE, "it is never closed: the test tests nothing");
        // the claim's mark, and the try to write it again
        tokio::time::sleep(Duration::from_millis(10)).await;
        store.put(Table::Budgets, b"mark", b"1");
    }
    disk.mend();
    let job = tokio::time::timeout(PATIENCE, claim).await.unwrap().unwrap();
    assert_eq!((job.record.id, job.record.attempts, job.body.as_ref()), (waits, 1, &b"body"[..]));
    job.marked.await.unwrap();
    assert_eq!(answer_of(&tasks, &A, over).await.unwrap(), "answer");
}

/// After any error: what was told is there, and nobody hears of an end that is not.
#[tokio::test]
async fn a_broken_disk_is_told_to_everybody_and_tells_of_no_end() {
    for fault in [Fault::Syncs, Fault::Writes(0), Fault::Writes(3)] {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::new(directory.path());
        let (_store, tasks) = over(&disk, directory.path());
        let (id, waits) =
            (submitted(&tasks, new(A, "")).await, submitted(&tasks, new(A, "")).await);
        let Job { lead, record, .. } = claimed(&tasks).await;
        let waits = if record.id == id { waits } else { id };
        lead.begin(head());
        lead.push(Bytes::from_static(b"answer")).unwrap();
        let mut follower = tasks.follow(&A, record.id).unwrap();
        assert!(matches!(follower.next().await, Follow::Piece(_)));
        lead.push(Bytes::from_static(b", all of it")).unwrap();
        assert!(tasks.pressure.used() > 0);
        disk.fail(fault);
        let mut refused = None;
        for _ in 0..10 {
            refused = tasks.submit(new(B, ""), NOW).await.err();
        }
        assert_eq!(refused, Some(SubmitError::Broken), "{fault:?}");
        let ended = lead.finish(State::Succeeded, None, None, None).await;
        assert_eq!(ended, Err(Failed::Broken));
        assert!(matches!(follower.next().await, Follow::Piece(_)));
        assert!(matches!(follower.next().await, Follow::Broken));
        assert_eq!(state(&tasks, record.id), State::Running);
        assert_eq!(tasks.pressure.used(), 0, "what nobody reads takes no memory");
        let cancelled = tokio::time::timeout(PATIENCE, tasks.cancel(None, waits)).await.unwrap();
        assert_eq!(cancelled.unwrap().record.state, State::Queued);
        assert!(idle(&tasks).await, "nothing is begun that cannot be kept");
        let place = tempfile::tempdir().unwrap();
        std::fs::copy(directory.path().join("pepper"), place.path().join("pepper")).unwrap();
        let (_store, left) = over(&disk.after_power_cut(), place.path());
        let found = left.view(&A, record.id).unwrap().record.state;
        assert!(matches!(found, State::Queued | State::RetryWait), "{fault:?}: {found:?}");
        assert_eq!(state(&left, waits), State::Queued);
    }
}

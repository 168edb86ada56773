//! Answers that somebody else goes on making: set down with what has come, and taken up behind it.
use super::*;

fn holder() -> Holder {
    Holder {
        response: "resp_1".to_owned(),
        upstream: "openai".to_owned(),
        address: "https://api.openai.com".to_owned(),
        key: 7,
    }
}

fn once() -> NewTask {
    let request = Request { repeats: false, ..new(A, "").request };
    NewTask { request, ..new(A, "question") }
}

/// A task that has begun to answer, and who reads it.
async fn begun(tasks: &Arc<Tasks>) -> (TaskId, Lead, Follower) {
    let id = submitted(tasks, once()).await;
    let Job { lead, .. } = claimed(tasks).await;
    lead.begin(head());
    lead.push(Bytes::from_static(b"one ")).unwrap();
    lead.held_by(holder());
    assert_eq!(lead.holder(), Some(holder()));
    let mut follower = tasks.follow(&A, id).unwrap();
    assert!(matches!(follower.next().await, Follow::Piece(piece) if piece == "one "));
    (id, lead, follower)
}

/// Takes it up, and ends it.
async fn ends(tasks: &Tasks, id: TaskId, had: &'static [u8]) {
    let Job { record, lead, body, marked, .. } = claimed(tasks).await;
    marked.await.unwrap();
    assert_eq!((record.id, record.holder.clone(), &*body), (id, Some(holder()), &b"question"[..]));
    assert_eq!((record.attempts, record.runs, record.events_before), (1, 1, 0), "it is no other");
    lead.restore().await.unwrap();
    assert_eq!(lead.answer().1.concat(), had);
    lead.push(Bytes::from_static(b"two")).unwrap();
    lead.finish(State::Succeeded, None, None, None).await.unwrap();
    let whole = [had, b"two"].concat();
    assert_eq!(tasks.result_of(&A, id).await.unwrap().unwrap(), whole);
    assert!(tasks.view(&A, id).unwrap().record.result.as_ref().unwrap().whole);
}

#[tokio::test]
async fn a_start_takes_it_up_behind_what_was_kept() {
    let (_directory, store, tasks) = tasks(Settings { attempts: 1, ..Settings::default() });
    let (id, lead, _) = begun(&tasks).await;
    // the rows of what runs are written by and by
    tasks.sweep(NOW);
    store.durably(Vec::new()).await.unwrap();
    assert!(store.flush(PATIENCE));
    std::mem::forget((lead, tasks));
    let tasks = open(&store, Settings { attempts: 1, ..Settings::default() });
    let found = *tasks.recovered();
    assert_eq!((found.taken_up, found.again, found.interrupted, found.open), (1, 0, 0, 1));
    let view = tasks.view(&A, id).unwrap();
    assert_eq!((view.record.state, view.bytes), (State::RetryWait, 4));
    assert_eq!(tasks.find_alias(&A, "resp_1"), Some(id));
    ends(&tasks, id, b"one ").await;
}

#[tokio::test]
async fn one_whose_whole_answer_was_kept_and_not_its_end_is_not_kept_twice() {
    let (_directory, store, tasks) = tasks(Settings::default());
    let (id, lead, _) = begun(&tasks).await;
    tasks.sweep(NOW);
    store.durably(Vec::new()).await.unwrap();
    assert!(store.flush(PATIENCE));
    std::mem::forget((lead, tasks));
    let tasks = open(&store, Settings::default());
    let Job { lead, marked, .. } = claimed(&tasks).await;
    marked.await.unwrap();
    lead.restore().await.unwrap();
    assert_eq!(lead.answer().1.concat(), b"one ");
    lead.replace(Bytes::from_static(b"one and all")).unwrap();
    let view = lead.finish(State::Succeeded, None, None, None).await.unwrap();
    assert_eq!(view.bytes, 11);
    assert_eq!(tasks.result_of(&A, id).await.unwrap().unwrap(), &b"one and all"[..]);
    drop(tasks);
    let tasks = open(&store, Settings::default());
    assert_eq!(tasks.result_of(&A, id).await.unwrap().unwrap(), &b"one and all"[..]);
}

#[tokio::test]
async fn one_that_its_worker_lost_or_set_down_goes_on_too() {
    for lost in [true, false] {
        let (_directory, store, tasks) = tasks(Settings { attempts: 1, ..Settings::default() });
        let (id, lead, mut follower) = begun(&tasks).await;
        if lost {
            drop(lead);
        } else {
            lead.set_down(Duration::ZERO).await.unwrap();
        }
        assert!(store.flush(PATIENCE));
        let view = tasks.view(&A, id).unwrap();
        assert_eq!((view.record.state, view.bytes), (State::RetryWait, 4));
        tasks.sweep(NOW + 60_000);
        ends(&tasks, id, b"one ").await;
        // who read in the middle comes back for the rest
        assert!(matches!(follower.next().await, Follow::Broken));
    }
}

#[tokio::test]
async fn one_that_is_stopped_first_is_not_set_down() {
    let (_directory, _store, tasks) = tasks(Settings::default());
    let (id, lead, _) = begun(&tasks).await;
    tasks.cancel(Some(&A), id).await.unwrap();
    let view = lead.set_down(Duration::ZERO).await.unwrap();
    assert_eq!(view.record.state, State::Cancelled);
    assert_eq!(tasks.result_of(&A, id).await.unwrap().unwrap(), &b"one "[..]);
}

#[tokio::test]
async fn one_that_is_to_rest_for_long_is_not_due_with_every_sweep() {
    let (_directory, _store, tasks) = tasks(Settings::default());
    let (id, lead, _) = begun(&tasks).await;
    lead.set_down(Duration::from_hours(9)).await.unwrap();
    tasks.sweep(NOW + MINUTE);
    let next = tasks.view(&A, id).unwrap().record.next_ms.expect("it rests");
    assert!((NOW + LONGEST_WAIT..NOW + LONGEST_WAIT + MINUTE).contains(&next), "{next}");
    assert!(idle(&tasks).await, "it is not due");
    tasks.sweep(NOW + LONGEST_WAIT + 2 * MINUTE);
    ends(&tasks, id, b"one ").await;
}

#[tokio::test]
async fn one_that_ends_before_it_is_taken_up_keeps_what_had_come() {
    let (_directory, _store, tasks) = tasks(Settings::default());
    let (id, lead, _) = begun(&tasks).await;
    lead.set_down(Duration::ZERO).await.unwrap();
    tasks.sweep(NOW + MINUTE);
    let Job { lead, .. } = claimed(&tasks).await;
    assert_eq!(tasks.view(&A, id).unwrap().bytes, 4);
    // who looks now finds a log with nothing in it
    let mut follower = tasks.follow(&A, id).unwrap();
    let follows = async {
        let first = follower.next().await;
        assert!(matches!(&first, Follow::Piece(piece) if piece == "one "), "{first:?}");
        assert!(matches!(follower.next().await, Follow::Ended(_)));
    };
    let ends = async {
        tasks.cancel(Some(&A), id).await.unwrap();
        let view = lead.finish(State::Cancelled, None, None, None).await.unwrap();
        assert_eq!((view.record.state, view.bytes), (State::Cancelled, 4));
    };
    tokio::join!(follows, ends);
    assert_eq!(tasks.result_of(&A, id).await.unwrap().unwrap(), &b"one "[..]);
    assert_eq!(tasks.figures().result_bytes, 4);
}

#[tokio::test]
async fn one_that_is_set_down_before_it_is_taken_up_keeps_what_had_come() {
    let (_directory, store, tasks) = tasks(Settings::default());
    let (id, lead, _) = begun(&tasks).await;
    lead.set_down(Duration::ZERO).await.unwrap();
    for lost in [true, false] {
        tasks.sweep(NOW + MINUTE);
        let Job { lead, .. } = claimed(&tasks).await;
        if lost {
            drop(lead);
        } else {
            lead.set_down(Duration::ZERO).await.unwrap();
        }
        assert_eq!(tasks.view(&A, id).unwrap().bytes, 4);
    }
    assert!(store.flush(PATIENCE));
    drop(tasks);
    let tasks = open(&store, Settings::default());
    assert_eq!(tasks.view(&A, id).unwrap().bytes, 4, "and so the disk has it");
    tasks.sweep(NOW + 2 * MINUTE);
    ends(&tasks, id, b"one ").await;
}

#[tokio::test]
async fn one_that_grows_too_old_while_it_rests_keeps_what_has_come() {
    let (_directory, _store, tasks) = tasks(Settings::default());
    let (id, lead, _) = begun(&tasks).await;
    lead.set_down(Duration::from_hours(1)).await.unwrap();
    tasks.sweep(NOW + 25 * 3_600_000);
    assert_eq!(state(&tasks, id), State::RetryWait, "its holder is told first");
    stops(&tasks, id, Stop::Expired).await;
}

/// A worker gets it, to tell its holder; with that it is over, and keeps what has come.
async fn stops(tasks: &Tasks, id: TaskId, stop: Stop) {
    let Job { record, lead, .. } = claimed(tasks).await;
    assert_eq!((record.id, record.attempts, record.runs), (id, 1, 1));
    assert_eq!(lead.holder(), Some(holder()));
    let told = tokio::time::timeout(PATIENCE, lead.cancelled()).await;
    assert_eq!(told, Ok(stop), "it is to stop at once");
    // what a worker makes of it counts for nothing
    let view = lead.finish(State::Interrupted, None, None, None).await.unwrap();
    assert_eq!((view.record.state, view.bytes), (stop.state(), 4));
    assert_eq!(tasks.result_of(&A, id).await.unwrap().unwrap(), &b"one "[..]);
    assert!(idle(tasks).await, "once");
}

#[tokio::test]
async fn one_that_is_cancelled_while_it_rests_is_stopped_at_its_holder() {
    let (_directory, _store, tasks) = tasks(Settings { workers: 1, ..Settings::default() });
    let (id, lead, _) = begun(&tasks).await;
    lead.set_down(Duration::from_hours(1)).await.unwrap();
    // no place is free: it needs none
    submitted(&tasks, new(B, "another")).await;
    let _runs = claimed(&tasks).await;
    for _ in 0..2 {
        let view = tasks.cancel(Some(&A), id).await.unwrap();
        assert_eq!((view.record.state, view.record.next_ms), (State::Cancelling, None));
    }
    stops(&tasks, id, Stop::Cancelled).await;
}

#[tokio::test]
async fn one_that_no_worker_takes_to_stop_it_is_over_by_itself() {
    for cancelled in [true, false] {
        let (_directory, _store, tasks) = tasks(Settings::default());
        let (id, lead, _) = begun(&tasks).await;
        lead.set_down(Duration::from_hours(1)).await.unwrap();
        let late = NOW + 25 * 3_600_000;
        let now = if cancelled { NOW } else { late };
        tasks.sweep(now);
        if cancelled {
            tasks.cancel(Some(&A), id).await.unwrap();
        }
        let stop = if cancelled { Stop::Cancelled } else { Stop::Expired };
        assert!(!state(&tasks, id).is_terminal());
        let version = tasks.view(&A, id).unwrap().version;
        tasks.sweep(now + MINUTE);
        let changed = tokio::time::timeout(PATIENCE, tasks.changed(id, version)).await;
        changed.expect("it is never over");
        assert_eq!(state(&tasks, id), stop.state());
        assert_eq!(tasks.result_of(&A, id).await.unwrap().unwrap(), &b"one "[..]);
        assert!(idle(&tasks).await);
    }
}

#[tokio::test]
async fn a_start_stops_at_its_holder_what_was_cancelled_or_grew_too_old_meanwhile() {
    for (cancelled, rests) in [(true, true), (true, false), (false, true), (false, false)] {
        let (_directory, store, tasks) = tasks(Settings::default());
        let (id, lead, _) = begun(&tasks).await;
        tasks.sweep(NOW);
        let lead = if rests {
            lead.set_down(Duration::from_hours(1)).await.unwrap();
            None
        } else {
            Some(lead)
        };
        if cancelled {
            tasks.cancel(Some(&A), id).await.unwrap();
        }
        assert!(store.flush(PATIENCE));
        // the memory is gone at once, as after a kill
        std::mem::forget((lead, tasks));
        let now = NOW + 25 * 3_600_000 * u64::from(!cancelled);
        let tasks = Tasks::open(Arc::clone(&store), Settings::default(), Arc::default(), now);
        let tasks = tasks.unwrap();
        let found = *tasks.recovered();
        assert_eq!((found.taken_up, found.cancelled, found.expired, found.open), (1, 0, 0, 1));
        let stop = if cancelled { Stop::Cancelled } else { Stop::Expired };
        stops(&tasks, id, stop).await;
    }
}

#[tokio::test]
async fn what_needs_the_callers_own_key_is_not_taken_up_without_it() {
    let (_directory, store, tasks) = tasks(Settings::default());
    let request = Request { needs_credential: true, ..once().request };
    let credential = Some(Credential::new(vec![("x-api-key".to_owned(), b"k".to_vec())]));
    let id = submitted(&tasks, NewTask { request, credential, ..once() }).await;
    let Job { lead, .. } = claimed(&tasks).await;
    lead.held_by(holder());
    assert!(store.flush(PATIENCE));
    std::mem::forget((lead, tasks));
    let tasks = open(&store, Settings::default());
    let record = tasks.view(&A, id).unwrap().record;
    assert_eq!(record.error.as_ref().unwrap().r#type, "credential_lost");
}

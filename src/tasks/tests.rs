//! The book of tasks, rule by rule; crashes, chance and sizes in files of their own.
mod counting;
mod crash;
mod following;
mod held;
mod model;
mod sizes;
mod telling;

use std::collections::HashSet;

use super::book::LONGEST_WAIT;
use super::entry::TASK;
use super::record::Data;
use super::*;
use crate::store::{Failed, Op};
use crate::wire::Kind;

pub(super) const NOW: u64 = 1_700_000_000_000;
/// The book's clock goes on between two sweeps: what is due at once may be due some seconds later.
pub(super) const MINUTE: u64 = 60_000;
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
pub(super) const A: Owner = [1; 16];
pub(super) const B: Owner = [2; 16];

pub(super) fn new(owner: Owner, body: &str) -> NewTask {
    let request = Request {
        method: "POST".to_owned(),
        path_and_query: "/v1/chat/completions".to_owned(),
        headers: vec![("content-type".to_owned(), b"application/json".to_vec())],
        stream: true,
        kind: Kind::Chat,
        repeats: true,
        ..Request::default()
    };
    NewTask {
        owner,
        request,
        caller: Caller { agent: "a".to_owned(), ..Caller::default() },
        route: "r".to_owned(),
        model: Some("m".to_owned()),
        idempotency: None,
        webhooks: Vec::new(),
        form: Form::Plain,
        body: Bytes::copy_from_slice(body.as_bytes()),
        credential: None,
        max_age: None,
    }
}

fn keyed(owner: Owner, key: u8, fingerprint: u8) -> NewTask {
    let idempotency = Idempotency { key: [key; 32], fingerprint: [fingerprint; 32] };
    NewTask { idempotency: Some(idempotency), ..new(owner, "body") }
}

pub(super) fn open(store: &Arc<Store>, settings: Settings) -> Arc<Tasks> {
    Tasks::open(Arc::clone(store), settings, Arc::default(), NOW).unwrap()
}

/// With a directory that must live as long.
pub(super) fn tasks(settings: Settings) -> (tempfile::TempDir, Arc<Store>, Arc<Tasks>) {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(directory.path()).unwrap());
    let tasks = open(&store, settings);
    (directory, store, tasks)
}

pub(super) async fn submitted(tasks: &Tasks, new: NewTask) -> TaskId {
    let submitted = tasks.submit(new, NOW).await.unwrap();
    assert!(submitted.fresh);
    submitted.view.record.id
}

pub(super) async fn claimed(tasks: &Tasks) -> Job {
    tokio::time::timeout(PATIENCE, tasks.claim()).await.expect("nothing is due")
}

/// Whether a claim would have to wait.
async fn idle(tasks: &Tasks) -> bool {
    tokio::time::timeout(Duration::from_millis(50), tasks.claim()).await.is_err()
}

/// The whole answer, from a disk that can be read.
async fn answer_of(tasks: &Tasks, owner: &Owner, id: TaskId) -> Option<Bytes> {
    tasks.result_of(owner, id).await.unwrap()
}

/// The body of the request, while it is kept.
async fn body_of(tasks: &Tasks, id: TaskId) -> Option<Bytes> {
    kept::request(&tasks.store, id).await.unwrap().map(|(_, body)| body)
}

pub(super) fn head() -> ResultHead {
    let headers = vec![("content-type".to_owned(), "text/event-stream".to_owned())];
    ResultHead { status: 200, headers, format: "sse".to_owned(), ..ResultHead::default() }
}

fn state(tasks: &Tasks, id: TaskId) -> State {
    tasks.view_for(None, id).unwrap().record.state
}

#[tokio::test]
async fn a_task_is_taken_run_and_kept() {
    let (_directory, store, tasks) = tasks(Settings::default());
    let body = "x".repeat(600 * 1024);
    let asked = NewTask { webhooks: vec!["ops".to_owned()], ..new(A, &body) };
    let Submitted { view, fresh } = tasks.submit(asked, NOW).await.unwrap();
    let id = view.record.id;
    assert!(fresh && view.record.request.headers.is_empty());
    assert_eq!((view.record.state, view.position), (State::Queued, Some(0)));
    assert_eq!(body_of(&tasks, id).await.map(|body| body.len()), Some(600 * 1024));
    assert_eq!(tasks.figures().request_bytes, 600 * 1024);

    let Job { record, body: given, lead, .. } = claimed(&tasks).await;
    assert_eq!((record.id, record.attempts, given.as_ref()), (id, 1, body.as_bytes()));
    assert_eq!(record.request.headers[0].1, b"application/json");
    assert_eq!(state(&tasks, id), State::Running);
    lead.begin(head());
    lead.push(Bytes::from_static(b"data: 1\n\n")).unwrap();
    lead.progress(7);
    let view = tasks.view(&A, id).unwrap();
    assert_eq!((view.bytes, view.output_tokens, view.position), (9, 7, None));
    assert_eq!(answer_of(&tasks, &A, id).await, None, "not over");
    lead.push(Bytes::from_static(b"data: 2\n\n")).unwrap();
    let usage = Some(Usage { input: 3, output: 8 });
    let ended = lead.finish(State::Succeeded, None, usage, Some(12)).await.unwrap();
    let kept = ended.record.result.clone().unwrap();
    assert_eq!((ended.record.state, kept.bytes, kept.whole), (State::Succeeded, 18, true));
    assert_eq!((ended.output_tokens, ended.record.cost_microdollars), (8, Some(12)));
    let answer = answer_of(&tasks, &A, id).await.unwrap();
    assert_eq!(answer.as_ref(), b"data: 1\n\ndata: 2\n\n");
    assert_eq!(body_of(&tasks, id).await, None, "the request went with its end");
    assert_eq!(tasks.figures().result_bytes, 18);

    // another's is as if it were not there
    assert_eq!(tasks.view(&B, id), None);
    assert_eq!(answer_of(&tasks, &B, id).await, None);
    assert!(tasks.cancel(Some(&B), id).await.is_none() && tasks.follow(&B, id).is_none());
    assert!(tasks.delete(&B, id).await.is_none() && tasks.list(Some(&B), None, None, 9).is_empty());

    drop(tasks);
    let again = open(&store, Settings::default());
    assert_eq!(again.view(&A, id).unwrap().record, ended.record);
    assert_eq!(answer_of(&again, &A, id).await.unwrap(), answer);
    assert_ne!(again.view(&A, id).unwrap().version, ended.version);
}

#[tokio::test]
async fn one_key_names_one_task_also_for_many_at_once() {
    let (_directory, store, tasks) = tasks(Settings::default());
    let mut under_way = Vec::new();
    for _ in 0..50 {
        let tasks = Arc::clone(&tasks);
        under_way.push(tokio::spawn(async move { tasks.submit(keyed(A, 1, 1), NOW).await }));
    }
    let (mut ids, mut fresh) = (HashSet::new(), 0);
    for one in under_way {
        let submitted = one.await.unwrap().unwrap();
        ids.insert(submitted.view.record.id);
        fresh += usize::from(submitted.fresh);
    }
    assert_eq!((ids.len(), fresh), (1, 1));
    assert_eq!(store.scan(Table::Tasks).unwrap().len(), 1);
    let other = tasks.submit(keyed(A, 1, 2), NOW).await;
    assert_eq!(other.err(), Some(SubmitError::Mismatch));
    assert!(tasks.submit(keyed(B, 1, 2), NOW).await.unwrap().fresh, "another's key is another");
    drop(tasks);
    let again = open(&store, Settings::default());
    let submitted = again.submit(keyed(A, 1, 1), NOW).await.unwrap();
    assert!(!submitted.fresh && ids.contains(&submitted.view.record.id));
}

#[tokio::test]
async fn quotas_are_exact_also_for_many_at_once() {
    let room = 20 * TASK;
    let settings = Settings { per_agent_count: 10, per_agent_bytes: room, ..Settings::default() };
    let (_directory, _store, tasks) = tasks(settings);
    let mut under_way = Vec::new();
    for _ in 0..40 {
        let tasks = Arc::clone(&tasks);
        under_way.push(tokio::spawn(async move { tasks.submit(new(A, "123456789"), NOW).await }));
    }
    let mut taken = Vec::new();
    for one in under_way {
        match one.await.unwrap() {
            Ok(submitted) => taken.push(submitted.view.record.id),
            Err(why) => assert_eq!(why, SubmitError::Full { what: Quota::Count }),
        }
    }
    assert_eq!(taken.len(), 10);
    // others are not concerned, but for their own bytes
    let bytes = SubmitError::Full { what: Quota::Bytes };
    let most = "x".repeat((room - TASK) as usize);
    assert_eq!(tasks.submit(new(B, &format!("{most}x")), NOW).await.err(), Some(bytes));
    submitted(&tasks, new(B, &most)).await;
    assert_eq!(tasks.submit(new(B, "x"), NOW).await.err(), Some(bytes));
    // one that is over no longer counts
    tasks.cancel(Some(&A), taken[3]).await.unwrap();
    submitted(&tasks, new(A, "")).await;
    let full = SubmitError::Full { what: Quota::Count };
    assert_eq!(tasks.submit(new(A, ""), NOW).await.err(), Some(full));
}

/// Who keeps many results, or keys of tasks that are gone, fills the disk as well.
#[tokio::test]
async fn what_is_kept_counts_until_it_goes() {
    let settings = Settings { per_agent_bytes: 4 * TASK + 100, ..Settings::default() };
    let (_directory, store, tasks) = tasks(settings);
    let room = |tasks: &Tasks| tasks.book.lock().load(&A).1;
    let id = submitted(&tasks, keyed(A, 1, 1)).await;
    assert_eq!(room(&tasks), TASK + 4);
    let Job { lead, .. } = claimed(&tasks).await;
    lead.begin(head());
    lead.push(vec![b'x'; 3 * TASK as usize].into()).unwrap();
    lead.finish(State::Succeeded, None, None, None).await.unwrap();
    assert_eq!(room(&tasks), 4 * TASK, "its request is gone, its answer is kept");
    let full = SubmitError::Full { what: Quota::Bytes };
    assert_eq!(tasks.submit(new(A, ""), NOW).await.err(), Some(full));
    submitted(&tasks, new(B, "another's room is another's")).await;
    let after = open(&store, settings);
    assert_eq!(after.submit(new(A, ""), NOW).await.err(), Some(full), "after a start as well");
    drop(after);
    assert_eq!(tasks.delete(&A, id).await, Some(Ok(())));
    assert_eq!(room(&tasks), TASK, "the tombstone, for its key");
    for _ in 0..3 {
        let id = submitted(&tasks, new(A, "")).await;
        tasks.cancel(Some(&A), id).await.unwrap();
    }
    assert_eq!(tasks.submit(new(A, ""), NOW).await.err(), Some(full), "rows are something too");
    for hours in [25, 50] {
        tasks.sweep(NOW + hours * 60 * MINUTE);
    }
    assert_eq!(room(&tasks), 0);
    submitted(&tasks, new(A, "")).await;
}

#[tokio::test]
async fn all_tasks_together_take_a_share_of_the_memory() {
    let (_directory, store, _) = tasks(Settings::default());
    let pressure = Arc::new(Pressure::new(4 * 3 * TASK));
    let tasks = Tasks::open(store, Settings::default(), pressure, NOW).unwrap();
    for owner in 0..3 {
        submitted(&tasks, new([owner; 16], "")).await;
    }
    let full = SubmitError::Full { what: Quota::Memory };
    assert_eq!(tasks.submit(new([4; 16], ""), NOW).await.err(), Some(full));
    assert_eq!(tasks.counts().refusals(), [(["memory"], 1)]);
}

#[tokio::test]
async fn a_clock_that_is_set_back_delays_no_attempt_for_long() {
    let (_directory, _store, tasks) = tasks(Settings::default());
    let id = submitted(&tasks, new(A, "")).await;
    let later = 12 * 60 * MINUTE;
    tasks.sweep(NOW + later);
    let wait = Duration::from_hours(1);
    claimed(&tasks).await.lead.retry(2 * wait, true, 0).await.unwrap();
    let next = tasks.view(&A, id).unwrap().record.next_ms.unwrap();
    assert!(next < NOW + later + LONGEST_WAIT + MINUTE, "no wait is longer");
    tasks.sweep(next - MINUTE);
    assert!(idle(&tasks).await);
    tasks.sweep(NOW);
    assert_eq!(claimed(&tasks).await.record.id, id);
}

#[tokio::test]
async fn who_runs_least_is_next_and_then_the_oldest() {
    let settings = Settings { workers: 3, ..Settings::default() };
    let (_directory, _store, tasks) = tasks(settings);
    let mut ids = Vec::new();
    for (at, owner) in [A, A, A, A, B, B].into_iter().enumerate() {
        let submitted = tasks.submit(new(owner, ""), NOW + at as u64).await.unwrap();
        ids.push(submitted.view.record.id);
    }
    assert_eq!(tasks.view(&A, ids[3]).unwrap().position, Some(3));
    let (first, second, third) =
        (claimed(&tasks).await, claimed(&tasks).await, claimed(&tasks).await);
    let order = [&first, &second, &third].map(|job| job.record.id);
    assert_eq!(order, [ids[0], ids[4], ids[1]]);
    assert!(idle(&tasks).await, "no place is left");
    assert_eq!(tasks.view(&A, ids[3]).unwrap().position, Some(1));
    third.lead.finish(State::Succeeded, None, None, None).await.unwrap();
    let next = claimed(&tasks).await;
    assert_eq!(next.record.id, ids[2], "both run one: the oldest");
    tasks.set_settings(Settings { workers: 4, ..settings });
    assert_eq!(claimed(&tasks).await.record.id, ids[5], "A runs two, B one");
}

#[tokio::test]
async fn a_waiting_claim_is_woken() {
    let (_directory, _store, tasks) = tasks(Settings { workers: 1, ..Settings::default() });
    let waiting = {
        let tasks = Arc::clone(&tasks);
        tokio::spawn(async move { tasks.claim().await.record.id })
    };
    tokio::task::yield_now().await;
    let id = submitted(&tasks, new(A, "")).await;
    assert_eq!(tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap(), id);
}

#[tokio::test]
async fn another_attempt_follows_when_it_is_due() {
    let settings = Settings { attempts: 2, ..Settings::default() };
    let (_directory, store, tasks) = tasks(settings);
    let id = submitted(&tasks, new(A, "body")).await;
    let job = claimed(&tasks).await;
    job.lead.begin(head());
    job.lead.push(Bytes::from_static(b"half")).unwrap();
    // one that does not count
    let view = job.lead.retry(Duration::from_secs(5), false, 3).await.unwrap();
    let record = &view.record;
    assert_eq!((record.state, record.attempts, record.runs), (State::RetryWait, 0, 1));
    assert_eq!((record.next_ms.is_some(), record.events_before), (true, 4));
    assert_eq!((record.result.clone(), view.position), (None, None));
    assert_eq!(store.range(Table::TaskData, &Data::Answer { run: 1 }.prefix(id)).unwrap(), []);
    assert!(idle(&tasks).await);
    tasks.sweep(NOW + 4000);
    assert!(idle(&tasks).await, "too early");
    tasks.sweep(NOW + MINUTE);
    let job = claimed(&tasks).await;
    assert_eq!((job.record.attempts, job.record.runs, job.body.as_ref()), (1, 2, &b"body"[..]));
    assert!(!job.lead.is_last());
    job.lead.retry(Duration::ZERO, true, 0).await.unwrap();
    tasks.sweep(NOW + 2 * MINUTE);
    let job = claimed(&tasks).await;
    assert!(job.lead.is_last());
    let view = job.lead.retry(Duration::ZERO, true, 0).await.unwrap();
    assert_eq!(view.record.state, State::Failed);
    assert_eq!(view.record.error.as_ref().unwrap().r#type, "attempts_exhausted");
}

#[tokio::test]
async fn a_cancel_ends_what_waits_and_asks_what_runs() {
    let (_directory, store, tasks) = tasks(Settings { workers: 1, ..Settings::default() });
    let running = submitted(&tasks, new(A, "")).await;
    let job = claimed(&tasks).await;
    let waiting = submitted(&tasks, new(A, "")).await;
    assert_eq!(tasks.cancel(Some(&A), waiting).await.unwrap().record.state, State::Cancelled);
    let view = tasks.cancel(Some(&A), running).await.unwrap();
    assert_eq!(view.record.state, State::Cancelling);
    assert_eq!(job.lead.cancelled().await, Stop::Cancelled);
    assert_eq!(tasks.cancel(None, running).await.unwrap().record.state, State::Cancelling);
    job.lead.begin(head());
    job.lead.push(Bytes::from_static(b"part")).unwrap();
    // it came too late to succeed
    let ended = job.lead.finish(State::Succeeded, None, None, None).await.unwrap();
    assert_eq!(ended.record.state, State::Cancelled);
    let kept = ended.record.result.clone().unwrap();
    assert_eq!((kept.bytes, kept.whole), (4, false), "what had come is kept");
    assert_eq!(tasks.cancel(Some(&A), running).await.unwrap(), ended, "nothing changes an end");
    drop(tasks);
    assert_eq!(open(&store, Settings::default()).view(&A, running).unwrap().record, ended.record);
}

#[tokio::test]
async fn a_job_that_is_dropped_counts_as_lost() {
    let (_directory, _store, tasks) = tasks(Settings { attempts: 2, ..Settings::default() });
    let id = submitted(&tasks, new(A, "")).await;
    drop(claimed(&tasks).await);
    assert_eq!(state(&tasks, id), State::RetryWait);
    let job = claimed(&tasks).await;
    assert_eq!(job.record.attempts, 2);
    let seen = tasks.view(&A, id).unwrap().version;
    drop(job);
    tasks.changed(id, seen).await;
    until_over(&tasks, id).await;
    assert_eq!(state(&tasks, id), State::Interrupted);
    let once = Request { repeats: false, ..new(A, "").request };
    let id = submitted(&tasks, NewTask { request: once, ..new(A, "") }).await;
    drop(claimed(&tasks).await);
    until_over(&tasks, id).await;
    assert_eq!(state(&tasks, id), State::Interrupted);
}

pub(super) async fn until_over(tasks: &Tasks, id: TaskId) -> View {
    let over = async {
        loop {
            let view = tasks.view_for(None, id).unwrap();
            if view.record.state.is_terminal() {
                return view;
            }
            tasks.changed(id, view.version).await;
        }
    };
    tokio::time::timeout(PATIENCE, over).await.unwrap()
}

#[tokio::test]
async fn a_claim_that_is_dropped_costs_no_attempt() {
    let (_directory, _store, tasks) = tasks(Settings::default());
    let id = submitted(&tasks, new(A, "")).await;
    {
        let claim = tasks.claim();
        let mut claim = std::pin::pin!(claim);
        // it has taken the task, and reads its request
        let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(claim.as_mut().poll(cx)));
        assert!(polled.await.is_pending());
        assert_eq!(state(&tasks, id), State::Running);
    }
    assert_eq!(state(&tasks, id), State::Queued);
    assert_eq!(claimed(&tasks).await.record.attempts, 1);
}

#[tokio::test]
async fn age_ends_what_waits_what_runs_what_is_kept_and_its_tombstone() {
    const HOUR: u64 = 3_600_000;
    let settings = Settings { workers: 1, keep: Duration::from_hours(2), ..Settings::default() };
    let (_directory, store, tasks) = tasks(settings);
    let hour = Some(Duration::from_hours(1));
    let (runs, waits) = (NewTask { max_age: hour, ..new(A, "") }, keyed(A, 1, 1));
    let runs = submitted(&tasks, runs).await;
    let job = claimed(&tasks).await;
    let waits = submitted(&tasks, NewTask { max_age: hour, ..waits }).await;
    tasks.sweep(NOW + HOUR - 1);
    assert_eq!(state(&tasks, waits), State::Queued);
    tasks.sweep(NOW + HOUR);
    assert_eq!(until_over(&tasks, waits).await.record.state, State::Expired);
    assert_eq!(job.lead.cancelled().await, Stop::Expired);
    job.lead.begin(head());
    job.lead.push(Bytes::from_static(b"part")).unwrap();
    let ended = job.lead.finish(State::Failed, None, None, None).await.unwrap();
    assert_eq!(ended.record.state, State::Expired);
    assert_eq!(ended.record.error.as_ref().unwrap().r#type, "expired");
    let until = ended.record.keep_until_ms.unwrap();
    tasks.sweep(until - 1);
    assert!(answer_of(&tasks, &A, runs).await.is_some());
    tasks.sweep(until + 1);
    assert_eq!(answer_of(&tasks, &A, runs).await, None);
    let tombstone = tasks.view(&A, runs).unwrap().record;
    assert!(tombstone.purged_ms.is_some() && !tombstone.has_result());
    assert!(store.flush(PATIENCE));
    assert_eq!(store.scan(Table::TaskData).unwrap(), []);
    assert_eq!(tasks.figures().result_bytes, 0);
    let submitted = tasks.submit(keyed(A, 1, 1), NOW).await.unwrap();
    assert!(!submitted.fresh, "the key still names it");
    tasks.sweep(until + 23 * HOUR);
    assert!(tasks.view(&A, runs).is_some());
    tasks.sweep(until + 25 * HOUR);
    assert!(tasks.view(&A, runs).is_none() && tasks.view(&A, waits).is_none());
    assert!(store.flush(PATIENCE));
    assert_eq!(store.scan(Table::Tasks).unwrap(), []);
    assert_eq!(tasks.figures(), Figures::default());
}

#[tokio::test]
async fn what_is_deleted_is_gone_but_for_its_key() {
    let (_directory, store, tasks) = tasks(Settings::default());
    let (plain, named) =
        (submitted(&tasks, new(A, "b")).await, submitted(&tasks, keyed(A, 1, 1)).await);
    assert_eq!(tasks.delete(&A, plain).await, Some(Err(DeleteError::NotOver)));
    for id in [plain, named] {
        tasks.cancel(Some(&A), id).await.unwrap();
        assert_eq!(tasks.delete(&A, id).await, Some(Ok(())));
        assert_eq!((tasks.view(&A, id), tasks.delete(&A, id).await), (None, None));
    }
    assert_eq!(tasks.list(None, None, None, 9), []);
    assert_eq!(store.scan(Table::Tasks).unwrap().len(), 1);
    assert_eq!(store.scan(Table::TaskData).unwrap(), []);
    drop(tasks);
    let tasks = open(&store, Settings::default());
    let again = tasks.submit(keyed(A, 1, 1), NOW).await.unwrap();
    assert_eq!((again.fresh, again.view.record.id), (false, named));
    tasks.sweep(NOW + 25 * 3_600_000);
    assert!(tasks.submit(keyed(A, 1, 1), NOW).await.unwrap().fresh);
}

#[tokio::test]
async fn lists_are_newest_first_and_page_without_gaps() {
    let (_directory, _store, tasks) = tasks(Settings::default());
    let mut ids = Vec::new();
    for at in 0..10 {
        let new = new(if at % 3 == 0 { B } else { A }, "");
        ids.push(tasks.submit(new, NOW + at / 2).await.unwrap().view.record.id);
    }
    for owner in [None, Some(&A), Some(&B)] {
        let all = tasks.list(owner, None, None, 100);
        let (mut paged, mut after) = (Vec::new(), None);
        loop {
            let page = tasks.list(owner, None, after, 3);
            let Some(last) = page.last() else { break };
            after = Some(last.record.id);
            paged.extend(page);
        }
        assert_eq!(paged, all);
        assert!(all.is_sorted_by_key(|view| std::cmp::Reverse(view.record.created_ms)));
        let count = owner.map_or(10, |owner| if *owner == A { 6 } else { 4 });
        assert_eq!(all.len(), count);
    }
    tasks.cancel(None, ids[4]).await.unwrap();
    let cancelled = tasks.list(None, Some(State::Cancelled), None, 9);
    assert_eq!(cancelled.iter().map(|view| view.record.id).collect::<Vec<_>>(), [ids[4]]);
    assert_eq!(tasks.list(None, None, Some(TaskId::new()), 9), []);
}

#[tokio::test]
async fn a_task_is_found_by_its_upstreams_id() {
    let (_directory, store, tasks) = tasks(Settings::default());
    let id = submitted(&tasks, new(A, "")).await;
    tasks.add_alias(id, "resp_1".to_owned());
    assert_eq!(tasks.find_alias(&A, "resp_1"), Some(id));
    assert_eq!(tasks.find_alias(&B, "resp_1"), None);
    assert!(store.flush(PATIENCE));
    drop(tasks);
    assert_eq!(open(&store, Settings::default()).find_alias(&A, "resp_1"), Some(id));
}

#[tokio::test]
async fn credentials_are_given_to_the_worker_and_to_nobody_else() {
    const SECRET: &str = "sk-very-secret-indeed";
    let (directory, store, tasks) = tasks(Settings::default());
    let headers = vec![("authorization".to_owned(), SECRET.as_bytes().to_vec())];
    let credential = Credential::new(headers);
    let request = Request { needs_credential: true, ..new(A, "").request };
    let asked = NewTask { credential: Some(credential.clone()), request, ..new(A, "") };
    assert!(!format!("{asked:?}").contains("secret"));
    let first = submitted(&tasks, asked.clone()).await;
    let second = submitted(&tasks, asked).await;
    let job = claimed(&tasks).await;
    assert_eq!(job.credential, Some(credential));
    assert!(store.flush(PATIENCE));
    for table in [Table::Tasks, Table::TaskData] {
        for (_, row) in store.scan(table).unwrap() {
            assert!(!String::from_utf8_lossy(&row).contains(SECRET));
        }
    }
    // as after a crash: what is on the disk, without the memory
    std::mem::forget(job.lead);
    drop(tasks);
    let again = open(&store, Settings::default());
    for id in [first, second] {
        let record = again.view(&A, id).unwrap().record;
        assert_eq!(record.state, State::Failed);
        assert_eq!(record.error.as_ref().unwrap().r#type, "credential_lost");
    }
    assert_eq!(again.recovered().credential_lost, 2);
    drop(directory);
}

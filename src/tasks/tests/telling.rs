//! Ends that somebody is to be told of.
use super::*;

fn for_ops(asked: NewTask) -> NewTask {
    NewTask { webhooks: vec!["ops".to_owned()], ..asked }
}

/// Those that are not told yet, by their ids; nothing is waited for.
async fn untold(tasks: &Tasks) -> Vec<(TaskId, State)> {
    let ended = tokio::time::timeout(Duration::from_millis(50), tasks.untold(100)).await;
    let ended = ended.unwrap_or_default();
    let times = ended.iter().map(|view| view.record.finished_ms);
    assert!(times.is_sorted(), "the oldest first");
    let mut ended: Vec<_> = ended.iter().map(|view| (view.record.id, view.record.state)).collect();
    ended.sort_unstable();
    ended
}

#[tokio::test]
async fn every_end_is_there_until_it_is_told_over_restarts_too() {
    let settings = Settings { attempts: 1, ..Settings::default() };
    let (_directory, store, tasks) = tasks(settings);
    let mut expected = Vec::new();
    for state in [State::Succeeded, State::Failed] {
        let id = submitted(&tasks, for_ops(new(A, ""))).await;
        assert_eq!(untold(&tasks).await.len(), expected.len(), "it is not over");
        let ended = claimed(&tasks).await.lead.finish(state, None, None, None).await.unwrap();
        expected.push((id, ended.record.state));
    }
    let id = submitted(&tasks, for_ops(new(A, ""))).await;
    tasks.cancel(Some(&A), id).await.unwrap();
    expected.push((id, State::Cancelled));
    // nobody is to be told of this one
    let silent = submitted(&tasks, new(A, "")).await;
    tasks.cancel(Some(&A), silent).await.unwrap();
    let age = Some(Duration::from_secs(1));
    let id = submitted(&tasks, for_ops(NewTask { max_age: age, ..new(A, "") })).await;
    tasks.sweep(NOW + 1000);
    until_over(&tasks, id).await;
    expected.push((id, State::Expired));
    expected.sort_unstable();
    assert_eq!(untold(&tasks).await, expected);
    assert_eq!(tasks.untold(1).await.len(), 1);

    // as after a crash: what ran has no attempt left, what needed a credential has lost it
    let lost = submitted(&tasks, for_ops(new(A, ""))).await;
    std::mem::forget(claimed(&tasks).await.lead);
    let request = Request { needs_credential: true, ..new(A, "").request };
    let needy = submitted(&tasks, for_ops(NewTask { request, ..new(A, "") })).await;
    let version = tasks.view(&A, expected[1].0).unwrap().version;
    for id in [expected[1].0, silent, needy] {
        tasks.told(id);
    }
    assert_eq!(
        tasks.view(&A, expected[1].0).unwrap().version,
        version,
        "what is shown is as it was"
    );
    assert!(store.flush(PATIENCE));
    drop(tasks);
    let again = open(&store, settings);
    expected.remove(1);
    expected.extend([(lost, State::Interrupted), (needy, State::Failed)]);
    expected.sort_unstable();
    let found = untold(&again).await;
    assert_eq!(found, expected, "that one was told, and no other");
    for (id, _) in found {
        again.told(id);
    }
    assert_eq!(untold(&again).await, []);
    assert!(store.flush(PATIENCE));
    drop(again);
    assert_eq!(untold(&open(&store, settings)).await, []);
}

#[tokio::test]
async fn who_waits_for_an_end_is_woken() {
    let (_directory, _store, tasks) = tasks(Settings::default());
    let id = submitted(&tasks, for_ops(new(A, ""))).await;
    let waiting = {
        let tasks = Arc::clone(&tasks);
        tokio::spawn(async move { tasks.untold(9).await })
    };
    tokio::task::yield_now().await;
    tasks.cancel(None, id).await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap();
    assert_eq!(ended[0].record.id, id);
}

#[tokio::test]
async fn what_is_purged_or_deleted_stays_until_it_is_told() {
    const DAYS: u64 = 10 * 24 * 3_600_000;
    let (_directory, store, tasks) = tasks(Settings::default());
    let (old, deleted) = (
        submitted(&tasks, for_ops(new(A, ""))).await,
        submitted(&tasks, for_ops(new(A, ""))).await,
    );
    for id in [old, deleted] {
        tasks.cancel(None, id).await.unwrap();
    }
    assert_eq!(tasks.delete(&A, deleted).await, Some(Ok(())));
    assert!(tasks.view(&A, deleted).is_none());
    let all: HashSet<_> = [old, deleted].into_iter().collect();
    for day in [0, DAYS, 2 * DAYS] {
        tasks.sweep(NOW + day);
        let found = untold(&tasks).await;
        assert_eq!(found.iter().map(|(id, _)| *id).collect::<HashSet<_>>(), all, "{day}");
    }
    assert!(tasks.view(&A, old).unwrap().record.purged_ms.is_some());
    assert!(store.flush(PATIENCE));
    drop(tasks);
    let again = open(&store, Settings::default());
    assert_eq!(untold(&again).await.len(), 2);
    again.told(old);
    again.told(deleted);
    again.sweep(NOW + 4 * DAYS);
    assert_eq!((untold(&again).await.len(), again.figures()), (0, Figures::default()));
    assert!(store.flush(PATIENCE));
    assert_eq!(store.scan(Table::Tasks).unwrap(), []);
}

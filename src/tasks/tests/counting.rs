//! What the book counts for its operators.
use super::*;

type Rows = Vec<(&'static str, u64)>;

fn rows(of: Vec<([&'static str; 1], u64)>) -> Rows {
    of.into_iter().map(|([word], count)| (word, count)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_and_ends_is_counted_once() {
    let settings = Settings { per_agent_count: 1, attempts: 5, ..Settings::default() };
    let (_directory, store, tasks) = tasks(settings);
    let counts = Arc::clone(tasks.counts());
    submitted(&tasks, keyed(A, 1, 1)).await;
    assert!(!tasks.submit(keyed(A, 1, 1), NOW).await.unwrap().fresh);
    assert_eq!(tasks.figures().oldest_due_ms, Some(NOW));
    for (new, why) in [(keyed(A, 1, 2), "mismatch"), (new(A, "more"), "quota")] {
        let before = rows(counts.refusals());
        assert!(tasks.submit(new, NOW).await.is_err());
        let after = rows(counts.refusals());
        assert_eq!(after[..before.len()], before);
        assert_eq!(after[before.len()..], [(why, 1)]);
    }
    assert_eq!(counts.submissions(), 1, "what was there or refused is no submission");

    // our own limits, the backend's failure, a worker that was lost, and the end
    let again = Duration::ZERO;
    claimed(&tasks).await.lead.retry(again, false, 0).await.unwrap();
    tasks.sweep(NOW + MINUTE);
    claimed(&tasks).await.lead.retry(again, true, 0).await.unwrap();
    tasks.sweep(NOW + 2 * MINUTE);
    drop(claimed(&tasks).await);
    tasks.sweep(NOW + 3 * MINUTE);
    let job = claimed(&tasks).await;
    assert_eq!(tasks.figures().oldest_due_ms, None, "it runs");
    assert_eq!(rows(counts.ends()), []);
    let id = job.lead.id();
    job.lead.finish(State::Succeeded, None, None, None).await.unwrap();
    tasks.cancel(None, id).await.unwrap();
    assert_eq!(rows(counts.ends()), [("succeeded", 1)], "no end is told of twice");
    assert_eq!(rows(counts.retries()), [("limits", 1), ("failed", 1), ("lost", 1)]);

    // what a restart ends is counted by who comes after it
    let lost = NewTask { request: Request { repeats: false, ..new(B, "").request }, ..new(B, "") };
    submitted(&tasks, lost).await;
    std::mem::forget(claimed(&tasks).await);
    store.flush(PATIENCE);
    let after = open(&store, settings);
    assert_eq!(rows(after.counts().ends()), [("interrupted", 1)]);
    assert_eq!(after.counts().submissions(), 0);
}

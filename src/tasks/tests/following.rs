//! Whoever follows a task sees the same bytes, from whatever moment.
use super::*;

/// All of it, and how many restarts came between.
async fn read(mut follower: Follower) -> (Vec<u8>, usize, View) {
    let (mut bytes, mut restarts) = (Vec::new(), 0);
    let ended = async {
        loop {
            match follower.next().await {
                Follow::Piece(piece) => bytes.extend_from_slice(&piece),
                Follow::Restarted => {
                    bytes.clear();
                    restarts += 1;
                }
                Follow::Ended(view) => return view,
                Follow::Broken => panic!("broken"),
            }
        }
    };
    let view = tokio::time::timeout(PATIENCE, ended).await.expect("it ends");
    (bytes, restarts, view)
}

#[tokio::test]
async fn the_bytes_are_the_same_from_any_moment() {
    let (_directory, store, tasks) = tasks(Settings::default());
    let id = submitted(&tasks, new(A, "")).await;
    let follow = || tokio::spawn(read(tasks.follow(&A, id).unwrap()));
    let mut readers = vec![follow()];
    let Job { lead, .. } = claimed(&tasks).await;
    readers.push(follow());
    lead.begin(head());
    let mut whole = Vec::new();
    for at in 0_u32..300 {
        // rows of the disk are neither pieces nor powers of two
        let piece = vec![at as u8; 1 + (at as usize * 37) % 3001];
        whole.extend_from_slice(&piece);
        lead.push(piece.into()).unwrap();
        if at % 20 == 0 {
            readers.push(follow());
            tokio::task::yield_now().await;
        }
    }
    let ended = lead.finish(State::Succeeded, None, None, None).await.unwrap();
    readers.push(follow());
    for (at, reader) in readers.into_iter().enumerate() {
        let (bytes, restarts, view) = reader.await.unwrap();
        assert!(bytes == whole, "reader {at} has other bytes");
        assert_eq!((restarts, view.record), (0, Arc::clone(&ended.record)));
    }
    assert!(answer_of(&tasks, &A, id).await.unwrap() == whole);
    let rows = store.range(Table::TaskData, &Data::Answer { run: 1 }.prefix(id)).unwrap();
    assert!(rows.len() > 3, "{}", rows.len());
    drop(tasks);
    let again = open(&store, Settings::default());
    let (bytes, ..) = read(again.follow(&A, id).unwrap()).await;
    assert!(bytes == whole);
}

#[tokio::test]
async fn another_attempt_begins_anew_for_those_who_follow() {
    let (_directory, _store, tasks) = tasks(Settings::default());
    let id = submitted(&tasks, new(A, "")).await;
    let mut early = tasks.follow(&A, id).unwrap();
    let Job { lead, .. } = claimed(&tasks).await;
    lead.begin(head());
    lead.push(Bytes::from_static(b"first")).unwrap();
    let mut half = tasks.follow(&A, id).unwrap();
    // who has read nothing of it is not told that it begins anew
    for follower in [&mut early, &mut half] {
        assert!(matches!(follower.next().await, Follow::Piece(piece) if piece == "first"));
    }
    let early = tokio::spawn(read(early));
    lead.retry(Duration::ZERO, true, 1).await.unwrap();
    tasks.sweep(NOW + MINUTE);
    let Job { lead, .. } = claimed(&tasks).await;
    let late = tokio::spawn(read(tasks.follow(&A, id).unwrap()));
    lead.begin(head());
    lead.push(Bytes::from_static(b"second")).unwrap();
    lead.finish(State::Succeeded, None, None, None).await.unwrap();
    assert!(matches!(half.next().await, Follow::Restarted));
    assert!(matches!(half.next().await, Follow::Piece(piece) if piece == "second"));
    assert!(matches!(half.next().await, Follow::Ended(_)));
    let (bytes, restarts, _) = early.await.unwrap();
    assert_eq!((bytes.as_slice(), restarts), (&b"second"[..], 1));
    let (bytes, restarts, _) = late.await.unwrap();
    assert_eq!((bytes.as_slice(), restarts), (&b"second"[..], 0));
}

#[tokio::test]
async fn who_follows_what_never_ran_hears_its_end() {
    let (_directory, _store, tasks) = tasks(Settings::default());
    let id = submitted(&tasks, new(A, "")).await;
    let reader = tokio::spawn(read(tasks.follow(&A, id).unwrap()));
    tokio::task::yield_now().await;
    tasks.cancel(Some(&A), id).await.unwrap();
    let (bytes, _, view) = reader.await.unwrap();
    assert_eq!((bytes.len(), view.record.state), (0, State::Cancelled));
}

#[tokio::test]
async fn an_answer_has_a_bound_and_counts_in_the_budget_of_memory() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(directory.path()).unwrap());
    let pressure = Arc::<Pressure>::default();
    let settings = Settings { max_result: 100_000, ..Settings::default() };
    let tasks = Tasks::open(Arc::clone(&store), settings, Arc::clone(&pressure), NOW).unwrap();
    let id = submitted(&tasks, new(A, "")).await;
    let Job { lead, .. } = claimed(&tasks).await;
    lead.begin(head());
    lead.push(vec![1; 99_999].into()).unwrap();
    assert_eq!(lead.push(Bytes::from_static(b"12")), Err(TooLarge { most: 100_000 }));
    lead.push(Bytes::from_static(b"1")).unwrap();
    assert!(pressure.used() >= 100_000, "{}", pressure.used());
    let follower = tasks.follow(&A, id).unwrap();
    lead.finish(State::Failed, None, None, None).await.unwrap();
    let (bytes, ..) = read(follower).await;
    assert_eq!((bytes.len(), pressure.used()), (100_000, 0));
}

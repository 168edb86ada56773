//! Spaces over reloads and restarts, and purges that race with those who read.
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use super::*;
use crate::cache::memory::tests::{agents, entry, key};
use crate::config::Cache;

const PATIENCE: Duration = Duration::from_secs(20);

#[track_caller]
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::park_timeout(Duration::from_millis(1));
    }
}

fn fresh(agent: &str, body: &str) -> Arc<Entry> {
    Arc::new(entry(agent, body.into(), SystemTime::now()))
}

fn apply(spaces: &Spaces, names: &[&str]) {
    let cache = Cache { memory: 1 << 20, disk: 8 << 20, ..Cache::default() };
    let policies: Vec<_> = names.iter().map(|name| (Arc::from(*name), &cache)).collect();
    spaces.apply(&policies);
}

fn directories(state: &Path) -> Vec<String> {
    let Ok(found) = fs::read_dir(state.join("cache")) else { return Vec::new() };
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<_> = found.map(|it| name(it).into_string().unwrap()).collect();
    names.sort();
    names
}

/// Puts, and waits until it is on disk.
fn put(space: &Space, number: u64, new: &Arc<Entry>) {
    space.put(key(number), Arc::clone(new));
    until("it is on disk", || space.on_disk(&key(number), SystemTime::now()));
}

#[tokio::test]
async fn an_answer_comes_from_memory_and_after_a_restart_from_disk_once() {
    let state = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let spaces = Spaces::new(Some(state.path().to_owned()));
    assert!(spaces.space("a").is_none());
    apply(&spaces, &["a", "b"]);
    let a = spaces.space("a").unwrap();
    put(&a, 1, &fresh("x", "one"));
    assert_eq!(a.get_now(&key(1), now).unwrap().body, "one");
    let b = spaces.space("b").unwrap();
    assert!(b.get_now(&key(1), now).is_none() && !b.on_disk(&key(1), now), "not another's");
    assert!(spaces.close(PATIENCE));

    let spaces = Spaces::new(Some(state.path().to_owned()));
    apply(&spaces, &["a", "b"]);
    let a = spaces.space("a").unwrap();
    until("it is found", || a.on_disk(&key(1), now));
    assert!(a.get_now(&key(1), now).is_none());
    assert_eq!(a.get_from_disk(&key(1), now).await.unwrap().body, "one");
    assert_eq!(a.get_now(&key(1), now).unwrap().body, "one");
    assert!(a.get_from_disk(&key(1), now + Duration::from_hours(2)).await.is_none(), "too old");
    let figures = spaces.figures();
    let names: Vec<_> = figures.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!((figures[0].1.memory.entries, figures[0].1.disk.unwrap().records), (1, 1));
    // a newer one in memory is not replaced by what was read
    a.memory.put(key(1), fresh("x", "newer"));
    assert_eq!(a.get_from_disk(&key(1), now).await.unwrap().body, "newer");
}

#[tokio::test]
async fn a_space_outlives_reloads_as_long_as_its_policy_does() {
    let state = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let spaces = Spaces::new(Some(state.path().to_owned()));
    apply(&spaces, &["..", "b"]);
    let (a, b) = (spaces.space("..").unwrap(), spaces.space("b").unwrap());
    put(&a, 1, &fresh("x", "one"));
    put(&b, 1, &fresh("x", "two"));
    apply(&spaces, &["..", "c"]);
    assert!(Arc::ptr_eq(&a, &spaces.space("..").unwrap()));
    assert!(a.get_now(&key(1), now).is_some());
    assert!(spaces.space("b").is_none() && b.get_now(&key(1), now).is_none());
    until("it is deleted", || directories(state.path()) == ["...answers"]);
    // whoever holds it still
    b.put(key(2), fresh("x", "late"));
    assert!(b.get_now(&key(2), now).is_none());
    // gone and back at once: it begins anew, and nothing of it is deleted afterwards
    for round in 0..20 {
        let a = spaces.space("..").unwrap();
        put(&a, round, &fresh("x", "again"));
        apply(&spaces, &[]);
        assert!(spaces.space("..").is_none());
        apply(&spaces, &[".."]);
        let a = spaces.space("..").unwrap();
        assert!(a.get_now(&key(round), now).is_none());
        put(&a, 1000 + round, &fresh("x", "again"));
        assert!(!a.on_disk(&key(round), now));
        assert_eq!(directories(state.path()), ["...answers"]);
    }
    assert!(spaces.close(PATIENCE));
    // what an earlier process left, and what is not ours
    fs::create_dir(state.path().join("cache/notes")).unwrap();
    let spaces = Spaces::new(Some(state.path().to_owned()));
    apply(&spaces, &["d"]);
    until("it is deleted", || directories(state.path()) == ["notes"]);
    assert!(spaces.figures()[0].1.disk.unwrap().healthy);
}

#[test]
fn without_a_policy_there_is_nothing() {
    let state = tempfile::tempdir().unwrap();
    let spaces = Spaces::new(Some(state.path().to_owned()));
    apply(&spaces, &[]);
    assert_eq!((directories(state.path()).len(), spaces.figures().len()), (0, 0));
    assert!(spaces.close(Duration::ZERO));
    // nor a disk without a directory, or without a budget
    let spaces = Spaces::new(None);
    apply(&spaces, &["a"]);
    assert_eq!(spaces.figures()[0].1.disk, None);
    let spaces = Spaces::new(Some(state.path().to_owned()));
    let cache = Cache { disk: 0, ..Cache::default() };
    spaces.apply(&[("a".into(), &cache)]);
    spaces.space("a").unwrap().put(key(1), fresh("x", "one"));
    assert_eq!(directories(state.path()).len(), 0);
    assert_eq!(spaces.space("a").unwrap().disk.as_ref().unwrap().figures().waiting, 0);
}

#[tokio::test]
async fn a_purge_goes_through_the_spaces_that_are_meant() {
    let state = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let spaces = Spaces::new(Some(state.path().to_owned()));
    apply(&spaces, &["dev", "prod"]);
    let (dev, prod) = (spaces.space("dev").unwrap(), spaces.space("prod").unwrap());
    for (number, space) in [(1, &dev), (2, &prod)] {
        put(space, number, &fresh("x", "one"));
        put(space, number + 10, &fresh("y", "two"));
    }
    let filter = Filter { policy: Some("dev".into()), ..agents("x") };
    assert_eq!(spaces.purge(&filter, now).await, Purged { memory: 1, disk: 1, failed: 0 });
    assert!(dev.get_now(&key(1), now).is_none() && dev.get_now(&key(11), now).is_some());
    assert!(prod.get_now(&key(2), now).is_some());
    // begun and not waited for
    drop(spaces.purge(&agents("y"), now));
    assert!(prod.get_now(&key(12), now).is_some(), "a future that nobody polls does nothing");
    drop(prod.purge(&agents("y"), now));
    assert!(prod.get_now(&key(12), now).is_none());
    until("it is gone from the disk too", || !prod.on_disk(&key(12), now));
    let all = spaces.purge(&Filter::default(), now).await;
    assert_eq!(all, Purged { memory: 2, disk: 2, failed: 0 });
}

#[test]
fn nothing_comes_back_into_memory_after_a_purge() {
    let state = tempfile::tempdir().unwrap();
    let spaces = Spaces::new(Some(state.path().to_owned()));
    apply(&spaces, &["a"]);
    let space = spaces.space("a").unwrap();
    let done = AtomicBool::new(false);
    let run = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    let read = thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut read = 0;
                    while !done.load(Relaxed) {
                        let now = SystemTime::now();
                        read +=
                            u64::from(run().block_on(space.get_from_disk(&key(1), now)).is_some());
                    }
                    read
                })
            })
            .collect();
        for round in 0..200 {
            let now = SystemTime::now();
            put(&space, 1, &fresh("x", "one"));
            // so that it is read
            space.memory.remove(&key(1));
            thread::park_timeout(Duration::from_micros(round * 37 % 500));
            run().block_on(space.purge(&agents("x"), now));
            assert!(space.get_now(&key(1), now).is_none(), "{round}");
            thread::park_timeout(Duration::from_micros(50));
            assert!(space.get_now(&key(1), now).is_none(), "{round}, later");
        }
        done.store(true, Relaxed);
        readers.into_iter().map(|reader| reader.join().unwrap()).sum::<u64>()
    });
    assert!(read > 200, "{read}");
}

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tokio::sync::RwLock;

use super::*;

const EVERY: Duration = Duration::from_millis(20);
const QUIET: Duration = Duration::from_millis(100);

/// A signal goes to every watch of the process: the test that sends some is alone.
static SIGNALS: RwLock<()> = RwLock::const_new(());

fn watch(paths: &[&Path]) -> Watch {
    let files = paths.iter().map(|path| path.to_path_buf()).collect();
    Watch::with_pace(files, EVERY, QUIET).unwrap()
}

/// The files of the next cause, if one comes within a time in which many looks are made.
async fn files(watch: &mut Watch) -> Option<Vec<PathBuf>> {
    match tokio::time::timeout(EVERY * 30, watch.next()).await {
        Ok(Cause::Files(files)) => Some(files),
        Ok(Cause::Signal) => panic!("a signal that nobody sent"),
        Err(_) => None,
    }
}

#[tokio::test]
async fn new_content_is_told_once_and_a_touch_is_not() {
    let _signals = SIGNALS.read().await;
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (directory.path().join("one"), directory.path().join("two"));
    fs::write(&one, "a").unwrap();
    fs::write(&two, "b").unwrap();
    let mut watch = watch(&[&one, &two]);
    assert_eq!(files(&mut watch).await, None);

    fs::write(&two, "c").unwrap();
    assert_eq!(files(&mut watch).await, Some(vec![two.clone()]));
    assert_eq!(files(&mut watch).await, None);

    fs::write(&two, "c").unwrap();
    assert_eq!(files(&mut watch).await, None, "the same bytes again");

    fs::remove_file(&one).unwrap();
    assert_eq!(files(&mut watch).await, Some(vec![one.clone()]));
    fs::write(&one, "a").unwrap();
    assert_eq!(files(&mut watch).await, Some(vec![one]));
}

/// A Kubernetes `ConfigMap`: `config.yaml` → `..data/config.yaml`, `..data` → `..2026_1`; an
/// update renames a new `..data` over the old one and never touches `config.yaml`.
#[tokio::test]
async fn a_swapped_symlink_is_followed() {
    let _signals = SIGNALS.read().await;
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for (version, content) in [("..1", "old"), ("..2", "new"), ("..3", "new")] {
        fs::create_dir(at(version)).unwrap();
        fs::write(at(version).join("config.yaml"), content).unwrap();
    }
    symlink("..1", at("..data")).unwrap();
    symlink("..data/config.yaml", at("config.yaml")).unwrap();
    let mut watch = watch(&[&at("config.yaml")]);
    let swap = |version: &str| {
        symlink(version, at("..tmp")).unwrap();
        fs::rename(at("..tmp"), at("..data")).unwrap();
    };
    swap("..2");
    assert_eq!(files(&mut watch).await, Some(vec![at("config.yaml")]));
    swap("..3");
    assert_eq!(files(&mut watch).await, None, "another file with the same content");
}

#[tokio::test]
async fn a_file_that_is_still_being_written_is_waited_for() {
    let _signals = SIGNALS.read().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("slow");
    fs::write(&path, "").unwrap();
    let mut watch = watch(&[&path]);
    let writer = tokio::spawn({
        let path = path.clone();
        async move {
            for size in 1..=10 {
                fs::write(&path, "x".repeat(size)).unwrap();
                tokio::time::sleep(QUIET / 10).await;
            }
        }
    });
    let mut causes = 0;
    while files(&mut watch).await.is_some() {
        assert_eq!(fs::read_to_string(&path).unwrap().len(), 10, "told before the end");
        causes += 1;
    }
    writer.await.unwrap();
    assert_eq!(causes, 1);
}

#[tokio::test]
async fn other_files_may_be_watched_and_the_known_keep_their_state() {
    let _signals = SIGNALS.read().await;
    let directory = tempfile::tempdir().unwrap();
    let (kept, added) = (directory.path().join("kept"), directory.path().join("added"));
    fs::write(&kept, "a").unwrap();
    fs::write(&added, "a").unwrap();
    let mut watch = watch(&[&kept]);
    fs::write(&kept, "b").unwrap();
    watch.set_files(vec![added.clone(), kept.clone()]);
    assert_eq!(files(&mut watch).await, Some(vec![kept]));
    fs::write(&added, "b").unwrap();
    assert_eq!(files(&mut watch).await, Some(vec![added]));
}

/// A future that was dropped half way through loses nothing.
#[tokio::test]
async fn a_dropped_wait_is_taken_up_again() {
    let _signals = SIGNALS.read().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, "a").unwrap();
    let mut watch = watch(&[&path]);
    fs::write(&path, "b").unwrap();
    for _ in 0..30 {
        let _ = tokio::time::timeout(Duration::from_millis(5), watch.next()).await;
    }
    assert_eq!(files(&mut watch).await, Some(vec![path]));
}

#[tokio::test]
async fn a_storm_of_hangups_is_one_cause() {
    let _signals = SIGNALS.write().await;
    let mut watch = watch(&[]);
    let us = std::process::id().to_string();
    for _ in 0..5 {
        let sent = std::process::Command::new("kill").args(["-HUP", &us]).status().unwrap();
        assert!(sent.success());
    }
    assert_eq!(watch.next().await, Cause::Signal);
    let more = tokio::time::timeout(EVERY * 10, watch.next()).await;
    assert!(more.is_err(), "{more:?}");
}

//! A disk that is full: a limit on the size of files in a child, and a small file system where one
//! can be mounted.
use std::process::{Command, Output};

use super::*;

const CHILD: &str = "TIDEGATE_TEST_FULL_CACHE";

/// The child; does nothing unless it was started as one. Writes until the disk refuses, and sees
/// that all goes on.
#[tokio::test]
#[ignore = "the child of the tests below"]
async fn fills_its_disk() {
    let Ok(directory) = std::env::var(CHILD) else { return };
    let disk = Disk::open(directory.into(), BUDGET);
    let mut kept = Vec::new();
    for number in 0..4000 {
        let body = number.to_string().repeat(700);
        put(&disk, number, &fresh("a", &body));
        if !disk.figures().healthy {
            break;
        }
        kept.push((number, body));
    }
    let full = disk.figures();
    assert!(!full.healthy && full.failures == 1 && full.dropped == 1, "{full:?}");
    assert!(kept.len() > 20, "{full:?}");
    let read = async |disk: &Disk| {
        for (number, body) in &kept {
            let got = disk.get(&key(*number)).await;
            assert!(got.is_some_and(|got| got.body == *body), "{number}: {:?}", disk.figures());
        }
    };
    read(&disk).await;
    // nothing is tried before the pause is over
    for number in 5000..5100 {
        put(&disk, number, &fresh("a", "x"));
    }
    assert_eq!(disk.figures().failures, 1);
    // a purge needs no room
    let now = SystemTime::now();
    assert_eq!(disk.purge(&agents("b"), now).await.failed, 0);
    read(&disk).await;
    let begun = Instant::now();
    until("it is tried again", || {
        put(&disk, 6000, &fresh("a", &"y".repeat(5000)));
        disk.figures().healthy || begun.elapsed() > Duration::from_secs(3)
    });
    read(&disk).await;
    assert!(disk.close(PATIENCE));
    let figures = disk.figures();
    let disk = Disk::open(disk.shared.directory.clone(), BUDGET);
    until("all is found", || disk.figures().scanned);
    assert_eq!(disk.figures().damaged, 0, "what a failed write left was cut off");
    read(&disk).await;
    assert_eq!(disk.purge(&agents("a"), now).await.failed, 0);
    put(&disk, 1, &fresh("a", "room again"));
    assert!(disk.get(&key(1)).await.is_some());
    println!("kept {} then {figures:?}", kept.len());
}

fn child(shell: &str) -> Output {
    Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", shell])
        .env("PROGRAM", std::env::current_exe().unwrap())
        .output()
        .unwrap()
}

const RUN: &str = "exec \"$PROGRAM\" --exact cache::disk::tests::full::fills_its_disk \
                   --ignored --nocapture";

#[test]
fn a_file_that_may_not_grow_is_a_full_disk() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache");
    // files of 200 blocks of 512 bytes; without the signal it is an error of the write
    let shell = format!("trap '' XFSZ; ulimit -f 200; {RUN}");
    let output = Command::new("sh")
        .args(["-c", &shell])
        .env("PROGRAM", std::env::current_exe().unwrap())
        .env(CHILD, &path)
        .output()
        .unwrap();
    check(&output);
}

#[test]
fn a_file_system_without_room_is_a_full_disk() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().display();
    let mount = format!("mount -t tmpfs -o size=1m none {path}");
    if !child(&mount).status.success() {
        println!("no file system can be mounted here");
        return;
    }
    check(&child(&format!("{mount} && {CHILD}={path}/cache && export {CHILD} && {RUN}")));
}

#[track_caller]
fn check(output: &Output) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (said, wrong) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && said.contains("kept "), "{said}\n{wrong}");
}

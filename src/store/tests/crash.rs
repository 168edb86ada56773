//! kill -9: a child of this very test program writes and says what was acked; it is killed in the
//! middle of it, and all that it said must be there.
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use super::*;

const CHILD: &str = "TIDEGATE_TEST_STORE";
const KEYS: u64 = 8;
const ROUNDS: u64 = 12;

/// The child; does nothing unless it was started as one.
#[test]
#[ignore = "the child of the test below"]
fn writes_until_it_is_killed() {
    let Ok(directory) = std::env::var(CHILD) else { return };
    let store = Store::open_patiently(Path::new(&directory), PATIENCE).unwrap();
    println!("ready");
    let begin = 1 + store
        .scan(Table::Budgets)
        .unwrap()
        .iter()
        .map(|(_, value)| number(value))
        .max()
        .unwrap_or(0);
    thread::scope(|scope| {
        for key in 0..KEYS {
            let store = &store;
            scope.spawn(move || {
                for count in begin.. {
                    let op = Op::put(Table::Budgets, key.to_le_bytes(), count.to_le_bytes());
                    written(store, vec![op]).unwrap();
                    let mut out = std::io::stdout().lock();
                    // the parent has heard enough
                    if writeln!(out, "acked {key} {count}").and_then(|()| out.flush()).is_err() {
                        return;
                    }
                }
            });
        }
    });
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().unwrap())
}

/// What was acked, newest of each key.
fn killed_after(directory: &Path, time: Duration) -> HashMap<u64, u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::tests::crash::writes_until_it_is_killed"])
        .args(["--ignored", "--nocapture"])
        .env(CHILD, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.ends_with("ready")), "the child did not start");
    let reading = thread::spawn(move || {
        let mut acked = HashMap::new();
        for line in lines {
            if let ["acked", key, count] = line.split(' ').collect::<Vec<_>>()[..] {
                acked.insert(key.parse().unwrap(), count.parse().unwrap());
            }
        }
        acked
    });
    thread::park_timeout(time);
    // SIGKILL, to this child alone
    child.kill().unwrap();
    child.wait().unwrap();
    reading.join().unwrap()
}

#[test]
fn what_was_acked_survives_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let (mut acks, mut slowest) = (0, Duration::ZERO);
    for round in 0..ROUNDS {
        let before = rows(directory.path());
        let acked = killed_after(directory.path(), Duration::from_millis(40 + 23 * round));
        let from = Instant::now();
        let after = rows(directory.path());
        slowest = slowest.max(from.elapsed());
        for (key, count) in &acked {
            let found = after.get(key).copied().unwrap_or(0);
            assert!(found >= *count, "round {round}: {count} of {key} was acked, {found} is there");
            acks += count - before.get(key).unwrap_or(&0);
        }
    }
    println!("{ROUNDS} kills, {acks} acked writes, none lost; opened again in {slowest:?} at most");
    assert!(acks > ROUNDS, "nothing was written, so nothing was shown: {acks}");
}

fn rows(directory: &Path) -> HashMap<u64, u64> {
    let store = Store::open(directory).unwrap();
    let rows = store.scan(Table::Budgets).unwrap();
    assert!(store.close(PATIENCE));
    rows.iter().map(|(key, value)| (number(key), number(value))).collect()
}

//! kill -9: a child of this very test program writes, purges and says what was purged; it is killed
//! in the middle of it. What is found then is right, byte for byte, and nothing of it was purged.
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use super::*;

const CHILD: &str = "TIDEGATE_TEST_CACHE";
const KEYS: u64 = 300;
const ROUNDS: u64 = 50;
/// So small that files are deleted all the time.
const SMALL: u64 = 1 << 20;

/// The answer under a key in a generation; from both of them alone.
fn answer(number: u64, generation: u64) -> Arc<Entry> {
    let mut seed = number * 1_000_003 + generation;
    let mut draw = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed >> 33
    };
    let len = draw() % 6000;
    let mut body = generation.to_le_bytes().to_vec();
    body.extend((0..len).map(|_| draw() as u8));
    let mut answer = entry(&format!("agent-{}", generation % 3), body, time(number));
    answer.ttl = Duration::from_hours(24 * 365 * 100);
    answer.stream = draw() % 2 == 0;
    answer.cost_nano = Some(draw().cast_signed());
    answer.frames = (0..draw() % 9).map(|at| Piece { end: at as u32, at_ms: 7 }).collect();
    Arc::new(answer)
}

fn generation(entry: &Entry) -> u64 {
    u64::from_le_bytes(*entry.body.first_chunk().unwrap())
}

/// The child; does nothing unless it was started as one.
#[tokio::test]
#[ignore = "the child of the test below"]
async fn writes_until_it_is_killed() {
    let Ok(said) = std::env::var(CHILD) else { return };
    let (directory, round) = said.rsplit_once('#').unwrap();
    let begin = round.parse::<u64>().unwrap() * 1_000_000;
    let disk = Disk::open(directory.into(), SMALL);
    println!("ready");
    for generation in begin.. {
        disk.put(key(generation * 31 % KEYS), answer(generation * 31 % KEYS, generation));
        if generation % 60 == 40 {
            let purged = disk.purge(&agents("agent-1"), SystemTime::now()).await;
            assert_eq!(purged.failed, 0);
            let mut out = std::io::stdout().lock();
            // the parent has heard enough
            if writeln!(out, "purged {generation}").and_then(|()| out.flush()).is_err() {
                return;
            }
        }
        if generation % 10 == 0 {
            until("the disk keeps up", || disk.figures().waiting < 100_000);
        }
    }
}

/// Runs a child for a while; the generation before which all of one agent's was purged.
fn killed_after(directory: &Path, round: u64, time: Duration) -> Option<u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "cache::disk::tests::crash::writes_until_it_is_killed"])
        .args(["--ignored", "--nocapture"])
        .env(CHILD, format!("{}#{round}", directory.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.ends_with("ready")), "the child did not start");
    let reading = thread::spawn(move || {
        let said = lines.filter_map(|line| line.strip_prefix("purged ")?.parse().ok());
        said.last()
    });
    thread::park_timeout(time);
    // it is SIGKILL
    child.kill().unwrap();
    child.wait().unwrap();
    reading.join().unwrap()
}

#[tokio::test]
async fn what_a_killed_process_left_is_right_or_not_there() {
    let directory = tempfile::tempdir().unwrap();
    let rounds = if std::env::var_os("LONG").is_some() { 20 * ROUNDS } else { ROUNDS };
    let (mut found, mut purges, mut torn) = (0, 0, 0);
    for round in 1..=rounds {
        let micros = (round * 7919) % 90 * 1000 + round % 7 * 137;
        let purged = killed_after(directory.path(), round, Duration::from_micros(micros));
        purges += u64::from(purged.is_some());
        let disk = Disk::open(directory.path().to_owned(), SMALL);
        until("all is found", || disk.figures().scanned);
        torn += disk.figures().damaged;
        let (records, now) = (disk.figures().records, SystemTime::now());
        let mut right = 0;
        for number in 0..KEYS {
            let held = disk.holds(&key(number), now);
            let Some(got) = disk.get(&key(number)).await else {
                assert!(!held, "round {round}: {number} cannot be read, and nobody cut the power");
                continue;
            };
            let generation = generation(&got);
            assert_eq!(got, answer(number, generation), "round {round}, {number}");
            let gone = purged.is_some_and(|purged| generation <= purged);
            assert!(!gone || generation % 3 != 1, "round {round}: {number} was purged");
            right += 1;
        }
        assert_eq!(right, records, "round {round}");
        found += right;
        assert!(disk.close(PATIENCE));
    }
    assert!(found > rounds * 20 && purges > rounds / 10, "{found} found, {purges} purges");
    println!("{rounds} rounds, {found} right, {purges} with a purge, {torn} torn ends");
}

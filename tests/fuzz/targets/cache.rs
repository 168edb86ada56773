//! The cache's files: writes, purges and starts in any order, with any byte of any file changed or
//! cut between; what is read is what was written last under that key, or nothing. And the reader
//! behind the checksums, on payloads that nobody wrote.
//!
//! Input: `p` and a payload, or what happens, byte by byte.
#![no_main]

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use libfuzzer_sys::fuzz_target;
use tidegate::cache::fuzz::{Found, decoded};
use tidegate::cache::{Author, Entry, Filter, Key, Piece};
use tidegate::wire::{Form, Usage};
use tidegate_fuzz::{Dice, KINDS, scratch};

const BUDGET: u64 = 64 << 20;
const KEYS: u64 = 6;
const AGENTS: [&str; 2] = ["one", "two"];
const MOST_STEPS: usize = 24;

fuzz_target!(|input: &[u8]| {
    if let Some(payload) = input.strip_prefix(b"p") {
        if let Some((_, written, size)) = decoded(payload) {
            assert_eq!(size, payload.len() as u64);
            assert_eq!(written, canonical(payload), "it is written as something else");
        }
        return;
    }
    let directory = scratch();
    let mut dice = Dice::new(input);
    let mut world = World {
        found: open(directory.path()),
        directory: directory.path(),
        last: HashMap::new(),
        damaged: false,
    };
    for _ in 0..MOST_STEPS {
        if dice.is_empty() {
            break;
        }
        world.step(&mut dice);
        world.check();
    }
});

/// Flags that mean nothing are not written again.
fn canonical(payload: &[u8]) -> Vec<u8> {
    let mut payload = payload.to_vec();
    if let Some(flags) = payload.get_mut(2) {
        *flags &= 15;
    }
    payload
}

fn open(directory: &Path) -> Found {
    Found::open(directory, BUDGET).expect("a directory that can be read")
}

struct World<'d> {
    found: Found,
    directory: &'d Path,
    /// The newest answer under each key.
    last: HashMap<u64, Entry>,
    /// Some file is not what was written.
    damaged: bool,
}

impl World<'_> {
    fn step(&mut self, dice: &mut Dice<'_>) {
        match dice.byte() % 8 {
            0..=2 => {
                let (number, entry) = (dice.below(KEYS), entry(dice));
                // where a file is in the way, nothing is kept
                if self.found.write(&key(number), &entry).is_ok_and(|written| written) {
                    self.last.insert(number, entry);
                } else {
                    self.last.remove(&number);
                    self.damaged = true;
                }
            }
            3 => self.purge(dice),
            4 => self.found = open(self.directory),
            5 => self.change(dice),
            6 => self.cut(dice),
            _ => {
                self.change(dice);
                self.found = open(self.directory);
            }
        }
    }

    fn purge(&mut self, dice: &mut Dice<'_>) {
        let agent = AGENTS[dice.below(2) as usize];
        let filter = Filter { agent: Some(agent.into()), ..Filter::default() };
        let purged = self.found.purge(&filter, SystemTime::now());
        assert_eq!(purged.failed, 0);
        self.last.retain(|_, entry| &*entry.author.agent != agent);
        let needle = format!("{agent}'s own words");
        for file in files(self.directory) {
            let bytes = content(&file);
            let left = bytes.windows(needle.len()).any(|part| part == needle.as_bytes());
            assert!(!left, "what was purged is still in {}", file.display());
        }
    }

    /// One byte of one file.
    fn change(&mut self, dice: &mut Dice<'_>) {
        let Some((path, len)) = self.file(dice) else { return };
        let (at, by) = (dice.below(len), dice.byte());
        let file = OpenOptions::new().read(true).write(true).open(path).expect("a file");
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).expect("it is that long");
        file.write_all_at(&[byte[0] ^ by], at).expect("it can be written to");
        self.damaged |= by != 0;
    }

    fn cut(&mut self, dice: &mut Dice<'_>) {
        let Some((path, len)) = self.file(dice) else { return };
        let file = OpenOptions::new().write(true).open(path).expect("a file");
        file.set_len(dice.below(len + 1)).expect("it can be cut");
        self.damaged = true;
        // nobody cuts under a running process
        self.found = open(self.directory);
    }

    fn file(&self, dice: &mut Dice<'_>) -> Option<(PathBuf, u64)> {
        let mut files = files(self.directory);
        files.sort();
        let which = dice.below(files.len() as u64) as usize;
        let path = files.into_iter().nth(which)?;
        let len = fs::metadata(&path).expect("a file").len();
        (len > 0).then_some((path, len))
    }

    fn check(&self) {
        for number in 0..KEYS {
            let read = self.found.read(&key(number));
            match (self.last.get(&number), read) {
                (Some(expected), Some(read)) if read == *expected => {}
                // an older one may be there again where the newer is damaged
                (_, Some(read)) => assert!(self.damaged && is_ours(number, &read), "{read:?}"),
                (expected, None) => assert!(self.damaged || expected.is_none(), "{number} is lost"),
            }
        }
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(directory).into_iter().flatten();
    files.map(|file| file.expect("a file").path()).collect()
}

#[allow(clippy::disallowed_methods)]
fn content(path: &Path) -> Vec<u8> {
    fs::read(path).expect("a file")
}

fn key(number: u64) -> Key {
    Key([number as u8 + 1; 32])
}

/// Each answer says its key and that it is whole.
fn is_ours(number: u64, entry: &Entry) -> bool {
    entry.author.credential == number || entry.author.credential == u64::MAX
}

fn entry(dice: &mut Dice<'_>) -> Entry {
    let agent = AGENTS[dice.below(2) as usize];
    let mut body = format!("{agent}'s own words: ").into_bytes();
    body.extend(std::iter::repeat_n(dice.byte(), dice.below(2_000) as usize));
    let bits = dice.byte();
    let piece = |at: u64| Piece { end: at as u32, at_ms: 3 };
    Entry {
        kind: KINDS[dice.below(KINDS.len() as u64) as usize],
        form: [Form::Json, Form::Sse, Form::NdJson, Form::Opaque][usize::from(bits & 3)],
        stream: bits & 4 != 0,
        content_type: (bits & 8 != 0).then(|| (*b"text/event-stream").into()),
        frames: (0..dice.below(5)).map(piece).collect(),
        stored: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        // never out of date while this runs
        ttl: Duration::from_hours(24 * 365 * 100),
        usage: (bits & 16 != 0).then(|| Usage { input: 1, output: 2, ..Usage::default() }),
        cost_nano: (bits & 32 != 0).then_some(-5),
        author: Author {
            agent: agent.into(),
            model: "m".repeat(dice.below(300) as usize).into(),
            route: "r".into(),
            upstream: "u".into(),
            credential: u64::MAX,
        },
        body: body.into(),
    }
}

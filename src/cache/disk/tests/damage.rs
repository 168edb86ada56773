//! Files that are not what was written: cut anywhere, any bit changed.
use super::super::files::Files;
use super::*;

const NUMBERS: std::ops::Range<u64> = 0..5;

fn answer(number: u64) -> Arc<Entry> {
    let mut answer = Entry::clone(&entry("agent", vec![number as u8; 20], time(number)));
    // these tests must not become old
    answer.ttl = Duration::from_hours(24 * 365 * 100);
    answer.frames = [Piece { end: 10, at_ms: 1 }, Piece { end: 20, at_ms: 2 }].into();
    answer.usage = Some(Usage { input: 1, output: 2, ..Usage::default() });
    Arc::new(answer)
}

/// A disk without threads, as a start finds it.
fn found(directory: &Path) -> (Arc<Shared>, Files) {
    let shared = Arc::new(Shared::new(directory.to_owned()));
    shared.budget.store(BUDGET, Relaxed);
    let mut files = Files::new(Arc::clone(&shared));
    files.list().unwrap();
    while !files.are_scanned() {
        files.scan();
    }
    (shared, files)
}

/// A file with a few records; where each of them ends.
fn written(directory: &Path) -> (PathBuf, Vec<u8>, Vec<u64>) {
    let (_, mut files) = found(directory);
    let ends = NUMBERS.map(|number| {
        assert!(files.write(&key(number), &answer(number)).unwrap());
        fs::metadata(&files_of(directory)[0]).unwrap().len()
    });
    let ends = ends.collect();
    let path = files_of(directory).remove(0);
    let bytes = content(&path);
    (path, bytes, ends)
}

/// What is there, each of it right.
#[track_caller]
fn there(shared: &Shared) -> Vec<u64> {
    let read = |number: &u64| {
        let read = shared.read(&key(*number));
        assert!(read.is_none() || read.as_ref() == Some(&*answer(*number)), "{number}");
        read.is_some()
    };
    NUMBERS.filter(read).collect()
}

#[test]
fn a_file_that_was_cut_anywhere_has_what_was_whole() {
    let directory = tempfile::tempdir().unwrap();
    let (path, bytes, ends) = written(directory.path());
    for len in 0..=bytes.len() {
        fs::write(&path, &bytes[..len]).unwrap();
        let (shared, mut files) = found(directory.path());
        let whole: Vec<_> = NUMBERS.filter(|it| ends[*it as usize] <= len as u64).collect();
        assert_eq!(there(&shared), whole, "{len}");
        let torn = len < bytes.len() && !ends.contains(&(len as u64)) && len as u64 != 56;
        assert_eq!(shared.damaged.load(Relaxed), u64::from(torn), "{len}");
        // and it is written on behind what is whole
        assert!(files.write(&key(99), &answer(99)).unwrap());
        let (shared, _) = found(directory.path());
        assert_eq!(there(&shared), whole, "{len}");
        assert_eq!(shared.read(&key(99)).as_ref(), Some(&*answer(99)), "{len}");
        assert_eq!(shared.damaged.load(Relaxed), 0, "{len}");
        for file in files_of(directory.path()) {
            fs::remove_file(file).unwrap();
        }
    }
}

#[test]
fn a_changed_bit_never_gives_a_wrong_answer() {
    let directory = tempfile::tempdir().unwrap();
    let (path, bytes, _) = written(directory.path());
    for at in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[at / 8] ^= 1 << (at % 8);
        // before the start
        fs::write(&path, &changed).unwrap();
        let (shared, _) = found(directory.path());
        let lost = NUMBERS.count() - there(&shared).len();
        assert!(lost > 0 && shared.damaged.load(Relaxed) > 0, "bit {at} is of no use");
        assert_eq!(shared.index.len(), there(&shared).len() as u64, "what is wrong is dropped");
    }
}

#[test]
fn a_bit_that_changes_later_is_found_when_it_is_read_or_purged() {
    let directory = tempfile::tempdir().unwrap();
    let (path, bytes, ends) = written(directory.path());
    for at in (56 * 8..bytes.len() * 8).step_by(3) {
        fs::write(&path, &bytes).unwrap();
        let (shared, mut files) = found(directory.path());
        let mut changed = bytes.clone();
        changed[at / 8] ^= 1 << (at % 8);
        fs::write(&path, &changed).unwrap();
        let whose = ends.iter().position(|end| at as u64 / 8 < *end).unwrap() as u64;
        let others: Vec<_> = NUMBERS.filter(|number| *number != whose).collect();
        assert_eq!(there(&shared), others, "bit {at}");
        assert_eq!(shared.damaged.load(Relaxed), 1);
        // whatever the bit was of, nothing of the agent is left
        let purged = files.purge(&agents("agent"), time(10));
        assert_eq!(purged.failed, 0);
        assert!(!has(&bytes_of(directory.path()), "agent"), "bit {at}");
        assert_eq!(there(&shared), [0; 0]);
    }
}

#[test]
fn strange_files_do_not_stop_it() {
    let directory = tempfile::tempdir().unwrap();
    let (path, bytes, _) = written(directory.path());
    let at = |name: &str| directory.path().join(name);
    fs::write(at("00000007.seg"), "no segment").unwrap();
    fs::write(at("00000008.seg"), "").unwrap();
    fs::write(at("notes.txt"), "not ours").unwrap();
    fs::write(at("ffffffff.seg"), &bytes).unwrap();
    fs::create_dir(at("00000009.seg")).unwrap();
    let (shared, mut files) = found(directory.path());
    assert_eq!(there(&shared), NUMBERS.collect::<Vec<_>>());
    assert!(path.exists() && at("notes.txt").exists());
    assert!(!at("00000007.seg").exists() && !at("00000008.seg").exists());
    // what cannot be deleted is said by a purge
    assert_eq!(files.purge(&Filter::default(), time(0)).failed, 1);
    assert_eq!(there(&shared), [0; 0]);
    fs::remove_dir(at("00000009.seg")).unwrap();
    assert_eq!(files.purge(&Filter::default(), time(0)).failed, 0);
}

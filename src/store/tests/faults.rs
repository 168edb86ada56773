//! A disk that loses what was not synced, one that breaks, one that is full.
use std::sync::mpsc::channel;

use super::disk::{Disk, Fault};
use super::*;

#[test]
fn nothing_is_acked_before_it_would_survive_a_power_cut() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::new(directory.path());
    let store = disk.store(directory.path());
    let (said, is_said) = channel();
    for count in 0..40_u64 {
        let (said, disk) = (said.clone(), disk.clone());
        let pair =
            [&b"one"[..], b"two"].map(|key| Op::put(Table::Budgets, key, count.to_le_bytes()));
        store.write(pair.to_vec(), move |result| {
            said.send((count, result, disk.after_power_cut())).unwrap();
        });
        if count % 3 == 0 {
            thread::park_timeout(Duration::from_millis(7));
        }
    }
    for expected in 0..40 {
        let (count, result, left) = is_said.recv_timeout(PATIENCE).unwrap();
        assert_eq!((count, result), (expected, Ok(())), "told in order");
        let rows = left.store(directory.path()).scan(Table::Budgets).unwrap();
        let values: Vec<u64> = rows
            .iter()
            .map(|(_, value)| u64::from_le_bytes(value.as_slice().try_into().unwrap()))
            .collect();
        assert!(values.len() == 2 && values[0] == values[1], "both or none: {values:?}");
        assert!(values[0] >= count, "{count} was acked, {} is there", values[0]);
    }
}

#[test]
fn after_a_failed_sync_nothing_is_said_to_be_kept() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::new(directory.path());
    let store = disk.store(directory.path());
    let op = || vec![Op::put(Table::Budgets, &b"a"[..], "1")];
    assert_eq!(written(&store, op()), Ok(()));
    assert!(store.healthy());
    disk.fail(Fault::Syncs);
    assert_eq!(written(&store, op()), Err(Failed::Broken));
    assert!(!store.healthy());
    // the disk is well again, but what it holds is not known
    disk.mend();
    assert_eq!(written(&store, op()), Err(Failed::Broken));
    store.put(Table::Budgets, b"a", b"2");
    assert!(!store.flush(PATIENCE) && !store.close(PATIENCE));
    assert_eq!(written(&store, op()), Err(Failed::Broken), "not merely closed");
    let left = disk.after_power_cut().store(directory.path());
    assert_eq!(value(&left, Table::Budgets, b"a"), Some(b"1".to_vec()));
}

#[test]
fn a_writer_that_dies_tells_everyone() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let (said, is_said) = channel();
    let second = said.clone();
    store.write(Vec::new(), |_| panic!("a callback that must not"));
    store.write(Vec::new(), move |result| second.send(result).unwrap());
    assert_eq!(is_said.recv_timeout(PATIENCE), Ok(Err(Failed::Broken)));
    assert!(!store.healthy() && !store.close(PATIENCE));
    store.write(Vec::new(), move |result| said.send(result).unwrap());
    assert_eq!(is_said.recv_timeout(PATIENCE), Ok(Err(Failed::Broken)));
}

fn row(key: &str, value: &str) -> NewRow {
    let (key, value) = (key.as_bytes().into(), value.to_owned().into());
    NewRow { table: Table::Tasks, key, value }
}

fn admitted(store: &Store, rows: Vec<NewRow>) -> Result<(), Failed> {
    let (said, is_said) = channel();
    store.admit(rows, move |result| said.send(result).unwrap())?;
    is_said.recv_timeout(PATIENCE).unwrap()
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let from = Instant::now();
    while !is_so() {
        assert!(from.elapsed() < PATIENCE, "never: {what}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn a_full_disk_costs_what_is_new_its_admission_and_nothing_else() {
    for writes in [0, 1, 2, 5] {
        let directory = tempfile::tempdir().unwrap();
        let ballast = directory.path().join("ballast");
        let disk = Disk::new(directory.path());
        let store = disk.store(directory.path());
        assert_eq!(admitted(&store, vec![row("before", "1")]), Ok(()));
        assert!(ballast.exists() && store.has_room());
        disk.fail(Fault::Space(writes));
        // in one commit: an end, a mark of a budget, something new
        let (said, is_said) = channel();
        let end = vec![Op::put(Table::Tasks, &b"before"[..], "ended")];
        store.put(Table::Budgets, b"mark", b"7");
        store.write(end, move |result| said.send(result).unwrap());
        assert_eq!(admitted(&store, vec![row("new", "1")]), Err(Failed::NoSpace), "{writes}");
        assert_eq!(is_said.recv_timeout(PATIENCE), Ok(Ok(())));
        assert!(!ballast.exists() && !store.has_room() && store.healthy());
        assert_eq!(admitted(&store, vec![row("new", "2")]), Err(Failed::NoSpace), "at once");
        assert_eq!(written(&store, vec![Op::put(Table::Budgets, &b"mark"[..], "8")]), Ok(()));
        let left = disk.after_power_cut().store(directory.path());
        assert_eq!(value(&left, Table::Tasks, b"before"), Some(b"ended".to_vec()));
        assert_eq!(value(&left, Table::Budgets, b"mark"), Some(b"8".to_vec()));
        assert_eq!(value(&left, Table::Tasks, b"new"), None);
        // `left` has the ballast's place now, so it goes before there is room again
        assert!(left.close(PATIENCE));
        disk.mend();
        until("room again", || store.has_room());
        assert!(ballast.exists());
        assert_eq!(admitted(&store, vec![row("new", "3")]), Ok(()));
    }
}

#[test]
fn where_even_the_ballasts_room_is_gone_ends_wait_for_room() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::new(directory.path());
    let store = disk.store(directory.path());
    disk.fail(Fault::NoSpaceAtAll);
    let (said, is_said) = channel();
    let end = vec![Op::put(Table::Tasks, &b"a"[..], "ended")];
    store.write(end, move |result| said.send(result).unwrap());
    until("found full", || !store.has_room());
    assert!(is_said.recv_timeout(Duration::from_millis(300)).is_err() && store.healthy());
    disk.mend();
    assert_eq!(is_said.recv_timeout(PATIENCE), Ok(Ok(())));
    let left = disk.after_power_cut().store(directory.path());
    assert_eq!(value(&left, Table::Tasks, b"a"), Some(b"ended".to_vec()));
}

#[test]
fn what_was_refused_alone_leaves_the_rest_to_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::new(directory.path());
    let store = disk.store(directory.path());
    assert_eq!(admitted(&store, vec![row("before", "1")]), Ok(()));
    disk.fail(Fault::Space(0));
    assert_eq!(admitted(&store, vec![row("new", "1")]), Err(Failed::NoSpace));
    // nothing else waits to be written, and nothing comes
    until("it is read", || store.get(Table::Tasks, b"before").is_ok_and(|row| row.is_some()));
}

/// What expires leaves room in the file, which the disk does not see.
#[test]
fn room_in_the_file_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::new(directory.path());
    let store = disk.store(directory.path());
    let bulk = |from: u8, until: u8| -> Vec<Op> {
        let put = |key| Op::put(Table::TaskData, [key], vec![key; 64 << 10]);
        (from..until).map(put).collect()
    };
    for from in [0, 20, 40, 60] {
        assert_eq!(written(&store, bulk(from, from + 20)), Ok(()));
    }
    disk.fail(Fault::Space(0));
    assert_eq!(admitted(&store, vec![row("new", "1")]), Err(Failed::NoSpace));
    let gone = |keys: std::ops::Range<u8>| -> Vec<Op> {
        keys.map(|key| Op::delete_prefix(Table::TaskData, [key])).collect()
    };
    assert_eq!(written(&store, gone(0..30)), Ok(()));
    thread::park_timeout(Duration::from_millis(1500));
    assert!(!store.has_room(), "too little yet");
    assert_eq!(written(&store, gone(30..80)), Ok(()));
    until("room", || store.has_room());
    assert_eq!(admitted(&store, vec![row("new", "1")]), Ok(()));
    // it is not given away to the last
    assert_eq!(written(&store, bulk(0, 60)), Ok(()));
    until("no room", || {
        store.put(Table::Budgets, b"mark", b"7");
        !store.has_room()
    });
    disk.mend();
    until("room again", || store.has_room());
    assert!(directory.path().join("ballast").exists());
}

/// Marks of budgets come with every call: a busy instance is never idle.
#[test]
fn room_is_found_again_while_others_go_on_writing() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::new(directory.path());
    let store = disk.store(directory.path());
    disk.fail(Fault::Space(0));
    assert_eq!(admitted(&store, vec![row("new", "1")]), Err(Failed::NoSpace));
    disk.mend();
    until("room again", || {
        store.put(Table::Budgets, b"mark", b"7");
        store.has_room()
    });
}

#[test]
fn a_full_disk_does_not_keep_the_store_from_closing() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::new(directory.path());
    let store = disk.store(directory.path());
    disk.fail(Fault::NoSpaceAtAll);
    let (said, is_said) = channel();
    store.write(vec![Op::put(Table::Tasks, &b"a"[..], "1")], move |result| {
        said.send(result).unwrap();
    });
    assert!(!store.close(PATIENCE));
    assert_eq!(is_said.recv_timeout(PATIENCE), Ok(Err(Failed::Broken)));
}

#[test]
fn a_write_error_stops_the_store_wherever_it_comes() {
    for writes in 0..12 {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::new(directory.path());
        let store = disk.store(directory.path());
        assert_eq!(admitted(&store, vec![row("acked", "1")]), Ok(()));
        disk.fail(Fault::Writes(writes));
        let mut acked = Vec::new();
        for name in ["b", "c", "d", "e", "f", "g"] {
            match admitted(&store, vec![row(name, "1")]) {
                Ok(()) => acked.push(name),
                Err(why) => assert_eq!(why, Failed::Broken),
            }
        }
        assert!(!store.healthy(), "{writes}");
        let left = disk.after_power_cut().store(directory.path());
        for name in acked.into_iter().chain(["acked"]) {
            let found = value(&left, Table::Tasks, name.as_bytes());
            assert_eq!(found, Some(b"1".to_vec()), "{name} after {writes} writes");
        }
    }
}

/// Every write between two syncs is cut at its ends and in between; the last one at every byte.
#[test]
fn a_power_cut_at_any_byte_leaves_what_a_commit_made() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::new(directory.path());
    let store = disk.store(directory.path());
    let pair = |value: &str| [row("one", value), row("two", value)].to_vec();
    assert_eq!(admitted(&store, pair("1")), Ok(()));
    disk.mark();
    assert_eq!(admitted(&store, vec![row("three", "2")]), Ok(()));
    let writes = disk.writes();
    assert!(writes.len() > 1, "{writes:?}");
    let last = writes.iter().rposition(|bytes| *bytes > 0).unwrap();
    let mut tried = 0;
    for (at, bytes) in writes.iter().copied().enumerate() {
        let step = if at == last { 1 } else { (bytes / 16).max(1) };
        for cut in (0..=bytes).step_by(step) {
            let left = disk.cut(at, cut).store(directory.path());
            assert_eq!(value(&left, Table::Tasks, b"one"), Some(b"1".to_vec()), "{at}:{cut}");
            assert_eq!(value(&left, Table::Tasks, b"two"), Some(b"1".to_vec()), "{at}:{cut}");
            let third = value(&left, Table::Tasks, b"three");
            assert!(third.is_none() || third == Some(b"2".to_vec()), "{at}:{cut}: {third:?}");
            tried += 1;
        }
    }
    println!("{tried} cuts in {} writes", writes.len());
    let left = disk.cut(writes.len(), 0).store(directory.path());
    assert_eq!(value(&left, Table::Tasks, b"three"), Some(b"2".to_vec()), "all of them");
}

#[test]
fn a_prefix_goes_with_what_waits_and_what_is_written_and_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let put = |key: &[u8]| store.put(Table::TaskData, key, b"1");
    for key in [&b"a"[..], b"ab", b"ab\xff", b"ab\xff\xff", b"ac", b"b", b"\xff", b"\xff\xff"] {
        put(key);
    }
    assert!(store.flush(PATIENCE));
    let prefixes = || [&b"ab"[..], b"\xff"].map(|key| Op::delete_prefix(Table::TaskData, key));
    put(b"ab-waits");
    assert_eq!(written(&store, prefixes().to_vec()), Ok(()));
    let keys = || store.range(Table::TaskData, b"").unwrap().into_iter().map(|(key, _)| key);
    assert_eq!(keys().collect::<Vec<_>>(), [&b"a"[..], b"ac", b"b"]);
    // what is put behind it stays
    let mut ops = prefixes().to_vec();
    ops.push(Op::put(Table::TaskData, &b"ab2"[..], "2"));
    assert_eq!(written(&store, ops), Ok(()));
    assert_eq!(keys().collect::<Vec<_>>(), [&b"a"[..], b"ab2", b"ac", b"b"]);
    assert_eq!(store.range(Table::TaskData, b"a").unwrap().len(), 3);
    assert_eq!(store.get(Table::TaskData, b"ab2").unwrap(), Some(b"2".to_vec()));
    assert_eq!(store.get(Table::TaskData, b"ab").unwrap(), None);
    let mut seen = Vec::new();
    let each = |key: &[u8], _: &[u8]| {
        seen.push(key.to_vec());
        seen.len() < 2
    };
    store.each(Table::TaskData, b"a", b"ab", each).unwrap();
    assert_eq!(seen, [&b"ab2"[..], b"ac"]);
}

#[test]
fn a_store_of_an_older_version_gets_the_tables_it_lacks() {
    let directory = tempfile::tempdir().unwrap();
    assert!(Store::open(directory.path()).unwrap().close(PATIENCE));
    let path = directory.path().join(DATABASE);
    let database = redb::Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    for table in [Table::Tasks, Table::TaskData] {
        assert!(transaction.delete_table(table.definition()).unwrap());
    }
    transaction.commit().unwrap();
    drop(database);
    let store = Store::open(directory.path()).unwrap();
    assert_eq!(store.scan(Table::Tasks).unwrap(), []);
    assert_eq!(admitted(&store, vec![row("a", "1")]), Ok(()));
}

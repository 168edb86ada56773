//! The store as its users see it; crashes and broken disks in files of their own.
mod crash;
pub(crate) mod disk;
mod faults;

use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::mpsc::channel;

use super::*;

pub(super) const PATIENCE: Duration = Duration::from_secs(20);

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn value(store: &Store, table: Table, key: &[u8]) -> Option<Vec<u8>> {
    let mut rows = store.scan(table).unwrap().into_iter();
    rows.find(|(found, _)| found == key).map(|(_, value)| value)
}

/// All of a file.
pub(super) fn bytes_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes, and waits until it is said.
pub(super) fn written(store: &Store, ops: Vec<Op>) -> Result<(), Failed> {
    let (said, is_said) = channel();
    store.write(ops, move |result| said.send(result).unwrap());
    is_said.recv_timeout(PATIENCE).unwrap()
}

pub(super) fn record(id: &str, agent: &str) -> NewRecord {
    NewRecord {
        id: id.to_owned(),
        hmac: KeyHmac([7; 32]),
        agent: agent.to_owned(),
        team: None,
        expires: None,
        models: Vec::new(),
        routes: Vec::new(),
    }
}

#[test]
fn everything_is_its_owners_alone() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("a").join("state");
    let store = Store::open(&directory).unwrap();
    let token = store.new_token().unwrap();
    assert_eq!(mode(&directory), 0o700);
    for file in [DATABASE, "pepper", "admin.token", "ballast"] {
        assert_eq!(mode(&directory.join(file)), 0o600, "{file}");
    }
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 4, "nothing is left behind");
    assert!(read_token(&directory).unwrap().matches(token.expose().as_bytes()));
    assert!(!store.new_token().unwrap().matches(token.expose().as_bytes()));
    assert_eq!(read_pepper(&directory).unwrap(), *store.pepper());
    assert!(store.close(PATIENCE));
    // what somebody opened wider is closed again
    fs::set_permissions(directory.join(DATABASE), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(Store::open(&directory).unwrap().close(PATIENCE));
    assert_eq!(mode(&directory.join(DATABASE)), 0o600);
}

#[test]
fn what_was_written_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    assert!(!exists(directory.path()));
    let store = Store::open(directory.path()).unwrap();
    let pepper = store.pepper().clone();
    store.put(Table::Budgets, b"a", b"1");
    store.put(Table::Budgets, b"a", b"22");
    store.put(Table::Budgets, b"gone", b"1");
    store.put(Table::Keys, b"a", b"in another table");
    store.delete(Table::Budgets, b"gone");
    store.put(Table::Budgets, b"", b"");
    assert!(store.close(PATIENCE));
    assert!(exists(directory.path()));
    let store = Store::open(directory.path()).unwrap();
    let rows: Vec<Row> = vec![(b"".into(), b"".into()), (b"a".into(), b"22".into())];
    assert_eq!(store.scan(Table::Budgets).unwrap(), rows);
    assert_eq!(*store.pepper(), pepper);
    let ops = vec![Op::delete(Table::Budgets, &b"a"[..]), Op::put(Table::Budgets, &b"b"[..], "3")];
    assert_eq!(written(&store, ops), Ok(()));
    assert_eq!(value(&store, Table::Budgets, b"a"), None);
    assert_eq!(value(&store, Table::Budgets, b"b"), Some(b"3".to_vec()));
}

#[test]
fn a_soft_write_is_on_the_disk_within_a_second() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let from = Instant::now();
    for count in 0..100_000_u64 {
        store.put(Table::Budgets, b"level", &count.to_le_bytes());
    }
    let put = from.elapsed();
    while value(&store, Table::Budgets, b"level").is_none() {
        assert!(from.elapsed() < PATIENCE, "never written");
        thread::park_timeout(Duration::from_millis(5));
    }
    // nobody asked for it, so it waited for others
    let (within, figures) = (from.elapsed(), store.figures());
    println!("100000 puts of one key: {put:?}, on the disk after {within:?}, {figures:?}");
    assert!(within >= Duration::from_millis(450) && figures.commits <= 2 + within.as_secs() * 2);
    assert!(store.flush(PATIENCE));
    assert_eq!(value(&store, Table::Budgets, b"level"), Some(99_999_u64.to_le_bytes().to_vec()));
}

#[test]
fn many_writers_share_a_commit() {
    const WRITERS: u64 = 64;
    const EACH: u64 = 25;
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let from = Instant::now();
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let store = &store;
            scope.spawn(move || {
                for count in 0..EACH {
                    let op = Op::put(Table::Budgets, writer.to_le_bytes(), count.to_le_bytes());
                    assert_eq!(written(store, vec![op]), Ok(()));
                }
            });
        }
    });
    let Figures { commits, operations, refused, .. } = store.figures();
    println!(
        "{operations} durable writes of {WRITERS} callers: {commits} commits, {:.1} a commit, {:?}",
        operations as f64 / commits as f64,
        from.elapsed()
    );
    assert_eq!((operations, refused), (WRITERS * EACH, 0));
    assert!(commits <= operations / 8, "{commits} commits");
    for writer in 0..WRITERS {
        let last = (EACH - 1).to_le_bytes().to_vec();
        assert_eq!(value(&store, Table::Budgets, &writer.to_le_bytes()), Some(last));
    }
}

#[test]
fn an_ack_can_be_awaited() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let op = || vec![Op::put(Table::Budgets, &b"a"[..], "1")];
    assert_eq!(runtime.block_on(store.durably(op())), Ok(()));
    assert_eq!(value(&store, Table::Budgets, b"a"), Some(b"1".to_vec()));
    assert!(store.close(PATIENCE));
    assert_eq!(runtime.block_on(store.durably(op())), Err(Failed::Closed));
    store.put(Table::Budgets, b"a", b"2");
    assert!(!store.flush(PATIENCE), "nothing is taken any more");
    assert!(store.healthy(), "closed is not broken");
    assert!(matches!(store.scan(Table::Budgets), Err(StoreError::Closed)));
    assert!(store.close(PATIENCE), "twice is no harm");
}

#[test]
fn waiting_keys_are_bounded_and_coalesce() {
    // nobody takes anything out
    let queue = Queue::default();
    for key in 0..queue::MOST as u64 {
        queue.put(Table::Budgets, &key.to_le_bytes(), Some(b"1"));
    }
    let refused = || queue.refused.load(Relaxed);
    assert_eq!(refused(), 0);
    queue.put(Table::Budgets, &1_u64.to_le_bytes(), Some(b"2"));
    assert_eq!(refused(), 0, "a key that waits takes its newest value");
    queue.put(Table::Meta, b"one more", Some(b"1"));
    assert_eq!(refused(), 1);
    let (said, is_said) = channel();
    let told = Box::new(move |result| said.send(result).unwrap());
    queue.write(vec![Op::delete(Table::Keys, &b"x"[..])], told, false);
    assert_eq!(is_said.try_recv(), Ok(Err(Failed::Full)));
    let mut batch = queue::Batch::default();
    let turn = queue.take(&mut batch, None);
    assert!(matches!(turn, queue::Turn::Write), "so many wait no longer");
    let budgets = &batch.changes[Table::Budgets as usize];
    assert_eq!(budgets.len(), queue::MOST);
    assert_eq!(budgets[&1_u64.to_le_bytes()[..]], Some(b"2".to_vec()));
    assert!(batch.changes[Table::Keys as usize].is_empty());
}

#[test]
fn one_process_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let error = Store::open(directory.path()).err().unwrap();
    assert!(matches!(error, StoreError::InUse { .. }), "{error:?}");
    let said = error.to_string();
    assert!(said.contains(&directory.path().display().to_string()), "{said}");
    assert!(said.contains("another process"), "{said}");
    // whoever has patience gets it
    thread::scope(|scope| {
        let waiting = scope.spawn(|| Store::open_patiently(directory.path(), PATIENCE));
        thread::park_timeout(Duration::from_millis(100));
        assert!(store.close(PATIENCE));
        assert!(waiting.join().unwrap().is_ok());
    });
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    fs::write(&file, "").unwrap();
    // to root every directory but those of the kernel is open
    let closed = parent.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).unwrap();
    let root = fs::write(closed.join("probe"), "").is_ok();
    let read_only = if root { PathBuf::from("/proc/sys/tidegate") } else { closed.join("state") };
    for directory in [&read_only, &file, &file.join("below")] {
        let error = Store::open(directory).err().unwrap();
        assert!(matches!(error, StoreError::Io { .. }), "{error:?}");
        let said = error.to_string();
        assert!(said.starts_with(&format!("state: {} cannot be used: ", directory.display())));
    }
}

#[test]
fn a_damaged_file_is_said_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(DATABASE);
    let store = Store::open(directory.path()).unwrap();
    for key in 0..500_u64 {
        store.put(Table::Budgets, &key.to_le_bytes(), &[7; 100]);
    }
    assert!(store.close(PATIENCE));
    let whole = bytes_of(&path).unwrap();
    let mut foreign = whole.clone();
    foreign[..9].copy_from_slice(b"SQLite 3\0");
    let damaged = [
        b"listen: 127.0.0.1:8080\n".to_vec(),
        vec![0; 4096],
        foreign,
        whole[..whole.len() / 2].to_vec(),
    ];
    for bytes in damaged {
        fs::write(&path, &bytes).unwrap();
        let error = Store::open(directory.path()).err().unwrap();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        assert_eq!(bytes_of(&path).unwrap(), bytes);
    }
    fs::write(&path, &whole).unwrap();
    assert_eq!(Store::open(directory.path()).unwrap().scan(Table::Budgets).unwrap().len(), 500);
}

#[test]
fn a_database_of_a_newer_version_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    store.put(Table::Meta, b"format", &[2]);
    assert!(store.close(PATIENCE));
    let error = Store::open(directory.path()).err().unwrap();
    assert!(matches!(error, StoreError::Newer { .. }), "{error:?}");
}

#[test]
fn the_pepper_is_not_made_anew_under_keys() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pepper");
    let store = Store::open(directory.path()).unwrap();
    drop(store.keys().add(record("00000001", "a"), 1).unwrap());
    assert!(store.close(PATIENCE));
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.trim_ascii_end().len(), 64);
    for wrong in ["", "abc\n", &"z".repeat(64)] {
        fs::write(&path, wrong).unwrap();
        let error = Store::open(directory.path()).err().unwrap();
        assert!(matches!(error, StoreError::Pepper { .. }), "{error:?}");
        assert!(wrong.is_empty() || !error.to_string().contains(wrong.trim_ascii_end()));
    }
    fs::remove_file(&path).unwrap();
    let error = Store::open(directory.path()).err().unwrap();
    assert!(matches!(error, StoreError::Pepper { .. }), "{error:?}");
    fs::write(&path, text).unwrap();
    assert!(Store::open(directory.path()).is_ok());
}

#[test]
fn keys_are_kept_shown_and_revoked() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let (told, tellings) = channel();
    store.keys().watch(move |records| {
        let good: Vec<_> = records.iter().filter(|record| record.revoked.is_none()).collect();
        told.send(good.iter().map(|record| record.id.clone()).collect::<Vec<_>>()).unwrap();
    });
    let one = NewRecord {
        team: Some("growth".to_owned()),
        expires: Some(99),
        models: vec!["gpt-*".to_owned()],
        ..record("00000001", "researcher")
    };
    drop(store.keys().add(one, 10).unwrap());
    drop(store.keys().add(record("00000002", "writer"), 11).unwrap());
    let again = store.keys().add(record("00000002", "other"), 12).err();
    assert_eq!(again, Some(KeyError::Exists { id: "00000002".to_owned() }));
    let (view, ack) = store.keys().revoke("00000001", 20).unwrap();
    assert_eq!((view.revoked, view.agent.as_str()), (Some(20), "researcher"));
    drop(ack);
    assert_eq!(store.keys().revoke("00000001", 30).unwrap().0.revoked, Some(20), "once");
    assert!(matches!(store.keys().revoke("0000000f", 30), Err(KeyError::Unknown { .. })));
    let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    let seen: Vec<_> = tellings.try_iter().collect();
    let both = ids(&["00000001", "00000002"]);
    let second = ids(&["00000002"]);
    assert_eq!(seen, [ids(&[]), ids(&["00000001"]), both, second.clone(), second], "at once");
    let kept = store.keys().list();
    assert!(store.close(PATIENCE));
    let store = Store::open(directory.path()).unwrap();
    assert_eq!(store.keys().list(), kept);
    assert_eq!((kept[0].created, kept[0].hmac), (10, KeyHmac([7; 32])));
    let shown = serde_json::to_string(&kept[0].view()).unwrap();
    assert!(!shown.contains("0707") && !format!("{kept:?}").contains("0707"), "{shown}");
    // one that cannot be read lets nobody in, and the others stay
    store.put(Table::Keys, b"00000002", b"{}");
    assert!(store.close(PATIENCE));
    assert_eq!(Store::open(directory.path()).unwrap().keys().list(), kept[..1]);
}

#[test]
fn records_are_checked() {
    let wrong = |record: NewRecord| match record.check() {
        Err(KeyError::Invalid { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(record("0000000a", &"a".repeat(128)).check(), Ok(()));
    for id in ["", "0000000", "000000001", "0000000G", "0000000A", "../../.."] {
        assert_eq!(wrong(record(id, "a")), "id", "{id}");
    }
    for agent in ["", "a b", "\x1b[2J", "é", &"a".repeat(129)] {
        assert_eq!(wrong(record("00000001", agent)), "agent", "{agent}");
    }
    let team = NewRecord { team: Some(String::new()), ..record("00000001", "a") };
    assert_eq!(wrong(team), "team");
    let models = NewRecord { models: vec!["*".to_owned(); 65], ..record("00000001", "a") };
    assert_eq!(wrong(models), "models");
    let routes = NewRecord { routes: vec!["\n".to_owned()], ..record("00000001", "a") };
    assert_eq!(wrong(routes), "routes");
}

#[test]
fn a_full_book_forgets_the_oldest_that_is_no_longer_good() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    for id in 0..10_000 {
        let expires = if id == 5 { Some(50) } else { None };
        let new = NewRecord { expires, ..record(&format!("{id:08x}"), "a") };
        drop(store.keys().add(new, id).unwrap());
        if id % 1000 == 0 {
            assert!(store.flush(PATIENCE));
        }
    }
    let one_more = || record("ffffffff", "a");
    assert_eq!(store.keys().add(one_more(), 49).err(), Some(KeyError::TooMany));
    drop(store.keys().add(one_more(), 50).unwrap());
    assert!(store.close(PATIENCE));
    let kept = Store::open(directory.path()).unwrap().keys().list();
    assert_eq!(kept.len(), 10_000);
    assert!(!kept.iter().any(|record| record.id == "00000005"));
}

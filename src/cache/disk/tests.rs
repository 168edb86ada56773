//! The disk as its users see it; crashes, damage and full disks in files of their own.
mod crash;
mod damage;
mod full;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::thread;
use std::time::Instant;

use proptest::prelude::*;

use super::record::Spot;
use super::*;
use crate::cache::memory::tests::{agents, entry, key, time};
use crate::cache::{Author, Piece};
use crate::wire::{Form, Kind, Usage};

const BUDGET: u64 = 64 << 20;
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until it is so.
#[track_caller]
pub(super) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::park_timeout(Duration::from_millis(1));
    }
}

/// An open disk whose directory has been looked through.
pub(super) fn open(directory: &Path) -> Disk {
    let disk = Disk::open(directory.to_owned(), BUDGET);
    until("all is found", || disk.figures().scanned);
    disk
}

/// Puts, and waits until it is written or dropped.
pub(super) fn put(disk: &Disk, number: u64, new: &Arc<Entry>) {
    let done = |figures: DiskFigures| figures.stores + figures.dropped;
    let before = done(disk.figures());
    disk.put(key(number), Arc::clone(new));
    until("it is written", || done(disk.figures()) > before);
}

pub(super) fn fresh(agent: &str, body: &str) -> Arc<Entry> {
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(millis(SystemTime::now()));
    Arc::new(entry(agent, body.into(), now))
}

/// All bytes of all files.
pub(super) fn bytes_of(directory: &Path) -> Vec<u8> {
    files_of(directory).into_iter().flat_map(|path| content(&path)).collect()
}

pub(super) fn files_of(directory: &Path) -> Vec<PathBuf> {
    let Ok(files) = fs::read_dir(directory) else { return Vec::new() };
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

#[allow(clippy::disallowed_methods)]
pub(super) fn content(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap()
}

fn has(bytes: &[u8], part: &str) -> bool {
    memchr::memmem::find(bytes, part.as_bytes()).is_some()
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let number = any::<u64>();
    let kinds = (1_u8..=15).prop_map(|kind| record::number_to_kind(kind).unwrap());
    let forms = (1_u8..=4).prop_map(|form| record::number_to_form(form).unwrap());
    let bytes = |most| prop::collection::vec(any::<u8>(), 0..most);
    let pieces = prop::collection::vec((any::<u32>(), any::<u32>()), 0..40);
    let usage = (number, number, number, number, number);
    let names = ("\\PC{0,20}", "\\PC{0,20}", "\\PC{0,20}", "\\PC{0,20}", number);
    (
        (kinds, forms, any::<bool>(), prop::option::of(bytes(60)), bytes(4000), pieces),
        (0_u64..1 << 42, 0_u64..1 << 42, prop::option::of(usage)),
        (prop::option::of(any::<i64>()), names),
    )
        .prop_map(|(what, (stored, ttl, usage), (cost_nano, names))| {
            let (kind, form, stream, content_type, body, pieces) = what;
            let (agent, model, route, upstream, credential) = names;
            Entry {
                kind,
                form,
                stream,
                content_type: content_type.map(Into::into),
                body: body.into(),
                frames: pieces.into_iter().map(|(end, at_ms)| Piece { end, at_ms }).collect(),
                stored: SystemTime::UNIX_EPOCH + Duration::from_millis(stored),
                ttl: Duration::from_millis(ttl),
                usage: usage.map(|(input, output, cached_input, cache_write, reasoning)| Usage {
                    input,
                    output,
                    cached_input,
                    cache_write,
                    reasoning,
                }),
                cost_nano,
                author: Author {
                    agent: agent.into(),
                    model: model.into(),
                    route: route.into(),
                    upstream: upstream.into(),
                    credential,
                },
            }
        })
}

fn encoded(spot: Spot<'_>, key: &Key, entry: &Entry) -> Option<Vec<u8>> {
    let mut record = Vec::new();
    record::encode(spot, key, entry, &mut record)?;
    record.extend_from_slice(&entry.body);
    Some(record)
}

proptest! {
    #[test]
    fn a_record_is_the_answer_with_all_that_belongs_to_it(new in any_entry(), offset: u64) {
        let spot = Spot { salt: &[3; 32], offset };
        let record = bytes::Bytes::from(encoded(spot, &key(1), &new).unwrap());
        prop_assert_eq!(record.len() as u64, record::size(&new));
        prop_assert!(record::decode(spot, &key(1), &record) == Some(new.clone()));
        prop_assert!(record::decode(spot, &key(2), &record).is_none());
        // the same bytes at another place, or in another file, are none
        let elsewhere = Spot { salt: &[3; 32], offset: offset ^ 1 };
        prop_assert_eq!(record::head(elsewhere, &record), None);
        let other = Spot { salt: &[4; 32], offset };
        prop_assert_eq!(record::head(other, &record), None);
        // an erased one says how long it was, and nothing else
        let head = record::head(spot, &record).unwrap();
        let erased = record::erased(spot, &head);
        let said = record::head(spot, &erased).unwrap();
        prop_assert_eq!((said.len, said.payload, said.live), (head.len, head.payload, None));
        prop_assert!(erased[12..erased.len() - record::SUM].iter().all(|&byte| byte == 0));
    }
}

#[test]
fn numbers_in_files_stay_what_they_are() {
    let kinds = (0..=u8::MAX).filter_map(record::number_to_kind);
    let kinds: Vec<_> = kinds.map(|kind| (record::kind_to_number(kind), kind)).collect();
    assert_eq!(kinds.len(), 16);
    assert_eq!((kinds[0], kinds[14]), ((1, Kind::Chat), (15, Kind::Other)));
    assert_eq!(kinds[15], (16, Kind::Session));
    let forms = (0..=u8::MAX).filter_map(record::number_to_form);
    let forms: Vec<_> = forms.map(|form| (record::form_to_number(form), form)).collect();
    assert_eq!(forms, [(1, Form::Json), (2, Form::Sse), (3, Form::NdJson), (4, Form::Opaque)]);
}

#[test]
fn names_that_are_too_long_are_not_written() {
    let spot = Spot { salt: &[3; 32], offset: 0 };
    let mut new = entry("a", Vec::new(), time(0));
    new.author.model = "m".repeat(3900).into();
    assert!(encoded(spot, &key(1), &new).is_some());
    new.author.model = "m".repeat(record::LONGEST_HEAD).into();
    assert!(encoded(spot, &key(1), &new).is_none());
}

#[tokio::test]
async fn a_restart_finds_what_was_kept() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("a").join("b");
    let now = SystemTime::now();
    let disk = open(&directory);
    let (old, new) = (fresh("a", "old"), fresh("a", "new"));
    let others: Vec<_> = (10..40).map(|it| fresh("b", &it.to_string().repeat(50))).collect();
    put(&disk, 1, &old);
    for (number, other) in (10..40).zip(&others) {
        put(&disk, number, other);
    }
    put(&disk, 1, &new);
    assert!(disk.holds(&key(1), now) && !disk.holds(&key(2), now));
    assert!(!disk.holds(&key(1), now + Duration::from_hours(2)), "out of date");
    assert_eq!(disk.get(&key(1)).await, Some(Arc::clone(&new)));
    assert!(disk.close(PATIENCE));
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    let files = files_of(&directory);
    assert_eq!(fs::metadata(&files[0]).unwrap().permissions().mode() & 0o777, 0o600);
    for _ in 0..3 {
        let disk = open(&directory);
        let figures = disk.figures();
        assert_eq!((figures.records, figures.damaged), (31, 0), "{figures:?}");
        assert_eq!(disk.get(&key(1)).await, Some(Arc::clone(&new)));
        for (number, other) in (10..40).zip(&others) {
            assert_eq!(disk.get(&key(number)).await.as_ref(), Some(other), "{number}");
        }
        assert_eq!(disk.get(&key(2)).await, None);
        put(&disk, 1, &new);
        assert!(disk.close(PATIENCE));
        assert_eq!(disk.get(&key(1)).await, None, "it is closed");
    }
    assert_eq!(files_of(&directory).len(), 1, "a restart goes on in the file that it finds");
}

#[tokio::test]
async fn a_restart_finds_the_answers_of_every_file() {
    let directory = tempfile::tempdir().unwrap();
    let small = || Disk::open(directory.path().to_owned(), 1 << 20);
    let disk = small();
    let body = |number: u64| number.to_string().repeat(2000);
    for number in 0..100 {
        put(&disk, number, &fresh("a", &body(number)));
    }
    assert!(disk.close(PATIENCE) && files_of(directory.path()).len() > 5);
    for _ in 0..10 {
        let disk = small();
        until("all is found", || disk.figures().scanned);
        assert_eq!(disk.figures().records, 100);
        for number in 0..100 {
            assert_eq!(disk.get(&key(number)).await.unwrap().body, body(number));
        }
    }
}

#[tokio::test]
async fn what_is_purged_is_gone_from_the_files_and_stays_so() {
    let directory = tempfile::tempdir().unwrap();
    let disk = open(directory.path());
    let now = SystemTime::now();
    for number in 0..20 {
        put(&disk, number, &fresh("first-agent", &format!("secret {number} words")));
        put(&disk, 100 + number, &fresh("second-agent", &format!("other {number} words")));
    }
    // replaced by another's: the older record must go all the same
    put(&disk, 3, &fresh("second-agent", "other 3 again"));
    assert!(has(&bytes_of(directory.path()), "secret 3 words"));
    let purged = disk.purge(&agents("first-*"), now).await;
    assert_eq!(purged, Purged { memory: 0, disk: 20, failed: 0 });
    let check = async |disk: &Disk| {
        for number in 0..20 {
            assert_eq!(disk.holds(&key(number), now), number == 3, "{number}");
            assert!(disk.get(&key(100 + number)).await.is_some(), "{number}");
        }
        assert_eq!(disk.get(&key(3)).await.unwrap().body, "other 3 again");
        let bytes = bytes_of(directory.path());
        assert!(!has(&bytes, "secret") && !has(&bytes, "first-agent"));
        assert!(has(&bytes, "other 7 words"));
        assert_eq!(disk.figures().damaged, 0);
    };
    check(&disk).await;
    // without a close, as a crash would
    let disk = open(directory.path());
    check(&disk).await;
    // as it is shown, the first eight bytes
    let one = format!("{:?}", key(105));
    let filter = Filter { prefix: Some(one.into()), ..Filter::default() };
    assert_eq!(disk.purge(&filter, now).await.disk, 1);
    assert!(!disk.holds(&key(105), now) && !has(&bytes_of(directory.path()), "other 5 words"));
    assert_eq!(disk.purge(&Filter::default(), now).await.disk, 20);
    assert_eq!((disk.figures().records, files_of(directory.path()).len()), (0, 0));
    put(&disk, 1, &fresh("a", "again"));
    assert!(disk.get(&key(1)).await.is_some());
}

#[tokio::test]
async fn what_was_replaced_does_not_come_back_with_the_newer_one_gone() {
    let directory = tempfile::tempdir().unwrap();
    let disk = open(directory.path());
    put(&disk, 1, &fresh("first-agent", "replaced words"));
    put(&disk, 1, &fresh("second-agent", "newer words"));
    put(&disk, 2, &fresh("first-agent", "other words"));
    let purged = disk.purge(&agents("second-agent"), SystemTime::now()).await;
    assert_eq!((purged.disk, purged.failed), (1, 0), "what was purged, and not what went along");
    for disk in [disk, open(directory.path())] {
        assert_eq!(disk.get(&key(1)).await, None);
        assert_eq!(disk.get(&key(2)).await.unwrap().body, "other words");
    }
    assert!(!has(&bytes_of(directory.path()), "replaced words"));
}

#[tokio::test]
async fn a_purge_takes_what_waits_before_it_and_leaves_what_comes_after() {
    let directory = tempfile::tempdir().unwrap();
    let disk = open(directory.path());
    let now = SystemTime::now();
    for round in 0..50 {
        for number in 0..40 {
            disk.put(key(number), fresh("a", "before"));
        }
        let purge = disk.purge(&agents("a"), now);
        disk.put(key(1000 + round), fresh("a", "after"));
        assert_eq!(purge.await.failed, 0);
        let held = (0..40).filter(|number| disk.holds(&key(*number), now)).count();
        assert_eq!(held, 0, "{round}");
        until("what came after is there", || disk.holds(&key(1000 + round), now));
    }
    assert!(!has(&bytes_of(directory.path()), "before"));
}

#[tokio::test]
async fn the_directory_is_never_larger_than_the_budget() {
    const SMALL: u64 = 600_000;
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::open(directory.path().to_owned(), SMALL);
    let size = || {
        let sizes = files_of(directory.path()).into_iter().filter_map(|it| fs::metadata(it).ok());
        sizes.map(|it| it.len()).sum::<u64>()
    };
    for number in 0..400 {
        let body = "x".repeat(1 + (number * 7919 % 30_000) as usize);
        put(&disk, number, &fresh("a", &body));
        assert!(size() <= SMALL, "{number}: {}", size());
    }
    let figures = disk.figures();
    assert!(figures.bytes > SMALL / 2 && figures.bytes == size(), "{figures:?}");
    assert_eq!((figures.stores, figures.dropped), (400, 0));
    assert!(disk.get(&key(399)).await.is_some() && disk.get(&key(0)).await.is_none());
    // one that needs nearly all of it, and one that is too large
    put(&disk, 500, &fresh("a", &"y".repeat(590_000)));
    assert!(disk.get(&key(500)).await.is_some() && size() <= SMALL);
    put(&disk, 501, &fresh("a", &"z".repeat(700_000)));
    assert_eq!(disk.figures().dropped, 1);
    disk.set_budget(100_000);
    until("it is smaller", || size() <= 100_000);
    put(&disk, 502, &fresh("a", "small"));
    disk.set_budget(0);
    until("nothing is left", || size() == 0 && disk.figures().records == 0);
    assert!(disk.get(&key(502)).await.is_none());
    disk.put(key(503), fresh("a", "nothing is kept"));
    assert_eq!(disk.figures().waiting, 0);
}

#[tokio::test]
async fn many_small_records_do_not_fill_the_memory() {
    const SMALL: u64 = 400_000;
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::open(directory.path().to_owned(), SMALL);
    for number in 0..500 {
        put(&disk, number, &fresh("a", ""));
        assert!(disk.figures().records <= SMALL / 2048);
    }
    assert!(disk.figures().records > 0 && disk.get(&key(499)).await.is_some());
}

#[tokio::test]
async fn files_leave_when_all_in_them_is_out_of_date() {
    let directory = tempfile::tempdir().unwrap();
    let disk = open(directory.path());
    let mut short = Entry::clone(&fresh("a", "soon over"));
    short.ttl = Duration::from_millis(20);
    put(&disk, 1, &Arc::new(short));
    assert!(has(&bytes_of(directory.path()), "soon over"));
    until("the file is gone", || files_of(directory.path()).is_empty());
    assert_eq!(disk.figures().records, 0);
}

#[tokio::test]
async fn a_directory_that_vanishes_is_made_again() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("cache");
    let disk = open(&directory);
    put(&disk, 1, &fresh("a", "one"));
    fs::remove_dir_all(&directory).unwrap();
    put(&disk, 2, &fresh("a", "two"));
    assert_eq!(disk.get(&key(1)).await, None);
    assert_eq!(disk.get(&key(2)).await.unwrap().body, "two");
    assert!(disk.close(PATIENCE));
    assert_eq!(open(&directory).get(&key(2)).await.unwrap().body, "two");
}

#[tokio::test]
async fn a_place_that_is_no_directory_keeps_nothing_until_it_is_one() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("cache");
    fs::write(&directory, "a file").unwrap();
    let disk = Disk::open(directory.clone(), BUDGET);
    until("it is found out", || !disk.figures().healthy);
    let begun = Instant::now();
    put(&disk, 1, &fresh("a", "one"));
    assert_eq!((disk.figures().stores, disk.figures().dropped), (0, 1));
    assert_eq!(disk.get(&key(1)).await, None);
    assert!(disk.purge(&Filter::default(), SystemTime::now()).await.failed > 0);
    fs::remove_file(&directory).unwrap();
    until("it is tried again", || {
        put(&disk, 2, &fresh("a", "two"));
        disk.figures().healthy
    });
    assert!(begun.elapsed() > Duration::from_millis(500), "not at once");
    assert_eq!(disk.get(&key(2)).await.unwrap().body, "two");
}

#[tokio::test]
async fn who_puts_never_waits_and_what_is_too_much_is_dropped() {
    let directory = tempfile::tempdir().unwrap();
    // an owner that waits for another one takes nothing from the queue
    let (other, after) = std::sync::mpsc::sync_channel::<()>(0);
    let disk = Disk::open_after(directory.path().to_owned(), BUDGET, Some(after));
    let new = Arc::new(entry("a", vec![0; 1 << 20], SystemTime::now()));
    for number in 0..40 {
        disk.put(key(number), Arc::clone(&new));
    }
    let figures = disk.figures();
    assert!(figures.waiting <= 16 << 20 && figures.waiting > 15 << 20, "{figures:?}");
    assert_eq!((figures.dropped, figures.stores), (25, 0));
    drop(other);
    until("what waited is written", || disk.figures().stores == 15);
    assert!(disk.get(&key(14)).await.is_some() && disk.get(&key(15)).await.is_none());
}

#[tokio::test]
async fn many_read_at_once_while_others_write() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Arc::new(open(directory.path()));
    for number in 0..50 {
        put(&disk, number, &fresh("a", &number.to_string().repeat(200)));
    }
    let mut reads = tokio::task::JoinSet::new();
    for round in 0..500_u64 {
        let disk = Arc::clone(&disk);
        disk.put(key(100 + round), fresh("a", "more"));
        reads.spawn(async move { (round % 50, disk.get(&key(round % 50)).await) });
    }
    let mut found = 0;
    while let Some(read) = reads.join_next().await {
        let (number, read) = read.unwrap();
        // some may be too many
        if let Some(read) = read {
            assert_eq!(read.body, number.to_string().repeat(200));
            found += 1;
        }
    }
    assert!(found >= 256, "{found}");
    assert_eq!(disk.figures().damaged, 0);
}

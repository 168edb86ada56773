//! The files of a directory, and what is known of each.
//!
//! Records are appended to the newest one; when that is long enough the next is begun, and when the
//! budget is spent the oldest is deleted. There is no compaction: an answer lives as long as its
//! file. The files together are never longer than the budget, but for what a failed write left.
use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use super::Shared;
use super::index::Place;
use super::record::{self, millis};
use super::segment::{self, HEADER, Segment};
use crate::cache::{Entry, Filter, Key, Purged};

/// Files that a budget is spread over, about.
const SPREAD: u64 = 16;
const SHORTEST: u64 = 64 << 10;
/// Offsets have 32 bits.
const LONGEST: u64 = 2 << 30;
/// The index takes some 90 bytes of memory for a record; so one takes this much of the budget at
/// least.
const LEAST: u64 = 2048;
/// What is kept of the room that a long record was put together in.
const SCRATCH: usize = 64 << 10;

pub(super) struct Files {
    shared: Arc<Shared>,
    /// Oldest first; the last one is written to.
    held: VecDeque<Held>,
    /// Whether it is known what an earlier process left.
    listed: bool,
    /// Files that could not be deleted.
    stuck: Vec<PathBuf>,
    next: u32,
    scratch: Vec<u8>,
}

/// A file.
struct Held {
    segment: Arc<Segment>,
    /// Where the last record ends; of one that was not looked through, where the file does.
    end: u64,
    records: u64,
    /// When the last of its records is out of date: milliseconds since 1970.
    until: u64,
    scanned: bool,
    /// Nothing is appended any more.
    sealed: bool,
}

impl Files {
    /// Knows of none before [`Files::list`].
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let (held, stuck, scratch) = (VecDeque::new(), Vec::new(), Vec::new());
        Self { shared, held, listed: false, stuck, next: 1, scratch }
    }

    pub(super) fn are_scanned(&self) -> bool {
        self.held.iter().all(|held| held.scanned)
    }

    /// When the first file can be deleted because all of it is out of date.
    pub(super) fn until(&self) -> Option<u64> {
        self.held.iter().map(|held| held.until).min()
    }

    /// Brings the figures up to date.
    pub(super) fn show(&self) {
        self.shared.bytes.store(self.bytes(), Relaxed);
        self.shared.scanned.store(self.listed && self.are_scanned(), Relaxed);
    }

    fn bytes(&self) -> u64 {
        self.held.iter().map(|held| held.end).sum()
    }

    /// Finds the files that an earlier process left. What only looks like one is deleted.
    pub(super) fn list(&mut self) -> io::Result<()> {
        let mut found = Vec::new();
        match fs::read_dir(&self.shared.directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            files => {
                for file in files? {
                    let path = file?.path();
                    found.extend(Segment::id(&path).map(|id| (id, path)));
                }
            }
        }
        found.sort();
        for (id, path) in found {
            self.next = id.saturating_add(1);
            if let Ok(Some((segment, end))) = Segment::open(path.clone(), id) {
                self.hold(segment, end, false);
                continue;
            }
            self.shared.damaged.fetch_add(1, Relaxed);
            self.delete(path);
        }
        self.listed = true;
        self.make_room(0);
        if self.shared.budget.load(Relaxed) == 0 {
            // only if it is empty
            let _ = fs::remove_dir(&self.shared.directory);
        }
        self.show();
        Ok(())
    }

    fn hold(&mut self, segment: Segment, end: u64, scanned: bool) {
        let segment = Arc::new(segment);
        self.shared.segments.write().insert(segment.id, Arc::clone(&segment));
        let held = Held { segment, end, records: 0, until: 0, scanned, sealed: false };
        self.held.push_back(held);
    }

    /// Looks through the newest file that was not looked through, if there is one.
    pub(super) fn scan(&mut self) {
        let Some(held) = self.held.iter_mut().rev().find(|held| !held.scanned) else { return };
        let (index, now) = (&self.shared.index, millis(SystemTime::now()));
        let (segment, len) = (Arc::clone(&held.segment), held.end);
        let walked = segment.walk(len, |offset, head| {
            let Some(live) = &head.live else { return };
            held.records += 1;
            held.until = held.until.max(live.expires());
            if now < live.expires() {
                index.put(live.key, place(&segment, offset, head.whole(), live.expires()));
            }
        });
        let whole = matches!(walked, Ok(end) if end == len);
        held.scanned = true;
        held.end = walked.as_ref().map_or(len, |end| *end);
        // where it cannot be read to its end or cut, what follows must not be written over
        held.sealed = !whole && (walked.is_err() || segment.cut(held.end).is_err());
        self.shared.damaged.fetch_add(u64::from(!whole), Relaxed);
        self.make_room(0);
        self.show();
    }

    /// Appends an answer. `false`: it is too large for this disk.
    pub(super) fn write(&mut self, key: &Key, entry: &Entry) -> io::Result<bool> {
        if !self.listed {
            self.list()?;
        }
        self.forget_vanished();
        let size = record::size(entry);
        let budget = self.shared.budget.load(Relaxed);
        if size + HEADER > budget.min(LONGEST) {
            return Ok(false);
        }
        self.make_room(size + HEADER);
        let most = (budget / SPREAD).clamp(SHORTEST, LONGEST);
        if !self.held.back().is_some_and(|held| held.takes(size, most)) {
            self.begin()?;
        }
        let Some(held) = self.held.back_mut() else { return Ok(false) };
        let written = held.segment.write(held.end, key, entry, &mut self.scratch);
        self.scratch.clear();
        self.scratch.shrink_to(SCRATCH);
        match written {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(error) => {
                held.sealed = true;
                // what stays is cut off at the next start
                let _ = held.segment.cut(held.end);
                return Err(error);
            }
        }
        let expires = record::expires(entry);
        self.shared.index.put(*key, place(&held.segment, held.end, size, expires));
        held.end += size;
        held.records += 1;
        held.until = held.until.max(expires);
        Ok(true)
    }

    /// Begins a new file, in a new directory if need be.
    fn begin(&mut self) -> io::Result<()> {
        let directory = &self.shared.directory;
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let id = self.next;
        self.next = id.checked_add(1).ok_or(ErrorKind::StorageFull)?;
        let segment = Segment::create(directory, id)?;
        self.hold(segment, HEADER, true);
        Ok(())
    }

    /// Deletes the oldest files until there is `room` for more bytes, and for one more record.
    pub(super) fn make_room(&mut self, room: u64) {
        let budget = self.shared.budget.load(Relaxed);
        let most = (budget / LEAST).max(1);
        let records = |held: &VecDeque<Held>| held.iter().map(|held| held.records).sum::<u64>();
        while !self.held.is_empty() && (self.bytes() + room > budget || records(&self.held) >= most)
        {
            self.drop_file(0);
        }
    }

    pub(super) fn drop_expired(&mut self) {
        let now = millis(SystemTime::now());
        let over = |held: &Held| held.scanned && held.until <= now;
        while let Some(at) = self.held.iter().position(over) {
            self.drop_file(at);
        }
    }

    /// What a person deleted is not there any more, though it could still be written to.
    fn forget_vanished(&mut self) {
        if self.held.back().is_some_and(|held| held.segment.is_gone()) {
            while let Some(at) = self.held.iter().position(|held| held.segment.is_gone()) {
                self.drop_file(at);
            }
        }
    }

    /// Deletes a file with all that is in it.
    fn drop_file(&mut self, at: usize) {
        let Some(held) = self.held.remove(at) else { return };
        let id = held.segment.id;
        self.shared.index.cut(id);
        self.shared.segments.write().remove(&id);
        self.delete(held.segment.path().to_owned());
    }

    fn delete(&mut self, path: PathBuf) {
        if let Err(error) = segment::delete(&path) {
            let file = path.display();
            tracing::warn!(%file, %error, "a file of the cache cannot be deleted");
            self.shared.failures.fetch_add(1, Relaxed);
            self.stuck.push(path);
        }
    }

    /// Takes out what is meant, and syncs it. Each file is read from its beginning: records that
    /// were replaced go as well, whoever left them; with the newer one gone they would come back.
    pub(super) fn purge(&mut self, filter: &Filter, now: SystemTime) -> Purged {
        let mut purged = Purged::default();
        if !self.listed && self.list().is_err() {
            purged.failed += 1;
        }
        // only then is it known which records were replaced
        while !self.are_scanned() {
            self.scan();
        }
        let files = self.held.len() + self.stuck.len();
        for at in (0..self.held.len()).rev() {
            if !self.purge_file(at, filter, now, &mut purged) {
                self.drop_file(at);
            }
        }
        self.stuck.retain(|path| segment::delete(path).is_err());
        purged.failed += self.stuck.len() as u64;
        let deleted = self.held.len() + self.stuck.len() < files;
        if deleted && sync(&self.shared.directory).is_err() {
            purged.failed += 1;
        }
        purged
    }

    /// Whether anything is left, and nothing but what was not meant.
    fn purge_file(&self, at: usize, filter: &Filter, now: SystemTime, all: &mut Purged) -> bool {
        let Held { segment, end, sealed, .. } = &self.held[at];
        let (mut meant, mut others) = (Vec::new(), 0);
        let index = &self.shared.index;
        let walked = segment.walk(*end, |offset, head| {
            let Some(live) = &head.live else { return };
            let stored = live.stored().unwrap_or(now);
            let age = now.duration_since(stored).unwrap_or_default();
            if filter.takes(&live.key, &live.author(), age) {
                index.remove_record(&live.key, segment.id, offset as u32);
                all.disk += 1;
            } else if index.names(&live.key, segment.id, offset as u32) {
                others += 1;
                return;
            }
            meant.push(segment.meant(offset, head));
        });
        // behind its end may be what a failed write left
        let ends = !sealed || segment.cut(*end).is_ok();
        let erased = ends && (meant.is_empty() || segment.erase(&meant).is_ok());
        // of what stands behind a damaged head nothing is known
        erased && others > 0 && walked.is_ok_and(|whole| whole == *end)
    }

    /// Deletes all files, and the directory.
    pub(super) fn delete_all(&mut self) -> io::Result<()> {
        while !self.held.is_empty() {
            self.drop_file(0);
        }
        self.show();
        match fs::remove_dir_all(&self.shared.directory) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Held {
    /// Whether a record of this size is appended here; a file has one at least.
    fn takes(&self, size: u64, most: u64) -> bool {
        self.scanned && !self.sealed && (self.end == HEADER || self.end + size <= most)
    }
}

fn place(segment: &Segment, offset: u64, len: u64, expires: u64) -> Place {
    Place { segment: segment.id, offset: offset as u32, len: len as u32, expires }
}

/// Makes sure that what was deleted stays so.
fn sync(directory: &Path) -> io::Result<()> {
    match File::open(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        opened => opened?.sync_all(),
    }
}

//! The open database: read by many, written by one, opened again after a full disk.
//!
//! redb does nothing more after the first error of its file; a new handle begins where the last
//! commit left it. That is right after a write that found no room, for nothing that counts was
//! written; it is not after a sync that failed, for what the disk then holds is not known. The
//! [`Watched`] file tells the two apart.
use std::io::{self, ErrorKind};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};

use parking_lot::RwLock;
use redb::{BackendError, Builder, Database, DatabaseError, ReadableDatabase as _};
use redb::{StorageBackend, StorageError};

use super::queue::Batch;
use super::table::after;
use super::{StoreError, Table};

/// For pages that were read or are to be written; redb's own default is 1 GiB.
const CACHE: usize = 4 << 20;

/// Opens the database once more.
pub(super) type Opener = Box<dyn Fn() -> Result<Opened, StoreError> + Send + Sync>;

pub(super) struct Opened {
    pub(super) database: Database,
    pub(super) trouble: Arc<Trouble>,
}

pub(super) struct Base {
    opener: Opener,
    /// Readers hold it as long as they read.
    open: RwLock<Option<Opened>>,
    /// Bytes that commits took out since the disk was full, less what they put in. The file keeps
    /// what they leave for itself: the disk gets little of it back.
    spare: AtomicU64,
}

/// Why a commit was not made.
#[derive(Debug)]
pub(super) enum Fault {
    /// Nothing of it counts; it can be made again.
    NoSpace,
    Broken(String),
}

/// A key and its value, for as long as they are looked at; `false` ends the look.
pub(super) type Each<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> bool;

impl Base {
    pub(super) fn new(opener: Opener) -> Result<Self, StoreError> {
        let open = RwLock::new(Some(opener()?));
        Ok(Self { opener, open, spare: AtomicU64::new(0) })
    }

    fn read<T>(
        &self,
        table: Table,
        look: impl FnOnce(&redb::ReadOnlyTable<&'static [u8], &'static [u8]>) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let open = self.open.read();
        let open = open.as_ref().ok_or(StoreError::Closed)?;
        let read = || -> Result<T, redb::Error> {
            look(&open.database.begin_read()?.open_table(table.definition())?)
        };
        read().map_err(|source| StoreError::Read { table: table.name(), source: Box::new(source) })
    }

    pub(super) fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(table, |open| Ok(open.get(key)?.map(|value| value.value().to_vec())))
    }

    /// All rows whose key begins with `prefix`, from `from` on, in order.
    pub(super) fn each(
        &self,
        table: Table,
        prefix: &[u8],
        from: &[u8],
        each: Each<'_>,
    ) -> Result<(), StoreError> {
        let until = after(prefix);
        let until = until.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        self.read(table, |open| {
            for row in open.range::<&[u8]>((Bound::Included(from.max(prefix)), until))? {
                let (key, value) = row?;
                if !each(key.value(), value.value()) {
                    break;
                }
            }
            Ok(())
        })
    }

    /// All of the batch or nothing; opens the database before where it is not, for readers too.
    /// Says whether there was anything to write.
    pub(super) fn commit(&self, batch: &Batch) -> Result<bool, Fault> {
        if self.open.read().is_none() {
            let again = (self.opener)().map_err(|error| fault(&error))?;
            *self.open.write() = Some(again);
        }
        if batch.is_empty() {
            return Ok(false);
        }
        let error = {
            let open = self.open.read();
            let Some(open) = open.as_ref() else { return Err(Fault::NoSpace) };
            match write(&open.database, batch) {
                Ok((freed, taken)) => {
                    let spare = self.spare.load(Relaxed) + freed as u64;
                    self.spare.store(spare.saturating_sub(taken as u64), Relaxed);
                    return Ok(true);
                }
                Err(error) => open.trouble.judge(&error),
            }
        };
        self.spare.store(0, Relaxed);
        // no reader holds it now, and the next commit opens it anew
        self.open.write().take();
        Err(error)
    }

    /// How many bytes are free in the file, of those that were taken when the disk was full last.
    pub(super) fn spare(&self) -> u64 {
        self.spare.load(Relaxed)
    }

    /// Lets go of the file.
    pub(super) fn close(&self) {
        let open = self.open.write().take();
        if let Some(Err(error)) = open.map(|open| open.database.close()) {
            tracing::warn!(%error, "the store was not closed well");
        }
    }
}

fn fault(error: &StoreError) -> Fault {
    match error {
        StoreError::Io { source, .. } if is_no_space(source) => Fault::NoSpace,
        other => Fault::Broken(other.to_string()),
    }
}

fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// How many bytes it has freed, and how many it has taken.
fn write(database: &Database, batch: &Batch) -> Result<(usize, usize), redb::Error> {
    let (mut freed, mut taken) = (0, 0);
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    for (at, table) in Table::ALL.into_iter().enumerate() {
        let (prefixes, changes) = (&batch.prefixes[at], &batch.changes[at]);
        let admitted = || batch.admissions.iter().flat_map(|one| &one.rows);
        let admitted = || admitted().filter(|row| row.table == table);
        if prefixes.is_empty() && changes.is_empty() && admitted().next().is_none() {
            continue;
        }
        let mut open = transaction.open_table(table.definition())?;
        for prefix in prefixes {
            let until = after(prefix);
            let until = until.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            open.retain_in::<&[u8], _>((Bound::Included(&**prefix), until), |_, value| {
                freed += value.len();
                false
            })?;
        }
        for (key, value) in changes {
            let before = match value {
                Some(value) => open.insert(&**key, value.as_slice())?,
                None => open.remove(&**key)?,
            };
            freed += before.map_or(0, |before| before.value().len());
            taken += value.as_ref().map_or(0, Vec::len);
        }
        for row in admitted() {
            open.insert(&*row.key, &*row.value)?;
            taken += row.value.len();
        }
    }
    transaction.commit()?;
    Ok((freed, taken))
}

pub(super) fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE);
    builder
}

/// Opens what `backend` holds. For want of room it fails with [`ErrorKind::StorageFull`], for
/// anything else with another.
pub(super) fn open(backend: impl StorageBackend, check: bool) -> Result<Opened, DatabaseError> {
    let trouble = Arc::new(Trouble::default());
    let watched = Watched { file: backend, trouble: Arc::clone(&trouble) };
    let opened = builder().set_check_integrity_on_open(check).create_with_backend(watched);
    let storage = |error| DatabaseError::Storage(StorageError::Io(error));
    match opened {
        Ok(database) => Ok(Opened { database, trouble }),
        Err(_) if trouble.is_full() => Err(storage(ErrorKind::StorageFull.into())),
        Err(DatabaseError::Storage(StorageError::Io(error))) if is_no_space(&error) => {
            Err(storage(io::Error::other(error)))
        }
        Err(error) => Err(error),
    }
}

/// What has gone wrong with one handle of the file.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// A write found no room.
    full: AtomicBool,
    /// Anything else, also a sync that found no room.
    broken: AtomicBool,
}

impl Trouble {
    /// It is for want of room, and for nothing else.
    fn is_full(&self) -> bool {
        self.full.load(Relaxed) && !self.broken.load(Relaxed)
    }

    fn judge(&self, error: &redb::Error) -> Fault {
        if self.is_full() {
            return Fault::NoSpace;
        }
        Fault::Broken(error.to_string())
    }

    fn wrote<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            let which = if is_no_space(error) { &self.full } else { &self.broken };
            which.store(true, Relaxed);
        }
        result
    }

    fn synced<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if result.is_err() {
            self.broken.store(true, Relaxed);
        }
        result
    }
}

/// A file, and what went wrong with it.
#[derive(Debug)]
struct Watched<F> {
    file: F,
    trouble: Arc<Trouble>,
}

impl<F: StorageBackend> StorageBackend for Watched<F> {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.trouble.synced(self.file.read(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.trouble.wrote(self.file.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.trouble.synced(self.file.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.trouble.wrote(self.file.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, from: Bound<u64>, to: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(from, to)
    }

    fn try_lock_shared_range(
        &self,
        from: Bound<u64>,
        to: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(from, to)
    }

    fn lock_range(&self, from: Bound<u64>, to: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(from, to)
    }

    fn lock_shared_range(&self, from: Bound<u64>, to: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(from, to)
    }

    fn unlock_range(&self, from: Bound<u64>, to: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(from, to)
    }

    fn query_lock_range(&self, from: Bound<u64>, to: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(from, to)
    }
}

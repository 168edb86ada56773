//! A disk for tests: in memory, with a history of its writes, and faults to order.
use redb::StorageBackend;

use super::super::ballast::{BALLAST, Ballast};
use super::super::base::{self, Base};
use super::*;

/// Of the ballast.
const SIZE: u64 = 1 << 20;

/// What goes wrong from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Every write, beginning with the n-th from now.
    Writes(usize),
    /// Every sync; some file systems say only then that there is no room.
    Syncs,
    /// As [`Fault::Writes`], for there is no room, until the ballast is let go.
    Space(usize),
    /// As before, and the ballast's room is not enough.
    NoSpaceAtAll,
}

#[derive(Debug, Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Length(u64),
}

#[derive(Debug, Default)]
struct Platter {
    shown: Vec<u8>,
    synced: Vec<u8>,
    /// What it held at the mark, and every write since.
    history: Option<(Vec<u8>, Vec<Change>)>,
    fault: Option<Fault>,
    free: u64,
    ballast: PathBuf,
}

/// A file in memory: as the system shows it, and as a power cut would leave it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<Platter>>);

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(at, data) => {
            bytes[*at as usize..][..data.len()].copy_from_slice(data);
        }
        Change::Length(length) => bytes.resize(*length as usize, 0),
    }
}

impl Disk {
    fn holding(bytes: Vec<u8>, ballast: PathBuf) -> Self {
        let (shown, synced) = (bytes.clone(), bytes);
        let free = u64::MAX;
        Self(Arc::new(Mutex::new(Platter { shown, synced, free, ballast, ..Platter::default() })))
    }

    /// With the tables of a new store.
    pub(crate) fn new(directory: &Path) -> Self {
        assert!(Store::open(directory).unwrap().close(PATIENCE));
        let bytes = bytes_of(&directory.join(DATABASE)).unwrap();
        Self::holding(bytes, directory.join(BALLAST))
    }

    pub(crate) fn store(&self, directory: &Path) -> Store {
        self.try_store(directory).unwrap()
    }

    pub(crate) fn try_store(&self, directory: &Path) -> Result<Store, StoreError> {
        let (file, at) = (self.clone(), directory.to_owned());
        let opener = move || {
            base::open(file.clone(), false)
                .map_err(|error| directory::unopened(&at, &at.join(DATABASE), error))
        };
        let file = self.clone();
        let free = move |_: &Path| Ok(file.0.lock().free);
        let ballast = Ballast::with(directory, SIZE, Box::new(free));
        Store::start(directory, Base::new(Box::new(opener))?, ballast)
    }

    pub(crate) fn fail(&self, fault: Fault) {
        let mut platter = self.0.lock();
        platter.fault = Some(fault);
        if matches!(fault, Fault::Space(_) | Fault::NoSpaceAtAll) {
            platter.free = 0;
        }
    }

    /// All is well again, with so much room as the store wants.
    pub(crate) fn mend(&self) {
        let mut platter = self.0.lock();
        (platter.fault, platter.free) = (None, 2 * SIZE);
    }

    /// What the power cut leaves.
    pub(crate) fn after_power_cut(&self) -> Self {
        let platter = self.0.lock();
        Self::holding(platter.synced.clone(), platter.ballast.clone())
    }

    /// From here on every write is remembered.
    pub(crate) fn mark(&self) {
        let mut platter = self.0.lock();
        platter.history = Some((platter.shown.clone(), Vec::new()));
    }

    /// What a power cut leaves that came after so many of the writes since the mark, and so many
    /// bytes of the next. It leaves what was synced, and a prefix of what was not.
    pub(crate) fn cut(&self, writes: usize, bytes: usize) -> Self {
        let platter = self.0.lock();
        let (left, changes) = platter.history.as_ref().unwrap();
        let mut left = left.clone();
        changes[..writes].iter().for_each(|change| apply(&mut left, change));
        if let Some(Change::Write(at, data)) = changes.get(writes) {
            apply(&mut left, &Change::Write(*at, data[..bytes.min(data.len())].to_vec()));
        }
        Self::holding(left, platter.ballast.clone())
    }

    /// How long each of the writes since the mark is.
    pub(crate) fn writes(&self) -> Vec<usize> {
        let length = |change: &Change| match change {
            Change::Write(_, data) => data.len(),
            Change::Length(_) => 0,
        };
        self.0.lock().history.iter().flat_map(|(_, changes)| changes).map(length).collect()
    }

    fn change(&self, change: Change) -> io::Result<()> {
        let mut platter = self.0.lock();
        let held_back = platter.ballast.exists();
        let fails = match &mut platter.fault {
            Some(Fault::Writes(0)) => Some(io::ErrorKind::Other),
            Some(Fault::NoSpaceAtAll) => Some(io::ErrorKind::StorageFull),
            Some(Fault::Space(0)) => held_back.then_some(io::ErrorKind::StorageFull),
            Some(Fault::Writes(left) | Fault::Space(left)) => {
                *left -= 1;
                None
            }
            Some(Fault::Syncs) | None => None,
        };
        if let Some(kind) = fails {
            return Err(kind.into());
        }
        apply(&mut platter.shown, &change);
        if let Some((_, changes)) = &mut platter.history {
            changes.push(change);
        }
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().shown.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = self.0.lock();
        let part = platter.shown.get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::Length(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.0.lock();
        if platter.fault == Some(Fault::Syncs) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let Platter { shown, synced, .. } = &mut *platter;
        synced.clone_from(shown);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Change::Write(offset, data.to_vec()))
    }
}

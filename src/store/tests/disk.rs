//! A disk that loses what was not synced, and one that breaks.
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::channel;

use redb::StorageBackend;

use super::*;

/// A file in memory: as the system shows it, and as a power cut would leave it.
#[derive(Debug, Clone, Default)]
struct Disk {
    shown: Arc<Mutex<Vec<u8>>>,
    synced: Arc<Mutex<Vec<u8>>>,
    breaks: Arc<AtomicBool>,
}

impl Disk {
    fn holding(bytes: Vec<u8>) -> Self {
        let synced = Arc::new(Mutex::new(bytes.clone()));
        Self { shown: Arc::new(Mutex::new(bytes)), synced, breaks: Arc::default() }
    }

    /// With the tables of a new store.
    fn new(directory: &Path) -> Self {
        assert!(Store::open(directory).unwrap().close(PATIENCE));
        Self::holding(bytes_of(&directory.join(DATABASE)).unwrap())
    }

    fn store(&self, directory: &Path) -> Store {
        let database = redb::Builder::new().create_with_backend(self.clone()).unwrap();
        Store::start(directory, read_pepper(directory).unwrap(), database).unwrap()
    }

    /// What the power cut leaves.
    fn after_power_cut(&self) -> Self {
        Self::holding(self.synced.lock().clone())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.shown.lock().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let shown = self.shown.lock();
        let part = shown.get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.shown.lock().resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.breaks.load(Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.synced.lock().clone_from(&self.shown.lock());
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.shown.lock()[offset as usize..][..data.len()].copy_from_slice(data);
        Ok(())
    }
}

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
    disk.breaks.store(true, Relaxed);
    assert_eq!(written(&store, op()), Err(Failed::Broken));
    assert!(!store.healthy());
    // the disk is well again, but what it holds is not known
    disk.breaks.store(false, Relaxed);
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

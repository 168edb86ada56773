//! What outlives the process: budgets and keys, between the store and those who use them.
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::agents::{self, StoredKey};
use crate::limits::Limits;
use crate::limits::book::{Saved, SavedKey, Unsaved};
use crate::store::{Failed, KeyRecord, Op, Store, StoreError, Table};

/// A budget that was last written down so long ago is over, whatever its period; in seconds.
const FORGOTTEN: i64 = 40 * 24 * 3600;
/// Budgets of one write, and of those under way together: the store takes more than twice that.
const CHUNK: usize = 1000;
const ROOM: usize = 4000;

/// Budgets go on where they stood, and are written down from now on.
pub fn budgets(store: &Arc<Store>, limits: &Arc<Limits>) -> Result<(), StoreError> {
    let now = limits.now().wall;
    let mut kept = Vec::new();
    for (key, value) in store.scan(Table::Budgets)? {
        match read(&key, &value) {
            Some((name, saved)) if now - saved.wall < FORGOTTEN => kept.push((name, saved)),
            _ => store.delete(Table::Budgets, &key),
        }
    }
    limits.with(|book, _| book.restore(kept));
    let keeper = Keeper::new(store, limits);
    limits.keep_with(Box::new(move |unsaved| keeper.write(unsaved)));
    Ok(())
}

/// Hands budgets to the store, in writes that it takes whatever else waits there.
struct Keeper {
    store: Arc<Store>,
    limits: Weak<Limits>,
    line: Mutex<Line>,
    /// Of itself, for what the writer calls.
    own: Weak<Self>,
}

/// What is to be written; the urgent ones, for which calls wait, at the end.
#[derive(Default)]
struct Line {
    unsaved: VecDeque<Unsaved>,
    under_way: usize,
    /// The store took the last ones back: until it is asked again, or has written something.
    refused: bool,
}

impl Keeper {
    fn new(store: &Arc<Store>, limits: &Arc<Limits>) -> Arc<Self> {
        Arc::new_cyclic(|own| Self {
            store: Arc::clone(store),
            limits: Arc::downgrade(limits),
            line: Mutex::default(),
            own: Weak::clone(own),
        })
    }

    fn write(&self, unsaved: Vec<Unsaved>) {
        let mut line = self.line.lock();
        for one in unsaved {
            if one.urgent { line.unsaved.push_back(one) } else { line.unsaved.push_front(one) }
        }
        line.refused = false;
        drop(line);
        self.go_on();
    }

    /// Writes what there is room for.
    fn go_on(&self) {
        while let Some(unsaved) = self.next() {
            let write = |one: &Unsaved| Op::put(Table::Budgets, one.key, line(&one.saved));
            let ops = unsaved.iter().map(write).collect();
            let own = Weak::clone(&self.own);
            self.store.write(ops, move |done| {
                if let Some(own) = own.upgrade() {
                    own.written(unsaved, done);
                }
            });
        }
    }

    fn next(&self) -> Option<Vec<Unsaved>> {
        let mut line = self.line.lock();
        if line.unsaved.is_empty() || line.under_way >= ROOM || line.refused {
            return None;
        }
        let count = line.unsaved.len().min(CHUNK);
        let rest = line.unsaved.len() - count;
        line.under_way += count;
        Some(line.unsaved.split_off(rest).into())
    }

    fn written(&self, unsaved: Vec<Unsaved>, done: Result<(), Failed>) {
        let mut line = self.line.lock();
        line.under_way = line.under_way.saturating_sub(unsaved.len());
        if done == Err(Failed::Full) {
            // others fill the store: again with the next budgets or the next sweep, and not at once,
            // for this may be the very thread that makes room there
            line.unsaved.extend(unsaved);
            line.refused = true;
            return;
        }
        line.refused = false;
        drop(line);
        let Some(limits) = self.limits.upgrade() else { return };
        match done {
            Ok(()) => {
                limits.saved(&unsaved);
                self.go_on();
            }
            Err(error) => {
                tracing::error!(%error, "budgets cannot be written down, and are kept in memory only");
                limits.lose_store();
            }
        }
    }
}

/// Level, end of the period, and when it was written; each eight bytes.
fn line(saved: &Saved) -> Vec<u8> {
    let Saved { level, resets, wall } = saved;
    [level, resets, wall].into_iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn read(key: &[u8], value: &[u8]) -> Option<(SavedKey, Saved)> {
    let number = |at: usize| Some(i64::from_le_bytes(value.get(at..at + 8)?.try_into().ok()?));
    let saved = Saved { level: number(0)?, resets: number(8)?, wall: number(16)? };
    Some((key.try_into().ok()?, saved))
}

/// The keys of the store are known, and follow it at once.
pub fn keys(store: &Store, agents: &Arc<agents::Shared>) {
    let agents = Arc::clone(agents);
    store.keys().watch(move |records| {
        agents.replace_stored(records.iter().map(stored).collect());
    });
}

fn stored(record: &KeyRecord) -> StoredKey {
    let texts = |all: &[String]| all.iter().map(|one| Arc::from(one.as_str())).collect();
    StoredKey {
        id: Arc::from(record.id.as_str()),
        hmac: record.hmac.0,
        agent: Some(Arc::from(record.agent.as_str())),
        team: record.team.as_deref().map(Arc::from),
        expires: record.expires,
        models: texts(&record.models),
        routes: texts(&record.routes),
        revoked: record.revoked.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unsaved(count: usize) -> Vec<Unsaved> {
        let one = |bucket: usize| {
            let mut key = [0; 16];
            key[..8].copy_from_slice(&bucket.to_le_bytes());
            let saved = Saved { level: 1, resets: 0, wall: 0 };
            Unsaved { key, saved, bucket, urgent: bucket.is_multiple_of(7) }
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn more_budgets_than_the_store_takes_at_once_are_all_written() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(directory.path()).unwrap());
        let limits = Limits::new();
        budgets(&store, &limits).unwrap();
        let keeper = Keeper::new(&store, &limits);
        keeper.write(unsaved(25_000));
        let from = std::time::Instant::now();
        while store.scan(Table::Budgets).unwrap().len() < 25_000 {
            assert!(from.elapsed().as_secs() < 20, "{:?}", store.figures());
        }
        assert!(store.healthy() && store.figures().refused == 0);
        assert_eq!(keeper.line.lock().unsaved.len(), 0);
    }

    #[test]
    fn a_store_that_others_fill_is_asked_again() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(directory.path()).unwrap());
        let limits = Limits::new();
        let keeper = Keeper::new(&store, &limits);
        let one = unsaved(1);
        keeper.line.lock().under_way = 1;
        keeper.written(one, Err(Failed::Full));
        let line = keeper.line.lock();
        assert_eq!((line.unsaved.len(), line.under_way), (1, 0));
        drop(line);
        keeper.write(unsaved(3).split_off(1));
        assert!(store.flush(std::time::Duration::from_secs(5)));
        assert_eq!(store.scan(Table::Budgets).unwrap().len(), 3);
    }

    /// The store's writer stands in a callback until it is let go, as on a disk that stalls.
    fn stalled(store: &Store) -> std::sync::mpsc::Sender<()> {
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let (stands, stood) = std::sync::mpsc::channel();
        store.write(vec![Op::put(Table::Tasks, [0; 16], Vec::new())], move |_| {
            stands.send(()).unwrap();
            let _ = wait.recv();
        });
        stood.recv().unwrap();
        go
    }

    #[test]
    fn a_store_without_room_is_asked_once_and_not_without_end() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(directory.path()).unwrap());
        let limits = Limits::new();
        let keeper = Keeper::new(&store, &limits);
        let go = stalled(&store);
        let rows = (0..10_000_u64).map(|row| Op::put(Table::Tasks, row.to_le_bytes(), Vec::new()));
        store.write(rows.collect(), |_| ());
        // comes back: the calls of this thread go on
        keeper.write(unsaved(3));
        assert_eq!(keeper.line.lock().unsaved.len(), 3);
        assert_eq!(store.figures().refused, 3);
        keeper.write(Vec::new());
        assert_eq!(store.figures().refused, 6, "asked again, once");
        go.send(()).unwrap();
        assert!(store.flush(std::time::Duration::from_secs(5)));
        keeper.write(Vec::new());
        assert!(store.flush(std::time::Duration::from_secs(5)));
        assert_eq!(store.scan(Table::Budgets).unwrap().len(), 3);
    }

    #[test]
    fn a_budget_reads_as_it_was_written() {
        let saved = Saved { level: -3, resets: 1_800_000_000, wall: i64::MAX };
        assert_eq!(read(&[7; 16], &line(&saved)), Some(([7; 16], saved)));
        assert_eq!(read(&[7; 15], &line(&saved)), None);
        assert_eq!(read(&[7; 16], &line(&saved)[..23]), None);
    }
}

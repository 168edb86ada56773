//! The store: what was acked is there after a start, whatever came between; a file that was cut or
//! changed is refused, or tells what some commit had made of it, pairs whole.
//!
//! Input: what happens, byte by byte.
#![no_main]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use tidegate::store::{DATABASE, Op, Store, Table};
use tidegate_fuzz::{Dice, scratch};

const PATIENCE: Duration = Duration::from_secs(20);
const MOST_STEPS: usize = 8;

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

fuzz_target!(|input: &[u8]| {
    let directory = scratch();
    let mut dice = Dice::new(input);
    let mut store = open(directory.path());
    let mut rows = Rows::new();
    // what each commit left
    let mut states = vec![rows.clone()];
    for _ in 0..MOST_STEPS {
        if dice.is_empty() {
            break;
        }
        match dice.byte() % 8 {
            0..=2 => {
                let ops = ops(&mut dice, &mut rows);
                assert!(written(&store, ops), "a write is not kept");
            }
            3 | 4 => {
                for op in ops(&mut dice, &mut rows) {
                    match op {
                        Op::Put { table, key, value } => store.put(table, &key, &value),
                        Op::Delete { table, key } => store.delete(table, &key),
                        Op::DeletePrefix { .. } => unreachable!("it is written alone"),
                    }
                }
                assert!(store.flush(PATIENCE));
            }
            5 => {
                assert!(store.close(PATIENCE));
                drop(store);
                store = open(directory.path());
            }
            6 => {
                let prefix = key(&mut dice);
                rows.retain(|key, _| !key.starts_with(&prefix));
                let gone = vec![Op::delete_prefix(Table::Budgets, prefix)];
                assert!(written(&store, gone), "a write is not kept");
            }
            _ => damaged(directory.path(), &mut dice, &states),
        }
        assert_eq!(scanned(&store), Some(rows.clone()), "before a start");
        states.push(rows.clone());
    }
    assert!(store.close(PATIENCE));
    drop(store);
    assert_eq!(scanned(&open(directory.path())), Some(rows), "after a start");
});

fn open(directory: &Path) -> Store {
    Store::open(directory).expect("a store that nobody has touched")
}

fn scanned(store: &Store) -> Option<Rows> {
    Some(store.scan(Table::Budgets).ok()?.into_iter().collect())
}

/// Changes, done to the model as well.
fn ops(dice: &mut Dice<'_>, rows: &mut Rows) -> Vec<Op> {
    let mut ops: BTreeMap<Vec<u8>, Op> = BTreeMap::new();
    for _ in 0..=dice.below(4) {
        let key = key(dice);
        let op = if let Some(len) = dice.maybe(3_000) {
            let value = vec![dice.byte(); len as usize];
            rows.insert(key.clone(), value.clone());
            Op::put(Table::Budgets, key.clone(), value)
        } else {
            rows.remove(&key);
            Op::delete(Table::Budgets, key.clone())
        };
        // one change a key: which of two wins within one write is not said
        ops.insert(key, op);
    }
    ops.into_values().collect()
}

/// Each begins with all that are shorter.
fn key(dice: &mut Dice<'_>) -> Vec<u8> {
    vec![b'k'; dice.below(40) as usize + 1]
}

fn written(store: &Store, ops: Vec<Op>) -> bool {
    let (say, said) = sync_channel(1);
    store.write(ops, move |result| {
        let _ = say.send(result.is_ok());
    });
    said.recv_timeout(PATIENCE).expect("the writer says what became of it")
}

/// The files as a kill leaves them now, and one of the database's bytes changed, or its end cut off.
fn damaged(directory: &Path, dice: &mut Dice<'_>, states: &[Rows]) {
    let copy = scratch();
    for file in fs::read_dir(directory).expect("the directory").flatten() {
        // empty room, which a start makes again
        if file.file_name() == "ballast" {
            continue;
        }
        fs::copy(file.path(), copy.path().join(file.file_name())).expect("a copy");
    }
    let path = copy.path().join(DATABASE);
    #[allow(clippy::disallowed_methods)]
    let mut bytes = fs::read(&path).expect("the database");
    let (how, at) =
        (dice.byte() % 4, usize::from(dice.byte()) << 16 | dice.below(1 << 16) as usize);
    let at = at % bytes.len();
    match how {
        0 => {}
        1 => bytes.truncate(at),
        _ => bytes[at] ^= dice.byte(),
    }
    fs::write(&path, &bytes).expect("a write");
    match Store::open(copy.path()) {
        Ok(store) => {
            if let Some(rows) = scanned(&store) {
                assert!(states.contains(&rows), "what no commit has made");
                assert!(how != 0 || states.last() == Some(&rows), "acked, and not there");
            }
            assert!(how != 0 || store.close(PATIENCE));
        }
        Err(error) => assert!(how != 0, "after a kill: {error}"),
    }
}

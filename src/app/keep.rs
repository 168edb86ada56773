//! What outlives the process: budgets and keys, between the store and those who use them.
use std::sync::{Arc, Weak};

use crate::agents::{self, StoredKey};
use crate::limits::Limits;
use crate::limits::book::{Saved, SavedKey, Unsaved};
use crate::store::{KeyRecord, Op, Store, StoreError, Table};

/// A budget that was last written down so long ago is over, whatever its period; in seconds.
const FORGOTTEN: i64 = 40 * 24 * 3600;

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
    let (to, of) = (Arc::clone(store), Arc::downgrade(limits));
    limits.keep_with(Box::new(move |unsaved| write(&to, &of, unsaved)));
    Ok(())
}

fn write(store: &Store, limits: &Weak<Limits>, unsaved: Vec<Unsaved>) {
    let ops =
        unsaved.iter().map(|one| Op::put(Table::Budgets, one.key, line(&one.saved))).collect();
    let limits = Weak::clone(limits);
    store.write(ops, move |done| {
        let Some(limits) = limits.upgrade() else { return };
        match done {
            Ok(()) => limits.saved(&unsaved),
            Err(error) => {
                tracing::error!(%error, "budgets cannot be written down, and are kept in memory only");
                limits.lose_store();
            }
        }
    });
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

    #[test]
    fn a_budget_reads_as_it_was_written() {
        let saved = Saved { level: -3, resets: 1_800_000_000, wall: i64::MAX };
        assert_eq!(read(&[7; 16], &line(&saved)), Some(([7; 16], saved)));
        assert_eq!(read(&[7; 15], &line(&saved)), None);
        assert_eq!(read(&[7; 16], &line(&saved)[..23]), None);
    }
}

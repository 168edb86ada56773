//! The tidegate keys that are known, and what a presented credential is worth.
//!
//! Of a key only a hash is kept: SHA-256 or HMAC-SHA256 under a pepper. A credential is hashed, its
//! place in the table found by a keyed hash of that hash, and the whole hash compared in constant
//! time: with a decoy where there is none, so that a known key and an unknown one take the same
//! steps. The keys of the policy live as long as the policy; those of the store are swapped under
//! running calls, so a new or a revoked one counts from the next call on.
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::hmac;

use super::hash::{id, keyed, sha256};
use super::presented::{Place, Places, Presented, is_ours};
use super::secret::HashKey;
use super::{Shared, Unknown};
use crate::config::{AgentKey, KeyHash, Secret};
use crate::identity::{Fingerprint, Grant, Name};

/// A key of the embedded store.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredKey {
    pub id: Name,
    /// HMAC-SHA256 under the store's pepper.
    pub hmac: [u8; 32],
    pub agent: Option<Name>,
    pub team: Option<Name>,
    /// Unix seconds.
    pub expires: Option<i64>,
    pub models: Vec<Arc<str>>,
    pub routes: Vec<Arc<str>>,
    pub revoked: bool,
}

/// Without the hash.
impl fmt::Debug for StoredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredKey")
            .field("id", &self.id)
            .field("agent", &self.agent)
            .field("team", &self.team)
            .field("expires", &self.expires)
            .field("revoked", &self.revoked)
            .finish_non_exhaustive()
    }
}

/// One key, however it came to be known.
pub(super) struct Key {
    hash: [u8; 32],
    pub agent: Option<Name>,
    pub team: Option<Name>,
    expires: Option<i64>,
    revoked: bool,
    pub grant: Arc<Grant>,
}

/// Keys by one kind of hash.
pub(super) struct Table {
    /// By [`HashKey::place`] of their hash.
    keys: HashMap<[u8; 32], Arc<Key>>,
    /// Compared with where no key stands.
    decoy: Arc<Key>,
    /// Agents and teams that the keys name.
    names: HashSet<Name>,
}

/// The keys of the store; they outlive a policy.
pub(super) struct Stored {
    /// `None` without a store: then there are no keys.
    pepper: Option<hmac::Key>,
    table: ArcSwap<Table>,
}

/// The keys of one policy, with those of the store.
pub struct Keyring {
    by_sha256: Table,
    by_hmac: Table,
    pepper: Option<hmac::Key>,
    shared: Arc<Shared>,
}

/// What a request's credentials are worth.
#[derive(Default)]
pub(super) struct Judged {
    /// A valid tidegate key.
    pub key: Option<Arc<Key>>,
    /// Where tidegate keys stood.
    pub ours: Places,
    /// Of the tidegate key, or else of the first credential.
    pub credential: Option<Fingerprint>,
}

impl Keyring {
    pub(super) fn new(keys: &[AgentKey], pepper: Option<&Secret>, shared: &Arc<Shared>) -> Self {
        let table = |of: fn(&KeyHash) -> Option<[u8; 32]>| {
            let chosen = keys.iter().filter_map(|key| Some(Key::of_policy(key, of(&key.hash)?)));
            Table::new(&shared.hash_key, chosen)
        };
        Self {
            by_sha256: table(|hash| match hash {
                KeyHash::Sha256(hash) => Some(*hash),
                KeyHash::Hmac(_) => None,
            }),
            by_hmac: table(|hash| match hash {
                KeyHash::Hmac(hash) => Some(*hash),
                KeyHash::Sha256(_) => None,
            }),
            pepper: pepper
                .map(|pepper| hmac::Key::new(hmac::HMAC_SHA256, pepper.expose().as_bytes())),
            shared: Arc::clone(shared),
        }
    }

    /// Judges every credential of a request; `now` is in Unix seconds.
    ///
    /// One of our form that is not valid is an error wherever it stands: it must neither pass as
    /// if it were nothing nor reach a backend. The first valid one is the caller's.
    pub(super) fn judge(
        &self,
        presented: &Presented<'_>,
        now: impl Fn() -> i64,
    ) -> Result<Judged, Unknown> {
        if presented.repeated {
            return Err(Unknown::UnknownKey);
        }
        let mut judged = Judged::default();
        let (mut own, mut foreign) = (None, None);
        for (place, credential) in presented.iter() {
            match self.find(credential) {
                Some(key) if key.revoked => return Err(Unknown::Revoked(key.id())),
                Some(key) if key.expires.is_some_and(|end| end <= now()) => {
                    return Err(Unknown::Expired(key.id()));
                }
                Some(key) => {
                    judged.ours.add(place);
                    if judged.key.is_none() {
                        (judged.key, own) = (Some(key), Some(credential));
                    }
                }
                None if place == Place::TidegateKey || is_ours(credential) => {
                    return Err(Unknown::UnknownKey);
                }
                None => foreign = foreign.or(Some(credential)),
            }
        }
        let print = |credential| self.shared.hash_key.fingerprint(credential);
        judged.credential = own.or(foreign).map(print);
        Ok(judged)
    }

    /// The key of that id, if it is good.
    pub(super) fn by_id(&self, id: &str, now: i64) -> Result<Arc<Key>, Unknown> {
        let stored = self.shared.stored.table.load();
        let all = [&self.by_sha256, &self.by_hmac, &**stored].into_iter();
        let mut found =
            all.flat_map(|table| table.keys.values()).filter(|key| *key.grant.id == *id);
        let key = found.next().ok_or(Unknown::UnknownKey)?;
        if key.revoked || found.any(|key| key.revoked) {
            return Err(Unknown::Revoked(key.id()));
        }
        if key.expires.is_some_and(|end| end <= now) {
            return Err(Unknown::Expired(key.id()));
        }
        Ok(Arc::clone(key))
    }

    /// A key that is in two tables is revoked if it is in one.
    fn find(&self, credential: &[u8]) -> Option<Arc<Key>> {
        let by_sha256 = self.look(&self.by_sha256, || Some(sha256(credential)));
        let keyed = |pepper: &hmac::Key| keyed(pepper, credential);
        let by_hmac = self.look(&self.by_hmac, || self.pepper.as_ref().map(keyed));
        let stored = &self.shared.stored;
        let by_store = |pepper| self.look(&stored.table.load(), || Some(keyed(pepper)));
        let of_store = stored.pepper.as_ref().and_then(by_store);
        let found = [by_sha256, by_hmac, of_store];
        let revoked = found.iter().flatten().find(|key| key.revoked).cloned();
        revoked.or_else(|| found.into_iter().flatten().next())
    }

    fn look(&self, table: &Table, hash: impl FnOnce() -> Option<[u8; 32]>) -> Option<Arc<Key>> {
        // that there are no keys is no secret
        if table.keys.is_empty() {
            return None;
        }
        table.find(&self.shared.hash_key, &hash()?).cloned()
    }

    /// Whether a key names this agent or team.
    pub(super) fn names(&self, name: &str) -> bool {
        self.by_sha256.names.contains(name)
            || self.by_hmac.names.contains(name)
            || self.shared.stored.table.load().names.contains(name)
    }
}

impl Stored {
    pub fn new(pepper: Option<&[u8; 32]>, hash_key: &HashKey) -> Self {
        Self {
            pepper: pepper.map(|pepper| hmac::Key::new(hmac::HMAC_SHA256, pepper)),
            table: ArcSwap::from_pointee(Table::new(hash_key, [].into_iter())),
        }
    }

    pub fn replace(&self, keys: Vec<StoredKey>, hash_key: &HashKey) {
        let keys = keys.into_iter().map(Key::of_store);
        self.table.store(Arc::new(Table::new(hash_key, keys)));
    }
}

impl Table {
    fn new(hash_key: &HashKey, all: impl Iterator<Item = Key>) -> Self {
        let mut keys: HashMap<_, Arc<Key>> = HashMap::new();
        let mut names = HashSet::new();
        for key in all {
            if !key.revoked {
                names.extend(key.agent.clone());
                names.extend(key.team.clone());
            }
            let place = hash_key.place(&key.hash);
            // of two with one hash, a revoked one stays
            if !keys.get(&place).is_some_and(|known| known.revoked) {
                keys.insert(place, Arc::new(key));
            }
        }
        Self { keys, decoy: Arc::new(Key::decoy(hash_key)), names }
    }

    fn find(&self, hash_key: &HashKey, hash: &[u8; 32]) -> Option<&Arc<Key>> {
        let key = self.keys.get(&hash_key.place(hash)).unwrap_or(&self.decoy);
        same(&key.hash, hash).then_some(key)
    }
}

/// In constant time.
fn same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    #[cfg(test)]
    tests::COMPARED.set(tests::COMPARED.get() + 1);
    aws_lc_rs::constant_time::verify_slices_are_equal(one, other).is_ok()
}

impl Key {
    fn of_policy(key: &AgentKey, hash: [u8; 32]) -> Self {
        let (models, routes) = (key.models.clone(), key.routes.clone());
        Self {
            hash,
            agent: key.agent.clone(),
            team: key.team.clone(),
            expires: key.expires,
            revoked: false,
            grant: Arc::new(Grant { id: id(&hash), models, routes }),
        }
    }

    fn of_store(key: StoredKey) -> Self {
        let StoredKey { id, hmac, agent, team, expires, models, routes, revoked } = key;
        let grant = Arc::new(Grant { id, models, routes });
        Self { hash: hmac, agent, team, expires, revoked, grant }
    }

    /// What it is the hash of, nobody knows: it is drawn with the table.
    fn decoy(hash_key: &HashKey) -> Self {
        let grant = Grant { id: Name::from(""), models: Vec::new(), routes: Vec::new() };
        Self {
            hash: hash_key.place(&[0; 32]),
            agent: None,
            team: None,
            expires: None,
            revoked: true,
            grant: Arc::new(grant),
        }
    }

    fn id(&self) -> Name {
        Arc::clone(&self.grant.id)
    }
}

#[cfg(test)]
mod tests;

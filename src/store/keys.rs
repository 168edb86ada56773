//! The keys of agents that are kept in the store: records, and the book of all of them.
//!
//! A record has the keyed hash of a key, never the key. The book is in memory as a whole, and
//! whoever watches it sees a change at once; the answer to who asked for the change waits for the
//! disk. A revoked key stays in the book, so that it is seen that and when it was. Times are Unix
//! seconds.
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::queue::Queue;
use super::secret::{hex, is_id, unhex};
use super::{Ack, Failed, Op, Row, Table};

/// Keys in the book, revoked ones among them; beyond it the oldest that is no longer good goes.
const MOST: usize = 10_000;
/// Longest name of an agent or a team, in bytes.
const LONGEST_NAME: usize = 128;
/// Longest glob.
const LONGEST_GLOB: usize = 256;
/// Globs of one kind.
const MOST_GLOBS: usize = 64;

/// HMAC-SHA256 of a key under the pepper of the store. 64 hexadecimal digits in JSON.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyHmac(pub [u8; 32]);

impl TryFrom<String> for KeyHmac {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        unhex(&text).map(Self).ok_or("expected 64 hexadecimal digits")
    }
}

impl From<KeyHmac> for String {
    fn from(hmac: KeyHmac) -> Self {
        hex(&hmac.0)
    }
}

impl fmt::Debug for KeyHmac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHmac(…)")
    }
}

/// A key that is to be kept, as the command line sends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewRecord {
    /// The first 8 hexadecimal digits of the key's SHA-256.
    pub id: String,
    pub hmac: KeyHmac,
    pub agent: String,
    #[serde(default)]
    pub team: Option<String>,
    #[serde(default)]
    pub expires: Option<i64>,
    /// Globs; empty for any model.
    #[serde(default)]
    pub models: Vec<String>,
    /// Globs over names of routes; empty for any route.
    #[serde(default)]
    pub routes: Vec<String>,
}

/// A key as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    pub id: String,
    pub hmac: KeyHmac,
    pub agent: String,
    #[serde(default)]
    pub team: Option<String>,
    #[serde(default)]
    pub expires: Option<i64>,
    #[serde(default)]
    pub models: Vec<String>,
    #[serde(default)]
    pub routes: Vec<String>,
    pub created: i64,
    /// When it was.
    #[serde(default)]
    pub revoked: Option<i64>,
}

/// What is shown of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyView {
    pub id: String,
    pub agent: String,
    pub team: Option<String>,
    pub created: i64,
    pub expires: Option<i64>,
    pub revoked: Option<i64>,
    pub models: Vec<String>,
    pub routes: Vec<String>,
}

/// Why a key cannot be kept or revoked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeyError {
    #[error("{what}: expected {expected}")]
    Invalid { what: &'static str, expected: &'static str },
    #[error("there is a key {id} already")]
    Exists { id: String },
    #[error("there is no key {id}")]
    Unknown { id: String },
    #[error("there are 10000 keys that are still good: revoke some")]
    TooMany,
    #[error(transparent)]
    Store(#[from] Failed),
}

impl NewRecord {
    /// Names the first field that is wrong.
    pub fn check(&self) -> Result<(), KeyError> {
        let wrong = |what, expected| Err(KeyError::Invalid { what, expected });
        if !is_id(&self.id) {
            return wrong("id", "8 hexadecimal digits");
        }
        let name = "1 to 128 visible ASCII characters";
        if !is_name(&self.agent) {
            return wrong("agent", name);
        }
        if self.team.as_deref().is_some_and(|team| !is_name(team)) {
            return wrong("team", name);
        }
        let globs = "64 globs at most, each of 1 to 256 visible ASCII characters";
        for (what, list) in [("models", &self.models), ("routes", &self.routes)] {
            if list.len() > MOST_GLOBS || !list.iter().all(|glob| is_visible(glob, LONGEST_GLOB)) {
                return wrong(what, globs);
            }
        }
        Ok(())
    }

    fn created(self, created: i64) -> KeyRecord {
        let Self { id, hmac, agent, team, expires, models, routes } = self;
        KeyRecord { id, hmac, agent, team, expires, models, routes, created, revoked: None }
    }
}

fn is_name(text: &str) -> bool {
    is_visible(text, LONGEST_NAME)
}

/// Neither spaces nor what could write over a terminal.
fn is_visible(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

impl KeyRecord {
    pub fn view(&self) -> KeyView {
        let Self { id, hmac: _, agent, team, expires, models, routes, created, revoked } =
            self.clone();
        KeyView { id, agent, team, created, expires, revoked, models, routes }
    }

    fn good(&self, now: i64) -> bool {
        self.revoked.is_none() && self.expires.is_none_or(|expires| now < expires)
    }

    fn op(&self) -> Op {
        // strings, numbers and lists of them: it cannot fail
        let value = serde_json::to_vec(self).unwrap_or_default();
        Op::put(Table::Keys, self.id.as_bytes(), value)
    }
}

type Watcher = Box<dyn Fn(&[KeyRecord]) + Send + Sync>;

/// All stored keys.
pub struct KeyBook {
    queue: Arc<Queue>,
    pages: Mutex<Pages>,
}

#[derive(Default)]
struct Pages {
    /// Oldest first.
    records: Vec<KeyRecord>,
    watcher: Option<Watcher>,
}

impl Pages {
    fn tell(&self) {
        if let Some(watcher) = &self.watcher {
            watcher(&self.records);
        }
    }
}

impl KeyBook {
    /// A record that cannot be read is said in the log: its key is not known, so it lets nobody in.
    pub(super) fn new(rows: Vec<Row>, queue: Arc<Queue>) -> Self {
        let read = |(id, value): Row| {
            let record = serde_json::from_slice::<KeyRecord>(&value);
            record
                .inspect_err(|error| {
                    let id = String::from_utf8_lossy(&id);
                    tracing::error!(%id, %error, "a stored key cannot be read");
                })
                .ok()
        };
        let mut records: Vec<_> = rows.into_iter().filter_map(read).collect();
        records.sort_by_key(|record| record.created);
        Self { queue, pages: Mutex::new(Pages { records, watcher: None }) }
    }

    /// Oldest first.
    pub fn list(&self) -> Vec<KeyRecord> {
        self.pages.lock().records.clone()
    }

    /// Calls `watcher` now and after every change, with all keys, revoked and expired ones among
    /// them; calls are in order and never at once. It must be short and not call the book. Takes
    /// the place of any watcher before.
    pub fn watch(&self, watcher: impl Fn(&[KeyRecord]) + Send + Sync + 'static) {
        let mut pages = self.pages.lock();
        pages.watcher = Some(Box::new(watcher));
        pages.tell();
    }

    /// The key is good at once; `Ack` says whether it is kept. If not, [`KeyBook::forget`] it.
    pub fn add(&self, record: NewRecord, now: i64) -> Result<Ack, KeyError> {
        record.check()?;
        let mut pages = self.pages.lock();
        if pages.records.iter().any(|known| known.id == record.id) {
            return Err(KeyError::Exists { id: record.id });
        }
        let mut ops = Vec::new();
        if pages.records.len() >= MOST {
            let idle = pages.records.iter().position(|known| !known.good(now));
            let gone = pages.records.remove(idle.ok_or(KeyError::TooMany)?);
            ops.push(Op::delete(Table::Keys, gone.id.as_bytes()));
        }
        let record = record.created(now);
        ops.push(record.op());
        pages.records.push(record);
        pages.tell();
        Ok(self.queue.durably(ops))
    }

    /// Takes back a key that could not be kept.
    pub fn forget(&self, id: &str) {
        let mut pages = self.pages.lock();
        pages.records.retain(|record| record.id != id);
        pages.tell();
    }

    /// The key lets nobody in from now on; `Ack` says whether that is kept too. One that was
    /// revoked before stays as it was.
    pub fn revoke(&self, id: &str, now: i64) -> Result<(KeyView, Ack), KeyError> {
        let mut pages = self.pages.lock();
        let record = pages.records.iter_mut().find(|record| record.id == id);
        let record = record.ok_or_else(|| KeyError::Unknown { id: id.to_owned() })?;
        record.revoked.get_or_insert(now);
        let (view, op) = (record.view(), record.op());
        pages.tell();
        Ok((view, self.queue.durably(vec![op])))
    }
}

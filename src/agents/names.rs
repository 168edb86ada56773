//! Names that clients choose: shared, spelled so that they can be shown, and bounded.
//!
//! Each kind has a table of at most so many names; what comes when it is full is called `other`,
//! and shares that name's limits. A known name costs one look into a sharded table and a counter.
//! Places come back by the clock algorithm (second chance): when a table is full, at most every
//! five minutes, one pass drops each name that was not used since the pass before and that nobody
//! else holds. So a name goes only when no call, limit or queue knows it any more, and who invents
//! names gets no more than a table full of fresh ones in that time. `other` is one for limits and
//! labels only: [`Called`] keeps the whole name beside it, for what may not cross callers.
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::{Duration, Instant};

use dashmap::{DashMap, Entry};
use parking_lot::Mutex;

use super::secret::{HashKey, hex};
use crate::identity::{Name, Unlisted};

/// Names of each kind.
pub const MOST: usize = 1_000;
/// Bytes of a name.
pub const LONGEST: usize = 128;
/// Least time between two passes.
const PASS: Duration = Duration::from_mins(5);

/// What a name is for; the kinds do not crowd each other out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameKind {
    Agent,
    Parent,
    Team,
    Session,
}

pub struct Names {
    tables: [Table; 4],
    most: usize,
    other: Name,
}

/// A name, and the whole of it where there was no place.
#[derive(Debug, Clone)]
pub struct Called {
    pub name: Name,
    whole: Option<Name>,
}

impl Called {
    pub fn whole(&self) -> &str {
        self.whole.as_ref().unwrap_or(&self.name)
    }

    /// What both are called; and what stands behind `other`, if one of them is that.
    pub fn apart(agent: Self, team: Option<Self>) -> (Name, Option<Name>, Option<Box<Unlisted>>) {
        let (team, of_team) = team.map_or((None, None), |team| (Some(team.name), team.whole));
        let is_listed = agent.whole.is_none() && of_team.is_none();
        let unlisted = Unlisted { agent: agent.whole, team: of_team };
        (agent.name, team, (!is_listed).then(|| Box::new(unlisted)))
    }
}

/// One that takes no place: it is the policy's.
impl From<Name> for Called {
    fn from(name: Name) -> Self {
        Self { name, whole: None }
    }
}

struct Table {
    /// With whether it was used since the last pass.
    names: DashMap<Name, AtomicBool>,
    taken: AtomicUsize,
    last_pass: Mutex<Instant>,
}

impl Names {
    /// At most so many names of each kind.
    pub fn new(most: usize) -> Self {
        let table = || Table {
            names: DashMap::new(),
            taken: AtomicUsize::new(0),
            last_pass: Mutex::new(Instant::now()),
        };
        Self { tables: [table(), table(), table(), table()], most, other: Arc::from("other") }
    }

    /// The one name of this text; `other` when there is no place. The text is taken as it is:
    /// what a client wrote goes through [`spelled`] first.
    pub fn share(&self, kind: NameKind, text: &str) -> Name {
        self.share_at(kind, text, Instant::now)
    }

    /// The same, with the whole of it if it came out as `other`.
    pub fn call(&self, kind: NameKind, text: &str) -> Called {
        let name = self.share(kind, text);
        let whole = (*name != *text).then(|| Arc::from(text));
        Called { name, whole }
    }

    fn share_at(&self, kind: NameKind, text: &str, now: impl FnOnce() -> Instant) -> Name {
        let table = &self.tables[kind as usize];
        if let Some(name) = table.known(text) {
            return name;
        }
        let has_place =
            table.take_place(self.most) || (table.pass(now()) && table.take_place(self.most));
        if !has_place {
            return Arc::clone(&self.other);
        }
        match table.names.entry(Arc::from(text)) {
            Entry::Vacant(place) => {
                let name = Arc::clone(place.key());
                place.insert(AtomicBool::new(true));
                name
            }
            // another thread was faster
            Entry::Occupied(found) => {
                table.taken.fetch_sub(1, Relaxed);
                Arc::clone(found.key())
            }
        }
    }

    /// Names of this kind that are known now.
    pub fn len(&self, kind: NameKind) -> usize {
        self.tables[kind as usize].taken.load(Relaxed)
    }
}

impl Default for Names {
    fn default() -> Self {
        Self::new(MOST)
    }
}

/// Counts alone: names may be a person's.
impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let taken = self.tables.each_ref().map(|table| table.taken.load(Relaxed));
        f.debug_struct("Names").field("taken", &taken).finish_non_exhaustive()
    }
}

impl Table {
    fn known(&self, text: &str) -> Option<Name> {
        let found = self.names.get(text)?;
        // mostly set already: then the line stays shared between the cores
        if !found.value().load(Relaxed) {
            found.value().store(true, Relaxed);
        }
        Some(Arc::clone(found.key()))
    }

    fn take_place(&self, most: usize) -> bool {
        let more = |taken: usize| (taken < most).then_some(taken + 1);
        self.taken.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    /// Drops the names that nobody used since the last pass and nobody holds. Whether it ran.
    fn pass(&self, now: Instant) -> bool {
        let Some(mut last) = self.last_pass.try_lock() else { return false };
        if now.saturating_duration_since(*last) < PASS {
            return false;
        }
        *last = now;
        // under the shard's lock nobody can take a name out of the table: a count of one stays one
        self.names.retain(|name, used| {
            let keep = std::mem::take(used.get_mut()) || Arc::strong_count(name) > 1;
            if !keep {
                self.taken.fetch_sub(1, Relaxed);
            }
            keep
        });
        true
    }
}

/// Gives `then` what a client wrote, as a name: at most 128 visible ASCII characters. A longer
/// one keeps its beginning, and the hash of the whole tells it from others; one with anything else
/// in it is only a hash. `None` for nothing at all.
pub fn spelled<R>(key: &HashKey, raw: &[u8], then: impl FnOnce(&str) -> R) -> Option<R> {
    let raw = raw.trim_ascii();
    if raw.is_empty() {
        return None;
    }
    let visible = raw.iter().all(u8::is_ascii_graphic);
    let text = std::str::from_utf8(raw).unwrap_or_default();
    if visible && raw.len() <= LONGEST {
        return Some(then(text));
    }
    let hash = hex(key.fingerprint(raw));
    let begin = if visible { &text[..LONGEST - 1 - hash.len()] } else { "" };
    Some(then(&format!("{begin}#{}", std::str::from_utf8(&hash).unwrap_or_default())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use NameKind::{Agent, Session};

    #[test]
    fn a_name_is_shared_and_kinds_are_apart() {
        let names = Names::new(2);
        let one = names.share(Agent, "a");
        assert!(Arc::ptr_eq(&one, &names.share(Agent, "a")));
        assert!(!Arc::ptr_eq(&one, &names.share(Session, "a")));
        names.share(Agent, "b");
        assert_eq!(&*names.share(Agent, "c"), "other");
        assert_eq!(&*names.share(Session, "c"), "c");
        assert_eq!(&*names.share(Agent, "a"), "a", "a known name stays itself");
    }

    #[test]
    fn a_million_invented_names_take_no_more_than_a_thousand_places() {
        let names = Names::default();
        let kept = names.share(Agent, "kept");
        for number in 0..1_000_000 {
            names.share(Agent, &format!("invented-{number}"));
        }
        assert_eq!(names.len(Agent), MOST);
        assert_eq!(names.tables[Agent as usize].names.len(), MOST);
        assert!(Arc::ptr_eq(&kept, &names.share(Agent, "kept")));
    }

    #[test]
    fn places_come_back_from_names_that_nobody_uses_or_holds() {
        let names = Names::new(3);
        let begun = Instant::now();
        let at = |minutes: u64| move || begun + Duration::from_mins(minutes);
        let held = names.share_at(Agent, "held", at(0));
        names.share_at(Agent, "used", at(0));
        names.share_at(Agent, "idle", at(0));
        // the first pass takes their marks, and finds none to drop
        assert_eq!(&*names.share_at(Agent, "new", at(6)), "other");
        names.share_at(Agent, "used", at(7));
        assert_eq!(&*names.share_at(Agent, "new", at(8)), "other", "too early for a pass");
        assert_eq!(&*names.share_at(Agent, "new", at(12)), "new");
        assert_eq!(names.len(Agent), 3);
        assert!(Arc::ptr_eq(&held, &names.share_at(Agent, "held", at(12))));
        assert_eq!(&*names.share_at(Agent, "idle", at(13)), "other", "its place is taken");
        drop(held);
        // one pass to clear the marks, one to drop
        names.share_at(Agent, "idle", at(20));
        assert_eq!(&*names.share_at(Agent, "idle", at(26)), "idle");
        assert_eq!(names.tables[Agent as usize].names.len(), names.len(Agent));
    }

    #[test]
    fn threads_that_race_for_the_places_keep_the_bound() {
        let names = Names::new(10);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for number in 0..1_000 {
                        names.share(Agent, &(number % 100).to_string());
                    }
                });
            }
        });
        assert_eq!(names.tables[Agent as usize].names.len(), 10);
        assert_eq!(names.len(Agent), 10);
    }

    #[test]
    fn names_can_be_shown_whatever_was_written() {
        let key = HashKey::derived(&[7; 32]);
        let spell = |raw: &[u8]| spelled(&key, raw, str::to_owned);
        assert_eq!(spell(b"  research-1\t").unwrap(), "research-1");
        assert_eq!(spell(b" \t "), None);
        for strange in [&b"two words"[..], "émile".as_bytes(), b"a\x1b[31m", b"\xff\xfe", b"a\nb"]
        {
            let name = spell(strange).unwrap();
            assert!(name.len() == 17 && name.starts_with('#'), "{name}");
            assert_ne!(spell(b"other words").unwrap(), name);
        }
        let long = "x".repeat(LONGEST);
        assert_eq!(spell(long.as_bytes()).unwrap(), long);
        let [a, b] = ["a", "b"].map(|end| spell(format!("{long}{end}").as_bytes()).unwrap());
        assert!(a.len() == LONGEST && b.len() == LONGEST && a[..111] == b[..111] && a != b);
    }
}

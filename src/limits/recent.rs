//! A map of bounded size that forgets what was touched longest ago.
//!
//! Entries are linked in the order of their last touch, so finding the oldest takes no search. A
//! look-up is no touch: only what is taught keeps its place. Values are boxed, so that growth moves
//! pointers, and an entry that is replaced gives its memory to the next.
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};

#[derive(Debug)]
pub(super) struct Recent<K, V, S = RandomState> {
    places: HashMap<K, usize, S>,
    entries: Vec<Entry<K, V>>,
    most: usize,
    /// Touched last.
    newest: usize,
    /// Touched longest ago.
    oldest: usize,
}

#[derive(Debug)]
struct Entry<K, V> {
    key: K,
    value: Box<V>,
    newer: usize,
    older: usize,
}

/// No entry.
const NONE: usize = usize::MAX;

impl<K: Copy + Eq + Hash, V: Default, S: BuildHasher + Default> Recent<K, V, S> {
    /// For so many entries, one at least.
    pub(super) fn new(most: usize) -> Self {
        let (places, entries) = (HashMap::default(), Vec::new());
        Self { places, entries, most: most.max(1), newest: NONE, oldest: NONE }
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.places.get(key).map(|&place| &*self.entries[place].value)
    }

    /// The value of a key, new if need be, and now the one that is forgotten last.
    pub(super) fn touch(&mut self, key: K) -> &mut V {
        let place = match self.places.get(&key) {
            Some(&place) => place,
            None => self.place(key),
        };
        if place != self.newest {
            self.unlink(place);
            self.link(place);
        }
        &mut self.entries[place].value
    }

    /// To change it, which is no touch either.
    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let place = *self.places.get(key)?;
        Some(&mut self.entries[place].value)
    }

    /// In no order that means anything.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|entry| (&entry.key, &*entry.value))
    }

    /// A place for a new key.
    fn place(&mut self, key: K) -> usize {
        let place = if self.entries.len() < self.most {
            let value = Box::default();
            self.entries.push(Entry { key, value, newer: NONE, older: NONE });
            let place = self.entries.len() - 1;
            self.link(place);
            place
        } else {
            let place = self.oldest;
            let entry = &mut self.entries[place];
            self.places.remove(&entry.key);
            entry.key = key;
            *entry.value = V::default();
            place
        };
        self.places.insert(key, place);
        place
    }

    fn unlink(&mut self, place: usize) {
        let Entry { newer, older, .. } = self.entries[place];
        match self.entries.get_mut(newer) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
        match self.entries.get_mut(older) {
            Some(entry) => entry.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn link(&mut self, place: usize) {
        let older = self.newest;
        (self.entries[place].newer, self.entries[place].older) = (NONE, older);
        match self.entries.get_mut(older) {
            Some(entry) => entry.newer = place,
            None => self.oldest = place,
        }
        self.newest = place;
    }
}

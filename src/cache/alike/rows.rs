//! The questions of one partition: who asked what, which entry answers it, and until when.
//!
//! One row an entry. A row is found by its entry, by its folded form (the canonical tier) and by its
//! direction (the semantic one); what is unfit for a tier is not in it. Taking a row out moves the
//! last one into its place. Rows past their time are never found, and go with the next sweep. Every
//! change keeps count of the bytes that all of it takes, about.
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::vectors::{Direction, Neighbour, Vectors};
use crate::cache::{Author, Key};

/// A hash of a folded form.
pub type Form = [u8; 32];

/// A question with its answer's name. Times are in milliseconds since 1970.
#[derive(Debug, Clone)]
pub struct Row {
    pub entry: Key,
    pub text: Arc<str>,
    pub form: Option<Form>,
    pub author: Author,
    /// The author, as far as caps and trust go.
    pub principal: u64,
    pub kept: u64,
    /// Found by its form before that,
    pub until: u64,
    /// and by its direction before that.
    pub like_until: u64,
    /// Others may be served it: its author's word is not the only one.
    pub vouched: bool,
}

/// What rows may take together.
#[derive(Debug, Clone, Copy)]
pub struct Caps {
    pub rows: usize,
    /// Of one principal.
    pub each: usize,
    pub bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Breadth {
    pub rows: usize,
    pub bytes: usize,
    /// Bytes of the longest text that may have to be read again, or of one that is gone.
    pub longest: usize,
}

#[derive(Debug)]
struct Kept {
    row: Row,
    /// Where its direction is.
    vector: Option<u32>,
    /// Rows that came later have a higher one.
    age: u64,
}

#[derive(Debug, Default)]
pub struct Rows {
    kept: Vec<Kept>,
    vectors: Vectors,
    by_entry: HashMap<Key, u32>,
    by_form: HashMap<Form, u32>,
    by_age: BTreeMap<u64, u32>,
    by_principal: HashMap<u64, BTreeSet<u64>>,
    next: u64,
    bytes: u64,
    longest: usize,
}

impl Row {
    /// What a row takes beside its text and direction: itself and its places in five maps, about.
    const OVERHEAD: u64 = 400;

    fn bytes(&self) -> u64 {
        Self::OVERHEAD + self.text.len() as u64
    }
}

impl Rows {
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What a search by direction goes through.
    pub fn breadth(&self) -> Breadth {
        let rows = self.vectors.len();
        Breadth { bytes: rows * self.vectors.width(), rows, longest: self.longest }
    }

    /// Puts a question in, in the place of one with the same entry or the same form. The oldest go
    /// where caps are passed: first of the same principal, then of all. One that could not be found is
    /// not put in.
    pub fn put(&mut self, row: Row, direction: Option<&Direction>, caps: &Caps) {
        let direction = direction.filter(|direction| self.vectors.fits(direction));
        if row.form.is_none() && direction.is_none() {
            return;
        }
        self.remove(&row.entry);
        if let Some(at) = row.form.and_then(|form| self.by_form.get(&form)).copied() {
            self.take(at);
        }
        while let Some(oldest) = self.oldest_of(row.principal, caps.each) {
            self.take(oldest);
        }
        let at = self.kept.len() as u32;
        let (age, principal) = (self.next, row.principal);
        self.next += 1;
        self.by_entry.insert(row.entry, at);
        if let Some(form) = row.form {
            self.by_form.insert(form, at);
        }
        self.by_age.insert(age, at);
        self.by_principal.entry(principal).or_default().insert(age);
        let vector = direction.and_then(|direction| self.vectors.push(direction, at));
        self.bytes += row.bytes() + vector.map_or(0, |_| self.vector_bytes());
        if self.kept.is_empty() {
            self.longest = 0;
            // many partitions have one row for ever
            self.kept.reserve_exact(1);
        }
        self.longest = self.longest.max(row.text.len());
        self.kept.push(Kept { row, vector, age });
        while self.kept.len() > 1 && (self.kept.len() > caps.rows || self.bytes > caps.bytes) {
            let Some((_, &oldest)) = self.by_age.first_key_value() else { break };
            self.take(oldest);
        }
    }

    /// The oldest of a principal that has no place left.
    fn oldest_of(&self, principal: u64, cap: usize) -> Option<u32> {
        let ages = self.by_principal.get(&principal).filter(|ages| ages.len() >= cap)?;
        self.by_age.get(ages.first()?).copied()
    }

    pub fn by_form(&self, form: &Form, now: u64) -> Option<&Row> {
        let at = self.by_form.get(form)?;
        Some(&self.kept[*at as usize].row).filter(|row| row.until > now)
    }

    /// Rows by likeness, the nearest first.
    pub fn nearest(&self, to: &Direction, now: u64) -> impl Iterator<Item = (f32, &Row)> {
        let row = |at: u32| &self.kept[at as usize].row;
        let found = self.vectors.nearest(to, |at| row(at).like_until > now);
        found.into_iter().map(move |Neighbour { cosine, row: at }| (cosine, row(at)))
    }

    /// From now on others may be served it too.
    pub fn vouch(&mut self, entry: &Key) {
        if let Some(at) = self.by_entry.get(entry) {
            self.kept[*at as usize].row.vouched = true;
        }
    }

    /// It is found by its form alone from now on.
    pub fn blind(&mut self, entry: &Key) {
        let Some(&at) = self.by_entry.get(entry) else { return };
        match self.kept[at as usize].row.form {
            Some(_) => self.drop_vector(at),
            None => self.take(at),
        }
    }

    pub fn remove(&mut self, entry: &Key) -> bool {
        let at = self.by_entry.get(entry).copied();
        at.is_some_and(|at| {
            self.take(at);
            true
        })
    }

    /// Takes out what is meant; how many those were.
    pub fn remove_if(&mut self, meant: impl Fn(&Row) -> bool) -> usize {
        let before = self.kept.len();
        // from the end, so that what moves into a place has been looked at
        for at in (0..before).rev() {
            if meant(&self.kept[at].row) {
                self.take(at as u32);
            }
        }
        before - self.kept.len()
    }

    pub fn entries(&self) -> impl Iterator<Item = &Row> {
        self.kept.iter().map(|kept| &kept.row)
    }

    /// Bytes of one row's direction.
    fn vector_bytes(&self) -> u64 {
        (self.vectors.width() + size_of::<f32>() + size_of::<u32>()) as u64
    }

    fn drop_vector(&mut self, at: u32) {
        let Some(vector) = self.kept[at as usize].vector.take() else { return };
        self.bytes -= self.vector_bytes();
        if let Some(moved) = self.vectors.remove(vector) {
            self.kept[moved as usize].vector = Some(vector);
        }
    }

    fn take(&mut self, at: u32) {
        self.drop_vector(at);
        let Kept { row, age, .. } = self.kept.swap_remove(at as usize);
        self.bytes -= row.bytes();
        self.by_entry.remove(&row.entry);
        if let Some(form) = row.form {
            self.by_form.remove(&form);
        }
        self.by_age.remove(&age);
        if let Some(ages) = self.by_principal.get_mut(&row.principal) {
            ages.remove(&age);
            if ages.is_empty() {
                self.by_principal.remove(&row.principal);
            }
        }
        let Some(Kept { row: moved, vector, age }) = self.kept.get(at as usize) else { return };
        self.by_entry.insert(moved.entry, at);
        if let Some(form) = moved.form {
            self.by_form.insert(form, at);
        }
        self.by_age.insert(*age, at);
        if let Some(vector) = *vector {
            self.vectors.renumber(vector, at);
        }
    }
}

#[cfg(test)]
mod tests;

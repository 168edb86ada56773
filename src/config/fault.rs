//! What is wrong with a policy file: all of it at once, each fault where it stands.
//!
//! A fault says file, line, YAML path, what was found, what was expected, and the nearest valid
//! word. It is shown as a compiler shows its errors. No fault holds a secret: values of secret
//! keys, and values that came from the environment, never enter `found`.
use std::fmt;

use super::file::Place;

/// One fault. `line` and `column` count from 1; 0 means the file as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub file: String,
    pub line: u32,
    pub column: u32,
    /// `upstreams.local.timeouts.idle`; empty for the whole file.
    pub path: String,
    pub found: String,
    pub expected: String,
    /// The nearest valid word, if one is near.
    pub hint: Option<String>,
}

/// At least one fault, sorted by line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// `None` when there is no fault.
    pub(super) fn of(mut faults: Vec<Fault>) -> Option<Self> {
        faults.sort_by_key(|fault| (fault.line, fault.column));
        faults.dedup();
        (!faults.is_empty()).then_some(Self(faults))
    }

    /// A fault of the file as a whole.
    pub(super) fn whole(file: &str, found: String, expected: &str) -> Self {
        Self::at(file, Place::default(), found, expected)
    }

    /// A single fault.
    pub(super) fn at(file: &str, place: Place, found: String, expected: &str) -> Self {
        Self(vec![Fault {
            file: file.to_owned(),
            line: place.line,
            column: place.column,
            path: String::new(),
            found,
            expected: expected.to_owned(),
            hint: None,
        }])
    }

    pub fn as_slice(&self) -> &[Fault] {
        &self.0
    }
}

impl std::error::Error for Faults {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, "\n  found     {}\n  expected  {}", self.found, self.expected)?;
        match &self.hint {
            Some(word) => write!(f, "\n  help      did you mean `{word}`?"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in &self.0 {
            write!(f, "{fault}\n\n")?;
        }
        match self.0.len() {
            1 => f.write_str("1 fault"),
            n => write!(f, "{n} faults"),
        }
    }
}

/// The candidate nearest to `word`, if it is near enough to be meant: one edit for short words,
/// a third of the letters for longer ones. An edit is an insertion, a deletion, a substitution
/// or a swap of neighbours (optimal string alignment).
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // a word this long is no typo, and the table below grows with its square
    if word.len() > 64 {
        return None;
    }
    let word = word.to_lowercase().replace('-', "_");
    candidates
        .into_iter()
        .map(|candidate| (edits(&word, &candidate.to_lowercase().replace('-', "_")), candidate))
        .filter(|(edits, candidate)| {
            let longest = word.chars().count().max(candidate.chars().count());
            *edits <= (longest / 3).max(1) && *edits < longest
        })
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            let mut least = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + same);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_near() {
        let words = ["idle", "first_byte", "total", "queue"];
        assert_eq!(nearest("idel", words), Some("idle"));
        assert_eq!(nearest("first-byte", words), Some("first_byte"));
        assert_eq!(nearest("Total", words), Some("total"));
        assert_eq!(nearest("banana", words), None);
        assert_eq!(nearest("x", ["y"]), None);
        assert_eq!(nearest(&"q".repeat(1000), words), None);
    }

    #[test]
    fn a_swap_is_one_edit() {
        assert_eq!(edits("idel", "idle"), 1);
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("", "abc"), 3);
    }
}

//! Whether two answers say the same: labels for what would have been served.
//!
//! Answers to one question differ in wording from call to call, so equality says much and
//! difference little. What is sure is said; the rest is [`Agreement::Unsure`] and must not be
//! counted as either.
use super::Vector;
use super::lexicon::{self, Class};
use super::words::{Kind, Words};

/// What two answers are to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Agreement {
    Same,
    Different,
    Unsure,
}

/// Bytes of each answer that are read.
const LONGEST: usize = 16_384;
/// Above it, answers with the same facts say the same.
const ALIKE: f32 = 0.93;
/// Below it, they are about something else.
const APART: f32 = 0.55;

/// Compares two answers.
pub fn agree(a: &str, b: &str) -> Agreement {
    if a == b {
        return Agreement::Same;
    }
    let cut = |text: &str| text[..text.floor_char_boundary(LONGEST)].to_owned();
    let long = a.len().max(b.len()) > LONGEST;
    let (a, b) = (cut(a), cut(b));
    let (x, y) = (Words::read(&a), Words::read(&b));
    let same = x.list.len() == y.list.len()
        && x.list.iter().zip(&y.list).all(|(&p, &q)| x.text(p) == y.text(q));
    if same && !long {
        return if x.list.is_empty() { Agreement::Unsure } else { Agreement::Same };
    }
    let (shorter, longer) = (x.list.len().min(y.list.len()), x.list.len().max(y.list.len()));
    if shorter == 0 {
        return Agreement::Different;
    }
    let cosine = Vector::of(&a).cosine(&Vector::of(&b));
    let (facts, others) = (Facts::of(&x), Facts::of(&y));
    if facts.opening != others.opening && facts.opening.is_some() && others.opening.is_some() {
        return Agreement::Different;
    }
    if cosine < APART {
        return Agreement::Different;
    }
    let comparable = shorter * 2 >= longer;
    match facts.against(&others) {
        Against::Contradict if comparable => Agreement::Different,
        Against::Agree if comparable && cosine >= ALIKE && !long => Agreement::Same,
        _ => Agreement::Unsure,
    }
}

/// What an answer states beside its words.
struct Facts<'w> {
    /// `Some(true)` for one that begins with yes.
    opening: Option<bool>,
    numbers: Vec<&'w str>,
    negations: usize,
}

enum Against {
    Agree,
    Contradict,
    Neither,
}

impl<'w> Facts<'w> {
    fn of(words: &'w Words) -> Self {
        let opening = match words.at(0) {
            Some("yes" | "yeah" | "yep" | "correct" | "true" | "certainly" | "absolutely") => {
                Some(true)
            }
            Some("no" | "nope" | "incorrect" | "false" | "unfortunately") => Some(false),
            _ => None,
        };
        let texts = || words.list.iter().map(|&word| (word.kind, words.text(word)));
        let number = |(kind, text): (Kind, &'w str)| match kind {
            Kind::Number => Some(text),
            _ => lexicon::number(text),
        };
        let mut numbers: Vec<_> = texts().filter_map(number).filter(|&text| text != "1").collect();
        numbers.sort_unstable();
        numbers.dedup();
        let negation =
            |text: &str| lexicon::word(text).is_some_and(|(class, _)| class == Class::Negation);
        let negations = texts().filter(|(_, text)| negation(text)).count();
        Self { opening, numbers, negations }
    }

    /// Short answers that state other numbers contradict each other; long ones may just say more.
    fn against(&self, other: &Self) -> Against {
        let few = self.numbers.len().max(other.numbers.len()) <= 3;
        let disjoint = !self.numbers.is_empty()
            && !other.numbers.is_empty()
            && !self.numbers.iter().any(|number| other.numbers.contains(number));
        if disjoint && few {
            return Against::Contradict;
        }
        if self.numbers == other.numbers && self.negations == other.negations {
            return Against::Agree;
        }
        Against::Neither
    }
}

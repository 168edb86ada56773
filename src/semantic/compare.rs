//! Two forms side by side: what differs, and whether that forbids them to be the same question.
//!
//! A difference is forgiven only where it is known to be harmless: a slip of the pen in a plain
//! word, a phrase with its preposition at another place. Everything else is a veto, named after
//! what differs first. Both ways round the answer is the same.
use super::form::{Form, Term};
use super::lexicon::{self, Class};
use super::table;

/// What forbids two questions to be the same; the worst kind first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    Number,
    Negation,
    Antonym,
    /// Something that stands to the letter.
    Quote,
    Name,
    /// The same words in another order.
    Order,
    /// A word that says what it is about.
    Word,
    /// What kind of question it is.
    Frame,
    /// A small word that changes what is asked.
    Scope,
}

impl Guard {
    const ALL: [Self; 9] = [
        Self::Number,
        Self::Negation,
        Self::Antonym,
        Self::Quote,
        Self::Name,
        Self::Order,
        Self::Word,
        Self::Frame,
        Self::Scope,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Negation => "negation",
            Self::Antonym => "antonym",
            Self::Quote => "quote",
            Self::Name => "name",
            Self::Order => "order",
            Self::Word => "word",
            Self::Frame => "frame",
            Self::Scope => "scope",
        }
    }
}

/// What differs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Difference {
    guards: u16,
    /// Terms that only the one has, and only the other.
    pub left: (u16, u16),
    /// Slips of the pen that were forgiven.
    pub typos: u16,
    /// A phrase stands at another place.
    pub moved: bool,
}

impl Difference {
    pub fn has(&self, guard: Guard) -> bool {
        self.guards & 1 << guard as u16 != 0
    }

    /// The worst guard that was hit.
    pub fn veto(&self) -> Option<Guard> {
        Guard::ALL.into_iter().find(|&guard| self.has(guard))
    }
}

pub fn compare(a: &Form, b: &Form) -> Difference {
    if let Some(typos) = in_order(a, b) {
        return Difference { typos, ..Difference::default() };
    }
    if phrases_moved(a, b) {
        return Difference { moved: true, ..Difference::default() };
    }
    guards(a, b)
}

/// Slips of the pen, where all else is equal, word by word.
fn in_order(a: &Form, b: &Form) -> Option<u16> {
    if a.terms.len() != b.terms.len() {
        return None;
    }
    let mut typos = 0;
    for (&x, &y) in a.terms.iter().zip(&b.terms) {
        let (one, other) = (a.text(x), b.text(y));
        if one == other {
            continue;
        }
        let plain = |term: Term| term.class == Class::Content && !term.name;
        if !plain(x) || !plain(y) || !is_typo(a.written(x), b.written(y)) {
            return None;
        }
        typos += 1;
    }
    // one slip in two words at most: more is another text
    (usize::from(typos) * 2 <= a.terms.len()).then_some(typos)
}

/// One letter too many, too few, wrong or swapped inside a longer word that everybody knows, and
/// what comes out is no word at all: `staion`, but neither `debit` and `debt` nor two names.
fn is_typo(a: &str, b: &str) -> bool {
    let ascii = a.is_ascii() && b.is_ascii();
    let (x, y) = (a.as_bytes(), b.as_bytes());
    ascii
        && x.len().min(y.len()) >= 5
        && x.first() == y.first()
        && x.last() == y.last()
        && one_edit(x, y)
        && (table::is_word(a) && !table::may_be_word(b)
            || table::is_word(b) && !table::may_be_word(a))
}

/// One letter inserted, deleted, replaced, or two neighbours swapped (Damerau, 1964).
fn one_edit(a: &[u8], b: &[u8]) -> bool {
    let (a, b) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let same = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let (a, b) = (&a[same..], &b[same..]);
    match b.len() - a.len() {
        0 if a.is_empty() => false,
        0 if a[1..] == b[1..] => true,
        0 => a.len() > 1 && a[0] == b[1] && a[1] == b[0] && a[2..] == b[2..],
        1 => *a == b[1..],
        _ => false,
    }
}

/// The same phrases with their prepositions, in another order behind the same beginning.
fn phrases_moved(a: &Form, b: &Form) -> bool {
    if a.terms.len() != b.terms.len() {
        return false;
    }
    let (mut x, mut y) = (phrases(a), phrases(b));
    if x.len() < 3 || x.len() != y.len() {
        return false;
    }
    x[1..].sort_unstable();
    y[1..].sort_unstable();
    x == y
}

/// Cut before each preposition; the opening is the first.
fn phrases(form: &Form) -> Vec<Vec<&str>> {
    let mut phrases = vec![Vec::new()];
    for &term in &form.terms {
        let text = form.text(term);
        // "to" before a verb binds closer than its place tells
        let cuts = matches!(
            text,
            "in" | "on" | "at" | "for" | "with" | "from" | "near" | "during" | "inside"
        );
        if cuts && term.class == Class::Hard {
            phrases.push(Vec::new());
        }
        if let Some(phrase) = phrases.last_mut() {
            phrase.push(text);
        }
    }
    phrases
}

/// Every guard that two forms hit which are not equal.
fn guards(a: &Form, b: &Form) -> Difference {
    let (only_a, only_b) = (left_over(a, b), left_over(b, a));
    let mut guards = 0;
    let mut hit = |guard: Guard| guards |= 1 << guard as u16;
    for term in only_a.iter().chain(&only_b) {
        hit(match term.class {
            Class::Number => Guard::Number,
            Class::Negation => Guard::Negation,
            Class::Verbatim => Guard::Quote,
            _ if term.name => Guard::Name,
            Class::Content => Guard::Word,
            Class::Frame => Guard::Frame,
            Class::Hard | Class::Soft | Class::Sign => Guard::Scope,
        });
    }
    let against = |x: &Term| lexicon::contrary(a.text(*x), only_b.iter().map(|term| b.text(*term)));
    if only_a.iter().any(against) {
        hit(Guard::Antonym);
    }
    if only_a.is_empty() && only_b.is_empty() {
        hit(Guard::Order);
    }
    let left = (only_a.len() as u16, only_b.len() as u16);
    Difference { guards, left, ..Difference::default() }
}

/// Terms of `a` that `b` does not have as often.
fn left_over(a: &Form, b: &Form) -> Vec<Term> {
    let mut rest: Vec<&str> = b.terms.iter().map(|&term| b.text(term)).collect();
    let gone = |term: &Term| match rest.iter().position(|&text| text == a.text(*term)) {
        Some(at) => {
            rest.swap_remove(at);
            false
        }
        None => true,
    };
    a.terms.iter().copied().filter(gone).collect()
}

//! What the trees see of two questions: one number for each way in which they may differ.
//!
//! The one implementation: training reads these numbers from `tidegate semantic features`. Both
//! ways round they are the same.
use super::Question;
use super::compare::{self, Difference, Guard};
use super::table::hash64;

/// How many there are.
pub const COUNT: usize = NAMES.len();

/// In order, as in the file of the trees.
pub const NAMES: [&str; 24] = [
    "cosine",
    "number",
    "negation",
    "antonym",
    "quote",
    "name",
    "order",
    "word",
    "frame",
    "scope",
    "left_over",
    "left_less",
    "typos",
    "moved",
    "turned",
    "rewritten",
    "soft",
    "terms_less",
    "terms_ratio",
    "words_jaccard",
    "pairs_jaccard",
    "prefix",
    "suffix",
    "unfit",
];

/// The numbers of two questions.
pub fn features(a: &Question, b: &Question) -> [f32; COUNT] {
    with(a, b, &compare::compare(&a.form, &b.form))
}

/// The same, where what differs is known already.
pub(super) fn with(a: &Question, b: &Question, difference: &Difference) -> [f32; COUNT] {
    let flag = |guard| f32::from(u8::from(difference.has(guard)));
    let (x, y) = (a.form.terms.len(), b.form.terms.len());
    let (less, more) = (x.min(y) as f32, x.max(y) as f32);
    let overlap = Overlap::of(a, b);
    let apart = |p: u16, q: u16| f32::from(p.abs_diff(q));
    [
        a.vector.cosine(&b.vector),
        flag(Guard::Number),
        flag(Guard::Negation),
        flag(Guard::Antonym),
        flag(Guard::Quote),
        flag(Guard::Name),
        flag(Guard::Order),
        flag(Guard::Word),
        flag(Guard::Frame),
        flag(Guard::Scope),
        f32::from(difference.left.0 + difference.left.1),
        f32::from(difference.left.0.min(difference.left.1)),
        f32::from(difference.typos),
        f32::from(u8::from(difference.moved)),
        f32::from(u8::from(a.form.turned != b.form.turned)),
        apart(a.form.rewritten, b.form.rewritten),
        apart(a.form.soft, b.form.soft),
        less,
        if more == 0.0 { 1.0 } else { less / more },
        overlap.words,
        overlap.pairs,
        overlap.prefix,
        overlap.suffix,
        f32::from(u8::from(a.unfit.is_some() || b.unfit.is_some())),
    ]
}

/// How much of the words as written (by their hashes: a collision makes two texts look a little
/// more alike) two questions share; shares, from 0 to 1.
struct Overlap {
    words: f32,
    /// Of neighbouring words.
    pairs: f32,
    prefix: f32,
    suffix: f32,
}

impl Overlap {
    fn of(a: &Question, b: &Question) -> Self {
        let (x, y) = (split(a), split(b));
        let longer = x.len().max(y.len()).max(1);
        let shorter = x.len().min(y.len());
        let prefix = x.iter().zip(&y).take_while(|(p, q)| p == q).count();
        let suffix = x.iter().rev().zip(y.iter().rev()).take_while(|(p, q)| p == q).count();
        let suffix = suffix.min(shorter - prefix);
        let two = |words: &[&str]| -> Vec<u64> {
            words.windows(2).map(|two| hash64(two[0]).rotate_left(1) ^ hash64(two[1])).collect()
        };
        let one = |words: &[&str]| -> Vec<u64> { words.iter().map(|word| hash64(word)).collect() };
        Self {
            words: jaccard(one(&x), one(&y)),
            pairs: jaccard(two(&x), two(&y)),
            prefix: prefix as f32 / longer as f32,
            suffix: suffix as f32 / longer as f32,
        }
    }
}

fn split(question: &Question) -> Vec<&str> {
    question.canonical.as_deref().unwrap_or(&question.text).split(' ').collect()
}

/// The share of what either has that both have.
fn jaccard(mut a: Vec<u64>, mut b: Vec<u64>) -> f32 {
    for list in [&mut a, &mut b] {
        list.sort_unstable();
        list.dedup();
    }
    let both = a.iter().filter(|hash| b.binary_search(hash).is_ok()).count();
    let either = a.len() + b.len() - both;
    if either == 0 { 1.0 } else { both as f32 / either as f32 }
}

//! Whether two questions ask the same: pure functions over texts.
//!
//! A text is read once into a [`Question`]: its canonical form (case, punctuation, politeness and
//! contractions folded), a reason why likeness is out of the question, a vector of a distilled
//! static table, and the form in which two questions are compared. [`judge`] says whether the
//! answer to one may serve the other: guards veto every difference that is not known to be
//! harmless, then small boosted trees score what is left. When in doubt the answer is no. Nothing
//! here knows of calls, caches or clocks, and nothing ever fails.
//!
//! How the table was distilled, on what the trees were trained and how well it all works is told
//! in `packaging/semantic/README.md`, with the commands that print the figures.
mod answers;
mod compare;
mod features;
mod fit;
mod form;
mod lexicon;
mod polite;
mod table;
mod trees;
mod wordpiece;
mod words;

pub use answers::{Agreement, agree};
pub use features::{COUNT as FEATURES, NAMES as FEATURE_NAMES, features};
pub use fit::Unfit;
pub use table::DIMS;

use compare::Guard;
use form::Form;
use lexicon::List;
use words::Words;

/// Of table and verifier together: raised whenever a verdict or a vector could come out another
/// way, so that what was stored under an older one is not used.
pub const VERSION: u32 = 1;

/// Bytes of a text that are read; a longer one is [`Unfit::TooLong`] and has no canonical form.
pub const LONGEST: usize = 4096;

/// The score from which on a pair that no guard vetoes is the same: there, of the pairs kept aside
/// from training, one other in two thousand comes out above it, vetoed or not.
pub const SHIPPED: f32 = 2.0;

/// Builds the tables that the first question would else wait for, some milliseconds: call it off the
/// I/O threads, where somebody will ask.
pub fn warm() {
    let question = Question::read("how do i begin");
    let _ = (question.canonical(), judge(&question, &question, 1.0));
    let _ = agree(question.text(), question.text());
}

/// Where the vectors of two questions that ask the same lie at least; below, nothing is compared.
const LEAST_COSINE: f32 = 0.5;

/// The direction of a text: of length 127, give or take the rounding, or all zeros for a text
/// without a known token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vector(pub [i8; DIMS]);

impl Vector {
    /// The length of a vector before rounding; `dot` over its square is nearly the cosine.
    pub const SCALE: i32 = 127;

    /// Of a text, with the table that came with the program.
    pub fn of(text: &str) -> Self {
        let (sum, _) = wordpiece::sum(text);
        let square: f64 = sum.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        if square == 0.0 {
            return Self([0; DIMS]);
        }
        let scale = f64::from(Self::SCALE) / square.sqrt();
        Self(sum.map(|x| (f64::from(x) * scale).round() as i8))
    }

    pub fn dot(&self, other: &Self) -> i32 {
        self.0.iter().zip(&other.0).map(|(&x, &y)| i32::from(x) * i32::from(y)).sum()
    }

    /// From -1 to 1; zero beside a vector of zeros.
    pub fn cosine(&self, other: &Self) -> f32 {
        let lengths = self.dot(self) as f32 * other.dot(other) as f32;
        if lengths == 0.0 {
            0.0
        } else {
            (self.dot(other) as f32 / lengths.sqrt()).clamp(-1.0, 1.0)
        }
    }
}

/// A text that was read.
#[derive(Debug, Clone)]
pub struct Question {
    text: Box<str>,
    canonical: Option<Box<str>>,
    unfit: Option<Unfit>,
    vector: Vector,
    form: Form,
}

impl Question {
    /// Reads at most [`LONGEST`] bytes of `text`.
    pub fn read(text: &str) -> Self {
        let cut = &text[..text.floor_char_boundary(LONGEST)];
        let long = cut.len() < text.len();
        let mut words = Words::read(cut);
        polite::strip(&mut words);
        let form = Form::read(&words);
        let unfit = if long { Some(Unfit::TooLong) } else { fit::unfit(&words, &form) };
        let canonical = if long { None } else { canonical(&words) };
        Self { text: cut.into(), canonical, unfit, vector: Vector::of(cut), form }
    }

    /// The form that texts share which differ in case, punctuation, politeness and contractions
    /// alone. `None`: nothing is left, or those may be what the text is about.
    pub fn canonical(&self) -> Option<&str> {
        self.canonical.as_deref()
    }

    /// Why no other question may stand for this one.
    pub fn unfit(&self) -> Option<Unfit> {
        self.unfit
    }

    pub fn vector(&self) -> Vector {
        self.vector
    }

    /// What was read.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// What was found of two questions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// The answer to one may serve the other.
    pub same: bool,
    /// The log of the odds that they ask the same, as the trees see it.
    pub score: f32,
    /// What forbids it, whatever the score.
    pub veto: Option<&'static str>,
}

/// Compares two questions whose vectors, of whatever embedder, have this cosine.
pub fn judge(a: &Question, b: &Question, cosine: f32) -> Verdict {
    let difference = compare::compare(&a.form, &b.form);
    let veto = if a.unfit.or(b.unfit).is_some() {
        Some("unfit")
    } else {
        // a cosine that is no number is far, too
        let far = cosine.is_nan() || cosine < LEAST_COSINE;
        difference.veto().map(Guard::as_str).or(far.then_some("far"))
    };
    let score = trees::score(&features::with(a, b, &difference));
    Verdict { same: veto.is_none() && score >= SHIPPED, score, veto }
}

/// Lines of a text whose layout says nothing.
const MOST_LINES: usize = 3;

fn canonical(words: &Words) -> Option<Box<str>> {
    let unsafe_to_fold = words.quote
        || words.code
        || words.lines > MOST_LINES
        || (0..words.list.len())
            .any(|at| lexicon::longest(List::AboutLetters, words, at).is_some());
    if unsafe_to_fold || words.list.is_empty() {
        return None;
    }
    let mut form = String::with_capacity(words.list.len() * 6);
    for &word in &words.list {
        if !form.is_empty() {
            form.push(' ');
        }
        form.push_str(words.text(word));
    }
    Some(form.into())
}

#[cfg(test)]
mod tests;

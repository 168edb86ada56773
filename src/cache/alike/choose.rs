//! Which of a question's neighbours asks the same, if one surely does.
//!
//! A likeness above the threshold is not enough: each neighbour is judged on its words. The one with
//! the best score is taken, unless the next one is about as near and the two do not ask the same as
//! each other: then at most one of them is right, and nobody knows which.
use std::sync::Arc;

use super::rows::Row;
use crate::cache::Key;
use crate::semantic::{Question, Verdict, judge};

/// A second one that is farther off by this cosine is no rival.
const MARGIN: f32 = 0.02;

/// A neighbour above the threshold.
pub struct Candidate {
    pub entry: Key,
    pub cosine: f32,
    pub principal: u64,
    pub vouched: bool,
    text: Arc<str>,
}

/// The one that was taken.
pub struct Chosen {
    pub candidate: Candidate,
    pub score: f32,
}

impl Candidate {
    pub fn new(cosine: f32, row: &Row) -> Self {
        Self {
            entry: row.entry,
            cosine,
            principal: row.principal,
            vouched: row.vouched,
            text: row.text.clone(),
        }
    }
}

/// `candidates` with the nearest first; `judged` is [`by_words`]. Else why not, in a word.
pub fn choose(
    question: &Question,
    candidates: Vec<Candidate>,
    judged: impl Fn(&Question, &Question) -> Verdict,
) -> Result<Chosen, &'static str> {
    let mut why = None;
    let mut verified = Vec::new();
    for candidate in candidates {
        let text = Question::read(&candidate.text);
        let verdict = judged(question, &text);
        if verdict.same && verdict.veto.is_none() {
            verified.push((Chosen { candidate, score: verdict.score }, text));
        } else {
            // of the nearest one
            why.get_or_insert(verdict.veto.unwrap_or("verifier"));
        }
    }
    verified.sort_by(|(a, _), (b, _)| b.score.total_cmp(&a.score));
    let mut verified = verified.into_iter();
    let Some((first, text)) = verified.next() else { return Err(why.unwrap_or("verifier")) };
    if let Some((second, other)) = verified.next() {
        let near = first.candidate.cosine - second.candidate.cosine < MARGIN;
        if near && !judged(&text, &other).same {
            return Err("ambiguous");
        }
    }
    Ok(first)
}

/// By the cosine that the judge was made with, whichever embedder found the neighbour.
pub fn by_words(a: &Question, b: &Question) -> Verdict {
    judge(a, b, a.vector().cosine(&b.vector()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts that begin with the same letter ask the same, and so do `q` and all but `z`; the last
    /// digit is the score.
    fn judged(a: &Question, b: &Question) -> Verdict {
        let (a, b) = (a.text().as_bytes(), b.text().as_bytes());
        let score = f32::from(b[b.len() - 1]);
        let veto = (b[0] == b'z').then_some("veto");
        Verdict { same: veto.is_none() && (a[0] == b[0] || a[0] == b'q'), score, veto }
    }

    fn chosen(candidates: &[(f32, &str)]) -> Result<String, &'static str> {
        let candidates = candidates.iter().map(|(cosine, text)| Candidate {
            entry: Key([0; 32]),
            cosine: *cosine,
            principal: 0,
            vouched: false,
            text: (*text).into(),
        });
        let chosen = choose(&Question::read("q 0"), candidates.collect(), judged);
        chosen.map(|chosen| chosen.candidate.text.to_string())
    }

    #[test]
    fn the_best_score_is_taken() {
        assert_eq!(chosen(&[(0.98, "a 3"), (0.97, "a 5"), (0.96, "a 4")]), Ok("a 5".into()));
    }

    #[test]
    fn a_neighbour_that_asks_something_else_is_passed_over() {
        assert_eq!(chosen(&[(0.99, "z 9"), (0.95, "a 3")]), Ok("a 3".into()));
        assert_eq!(chosen(&[(0.99, "z 9")]), Err("veto"));
    }

    #[test]
    fn two_that_differ_from_each_other_are_nobodys_answer() {
        assert_eq!(chosen(&[(0.98, "a 5"), (0.97, "b 4")]), Err("ambiguous"));
        assert_eq!(
            chosen(&[(0.98, "a 5"), (0.95, "b 4")]),
            Ok("a 5".into()),
            "no rival so far off"
        );
        assert_eq!(
            chosen(&[(0.98, "a 4"), (0.95, "b 5")]),
            Err("ambiguous"),
            "a better, farther one"
        );
    }
}

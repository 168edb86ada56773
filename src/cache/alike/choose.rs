//! Which of a question's neighbours asks the same, if one surely does.
//!
//! A likeness above the threshold is not enough: each neighbour is judged on its words. The one with
//! the best score is taken, unless the next one is about as near and the two do not ask the same as
//! each other: then at most one of them is right, and nobody knows which.
use crate::cache::Key;
use crate::semantic::{Question, judge};

use super::rows::Row;

/// A second one that is farther off by this cosine is no rival.
const MARGIN: f32 = 0.02;

/// A neighbour above the threshold.
pub struct Candidate {
    pub entry: Key,
    pub cosine: f32,
    pub principal: u64,
    pub vouched: bool,
    text: std::sync::Arc<str>,
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

/// `candidates` with the nearest first. Else why not, in a word.
pub fn choose(question: &Question, candidates: Vec<Candidate>) -> Result<Chosen, &'static str> {
    let mut why = None;
    let mut verified = Vec::new();
    for candidate in candidates {
        let text = Question::read(&candidate.text);
        let verdict = judge(question, &text, cosine(question, &text));
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
        if near && !judge(&text, &other, cosine(&text, &other)).same {
            return Err("ambiguous");
        }
    }
    Ok(first)
}

/// By the table that the judge was made with, whichever embedder found the neighbour.
fn cosine(a: &Question, b: &Question) -> f32 {
    a.vector().cosine(&b.vector())
}

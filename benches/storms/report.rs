//! The table: what was done, what came of it, and whether that is good enough.
use std::fmt;

use crate::Part;

pub const HEAD: &str = "| | what | figure | wanted |\n|---|---|---|---|";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    Pass,
    Short,
    /// The machine was too busy to tell.
    Inconclusive,
}

#[derive(Debug)]
pub struct Line {
    pub word: Word,
    what: String,
    figure: String,
    wanted: &'static str,
}

impl Line {
    pub fn new(word: Word, what: &str, figure: String, wanted: &'static str) -> Self {
        Self { word, what: what.to_owned(), figure, wanted }
    }

    pub fn that(passed: bool, what: &str, figure: String, wanted: &'static str) -> Self {
        Self::new(if passed { Word::Pass } else { Word::Short }, what, figure, wanted)
    }

    /// A part that did not get to its end.
    pub fn failed(part: Part, error: &anyhow::Error) -> Self {
        Self::that(false, &format!("{part:?}"), format!("{error:#}"), "an end")
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.word {
            Word::Pass => "PASS",
            Word::Short => "SHORT",
            Word::Inconclusive => "INCONCLUSIVE",
        };
        write!(f, "| {word} | {} | {} | {} |", self.what, self.figure, self.wanted)
    }
}

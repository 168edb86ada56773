//! What questions say, told from their words alone: a stand-in of the shape that the real one has.
//!
//! Folds case and punctuation; its vector counts letters.
pub const VERSION: u32 = 0;
pub const DIMS: usize = 64;

/// A direction of length one, in steps of 1/127.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vector(pub [i8; DIMS]);

impl Vector {
    pub fn cosine(&self, other: &Self) -> f32 {
        let dot = |a: &Self, b: &Self| -> i32 {
            a.0.iter().zip(&b.0).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum()
        };
        dot(self, other) as f32 / ((dot(self, self) * dot(other, other)).max(1) as f32).sqrt()
    }
}

/// Why a text is never looked up by likeness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    TooShort,
}

impl Unfit {
    pub fn as_str(self) -> &'static str {
        "too-short"
    }
}

/// A text, prepared.
pub struct Question {
    text: String,
    folded: String,
}

impl Question {
    pub fn read(text: &str) -> Self {
        let plain = text.to_lowercase().replace(|c: char| !c.is_alphanumeric(), " ");
        let folded = plain.split_whitespace().collect::<Vec<_>>().join(" ");
        Self { text: text.to_owned(), folded }
    }

    pub fn canonical(&self) -> Option<&str> {
        Some(self.folded.as_str()).filter(|folded| !folded.is_empty())
    }

    pub fn unfit(&self) -> Option<Unfit> {
        (self.folded.split(' ').count() < 3).then_some(Unfit::TooShort)
    }

    pub fn vector(&self) -> Vector {
        let mut vector = [0_i8; DIMS];
        for byte in self.folded.bytes() {
            let place = &mut vector[usize::from(byte) % DIMS];
            *place = place.saturating_add(1);
        }
        Vector(vector)
    }

    pub fn text(&self) -> &str {
        &self.text
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    pub same: bool,
    pub score: f32,
    pub veto: Option<&'static str>,
}

pub fn judge(a: &Question, b: &Question, cosine: f32) -> Verdict {
    let not = |q: &Question| q.folded.split(' ').any(|word| word == "not");
    let veto = (not(a) != not(b)).then_some("guard-negation");
    Verdict { same: veto.is_none() && cosine > 0.9, score: cosine, veto }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agreement {
    Same,
    Different,
    Unsure,
}

pub fn agree(a: &str, b: &str) -> Agreement {
    match (a == b, a.is_empty() || b.is_empty()) {
        (true, _) => Agreement::Same,
        (_, true) => Agreement::Unsure,
        _ => Agreement::Different,
    }
}

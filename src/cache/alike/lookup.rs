//! Looking a question up: by its folded form, then by likeness; and whether a hit is served or
//! compared.
//!
//! A partition's lock is held while its rows are searched, not while neighbours are judged. A hit of
//! the mode `on` is a trial with the chance that the policy says, and always is where its question is
//! another agent's and was never compared: its author's word alone is not served to others.
use std::hash::BuildHasher;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use super::choose::{self, Candidate, Chosen};
use super::ladder::ROUNDING;
use super::rows::{Breadth, Rows};
use super::table::Partition;
use super::vectors::{Direction, NEIGHBOURS};
use super::{Alike, Asked, Cost, Look, Trial, direction, form, millis, searched};
use crate::config::{Semantic, SemanticMode};
use crate::semantic::Question;

const MOST_NANOS: usize = 100_000;
/// Reading a text; a neighbour's is read again. These three are some more than what is measured.
const NANOS_A_LETTER: usize = 150;
/// Comparing two.
const NANOS_A_JUDGEMENT: usize = 6_000;
/// Searching directions.
const NANOS_A_KILOBYTE: usize = 400;

impl Alike {
    /// What a look would cost, or putting the question in.
    pub fn cost(&self, asked: &Asked<'_>) -> Cost {
        let Breadth { rows, bytes, longest } =
            match (searched(asked.rule), self.table.peek(&asked.partition)) {
                (Some(_), Some(partition)) => partition.read(Rows::breadth),
                _ => Breadth::default(),
            };
        let judged = rows.min(NEIGHBOURS);
        let nanos = NANOS_A_LETTER * (asked.text.len() + longest * judged)
            + NANOS_A_JUDGEMENT * judged
            + NANOS_A_KILOBYTE * bytes / 1024;
        if nanos < MOST_NANOS { Cost::Inline } else { Cost::Offload }
    }

    /// Looks a question up.
    pub fn look(&self, asked: &Asked<'_>, now: SystemTime) -> Look {
        let now = millis(now);
        let question = Question::read(asked.text);
        let (partition, standing) = self.table.find(&asked.partition, asked.policy);
        standing.count(|counts| counts.looks += 1);
        if let (Some(form), Some(partition)) = (form(asked.rule, &question), &partition)
            && let Some(entry) =
                partition.read(|rows| rows.by_form(&form, now).map(|row| row.entry))
        {
            standing.count(|counts| counts.canonical += 1);
            return Look::Canonical { entry };
        }
        let none = |(why, nearest)| {
            standing.nothing(why);
            Look::None { why, nearest }
        };
        let Some(rule) = searched(asked.rule) else { return none(("new", None)) };
        let direction = match direction(asked, rule, &question) {
            Ok(direction) => direction,
            Err(why) => return none((why, None)),
        };
        let least = standing.threshold(rule).max(asked.tighten.unwrap_or_default());
        let Some(partition) = partition else { return none(("new", None)) };
        match nearest(&partition, &question, &direction, least, now) {
            Ok(chosen) => {
                let look = self.decide(asked, rule, chosen);
                if let Look::Like { similarity, serve, .. } = &look {
                    standing.hit(f64::from(*similarity), *serve);
                }
                look
            }
            Err(nothing) => none(nothing),
        }
    }

    /// Whether a hit is served or compared.
    fn decide(&self, asked: &Asked<'_>, rule: &Semantic, chosen: Chosen) -> Look {
        let Chosen { candidate, score } = chosen;
        let foreign = !candidate.vouched && candidate.principal != self.principal(asked.author);
        let propensity = match rule.mode {
            // nobody but its author has it before it was compared once
            SemanticMode::On if !foreign => rule.explore.min(1.0),
            SemanticMode::On | SemanticMode::Shadow | SemanticMode::Off => 1.0,
        };
        let trial = (self.throw() < propensity).then(|| Trial {
            entry: candidate.entry,
            similarity: candidate.cosine,
            propensity,
            policy: asked.policy.clone(),
            partition: asked.partition,
            most_wrong: rule.max_wrong,
        });
        let Candidate { entry, cosine: similarity, .. } = candidate;
        Look::Like { entry, similarity, score, serve: trial.is_none(), trial }
    }

    /// In [0, 1), and nobody outside can tell which comes next.
    fn throw(&self) -> f64 {
        let thrown = self.thrown.fetch_add(1, Ordering::Relaxed);
        (self.dice.hash_one(thrown) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The question that asks the same; else why none does, and the cosine of the nearest.
fn nearest(
    partition: &Partition,
    question: &Question,
    direction: &Direction,
    least: f64,
    now: u64,
) -> Result<Chosen, (&'static str, Option<f32>)> {
    let mut first = None;
    let candidates: Vec<_> = partition.read(|rows| {
        let found = rows.nearest(direction, now).inspect(|(cosine, _)| {
            first.get_or_insert(*cosine);
        });
        let near = found.filter(|(cosine, _)| f64::from(*cosine) + ROUNDING >= least);
        near.map(|(cosine, row)| Candidate::new(cosine, row)).collect()
    });
    if candidates.is_empty() {
        let why = if first.is_some() { "below-threshold" } else { "new" };
        return Err((why, first));
    }
    choose::choose(question, candidates, choose::by_words).map_err(|why| (why, first))
}

//! Questions that were asked before in other words.
//!
//! After the exact key has missed, the last turn's words are looked up among those that were asked
//! under the same walls and after the same conversation: first by their folded form (the canonical
//! tier), then by likeness (the semantic one). Each [`Asked::partition`] has rows of its own, so there
//! is no filter that could be forgotten. Here are questions and the names of their entries; the answers
//! are kept elsewhere, and may be gone ([`Alike::forget`]). What a mode would have served is compared with what
//! came from upstream ([`Alike::learn`]): one wrong answer bars its entry, and too many raise the
//! threshold. All of this is in memory, within a budget, and ends with the process: after a restart
//! answers on disk are found by their exact key only.
mod betting;
mod choose;
mod ladder;
mod lookup;
mod operate;
mod quarantine;
mod rows;
mod standing;
mod table;
mod vectors;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use self::quarantine::Ban;
use self::rows::{Caps, Form, Row};
use self::table::Table;
use self::vectors::Direction;
use super::{Author, Key};
use crate::config::{self, Embedder, Scope, Semantic, SemanticMode};
use crate::semantic::{Agreement, Question, agree};

pub use self::betting::Interval;
pub use self::ladder::Rung;
pub use self::operate::{Figures, PolicyFigures};
pub use self::standing::{Counts, Learnt};

/// Where more than one agent shares answers, one principal has at most this part of a partition.
const SHARE: usize = 4;
/// One partition takes at most this part of the budget.
const PART: u64 = 4;

/// All partitions of a process; outlives reloads.
pub struct Alike {
    table: Table,
    dice: RandomState,
    thrown: AtomicU64,
}

/// A question, and the rule it is looked up under.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Of the policy that `rule` is of.
    pub policy: &'a Arc<str>,
    /// The walls, everything but the last turn, the embedder, and [`crate::semantic::VERSION`].
    pub partition: Key,
    /// The last turn.
    pub text: &'a str,
    pub rule: &'a config::Cache,
    pub author: &'a Author,
    /// Least cosine that the caller wants; below the one in force it changes nothing.
    pub tighten: Option<f64>,
    /// Of a remote embedder, where the rule names one.
    pub vector: Option<&'a [f32]>,
}

/// Where a look may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// Here: surely under 100 µs.
    Inline,
    /// On a thread that may block.
    Offload,
}

/// What a look found.
#[derive(Debug, Clone, PartialEq)]
pub enum Look {
    None {
        /// In a word.
        why: &'static str,
        /// Cosine of the nearest question.
        nearest: Option<f32>,
    },
    /// The same question but for case, punctuation and politeness.
    Canonical { entry: Key },
    /// A question that asks the same.
    Like {
        entry: Key,
        similarity: f32,
        /// The judge's.
        score: f32,
        /// The call goes upstream, and then to [`Alike::learn`].
        trial: Option<Trial>,
        /// The entry may be given; so there is no trial.
        serve: bool,
    },
}

/// A hit that is not served but compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    pub entry: Key,
    pub similarity: f32,
    /// The chance that it became one.
    pub propensity: f64,
    policy: Arc<str>,
    partition: Key,
    most_wrong: f64,
}

/// What a trial taught.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lesson {
    pub agreement: Agreement,
    /// The entry was barred by it.
    pub quarantined: bool,
    /// The new threshold, where it rose; infinite: nothing is served any more.
    pub risen: Option<f64>,
}

impl Alike {
    /// Bytes of memory that questions take by default, about.
    pub const BYTES: u64 = 64 << 20;

    pub fn new(budget: u64) -> Self {
        Self { table: Table::new(budget), dice: RandomState::new(), thrown: AtomicU64::new(0) }
    }

    /// An answer was kept as `entry`, until `expires`: its question is found from now on. One that is
    /// unfit for both tiers is not put in. Where a look is for a thread that may block, so is this.
    pub fn add(&self, asked: &Asked<'_>, entry: Key, expires: SystemTime, now: SystemTime) {
        let (now, until) = (millis(now), millis(expires));
        let question = Question::read(asked.text);
        let searched = searched(asked.rule);
        let direction = searched.and_then(|rule| direction(asked, rule, &question).ok());
        let form = form(asked.rule, &question);
        if until <= now || (form.is_none() && direction.is_none()) {
            return;
        }
        let ttl = asked.rule.semantic.as_ref().map_or(0, |rule| whole_millis(rule.ttl));
        let row = Row {
            entry,
            // only ever read to be judged
            text: direction.as_ref().map_or_else(Arc::default, |_| asked.text.into()),
            form,
            author: asked.author.clone(),
            principal: self.principal(asked.author),
            kept: now,
            until,
            like_until: until.min(now.saturating_add(ttl)),
            vouched: asked.rule.scope <= Scope::Agent,
        };
        let caps = self.caps(asked.rule);
        self.table.change(&asked.partition, asked.policy, |rows| match self.table.banned(&entry) {
            None => rows.put(row.clone(), direction.as_ref(), &caps),
            Some(Ban::Likeness) if row.form.is_some() => rows.put(row.clone(), None, &caps),
            Some(_) => {}
        });
    }

    fn caps(&self, rule: &config::Cache) -> Caps {
        let default = Semantic::default().entries;
        let rows = rule.semantic.as_ref().map_or(default, |rule| rule.entries).max(1);
        let each = if rule.scope > Scope::Agent { (rows / SHARE).max(1) } else { rows };
        Caps { rows, each, bytes: self.table.budget() / PART }
    }

    /// A trial's call was answered: `served` is the text that would have been given, `fresh` what
    /// came. Reads both whole; not for an I/O thread.
    pub fn learn(&self, trial: &Trial, served: &str, fresh: &str) -> Lesson {
        let agreement = agree(served, fresh);
        let Trial { entry, similarity, propensity, policy, partition, most_wrong } = trial;
        let mut lesson = Lesson { agreement, quarantined: false, risen: None };
        let Some(standing) = self.table.standing(policy) else { return lesson };
        lesson.risen = standing.learn(agreement, f64::from(*similarity), *propensity, *most_wrong);
        if agreement == Agreement::Different && self.table.ban(*entry, Ban::Likeness) {
            standing.count(|counts| counts.quarantined += 1);
            lesson.quarantined = true;
        }
        if let Some(partition) = self.table.peek(partition) {
            self.table.write(&partition, |rows| match agreement {
                Agreement::Same => rows.vouch(entry),
                Agreement::Different => rows.blind(entry),
                Agreement::Unsure => {}
            });
        }
        lesson
    }

    /// A trial's call has cost so much, in billionths of a dollar.
    pub fn forgone(&self, trial: &Trial, nano: u64) {
        if let Some(standing) = self.table.standing(&trial.policy) {
            standing.count(|counts| counts.forgone_nano = counts.forgone_nano.saturating_add(nano));
        }
    }

    /// Who asks, as far as caps and trust go.
    fn principal(&self, author: &Author) -> u64 {
        self.dice.hash_one((&author.agent, author.credential))
    }
}

/// The semantic tier, where it is switched on.
fn searched(rule: &config::Cache) -> Option<&Semantic> {
    rule.semantic.as_ref().filter(|semantic| semantic.mode != SemanticMode::Off)
}

fn form(rule: &config::Cache, question: &Question) -> Option<Form> {
    let folded = question.canonical().filter(|_| rule.canonical)?;
    Some(*blake3::hash(folded.as_bytes()).as_bytes())
}

/// Else why there is none.
fn direction(
    asked: &Asked<'_>,
    rule: &Semantic,
    question: &Question,
) -> Result<Direction, &'static str> {
    if let Some(unfit) = question.unfit() {
        return Err(unfit.as_str());
    }
    let direction = match (&rule.embedder, asked.vector) {
        (Embedder::Builtin, _) => Direction::builtin(&question.vector()),
        (Embedder::Remote { .. }, Some(vector)) => Direction::remote(vector),
        (Embedder::Remote { .. }, None) => None,
    };
    direction.ok_or("no-vector")
}

fn millis(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, whole_millis)
}

fn whole_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;

//! What one policy's likeness has done: counts, what was learnt, the threshold in force.
//!
//! Found by the policy's name, so that it outlives reloads. A reload may raise the threshold above
//! what was learnt, never below it; only an operator's reset does that.
use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::betting::Interval;
use super::ladder::{self, Label, Ladder, Rung};
use crate::config::{Semantic, SemanticMode};
use crate::semantic::Agreement;

#[derive(Debug)]
pub struct Standing {
    policy: Arc<str>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    counts: Counts,
    reasons: Vec<(&'static str, u64)>,
    ladder: Ladder,
    /// Hits by likeness, by the rung below their similarity.
    hits: BTreeMap<u16, u64>,
    /// Of the policy, as last seen; until then nothing is known.
    configured: Option<f64>,
    mode: Option<SemanticMode>,
}

/// What happened; all of them only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub looks: u64,
    /// Hits by folded form.
    pub canonical: u64,
    /// Hits by likeness, served or not.
    pub would: u64,
    /// Of these, served,
    pub served: u64,
    /// and sent upstream all the same.
    pub explored: u64,
    /// Trials that came back with an answer: `agreed + disagreed + unsure`.
    pub agreed: u64,
    pub disagreed: u64,
    pub unsure: u64,
    /// What these cost, in billionths of a dollar.
    pub forgone_nano: u64,
    /// Entries that are no longer served by likeness.
    pub quarantined: u64,
    /// Of these, by an operator's word.
    pub reported: u64,
    /// Times that the threshold rose.
    pub rises: u64,
}

/// What is known of one policy's hits.
#[derive(Debug, Clone, PartialEq)]
pub struct Learnt {
    pub counts: Counts,
    /// Why nothing was found by likeness, and how often.
    pub reasons: Vec<(&'static str, u64)>,
    /// Share of hits that are wrong, at the threshold in force.
    pub wrong: Interval,
    /// The policy's, as last seen.
    pub mode: Option<SemanticMode>,
    /// The same at other thresholds, from the configured one on.
    pub curve: Vec<Rung>,
    /// Least cosine that is served at; `None` before the first look, infinite when nothing is served.
    pub threshold: Option<f64>,
}

impl Standing {
    pub fn new(policy: Arc<str>) -> Self {
        Self { policy, state: Mutex::default() }
    }

    pub fn policy(&self) -> &Arc<str> {
        &self.policy
    }

    pub fn count(&self, what: impl FnOnce(&mut Counts)) {
        what(&mut self.state.lock().counts);
    }

    /// A hit by likeness: given, or sent upstream to be compared.
    pub fn hit(&self, similarity: f64, served: bool) {
        let mut state = self.state.lock();
        let counts = &mut state.counts;
        counts.would += 1;
        *(if served { &mut counts.served } else { &mut counts.explored }) += 1;
        *state.hits.entry(ladder::rung(similarity)).or_default() += 1;
    }

    /// Nothing was found, for that reason.
    pub fn nothing(&self, why: &'static str) {
        let reasons = &mut self.state.lock().reasons;
        match reasons.iter_mut().find(|(reason, _)| *reason == why) {
            Some((_, count)) => *count += 1,
            None => reasons.push((why, 1)),
        }
    }

    /// The least cosine in force, and says what the policy says now.
    pub fn threshold(&self, rule: &Semantic) -> f64 {
        let mut state = self.state.lock();
        (state.configured, state.mode) = (Some(rule.threshold), Some(rule.mode));
        state.ladder.threshold(rule.threshold)
    }

    /// A trial came back. The new threshold, if it rose.
    pub fn learn(
        &self,
        agreement: Agreement,
        similarity: f64,
        propensity: f64,
        most_wrong: f64,
    ) -> Option<f64> {
        let mut state = self.state.lock();
        let wrong = match agreement {
            Agreement::Same => {
                state.counts.agreed += 1;
                false
            }
            Agreement::Different => {
                state.counts.disagreed += 1;
                true
            }
            Agreement::Unsure => {
                state.counts.unsure += 1;
                return None;
            }
        };
        let configured = state.configured.unwrap_or_default();
        let label = Label { similarity, propensity, wrong };
        let risen = state.ladder.label(&label, configured, most_wrong);
        state.counts.rises += u64::from(risen.is_some());
        risen
    }

    /// Forgets what was learnt: the policy's own threshold holds again. Counts stay.
    pub fn reset(&self) {
        self.state.lock().ladder = Ladder::default();
    }

    pub fn learnt(&self) -> Learnt {
        let state = self.state.lock();
        let configured = state.configured.unwrap_or_default();
        Learnt {
            counts: state.counts,
            reasons: state.reasons.clone(),
            wrong: state.ladder.wrong(configured),
            mode: state.mode,
            curve: state.ladder.curve(configured, &state.hits),
            threshold: state.configured.map(|configured| state.ladder.threshold(configured)),
        }
    }
}

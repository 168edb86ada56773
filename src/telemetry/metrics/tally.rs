//! The numbers of one target as one thread keeps them: plain integers behind the shard's lock.
//!
//! A model's name comes from the client, so it is a label only within bounds (`ModelNames`).
use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::histogram::{self, Histogram};
use super::kept::KeptTally;
use super::{Finished, MAX_DETAILED, MAX_MODELS, MAX_NAME_BYTES, Outcome, Usage};
use crate::telemetry::redact;

/// The label for names without a label of their own.
pub(super) const OTHER: &str = "other";
/// Pairs of status and outcome a target tells apart; later ones count under status 0.
const MAX_CODES: usize = 64;

/// What a shard of a target holds.
#[derive(Debug)]
pub(super) struct Tally {
    /// Linear: a target sees a handful.
    pub codes: Vec<(u16, Outcome, u64)>,
    pub finished: u64,
    pub duration: Histogram,
    pub first_byte: Histogram,
    pub first_token: Histogram,
    pub overhead: Histogram,
    pub queued: Histogram,
    /// How far the expected tokens were from the real ones, either way.
    pub drift: Histogram,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub content_events: u64,
    pub kept: KeptTally,
    pub models: Models,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            codes: Vec::new(),
            finished: 0,
            duration: Histogram::new(&histogram::CALL),
            first_byte: Histogram::new(&histogram::CALL),
            first_token: Histogram::new(&histogram::CALL),
            overhead: Histogram::new(&histogram::OVERHEAD),
            queued: Histogram::new(&histogram::QUEUE),
            drift: Histogram::new(&histogram::GEN_AI_TOKENS),
            request_bytes: 0,
            response_bytes: 0,
            content_events: 0,
            kept: KeptTally::default(),
            models: Models::default(),
        }
    }

    pub(super) fn add(&mut self, call: &Finished<'_>, names: &ModelNames) {
        self.count_code(call.status, call.outcome, 1);
        self.finished += 1;
        let seen = call.seen.as_ref();
        self.duration.observe_seen(call.duration, seen);
        if let Some(time) = call.first_byte {
            self.first_byte.observe_seen(time, seen);
        }
        if let Some(time) = call.first_token {
            self.first_token.observe_seen(time, seen);
        }
        self.overhead.observe_seen(call.overhead, seen);
        self.queued.observe_seen(call.queued, seen);
        if let (Some(predicted), Some(usage)) = (call.held.predicted_tokens, &call.usage) {
            self.drift.observe(predicted.abs_diff(usage.input.saturating_add(usage.output)));
        }
        self.request_bytes += call.request_bytes;
        self.response_bytes += call.response_bytes;
        self.content_events += call.content_events;
        self.kept.add(call);
        // A call that we refused was no inference, unless that was after something had been used: the
        // tokens of a free model cost nothing.
        let used = call.usage.is_some() || call.held.spend() > 0;
        if used || call.inference && call.outcome != Outcome::Refused {
            self.models.add(call, names);
        }
    }

    fn count_code(&mut self, status: u16, outcome: Outcome, by: u64) {
        let find = |codes: &mut Vec<(u16, Outcome, u64)>, status| {
            let found = codes.iter_mut().find(|row| row.0 == status && row.1 == outcome);
            found.map(|row| row.2 += by).is_some()
        };
        if find(&mut self.codes, status) {
            return;
        }
        let status = if self.codes.len() < MAX_CODES { status } else { 0 };
        if !find(&mut self.codes, status) {
            self.codes.push((status, outcome, by));
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (status, outcome, count) in &other.codes {
            self.count_code(*status, *outcome, *count);
        }
        self.finished += other.finished;
        self.duration.merge(&other.duration);
        self.first_byte.merge(&other.first_byte);
        self.first_token.merge(&other.first_token);
        self.overhead.merge(&other.overhead);
        self.queued.merge(&other.queued);
        self.drift.merge(&other.drift);
        self.request_bytes += other.request_bytes;
        self.response_bytes += other.response_bytes;
        self.content_events += other.content_events;
        self.kept.merge(&other.kept);
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether a name from outside may be a label at all.
pub(super) fn is_label(name: &str) -> bool {
    let fits = (1..=MAX_NAME_BYTES).contains(&name.len());
    fits && !name.chars().any(char::is_control) && !redact::finds_any(name)
}

/// How much is kept of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// Tokens and histograms: some seventy lines in a scrape.
    Full,
    /// Tokens; its calls go to the histograms of `other`.
    Tokens,
}

/// Names that may be labels, over all targets and threads. They are never forgotten: a counter
/// that goes away and comes back at zero would be read as a reset.
#[derive(Debug, Default)]
pub(super) struct ModelNames(Mutex<HashMap<Arc<str>, Detail>>);

impl ModelNames {
    /// `answered`: a name that no upstream ever answered to takes no place, so invented names
    /// cannot push real ones out.
    fn admit(&self, name: &str, answered: bool) -> Option<(Arc<str>, Detail)> {
        if !is_label(name) {
            return None;
        }
        let mut names = self.0.lock();
        if let Some((known, detail)) = names.get_key_value(name) {
            return Some((Arc::clone(known), *detail));
        }
        if !answered || names.len() >= MAX_MODELS {
            return None;
        }
        let name: Arc<str> = name.into();
        let detail = if names.len() < MAX_DETAILED { Detail::Full } else { Detail::Tokens };
        names.insert(Arc::clone(&name), detail);
        Some((name, detail))
    }

    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }
}

/// The models of a tally. Calls mostly repeat the last one, which is found without hashing.
#[derive(Debug, Default)]
pub(super) struct Models {
    list: Vec<Model>,
    index: HashMap<Arc<str>, usize>,
    last: usize,
}

impl Models {
    fn add(&mut self, call: &Finished<'_>, names: &ModelNames) {
        let is_last = self.list.get(self.last).is_some_and(|last| *last.name == *call.model);
        if !is_last {
            self.last = self.index.get(call.model).copied().unwrap_or_else(|| {
                let answered = call.status < 400 && call.outcome == Outcome::Complete;
                match names.admit(call.model, answered) {
                    Some((name, detail)) => self.place(name, detail),
                    None => self.other(),
                }
            });
        }
        let model = &mut self.list[self.last];
        if let Some(usage) = &call.usage {
            model.tokens.add(usage);
        }
        model.spend_nano = model.spend_nano.saturating_add(call.held.spend());
        model.unpriced += u64::from(call.held.spend_nano.is_some() && !call.held.priced);
        match model.detail {
            _ if !call.inference => {}
            Detail::Full => model.observe(call),
            Detail::Tokens => {
                let other = self.other();
                self.list[other].observe(call);
            }
        }
    }

    fn other(&mut self) -> usize {
        let known = self.index.get(OTHER).copied();
        known.unwrap_or_else(|| self.place(OTHER.into(), Detail::Full))
    }

    fn place(&mut self, name: Arc<str>, detail: Detail) -> usize {
        // A client may well call its model "other".
        let detail = if *name == *OTHER { Detail::Full } else { detail };
        let list = &mut self.list;
        *self.index.entry(name).or_insert_with_key(|name| {
            let name = Arc::clone(name);
            let (tokens, operations) = (Usage::default(), Vec::new());
            list.push(Model { name, detail, tokens, spend_nano: 0, unpriced: 0, operations });
            list.len() - 1
        })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Model> {
        self.list.iter()
    }
}

/// One model's part.
#[derive(Debug)]
pub(super) struct Model {
    pub name: Arc<str>,
    detail: Detail,
    pub tokens: Usage,
    /// Billionths of a dollar.
    pub spend_nano: u64,
    /// Calls that were charged by a stand-in, because nobody told us the price.
    pub unpriced: u64,
    pub operations: Vec<(&'static str, Series)>,
}

impl Model {
    fn observe(&mut self, call: &Finished<'_>) {
        let at = self.operations.iter().position(|(name, _)| *name == call.operation);
        let at = at.unwrap_or_else(|| {
            self.operations.push((call.operation, Series::new()));
            self.operations.len() - 1
        });
        self.operations[at].1.add(call);
    }
}

impl Usage {
    pub(super) fn add(&mut self, other: &Self) {
        self.input += other.input;
        self.output += other.output;
        self.cached_input += other.cached_input;
        self.cache_write += other.cache_write;
        self.reasoning += other.reasoning;
    }
}

/// The `GenAI` histograms of one operation of one model.
#[derive(Debug, Clone)]
pub(super) struct Series {
    pub duration: Histogram,
    /// By `error.type`.
    pub failed: Vec<(Outcome, Histogram)>,
    pub input: Histogram,
    pub output: Histogram,
    pub first_token: Histogram,
    pub per_token: Histogram,
}

impl Series {
    pub(super) fn new() -> Self {
        Self {
            duration: Histogram::new(&histogram::GEN_AI_DURATION),
            failed: Vec::new(),
            input: Histogram::new(&histogram::GEN_AI_TOKENS),
            output: Histogram::new(&histogram::GEN_AI_TOKENS),
            first_token: Histogram::new(&histogram::GEN_AI_FIRST_TOKEN),
            per_token: Histogram::new(&histogram::GEN_AI_PER_TOKEN),
        }
    }

    fn add(&mut self, call: &Finished<'_>) {
        self.duration_of(call.outcome).observe_time(call.duration);
        if let Some(usage) = &call.usage {
            self.input.observe(usage.input);
            self.output.observe(usage.output);
        }
        let Some(first) = call.first_token else { return };
        self.first_token.observe_time(first);
        // Only from a count of tokens: events of a stream may carry several.
        let later = call.usage.map_or(0, |usage| usage.output.saturating_sub(1));
        if call.stream && later > 0 && call.outcome == Outcome::Complete {
            let nanos = call.duration.saturating_sub(first).as_nanos();
            self.per_token.observe(u64::try_from(nanos).unwrap_or(u64::MAX) / later);
        }
    }

    fn duration_of(&mut self, outcome: Outcome) -> &mut Histogram {
        if outcome == Outcome::Complete {
            return &mut self.duration;
        }
        let at = self.failed.iter().position(|(known, _)| *known == outcome).unwrap_or_else(|| {
            self.failed.push((outcome, Histogram::new(&histogram::GEN_AI_DURATION)));
            self.failed.len() - 1
        });
        &mut self.failed[at].1
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.duration.merge(&other.duration);
        for (outcome, histogram) in &other.failed {
            self.duration_of(*outcome).merge(histogram);
        }
        self.input.merge(&other.input);
        self.output.merge(&other.output);
        self.first_token.merge(&other.first_token);
        self.per_token.merge(&other.per_token);
    }
}

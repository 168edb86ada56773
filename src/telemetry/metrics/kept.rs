//! What the cache made of calls, as plain integers, and where a scrape finds what it holds.
//!
//! A call that needed no upstream of its own used no tokens and cost nothing: what it saved is
//! counted here and nowhere else. Counted with the rest of a call, under the same lock.
use std::fmt;
use std::sync::OnceLock;

use super::{Finished, Outcome};
use crate::telemetry::view::CacheView;

/// What the cache made of a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kept {
    /// `hit`, `canonical`, `semantic`, `joined`, `partial`, `miss` or `bypass`; `None`: no policy
    /// caches it.
    pub how: Option<&'static str>,
    /// Tokens that the call did not cost.
    pub tokens: u64,
    /// What those would have cost, in billionths of a dollar.
    pub nano: u64,
}

/// What calls did not cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Saved {
    /// Calls that had their whole answer without an upstream call of their own.
    pub calls: u64,
    pub tokens: u64,
    /// Billionths of a dollar.
    pub nano: u64,
}

/// What the cache made of several calls.
#[derive(Debug, Clone, Default)]
pub struct KeptTally {
    /// Linear: there are seven words.
    pub results: Vec<(&'static str, u64)>,
    pub saved: Saved,
}

impl Kept {
    /// Whether the call needed no upstream call of its own.
    pub(in crate::telemetry) fn is_free(&self) -> bool {
        matches!(self.how, Some("hit" | "canonical" | "semantic" | "joined"))
    }
}

impl Saved {
    pub(super) fn add(&mut self, call: &Finished<'_>) {
        let Kept { tokens, nano, .. } = call.kept;
        let whole = call.kept.is_free() && call.outcome == Outcome::Complete;
        self.merge(&Self { calls: u64::from(whole), tokens, nano });
    }

    pub(super) fn merge(&mut self, other: &Self) {
        let Self { calls, tokens, nano } = other;
        self.calls += calls;
        self.tokens = self.tokens.saturating_add(*tokens);
        self.nano = self.nano.saturating_add(*nano);
    }
}

impl KeptTally {
    pub(super) fn add(&mut self, call: &Finished<'_>) {
        if let Some(how) = call.kept.how {
            self.count(how, 1);
            self.saved.add(call);
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (how, by) in &other.results {
            self.count(how, *by);
        }
        self.saved.merge(&other.saved);
    }

    fn count(&mut self, how: &'static str, by: u64) {
        match self.results.iter_mut().find(|(known, _)| *known == how) {
            Some((_, count)) => *count += by,
            None => self.results.push((how, by)),
        }
    }
}

type Figures = Box<dyn Fn() -> CacheView + Send + Sync>;

/// Tells what the cache holds, once it is known where to ask.
#[derive(Default)]
pub(super) struct Source(OnceLock<Figures>);

impl Source {
    pub(super) fn set(&self, figures: Figures) {
        // the cache outlives every policy: there is one
        let _ = self.0.set(figures);
    }

    pub(super) fn read(&self) -> Option<CacheView> {
        self.0.get().map(|figures| figures())
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source(…)")
    }
}

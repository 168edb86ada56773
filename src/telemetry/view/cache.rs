//! What an instance says of its cache: `GET /cache`, and `cache` of `/state`.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// All of it, since the start of the process. Money is in billionths of a dollar.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CacheView {
    pub policies: Vec<CachePolicyView>,
    /// Calls in flight that others who ask the same may join.
    pub in_flight: u64,
    /// How many calls the cache made what of: `hit`, `joined`, `miss`, …
    pub calls: BTreeMap<String, u64>,
    pub saved_calls: u64,
    pub saved_tokens: u64,
    pub saved_nano: u64,
    /// Bytes that questions take, for which answers are found in other words.
    pub alike_bytes: u64,
    pub alike_budget: u64,
}

/// What one policy keeps.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CachePolicyView {
    pub policy: String,
    pub memory: MemoryView,
    /// `None`: nothing is kept on disk.
    pub disk: Option<DiskView>,
    /// `None`: no question was looked up in other words.
    pub alike: Option<AlikeView>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryView {
    pub entries: u64,
    pub bytes: u64,
    pub budget: u64,
    pub stores: u64,
    /// Taken out to make room.
    pub evictions: u64,
    /// Taken out because their time was over.
    pub expired: u64,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DiskView {
    pub records: u64,
    pub bytes: u64,
    pub budget: u64,
    /// Bytes that wait to be written.
    pub waiting: u64,
    pub stores: u64,
    pub reads: u64,
    /// Answers not written.
    pub dropped: u64,
    /// Records that were not what was written; none of them was given.
    pub damaged: u64,
    /// What the system refused.
    pub failures: u64,
    pub healthy: bool,
    /// Whether all that an earlier process left has been found.
    pub scanned: bool,
}

/// Questions in other words.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AlikeView {
    pub partitions: u64,
    pub questions: u64,
    pub looks: u64,
    /// Hits by folded form.
    pub canonical: u64,
    /// Hits by likeness, given or not.
    pub would: u64,
    pub served: u64,
    /// The others were sent upstream, to be compared with what it answers,
    pub compared: u64,
    /// Share of looks that were hits by likeness. `None`: there was no look.
    pub would_hit_rate: Option<f64>,
    /// and came back so.
    pub agreed: u64,
    pub disagreed: u64,
    pub unsure: u64,
    /// What those calls cost, in billionths of a dollar; given from here they had cost nothing.
    pub forgone_nano: u64,
    /// Share of hits that are right, and where it lies at all times.
    pub precision: ShareView,
    /// Least cosine that is served at. `None`: not known yet, or nothing is served.
    pub threshold: Option<f64>,
    /// What was learnt keeps likeness from serving anything.
    pub stopped: bool,
    pub rises: u64,
    pub quarantined: u64,
    /// Of these, by an operator's word.
    pub reported: u64,
    /// Of the policy: `shadow`, `on`; empty before the first look.
    pub mode: String,
    /// What other thresholds would have come to, ascending.
    pub curve: Vec<RungView>,
    /// Why nothing was found by likeness, and how often.
    pub reasons: BTreeMap<String, u64>,
}

/// Hits by likeness at a threshold or above it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RungView {
    pub threshold: f64,
    /// Given or not.
    pub would: u64,
    pub compared: u64,
    /// Share of them that is right.
    pub precision: ShareView,
}

/// A share of one, and its interval.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ShareView {
    /// `None`: nothing was compared yet.
    pub estimate: Option<f64>,
    pub low: f64,
    pub high: f64,
}

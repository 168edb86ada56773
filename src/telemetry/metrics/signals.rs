//! How metrics are told: as the text of a scrape, and to whoever sends them and traces elsewhere.
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use super::{Families, Metrics, scrape};

/// A call in a trace that is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub trace: u128,
    /// The call's own span.
    pub span: u64,
    /// When it ended, since 1970.
    pub unix_nanos: u64,
}

/// What is sent to a collector: spans, and data points of metrics.
#[derive(Debug, Default)]
pub struct SignalCounts {
    /// Somebody sends; otherwise there is nothing to show.
    pub on: AtomicBool,
    pub traces: SignalCount,
    pub metrics: SignalCount,
}

#[derive(Debug, Default)]
pub struct SignalCount {
    /// The collector has taken them.
    pub sent: AtomicU64,
    /// It has not, and will not be given them again; or there was no room for them.
    pub dropped: AtomicU64,
}

impl Metrics {
    /// Appends the whole exposition, `# EOF` included, as `OpenMetrics` 1.0 text.
    pub fn encode(&self, out: &mut String) {
        // Fails only where the sink fails, and a String does not.
        let _ = scrape::encode(&self.shared, &mut scrape::Text::new(out));
        out.push_str("# EOF\n");
    }

    /// For what is sent to a collector to be counted in.
    pub fn signals(&self) -> Arc<SignalCounts> {
        Arc::clone(&self.shared.signals)
    }

    /// All that is counted, family by family.
    pub(in crate::telemetry) fn tell(&self, to: &mut dyn Families) -> fmt::Result {
        scrape::encode(&self.shared, to)
    }

    /// Since when it is counted.
    pub(in crate::telemetry) fn started_unix_nanos(&self) -> u64 {
        (self.shared.started_at * 1e9) as u64
    }
}

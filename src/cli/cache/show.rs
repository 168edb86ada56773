//! The cache as people read it: pure text from what an instance told.
use std::fmt::Write as _;

use crate::cli::cells::{bytes, dollars, name, put_rows, short};
use crate::telemetry::view::{AlikeView, CachePolicyView, CacheView, ShareView};

/// In the order in which they are said; others come behind.
const RESULTS: [&str; 7] = ["hit", "canonical", "semantic", "joined", "partial", "miss", "bypass"];

const HEADS: [&str; 13] = [
    "POLICY", "ENTRIES", "MEMORY", "OF", "STORED", "EVICTED", "EXPIRED", "ON DISK", "DISK", "OF",
    "READ", "DROPPED", "FAULTS",
];
const ALIKE_HEADS: [&str; 10] = [
    "POLICY",
    "QUESTIONS",
    "LOOKS",
    "FOLDED",
    "LIKE",
    "GIVEN",
    "COMPARED",
    "RIGHT",
    "AT",
    "BARRED",
];

/// Of the instance `at`.
pub(super) fn stats(at: &str, view: &CacheView) -> String {
    let mut out = format!("{at}: ");
    put_calls(&mut out, view);
    let rows: Vec<_> = view.policies.iter().map(row).collect();
    if rows.is_empty() {
        out.push_str("\nno policy caches anything\n");
        return out;
    }
    out.push('\n');
    put_rows(&mut out, HEADS, &[0], &rows);
    let alike: Vec<_> = view
        .policies
        .iter()
        .filter_map(|one| Some(alike_row(&one.policy, one.alike.as_ref()?)))
        .collect();
    if !alike.is_empty() {
        out.push_str("\nquestions in other words:\n");
        put_rows(&mut out, ALIKE_HEADS, &[0], &alike);
    }
    out
}

/// `calls 45: hit 12, joined 3, miss 30; saved $0.01 and 12k tokens of 15 calls; in flight 2`
fn put_calls(out: &mut String, view: &CacheView) {
    let others = view.calls.keys().map(String::as_str).filter(|word| !RESULTS.contains(word));
    let counts: Vec<_> = RESULTS
        .into_iter()
        .chain(others)
        .filter_map(|word| Some(format!("{} {}", name(word), short(*view.calls.get(word)?))))
        .collect();
    // writing to a String cannot fail
    let _ = write!(out, "calls {}", short(view.calls.values().sum()));
    if !counts.is_empty() {
        let _ = write!(out, ": {}", counts.join(", "));
    }
    let _ = writeln!(
        out,
        "; saved {} and {} tokens of {} calls; in flight {}",
        dollars(view.saved_nano),
        short(view.saved_tokens),
        short(view.saved_calls),
        view.in_flight
    );
}

fn row(one: &CachePolicyView) -> [String; HEADS.len()] {
    let memory = &one.memory;
    let disk = |pick: &dyn Fn(&crate::telemetry::view::DiskView) -> String| {
        one.disk.as_ref().map_or_else(|| "–".to_owned(), pick)
    };
    [
        name(&one.policy),
        short(memory.entries),
        bytes(memory.bytes),
        bytes(memory.budget),
        short(memory.stores),
        short(memory.evictions),
        short(memory.expired),
        disk(&|disk| short(disk.records)),
        disk(&|disk| bytes(disk.bytes)),
        disk(&|disk| bytes(disk.budget)),
        disk(&|disk| short(disk.reads)),
        disk(&|disk| short(disk.dropped)),
        disk(&|disk| {
            let faults = short(disk.damaged + disk.failures);
            if disk.healthy { faults } else { format!("{faults} BROKEN") }
        }),
    ]
}

fn alike_row(policy: &str, alike: &AlikeView) -> [String; ALIKE_HEADS.len()] {
    let at = match alike.threshold {
        _ if alike.stopped => "stopped".to_owned(),
        Some(least) => format!("{least:.3}"),
        None => "–".to_owned(),
    };
    [
        name(policy),
        short(alike.questions),
        short(alike.looks),
        short(alike.canonical),
        short(alike.would),
        short(alike.served),
        short(alike.compared),
        share(&alike.precision),
        at,
        short(alike.quarantined),
    ]
}

/// `98.0% (91.2–100.0)`
fn share(share: &ShareView) -> String {
    let ShareView { estimate, low, high } = *share;
    estimate.map_or_else(
        || "–".to_owned(),
        |estimate| format!("{:.1}% ({:.1}–{:.1})", estimate * 100.0, low * 100.0, high * 100.0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::view::{DiskView, MemoryView};

    #[test]
    fn what_is_kept_and_saved_is_said() {
        let memory = MemoryView {
            entries: 12,
            bytes: 34_567,
            budget: 64 << 20,
            stores: 15,
            ..MemoryView::default()
        };
        let disk = DiskView {
            records: 15,
            bytes: 2 << 20,
            budget: 1 << 30,
            failures: 2,
            ..DiskView::default()
        };
        let alike = AlikeView {
            questions: 12,
            looks: 20,
            would: 5,
            compared: 5,
            precision: ShareView { estimate: Some(0.8), low: 0.512, high: 1.0 },
            threshold: Some(0.92),
            ..AlikeView::default()
        };
        let one = CachePolicyView {
            policy: "everyone".to_owned(),
            memory,
            disk: Some(disk),
            alike: Some(alike),
        };
        let bare = CachePolicyView { policy: "\x1b[2J".to_owned(), ..CachePolicyView::default() };
        let calls = [("miss", 30), ("hit", 1200), ("odd", 1)];
        let view = CacheView {
            policies: vec![one, bare],
            in_flight: 2,
            calls: calls.map(|(how, count)| (how.to_owned(), count)).into(),
            saved_calls: 1200,
            saved_tokens: 12_345,
            saved_nano: 12_300_000,
            ..CacheView::default()
        };
        let want = "\
http://a: calls 1.2k: hit 1.2k, miss 30, odd 1; saved $0.0123 and 12k tokens of 1.2k calls; in flight 2

POLICY    ENTRIES  MEMORY     OF  STORED  EVICTED  EXPIRED  ON DISK  DISK    OF  READ  DROPPED    FAULTS
everyone       12   33KiB  64MiB      15        0        0       15  2MiB  1GiB     0        0  2 BROKEN
\u{fffd}[2J            0      0B     0B       0        0        0        –     –     –     –        –         –

questions in other words:
POLICY    QUESTIONS  LOOKS  FOLDED  LIKE  GIVEN  COMPARED               RIGHT     AT  BARRED
everyone         12     20       0     5      0         5  80.0% (51.2–100.0)  0.920       0
";
        assert_eq!(stats("http://a", &view), want);
        assert!(stats("a", &CacheView::default()).ends_with("\nno policy caches anything\n"));
    }
}

//! What the cache made of calls, and what it holds.
use super::*;
use crate::telemetry::view::{
    AlikeView, CachePolicyView, CacheView, DiskView, MemoryView, ShareView,
};

fn kept(how: &'static str, tokens: u64, nano: u64) -> Kept {
    Kept { how: Some(how), tokens, nano }
}

#[test]
fn what_was_saved_is_counted_apart_from_what_was_used() {
    let metrics = Metrics::new();
    let target = metrics.target("chat", "openai", "openai");
    let who = Who { agent: "a", rung: Some(Rung::Key), ..Who::default() };
    let spent = Held { spend_nano: Some(500), priced: true, ..Held::default() };
    let miss = Finished { who, held: spent, kept: kept("miss", 0, 0), ..call("m") };
    let hit = Finished { usage: None, held: Held::default(), ..miss.clone() };
    let all = [
        miss.clone(),
        Finished { kept: kept("hit", 113, 500), ..hit.clone() },
        Finished { kept: kept("hit", 113, 500), ..hit.clone() },
        Finished { kept: kept("joined", 7, 30), ..hit.clone() },
        // it left in the middle of what it would have been given
        Finished { kept: kept("hit", 0, 0), outcome: Outcome::ClientGone, ..hit.clone() },
        Finished { kept: Kept::default(), ..miss.clone() },
    ];
    for call in &all {
        target.started();
        target.finished(call);
        metrics.finished(call);
    }
    let text = scrape(&metrics);
    let at = |name: &str, more: &[(&str, &str)]| {
        let labels = [&[("route", "chat"), ("upstream", "openai")], more].concat();
        value(&text, name, &labels)
    };
    let result = |how| at("tidegate_cache_requests_total", &[("result", how)]);
    assert_eq!(
        (result("hit"), result("joined"), result("miss")),
        (Some(3.0), Some(1.0), Some(1.0))
    );
    assert_eq!(result("bypass"), None);
    assert_eq!(at("tidegate_cache_saved_tokens_total", &[]), Some(233.0));
    assert_eq!(at("tidegate_cache_saved_dollars_total", &[]), Some(1030e-9));
    // two calls went upstream, six were made
    let output = [("model", "m"), ("type", "output")];
    assert_eq!(value(&text, "tidegate_tokens_total", &output), Some(202.0));
    assert_eq!(at("tidegate_spend_dollars_total", &[]), Some(1000e-9));
    assert_eq!(at("tidegate_requests_total", &[("outcome", "complete")]), Some(5.0));
    assert_eq!(at("tidegate_request_duration_seconds_count", &[]), Some(6.0));
    let agent = [("agent", "a"), ("team", "")];
    assert_eq!(value(&text, "tidegate_agent_saved_dollars_total", &agent), Some(1030e-9));
    let saved = metrics.agents()[0].tally.saved;
    assert_eq!(saved, Saved { calls: 3, tokens: 233, nano: 1030 });
    let kept = metrics.kept();
    assert_eq!(kept.saved, saved);
    assert_eq!(kept.results.iter().map(|(_, count)| count).sum::<u64>(), 5);
}

#[test]
fn calls_that_no_policy_caches_take_no_lines() {
    let metrics = Metrics::new();
    metrics.target("r", "u", "p").finished(&call("m"));
    assert!(!scrape(&metrics).contains("tidegate_cache"));
}

#[test]
fn what_is_held_is_asked_for_at_a_scrape() {
    let metrics = Metrics::new();
    let disk = DiskView {
        records: 4,
        damaged: 1,
        failures: 2,
        dropped: 3,
        healthy: true,
        ..DiskView::default()
    };
    let alike = AlikeView {
        questions: 9,
        canonical: 5,
        would: 6,
        agreed: 7,
        forgone_nano: 250_000_000,
        precision: ShareView { estimate: None, low: 0.25, high: 1.0 },
        stopped: true,
        ..AlikeView::default()
    };
    let memory = MemoryView { entries: 3, bytes: 1300, evictions: 8, ..MemoryView::default() };
    let policies = vec![
        CachePolicyView { policy: "p\"".to_owned(), memory, disk: Some(disk), alike: Some(alike) },
        CachePolicyView { policy: "bare".to_owned(), ..CachePolicyView::default() },
    ];
    let view = CacheView { policies, in_flight: 2, ..CacheView::default() };
    metrics.watch_cache(move || view.clone());
    let text = scrape(&metrics);
    let at = |name: &str, policy, more: &[(&str, &str)]| {
        value(&text, name, &[&[("policy", policy)], more].concat())
    };
    assert_eq!(value(&text, "tidegate_cache_in_flight", &[]), Some(2.0));
    assert_eq!(at("tidegate_cache_entries", "p\"", &[("tier", "memory")]), Some(3.0));
    assert_eq!(at("tidegate_cache_entries", "p\"", &[("tier", "disk")]), Some(4.0));
    assert_eq!(at("tidegate_cache_entries", "bare", &[("tier", "memory")]), Some(0.0));
    assert_eq!(at("tidegate_cache_entries", "bare", &[("tier", "disk")]), None);
    assert_eq!(at("tidegate_cache_bytes", "p\"", &[("tier", "memory")]), Some(1300.0));
    assert_eq!(at("tidegate_cache_evictions_total", "p\"", &[]), Some(8.0));
    assert_eq!(at("tidegate_cache_disk_faults_total", "p\"", &[("kind", "failed")]), Some(2.0));
    assert_eq!(at("tidegate_cache_disk_dropped_total", "p\"", &[]), Some(3.0));
    assert_eq!(at("tidegate_cache_disk_healthy", "p\"", &[]), Some(1.0));
    assert_eq!(at("tidegate_cache_questions", "p\"", &[]), Some(9.0));
    assert_eq!(at("tidegate_cache_alike_hits_total", "p\"", &[("kind", "likeness")]), Some(6.0));
    assert_eq!(at("tidegate_cache_alike_trials_total", "p\"", &[("verdict", "same")]), Some(7.0));
    assert_eq!(at("tidegate_cache_alike_forgone_dollars_total", "p\"", &[]), Some(0.25));
    let precision = |bound| at("tidegate_cache_alike_precision_ratio", "p\"", &[("bound", bound)]);
    assert_eq!((precision("low"), precision("estimate")), (Some(0.25), None));
    assert_eq!(at("tidegate_cache_alike_threshold", "p\"", &[]), None, "nothing is served");
    assert_eq!(at("tidegate_cache_questions", "bare", &[]), None);
}

//! Agents, money and limits.
use super::*;
use crate::telemetry::view::LaneView;

fn by<'a>(agent: &'a str, team: &'a str) -> Who<'a> {
    Who { agent, team, rung: Some(Rung::Header), ..Who::default() }
}

fn cost(nano: i64) -> Held<'static> {
    Held { spend_nano: Some(nano), priced: true, ..Held::default() }
}

#[test]
fn a_call_is_counted_for_its_agent() {
    let metrics = Metrics::new();
    let who = by("researcher", "growth");
    let queued = Duration::from_millis(250);
    for _ in 0..3 {
        metrics.finished(&Finished { who, held: cost(100_000_000), queued, ..call("m") });
    }
    let refused = Finished {
        who,
        status: 429,
        outcome: Outcome::Refused,
        error: Some("limit_tokens"),
        usage: None,
        ..call("m")
    };
    metrics.finished(&refused);
    let waited_out = Outcome::Deadline(Deadline::Queue);
    metrics.finished(&Finished { outcome: waited_out, error: Some("queue_timeout"), ..refused });
    metrics.finished(&Finished { outcome: Outcome::UpstreamBroken, ..refused });
    let text = scrape(&metrics);
    let at = |name: &str, more: &[(&str, &str)]| {
        let labels = [&[("agent", "researcher"), ("team", "growth")], more].concat();
        value(&text, &format!("tidegate_agent_{name}_total"), &labels)
    };
    assert_eq!(at("requests", &[("outcome", "complete")]), Some(3.0));
    assert_eq!(at("requests", &[("outcome", "deadline_queue")]), Some(1.0));
    assert_eq!(at("tokens", &[("type", "output")]), Some(303.0));
    assert_eq!(at("tokens", &[("type", "cached_input")]), Some(12.0));
    assert_eq!(at("wait_seconds", &[]), Some(0.75));
    assert_eq!(at("refusals", &[("reason", "limit_tokens")]), Some(1.0));
    assert_eq!(at("refusals", &[("reason", "queue_timeout")]), Some(1.0));
    // a float sum would say 0.30000000000000004
    let spend = "tidegate_agent_spend_dollars_total{agent=\"researcher\",team=\"growth\"} 0.3\n";
    assert!(text.contains(spend), "{text}");
    let [researcher] = &metrics.agents()[..] else { panic!("one agent") };
    assert_eq!((researcher.tally.calls, researcher.tally.refused), (6, 2));
    assert_eq!(researcher.tally.recent_waits(), (queued, queued));
}

#[test]
fn calls_of_nobody_are_nobodys() {
    let metrics = Metrics::new();
    metrics.finished(&call("m"));
    assert!(metrics.agents().is_empty());
    assert!(!scrape(&metrics).contains("tidegate_agent_requests"));
}

#[test]
fn the_median_is_that_of_the_last_waits() {
    let metrics = Metrics::new();
    for wait in (0..100).chain([0; 7]).chain([5; 8]).chain([900]) {
        let queued = Duration::from_millis(wait);
        metrics.finished(&Finished { who: by("a", ""), queued, ..call("m") });
    }
    let waits = metrics.agents()[0].tally.recent_waits();
    assert_eq!(waits, (Duration::from_millis(5), Duration::from_millis(900)));
}

#[test]
fn invented_agents_are_bounded_and_none_of_their_calls_is_lost() {
    let metrics = Metrics::new();
    let finish = |agent: &str, team: &str| {
        metrics.finished(&Finished { who: by(agent, team), ..call("m") });
    };
    let long = "x".repeat(MAX_NAME_BYTES + 1);
    for bad in ["a\nb", "a\u{1b}[31m", "a\u{1f}b", "sk-abcdefghij0123", &long] {
        finish(bad, "");
        finish("a", bad);
    }
    finish("first", "");
    for number in 0..5000 {
        finish(&format!("a{number}"), ["", "red", "blue"][number % 3]);
        finish("first", "");
    }
    // its labels are those of the overflow
    finish("other", "other");
    let text = scrape(&metrics);
    assert_eq!(value(&text, "tidegate_agent_labels", &[]), Some(MAX_AGENTS as f64));
    let rows: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("tidegate_agent_requests_total"))
        .map(sample)
        .collect();
    assert_eq!(rows.len(), MAX_AGENTS + 1);
    assert!((rows.iter().map(|row| row.value).sum::<f64>() - 10_012.0).abs() < 0.5);
    let name = "tidegate_agent_requests_total";
    assert_eq!(value(&text, name, &[("agent", "first"), ("team", "")]), Some(5001.0));
    let other = [("agent", "other"), ("team", "other")];
    assert_eq!(value(&text, name, &other), Some(5011.0 - (MAX_AGENTS - 1) as f64));
    assert!(!text.contains("sk-"), "a key in place of a name");
}

#[test]
fn a_name_takes_a_label_once_it_is_proved_or_answered() {
    let metrics = Metrics::new();
    let refused = Finished { status: 429, outcome: Outcome::Refused, ..call("m") };
    let labelled = |agent: &str| metrics.agents().iter().any(|one| *one.agent == *agent);
    metrics.finished(&Finished { who: by("invented", ""), ..refused });
    assert!(!labelled("invented") && labelled("other"));
    metrics.finished(&Finished { who: by("invented", ""), ..call("m") });
    assert!(labelled("invented"));
    let who = Who { rung: Some(Rung::Key), ..by("known", "") };
    metrics.finished(&Finished { who, ..refused });
    assert!(labelled("known"));
}

#[test]
fn hostile_agents_stay_inside_their_quotes() {
    let metrics = Metrics::new();
    let evil = "a\"} 1 evil{b=\"\\";
    metrics.finished(&Finished { who: by(evil, evil), ..call("m") });
    let text = scrape(&metrics);
    let labels = [("agent", evil), ("team", evil)];
    assert_eq!(value(&text, "tidegate_agent_requests_total", &labels), Some(1.0));
}

#[test]
fn money_is_counted_by_route_and_model() {
    let metrics = Metrics::new();
    for route in ["a", "b"] {
        let target = metrics.target(route, "u", "p");
        target.finished(&Finished { held: cost(1), ..call("m") });
        target.finished(&Finished { held: cost(-5), ..call("m") });
        let unpriced = Held { priced: false, ..cost(2_000_000_000) };
        target.finished(&Finished { held: unpriced, ..call("new") });
    }
    let text = scrape(&metrics);
    let spend = |route, model| {
        let labels = [("route", route), ("upstream", "u"), ("model", model)];
        value(&text, "tidegate_spend_dollars_total", &labels)
    };
    assert_eq!((spend("a", "m"), spend("b", "new")), (Some(0.000_000_001), Some(2.0)));
    let unpriced = |model| value(&text, "tidegate_unpriced_calls_total", &[("model", model)]);
    assert_eq!((unpriced("m"), unpriced("new")), (None, Some(2.0)));
}

#[test]
fn the_drift_is_the_distance_either_way() {
    let metrics = Metrics::new();
    let target = metrics.target("r", "u", "p");
    // 113 tokens are real
    for predicted in [100, 120] {
        let held = Held { predicted_tokens: Some(predicted), ..Held::default() };
        target.finished(&Finished { held, ..call("m") });
        target.finished(&Finished { held, usage: None, ..call("m") });
    }
    let text = scrape(&metrics);
    let labels = [("route", "r"), ("upstream", "u")];
    assert_eq!(value(&text, "tidegate_settle_drift_tokens_sum", &labels), Some(20.0));
    assert_eq!(value(&text, "tidegate_settle_drift_tokens_count", &labels), Some(2.0));
}

#[test]
fn limits_queues_and_pace_are_told() {
    let metrics = Metrics::new();
    let limit = metrics.limit("everyone", "tokens", "observe");
    assert!(Arc::ptr_eq(&limit, &metrics.limit("everyone", "tokens", "observe")));
    limit.refused();
    limit.refused();
    metrics.limit("everyone", "tokens", "hard");
    metrics.runaway("slow");
    let lane = |route: &str, slots| LaneView {
        route: route.to_owned(),
        running: 2,
        slots,
        waiting: 5,
        depth: 9,
    };
    metrics.lanes_are(vec![lane("gone", None)]);
    metrics.lanes_are(vec![lane("chat", Some(2)), lane("free", None)]);
    let pool = metrics.pool("u");
    pool.queued(Class::Batch).store(7, Ordering::Relaxed);
    pool.rate_limited.store(3, Ordering::Relaxed);
    pool.paused.store(1, Ordering::Relaxed);
    let text = scrape(&metrics);
    let at = |name, labels: &[(&str, &str)]| value(&text, name, labels);
    let labels = |mode| [("policy", "everyone"), ("measure", "tokens"), ("mode", mode)];
    assert_eq!(at("tidegate_limit_refusals_total", &labels("observe")), Some(2.0));
    assert_eq!(at("tidegate_limit_refusals_total", &labels("hard")), Some(0.0));
    assert_eq!(at("tidegate_runaway_total", &[("action", "slow")]), Some(1.0));
    let queue = |class| at("tidegate_queue_depth", &[("upstream", "u"), ("class", class)]);
    assert_eq!((queue("interactive"), queue("batch")), (Some(0.0), Some(7.0)));
    assert_eq!(at("tidegate_upstream_rate_limited_total", &[("upstream", "u")]), Some(3.0));
    assert_eq!(at("tidegate_pace_paused", &[("upstream", "u")]), Some(1.0));
    let lane = |what, route| value(&text, &format!("tidegate_lane_{what}"), &[("route", route)]);
    let all = |route| ["running", "waiting", "slots"].map(|what| lane(what, route));
    assert_eq!(all("chat"), [Some(2.0), Some(5.0), Some(2.0)]);
    assert_eq!(all("free"), [Some(2.0), Some(5.0), None]);
    assert_eq!(all("gone"), [None; 3]);
}

#[test]
fn no_agents_call_is_lost_between_threads_and_scrapes() {
    let metrics = Metrics::new();
    std::thread::scope(|scope| {
        for thread in 0..12 {
            let metrics = &metrics;
            scope.spawn(move || {
                for number in 0..500 {
                    let agent = format!("a{}", (thread + number) % 7);
                    metrics.finished(&Finished { who: by(&agent, ""), ..call("m") });
                }
            });
        }
        for _ in 0..5 {
            scrape(&metrics);
        }
    });
    let agents = metrics.agents();
    assert_eq!(agents.len(), 7);
    assert_eq!(agents.iter().map(|one| one.tally.calls).sum::<u64>(), 6000);
}

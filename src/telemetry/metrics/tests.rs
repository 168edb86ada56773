use std::collections::{HashMap, HashSet};

use super::*;

mod agents;
mod book;
mod cache;
mod tasks;

fn call(model: &str) -> Finished<'_> {
    Finished {
        status: 200,
        outcome: Outcome::Complete,
        model,
        operation: "chat",
        inference: true,
        duration: Duration::from_millis(1100),
        first_byte: Some(Duration::from_millis(90)),
        first_token: Some(Duration::from_millis(100)),
        overhead: Duration::from_micros(30),
        queued: Duration::ZERO,
        request_bytes: 1000,
        response_bytes: 20_000,
        usage: Some(Usage { input: 12, output: 101, cached_input: 4, ..Usage::default() }),
        stream: true,
        content_events: 100,
        error: None,
        who: Who::default(),
        held: Held::default(),
        kept: Kept::default(),
        seen: None,
    }
}

fn scrape(metrics: &Metrics) -> String {
    let mut out = String::new();
    metrics.encode(&mut out);
    check(&out);
    out
}

/// The value of one series, its labels in any order.
fn value(text: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    text.lines().filter(|line| !line.starts_with('#')).map(sample).find_map(|line| {
        let all =
            labels.iter().all(|(key, value)| line.labels.get(*key).is_some_and(|v| v == value));
        (line.name == name && all).then_some(line.value)
    })
}

#[derive(Debug)]
struct Sample<'a> {
    name: &'a str,
    labels: HashMap<String, String>,
    value: f64,
}

/// One sample line, by the grammar of `OpenMetrics` 1.0, without exemplars and timestamps.
fn sample(line: &str) -> Sample<'_> {
    let end = line.find(['{', ' ']).expect("a name");
    let name = &line[..end];
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    assert!(name.chars().all(legal) && !name.starts_with(|c: char| c.is_ascii_digit()), "{line}");
    let mut labels = HashMap::new();
    let mut rest = &line[end..];
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (key, after) = rest.split_once("=\"").expect("a label");
            assert!(key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{line}");
            let (value, after) = label_value(after);
            assert!(labels.insert(key.to_owned(), value).is_none(), "label twice: {line}");
            let Some(next) = after.strip_prefix(',') else {
                rest = after.strip_prefix('}').expect("a closing brace");
                break;
            };
            rest = next;
        }
    }
    let number = rest.strip_prefix(' ').expect("one space");
    Sample { name, labels, value: number.parse().unwrap_or_else(|_| panic!("number: {line}")) }
}

fn label_value(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => match chars.next().map(|(_, c)| c) {
                Some('n') => value.push('\n'),
                Some(c @ ('"' | '\\')) => value.push(c),
                other => panic!("bad escape {other:?} in {text}"),
            },
            '\n' => panic!("raw newline in {text}"),
            c => value.push(c),
        }
    }
    panic!("unterminated: {text}");
}

/// A strict reader of the whole exposition: each family is described once and in one piece, its
/// samples bear its name and a suffix of its type, no series comes twice, buckets rise and end
/// with the count.
fn check(text: &str) {
    assert!(text.ends_with("# EOF\n"), "no end");
    assert_eq!(text.matches("# EOF").count(), 1);
    let mut families = HashSet::new();
    let mut series = HashSet::new();
    let (mut family, mut kind) = (String::new(), String::new());
    let mut buckets: HashMap<String, Vec<(f64, f64)>> = HashMap::new();
    let mut counts = HashMap::new();
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(meta) = line.strip_prefix("# ") {
            let words: Vec<&str> = meta.splitn(3, ' ').collect();
            match words[0] {
                "HELP" => {
                    family = words[1].to_owned();
                    assert!(families.insert(family.clone()), "family twice: {family}");
                }
                "TYPE" => {
                    assert_eq!(words[1], family);
                    kind = words[2].to_owned();
                }
                "UNIT" => assert!(family.ends_with(&format!("_{}", words[2])), "{line}"),
                _ => panic!("{line}"),
            }
            continue;
        }
        let sample = sample(line);
        let suffix = sample.name.strip_prefix(family.as_str()).expect("samples of the family");
        let allowed: &[&str] = match kind.as_str() {
            "counter" => &["_total"],
            "gauge" => &[""],
            "info" => &["_info"],
            "histogram" => &["_sum", "_count", "_bucket"],
            other => panic!("type {other}"),
        };
        assert!(allowed.contains(&suffix), "{line} is no {kind}");
        let mut sorted: Vec<_> = sample.labels.iter().collect();
        sorted.sort();
        assert!(series.insert(format!("{}{sorted:?}", sample.name)), "series twice: {line}");
        sorted.retain(|(key, _)| *key != "le");
        let key = format!("{family}{sorted:?}");
        if suffix == "_bucket" {
            let le: f64 = sample.labels["le"].parse().expect("a bound");
            buckets.entry(key).or_default().push((le, sample.value));
        } else if suffix == "_count" {
            counts.insert(key, sample.value);
        }
    }
    for (key, rows) in buckets {
        assert!(rows.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{key}: {rows:?}");
        assert_eq!(rows.last().copied(), Some((f64::INFINITY, counts[&key])), "{key}");
    }
}

#[test]
fn a_call_is_counted_in_every_family() {
    let metrics = Metrics::new();
    let target = metrics.target("chat", "openai", "openai");
    target.started();
    assert_eq!(target.in_flight(), 1);
    let labels = [("route", "chat"), ("upstream", "openai")];
    assert_eq!(value(&scrape(&metrics), "tidegate_requests_in_flight", &labels), Some(1.0));
    target.finished(&call("gpt-4o"));
    let text = scrape(&metrics);
    let at = |name, labels: &[(&str, &str)]| value(&text, name, labels);
    assert_eq!(at("tidegate_requests_in_flight", &labels), Some(0.0));
    let ended = [("code", "200"), ("outcome", "complete")];
    assert_eq!(at("tidegate_requests_total", &ended), Some(1.0));
    assert_eq!(at("tidegate_request_duration_seconds_sum", &labels), Some(1.1));
    assert_eq!(at("tidegate_overhead_seconds_bucket", &[("le", "0.00002")]), Some(0.0));
    assert_eq!(at("tidegate_overhead_seconds_bucket", &[("le", "0.00005")]), Some(1.0));
    assert_eq!(at("tidegate_queue_wait_seconds_count", &labels), Some(1.0));
    assert_eq!(at("tidegate_response_bytes_total", &labels), Some(20_000.0));
    let output = [("upstream", "openai"), ("model", "gpt-4o"), ("type", "output")];
    assert_eq!(at("tidegate_tokens_total", &output), Some(101.0));
    let model = [("gen_ai_request_model", "gpt-4o"), ("gen_ai_operation_name", "chat")];
    assert_eq!(at("gen_ai_server_time_per_output_token_seconds_sum", &model), Some(0.01));
    assert_eq!(at("gen_ai_client_token_usage_sum", &[("gen_ai_token_type", "input")]), Some(12.0));
    let good = [("gen_ai_provider_name", "openai"), ("error_type", "")];
    assert_eq!(at("gen_ai_client_operation_duration_seconds_count", &good), Some(1.0));
}

#[test]
fn the_same_labels_give_the_same_handles() {
    let metrics = Metrics::new();
    let first = metrics.target("r", "u", "p");
    assert!(Arc::ptr_eq(&first, &metrics.target("r", "u", "p")));
    assert!(!Arc::ptr_eq(&first, &metrics.target("r2", "u", "p")));
    assert!(Arc::ptr_eq(first.pool(), &metrics.pool("u")));
}

#[test]
fn targets_that_share_labels_are_summed() {
    let metrics = Metrics::new();
    for (route, provider) in [("a", "p"), ("b", "p"), ("a", "q")] {
        metrics.target(route, "u", provider).finished(&call("m"));
    }
    let text = scrape(&metrics);
    let route = [("route", "a"), ("upstream", "u")];
    assert_eq!(value(&text, "tidegate_requests_total", &route), Some(2.0));
    let tokens = [("upstream", "u"), ("type", "input")];
    assert_eq!(value(&text, "tidegate_tokens_total", &tokens), Some(36.0));
}

#[test]
fn targets_never_used_take_no_lines() {
    let metrics = Metrics::new();
    for route in 0..50 {
        metrics.target(&format!("route{route}"), "u", "p");
    }
    let text = scrape(&metrics);
    assert!(!text.contains("route17"), "{text}");
}

#[test]
fn failures_are_told_apart() {
    let metrics = Metrics::new();
    let target = metrics.target("r", "u", "p");
    let late = Outcome::Deadline(Deadline::FirstByte);
    target.finished(&Finished { status: 504, outcome: late, usage: None, ..call("m") });
    let refused = Finished { status: 429, outcome: Outcome::Refused, ..call("m") };
    target.finished(&Finished { usage: None, ..refused });
    let text = scrape(&metrics);
    let labels = [("code", "504"), ("outcome", "deadline_first_byte")];
    assert_eq!(value(&text, "tidegate_requests_total", &labels), Some(1.0));
    let failed = [("error_type", "deadline_first_byte")];
    let name = "gen_ai_client_operation_duration_seconds_count";
    assert_eq!(value(&text, name, &failed), Some(1.0));
    assert_eq!(value(&text, name, &[("error_type", "refused")]), None);
}

#[test]
fn what_was_used_counts_and_only_inferences_are_timed() {
    let metrics = Metrics::new();
    let target = metrics.target("r", "u", "p");
    let tokens = |kind| value(&scrape(&metrics), "tidegate_tokens_total", &[("type", kind)]);
    let timed = || value(&scrape(&metrics), "gen_ai_client_operation_duration_seconds_count", &[]);
    // a free model's stream, ended by a limit
    target.finished(&Finished { outcome: Outcome::Refused, ..call("free") });
    assert_eq!((tokens("output"), timed()), (Some(101.0), Some(1.0)));
    let list = Finished { operation: "list_models", inference: false, ..call("free") };
    target.finished(&Finished { usage: None, ..list });
    assert_eq!((tokens("output"), timed()), (Some(101.0), Some(1.0)));
}

#[test]
fn invented_models_and_codes_are_bounded() {
    let metrics = Metrics::new();
    let target = metrics.target("r", "u", "p");
    for number in 0..5000 {
        let name = format!("m{number}");
        target.finished(&Finished { status: 404, ..call(&name) });
    }
    assert!(!scrape(&metrics).contains("\"m17\""), "a name nobody answered to has no label");
    for bad in ["", "a\nb", "a\u{1b}[31m", "sk-abcdefghij0123", &"x".repeat(MAX_NAME_BYTES + 1)] {
        target.finished(&call(bad));
    }
    target.finished(&call("real"));
    for number in 0..5000 {
        let name = format!("m{number}");
        target.finished(&Finished { status: 200 + (number % 400), ..call(&name) });
    }
    let text = scrape(&metrics);
    assert_eq!(value(&text, "tidegate_model_labels", &[]), Some(MAX_MODELS as f64));
    let inputs = text.lines().filter(|line| {
        line.starts_with("tidegate_tokens_total") && line.contains("type=\"input\"")
    });
    assert_eq!(inputs.count(), MAX_MODELS + 1, "all names and one for the others");
    assert!(value(&text, "tidegate_tokens_total", &[("model", "real")]).is_some());
    assert!(!text.contains("sk-"), "a key in place of a model");
    let detailed = text.lines().filter(|line| {
        line.starts_with("gen_ai_client_token_usage_count") && line.contains("type=\"input\"")
    });
    assert_eq!(detailed.count(), MAX_DETAILED + 1);
    let usage = "gen_ai_client_token_usage_count";
    let calls = text.lines().filter(|line| line.starts_with(usage)).map(|line| sample(line).value);
    assert!((calls.sum::<f64>() - 2.0 * 10_006.0).abs() < 0.5, "none is lost here either");
    let codes = text.lines().filter(|line| line.starts_with("tidegate_requests_total"));
    assert!(codes.count() <= 65);
    let all: f64 = text
        .lines()
        .filter(|line| line.starts_with("tidegate_requests_total"))
        .map(|line| sample(line).value)
        .sum();
    assert!((all - 10_006.0).abs() < 0.5, "none is lost: {all}");
}

#[test]
fn hostile_labels_stay_inside_their_quotes() {
    let metrics = Metrics::new();
    let target = metrics.target("r\"} 1\nevil{a=\"", "u\\", "p");
    target.finished(&call("m\"},x=\"\\"));
    let text = scrape(&metrics);
    assert!(!text.lines().any(|line| line.starts_with("evil")));
    let labels = [("route", "r\"} 1\nevil{a=\""), ("upstream", "u\\")];
    assert_eq!(value(&text, "tidegate_requests_total", &labels), Some(1.0));
}

#[test]
fn the_colder_counters() {
    let metrics = Metrics::new();
    metrics.connection_opened();
    metrics.connection_opened();
    metrics.connection_closed();
    metrics.connection_refused("limit");
    metrics.gate_refused("te_and_cl");
    metrics.refused("agent", "too_large");
    metrics.refused("agent", "too_large");
    metrics.reloaded(false);
    metrics.drain_stage(2);
    let listener = |aborted, not_after| ListenerUse {
        name: "https://0.0.0.0:8443".to_owned(),
        aborted,
        exhausted: 1,
        not_after,
    };
    metrics.watch_listeners(move || vec![listener(0, None), listener(4, Some(1_800_000_000))]);
    let pool = metrics.pool("u");
    pool.open.store(3, Ordering::Relaxed);
    pool.dial_failed.add(["refused"]);
    pool.deadline(Deadline::Idle);
    let text = scrape(&metrics);
    let at = |name, labels: &[(&str, &str)]| value(&text, name, labels);
    assert_eq!(at("tidegate_connections_open", &[]), Some(1.0));
    assert_eq!(at("tidegate_connections_accepted_total", &[]), Some(2.0));
    assert_eq!(at("tidegate_connections_refused_total", &[("reason", "limit")]), Some(1.0));
    assert_eq!(at("tidegate_accept_errors_total", &[("reason", "exhausted")]), Some(2.0));
    assert_eq!(at("tidegate_gate_refusals_total", &[("reason", "te_and_cl")]), Some(1.0));
    let refusal = [("source", "agent"), ("reason", "too_large")];
    assert_eq!(at("tidegate_refusals_total", &refusal), Some(2.0));
    assert_eq!(at("tidegate_config_last_reload_successful", &[]), Some(0.0));
    assert_eq!(at("tidegate_config_reloads_total", &[("result", "failed")]), Some(1.0));
    assert_eq!(at("tidegate_drain_stage", &[]), Some(2.0));
    let listener = [("listener", "https://0.0.0.0:8443")];
    let name = "tidegate_tls_certificate_not_after_timestamp_seconds";
    assert_eq!(at(name, &listener), Some(1.8e9));
    assert_eq!(at("tidegate_pool_connections_open", &[("upstream", "u")]), Some(3.0));
    assert_eq!(at("tidegate_pool_dial_failures_total", &[("reason", "refused")]), Some(1.0));
    assert_eq!(at("tidegate_upstream_deadlines_total", &[("kind", "idle")]), Some(1.0));
    assert_eq!(at("tidegate_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), Some(1.0));
    for name in ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"] {
        assert!(at(name, &[]).is_some_and(|value| value >= 0.0), "{name}");
    }
    assert!(at("process_start_time_seconds", &[]).is_some_and(|value| value > 1.7e9));
}

#[test]
fn reasons_past_the_bound_are_other() {
    let reasons = Reasons::<1>::new();
    let words: Vec<&'static str> = (0..100).map(|n| &*format!("w{n}").leak()).collect();
    for word in words.iter().chain(&words) {
        reasons.add([*word]);
    }
    assert_eq!(reasons.total(), 200);
    assert_eq!(reasons.read().len(), 65);
    assert!(reasons.read().contains(&(["other"], 72)));
    let metrics = Metrics::new();
    for word in &words {
        metrics.refused("us", word);
    }
    let text = scrape(&metrics);
    let last = value(&text, "tidegate_refusals_total", &[("reason", "w99")]);
    assert_eq!(last, Some(1.0), "all words of refusals have room");
}

#[test]
fn names_are_unique_and_well_formed() {
    let mut seen = HashSet::new();
    for name in names::ALL {
        assert!(seen.insert(name.full), "{}", name.full);
        assert!(["tidegate_", "gen_ai_", "process_"].iter().any(|p| name.full.starts_with(p)));
        assert!(!name.full.ends_with("_total") && !name.help.ends_with('.'), "{}", name.full);
    }
}

#[test]
fn no_call_is_lost_between_threads_and_scrapes() {
    let metrics = Metrics::new();
    let target = metrics.target("r", "u", "p");
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                for _ in 0..500 {
                    target.started();
                    target.finished(&call("m"));
                }
            });
        }
        for _ in 0..5 {
            scrape(&metrics);
        }
    });
    let text = scrape(&metrics);
    assert_eq!(value(&text, "tidegate_requests_total", &[("route", "r")]), Some(6000.0));
    assert_eq!(target.in_flight(), 0);
}

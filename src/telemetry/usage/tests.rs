//! What a record says, and which calls have one.
#![allow(clippy::unwrap_used, reason = "tests")]
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::telemetry::metrics::{Finished, Held, Kept, Outcome, Who};

fn call() -> Finished<'static> {
    Finished {
        status: 200,
        outcome: Outcome::Complete,
        model: "fast",
        operation: "chat",
        inference: true,
        duration: Duration::from_micros(1500),
        first_byte: None,
        first_token: None,
        overhead: Duration::ZERO,
        queued: Duration::ZERO,
        request_bytes: 1,
        response_bytes: 2,
        usage: None,
        stream: false,
        content_events: 0,
        error: None,
        who: Who { agent: "researcher", team: "growth", ..Who::default() },
        held: Held { spend_nano: Some(1_000_000_001), priced: true, ..Held::default() },
        kept: Kept::default(),
        seen: None,
    }
}

fn entry<'a>(call: &'a Finished<'a>, attempts: u32) -> Entry<'a> {
    Entry {
        time_ms: 1_700_000_000_123,
        call,
        request_id: "req_1",
        peer: "127.0.0.1",
        method: "POST",
        path: "/v1/chat/completions",
        route: "openai",
        upstream: "openai",
        attempts,
        reused: false,
        resumed: false,
        task: "",
        user_agent: None,
    }
}

/// The lines that `act` leads to.
fn written(act: impl FnOnce(&mut Lines)) -> Vec<Value> {
    let (reader, writer) = std::io::pipe().unwrap();
    let to: Box<dyn Write + Send> = Box::new(writer);
    let log = UsageLog::through(Sink::start("test", to, Arc::default()).unwrap());
    let mut lines = log.lines();
    act(&mut lines);
    drop(lines);
    assert!(log.close(Duration::from_secs(10)));
    drop(log);
    let text = std::io::read_to_string(reader).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_record_holds_whole_numbers_and_its_number() {
    let usage = Usage { input: 100, output: 20, cached_input: 60, cache_write: 4, reasoning: 5 };
    let sunk = Sunk { attempts: 1, input: 100, output: 7, nano: 3, unpriced: false };
    let billed = Billed { sent_model: "gpt-x", usage, estimated: true, unknown: false, sunk };
    let mut finished = call();
    finished.usage = Some(Usage { input: 100, output: 11, ..usage });
    let lines = written(|lines| {
        lines.write(&entry(&finished, 2), &billed);
        lines.write(&entry(&call(), 1), &Billed::default());
    });
    let [first, second, end] = &*lines else { panic!("{lines:?}") };
    let instance = first["instance"].as_str().unwrap();
    assert_eq!(instance.len(), 32);
    assert_eq!(
        *first,
        json!({
            "time": "2023-11-14T22:13:20.123Z", "log": "usage", "instance": instance, "seq": 1,
            "request_id": "req_1", "agent": "researcher", "team": "growth", "route": "openai",
            "upstream": "openai", "operation": "chat", "model": "fast", "sent_model": "gpt-x",
            "status": 200, "outcome": "complete", "attempts": 2, "input_tokens": 100,
            "cached_input_tokens": 60, "cache_write_tokens": 4, "output_tokens": 20,
            "reasoning_tokens": 5, "estimated": true, "reported_input_tokens": 100,
            "reported_output_tokens": 11, "unknown": false, "other_attempts": 1,
            "other_input_tokens": 100, "other_output_tokens": 7, "other_spend_nano": 3,
            "spend_nano": 1_000_000_001, "spend_dollars": "1.000000001", "priced": true,
            "saved_tokens": 0, "saved_nano": 0, "saved_dollars": "0", "duration_ms": 1
        })
    );
    assert_eq!((&second["seq"], &second["input_tokens"]), (&json!(2), &json!(0)));
    let last = json!({"time": end["time"], "log": "usage_end", "instance": instance, "records": 2});
    assert_eq!(*end, last);
}

#[test]
fn what_was_neither_sent_nor_spared_has_no_record() {
    let mut idle = call();
    idle.held = Held::default();
    let kept = |how| Kept { how: Some(how), ..Kept::default() };
    let lines = written(|lines| {
        for (kept, attempts) in [
            (Kept::default(), 0),
            (kept("miss"), 0),
            (kept("bypass"), 0),
            (kept("hit"), 0),
            (kept("joined"), 0),
            (Kept { how: Some("partial"), tokens: 3, nano: 4 }, 0),
            (kept("miss"), 1),
        ] {
            idle.kept = kept;
            lines.write(&entry(&idle, attempts), &Billed::default());
        }
    });
    let caches: Vec<_> = lines.iter().filter_map(|line| line["cache"].as_str()).collect();
    assert_eq!(caches, ["hit", "joined", "partial", "miss"]);
    let numbers: Vec<_> = lines.iter().filter_map(|line| line["seq"].as_u64()).collect();
    assert_eq!(numbers, [1, 2, 3, 4], "no number is drawn for what has no record");
}

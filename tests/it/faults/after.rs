//! What must hold when a fault is over, whatever it was.
//!
//! A call that has ended leaves no flight, no place in a line, no reservation, no connection that is
//! not idle, and exactly one line. That no log, metric or state shows a key is checked by [`App`]
//! when it ends; that no answer does, by [`told`].
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::app::{AGENT_KEY, App, UPSTREAM_KEY};
use crate::support::client::Answer;
use crate::support::origin::Origin;
use crate::support::{PATIENCE, until};

/// An answer that shows no key.
pub fn told(answer: Answer) -> Answer {
    let body = String::from_utf8_lossy(&answer.body);
    for key in [AGENT_KEY, UPSTREAM_KEY] {
        assert!(!answer.head.text.contains(key) && !body.contains(key), "a key in {answer:?}");
    }
    answer
}

/// All calls are over, and so they ended: status and outcome of each, in any order. Gives back
/// their lines in the order in which they were written.
pub async fn over(app: &App, calls: &[(u16, &str)]) -> Vec<Value> {
    let lines = app.lines(calls.len()).await;
    let mut ended: Vec<_> = lines.iter().map(ending).collect();
    let mut wanted: Vec<_> =
        calls.iter().map(|(status, outcome)| (*status, (*outcome).to_owned())).collect();
    ended.sort();
    wanted.sort();
    assert_eq!(ended, wanted, "{lines:#?}");
    let mut ids: Vec<_> = lines.iter().map(|line| line["request_id"].to_string()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), lines.len(), "one line a call");
    at_rest(app).await;
    lines
}

fn ending(line: &Value) -> (u16, String) {
    let status = line["status"].as_u64().and_then(|status| u16::try_from(status).ok());
    (status.expect("a status"), line["outcome"].as_str().expect("an outcome").to_owned())
}

/// Each call has one line, however many there were: one worker numbers its calls in the last eight
/// digits of their ids, and no number is missing or there twice.
pub async fn logged_once(app: &App) {
    let (from, counted) = (Instant::now(), app.count("tidegate_requests_total", &[]));
    loop {
        let lines = app.written();
        let mut numbers: Vec<_> = lines.iter().map(number).collect();
        numbers.sort_unstable();
        let routed = lines.iter().filter(|line| line["route"].is_string()).count();
        // lines are written a moment after they are counted
        if routed == counted && numbers.iter().copied().eq(0..numbers.len()) {
            return;
        }
        assert!(from.elapsed() < PATIENCE, "{counted} were counted, {routed} logged: {numbers:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn number(line: &Value) -> usize {
    let id = line["request_id"].as_str().expect("an id");
    usize::from_str_radix(&id[id.len() - 8..], 16).expect("a number")
}

/// Nothing runs, nothing waits, nothing is held.
pub async fn at_rest(app: &App) {
    let from = Instant::now();
    loop {
        let left = what_is_left(&app.state());
        if left.is_empty() {
            break;
        }
        assert!(from.elapsed() < PATIENCE, "still there: {left}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for gauge in ["tidegate_requests_in_flight", "tidegate_queue_depth"] {
        assert_eq!(app.count(gauge, &[]), 0, "{gauge}");
    }
}

/// In words, what a state shows of calls that go on.
fn what_is_left(state: &Value) -> String {
    let mut left = Vec::new();
    let mut zero = |what: &str, found: &Value| {
        if found.as_i64().is_some_and(|count| count != 0) {
            left.push(format!("{what}: {found}"));
        }
    };
    let all = |at: &Value| at.as_array().cloned().unwrap_or_default();
    zero("calls", &Value::from(all(&state["calls"]).len()));
    for queue in all(&state["queues"]) {
        zero("running", &queue["running"]);
        zero("in line", &queue["depth"]);
    }
    for upstream in all(&state["upstreams"]) {
        zero("upstream in flight", &upstream["in_flight"]);
        zero("upstream waiting", &upstream["waiting"]);
        for address in all(&upstream["addresses"]) {
            zero("address in flight", &address["in_flight"]);
        }
        let pool = |figure: &str| upstream["pool"][figure].as_i64().unwrap_or_default();
        zero("connections that are not idle", &Value::from(pool("open") - pool("idle")));
    }
    for limit in all(&state["limits"]) {
        zero("held", &limit["held"]);
        if limit["measure"] == "concurrency" {
            zero("places taken", &limit["used"]);
        }
    }
    for agent in all(&state["agents"]) {
        zero("agent in flight", &agent["in_flight"]);
        zero("agent waiting", &agent["waiting"]);
    }
    left.join(", ")
}

/// The backend has been let go: no connection is open to it but those that the pool of its upstream
/// keeps for the next call. The script must hold its connection until the other side goes.
pub async fn let_go(app: &App, origin: &Origin) {
    until("the backend is let go", async || origin.open() <= idle(app, origin)).await;
}

/// Connections that upstreams with this address keep.
fn idle(app: &App, origin: &Origin) -> usize {
    let (state, address) = (app.state(), origin.addr.to_string());
    let upstreams = state["upstreams"].as_array().cloned().unwrap_or_default();
    let its_own = upstreams.iter().filter(|upstream| upstream.to_string().contains(&address));
    let kept = its_own.map(|upstream| upstream["pool"]["idle"].as_u64().expect("a count"));
    usize::try_from(kept.sum::<u64>()).expect("a count")
}

/// The backend has not heard of it.
pub fn unheard(origin: &Origin) {
    assert_eq!((origin.requests(), origin.bytes()), (0, 0), "it reached the backend");
}

/// What is charged to all agents together of a measure of the policy `all`.
pub fn charged(app: &App, measure: &str) -> i64 {
    let state = app.state();
    let limits = state["limits"].as_array().expect("limits").iter();
    limits
        .filter(|limit| limit["measure"] == measure)
        .map(|limit| limit["used"].as_i64().expect("a count"))
        .sum()
}

/// Processor time that the program has used, by the kernel's count of hundredths of a second.
pub fn processor(app: &App) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", app.pid())).expect("a process");
    let (_, fields) = stat.rsplit_once(") ").expect("its name");
    let ticks =
        fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("ticks"));
    Duration::from_millis(10 * ticks.sum::<u64>())
}

#[test]
fn what_is_left_is_seen() {
    let quiet = serde_json::json!({
        "calls": [], "queues": [{"running": 0, "depth": 0}], "agents": [{"in_flight": 0, "waiting": 0}],
        "upstreams": [{"in_flight": 0, "waiting": 0, "addresses": [{"in_flight": 0}],
                       "pool": {"open": 2, "idle": 2}}],
        "limits": [{"held": 0, "used": 9, "measure": "tokens"},
                   {"held": 0, "used": 0, "measure": "concurrency"}],
    });
    assert_eq!(what_is_left(&quiet), "");
    for (at, value, words) in [
        ("/queues/0/running", 1, "running: 1"),
        ("/queues/0/depth", 2, "in line: 2"),
        ("/upstreams/0/in_flight", 1, "upstream in flight: 1"),
        ("/upstreams/0/addresses/0/in_flight", 1, "address in flight: 1"),
        ("/upstreams/0/pool/idle", 1, "connections that are not idle: 1"),
        ("/limits/0/held", 7, "held: 7"),
        ("/limits/1/used", 1, "places taken: 1"),
        ("/agents/0/waiting", 1, "agent waiting: 1"),
    ] {
        let mut state = quiet.clone();
        *state.pointer_mut(at).expect("it is there") = value.into();
        assert_eq!(what_is_left(&state), words);
    }
}

//! What can be seen of calls: one line each, counts that agree, and never a key.
//!
//! Every [`App`] is searched for its keys when it ends. Here the program logs all that it can, and
//! the keys are where they should not be: in queries, in bodies, in what a backend says.
use super::{CHAT, GEMINI, MESSAGES, PLAIN, STREAM, policy, simulated};
use crate::support::app::{AGENT_KEY, App, UPSTREAM_KEY};
use crate::support::client::{Client, ask, post, request};
use crate::support::h2;
use crate::support::origin::{Origin, whole};
use crate::support::until;

#[tokio::test]
async fn no_key_is_shown_whatever_goes_wrong() {
    let simulator = super::simulator();
    let more = "key: '${CANARY}', timeouts: { first_byte: 200ms, idle: 200ms },";
    let app = App::with(
        &policy(&format!("http://{}", simulator.addr), more),
        &["--workers", "2", "--log", "trace"],
    );
    let body = STREAM.replace("hi", AGENT_KEY);
    let keyed = format!("{GEMINI}&key={AGENT_KEY}");
    let client = h2::Client::connect(app.addr).await;
    let faults =
        ["", "reset", "reset-mid=2", "stall", "stall-mid=2", "garbage", "401", "error-event=2"];
    let mut calls = 0;
    for fault in faults {
        let script = if fault.is_empty() { String::new() } else { format!("fault={fault}") };
        for path in [CHAT, MESSAGES, keyed.as_str()] {
            let got = ask(app.addr, &post(path, &script, &body)).await;
            assert!(!String::from_utf8_lossy(&got.body).contains(UPSTREAM_KEY), "{fault}");
            client.ask(path, &script, &body).await;
            calls += 2;
        }
    }
    // a key in each place where it does not belong
    for (target, lines) in [
        (format!("/v1/models?api_key={AGENT_KEY}"), format!("x-api-key: {AGENT_KEY}\r\n")),
        (format!("/v1/{AGENT_KEY}"), format!("user-agent: {AGENT_KEY}\r\n")),
        ("/v1/models".to_owned(), format!("authorization: Bearer {AGENT_KEY}\r\n")),
        ("/v1/models".to_owned(), format!("connection: x {AGENT_KEY}\r\n")),
    ] {
        ask(app.addr, &request("GET", &target, &lines, "")).await;
        calls += 1;
    }
    let model = PLAIN.replace("\"m\"", &format!("\"{AGENT_KEY}\""));
    ask(app.addr, &post(CHAT, "", &model)).await;
    ask(app.addr, &post(CHAT, "", &model.replace('}', ",}"))).await;
    app.lines(calls + 2).await;
    assert!(app.events().contains("an upstream failed"));
}

#[tokio::test]
async fn the_state_names_a_call_in_flight() {
    let simulator = super::simulator();
    let app = App::start(&policy(&format!("http://{}", simulator.addr), ""));
    let mut client = Client::connect(app.addr).await;
    client.send(&post(CHAT, "ttft=60s", STREAM)).await;
    let waits = async || app.state()["calls"][0]["stage"] == "first_byte";
    until("it waits", waits).await;
    let call = app.state()["calls"][0].clone();
    assert_eq!(call["upstream"], app.upstream()["name"]);
    assert_eq!((&call["operation"], &call["model"]), (&"chat".into(), &"m".into()));
    assert!(call["request_id"].as_str().is_some_and(|id| id.starts_with("req_")));
    drop(client);
    assert_eq!(app.lines(1).await[0]["request_id"], call["request_id"]);
}

#[tokio::test]
async fn a_backend_that_repeats_the_key_is_not_logged() {
    let answer = whole("401 Unauthorized", "x-key: echoed\r\n", UPSTREAM_KEY);
    let origin = Origin::saying(answer).await;
    let app = App::with(&policy(&origin.url(), "key: '${CANARY}',"), &["--log", "trace"]);
    // an error body is the vendor's own, and passes unmodified
    assert_eq!(ask(app.addr, &post(CHAT, "", PLAIN)).await.text(), UPSTREAM_KEY);
    app.lines(1).await;
}

#[tokio::test]
async fn counts_agree_with_the_lines() {
    let (app, _simulator) = simulated("");
    let scripts =
        ["", "fault=500", "fault=truncated", "fault=reset", "fault=reset-mid=1", "fault=429"];
    for script in scripts {
        for body in [PLAIN, STREAM] {
            ask(app.addr, &post(CHAT, &format!("usage=always; {script}"), body)).await;
        }
    }
    let lines = app.lines(12).await;
    for outcome in ["complete", "upstream_error", "truncated", "upstream_broken"] {
        let count = lines.iter().filter(|line| line["outcome"] == outcome).count();
        assert!(count > 0 && app.ended(outcome) == count, "{outcome}");
    }
    let sum = |key: &str| lines.iter().filter_map(|line| line[key].as_u64()).sum::<u64>() as usize;
    assert_eq!(app.count("tidegate_request_bytes_total", &[]), sum("request_bytes"));
    assert_eq!(app.count("tidegate_response_bytes_total", &[]), sum("response_bytes"));
    assert_eq!(app.count("tidegate_request_duration_seconds_count", &[]), 12);
    let tokens = app.count("tidegate_tokens_total", &[]);
    assert!(tokens > 0 && tokens >= sum("output_tokens"), "{tokens}");
    let overhead = app.metric("tidegate_overhead_seconds_sum", &[]);
    assert!((overhead - sum("overhead_us") as f64 / 1e6).abs() < 1e-3, "{overhead}");
}

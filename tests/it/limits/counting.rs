//! What is counted: weights of token classes, and one sum in the log, the metrics and the state.
use serde_json::Value;
use tokio::task::JoinSet;

use super::{
    CHAT, COMPLETIONS, GEMINI, GENERATE, MESSAGES, OLLAMA, PLAIN, RESPONSES, STREAM, by, limited,
    policy, quiet, used,
};
use crate::support::app::App;
use crate::support::client::{Client, ask};
use crate::support::origin::{Origin, whole};

#[tokio::test]
async fn tokens_weigh_what_the_policy_says() {
    let body = r#"{"choices":[],"usage":{"prompt_tokens":1000,"completion_tokens":100,
        "prompt_tokens_details":{"cached_tokens":800},
        "completion_tokens_details":{"reasoning_tokens":60}}}"#;
    let json = "content-type: application/json\r\n";
    let origin = Origin::saying(whole("200 OK", json, body)).await;
    let app = App::start(&policy(
        &origin.url(),
        "",
        "  - { name: light, per: all, limits: { tokens: 1M/day calendar, input_tokens: 1M/day calendar, \
         output_tokens: 1M/day calendar }, token_weights: { cached_input: 10%, reasoning: 50% } }\n\
         \x20 - { name: full, per: all, match: { agent: a }, limits: { tokens: 1M/day calendar } }\n\
         \x20 - { name: free, per: all, match: { model: m }, limits: { tokens: 1M/day calendar }, \
         token_weights: { cached_input: 0%, reasoning: 0% } }\n",
    ));
    assert_eq!(ask(app.addr, &by("a", CHAT, "", PLAIN)).await.status, 200);
    quiet(&app).await;
    assert_eq!(used(&app, "light", "input_tokens", ""), 200 + 80);
    assert_eq!(used(&app, "light", "output_tokens", ""), 40 + 30);
    assert_eq!(used(&app, "light", "tokens", ""), 350);
    assert_eq!(used(&app, "full", "tokens", ""), 1100);
    assert_eq!(used(&app, "free", "tokens", ""), 240);
    app.line().await;
    let body = r#"{"type":"message","content":[],"stop_reason":"end_turn","usage":{"input_tokens":50,
        "cache_read_input_tokens":800,"cache_creation_input_tokens":150,"output_tokens":10}}"#;
    let origin = Origin::saying(whole("200 OK", json, body)).await;
    let app = App::start(&policy(
        &origin.url(),
        "",
        "  - { name: light, per: all, limits: { tokens: 1M/day calendar }, \
         token_weights: { cached_input: 10%, cache_write: 200% } }\n",
    ));
    assert_eq!(ask(app.addr, &by("a", MESSAGES, "", PLAIN)).await.status, 200);
    quiet(&app).await;
    assert_eq!(used(&app, "light", "tokens", ""), 50 + 80 + 300 + 10);
    app.line().await;
}

/// Two hundred calls of four agents, of every dialect, whole and in streams; some fail, some are
/// refused, some are left.
async fn mixed(app: &App) {
    let paths =
        [CHAT, RESPONSES, MESSAGES, GENERATE, OLLAMA, COMPLETIONS, GEMINI, "/v1/embeddings"];
    let mut all = JoinSet::new();
    for n in 0..200_usize {
        let path = paths[n % 8];
        let body = match path {
            "/v1/embeddings" => r#"{"model":"m","input":"what"}"#,
            _ if n % 3 == 0 => PLAIN,
            _ => STREAM,
        };
        let script = match n % 20 {
            3 => "fault=500",
            5 => "fault=400",
            7 => "tokens=30; fault=reset-mid=10",
            9 => "tokens=12; usage=never",
            11 => "fault=reset",
            13 => "tokens=9; reasoning=5",
            15 | 17 => "ttft=20ms; gap=3ms; tokens=100",
            _ => "tokens=15; usage=always",
        };
        let leaves = matches!(n % 20, 15 | 17);
        let (to, call) = (app.addr, by(&format!("agent-{}", n % 4), path, script, body));
        all.spawn(async move {
            let mut client = Client::connect(to).await;
            client.send(&call).await;
            if !leaves {
                let _ = client.answer().await;
            } else if n % 20 == 15 {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            } else if client.head().await.is_some_and(|head| head.is_chunked()) {
                let mut left = 20;
                while left > 0 && client.chunk().await.is_ok_and(|chunk| !chunk.is_empty()) {
                    left -= 1;
                }
            }
        });
    }
    all.join_all().await;
}

/// Dollars as whole billionths, from the text of a JSON number.
fn nano(line: &Value) -> i64 {
    line["spend_dollars"].as_f64().map_or(0, |dollars| (dollars * 1e9).round() as i64)
}

#[tokio::test]
async fn log_metrics_and_state_agree_on_what_200_calls_cost() {
    let (app, _simulator) = limited(
        "concurrency: 50, ",
        "  - { name: each, per: agent, limits: { spend: $900/day hard, requests: 9k/day calendar } }\n\
         \x20 - { name: all, per: all, limits: { spend: $2000/day } }\n",
    );
    for n in 0..4 {
        // a name becomes a label with its first success
        let call = by(&format!("agent-{n}"), CHAT, "", PLAIN);
        assert_eq!(ask(app.addr, &call).await.status, 200);
    }
    mixed(&app).await;
    quiet(&app).await;
    let lines = app.lines(204).await;
    let state = app.state();
    let mut sum = 0;
    for n in 0..4 {
        let agent = format!("agent-{n}");
        let own: Vec<_> = lines.iter().filter(|line| line["agent"] == *agent).collect();
        let logged: i64 = own.iter().map(|line| nano(line)).sum();
        assert!(logged > 0);
        assert_eq!(used(&app, "each", "spend", &agent), logged, "the budget of {agent}");
        let agents = state["agents"].as_array().unwrap();
        let shown = agents.iter().find(|one| one["agent"] == *agent).unwrap();
        assert_eq!(shown["spend_nano"].as_i64(), Some(logged), "{shown}");
        // a client may be gone before anybody looked who it was
        assert_eq!(shown["calls"].as_u64(), Some(own.len() as u64), "{shown}");
        assert!(own.len() > 35, "{own:#?}");
        let label = format!("agent=\"{agent}\"");
        let metric = app.metric("tidegate_agent_spend_dollars_total", &[&label]);
        assert!((metric - logged as f64 / 1e9).abs() < 1e-9, "{metric} {logged}");
        for (kind, field) in [("input", "input_tokens"), ("output", "output_tokens")] {
            let logged: u64 = own.iter().filter_map(|line| line[field].as_u64()).sum();
            let kind = format!("type=\"{kind}\"");
            let counted = app.metric("tidegate_agent_tokens_total", &[&label, &kind]);
            assert!((counted - logged as f64).abs() < 0.1, "{agent} {field}: {counted} {logged}");
        }
        sum += logged;
    }
    let metric = app.metric("tidegate_spend_dollars_total", &[]);
    assert!((metric - sum as f64 / 1e9).abs() < 1e-9, "{metric} {sum}");
    let records = app.records().await;
    let sent = lines.iter().filter(|line| line["attempts"].as_u64() > Some(0)).count();
    assert_eq!(records.len(), sent, "one for each call that was sent");
    let billed: i64 = records.iter().map(|record| record["spend_nano"].as_i64().unwrap()).sum();
    assert_eq!(billed, sum, "the records to the billionth");
    assert!(records.iter().any(|record| record["estimated"] == true));
    for (kind, field) in [("input", "input_tokens"), ("output", "output_tokens")] {
        let reported = |record: &Value| {
            let told = record[format!("reported_{field}")].as_u64();
            told.unwrap_or_else(|| record[field].as_u64().unwrap())
        };
        let told: u64 = records.iter().map(reported).sum();
        let counted = app.count("tidegate_tokens_total", &[&format!("type=\"{kind}\"")]);
        assert_eq!(told, counted as u64, "{field} as they were reported");
    }
    assert_eq!(used(&app, "all", "spend", ""), sum, "the budget of all");
}

//! Hard budgets of money: never overrun, whoever hammers at them, and used up before they refuse.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;

use super::{
    CHAT, GEMINI, MESSAGES, OLLAMA, PLAIN, RESPONSES, STREAM, at_once, by, error, limited, number,
    policy, quiet, statuses, used,
};
use crate::support::app::App;
use crate::support::client::{Client, End, ask};
use crate::support::origin::{Origin, STREAM as STREAM_HEAD, chunk};
use crate::support::until;

/// Input and output of a chat answer, as the simulator itself counts them.
fn tokens(answer: &[u8]) -> Option<u64> {
    let sum = |usage: &Value| {
        Some(usage["prompt_tokens"].as_u64()? + usage["completion_tokens"].as_u64()?)
    };
    if let Ok(whole) = serde_json::from_slice::<Value>(answer) {
        return sum(&whole["usage"]);
    }
    let text = std::str::from_utf8(answer).ok()?;
    let events = text.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
    events.filter_map(|data| sum(&serde_json::from_str::<Value>(data).ok()?["usage"])).last()
}

/// Fifty agents at once call until they are told to stop. Gives the tokens that they were served.
async fn hammer(app: &App, script: &'static str, bodies: &[&'static str]) -> u64 {
    let served = Arc::new(AtomicU64::new(0));
    let mut all = JoinSet::new();
    for n in 0..50 {
        let (to, served) = (app.addr, Arc::clone(&served));
        let bodies: Vec<_> = bodies.to_vec();
        all.spawn(async move {
            let mut client = Client::connect(to).await;
            for round in 0.. {
                let body = bodies[(n + round) % bodies.len()];
                client.send(&by(&format!("agent-{n}"), CHAT, script, body)).await;
                let answer = client.answer().await;
                match answer.status {
                    200 => {
                        assert_eq!(answer.end, End::Whole);
                        let tokens = tokens(&answer.body).expect("a usage");
                        served.fetch_add(tokens, Relaxed);
                    }
                    // what runs may give something back
                    429 => {
                        assert_eq!(answer.head.get("x-should-retry"), None);
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    402 => {
                        assert_eq!(error(CHAT, &answer).1, "insufficient_quota");
                        assert_eq!(answer.head.get("x-should-retry"), Some("false"));
                        assert_eq!(answer.head.get("retry-after"), None);
                        return;
                    }
                    other => panic!("{other}: {}", answer.text()),
                }
            }
        });
    }
    all.join_all().await;
    served.load(Relaxed)
}

const SAYS: [&str; 2] = [
    r#"{"model":"m","max_tokens":60,"messages":[{"role":"user","content":"hello"}]}"#,
    r#"{"model":"m","max_tokens":60,"stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hello"}]}"#,
];
const SAYS_NOTHING: [&str; 2] = [
    r#"{"model":"m","messages":[{"role":"user","content":"hello"}]}"#,
    r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hello"}]}"#,
];
/// A token costs a thousandth of a dollar.
const BUDGET: &str = "  - { name: month, per: all, limits: { spend: $30/day hard } }\n";

/// Of thirty dollars, at most all and at least nine tenths are spent.
async fn spent_well(app: &App, served: u64) {
    quiet(app).await;
    assert!(served <= 30_000, "overrun: {served} thousandths");
    assert!(served >= 27_000, "not used up: {served} thousandths");
    assert_eq!(used(app, "month", "spend", "") as u64, served * 1_000_000, "to the last cent");
    let refused = ask(app.addr, &by("late", MESSAGES, "", PLAIN)).await;
    assert_eq!((refused.status, error(MESSAGES, &refused).1.as_str()), (402, "billing_error"));
    assert!(error(MESSAGES, &refused).0.contains("`month/spend`"));
    let left = refused.head.get("x-tidegate-spend-remaining").expect("what is left");
    assert!(
        left.starts_with("$0.") || left.starts_with("$1.") || left.starts_with("$2."),
        "{left}"
    );
}

#[tokio::test]
async fn thirty_dollars_hold_under_fifty_agents_that_bound_their_answers() {
    let (app, _simulator) = limited("", BUDGET);
    let served = hammer(&app, "ttft=5ms; tokens=100", &SAYS).await;
    spent_well(&app, served).await;
}

#[tokio::test]
async fn thirty_dollars_hold_under_fifty_agents_that_say_no_bound() {
    let (app, _simulator) = limited("", BUDGET);
    let served = hammer(&app, "ttft=5ms; tokens=180", &SAYS_NOTHING).await;
    spent_well(&app, served).await;
}

#[tokio::test]
async fn thirty_dollars_hold_where_answers_would_run_into_the_bound() {
    let (app, _simulator) = limited("", BUDGET);
    let served = hammer(&app, "tokens=5000", &SAYS_NOTHING).await;
    spent_well(&app, served).await;
}

#[tokio::test]
async fn a_model_without_a_price_is_refused_where_a_hard_budget_applies() {
    let (app, simulator) = limited("", BUDGET);
    let unknown = PLAIN.replace("\"m\"", "\"nobody-knows\"");
    let refused = ask(app.addr, &by("a", CHAT, "", &unknown)).await;
    assert_eq!((refused.status, error(CHAT, &refused).1.as_str()), (403, "model_unpriced"));
    assert_eq!(refused.head.get("x-should-retry"), Some("false"));
    assert_eq!(simulator.seen().requests, 0);
    app.line().await;
    let (app, _simulator) =
        limited("", "  - { name: soft, per: all, limits: { spend: $30/day } }\n");
    assert_eq!(ask(app.addr, &by("a", CHAT, "", &unknown)).await.status, 200);
    quiet(&app).await;
    assert!(used(&app, "soft", "spend", "") > 0, "unknown is not free");
    assert_eq!(app.line().await["priced"], false);
    assert!(app.metric("tidegate_unpriced_calls_total", &["nobody-knows"]) > 0.9);
}

#[tokio::test]
async fn a_soft_budget_goes_by_predictions_and_debt_is_not_forgiven() {
    let (app, _simulator) =
        limited("", "  - { name: soft, per: agent, limits: { spend: $0.2/day } }\n");
    assert_eq!(ask(app.addr, &by("a", CHAT, "tokens=500", PLAIN)).await.status, 200);
    quiet(&app).await;
    assert!(used(&app, "soft", "spend", "a") > 500_000_000, "more than there was");
    let answers = at_once(app.addr, (0..5).map(|_| by("a", CHAT, "", PLAIN))).await;
    assert_eq!(statuses(&answers), [429; 5]);
    for answer in &answers {
        assert!(number(answer, "retry-after") >= 1);
        assert_eq!(answer.head.get("x-tidegate-spend-remaining"), Some("$0.0000"));
    }
    app.lines(6).await;
}

/// A backend that takes no notice of any bound: so many events, and on.
async fn endless(event: &'static str, stream: &'static [u8]) -> Origin {
    Origin::start(move |mut conn| async move {
        if conn.request().await.is_some() {
            conn.send(stream).await;
            for _ in 0..400 {
                conn.send(&chunk(event)).await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            conn.until_gone().await;
        }
    })
    .await
}

const LINES_HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n";

#[tokio::test]
async fn a_stream_that_goes_past_a_budget_is_ended_with_the_dialects_error() {
    let chat =
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"some words more or so\"}}]}\n\n";
    let responses = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"some words more or so\"}\n\n";
    let messages = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"some words more or so\"}}\n\n";
    let gemini = "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"some words more or so\"}]}}]}\n\n";
    let ollama = "{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"some words more or so\"},\"done\":false}\n";
    for (path, event, head, wanted) in [
        (CHAT, chat, STREAM_HEAD, "insufficient_quota"),
        (RESPONSES, responses, STREAM_HEAD, "insufficient_quota"),
        (MESSAGES, messages, STREAM_HEAD, "billing_error"),
        (GEMINI, gemini, STREAM_HEAD, "\"error\""),
        (OLLAMA, ollama, LINES_HEAD, "\"error\""),
    ] {
        let origin = endless(event, head).await;
        let limits =
            "  - { name: cut, per: all, limits: { spend: $0.5/day hard }, cut_streams: true }\n";
        let app = App::start(&policy(&origin.url(), "", limits));
        let answer = ask(app.addr, &by("a", path, "", STREAM)).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_ne!(answer.end, End::Whole, "{path}: an error never ends cleanly");
        let text = answer.text();
        let (rest, last) = match path {
            OLLAMA => text.trim_end().rsplit_once('\n').unwrap(),
            _ => text.trim_end().rsplit_once("\n\n").unwrap(),
        };
        assert!(last.contains(wanted) && last.contains("budget"), "{path}: {last}");
        assert!(rest.ends_with(event.trim_end()), "{path}: whole events before it");
        let data = last.lines().last().unwrap().trim_start_matches("data: ");
        serde_json::from_str::<Value>(data).unwrap_or_else(|why| panic!("{why}: {data}"));
        let line = app.line().await;
        assert_eq!(
            (&line["error"], &line["outcome"]),
            (&"insufficient_quota".into(), &"refused".into())
        );
        quiet(&app).await;
        let spent = used(&app, "cut", "spend", "");
        // a step of what passes unseen, no more
        assert!((400_000_000..620_000_000).contains(&spent), "{path}: {spent}");
        until("the backend is told to stop", async || origin.open() == 0).await;
    }
}

#[tokio::test]
async fn without_cut_streams_a_stream_goes_on_and_the_next_call_is_refused() {
    let (app, _simulator) =
        limited("", "  - { name: keep, per: all, limits: { spend: $0.5/day hard } }\n");
    // the simulator keeps to the bound that is put in
    let answer = ask(app.addr, &by("a", CHAT, "tokens=5000", STREAM)).await;
    assert_eq!((answer.status, answer.end), (200, End::Whole));
    assert!(answer.text().ends_with("data: [DONE]\n\n"));
    quiet(&app).await;
    assert!(used(&app, "keep", "spend", "") <= 500_000_000);
    assert_eq!(ask(app.addr, &by("a", CHAT, "", PLAIN)).await.status, 402);
    assert!(app.lines(2).await[0]["clamped"].as_u64() < Some(500));
}

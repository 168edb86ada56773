//! Clients that leave at any moment: all that they held is given back, and what they used is not.
use std::time::Duration;

use tokio::task::JoinSet;

use super::{CHAT, GEMINI, MESSAGES, OLLAMA, RESPONSES, STREAM, by, limited, quiet, used};
use crate::support::Dice;
use crate::support::client::{Client, End};

const LIMITS: &str = "  - name: own\n    per: agent\n    limits: { tokens: 50M/day calendar, \
     requests: 10k/day calendar, spend: $9000/day hard, concurrency: 100 }\n    \
     queue: { wait: 20s }\n  - name: both\n    per: all\n    limits: { output_tokens: 9M/min, \
     input_tokens: 9M/min, concurrency: 400 }\n    queue: { wait: 20s }\n";

/// How a client goes.
#[derive(Clone, Copy)]
enum Leave {
    /// So long after its request was sent.
    After(Duration),
    /// After so many chunks.
    Chunks(usize),
    Never,
}

/// Makes a call and leaves. Says how many chunks were seen.
async fn go(to: std::net::SocketAddr, call: &[u8], leave: Leave, reset: bool) -> usize {
    let mut client = Client::connect(to).await;
    client.send(call).await;
    let mut seen = 0;
    match leave {
        Leave::After(time) => tokio::time::sleep(time).await,
        Leave::Chunks(count) => {
            let head = client.head().await.expect("a head");
            assert_eq!(head.status, 200, "{}", head.text);
            while seen < count && client.chunk().await.is_ok_and(|chunk| !chunk.is_empty()) {
                seen += 1;
            }
        }
        Leave::Never => {
            let answer = client.answer().await;
            assert_eq!((answer.status, answer.end), (200, End::Whole));
        }
    }
    if reset {
        client.reset();
    }
    seen
}

#[tokio::test]
async fn of_500_streams_that_are_left_at_any_moment_nothing_stays() {
    let (app, simulator) = limited("concurrency: 60, ", LIMITS);
    let mut dice = Dice(42);
    let mut all = JoinSet::new();
    let paths = [CHAT, RESPONSES, MESSAGES, GEMINI, OLLAMA];
    for n in 0..500 {
        let call =
            by(&format!("agent-{}", n % 20), paths[n % 5], "ttft=30ms; gap=2ms; tokens=40", STREAM);
        let leave = match dice.roll(10) {
            // in line, before the head, or about when it comes
            0..4 => Leave::After(Duration::from_millis(dice.roll(120))),
            4..8 => Leave::Chunks(dice.roll(40) as usize),
            _ => Leave::Never,
        };
        let (to, reset) = (app.addr, dice.roll(2) == 0);
        all.spawn(async move { go(to, &call, leave, reset).await });
    }
    all.join_all().await;
    quiet(&app).await;
    let lines = app.lines(500).await;
    let gone = lines.iter().filter(|line| line["outcome"] == "client_gone").count();
    let complete = lines.iter().filter(|line| line["outcome"] == "complete").count();
    assert!(gone >= 150 && complete >= 80, "{gone} left, {complete} stayed");
    assert_eq!(
        i64::try_from(simulator.seen().open),
        Ok(app.pool("idle")),
        "what was left is not kept"
    );
    for n in 0..20 {
        let agent = format!("agent-{n}");
        assert!(used(&app, "own", "tokens", &agent) > 40, "what was made is charged");
    }
    // of all that was seen to pass, nothing is free
    let seen: u64 = lines.iter().filter_map(|line| line["output_tokens"].as_u64()).sum();
    let charged: i64 = (0..20).map(|n| used(&app, "own", "tokens", &format!("agent-{n}"))).sum();
    assert!(charged as u64 >= seen, "{charged} < {seen}");
}

#[tokio::test]
async fn a_stream_that_is_left_in_the_middle_is_charged_for_what_was_made() {
    let (app, _simulator) = limited("", LIMITS);
    for (agent, path) in
        [("c", CHAT), ("r", RESPONSES), ("m", MESSAGES), ("g", GEMINI), ("o", OLLAMA)]
    {
        let call = by(agent, path, "gap=5ms; tokens=500", STREAM);
        let seen = go(app.addr, &call, Leave::Chunks(60), true).await;
        assert_eq!(seen, 60);
        quiet(&app).await;
        let tokens = used(&app, "own", "tokens", agent);
        assert!((40..600).contains(&tokens), "{path}: {tokens}");
        let spent = used(&app, "own", "spend", agent);
        assert!(spent >= 40 * 1_000_000, "{path}: {spent}");
        assert_eq!(used(&app, "own", "requests", agent), 1);
    }
    let lines = app.lines(5).await;
    for line in &lines {
        assert_eq!(line["outcome"], "client_gone");
        let (agent, spent) = (line["agent"].as_str().unwrap(), line["spend_dollars"].as_f64());
        let charged = used(&app, "own", "spend", agent) as f64 / 1e9;
        assert!((spent.unwrap_or(0.0) - charged).abs() < 1e-9, "{line}: {charged}");
    }
}

#[tokio::test]
async fn who_leaves_before_the_answer_begins_has_not_called_for_free() {
    let (app, _simulator) = limited("", LIMITS);
    let call = by("a", CHAT, "ttft=5s; tokens=500", STREAM);
    go(app.addr, &call, Leave::After(Duration::from_millis(400)), false).await;
    quiet(&app).await;
    let tokens = used(&app, "own", "tokens", "a");
    // its prompt, and what a model makes in that time
    assert!((20..300).contains(&tokens), "{tokens}");
    let line = app.line().await;
    assert_eq!(line["outcome"], "client_gone");
    let charged = used(&app, "own", "spend", "a") as f64 / 1e9;
    let logged = line["spend_dollars"].as_f64().expect("a bill");
    assert!((logged - charged).abs() < 1e-9, "{line}: {charged}");
}

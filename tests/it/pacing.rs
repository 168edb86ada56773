//! A provider's limits, met from outside: paced before its 429, waited for after it.
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::Value;
use tidegate::simulate::{Options, Simulator, start};
use tokio::task::JoinSet;

use crate::support::app::App;
use crate::support::client::{Answer, Client};
use crate::support::origin::{Origin, whole};
use crate::support::until;

const CHAT: &str = "/v1/chat/completions";
const OK: &str = r#"{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5}}"#;

fn policy(url: &str, more: &str) -> String {
    format!(
        "upstreams: {{ up: {{ url: '{url}', dialect: openai, {more} }} }}\nroutes: [{{ to: up }}]\n"
    )
}

/// A call for a model, by a credential.
fn call(model: &str, key: &str, script: &str, max_tokens: u32) -> Vec<u8> {
    call_of("", model, key, script, max_tokens)
}

/// The same by an agent with a name.
fn call_of(agent: &str, model: &str, key: &str, script: &str, max_tokens: u32) -> Vec<u8> {
    let body = format!(
        r#"{{"model":"{model}","max_tokens":{max_tokens},"messages":[{{"role":"user","content":"hi"}}]}}"#
    );
    let length = body.len();
    format!(
        "POST {CHAT} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\nx-simulate: {script}\r\n\
         x-agent-id: {agent}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// As [`crate::support::client::ask`], for those who may have to wait long.
async fn ask(to: SocketAddr, request: Vec<u8>) -> (Answer, Duration) {
    let from = Instant::now();
    let mut client = Client::connect(to).await;
    client.send(&request).await;
    (client.answer().await, from.elapsed())
}

/// What came of a load.
#[derive(Debug, Default)]
struct Came {
    calls: u32,
    /// 429s that clients saw.
    limited: u32,
    other: u32,
    /// By the program's own count.
    upstream: usize,
    longest: Duration,
}

impl Came {
    fn share(&self) -> f64 {
        f64::from(self.limited) / f64::from(self.calls)
    }
}

/// Ten seconds of 1.4 times what the provider lets through, by twenty clients of one credential.
async fn overload(app: &App, key: &str) -> Came {
    const CALLS: u32 = 70;
    let mut calls = JoinSet::new();
    let from = tokio::time::Instant::now();
    for n in 0..CALLS {
        let (to, key) = (app.addr, key.to_owned());
        let at = from + Duration::from_millis(u64::from(n) * 10_000 / u64::from(CALLS));
        calls.spawn(async move {
            tokio::time::sleep_until(at).await;
            // 150 to 250 tokens with the prompt, all of the answer used: 200 on average
            let tokens = 140 + (n * 37) % 101;
            let script = format!("tokens={tokens}; ttft=300ms");
            ask(to, call("m", &key, &script, tokens)).await
        });
    }
    let mut came = Came::default();
    while let Some(done) = calls.join_next().await {
        let (answer, took) = done.unwrap();
        came.calls += 1;
        match answer.status {
            200 => {}
            429 => came.limited += 1,
            _ => came.other += 1,
        }
        came.longest = came.longest.max(took);
    }
    came.upstream = app.count("tidegate_upstream_rate_limited_total", &[]);
    came
}

/// A thousand tokens a second; each credential has used up its minute.
async fn provider(keys: &[&str]) -> Simulator {
    let listen = ([127, 0, 0, 1], 0).into();
    let simulator =
        start(Options { listen, tpm: 60_000, rpm: 6_000, ..Options::default() }).unwrap();
    for key in keys {
        let (drained, _) = ask(simulator.addr, call("m", key, "tokens=59900", 59_900)).await;
        assert_eq!(drained.status, 200);
    }
    simulator
}

#[tokio::test]
async fn pacing_keeps_the_providers_429s_away() {
    let simulator = provider(&["paced", "free"]).await;
    let url = format!("http://{}", simulator.addr);
    let paced = App::start(&policy(&url, ""));
    let free = App::start(&policy(&url, "pacing: 'off'"));
    let (with, without) = tokio::join!(overload(&paced, "paced"), overload(&free, "free"));
    let shown = format!(
        "429s with pacing {:.1} % {with:?}; without {:.1} % {without:?}",
        with.share() * 100.0,
        without.share() * 100.0
    );
    if std::env::var_os("SHOW").is_some() {
        eprintln!("{shown}");
    }
    assert_eq!((with.other, without.other), (0, 0), "{shown}");
    assert!(with.share() <= 0.09, "{shown}");
    assert!(without.share() >= 0.20, "there was a load: {shown}");
    // each 429 that a client saw was the provider's, and counted
    for came in [&with, &without] {
        assert_eq!(came.limited as usize, came.upstream, "{shown}");
    }
    assert_eq!(simulator.seen().limited, u64::from(with.limited + without.limited), "{shown}");
    let pace = &paced.state()["queues"][0]["pace"];
    let learned = pace["tokens_per_min"].as_u64().unwrap();
    assert!((30_000..=90_000).contains(&learned), "{pace}");
    assert_eq!(free.state()["queues"][0]["pace"], Value::Null);
    paced.lines(70).await;
    free.lines(70).await;
}

/// An origin that says no to its first call for `m`, with these lines; and when calls came.
async fn refusing(lines: &'static str) -> (Origin, Arc<Mutex<Vec<Instant>>>) {
    let times = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&times);
    let origin = Origin::start(move |mut conn| {
        let seen = Arc::clone(&seen);
        async move {
            while let Some(request) = conn.request().await {
                let body = String::from_utf8(request.body).unwrap();
                let is_other = !body.contains("\"m\"")
                    || request.headers.iter().any(|(_, v)| v.contains("other"));
                let first = !is_other && {
                    let mut seen = seen.lock();
                    seen.push(Instant::now());
                    seen.len() == 1
                };
                let answer = if first {
                    whole("429 Too Many Requests", lines, r#"{"error":{"message":"slow down"}}"#)
                } else {
                    whole("200 OK", "content-type: application/json\r\n", OK)
                };
                conn.send(&answer).await;
            }
        }
    });
    (origin.await, times)
}

#[tokio::test]
async fn nothing_reaches_a_provider_that_said_when_to_come_back() {
    for (lines, wait) in [
        ("retry-after: 2\r\n", 2_000),
        ("retry-after-ms: 1200\r\nretry-after: 9\r\n", 1_200),
        (
            "x-ratelimit-limit-requests: 60\r\nx-ratelimit-remaining-requests: 0\r\n\
          x-ratelimit-reset-requests: 1s\r\n",
            900,
        ),
    ] {
        let (origin, times) = refusing(lines).await;
        let app = App::start(&policy(&origin.url(), ""));
        let (first, _) = ask(app.addr, call("m", "a", "", 5)).await;
        assert_eq!(first.status, 429, "it is passed on as it came");
        let mut waiting = JoinSet::new();
        for n in 0..8 {
            let agent = format!("agent-{}", n % 4);
            waiting.spawn(ask(app.addr, call_of(&agent, "m", "a", "", 5)));
        }
        until("they wait", async || app.count("tidegate_queue_depth", &[]) == 8).await;
        let state = app.state();
        let queue = &state["queues"][0];
        assert!(queue["depth"] == 8 && queue["upstream"] == "up", "{queue}");
        let paused = queue["pace"]["paused_ms"].as_u64().unwrap();
        assert!(paused > 0 && paused <= wait.max(1_000), "{queue}");
        until("the gauge says it", async || app.count("tidegate_pace_paused", &[]) == 1).await;
        // other models and other credentials go on; the provider is not taken for broken
        let model = call_of("agent-0", "n", "a", "", 5);
        for other in [model, call("n", "a", "", 5), call("m", "other", "", 5)] {
            let (answer, took) = ask(app.addr, other).await;
            assert!(answer.status == 200 && took < Duration::from_millis(500), "{took:?}");
        }
        while let Some(done) = waiting.join_next().await {
            let (answer, _) = done.unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        let times = times.lock().clone();
        assert_eq!(times.len(), 9);
        let pause = times[1] - times[0];
        assert!(pause >= Duration::from_millis(wait - 20), "{lines}: {pause:?}");
        assert!(pause < Duration::from_millis(wait + 1_500), "{lines}: {pause:?}");
        assert_eq!(app.count("tidegate_upstream_rate_limited_total", &[]), 1);
        until("the pause is over", async || app.count("tidegate_pace_paused", &[]) == 0).await;
        let queued =
            app.lines(12).await.iter().filter(|l| l["queued_ms"].as_f64() > Some(100.0)).count();
        assert_eq!(queued, 8);
    }
}

#[tokio::test]
async fn a_long_pause_answers_at_once() {
    let (origin, times) = refusing("retry-after: 3600\r\n").await;
    let app = App::start(&policy(&origin.url(), ""));
    assert_eq!(ask(app.addr, call("m", "a", "", 5)).await.0.status, 429);
    for _ in 0..5 {
        let (answer, took) = ask(app.addr, call("m", "a", "", 5)).await;
        assert_eq!(answer.status, 429, "{}", answer.text());
        assert!(took < Duration::from_secs(1), "{took:?}");
        let head = &answer.head;
        assert_eq!(head.get("retry-after"), Some("60"), "an hour, as long as SDKs are told");
        assert_eq!(head.get("x-should-retry"), Some("false"));
        assert_eq!(head.get("x-tidegate-source"), Some("policy"));
        assert_eq!(answer.json()["error"]["code"], "rate_limit_exceeded");
    }
    assert_eq!(times.lock().len(), 1, "none of them reached it");
    let paused = app.state()["queues"][0]["pace"]["paused_ms"].as_u64().unwrap();
    assert!((3_500_000..=3_600_000).contains(&paused), "{paused}");
    let lines = app.lines(6).await;
    assert!(lines[1..].iter().all(|line| line["outcome"] == "refused"), "{lines:?}");
}

#[tokio::test]
async fn without_pacing_a_429_changes_nothing() {
    let (origin, times) = refusing("retry-after: 30\r\n").await;
    let app = App::start(&policy(&origin.url(), "pacing: 'off'"));
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(ask(app.addr, call("m", "a", "", 5)).await.0.status);
    }
    assert_eq!((statuses, times.lock().len()), (vec![429, 200, 200], 3));
    app.lines(3).await;
}

//! Where memory is short: what is kept is still given, nothing new is kept or shared, and the call
//! that holds most is the one that is cut.
use std::time::Duration;

use super::{
    Backend, OPENAI_CHAT, Script, ask, by, is_hit, policy, quiet, sent, status, until_inside,
};
use crate::support::app::{AGENT_KEY, App};
use crate::support::client::{Client, End};
use crate::support::{Dice, until};

const MIB: usize = 1 << 20;
const CACHE: &str = "{ ttl: 1h, max_entry: 32MiB }";

/// A policy with that much memory.
fn with_memory(backend: &Backend, mib: usize) -> String {
    let policies = format!("  - {{ name: once, cache: {CACHE} }}\n");
    let rest = policy(&backend.origin.url(), "", &policies);
    format!("server: {{ memory: {mib}MiB, max_body: {mib}MiB }}\n{rest}")
}

/// Events of 8 KiB each.
fn events(bytes: usize) -> Script {
    const PIECE: usize = 8 << 10;
    let words = "x".repeat(PIECE - 64);
    let event = format!(
        "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{words}\"}}}}]}}\n\n"
    );
    let end = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
               data: [DONE]\n\n"
        .to_owned();
    Script::events(vec![event; bytes / PIECE].into_iter().chain([end]))
}

/// A call that announces so much, and sends none of it.
async fn ballast(app: &App, bytes: usize) -> (Client, Vec<u8>) {
    let body = format!("{{\"model\":\"m\",\"padding\":\"{}\"}}", "x".repeat(bytes - 26));
    assert_eq!(body.len(), bytes);
    let call = by(AGENT_KEY, "/v1/chat/completions", "cache-control: no-store\r\n", &body);
    let (head, body) = call.split_at(call.len() - bytes);
    let client = sent(app.addr, head).await;
    (client, body.to_vec())
}

fn held(app: &App) -> usize {
    app.count("tidegate_memory_held_bytes", &[])
}

async fn until_level(app: &App, level: &str) {
    until(level, async || app.state()["memory"]["level"] == level).await;
}

#[tokio::test]
async fn what_is_kept_is_given_and_nothing_new_is_kept_or_shared() {
    let backend = Backend::start(events(64 << 10), Duration::ZERO).await;
    let app = App::start(&with_memory(&backend, 10));
    let known = OPENAI_CHAT.call("known?", true);
    assert_eq!(status(&ask(&app, &known).await), "tidegate; fwd=miss");
    let (ballast, _) = ballast(&app, 8 * MIB + 512 * 1024).await;
    until_level(&app, "no_sharing").await;
    assert!(is_hit(&ask(&app, &known).await));
    let new = OPENAI_CHAT.call("new?", true);
    for _ in 0..2 {
        let answer = ask(&app, &new).await;
        assert_eq!(status(&answer), "tidegate; fwd=bypass; detail=pressure");
        assert!(answer.body == backend.script.body());
    }
    assert_eq!(backend.calls(), 3);
    let only = OPENAI_CHAT.call_with("new?", true, "cache-control: only-if-cached\r\n");
    assert_eq!(ask(&app, &only).await.status, 504);
    drop(ballast);
    until_level(&app, "calm").await;
    assert_eq!(status(&ask(&app, &new).await), "tidegate; fwd=miss");
    assert!(is_hit(&ask(&app, &new).await));
    quiet(&app).await;
}

#[tokio::test]
async fn the_log_of_a_stream_counts_and_is_let_go_of_under_pressure() {
    let backend = Backend::held(events(4 * MIB), Duration::ZERO, 0).await;
    let app = App::start(&with_memory(&backend, 10));
    let call = OPENAI_CHAT.call("how long?", true);
    let reader = sent(app.addr, &call).await;
    until_inside(&app, 1).await;
    backend.release(256);
    let reading = tokio::spawn(all(reader));
    until("two MiB are held", async || held(&app) >= 2 * MIB).await;
    let (heavy, _) = ballast(&app, 6 * MIB + 512 * 1024).await;
    until_level(&app, "no_sharing").await;
    // with the next piece; what its reader has is not kept any longer
    backend.release(257);
    until("the log is let go of", async || held(&app) < 7 * MIB).await;
    backend.release(usize::MAX);
    let (body, end) = reading.await.unwrap();
    assert!(body == backend.script.body() && end == End::Whole);
    drop(heavy);
    until_level(&app, "calm").await;
    assert_eq!(status(&ask(&app, &call).await), "tidegate; fwd=miss", "it was not kept");
    quiet(&app).await;
}

/// The rest of an answer in chunks.
async fn all(mut client: Client) -> (Vec<u8>, End) {
    assert_eq!(client.head().await.unwrap().status, 200);
    let mut body = Vec::new();
    loop {
        match client.chunk().await {
            Ok(chunk) if chunk.is_empty() => return (body, End::Whole),
            Ok(chunk) => body.extend(chunk),
            Err(end) => return (body, end),
        }
    }
}

#[tokio::test]
async fn the_call_that_holds_most_is_cut_and_the_small_ones_stay() {
    let backend = Backend::held(events(16 * MIB), Duration::ZERO, 0).await;
    let app = App::with(&with_memory(&backend, 64), &["--workers", "2"]);
    let large = OPENAI_CHAT.call("large?", true);
    // one of its readers reads nothing: all is kept for it
    let idle = sent(app.addr, &large).await;
    until_inside(&app, 1).await;
    let reader = sent(app.addr, &large).await;
    until_inside(&app, 2).await;
    let reading = tokio::spawn(all(reader));
    backend.release(1024);
    until("eight MiB are held", async || held(&app) >= 8 * MIB).await;
    let (mut two, rest_of_two) = ballast(&app, 2 * MIB).await;
    let (mut one, rest_of_one) = ballast(&app, MIB).await;
    until("all is held", async || held(&app) >= 11 * MIB).await;

    app.reload(&with_memory(&backend, 10)).await;
    let cut = async || app.count("tidegate_overload_cut_total", &[]) == 1;
    until("one is cut", cut).await;
    let (body, end) = reading.await.unwrap();
    let text = String::from_utf8(body).unwrap();
    let last = &text[text.len() - 300..];
    assert!(last.contains("\"overloaded\""), "{last}");
    assert_ne!(end, End::Whole, "never taken for a whole answer");
    until("its memory is free", async || held(&app) < 4 * MIB).await;
    assert_eq!(app.count("tidegate_memory_budget_bytes", &[]), 10 * MIB);

    backend.release(usize::MAX);
    two.send(&rest_of_two).await;
    one.send(&rest_of_one).await;
    for client in [&mut two, &mut one] {
        let answer = client.answer().await;
        assert!(answer.status == 200 && answer.body == backend.script.body());
    }
    assert!(app.events().contains("the call that held most is cut"));
    assert_eq!(app.count("tidegate_overload_cut_total", &[]), 1);
    drop(idle);
    quiet(&app).await;
}

/// Calls of all kinds, of which half leave at some point: nothing stays counted behind any of them.
#[tokio::test]
async fn whatever_becomes_of_calls_what_they_held_is_given_back() {
    let backend = Backend::start(events(256 << 10), Duration::from_millis(1)).await;
    let app = App::with(&with_memory(&backend, 24), &["--workers", "2"]);
    let mut tasks = tokio::task::JoinSet::new();
    for seed in 0..8 {
        let addr = app.addr;
        tasks.spawn(async move {
            let mut dice = Dice(seed);
            for _ in 0..25 {
                one_call(addr, &mut dice).await;
            }
        });
    }
    tasks.join_all().await;
    quiet(&app).await;
    assert_eq!(app.state()["memory"]["held"], 0);
}

async fn one_call(addr: std::net::SocketAddr, dice: &mut Dice) {
    let padding = "x".repeat([10, 20_000, 300_000, 3 << 20][dice.roll(4) as usize]);
    let question = dice.roll(3);
    let body = format!(
        "{{\"model\":\"m\",\"stream\":true,\"messages\":[{{\"role\":\"user\",\"content\":\"{question}\"}}],\"user\":\"{padding}\"}}"
    );
    let lines = ["", "cache-control: no-store\r\n"][dice.roll(2) as usize];
    let call = by(AGENT_KEY, "/v1/chat/completions", lines, &body);
    let mut client = Client::connect(addr).await;
    match dice.roll(4) {
        // it leaves in its own body
        0 => client.send(&call[..dice.roll(call.len() as u64) as usize]).await,
        // it leaves before, or in, the answer
        1 => {
            client.send(&call).await;
            tokio::time::sleep(Duration::from_millis(dice.roll(60))).await;
        }
        2 => {
            client.send(&call).await;
            let _ = client.head().await;
        }
        _ => {
            client.send(&call).await;
            let answer = client.answer().await;
            assert!([200, 503].contains(&answer.status), "{answer:?}");
        }
    }
}

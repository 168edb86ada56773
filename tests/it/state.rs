//! What outlives the process: budgets and levels over kills, ends and restarts of the real program.
//!
//! The backend is an origin that counts what it was asked, so that what was spent is known without
//! the program's own word.
mod kills;
mod starts;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde_json::Value;

use crate::support::app::App;
use crate::support::client::{Answer, ask, post};
use crate::support::origin::{Origin, whole};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"hi"}]}"#;
/// What a call costs by [`prices`], in billionths of a dollar: 10 tokens in and 5 out.
const COST: u64 = 20_000_000;

/// An origin that gives each call the same answer, and how many calls it had.
async fn backend() -> (Origin, Arc<AtomicU64>) {
    let calls = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&calls);
    let origin = Origin::start(move |mut conn| {
        let count = Arc::clone(&count);
        async move {
            let usage = r#"{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5}}"#;
            let answer = whole("200 OK", "content-type: application/json\r\n", usage);
            while conn.request().await.is_some() {
                // from here on it is spent, whatever the caller hears of it
                count.fetch_add(1, Relaxed);
                conn.send(&answer).await;
            }
        }
    });
    (origin.await, calls)
}

/// One limit, with prices that make a call cost [`COST`].
fn policy(origin: &Origin, state: Option<&Path>, limit: &str) -> String {
    let state = state.map_or(String::new(), |at| format!("state: '{}'\n", at.display()));
    format!(
        "{state}upstreams: {{ up: {{ url: '{}', dialect: openai }} }}\nroutes: [{{ to: up }}]\n\
         prices: {{ m: {{ input: 1000, output: 2000 }} }}\n\
         policies: [{{ name: all, per: all, limits: {{ {limit} }} }}]\n",
        origin.url()
    )
}

async fn chat(to: SocketAddr) -> Answer {
    ask(to, &post(CHAT, "", BODY)).await
}

/// What has been used of the one limit, as the program tells it.
fn used(app: &App) -> u64 {
    let state = app.state();
    let agents = state["agents"].as_array().unwrap();
    let limit = |agent: &Value| agent["limits"][0]["used"].as_u64();
    agents.iter().find_map(limit).unwrap_or_else(|| panic!("no limit: {state}"))
}

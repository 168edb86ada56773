//! The load: the agents' side of every measurement, as a process of its own on one thread.
//!
//! It takes a [`Job`] as JSON in its one argument, does it, prints an [`Outcome`] as JSON and ends.
//! It reads the proxy's figures from /proc at the edges of the measured window itself, so that
//! neither its start nor its warm-up counts. Every job is bounded in time.
mod closed;
mod http;
mod paced;
mod questions;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, LocalOptions};

use crate::machine::Usage;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    pub to: SocketAddr,
    /// The proxy, to be watched; `None` when there is none.
    pub proxy: Option<u32>,
    pub kind: Kind,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Kind {
    /// A closed loop: each connection sends its next request when it has the whole answer; `fresh`:
    /// each differs from all others in its seed.
    Requests { connections: usize, body_bytes: usize, warm_ms: u64, window_ms: u64, fresh: bool },
    /// Streams on warm connections, all open at once, each with its own request.
    Streams { count: usize, tokens: usize, gap_ms: u64, beside: Option<Beside> },
    /// Questions, each asked once.
    Questions { from: u64, count: u64 },
    /// Streams that stay open while memory is looked at.
    Hold { count: usize, hold_ms: u64 },
}

/// Questions that are asked beside streams, each once.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Beside {
    pub from: u64,
    /// Between one and the next.
    pub gap_ms: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Requests or streams that were answered whole.
    pub done: u64,
    /// Those that failed, and why the first did.
    pub broken: u64,
    pub fault: Option<String>,
    pub seconds: f64,
    pub usage: Usage,
    /// Requests: to the answer's last byte. Streams: to the end of the first event.
    pub latency: Quantiles,
    /// Between one event of a stream and the next.
    pub gap: Quantiles,
    /// One for each stream, in order.
    pub hashes: Vec<String>,
    /// Resident memory of the proxy, its highest while the streams were held, in bytes.
    pub peak_rss: u64,
}

/// In milliseconds.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
pub struct Quantiles {
    pub p50: f64,
    pub p99: f64,
}

impl Quantiles {
    fn of(mut nanos: Vec<u32>) -> Self {
        nanos.sort_unstable();
        let at = |q: f64| {
            let index = ((nanos.len().saturating_sub(1)) as f64 * q).round() as usize;
            nanos.get(index).map_or(f64::NAN, |&n| f64::from(n) / 1e6)
        };
        Self { p50: at(0.5), p99: at(0.99) }
    }
}

pub fn main(args: &[String]) -> anyhow::Result<()> {
    let job: Job = serde_json::from_str(args.first().context("usage: --role load JOB")?)?;
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    let outcome = runtime.block_on(async {
        match job.kind {
            Kind::Requests { .. } => closed::run(&job).await,
            Kind::Streams { .. } | Kind::Hold { .. } => paced::run(&job).await,
            Kind::Questions { from, count } => questions::ask_all(job.to, from, count).await,
        }
    })?;
    println!("{}", serde_json::to_string(&outcome)?);
    // Connections that are still open end with the process.
    runtime.shutdown_background();
    Ok(())
}

/// A chat completion as an SDK sends it, `body_bytes` long; `tag` makes it differ from others.
fn request(body_bytes: usize, stream: bool, tag: usize, simulate: &str) -> Vec<u8> {
    let members = format!("\"stream\":{stream},\"user\":\"agent-{tag:05}\"");
    let words = "the quick brown fox jumps over the lazy dog and ";
    let text = body_bytes.saturating_sub(body(&members, "").len());
    let text: String = words.chars().cycle().take(text).collect();
    post(&body(&members, &text), simulate)
}

/// The body of a chat with one turn.
fn body(members: &str, text: &str) -> String {
    format!(
        "{{\"model\":\"sim-1\",{members},\"messages\":[{{\"role\":\"user\",\"content\":\"{text}\"}}]}}"
    )
}

fn post(body: &str, simulate: &str) -> Vec<u8> {
    let simulate = match simulate {
        "" => String::new(),
        // a cache would make one of all streams
        script => format!("x-simulate: {script}\r\ncache-control: no-store\r\n"),
    };
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: bench/1\r\n\
         accept: application/json\r\nauthorization: Bearer sk-bench-0000\r\n\
         content-type: application/json\r\n{simulate}content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A latency in nanoseconds; four seconds and more count as four.
fn nanos(elapsed: Duration) -> u32 {
    u32::try_from(elapsed.as_nanos()).unwrap_or(u32::MAX)
}

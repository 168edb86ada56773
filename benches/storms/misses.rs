//! Ten thousand calls at once that the cache does not know, each with what the cache keeps for it:
//! memory stays within its budget, and every call is answered.
//!
//! Callers speak HTTP/2, so that the files of the process go to the backend's connections.
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::ask::body;
use crate::process::{Output, Process, free_address};
use crate::report::Line;
use crate::{Lab, machine};

/// On each connection.
const AT_ONCE: u64 = 80;
const MIB: f64 = 1024.0 * 1024.0;

pub async fn run(lab: &Lab) -> anyhow::Result<Vec<Line>> {
    let at = free_address()?;
    let (listen, wait) = (at.to_string(), lab.size("15s", "3s"));
    let args = ["simulate", "--listen", &listen, "--answer-bytes", "4096"];
    let stderr = lab.dir.path().join("misses.err");
    let mut backend = Process::start(&lab.program, &args, None, &Output::Null, &stderr)?;
    backend.ready(at).context("the backend")?;
    let policy = format!(
        "upstreams: {{ one: {{ dialect: openai, url: \"http://{at}\" }} }}
routes: [{{ path: /, to: one }}]
policies: [{{ cache: {{ ttl: 1h, memory: 16MiB }} }}]
"
    );
    let child = lab.child("misses", &policy)?;
    let before = machine::rss(child.id()) as f64 / MIB;
    let count: u64 = lab.size(10_000, 800);
    let left = Rc::new(Cell::new(count / AT_ONCE));
    let callers: Vec<_> = (0..count / AT_ONCE)
        .map(|number| {
            let (left, to) = (Rc::clone(&left), child.at);
            tokio::task::spawn_local(async move {
                let statuses = caller(to, number, wait).await;
                left.set(left.get() - 1);
                statuses
            })
        })
        .collect();
    let (mut flying, mut held, mut rss) = (0.0_f64, 0.0_f64, 0.0_f64);
    while left.get() > 0 {
        let metrics = child.metrics().await?;
        flying = flying.max(metrics.sum("tidegate_upstream_in_flight", ""));
        held = held.max(metrics.sum("tidegate_memory_held_bytes", "") / MIB);
        rss = rss.max(machine::rss(child.id()) as f64 / MIB);
        sleep(Duration::from_millis(100)).await;
    }
    let (mut good, mut refused, mut other) = (0_u64, 0_u64, 0_u64);
    for caller in callers {
        let statuses = caller.await?.unwrap_or_default();
        good += statuses.iter().filter(|status| **status == 200).count() as u64;
        refused += statuses.iter().filter(|status| **status == 503).count() as u64;
        other += AT_ONCE - statuses.iter().filter(|it| matches!(**it, 200 | 503)).count() as u64;
    }
    let budget = child.metrics().await?.sum("tidegate_memory_budget_bytes", "") / MIB;
    child.end()?;
    let figure = format!(
        "{good} answered, {refused} refused, {other} lost; at most {flying} at once, {held:.0} MiB held \
         of {budget:.0}, {rss:.0} MiB resident ({before:.0} at rest)"
    );
    let enough = flying >= 0.9 * count as f64;
    let bounded = held <= budget && rss <= before + budget;
    let passed = good == count && other == 0 && enough && bounded;
    let what = format!("{count} misses in flight with the cache on");
    Ok(vec![Line::that(passed, &what, figure, "all answered, within the budget")])
}

/// Statuses of calls that are made at once on one connection.
async fn caller(to: std::net::SocketAddr, number: u64, wait: &str) -> anyhow::Result<Vec<u16>> {
    let io = TokioIo::new(TcpStream::connect(to).await?);
    let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
    let driver = tokio::task::spawn(connection);
    let mut calls = Vec::new();
    for call in 0..AT_ONCE {
        let request = hyper::Request::post(format!("http://{to}/v1/chat/completions"))
            .header("authorization", "Bearer sk-storm")
            .header("content-type", "application/json")
            .header("x-simulate", format!("ttft={wait}"))
            .body(Full::new(Bytes::from(body(false, number * AT_ONCE + call))))?;
        let mut sender = sender.clone();
        calls.push(tokio::task::spawn_local(async move {
            let answer = sender.send_request(request).await?;
            let status = answer.status().as_u16();
            let whole = answer.into_body().collect().await?.to_bytes().ends_with(b"}");
            anyhow::Ok(if whole { status } else { 0 })
        }));
    }
    let mut statuses = Vec::new();
    for call in calls {
        statuses.push(call.await?.unwrap_or(0));
    }
    driver.abort();
    Ok(statuses)
}

//! Policies change under load, one after the other: no call may notice.
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use anyhow::ensure;
use tidegate::simulate;
use tokio::time::{Instant, sleep};

use crate::Lab;
use crate::ask::{ask, chat, open};
use crate::child::Child;
use crate::report::Line;

const CLIENTS: u64 = 32;
const TOTAL: &str = "tidegate_config_reloads_total";

pub async fn run(lab: &Lab) -> anyhow::Result<Vec<Line>> {
    let listen = ([127, 0, 0, 1], 0).into();
    let backend = simulate::start(simulate::Options { listen, ..simulate::Options::default() })?;
    let policy = |turn: usize| {
        format!(
            "upstreams:
  one: {{ dialect: openai, url: \"http://{}\", headers: {{ x-turn: \"{turn}\" }}, concurrency: {} }}
routes: [{{ path: /, to: one }}]
policies: [{{ name: turn-{turn}, limits: {{ requests: 10M/min, concurrency: 1000 }} }}]
",
            backend.addr,
            200 + turn
        )
    };
    let child = lab.child("reload", &policy(0))?;
    let (stop, wrong) = (Rc::new(Cell::new(false)), Rc::new(RefCell::new(Vec::new())));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (stop, wrong, to) = (Rc::clone(&stop), Rc::clone(&wrong), child.at);
            tokio::task::spawn_local(async move {
                let mut calls = 0_u64;
                let mut kept = None;
                while !stop.get() {
                    calls += 1;
                    let stream = calls.is_multiple_of(2);
                    let how = if stream { "ttft=5ms; gap=10ms; tokens=20" } else { "ttft=5ms" };
                    let request = chat("", stream, number * 1_000_000 + calls, how);
                    match call(to, &mut kept, &request, stream).await {
                        Ok(()) => {}
                        Err(error) => wrong.borrow_mut().push(format!("{error:#}")),
                    }
                    sleep(Duration::from_millis(10)).await;
                }
                calls
            })
        })
        .collect();
    let reloads = lab.size(50, 5);
    for turn in 1..=reloads {
        child.reload(&policy(turn))?;
        settled(&child, turn).await?;
        sleep(Duration::from_millis(50)).await;
    }
    stop.set(true);
    let mut calls = 0;
    for client in clients {
        calls += client.await?;
    }
    let failed = child.metrics().await?.sum(TOTAL, "failed");
    child.end()?;
    let wrong = wrong.take();
    let why = wrong.first().map_or_else(String::new, |why| format!(" ({why})"));
    let figure =
        format!("{reloads} reloads, {failed} failed; {} of {calls} calls failed{why}", wrong.len());
    let passed = wrong.is_empty() && failed == 0.0;
    Ok(vec![Line::that(passed, "reloads under load", figure, "no failed call")])
}

async fn call(
    to: std::net::SocketAddr,
    kept: &mut Option<crate::http::Connection>,
    request: &[u8],
    stream: bool,
) -> anyhow::Result<()> {
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => open(to).await?,
    };
    let answer = ask(&mut connection, request, || ()).await?;
    ensure!(answer.status == 200, "status {}", answer.status);
    ensure!(answer.whole == stream && answer.bytes > 0, "a stream without its end");
    *kept = Some(connection);
    Ok(())
}

/// Waits until so many reloads are done: two signals at once would be one.
async fn settled(child: &Child, reloads: usize) -> anyhow::Result<()> {
    let until = Instant::now() + Duration::from_secs(30);
    while (child.metrics().await?.sum(TOTAL, "") as usize) < reloads {
        ensure!(Instant::now() < until, "reload {reloads} does not come");
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

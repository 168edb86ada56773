//! Closed loops: throughput, latency and the proxy's CPU over a window of time.
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{bail, ensure};
use tokio::time::{Instant, sleep};

use super::http::Connection;
use super::{Job, Kind, Outcome, Quantiles, nanos, request};
use crate::machine::Usage;

#[derive(Default)]
struct Shared {
    measuring: Cell<bool>,
    latencies: RefCell<Vec<u32>>,
    broken: Cell<u64>,
    fault: RefCell<Option<String>>,
}

pub(super) async fn run(job: &Job) -> anyhow::Result<Outcome> {
    let Kind::Requests { connections, body_bytes, warm_ms, window_ms } = job.kind else {
        bail!("not a closed loop")
    };
    let shared = Rc::new(Shared::default());
    let request = Rc::new(request(body_bytes, false, 0, ""));
    for _ in 0..connections {
        let (shared, request, to) = (Rc::clone(&shared), Rc::clone(&request), job.to);
        tokio::task::spawn_local(async move {
            loop {
                let Err(why) = calls(to, &request, &shared).await;
                shared.broken.set(shared.broken.get() + 1);
                shared.fault.borrow_mut().get_or_insert_with(|| format!("{why:#}"));
                sleep(Duration::from_millis(10)).await;
            }
        });
    }
    sleep(Duration::from_millis(warm_ms)).await;
    let before = Usage::of(job.proxy);
    let start = Instant::now();
    shared.measuring.set(true);
    sleep(Duration::from_millis(window_ms)).await;
    shared.measuring.set(false);
    let seconds = start.elapsed().as_secs_f64();
    let usage = Usage::of(job.proxy).since(before);
    let latencies = shared.latencies.take();
    Ok(Outcome {
        done: latencies.len() as u64,
        broken: shared.broken.get(),
        fault: shared.fault.take(),
        seconds,
        usage,
        latency: Quantiles::of(latencies),
        ..Outcome::default()
    })
}

/// Calls on one connection until one fails. An answer must be as long as the first.
async fn calls(
    to: std::net::SocketAddr,
    request: &[u8],
    shared: &Shared,
) -> anyhow::Result<std::convert::Infallible> {
    let mut connection = Connection::open(to, 16 * 1024).await?;
    let mut expected = None;
    loop {
        let start = Instant::now();
        let status = connection.send(request).await?;
        let mut length = 0;
        while connection.data(|bytes| length += bytes.len()).await? {}
        let elapsed = start.elapsed();
        ensure!(status == 200, "status {status}");
        let expected = *expected.get_or_insert(length);
        ensure!(length == expected, "{length} bytes where the first answer had {expected}");
        if shared.measuring.get() {
            shared.latencies.borrow_mut().push(nanos(elapsed));
        }
    }
}

//! Streams: many at once, each a token every few milliseconds.
//!
//! Connections are opened and used once before the clock starts, as an agent's are. The starts are
//! spread, so that the first tokens do not queue behind each other and the later ones fall on
//! every phase of the gap.
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{bail, ensure};
use tokio::sync::{Barrier, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::http::Connection;
use super::questions::ask_on;
use super::{Job, Kind, Outcome, Quantiles, nanos, request};
use crate::machine::{self, Usage};

/// Between the starts of two streams: not a divisor of the usual gap of 20 ms.
const SPREAD: Duration = Duration::from_micros(2_100);
const SLACK: Duration = Duration::from_secs(20);
/// Streams that are being opened at the same time, when they are only held.
const OPENING: usize = 64;

pub(super) async fn run(job: &Job) -> anyhow::Result<Outcome> {
    match job.kind {
        Kind::Streams { count, tokens, gap_ms, beside: None } => {
            streams(job, count, tokens, gap_ms).await
        }
        Kind::Streams { count, tokens, gap_ms, beside: Some(beside) } => tokio::select! {
            outcome = streams(job, count, tokens, gap_ms) => outcome,
            Err(why) = ask_on(job.to, beside) => Err(why.context("a question beside the streams")),
        },
        Kind::Hold { count, hold_ms } => hold(job, count, hold_ms).await,
        Kind::Requests { .. } | Kind::Questions { .. } => bail!("not streams"),
    }
}

/// What one stream was like.
struct Seen {
    first: u32,
    gaps: Vec<u32>,
    hash: String,
}

async fn streams(job: &Job, count: usize, tokens: usize, gap_ms: u64) -> anyhow::Result<Outcome> {
    let script = format!("tokens={tokens}; gap={gap_ms}ms");
    let barrier = Rc::new(Barrier::new(count + 1));
    let mut tasks = JoinSet::new();
    for index in 0..count {
        let (barrier, to, script) = (Rc::clone(&barrier), job.to, script.clone());
        tasks.spawn_local(async move {
            let warmed = warm(to, index).await;
            barrier.wait().await;
            let start = Instant::now() + Duration::from_millis(100) + SPREAD * index as u32;
            let mut connection = warmed?;
            sleep_until(start).await;
            let seen = watch(&mut connection, &request(1024, true, index, &script)).await?;
            anyhow::Ok((index, seen))
        });
    }
    let lasts = Duration::from_millis(gap_ms * tokens as u64) + SPREAD * count as u32;
    timeout(SLACK, barrier.wait()).await?;
    let before = Usage::of(job.proxy);
    let start = Instant::now();
    let mut outcome = Outcome { hashes: vec![String::new(); count], ..Outcome::default() };
    let (mut firsts, mut gaps) = (Vec::new(), Vec::new());
    let deadline = start + lasts * 2 + SLACK;
    while let Ok(Some(joined)) = tokio::time::timeout_at(deadline, tasks.join_next()).await {
        match joined? {
            Ok((index, seen)) => {
                outcome.done += 1;
                firsts.push(seen.first);
                gaps.extend(seen.gaps);
                outcome.hashes[index] = seen.hash;
            }
            Err(why) => _ = outcome.fault.get_or_insert(format!("{why:#}")),
        }
    }
    outcome.seconds = start.elapsed().as_secs_f64();
    outcome.usage = Usage::of(job.proxy).since(before);
    outcome.broken = count as u64 - outcome.done;
    outcome.latency = Quantiles::of(firsts);
    outcome.gap = Quantiles::of(gaps);
    Ok(outcome)
}

/// A connection that has carried a short stream, together with all the others: so the proxy has
/// as many warm ones on its other side.
async fn warm(to: std::net::SocketAddr, index: usize) -> anyhow::Result<Connection> {
    let mut connection = Connection::open(to, 16 * 1024).await?;
    watch(&mut connection, &request(1024, true, index, "tokens=10; gap=20ms")).await?;
    Ok(connection)
}

/// Follows one stream to its end.
async fn watch(connection: &mut Connection, request: &[u8]) -> anyhow::Result<Seen> {
    let start = Instant::now();
    let mut last = start;
    let mut first = None;
    let mut gaps = Vec::with_capacity(128);
    let mut hash = blake3::Hasher::new();
    let mut tail = 0;
    let status = connection.send(request).await?;
    ensure!(status == 200, "status {status}");
    let piece = |bytes: &[u8], hash: &mut blake3::Hasher, tail: &mut u8| {
        hash.update(bytes);
        let events = events(bytes, tail);
        events > 0
    };
    loop {
        let mut event = false;
        if !connection.data(|bytes| event |= piece(bytes, &mut hash, &mut tail)).await? {
            break;
        }
        if event {
            let now = Instant::now();
            if first.is_none() {
                first = Some(nanos(now - start));
            } else {
                gaps.push(nanos(now - last));
            }
            last = now;
        }
    }
    let Some(first) = first else { bail!("a stream without an event") };
    Ok(Seen { first, gaps, hash: hash.finalize().to_hex()[..16].to_owned() })
}

/// Events that end in `bytes`; `tail` is the last byte of what came before.
fn events(bytes: &[u8], tail: &mut u8) -> usize {
    let mut ends = 0;
    for at in memchr::memchr_iter(b'\n', bytes) {
        let before = if at == 0 { *tail } else { bytes[at - 1] };
        ends += usize::from(before == b'\n');
    }
    *tail = bytes.last().copied().unwrap_or(*tail);
    ends
}

/// Opens streams that send a token every two seconds, looks at the proxy's memory meanwhile, and
/// counts those that were still sending at the end.
async fn hold(job: &Job, count: usize, hold_ms: u64) -> anyhow::Result<Outcome> {
    let opening = Rc::new(Semaphore::new(OPENING));
    // Opened or failed.
    let settled = Rc::new(Cell::new(0_usize));
    let held = Rc::new(Cell::new(false));
    let alive = Rc::new(Cell::new(0_u64));
    let fault = Rc::new(RefCell::new(None));
    for index in 0..count {
        let (opening, settled, to) = (Rc::clone(&opening), Rc::clone(&settled), job.to);
        let (held, alive, fault) = (Rc::clone(&held), Rc::clone(&alive), Rc::clone(&fault));
        tokio::task::spawn_local(async move {
            let mut open = false;
            let result: anyhow::Result<()> = async {
                let permit = opening.acquire().await?;
                let mut connection = Connection::open(to, 4 * 1024).await?;
                let request = request(1024, true, index, "tokens=1000; gap=2000ms");
                let status = connection.send(&request).await?;
                ensure!(status == 200, "status {status}");
                ensure!(connection.data(|_| ()).await?, "no event");
                drop((permit, request));
                open = true;
                settled.set(settled.get() + 1);
                let mut counted = false;
                while connection.data(|_| ()).await? {
                    if held.get() && !std::mem::replace(&mut counted, true) {
                        alive.set(alive.get() + 1);
                    }
                }
                bail!("the stream ended")
            }
            .await;
            if let Err(why) = result {
                settled.set(settled.get() + usize::from(!open));
                fault.borrow_mut().get_or_insert(format!("{why:#}"));
            }
        });
    }
    let start = Instant::now();
    while settled.get() < count && start.elapsed() < SLACK * 2 {
        sleep(Duration::from_millis(20)).await;
    }
    held.set(true);
    let hold_until = Instant::now() + Duration::from_millis(hold_ms);
    let mut peak_rss = 0;
    while Instant::now() < hold_until {
        peak_rss = peak_rss.max(job.proxy.map_or(0, machine::rss));
        sleep(Duration::from_millis(100)).await;
    }
    let done = alive.get();
    let fault = fault.take();
    Ok(Outcome { done, broken: count as u64 - done, fault, peak_rss, ..Outcome::default() })
}

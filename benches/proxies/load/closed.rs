//! Closed loops: throughput, latency and the proxy's CPU over a window of time.
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

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
    let Kind::Requests { connections, body_bytes, warm_ms, window_ms, fresh } = job.kind else {
        bail!("not a closed loop")
    };
    let shared = Rc::new(Shared::default());
    let request = Request::new(body_bytes, fresh);
    let seeds = Rc::new(Cell::new(first_seed()));
    for _ in 0..connections {
        let (shared, mut request, to) = (Rc::clone(&shared), request.clone(), job.to);
        let seeds = Rc::clone(&seeds);
        tokio::task::spawn_local(async move {
            loop {
                let Err(why) = calls(to, &mut request, &seeds, &shared).await;
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

/// What is sent: the same again and again, or with a seed of its own each time.
#[derive(Clone)]
struct Request {
    bytes: Vec<u8>,
    /// Where the seed stands.
    seed: Option<usize>,
}

/// As many digits has a seed.
const DIGITS: usize = 16;

/// Microseconds of the clock: no load sends as many calls, so none meets another's seeds.
fn first_seed() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(0)
}

impl Request {
    fn new(body_bytes: usize, fresh: bool) -> Self {
        let mut bytes = request(body_bytes, false, 0, "");
        if !fresh {
            return Self { bytes, seed: None };
        }
        // in the place of words: it is as long as it was
        let member = format!("\"seed\":{:0DIGITS$},", 0);
        let place = memchr::memmem::find(&bytes, b"\"messages\"").unwrap_or(0);
        let tail = bytes.len() - "\"}]}".len();
        bytes.drain(tail - member.len()..tail);
        bytes.splice(place..place, member.bytes());
        Self { bytes, seed: Some(place + "\"seed\":".len()) }
    }

    fn next(&mut self, seeds: &Cell<u64>) -> &[u8] {
        if let Some(at) = self.seed {
            let seed = seeds.replace(seeds.get() + 1);
            let digits = format!("{seed:0DIGITS$}");
            self.bytes[at..at + DIGITS].copy_from_slice(&digits.as_bytes()[..DIGITS]);
        }
        &self.bytes
    }
}

/// Calls on one connection until one fails. An answer must be as long as the first.
async fn calls(
    to: std::net::SocketAddr,
    request: &mut Request,
    seeds: &Cell<u64>,
    shared: &Shared,
) -> anyhow::Result<std::convert::Infallible> {
    let mut connection = Connection::open(to, 16 * 1024).await?;
    let mut expected = None;
    loop {
        let start = Instant::now();
        let status = connection.send(request.next(seeds)).await?;
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

//! Sending traces and metrics to an OpenTelemetry collector: one thread, beside all that serves.
//!
//! Workers hand over blocks of spans and never wait (`telemetry/otlp`); here they are put together to
//! batches (512 spans, or what came within 5 s) and sent, one request at a time. What a collector says it
//! cannot take now is tried again by the rules of OTLP, with a pause that grows; what it will never take
//! is dropped. Meanwhile the queue grows to its bound and no further: the oldest spans go. Metrics are
//! read and sent each interval, and a report that does not arrive is followed by the next, which says
//! more. All that is dropped is counted. At the end there are five seconds for what is left.
mod batch;
mod send;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use thiserror::Error;
use tokio::runtime::LocalRuntime;
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use self::batch::Queue;
use self::send::{Answer, Client};
use crate::config::Otlp;
use crate::telemetry::metrics::{Metrics, SignalCount, SignalCounts};
use crate::telemetry::otlp::{Block, Chunk, Envelope, Settings, blocks};
use crate::telemetry::trace::Sampler;
use crate::upstream::connect::SetupError;

/// For what is left at the end.
pub const END: Duration = Duration::from_secs(5);
/// One request to the collector.
const PATIENCE: Duration = Duration::from_secs(10);
/// A batch is sent when its first span is here for so long.
const MAX_AGE: Duration = Duration::from_secs(5);
/// The first pause before a batch is tried again, the longest, and how long it is tried at all.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const GIVEN_UP: Duration = Duration::from_mins(5);

/// Why nothing can be sent.
#[derive(Debug, Error)]
pub enum StartError {
    #[error("telemetry.otlp: {0}")]
    Connector(#[from] SetupError),
    #[error("telemetry.otlp.endpoint: it cannot be sent as a host name")]
    Host,
    #[error("telemetry.otlp: its thread cannot be started: {0}")]
    Thread(#[from] io::Error),
}

/// The thread that sends.
pub struct Collector {
    ending: watch::Sender<bool>,
    ended: std::sync::mpsc::Receiver<()>,
    /// What workers need to trace calls; `None`: the policy wants no traces.
    pub traces: Option<Settings>,
}

impl Collector {
    /// Reads certificates; blocks for that long.
    pub fn start(
        otlp: &Otlp,
        metrics: &Arc<Metrics>,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, StartError> {
        let (to, from) = blocks();
        let counts = metrics.signals();
        counts.on.store(true, Relaxed);
        let client = || Client::new(otlp, env);
        let spans = otlp.traces.then(client).transpose()?.map(|client| (client, from));
        let points = otlp.metrics.then(client).transpose()?;
        let instance = format!("{:016x}", drawn());
        let parts = Parts {
            envelope: Envelope::new(&otlp.service, &instance, &otlp.resource),
            counts: Arc::clone(&counts),
            metrics: Arc::clone(metrics),
            interval: otlp.interval,
        };
        let (ending, end) = watch::channel(false);
        let (done, ended) = sync_channel(1);
        thread::Builder::new()
            .name("collector".to_owned())
            .spawn(move || run(&parts, spans, points, &end, &done))?;
        let sampler = Sampler::new(otlp.sample, otlp.by_parent);
        let traces = Settings { sampler, content: otlp.content, to, counts };
        Ok(Self { ending, ended, traces: otlp.traces.then_some(traces) })
    }

    /// Sends what is left, `within` at most; says whether all of it went. The workers must be gone.
    pub fn close(self, within: Duration) -> bool {
        // who has ended already has nothing left
        let _ = self.ending.send(true);
        drop(self.traces);
        self.ended.recv_timeout(within) != Err(RecvTimeoutError::Timeout)
    }
}

/// What both signals need.
struct Parts {
    envelope: Envelope,
    counts: Arc<SignalCounts>,
    metrics: Arc<Metrics>,
    interval: Duration,
}

/// What a collector says to a report with nothing in it, of each signal that is on.
pub async fn probe(
    otlp: &Otlp,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<(&'static str, Told)>, StartError> {
    let mut told = Vec::new();
    let empty = bytes::Bytes::new();
    for (signal, on) in [("traces", otlp.traces), ("metrics", otlp.metrics)] {
        if !on {
            continue;
        }
        let mut client = Client::new(otlp, env)?;
        let sent = timeout(PATIENCE, async {
            if signal == "traces" {
                client.traces(&empty).await
            } else {
                client.metrics(&empty).await
            }
        });
        let answer = sent.await.unwrap_or_else(|_| Answer::later("no answer in time"));
        told.push((
            signal,
            match answer {
                Answer::Taken { .. } => Told::Takes,
                Answer::Later { why, .. } => Told::NotNow(why),
                Answer::Never(why) => Told::Refuses(why),
            },
        ));
    }
    Ok(told)
}

/// Whether a collector takes what it is sent, and why not.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    Takes,
    NotNow(String),
    Refuses(String),
}

type End = watch::Receiver<bool>;

fn run(
    parts: &Parts,
    spans: Option<(Client, Receiver<Block>)>,
    points: Option<Client>,
    end: &End,
    done: &SyncSender<()>,
) {
    let runtime = match LocalRuntime::new() {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "traces and metrics have no runtime"),
    };
    runtime.block_on(async {
        let traces = async {
            if let Some((client, from)) = spans {
                Traces { parts, client, queue: Queue::default() }.run(from, end).await;
            }
        };
        let metrics = async {
            if let Some(client) = points {
                report(parts, client, end.clone()).await;
            }
        };
        tokio::join!(traces, metrics);
    });
    // nobody may wait for it any more
    let _ = done.try_send(());
}

struct Traces<'p> {
    parts: &'p Parts,
    client: Client,
    queue: Queue,
}

impl Traces<'_> {
    /// Until the workers are gone and nothing is left.
    async fn run(mut self, mut from: Receiver<Block>, end: &End) {
        loop {
            let due = self.queue.since().map(|since| since + MAX_AGE);
            if self.queue.is_full() || due.is_some_and(|due| due <= Instant::now()) {
                self.batch(&mut from, end).await;
                continue;
            }
            let wait = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                block = from.recv() => match block {
                    Some(block) => self.take(block),
                    None => break,
                },
                () = wait => {}
            }
        }
        while !self.queue.is_empty() {
            self.batch(&mut from, end).await;
        }
    }

    fn take(&mut self, block: Block) {
        drops(&self.parts.counts.traces, self.queue.push(block));
    }

    /// Sends one batch, however often it takes; what comes meanwhile is taken.
    async fn batch(&mut self, from: &mut Receiver<Block>, end: &End) {
        let batch = self.queue.take();
        let spans = batch.iter().map(|block| block.spans).sum();
        let body = self.parts.envelope.traces(&batch).into();
        drop(batch);
        let Self { parts, client, queue } = self;
        let mut sending = std::pin::pin!(persist(client, body, end));
        let mut open = true;
        let answer = loop {
            tokio::select! {
                answer = &mut sending => break answer,
                block = from.recv(), if open => match block {
                    Some(block) => drops(&parts.counts.traces, queue.push(block)),
                    None => open = false,
                },
            }
        };
        settle(&parts.counts.traces, "traces", spans, &answer);
    }
}

/// Tries again what may be tried again.
async fn persist(client: &mut Client, body: bytes::Bytes, end: &End) -> Answer {
    let begun = Instant::now();
    let mut pause = PAUSE;
    loop {
        let sent = timeout(PATIENCE, client.traces(&body)).await;
        let answer = sent.unwrap_or_else(|_| Answer::later("no answer in time"));
        let Answer::Later { why, after } = answer else { return answer };
        // what it asks for may be longer than ours, and no shorter
        let own = pause / 2 + pause.mul_f64(share()) / 2;
        let wait = after.map_or(own, |after| after.max(own));
        if begun.elapsed() + wait > GIVEN_UP || *end.borrow() && pause > PAUSE {
            return Answer::Never(why);
        }
        tracing::debug!(why, ?wait, "spans were not taken, and will be sent again");
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = ends(end.clone()) => {}
        }
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}

async fn ends(mut end: End) {
    // whoever told of the end is gone: so it is
    let _ = end.wait_for(|end| *end).await;
}

/// Metrics, each interval and once more at the end.
async fn report(parts: &Parts, mut client: Client, end: End) {
    let mut ending = false;
    while !ending {
        tokio::select! {
            () = tokio::time::sleep(parts.interval) => {}
            () = ends(end.clone()) => ending = true,
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        for chunk in Envelope::read(&parts.metrics, since.as_nanos() as u64) {
            let answer = one_report(parts, &mut client, &chunk).await;
            settle(&parts.counts.metrics, "metrics", chunk.points, &answer);
            if !matches!(answer, Answer::Taken { .. }) {
                break;
            }
        }
    }
}

/// Twice at most: the next report says all of it, and more.
async fn one_report(parts: &Parts, client: &mut Client, chunk: &Chunk) -> Answer {
    let body = bytes::Bytes::from(parts.envelope.metrics(chunk));
    for last in [false, true] {
        let sent = timeout(PATIENCE.min(parts.interval), client.metrics(&body)).await;
        match sent.unwrap_or_else(|_| Answer::later("no answer in time")) {
            Answer::Later { why, after } if last || after.is_some_and(|after| after > PAUSE) => {
                return Answer::Never(why);
            }
            Answer::Later { .. } => tokio::time::sleep(PAUSE.mul_f64(share())).await,
            answer => return answer,
        }
    }
    Answer::Never(String::new())
}

fn drops(count: &SignalCount, dropped: u64) {
    count.dropped.fetch_add(dropped, Relaxed);
}

fn settle(count: &SignalCount, signal: &str, all: u64, answer: &Answer) {
    let dropped = match answer {
        Answer::Taken { rejected: None } => 0,
        Answer::Taken { rejected: Some(rejected) } => {
            tracing::warn!(
                signal,
                count = rejected.count,
                why = rejected.why,
                "the collector complains"
            );
            rejected.count.min(all)
        }
        Answer::Never(why) | Answer::Later { why, .. } => {
            tracing::warn!(
                signal,
                count = all,
                why,
                "the collector has not taken telemetry: dropped"
            );
            all
        }
    };
    count.sent.fetch_add(all - dropped, Relaxed);
    drops(count, dropped);
}

/// From 0 to 1, so that many do not come back at once.
fn share() -> f64 {
    (drawn() >> 11) as f64 / (1_u64 << 53) as f64
}

fn drawn() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(SystemTime::now())
}

#[cfg(test)]
mod tests;

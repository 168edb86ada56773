//! One upstream has trouble; what another route's calls feel of it.
//!
//! Both routes are called at a steady rate, all through. A quiet window and a stormy one alternate,
//! because neighbours in time share the machine's noise; the figure is the median of each pair's
//! ratio. In a quiet window the second route's upstream is well, in a stormy one it is not.
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tidegate::simulate;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::ask::{ask, chat, open};
use crate::http::Connection;
use crate::report::{Line, Word};
use crate::{Lab, machine};

/// What goes wrong, and how the backend is told.
const STORMS: [(&str, &str); 3] = [
    ("p99 of another route in a storm of 429", "fault=429"),
    ("p99 of another route in a brown-out, ten times as slow", "ttft=200ms"),
    ("p99 of another route while an upstream hangs", "fault=stall"),
];
const WELL: &str = "ttft=20ms";
/// Between two calls of a route.
const GAP: Duration = Duration::from_millis(5);
/// The most that the ratio may be.
const MOST: f64 = 1.2;
/// A machine that does more than this beside us says nothing of tails.
const BUSY: f64 = 2.0;

pub async fn run(lab: &Lab) -> anyhow::Result<Vec<Line>> {
    let backend = || {
        let listen = ([127, 0, 0, 1], 0).into();
        simulate::start(simulate::Options { listen, ..simulate::Options::default() })
    };
    let (good, other) = (backend()?, backend()?);
    let policy = format!(
        "upstreams:
  good: {{ dialect: openai, url: \"http://{good}\" }}
  calm: {{ dialect: openai, url: \"http://{other}\" }}
  bad:
    dialect: openai
    url: \"http://{other}\"
    concurrency: 64
    timeouts: {{ queue: 1s, first_byte: 2s }}
routes:
  - {{ path: /calm, to: calm }}
  - {{ path: /bad, to: bad }}
  - {{ path: /, to: good }}
",
        good = good.addr,
        other = other.addr
    );
    let child = lab.child("apart", &policy)?;
    let window = lab.size(Duration::from_secs(5), Duration::from_secs(2));
    let rounds = lab.size(7, 2);
    let mut lines = Vec::new();
    for (what, fault) in STORMS {
        let load = machine::load_average();
        let (mut ratios, mut quiets, mut unwell) = (Vec::new(), Vec::new(), 0);
        for round in 0..rounds {
            // who is first changes, too
            let mut p99 = [0.0; 2];
            for stormy in [round % 2 == 1, round % 2 == 0] {
                let (route, how) = if stormy { ("/bad", fault) } else { ("/calm", WELL) };
                let beside = Route::new(child.at, chat(route, false, 2, how));
                let measured = Route::new(child.at, chat("", false, 1, WELL));
                let storm = tokio::task::spawn_local(beside.call(window + window / 4));
                // the storm is there before it is measured
                sleep(window / 4).await;
                let seen = measured.call(window).await;
                unwell += seen.failed;
                p99[usize::from(stormy)] = seen.p99();
                storm.await?;
            }
            ratios.push(p99[1] / p99[0]);
            quiets.push(p99[0]);
        }
        lines.push(judge(what, ratios, quiets, unwell, load));
    }
    child.end()?;
    Ok(lines)
}

fn judge(what: &str, mut ratios: Vec<f64>, mut quiets: Vec<f64>, unwell: u64, load: f64) -> Line {
    ratios.sort_by(f64::total_cmp);
    quiets.sort_by(f64::total_cmp);
    let middle = |sorted: &[f64]| sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN);
    let ends = |sorted: &[f64]| {
        let end = |it: Option<&f64>| it.copied().unwrap_or(f64::NAN);
        (end(sorted.first()), end(sorted.last()))
    };
    let (ratio, (least, most)) = (middle(&ratios), ends(&ratios));
    let (calmest, wildest) = ends(&quiets);
    let passed = ratio <= MOST && unwell == 0;
    // a quiet window that is as far from another quiet one says how far ratios can be trusted
    let noisy = load > BUSY || wildest > calmest * 1.5;
    let word = match (passed, noisy && unwell == 0) {
        (true, _) => Word::Pass,
        (false, true) => Word::Inconclusive,
        (false, false) => Word::Short,
    };
    let figure = format!(
        "{ratio:.2} ({least:.2} to {most:.2}) of {:.1} ms ({calmest:.1} to {wildest:.1}), \
         {unwell} failed, load {load:.1}",
        middle(&quiets)
    );
    Line::new(word, what, figure, "<= 1.2 of its quiet value, none failed")
}

/// A steady stream of calls over as many connections as it takes.
struct Route {
    to: SocketAddr,
    request: Rc<[u8]>,
    idle: Rc<RefCell<Vec<Connection>>>,
    seen: Rc<RefCell<Seen>>,
}

#[derive(Debug, Default, Clone)]
struct Seen {
    /// From the moment when each was due, so that a late start counts.
    millis: Vec<f64>,
    failed: u64,
}

impl Seen {
    fn p99(&self) -> f64 {
        let mut sorted = self.millis.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len().saturating_sub(1) * 99 / 100).copied().unwrap_or(f64::NAN)
    }
}

impl Route {
    fn new(to: SocketAddr, request: Vec<u8>) -> Self {
        Self { to, request: request.into(), idle: Rc::default(), seen: Rc::default() }
    }

    /// Calls for so long, and waits for the answers.
    async fn call(self, lasting: Duration) -> Seen {
        let begun = Instant::now();
        let mut calls = Vec::new();
        let mut due = begun;
        while due < begun + lasting {
            sleep_until(due).await;
            let (to, request) = (self.to, Rc::clone(&self.request));
            let (idle, seen) = (Rc::clone(&self.idle), Rc::clone(&self.seen));
            calls.push(tokio::task::spawn_local(async move {
                let answered = timeout(Duration::from_secs(10), one(to, &request, &idle)).await;
                let mut seen = seen.borrow_mut();
                match answered {
                    Ok(Ok(200)) => seen.millis.push(due.elapsed().as_secs_f64() * 1e3),
                    _ => seen.failed += 1,
                }
            }));
            due += GAP;
        }
        for call in calls {
            // its outcome is in `seen`; a panic would be missing there
            _ = call.await;
        }
        self.seen.take()
    }
}

async fn one(
    to: SocketAddr,
    request: &[u8],
    idle: &RefCell<Vec<Connection>>,
) -> anyhow::Result<u16> {
    let kept = idle.borrow_mut().pop();
    let mut connection = match kept {
        Some(connection) => connection,
        None => open(to).await?,
    };
    let answer = ask(&mut connection, request, || ()).await?;
    if answer.status == 200 {
        idle.borrow_mut().push(connection);
    }
    Ok(answer.status)
}

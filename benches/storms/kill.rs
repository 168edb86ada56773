//! One of three backends is killed under load: calls that have no content yet go to the others, and
//! the dead address is asked again once in a while, no more.
//!
//! A listener of ours takes the dead one's place, closes whatever comes and counts it.
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, timeout};

use crate::Lab;
use crate::ask::{Answer, ask, chat, open};
use crate::process::{Output, Process, free_address};
use crate::report::Line;

const CLIENTS: u64 = 24;
/// The first time that an address is out, by the policy below; later ones are longer.
const WINDOW: Duration = Duration::from_secs(3);
/// Until then the address may be found dead by calls that are on their way.
const SETTLED: Duration = Duration::from_secs(1);

/// How calls ended.
#[derive(Debug, Default)]
struct Tally {
    calls: u64,
    /// Before the first byte of content.
    failed: Vec<String>,
    /// After it: nobody can help those.
    cut: u64,
}

impl Tally {
    fn count(&mut self, answer: anyhow::Result<Answer>, stream: bool, begun: bool) {
        self.calls += 1;
        match answer {
            Ok(answer) if answer.status == 200 && answer.whole == stream => {}
            Ok(answer) if answer.status == 200 => self.cut += 1,
            Ok(answer) => self.failed.push(format!("status {}", answer.status)),
            Err(_) if begun => self.cut += 1,
            Err(error) => self.failed.push(format!("{error:#}")),
        }
    }
}

pub async fn run(lab: &Lab) -> anyhow::Result<Vec<Line>> {
    let mut backends = Vec::new();
    for _ in 0..3 {
        backends.push(backend(lab)?);
    }
    let urls: Vec<_> = backends.iter().map(|(_, at)| format!("\"http://{at}\"")).collect();
    let policy = format!(
        "upstreams:
  three:
    dialect: openai
    urls: [{}]
    balance: least_busy
    breaker: {{ open: {}s }}
routes: [{{ path: /, to: three }}]
",
        urls.join(", "),
        WINDOW.as_secs()
    );
    let child = lab.child("kill", &policy)?;
    let tally = Rc::new(RefCell::new(Tally::default()));
    let before = Duration::from_secs(2);
    let lasting = lab.size(Duration::from_secs(30), Duration::from_secs(8));
    let until = Instant::now() + before + lasting;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| tokio::task::spawn_local(client(child.at, number, until, Rc::clone(&tally))))
        .collect();
    sleep(before).await;
    let (victim, at) = backends.remove(0);
    let pid = i32::try_from(victim.id()).ok().and_then(Pid::from_raw).context("no such id")?;
    kill_process(pid, Signal::KILL)?;
    let killed = Instant::now();
    // reaps it: its address is free then
    _ = victim.finish(Duration::from_mins(10));
    let visits = visits(at, until).await?;
    for client in clients {
        client.await?;
    }
    let ejections = child.metrics().await?.sum("tidegate_upstream_ejections_total", "");
    child.end()?;
    let tally = tally.take();
    let why = tally.failed.first().map_or_else(String::new, |why| format!(" ({why})"));
    let failed = tally.failed.len();
    let calls = format!("{failed} of {} failed{why}, {} cut after content", tally.calls, tally.cut);
    let later: Vec<_> = visits.iter().filter(|at| **at > killed + SETTLED).collect();
    let windows = (lasting.as_secs_f64() / WINDOW.as_secs_f64()).floor() as usize;
    let nearest = later.windows(2).map(|two| two[1].duration_since(*two[0])).min();
    let apart = nearest.is_none_or(|apart| apart > WINDOW.mul_f64(0.8));
    let probes = format!(
        "{} in the first second, then {} in {:.0} s, nearest {} apart; {ejections} ejections",
        visits.len() - later.len(),
        later.len(),
        lasting.as_secs_f64(),
        nearest.map_or_else(|| "-".to_owned(), |it| format!("{:.1} s", it.as_secs_f64())),
    );
    let probed = later.len() <= windows && apart && ejections > 0.0;
    Ok(vec![
        Line::that(
            failed == 0 && tally.calls > 0,
            "one of three backends killed: calls",
            calls,
            "none failed before content",
        ),
        Line::that(
            probed,
            "the same: connections to the dead address",
            probes,
            "one a window of 3 s at most",
        ),
    ])
}

fn backend(lab: &Lab) -> anyhow::Result<(Process, SocketAddr)> {
    let at = free_address()?;
    let listen = at.to_string();
    let args =
        ["simulate", "--listen", &listen, "--ttft", "20ms", "--gap", "10ms", "--tokens", "20"];
    let stderr = lab.dir.path().join("backend.err");
    let mut process = Process::start(&lab.program, &args, None, &Output::Null, &stderr)?;
    process.ready(at).context("a backend")?;
    Ok((process, at))
}

async fn client(to: SocketAddr, number: u64, until: Instant, tally: Rc<RefCell<Tally>>) {
    let mut kept = None;
    let mut calls = 0;
    while Instant::now() < until {
        calls += 1;
        let stream = calls % 2 == 0;
        let request = chat("", stream, number * 1_000_000 + calls, "gap=10ms");
        let connection = match kept.take() {
            Some(connection) => Ok(connection),
            None => open(to).await,
        };
        let mut begun = false;
        let answer = match connection {
            Ok(mut connection) => {
                let answer = ask(&mut connection, &request, || begun = true).await;
                kept = answer.as_ref().is_ok_and(|it| it.status == 200).then_some(connection);
                answer
            }
            Err(error) => Err(error),
        };
        tally.borrow_mut().count(answer, stream, begun);
        sleep(Duration::from_millis(15)).await;
    }
}

/// Takes the address over and counts who comes.
async fn visits(at: SocketAddr, until: Instant) -> anyhow::Result<Vec<Instant>> {
    let listener = TcpListener::bind(at).await.context("take the dead one's address")?;
    let mut visits = Vec::new();
    while let Ok(accepted) =
        timeout(until.saturating_duration_since(Instant::now()), listener.accept()).await
    {
        drop(accepted?);
        visits.push(Instant::now());
    }
    Ok(visits)
}

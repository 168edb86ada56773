//! Clients may invent what they like: labels, memory and limits stay bounded.
use std::net::SocketAddr;
use std::time::Instant;

use tidegate::simulate::{Options, Simulator, start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::*;

fn simulator() -> Simulator {
    start(Options { listen: ([127, 0, 0, 1], 0).into(), tokens: 1, ..Options::default() }).unwrap()
}

/// Sends calls of these lines on one connection, many at a time; says how many were answered by
/// 200 and by 429.
async fn pour(to: SocketAddr, all: impl Iterator<Item = String>) -> [usize; 2] {
    const AT_ONCE: usize = 64;
    let mut io = TcpStream::connect(to).await.unwrap();
    let mut lines = all.peekable();
    let mut got = [0, 0];
    while lines.peek().is_some() {
        let batch: Vec<_> =
            lines.by_ref().take(AT_ONCE).map(|lines| call(CHAT, &lines, BODY)).collect();
        io.write_all(&batch.concat()).await.unwrap();
        let mut answers = Vec::with_capacity(64 * 1024);
        let (mut found, mut looked) = ([0, 0], 0);
        while found.iter().sum::<usize>() < batch.len() {
            assert!(io.read_buf(&mut answers).await.unwrap() > 0, "it hangs up: {found:?}");
            while let Some(at) = memchr::memmem::find(&answers[looked..], b"\r\n\r\n") {
                let head = &answers[looked..looked + at];
                let is = |status: &[u8]| memchr::memmem::find(head, status).is_some();
                found[0] += usize::from(is(b"HTTP/1.1 200 OK"));
                found[1] += usize::from(is(b"HTTP/1.1 429 Too Many Requests"));
                looked += at + 4;
            }
        }
        // the body of the last one
        while !ends_whole(&answers) {
            assert!(io.read_buf(&mut answers).await.unwrap() > 0);
        }
        (got[0], got[1]) = (got[0] + found[0], got[1] + found[1]);
    }
    got
}

/// Whether the last answer has its whole body; all have a length here.
fn ends_whole(answers: &[u8]) -> bool {
    let Some(last) = memchr::memmem::rfind(answers, b"HTTP/1.1 ") else { return false };
    let Some(head) = memchr::memmem::find(&answers[last..], b"\r\n\r\n") else { return false };
    let text = String::from_utf8_lossy(&answers[last..last + head]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.expect("a length").parse().expect("a number");
    answers.len() >= last + head + 4 + length
}

#[tokio::test]
async fn five_thousand_invented_agents_fill_a_bounded_scrape() {
    const CALLS: usize = 5_000;
    let simulator = simulator();
    let app = App::start(&format!(
        "upstreams: {{ up: {{ url: 'http://{}', pacing: 'off' }} }}\nroutes: [{{ to: up }}]\n\
         telemetry: {{ access_log: 'off' }}\npolicies: [{{ limits: {{ requests: 100/min }} }}]\n",
        simulator.addr
    ));
    let mut clients = JoinSet::new();
    for client in 0..4 {
        let all = (0..CALLS / 4).map(move |n| format!("x-agent-id: invented-{client}-{n}\r\n"));
        clients.spawn(pour(app.addr, all));
    }
    let got = clients.join_all().await.into_iter().fold([0, 0], |a, b| [a[0] + b[0], a[1] + b[1]]);
    // the thousand with a bucket of their own, and the hundred calls of all others together
    assert!((1_000..=1_200).contains(&got[0]) && got[0] + got[1] == CALLS, "{got:?}");
    let scrape = app.page("/metrics");
    let of_agents = scrape.lines().filter(|line| line.starts_with("tidegate_agent_")).count();
    assert!(scrape.len() < 2 << 20 && of_agents < 12_000, "{} {of_agents}", scrape.len());
    assert_eq!(app.count("tidegate_agent_requests_total", &[]), CALLS, "no call is lost");
    let others = app.count("tidegate_agent_requests_total", &["agent=\"other\""]);
    assert_eq!(others, CALLS - app.count("tidegate_agent_labels", &[]).min(1_000), "{others}");
    assert!(app.count("tidegate_agent_labels", &[]) <= 1_001);
    assert_eq!(app.count("tidegate_limit_refusals_total", &[]), got[1]);
    let state = app.page("/state");
    let agents = app.state()["agents"].as_array().unwrap().len();
    assert!(agents <= 1_002 && state.len() < 2 << 20, "{agents} {}", state.len());
}

#[tokio::test]
async fn two_hundred_thousand_invented_names_take_little_memory() {
    const CALLS: usize = 200_000;
    let simulator = simulator();
    // all kinds of names, all kinds of buckets; refused, for that is the cheapest way to invent
    let policy = format!(
        "upstreams: {{ up: {{ url: 'http://{}', pacing: 'off' }} }}\nroutes: [{{ to: up }}]\n\
         telemetry: {{ access_log: 'off' }}\nagents: {{ team_header: x-team-id }}\n\
         policies:\n  - {{ per: all, limits: {{ requests: 1/day }} }}\n\
         \x20 - {{ per: agent, limits: {{ requests: 10/min, spend: $1/day }} }}\n\
         \x20 - {{ per: session, limits: {{ tokens: 10k/min }} }}\n\
         \x20 - {{ per: team, limits: {{ tokens: 10k/min }} }}\n\
         \x20 - {{ per: credential, limits: {{ tokens: 10k/min }} }}\n",
        simulator.addr
    );
    let app = App::with(&policy, &["--workers", "1"]);
    let names = |from: usize, to: usize| {
        (from..to).map(|n| {
            format!(
                "x-agent-id: agent-{n}\r\nx-session-id: session-{n}\r\nx-team-id: team-{n}\r\n\
                 x-claude-code-parent-agent-id: parent-{n}\r\nauthorization: Bearer sk-{n:020}\r\n"
            )
        })
    };
    let from = Instant::now();
    pour(app.addr, names(0, 5_000)).await;
    let warm = app.resident();
    let mut got = [0, 0];
    let mut done = 5_000;
    // as far as the machine gets in the time there is; LONG=1 lets it come to its end
    let patience = if std::env::var_os("LONG").is_some() { 600 } else { 20 };
    while done < CALLS && from.elapsed().as_secs() < patience {
        let more = pour(app.addr, names(done, done + 5_000)).await;
        (got[0], got[1], done) = (got[0] + more[0], got[1] + more[1], done + 5_000);
    }
    let grown = app.resident().saturating_sub(warm);
    if std::env::var_os("SHOW").is_some() {
        eprintln!("{done} names in {:?}: {warm} KiB, and {grown} more", from.elapsed());
    }
    assert!(done >= 20_000, "{done} calls in {:?}", from.elapsed());
    assert_eq!(got, [0, done - 5_000]);
    assert!(grown < 16 * 1024, "{grown} KiB for {done} names");
}

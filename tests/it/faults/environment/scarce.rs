//! Too little memory, too little time, and too many names: cases 101, 103 and 105.
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{CHAT, COUNTED, PLAIN, after, answering, ask, limited, many, plain, policy, served};
use crate::life::tidegate_after;
use crate::support::app::App;
use crate::support::client::{self, Client, post, request};
use crate::support::until;

/// Memory is counted before it is taken, so the machine need not take it back: near the bound who
/// comes is told to come back, and who was let in is served.
#[tokio::test]
async fn a101_memory_runs_short() {
    const SIZE: usize = 1 << 20;
    let origin = answering().await;
    let app = limited(&origin.url(), "", "server: { memory: 8MiB, max_body: 2MiB }\n");
    let body = PLAIN.replace("hi there", &"x".repeat(SIZE));
    let call = post(CHAT, "", &body);
    let (head, rest) = call.split_at(call.len() - body.len());
    let mut held = Vec::new();
    let refused = loop {
        let mut client = Client::connect(app.addr).await;
        client.send(head).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        let early = tokio::time::timeout(Duration::from_millis(200), client.io.readable()).await;
        if early.is_ok() {
            break after::told(client.answer().await);
        }
        held.push(client);
        assert!(held.len() < 12, "what is announced is not counted");
    };
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (503, &"overloaded".into()));
    assert!(refused.head.get("retry-after").is_some(), "{}", refused.head.text);
    assert!(held.len() >= 4, "{} were let in", held.len());
    let from = Instant::now();
    assert!(app.page("/livez").starts_with("ok") && from.elapsed() < Duration::from_secs(2));
    let served_calls = held.len();
    for client in &mut held {
        client.send(rest).await;
        assert_eq!(after::told(client.answer().await).status, 200);
    }
    drop(held);
    until("all is given back", async || app.count("tidegate_memory_held_bytes", &[]) == 0).await;
    served(&app).await;
    let mut calls = vec![(200, "complete"); served_calls + 1];
    calls.push((503, "refused"));
    after::over(&app, &calls).await;
    after::let_go(&app, &origin).await;
}

/// One core, and as much work as clients can make: health is answered by a thread of its own.
#[tokio::test]
async fn a103_one_busy_core() {
    let origin = answering().await;
    let command = tidegate_after("taskset -pc 0 $$ >/dev/null;");
    let app = App::by(
        command,
        &policy(&origin.url(), "", COUNTED),
        &["--workers", "2", "--log-form", "json"],
    );
    let (stop, stopped) = watch::channel(false);
    let mut load = JoinSet::new();
    let big = post(CHAT, "", &PLAIN.replace("hi there", &"word ".repeat(20_000)));
    for _ in 0..24 {
        let (to, stopped, call) = (app.addr, stopped.clone(), big.clone());
        load.spawn(async move {
            let (mut client, mut calls) = (Client::connect(to).await, 0_usize);
            while !*stopped.borrow() {
                client.send(&call).await;
                assert_eq!(client.answer().await.status, 200);
                calls += 1;
            }
            calls
        });
    }
    let mut slowest = Duration::ZERO;
    let from = Instant::now();
    while from.elapsed() < Duration::from_secs(many(3, 20) as u64) {
        for page in ["/livez", "/readyz", "/metrics"] {
            let (addr, from) = (app.admin, Instant::now());
            let call = client::get(page, "connection: close\r\n");
            let call = String::from_utf8(call).unwrap().replace("sidecar.test", &addr.to_string());
            let got = client::ask(addr, call.as_bytes()).await;
            assert_eq!(got.status, 200, "{page}");
            slowest = slowest.max(from.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.send(true).unwrap();
    let calls: usize = load.join_all().await.into_iter().sum();
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    after::over(&app, &vec![(200, "complete"); calls]).await;
    after::let_go(&app, &origin).await;
}

/// Everybody may call himself what he likes, and ask for what there is not. The names that metrics
/// tell apart are bounded; the rest is `other`, and nobody is lost.
#[tokio::test]
async fn a105_names_without_end() {
    let names = many(2400, 20_000);
    let origin = answering().await;
    let app = limited(&origin.url(), "", "");
    let mut client = Client::connect(app.addr).await;
    let (mut lines, mut resident) = (0, 0);
    for nth in 0..names {
        let body = PLAIN.replace("\"m\"", &format!("\"model-{nth}\""));
        let more = format!(
            "content-type: application/json\r\nx-agent-id: agent-{nth}\r\nuser-agent: a/{nth}\r\n\
             x-session-id: s-{nth}\r\nx-tidegate-team: t-{nth}\r\n"
        );
        let path = if nth % 3 == 0 { format!("/v1/thing-{nth}") } else { CHAT.to_owned() };
        client.send(&request("POST", &path, &more, &body)).await;
        assert_eq!(after::told(client.answer().await).status, 200);
        if nth == 2 * names / 3 {
            (lines, resident) = (app.page("/metrics").lines().count(), app.resident());
        }
    }
    let text = app.page("/metrics");
    let grown = text.lines().count() - lines;
    assert!(grown < 100, "{grown} more lines, when there were {lines}");
    let named = |prefix: &str| {
        let mut found: Vec<_> = text
            .split(prefix)
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap_or_default())
            .collect();
        found.sort_unstable();
        found.dedup();
        found.len()
    };
    for (label, most) in
        [("=\"agent-", 1100), ("=\"model-", 1100), ("=\"thing-", 0), ("=\"s-", 0), ("=\"t-", 0)]
    {
        assert!(named(label) <= most, "{} names of {label}", named(label));
    }
    assert!(text.contains("=\"other\""), "what is beyond is counted together");
    assert_eq!(app.ended("complete"), names, "nobody is lost");
    assert_eq!(app.metric("tidegate_agent_requests_total", &[]) as usize, names);
    let more = app.resident().saturating_sub(resident);
    assert!(more < 24 << 10, "{more} KiB");
    drop(client);
    after::logged_once(&app).await;
    after::at_rest(&app).await;
    after::let_go(&app, &origin).await;
}

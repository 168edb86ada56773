//! The budget of memory, and what is given up level by level.
use std::time::Duration;

use tokio::task::JoinSet;

use super::{CHAT, MESSAGES, MIB, announced, held, large, memory, policy};
use crate::support::app::App;
use crate::support::client::{Client, ask, get, post, request};
use crate::support::origin::{self, Origin};
use crate::support::{Dice, until};

const SMALL: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;

async fn origin() -> Origin {
    Origin::saying(origin::whole("200 OK", "content-type: application/json\r\n", "{}")).await
}

#[tokio::test]
async fn case_30_many_large_bodies_at_once_end_in_refusals() {
    const BODY: usize = 32 * MIB;
    let origin = origin().await;
    let app = App::with(&policy("memory: 128MiB", &origin.url(), ""), &["--workers", "2"]);
    let before = app.resident();
    let mut clients = Vec::new();
    for _ in 0..64 {
        clients.push(announced(&app, BODY).await.0);
    }
    let refused = async || {
        app.count("tidegate_overload_refused_total", &["level=\"full\""]) == 61 && held(&app) > 0
    };
    until("all but three are refused before they have sent anything", refused).await;
    let (_, body) = large(CHAT, BODY);
    let body = std::sync::Arc::new(body);
    let mut ends = JoinSet::new();
    for mut client in clients {
        let body = std::sync::Arc::clone(&body);
        ends.spawn(async move {
            client.send(&body).await;
            client.head().await.map(|head| {
                let wait = head.get("retry-after").map(|wait| wait.parse::<u64>().unwrap());
                (head.status, wait, head.get("connection").map(str::to_owned))
            })
        });
    }
    // who went on sending may miss what was said
    let heads: Vec<_> = ends.join_all().await.into_iter().flatten().collect();
    assert_eq!(heads.iter().filter(|(status, ..)| *status == 200).count(), 3);
    for (status, wait, connection) in &heads {
        if *status == 200 {
            continue;
        }
        assert_eq!(*status, 503);
        assert!((1..=3).contains(&wait.unwrap()), "{wait:?}");
        assert_eq!(connection.as_deref(), Some("close"), "its body was not read");
    }
    let grown = app.resident().saturating_sub(before);
    assert!(grown < 160 << 10, "{grown} KiB");
    assert_eq!(app.lines(64).await.iter().filter(|line| line["status"] == 503).count(), 61);
    until("all is given back", async || held(&app) == 0).await;
}

#[tokio::test]
async fn a_body_without_a_length_is_refused_when_it_has_no_more_room() {
    let origin = origin().await;
    let app = App::start(&policy(&memory(8), &origin.url(), ""));
    let (other, _) = announced(&app, 5 * MIB).await;
    until("it is held", async || held(&app) > 5 * MIB).await;
    let mut client = Client::connect(app.addr).await;
    let head = String::from_utf8(request("POST", CHAT, "", "")).unwrap();
    client.send(head.replace("content-length: 0", "transfer-encoding: chunked").as_bytes()).await;
    let chunk = origin::chunk(&"x".repeat(256 << 10));
    let mut sent = 0;
    while app.count("tidegate_overload_refused_total", &[]) == 0 {
        client.send(&chunk).await;
        sent += 256 << 10;
        assert!(sent < 4 * MIB, "it is taken without end");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let answer = client.answer().await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (503, &"overloaded".into()));
    drop(other);
    until("all is given back", async || held(&app) == 0).await;
    app.lines(2).await;
}

#[tokio::test]
async fn a_body_that_could_never_be_held_is_too_large_and_not_refused_for_now() {
    let origin = origin().await;
    let app = App::start(&policy(&memory(4), &origin.url(), ""));
    let (mut client, _) = announced(&app, 4 * MIB).await;
    assert_eq!(client.answer().await.status, 413);
    app.lines(1).await;
}

#[tokio::test]
async fn a_refusal_for_want_of_memory_is_said_in_the_callers_dialect() {
    let origin = origin().await;
    let app = App::start(&policy(&memory(8), &origin.url(), ""));
    let (large, _) = announced(&app, 5 * MIB).await;
    until("it is held", async || held(&app) > 5 * MIB).await;
    for (target, at) in [(CHAT, "/error/code"), (MESSAGES, "/error/type")] {
        let mut client = Client::connect(app.addr).await;
        client.send(&super::large(target, 4 * MIB).0).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 503);
        let said = answer.json();
        let word = said.pointer(at).and_then(|word| word.as_str()).unwrap_or_default();
        assert!(word.contains("overloaded"), "{said}");
        assert!(answer.head.get("retry-after-ms").is_some());
        assert_eq!(answer.head.get("x-should-retry"), None);
    }
    drop(large);
    let lines = app.lines(3).await;
    assert_eq!(lines.iter().filter(|line| line["error"] == "overloaded").count(), 2, "{lines:?}");
    let refused = ["source=\"us\"", "reason=\"overloaded\""];
    assert_eq!(app.count("tidegate_refusals_total", &refused), 2);
}

/// Batch calls first, then all; what has begun goes on, and health is told.
#[tokio::test]
async fn the_last_levels_refuse_batch_first_and_then_everyone() {
    let origin = origin().await;
    let app = App::start(&policy(&memory(10), &origin.url(), ""));
    let batch = request("POST", CHAT, "x-claude-code-request-class: auxiliary\r\n", SMALL);
    let status = async |call: &[u8]| ask(app.addr, call).await.status;
    let level = async |level: &str| {
        until(level, async || app.state()["memory"]["level"] == level).await;
        app.page("/readyz")
    };
    assert!(!app.page("/readyz").contains("memory"));
    let (mut first, body) = announced(&app, 9_200_000).await;
    let ready = level("no_sharing").await;
    assert!(ready.contains("memory is short (no_sharing)"), "{ready}");
    let (second, _) = announced(&app, 400_000).await;
    level("no_extras").await;
    assert_eq!((status(&batch).await, status(&post(CHAT, "", SMALL)).await), (200, 200));
    let (third, _) = announced(&app, 450_000).await;
    level("urgent").await;
    assert_eq!((status(&batch).await, status(&post(CHAT, "", SMALL)).await), (503, 200));
    // small ones that wait for their bodies: each counts with what a call needs anyway
    let mut crowd = Vec::new();
    let full = async || {
        crowd.push(announced(&app, 100).await.0);
        app.state()["memory"]["level"] == "full"
    };
    until("full", full).await;
    let ready = app.page("/readyz");
    assert!(ready.contains("memory is short (full)"), "{ready}");
    assert_eq!((status(&batch).await, status(&post(CHAT, "", SMALL)).await), (503, 503));
    assert_eq!(status(&get("/v1/models", "")).await, 503);
    assert_eq!(status(&request("HEAD", "/", "", "")).await, 200, "an answer of ours costs nothing");
    // what was taken is served
    first.send(&body).await;
    assert_eq!(first.answer().await.status, 200);
    level("calm").await;
    assert_eq!((status(&batch).await, status(&post(CHAT, "", SMALL)).await), (200, 200));
    for (word, least) in [("urgent", 1), ("full", 3)] {
        let label = format!("level=\"{word}\"");
        assert!(app.count("tidegate_overload_refused_total", &[&label]) >= least, "{word}");
    }
    drop((second, third, crowd));
    until("all is given back", async || held(&app) == 0).await;
}

#[tokio::test]
async fn where_memory_is_short_idle_connections_go_soon() {
    let origin = origin().await;
    let app = App::start(&policy(&memory(10), &origin.url(), ""));
    let mut idle = Client::connect(app.addr).await;
    idle.send(&post(CHAT, "", SMALL)).await;
    assert_eq!(idle.answer().await.status, 200);
    let heavy = announced(&app, 9_600_000).await;
    assert!(idle.is_closed().await, "long before its 75 s");
    drop(heavy);
    app.lines(2).await;
}

/// Who says nothing of its class may still have one by a policy.
#[tokio::test]
async fn a_policy_says_who_can_wait() {
    let origin = origin().await;
    let policies = "policies: [{ name: night, match: { model: m }, priority: batch }]\n";
    let app = App::start(&format!("{}{policies}", policy(&memory(10), &origin.url(), "")));
    let night = post(CHAT, "", SMALL);
    let day = post(CHAT, "", &SMALL.replace("\"m\"", "\"other\""));
    let heavy = announced(&app, 10_050_000).await;
    until("it is short", async || app.state()["memory"]["level"] == "urgent").await;
    assert_eq!(ask(app.addr, &night).await.status, 503);
    assert_eq!(ask(app.addr, &day).await.status, 200);
    drop(heavy);
    until("all is given back", async || held(&app) == 0).await;
    assert_eq!(ask(app.addr, &night).await.status, 200);
    app.lines(4).await;
}

/// Nothing is tried a second time that may have cost something, once memory is short.
#[tokio::test]
async fn where_memory_is_short_nothing_is_tried_again() {
    let failing = || Origin::saying(origin::whole("503 Service Unavailable", "", "{}"));
    let (one, two) = (failing().await, failing().await);
    let urls = format!("urls: ['{}', '{}'],", one.url(), two.url());
    let app = App::start(&format!(
        "server: {{ {} }}\nupstreams: {{ up: {{ {urls} dialect: openai }} }}\nroutes: [{{ to: up }}]\n",
        memory(10)
    ));
    let calls = || one.requests() + two.requests();
    ask(app.addr, &post(CHAT, "", SMALL)).await;
    let usual = calls();
    assert!(usual > 1, "it is tried again where it may");
    let heavy = announced(&app, 9_600_000).await;
    until("it is short", async || app.state()["memory"]["level"] == "no_extras").await;
    ask(app.addr, &post(CHAT, "", SMALL)).await;
    assert_eq!(calls(), usual + 1);
    drop(heavy);
    app.lines(3).await;
}

#[tokio::test]
async fn a_smaller_budget_takes_effect_with_the_reload() {
    let origin = origin().await;
    let app = App::start(&policy(&memory(64), &origin.url(), ""));
    let call = async |app: &App| {
        let (mut client, body) = announced(app, 8 * MIB).await;
        client.send(&body).await;
        client.head().await.map(|head| head.status)
    };
    assert_eq!(call(&app).await, Some(200));
    app.reload(&policy(&memory(6), &origin.url(), "")).await;
    assert_eq!(app.count("tidegate_memory_budget_bytes", &[]), 6 * MIB);
    assert_eq!(call(&app).await, Some(413));
    app.lines(2).await;
}

/// Bodies of any size, framed either way, that come whole or not at all: what is held is what is
/// there, and in the end nothing.
#[tokio::test]
async fn bodies_that_come_and_go_leave_nothing_behind() {
    let origin = origin().await;
    let app = App::with(&policy(&memory(16), &origin.url(), ""), &["--workers", "2"]);
    let mut tasks = JoinSet::new();
    for seed in 0..8 {
        let addr = app.addr;
        tasks.spawn(async move {
            let mut dice = Dice(seed);
            for _ in 0..30 {
                let (mut head, body) =
                    large(CHAT, [100, 17_000, 200_000, 3 * MIB][dice.roll(4) as usize]);
                let mut body = body;
                if dice.roll(2) == 0 {
                    let text = String::from_utf8(head).unwrap();
                    let length = format!("content-length: {}", body.len());
                    head = text.replace(&length, "transfer-encoding: chunked").into_bytes();
                    let chunks = body
                        .chunks(65_536)
                        .map(|part| origin::chunk(std::str::from_utf8(part).unwrap()));
                    body = chunks.collect::<Vec<_>>().concat();
                    body.extend_from_slice(b"0\r\n\r\n");
                }
                let mut client = Client::connect(addr).await;
                client.send(&head).await;
                if dice.roll(3) == 0 {
                    client.send(&body[..dice.roll(body.len() as u64) as usize]).await;
                    continue;
                }
                client.send(&body).await;
                if let Some(head) = client.head().await {
                    assert!([200, 503].contains(&head.status), "{}", head.text);
                }
            }
        });
    }
    tasks.join_all().await;
    until("all is given back", async || held(&app) == 0).await;
}

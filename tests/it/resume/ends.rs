//! How it ends: the grace time over, cancelled, broken, drained.
use std::time::{Duration, Instant};

use super::{LONG, Reading, behind, here, let_go, rest, resumable};
use crate::cache::{Backend, Ends, OPENAI_CHAT, Script, policy, quiet};
use crate::support::app::App;
use crate::support::client::{End, get};
use crate::support::until;

fn counting(events: usize) -> Script {
    let event = |n| {
        format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{n} \"}}}}]}}\n\n")
    };
    Script::events((0..events).map(event).chain(["data: [DONE]\n\n".to_owned()]))
}

#[tokio::test]
async fn when_its_time_is_over_the_backend_is_let_go() {
    let backend = Backend::held(counting(20), Duration::ZERO, 5).await;
    let app = behind(&backend, "1");
    let mut first = Reading::begin(app.addr, &resumable(&OPENAI_CHAT, "800ms")).await;
    assert_eq!(first.head.get("x-tidegate-resume"), Some("800ms"));
    let url = first.url();
    assert!(first.to(10).await);
    let (lost, had) = (Instant::now(), first.lose(10));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!((backend.gone(), app.upstream()["in_flight"].as_i64()), (0, Some(1)), "it goes on");
    // who comes back in time is waited for anew
    let mut second = Reading::begin(app.addr, &get(&format!("{url}?offset=10"), "")).await;
    assert!(second.to(10).await);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(backend.gone(), 0, "{:?} after the first loss somebody reads", lost.elapsed());
    let (lost, more) = (Instant::now(), second.lose(10));
    assert!([had, more].concat() == backend.script.body()[..20]);
    let_go(&backend, 1).await;
    assert!(lost.elapsed() >= Duration::from_millis(700), "{:?}", lost.elapsed());
    quiet(&app).await;
    let late = rest(&app, &url, "?offset=20").await;
    assert_eq!((late.status, &late.json()["error"]["code"]), (404, &"stream_not_found".into()));
    let lines = app.lines(3).await;
    let outcomes: Vec<_> = lines.iter().map(|line| line["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["client_gone", "client_gone", "refused"]);
    let spent: Vec<_> = lines.iter().filter(|line| !line["spend_dollars"].is_null()).collect();
    assert_eq!(spent.len(), 1, "paid once, and for what was used: {lines:#?}");
    assert!(spent[0]["resumed"].is_null());
}

#[tokio::test]
async fn what_is_over_stays_for_its_time() {
    let backend = Backend::start(counting(3), Duration::ZERO).await;
    let app = behind(&backend, "1");
    let mut first = Reading::begin(app.addr, &resumable(&OPENAI_CHAT, "400ms")).await;
    let url = first.url();
    first.to(usize::MAX).await;
    let body = backend.script.body();
    assert!(rest(&app, &url, "").await.body == body);
    let from = Instant::now();
    until("it is let go", async || rest(&app, &format!("{url}/"), "").await.status == 404).await;
    until("its memory is free", async || app.count("tidegate_memory_held_bytes", &[]) == 0).await;
    assert!(from.elapsed() >= Duration::from_millis(300), "{:?}", from.elapsed());
    assert_eq!(rest(&app, &url, "").await.status, 404);
}

#[tokio::test]
async fn stopping_is_not_leaving() {
    for (method, verb) in [("DELETE", ""), ("POST", "/cancel")] {
        let backend = Backend::held(counting(20), Duration::ZERO, 5).await;
        let app = behind(&backend, "2");
        let mut first = Reading::begin(app.addr, &resumable(&OPENAI_CHAT, LONG)).await;
        let url = first.url();
        assert!(first.to(10).await);
        let mut second = Reading::begin(app.addr, &get(&format!("{url}?offset=10"), "")).await;
        drop(first.lose(0));
        assert!(second.to(1).await);
        let stopped = here(&app, method, &format!("{url}{verb}")).await;
        assert_eq!((stopped.status, stopped.body.len()), (204, 0));
        let_go(&backend, 1).await;
        let end = second.client.rest(second.head.clone(), false).await;
        assert_ne!(end.end, End::Whole, "a stream that was stopped does not end as a whole one");
        assert!(end.text().contains("cancelled"), "{}", end.text());
        assert_eq!(rest(&app, &url, "").await.status, 404);
        assert_eq!(here(&app, method, &format!("{url}{verb}")).await.status, 404);
        quiet(&app).await;
    }
}

#[tokio::test]
async fn stopped_while_nobody_reads_and_when_it_is_over() {
    let backend = Backend::held(counting(5), Duration::ZERO, 2).await;
    let app = behind(&backend, "2");
    let first = Reading::begin(app.addr, &resumable(&OPENAI_CHAT, LONG)).await;
    let url = first.url();
    drop(first.lose(0));
    assert_eq!(here(&app, "DELETE", &url).await.status, 204);
    let_go(&backend, 1).await;
    quiet(&app).await;
    backend.release(usize::MAX);
    let mut first = Reading::begin(app.addr, &resumable(&OPENAI_CHAT, LONG)).await;
    let url = first.url();
    assert!(!first.to(usize::MAX).await);
    assert_eq!(here(&app, "DELETE", &url).await.status, 204);
    assert_eq!(rest(&app, &url, "").await.status, 404);
    quiet(&app).await;
}

#[tokio::test]
async fn a_broken_stream_ends_for_who_comes_back_as_for_who_stayed() {
    let mut script = counting(4);
    script.pieces.pop();
    script.end = Ends::Reset;
    let backend = Backend::held(script, Duration::ZERO, 2).await;
    let app = behind(&backend, "2");
    let mut stays = Reading::begin(app.addr, &resumable(&OPENAI_CHAT, LONG)).await;
    let url = stays.url();
    assert!(stays.to(10).await);
    let mut back = Reading::begin(app.addr, &get(&format!("{url}?offset=7"), "")).await;
    backend.release(usize::MAX);
    assert!(!stays.to(usize::MAX).await && !back.to(usize::MAX).await);
    let text = String::from_utf8(stays.got.clone()).unwrap();
    assert!(text.contains("upstream_broken"), "{text}");
    assert_eq!(back.got, stays.got[7..]);
    let late = rest(&app, &url, "?offset=7").await;
    assert_ne!(late.end, End::Whole);
    assert_eq!(late.body, stays.got[7..]);
    assert_eq!(backend.calls(), 1);
    for line in app.lines(3).await {
        assert_eq!(line["outcome"], "upstream_broken", "{line}");
    }
}

#[tokio::test]
async fn a_drain_lets_go_of_streams_that_nobody_reads_and_of_no_others() {
    let backend = Backend::held(counting(6), Duration::ZERO, 2).await;
    let rules = format!(
        "server: {{ drain: {{ delay: 0s, timeout: 20s }} }}\n{}",
        policy(&backend.origin.url(), "", super::COUNTED)
    );
    let mut app = App::start(&rules);
    let first = Reading::begin(app.addr, &resumable(&OPENAI_CHAT, LONG)).await;
    drop(first.lose(0));
    let mut reads = Reading::begin(app.addr, &resumable(&OPENAI_CHAT, LONG)).await;
    assert!(reads.to(10).await);
    app.signal("TERM");
    let_go(&backend, 1).await;
    backend.release(usize::MAX);
    assert!(!reads.to(usize::MAX).await);
    assert!(reads.got == backend.script.body());
    assert_eq!(app.exited().await.code(), Some(0));
    let mut outcomes: Vec<_> =
        app.written().iter().map(|line| line["outcome"].as_str().unwrap().to_owned()).collect();
    outcomes.sort();
    assert_eq!(outcomes, ["client_gone", "complete"]);
}

/// With nobody reading at all the end is not held up by the grace time.
#[tokio::test]
async fn a_drain_waits_for_no_grace_time() {
    let backend = Backend::held(counting(6), Duration::ZERO, 2).await;
    let rules = format!(
        "server: {{ drain: {{ delay: 0s, timeout: 20s }} }}\n{}",
        policy(&backend.origin.url(), "", super::COUNTED)
    );
    let mut app = App::start(&rules);
    let first = Reading::begin(app.addr, &resumable(&OPENAI_CHAT, LONG)).await;
    drop(first.lose(0));
    let deserted = async || app.count("tidegate_connections_open", &[]) == 0;
    until("its client is gone", deserted).await;
    app.signal("TERM");
    assert_eq!(app.exited().await.code(), Some(0));
    assert_eq!(app.written().len(), 1);
    assert_eq!(app.written()[0]["outcome"], "client_gone");
}

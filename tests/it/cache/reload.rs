//! Other rules while answers are kept and calls are shared; the end of the program; and other doors.
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use super::{
    Backend, CHAT, OPENAI_CHAT, Script, ask, at_once, is_hit, policy, quiet, sent, status,
    until_inside, whole,
};
use crate::support::app::App;
use crate::support::h2;
use crate::support::until;

async fn backend(gap: Duration) -> Backend {
    Backend::start(Script::recorded(&OPENAI_CHAT, true, "tokens=20").await, gap).await
}

fn with(backend: &Backend, cache: &str) -> String {
    let cache = format!("  - {{ name: once, cache: {cache} }}\n");
    policy(&backend.origin.url(), "", &cache)
}

#[tokio::test]
async fn other_rules_hold_for_what_was_kept_before() {
    let backend = backend(Duration::ZERO).await;
    let app = App::start(&with(&backend, "{ ttl: 1h }"));
    let call = OPENAI_CHAT.call("still?", true);
    assert_eq!(status(&ask(&app, &call).await), "tidegate; fwd=miss");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    // the rules that speak of other things
    app.reload(&with(&backend, "{ ttl: 2h, replay: recorded, memory: 1MiB }")).await;
    assert!(is_hit(&ask(&app, &call).await));
    app.reload(&with(&backend, "{ ttl: 1s }")).await;
    assert!(!is_hit(&ask(&app, &call).await), "it is older than it may be now");
    app.reload(&with(&backend, "{ ttl: 1h, scope: shared }")).await;
    assert!(!is_hit(&ask(&app, &call).await), "who kept it did not mean to share it");
    assert!(is_hit(&ask(&app, &call).await));
    app.reload(&with(&backend, "off")).await;
    assert_eq!(status(&ask(&app, &call).await), "");
    app.reload(&with(&backend, "{ ttl: 1h, scope: shared }")).await;
    assert!(!is_hit(&ask(&app, &call).await), "off is off");
}

#[tokio::test]
async fn a_shared_call_goes_on_under_new_rules() {
    let backend = backend(Duration::ZERO).await;
    for (next, joins) in
        [("{ ttl: 2h }", true), ("{ ttl: 1h, scope: shared }", false), ("off", false)]
    {
        let script = (*backend.script).clone();
        let backend = Backend::held(script, Duration::ZERO, 3).await;
        let app = App::start(&with(&backend, "{ ttl: 1h }"));
        let call = OPENAI_CHAT.call("and now?", true);
        let mut readers = vec![sent(app.addr, &call).await];
        until("it is asked", async || backend.calls() == 1).await;
        readers.push(sent(app.addr, &call).await);
        until_inside(&app, 2).await;
        app.reload(&with(&backend, next)).await;
        readers.push(sent(app.addr, &call).await);
        until_inside(&app, 3).await;
        let calls = if joins { 1 } else { 2 };
        until("who asks now", async || backend.calls() == calls).await;
        backend.release(usize::MAX);
        for client in &mut readers {
            whole(&client.answer().await, &backend.script.body());
        }
        assert_eq!(backend.calls(), calls);
        quiet(&app).await;
    }
}

#[tokio::test]
async fn a_drain_waits_for_all_who_share() {
    let backend = backend(Duration::from_millis(25)).await;
    let drain = "server: { drain: { delay: 0s, timeout: 20s } }\n";
    let mut app =
        App::start(&format!("{drain}{}", with(&backend, "{ ttl: 1h, replay: recorded }")));
    let kept = OPENAI_CHAT.call("kept?", true);
    whole(&ask(&app, &kept).await, &backend.script.body());
    let call = OPENAI_CHAT.call("to the end?", true);
    let mut first = sent(app.addr, &call).await;
    assert_eq!(first.head().await.unwrap().status, 200);
    let mut readers = Vec::new();
    for n in 2..=5 {
        readers.push(sent(app.addr, &call).await);
        until_inside(&app, n).await;
    }
    // and one who reads what was kept, at its pace
    readers.push(sent(app.addr, &kept).await);
    until_inside(&app, 6).await;
    first.reset();
    let told = Instant::now();
    let reading = tokio::spawn(async move {
        let mut bodies = JoinSet::new();
        for mut client in readers {
            bodies.spawn(async move { client.answer().await });
        }
        bodies.join_all().await
    });
    app.end().await;
    assert!(told.elapsed() < Duration::from_secs(8), "{:?}", told.elapsed());
    for answer in reading.await.unwrap() {
        whole(&answer, &backend.script.body());
    }
    assert_eq!((backend.calls(), backend.gone()), (2, 0));
}

#[tokio::test]
async fn streams_of_one_http2_connection_share_a_call() {
    let backend = backend(Duration::ZERO).await;
    backend.release(3);
    let app = backend.behind("{ ttl: 1h }");
    let client = h2::Client::connect(app.addr).await;
    let body = OPENAI_CHAT.json("in parts?", true);
    let first = client.post(CHAT, "", &body).await;
    until("it is asked", async || backend.calls() == 1).await;
    let mut rest = Vec::new();
    for _ in 0..60 {
        rest.push(client.post(CHAT, "", &body).await);
    }
    until_inside(&app, 61).await;
    // the first is reset, and some others
    drop(first);
    rest.truncate(50);
    tokio::time::sleep(Duration::from_millis(50)).await;
    backend.release(usize::MAX);
    // all at once: they share a window
    let reading: JoinSet<_> = rest.into_iter().map(h2::finish).collect();
    for answer in reading.join_all().await {
        assert_eq!((answer.status, answer.reset), (200, None));
        assert!(answer.body == backend.script.body());
        assert_eq!(answer.headers["cache-status"], "tidegate; fwd=miss; collapsed");
    }
    let hit = client.ask(CHAT, "", &body).await;
    assert!(hit.body == backend.script.body() && hit.headers.contains_key("age"));
    assert_eq!((backend.calls(), backend.gone()), (1, 0));
    client.hang_up();
    quiet(&app).await;
}

#[tokio::test]
async fn a_stream_of_http2_that_takes_nothing_holds_up_no_other() {
    let script = Script::recorded(&OPENAI_CHAT, true, "tokens=4000").await;
    let backend = Backend::held(script, Duration::ZERO, 1).await;
    let app = backend.behind("{ ttl: 1h }");
    let client = h2::Client::connect(app.addr).await;
    let body = OPENAI_CHAT.json("in parts?", true);
    let (response, mut stream) = client.begin(CHAT, &[], false).await;
    stream.send_data(Bytes::copy_from_slice(body.as_bytes()), true).unwrap();
    let stalled = response.await.unwrap();
    let (to, call) = (app.addr, OPENAI_CHAT.call("in parts?", true));
    let asking = tokio::spawn(async move { at_once(to, &call, 5).await });
    until_inside(&app, 6).await;
    backend.release(usize::MAX);
    for answer in asking.await.unwrap() {
        whole(&answer, &backend.script.body());
    }
    let (_, mut stalled) = stalled.into_parts();
    let mut body = Vec::new();
    while let Some(data) = stalled.data().await {
        let data = data.unwrap();
        stalled.flow_control().release_capacity(data.len()).unwrap();
        body.extend_from_slice(&data);
    }
    assert!(body == backend.script.body());
    assert_eq!(backend.calls(), 1);
    drop(stalled);
    client.hang_up();
    quiet(&app).await;
}

#[tokio::test]
async fn callers_of_all_doors_share() {
    let backend = backend(Duration::ZERO).await;
    backend.release(2);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agents.sock");
    let listen = format!("listen: [127.0.0.1:0, 'unix:{}']\n", path.display());
    let app = App::start(&format!("{listen}{}", with(&backend, "{ ttl: 1h, scope: shared }")));
    let call = OPENAI_CHAT.call("through which?", true);
    let mut first = sent(app.addr, &call).await;
    until("it is asked", async || backend.calls() == 1).await;
    let mut unix = UnixStream::connect(&path).await.unwrap();
    let closing = String::from_utf8(call.clone()).unwrap();
    let closing = closing.replacen("\r\nhost", "\r\nconnection: close\r\nhost", 1);
    unix.write_all(closing.as_bytes()).await.unwrap();
    until_inside(&app, 2).await;
    backend.release(usize::MAX);
    whole(&first.answer().await, &backend.script.body());
    let mut text = String::new();
    unix.read_to_string(&mut text).await.unwrap();
    assert!(text.contains("fwd=miss; collapsed") && text.contains("[DONE]"), "{text}");
    let mut unix = UnixStream::connect(&path).await.unwrap();
    unix.write_all(closing.as_bytes()).await.unwrap();
    let mut text = String::new();
    unix.read_to_string(&mut text).await.unwrap();
    assert!(text.contains("tidegate; hit"), "{text}");
    assert_eq!(backend.calls(), 1);
    quiet(&app).await;
}

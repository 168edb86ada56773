//! Answers that are longer than what is kept, and readers who do not keep up.
use std::time::Duration;

use super::{Backend, OPENAI_CHAT, Script, ask, is_hit, quiet, sent, status, until_inside, whole};
use crate::support::client::{Client, End};
use crate::support::until;

const MIB: usize = 1 << 20;

/// A stream of so many bytes, in pieces that differ.
fn long(bytes: usize) -> Script {
    const PIECE: usize = 8 << 10;
    let pieces = (0..bytes / PIECE).map(|n| {
        let words = format!("{n:08}").repeat(PIECE / 8 - 12);
        format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{words}\"}}}}]}}\n\n")
    });
    let end = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
               data: [DONE]\n\n";
    Script::events(pieces.chain([end.to_owned()]))
}

/// The rest of an answer whose head was read, with a pause before each read.
async fn slowly(mut client: Client, pause: Duration) -> (Vec<u8>, Option<End>) {
    assert_eq!(client.head().await.unwrap().status, 200);
    let mut body = Vec::new();
    loop {
        match client.chunk().await {
            Ok(chunk) if chunk.is_empty() => return (body, Some(End::Whole)),
            Ok(chunk) => body.extend(chunk),
            Err(end) => return (body, Some(end)),
        }
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
}

#[tokio::test]
async fn who_reads_nothing_stops_nobody_and_still_gets_everything() {
    let backend = Backend::held(long(12 * MIB), Duration::ZERO, 0).await;
    let app = backend.behind("{ ttl: 1h, max_entry: 16MiB }");
    let call = OPENAI_CHAT.call("how long?", true);
    // the first of all reads nothing
    let idle = sent(app.addr, &call).await;
    until("it is asked", async || backend.calls() == 1).await;
    let idle_too = sent(app.addr, &call).await;
    let reader = sent(app.addr, &call).await;
    until_inside(&app, 3).await;
    backend.release(usize::MAX);
    let (body, end) = slowly(reader, Duration::ZERO).await;
    assert!(body == backend.script.body() && end == Some(End::Whole));
    until("the upstream call is over", async || app.upstream()["in_flight"] == 0).await;
    // kept, though two have not read it
    assert!(is_hit(&ask(&app, &call).await));
    for client in [idle, idle_too] {
        let (body, end) = slowly(client, Duration::ZERO).await;
        assert!(body == backend.script.body() && end == Some(End::Whole));
    }
    assert_eq!(backend.calls(), 1);
    quiet(&app).await;
}

#[tokio::test]
async fn an_answer_that_is_too_long_to_keep_still_reaches_all_who_were_there() {
    let backend = Backend::held(long(6 * MIB), Duration::ZERO, 0).await;
    let app = backend.behind("{ ttl: 1h, max_entry: 64KiB }");
    let call = OPENAI_CHAT.call("how long?", true);
    let mut readers = Vec::new();
    for n in 1..=3 {
        readers.push(sent(app.addr, &call).await);
        until_inside(&app, n).await;
    }
    backend.release(100);
    let mut reading = tokio::task::JoinSet::new();
    for client in readers {
        reading.spawn(slowly(client, Duration::ZERO));
    }
    until("it is past the bound", async || backend.sent() > 700 << 10).await;
    // who comes now begins anew
    let late = sent(app.addr, &call).await;
    until("it is asked again", async || backend.calls() == 2).await;
    backend.release(usize::MAX);
    reading.spawn(slowly(late, Duration::ZERO));
    for (body, end) in reading.join_all().await {
        assert!(end == Some(End::Whole), "{end:?} after {} bytes", body.len());
        assert!(body == backend.script.body());
    }
    assert_eq!(status(&ask(&app, &call).await), "tidegate; fwd=miss");
    assert_eq!(backend.calls(), 3);
    quiet(&app).await;
}

#[tokio::test]
async fn past_the_bound_the_backend_goes_at_the_pace_of_the_fastest_reader() {
    let backend = Backend::start(long(64 * MIB), Duration::ZERO).await;
    let app = backend.behind("{ ttl: 1h, max_entry: 256KiB }");
    let before = app.resident();
    let call = OPENAI_CHAT.call("how fast?", true);
    let first = sent(app.addr, &call).await;
    until("it is asked", async || backend.calls() == 1).await;
    // nobody reads: what has been sent is in the buffers of sockets, and no more grows
    let mut last = 0;
    let stands = async || {
        let now = backend.sent();
        let still = now > MIB && now == last;
        last = now;
        tokio::time::sleep(Duration::from_millis(200)).await;
        still
    };
    until("it stands", stands).await;
    let sent_so_far = backend.sent();
    assert!(sent_so_far < 32 * MIB, "{sent_so_far}");
    let grown = app.resident().saturating_sub(before);
    assert!(grown < 8 << 10, "{grown} KiB");
    let (body, end) = slowly(first, Duration::ZERO).await;
    assert!(end == Some(End::Whole) && body == backend.script.body());
    let grown = app.resident().saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB");
    quiet(&app).await;
}

#[tokio::test]
async fn past_the_bound_who_falls_far_behind_is_given_up_and_others_are_not() {
    let backend = Backend::held(long(48 * MIB), Duration::ZERO, 0).await;
    let app = backend.behind("{ ttl: 1h, max_entry: 256KiB }");
    let before = app.resident();
    let call = OPENAI_CHAT.call("who is slow?", true);
    let mut idle = Vec::new();
    for n in 1..=2 {
        idle.push(sent(app.addr, &call).await);
        until_inside(&app, n).await;
    }
    let reader = sent(app.addr, &call).await;
    until_inside(&app, 3).await;
    backend.release(usize::MAX);
    let (body, end) = slowly(reader, Duration::ZERO).await;
    assert!(end == Some(End::Whole) && body == backend.script.body());
    let grown = app.resident().saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB");
    for client in idle {
        let (body, end) = slowly(client, Duration::ZERO).await;
        assert!(end != Some(End::Whole), "an end that looks clean after {} bytes", body.len());
        let same = body.iter().zip(backend.script.body()).take_while(|(a, b)| **a == *b).count();
        assert!(same > 64 << 10, "what came is right");
        let rest = String::from_utf8_lossy(&body[same..]);
        assert!(rest.contains("error"), "{rest:.300}");
    }
    assert_eq!(backend.calls(), 1);
    quiet(&app).await;
    let lines = app.lines(3).await;
    let lost = lines.iter().filter(|line| line["error"] == "answer_lost").count();
    assert_eq!(lost, 2, "{lines:#?}");
}

#[tokio::test]
async fn a_large_answer_of_one_piece_is_shared_whole() {
    let body = format!(
        r#"{{"object":"chat.completion","choices":[{{"index":0,"message":{{"role":"assistant","content":"{}"}},"finish_reason":"stop"}}]}}"#,
        "x".repeat(3 * MIB)
    );
    for max_entry in ["16MiB", "64KiB"] {
        let backend = Backend::held(Script::json("200 OK", &body), Duration::ZERO, 0).await;
        let app = backend.behind(&format!("{{ ttl: 1h, max_entry: {max_entry} }}"));
        let (to, call) = (app.addr, OPENAI_CHAT.call("in one?", false));
        let asking = tokio::spawn(async move { super::at_once(to, &call, 4).await });
        until_inside(&app, 4).await;
        backend.release(usize::MAX);
        for answer in asking.await.unwrap() {
            whole(&answer, body.as_bytes());
        }
        quiet(&app).await;
    }
}

//! Over HTTP/2, with heartbeats, and where memory is short.
use std::time::Duration;

use tokio::time::timeout;

use super::{LONG, Reading, behind, rest, resumable};
use crate::cache::{Backend, OPENAI_CHAT, Script, policy, quiet};
use crate::support::app::App;
use crate::support::client::{Client, get};
use crate::support::{PATIENCE, h2, until};

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn over_http2_one_stream_of_a_connection_is_lost_and_taken_up_on_another() {
    let script = Script::recorded(&OPENAI_CHAT, true, "tokens=20").await;
    let expected = script.body();
    let backend = Backend::held(script, Duration::ZERO, 4).await;
    let app = behind(&backend, "2");
    let client = h2::Client::connect(app.addr).await;
    let lines = [("content-type", "application/json"), ("x-tidegate-resume", LONG)];
    let (response, mut stream) = client.begin(CHAT, &lines, false).await;
    stream.send_data(OPENAI_CHAT.json("two?", true).into(), true).unwrap();
    let (head, mut body) = timeout(PATIENCE, response).await.unwrap().unwrap().into_parts();
    let url = head.headers["x-tidegate-resume-url"].to_str().unwrap().to_owned();
    let had = timeout(PATIENCE, body.data()).await.unwrap().unwrap().unwrap();
    drop((body, stream));
    backend.release(usize::MAX);
    let back = h2::finish(client.get(&format!("{url}?offset={}", had.len())).await).await;
    assert_eq!((back.status, back.reset), (200, None));
    assert_eq!(back.headers["x-tidegate-stream-offset"], had.len().to_string());
    assert!([&had[..], &back.body].concat() == expected);
    // and from the other protocol
    assert!(rest(&app, &url, "").await.body == expected);
    client.hang_up();
    let back = h2::Client::connect(app.addr).await;
    assert!(h2::finish(back.get(&url).await).await.body == expected);
    assert_eq!((backend.calls(), backend.gone()), (1, 0));
}

/// Comments of ours stand in the log: who counts bytes has counted them.
#[tokio::test]
async fn heartbeats_are_part_of_what_a_reader_has_had() {
    let script = Script::recorded(&OPENAI_CHAT, true, "tokens=6").await;
    let (expected, first) = (script.body(), script.pieces[0].clone());
    let backend = Backend::held(script, Duration::ZERO, 1).await;
    let rules = policy(&backend.origin.url(), "", super::COUNTED);
    let app = App::start(&format!("server: {{ heartbeat: 300ms }}\n{rules}"));
    let mut stays = Reading::begin(app.addr, &resumable(&OPENAI_CHAT, LONG)).await;
    let url = stays.url();
    let beat = b": keep-alive\n\n";
    assert!(stays.to(first.len() + beat.len()).await);
    let at = first.len() + beat.len();
    assert!(stays.got.starts_with(&[&first[..], beat].concat()));
    let mut back = Reading::begin(app.addr, &get(&format!("{url}?offset={at}"), "")).await;
    let events = memchr::memmem::find_iter(&first, b"\n\n").count();
    let after = format!("{url}?starting_after={events}");
    let mut third = Reading::begin(app.addr, &get(&after, "")).await;
    assert!(back.to(beat.len()).await && back.got.starts_with(beat));
    backend.release(usize::MAX);
    assert!(!stays.to(usize::MAX).await && !back.to(usize::MAX).await);
    assert_eq!(back.got, stays.got[at..]);
    assert!(!third.to(usize::MAX).await);
    assert_eq!(third.got, stays.got[first.len()..]);
    let text = String::from_utf8(stays.got).unwrap();
    assert_eq!(text.replace(": keep-alive\n\n", ""), String::from_utf8(expected).unwrap());
}

/// Events of 8 KiB each.
fn large(bytes: usize) -> Script {
    const PIECE: usize = 8 << 10;
    let words = "x".repeat(PIECE - 64);
    let event = format!(
        "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{words}\"}}}}]}}\n\n"
    );
    let end = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
               data: [DONE]\n\n"
        .to_owned();
    Script::events(vec![event; bytes / PIECE].into_iter().chain([end]))
}

#[tokio::test]
async fn beyond_its_bound_a_stream_goes_on_and_is_not_taken_up() {
    let script = large(8 << 20);
    let (expected, count) = (script.body(), script.pieces.len());
    let backend = Backend::held(script, Duration::ZERO, 300).await;
    let app = behind(&backend, "2");
    let mut first = Reading::begin(app.addr, &resumable(&OPENAI_CHAT, LONG)).await;
    let url = first.url();
    assert!(first.to(1 << 20).await);
    // as long as it fits it is all there
    let mut early = Reading::begin(app.addr, &get(&url, "")).await;
    assert!(early.to(1 << 20).await && early.got[..1 << 20] == expected[..1 << 20]);
    drop(early.lose(0));
    backend.release(count - 2);
    assert!(first.to(7 << 20).await);
    for query in ["", "?offset=100", "?starting_after=3"] {
        let gone = rest(&app, &url, query).await;
        assert_eq!((gone.status, &gone.json()["error"]["code"]), (410, &"stream_forgotten".into()));
    }
    backend.release(usize::MAX);
    assert!(!first.to(usize::MAX).await);
    assert!(first.got == expected, "who stays has all of it");
    assert_eq!(backend.calls(), 1);
}

#[tokio::test]
async fn beyond_its_bound_nobody_is_waited_for() {
    let script = large(6 << 20);
    let count = script.pieces.len();
    let backend = Backend::held(script, Duration::ZERO, count - 2).await;
    let app = behind(&backend, "1");
    let mut first = Reading::begin(app.addr, &resumable(&OPENAI_CHAT, LONG)).await;
    assert!(first.to(5 << 20).await);
    drop(first.lose(0));
    super::let_go(&backend, 1).await;
    quiet(&app).await;
}

/// A call that announces so much, and sends none of it.
async fn ballast(app: &App, bytes: usize) -> Client {
    let mut client = Client::connect(app.addr).await;
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {bytes}\r\n\r\n"
    );
    client.send(head.as_bytes()).await;
    client
}

#[tokio::test]
async fn where_memory_is_short_nothing_is_kept_for_who_comes_back() {
    let script = large(512 << 10);
    let (expected, count) = (script.body(), script.pieces.len());
    let backend = Backend::held(script, Duration::ZERO, count / 2).await;
    let rules = policy(&backend.origin.url(), "", super::COUNTED);
    let mut app = App::with(
        &format!("server: {{ memory: 10MiB, max_body: 10MiB }}\n{rules}"),
        &["--workers", "1"],
    );
    app.unfinished = true;
    let mut first = Reading::begin(app.addr, &resumable(&OPENAI_CHAT, LONG)).await;
    let url = first.url();
    assert!(first.to(100 << 10).await);
    let heavy = ballast(&app, 8 * (1 << 20)).await;
    let short = async || app.state()["memory"]["level"] == "no_sharing";
    until("memory is short", short).await;
    backend.release(usize::MAX);
    assert!(!first.to(usize::MAX).await);
    assert!(first.got == expected, "the stream goes on");
    until("it is let go", async || rest(&app, &url, "").await.status == 404).await;
    let plain = Reading::begin(app.addr, &resumable(&OPENAI_CHAT, LONG)).await;
    assert!(plain.head.get("x-tidegate-stream").is_none(), "and a new one is a plain one");
    drop((plain, heavy));
}

/// What is held for its own caller is no longer than that a matter of the cache.
#[tokio::test]
async fn what_is_too_long_for_the_cache_can_be_taken_up_and_is_not_kept() {
    let script = large(512 << 10);
    let expected = script.body();
    let backend = Backend::start(script, Duration::ZERO).await;
    let cached = "  - { name: once, cache: { ttl: 1h, max_entry: 64KiB } }\n";
    let app = App::start(&policy(&backend.origin.url(), "", cached));
    for calls in 1..=2 {
        let mut first = Reading::begin(app.addr, &resumable(&OPENAI_CHAT, LONG)).await;
        let url = first.url();
        assert!(!first.to(usize::MAX).await);
        assert!(first.got == expected);
        assert!(rest(&app, &url, "?offset=100").await.body == expected[100..]);
        assert_eq!(backend.calls(), calls, "it was not kept");
    }
}

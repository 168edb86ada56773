//! The same bytes, wherever the connection was lost and however often.
use std::time::Duration;

use tokio::task::JoinSet;

use super::{LONG, Reading, behind, rest, resumable};
use crate::cache::{Backend, FACES, Face, OLLAMA, OPENAI_CHAT, Script};
use crate::support::app::App;
use crate::support::client::{End, get};
use crate::support::{Dice, until};

/// As many bytes as have whole events in them, and how many of those there are.
fn events(face: &Face, got: &[u8]) -> (usize, usize) {
    let end: &[u8] = if face.stream == OLLAMA.stream { b"\n" } else { b"\n\n" };
    let ends = memchr::memmem::find_iter(got, end).map(|at| at + end.len());
    ends.fold((0, 0), |(_, count), end| (end, count + 1))
}

/// Loses its connection at random until it has everything. Gives what it had, put together.
async fn unlucky(to: std::net::SocketAddr, face: Face, whole: usize, mut dice: Dice) -> Vec<u8> {
    let mut reading = Reading::begin(to, &resumable(&face, LONG)).await;
    let url = reading.url();
    let mut had = Vec::new();
    loop {
        let left = whole - had.len();
        let more = dice.roll(left as u64 + left as u64 / 3 + 2) as usize;
        if !reading.to(more).await || reading.got.len() == left {
            had.extend_from_slice(&reading.got);
            return had;
        }
        let lines;
        let query;
        match dice.roll(3) {
            0 => {
                had.extend(reading.lose(more));
                (query, lines) = (format!("?offset={}", had.len()), String::new());
            }
            form => {
                had.extend(reading.lose(more));
                let (bytes, count) = events(&face, &had);
                had.truncate(bytes);
                (query, lines) = if form == 1 {
                    (format!("?starting_after={count}"), String::new())
                } else {
                    (String::new(), format!("last-event-id: {count}\r\n"))
                };
            }
        }
        reading = Reading::begin(to, &get(&format!("{url}{query}"), &lines)).await;
        let at = had.len().to_string();
        assert_eq!(reading.head.get("x-tidegate-stream-offset"), Some(&*at));
    }
}

async fn rounds(face: Face, workers: &str, seed: u64) {
    let rounds: u64 = if std::env::var_os("LONG").is_some() { 168 } else { 17 };
    let script = Script::recorded(&face, true, "tokens=60").await;
    let expected = script.body();
    let backend = Backend::start(script, Duration::from_millis(2)).await;
    let app = behind(&backend, workers);
    let mut all = JoinSet::new();
    for round in 0..rounds {
        if all.len() >= 8 {
            assert!(all.join_next().await.unwrap().unwrap() == expected);
        }
        let dice = Dice(seed * 1000 + round);
        all.spawn(unlucky(app.addr, face, expected.len(), dice));
    }
    for had in all.join_all().await {
        assert!(had == expected, "{} bytes instead of {}", had.len(), expected.len());
    }
    assert_eq!((backend.calls() as u64, backend.gone()), (rounds, 0), "one call a stream");
    let over = async || app.upstream()["in_flight"] == 0;
    until("all calls are over", over).await;
    let lines = |of: fn(&serde_json::Value) -> bool| app.written().iter().filter(|l| of(l)).count();
    let calls = async || lines(|line| line["route"].is_string()) as u64 >= rounds;
    until("each call has its line", calls).await;
    let calls = lines(|line| line["route"].is_string());
    assert_eq!(calls as u64, rounds, "a resumed read is no call of its own");
    assert_eq!(calls, lines(|line| line["resumed"].is_null()));
    let counted = app.count("tidegate_requests_total", &[]);
    assert_eq!(counted, calls);
}

#[tokio::test]
async fn chats_lost_at_random_come_whole() {
    rounds(FACES[0], "1", 1).await;
}

#[tokio::test]
async fn completions_lost_at_random_come_whole() {
    rounds(FACES[1], "2", 2).await;
}

#[tokio::test]
async fn responses_lost_at_random_come_whole() {
    rounds(FACES[2], "1", 3).await;
}

#[tokio::test]
async fn messages_lost_at_random_come_whole() {
    rounds(FACES[3], "2", 4).await;
}

#[tokio::test]
async fn gemini_streams_lost_at_random_come_whole() {
    rounds(FACES[4], "1", 5).await;
}

#[tokio::test]
async fn ollama_streams_lost_at_random_come_whole() {
    rounds(FACES[5], "2", 6).await;
}

const SHORT: [&str; 4] = [
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n",
    ": a comment\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\r\n\r\n",
    "data: [DONE]\n\n",
];

/// A short stream that is over, and stays.
async fn short() -> (Backend, App, String, Vec<u8>) {
    let script = Script::events(SHORT);
    let expected = script.body();
    let backend = Backend::start(script, Duration::ZERO).await;
    let app = behind(&backend, "1");
    let mut first = Reading::begin(app.addr, &resumable(&OPENAI_CHAT, LONG)).await;
    assert!(!first.to(usize::MAX).await && first.got == expected);
    let url = first.url();
    (backend, app, url, expected)
}

#[tokio::test]
async fn lost_at_each_byte_of_a_stream() {
    let (backend, app, url, expected) = short().await;
    for at in 0..=expected.len() {
        let answer = rest(&app, &url, &format!("?offset={at}")).await;
        assert_eq!((answer.status, answer.end), (200, End::Whole));
        assert!(answer.body == expected[at..], "{at}");
        assert_eq!(answer.head.get("x-tidegate-stream-offset"), Some(&*at.to_string()));
        assert_eq!(answer.head.get("content-type"), Some("text/event-stream"));
        assert_eq!(answer.head.get("x-tidegate-source"), Some("upstream"));
    }
    assert_eq!(backend.calls(), 1);
    // and in the middle of its way, each time another call
    let backend = Backend::start(Script::events(SHORT), Duration::from_millis(1)).await;
    let app = behind(&backend, "1");
    for at in 0..=expected.len() {
        let mut first = Reading::begin(app.addr, &resumable(&OPENAI_CHAT, LONG)).await;
        let url = first.url();
        first.to(at).await;
        let mut had = first.lose(at);
        had.extend(rest(&app, &url, &format!("?offset={at}")).await.body);
        assert!(had == expected, "{at}");
    }
    assert_eq!((backend.calls(), backend.gone()), (expected.len() + 1, 0));
}

#[tokio::test]
async fn events_are_those_that_a_client_sees() {
    let (_backend, app, url, expected) = short().await;
    let first = SHORT[0].len();
    let ends = [0, first, first + SHORT[1].len() + SHORT[2].len(), expected.len(), expected.len()];
    for (events, end) in ends.into_iter().enumerate() {
        let answer = rest(&app, &url, &format!("?starting_after={events}")).await;
        assert_eq!((answer.status, answer.end), (200, End::Whole));
        assert!(answer.body == expected[end..], "{events}");
        // what is past the end cannot be told in bytes
        let at = (events < 4).then(|| end.to_string());
        assert_eq!(answer.head.get("x-tidegate-stream-offset"), at.as_deref());
    }
}

#[tokio::test]
async fn past_its_end_there_is_nothing_and_then_the_end() {
    let (_backend, app, url, expected) = short().await;
    for (had, left) in [(expected.len() - 3, 3), (expected.len(), 0), (expected.len() + 99, 0)] {
        let answer = rest(&app, &url, &format!("?offset={had}")).await;
        assert_eq!((answer.status, answer.end, answer.body.len()), (200, End::Whole, left));
    }
    // the first call, and three that read on
    let lines = app.lines(4).await;
    for (at, line) in lines.iter().enumerate() {
        assert_eq!(line["outcome"], "complete", "{line}");
        assert_eq!(line["resumed"].as_bool(), (at > 0).then_some(true), "{line}");
        assert_eq!(line["route"].is_string(), at == 0, "{line}");
    }
    assert_eq!(app.ended("complete"), 1, "one call");
    let records = app.records().await;
    assert_eq!(records.len(), 1, "and billed once: {records:#?}");
    assert_eq!(records[0]["request_id"], lines[0]["request_id"]);
}

/// Ahead of what has come a reader waits, and gets no byte that it has had.
#[tokio::test]
async fn ahead_of_what_has_come_a_reader_waits() {
    for query in ["?offset=", "?starting_after="] {
        let script = Script::events((0..6).map(|n| format!("data: {{\"n\":{n}}}\n\n")));
        let (expected, event) = (script.body(), script.pieces[0].len());
        let backend = Backend::held(script, Duration::ZERO, 2).await;
        let app = behind(&backend, "2");
        let mut first = Reading::begin(app.addr, &resumable(&OPENAI_CHAT, LONG)).await;
        let url = first.url();
        assert!(first.to(2 * event).await);
        let had = if query == "?offset=" { 3 * event + 5 } else { 3 };
        let start = if query == "?offset=" { had } else { 3 * event };
        let mut ahead = Reading::begin(app.addr, &get(&format!("{url}{query}{had}"), "")).await;
        backend.release(4);
        assert!(ahead.to(1).await);
        backend.release(6);
        assert!(!ahead.to(usize::MAX).await);
        assert!(ahead.got == expected[start..], "{query}");
        assert!(!first.to(usize::MAX).await && first.got == expected);
        assert_eq!(backend.calls(), 1);
    }
}

#[tokio::test]
async fn two_read_at_once_and_as_many_as_may() {
    let script = Script::recorded(&OPENAI_CHAT, true, "tokens=20").await;
    let expected = script.body();
    let backend = Backend::held(script, Duration::ZERO, 3).await;
    let app = behind(&backend, "2");
    let mut first = Reading::begin(app.addr, &resumable(&OPENAI_CHAT, LONG)).await;
    let url = first.url();
    assert!(first.to(1).await);
    let mut others = Vec::new();
    for at in 0..7 {
        let call = get(&format!("{url}?offset={at}"), "");
        others.push((at, Reading::begin(app.addr, &call).await));
    }
    let ninth = rest(&app, &url, "").await;
    assert_eq!((ninth.status, &ninth.json()["error"]["code"]), (429, &"too_many_readers".into()));
    assert!(ninth.head.get("retry-after").is_some());
    backend.release(usize::MAX);
    for (at, other) in &mut others {
        assert!(!other.to(usize::MAX).await);
        assert!(other.got == expected[*at..], "{at}");
    }
    assert!(!first.to(usize::MAX).await && first.got == expected);
    assert_eq!(rest(&app, &url, "").await.body, expected);
    assert_eq!(backend.calls(), 1);
    let lines = app.lines(10).await;
    let paid = lines.iter().filter(|line| !line["spend_dollars"].is_null()).count();
    assert_eq!(paid, 1, "what it has cost is said once: {lines:#?}");
}

//! Who pays for a shared call, and what those are told to have used who do not.
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use super::{
    ANTHROPIC, Backend, CHAT, FACES, OPENAI_CHAT, Script, at_once, policy, quiet, sent,
    until_inside, whole,
};
use crate::support::app::App;
use crate::support::h2;
use crate::support::until;

/// Counts everything, bounds nothing.
const COUNTING: &str = "  - { name: once, per: all, limits: { requests: 1000/day calendar, \
     input_tokens: 9M/day calendar, output_tokens: 9M/day calendar, spend: $9000/day, \
     concurrency: 500 }, cache: { ttl: 1h } }\n";

fn counting(backend: &Backend) -> App {
    App::start(&policy(&backend.origin.url(), "", COUNTING))
}

/// The one line that tells of tokens, and their number in and out.
fn bill(lines: &[Value]) -> (&Value, u64, u64) {
    let mut billed = lines.iter().filter(|line| line.get("input_tokens").is_some());
    let line = billed.next().expect("somebody pays");
    assert!(billed.next().is_none(), "and nobody else: {lines:#?}");
    let tokens = |key: &str| line[key].as_u64().unwrap();
    (line, tokens("input_tokens"), tokens("output_tokens"))
}

/// What is used of the policy's limits: requests, tokens in and out, thousandths of a dollar.
fn used(app: &App) -> [u64; 4] {
    let state = app.state();
    let used = |measure: &str| {
        let all = state["limits"].as_array().unwrap();
        let found = all.iter().find(|limit| limit["measure"] == measure);
        found.and_then(|limit| limit["used"].as_u64()).unwrap_or(0)
    };
    [used("requests"), used("input_tokens"), used("output_tokens"), used("spend") / 1_000_000]
}

#[tokio::test]
async fn of_all_who_share_one_pays_what_the_backend_counted() {
    for face in FACES {
        for stream in [true, false] {
            // chats of agents that ask for no usage: it is asked for by us, and hidden
            let script = Script::recorded(&face, stream, "tokens=30; usage=always").await;
            let backend = Backend::held(script, Duration::ZERO, 0).await;
            let app = counting(&backend);
            let (to, call) = (app.addr, face.call("how much?", stream));
            let again = call.clone();
            let asking = tokio::spawn(async move { at_once(to, &call, 20).await });
            until_inside(&app, 20).await;
            backend.release(usize::MAX);
            let answers = asking.await.unwrap();
            for answer in &answers {
                assert_eq!(answer.body, answers[0].body, "{face:?}");
            }
            assert!(super::is_hit(&super::ask(&app, &again).await));
            quiet(&app).await;
            let lines = app.lines(21).await;
            let (line, input, output) = bill(&lines);
            assert!(input > 0 && output == 30, "{line}");
            assert_eq!(used(&app), [21, input, output, input + output], "{face:?}");
            let spent: f64 = lines.iter().filter_map(|line| line["spend_dollars"].as_f64()).sum();
            assert!((spent * 1e3 - (input + output) as f64).abs() < 1e-6, "{spent}");
            assert_eq!(backend.calls(), 1);
            let records = app.records().await;
            let paid = records.iter().filter(|record| record["spend_nano"] != 0);
            assert_eq!((records.len(), paid.count()), (21, 1), "{records:#?}");
            let saves = |record: &&Value| {
                record["saved_nano"].as_u64() == Some((input + output) * 1_000_000)
            };
            assert_eq!(records.iter().filter(saves).count(), 20, "{records:#?}");
        }
    }
}

#[tokio::test]
async fn the_first_pays_though_it_has_left_while_others_read_on() {
    for (face, seen) in [(OPENAI_CHAT, 0), (OPENAI_CHAT, 4), (ANTHROPIC, 0), (ANTHROPIC, 4)] {
        let script = Script::recorded(&face, true, "tokens=30; usage=always").await;
        let backend = Backend::held(script, Duration::ZERO, seen).await;
        let app = counting(&backend);
        let call = face.call("who pays?", true);
        let mut first = sent(app.addr, &call).await;
        until("it is asked", async || backend.calls() == 1).await;
        let mut other = sent(app.addr, &call).await;
        until_inside(&app, 2).await;
        if seen > 0 {
            assert_eq!(first.head().await.unwrap().status, 200);
            first.chunk().await.unwrap();
        }
        first.reset();
        tokio::time::sleep(Duration::from_millis(30)).await;
        backend.release(usize::MAX);
        let answer = other.answer().await;
        assert_eq!(answer.status, 200, "{}", answer.head.text);
        quiet(&app).await;
        let lines = app.lines(2).await;
        let (line, input, output) = bill(&lines);
        assert_eq!((&line["outcome"], output), (&"client_gone".into(), 30), "{line}");
        assert_eq!(line["status"], if seen > 0 { 200 } else { 499 }, "{line}");
        assert_eq!(used(&app), [2, input, output, input + output]);
        // and what has come is there for the next
        assert!(super::is_hit(&super::ask(&app, &call).await));
    }
}

#[tokio::test]
async fn who_leaves_behind_the_end_of_the_upstream_call_still_has_its_bill() {
    // more than a stream of HTTP/2 takes unread
    let script = Script::recorded(&OPENAI_CHAT, true, "tokens=4000; usage=always").await;
    assert!(script.body().len() > 256 << 10);
    let backend = Backend::start(script, Duration::ZERO).await;
    let app = counting(&backend);
    let client = h2::Client::connect(app.addr).await;
    let body = OPENAI_CHAT.json("and now?", true);
    let (response, mut stream) = client.begin(CHAT, &[], false).await;
    stream.send_data(Bytes::from(body), true).unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.status(), 200);
    // all of it has been fetched and kept, though nobody has read it
    let in_flight = async || app.upstream()["in_flight"] == 0;
    until("the upstream call is over", in_flight).await;
    drop((response, stream));
    client.hang_up();
    quiet(&app).await;
    let lines = app.lines(1).await;
    let (line, input, output) = bill(&lines);
    assert_eq!((&line["outcome"], output), (&"client_gone".into(), 4000), "{line}");
    assert_eq!(used(&app), [1, input, output, input + output]);
}

#[tokio::test]
async fn when_all_have_left_the_first_pays_for_what_was_made() {
    let script = Script::recorded(&OPENAI_CHAT, true, "tokens=30").await;
    let backend = Backend::held(script, Duration::ZERO, 20).await;
    let app = counting(&backend);
    let call = OPENAI_CHAT.call("all of you?", true);
    let mut both = Vec::new();
    for n in 1..=2 {
        both.push(sent(app.addr, &call).await);
        until_inside(&app, n).await;
    }
    for mut client in both {
        assert_eq!(client.head().await.unwrap().status, 200);
        let mut seen = Vec::new();
        while memchr::memmem::find_iter(&seen, "data: ").count() < 15 {
            seen.extend(client.chunk().await.unwrap());
        }
        client.reset();
    }
    quiet(&app).await;
    let [requests, input, output, spent] = used(&app);
    assert!(requests == 2 && input > 0 && (13..100).contains(&output), "{input} {output}");
    assert_eq!(spent, input + output);
    let lines = app.lines(2).await;
    let paid: Vec<_> = lines.iter().filter_map(|line| line["spend_dollars"].as_f64()).collect();
    assert_eq!(paid.len(), 1, "{lines:#?}");
    assert!((paid[0] * 1e3 - spent as f64).abs() < 1e-6, "{paid:?} {spent}");
}

#[tokio::test]
async fn a_call_that_found_the_answer_was_sent_nowhere() {
    let script = Script::recorded(&OPENAI_CHAT, false, "tokens=30").await;
    let backend = Backend::start(script, Duration::ZERO).await;
    let app = counting(&backend);
    let call = OPENAI_CHAT.call("twice?", false);
    whole(&super::ask(&app, &call).await, &backend.script.body());
    whole(&super::ask(&app, &call).await, &backend.script.body());
    let lines = app.lines(2).await;
    assert_eq!((&lines[0]["attempts"], &lines[1]["attempts"]), (&1.into(), &0.into()));
    assert_eq!(lines[1]["outcome"], "complete");
    assert_eq!(lines[1]["response_bytes"], lines[0]["response_bytes"]);
    for key in ["input_tokens", "spend_dollars", "first_byte_ms"] {
        assert!(lines[1].get(key).is_none(), "{key}: {}", lines[1]);
    }
}

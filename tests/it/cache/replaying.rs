//! What is given again is what was sent, to the byte.
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Backend, FACES, OPENAI_CHAT, Script, ask, is_hit, policy, quiet, sent, status, whole};
use crate::support::app::App;
use crate::support::client::{Answer, End, request};
use crate::support::until;

/// The parts of `Cache-Status` behind the name of the cache.
fn told(answer: &Answer) -> Vec<&str> {
    status(answer).split("; ").skip(1).collect()
}

fn age(answer: &Answer) -> u64 {
    answer.head.get("age").expect("its age").parse().unwrap()
}

/// What `Server-Timing` tells of.
fn steps(answer: &Answer) -> Vec<&str> {
    let told = answer.head.get("server-timing").expect("where the time went");
    told.split(", ").map(|step| step.split(';').next().unwrap()).collect()
}

#[tokio::test]
async fn every_dialect_is_replayed_to_the_byte() {
    for face in FACES {
        for stream in [true, false] {
            for how in ["tokens=40", "tokens=40; sse=crlf", "tokens=9; reasoning=5; usage=always"] {
                let script = Script::recorded(&face, stream, how).await;
                let kind = script.lines.lines().next().unwrap().to_owned();
                let backend = Backend::start(script, Duration::ZERO).await;
                let app = backend.behind("{ ttl: 1h }");
                let call = face.call("again?", stream);
                let first = ask(&app, &call).await;
                whole(&first, &backend.script.body());
                assert_eq!(status(&first), "tidegate; fwd=miss");
                assert_eq!(first.head.get("x-request-id"), Some("req_of_upstream"));
                assert!(first.head.get("age").is_none());
                assert_eq!(steps(&first), ["queue", "cache", "upstream", "overhead"]);
                for _ in 0..2 {
                    let again = ask(&app, &call).await;
                    assert_eq!(steps(&again), ["queue", "cache"]);
                    whole(&again, &backend.script.body());
                    assert!(is_hit(&again), "{face:?}: {}", again.head.text);
                    assert_eq!(again.head.get("x-tidegate-source"), Some("cache"));
                    let [.., said] = kind.split(": ").collect::<Vec<_>>()[..] else { panic!() };
                    assert_eq!(again.head.get("content-type"), Some(said));
                    assert_ne!(
                        again.head.get("x-tidegate-request-id"),
                        first.head.get("x-tidegate-request-id")
                    );
                    assert!(again.head.get("x-request-id").is_none(), "it is not upstream's");
                }
                assert_eq!(backend.calls(), 1);
            }
        }
    }
}

#[tokio::test]
async fn the_head_tells_where_an_answer_was_found_and_how_old_it_is() {
    let script = Script::recorded(&OPENAI_CHAT, true, "tokens=9").await;
    let backend = Backend::start(script, Duration::ZERO).await;
    let app = backend.behind("{ ttl: 1h }");
    let call = OPENAI_CHAT.call("where?", true);
    assert_eq!(ask(&app, &call).await.head.all("cache-status"), ["tidegate; fwd=miss"]);
    let hit = ask(&app, &call).await;
    let parts = told(&hit);
    assert_eq!((parts.len(), parts[0], parts[2]), (4, "hit", "detail=memory"), "{parts:?}");
    let left: u64 = parts[1].strip_prefix("ttl=").unwrap().parse().unwrap();
    assert!((3598..=3600).contains(&left) && age(&hit) <= 1, "{left}");
    let key = parts[3].strip_prefix("key=\"").and_then(|key| key.strip_suffix('"')).unwrap();
    assert!(key.len() == 16 && key.bytes().all(|byte| byte.is_ascii_hexdigit()), "{key}");
    assert_eq!(hit.head.get("cache-control"), Some("no-cache"), "no other cache keeps a stream");
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let later = ask(&app, &call).await;
    assert!(age(&later) >= 2 && told(&later)[3] == parts[3]);
    let left: u64 = told(&later)[1].strip_prefix("ttl=").unwrap().parse().unwrap();
    assert!((3590..=3598).contains(&left), "{left}");
}

#[tokio::test]
async fn what_is_older_than_its_life_is_asked_for_again() {
    let script = Script::recorded(&OPENAI_CHAT, false, "tokens=9").await;
    let backend = Backend::start(script, Duration::ZERO).await;
    let app = backend.behind("{ ttl: 1s }");
    let call = OPENAI_CHAT.call("how long?", false);
    let begun = Instant::now();
    assert!(!is_hit(&ask(&app, &call).await));
    let hit = is_hit(&ask(&app, &call).await);
    assert!(hit || begun.elapsed() > Duration::from_millis(900));
    tokio::time::sleep(Duration::from_millis(1050)).await;
    assert_eq!(status(&ask(&app, &call).await), "tidegate; fwd=miss");
    assert_eq!(backend.calls(), 2);
}

#[tokio::test]
async fn the_recorded_pace_is_kept_where_it_is_wanted() {
    const GAP: Duration = Duration::from_millis(60);
    let pieces = (0..6).map(|n| {
        format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{n}\"}}}}]}}\n\n")
    });
    let end = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
               data: [DONE]\n\n";
    let script = Script::events(pieces.chain([end.to_owned()]));
    let backend = Backend::start(script, GAP).await;
    for (replay, slow) in [("recorded", true), ("at_once", false)] {
        let app = backend.behind(&format!("{{ ttl: 1h, replay: {replay} }}"));
        let call = OPENAI_CHAT.call("slowly?", true);
        whole(&ask(&app, &call).await, &backend.script.body());
        let begun = Instant::now();
        let mut client = sent(app.addr, &call).await;
        let head = client.head().await.unwrap();
        assert!(begun.elapsed() < GAP, "the head waits for nothing");
        assert!(head.get("cache-status").unwrap().starts_with("tidegate; hit"));
        let (mut body, mut times) = (Vec::new(), Vec::new());
        while let Ok(chunk) = client.chunk().await
            && !chunk.is_empty()
        {
            body.extend(chunk);
            times.push((begun.elapsed(), String::from_utf8_lossy(&body).matches("\n\n").count()));
        }
        assert_eq!(body, backend.script.body());
        let last = times.last().unwrap().0;
        if slow {
            // each piece a gap after the one before, as it came; a busy machine may give us two at once
            for (time, events) in &times {
                let due = GAP * (*events as u32).min(7);
                assert!(*time + Duration::from_millis(10) >= due, "{events} after {time:?}");
            }
            assert!(last < GAP * 7 * 3, "{times:?}");
        } else {
            assert!(last < GAP * 3, "{times:?}");
        }
        quiet(&app).await;
    }
}

#[tokio::test]
async fn who_leaves_a_replay_is_written_down() {
    let pieces = (0..6).map(|n| {
        format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{n}\"}}}}]}}\n\n")
    });
    let script = Script::events(pieces.chain(["data: [DONE]\n\n".to_owned()]));
    let backend = Backend::start(script, Duration::from_millis(60)).await;
    let app = backend.behind("{ ttl: 1h, replay: recorded }");
    let call = OPENAI_CHAT.call("to the end?", true);
    whole(&ask(&app, &call).await, &backend.script.body());
    let mut client = sent(app.addr, &call).await;
    assert_eq!(client.head().await.unwrap().status, 200);
    client.chunk().await.unwrap();
    client.reset();
    quiet(&app).await;
    let lines = app.lines(2).await;
    assert_eq!(lines[1]["outcome"], "client_gone", "{}", lines[1]);
    assert!(lines[1].get("input_tokens").is_none());
}

#[tokio::test]
async fn calls_on_one_connection_are_answered_from_both_sides() {
    let script = Script::recorded(&OPENAI_CHAT, true, "tokens=9").await;
    let backend = Backend::start(script, Duration::ZERO).await;
    let app = backend.behind("{ ttl: 1h }");
    let mut client = sent(app.addr, &OPENAI_CHAT.call("one?", true)).await;
    whole(&client.answer().await, &backend.script.body());
    for n in 0..20 {
        let question = ["one?", "two?"][n % 2];
        client.send(&OPENAI_CHAT.call(question, true)).await;
        let answer = client.answer().await;
        whole(&answer, &backend.script.body());
        assert_eq!(is_hit(&answer), n != 1, "{n}");
    }
    // two at once on the wire
    let both = [OPENAI_CHAT.call("one?", true), OPENAI_CHAT.call("two?", true)].concat();
    client.send(&both).await;
    for _ in 0..2 {
        whole(&client.answer().await, &backend.script.body());
    }
    assert_eq!(backend.calls(), 2);
}

#[tokio::test]
async fn a_head_request_is_no_question() {
    let script = Script::recorded(&OPENAI_CHAT, false, "tokens=9").await;
    let backend = Backend::start(script, Duration::ZERO).await;
    let app = backend.behind("{ ttl: 1h }");
    let call = OPENAI_CHAT.call("only the head?", false);
    whole(&ask(&app, &call).await, &backend.script.body());
    let head = request("HEAD", super::CHAT, "", "");
    let mut client = sent(app.addr, &head).await;
    let answer = client.headless().await;
    assert!(!is_hit(&answer) && answer.body.is_empty());
}

fn kept_in(dir: &Path, backend: &Backend, more: &str) -> App {
    let policies = format!("  - {{ name: once, cache: {{ ttl: 1h{more} }} }}\n");
    let policy = policy(&backend.origin.url(), "", &policies);
    App::start(&format!(
        "server: {{ drain: {{ delay: 0s }} }}\nstate: {{ dir: '{}' }}\n{policy}",
        dir.display()
    ))
}

#[tokio::test]
async fn after_a_restart_answers_are_as_they_were() {
    for face in FACES {
        for stream in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let script = Script::recorded(&face, stream, "tokens=40").await;
            let backend = Backend::start(script, Duration::ZERO).await;
            let call = face.call("after all?", stream);
            let mut app = kept_in(dir.path(), &backend, "");
            whole(&ask(&app, &call).await, &backend.script.body());
            app.end().await;
            drop(app);
            let app = kept_in(dir.path(), &backend, "");
            // what an earlier process left is looked for in the background
            let mut found = None;
            until("it is found", async || {
                let answer = ask(&app, &call).await;
                let hit = is_hit(&answer);
                found = Some(answer);
                hit
            })
            .await;
            let answer = found.unwrap();
            whole(&answer, &backend.script.body());
            whole(&ask(&app, &call).await, &backend.script.body());
            assert_eq!(answer.end, End::Whole);
        }
    }
}

/// Bytes of all files below.
fn files(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => files(&entry.path()),
        found => found.map_or(0, |found| found.len()),
    });
    bytes.sum()
}

/// Every file loses its end, and one of its bits.
#[expect(clippy::disallowed_methods, reason = "nobody waits meanwhile")]
fn damage(directory: PathBuf) {
    let (mut stack, mut damaged) = (vec![directory], 0);
    while let Some(at) = stack.pop() {
        for entry in std::fs::read_dir(&at).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                stack.push(path);
                continue;
            }
            let mut bytes = std::fs::read(&path).unwrap();
            bytes.truncate(bytes.len() - bytes.len() / 5);
            let middle = bytes.len() / 2;
            if let Some(byte) = bytes.get_mut(middle) {
                *byte ^= 0x10;
                damaged += 1;
            }
            std::fs::write(&path, bytes).unwrap();
        }
    }
    assert!(damaged > 0, "there is something on the disk");
}

#[tokio::test]
async fn after_a_sudden_end_and_on_a_torn_file_wrong_bytes_are_never_given() {
    let dir = tempfile::tempdir().unwrap();
    let script = Script::recorded(&OPENAI_CHAT, true, "tokens=40").await;
    let backend = Backend::start(script, Duration::ZERO).await;
    let questions: Vec<_> =
        (0..20).map(|n| OPENAI_CHAT.call(&format!("what is {n}?"), true)).collect();
    let mut app = kept_in(dir.path(), &backend, "");
    for call in &questions {
        whole(&ask(&app, call).await, &backend.script.body());
    }
    let written = async || files(&dir.path().join("cache")) > 8 << 10;
    until("some of it is on the disk", written).await;
    app.kill();
    drop(app);
    damage(dir.path().join("cache"));
    let app = kept_in(dir.path(), &backend, "");
    for call in questions.iter().chain(&questions) {
        whole(&ask(&app, call).await, &backend.script.body());
    }
    quiet(&app).await;
}

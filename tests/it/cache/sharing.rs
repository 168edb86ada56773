//! Identical calls at the same time are one call to the backend, whoever of them leaves, and when.
use std::time::Duration;

use tokio::task::JoinSet;

use super::{
    ANTHROPIC, Backend, FACES, Face, GEMINI, OLLAMA, OPENAI_CHAT, OPENAI_COMPLETIONS,
    OPENAI_RESPONSES, Script, at_once, quiet, sent, status, until_inside, whole,
};
use crate::support::app::App;
use crate::support::client::{Client, End};
use crate::support::{Dice, until};

/// How a client goes.
#[derive(Clone, Copy)]
enum Leave {
    /// So long after its request was sent.
    After(Duration),
    Chunks(usize),
    Never,
}

/// Makes a call; gives the body of one that stays.
async fn go(mut client: Client, leave: Leave) -> Option<Vec<u8>> {
    match leave {
        Leave::After(time) => tokio::time::sleep(time).await,
        Leave::Chunks(count) => {
            let head = client.head().await.expect("a head");
            assert_eq!(head.status, 200, "{}", head.text);
            for _ in 0..count {
                if client.chunk().await.expect("a chunk").is_empty() {
                    break;
                }
            }
        }
        Leave::Never => {
            let answer = client.answer().await;
            assert_eq!((answer.status, answer.end), (200, End::Whole), "{}", answer.head.text);
            return Some(answer.body);
        }
    }
    client.reset();
    None
}

/// 200 streams that come and go at random: the first leaves first of all.
async fn two_hundred(face: Face, workers: &str, seed: u64) {
    const CALLS: usize = 200;
    let script = Script::recorded(&face, true, "tokens=60").await;
    let expected = script.body();
    let backend = Backend::start(script, Duration::from_millis(6)).await;
    let policy = super::policy(&backend.origin.url(), "", "  - { name: o, cache: { ttl: 1h } }\n");
    let app = App::with(&policy, &["--workers", workers]);
    let (mut dice, mut all) = (Dice(seed), JoinSet::new());
    let call = face.call("the same?", true);
    let first = sent(app.addr, &call).await;
    until("the backend is asked", async || backend.calls() == 1).await;
    all.spawn(async move { go(first, Leave::Chunks(3)).await.map(|body| (0, body)) });
    let mut stay = 0;
    for n in 1..CALLS {
        let (to, call) = (app.addr, call.clone());
        let begin = Duration::from_millis(dice.roll(250));
        let leave = match dice.roll(10) {
            0..2 => Leave::After(Duration::from_millis(dice.roll(200))),
            2..5 => Leave::Chunks(dice.roll(40) as usize),
            _ => {
                stay += 1;
                Leave::Never
            }
        };
        all.spawn(async move {
            tokio::time::sleep(begin).await;
            go(sent(to, &call).await, leave).await.map(|body| (n, body))
        });
    }
    let bodies: Vec<_> = all.join_all().await.into_iter().flatten().collect();
    assert_eq!(bodies.len(), stay);
    for (n, body) in &bodies {
        assert!(*body == expected, "{n}: {} bytes instead of {}", body.len(), expected.len());
    }
    quiet(&app).await;
    assert_eq!(backend.calls(), 1, "one call to the backend");
    assert_eq!(backend.gone(), 0, "and nobody hung up on it");
    let lines = app.lines(CALLS).await;
    let complete = lines.iter().filter(|line| line["outcome"] == "complete").count();
    assert!(complete >= stay && complete < CALLS, "{complete} of {stay}");
}

#[tokio::test]
async fn of_200_chats_one_is_made() {
    two_hundred(OPENAI_CHAT, "1", 1).await;
}

#[tokio::test]
async fn of_200_completions_one_is_made() {
    two_hundred(OPENAI_COMPLETIONS, "2", 2).await;
}

#[tokio::test]
async fn of_200_responses_one_is_made() {
    two_hundred(OPENAI_RESPONSES, "1", 3).await;
}

#[tokio::test]
async fn of_200_messages_one_is_made() {
    two_hundred(ANTHROPIC, "2", 4).await;
}

#[tokio::test]
async fn of_200_gemini_streams_one_is_made() {
    two_hundred(GEMINI, "1", 5).await;
}

#[tokio::test]
async fn of_200_ollama_streams_one_is_made() {
    two_hundred(OLLAMA, "2", 6).await;
}

#[tokio::test]
async fn plain_calls_share_their_answer_too() {
    for face in FACES {
        let script = Script::recorded(&face, false, "tokens=20").await;
        let backend = Backend::held(script, Duration::ZERO, 0).await;
        let app = backend.behind("{ ttl: 1h }");
        let (to, call) = (app.addr, face.call("plainly?", false));
        let asking = tokio::spawn(async move { at_once(to, &call, 50).await });
        until_inside(&app, 50).await;
        backend.release(usize::MAX);
        let answers = asking.await.unwrap();
        let mut first = 0;
        for answer in &answers {
            whole(answer, &backend.script.body());
            match status(answer) {
                "tidegate; fwd=miss" => first += 1,
                other => assert_eq!(other, "tidegate; fwd=miss; collapsed"),
            }
        }
        assert_eq!((first, backend.calls()), (1, 1), "{face:?}");
        quiet(&app).await;
    }
}

#[tokio::test]
async fn when_the_last_has_left_so_has_the_backend() {
    for face in FACES {
        let script = Script::recorded(&face, true, "tokens=60").await;
        let backend = Backend::held(script, Duration::ZERO, 0).await;
        let app = backend.behind("{ ttl: 1h }");
        let call = face.call("anybody?", true);
        // before an answer, and in the middle of one
        for (round, pieces) in [0, 5].into_iter().enumerate() {
            backend.release(pieces);
            let mut clients = vec![sent(app.addr, &call).await];
            until("it is asked", async || backend.calls() == round + 1).await;
            clients.push(sent(app.addr, &call).await);
            clients.push(sent(app.addr, &call).await);
            until_inside(&app, 3).await;
            for client in &mut clients {
                if pieces > 0 {
                    let head = client.head().await.unwrap();
                    assert_eq!(head.status, 200);
                    assert!(!client.chunk().await.unwrap().is_empty());
                }
            }
            // the call of the first goes on for the others, though it has left
            clients.remove(0).reset();
            clients.remove(0).reset();
            until_inside(&app, 2).await;
            assert_eq!(backend.gone(), round, "one is still there");
            clients.remove(0).reset();
            until("the backend is let go", async || backend.gone() == round + 1).await;
        }
        // who asks now is no follower of the dead
        backend.release(usize::MAX);
        let answer = super::ask(&app, &call).await;
        whole(&answer, &backend.script.body());
        assert_eq!((status(&answer), backend.calls()), ("tidegate; fwd=miss", 3));
        quiet(&app).await;
        let lines = app.lines(7).await;
        let gone = lines.iter().filter(|line| line["outcome"] == "client_gone").count();
        assert_eq!(gone, 6);
    }
}

#[tokio::test]
async fn without_coalescing_everybody_asks() {
    let script = Script::recorded(&OPENAI_CHAT, true, "tokens=20").await;
    let backend = Backend::held(script, Duration::ZERO, 0).await;
    let app = backend.behind("{ ttl: 1h, coalesce: false }");
    let (to, call) = (app.addr, OPENAI_CHAT.call("alone?", true));
    let asking = tokio::spawn(async move { at_once(to, &call, 5).await });
    until("all are there", async || backend.calls() == 5).await;
    backend.release(usize::MAX);
    for answer in asking.await.unwrap() {
        whole(&answer, &backend.script.body());
        assert_eq!(status(&answer), "tidegate; fwd=miss");
    }
    let answer = super::ask(&app, &OPENAI_CHAT.call("alone?", true)).await;
    assert!(super::is_hit(&answer), "{}", status(&answer));
    assert_eq!(backend.calls(), 5);
}

//! Clients leave with the terminal event: the official SDKs close the connection there, and mostly the
//! end of the framing is another packet.
use std::time::{Duration, Instant};

use super::{Backend, Ends, FACES, Face, Script, ask, is_hit, quiet, sent};
use crate::support::app::App;
use crate::support::client::End;
use crate::support::until;

/// A backend that keeps back the end of the framing, and how many pieces stand before that.
async fn late(face: &Face) -> (Backend, usize) {
    let script = Script::recorded(face, true, "tokens=20; usage=always").await;
    let pieces = script.pieces.len();
    let script = Script { end: Ends::Late, ..script };
    (Backend::held(script, Duration::ZERO, pieces).await, pieces)
}

/// Makes a call, reads so many bytes of its answer, and goes.
async fn part(app: &App, call: &[u8], bytes: usize) {
    let mut client = sent(app.addr, call).await;
    assert_eq!(client.head().await.unwrap().status, 200);
    let mut read = 0;
    while read < bytes {
        read += client.chunk().await.unwrap().len();
    }
    assert_eq!(read, bytes);
    client.reset();
}

#[tokio::test]
async fn an_answer_is_kept_though_nobody_waits_for_the_end_of_its_framing() {
    for face in FACES {
        let (backend, pieces) = late(&face).await;
        let app = backend.behind("{ ttl: 1h }");
        let call = face.call("and then?", true);
        let whole = backend.script.body();
        part(&app, &call, whole.len()).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(backend.gone(), 0, "{face:?}");
        // who comes meanwhile reads it from its first byte; and may leave as well
        part(&app, &call, whole.len()).await;
        let mut third = sent(app.addr, &call).await;
        let head = third.head().await.unwrap();
        assert!(head.text.contains("collapsed"), "{}", head.text);
        backend.release(pieces + 1);
        let answer = third.rest(head, false).await;
        assert_eq!((answer.end, &answer.body), (End::Whole, &whole), "{face:?}");
        quiet(&app).await;
        assert!(is_hit(&ask(&app, &call).await), "{face:?}");
        assert_eq!(backend.calls(), 1);
        let lines = app.lines(4).await;
        for line in &lines {
            assert_eq!(line["outcome"], "complete", "{line}");
        }
        // one has paid, and the three others know what they saved
        let saved: Vec<_> = lines.iter().filter_map(|line| line["saved_tokens"].as_u64()).collect();
        let billed: Vec<_> =
            lines.iter().filter_map(|line| line["input_tokens"].as_u64()).collect();
        assert_eq!((billed.len(), saved.as_slice()), (1, &[billed[0] + 20; 3][..]), "{face:?}");
    }
}

#[tokio::test]
async fn an_end_that_does_not_come_is_not_waited_for() {
    let face = FACES[0];
    let (backend, _) = late(&face).await;
    let app = backend.behind("{ ttl: 1h }");
    let call = face.call("and then?", true);
    part(&app, &call, backend.script.body().len()).await;
    let left = Instant::now();
    until("the backend is let go of", async || backend.gone() == 1).await;
    let waited = left.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_secs(4)).contains(&waited), "{waited:?}");
    // what has no end is not kept, and nobody joins it
    let mut next = sent(app.addr, &call).await;
    let head = next.head().await.unwrap();
    assert!(head.text.contains("fwd=miss") && !head.text.contains("collapsed"), "{}", head.text);
    assert_eq!(backend.calls(), 2);
    next.reset();
    quiet(&app).await;
}

#[tokio::test]
async fn who_leaves_before_the_terminal_event_is_not_waited_for() {
    for face in FACES {
        let script = Script::recorded(&face, true, "tokens=20").await;
        let but_the_last = script.pieces.len() - 1;
        let bytes = script.pieces[..but_the_last - 1].concat().len();
        let backend = Backend::held(script, Duration::ZERO, but_the_last - 1).await;
        let app = backend.behind("{ ttl: 1h }");
        let left = Instant::now();
        part(&app, &face.call("and then?", true), bytes).await;
        until("the backend is told", async || backend.gone() == 1).await;
        assert!(left.elapsed() < Duration::from_millis(800), "{face:?}: {:?}", left.elapsed());
        assert_eq!(app.line().await["outcome"], "client_gone", "{face:?}");
    }
}

#[tokio::test]
async fn a_call_that_nothing_caches_is_complete_with_the_terminal_event_as_well() {
    for face in FACES {
        let (backend, _) = late(&face).await;
        let limits = "  - { name: few, limits: { requests: 900/min } }\n";
        let app = App::start(&super::policy(&backend.origin.url(), "", limits));
        let call = face.call("and then?", true);
        part(&app, &call, backend.script.body().len()).await;
        let line = app.line().await;
        assert_eq!((&line["outcome"], &line["output_tokens"]), (&"complete".into(), &20.into()));
        until("the backend is let go of", async || backend.gone() == 1).await;
    }
}

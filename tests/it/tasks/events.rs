//! A task as events: numbers, coming back, beginning anew, ends.
use super::*;
use crate::cache::OLLAMA;
use crate::support::client::{Client, get};

/// One event as a reader has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Event {
    id: Option<u64>,
    name: Option<String>,
    data: String,
}

impl Event {
    fn named(&self, name: &str) -> bool {
        self.name.as_deref() == Some(name)
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

fn read(text: &str) -> Vec<Event> {
    let mut events = Vec::new();
    for block in text.split("\n\n").filter(|block| !block.is_empty() && !block.starts_with(':')) {
        let mut event = Event { id: None, name: None, data: String::new() };
        for line in block.lines() {
            let (field, value) = line.split_once(": ").unwrap_or((line, ""));
            match field {
                "id" => event.id = Some(value.parse().unwrap()),
                "event" => event.name = Some(value.to_owned()),
                "data" => event.data.push_str(value),
                other => panic!("{other}: {text}"),
            }
        }
        events.push(event);
    }
    events
}

fn numbered(events: &[Event]) -> Vec<Event> {
    events.iter().filter(|event| event.id.is_some()).cloned().collect()
}

async fn all(rig: &Rig, task: &str, query: &str, lines: &str) -> Vec<Event> {
    let got = rig.ask(&get(&format!("{task}/events{query}"), lines)).await;
    assert_eq!(got.status, 200, "{}", got.text());
    assert_eq!(got.head.get("content-type"), Some("text/event-stream"));
    assert_eq!(got.head.get("cache-control"), Some("no-cache"));
    assert_eq!(got.end, crate::support::client::End::Whole);
    read(got.text())
}

#[tokio::test]
async fn who_comes_back_gets_the_rest_and_nothing_twice() {
    const WORDS: usize = 6;
    for face in [OPENAI_CHAT, OLLAMA] {
        let mut script = Script::recorded(&face, true, "tokens=6").await;
        // events in two, and two in one
        let body = script.body();
        script.pieces = body.chunks(37).map(<[u8]>::to_vec).collect();
        let backend = Backend::held(script, Duration::ZERO, 0).await;
        let rig = Rig::new(&backend.origin.url(), "{}", COUNTED);
        let task = rig.submit(&face, "what?", true).await;
        let mut live = Client::connect(rig.app.addr).await;
        live.send(&get(&format!("{task}/events"), "")).await;
        let head = live.head().await.unwrap();
        backend.release(usize::MAX);
        let stayed = read(live.rest(head, false).await.text());
        rig.over(&task).await;
        let late = all(&rig, &task, "", "").await;
        let events = numbered(&stayed);
        assert!(events.len() > WORDS, "{stayed:?}");
        assert_eq!(numbered(&late), events, "live and after the end");
        let ids: Vec<_> = events.iter().map(|event| event.id.unwrap()).collect();
        assert_eq!(ids, (1..=events.len() as u64).collect::<Vec<_>>());
        for last in [&stayed, &late] {
            let end = last.last().unwrap();
            assert!(end.named("task.succeeded") && end.id.is_none(), "{end:?}");
            assert_eq!(end.json()["state"], "succeeded");
        }
        for had in 0..=events.len() + 1 {
            let rest = &events[had.min(events.len())..];
            let query = all(&rig, &task, &format!("?starting_after={had}"), "").await;
            let header = all(&rig, &task, "", &format!("last-event-id: {had}\r\n")).await;
            assert_eq!(numbered(&query), rest, "{had}");
            assert_eq!(query, header);
            assert!(query.last().unwrap().named("task.succeeded"));
        }
        assert_eq!(backend.calls(), 1);
    }
}

#[tokio::test]
async fn who_comes_back_while_it_runs_goes_on_where_it_was() {
    let backend = Backend::held(counting(8), Duration::ZERO, 4).await;
    let rig = Rig::new(&backend.origin.url(), "{}", COUNTED);
    let task = rig.submit(&OPENAI_CHAT, "what?", true).await;
    until("half has come", async || {
        rig.object(&task).await["progress"]["bytes"].as_u64() >= Some(200)
    })
    .await;
    let mut readers = Vec::new();
    for had in 0..=9 {
        let mut reader = Client::connect(rig.app.addr).await;
        reader.send(&get(&format!("{task}/events?starting_after={had}"), "")).await;
        let head = reader.head().await.unwrap();
        readers.push((had, reader, head));
    }
    // one that is lost on the way
    let mut lost = Client::connect(rig.app.addr).await;
    lost.send(&get(&format!("{task}/events"), "")).await;
    lost.head().await.unwrap();
    lost.chunk().await.unwrap();
    lost.reset();
    backend.release(usize::MAX);
    rig.over(&task).await;
    let whole = numbered(&all(&rig, &task, "", "").await);
    assert_eq!(whole.len(), 9);
    for (had, mut reader, head) in readers {
        let rest = read(reader.rest(head, false).await.text());
        assert_eq!(numbered(&rest), whole[had..], "{had}");
        assert!(rest.last().unwrap().named("task.succeeded"), "{rest:?}");
    }
}

/// Pictures come in events of megabytes.
#[tokio::test]
async fn a_long_event_is_told_whole() {
    let long = "x".repeat(3 << 20);
    let event = format!(r#"data: {{"choices":[{{"index":0,"delta":{{"content":"{long}"}}}}]}}"#);
    let events = Script::events([format!("{event}\n\n"), "data: [DONE]\n\n".to_owned()]);
    let line = format!(r#"{{"message":{{"content":"{long}"}},"done":false}}"#);
    let end = "{\"message\":{\"content\":\"\"},\"done\":true}\n";
    let mut lines = Script::recorded(&OLLAMA, true, "tokens=1").await;
    lines.pieces = vec![format!("{line}\n").into_bytes(), end.into()];
    for (face, script) in [(OPENAI_CHAT, events), (OLLAMA, lines)] {
        let backend = Backend::start(script, Duration::ZERO).await;
        let rig = Rig::new(&backend.origin.url(), "{}", COUNTED);
        let task = rig.submit(&face, "what?", true).await;
        assert_eq!(rig.over(&task).await["state"], "succeeded");
        let told = numbered(&all(&rig, &task, "", "").await);
        assert_eq!(told.len(), 2, "{face:?}");
        assert!(told[0].data.len() > long.len(), "{}", told[0].data.len());
    }
}

/// A backend whose first answer breaks off after some events, and whose second is whole.
async fn breaks_once(words: usize) -> Origin {
    let stream = |words, end: bool| {
        let script = counting(words);
        let cut = script.pieces.len() - usize::from(!end);
        let texts =
            script.pieces[..cut].iter().map(|piece| std::str::from_utf8(piece).unwrap().to_owned());
        let texts: Vec<_> = texts.collect();
        crate::support::origin::stream(texts.iter().map(String::as_str))
    };
    let (broken, whole) = (stream(words, false), stream(words, true));
    let turn = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    Origin::start(move |mut conn| {
        let (broken, whole, turn) = (broken.clone(), whole.clone(), std::sync::Arc::clone(&turn));
        async move {
            while conn.request().await.is_some() {
                if turn.fetch_add(1, std::sync::atomic::Ordering::SeqCst) > 0 {
                    conn.send(&whole).await;
                    continue;
                }
                // what was sent is read before the connection breaks
                conn.send(&broken[..broken.len() - 5]).await;
                tokio::time::sleep(Duration::from_millis(300)).await;
                return conn.reset();
            }
        }
    })
    .await
}

#[tokio::test]
async fn an_answer_that_broke_off_is_told_to_begin_anew() {
    let origin = breaks_once(3).await;
    let rig = Rig::new(&origin.url(), "{}", COUNTED);
    let task = rig.submit(&OPENAI_CHAT, "what?", true).await;
    let stayed = all(&rig, &task, "", "").await;
    let object = rig.over(&task).await;
    assert_eq!((&object["state"], &object["attempts"]), (&"succeeded".into(), &2.into()));
    let events = numbered(&stayed);
    let at = events.iter().position(|event| event.named("task.restarted")).expect("it is told");
    assert!(at >= 3, "what had come was told: {stayed:#?}");
    let ids: Vec<_> = events.iter().map(|event| event.id.unwrap()).collect();
    assert!(ids.windows(2).all(|two| two[0] < two[1]), "no number is told twice: {ids:?}");
    let anew: Vec<_> = events[at + 1..].to_vec();
    assert_eq!(anew.len(), 4, "{events:#?}");
    assert_eq!(events[at].json()["attempt"], 2);
    // who comes back with a number of the first attempt is told so, with one of the second is not
    let first = numbered(&all(&rig, &task, "?starting_after=2", "").await);
    assert!(first[0].named("task.restarted"), "{first:#?}");
    assert_eq!(first[1..], anew);
    let boundary = numbered(&all(&rig, &task, &format!("?starting_after={}", ids[at]), "").await);
    assert_eq!(boundary, anew);
    let second = numbered(&all(&rig, &task, &format!("?starting_after={}", ids[at + 1]), "").await);
    assert_eq!(second, anew[1..]);
    // and who has seen nothing sees the answer alone
    assert_eq!(numbered(&all(&rig, &task, "", "").await), anew);
    rig.quiet().await;
}

#[tokio::test]
async fn one_that_does_not_stream_tells_its_states() {
    let backend = silent().await;
    let rig = Rig::new(&backend.origin.url(), "{ workers: 1 }", COUNTED);
    let first = rig.submit(&OPENAI_CHAT, "one", false).await;
    rig.until_state(&first, "running").await;
    let task = rig.submit(&OPENAI_CHAT, "two", false).await;
    let mut live = Client::connect(rig.app.addr).await;
    live.send(&get(&format!("{task}/events"), "")).await;
    let head = live.head().await.unwrap();
    let begun = read(std::str::from_utf8(&live.chunk().await.unwrap()).unwrap());
    assert!(begun[0].named("task.queued"), "{begun:?}");
    assert_eq!(begun[0].json()["progress"]["position"], 0);
    backend.release(usize::MAX);
    let rest = read(live.rest(head, false).await.text());
    assert!(rest.last().unwrap().named("task.succeeded"), "{rest:?}");
    assert!(rest.iter().all(|event| event.id.is_none()));
    let late = all(&rig, &task, "", "").await;
    assert_eq!(late.len(), 1);
    assert!(late[0].named("task.succeeded"));
    let again = all(&rig, &task, "", "last-event-id: 7\r\n").await;
    assert_eq!(again, late);
}

#[tokio::test]
async fn ends_of_every_kind_are_told() {
    let backend = Backend::held(counting(9), Duration::ZERO, 2).await;
    let rig = Rig::new(&backend.origin.url(), "{}", COUNTED);
    let task = rig.submit(&OPENAI_CHAT, "what?", true).await;
    let mut live = Client::connect(rig.app.addr).await;
    live.send(&get(&format!("{task}/events"), "")).await;
    let head = live.head().await.unwrap();
    live.chunk().await.unwrap();
    rig.post(&format!("{task}/cancel")).await;
    let rest = read(live.rest(head, false).await.text());
    assert!(rest.last().unwrap().named("task.cancelled"), "{rest:?}");
    let no = Origin::saying(said("400 Bad Request", "", r#"{"error":{"message":"no"}}"#)).await;
    let rig = Rig::new(&no.url(), "{}", COUNTED);
    let task = rig.submit(&OPENAI_CHAT, "what?", true).await;
    let told = all(&rig, &task, "", "").await;
    assert!(told.last().unwrap().named("task.failed"), "{told:?}");
    assert_eq!(told.last().unwrap().json()["status"], 400);
    assert_eq!(numbered(&told), [], "a no is no event of the answer");
}

#[tokio::test]
async fn a_quiet_reader_is_told_how_far_the_task_is() {
    let backend = silent().await;
    let rig = Rig::new(&backend.origin.url(), "{ workers: 1 }", COUNTED);
    let first = rig.submit(&OPENAI_CHAT, "what?", true).await;
    rig.until_state(&first, "running").await;
    let second = rig.submit(&OPENAI_CHAT, "and then?", false).await;
    let mut readers = Vec::new();
    for task in [&first, &second] {
        let mut live = Client::connect(rig.app.addr).await;
        live.send(&get(&format!("{task}/events"), "")).await;
        live.head().await.unwrap();
        readers.push(live);
    }
    for (mut live, (state, position)) in
        readers.into_iter().zip([("running", Value::Null), ("queued", 0.into())])
    {
        for name in [&*format!("task.{state}"), "task.progress", "task.progress"] {
            let events = read(std::str::from_utf8(&live.chunk().await.unwrap()).unwrap());
            let [event] = &events[..] else { panic!("{events:?}") };
            assert!(event.named(name) && event.id.is_none(), "{name}: {event:?}");
            let object = event.json();
            assert_eq!(
                (&object["state"], &object["progress"]["position"]),
                (&state.into(), &position)
            );
            let least = if name == "task.progress" { 4_000 } else { 0 };
            assert!(object["progress"]["elapsed_ms"].as_u64() >= Some(least), "{object}");
        }
    }
    backend.release(usize::MAX);
    for task in [&first, &second] {
        rig.over(task).await;
    }
}

#[tokio::test]
async fn a_drain_ends_a_readers_stream_and_it_goes_on_after_the_restart() {
    let backend = Backend::held(counting(6), Duration::ZERO, 3).await;
    let mut rig = Rig::keyed(&backend.origin.url(), "{}", COUNTED);
    let task = rig.submit(&OPENAI_CHAT, "what?", true).await;
    let mut live = Client::connect(rig.app.addr).await;
    live.send(&get(&format!("{task}/events"), "")).await;
    let head = live.head().await.unwrap();
    until("some has come", async || {
        rig.object(&task).await["progress"]["bytes"].as_u64() > Some(100)
    })
    .await;
    rig.app.signal("TERM");
    let had = numbered(&read(live.rest(head, false).await.text()));
    backend.release(usize::MAX);
    assert_eq!(rig.app.exited().await.code(), Some(0));
    rig.app = App::start(&rules(
        rig.state.path(),
        &backend.origin.url(),
        "{}",
        "key: '${CANARY}',",
        COUNTED,
    ));
    assert_eq!(rig.over(&task).await["state"], "succeeded");
    let rest = numbered(&all(&rig, &task, &format!("?starting_after={}", had.len()), "").await);
    assert_eq!(had.len() + rest.len(), 7, "{had:?} {rest:?}");
    assert_eq!(backend.calls(), 1);
}

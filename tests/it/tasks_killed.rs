//! Tasks under `kill -9`: the program in a process of its own is killed at random moments, under load
//! and while it starts, again and again over one directory.
//!
//! What callers were told is written down outside of it, and all of it must hold ever after: a task
//! that was answered with its id is there in a legal state, one that was over stays as it was to the
//! byte, a result is the same however often it is read, a key names the task that it named, no event
//! has two contents, and what may not be done twice is not. Each answer of the backend is another, so
//! an answer that was made twice is seen.
//!
//! `LONG=1` for a thousand kills, `KILLS=N` for another number, `SEED=N` to draw the same again.
#![expect(clippy::print_stdout, reason = "a seed to draw the same again, and figures")]
mod ledger;
mod load;

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::json;

use self::ledger::Ledger;
use self::load::Asker;
use crate::support::app::{App, UPSTREAM_KEY};
use crate::support::client::{Client, ask, get};
use crate::support::origin::{Conn, Origin, STREAM, chunk, whole};
use crate::support::{Dice, until};

const CHAT: &str = "/v1/chat/completions";
/// Longest that what is open may take to its end after the last start.
const TO_THE_END: Duration = Duration::from_mins(2);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn kills() -> u64 {
    let usual = if std::env::var_os("LONG").is_some() { 1000 } else { 10 };
    number("KILLS").unwrap_or(usual)
}

fn dice() -> Dice {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = number("SEED").unwrap_or(now.as_nanos() as u64);
    println!("SEED={seed}");
    Dice(seed)
}

/// What a task asks of the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// Answered at once.
    Quick,
    /// Answered after a while.
    Slow,
    /// Answered event by event.
    Streamed,
    /// Now and then it fails.
    Flaky,
    /// Refused.
    Bad,
    /// With a tool that the backend uses itself: never to be done twice.
    Once,
    /// With the caller's own credential, which no restart knows.
    Bare,
    /// As `Once`, and never answered.
    Hung,
    /// As `Streamed`, for half a second.
    Long,
}

impl Work {
    const ALL: [Self; 9] = [
        Self::Quick,
        Self::Slow,
        Self::Streamed,
        Self::Flaky,
        Self::Bad,
        Self::Once,
        Self::Bare,
        Self::Hung,
        Self::Long,
    ];
    /// So many of them, from the first, are drawn.
    const DRAWN: u64 = 7;

    fn body(self, number: u64) -> String {
        let model = if self == Self::Bare { "bare" } else { "m" };
        let more = match self {
            Self::Streamed | Self::Long => r#","stream":true"#,
            Self::Once | Self::Hung => r#","tools":[{"type":"web_search"}]"#,
            _ => "",
        };
        format!(
            r#"{{"model":"{model}","messages":[{{"role":"user","content":"{self:?} {number}."}}]{more}}}"#
        )
    }

    /// What is asked, by its body.
    fn read(body: &[u8]) -> (Self, u64) {
        let text = std::str::from_utf8(body).unwrap();
        let (_, said) = text.split_once(r#""content":""#).unwrap();
        let (name, rest) = said.split_once(' ').unwrap();
        let work = Self::ALL.into_iter().find(|work| format!("{work:?}") == name).unwrap();
        let (number, _) = rest.split_once('.').unwrap();
        (work, number.parse().unwrap())
    }
}

/// How often the backend was asked for each task, and in all.
#[derive(Default)]
struct Asked {
    of: HashMap<u64, u64>,
    all: u64,
}

/// Answers no two calls alike: `<17:99>` is for the task 17, and the 99th answer.
async fn backend() -> (Origin, Arc<Mutex<Asked>>) {
    let asked = Arc::new(Mutex::new(Asked::default()));
    let count = Arc::clone(&asked);
    let origin = Origin::start(move |mut conn| {
        let count = Arc::clone(&count);
        async move {
            while let Some(request) = conn.request().await {
                let (work, task) = Work::read(&request.body);
                let answer = {
                    let mut asked = count.lock();
                    asked.all += 1;
                    *asked.of.entry(task).or_default() += 1;
                    asked.all
                };
                respond(&mut conn, work, task, answer).await;
            }
        }
    });
    (origin.await, asked)
}

async fn respond(conn: &mut Conn, work: Work, task: u64, answer: u64) {
    let json = |status, text: String| whole(status, "content-type: application/json\r\n", &text);
    let good = format!(
        r#"{{"id":"c","choices":[{{"index":0,"message":{{"role":"assistant","content":"<{task}:{answer}>"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":3,"completion_tokens":2}}}}"#
    );
    let no =
        |what: &str| format!(r#"{{"error":{{"message":"<{task}:{answer}>","type":"{what}"}}}}"#);
    let pause = Duration::from_millis(3 + answer * 7 % 60);
    let pause = if work == Work::Long { Duration::from_millis(500) } else { pause };
    match work {
        Work::Quick => {}
        Work::Hung => return conn.until_gone().await,
        Work::Slow | Work::Once | Work::Bare | Work::Flaky | Work::Bad => {
            tokio::time::sleep(pause).await;
        }
        Work::Streamed | Work::Long => {
            conn.send(STREAM).await;
            for part in 0..8 {
                let event = format!(
                    "data: {{\"id\":\"c\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"<{task}:{answer}> {part}\"}},\"finish_reason\":{}}}]}}\n\n",
                    if part == 7 { "\"stop\"" } else { "null" }
                );
                conn.send(&chunk(&event)).await;
                tokio::time::sleep(pause / 8).await;
            }
            conn.send(&chunk("data: [DONE]\n\n")).await;
            conn.send(b"0\r\n\r\n").await;
            return;
        }
    }
    let answer = match work {
        Work::Flaky if answer.is_multiple_of(3) => {
            json("500 Internal Server Error", no("server_error"))
        }
        Work::Bad => json("400 Bad Request", no("invalid_request_error")),
        _ => json("200 OK", good),
    };
    conn.send(&answer).await;
}

fn policy(origin: &Origin, state: &Path) -> String {
    let (state, url) = (state.display(), origin.url());
    format!(
        "state: '{state}'\n\
         tasks: {{ per_agent: {{ count: 1000000, bytes: 1GiB }} }}\n\
         upstreams:\n\
         \x20 up: {{ url: '{url}', dialect: openai, key: '${{CANARY}}', pacing: off, breaker: off }}\n\
         \x20 bare: {{ url: '{url}', dialect: openai, pacing: off, breaker: off }}\n\
         routes: [{{ model: bare, to: bare }}, {{ to: up }}]\n"
    )
}

fn start(policy: &str) -> App {
    let mut app = App::with(policy, &["--workers", "2", "--log", "warn,tidegate=info"]);
    app.unfinished = true;
    app
}

/// Starts it, and kills it before it may be done with what it found.
async fn stillborn(policy: &str, after: Duration) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("policy.yaml");
    std::fs::write(&file, format!("listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\n{policy}")).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["--config", file.to_str().unwrap()])
        .env("CANARY", UPSTREAM_KEY)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    tokio::time::sleep(after).await;
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn nothing_that_was_told_is_lost_however_often_it_dies() {
    let (mut dice, kills) = (dice(), kills());
    let directory = tempfile::tempdir().unwrap();
    let (origin, asked) = backend().await;
    let policy = policy(&origin, &directory.path().join("state"));
    let ledger = Arc::new(Ledger::default());
    let begun = Instant::now();
    for kill in 0..kills {
        if dice.roll(5) == 0 {
            stillborn(&policy, Duration::from_millis(dice.roll(80))).await;
        }
        let mut app = start(&policy);
        if dice.roll(3) == 0 {
            ledger.look_at_all_open(&mut Asker::new(app.addr)).await.expect("it lives");
        }
        let clients = load::begin(app.addr, &ledger, &mut dice);
        let longest = if dice.roll(3) == 0 { 20 } else { 400 };
        tokio::time::sleep(Duration::from_millis(dice.roll(longest))).await;
        app.kill();
        clients.join_all().await;
        if kill % 50 == 49 {
            println!("{} kills, {:?}: {}", kill + 1, begun.elapsed(), ledger.figures());
        }
    }
    let app = start(&policy);
    let mut asker = Asker::new(app.addr);
    let from = Instant::now();
    while !ledger.look_at_all_open(&mut asker).await.expect("it lives") {
        assert!(from.elapsed() < TO_THE_END, "what is open never ends: {}", ledger.figures());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    ledger.look_at_everything(&mut asker).await.expect("it lives");
    let all = asked.lock().all;
    println!("{kills} kills in {:?}, {all} calls: {}", begun.elapsed(), ledger.figures());
    ledger.nothing_was_done_twice(&asked.lock().of);
    ledger.was_worth_it(kills);
}

/// Nothing else is written at that time that could take the mark of its start to the disk with it.
#[tokio::test]
async fn what_may_not_be_done_twice_is_known_to_have_begun() {
    let directory = tempfile::tempdir().unwrap();
    let (origin, asked) = backend().await;
    let policy = policy(&origin, &directory.path().join("state"));
    for number in 0..3 {
        let mut app = start(&policy);
        let mut asker = Asker::new(app.addr);
        let answer = asker.ask(&ledger::submission(number, Work::Hung, false)).await.unwrap();
        let path = format!("/-/tasks/{}", answer.json()["id"].as_str().unwrap());
        until("the backend is asked", async || asked.lock().of.contains_key(&number)).await;
        app.kill();
        let app = start(&policy);
        let mut asker = Asker::new(app.addr);
        let now = asker.ask(&get(&path, "")).await.unwrap().json();
        assert_eq!((&now["state"], &now["attempts"]), (&json!("interrupted"), &json!(1)), "{now}");
        assert_eq!(asked.lock().of[&number], 1);
    }
}

#[tokio::test]
async fn a_reader_learns_after_a_kill_that_what_it_had_is_void() {
    let directory = tempfile::tempdir().unwrap();
    let (origin, asked) = backend().await;
    let policy = policy(&origin, &directory.path().join("state"));
    let mut app = start(&policy);
    let answer = ask(app.addr, &ledger::submission(1, Work::Long, false)).await;
    let path = format!("/-/tasks/{}/events", answer.json()["id"].as_str().unwrap());
    let mut client = Client::connect(app.addr).await;
    client.send(&get(&path, "")).await;
    client.head().await.unwrap();
    let mut had = String::new();
    while !had.contains("id: 3\n") {
        had.push_str(std::str::from_utf8(&client.chunk().await.unwrap()).unwrap());
    }
    app.kill();
    let app = start(&policy);
    let rest = ask(app.addr, &get(&path, "last-event-id: 3\r\n")).await;
    let text = rest.text();
    let number = |name: &str| -> u64 {
        let (before, _) = text.split_once(name).unwrap_or_else(|| panic!("no {name}: {text}"));
        let (_, line) = before.rsplit_once("id: ").unwrap();
        line.lines().next().unwrap().parse().unwrap()
    };
    let restarted = number("event: task.restarted\n");
    assert!(restarted > 3, "{text}");
    for part in 0..8 {
        assert_eq!(number(&format!("<1:2> {part}")), restarted + 1 + part, "{text}");
    }
    assert!(had.contains("<1:1> 2") && !text.contains("<1:1>"), "{had} {text}");
    assert!(text.contains("event: task.succeeded\n"), "{text}");
    assert_eq!(asked.lock().all, 2);
}

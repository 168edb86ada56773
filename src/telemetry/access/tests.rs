use std::io::Read;
use std::sync::atomic::Ordering;
use std::time::Instant;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::identity::{Class, Rung};
use crate::telemetry::blocks::BLOCK;
use crate::telemetry::metrics::{Held, Kept, Outcome, Usage, Who};

fn finished(model: &str) -> Finished<'_> {
    Finished {
        status: 200,
        outcome: Outcome::Complete,
        model,
        operation: "chat",
        inference: true,
        duration: Duration::from_micros(812_345),
        first_byte: Some(Duration::from_millis(90)),
        first_token: None,
        overhead: Duration::from_micros(41),
        queued: Duration::ZERO,
        request_bytes: 1234,
        response_bytes: 56_789,
        usage: Some(Usage { input: 12, output: 34, cached_input: 5, ..Usage::default() }),
        stream: true,
        content_events: 34,
        error: None,
        who: Who::default(),
        held: Held::default(),
        kept: Kept::default(),
        seen: None,
    }
}

fn entry<'a>(call: &'a Finished<'a>) -> Entry<'a> {
    Entry {
        time_ms: 1_795_361_669_007,
        call,
        request_id: "req_1",
        peer: "127.0.0.1:50000",
        method: "POST",
        path: "/openai/v1/chat/completions",
        route: "openai",
        upstream: "openai",
        attempts: 1,
        reused: true,
        resumed: false,
        task: "",
        user_agent: Some("OpenAI/Python 3.54.0"),
    }
}

fn line(form: Form, entry: &Entry<'_>) -> String {
    let mut out = Vec::new();
    let mut memos = Memos::default();
    form.write(&mut out, &mut memos, entry);
    let first = String::from_utf8(out.clone()).expect("UTF-8");
    // The same line from what was kept.
    out.clear();
    form.write(&mut out, &mut memos, entry);
    assert_eq!(out, first.as_bytes());
    first
}

#[test]
fn json_line() {
    let call = finished("gpt-4o");
    let got = line(Form::Json, &entry(&call));
    let want = concat!(
        r#"{"time":"2026-11-22T15:34:29.007Z","log":"access","request_id":"req_1","#,
        r#""peer":"127.0.0.1:50000","method":"POST","path":"/openai/v1/chat/completions","#,
        r#""route":"openai","upstream":"openai","operation":"chat","model":"gpt-4o","#,
        r#""status":200,"outcome":"complete","stream":true,"request_bytes":1234,"#,
        r#""response_bytes":56789,"duration_ms":812.345,"first_byte_ms":90,"overhead_us":41,"#,
        r#""queued_ms":0,"attempts":1,"reused":true,"input_tokens":12,"output_tokens":34,"#,
        r#""cached_input_tokens":5,"user_agent":"OpenAI/Python 3.54.0"}"#,
        "\n"
    );
    assert_eq!(got, want);
}

#[test]
fn text_line() {
    let call = Finished {
        outcome: Outcome::ClientGone,
        status: 499,
        error: Some("client_gone"),
        ..finished("gpt-4o")
    };
    let got = line(Form::Text, &entry(&call));
    assert_eq!(
        got,
        "2026-11-22T15:34:29.007Z 499 POST /openai/v1/chat/completions → openai gpt-4o \
         812.345ms, first 90ms, ours 41µs, tokens 12 + 34, client_gone (client_gone) req_1\n"
    );
}

#[test]
fn which_task_a_call_is_of_is_said() {
    let call = finished("m");
    let of = Entry { task: "task_00000000000000000000000000", ..entry(&call) };
    let got = line(Form::Json, &of);
    let want = r#""reused":true,"task":"task_00000000000000000000000000","input_tokens":12,"#;
    assert!(got.contains(want), "{got}");
    assert!(line(Form::Text, &of).contains(", task_00000000000000000000000000, complete req_1"));
    assert!(!line(Form::Json, &entry(&call)).contains("task"), "most calls are of none");
}

#[test]
fn who_called_and_what_it_cost_are_said_where_they_are_known() {
    let mut call = finished("m");
    call.who = Who {
        agent: "researcher",
        team: "growth",
        session: "s-1",
        parent: "lead",
        rung: Some(Rung::Key),
        class: Class::Batch,
    };
    call.held = Held {
        spend_nano: Some(1_000_230_000),
        priced: false,
        predicted_tokens: None,
        limited_by: Some("teams/tokens"),
        would_refuse: Some("trial/spend"),
        clamped: Some(512),
        runaway: true,
    };
    let json = line(Form::Json, &entry(&call));
    let said = concat!(
        r#","agent":"researcher","rung":"key","team":"growth","parent":"lead","session":"s-1","#,
        r#""class":"batch","method""#
    );
    assert!(json.contains(said), "{json}");
    let said = concat!(
        r#","spend_dollars":1.00023,"priced":false,"limited_by":"teams/tokens","#,
        r#""would_refuse":"trial/spend","clamped":512,"runaway":true,"user_agent""#
    );
    assert!(json.contains(said), "{json}");
    let text = line(Form::Text, &entry(&call));
    let said = ", tokens 12 + 34, researcher, ~$1.00023, limited by teams/tokens, \
                would be refused by trial/spend, clamped to 512, runaway, complete ";
    assert!(text.contains(said), "{text}");
}

#[test]
fn what_the_cache_made_of_it_is_said_where_a_policy_caches() {
    let none = line(Form::Json, &entry(&finished("m")));
    assert!(!none.contains("cache\"") && !none.contains("saved"), "{none}");
    let mut call = finished("m");
    call.usage = None;
    call.kept = Kept { how: Some("joined"), tokens: 46, nano: 1_230_000 };
    let json = line(Form::Json, &entry(&call));
    let said = r#","cache":"joined","saved_tokens":46,"saved_dollars":0.00123,"user_agent""#;
    assert!(json.contains(said) && !json.contains("input_tokens"), "{json}");
    let text = line(Form::Text, &entry(&call));
    assert!(text.contains(", cache joined, saved 46 tokens, $0.00123, complete "), "{text}");
    call.kept = Kept { how: Some("miss"), ..Kept::default() };
    let json = line(Form::Json, &entry(&call));
    assert!(json.contains(r#","cache":"miss","user_agent""#), "{json}");
}

#[test]
fn money_is_written_to_the_last_billionth() {
    for (nano, text) in [
        (0, "0"),
        (1, "0.000000001"),
        (30_000_000_000, "30"),
        (123_456_789, "0.123456789"),
        (-1_500_000_000, "-1.5"),
        (i64::MIN, "-9223372036.854775808"),
    ] {
        let held = Held { spend_nano: Some(nano), priced: true, ..Held::default() };
        let call = Finished { held, ..finished("m") };
        let json = line(Form::Json, &entry(&call));
        assert!(json.contains(&format!(",\"spend_dollars\":{text},\"user_agent\"")), "{json}");
    }
}

#[test]
fn hostile_texts_stay_inside() {
    let evil = "\u{1b}[31m\"}\n{\"status\":500\u{9b}1m\u{202e}\\";
    let who = Who { agent: evil, team: evil, session: evil, parent: evil, ..Who::default() };
    let held = Held { limited_by: Some(evil), would_refuse: Some(evil), ..Held::default() };
    let call = Finished { who, held, ..finished(evil) };
    let long = "/".to_owned() + &"é".repeat(1000);
    let json = line(Form::Json, &Entry { path: &long, ..entry(&call) });
    let value: Value = serde_json::from_str(&json).expect("JSON");
    for name in ["model", "agent", "team", "session", "parent", "limited_by", "would_refuse"] {
        assert_eq!(value[name], evil, "{name}");
    }
    assert_eq!(value["status"], 200);
    assert_eq!(json.matches('\n').count(), 1);
    let path = value["path"].as_str().expect("a path");
    assert!(path.len() <= 256 + "…".len() && path.ends_with("é…"), "{path}");
    for form in [Form::Json, Form::Text] {
        let line = line(form, &entry(&call));
        let harmless = |c: char| c == '\n' || (!c.is_control() && c != '\u{202e}');
        assert!(line.chars().all(harmless), "{line:?}");
    }
}

#[test]
fn keys_in_odd_places_are_masked() {
    let key = "sk-abcdefghij0123";
    let who = Who { agent: key, team: key, session: key, parent: key, ..Who::default() };
    let call = Finished { who, ..finished(key) };
    let path = "/x/".repeat(83) + "sk-abcdefghij0123456789";
    let entry = Entry { path: &path, user_agent: Some("Bearer abcdefghijkl"), ..entry(&call) };
    for form in [Form::Json, Form::Text] {
        let line = line(form, &entry);
        assert!(!line.contains("sk-") && !line.contains("abcd"), "{line}");
    }
}

proptest! {
    #[test]
    fn any_text_gives_valid_json(
        model in "\\PC*|.*", path in "(?s).{0,600}", agent in "(?s).*", ms in any::<u64>(),
        micros in any::<u64>(), status in any::<u16>(), nano in any::<i64>()
    ) {
        let who = Who { agent: &agent, team: &model, session: &path, parent: &agent, ..Who::default() };
        let held = Held {
            spend_nano: Some(nano), limited_by: Some(&agent), would_refuse: Some(&path), ..Held::default()
        };
        let duration = Duration::from_micros(micros);
        let call = Finished { status, duration, who, held, ..finished(&model) };
        let entry = Entry { path: &path, time_ms: ms, ..entry(&call) };
        let json = line(Form::Json, &entry);
        let value: Value = serde_json::from_str(&json).expect("JSON");
        prop_assert_eq!(json.matches('\n').count(), 1);
        prop_assert!(!json[..json.len() - 1].chars().any(char::is_control));
        prop_assert_eq!(value["status"].as_u64(), Some(u64::from(status)));
        let shown = value["path"].as_str().unwrap_or_default();
        if path.len() <= 256 && redact_leaves(&path) {
            prop_assert_eq!(shown, path);
        } else {
            prop_assert!(shown.len() <= 256 + 3);
        }
        let time = value["time"].as_str().expect("a time");
        prop_assert_eq!(time.len(), "2026-11-22T15:34:29.007Z".len());
        prop_assert!(time.parse::<jiff::Timestamp>().is_ok());
    }
}

fn redact_leaves(text: &str) -> bool {
    crate::telemetry::redact::mask(text) == text
}

#[test]
fn every_byte_that_needs_it_is_escaped_at_every_place() {
    for byte in 0..=0x7f_u8 {
        for at in 0..20 {
            let mut model = "x".repeat(20);
            model.replace_range(at..=at, &char::from(byte).to_string());
            let json = line(Form::Json, &entry(&finished(&model)));
            let value: Value = serde_json::from_str(&json).expect("JSON");
            assert_eq!(value["model"], model);
        }
    }
}

#[test]
fn blocks_are_handed_over_by_size_and_by_age() {
    let (mut reader, writer) = io::pipe().expect("a pipe");
    // a block may be more than the pipe holds
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("text");
        text
    });
    let counts = Arc::new(LineCounts::default());
    let log = AccessLog::to(Box::new(writer), false, Arc::clone(&counts)).expect("a thread");
    let mut lines = log.lines();
    let call = finished("m");
    let first = entry(&call);
    lines.write(&first);
    lines.flush_if_due(first.time_ms + 99);
    assert_eq!(lines.blocks.count, 1, "not yet");
    lines.flush_if_due(first.time_ms + 100);
    assert_eq!(lines.blocks.count, 0);
    lines.write(&first);
    lines.write(&Entry { time_ms: first.time_ms + 200, ..first.clone() });
    assert_eq!(lines.blocks.count, 0, "a busy worker needs no tick");
    for _ in 0..BLOCK / 400 {
        lines.write(&first);
    }
    assert!(lines.blocks.count < BLOCK as u64 / 800, "a full block went: {}", lines.blocks.count);
    drop(lines);
    assert!(log.close(Duration::from_secs(10)));
    drop(log);
    let text = reading.join().expect("the reader");
    assert_eq!(text.lines().count(), 3 + BLOCK / 400);
    assert_eq!(counts.written.load(Ordering::Relaxed), text.lines().count() as u64);
    assert!(text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
}

#[test]
fn a_pipe_that_nobody_reads_stalls_nothing() {
    let (reader, writer) = io::pipe().expect("a pipe");
    let counts = Arc::new(LineCounts::default());
    let log = AccessLog::to(Box::new(writer), false, Arc::clone(&counts)).expect("a thread");
    let mut lines = log.lines();
    let call = finished("m");
    let total = 20_000;
    let mut longest = Duration::ZERO;
    for _ in 0..total {
        let start = Instant::now();
        lines.write(&entry(&call));
        longest = longest.max(start.elapsed());
    }
    lines.flush();
    assert!(longest < Duration::from_millis(500), "a write took {longest:?}");
    let dropped = counts.dropped.load(Ordering::Relaxed);
    // What the channel and the pipe hold, of some ten megabytes.
    assert!(dropped > total / 2, "{dropped}");
    let start = Instant::now();
    assert!(!log.close(Duration::from_millis(100)));
    assert!(start.elapsed() < Duration::from_secs(2));
    // The reader goes away: the writer is freed, and every line is accounted for.
    drop(reader);
    assert!(log.close(Duration::from_secs(10)));
    let all = counts.dropped.load(Ordering::Relaxed) + counts.written.load(Ordering::Relaxed);
    assert_eq!(all, total);
}

#[test]
fn without_a_log_nothing_is_kept() {
    let log = AccessLog::start(
        &config::LogTo::Off,
        config::LogForm::Auto,
        Arc::new(LineCounts::default()),
    )
    .expect("off");
    let mut lines = log.lines();
    let call = finished("m");
    assert!(!lines.enabled());
    lines.write(&entry(&call));
    assert!(lines.blocks.is_empty());
    assert!(log.close(Duration::ZERO));
}

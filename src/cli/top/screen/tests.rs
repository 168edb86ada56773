//! Screens as text: what is where, at every size, and what is coloured.
#![allow(clippy::unwrap_used, reason = "tests")]
use super::super::figures::Quantiles;
use super::*;
use crate::telemetry::view::{LimitView, PaceView, QueueView, TasksView};

fn limit(measure: &str, used: i64, most: i64, mode: &str) -> LimitView {
    LimitView {
        measure: measure.into(),
        used,
        limit: most,
        mode: mode.into(),
        ..LimitView::default()
    }
}

fn agents() -> Vec<AgentView> {
    let researcher = AgentView {
        agent: "researcher".into(),
        team: "growth".into(),
        in_flight: 3,
        waiting: 2,
        calls: 1234,
        spend_nano: 1_234_567_890,
        saved_nano: 50_000_000,
        refused: 7,
        limits: vec![
            limit("requests", 12, 600, "soft"),
            limit("tokens", 380_000, 400_000, "soft"),
            limit("spend", 3, 4, "observe"),
        ],
        ..AgentView::default()
    };
    let coder = AgentView {
        agent: "coder\u{1b}[31m".into(),
        calls: 5,
        runaway: true,
        ..AgentView::default()
    };
    vec![coder, researcher]
}

fn state() -> State {
    let value = serde_json::json!({
        "version": "0.1.0", "stage": "serving", "connections": 12,
        "memory": { "held": 3 << 20, "budget": 512 << 20, "level": "calm" },
        "upstreams": [
            { "name": "openai", "in_flight": 3, "waiting": 2, "concurrency": 8,
              "pool": { "open": 4, "idle": 1, "dialled": 9 },
              "breaker": { "state": "closed", "left_ms": null },
              "keys": { "held": 2, "aside": 1 } },
            { "name": "local", "pool": { "dialled": 1 },
              "breaker": { "state": "open", "left_ms": 12_000 } },
            { "name": "groq", "breaker": { "state": "closed", "left_ms": null } },
        ],
        "calls": [
            { "agent": "researcher", "model": "gpt-4o", "upstream": "openai", "stage": "streaming",
              "age_ms": 12_400, "bytes": 4096, "request_id": "req_1" },
            { "agent": null, "stage": "queued", "age_ms": 80, "bytes": 0 },
        ],
    });
    let pace = PaceView { requests_per_min: Some(500), ..PaceView::default() };
    let queue = QueueView { upstream: "openai".into(), pace: Some(pace), ..QueueView::default() };
    let states = [("queued".to_owned(), 4), ("running".to_owned(), 1)].into();
    State {
        agents: agents(),
        queues: vec![queue],
        tasks: Some(TasksView { states, ..TasksView::default() }),
        ..serde_json::from_value(value).unwrap()
    }
}

fn figures() -> Figures {
    Figures {
        requests_per_second: Some(12.4),
        refusals_per_second: Some(0.5),
        input_tokens_per_second: Some(4500.0),
        output_tokens_per_second: Some(310.0),
        spend_dollars_per_minute: Some(0.03),
        spend_dollars: 12.5,
        saved_dollars: 4.0,
        first_token_seconds: Quantiles { p50: Some(0.12), p99: Some(1.4) },
        overhead_seconds: Quantiles { p50: Some(0.000_041), p99: None },
        running: 3,
        waiting: 2,
    }
}

fn with<T>(edit: impl FnOnce(&mut View<'_>), show: impl FnOnce(&View<'_>) -> T) -> T {
    let (state, figures) = (state(), figures());
    let paces = HashMap::from([(("researcher".to_owned(), "growth".to_owned()), 310.0)]);
    let mut view = View {
        at: "http://127.0.0.1:8081",
        state: &state,
        figures: &figures,
        paces: &paces,
        sort: Sort::default(),
        paused: false,
        lost: None,
    };
    edit(&mut view);
    show(&view)
}

#[test]
fn everything_on_a_wide_screen() {
    let expected = "\
tidegate 0.1.0 http://127.0.0.1:8081 serving  12 connections  memory 3MiB of 512MiB
12 req/s  4.5k in 310 out tok/s  $12.50 spent ($0.0300/min)  $4.00 saved  0.5 refused/s
3 run  2 wait  first token p50 120ms p99 1.4s  overhead p50 41µs p99 –  tasks 4 queued 1 running

UPSTREAM  BREAKER   RUN  WAIT  OPEN  IDLE  KEYS  PACE
openai    closed    3/8     2     4     1   1/2  500 req/min
local     open 12s    0     0     0     0     –  –
and 1 without a call so far

AGENT               FULLEST LIMIT         RUN  WAIT  TOK/S  SPENT    SAVED  CALLS  REFUSED  TEAM    OTHER LIMITS
researcher          ███████░  95% tokens    3     2    310  $1.23  $0.0500   1.2k        7  growth  [spend] 75%, requests 2%
coder\u{fffd}[31m RUNAWAY  –                       0     0      –  $0.00    $0.00      5        0  –       –

 AGE  CALL       AGENT       MODEL   UPSTREAM  BYTES
 12s  streaming  researcher  gpt-4o  openai     4KiB
80ms  queued     –           –       –            0B
";
    let text = with(|_| {}, |view| view.text(200));
    assert_eq!(text, expected, "\n{text}");
}

#[test]
fn a_small_screen_keeps_what_matters_and_scrolls() {
    let expected = "\
tidegate 0.1.0 http://127.0.0.1:8081 ser
12 req/s  4.5k in 310 out tok/s  $12.50
3 run  2 wait  first token p50 120ms p99

UPSTREAM  BREAKER   RUN  WAIT
openai    closed    3/8     2
local     open 12s    0     0
and 1 without a call so far

q quit  ↑↓ scroll  s sort  p pause  by b";
    let screen = with(|_| {}, |view| view.screen((40, 10), 0, false));
    let end = with(|_| {}, |view| view.screen((40, 10), usize::MAX, false));
    assert_eq!(end.lines[8], "80ms  queued     –", "the last line of all");
    assert_eq!((screen.most, end.most), (7, 7));
    assert_eq!(screen.lines.join("\n"), expected, "\n{}", screen.lines.join("\n"));
}

#[test]
fn no_line_is_longer_than_any_screen_is_wide() {
    for (columns, rows) in [(1, 1), (2, 3), (40, 10), (80, 24), (132, 43), (200, 60)] {
        for colour in [false, true] {
            let screen = with(|_| {}, |view| view.screen((columns, rows), 1, colour));
            assert!(screen.lines.len() <= rows, "{columns} {rows}: {}", screen.lines.len());
            for line in &screen.lines {
                let (mut cells, mut escape) = (0, false);
                for c in line.chars() {
                    escape |= c == '\u{1b}';
                    cells += usize::from(!escape);
                    escape &= c != 'm';
                }
                assert!(cells <= columns, "{columns}: {line}");
            }
        }
    }
}

#[test]
fn without_colour_there_is_none_and_no_name_brings_its_own() {
    let plain = with(|_| {}, |view| view.screen((200, 60), 0, false)).lines.join("\n");
    assert!(!plain.contains('\u{1b}'), "{plain:?}");
    let coloured = with(|_| {}, |view| view.screen((200, 60), 0, true)).lines.join("\n");
    assert!(coloured.contains("\u{1b}[31m███"), "a limit that is nearly full is red");
    assert!(coloured.contains("coder\u{fffd}[31m"), "{coloured:?}");
}

#[test]
fn a_lost_instance_is_said_over_what_was_seen_last() {
    let screen =
        with(|view| view.lost = Some("nobody answers"), |view| view.screen((80, 24), 0, false));
    assert!(screen.lines[0].contains("lost, retrying"), "{}", screen.lines[0]);
    assert_eq!(screen.lines[23], "lost, retrying: nobody answers");
    assert!(screen.lines.join("\n").contains("researcher"));
}

#[test]
fn agents_stand_as_they_are_sorted() {
    let first = |sort: Sort| {
        let text = with(|view| view.sort = sort, |view| view.text(200));
        let after = text.lines().skip_while(|line| !line.starts_with("AGENT")).nth(1);
        after.unwrap().split(' ').next().unwrap().to_owned()
    };
    for sort in [Sort::Busy, Sort::Tokens, Sort::Spent, Sort::Refused] {
        assert_eq!(first(sort), "researcher", "{sort:?}");
    }
    assert!(first(Sort::Name).starts_with("coder"));
}

use std::time::Duration;

use super::*;
use crate::telemetry::view::PaceView;

fn agent(name: &str) -> AgentView {
    AgentView {
        agent: name.to_owned(),
        team: "growth".to_owned(),
        class: "default".to_owned(),
        calls: 1234,
        input_tokens: 1_250_000,
        output_tokens: 340_999,
        spend_nano: 3_109_999_999,
        saved_nano: 52_000_000,
        wait_max_ms: 1250,
        ..AgentView::default()
    }
}

fn tokens_limit() -> LimitView {
    LimitView {
        measure: "tokens".to_owned(),
        used: 320_000,
        limit: 400_000,
        resets_in_ms: Some(12_000),
        mode: "hard".to_owned(),
        ..LimitView::default()
    }
}

#[test]
fn a_table_says_it_all() {
    let mut one = agent("researcher");
    one.runaway = true;
    let spend = LimitView {
        measure: "spend".to_owned(),
        used: 30_000_000_000,
        limit: 20_000_000_000,
        resets_in_ms: Some(18_000_000),
        mode: "observe".to_owned(),
        ..LimitView::default()
    };
    one.limits = vec![tokens_limit(), spend];
    let pace = PaceView { paused_ms: 1200, tokens_per_min: Some(90_000), ..PaceView::default() };
    let queue = QueueView {
        upstream: "openai".to_owned(),
        depth: 3,
        slots: Some(8),
        running: 8,
        pace: Some(pace),
    };
    let idle = QueueView { upstream: "idle".to_owned(), ..QueueView::default() };
    let lane = LaneView { route: "chat".to_owned(), waiting: 3, running: 2, ..LaneView::default() };
    let lanes = vec![LaneView { slots: Some(2), ..lane }, LaneView::default()];
    let queues = vec![queue, idle];
    let view = AgentsView { agents: vec![one], queues, lanes, ..AgentsView::default() };
    let text = Table::new("http://a".to_owned(), 9).of(&view, Instant::now());
    let want = "\
http://a: agents 1, running 0, waiting 0
openai: 3 wait, 8 of 8 run, 90k tokens/min, paused 1.2s
lane chat: 3 wait, 2 of 2 run

AGENT       TEAM    CLASS    RUN  WAIT  CALLS    IN   OUT  TOK/MIN  SPENT    SAVED  P50 WAIT  MAX WAIT  REFUSED  LIMITS
researcher  growth  default    0     0   1.2k  1.2M  340k        –  $3.10  $0.0520         0      1.2s        0  \
RUNAWAY tokens 320k/400k 12s, [spend $30.00/$20.00 5h]
";
    assert_eq!(text, want);
}

#[test]
fn the_busiest_come_first_and_the_rest_are_counted() {
    let start = Instant::now();
    let mut table = Table::new("a".to_owned(), 2);
    let idle = AgentsView {
        agents: vec![agent("b"), agent("a"), agent("c")],
        queues: vec![],
        ..AgentsView::default()
    };
    let names = |text: &str| {
        let rows = text.lines().skip(3).filter_map(|line| line.split(' ').next());
        rows.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names(&table.of(&idle, start)), ["a", "b", "and"]);
    let mut busy = idle;
    busy.agents[2].output_tokens += 50;
    let text = table.of(&busy, start + Duration::from_secs(2));
    assert_eq!(names(&text), ["c", "a", "and"]);
    assert!(text.contains("  1.5k  ") && text.ends_with("and 1 more\n"), "{text}");
    busy.agents[0].waiting = 1;
    // an instance that was started anew has used less than before
    busy.agents[2].output_tokens = 0;
    let text = table.of(&busy, start + Duration::from_secs(4));
    assert_eq!(names(&text), ["b", "a", "and"]);
    assert!(table.stale("gone").ends_with("and 1 more\n\ngone\n"));
}

#[test]
fn names_move_no_cursor() {
    let evil = format!("\x1b[2J\n\u{202e}é{}", "x".repeat(100));
    let mut one = agent(&evil);
    one.team.clone_from(&evil);
    one.class.clone_from(&evil);
    one.limits = vec![LimitView { measure: evil.clone(), ..LimitView::default() }];
    let queue = QueueView { upstream: evil.clone(), depth: 1, ..QueueView::default() };
    let lane = LaneView { route: evil, waiting: 1, ..LaneView::default() };
    let view = AgentsView {
        agents: vec![one],
        queues: vec![queue],
        lanes: vec![lane],
        ..AgentsView::default()
    };
    let text = Table::new("a".to_owned(), 9).of(&view, Instant::now());
    assert_eq!(text.lines().count(), 6);
    assert!(!text.contains(['\x1b', '\u{202e}']), "{text:?}");
    assert!(text.lines().all(|line| line.chars().count() < 300), "{text}");
}

#[test]
fn a_table_is_drawn_over_the_last() {
    assert_eq!(over("a\nb\n"), "\x1b[H\x1b[?7la\x1b[K\nb\x1b[K\n\x1b[J\x1b[?7h");
}

#[test]
fn a_debt_is_below_zero() {
    let debt = LimitView { used: -5, resets_in_ms: Some(1), ..tokens_limit() };
    assert_eq!(limit(&debt), "tokens -5/400k");
}

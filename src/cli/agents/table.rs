//! The table: pure text from what an instance told, and from what it told before.
//!
//! Names are a client's own word: they are cut, and no character of them moves a cursor.
use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Instant;

use crate::telemetry::view::{AgentView, AgentsView, LimitView, QueueView};

const LONGEST_NAME: usize = 28;
const HEADS: [&str; 14] = [
    "AGENT", "TEAM", "CLASS", "RUN", "WAIT", "CALLS", "IN", "OUT", "TOK/MIN", "SPENT", "P50 WAIT",
    "MAX WAIT", "REFUSED", "LIMITS",
];
/// Columns of words, which begin at their left edge.
const WORDS: [usize; 4] = [0, 1, 2, 13];

pub(super) struct Table {
    at: String,
    rows: usize,
    before: Option<Before>,
    shown: String,
}

/// When the last table was told, and the tokens of each agent and team then.
type Before = (Instant, HashMap<(String, String), u64>);

impl Table {
    /// Of the instance `at`; `rows` agents at most.
    pub fn new(at: String, rows: usize) -> Self {
        Self { at, rows, before: None, shown: String::new() }
    }

    /// The table, with its last line ended. Tokens a minute are those since the last one.
    pub fn of(&mut self, view: &AgentsView, now: Instant) -> String {
        let mut agents: Vec<(&AgentView, Option<u64>)> =
            view.agents.iter().map(|agent| (agent, self.pace(agent, now))).collect();
        agents.sort_by(|(a, a_pace), (b, b_pace)| {
            let rank = |one: &AgentView, pace: &Option<u64>| {
                (one.in_flight + one.waiting, pace.unwrap_or(0), one.calls)
            };
            rank(b, b_pace).cmp(&rank(a, a_pace)).then_with(|| a.agent.cmp(&b.agent))
        });
        let rows: Vec<_> =
            agents.iter().take(self.rows).map(|(agent, pace)| row(agent, *pace)).collect();
        let sum = |of: fn(&AgentView) -> u64| view.agents.iter().map(of).sum::<u64>();
        let (running, waiting) = (sum(|one| one.in_flight), sum(|one| one.waiting));
        let mut out =
            format!("{}: agents {}, running {running}, waiting {waiting}\n", self.at, agents.len());
        for queue in view.queues.iter().filter(|queue| is_busy(queue)) {
            put_queue(&mut out, queue);
        }
        out.push('\n');
        put_rows(&mut out, &rows);
        if agents.len() > rows.len() {
            let _ = writeln!(out, "and {} more", agents.len() - rows.len());
        }
        let tokens = view.agents.iter().map(|agent| (key(agent), tokens(agent)));
        self.before = Some((now, tokens.collect()));
        self.shown.clone_from(&out);
        out
    }

    /// The last table again, with what is wrong.
    pub fn stale(&self, why: &str) -> String {
        format!("{}\n{why}\n", self.shown)
    }

    /// Tokens a minute since the last table. `None`: there was none, or the instance is another.
    fn pace(&self, agent: &AgentView, now: Instant) -> Option<u64> {
        let (at, before) = self.before.as_ref()?;
        let before = before.get(&key(agent)).copied().unwrap_or(0);
        let seconds = now.saturating_duration_since(*at).as_secs_f64();
        let more = tokens(agent).checked_sub(before)?;
        (seconds > 0.0).then(|| (more as f64 * 60.0 / seconds).round() as u64)
    }
}

/// Draws over what the terminal shows: from its corner, each line to its end, long lines cut.
pub(super) fn over(text: &str) -> String {
    let lines = text.replace('\n', "\x1b[K\n");
    format!("\x1b[H\x1b[?7l{lines}\x1b[J\x1b[?7h")
}

fn key(agent: &AgentView) -> (String, String) {
    (agent.agent.clone(), agent.team.clone())
}

fn tokens(agent: &AgentView) -> u64 {
    agent.input_tokens.saturating_add(agent.output_tokens)
}

fn row(agent: &AgentView, pace: Option<u64>) -> [String; HEADS.len()] {
    let runaway = if agent.runaway { "RUNAWAY " } else { "" };
    let limits: Vec<_> = agent.limits.iter().map(limit).collect();
    [
        name(&agent.agent),
        name(&agent.team),
        name(&agent.class),
        agent.in_flight.to_string(),
        agent.waiting.to_string(),
        short(agent.calls),
        short(agent.input_tokens),
        short(agent.output_tokens),
        pace.map_or_else(|| "–".to_owned(), short),
        dollars(agent.spend_nano),
        time(agent.wait_p50_ms),
        time(agent.wait_max_ms),
        short(agent.refused),
        format!("{runaway}{}", limits.join(", ")),
    ]
}

/// `tokens 320k/400k 12s`; in brackets where it only observes.
fn limit(limit: &LimitView) -> String {
    let amount = |amount: i64| {
        let sign = if amount < 0 { "-" } else { "" };
        let size = amount.unsigned_abs();
        let shown = if limit.measure == "spend" { dollars(size) } else { short(size) };
        format!("{sign}{shown}")
    };
    let (used, most) = (amount(limit.used), amount(limit.limit));
    let mut text = format!("{} {used}/{most}", name(&limit.measure));
    if let Some(resets) = limit.resets_in_ms.filter(|_| limit.used > 0) {
        let _ = write!(text, " {}", time(resets));
    }
    if limit.mode == "observe" { format!("[{text}]") } else { text }
}

fn is_busy(queue: &QueueView) -> bool {
    let paused = queue.pace.as_ref().is_some_and(|pace| pace.paused_ms > 0);
    queue.depth > 0 || queue.running > 0 || paused
}

/// `openai: 3 wait, 8 of 8 run, paused 1.2s`
fn put_queue(out: &mut String, queue: &QueueView) {
    let _ = write!(out, "{}: {} wait, {}", name(&queue.upstream), queue.depth, queue.running);
    if let Some(slots) = queue.slots {
        let _ = write!(out, " of {slots}");
    }
    out.push_str(" run");
    if let Some(pace) = &queue.pace {
        let known = [
            (pace.requests_per_min, "requests/min"),
            (pace.tokens_per_min, "tokens/min"),
            (pace.window, "at once"),
        ];
        for (amount, what) in known {
            let _ = amount.map(|amount| write!(out, ", {} {what}", short(amount)));
        }
        if pace.paused_ms > 0 {
            let _ = write!(out, ", paused {}", time(pace.paused_ms));
        }
    }
    out.push('\n');
}

/// Columns as wide as what is in them.
fn put_rows(out: &mut String, rows: &[[String; HEADS.len()]]) {
    let heads = HEADS.map(str::to_owned);
    let all = || std::iter::once(&heads).chain(rows);
    let width = |column: usize| all().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; HEADS.len()] = std::array::from_fn(width);
    for row in all() {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let _ = if WORDS.contains(&column) {
                write!(line, "{cell:<width$}  ")
            } else {
                write!(line, "{cell:>width$}  ")
            };
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

/// A name that a client may have chosen: no control characters, none that turn the direction of
/// writing, and not longer than its column.
fn name(text: &str) -> String {
    let harmless = |c: char| match c {
        '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    let mut shown: String = text.chars().take(LONGEST_NAME).map(harmless).collect();
    if text.chars().nth(LONGEST_NAME).is_some() {
        shown.pop();
        shown.push('…');
    }
    if shown.is_empty() { "–".to_owned() } else { shown }
}

/// `950`, `1.2k`, `340k`, `1.2M`: never more than it is.
fn short(amount: u64) -> String {
    let units = [(1_000_000_000_u64, "G"), (1_000_000, "M"), (1000, "k")];
    let Some((unit, letter)) = units.into_iter().find(|(unit, _)| amount >= *unit) else {
        return amount.to_string();
    };
    let (whole, tenth) = (amount / unit, amount % unit * 10 / unit);
    if whole < 10 && tenth > 0 {
        format!("{whole}.{tenth}{letter}")
    } else {
        format!("{whole}{letter}")
    }
}

/// Billionths: cents from a dollar on, hundredths of a cent below; never more than it is.
fn dollars(nano: u64) -> String {
    let (whole, rest) = (nano / 1_000_000_000, nano % 1_000_000_000);
    if whole > 0 || rest == 0 {
        format!("${whole}.{:02}", rest / 10_000_000)
    } else {
        format!("$0.{:04}", rest / 100_000)
    }
}

/// `0`, `120ms`, `1.2s`, `12s`, `5m`, `3h`, `2d`
fn time(ms: u64) -> String {
    match ms {
        0 => "0".to_owned(),
        1..1000 => format!("{ms}ms"),
        1000..10_000 => format!("{}.{}s", ms / 1000, ms / 100 % 10),
        10_000..120_000 => format!("{}s", ms / 1000),
        120_000..7_200_000 => format!("{}m", ms / 60_000),
        7_200_000..172_800_000 => format!("{}h", ms / 3_600_000),
        _ => format!("{}d", ms / 86_400_000),
    }
}

#[cfg(test)]
mod tests;

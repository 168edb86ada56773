//! The table: pure text from what an instance told, and from what it told before.
//!
//! Names are a client's own word, and shown as [`name`] shows them.
use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Instant;

use crate::cli::cells::{dollars, name, put_rows, short, time};
use crate::telemetry::view::{AgentView, AgentsView, LaneView, LimitView, QueueView};

const HEADS: [&str; 15] = [
    "AGENT", "TEAM", "CLASS", "RUN", "WAIT", "CALLS", "IN", "OUT", "TOK/MIN", "SPENT", "SAVED",
    "P50 WAIT", "MAX WAIT", "REFUSED", "LIMITS",
];
/// Columns of words, which begin at their left edge.
const WORDS: [usize; 4] = [0, 1, 2, 14];

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
        for lane in view.lanes.iter().filter(|lane| lane.waiting > 0 || lane.running > 0) {
            put_lane(&mut out, lane);
        }
        out.push('\n');
        put_rows(&mut out, HEADS, &WORDS, &rows);
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
        dollars(agent.saved_nano),
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

/// `lane chat: 3 wait, 8 of 8 run`
fn put_lane(out: &mut String, lane: &LaneView) {
    let _ = write!(out, "lane {}: {} wait, {}", name(&lane.route), lane.waiting, lane.running);
    if let Some(slots) = lane.slots {
        let _ = write!(out, " of {slots}");
    }
    out.push_str(" run\n");
}

#[cfg(test)]
mod tests;

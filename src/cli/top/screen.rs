//! What is shown: pure lines from what an instance told and what followed from it.
//!
//! Three lines of figures, then tables one below the other, through which the screen is scrolled:
//! upstreams in use, agents with the limit that is nearest its end as a bar, calls in flight. Names
//! are a client's own word; `rows.rs` sees to it that they stay words.
use std::cmp::Ordering;
use std::collections::HashMap;

use super::figures::{self, Figures, Name};
use super::look::{State, Upstream};
use super::paint::{Column, Line, Span, Tone, plain, show, table};
use super::rows::{agent, call, pace, quantiles, rate, upstream};
use crate::cli::cells::{bytes, dollars};
use crate::telemetry::view::AgentView;

/// Calls that are listed, the oldest first.
const CALLS: usize = 50;
const KEYS: &str = "q quit  ↑↓ scroll  s sort  p pause";

/// By what agents stand in their table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Sort {
    #[default]
    Busy,
    Tokens,
    Spent,
    Refused,
    Name,
}

impl Sort {
    pub fn next(self) -> Self {
        match self {
            Self::Busy => Self::Tokens,
            Self::Tokens => Self::Spent,
            Self::Spent => Self::Refused,
            Self::Refused => Self::Name,
            Self::Name => Self::Busy,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Tokens => "tokens",
            Self::Spent => "spent",
            Self::Refused => "refused",
            Self::Name => "name",
        }
    }
}

/// All that a screen is made of.
pub(super) struct View<'v> {
    /// Where the instance is.
    pub at: &'v str,
    pub state: &'v State,
    pub figures: &'v Figures,
    /// Tokens a second.
    pub paces: &'v HashMap<Name, f64>,
    pub sort: Sort,
    pub paused: bool,
    /// Why there is no newer look.
    pub lost: Option<&'v str>,
}

/// What was drawn, and how far it can be scrolled.
pub(super) struct Screen {
    pub lines: Vec<String>,
    pub most: usize,
}

impl View<'_> {
    /// For a terminal of so many columns and rows, scrolled down so many lines.
    pub fn screen(&self, (columns, rows): (usize, usize), scroll: usize, colour: bool) -> Screen {
        let (head, body) = (self.head(), self.body(columns));
        let room = rows.saturating_sub(head.len() + 1);
        let most = body.len().saturating_sub(room);
        let below = body.into_iter().skip(scroll.min(most)).take(room);
        let mut all: Vec<Line> = head.into_iter().chain(below).collect();
        // a very low one has no room even for all the figures
        all.resize(rows.saturating_sub(1), Line::new());
        all.push(self.foot(scroll.min(most), most));
        let lines = all.iter().map(|line| show(line, columns, colour)).collect();
        Screen { lines, most }
    }

    /// Everything, one line below the other.
    pub fn text(&self, columns: usize) -> String {
        let all = self.head().into_iter().chain(self.body(columns));
        all.map(|line| show(&line, columns, false) + "\n").collect()
    }

    fn head(&self) -> Vec<Line> {
        let State { version, stage, memory, connections, tasks, .. } = self.state;
        let mut first = vec![
            Span(Tone::Head, "tidegate".to_owned()),
            plain(format!(" {version} {} ", self.at)),
            match (self.lost, stage.as_str()) {
                (Some(_), _) => Span(Tone::Bad, "lost, retrying".to_owned()),
                (None, "") => Span(Tone::Dim, "asking".to_owned()),
                (None, "serving") => Span(Tone::Good, stage.clone()),
                (None, _) => Span(Tone::Warn, stage.clone()),
            },
        ];
        if self.paused {
            first.push(Span(Tone::Warn, "  paused".to_owned()));
        }
        first.push(plain(format!(
            "  {connections} connections  memory {} of {}",
            bytes(memory.held),
            bytes(memory.budget)
        )));
        if !matches!(memory.level.as_str(), "" | "calm") {
            first.push(Span(Tone::Bad, format!(" {}", memory.level)));
        }
        let figures = self.figures;
        let money = |dollars_: f64| dollars((dollars_ * 1e9).max(0.0).round() as u64);
        let refused = figures.refusals_per_second;
        let second = vec![
            Span(Tone::Head, rate(figures.requests_per_second)),
            plain(" req/s  "),
            Span(Tone::Head, rate(figures.input_tokens_per_second)),
            plain(" in "),
            Span(Tone::Head, rate(figures.output_tokens_per_second)),
            plain(" out tok/s  "),
            Span(Tone::Head, money(figures.spend_dollars)),
            plain(match figures.spend_dollars_per_minute {
                Some(rate) if rate > 0.0 => format!(" spent ({}/min)  ", money(rate)),
                _ => " spent  ".to_owned(),
            }),
            Span(Tone::Good, money(figures.saved_dollars)),
            plain(" saved  "),
            Span(
                if refused.is_some_and(|rate| rate > 0.0) { Tone::Bad } else { Tone::Plain },
                rate(refused),
            ),
            plain(" refused/s"),
        ];
        let mut third = vec![plain(format!("{} run  ", figures.running))];
        let waits = if figures.waiting > 0 { Tone::Warn } else { Tone::Plain };
        third.push(Span(waits, format!("{} wait", figures.waiting)));
        third.push(plain(format!(
            "  first token {}  overhead {}",
            quantiles(figures.first_token_seconds),
            quantiles(figures.overhead_seconds)
        )));
        if let Some(tasks) = tasks {
            let of = |state: &str| tasks.states.get(state).copied().unwrap_or(0);
            let (queued, running) = (of("queued"), of("running"));
            third.push(plain(format!("  tasks {queued} queued {running} running")));
        }
        vec![first, second, third]
    }

    fn foot(&self, scroll: usize, most: usize) -> Line {
        if let Some(why) = self.lost {
            return vec![Span(Tone::Bad, format!("lost, retrying: {why}"))];
        }
        let place = if most > 0 { format!("  line {scroll} of {most}") } else { String::new() };
        vec![Span(Tone::Dim, format!("{KEYS}  by {}{place}", self.sort.as_str()))]
    }

    fn body(&self, columns: usize) -> Vec<Line> {
        let mut lines = vec![Line::new()];
        lines.extend(self.upstreams(columns));
        lines.push(Line::new());
        lines.extend(self.agents(columns));
        if !self.state.calls.is_empty() {
            lines.push(Line::new());
            lines.extend(self.calls(columns));
        }
        lines
    }

    fn upstreams(&self, columns: usize) -> Vec<Line> {
        const COLUMNS: [Column; 8] = [
            Column::text("UPSTREAM", 0),
            Column::text("BREAKER", 0),
            Column::figure("RUN", 0),
            Column::figure("WAIT", 0),
            Column::figure("OPEN", 60),
            Column::figure("IDLE", 60),
            Column::figure("KEYS", 80),
            Column::text("PACE", 70),
        ];
        let (used, idle): (Vec<_>, Vec<_>) = self.state.upstreams.iter().partition(|one| {
            one.in_flight + one.waiting + one.pool.dialled > 0 || one.breaker.state != "closed"
        });
        let pace = |one: &Upstream| {
            let queue = self.state.queues.iter().find(|queue| queue.upstream == one.name);
            queue.map_or_else(|| plain("–"), pace)
        };
        let rows = used.into_iter().map(|one| upstream(one, pace(one))).collect();
        let mut lines = table(&COLUMNS, rows, columns);
        more(&mut lines, idle.len(), "without a call so far");
        lines
    }

    fn agents(&self, columns: usize) -> Vec<Line> {
        const COLUMNS: [Column; 11] = [
            Column::text("AGENT", 0),
            Column::text("FULLEST LIMIT", 0),
            Column::figure("RUN", 0),
            Column::figure("WAIT", 0),
            Column::figure("TOK/S", 56),
            Column::figure("SPENT", 64),
            Column::figure("SAVED", 76),
            Column::figure("CALLS", 84),
            Column::figure("REFUSED", 64),
            Column::text("TEAM", 96),
            Column::text("OTHER LIMITS", 120),
        ];
        let mut agents: Vec<&AgentView> = self.state.agents.iter().collect();
        agents
            .sort_by(|a, b| self.order(a, b).then_with(|| figures::name(a).cmp(&figures::name(b))));
        let rows = agents.into_iter().map(|one| agent(one, self.pace(one))).collect();
        table(&COLUMNS, rows, columns)
    }

    fn pace(&self, agent: &AgentView) -> Option<f64> {
        self.paces.get(&figures::name(agent)).copied()
    }

    fn order(&self, a: &AgentView, b: &AgentView) -> Ordering {
        let most = |of: fn(&AgentView) -> u64| of(b).cmp(&of(a));
        let pace = |one| self.pace(one).unwrap_or(0.0);
        let tokens = || pace(b).total_cmp(&pace(a));
        match self.sort {
            Sort::Busy => most(|one| one.in_flight + one.waiting)
                .then_with(tokens)
                .then_with(|| most(|one| one.calls)),
            Sort::Tokens => tokens()
                .then_with(|| most(|one| one.input_tokens.saturating_add(one.output_tokens))),
            Sort::Spent => most(|one| one.spend_nano),
            Sort::Refused => most(|one| one.refused),
            Sort::Name => Ordering::Equal,
        }
    }

    fn calls(&self, columns: usize) -> Vec<Line> {
        const COLUMNS: [Column; 6] = [
            Column::figure("AGE", 0),
            Column::text("CALL", 0),
            Column::text("AGENT", 0),
            Column::text("MODEL", 56),
            Column::text("UPSTREAM", 72),
            Column::figure("BYTES", 84),
        ];
        let calls = &self.state.calls;
        let rows = calls.iter().take(CALLS).map(call).collect();
        let mut lines = table(&COLUMNS, rows, columns);
        more(&mut lines, calls.len().saturating_sub(CALLS), "more");
        lines
    }
}

fn more(lines: &mut Vec<Line>, count: usize, what: &str) {
    if count > 0 {
        lines.push(vec![Span(Tone::Dim, format!("and {count} {what}"))]);
    }
}

#[cfg(test)]
mod tests;

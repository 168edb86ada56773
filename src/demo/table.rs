//! The tables of what the sidecar saw. All figures are its own records and its own state.
use std::collections::BTreeMap;
use std::fmt::Display;
use std::io;
use std::net::SocketAddr;

use serde_json::Value;

use super::client::Client;
use super::records::Record;
use super::screen::Screen;

/// Longest label of a call, in characters.
const LABEL: usize = 25;

pub fn head(screen: &mut Screen) -> io::Result<()> {
    let title = screen.bold("What the sidecar saw");
    screen.line(format_args!("  {title}\n"))?;
    let head = format!(
        "{:<LABEL$} {:>6} {:>9} {:>8} {:>8} {:>8}  {}",
        "call", "status", "1st token", "total", "overhead", "in / out", "backend connection"
    );
    let head = screen.dim(head);
    screen.line(format_args!("  {head}"))
}

/// One call, or several at once by the middle of each figure.
pub fn row(screen: &mut Screen, label: &str, records: &[Record]) -> io::Result<()> {
    let record = median(records);
    let none = || "–".to_owned();
    let first = record.first_token_ms.map_or_else(none, millis);
    let tokens = in_and_out(&record);
    let total = millis(record.duration_ms);
    let overhead = format!("{} µs", record.overhead_us);
    let (status, connection) = (record.status, connections(records));
    screen.line(format_args!(
        "  {label:<LABEL$} {status:>6} {first:>9} {total:>8} {overhead:>8} {tokens:>8}  {connection}"
    ))
}

/// `reused`, or `3 new, 5 reused`.
fn connections(records: &[Record]) -> String {
    let kind = |record: &Record| match (record.attempts, record.reused) {
        (0, _) => "–",
        (1, true) => "reused",
        (1, false) => "new",
        (_, _) => "new, after a reset",
    };
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for record in records {
        *counts.entry(kind(record)).or_default() += 1;
    }
    if records.len() == 1 {
        return counts.into_keys().collect();
    }
    let counts: Vec<_> = counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    counts.join(", ")
}

fn in_and_out(record: &Record) -> String {
    match (record.input_tokens, record.output_tokens) {
        (Some(input), Some(output)) => format!("{input} / {output}"),
        _ => "–".to_owned(),
    }
}

pub fn millis(millis: f64) -> String {
    if millis < 10.0 { format!("{millis:.2} ms") } else { format!("{millis:.0} ms") }
}

/// A call that is not of the show.
pub fn label(record: &Record) -> String {
    let mut label: String = record.path.chars().take(LABEL).collect();
    if record.path.chars().count() > LABEL {
        label.pop();
        label.push('…');
    }
    label
}

/// One record that stands for several.
fn median(records: &[Record]) -> Record {
    let middle = |of: &dyn Fn(&Record) -> Option<f64>| {
        let mut all: Vec<f64> = records.iter().filter_map(of).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied()
    };
    let count = |of: fn(&Record) -> Option<u64>| {
        middle(&move |record| of(record).map(|count| count as f64)).map(|count| count as u64)
    };
    let worst = records.iter().max_by_key(|record| record.status).cloned();
    Record {
        duration_ms: middle(&|record| Some(record.duration_ms)).unwrap_or_default(),
        first_token_ms: middle(&|record| record.first_token_ms),
        overhead_us: count(|record| Some(record.overhead_us)).unwrap_or_default(),
        queued_ms: middle(&|record| Some(record.queued_ms)).unwrap_or_default(),
        input_tokens: count(|record| record.input_tokens),
        output_tokens: count(|record| record.output_tokens),
        ..worst.unwrap_or_default()
    }
}

/// The second table: agents under limits.
pub fn limits_head(screen: &mut Screen) -> io::Result<()> {
    let title = screen.bold("What the limits did");
    screen.line(format_args!("\n  {title}\n"))?;
    let head = format!(
        "{:<LABEL$} {:<14} {:>8} {:>8} {:>9} {:>9}",
        "agent", "answers", "p50 wait", "max wait", "p50 total", "spent"
    );
    let head = screen.dim(head);
    screen.line(format_args!("  {head}"))
}

/// All calls of one agent.
pub fn limits_row(screen: &mut Screen, label: &str, records: &[Record]) -> io::Result<()> {
    let record = median(records);
    let wait = |wait: f64| if wait > 0.0 { millis(wait) } else { "–".to_owned() };
    let longest = records.iter().map(|record| record.queued_ms).fold(0.0, f64::max);
    let (usual, longest, total) =
        (wait(record.queued_ms), wait(longest), millis(record.duration_ms));
    let spent = dollars(records.iter().map(|record| record.spend_nano).sum());
    let answers = statuses(records);
    screen.line(format_args!(
        "  {label:<LABEL$} {answers:<14} {usual:>8} {longest:>8} {total:>9} {spent:>9}"
    ))
}

/// `3 × 200, 402`
fn statuses(records: &[Record]) -> String {
    tally(records.iter().map(|record| record.status))
}

/// Each once, in order, with its number.
fn tally<T: Ord + Display>(all: impl Iterator<Item = T>) -> String {
    let mut counts: BTreeMap<T, usize> = BTreeMap::new();
    for one in all {
        *counts.entry(one).or_default() += 1;
    }
    let one = |(one, count): (T, usize)| match count {
        1 => one.to_string(),
        _ => format!("{count} × {one}"),
    };
    counts.into_iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The third table: what was asked before.
pub fn again_head(screen: &mut Screen) -> io::Result<()> {
    let title = screen.bold("What was not asked twice");
    screen.line(format_args!("\n  {title}\n"))?;
    let head = format!(
        "{:<LABEL$} {:>5} {:>8}  {:<17} {:>9} {:>12} {:>9}",
        "asked", "calls", "upstream", "cache", "p50 total", "saved tokens", "saved"
    );
    let head = screen.dim(head);
    screen.line(format_args!("  {head}"))
}

/// Calls of one kind, and how often the backend was asked for them.
pub fn again_row(screen: &mut Screen, label: &str, records: &[Record]) -> io::Result<()> {
    let (calls, total) = (records.len(), millis(median(records).duration_ms));
    let upstream: u32 = records.iter().map(|record| record.attempts).sum();
    let cache = tally(records.iter().map(|record| record.cache.as_str()));
    let tokens: u64 = records.iter().map(|record| record.saved_tokens).sum();
    let (tokens, saved) = match tokens {
        0 => ("–".to_owned(), "–".to_owned()),
        _ => (tokens.to_string(), dollars(records.iter().map(|record| record.saved_nano).sum())),
    };
    screen.line(format_args!(
        "  {label:<LABEL$} {calls:>5} {upstream:>8}  {cache:<17} {total:>9} {tokens:>12} {saved:>9}"
    ))
}

/// The fourth table: answers that outlived a connection.
pub fn later_head(screen: &mut Screen) -> io::Result<()> {
    let title = screen.bold("What outlived its connection");
    screen.line(format_args!("\n  {title}\n"))?;
    let head = format!(
        "{:<LABEL$} {:>11} {:>8} {:>9} {:>8}",
        "answer", "connections", "upstream", "id after", "in / out"
    );
    let head = screen.dim(head);
    screen.line(format_args!("  {head}"))
}

/// One answer: the calls that read it, the one that it was promised by, and the one that made it.
pub fn later_row(
    screen: &mut Screen,
    label: &str,
    read: &[Record],
    task: Option<(&Record, &Record)>,
) -> io::Result<()> {
    let made = task.map(|(_, made)| made).or(read.first()).cloned().unwrap_or_default();
    let readers = if task.is_some() { read } else { read.get(1..).unwrap_or_default() };
    let upstream = made.attempts + readers.iter().map(|record| record.attempts).sum::<u32>();
    let connections = read.len() + usize::from(task.is_some());
    let after = task.map_or_else(|| "–".to_owned(), |(promised, _)| millis(promised.duration_ms));
    let tokens = in_and_out(&made);
    screen.line(format_args!(
        "  {label:<LABEL$} {connections:>11} {upstream:>8} {after:>9} {tokens:>8}"
    ))
}

/// `$0.003348`, rounded down.
pub fn dollars(nano: i64) -> String {
    let micro = nano / 1000;
    format!("${}.{:06}", micro / 1_000_000, micro % 1_000_000)
}

/// What the pools did for all that, as `/state` tells it.
pub async fn pools(screen: &mut Screen, admin: Option<SocketAddr>) -> io::Result<()> {
    let Some(admin) = admin else { return Ok(()) };
    let mut client = Client::new(admin);
    let state = client.ask("/state", None, "").await?.body().await?;
    let state: Value = serde_json::from_str(&state)?;
    let upstreams = state["upstreams"].as_array().map_or(&[][..], Vec::as_slice);
    let sum = |name: &str| -> u64 {
        upstreams.iter().filter_map(|upstream| upstream["pool"][name].as_u64()).sum()
    };
    let (dialled, reused, retried) = (sum("dialled"), sum("reused"), sum("retried"));
    let pools = format!("{dialled} dialled, reused {reused} times, {retried} retried");
    let name = screen.dim("backend connections:");
    screen.line(format_args!("\n  {name} {pools}; {} idle now", sum("idle")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_stands_for_all_and_the_worst_status_is_shown() {
        let record = |status, duration_ms, tokens| Record {
            status,
            duration_ms,
            output_tokens: tokens,
            ..Record::default()
        };
        let all = [record(200, 9.0, Some(5)), record(503, 1.0, None), record(200, 2.0, Some(7))];
        let shown = median(&all);
        assert_eq!((shown.status, shown.output_tokens), (503, Some(7)));
        assert!((shown.duration_ms - 2.0).abs() < f64::EPSILON);
    }

    #[test]
    fn connections_are_counted_by_kind() {
        let record = |attempts, reused| Record { attempts, reused, ..Record::default() };
        assert_eq!(connections(&[record(2, false)]), "new, after a reset");
        let all = [record(1, true), record(1, false), record(1, true)];
        assert_eq!(connections(&all), "1 new, 2 reused");
    }

    #[test]
    fn answers_are_counted_by_status_and_money_is_shown_exactly() {
        let record = |status| Record { status, ..Record::default() };
        assert_eq!(statuses(&[record(402), record(200), record(200)]), "2 × 200, 402");
        assert_eq!(dollars(9_983_500), "$0.009983");
        assert_eq!(dollars(12_000_000_000), "$12.000000");
    }

    #[test]
    fn long_paths_are_cut() {
        let record = Record { path: "/é".repeat(40), ..Record::default() };
        assert_eq!(label(&record).chars().count(), LABEL);
    }
}

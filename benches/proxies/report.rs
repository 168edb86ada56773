//! The table: measures down, peers across, and under it the verdict on every target.
//!
//! Each cell is the median of the rounds. In brackets: the ratio to floor-legacy, the median of
//! the ratios of each round. Times to first token are shown as what the peer adds to direct.
use std::fmt::Write as _;

use crate::machine;
use crate::measure::Findings;
use crate::peers::{
    ALIKE, ALIKE_FULL, DIRECT, FLOOR, HIT, LIMITED, MISS, OTLP, OTLP_ALL, PAGE, PLAIN, Peer,
};
use crate::results::{Results, median};

#[derive(Clone, Copy)]
enum Show {
    Plain,
    /// With the ratio to the floor.
    Ratio,
    /// As the difference to direct; direct's own figure as it is.
    Added,
    /// Of that many, summed over the rounds.
    Of(&'static str),
    /// Summed over the rounds.
    Sum,
}

struct Row {
    key: &'static str,
    title: &'static str,
    digits: usize,
    show: Show,
}

const fn row(key: &'static str, title: &'static str, digits: usize, show: Show) -> Row {
    Row { key, title, digits, show }
}

const ROWS: [Row; 36] = [
    row("c1.rate", "req/s, 1 connection", 0, Show::Ratio),
    row("c64.rate", "req/s, 64 connections", 0, Show::Ratio),
    row("c256.rate", "req/s, 256 connections", 0, Show::Ratio),
    row("c1.cpu", "CPU µs/request, 1 connection", 1, Show::Ratio),
    row("c64.cpu", "CPU µs/request, 64", 1, Show::Ratio),
    row("c64.user", "  of that in user space", 1, Show::Ratio),
    row("c256.cpu", "CPU µs/request, 256", 1, Show::Ratio),
    row("c1.wakeups", "wake-ups/request, 1 connection", 2, Show::Plain),
    row("c64.wakeups", "wake-ups/request, 64", 2, Show::Plain),
    row("c1.p50", "latency p50 µs, 1 connection, added", 0, Show::Added),
    row("c1.p99", "latency p99 µs, 1 connection, added", 0, Show::Added),
    row("c64.p50", "latency p50 µs, 64", 0, Show::Plain),
    row("c64.p99", "latency p99 µs, 64", 0, Show::Plain),
    row("c256.p50", "latency p50 µs, 256", 0, Show::Plain),
    row("c256.p99", "latency p99 µs, 256", 0, Show::Plain),
    row("streams.cpu", "CPU ms/stream (100 tokens)", 2, Show::Ratio),
    row("streams.wakeups", "wake-ups/token", 2, Show::Plain),
    row("streams.first50", "first token p50 ms, added", 2, Show::Added),
    row("streams.first99", "first token p99 ms, added", 2, Show::Added),
    row("streams.gap50", "between tokens p50 ms", 2, Show::Plain),
    row("streams.gap99", "between tokens p99 ms", 2, Show::Plain),
    row("streams.same", "streams with the same bytes", 0, Show::Of("streams.count")),
    row("body1.cpu", "CPU ms, 1 MB body", 2, Show::Ratio),
    row("body10.cpu", "CPU ms, 10 MB body", 2, Show::Ratio),
    row("cache1.rate", "req/s, 1 kB, cache", 0, Show::Ratio),
    row("cache1.cpu", "CPU µs/request, 1 kB, cache", 1, Show::Ratio),
    row("cache100.cpu", "CPU µs/request, 100 kB, cache", 1, Show::Plain),
    row("beside.gap50", "between tokens p50 ms, beside lookups", 2, Show::Plain),
    row("beside.gap99", "between tokens p99 ms, beside lookups", 2, Show::Plain),
    row("beside.cpu", "CPU ms/stream, beside lookups", 2, Show::Plain),
    row("start", "start to first answer ms", 0, Show::Plain),
    row("idle", "idle memory MB", 1, Show::Plain),
    row("held.each", "kB for each open stream", 1, Show::Ratio),
    row("held.ok", "streams held", 0, Show::Of("held.count")),
    row("size", "stripped binary MB", 1, Show::Plain),
    row("broken", "broken calls", 0, Show::Sum),
];

/// The whole report as markdown.
pub fn render(found: &Findings, peers: &[Peer], judge: &str) -> String {
    let mut out = String::from("\n");
    let mut table = vec![vec![String::new()]];
    table[0].extend(peers.iter().map(|peer| peer.name.to_owned()));
    for row in &ROWS {
        let cells: Vec<String> =
            peers.iter().map(|peer| cell(&found.results, peer.name, row)).collect();
        if cells.iter().any(|cell| !cell.is_empty()) {
            table.push(std::iter::once(row.title.to_owned()).chain(cells).collect());
        }
    }
    let widths: Vec<usize> = (0..=peers.len())
        .map(|at| table.iter().map(|row| row[at].chars().count()).max().unwrap_or(0))
        .collect();
    for (index, row) in table.iter().enumerate() {
        for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
            _ = if at == 0 {
                write!(out, "| {cell:<width$} |")
            } else {
                write!(out, " {cell:>width$} |")
            };
        }
        out.push('\n');
        if index == 0 {
            _ = write!(out, "|{}|", "-".repeat(widths[0] + 2));
            widths[1..].iter().for_each(|width| _ = write!(out, "{}:|", "-".repeat(width + 1)));
            out.push('\n');
        }
    }
    out.push('\n');
    let extreme = |pick: fn(f64, f64) -> f64| found.loads.iter().copied().reduce(pick);
    let low = extreme(f64::min).unwrap_or(f64::NAN);
    let high = extreme(f64::max).unwrap_or(f64::NAN);
    _ = writeln!(out, "Machine: {}; load average {low:.1} to {high:.1}.", machine::describe());
    if let Some(spread) = found.results.spread(FLOOR, "c64.cpu") {
        let spread = spread * 100.0;
        _ = writeln!(
            out,
            "Noise: {FLOOR}'s own CPU per request differs by {spread:.0} % over the rounds."
        );
    }
    for note in &found.notes {
        _ = writeln!(out, "Note: {note}");
    }
    out.push_str(&verdicts(&found.results, judge));
    out
}

pub fn json(found: &Findings) -> serde_json::Value {
    serde_json::json!({
        "machine": machine::describe(),
        "load_averages": found.loads,
        "notes": found.notes,
        "rounds": found.results.json(),
    })
}

fn cell(results: &Results, peer: &str, row: &Row) -> String {
    let Row { key, digits, .. } = *row;
    let Some(median) = results.median(peer, key) else { return String::new() };
    let sum = |key: &str| results.rounds(peer, key).iter().sum::<f64>();
    match row.show {
        Show::Plain => format!("{median:.digits$}"),
        Show::Added if peer == DIRECT => format!("{median:.digits$}"),
        Show::Added => match results.against(peer, DIRECT, key, |own, direct| own - direct) {
            Some(added) => format!("{added:+.digits$}"),
            None => format!("{median:.digits$}"),
        },
        Show::Ratio => match results.against(peer, FLOOR, key, |own, floor| own / floor) {
            Some(ratio) => format!("{median:.digits$} ({ratio:.2})"),
            None => format!("{median:.digits$}"),
        },
        Show::Of(whole) => format!("{:.0}/{:.0}", sum(key), sum(whole)),
        Show::Sum => format!("{:.0}", sum(key)),
    }
}

/// What is demanded of the judged peer: found, and the limit, in the unit of the words.
fn verdicts(results: &Results, judge: &str) -> String {
    let ratios =
        |key: &str, other: &str| results.each_against(judge, other, key, |own, other| own / other);
    let sum = |key: &str| {
        let rounds = results.rounds(judge, key);
        (!rounds.is_empty()).then(|| rounds.iter().sum::<f64>())
    };
    let less = |all: Option<f64>, part: Option<f64>| {
        all.zip(part).map(|(all, part)| all - part).into_iter().collect::<Vec<f64>>()
    };
    // Round by round: one stall of the machine would decide a quantile over all of them.
    let later = results.each_against(judge, FLOOR, "streams.first99", |own, floor| own - floor);
    let plain = |key: &str| results.rounds(judge, key).to_vec();
    let at_most =
        |what: &str, rounds: Vec<f64>, limit: f64| verdict(what, rounds, "≤", limit, f64::le);
    let below =
        |what: &str, rounds: Vec<f64>, limit: f64| verdict(what, rounds, "<", limit, f64::lt);
    let mut out =
        format!("\nTargets, for {judge} (in brackets: the rounds' lowest and highest):\n");
    out += &at_most("CPU per request at 64 connections / floor", ratios("c64.cpu", FLOOR), 1.0);
    out += &at_most("  the stretch", ratios("c64.cpu", FLOOR), 0.8);
    out += &at_most(
        "  with identity, five limits and prices / floor",
        results.each_against(LIMITED, FLOOR, "c64.cpu", |own, floor| own / floor),
        1.4,
    );
    let beside_plain =
        |own: &str| results.each_against(own, PLAIN, "c64.cpu", |own, plain| own / plain);
    let what = "  with metrics and 5 % of traces sent / without";
    out += &at_most(what, beside_plain(OTLP), 1.08);
    out += &at_most("  with all traces sent / without", beside_plain(OTLP_ALL), 1.08);
    let watched = results.each_against(PAGE, PLAIN, "c64.p99", |own, plain| own / plain);
    out += &at_most("p99 at 64 connections, the page open in four tabs / not", watched, 1.1);
    out += &at_most("  beside nginx, which logs too", ratios("c64.cpu", "nginx-logged"), 1.0);
    out += &at_most("  beside nginx without a log", ratios("c64.cpu", "nginx"), 1.0);
    let rates = ratios("c64.rate", FLOOR);
    out += &verdict("requests/s at 64 connections / floor", rates, "≥", 1.0, f64::ge);
    out += &at_most("CPU per stream / floor", ratios("streams.cpu", FLOOR), 1.15);
    let differing = less(sum("streams.count"), sum("streams.same"));
    out += &at_most("streams whose bytes differ", differing, 0.0);
    out += &at_most("first token p99 after the floor's, ms", later, 1.0);
    out += &at_most("idle memory, MB", plain("idle"), 10.0);
    out += &at_most("kB for each open stream", plain("held.each"), 28.0);
    out += &at_most("held streams that ended", less(sum("held.count"), sum("held.ok")), 0.0);
    out += &below("start to first answer, ms", plain("start"), 50.0);
    out += &below("stripped binary, MB", plain("size"), 15.0);
    out += &at_most("CPU for a 10 MB body / floor", ratios("body10.cpu", FLOOR), 2.0);
    out += &cache_verdicts(results);
    out += &at_most("broken calls", sum("broken").into_iter().collect(), 0.0);
    out
}

/// What is demanded of caches, whoever is judged.
fn cache_verdicts(results: &Results) -> String {
    let ratios = |own: &str, other: &str, key: &str| {
        results.each_against(own, other, key, |own, other| own / other)
    };
    let later =
        |own: &str| results.each_against(own, MISS, "beside.gap99", |own, other| own - other);
    let at_most =
        |what: &str, rounds: Vec<f64>, limit: f64| verdict(what, rounds, "≤", limit, f64::le);
    let rates = ratios(HIT, FLOOR, "cache1.rate");
    let mut out = verdict("hits: requests/s / floor", rates, "≥", 1.0, f64::ge);
    let cpu = ratios(HIT, FLOOR, "cache1.cpu");
    out += &verdict("hits: CPU per request / floor", cpu, "<", 1.0, f64::lt);
    out += &at_most("misses: CPU / without a cache, 1 kB", ratios(MISS, PLAIN, "cache1.cpu"), 1.1);
    let large = ratios(MISS, PLAIN, "cache100.cpu");
    out += &at_most("misses: CPU / without a cache, 100 kB", large, 1.25);
    out += &at_most("tokens' p99 beside lookups among 10,000, ms added", later(ALIKE), 2.0);
    out += &at_most("  among as many as a partition takes", later(ALIKE_FULL), 2.0);
    out
}

/// The median decides.
fn verdict(
    what: &str,
    rounds: Vec<f64>,
    sign: &str,
    limit: f64,
    holds: fn(&f64, &f64) -> bool,
) -> String {
    let low = rounds.iter().copied().fold(f64::INFINITY, f64::min);
    let high = rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let several = rounds.len() > 1;
    let Some(found) = median(rounds) else { return format!("-     {what}: not measured\n") };
    let word = if holds(&found, &limit) { "PASS " } else { "SHORT" };
    let range = if several { format!(" [{low:.2} to {high:.2}]") } else { String::new() };
    format!("{word} {what}: {found:.2}{range}, wanted {sign} {limit}\n")
}

//! The rows of the tables, cell by cell, and figures as they are written. Pure.
//!
//! Names are a client's own word, and shown as [`name`] shows them.
use super::figures::Quantiles;
use super::look::{Call, Upstream};
use super::paint::{Span, Tone, bar, plain};
use crate::cli::cells::{bytes, dollars, name, short, time};
use crate::telemetry::view::{AgentView, LimitView, QueueView};

/// Cells of a limit's bar.
const BAR: usize = 8;

pub(super) fn upstream(one: &Upstream, pace: Span) -> [Span; 8] {
    let breaker = match (one.breaker.state.as_str(), one.breaker.left_ms) {
        ("closed" | "", _) => Span(Tone::Good, "closed".to_owned()),
        (state, Some(left)) => Span(Tone::Bad, format!("{} {}", name(state), time(left))),
        (state, None) => Span(Tone::Warn, name(state)),
    };
    let run = match one.concurrency {
        Some(places) => format!("{}/{places}", one.in_flight),
        None => one.in_flight.to_string(),
    };
    let keys = match (one.keys.held, one.keys.aside) {
        (0, _) => plain("–"),
        (held, 0) => plain(held.to_string()),
        (held, aside) => Span(Tone::Warn, format!("{}/{held}", held.saturating_sub(aside))),
    };
    [
        plain(name(&one.name)),
        breaker,
        plain(run),
        waits(one.waiting),
        plain(one.pool.open.to_string()),
        plain(one.pool.idle.to_string()),
        keys,
        pace,
    ]
}

pub(super) fn pace(queue: &QueueView) -> Span {
    let Some(pace) = &queue.pace else { return plain("–") };
    if pace.paused_ms > 0 {
        return Span(Tone::Warn, format!("paused {}", time(pace.paused_ms)));
    }
    let known = [
        (pace.requests_per_min, "req/min"),
        (pace.tokens_per_min, "tok/min"),
        (pace.window, "at once"),
    ];
    let known =
        known.iter().filter_map(|(amount, what)| Some(format!("{} {what}", short((*amount)?))));
    let known: Vec<_> = known.collect();
    plain(if known.is_empty() { "–".to_owned() } else { known.join(", ") })
}

pub(super) fn agent(one: &AgentView, pace: Option<f64>) -> [Span; 11] {
    let mut limits: Vec<(&LimitView, f64)> =
        one.limits.iter().map(|limit| (limit, share(limit))).collect();
    limits.sort_by(|a, b| b.1.total_cmp(&a.1));
    let fullest = match limits.first() {
        Some((limit, share)) => {
            let percent = format!("{:>3.0}%", (share * 100.0).clamp(0.0, 999.0));
            Span(tone(*share), format!("{} {percent} {}", bar(*share, BAR), measure(limit)))
        }
        None => plain("–"),
    };
    let others = limits.iter().skip(1);
    let others: Vec<_> =
        others.map(|(limit, share)| format!("{} {:.0}%", measure(limit), share * 100.0)).collect();
    let shown = if one.runaway {
        Span(Tone::Bad, format!("{} RUNAWAY", name(&one.agent)))
    } else {
        plain(name(&one.agent))
    };
    let refused = if one.refused > 0 { Tone::Bad } else { Tone::Plain };
    [
        shown,
        fullest,
        plain(one.in_flight.to_string()),
        waits(one.waiting),
        plain(rate(pace)),
        plain(dollars(one.spend_nano)),
        plain(dollars(one.saved_nano)),
        plain(short(one.calls)),
        Span(refused, short(one.refused)),
        plain(name(&one.team)),
        plain(if others.is_empty() { "–".to_owned() } else { others.join(", ") }),
    ]
}

/// What is used and reserved of a limit.
fn share(limit: &LimitView) -> f64 {
    let taken = limit.used.saturating_add(limit.held).max(0);
    taken as f64 / limit.limit.max(1) as f64
}

/// In brackets where it only observes.
fn measure(limit: &LimitView) -> String {
    let measure = name(&limit.measure);
    if limit.mode == "observe" { format!("[{measure}]") } else { measure }
}

fn tone(share: f64) -> Tone {
    match share {
        share if share >= 0.9 => Tone::Bad,
        share if share >= 0.7 => Tone::Warn,
        _ => Tone::Good,
    }
}

pub(super) fn call(one: &Call) -> [Span; 6] {
    let text = |text: &Option<String>| plain(name(text.as_deref().unwrap_or("")));
    [
        plain(time(one.age_ms)),
        plain(name(&one.stage)),
        text(&one.agent),
        text(&one.model),
        text(&one.upstream),
        plain(bytes(one.bytes)),
    ]
}

fn waits(count: u64) -> Span {
    Span(if count > 0 { Tone::Warn } else { Tone::Plain }, count.to_string())
}

/// `–`, `0`, `0.3`, `12`, `4.5k`
pub(super) fn rate(rate: Option<f64>) -> String {
    match rate {
        None => "–".to_owned(),
        Some(rate) if rate > 0.0 && rate < 10.0 => format!("{rate:.1}"),
        Some(rate) => short(rate.round() as u64),
    }
}

/// `p50 120ms p99 1.2s`
pub(super) fn quantiles(of: Quantiles) -> String {
    format!("p50 {} p99 {}", latency(of.p50), latency(of.p99))
}

/// Whole units down to the microsecond.
fn latency(seconds: Option<f64>) -> String {
    match seconds {
        None => "–".to_owned(),
        Some(seconds) if seconds < 0.001 => format!("{:.0}µs", seconds * 1e6),
        Some(seconds) if seconds < 0.01 => format!("{:.1}ms", seconds * 1e3),
        Some(seconds) => time((seconds * 1e3).round() as u64),
    }
}

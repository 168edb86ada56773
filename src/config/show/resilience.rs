//! What an upstream does on the days when something fails, as YAML.
use std::fmt::{self, Write as _};

use super::{quoted, times};
use crate::config::{Breaker, Hedge, Retry, Upstream};
use crate::units::{show_duration, show_weight};

pub(super) fn write_resilience(out: &mut String, upstream: &Upstream) -> fmt::Result {
    writeln!(out, "    balance: {}", upstream.balance.as_str())?;
    write_retry(out, &upstream.retry)?;
    match &upstream.breaker {
        Some(breaker) => write_breaker(out, breaker)?,
        None => writeln!(out, "    breaker: off")?,
    }
    if let Some(health) = &upstream.health {
        writeln!(out, "    health:\n      path: {}", quoted(&health.path))?;
        times(out, "      ", &[("every", health.every), ("timeout", health.timeout)])?;
        writeln!(out, "      failures: {}", health.failures)?;
        writeln!(out, "      successes: {}", health.successes)?;
    }
    match &upstream.hedge {
        Some(hedge) => write_hedge(out, hedge)?,
        None => writeln!(out, "    hedge: off")?,
    }
    let websocket = &upstream.websocket;
    writeln!(out, "    websocket:")?;
    if let Some(sessions) = websocket.sessions {
        writeln!(out, "      sessions: {sessions}")?;
    }
    times(out, "      ", &[("idle", websocket.idle), ("longest", websocket.longest)])
}

/// The other keys say nothing of a call that is sent once.
fn write_retry(out: &mut String, retry: &Retry) -> fmt::Result {
    if retry.attempts == 1 {
        return writeln!(out, "    retry: off");
    }
    writeln!(out, "    retry:\n      attempts: {}", retry.attempts)?;
    writeln!(out, "      budget: {}", percent(retry.budget))?;
    times(
        out,
        "      ",
        &[("backoff", retry.backoff), ("longest", retry.longest), ("hold", retry.hold)],
    )?;
    if let Some(slow) = retry.slow {
        times(out, "      ", &[("slow", slow)])?;
    }
    writeln!(out, "      on_timeout: {}\n      in_place: {}", retry.on_timeout, retry.in_place)
}

fn write_breaker(out: &mut String, breaker: &Breaker) -> fmt::Result {
    writeln!(out, "    breaker:\n      errors: {}", percent(breaker.errors))?;
    times(out, "      ", &[("window", breaker.window)])?;
    writeln!(out, "      least: {}\n      failures: {}", breaker.least, breaker.failures)?;
    times(out, "      ", &[("open", breaker.open), ("longest", breaker.longest)])
}

fn write_hedge(out: &mut String, hedge: &Hedge) -> fmt::Result {
    let budget = percent(hedge.budget);
    match hedge.after.map(show_duration) {
        Some(after) => writeln!(out, "    hedge: {{ after: {after}, budget: {budget} }}"),
        None => writeln!(out, "    hedge: {{ budget: {budget} }}"),
    }
}

/// It was read in tenths of a percent.
fn percent(value: f64) -> String {
    show_weight((value * 10.0).round() as u32)
}

//! What callers are told of our own limits, in headers of their dialect.
//!
//! OpenAI's and Anthropic's names for the tightest limit of each measure, where the backend has not
//! said something under that name itself; and the IETF's `RateLimit` fields for all of them
//! (draft-ietf-httpapi-ratelimit-headers). Money is told as dollars that are left, under a name of ours.
use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;

use crate::config::{Measure, Mode};
use crate::limits::book::LimitLine;
use crate::wire::Dialect;

const NANOS: u64 = 1_000_000_000;

/// On an answer that passes.
pub fn success(headers: &mut HeaderMap, dialect: Dialect, lines: &[LimitLine]) {
    if lines.is_empty() {
        return;
    }
    match dialect {
        Dialect::Anthropic => anthropic(headers, lines),
        _ => openai(headers, lines),
    }
    ietf(headers, lines);
    money(headers, lines);
}

/// The limit of a measure that has the smallest part left.
fn tightest(lines: &[LimitLine], measure: Measure) -> Option<&LimitLine> {
    let told = lines.iter().filter(|line| line.measure == measure && line.mode != Mode::Observe);
    told.min_by_key(|line| {
        i128::from(line.remaining) * 1_000_000 / i128::from(line.capacity.max(1))
    })
}

fn openai(headers: &mut HeaderMap, lines: &[LimitLine]) {
    const NAMES: [(Measure, [HeaderName; 3]); 2] = [
        (
            Measure::Requests,
            [
                HeaderName::from_static("x-ratelimit-limit-requests"),
                HeaderName::from_static("x-ratelimit-remaining-requests"),
                HeaderName::from_static("x-ratelimit-reset-requests"),
            ],
        ),
        (
            Measure::Tokens,
            [
                HeaderName::from_static("x-ratelimit-limit-tokens"),
                HeaderName::from_static("x-ratelimit-remaining-tokens"),
                HeaderName::from_static("x-ratelimit-reset-tokens"),
            ],
        ),
    ];
    for (measure, [limit, remaining, reset]) in &NAMES {
        let Some(line) = tightest(lines, *measure) else { continue };
        if headers.contains_key(limit) || headers.contains_key(remaining) {
            continue;
        }
        headers.insert(limit, HeaderValue::from(whole(line, line.capacity)));
        headers.insert(remaining, HeaderValue::from(whole(line, line.remaining)));
        put(headers, reset, &go_duration(line.resets_in));
    }
}

fn anthropic(headers: &mut HeaderMap, lines: &[LimitLine]) {
    const NAMES: [(Measure, [HeaderName; 3]); 4] = [
        (
            Measure::Requests,
            [
                HeaderName::from_static("anthropic-ratelimit-requests-limit"),
                HeaderName::from_static("anthropic-ratelimit-requests-remaining"),
                HeaderName::from_static("anthropic-ratelimit-requests-reset"),
            ],
        ),
        (
            Measure::Tokens,
            [
                HeaderName::from_static("anthropic-ratelimit-tokens-limit"),
                HeaderName::from_static("anthropic-ratelimit-tokens-remaining"),
                HeaderName::from_static("anthropic-ratelimit-tokens-reset"),
            ],
        ),
        (
            Measure::InputTokens,
            [
                HeaderName::from_static("anthropic-ratelimit-input-tokens-limit"),
                HeaderName::from_static("anthropic-ratelimit-input-tokens-remaining"),
                HeaderName::from_static("anthropic-ratelimit-input-tokens-reset"),
            ],
        ),
        (
            Measure::OutputTokens,
            [
                HeaderName::from_static("anthropic-ratelimit-output-tokens-limit"),
                HeaderName::from_static("anthropic-ratelimit-output-tokens-remaining"),
                HeaderName::from_static("anthropic-ratelimit-output-tokens-reset"),
            ],
        ),
    ];
    for (measure, [limit, remaining, reset]) in &NAMES {
        let Some(line) = tightest(lines, *measure) else { continue };
        if headers.contains_key(limit) || headers.contains_key(remaining) {
            continue;
        }
        headers.insert(limit, HeaderValue::from(whole(line, line.capacity)));
        headers.insert(remaining, HeaderValue::from(whole(line, line.remaining)));
        let at = i64::try_from(line.resets_in.div_ceil(NANOS)).unwrap_or(i64::MAX);
        let at = Timestamp::now().as_second().saturating_add(at);
        if let Ok(at) = Timestamp::from_second(at) {
            put(headers, reset, &at.to_string());
        }
    }
}

/// `RateLimit-Policy: "agents/tokens";q=40000;w=60` and `RateLimit: "agents/tokens";r=1200;t=9`
fn ietf(headers: &mut HeaderMap, lines: &[LimitLine]) {
    let (mut policy, mut now) = (String::new(), String::new());
    let told = |line: &&LimitLine| {
        line.mode != Mode::Observe && !matches!(line.measure, Measure::Spend | Measure::Concurrency)
    };
    for line in lines.iter().filter(told) {
        let gap = if policy.is_empty() { "" } else { ", " };
        let (name, measure) = (printable(&line.policy), line.measure.as_str());
        // writing to a String cannot fail
        let (quota, window) = (whole(line, line.capacity), line.window);
        _ = write!(policy, "{gap}\"{name}/{measure}\";q={quota};w={window}");
        let (left, reset) = (whole(line, line.remaining), line.resets_in.div_ceil(NANOS));
        _ = write!(now, "{gap}\"{name}/{measure}\";r={left};t={reset}");
    }
    if !policy.is_empty() {
        put(headers, &HeaderName::from_static("ratelimit-policy"), &policy);
        put(headers, &HeaderName::from_static("ratelimit"), &now);
    }
}

fn money(headers: &mut HeaderMap, lines: &[LimitLine]) {
    if let Some(line) = tightest(lines, Measure::Spend) {
        let name = HeaderName::from_static("x-tidegate-spend-remaining");
        // ten-thousandths of a dollar, rounded down
        let left = line.remaining / 100_000;
        put(headers, &name, &format!("${}.{:04}", left / 10_000, left % 10_000));
    }
}

/// A policy's name as a structured field's string.
fn printable(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_ascii_graphic() && !matches!(c, '"' | '\\') { c } else { '_' })
        .collect()
}

/// In whole units.
fn whole(line: &LimitLine, units: i64) -> u64 {
    u64::try_from(units / line.measure.scale()).unwrap_or(0)
}

fn put(headers: &mut HeaderMap, name: &HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name.clone(), value);
    }
}

/// As Go writes a duration: `6m0s`, `1.5s`, `76ms`, `0s`.
fn go_duration(nanos: u64) -> String {
    let millis = nanos.div_ceil(1_000_000);
    if millis == 0 {
        return "0s".to_owned();
    }
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (hours, minutes) = (millis / 3_600_000, millis / 60_000 % 60);
    let (seconds, rest) = (millis / 1000 % 60, millis % 1000);
    let mut out = String::new();
    if hours > 0 {
        _ = write!(out, "{hours}h");
    }
    if hours > 0 || minutes > 0 {
        _ = write!(out, "{minutes}m");
    }
    _ = write!(out, "{seconds}");
    if rest > 0 {
        let fraction = format!("{rest:03}");
        _ = write!(out, ".{}", fraction.trim_end_matches('0'));
    }
    out.push('s');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_go_writes_them() {
        for (nanos, want) in [
            (0, "0s"),
            (1, "1ms"),
            (76_000_000, "76ms"),
            (1_500_000_000, "1.5s"),
            (360_000_000_000, "6m0s"),
            (3_600_000_000_000, "1h0m0s"),
            (3_725_250_000_000, "1h2m5.25s"),
        ] {
            assert_eq!(go_duration(nanos), want);
        }
    }
}

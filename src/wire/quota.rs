//! What a backend says of its own limits, in the headers of an answer.
//!
//! One pass over the headers, no allocation. Vendors agree on the idea and on nothing else: names
//! (OpenAI's, which most copy; Anthropic's; a nameless family; Mistral's, Together's and Fireworks'
//! own), and times (Go durations, seconds, RFC 3339, seconds or milliseconds since 1970). What is
//! negative, senseless or more than a day away was not told; of a header that comes twice, the first
//! that makes sense counts. Windows of a day or a month have names of their own and are not read.
//! Sources: the vendors' pages on rate limits, RFC 9110 (`Retry-After`).
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use jiff::fmt::rfc2822;

/// One of the backend's limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Allowance {
    pub limit: Option<u64>,
    pub remaining: Option<u64>,
    /// Until it is full again.
    pub reset: Option<Duration>,
}

/// What the headers told. What they did not tell, or told as nonsense (negative), is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quota {
    pub requests: Option<Allowance>,
    pub tokens: Option<Allowance>,
    pub input_tokens: Option<Allowance>,
    pub output_tokens: Option<Allowance>,
    pub retry_after: Option<Duration>,
    pub should_retry: Option<bool>,
}

/// A time further away is nonsense, or no business of ours.
const DAY: Duration = Duration::from_hours(24);
/// A larger count is nonsense.
const ABSURD: u64 = 1_000_000_000_000_000;
/// Plain numbers from here on are points in time: seconds since 1970, and milliseconds.
const EPOCH_SECONDS: f64 = 1e9;
const EPOCH_MILLIS: f64 = 1e12;

/// What an allowance is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Requests,
    Tokens,
    Input,
    Output,
    /// The name does not say. It is requests wherever we know it.
    Unnamed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Limit,
    Remaining,
    Reset,
}

impl Part {
    fn of(word: &str) -> Option<Self> {
        match word {
            "limit" => Some(Self::Limit),
            "remaining" => Some(Self::Remaining),
            "reset" => Some(Self::Reset),
            _ => None,
        }
    }
}

/// Reads the headers of every vendor that has some.
pub fn quota(headers: &HeaderMap, now: impl FnOnce() -> SystemTime) -> Quota {
    // most answers tell of none
    if !headers.keys().any(|name| may_tell(name.as_str())) {
        return Quota::default();
    }
    let now = now();
    let mut found = [Allowance::default(); 5];
    let mut quota = Quota::default();
    // The most exact form counts, whatever the order: milliseconds, Azure's, seconds or a date.
    let mut retry = [None; 3];
    for (name, value) in headers {
        match name.as_str() {
            "retry-after-ms" => first(&mut retry[0], || number(value, 1e3)),
            "x-ms-retry-after-ms" => first(&mut retry[1], || number(value, 1e3)),
            "retry-after" => {
                first(&mut retry[2], || number(value, 1.0).or_else(|| date(value, now)));
            }
            "x-should-retry" => first(&mut quota.should_retry, || truth(value)),
            name => {
                if let Some((of, part)) = meaning(name) {
                    let allowance = &mut found[of as usize];
                    match part {
                        Part::Limit => first(&mut allowance.limit, || count(value)),
                        Part::Remaining => first(&mut allowance.remaining, || count(value)),
                        Part::Reset => first(&mut allowance.reset, || reset(value, now)),
                    }
                }
            }
        }
    }
    let said = |of: Of| {
        let allowance = found[of as usize];
        // Azure sends a limit of 0 where it means that it does not know
        let known = allowance != Allowance::default() && allowance.limit != Some(0);
        known.then_some(allowance)
    };
    quota.requests = said(Of::Requests).or_else(|| said(Of::Unnamed));
    quota.tokens = said(Of::Tokens);
    quota.input_tokens = said(Of::Input);
    quota.output_tokens = said(Of::Output);
    quota.retry_after = retry.into_iter().flatten().next();
    quota
}

/// By how it begins: what it is about is [`meaning`]'s.
fn may_tell(name: &str) -> bool {
    let begins = |with: &str| name.starts_with(with);
    match name.as_bytes().first() {
        Some(b'x') => {
            begins("x-ratelimit-")
                || begins("x-tokenlimit-")
                || begins("x-ms-retry-")
                || begins("x-should-")
        }
        Some(b'r') => begins("retry-") || begins("ratelimit"),
        Some(b'a') => begins("anthropic-ratelimit-"),
        _ => false,
    }
}

fn first<T>(place: &mut Option<T>, read: impl FnOnce() -> Option<T>) {
    if place.is_none() {
        *place = read();
    }
}

/// What a header is about. Names are lower case, as [`HeaderMap`] has them.
fn meaning(name: &str) -> Option<(Of, Part)> {
    if let Some(rest) = name.strip_prefix("x-ratelimit-") {
        let (part, of) = rest.split_once('-').unwrap_or((rest, ""));
        let of = match of {
            "requests" | "requests-minute" | "req-minute" => Of::Requests,
            "tokens" | "tokens-minute" => Of::Tokens,
            "input-tokens" | "tokens-prompt" => Of::Input,
            "output-tokens" | "tokens-generated" => Of::Output,
            "" => Of::Unnamed,
            _ => return None,
        };
        return Some((of, Part::of(part)?));
    }
    if let Some(rest) = name.strip_prefix("anthropic-ratelimit-") {
        let (of, part) = rest.rsplit_once('-')?;
        let of = match of {
            "requests" => Of::Requests,
            "tokens" => Of::Tokens,
            "input-tokens" => Of::Input,
            "output-tokens" => Of::Output,
            _ => return None,
        };
        return Some((of, Part::of(part)?));
    }
    let (family, part) = name.rsplit_once('-')?;
    let of = match family {
        "x-tokenlimit" | "ratelimitbysize" => Of::Tokens,
        "ratelimit" => Of::Unnamed,
        _ => return None,
    };
    Some((of, Part::of(part)?))
}

fn text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok().map(str::trim)
}

fn truth(value: &HeaderValue) -> Option<bool> {
    let text = text(value)?;
    let is = |word: &str| text.eq_ignore_ascii_case(word);
    if is("true") { Some(true) } else { is("false").then_some(false) }
}

/// A whole number; of one that is not, the whole part.
fn count(value: &HeaderValue) -> Option<u64> {
    let text = text(value)?;
    let count = text.parse().ok().or_else(|| Some(positive(text)? as u64))?;
    (count < ABSURD).then_some(count)
}

/// Digits, perhaps with a point. Rust would also take signs, exponents, `inf` and `nan`.
fn positive(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if plain { text.parse().ok() } else { None }
}

/// So many units, of which a second has `per_second`.
fn number(value: &HeaderValue, per_second: f64) -> Option<Duration> {
    seconds(positive(text(value)?)? / per_second)
}

fn seconds(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok().filter(|time| *time <= DAY)
}

/// An HTTP date, in the form that RFC 9110 wants sent.
fn date(value: &HeaderValue, now: SystemTime) -> Option<Duration> {
    let parsed = rfc2822::DateTimeParser::new().parse_timestamp(text(value)?).ok()?;
    until(parsed, now)
}

/// Nothing for a time that is behind us.
fn until(then: Timestamp, now: SystemTime) -> Option<Duration> {
    let left = SystemTime::from(then).duration_since(now).unwrap_or_default();
    (left <= DAY).then_some(left)
}

/// The time until a window is full again, in any of the forms.
fn reset(value: &HeaderValue, now: SystemTime) -> Option<Duration> {
    let text = text(value)?;
    let Some(number) = positive(text) else {
        return go_duration(text).or_else(|| until(text.parse().ok()?, now));
    };
    if number < EPOCH_SECONDS {
        return seconds(number);
    }
    let since = if number < EPOCH_MILLIS { number } else { number / 1e3 };
    let then = SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(since).ok()?)?;
    let left = then.duration_since(now).unwrap_or_default();
    (left <= DAY).then_some(left)
}

/// `6m0s`, `120ms`, `1h2m3.5s`, as Go writes them.
fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let (amount, behind) = rest.split_at(digits);
        let unit_end = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, next) = behind.split_at(unit_end);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        sum += positive(amount)? * seconds;
        rest = next;
    }
    if text.is_empty() { None } else { seconds(sum) }
}

#[cfg(test)]
mod tests;

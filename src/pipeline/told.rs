//! What callers are told of our own limits, in headers of their dialect.
//!
//! OpenAI's and Anthropic's names for the tightest limit of each measure, where the backend has not
//! said something under that name itself; and the IETF's `RateLimit` fields for all of them
//! (draft-ietf-httpapi-ratelimit-headers). Money is told as dollars that are left, under a name of ours.
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;

use crate::config::{Measure, Mode};
use crate::limits::book::Standing;
use crate::wire::Dialect;

const NANOS: u64 = 1_000_000_000;

/// On an answer that passes, or a refusal.
pub fn tell(headers: &mut HeaderMap, dialect: Dialect, standing: &[Standing]) {
    if standing.is_empty() {
        return;
    }
    match dialect {
        Dialect::Anthropic => {
            for (measure, names) in &ANTHROPIC {
                fields(headers, names, tightest(standing, *measure), rfc3339);
            }
        }
        _ => {
            for (measure, names) in &OPENAI {
                fields(headers, names, tightest(standing, *measure), go_duration);
            }
        }
    }
    ietf(headers, standing);
    money(headers, standing);
}

/// The limit of a measure that has the smallest part left.
fn tightest(standing: &[Standing], measure: Measure) -> Option<&Standing> {
    let told = standing
        .iter()
        .filter(|one| one.limit.measure == measure && one.limit.shape.mode != Mode::Observe);
    let part = |one: &Standing| one.remaining as f64 / one.limit.shape.capacity.max(1) as f64;
    told.min_by(|one, other| part(one).total_cmp(&part(other)))
}

/// Limit, remaining, reset.
type Names = [HeaderName; 3];

const OPENAI: [(Measure, Names); 2] = [
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

const ANTHROPIC: [(Measure, Names); 4] = [
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

/// One measure, unless the backend has said something under these names itself.
fn fields(
    headers: &mut HeaderMap,
    [limit, remaining, reset]: &Names,
    tightest: Option<&Standing>,
    show: fn(&mut Vec<u8>, u64),
) {
    let Some(one) = tightest else { return };
    if headers.contains_key(limit) || headers.contains_key(remaining) {
        return;
    }
    headers.insert(limit, HeaderValue::from(whole(one, one.limit.shape.capacity)));
    headers.insert(remaining, HeaderValue::from(whole(one, one.remaining)));
    let mut text = Vec::with_capacity(24);
    show(&mut text, one.resets_in);
    put(headers, reset, text);
}

/// `RateLimit-Policy: "agents/tokens";q=40000;w=60` and `RateLimit: "agents/tokens";r=1200;t=9`
fn ietf(headers: &mut HeaderMap, standing: &[Standing]) {
    let told = |one: &&Standing| {
        one.limit.shape.mode != Mode::Observe
            && !matches!(one.limit.measure, Measure::Spend | Measure::Concurrency)
    };
    let (mut policy, mut now) = (Vec::new(), Vec::new());
    for one in standing.iter().filter(told) {
        if policy.is_empty() {
            policy.reserve(48 * standing.len());
            now.reserve(48 * standing.len());
        } else {
            policy.extend_from_slice(b", ");
            now.extend_from_slice(b", ");
        }
        policy.extend_from_slice(one.limit.granted.as_bytes());
        now.extend_from_slice(one.limit.named.as_bytes());
        now.extend_from_slice(b";r=");
        number(&mut now, whole(one, one.remaining));
        now.extend_from_slice(b";t=");
        number(&mut now, one.resets_in.div_ceil(NANOS));
    }
    if !policy.is_empty() {
        put(headers, &HeaderName::from_static("ratelimit-policy"), policy);
        put(headers, &HeaderName::from_static("ratelimit"), now);
    }
}

fn money(headers: &mut HeaderMap, standing: &[Standing]) {
    if let Some(one) = tightest(standing, Measure::Spend) {
        // ten-thousandths of a dollar, rounded down
        let left = u64::try_from(one.remaining / 100_000).unwrap_or(0);
        let mut text = Vec::with_capacity(24);
        text.push(b'$');
        number(&mut text, left / 10_000);
        text.push(b'.');
        padded(&mut text, left % 10_000, 4);
        put(headers, &HeaderName::from_static("x-tidegate-spend-remaining"), text);
    }
}

/// In whole units.
fn whole(one: &Standing, units: i64) -> u64 {
    u64::try_from(units / one.limit.measure.scale()).unwrap_or(0)
}

fn put(headers: &mut HeaderMap, name: &HeaderName, text: Vec<u8>) {
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(text)) {
        headers.insert(name, value);
    }
}

fn number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// With zeros in front, to so many digits.
fn padded(out: &mut Vec<u8>, value: u64, digits: usize) {
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(value).as_bytes();
    out.extend(std::iter::repeat_n(b'0', digits.saturating_sub(text.len())));
    out.extend_from_slice(text);
}

fn rfc3339(out: &mut Vec<u8>, nanos: u64) {
    let after = i64::try_from(nanos.div_ceil(NANOS)).unwrap_or(i64::MAX);
    let at = Timestamp::now().as_second().saturating_add(after);
    if let Ok(at) = Timestamp::from_second(at) {
        out.extend_from_slice(at.to_string().as_bytes());
    }
}

/// As Go writes a duration: `6m0s`, `1.5s`, `76ms`, `0s`.
fn go_duration(out: &mut Vec<u8>, nanos: u64) {
    let millis = nanos.div_ceil(1_000_000);
    if millis == 0 {
        out.extend_from_slice(b"0s");
        return;
    }
    if millis < 1000 {
        number(out, millis);
        out.extend_from_slice(b"ms");
        return;
    }
    let (hours, minutes) = (millis / 3_600_000, millis / 60_000 % 60);
    let (seconds, rest) = (millis / 1000 % 60, millis % 1000);
    if hours > 0 {
        number(out, hours);
        out.push(b'h');
    }
    if hours > 0 || minutes > 0 {
        number(out, minutes);
        out.push(b'm');
    }
    number(out, seconds);
    if rest > 0 {
        out.push(b'.');
        padded(out, rest, 3);
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
    out.push(b's');
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
            (10_000_000_000, "10s"),
        ] {
            let mut text = Vec::new();
            go_duration(&mut text, nanos);
            assert_eq!(String::from_utf8(text).unwrap(), want);
        }
    }
}

use http::HeaderName;
use proptest::prelude::*;

use super::*;

/// 2026-11-22T10:00:00Z
const NOW: u64 = 1_795_341_600;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
}

fn read(lines: &str) -> Quota {
    let mut headers = HeaderMap::new();
    for line in lines.lines().filter(|line| !line.trim().is_empty()) {
        let (name, value) = line.trim().split_once(": ").unwrap();
        headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    quota(&headers, now)
}

fn allowance(
    limit: impl Into<Option<u64>>,
    remaining: impl Into<Option<u64>>,
    reset_ms: impl Into<Option<u64>>,
) -> Allowance {
    let reset = reset_ms.into().map(Duration::from_millis);
    Allowance { limit: limit.into(), remaining: remaining.into(), reset }
}

#[test]
fn openai() {
    let quota = read(
        "date: Sun, 22 Nov 2026 10:00:00 GMT
        content-type: application/json
        access-control-expose-headers: X-Request-ID
        openai-processing-ms: 412
        openai-version: 2020-10-01
        x-ratelimit-limit-requests: 10000
        x-ratelimit-limit-tokens: 200000
        x-ratelimit-remaining-requests: 9999
        x-ratelimit-remaining-tokens: 199962
        x-ratelimit-reset-requests: 8.64s
        x-ratelimit-reset-tokens: 6m0s
        x-request-id: req_0123
        x-content-type-options: nosniff",
    );
    assert_eq!(quota.requests, Some(allowance(10_000, 9_999, 8_640)));
    assert_eq!(quota.tokens, Some(allowance(200_000, 199_962, 360_000)));
    assert_eq!((quota.input_tokens, quota.output_tokens), (None, None));
    assert_eq!((quota.retry_after, quota.should_retry), (None, None));
}

#[test]
fn openai_refuses() {
    let quota = read(
        "retry-after: 21
        retry-after-ms: 20431
        x-ratelimit-limit-tokens: 30000
        x-ratelimit-remaining-tokens: 0
        x-ratelimit-reset-tokens: 20.431s
        x-should-retry: true",
    );
    assert_eq!(quota.tokens, Some(allowance(30_000, 0, 20_431)));
    assert_eq!(quota.requests, None);
    assert_eq!(quota.retry_after, Some(Duration::from_millis(20_431)));
    assert_eq!(quota.should_retry, Some(true));
}

#[test]
fn azure() {
    let quota = read(
        "apim-request-id: 00000000-0000
        x-ratelimit-limit-requests: 250
        x-ratelimit-limit-tokens: 250000
        x-ratelimit-remaining-requests: 249
        x-ratelimit-remaining-tokens: -1
        x-ratelimit-reset-requests: 60
        x-ratelimit-reset-tokens: 0
        x-ms-region: Sweden Central
        x-ms-retry-after-ms: 1500
        retry-after: 2",
    );
    assert_eq!(quota.requests, Some(allowance(250, 249, 60_000)));
    assert_eq!(quota.tokens, Some(allowance(250_000, None, 0)));
    assert_eq!(quota.retry_after, Some(Duration::from_millis(1500)));
    let unknown = read(
        "x-ratelimit-limit-requests: 0
        x-ratelimit-limit-tokens: 0
        x-ratelimit-remaining-requests: -1
        x-ratelimit-remaining-tokens: 0",
    );
    assert_eq!(unknown, Quota::default());
}

#[test]
fn anthropic() {
    let quota = read(
        "anthropic-organization-id: 00000000-0000
        anthropic-ratelimit-input-tokens-limit: 400000
        anthropic-ratelimit-input-tokens-remaining: 399000
        anthropic-ratelimit-input-tokens-reset: 2026-11-22T10:00:01Z
        anthropic-ratelimit-output-tokens-limit: 80000
        anthropic-ratelimit-output-tokens-remaining: 79000
        anthropic-ratelimit-output-tokens-reset: 2026-11-22T12:00:00.5+02:00
        anthropic-ratelimit-requests-limit: 4000
        anthropic-ratelimit-requests-remaining: 3999
        anthropic-ratelimit-requests-reset: 2026-11-22T09:59:59Z
        anthropic-ratelimit-tokens-limit: 480000
        anthropic-ratelimit-tokens-remaining: 478000
        anthropic-ratelimit-tokens-reset: 2026-11-22T10:01:00Z
        anthropic-ratelimit-unified-reset: 1795500000
        anthropic-priority-input-tokens-limit: 10000
        retry-after: 0.25
        x-should-retry: false",
    );
    assert_eq!(quota.input_tokens, Some(allowance(400_000, 399_000, 1000)));
    assert_eq!(quota.output_tokens, Some(allowance(80_000, 79_000, 500)));
    assert_eq!(quota.requests, Some(allowance(4000, 3999, 0)), "a time behind us is now");
    assert_eq!(quota.tokens, Some(allowance(480_000, 478_000, 60_000)));
    assert_eq!(quota.retry_after, Some(Duration::from_millis(250)));
    assert_eq!(quota.should_retry, Some(false));
}

#[test]
fn those_who_copy_openai() {
    let groq = read(
        "x-ratelimit-limit-requests: 14400
        x-ratelimit-limit-tokens: 18000
        x-ratelimit-remaining-requests: 14370
        x-ratelimit-remaining-tokens: 17997
        x-ratelimit-reset-requests: 2m59.56s
        x-ratelimit-reset-tokens: 7.66s",
    );
    assert_eq!(groq.requests, Some(allowance(14_400, 14_370, 179_560)));
    assert_eq!(groq.tokens, Some(allowance(18_000, 17_997, 7_660)));
    let mistral = read(
        "x-ratelimit-limit-req-minute: 60
        x-ratelimit-remaining-req-minute: 59
        x-ratelimit-limit-tokens-minute: 500000
        x-ratelimit-remaining-tokens-minute: 499977
        x-ratelimit-limit-tokens-month: 1000000000
        x-ratelimit-remaining-tokens-month: 999000000
        x-ratelimit-tokens-query-cost: 23",
    );
    assert_eq!(mistral.requests, Some(allowance(60, 59, None)));
    assert_eq!(mistral.tokens, Some(allowance(500_000, 499_977, None)));
    let older = read(
        "ratelimitbysize-limit: 500000
        ratelimitbysize-remaining: 499977
        ratelimitbysize-reset: 26
        ratelimitbysize-query-cost: 32015",
    );
    assert_eq!(older.tokens, Some(allowance(500_000, 499_977, 26_000)));
    let cerebras = read(
        "x-ratelimit-limit-requests-day: 14400
        x-ratelimit-remaining-requests-day: 14000
        x-ratelimit-reset-requests-day: 33011.382867
        x-ratelimit-limit-tokens-minute: 60000
        x-ratelimit-remaining-tokens-minute: 59900
        x-ratelimit-reset-tokens-minute: 11.382",
    );
    assert_eq!(cerebras.requests, None);
    assert_eq!(cerebras.tokens, Some(allowance(60_000, 59_900, 11_382)));
    let fireworks = read(
        "x-ratelimit-limit-requests: 600
        x-ratelimit-remaining-requests: 599
        x-ratelimit-limit-tokens-prompt: 60000
        x-ratelimit-remaining-tokens-prompt: 59000
        x-ratelimit-limit-tokens-generated: 6000
        x-ratelimit-remaining-tokens-generated: 5900",
    );
    assert_eq!(fireworks.requests, Some(allowance(600, 599, None)));
    assert_eq!(fireworks.input_tokens, Some(allowance(60_000, 59_000, None)));
    assert_eq!(fireworks.output_tokens, Some(allowance(6_000, 5_900, None)));
}

#[test]
fn the_nameless_family() {
    let openrouter = read(
        "X-RateLimit-Limit: 20
        X-RateLimit-Remaining: 0
        X-RateLimit-Reset: 1795341630500",
    );
    assert_eq!(openrouter.requests, Some(allowance(20, 0, 30_500)));
    let together = read(
        "x-ratelimit-limit: 10
        x-ratelimit-remaining: 9
        x-ratelimit-reset: 1
        x-tokenlimit-limit: 3000
        x-tokenlimit-remaining: 2500",
    );
    assert_eq!(together.requests, Some(allowance(10, 9, 1000)));
    assert_eq!(together.tokens, Some(allowance(3000, 2500, None)));
    let draft = read("ratelimit-limit: 100\nratelimit-remaining: 5\nratelimit-reset: 1795341605");
    assert_eq!(draft.requests, Some(allowance(100, 5, 5000)));
    // a name that says more wins
    let both = read("x-ratelimit-limit: 10\nx-ratelimit-limit-requests: 600");
    assert_eq!(both.requests, Some(allowance(600, None, None)));
}

#[test]
fn every_form_of_retry_after() {
    for (lines, want) in [
        ("retry-after: 3", Some(3000)),
        ("retry-after: 0", Some(0)),
        ("retry-after:  1.5 ", Some(1500)),
        ("retry-after: Sun, 22 Nov 2026 10:00:42 GMT", Some(42_000)),
        ("retry-after: Sun, 22 Nov 2026 09:00:00 GMT", Some(0)),
        ("retry-after: 86400", Some(86_400_000)),
        ("retry-after: 86401", None),
        ("retry-after: Tue, 24 Nov 2026 10:00:00 GMT", None),
        ("retry-after: -5", None),
        ("retry-after: soon", None),
        ("retry-after: inf", None),
        ("retry-after: NaN", None),
        ("retry-after: 1e3", None),
        ("retry-after: .", None),
        ("retry-after: soon\nretry-after: 4", Some(4000)),
        ("retry-after-ms: 17.5", Some(17)),
        ("retry-after-ms: -1\nretry-after: 2", Some(2000)),
        ("retry-after: 2\nx-ms-retry-after-ms: 1900\nretry-after-ms: 1800", Some(1800)),
        ("retry-after: 99999999999999999999999999999999", None),
    ] {
        let found = read(lines).retry_after.map(|time| time.as_millis() as u64);
        assert_eq!(found, want, "{lines}");
    }
}

#[test]
fn every_form_of_reset() {
    for (text, want) in [
        ("1h2m3.5s", Some(3_723_500)),
        ("120ms", Some(120)),
        ("6m0s", Some(360_000)),
        ("1500us", Some(1)),
        ("0s", Some(0)),
        ("12", Some(12_000)),
        ("0.5", Some(500)),
        ("1795341601", Some(1000)),
        ("1795341601250", Some(1250)),
        ("1695341601250", Some(0)),
        ("2026-11-22T10:00:05Z", Some(5000)),
        ("2026-11-25T10:00:05Z", None),
        ("24h", Some(86_400_000)),
        ("24h1s", None),
        ("90000", None),
        ("1895341601250", None),
        ("-1", None),
        ("-1s", None),
        ("1x", None),
        ("s", None),
        ("1.2.3s", None),
        ("5m3", None),
        ("tomorrow", None),
    ] {
        let found = read(&format!("x-ratelimit-reset-tokens: {text}"));
        let found = found.tokens.and_then(|tokens| tokens.reset);
        assert_eq!(found.map(|time| time.as_millis() as u64), want, "{text}");
    }
}

#[test]
fn counts_that_make_no_sense_were_not_told() {
    for (text, want) in [
        ("5", Some(5)),
        ("5.9", Some(5)),
        ("-1", None),
        ("+5", Some(5)),
        ("five", None),
        ("1000000000000000", None),
        ("99999999999999999999999", None),
    ] {
        let found = read(&format!("x-ratelimit-remaining-tokens: {text}"));
        assert_eq!(found.tokens.and_then(|tokens| tokens.remaining), want, "{text}");
    }
    let mut headers = HeaderMap::new();
    headers.append("retry-after", HeaderValue::from_bytes(b"\xff5").unwrap());
    headers.append("retry-after", HeaderValue::from_static(""));
    assert_eq!(quota(&headers, now), Quota::default());
    assert_eq!(read("x-should-retry: TRUE").should_retry, Some(true));
    assert_eq!(read("x-should-retry: 1").should_retry, None);
}

proptest! {
    /// No value makes it panic, and none makes a time of more than a day.
    #[test]
    fn any_value_is_taken_or_left(bytes in proptest::collection::vec(
        prop_oneof![b'0'..=b'9', Just(b'.'), Just(b'm'), Just(b's'), Just(b'h'), Just(b'-'), Just(b':'), Just(b'T'), 32_u8..127],
        0..24,
    )) {
        let mut headers = HeaderMap::new();
        for name in ["retry-after", "retry-after-ms", "x-ratelimit-reset-tokens", "x-ratelimit-limit", "anthropic-ratelimit-requests-reset"] {
            headers.insert(name, HeaderValue::from_bytes(&bytes).unwrap());
        }
        let found = quota(&headers, now);
        let allowances = [found.requests, found.tokens, found.input_tokens, found.output_tokens];
        let resets = allowances.into_iter().flatten().filter_map(|allowance| allowance.reset);
        for time in resets.chain(found.retry_after) {
            prop_assert!(time <= DAY);
        }
    }
}

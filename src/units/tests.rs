use proptest::prelude::*;

use super::*;

#[test]
fn durations_read_and_refuse() {
    for (text, millis) in [
        ("250ms", 250),
        ("30s", 30_000),
        ("15m", 900_000),
        ("1h", 3_600_000),
        ("1d", 86_400_000),
        ("0s", 0),
        ("366d", 31_622_400_000),
    ] {
        assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
    }
    for (text, word) in [
        ("", "like 250ms"),
        ("30", "30s or 30ms"),
        ("1.5h", "whole numbers"),
        ("-1s", "like 250ms"),
        ("5min", "ms, s, m, h or d"),
        ("5 s", "ms, s, m, h or d"),
        ("5S", "ms, s, m, h or d"),
        ("367d", "366d at most"),
        ("99999999999999999999s", "not so large"),
        ("9999999999999999999d", "366d at most"),
        ("1h30m", "ms, s, m, h or d"),
    ] {
        let error = duration(text).expect_err(text);
        assert!(error.0.contains(word), "{text}: {error}");
    }
}

#[test]
fn sizes_read_and_refuse() {
    for (text, bytes) in
        [("0B", 0), ("512B", 512), ("64KiB", 65_536), ("32MiB", 33_554_432), ("64kB", 64_000)]
    {
        assert_eq!(size(text), Ok(bytes), "{text}");
    }
    for text in ["", "64", "64K", "64kib", "64 KiB", "-1B", "1.5MiB", "2097152GiB", "1e3B"] {
        size(text).expect_err(text);
    }
}

#[test]
fn percentages_read_and_refuse() {
    assert_eq!(percent("20%"), Ok(0.2));
    assert_eq!(percent("0%"), Ok(0.0));
    assert_eq!(percent("0.5%"), Ok(0.005));
    assert_eq!(percent("100%"), Ok(1.0));
    for text in ["", "%", "20", "-1%", "101%", "1e1%", "nan%", "1.2.3%", "inf%", "+1%"] {
        percent(text).expect_err(text);
    }
}

#[test]
fn globs_match_whole_names() {
    for (pattern, text, yes) in [
        ("gpt-*", "gpt-5", true),
        ("gpt-*", "gpt-", true),
        ("gpt-*", "o-gpt-5", false),
        ("*", "", true),
        ("", "", true),
        ("", "a", false),
        ("?", "é", true),
        ("?", "", false),
        ("*mini*", "gpt-5-mini-2026", true),
        ("a*b*c", "a-b-b-c", true),
        ("a*b*c", "a-c-b", false),
        ("llama-?b", "llama-8b", true),
        ("llama-?b", "llama-70b", false),
    ] {
        assert_eq!(glob_matches(pattern, text), yes, "{pattern} on {text}");
    }
}

#[test]
fn a_hostile_glob_costs_no_more_than_its_product() {
    let pattern = "a*".repeat(500) + "b";
    let text = "a".repeat(20_000);
    let start = std::time::Instant::now();
    assert!(!glob_matches(&pattern, &text));
    assert!(start.elapsed() < Duration::from_secs(5));
}

/// The plain definition, exponential in the worst case.
fn oracle(pattern: &[char], text: &[char]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some(('*', rest)), _) => {
            oracle(rest, text) || text.split_first().is_some_and(|(_, t)| oracle(pattern, t))
        }
        (Some((p, rest)), Some((t, left))) => (*p == '?' || p == t) && oracle(rest, left),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

proptest! {
    #[test]
    fn a_shown_duration_reads_back(millis in 0_u64..=31_622_400_000) {
        let value = Duration::from_millis(millis);
        prop_assert_eq!(duration(&show_duration(value)), Ok(value));
    }

    #[test]
    fn a_shown_size_reads_back(bytes in 0_u64..=1 << 50) {
        prop_assert_eq!(size(&show_size(bytes)), Ok(bytes));
    }

    #[test]
    fn readers_never_panic(text in any::<String>()) {
        let _ = (duration(&text), size(&text), percent(&text));
    }

    #[test]
    fn globs_agree_with_the_definition(pattern in "[ab*?é]{0,7}", text in "[abé]{0,9}") {
        let (p, t): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
        prop_assert_eq!(glob_matches(&pattern, &text), oracle(&p, &t));
    }

    #[test]
    fn a_covering_glob_matches_all_that_the_covered_one_does(
        wide in "[ab*?]{0,5}", narrow in "[ab*?]{0,5}", text in "[abc]{0,6}",
    ) {
        if glob_covers(&wide, &narrow) && glob_matches(&narrow, &text) {
            prop_assert!(glob_matches(&wide, &text), "{} over {} on {}", wide, narrow, text);
        }
    }

    #[test]
    fn a_glob_covers_itself(pattern in "[ab*?]{0,6}") {
        prop_assert!(glob_covers(&pattern, &pattern));
        prop_assert!(glob_covers("*", &pattern));
    }
}

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
fn amounts_read_and_refuse() {
    for (text, thousandths) in [
        ("0", 0),
        ("600", 600_000),
        ("0.125", 125),
        ("1.5k", 1_500_000),
        ("400k", 400_000_000),
        ("1.50000M", 1_500_000_000),
        ("0.000001M", 1_000),
        ("2G", 2_000_000_000_000),
        ("1000G", 1_000_000_000_000_000),
    ] {
        assert_eq!(amount(text), Ok(thousandths), "{text}");
    }
    for (text, word) in [
        ("", "like 600"),
        ("k", "like 600"),
        (".5k", "like 600"),
        ("5.k", "like 600"),
        ("1_000", "like 600"),
        ("1,5", "like 600"),
        ("-1", "like 600"),
        ("1e3", "like 600"),
        ("1kM", "like 600"),
        ("٣", "like 600"),
        ("0.0005", "whole thousandths"),
        ("1.0000001k", "whole thousandths"),
        ("1000000000001", "1000G at most"),
        ("99999999999999999999", "1000G at most"),
        ("99999999999999999999G", "1000G at most"),
    ] {
        let error = amount(text).expect_err(text);
        assert!(error.0.contains(word), "{text}: {error}");
    }
}

#[test]
fn money_prices_and_weights_read_and_refuse() {
    assert_eq!(money("$20"), Ok(20_000_000_000));
    assert_eq!(money("$0.50"), Ok(500_000_000));
    assert_eq!(money("$0.000000001"), Ok(1));
    assert_eq!(money("$1000000000"), Ok(1_000_000_000_000_000_000));
    for text in ["", "$", "20", "20$", "$ 20", "$-1", "$1k", "$0.0000000001", "$1000000001"] {
        money(text).expect_err(text);
    }
    assert_eq!(price("15"), Ok(15_000_000));
    assert_eq!(price("0.50"), Ok(500_000));
    assert_eq!(price("0.000001"), Ok(1));
    assert_eq!(price("0"), Ok(0));
    for text in ["", "$1", "-1", "1e-6", "0.0000001", "10000.1", ".5", "nan"] {
        price(text).expect_err(text);
    }
    assert_eq!(weight("10%"), Ok(100));
    assert_eq!(weight("12.5%"), Ok(125));
    assert_eq!(weight("0%"), Ok(0));
    assert_eq!(weight("1000%"), Ok(10_000));
    for text in ["", "%", "10", "-1%", "0.05%", "1000.1%", "1e1%"] {
        weight(text).expect_err(text);
    }
}

/// What is written is shorter than, and as exact as, the number.
#[test]
fn amounts_are_shown_as_people_write_them() {
    for (thousandths, text) in [
        (0, "0"),
        (1, "0.001"),
        (600_000, "600"),
        (1_500_000, "1.5k"),
        (1_234_000, "1.234k"),
        (1_234_500, "1234.5"),
        (400_000_000, "400k"),
        (-1_500_000_000, "-1.5M"),
        (1_000_000_000_000, "1G"),
    ] {
        assert_eq!(show_amount(thousandths), text);
    }
    assert_eq!(show_money(20_000_000_000), "$20");
    assert_eq!(show_money(500_000_000), "$0.50");
    assert_eq!(show_money(-1), "-$0.000000001");
    assert_eq!(show_price(75_000), "0.075");
    assert_eq!(show_weight(125), "12.5%");
}

#[test]
fn instants_read_and_refuse() {
    for (text, seconds) in [
        ("1970-01-01", 0),
        ("2027-01-31", 1_801_353_600),
        ("2027-01-31T12:00:00Z", 1_801_396_800),
        ("2027-01-31T12:00:00+02:00", 1_801_389_600),
        ("2027-01-31T12:00:00.9Z", 1_801_396_800),
    ] {
        assert_eq!(instant(text), Ok(seconds), "{text}");
    }
    for text in [
        "",
        "never",
        "30d",
        "2027",
        "2027-01",
        "2027-02-29",
        "31.01.2027",
        "2027-01-31T12:00:00",
        "-2027-01-3",
        "+02027-01-31",
        "2027-13-01",
    ] {
        instant(text).expect_err(text);
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
    fn shown_amounts_read_back(value in 0_i64..=1_000_000_000_000_000, zeros in 0_u32..12) {
        let round = value / 10_i64.pow(zeros) * 10_i64.pow(zeros);
        for value in [value, round] {
            prop_assert_eq!(amount(&show_amount(value)), Ok(value));
            prop_assert_eq!(money(&show_money(value * 1000)), Ok(value * 1000));
        }
    }

    #[test]
    fn shown_prices_and_weights_read_back(value in 0_u64..=10_000_000_000, part in 0_u32..=10_000) {
        prop_assert_eq!(price(&show_price(value)), Ok(value));
        prop_assert_eq!(weight(&show_weight(part)), Ok(part));
    }

    #[test]
    fn a_shown_instant_reads_back(seconds in 0_i64..250_000_000_000) {
        prop_assert_eq!(instant(&show_instant(seconds)), Ok(seconds));
    }

    #[test]
    fn digits_are_never_rounded(whole in 0_i64..1_000, part in "[0-9]{1,12}") {
        // the whole number that stands there, in billionths, or a refusal
        let digits = part.trim_end_matches('0');
        let exact = (digits.len() <= 9).then(|| {
            let part: i64 = format!("{digits:0<9}").parse().expect("digits");
            whole * 1_000_000_000 + part
        });
        prop_assert_eq!(money(&format!("${whole}.{part}")).ok(), exact);
    }

    #[test]
    fn readers_never_panic(text in any::<String>()) {
        let _ = (duration(&text), size(&text), percent(&text));
        let _ = (amount(&text), money(&text), price(&text), weight(&text), instant(&text));
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

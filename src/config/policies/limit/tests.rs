use proptest::prelude::*;

use super::*;

fn rate(seconds: u64) -> Window {
    Window::Rate(Duration::from_secs(seconds))
}

#[test]
fn limits_read() {
    use Measure::{Concurrency, Requests, Spend, Tokens};
    let day = Window::Calendar(Calendar::Day);
    for (measure, text, amount, window, burst, mode) in [
        (Requests, "600/min", 600_000, rate(60), None, Mode::Soft),
        (Requests, "10/s burst 50", 10_000, rate(1), Some(50_000), Mode::Soft),
        (Requests, "0.5/second", 500, rate(1), None, Mode::Soft),
        (Tokens, "400k/min hard", 400_000_000, rate(60), None, Mode::Hard),
        (
            Tokens,
            "1.5M/h observe burst 10k",
            1_500_000_000,
            rate(3600),
            Some(10_000_000),
            Mode::Observe,
        ),
        (Tokens, "5M/hour", 5_000_000_000, rate(3600), None, Mode::Soft),
        (Tokens, "5M/day", 5_000_000_000, rate(86_400), None, Mode::Soft),
        (Tokens, "5M/month soft", 5_000_000_000, rate(2_592_000), None, Mode::Soft),
        (Tokens, " 5M/day  hard calendar ", 5_000_000_000, day, None, Mode::Hard),
        (Spend, "$20/day", 20_000_000_000, day, None, Mode::Soft),
        (Spend, "$20/day calendar", 20_000_000_000, day, None, Mode::Soft),
        (Spend, "$0.50/hour hard", 500_000_000, Window::Calendar(Calendar::Hour), None, Mode::Hard),
        (Spend, "$300/month", 300_000_000_000, Window::Calendar(Calendar::Month), None, Mode::Soft),
        (Spend, "$2/h burst $5", 2_000_000_000, rate(3600), Some(5_000_000_000), Mode::Soft),
        (Concurrency, "16", 16, Window::Now, None, Mode::Soft),
        (Concurrency, "16 observe", 16, Window::Now, None, Mode::Observe),
    ] {
        let limit = Limit { measure, amount, window, burst, mode };
        assert_eq!(Limit::read(measure, text), Ok(limit), "{text}");
    }
}

#[test]
fn what_is_no_limit_is_refused_with_what_is() {
    use Measure::{Concurrency, Requests, Spend, Tokens};
    for (measure, text, word) in [
        (Requests, "", "a limit like 600/min"),
        (Requests, "600", "a limit like 600/min"),
        (Requests, "600 /min", "a limit like 600/min"),
        (Requests, "many/min", "an amount like 600"),
        (Requests, "-1/min", "an amount like 600"),
        (Requests, "1e3/min", "an amount like 600"),
        (Requests, "$5/min", "an amount like 600"),
        (Requests, "600/minutes", "a period: s, min, h, hour, day or month; a limit like 600/min"),
        (Requests, "600/m", "a period: s, min"),
        (Requests, "0.0001/s", "whole thousandths"),
        (Requests, "0/min", "more than zero"),
        (Requests, "0.000/min", "more than zero"),
        (Tokens, "400k/min burst", "an amount after `burst`"),
        (Tokens, "400k/min burst hard", "an amount like 600"),
        (Tokens, "400k/min burst 0", "more than zero"),
        (Tokens, "400k/min soft hard", "each once"),
        (Tokens, "400k/min burst 1 burst 1", "each once"),
        (Tokens, "400k/min strict", "one of observe, soft and hard"),
        (Tokens, "400k/min calendar", "hour, day or month alone"),
        (Tokens, "4M/h calendar", "hour, day or month alone"),
        (Tokens, "5M/day calendar burst 1M", "without `burst`"),
        (Tokens, "1001G/min", "1000G at most"),
        (Tokens, "99999999999999999999M/min", "1000G at most"),
        (Tokens, "400K/min", "an amount like 600"),
        (Spend, "20/day", "like $20 or $0.50"),
        (Spend, "$/day", "like $20 or $0.50"),
        (Spend, "$20", "a limit like $20/day"),
        (Spend, "$20/day burst $5", "without `burst`"),
        (Spend, "$0.0000000001/day", "nine digits"),
        (Spend, "$1000000001/day", "$1000000000 at most"),
        (Concurrency, "0", "more than zero"),
        (Concurrency, "16/min", "calls at once"),
        (Concurrency, "16 burst 4", "calls at once"),
        (Concurrency, "16 calendar", "calls at once"),
        (Concurrency, "1.5", "calls at once"),
        (Concurrency, "+5", "calls at once"),
        (Concurrency, "1000001", "calls at once"),
        (Concurrency, "1k", "calls at once"),
    ] {
        let error = Limit::read(measure, text).expect_err(text);
        assert!(error.0.contains(word), "{text}: {error}");
    }
}

#[test]
fn each_form_that_is_told_is_right() {
    for measure in Measure::ALL {
        let form = Limit::form(measure);
        let (_, examples) = form.split_once(" like ").expect("examples");
        for example in examples.split([',']).flat_map(|part| part.split(" or ")) {
            let example = example.trim().trim_matches('`');
            assert!(Limit::read(measure, example).is_ok(), "{example}");
        }
    }
}

fn any_limit() -> impl Strategy<Value = Limit> {
    let windows = prop_oneof![
        Just(SECOND).prop_map(Window::Rate),
        Just(MINUTE).prop_map(Window::Rate),
        Just(HOUR).prop_map(Window::Rate),
        Just(DAY).prop_map(Window::Rate),
        Just(MONTH).prop_map(Window::Rate),
        Just(Window::Calendar(Calendar::Hour)),
        Just(Window::Calendar(Calendar::Day)),
        Just(Window::Calendar(Calendar::Month)),
    ];
    let amounts = (1..=1_000_000_i64, 0..=9_u32).prop_map(|(n, zeros)| n * 10_i64.pow(zeros));
    let modes = prop::sample::select(Mode::ALL.to_vec());
    let measures = prop::sample::select(Measure::ALL.to_vec());
    (measures, amounts.clone(), windows, prop::option::of(amounts), modes).prop_map(
        |(measure, amount, window, burst, mode)| {
            if measure == Measure::Concurrency {
                let amount = amount.min(MOST_AT_ONCE);
                return Limit { measure, amount, window: Window::Now, burst: None, mode };
            }
            // of money, long periods are calendar budgets
            let window = match window {
                Window::Rate(DAY | MONTH) if measure == Measure::Spend => Window::Rate(HOUR),
                window => window,
            };
            let burst = burst.filter(|_| matches!(window, Window::Rate(_)));
            Limit { measure, amount, window, burst, mode }
        },
    )
}

proptest! {
    #[test]
    fn a_shown_limit_reads_back(limit in any_limit()) {
        prop_assert_eq!(Limit::read(limit.measure, &limit.to_string()), Ok(limit));
    }

    #[test]
    fn words_come_in_any_order(mut words in Just(["burst 10k", "observe"]).prop_shuffle()) {
        words.rotate_left(1);
        let text = format!("400k/min {}", words.join(" "));
        let limit = Limit::read(Measure::Tokens, &text).expect("right");
        prop_assert_eq!((limit.burst, limit.mode), (Some(10_000_000), Mode::Observe));
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[0-9kMG$./a-z ]{0,40}", any in any::<String>()) {
        for measure in Measure::ALL {
            let _ = (Limit::read(measure, &text), Limit::read(measure, &any));
        }
    }
}

use std::collections::HashSet;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

fn usage(input: u64, cached: u64, written: u64, output: u64, reasoning: u64) -> Usage {
    Usage { input, output, cached_input: cached, cache_write: written, reasoning }
}

fn fixture() -> PriceList {
    with_globs(&[])
}

fn with_globs(globs: &[(&str, Price)]) -> PriceList {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/prices/litellm.json");
    let models = globs.iter().map(|(glob, price)| (Arc::from(*glob), *price)).collect();
    PriceList::prepare(&Prices { models, file: Some(PathBuf::from(file)) }).unwrap()
}

/// Dollars of a million tokens, in thousandths.
fn price(input: u64, output: u64) -> Price {
    Price::of_tokens(input * 1_000, output * 1_000)
}

#[test]
fn bills_are_as_worked_out_by_hand() {
    let list = fixture();
    let built_in = PriceList::default();
    let cases = [
        // 1,000 × 2.50 + 500 × 10 = 7,500 dollars a million = $0.0075
        (list.of("plain"), usage(1_000, 0, 0, 500, 0), 7_500_000),
        // no cached price: cached and written as input, reasoning as output
        (list.of("plain"), usage(1_000, 400, 300, 500, 200), 7_500_000),
        // 10 × 3 + 60 × 0.30 + 30 × 3.75 + 5 × 15 + 15 × 20 = 535.5
        (list.of("every-class"), usage(100, 60, 30, 20, 15), 535_500),
        // one token: $0.0000003, cached
        (list.of("every-class"), usage(1, 1, 0, 0, 0), 300),
        // 200,000 × 1.25 + 10 × 10: not yet long
        (list.of("long-context"), usage(200_000, 0, 0, 10, 0), 250_100_000),
        // 150,001 × 2.50 + 50,000 × 0.25 + 10 × 15: every token at the long price
        (list.of("long-context"), usage(200_001, 50_000, 0, 10, 0), 387_652_500),
        // 128,001 × 0.15 + 10 × 0.60: reasoning is not cheaper than what it is part of
        (list.of("long-at-128k"), usage(128_001, 0, 0, 10, 10), 19_206_150),
        // 2 × 0.0435 + 1 × 0.0081: rounded up once
        (list.of("two-steps"), usage(3, 1, 0, 0, 0), 96),
        (list.of("two-steps"), usage(1, 1, 0, 0, 0), 9),
        // both steps above the first are billed at the last
        (list.of("two-steps"), usage(32_001, 0, 0, 1, 0), 8_641_350),
        (list.of("tiered"), usage(256_000, 0, 0, 1, 0), 12_800_400),
        (list.of("tiered"), usage(256_001, 0, 0, 1, 0), 64_002_250),
        (list.of("noisy"), usage(1_000_000, 0, 0, 1_000_000, 0), 2_400_000_000),
        (list.of("embedding"), usage(1_000, 0, 0, 0, 0), 20_000),
        (list.of("free"), usage(1_000, 0, 0, 1_000, 0), 0),
        (list.of("writes-are-free"), usage(10, 0, 10, 0, 0), 2_800),
        // built in: 70 × 1.25 + 30 × 0.125 + 100 × 10
        (built_in.of("gpt-5"), usage(100, 30, 0, 100, 64), 1_091_250),
        // 10 × 3 + 80 × 0.30 + 10 × 3.75 + 50 × 15
        (built_in.of("claude-sonnet-4-5"), usage(100, 80, 10, 50, 0), 841_500),
        // unknown: 2 × 5 + 1 × 25
        (built_in.of("nobody-knows"), usage(2, 1, 1, 1, 1), 35_000),
    ];
    for (rate, usage, bill) in cases {
        assert_eq!(rate.cost(&usage), bill, "{usage:?} at {rate:?}");
    }
}

#[test]
fn counts_that_contradict_each_other_are_cut() {
    let rate = fixture().of("every-class");
    assert_eq!(rate.cost(&usage(10, 99, 99, 10, 99)), rate.cost(&usage(10, 10, 0, 10, 10)));
}

#[test]
fn no_sum_overflows() {
    let dear = Rate::flat(Price::of_tokens(u64::MAX, u64::MAX), None);
    assert_eq!(dear.cost(&usage(u64::MAX, 1, 1, u64::MAX, 1)), i64::MAX);
    assert_eq!(dear.most(u64::MAX, u64::MAX), i64::MAX);
    assert_eq!(dear.input(u64::MAX), i64::MAX);
    assert_eq!(STAND_IN.output(u64::MAX), i64::MAX);
}

#[test]
fn a_reservation_knows_the_length_of_the_prompt() {
    let rate = fixture().of("long-context");
    assert_eq!(rate.input(200_000), 250_000_000);
    assert_eq!(rate.input(400_000), 1_000_000_000);
    assert_eq!(rate.output(100), 1_000_000);
    assert_eq!(rate.for_prompt(200_000).output(100), 1_000_000);
    assert_eq!(rate.for_prompt(200_001).output(100), 1_500_000);
    assert_eq!(rate.for_prompt(200_001).input(1), 2_500);
    // written input and reasoning are what this model asks most for
    assert_eq!(fixture().of("every-class").most(100, 10), 575_000);
}

#[test]
fn the_file_is_read_exactly() {
    let list = fixture();
    let every = list.of("every-class");
    let price = Price {
        input: 3_000_000,
        output: 15_000_000,
        cached_input: Some(300_000),
        cache_write: Some(3_750_000),
        reasoning: Some(20_000_000),
    };
    assert_eq!(every, Rate { price, long: None, max_output: Some(64_000), known: true });
    assert_eq!(list.of("noisy").price, Price::of_tokens(400_000, 2_000_000));
    assert_eq!(list.of("long-context").long.map(|long| long.above), Some(200_000));
    assert_eq!(list.of("long-at-128k").long.map(|long| long.above), Some(128_000));
    assert_eq!(list.of("two-steps").long.map(|long| long.above), Some(32_000));
    assert_eq!(list.of("embedding").price, Price::of_tokens(20_000, 0));
    for not_by_token in ["sample_spec", "by-the-picture", "by-the-second"] {
        assert_eq!(list.of(not_by_token), STAND_IN, "{not_by_token}");
    }
}

#[test]
fn numbers_are_read_as_decimals() {
    let cases = [
        ("0", Some(0)),
        ("0.0", Some(0)),
        ("5e-06", Some(5_000_000)),
        ("5E-6", Some(5_000_000)),
        ("0.000005", Some(5_000_000)),
        ("1.25e-06", Some(1_250_000)),
        ("1.886e-07", Some(188_600)),
        ("2.0751953125e-09", Some(2_075)),
        ("2.9999900000000002e-06", Some(2_999_990)),
        ("0.49e-12", Some(0)),
        ("0.5e-12", Some(1)),
        ("1e-400", Some(0)),
        ("1.5552", Some(1_555_200_000_000)),
        ("12e+2", Some(1_200_000_000_000_000)),
        ("1234567890123456789012345678e-27", Some(1_234_567_890_123)),
        ("1e8", None),
        ("1e400", None),
        ("1e99999999999", None),
        ("1e2147483647", None),
        ("-1e-06", None),
        ("+1", None),
        ("1.", None),
        (".5", None),
        ("", None),
        ("e", None),
        ("five", None),
        ("1_000", None),
    ];
    for (text, expected) in cases {
        assert_eq!(decimal::trillionths(text), expected, "{text}");
    }
}

#[test]
fn a_model_is_found_by_its_other_names() {
    let list = fixture();
    let cases = [
        ("gemini/of-its-vendor", 1_000_000),
        ("of-its-vendor", 1_000_000),
        ("models/of-its-vendor", 1_000_000),
        ("of-its-vendor-latest", 1_000_000),
        ("dear/of-its-vendor", 9_000_000),
        // of several hosts the dearest
        ("lab/open-weights", 200_000),
        ("cheap/lab/open-weights", 100_000),
        // its own date before none
        ("a-snapshot-2025-08-07", 4_000_000),
        ("a-snapshot-2026-01-31", 2_000_000),
        ("a-snapshot-20260131", 2_000_000),
        ("host/a-snapshot@20260131", 2_000_000),
        ("publishers/someone/models/a-snapshot@default", 2_000_000),
        // the file before the table that is built in
        ("gpt-4o", 7_000_000),
        ("openai/gpt-4o-2024-08-06", 7_000_000),
        // and the table where the file is silent
        ("gpt-4o-mini-2024-07-18", 150_000),
        ("anthropic/claude-haiku-4-5-20251001", 1_000_000),
        ("models/gemini-2.5-pro", 1_250_000),
    ];
    for (name, input) in cases {
        let rate = list.of(name);
        assert_eq!((rate.price.input, rate.known), (input, true), "{name}");
    }
    let strangers =
        ["", "/", "@", "-latest", "-20250929", "a-snapshot-2025-8-7", "a-snapshot-202508071"];
    for name in strangers {
        assert_eq!(list.of(name), STAND_IN, "{name}");
    }
}

#[test]
fn the_policy_comes_first_and_its_first_glob_wins() {
    let globs = [("gpt-4o*", price(1, 2)), ("gpt-*", price(3, 4)), ("plain", price(0, 0))];
    let list = with_globs(&globs);
    assert_eq!(list.of("gpt-4o").price, price(1, 2));
    assert_eq!(list.of("gpt-5").price, price(3, 4));
    assert!(list.of("gpt-anything").known);
    // its price is all of its price; how long its answers get is still known
    assert_eq!(list.of("gpt-5").max_output, Some(128_000));
    assert_eq!(list.of("gpt-5.5").long, None);
    assert_eq!(list.of("plain"), Rate::flat(price(0, 0), Some(16_384)));
    assert_eq!(list.of("every-class"), fixture().of("every-class"));
}

#[test]
fn an_unknown_model_is_told_and_not_free() {
    let rate = PriceList::default().of("my-own-finetune");
    assert!(!rate.known);
    assert_eq!((rate.price.input, rate.price.output), (5_000_000, 25_000_000));
    assert_eq!(rate.max_output, None);
}

#[test]
fn a_file_that_is_wrong_says_where() {
    let cases = [
        ("[]", "invalid type: sequence, expected a map at line 1 column 0"),
        (
            r#"{"a": 1}"#,
            r#"model "a": invalid type: integer `1`, expected a map at line 1 column 1"#,
        ),
        (
            r#"{"a": {"input_cost_per_token": -1e-06}}"#,
            r#"model "a": input_cost_per_token is -1e-06, not a price"#,
        ),
        (
            r#"{"a": {"input_cost_per_token": "cheap"}}"#,
            r#"model "a": input_cost_per_token is "cheap", not a price"#,
        ),
        (
            r#"{"a": {"input_cost_per_token": 1, "output_cost_per_token": 1e30}}"#,
            r#"model "a": output_cost_per_token is 1e30, not a price"#,
        ),
        (r#"{"a": {"tiered_pricing": [{"range": []}]}}"#, r#"model "a": range has no beginning"#),
    ];
    for (text, why) in cases {
        assert_eq!(file::read(text).unwrap_err(), why, "{text}");
    }
    let file = PathBuf::from("/nowhere/prices.json");
    let error = PriceList::prepare(&Prices { file: Some(file), ..Prices::default() }).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("price_file /nowhere/prices.json: No such file"), "{text}");
}

#[test]
fn every_row_of_the_table_is_a_price() {
    let rows: Vec<_> = table::rows(table::TEXT).collect();
    assert!(rows.len() >= 60, "{}", rows.len());
    let mut seen = HashSet::new();
    for (row, line) in rows.iter().zip(table::TEXT.lines().filter(|line| !line.starts_with('#'))) {
        let (name, rate) = row.unwrap_or_else(|| panic!("{line}"));
        assert!(seen.insert(name), "{name} twice");
        assert!(!name.contains('/'), "{name}: prefixes are taken off before the look-up");
        assert!(rate.known && rate.price.input > 0, "{name}");
        assert!(rate.price.cached() <= rate.price.input, "{name}");
        assert!(rate.price.written() >= rate.price.input, "{name}");
        let embeds = rate.price.output == 0;
        assert_eq!(embeds, name.contains("embed") || name.starts_with("voyage"), "{name}");
        assert_eq!(embeds, rate.max_output.is_none(), "{name}");
        if let Some(long) = rate.long {
            assert!(long.above >= 100_000, "{name}");
            assert!(long.price.input > rate.price.input, "{name}");
            assert!(long.price.output > rate.price.output, "{name}");
        }
    }
    for bad in
        ["", "a", "a,1,,,2", "a,1,,,2,x", "a,1,,,2,9,100", "a,1,,,2,9,1,1,,,1,1", "a,x,,,2,9"]
    {
        assert_eq!(table::rows(&format!("{bad}\n")).collect::<Vec<_>>(), [None], "{bad}");
    }
}

#[test]
fn invented_names_take_no_memory() {
    let list = fixture();
    for number in 0..10 * MAX_ANSWERS {
        assert!(!list.of(&format!("invented-{number}")).known);
    }
    assert!(list.answers.read().len() <= MAX_ANSWERS);
    let long = format!("plain/{}", "x".repeat(MAX_NAME));
    let kept = list.answers.read().len();
    assert!(!list.of(&long).known);
    assert_eq!(list.answers.read().len(), kept);
    assert!(list.of("plain").known);
}

/// Prints what a look-up and a bill take: `cargo test --release -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn what_it_takes() {
    let list = fixture();
    let used = usage(12_345, 10_000, 1_000, 678, 500);
    let rounds = 1_000_000;
    let begin = std::time::Instant::now();
    for _ in 0..rounds {
        std::hint::black_box(list.of(std::hint::black_box("claude-sonnet-4-5-20250929")));
    }
    println!("of: {} ns", begin.elapsed().as_nanos() / rounds);
    let rate = list.of("every-class");
    let begin = std::time::Instant::now();
    for _ in 0..rounds {
        std::hint::black_box(rate.cost(std::hint::black_box(&used)));
    }
    println!("cost: {} ns", begin.elapsed().as_nanos() / rounds);
}

/// Holds a whole price file against what was read of it, and the table against the file; to bring
/// the table up to date: `PRICE_FILE=… cargo test --lib price -- --ignored --nocapture a_whole_file`.
#[test]
#[ignore = "needs a price file"]
fn a_whole_file_says_what_was_read() {
    let path = PathBuf::from(std::env::var_os("PRICE_FILE").expect("PRICE_FILE"));
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read_to_string(&path).unwrap().into_bytes()).unwrap();
    let list = PriceList::prepare(&Prices { file: Some(path), models: Vec::new() }).unwrap();
    let mut compared = 0;
    for (name, entry) in json.as_object().unwrap().iter().filter(|(name, _)| *name != "sample_spec")
    {
        let told = |key: &str| entry.get(key).and_then(serde_json::Value::as_f64);
        let (Some(input), Some(output)) =
            (told("input_cost_per_token"), told("output_cost_per_token"))
        else {
            continue;
        };
        let rate = list.of(name);
        assert!(rate.known, "{name}");
        let million = usage(10_000, 1_000, 0, 1_000, 0);
        let cached = told("cache_read_input_token_cost").unwrap_or(input);
        let dollars = 9_000.0 * input + 1_000.0 * cached + 1_000.0 * output;
        let ours = rate.cost(&million) as f64 / 1e9;
        assert!((ours - dollars).abs() <= 1e-8 + dollars * 1e-6, "{name}: {ours} for {dollars}");
        compared += 1;
    }
    println!("{compared} models agree");
    for (name, rate) in table::rows(table::TEXT).flatten() {
        let told = list.of(name);
        let same = told.price.input == rate.price.input
            && told.price.output == rate.price.output
            && told.price.cached() == rate.price.cached()
            && told.long.map(|long| long.above) == rate.long.map(|long| long.above);
        if !same {
            println!("{name}: {rate:?} in the table, {told:?} in the file");
        }
    }
}

prop_compose! {
    /// As price lists are: cached input is cheaper, written dearer, long prompts dearer.
    fn rates()(
        input in 0..1_000_000_000_u64,
        output in 0..1_000_000_000_u64,
        cached in proptest::option::of(0..=100_u64),
        written in proptest::option::of(100..300_u64),
        long in proptest::option::of((0..2_000_u64, 100..300_u64)),
    ) -> Rate {
        let price = Price {
            input,
            output,
            cached_input: cached.map(|percent| input * percent / 100),
            cache_write: written.map(|percent| input * percent / 100),
            reasoning: None,
        };
        let by = |value: u64, percent| value * percent / 100;
        let long = long.map(|(above, percent)| LongContext {
            above,
            price: Price {
                input: by(input, percent),
                output: by(output, percent),
                cached_input: price.cached_input.map(|value| by(value, percent)),
                cache_write: price.cache_write.map(|value| by(value, percent)),
                reasoning: None,
            },
        });
        Rate { long, ..Rate::flat(price, None) }
    }
}

prop_compose! {
    fn usages()(
        input in 0..4_000_u64,
        cached in 0..4_000_u64,
        written in 0..4_000_u64,
        output in 0..4_000_u64,
        reasoning in 0..4_000_u64,
    ) -> Usage {
        usage(input, cached, written, output, reasoning)
    }
}

proptest! {
    #[test]
    fn more_tokens_never_cost_less(rate in rates(), used in usages(), more in 1..2_000_u64) {
        let bill = rate.cost(&used);
        let read = Usage { input: used.input + more, ..used };
        prop_assert!(rate.cost(&read) >= bill, "input");
        let said = Usage { output: used.output + more, ..used };
        prop_assert!(rate.cost(&said) >= bill, "output");
        let thought = Usage { reasoning: used.reasoning + more, ..used };
        prop_assert!(rate.cost(&thought) >= bill, "reasoning");
        let cached = Usage { cached_input: used.cached_input + more, ..used };
        prop_assert!(rate.cost(&cached) <= bill, "cached input is cheaper");
        let written = Usage { cache_write: used.cache_write + more, ..used };
        prop_assert!(rate.cost(&written) >= bill, "written input is dearer");
    }

    #[test]
    fn a_reservation_of_the_most_covers_the_bill(rate in rates(), used in usages()) {
        prop_assert!(rate.most(used.input, used.output) >= rate.cost(&used));
    }

    #[test]
    fn a_bill_is_exact_to_a_billionth(rate in rates(), used in usages()) {
        let nano = i128::from(rate.cost(&Usage { input: used.input, ..Usage::default() })) * 1000;
        let exact = i128::from(used.input) * i128::from(rate.price_at(used.input).input);
        prop_assert!((0..1000).contains(&(nano - exact)), "{nano} for {exact}");
    }

    #[test]
    fn a_shown_decimal_reads_back(number in any::<u64>()) {
        let (dollars, rest) = (number / 1_000_000_000_000, number % 1_000_000_000_000);
        prop_assert_eq!(decimal::trillionths(&format!("{dollars}.{rest:012}")), Some(number));
        prop_assert_eq!(decimal::trillionths(&format!("{number}e-12")), Some(number));
        prop_assert_eq!(decimal::trillionths(&format!("{number}000E-15")), Some(number));
    }

    #[test]
    fn no_text_panics(text in any::<String>(), number in "[0-9]{0,60}[.]?[0-9]{0,60}e?-?[0-9]{0,12}") {
        let _ = (decimal::trillionths(&text), decimal::trillionths(&number), file::read(&text));
        let _ = name::find(&text, |_| None::<()>);
    }
}

use proptest::prelude::*;

use super::*;

mod figures;

fn same(a: &str, b: &str) -> Verdict {
    let (a, b) = (Question::read(a), Question::read(b));
    judge(&a, &b, a.vector().cosine(&b.vector()))
}

#[test]
fn the_canonical_form_folds_manners_alone() {
    let form = |text| Question::read(text).canonical().map(str::to_owned);
    let wanted = Some("how do i cancel a hotel booking".to_owned());
    for text in [
        "How do I cancel a hotel booking?",
        "HOW DO I CANCEL A HOTEL BOOKING",
        "um hi how do i cancel a hotel booking",
        "Hi there! How do I cancel a hotel booking, please?! Thanks in advance",
        "Sorry to bother you, but how do I cancel a hotel booking",
        "Could you please tell me how do I cancel a hotel booking?",
    ] {
        assert_eq!(form(text), wanted, "{text}");
    }
    assert_eq!(form("What's on?"), form("what is on"));
    for (a, b) in [
        ("How do you say thanks", "How do you say please"),
        ("How do you say hello", "How do you say hi"),
        ("hello world in Python", "hi world in Python"),
        ("Tell us about it", "Tell US about IT"),
        ("Is 3.10 newer?", "Is 3.1 newer?"),
        ("Is it on?", "Isn't it on?"),
    ] {
        assert_ne!(form(a), form(b), "{a} / {b}");
    }
    for text in ["", "?!", "Fix the case: \"Hello\"", "let x = foo();"] {
        assert_eq!(form(text), None, "{text}");
    }
}

#[test]
fn a_long_text_is_cut() {
    let question = Question::read(&"ä".repeat(1 << 20));
    assert_eq!(question.unfit(), Some(Unfit::TooLong));
    assert_eq!(question.canonical(), None);
    assert!(question.text().len() <= LONGEST);
}

#[test]
fn one_question_in_two_wordings_is_the_same() {
    for (a, b) in [
        ("How do I renew my library books online?", "How can I renew my library books online?"),
        ("Where can I park near the town hall?", "Near the town hall, where can I park?"),
        ("Is there step-free access at the station?", "Is there step-free acess at the staion?"),
        ("Is there Wi-Fi on the flight?", "Is Wi-Fi available on the flight?"),
        ("Can I bring my own wine?", "Is it OK to bring my own wine?"),
    ] {
        let verdict = same(a, b);
        assert!(verdict.same, "{a} / {b}: {verdict:?}");
    }
}

#[test]
fn another_question_is_not() {
    for (a, b, veto) in [
        ("Can I pay with PayPal?", "Can I pay with Klarna?", "name"),
        ("How do I lock my debit card?", "How do I unlock my debit card?", "antonym"),
        ("Which plans include calls?", "Which plans don't include calls?", "negation"),
        ("Book a table for 2 at noon", "Book a table for twelve at noon", "number"),
        ("Convert a Word document to PDF", "Convert a PDF to Word document", "order"),
        ("Can I replace a radiator?", "Can I replace a boiler?", "word"),
        ("How do I get paid for my team?", "How do I get paid for a team?", "scope"),
    ] {
        assert_eq!(same(a, b).veto, Some(veto), "{a} / {b}");
    }
}

#[test]
fn what_no_other_question_may_stand_for_is_named() {
    for (text, unfit) in [
        ("yes", Unfit::Anaphora),
        ("continue", Unfit::Anaphora),
        ("that one please", Unfit::Anaphora),
        ("What about Paris?", Unfit::Anaphora),
        ("Can you explain that again?", Unfit::Anaphora),
        ("How old is he?", Unfit::Anaphora),
        ("Fix `foo` in the parser", Unfit::Quote),
        ("Why does foo.bar() return null", Unfit::Code),
        ("Where is order 4821390", Unfit::Identifier),
        ("Write to anna@example.com about rent", Unfit::Identifier),
        ("What is the weather in Paris tomorrow?", Unfit::Time),
        ("Who won the election last year?", Unfit::Time),
        ("What is the balance of my savings account?", Unfit::Personal),
        ("Explain", Unfit::TooShort),
        ("∑ ∏ ∂ ∇ ∞", Unfit::Unreadable),
    ] {
        assert_eq!(Question::read(text).unfit(), Some(unfit), "{text}");
    }
    for text in [
        "Is it possible to park near the museum?",
        "Who runs Microsoft?",
        "How do I open a current account?",
    ] {
        assert_eq!(Question::read(text).unfit(), None, "{text}");
    }
}

#[test]
fn vectors_point_where_the_text_does() {
    let of = Vector::of;
    assert!(of("cancel my hotel booking").cosine(&of("cancel the hotel reservation")) > 0.8);
    assert!(of("cancel my hotel booking").cosine(&of("recipe for tomato soup")) < 0.5);
    assert!((of("hello there").cosine(&of("Hello, there")) - 1.0).abs() < 0.2);
    assert!(of("").cosine(&of("hello")).abs() < f32::EPSILON);
    let length = (of("a text of some words").dot(&of("a text of some words")) as f32).sqrt();
    assert!((length - Vector::SCALE as f32).abs() < 3.0, "{length}");
}

#[test]
fn a_cosine_that_is_none_is_far() {
    let question = Question::read("How do I renew my passport?");
    for cosine in [f32::NAN, -1.0, 0.0, f32::NEG_INFINITY] {
        assert_eq!(judge(&question, &question, cosine).veto, Some("far"));
    }
    assert!(judge(&question, &question, 1.0).same);
}

#[test]
fn answers_agree_disagree_or_are_not_told() {
    for (a, b, wanted) in [
        ("Paris.", "paris", Agreement::Same),
        ("The capital of France is Paris.", "The capital of France is Paris!", Agreement::Same),
        ("Yes, you can.", "No, you cannot.", Agreement::Different),
        ("It takes 3 days.", "It takes 5 days.", Agreement::Different),
        (
            "Boil the eggs for ten minutes.",
            "Your invoice is attached to the mail.",
            Agreement::Different,
        ),
        ("", "Something", Agreement::Different),
        (
            "Open the settings, choose Security and then reset your password there.",
            "To begin with, look for the gear. Below Security you will find a way to set another password.",
            Agreement::Unsure,
        ),
    ] {
        assert_eq!(agree(a, b), wanted, "{a} / {b}");
        assert_eq!(agree(b, a), wanted, "{b} / {a}");
    }
}

/// Words that the rules look at, so that random texts meet them.
fn texts() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "how",
        "do",
        "i",
        "can",
        "what",
        "is",
        "the",
        "a",
        "please",
        "hi",
        "thanks",
        "to",
        "from",
        "at",
        "London",
        "5",
        "$",
        "%",
        "don't",
        "US",
        "available",
        "cost",
        "much",
        "go",
        "about",
        "applying",
        "2",
        "hundred",
        "nd",
        ",",
        "?",
        "acount",
        "account",
        "you",
        "tell",
        "me",
        "\"",
        "\n",
        "it",
    ]);
    let words = prop::collection::vec(word, 0..12).prop_map(|words| words.join(" "));
    prop_oneof![words, any::<String>(), "[\\PC ]{0,80}"]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_verdict_is_the_same_both_ways(a in texts(), b in texts(), cosine in -1.0_f32..1.0) {
        let (a, b) = (Question::read(&a), Question::read(&b));
        prop_assert_eq!(judge(&a, &b, cosine), judge(&b, &a, cosine));
        prop_assert_eq!(agree(a.text(), b.text()), agree(b.text(), a.text()));
    }

    #[test]
    fn a_fit_question_is_the_same_as_itself(text in texts()) {
        let question = Question::read(&text);
        prop_assert_eq!(judge(&question, &question, 1.0).same, question.unfit().is_none());
    }

    #[test]
    fn the_canonical_form_of_a_canonical_form_is_itself(text in texts()) {
        if let Some(form) = Question::read(&text).canonical() {
            let again = Question::read(form);
            prop_assert!(again.canonical().is_none_or(|again| again.len() <= form.len()));
        }
    }
}

/// Not a test: prints what reading and judging cost, the best of many rounds. Run it with
/// `cargo test --profile quick --lib semantic::tests::cost -- --ignored --nocapture`.
#[test]
#[ignore = "prints times"]
fn cost() {
    use std::hint::black_box;

    fn time<T>(name: &str, run: impl Fn() -> T) {
        let round = |_| {
            let started = std::time::Instant::now();
            (0..100).for_each(|_| drop(black_box(run())));
            started.elapsed()
        };
        let best = (0..300).map(round).min().unwrap_or_default();
        println!("{name}: {:.2} µs", best.as_secs_f64() * 1e6 / 100.0);
    }
    let question =
        "Hi, how can I change the billing address on my business account before the next invoice?";
    let same = "How do I change the billing adress on my business account before the next invoice";
    let other = "How do I cancel the gym membership that I bought for my brother with a gift card?";
    let (x, y, z) = (Question::read(question), Question::read(same), Question::read(other));
    time("read", || Question::read(black_box(question)));
    time("vector", || Vector::of(black_box(question)));
    time("judge, the same", || judge(&x, &y, 0.9));
    time("judge, another", || judge(&x, &z, 0.9));
    time("cosine", || x.vector().cosine(&y.vector()));
}

use super::*;

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

//! Pairs that an attacker, or an unlucky writer, would find.
use super::*;

fn folds_to_one(a: &str, b: &str) -> bool {
    let (a, b) = (Question::read(a), Question::read(b));
    a.canonical().is_some() && a.canonical() == b.canonical()
}

#[test]
fn signs_that_make_another_number_stay() {
    let apart = [
        ("Convert .5 miles to km", "Convert 5 miles to km"),
        ("Convert 10,3 km to miles", "Convert 103 km to miles"),
        ("What is –5 plus 3?", "What is 5 plus 3?"),
        ("What is −5 plus 3?", "What is 5 plus 3?"),
        ("What is 5!", "What is 5"),
        ("What is 8 - 2?", "What is 8 : 2?"),
        ("What is 8 · 2?", "What is 8 - 2?"),
        ("What is 8 ÷ 2?", "What is 8 - 2?"),
        ("How many cm is 6'?", "How many cm is 6\"?"),
        ("How many cm is 6″?", "How many cm is 6′?"),
        ("Is 5‰ a lot of salt?", "Is 5 a lot of salt?"),
        ("٣٫٥ كيلو كم رطل", "٣٥ كيلو كم رطل"),
        ("३.५ किलो कितने पाउंड", "३५ किलो कितने पाउंड"),
        ("What is ３．５ times 2", "What is ３５ times 2"),
        ("Sum of [1,2] and 3", "Sum of [12] and 3"),
        ("what is x²", "what is x2"),
        ("what is 2^3", "what is 23"),
        ("what is 1/2 cup", "what is 12 cup"),
    ];
    let folded: Vec<_> = apart.iter().filter(|(a, b)| folds_to_one(a, b)).collect();
    assert!(folded.is_empty(), "{folded:#?}");
    for (a, b) in [
        ("Is 1,500 kg heavy?", "is 1500 kg heavy"),
        ("Costs 1,234,567.50 much?", "costs 1234567.50 much"),
        ("I have 3, how many more?", "i have 3 how many more"),
        ("wifi - not working", "WiFi not working"),
    ] {
        assert!(folds_to_one(a, b), "{a} / {b}");
    }
}

#[test]
fn signs_and_capitals_that_make_another_word_stay() {
    let apart = [
        ("Can O- donate to AB?", "Can O donate to AB?"),
        ("Which GPA is a B-?", "Which GPA is a B?"),
        ("Convert 5 mW to watts", "Convert 5 MW to watts"),
        ("How many Mb is 3 GB?", "How many MB is 3 GB?"),
        ("Who sings Thank You?", "Who sings Cheers?"),
        ("who sings thank you", "who sings please"),
        ("I do not know", "I do know"),
        ("I don’t eat meat", "I do eat meat"),
        ("I don‘t eat meat", "I do eat meat"),
        ("Is it n\u{200b}ot safe", "Is it safe"),
        ("Is it safe \u{202e}ton", "Is it safe"),
        ("Learn C++ fast", "Learn C fast"),
        ("Learn C# fast", "Learn C fast"),
        ("año nuevo", "ano nuevo"),
        ("is pаypal safe", "is paypal safe"),
        ("I am happy 🙂", "I am happy 🙁"),
    ];
    let folded: Vec<_> = apart.iter().filter(|(a, b)| folds_to_one(a, b)).collect();
    assert!(folded.is_empty(), "{folded:#?}");
    for (a, b) in [
        ("I don’t eat meat", "i don't eat meat"),
        ("Is 16 GB enough?", "is 16 gb enough"),
        ("How do I reset it? Thanks", "how do i reset it"),
    ] {
        assert!(folds_to_one(a, b), "{a} / {b}");
    }
}

#[test]
fn other_languages_are_not_judged() {
    for (a, b) in [
        ("¿Qué comes en la cena con tus amigos?", "¿Qué come en la cena con tus amigos?"),
        ("Tu manges quoi le soir avec Paul ?", "Tu mange quoi le soir avec Paul ?"),
        ("O que bebes no jantar com amigos", "O que bebe no jantar com amigos"),
        ("Wie komme ich am Montag nach Berlin", "Wie komme ich Montag nach Berlin"),
        ("Vado a Roma con Maria", "Vado Roma con Maria"),
        ("Wo kaufe ich die Fahrkarten", "Wo kaufe ich die Fahrkarten?"),
    ] {
        let (q, r) = (Question::read(a), Question::read(b));
        let verdict = judge(&q, &r, 0.99);
        assert_eq!((q.unfit(), verdict.same), (Some(Unfit::Unreadable), false), "{a}");
    }
}

use super::*;

fn ids(text: &str) -> Vec<u16> {
    let mut found = Vec::new();
    tokens(text, |token| found.push(token));
    found
}

#[test]
fn no_token_is_longer_than_what_is_looked_for() {
    let vocabulary = include_str!("../data/vocab.txt");
    assert_eq!(vocabulary.lines().map(str::len).max(), Some(LONGEST_TOKEN));
}

/// Texts with the tokens that Hugging Face's `tokenizers` makes of them, without `[UNK]`; written
/// by `packaging/semantic/tokens.py`.
#[test]
fn tokens_are_those_of_the_original() {
    let sample = include_str!("../../../tests/fixtures/semantic/tokens.jsonl");
    let mut texts = 0;
    for line in sample.lines() {
        let (text, wanted): (String, Vec<u16>) = serde_json::from_str(line).expect("a pair");
        assert_eq!(ids(&text), wanted, "{text:?}");
        texts += 1;
    }
    assert!(texts > 300, "{texts} texts");
}

#[test]
fn what_cannot_be_cut_is_left_out() {
    assert!(ids("").is_empty());
    assert!(ids(&"a".repeat(LONGEST_WORD + 1)).is_empty());
    assert!(ids("\u{0}\u{fffd}\u{200b}").is_empty());
}

use super::*;

#[test]
fn no_token_is_longer_than_what_is_looked_for() {
    let vocabulary = include_str!("../data/vocab.txt");
    assert_eq!(vocabulary.lines().map(str::len).max(), Some(LONGEST_TOKEN));
}

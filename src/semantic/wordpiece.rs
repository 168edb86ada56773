//! Texts into tokens, as BERT's uncased tokeniser makes them.
//!
//! Accents are stripped, letters lowered, text is split at spaces, around punctuation and around
//! each CJK character; then each word into the longest tokens that are known, from the left
//! (Devlin et al., 2018; "`WordPiece`" of Wu et al., 2016). Whole NFD is not carried along: a table
//! says what each character of the basic plane becomes. A word that cannot be cut is left out: the
//! token for it has a row of zeros.
use super::table::{self, DIMS, Hash};

static FOLDS: &[u8] = include_bytes!("data/folds.u16");

/// A longer word has no tokens, as in the original.
const LONGEST_WORD: usize = 100;

/// What a character is to the tokeniser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fold {
    Nothing,
    Punctuation,
    Space,
    Letter(char),
}

/// What becomes of a character, before it is lowered.
pub fn fold(char: char) -> Fold {
    match char {
        '\t' | '\n' | '\r' | ' ' => Fold::Space,
        _ if char.is_ascii_punctuation() => Fold::Punctuation,
        _ if char.is_control() => Fold::Nothing,
        _ if char.is_ascii() => Fold::Letter(char),
        '\u{e000}'..='\u{f8ff}' => Fold::Nothing,
        _ => unusual(char),
    }
}

fn unusual(char: char) -> Fold {
    let Ok(code) = u16::try_from(u32::from(char)) else { return Fold::Letter(char) };
    let (pairs, _) = FOLDS.as_chunks::<4>();
    let key = |pair: &[u8; 4]| u16::from_le_bytes([pair[0], pair[1]]);
    let Ok(at) = pairs.binary_search_by_key(&code, key) else { return Fold::Letter(char) };
    match u16::from_le_bytes([pairs[at][2], pairs[at][3]]) {
        0 => Fold::Nothing,
        1 => Fold::Punctuation,
        2 => Fold::Space,
        base => Fold::Letter(char::from_u32(base.into()).unwrap_or(char)),
    }
}

fn is_cjk(char: char) -> bool {
    matches!(u32::from(char),
        0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xf900..=0xfaff | 0x20000..=0x2a6df | 0x2a700..=0x2ceaf
        | 0x2f800..=0x2fa1f)
}

/// Calls `each` with the tokens of `text`, in order.
pub fn tokens(text: &str, mut each: impl FnMut(u16)) {
    let mut word = String::with_capacity(32);
    let mut end = |word: &mut String| {
        cut(word, &mut each);
        word.clear();
    };
    for char in text.chars() {
        match fold(char) {
            Fold::Nothing => {}
            Fold::Space => end(&mut word),
            Fold::Letter(letter) if !is_cjk(letter) => push(&mut word, letter),
            Fold::Punctuation | Fold::Letter(_) => {
                end(&mut word);
                // the two signs of Greek that NFD replaces
                word.push(match char {
                    '\u{37e}' => ';',
                    '\u{387}' => '·',
                    _ => char,
                });
                end(&mut word);
            }
        }
    }
    end(&mut word);
}

/// A letter, lowered; a syllable of Hangul as its two or three letters (Unicode 3.12).
fn push(word: &mut String, letter: char) {
    let code = u32::from(letter);
    if (0xac00..=0xd7a3).contains(&code) {
        let syllable = code - 0xac00;
        let (first, middle, last) = (syllable / 588, syllable % 588 / 28, syllable % 28);
        let letters = [0x1100 + first, 0x1161 + middle, 0x11a7 + last];
        let letters = &letters[..if last == 0 { 2 } else { 3 }];
        word.extend(letters.iter().filter_map(|&code| char::from_u32(code)));
    } else if letter.is_ascii() {
        word.push(letter.to_ascii_lowercase());
    } else {
        word.extend(letter.to_lowercase());
    }
}

/// The longest known tokens from the left; all of the word, or nothing.
fn cut(word: &str, each: &mut impl FnMut(u16)) {
    if word.is_empty() || word.chars().count() > LONGEST_WORD {
        return;
    }
    let mut found = [0; LONGEST_WORD];
    let mut count = 0;
    let mut at = 0;
    while at < word.len() {
        let Some((token, length)) = longest(&word[at..], at > 0) else { return };
        found[count] = token;
        count += 1;
        at += length;
    }
    found[..count].iter().for_each(|&token| each(token));
}

/// Bytes of the longest token.
const LONGEST_TOKEN: usize = 18;

/// The longest token that `rest` begins with, and its bytes.
fn longest(rest: &str, tail: bool) -> Option<(u16, usize)> {
    let mut hashes = [Hash::START; LONGEST_TOKEN];
    let mut hash = if tail { Hash::TAIL } else { Hash::START };
    for (slot, byte) in hashes.iter_mut().zip(rest.bytes()) {
        hash = hash.with(byte);
        *slot = hash;
    }
    let most = rest.len().min(LONGEST_TOKEN);
    (1..=most)
        .rev()
        .filter(|&end| rest.is_char_boundary(end))
        .find_map(|end| table::token(hashes[end - 1], tail, &rest[..end]).map(|token| (token, end)))
}

/// The sum of the rows of a text's tokens, and how many there are.
pub fn sum(text: &str) -> ([i32; DIMS], usize) {
    let mut sum = [0; DIMS];
    let mut count = 0;
    tokens(text, |token| {
        table::add(&mut sum, token);
        count += 1;
    });
    (sum, count)
}

#[cfg(test)]
mod tests;

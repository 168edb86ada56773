//! The embedding table and its vocabulary, as `packaging/semantic/pack.py` packs them.
//!
//! A row of the table is a scale in eighths and 64 values of four bits. The length of a row holds
//! the weight of its token (rare ones are longer), so a text's vector is the plain sum of its
//! rows. The bytes stay in the program's file until they are first read; the index over the
//! vocabulary (about 250 kB) is built at its first use. A process that never asks pays for neither.
use std::sync::OnceLock;

/// Dimensions of a vector.
pub const DIMS: usize = 64;

static ROWS: &[u8] = include_bytes!("data/table.q4");
static TOKENS: &str = include_str!("data/vocab.txt");
static WORDS: &[u8] = include_bytes!("data/words.bits");
static MORE: &[u8; 1 << 17] = include_bytes!("data/more.bloom");

/// One scale, then two values a byte.
const ROW: usize = 1 + DIMS / 2;
/// Twice the tokens and more, so that a search ends soon.
const SLOTS: usize = 1 << 16;

/// What tokens begin with that go on with a word.
pub const TAIL: &str = "##";

/// Where each token stands, by the hash of its text.
struct Index {
    starts: Box<[u32]>,
    /// The number of a token, or zero: the first token is never looked up.
    slots: Box<[u16]>,
}

static INDEX: OnceLock<Index> = OnceLock::new();

/// FNV-1a, so that the hashes of all beginnings of a word come in one pass.
#[derive(Clone, Copy)]
pub struct Hash(u32);

impl Hash {
    pub const START: Self = Self(0x811c_9dc5);
    /// After [`TAIL`].
    pub const TAIL: Self = Self::START.with(b'#').with(b'#');

    pub const fn with(self, byte: u8) -> Self {
        Self((self.0 ^ byte as u32).wrapping_mul(0x0100_0193))
    }

    fn of(text: &str) -> Self {
        text.bytes().fold(Self::START, Self::with)
    }

    /// The low bits of FNV-1a mix less than the high ones.
    fn slot(self) -> usize {
        (self.0 ^ (self.0 >> 15)) as usize % SLOTS
    }
}

impl Index {
    fn get() -> &'static Self {
        INDEX.get_or_init(Self::build)
    }

    fn build() -> Self {
        let mut starts = vec![0];
        let mut slots = vec![0; SLOTS].into_boxed_slice();
        for (token, text) in TOKENS.lines().enumerate() {
            starts.push(starts[token] + text.len() as u32 + 1);
            let mut slot = Hash::of(text).slot();
            while slots[slot] != 0 {
                slot = (slot + 1) % SLOTS;
            }
            slots[slot] = token as u16;
        }
        Self { starts: starts.into(), slots }
    }

    fn text(&self, token: u16) -> &'static str {
        let token = usize::from(token);
        &TOKENS[self.starts[token] as usize..self.starts[token + 1] as usize - 1]
    }
}

/// The token of `text`, whose hash is `hash`; one that goes on with a word is asked for without
/// its mark.
pub fn token(hash: Hash, tail: bool, text: &str) -> Option<u16> {
    let index = Index::get();
    let mut slot = hash.slot();
    loop {
        let token = index.slots[slot];
        if token == 0 {
            return None;
        }
        let found = index.text(token);
        let same = if tail { found.strip_prefix(TAIL) == Some(text) } else { found == text };
        if same {
            return Some(token);
        }
        slot = (slot + 1) % SLOTS;
    }
}

/// Whether this is a plain English word, in small letters; a name alone is none.
pub fn is_word(text: &str) -> bool {
    let bit =
        |token: u16| WORDS.get(usize::from(token / 8)).is_some_and(|b| b >> (token % 8) & 1 == 1);
    token(Hash::of(text), false, text).is_some_and(bit)
}

/// Whether this may be an English word or a name, of a list that is longer than the vocabulary: a
/// Bloom filter, wrong for one in twenty that are none.
pub fn may_be_word(text: &str) -> bool {
    let hash = hash64(text);
    let (high, low) = ((hash >> 32) as u32, hash as u32);
    (0..4).all(|turn| {
        let bit = high.wrapping_add(low.wrapping_mul(turn)) % (1 << 20);
        MORE[bit as usize / 8] >> (bit % 8) & 1 == 1
    })
}

/// FNV-1a of 64 bits.
pub fn hash64(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

/// Adds the row of a token, in eighths.
pub fn add(sum: &mut [i32; DIMS], token: u16) {
    let at = usize::from(token) * ROW;
    let Some([scale, values @ ..]) = ROWS.get(at..at + ROW) else { return };
    let scale = i32::from(*scale);
    let (low, high) = sum.split_at_mut(DIMS / 2);
    for ((low, high), &pair) in low.iter_mut().zip(high).zip(values) {
        let pair = pair.cast_signed();
        *low += i32::from((pair << 4) >> 4) * scale;
        *high += i32::from(pair >> 4) * scale;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_is_found_under_its_number() {
        for (number, text) in TOKENS.lines().enumerate().skip(1) {
            let (hash, tail, text) = match text.strip_prefix(TAIL) {
                Some(rest) if !rest.is_empty() => (Hash::of(text), true, rest),
                _ => (Hash::of(text), false, text),
            };
            assert_eq!(token(hash, tail, text), Some(number as u16), "{text}");
        }
        assert_eq!(ROWS.len(), TOKENS.lines().count() * ROW);
        assert_eq!(WORDS.len(), TOKENS.lines().count().div_ceil(8));
    }

    #[test]
    fn words_are_told_from_names_and_pieces() {
        for word in ["baggage", "evenings", "cancel"] {
            assert!(is_word(word), "{word}");
        }
        for other in ["luton", "bagage", "##ing", "", "xqzzt"] {
            assert!(!is_word(other), "{other}");
        }
        for word in ["baggage", "unblocked", "luton", "resent", "kirsten"] {
            assert!(may_be_word(word), "{word}");
        }
        for other in ["bagage", "acount", "chnage", "xqzzt"] {
            assert!(!may_be_word(other), "{other}");
        }
    }
}

//! Where the answers' bytes come from: a counter-based generator, a word list, and a few helpers
//! that append JSON to a buffer without `fmt`.
//!
//! Token `k` of an answer is a pure function of the answer's seed and `k`, so any part of an answer
//! can be written again at any time and no stream has to remember what it said.
//! The mixer is the finaliser of `SplitMix64` (Steele, Lea, Flood, 2014); the hash folds a 128-bit
//! product, as wyhash does. Neither is meant to resist an attacker.

/// The moment every answer claims to be made at: 2026-01-01T00:00:00Z, in Unix seconds.
pub(super) const CREATED: u64 = 1_767_225_600;

/// 64 words, each with the space before it. None needs escaping in JSON; a quarter of them holds
/// characters of two, three or four bytes.
const WORDS: [&str; 64] = [
    " the",
    " tide",
    " gate",
    " opens",
    " and",
    " slow",
    " water",
    " moves",
    " over",
    " sand",
    " while",
    " a",
    " harbour",
    " keeps",
    " its",
    " lights",
    " for",
    " ships",
    " that",
    " come",
    " late",
    " under",
    " wind",
    " or",
    " rain",
    " with",
    " cargo",
    " of",
    " salt",
    " paper",
    " maps",
    " then",
    " every",
    " rope",
    " is",
    " counted",
    " before",
    " dawn",
    " by",
    " quiet",
    " hands",
    " at",
    " low",
    " ebb",
    " no",
    " wave",
    " returns",
    " unchanged",
    " café",
    " naïve",
    " über",
    " señor",
    " Ærø",
    " smörgås",
    " łódź",
    " Привет",
    " море",
    " θάλασσα",
    " 潮汐",
    " 日本",
    " 한국",
    " شاطئ",
    " 🌊",
    " ⚓",
];

/// Bits of `x`, thoroughly stirred.
pub(super) const fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A 64-bit hash of `bytes`; the same on every machine.
pub(super) fn hash(bytes: &[u8], seed: u64) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut h = mix(seed ^ bytes.len() as u64);
    for word in words {
        h = fold(h ^ u64::from_le_bytes(*word), 0xa076_1d64_78bd_642f);
    }
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    mix(fold(h ^ u64::from_le_bytes(last), 0xe703_7ed1_a0b4_28db))
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

/// Token `k` of the text that `seed` stands for; the first has no space before it.
pub(super) fn word(seed: u64, k: u32) -> &'static str {
    let word = WORDS[(mix(seed.wrapping_add(u64::from(k))) & 63) as usize];
    if k == 0 { word.trim_ascii_start() } else { word }
}

/// Appends token `k`, cut or filled to `bytes` bytes where that is not 0.
pub(super) fn put_token(out: &mut Vec<u8>, seed: u64, k: u32, bytes: u32) {
    let word = word(seed, k);
    if bytes == 0 {
        out.put(word);
        return;
    }
    let bytes = bytes as usize;
    let kept = word.floor_char_boundary(bytes);
    out.put(&word[..kept]).fill(bytes - kept);
}

/// Appending to a buffer, in chains.
pub(super) trait Put {
    /// The text as it is.
    fn put(&mut self, text: &str) -> &mut Self;
    /// A number in decimal.
    fn num(&mut self, n: u64) -> &mut Self;
    /// 16 lower-case hexadecimal digits.
    fn hex(&mut self, n: u64) -> &mut Self;
    /// The text as the inside of a JSON string.
    fn escaped(&mut self, text: &str) -> &mut Self;
    /// The text as a JSON string.
    fn quoted(&mut self, text: &str) -> &mut Self {
        self.put("\"").escaped(text).put("\"")
    }
    /// `n` letters.
    fn fill(&mut self, n: usize) -> &mut Self;
}

const HEX: &[u8; 16] = b"0123456789abcdef";

impl Put for Vec<u8> {
    fn put(&mut self, text: &str) -> &mut Self {
        self.extend_from_slice(text.as_bytes());
        self
    }

    fn num(&mut self, n: u64) -> &mut Self {
        self.put(itoa::Buffer::new().format(n))
    }

    fn hex(&mut self, n: u64) -> &mut Self {
        let digits: [u8; 16] = std::array::from_fn(|i| HEX[((n >> (60 - 4 * i)) & 15) as usize]);
        self.extend_from_slice(&digits);
        self
    }

    fn escaped(&mut self, text: &str) -> &mut Self {
        for &byte in text.as_bytes() {
            match byte {
                b'"' => self.extend_from_slice(b"\\\""),
                b'\\' => self.extend_from_slice(b"\\\\"),
                b'\n' => self.extend_from_slice(b"\\n"),
                b'\r' => self.extend_from_slice(b"\\r"),
                b'\t' => self.extend_from_slice(b"\\t"),
                0..0x20 => {
                    self.extend_from_slice(b"\\u00");
                    self.push(HEX[usize::from(byte >> 4)]);
                    self.push(HEX[usize::from(byte & 15)]);
                }
                _ => self.push(byte),
            }
        }
        self
    }

    fn fill(&mut self, n: usize) -> &mut Self {
        self.resize(self.len() + n, b'x');
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_strings_are_written_as_json_wants_them() {
        let mut out = Vec::new();
        out.num(0).put(" ").num(u64::MAX).put(" ").hex(0xabc).put(" ").quoted("a\"\\\n\u{1}é");
        let want = "0 18446744073709551615 0000000000000abc \"a\\\"\\\\\\n\\u0001é\"";
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }

    #[test]
    fn a_token_has_the_asked_size_and_never_ends_inside_a_character() {
        for k in 0..500 {
            let mut out = Vec::new();
            put_token(&mut out, 3, k, 5);
            assert_eq!(out.len(), 5);
            assert!(String::from_utf8(out).is_ok());
        }
    }

    #[test]
    fn hash_tells_apart_length_content_and_seed() {
        let all = [
            hash(b"", 0),
            hash(b"\0", 0),
            hash(b"12345678", 0),
            hash(b"12345679", 0),
            hash(b"123456789", 0),
            hash(b"12345678", 1),
        ];
        for (i, a) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|b| a != b));
        }
    }
}

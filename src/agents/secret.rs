//! The one key of all keyed hashes: fingerprints of credentials, places in the table of keys, and
//! stand-ins for names that cannot be shown.
//!
//! BLAKE3 in its keyed mode: who does not have the key can neither make two inputs meet nor learn
//! anything of what was hashed. By default the key is drawn anew by each process; with a key of
//! the state directory, names made from credentials stay the same over restarts.
use std::fmt;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::Read as _;

use crate::identity::Fingerprint;

/// The key itself; it is never shown.
#[derive(Clone)]
pub struct HashKey([u8; 32]);

impl HashKey {
    /// Drawn for this process.
    pub fn random() -> Self {
        let mut drawn = [0; 32];
        // not aws-lc's: its first number takes a tenth of a second of collecting noise. It cannot fail
        // on the systems we run on; if it did, the second source would do alone
        let _ = File::open("/dev/urandom").and_then(|mut noise| noise.read_exact(&mut drawn));
        let mut hasher = blake3::Hasher::new();
        hasher.update(&drawn);
        for part in 0_u8..4 {
            hasher.update(&RandomState::new().hash_one(part).to_le_bytes());
        }
        Self(*hasher.finalize().as_bytes())
    }

    /// The same for the same pepper, and of no use to find the pepper out.
    pub fn derived(pepper: &[u8; 32]) -> Self {
        Self(blake3::derive_key("tidegate fingerprints v1", pepper))
    }

    /// Another key, for this purpose alone.
    pub fn secret(&self, purpose: &str) -> [u8; 32] {
        blake3::derive_key(purpose, &self.0)
    }

    /// Tells two texts apart: 128 bits.
    pub fn fingerprint(&self, text: &[u8]) -> Fingerprint {
        let hash = blake3::keyed_hash(&self.0, text);
        let mut short = [0; 16];
        short.copy_from_slice(&hash.as_bytes()[..16]);
        Fingerprint(short)
    }

    /// Where the key of this hash stands in a table: 256 bits, so no two share a place.
    pub fn place(&self, hash: &[u8; 32]) -> [u8; 32] {
        *blake3::keyed_hash(&self.0, hash).as_bytes()
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(…)")
    }
}

/// 16 hex digits, as a fingerprint is shown.
pub fn hex(fingerprint: Fingerprint) -> [u8; 16] {
    let mut out = [0; 16];
    for (digits, byte) in out.chunks_exact_mut(2).zip(fingerprint.0) {
        digits[0] = DIGITS[usize::from(byte >> 4)];
        digits[1] = DIGITS[usize::from(byte & 15)];
    }
    out
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_process_has_its_own_and_a_pepper_always_the_same() {
        let text = b"sk-a-credential";
        let (one, two) = (HashKey::random(), HashKey::random());
        assert_eq!(one.fingerprint(text), one.fingerprint(text));
        assert_ne!(one.fingerprint(text), two.fingerprint(text));
        assert_ne!(one.fingerprint(text), one.fingerprint(b"sk-another"));
        let [a, b] = [[1; 32], [1; 32]].map(|pepper| HashKey::derived(&pepper));
        assert_eq!(a.fingerprint(text), b.fingerprint(text));
        assert_ne!(a.fingerprint(text), HashKey::derived(&[2; 32]).fingerprint(text));
        assert!(!format!("{a:?}").contains(|digit: char| digit.is_ascii_digit()));
    }

    #[test]
    fn hex_is_as_the_fingerprint_shows_itself() {
        let fingerprint =
            Fingerprint([0, 1, 0x7f, 0x80, 0xab, 0xcd, 0xef, 0xff, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(hex(fingerprint), fingerprint.to_string().as_bytes());
    }
}

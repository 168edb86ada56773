//! What nobody may see: the pepper, the token of the admin listener, keys that were just made.
//!
//! No Debug shows any of them. Random bytes come from the system's generator through AWS-LC.
use std::fmt;

use aws_lc_rs::{constant_time, digest, hmac, rand};

use super::StoreError;

/// What every tidegate key begins with; 43 characters of base64url follow, 256 bits.
const PREFIX: &str = "tgk_";
/// Hexadecimal digits of a key's hash that name it.
const ID: usize = 8;

/// The key of the keyed hashes of stored keys: whoever has a copy of the database alone can check
/// no guess.
#[derive(Clone, PartialEq, Eq)]
pub struct Pepper([u8; 32]);

impl Pepper {
    pub(super) fn generate() -> Result<Self, StoreError> {
        random().map(Self)
    }

    /// From 64 hexadecimal digits.
    pub(super) fn read(text: &str) -> Option<Self> {
        unhex(text).map(Self)
    }

    pub(super) fn to_hex(&self) -> String {
        hex(&self.0)
    }

    /// The bytes themselves; for an HMAC, and nothing else.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(…)")
    }
}

/// Proves to the admin listener that its bearer can read the directory of the store.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    pub(super) fn generate() -> Result<Self, StoreError> {
        random::<32>().map(|bytes| Self(base64url(&bytes)))
    }

    /// One that somebody else made.
    pub fn of(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// In constant time.
    pub fn matches(&self, presented: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(self.0.as_bytes(), presented).is_ok()
    }

    /// The token itself; for the request that is about to be sent, and nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// A key that was just made: the only time it is known.
pub struct NewKey(String);

impl NewKey {
    pub fn generate() -> Result<Self, StoreError> {
        random::<32>().map(|bytes| Self(format!("{PREFIX}{}", base64url(&bytes))))
    }

    /// The key itself; for the person who asked for it, and nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The first 8 hexadecimal digits of its SHA-256: names the key without telling it.
    pub fn id(&self) -> String {
        let mut id = hex(&self.sha256());
        id.truncate(ID);
        id
    }

    pub fn sha256(&self) -> [u8; 32] {
        sized(digest::digest(&digest::SHA256, self.0.as_bytes()).as_ref())
    }

    /// HMAC-SHA256 under `pepper`.
    pub fn hmac(&self, pepper: &[u8]) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, pepper);
        sized(hmac::sign(&key, self.0.as_bytes()).as_ref())
    }
}

impl fmt::Debug for NewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewKey").field("id", &self.id()).finish_non_exhaustive()
    }
}

/// Whether it could be the id of a key.
pub(super) fn is_id(text: &str) -> bool {
    text.len() == ID && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

pub(super) fn random<const N: usize>() -> Result<[u8; N], StoreError> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| StoreError::Random)?;
    Ok(bytes)
}

/// All of a SHA-256, which has 32 bytes.
fn sized(hash: &[u8]) -> [u8; 32] {
    let mut sized = [0; 32];
    sized.copy_from_slice(hash);
    sized
}

pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// Exactly as many bytes as there is room for; digits of either case.
pub(super) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits: Vec<_> = text.chars().map(|digit| digit.to_digit(16)).collect::<Option<_>>()?;
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (pair[0] << 4 | pair[1]) as u8;
    }
    Some(bytes)
}

/// Without padding (RFC 4648, 5).
fn base64url(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - group.len()));
        for letter in 0..=group.len() {
            let at = bits >> (18 - 6 * letter) & 63;
            out.push(char::from(LETTERS[at as usize]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_as_the_standard_has_it() {
        // RFC 4648, 10
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg"),
            ("fo", "Zm8"),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg"),
            ("fooba", "Zm9vYmE"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64url(bytes.as_bytes()), text);
        }
        assert_eq!(base64url(&[0xfb, 0xff]), "-_8");
        assert_eq!(hex(&[0x00, 0x9f, 0xff]), "009fff");
        assert_eq!(unhex("009fFF"), Some([0x00, 0x9f, 0xff]));
        for wrong in ["", "009f", "009fff00", "009ff", "009fzz", "é9fff"] {
            assert_eq!(unhex::<3>(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_key_has_its_form_and_its_hashes() {
        let key = NewKey::generate().unwrap();
        assert_eq!(key.expose().len(), 4 + 43);
        assert!(key.expose().starts_with("tgk_"));
        assert!(is_id(&key.id()) && hex(&key.sha256()).starts_with(&key.id()));
        assert_ne!(NewKey::generate().unwrap().expose(), key.expose());
        // FIPS 180-2, and RFC 4231 test case 2
        let abc = NewKey("abc".to_owned());
        let sha = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!((hex(&abc.sha256()).as_str(), abc.id().as_str()), (sha, "ba7816bf"));
        let data = NewKey("what do ya want for nothing?".to_owned());
        let mac = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hex(&data.hmac(b"Jefe")), mac);
    }

    #[test]
    fn no_secret_is_shown() {
        let pepper = Pepper([0xab; 32]);
        let token = Token("plain-token".to_owned());
        let key = NewKey::generate().unwrap();
        let shown = format!("{pepper:?} {token:?} {key:?}");
        assert_eq!(shown, format!("Pepper(…) Token(…) NewKey {{ id: {:?}, .. }}", key.id()));
    }

    #[test]
    fn a_token_matches_itself_alone() {
        let token = Token::generate().unwrap();
        assert!(token.matches(token.expose().as_bytes()));
        let mut other = token.expose().as_bytes().to_vec();
        *other.last_mut().unwrap() ^= 1;
        for wrong in [&other[..], &other[..42], b"", &[other.as_slice(), b"x"].concat()] {
            assert!(!token.matches(wrong));
        }
    }
}

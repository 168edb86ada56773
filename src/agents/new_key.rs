//! Making a tidegate key: `tgk_` and 32 random bytes in base64url (RFC 4648, 5), without padding.
//!
//! The key is told once, to whom it is for; what is kept of it is a hash. 256 random bits need no
//! slow hash: there is nothing to guess.
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;

use super::presented::PREFIX;
use crate::config::Secret;
use crate::identity::Name;

/// The system gave no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gave no random bytes for a key")]
pub struct NoRandomness;

/// A key that nobody has yet.
#[derive(Debug)]
pub struct NewKey {
    /// The key itself, 47 characters; show it once.
    pub secret: Secret,
    /// Names it: the first 8 hex digits of its SHA-256.
    pub id: Name,
    pub sha256: [u8; 32],
}

impl NewKey {
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut random = [0; 32];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| NoRandomness)?;
        Ok(Self::of(&random))
    }

    fn of(random: &[u8; 32]) -> Self {
        let mut text = String::with_capacity(PREFIX.len() + 43);
        text.push_str(PREFIX);
        base64url(&mut text, random);
        let sha256 = sha256(text.as_bytes());
        Self { id: id(&sha256), sha256, secret: Secret::new(text) }
    }

    /// HMAC-SHA256 under a pepper: what the store keeps.
    pub fn hmac(&self, pepper: &[u8]) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, pepper);
        keyed(&key, self.secret.expose().as_bytes())
    }
}

/// The name of a key by its hash: 8 hex digits. It tells nothing that helps to find the key.
pub fn id(hash: &[u8; 32]) -> Name {
    let [a, b, c, d, ..] = *hash;
    format!("{:08x}", u32::from_be_bytes([a, b, c, d])).into()
}

pub fn sha256(text: &[u8]) -> [u8; 32] {
    of_slice(digest(&SHA256, text).as_ref())
}

pub fn keyed(key: &hmac::Key, text: &[u8]) -> [u8; 32] {
    of_slice(hmac::sign(key, text).as_ref())
}

/// Both algorithms give 32 bytes.
fn of_slice(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.iter_mut().zip(bytes).for_each(|(out, byte)| *out = *byte);
    out
}

fn base64url(out: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..=chunk.len() {
            let index = bits >> (18 - 6 * digit) & 63;
            out.push(char::from(DIGITS[index as usize]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4648, 10, and a digit of its own alphabet.
    #[test]
    fn base64_is_as_in_its_rfc() {
        for (bytes, want) in [
            (&b""[..], ""),
            (b"f", "Zg"),
            (b"fo", "Zm8"),
            (b"foo", "Zm9v"),
            (b"foobar", "Zm9vYmFy"),
            (b"\xfb\xff", "-_8"),
        ] {
            let mut out = String::new();
            base64url(&mut out, bytes);
            assert_eq!(out, want);
        }
    }

    #[test]
    fn hashes_are_as_in_their_standards() {
        // FIPS 180-2, appendix B.1; RFC 4231, test case 2
        let shown = |hash: [u8; 32]| hash.map(|byte| format!("{byte:02x}")).concat();
        assert!(shown(sha256(b"abc")).starts_with("ba7816bf8f01cfea414140de5dae2223"));
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"Jefe");
        let hash = keyed(&key, b"what do ya want for nothing?");
        assert!(shown(hash).starts_with("5bdcc146bf60754e6a042426089575c7"));
        assert_eq!(&*id(&sha256(b"abc")), "ba7816bf");
    }

    #[test]
    fn a_key_has_its_form_and_is_not_shown() {
        let [one, two] = [NewKey::generate().unwrap(), NewKey::generate().unwrap()];
        let text = one.secret.expose();
        assert!(text.len() == 47 && text.starts_with(PREFIX), "{text}");
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        assert!(text.bytes().all(word), "{text}");
        assert_ne!(text, two.secret.expose());
        assert_eq!(one.sha256, sha256(text.as_bytes()));
        assert_ne!(one.hmac(b"pepper"), one.hmac(b"other"));
        assert!(!format!("{one:?}").contains(&text[4..]));
    }
}

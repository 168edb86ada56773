//! The hashes that keys are known by. 256 random bits need no slow hash: there is nothing to guess.
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;

use crate::identity::Name;

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

#[cfg(test)]
mod tests {
    use super::*;

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
}

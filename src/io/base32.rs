//! Names of 128 bits as 26 characters: Crockford's base32 in lower case.
//!
//! One form alone: upper case, look-alikes and bits beyond the 128 are refused, so that a name can be
//! compared as text too.
//! <https://www.crockford.com/base32.html>

/// Characters of 128 bits, five each; the first has the three that are left.
pub const LEN: usize = 26;

const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// ASCII.
pub fn encode(bits: u128) -> [u8; LEN] {
    std::array::from_fn(|at| DIGITS[(bits >> (5 * (LEN - 1 - at)) & 31) as usize])
}

/// As [`encode`] writes them; `None` for anything else.
pub fn decode(text: &str) -> Option<u128> {
    if text.len() != LEN {
        return None;
    }
    let mut bits = 0_u128;
    for (at, byte) in text.bytes().enumerate() {
        let digit = DIGITS.iter().position(|digit| *digit == byte)?;
        if at == 0 && digit > 7 {
            return None;
        }
        bits = bits << 5 | digit as u128;
    }
    Some(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        for bits in [0, 1, u128::MAX, u128::MAX / 3, 1 << 127] {
            let text = encode(bits);
            let text = std::str::from_utf8(&text).unwrap();
            assert_eq!(decode(text), Some(bits), "{text}");
        }
        assert_eq!(encode(u128::MAX), *b"7zzzzzzzzzzzzzzzzzzzzzzzzz");
        let zeros = "0".repeat(LEN);
        for wrong in [
            format!("8{}", &zeros[1..]),
            format!("{}o", &zeros[1..]),
            format!("{}A", &zeros[1..]),
            format!("{}é", &zeros[2..]),
            zeros[1..].to_owned(),
            format!("{zeros}0"),
            String::new(),
        ] {
            assert_eq!(decode(&wrong), None, "{wrong}");
        }
    }
}

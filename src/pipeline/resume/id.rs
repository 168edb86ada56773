//! The name of a stream: `stream_` and 26 characters, from 128 random bits.
use std::fmt;

use aws_lc_rs::rand;

use crate::io::base32::{self, LEN};

const PREFIX: &str = "stream_";

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamId(u128);

/// As it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text([u8; LEN]);

impl StreamId {
    /// `None`: the system has no random bytes.
    pub fn new() -> Option<Self> {
        let mut bytes = [0; 16];
        rand::fill(&mut bytes).ok()?;
        Some(Self(u128::from_be_bytes(bytes)))
    }

    pub fn text(self) -> Text {
        Text(base32::encode(self.0))
    }

    /// As [`Self::text`] writes it, and in no other way.
    pub fn read(text: &str) -> Option<Self> {
        text.strip_prefix(PREFIX).and_then(base32::decode).map(Self)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", std::str::from_utf8(&self.0).unwrap_or_default())
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.text(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_is_written_and_in_no_other_way() {
        for bits in [0, 1, u128::MAX, u128::MAX / 3, 1 << 127] {
            let text = StreamId(bits).text().to_string();
            assert_eq!((text.len(), StreamId::read(&text)), (33, Some(StreamId(bits))), "{text}");
        }
        let (one, other) = (StreamId::new().unwrap(), StreamId::new().unwrap());
        assert_ne!(one, other);
        let text = one.text().to_string();
        for wrong in [
            text.to_uppercase(),
            text.replace("stream_", "task_"),
            format!("{text}0"),
            text[..32].to_owned(),
            format!("stream_8{}", &text[8..]),
            format!("stream_0{}u", &text[8..32]),
            String::new(),
        ] {
            assert_eq!(StreamId::read(&wrong), None, "{wrong}");
        }
    }
}

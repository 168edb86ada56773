//! `traceparent` as it is read and written: <https://www.w3.org/TR/trace-context-2/>.
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use super::TRACEPARENT;

/// The flag of a context that is recorded.
pub const SAMPLED: u8 = 1;
/// `00-`, 32 digits, `-`, 16 digits, `-`, 2 digits.
const LEN: usize = 55;

/// Where a call comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// Not zero.
    pub trace: u128,
    /// Not zero.
    pub span: u64,
    pub flags: u8,
}

impl Parent {
    /// `None` also where the header is there twice, or breaks the rules.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut all = headers.get_all(TRACEPARENT).iter();
        let first = all.next()?;
        if all.next().is_some() { None } else { Self::read(first.as_bytes()) }
    }

    /// Version 00 has these fields and no more; a later one may have more behind them.
    pub fn read(text: &[u8]) -> Option<Self> {
        let (fields, rest) = text.split_at_checked(LEN)?;
        let version = number(&fields[..2])? as u8;
        let goes_on = version > 0 && rest.starts_with(b"-");
        if version == 0xff || !(rest.is_empty() || goes_on) {
            return None;
        }
        if [fields[2], fields[35], fields[52]] != *b"---" {
            return None;
        }
        let trace = number(&fields[3..35]).filter(|trace| *trace != 0)?;
        let span = number(&fields[36..52]).filter(|span| *span != 0)? as u64;
        Some(Self { trace, span, flags: number(&fields[53..])? as u8 })
    }

    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }
}

/// Lower case alone: that is the rule.
fn number(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |so_far, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(so_far << 4 | u128::from(value))
    })
}

/// The context of a sampled span.
pub(super) fn header(trace: u128, span: u64) -> Option<HeaderValue> {
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-01";
    hex(&mut text[3..35], trace);
    hex(&mut text[36..52], span.into());
    HeaderValue::from_maybe_shared(Bytes::copy_from_slice(&text)).ok()
}

fn hex(out: &mut [u8], mut value: u128) {
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

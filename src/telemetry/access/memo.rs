//! What access lines repeat: times to the second, and texts as they are shown.
use jiff::Timestamp;

use super::format::masked;

/// What a worker keeps from line to line, because it mostly comes again.
#[derive(Debug, Default)]
pub(in crate::telemetry) struct Memos {
    pub stamp: Stamp,
    pub agents: Memo,
    pub teams: Memo,
    pub parents: Memo,
    pub sessions: Memo,
    pub paths: Memo,
    pub models: Memo,
    pub user_agents: Memo,
}

/// The last texts of a field as they are shown: a comparison is cheaper than masking and escaping
/// again. A slot is chosen by length, so texts that alternate mostly do not displace each other.
#[derive(Debug, Default)]
pub(in crate::telemetry) struct Memo([Shown; 8]);

#[derive(Debug, Default)]
struct Shown {
    text: String,
    bytes: Vec<u8>,
}

impl Memo {
    /// Longer texts are not kept: a client could make each worker hold them.
    const LONGEST: usize = 512;

    pub(in crate::telemetry) fn write(&mut self, out: &mut Vec<u8>, text: &str, cap: usize) {
        if text.len() > Self::LONGEST {
            masked(out, text, cap);
            return;
        }
        let shown = &mut self.0[text.len() % 8];
        if shown.text != text {
            text.clone_into(&mut shown.text);
            shown.bytes.clear();
            masked(&mut shown.bytes, text, cap);
        }
        out.extend_from_slice(&shown.bytes);
    }
}

/// RFC 3339 in UTC with milliseconds; the part down to the second is kept while it lasts.
#[derive(Debug, Default)]
pub(in crate::telemetry) struct Stamp {
    second: Option<u64>,
    text: [u8; 19],
}

impl Stamp {
    pub(in crate::telemetry) fn write(&mut self, out: &mut Vec<u8>, time_ms: u64) {
        let second = time_ms / 1000;
        if self.second != Some(second) {
            // What does not fit four digits of a year is shown as the epoch.
            let time = i64::try_from(second).ok().and_then(|s| Timestamp::from_second(s).ok());
            let text = time.unwrap_or_default().to_string();
            if let Some(text) = text.as_bytes().first_chunk() {
                self.text = *text;
            }
            self.second = Some(second);
        }
        out.extend_from_slice(&self.text);
        let digit = |value: u64| b'0' + (value % 10) as u8;
        out.extend_from_slice(&[
            b'.',
            digit(time_ms / 100),
            digit(time_ms / 10),
            digit(time_ms),
            b'Z',
        ]);
    }
}

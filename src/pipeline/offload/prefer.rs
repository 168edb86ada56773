//! What a request says of being answered later: `Prefer: respond-async, wait=10` (RFC 7240).
//!
//! Preferences that are not known are ignored, as that document wants it, and of one that is said
//! twice the first counts. A `wait` that is no whole number of seconds is as if it were not said, and a
//! longer one than [`LONGEST`] is taken for that.
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

const PREFER: HeaderName = HeaderName::from_static("prefer");
pub const APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// The longest that a caller is kept waiting, whatever it prefers.
pub const LONGEST: Duration = Duration::from_mins(1);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Prefer {
    pub respond_async: bool,
    /// In whole seconds, at most [`LONGEST`].
    pub wait: Option<Duration>,
}

impl Prefer {
    pub fn read(headers: &HeaderMap) -> Self {
        let mut prefer = Self::default();
        let mut waits = false;
        for value in headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok()) {
            for preference in value.split(',') {
                // what follows a semicolon are its parameters
                let said = preference.split(';').next().unwrap_or("").trim();
                let (name, value) = said.split_once('=').unwrap_or((said, ""));
                let (name, value) = (name.trim_end(), value.trim_start().trim_matches('"'));
                if name.eq_ignore_ascii_case("respond-async") {
                    prefer.respond_async = true;
                } else if name.eq_ignore_ascii_case("wait") && !waits {
                    waits = true;
                    prefer.wait = number(value).map(|wait| Duration::from_secs(wait).min(LONGEST));
                }
            }
        }
        prefer
    }

    /// How long to wait before it is answered later.
    pub fn patience(self) -> Duration {
        self.wait.unwrap_or_default()
    }

    /// What an answer says of it.
    pub fn applied(self, later: bool) -> Option<HeaderValue> {
        let said = match (later && self.respond_async, self.wait) {
            (true, None) => "respond-async".to_owned(),
            (true, Some(wait)) => format!("respond-async, wait={}", wait.as_secs()),
            (false, Some(wait)) => format!("wait={}", wait.as_secs()),
            (false, None) => return None,
        };
        HeaderValue::try_from(said).ok()
    }

    pub fn strip(headers: &mut HeaderMap) {
        headers.remove(PREFER);
    }
}

/// Digits alone: no sign, no blanks.
pub fn number(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&'static str]) -> (bool, Option<u64>) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(PREFER, HeaderValue::from_static(value));
        }
        let prefer = Prefer::read(&headers);
        (prefer.respond_async, prefer.wait.map(|wait| wait.as_secs()))
    }

    #[test]
    fn what_is_preferred() {
        for (values, want) in [
            (&[][..], (false, None)),
            (&["respond-async"], (true, None)),
            (&["Respond-Async"], (true, None)),
            (&["respond-async, wait=10"], (true, Some(10))),
            (&["respond-async", "wait=10"], (true, Some(10))),
            (&["wait = \"7\" ; why=not, respond-async; x=1"], (true, Some(7))),
            (&["wait=1, wait=2"], (false, Some(1))),
            (&["wait=soon, wait=2"], (false, None)),
            (&["wait=-1"], (false, None)),
            (&["wait=+1"], (false, None)),
            (&["handling=lenient, respond-asynchronously"], (false, None)),
        ] {
            assert_eq!(read(values), want, "{values:?}");
        }
    }

    #[test]
    fn the_answer_says_what_was_followed() {
        let said = |respond_async, wait: Option<u64>, later| {
            let prefer = Prefer { respond_async, wait: wait.map(Duration::from_secs) };
            prefer.applied(later).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(said(true, None, true).as_deref(), Some("respond-async"));
        assert_eq!(said(true, Some(3), true).as_deref(), Some("respond-async, wait=3"));
        assert_eq!(said(true, Some(3), false).as_deref(), Some("wait=3"));
        assert_eq!(said(true, None, false), None);
    }

    #[test]
    fn nobody_waits_too_long() {
        let mut headers = HeaderMap::new();
        headers.insert(PREFER, HeaderValue::from_static("respond-async, wait=32400"));
        let prefer = Prefer::read(&headers);
        assert_eq!(prefer.patience(), LONGEST);
        let said = prefer.applied(true).unwrap();
        assert_eq!(said, "respond-async, wait=60", "what is said is what was done");
    }
}

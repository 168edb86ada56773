//! What a request says of the cache: HTTP's own `Cache-Control` (RFC 9111, section 5.2.1), and
//! headers of ours. A caller may only narrow what the policy allows: a shorter life, a stricter
//! likeness, fewer tiers, a wall of its own.
use std::time::Duration;

use http::{HeaderMap, HeaderName, header};

const MODE: HeaderName = HeaderName::from_static("x-tidegate-cache-mode");
const TTL: HeaderName = HeaderName::from_static("x-tidegate-cache-ttl");
const MIN_SIMILARITY: HeaderName = HeaderName::from_static("x-tidegate-cache-min-similarity");
const NAMESPACE: HeaderName = HeaderName::from_static("x-tidegate-cache-namespace");

/// How far the tiers may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Reach {
    Off,
    Exact,
    Canonical,
    #[default]
    Semantic,
}

/// All that a request says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Control<'r> {
    pub bounds: Bounds,
    /// Keep nothing of it.
    pub no_store: bool,
    pub reach: Reach,
    pub min_similarity: Option<f64>,
    /// A wall of the caller's own.
    pub namespace: Option<&'r [u8]>,
}

/// Which answers will do, and for how long; it outlives the request's head.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Bounds {
    /// Nothing that is kept, and nothing that is on its way to another.
    pub no_cache: bool,
    pub only_if_cached: bool,
    pub max_age: Option<Duration>,
    pub min_fresh: Option<Duration>,
    /// The caller's own, for what is written and what is read.
    pub ttl: Option<Duration>,
}

impl<'r> Control<'r> {
    /// What does not make sense is as if it were not there, but for a mode: an unknown one is off.
    pub fn read(headers: &'r HeaderMap) -> Self {
        let mut control = Self::default();
        // most calls say nothing, and a walk over their names is cheaper than five searches
        let ours = |name: &HeaderName| {
            *name == header::CACHE_CONTROL || name.as_str().starts_with("x-tidegate-cache-")
        };
        if !headers.keys().any(ours) {
            return control;
        }
        for value in headers.get_all(header::CACHE_CONTROL) {
            for directive in value.as_bytes().split(|byte| *byte == b',') {
                control.directive(directive.trim_ascii());
            }
        }
        let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(mode) = headers.get(MODE) {
            control.reach = match mode.as_bytes().trim_ascii() {
                b"exact" => Reach::Exact,
                b"canonical" => Reach::Canonical,
                b"semantic" => Reach::Semantic,
                _ => Reach::Off,
            };
        }
        control.bounds.ttl = text(&TTL).and_then(seconds_or_duration);
        let similarity = |text: &str| text.trim().parse().ok();
        control.min_similarity = text(&MIN_SIMILARITY)
            .and_then(similarity)
            .filter(|least: &f64| (0.0..=1.0).contains(least));
        control.namespace = headers.get(NAMESPACE).map(http::HeaderValue::as_bytes);
        control
    }

    fn directive(&mut self, directive: &[u8]) {
        let mut parts = directive.splitn(2, |byte| *byte == b'=');
        let name = parts.next().unwrap_or_default().trim_ascii();
        let value = parts.next().unwrap_or_default().trim_ascii();
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("no-cache") {
            self.bounds.no_cache = true;
        } else if is("no-store") {
            self.no_store = true;
        } else if is("only-if-cached") {
            self.bounds.only_if_cached = true;
        } else if is("max-age") {
            self.bounds.max_age = seconds(value);
        } else if is("min-fresh") {
            self.bounds.min_fresh = seconds(value);
        }
    }
}

impl Bounds {
    /// Whether an answer of this age, with so much of its life left, will do.
    pub fn accepts(&self, age: Duration, left: Duration) -> bool {
        self.max_age.is_none_or(|most| age <= most && !most.is_zero())
            && self.min_fresh.is_none_or(|least| left >= least)
            && self.ttl.is_none_or(|ttl| age <= ttl)
    }
}

/// Delta-seconds; more than fits is as long as can be (RFC 9111, section 1.2.2).
fn seconds(value: &[u8]) -> Option<Duration> {
    let digits = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = std::str::from_utf8(digits).ok()?.parse().unwrap_or(u64::from(u32::MAX));
    Some(Duration::from_secs(seconds.min(u64::from(u32::MAX))))
}

/// `90` or `5m`
fn seconds_or_duration(text: &str) -> Option<Duration> {
    seconds(text.trim().as_bytes()).or_else(|| crate::units::duration(text.trim()).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn directives_are_read_wherever_they_stand() {
        let headers = read(&[
            ("cache-control", "No-Cache, max-age=\"90\" , stale-if-error=3"),
            ("cache-control", "only-if-cached,min-fresh=5"),
        ]);
        let Control { bounds, no_store, .. } = Control::read(&headers);
        assert!(bounds.no_cache && bounds.only_if_cached && !no_store);
        assert_eq!(bounds.max_age, Some(Duration::from_secs(90)));
        assert_eq!(bounds.min_fresh, Some(Duration::from_secs(5)));
    }

    #[test]
    fn a_caller_narrows_and_nonsense_is_nothing() {
        let headers = read(&[
            ("cache-control", "max-age=-1, max-age=x, =, ,"),
            ("x-tidegate-cache-ttl", "5m"),
            ("x-tidegate-cache-min-similarity", "7"),
            ("x-tidegate-cache-namespace", "v2"),
        ]);
        let control = Control::read(&headers);
        assert_eq!(control.bounds.max_age, None);
        assert_eq!(control.bounds.ttl, Some(Duration::from_mins(5)));
        assert_eq!((control.min_similarity, control.reach), (None, Reach::Semantic));
        assert_eq!(control.namespace, Some(&b"v2"[..]));
        let mode = |mode| Control::read(&read(&[("x-tidegate-cache-mode", mode)])).reach;
        assert_eq!(mode("exact"), Reach::Exact);
        assert_eq!(mode("everything"), Reach::Off);
        assert!(
            !Control::read(&read(&[("cache-control", "max-age=0")]))
                .bounds
                .accepts(Duration::ZERO, Duration::from_secs(9))
        );
    }

    #[test]
    fn ages_are_held_against_all_bounds() {
        let bounds = Bounds {
            max_age: Some(Duration::from_mins(1)),
            min_fresh: Some(Duration::from_secs(10)),
            ttl: Some(Duration::from_secs(30)),
            ..Bounds::default()
        };
        let [s5, s20, s40] = [5, 20, 40].map(Duration::from_secs);
        assert!(bounds.accepts(s20, s20));
        assert!(!bounds.accepts(s40, s20), "older than the caller's own ttl");
        assert!(!bounds.accepts(s20, s5), "not fresh for long enough");
    }
}

//! Whether our clock is right, by the `date` of what upstreams answer (RFC 9110, 6.6.1).
//!
//! Seconds since 1970 have no time zone and no summer time: only the moment counts. The middle of
//! all answers is taken, so that one backend with a wrong clock says nothing about ours.
use std::time::{Duration, SystemTime};

use jiff::fmt::rfc2822::DateTimeParser;

use super::finding::Finding;

/// `date` has whole seconds, and an answer takes a while.
const NEAR: i64 = 5;
/// Certificates, budgets by the calendar and signed webhooks go wrong beyond it.
const FAR: i64 = 60;

const CHECK: &str = "clock";

/// By how many seconds that clock is before ours. `None` if it is no date.
pub(super) fn offset(date: &str, at: SystemTime) -> Option<i64> {
    // "GMT" is a zone of RFC 2822, too
    let theirs = DateTimeParser::new().parse_timestamp(date).ok()?.as_second();
    let ours = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Some(theirs - ours.as_secs().cast_signed())
}

pub(super) fn finding(mut offsets: Vec<i64>) -> Finding {
    offsets.sort_unstable();
    let Some(&middle) = offsets.get(offsets.len() / 2) else {
        return Finding::skip(CHECK, "not compared: no upstream has told its date");
    };
    let word = if middle > 0 { "behind" } else { "ahead of" };
    let says = format!("{} s {word} the upstreams' ({} asked)", middle.abs(), offsets.len());
    let advice = "set the clock: `timedatectl set-ntp true`, or the hypervisor's";
    if middle.abs() <= NEAR {
        return Finding::ok(CHECK, format!("right, by {} upstream(s)", offsets.len()));
    }
    if middle.abs() <= FAR {
        return Finding::warn(CHECK, says, advice);
    }
    Finding::fail(CHECK, says, advice)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict::{Fail, Ok, Skip, Warn};
    use super::*;

    #[test]
    fn the_middle_of_all_answers_counts() {
        assert_eq!(finding(vec![]).verdict, Skip);
        assert_eq!(finding(vec![0, 2, 90_000]).verdict, Ok);
        assert_eq!(finding(vec![-20]).verdict, Warn);
        let late = finding(vec![7200, 7201, 0]);
        assert!(late.verdict == Fail && late.says.contains("7200 s behind"), "{late:?}");
    }

    #[test]
    fn a_date_is_a_moment() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(offset("Sun, 06 Nov 1994 08:49:37 GMT", at), Some(0));
        assert_eq!(offset("Sun, 06 Nov 1994 08:50:37 GMT", at), Some(60));
        assert_eq!(offset("yesterday", at), None);
    }
}

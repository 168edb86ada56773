//! When a certificate is good: a walk through its DER down to two dates (RFC 5280, 4.1).
//!
//! No parser crate: rustls keeps the dates to itself, and a full X.509 parser would bring a dozen
//! crates for these two fields. The certificate is our own and rustls has parsed it before.
use std::time::{Duration, SystemTime};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// `notAfter` of a certificate. `None` if it is not DER of the known shape.
pub(super) fn not_after(certificate: &[u8]) -> Option<SystemTime> {
    Some(dates(certificate)?.1)
}

/// `notBefore` and `notAfter` of a certificate. `None` if it is not DER of the known shape.
pub fn dates(certificate: &[u8]) -> Option<(SystemTime, SystemTime)> {
    let (certificate, _) = expect(certificate, SEQUENCE)?;
    let (mut fields, _) = expect(certificate, SEQUENCE)?;
    if let Some((_, after_version)) = expect(fields, VERSION) {
        fields = after_version;
    }
    // serialNumber, signature, issuer
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        fields = expect(fields, tag)?.1;
    }
    let (validity, _) = expect(fields, SEQUENCE)?;
    let (tag, begin, after_begin) = element(validity)?;
    let begin = date(tag, begin)?;
    let (tag, end, _) = element(after_begin)?;
    Some((begin, date(tag, end)?))
}

fn date(tag: u8, date: &[u8]) -> Option<SystemTime> {
    let date = std::str::from_utf8(date).ok()?;
    match tag {
        // two digits of the year: 1950 to 2049
        UTC_TIME if date.get(..2)? < "50" => time(&format!("20{date}")),
        UTC_TIME => time(&format!("19{date}")),
        GENERALIZED_TIME => time(date),
        _ => None,
    }
}

/// `YYYYMMDDHHMMSSZ`, the only form that RFC 5280 allows.
fn time(text: &str) -> Option<SystemTime> {
    let digits = text.strip_suffix('Z').filter(|digits| digits.len() == 14)?;
    let field = |from: usize, to: usize| digits.get(from..to)?.parse::<i8>().ok();
    let year = digits.get(..4)?.parse().ok()?;
    let (month, day) = (field(4, 6)?, field(6, 8)?);
    let (hour, minute, second) = (field(8, 10)?, field(10, 12)?, field(12, 14)?);
    let date = DateTime::new(year, month, day, hour, minute, second, 0).ok()?;
    let seconds = date.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second();
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds.try_into().ok()?))
}

/// The content of the first element, which must have this tag, and what follows it.
fn expect(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(der)?;
    (found == tag).then_some((content, rest))
}

/// Tag, content, and what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, der) = der.split_first()?;
    let (&first, mut der) = der.split_first()?;
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        let (bytes, rest) = der.split_at_checked(usize::from(first & 0x7f))?;
        if bytes.len() > 4 {
            return None;
        }
        length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        der = rest;
    }
    let (content, rest) = der.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ending(year: i32, month: u8, day: u8) -> Vec<u8> {
        let mut parameters = rcgen::CertificateParams::new(vec!["x.test".into()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(year, month, day);
        let key = rcgen::KeyPair::generate().unwrap();
        parameters.self_signed(&key).unwrap().der().to_vec()
    }

    fn unix(certificate: &[u8]) -> Option<u64> {
        not_after(certificate)?.duration_since(SystemTime::UNIX_EPOCH).ok().map(|t| t.as_secs())
    }

    #[test]
    fn both_forms_of_a_date_are_read() {
        assert_eq!(unix(&ending(2031, 2, 3)), Some(1_927_843_200));
        assert_eq!(unix(&ending(1999, 12, 31)), Some(946_598_400));
        // from 2050 on it is a GeneralizedTime
        assert_eq!(unix(&ending(2061, 2, 3)), Some(2_874_614_400));
    }

    #[test]
    fn a_certificate_cut_anywhere_before_the_date_gives_none() {
        let whole = ending(2031, 2, 3);
        for end in 0..whole.len() {
            assert_eq!(unix(&whole[..end]), None, "cut at {end}");
        }
    }
}

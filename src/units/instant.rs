//! Points in time: a day, or RFC 3339.
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::UnitError;

/// Reads `2027-01-31`, the first moment of that day in UTC, or RFC 3339:
/// `2027-01-31T12:00:00Z`. In seconds since 1970; parts of a second are cut off.
pub fn instant(text: &str) -> Result<i64, UnitError> {
    let wrong = || {
        UnitError::expected(
            "a date like 2027-01-31 (from midnight UTC), or a time like 2027-01-31T12:00:00Z",
        )
    };
    // four digits of a year and no more: the parser knows more forms than a file should have
    if !text.get(..5).is_some_and(|year| year.ends_with('-') && !year.starts_with(['-', '+'])) {
        return Err(wrong());
    }
    if text.len() == "2027-01-31".len() {
        let day: Date = text.parse().map_err(|_| wrong())?;
        let midnight = day.to_zoned(TimeZone::UTC).map_err(|_| wrong())?;
        return Ok(midnight.timestamp().as_second());
    }
    text.parse::<Timestamp>().map(Timestamp::as_second).map_err(|_| wrong())
}

/// Writes seconds since 1970 as RFC 3339; beyond the years 0 to 9999, what [`instant`] does not
/// read.
pub fn show_instant(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |at| at.to_string())
}

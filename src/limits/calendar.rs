//! Calendar periods: hours, days and months as they turn in a time zone.
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use crate::config::Calendar;

/// The periods of one budget.
#[derive(Debug, Clone)]
pub struct Periods {
    calendar: Calendar,
    zone: TimeZone,
}

impl Periods {
    /// `zone` is an IANA name; the policy's reader has checked it, and UTC stands in for one unknown.
    pub fn new(calendar: Calendar, zone: &str) -> Self {
        Self { calendar, zone: TimeZone::get(zone).unwrap_or(TimeZone::UTC) }
    }

    /// The first moment after `wall` at which a new period begins; both in Unix seconds.
    pub fn end_after(&self, wall: i64) -> i64 {
        self.end(wall).filter(|end| *end > wall).unwrap_or(wall + 3600)
    }

    fn end(&self, wall: i64) -> Option<i64> {
        let now = Timestamp::from_second(wall).ok()?;
        if self.calendar == Calendar::Hour {
            // hours of the clock on the wall, also where zones are half an hour apart; the hour that
            // is lived twice in autumn is two
            let offset = i64::from(self.zone.to_offset(now).seconds());
            return Some((wall + offset).div_euclid(3600) * 3600 + 3600 - offset);
        }
        let local = now.to_zoned(self.zone.clone());
        let day = local.date();
        let next = match self.calendar {
            Calendar::Month => day.first_of_month().checked_add(1.month()).ok()?,
            _ => day.tomorrow().ok()?,
        };
        let midnight = DateTime::from(next);
        Some(self.zone.to_ambiguous_zoned(midnight).compatible().ok()?.timestamp().as_second())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(calendar: Calendar, zone: &str, at: &str) -> String {
        let at: Timestamp = at.parse().unwrap();
        let end = Periods::new(calendar, zone).end_after(at.as_second());
        Timestamp::from_second(end).unwrap().to_string()
    }

    #[test]
    fn periods_turn_where_the_calendar_does() {
        for (calendar, zone, at, want) in [
            (Calendar::Hour, "UTC", "2026-11-22T10:59:59Z", "2026-11-22T11:00:00Z"),
            (Calendar::Hour, "UTC", "2026-11-22T11:00:00Z", "2026-11-22T12:00:00Z"),
            (Calendar::Hour, "Asia/Kolkata", "2026-11-22T10:10:00Z", "2026-11-22T10:30:00Z"),
            (Calendar::Day, "UTC", "2026-11-22T10:00:00Z", "2026-11-23T00:00:00Z"),
            (Calendar::Day, "Europe/Berlin", "2026-11-22T22:59:59Z", "2026-11-22T23:00:00Z"),
            (Calendar::Day, "Europe/Berlin", "2026-11-22T23:00:00Z", "2026-11-23T23:00:00Z"),
            // 25 hours long
            (Calendar::Day, "Europe/Berlin", "2026-10-25T00:00:00Z", "2026-10-25T23:00:00Z"),
            // midnight does not exist
            (Calendar::Day, "America/Asuncion", "2024-10-05T12:00:00Z", "2024-10-06T04:00:00Z"),
            (Calendar::Month, "UTC", "2026-12-31T23:59:59Z", "2027-01-01T00:00:00Z"),
            (Calendar::Month, "Asia/Tokyo", "2026-01-31T15:00:00Z", "2026-02-28T15:00:00Z"),
        ] {
            assert_eq!(end(calendar, zone, at), want, "{calendar:?} in {zone} after {at}");
        }
    }

    #[test]
    fn a_period_always_ends_later() {
        for calendar in [Calendar::Hour, Calendar::Day, Calendar::Month] {
            let periods = Periods::new(calendar, "Australia/Lord_Howe");
            let mut at = 1_700_000_000;
            for _ in 0..2000 {
                let end = periods.end_after(at);
                assert!(end > at && end - at <= 32 * 86_400);
                at = end;
            }
        }
    }
}

//! The text of a limit, read and written: `400k/min burst 100k`, `$20/day hard`, `16 observe`.
//!
//! An amount and a period, then words in any order: `burst AMOUNT`, `calendar`, and one of
//! `observe`, `soft` and `hard`. `s`, `min` and `h` refill steadily; `hour`, `day` and `month`
//! are calendar budgets of money, and steady rates of the rest unless `calendar` is said.
use std::fmt;
use std::time::Duration;

use super::{Calendar, Limit, Measure, Mode, Window};
use crate::units::{UnitError, amount, money, show_amount, show_duration, show_money};

/// Most calls at once that a limit may name.
const MOST_AT_ONCE: i64 = 1_000_000;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
/// Of a steady rate; a calendar's months are as long as they are.
const MONTH: Duration = Duration::from_hours(24 * 30);

/// What stands after `AMOUNT/PERIOD`.
#[derive(Default)]
struct Words {
    burst: Option<i64>,
    calendar: bool,
    mode: Option<Mode>,
}

impl Limit {
    /// Reads what the policy file says of a measure. The error says what was expected.
    pub fn read(measure: Measure, text: &str) -> Result<Self, UnitError> {
        let mut words = text.split_whitespace();
        let first = words.next().unwrap_or_default();
        let (number, period) = match (measure, first.split_once('/')) {
            (Measure::Concurrency, None) => (first, None),
            (Measure::Concurrency, Some(_)) | (_, None) => return Err(unlike(measure)),
            (_, Some((number, period))) => (number, Some(period)),
        };
        let amount = quantity(measure, number)?;
        let words = Words::read(measure, words)?;
        let window = match period {
            Some(period) => window(measure, period, words.calendar)?,
            None => Window::Now,
        };
        if matches!(window, Window::Calendar(_)) && words.burst.is_some() {
            return Err(UnitError::expected(
                "a calendar budget without `burst`: all of it is there when it begins",
            ));
        }
        let mode = words.mode.unwrap_or(Mode::Soft);
        Ok(Self { measure, amount, window, burst: words.burst, mode })
    }

    /// How a limit of this measure looks.
    pub(super) fn form(measure: Measure) -> &'static str {
        match measure {
            Measure::Concurrency => "calls at once, 1000000 at most, like 16 or `16 observe`",
            Measure::Spend => "a limit like $20/day, $300/month hard or $0.50/min burst $5",
            Measure::Requests => "a limit like 600/min, 10/s burst 50 or 5k/day calendar",
            _ => "a limit like 400k/min, 400k/min burst 100k or 5M/day calendar hard",
        }
    }
}

fn unlike(measure: Measure) -> UnitError {
    UnitError::expected(Limit::form(measure))
}

/// As the policy file says it.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spend = self.measure == Measure::Spend;
        let quantity = |amount| match self.measure {
            Measure::Spend => show_money(amount),
            Measure::Concurrency => amount.to_string(),
            _ => show_amount(amount),
        };
        f.write_str(&quantity(self.amount))?;
        match self.window {
            Window::Now => {}
            Window::Rate(SECOND) => f.write_str("/s")?,
            Window::Rate(MINUTE) => f.write_str("/min")?,
            Window::Rate(HOUR) => f.write_str("/h")?,
            Window::Rate(DAY) => f.write_str("/day")?,
            Window::Rate(MONTH) => f.write_str("/month")?,
            // no text gives this, but code may
            Window::Rate(other) => write!(f, "/{}", show_duration(other))?,
            Window::Calendar(period) => {
                let word = if spend { "" } else { " calendar" };
                write!(f, "/{}{word}", period.as_str())?;
            }
        }
        if let Some(burst) = self.burst {
            write!(f, " burst {}", quantity(burst))?;
        }
        match self.mode {
            Mode::Soft => Ok(()),
            mode => write!(f, " {}", mode.as_str()),
        }
    }
}

impl Words {
    fn read<'t>(
        measure: Measure,
        mut words: impl Iterator<Item = &'t str>,
    ) -> Result<Self, UnitError> {
        let mut read = Self::default();
        let timed = measure != Measure::Concurrency;
        while let Some(word) = words.next() {
            let mode = Mode::ALL.into_iter().find(|mode| mode.as_str() == word);
            match (word, mode) {
                (_, Some(mode)) if read.mode.is_none() => read.mode = Some(mode),
                ("calendar", _) if timed && !read.calendar => read.calendar = true,
                ("burst", _) if timed && read.burst.is_none() => {
                    let Some(number) = words.next() else {
                        return Err(UnitError::expected("an amount after `burst`"));
                    };
                    read.burst = Some(quantity(measure, number)?);
                }
                _ if timed => {
                    return Err(UnitError::expected(
                        "after the period `burst AMOUNT`, `calendar`, and one of observe, soft \
                         and hard, each once",
                    ));
                }
                _ => return Err(unlike(measure)),
            }
        }
        Ok(read)
    }
}

/// In the measure's own unit, and more than nothing.
fn quantity(measure: Measure, text: &str) -> Result<i64, UnitError> {
    let value = match measure {
        Measure::Spend => money(text)?,
        Measure::Concurrency => {
            let digits = text.bytes().all(|b| b.is_ascii_digit());
            let value = text.parse().ok().filter(|n| digits && *n <= MOST_AT_ONCE);
            value.ok_or_else(|| unlike(measure))?
        }
        _ => amount(text)?,
    };
    if value == 0 {
        return Err(UnitError::expected("more than zero, or no such limit"));
    }
    Ok(value)
}

fn window(measure: Measure, period: &str, calendar: bool) -> Result<Window, UnitError> {
    let (steady, budget) = match period {
        "s" | "second" => (SECOND, None),
        "min" | "minute" => (MINUTE, None),
        "h" => (HOUR, None),
        "hour" => (HOUR, Some(Calendar::Hour)),
        "day" => (DAY, Some(Calendar::Day)),
        "month" => (MONTH, Some(Calendar::Month)),
        _ => {
            return Err(UnitError(format!(
                "a period: s, min, h, hour, day or month; {}",
                Limit::form(measure)
            )));
        }
    };
    match budget {
        Some(budget) if calendar || measure == Measure::Spend => Ok(Window::Calendar(budget)),
        None if calendar => Err(UnitError::expected("`calendar` with hour, day or month alone")),
        _ => Ok(Window::Rate(steady)),
    }
}

#[cfg(test)]
mod tests;

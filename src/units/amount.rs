//! Amounts, money, prices and weights: decimal text to whole small parts, and back.
//!
//! No value is ever a float: digits are read as integers, so what is counted is what was
//! written. A text with more digits than there are parts is refused, not rounded. The bounds
//! leave every type room for sums of a thousand of the largest values.
use std::fmt::Write as _;

use super::UnitError;

/// What a decimal text is not.
enum Flaw {
    NotDecimal,
    TooFine,
    TooLarge,
}

/// Suffixes of amounts, largest first, and the powers of ten they stand for.
const SUFFIXES: [(&str, u32); 3] = [("G", 9), ("M", 6), ("k", 3)];

/// Reads `600`, `400k`, `1.5M` or `2G`, 1000G at most. In thousandths.
pub fn amount(text: &str) -> Result<i64, UnitError> {
    let suffix = SUFFIXES.iter().find_map(|(name, zeros)| Some((text.strip_suffix(name)?, zeros)));
    let (number, zeros) = suffix.unwrap_or((text, &0));
    let thousandths = decimal(number, 3 + zeros, 1_000_000_000_000_000);
    thousandths.map(u64::cast_signed).map_err(|flaw| {
        UnitError::expected(match flaw {
            Flaw::NotDecimal => "an amount like 600, 400k or 1.5M",
            Flaw::TooFine => "an amount of whole thousandths, like 0.125 or 1.5k",
            Flaw::TooLarge => "an amount of 1000G at most",
        })
    })
}

/// Writes thousandths as [`amount`] reads them; a debt with its sign.
pub fn show_amount(thousandths: i64) -> String {
    let sign = if thousandths < 0 { "-" } else { "" };
    let value = thousandths.unsigned_abs();
    // the largest suffix that needs no more than three digits after the point
    let short = SUFFIXES.iter().find(|(_, zeros)| {
        value >= 10_u64.pow(zeros + 3) && value.is_multiple_of(10_u64.pow(*zeros))
    });
    let (suffix, zeros) = short.copied().unwrap_or_default();
    format!("{sign}{}{suffix}", show_decimal(value, 3 + zeros, 0))
}

/// Reads `$20` or `$0.50`, a billion at most. In billionths of a dollar.
pub fn money(text: &str) -> Result<i64, UnitError> {
    let number = text.strip_prefix('$').unwrap_or_default();
    decimal(number, 9, 1_000_000_000_000_000_000).map(u64::cast_signed).map_err(|flaw| {
        UnitError::expected(match flaw {
            Flaw::NotDecimal => "an amount of dollars, like $20 or $0.50",
            Flaw::TooFine => "dollars with nine digits after the point at most",
            Flaw::TooLarge => "$1000000000 at most",
        })
    })
}

/// Writes billionths of a dollar as [`money`] reads them; a debt with its sign.
pub fn show_money(billionths: i64) -> String {
    let sign = if billionths < 0 { "-" } else { "" };
    format!("{sign}${}", show_decimal(billionths.unsigned_abs(), 9, 2))
}

/// Reads dollars for a million tokens: `0.50` or `15`, 10000 at most. In trillionths of a
/// dollar for one.
pub fn price(text: &str) -> Result<u64, UnitError> {
    decimal(text, 6, 10_000_000_000).map_err(|flaw| {
        UnitError::expected(match flaw {
            Flaw::NotDecimal => "dollars for a million tokens, like 0.50",
            Flaw::TooFine => {
                "dollars for a million tokens, with six digits after the point at most"
            }
            Flaw::TooLarge => "dollars for a million tokens, 10000 at most",
        })
    })
}

/// Writes trillionths of a dollar for a token as [`price`] reads them.
pub fn show_price(trillionths: u64) -> String {
    show_decimal(trillionths, 6, 2)
}

/// Reads `10%`, `12.5%` or `125%`, up to 1000 %. In thousandths of the whole.
pub fn weight(text: &str) -> Result<u32, UnitError> {
    let number = text.strip_suffix('%').unwrap_or_default();
    decimal(number, 1, 10_000).map(|thousandths| thousandths as u32).map_err(|flaw| {
        UnitError::expected(match flaw {
            Flaw::NotDecimal | Flaw::TooLarge => "a percentage from 0% to 1000%, like 10%",
            Flaw::TooFine => "a percentage with one digit after the point at most, like 12.5%",
        })
    })
}

/// Writes thousandths of the whole as [`weight`] reads them.
pub fn show_weight(thousandths: u32) -> String {
    format!("{}%", show_decimal(thousandths.into(), 1, 0))
}

/// Digits, and with a point digits again: `places` of them count, zeros may follow. In units of
/// the last place, `most` at most.
fn decimal(text: &str, places: u32, most: u64) -> Result<u64, Flaw> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) {
        return Err(Flaw::NotDecimal);
    }
    let part = part.trim_end_matches('0');
    let missing = places.checked_sub(part.len() as u32).ok_or(Flaw::TooFine)?;
    let mut value: u64 = 0;
    for digit in whole.bytes().chain(part.bytes()) {
        value = value
            .checked_mul(10)
            .and_then(|value| value.checked_add((digit - b'0').into()))
            .ok_or(Flaw::TooLarge)?;
    }
    10_u64
        .checked_pow(missing)
        .and_then(|factor| value.checked_mul(factor))
        .filter(|value| *value <= most)
        .ok_or(Flaw::TooLarge)
}

/// With `least` digits after the point where there are any at all.
fn show_decimal(value: u64, places: u32, least: usize) -> String {
    let one = 10_u64.pow(places);
    let mut out = (value / one).to_string();
    let part = value % one;
    if part > 0 {
        let digits = format!("{part:0width$}", width = places as usize);
        let digits = digits.trim_end_matches('0');
        // writing to a String cannot fail
        let _ = write!(out, ".{digits:0<least$}");
    }
    out
}

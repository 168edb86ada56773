//! Units as people write them in the policy file: `250ms`, `32MiB`, `20%`, `gpt-*`.
//!
//! Each kind has its own reader and its own error text; none knows about YAML. Readers are
//! strict: a number without a unit is an error, because `timeout: 30` means seconds to one
//! person and milliseconds to the next. Globs know `*` and `?` only and are matched in
//! O(pattern × text) at worst, without recursion (the two-pointer algorithm of Kirk Krauss).
mod amount;
mod instant;

use std::fmt::Write as _;
use std::time::Duration;

use thiserror::Error;

pub use amount::{amount, money, price, show_amount, show_money, show_price, show_weight, weight};
pub use instant::{instant, show_instant};

/// Why a quantity could not be read. The text says what was expected, with an example.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct UnitError(pub String);

impl UnitError {
    pub fn expected(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// Longest duration that is accepted: a year. Keeps every later sum far from overflow.
pub const LONGEST: Duration = Duration::from_hours(24 * 366);

const DURATION_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

const SIZE_UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// Reads `250ms`, `30s`, `15m`, `1h`, `1d`: a whole number and one unit, a year at most.
pub fn duration(text: &str) -> Result<Duration, UnitError> {
    const EXPECTED: &str = "a duration like 250ms, 30s, 15m, 1h or 1d";
    let (number, unit) = split(text, EXPECTED)?;
    if unit.is_empty() {
        return Err(UnitError(format!("a duration with its unit, like {number}s or {number}ms")));
    }
    let factor = factor(&DURATION_UNITS, unit, "a duration in ms, s, m, h or d")?;
    let millis = number.checked_mul(factor).filter(|ms| u128::from(*ms) <= LONGEST.as_millis());
    millis
        .map(Duration::from_millis)
        .ok_or_else(|| UnitError("a duration of 366d at most".to_owned()))
}

/// Writes a duration as [`duration`] reads it, in the largest unit that divides it.
///
/// Parts below a millisecond are cut off: none can be written in the file.
pub fn show_duration(value: Duration) -> String {
    let millis = value.as_millis() as u64;
    show(&DURATION_UNITS, millis, "s")
}

/// Reads `512B`, `64KiB`, `32MiB`, `1GiB`, and powers of ten: `64kB`, `32MB`, `1GB`. In bytes.
pub fn size(text: &str) -> Result<u64, UnitError> {
    const EXPECTED: &str = "a size like 512B, 64KiB, 32MiB or 1GiB";
    let (number, unit) = split(text, EXPECTED)?;
    if unit.is_empty() {
        return Err(UnitError(format!("a size with its unit, like {number}B or {number}KiB")));
    }
    let factor = factor(&SIZE_UNITS, unit, "a size in B, KiB, MiB or GiB (or kB, MB, GB)")?;
    number
        .checked_mul(factor)
        .filter(|bytes| *bytes <= 1 << 50)
        .ok_or_else(|| UnitError("a size of 1048576GiB at most".to_owned()))
}

/// Writes a number of bytes as [`size`] reads it, in the largest binary unit that divides it.
pub fn show_size(bytes: u64) -> String {
    let binary = [SIZE_UNITS[0], SIZE_UNITS[1], SIZE_UNITS[2], SIZE_UNITS[6]];
    show(&binary, bytes, "B")
}

/// Reads `20%` or `0.5%`, from 0 to 100, as a fraction of one.
pub fn percent(text: &str) -> Result<f64, UnitError> {
    let wrong = || UnitError("a percentage from 0% to 100%, like 20%".to_owned());
    let number = text.strip_suffix('%').ok_or_else(wrong)?;
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(wrong());
    }
    let value: f64 = number.parse().map_err(|_| wrong())?;
    if (0.0..=100.0).contains(&value) { Ok(value / 100.0) } else { Err(wrong()) }
}

/// A number and what follows it. No sign, no fraction: `1.5h` is `90m`.
fn split<'t>(text: &'t str, expected: &str) -> Result<(u64, &'t str), UnitError> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    if digits.is_empty() {
        return Err(UnitError(expected.to_owned()));
    }
    if unit.starts_with('.') {
        return Err(UnitError(format!("{expected}, in whole numbers (1500ms, not 1.5s)")));
    }
    let number = digits.parse().map_err(|_| UnitError(format!("{expected}, not so large")))?;
    Ok((number, unit))
}

fn factor(units: &[(&str, u64)], unit: &str, expected: &str) -> Result<u64, UnitError> {
    let found = units.iter().find(|(name, _)| *name == unit);
    found.map(|(_, factor)| *factor).ok_or_else(|| UnitError(expected.to_owned()))
}

fn show(units: &[(&str, u64)], value: u64, zero: &str) -> String {
    let mut out = String::new();
    for (name, factor) in units {
        if value > 0 && value.is_multiple_of(*factor) {
            // writing to a String cannot fail
            let _ = write!(out, "{}{name}", value / factor);
            return out;
        }
    }
    format!("0{zero}")
}

/// Does `text` match `pattern`? `*` stands for any run of characters, `?` for exactly one.
pub fn glob_matches(pattern: &str, text: &str) -> bool {
    let same = |p: char, t: char| p == '?' || p == t;
    glob_walk(pattern, text, same)
}

/// Does `wide` match every text that `narrow` matches?
///
/// A yes is always right. A no may be wrong for pairs like `*?` and `?*`: those mean the same
/// but are written in another order.
pub fn glob_covers(wide: &str, narrow: &str) -> bool {
    let same = |w: char, n: char| (w == '?' && n != '*') || w == n;
    glob_walk(wide, narrow, same)
}

/// Matches greedily and returns to the last `*` on a mismatch. Returning to the last one alone
/// is enough: what an earlier `*` could take more, the last one can take as well.
fn glob_walk(pattern: &str, text: &str, same: impl Fn(char, char) -> bool) -> bool {
    let (mut p, mut t) = (pattern, text);
    let mut retry: Option<(&str, &str)> = None;
    loop {
        let mut rest = p.chars();
        match rest.next() {
            Some('*') => {
                p = rest.as_str();
                retry = Some((p, t));
                continue;
            }
            Some(want) => {
                let mut left = t.chars();
                if let Some(got) = left.next()
                    && same(want, got)
                {
                    (p, t) = (rest.as_str(), left.as_str());
                    continue;
                }
            }
            None if t.is_empty() => return true,
            None => {}
        }
        let Some((after_star, from)) = retry else { return false };
        let mut skipped = from.chars();
        if skipped.next().is_none() {
            return false;
        }
        (p, t) = (after_star, skipped.as_str());
        retry = Some((p, t));
    }
}

#[cfg(test)]
mod tests;

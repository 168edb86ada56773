//! Decimal numbers as JSON writes them, read exactly.
//!
//! A float cannot hold 0.0000001; the text can. Price lists are made by programs that do use floats,
//! so what they write has noise far behind the point (`4.0000000000000003e-07`): a trillionth of a
//! dollar is the smallest part that is kept, the rest is rounded to the nearest.

/// More digits than any price has; those behind are noise.
const DIGITS: u32 = 24;

/// Dollars as trillionths of a dollar. `None`: no number, negative, or more than fits.
pub(super) fn trillionths(text: &str) -> Option<u64> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        None => (text, 0),
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let mut number = 0_u128;
    let mut kept = 0;
    let mut shift = exponent.checked_add(12)?;
    for (byte, behind) in whole.bytes().map(|b| (b, 0)).chain(fraction.bytes().map(|b| (b, 1))) {
        if kept < DIGITS {
            number = number * 10 + u128::from(byte - b'0');
            kept += u32::from(number > 0);
            shift = shift.checked_sub(behind)?;
        } else {
            shift = shift.checked_add(1 - behind)?;
        }
    }
    let scaled = if number == 0 {
        0
    } else if shift >= 0 {
        number.checked_mul(10_u128.checked_pow(shift.unsigned_abs())?)?
    } else {
        // a divisor that does not fit is far above any number of so few digits
        10_u128.checked_pow(shift.unsigned_abs()).map_or(0, |by| (number + by / 2) / by)
    };
    u64::try_from(scaled).ok()
}

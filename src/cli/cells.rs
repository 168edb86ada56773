//! Cells of tables, and tables of cells: what `tidegate agents`, `tidegate cache` and
//! `tidegate tasks` print.
//!
//! Figures are short and never more than they are. Names may be a client's own word: they are cut,
//! and no character of them moves a cursor.
use std::fmt::Write as _;

const LONGEST_NAME: usize = 28;

/// A table with its heads; columns are as wide as what is in them. `words`: those that begin at
/// their left edge.
pub(super) fn put_rows<const N: usize>(
    out: &mut String,
    heads: [&str; N],
    words: &[usize],
    rows: &[[String; N]],
) {
    let heads = heads.map(str::to_owned);
    let all = || std::iter::once(&heads).chain(rows);
    let width = |column: usize| all().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    for row in all() {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            // writing to a String cannot fail
            let _ = if words.contains(&column) {
                write!(line, "{cell:<width$}  ")
            } else {
                write!(line, "{cell:>width$}  ")
            };
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

/// A name that a client may have chosen: no control characters, none that turn the direction of
/// writing, and not longer than its column.
pub(super) fn name(text: &str) -> String {
    let harmless = |c: char| match c {
        '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    let mut shown: String = text.chars().take(LONGEST_NAME).map(harmless).collect();
    if text.chars().nth(LONGEST_NAME).is_some() {
        shown.pop();
        shown.push('…');
    }
    if shown.is_empty() { "–".to_owned() } else { shown }
}

/// `950`, `1.2k`, `340k`, `1.2M`
pub(super) fn short(amount: u64) -> String {
    scaled(amount, [(1_000_000_000, "G"), (1_000_000, "M"), (1000, "k")], "")
}

/// `950B`, `1.2KiB`, `340MiB`
pub(super) fn bytes(amount: u64) -> String {
    scaled(amount, [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")], "B")
}

fn scaled(amount: u64, units: [(u64, &str); 3], one: &str) -> String {
    let Some((unit, letter)) = units.into_iter().find(|(unit, _)| amount >= *unit) else {
        return format!("{amount}{one}");
    };
    let (whole, tenth) = (amount / unit, amount % unit * 10 / unit);
    if whole < 10 && tenth > 0 {
        format!("{whole}.{tenth}{letter}")
    } else {
        format!("{whole}{letter}")
    }
}

/// Billionths: cents from a dollar on, hundredths of a cent below.
pub(super) fn dollars(nano: u64) -> String {
    let (whole, rest) = (nano / 1_000_000_000, nano % 1_000_000_000);
    if whole > 0 || rest == 0 {
        format!("${whole}.{:02}", rest / 10_000_000)
    } else {
        format!("$0.{:04}", rest / 100_000)
    }
}

/// `0`, `120ms`, `1.2s`, `12s`, `5m`, `3h`, `2d`
pub(super) fn time(ms: u64) -> String {
    match ms {
        0 => "0".to_owned(),
        1..1000 => format!("{ms}ms"),
        1000..10_000 => format!("{}.{}s", ms / 1000, ms / 100 % 10),
        10_000..120_000 => format!("{}s", ms / 1000),
        120_000..7_200_000 => format!("{}m", ms / 60_000),
        7_200_000..172_800_000 => format!("{}h", ms / 3_600_000),
        _ => format!("{}d", ms / 86_400_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_never_more_than_they_are() {
        let amounts = [(0, "0"), (999, "999"), (1000, "1k"), (1999, "1.9k"), (999_999, "999k")];
        for (amount, text) in amounts {
            assert_eq!(short(amount), text);
        }
        let sizes = [(0, "0B"), (1023, "1023B"), (1024, "1KiB"), ((64 << 20) - 1, "63MiB")];
        for (amount, text) in sizes {
            assert_eq!(bytes(amount), text);
        }
        let money = [(0, "$0.00"), (123_456, "$0.0001"), (1_999_999_999, "$1.99")];
        for (nano, text) in money {
            assert_eq!(dollars(nano), text);
        }
        let times =
            [(0, "0"), (999, "999ms"), (9999, "9.9s"), (119_999, "119s"), (86_400_000, "24h")];
        for (ms, text) in times {
            assert_eq!(time(ms), text);
        }
    }
}

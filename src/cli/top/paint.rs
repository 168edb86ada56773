//! Lines of text with tones, and tables of them. Pure.
//!
//! A tone becomes a colour at the very end, or nothing: the same lines are what a test reads and
//! what a pipe gets. Widths are counted in cells of a terminal, roughly: East Asian letters and
//! pictures take two.

/// How something is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Head,
    Dim,
    Good,
    Warn,
    Bad,
}

impl Tone {
    /// Select Graphic Rendition.
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "0",
            Self::Head => "1",
            Self::Dim => "2",
            Self::Good => "32",
            Self::Warn => "33",
            Self::Bad => "31",
        }
    }
}

/// A text with one tone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span(pub Tone, pub String);

pub(super) type Line = Vec<Span>;

pub(super) fn plain(text: impl Into<String>) -> Span {
    Span(Tone::Plain, text.into())
}

/// Cells that a text takes.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(cells).sum()
}

/// Wide by Unicode's East Asian Width, by its great blocks.
fn cells(c: char) -> usize {
    match c {
        '\u{300}'..='\u{36f}' | '\u{200b}'..='\u{200d}' | '\u{fe00}'..='\u{fe0f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{1f300}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

/// A column of a table.
pub(super) struct Column {
    pub head: &'static str,
    /// Of figures: they end at one edge.
    pub right: bool,
    /// It is left out of a screen that is narrower.
    pub from: usize,
}

impl Column {
    pub const fn text(head: &'static str, from: usize) -> Self {
        Self { head, right: false, from }
    }

    pub const fn figure(head: &'static str, from: usize) -> Self {
        Self { head, right: true, from }
    }
}

/// A table under its heads. Columns are as wide as what is in them.
pub(super) fn table<const N: usize>(
    columns: &[Column; N],
    rows: Vec<[Span; N]>,
    screen: usize,
) -> Vec<Line> {
    let shown: Vec<usize> = (0..N).filter(|at| columns[*at].from <= screen).collect();
    let heads = std::array::from_fn(|at| Span(Tone::Dim, columns[at].head.to_owned()));
    let all: Vec<[Span; N]> = std::iter::once(heads).chain(rows).collect();
    let widest = |at: usize| all.iter().map(|row| width(&row[at].1)).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(widest).collect();
    let line = |mut row: [Span; N]| -> Line {
        let mut line = Line::new();
        for at in &shown {
            let cell = std::mem::replace(&mut row[*at], plain(""));
            let pad = " ".repeat(widths[*at] - width(&cell.1));
            if !line.is_empty() {
                line.push(plain("  "));
            }
            if columns[*at].right {
                line.extend([plain(pad), cell]);
            } else {
                line.extend([cell, plain(pad)]);
            }
        }
        line
    };
    all.into_iter().map(line).collect()
}

/// `██████░░░░`; full where the share is.
pub(super) fn bar(share: f64, cells: usize) -> String {
    let full = (share.clamp(0.0, 1.0) * cells as f64) as usize;
    "█".repeat(full) + &"░".repeat(cells - full)
}

/// The line as text, cut at a width, without blanks at its end; in colour or not.
pub(super) fn show(line: &[Span], most: usize, colour: bool) -> String {
    let (mut out, mut left, mut blanks) = (String::new(), most, 0);
    for Span(tone, text) in line {
        let mut open = false;
        for c in text.chars() {
            let takes = cells(c);
            if takes > left {
                left = 0;
                break;
            }
            left -= takes;
            if c == ' ' {
                blanks += 1;
                continue;
            }
            out.extend(std::iter::repeat_n(' ', std::mem::take(&mut blanks)));
            if colour && !open && *tone != Tone::Plain {
                out.push_str("\x1b[");
                out.push_str(tone.code());
                out.push('m');
                open = true;
            }
            out.push(c);
        }
        if open {
            out.push_str("\x1b[0m");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_by_cells_and_only_tones_are_coloured() {
        let line = [plain("ab "), Span(Tone::Bad, "漢字".to_owned()), plain("   ")];
        assert_eq!(show(&line, 80, false), "ab 漢字");
        assert_eq!(show(&line, 80, true), "ab \x1b[31m漢字\x1b[0m");
        assert_eq!(show(&line, 6, false), "ab 漢", "half of a letter is none");
        assert_eq!(show(&line, 0, true), "");
    }

    #[test]
    fn bars_fill_up() {
        assert_eq!(
            (bar(0.0, 4), bar(0.5, 4), bar(7.0, 4)),
            ("░░░░".into(), "██░░".into(), "████".into())
        );
    }
}

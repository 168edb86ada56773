//! Tables for people, and verdicts.
use std::fmt::Write as _;

/// A figure beside what it has to be.
#[derive(Debug)]
pub struct Verdict {
    pub what: String,
    pub figure: String,
    pub target: String,
    pub passed: bool,
}

impl Verdict {
    pub fn at_most(what: &str, figure: f64, most: f64, show: fn(f64) -> String) -> Self {
        let target = format!("<= {}", show(most));
        Self { what: what.to_owned(), figure: show(figure), target, passed: figure <= most }
    }

    pub fn at_least(what: &str, figure: f64, least: f64, show: fn(f64) -> String) -> Self {
        let target = format!(">= {}", show(least));
        Self { what: what.to_owned(), figure: show(figure), target, passed: figure >= least }
    }

    pub fn that(what: &str, passed: bool, otherwise: Option<&String>) -> Self {
        let figure = otherwise.cloned().unwrap_or_else(|| if passed { "yes" } else { "no" }.into());
        Self { what: what.to_owned(), figure, target: "yes".to_owned(), passed }
    }
}

pub fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

pub fn time(seconds: f64) -> String {
    format!("{seconds:.1} s")
}

pub fn index(figure: f64) -> String {
    format!("{figure:.3}")
}

/// The first column to the left, the others to the right.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(String::len);
        cells.chain([head[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        for (column, (cell, width)) in cells.zip(&widths).enumerate() {
            let _ = match column {
                0 => write!(text, "  {cell:<width$}"),
                _ => write!(text, "  {cell:>width$}"),
            };
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    };
    line(&mut head.iter().copied());
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
    text
}

/// All of them in one table; whether all passed.
pub fn verdicts(verdicts: &[Verdict]) -> (String, bool) {
    let word = |passed| if passed { "PASS" } else { "FAIL" };
    let row = |verdict: &Verdict| {
        let Verdict { what, figure, target, passed } = verdict;
        vec![what.clone(), figure.clone(), target.clone(), word(*passed).to_owned()]
    };
    let rows: Vec<_> = verdicts.iter().map(row).collect();
    let passed = verdicts.iter().all(|verdict| verdict.passed);
    (table(&["target", "figure", "asked for", ""], &rows), passed)
}

//! The book's tables of metrics are held to the program: its names, kinds and helps here, and its labels
//! by `tests/observe/scrape.py`, against what a running instance shows.
use crate::telemetry::metrics::names::{self, Kind, Name};

const BOOK: &str = include_str!("../../../../docs/operations.md");

/// Name, kind and help, as a table has them.
type Row = (String, String, String);

fn shown(name: &Name) -> Row {
    let (end, kind) = match name.kind {
        Kind::Counter => ("_total", "counter"),
        Kind::Gauge => ("", "gauge"),
        Kind::Histogram => ("", "histogram"),
        Kind::Info => ("_info", "info"),
    };
    (format!("{}{end}", name.full), kind.to_owned(), name.help.to_owned())
}

/// A line of a table with metric, kind, labels and meaning.
fn row(line: &str) -> Option<Row> {
    let inner = line.strip_prefix("| `")?.strip_suffix(" |")?;
    let cells: Vec<&str> = inner.split(" | ").collect();
    let [name, kind, _, help] = cells.as_slice() else { return None };
    let ours = ["tidegate_", "gen_ai_", "process_"].iter().any(|start| name.starts_with(start));
    let name = name.strip_suffix('`').filter(|_| ours)?;
    Some((name.to_owned(), (*kind).to_owned(), (*help).to_owned()))
}

#[test]
fn every_metric_stands_in_the_book_once_with_its_kind_and_help() {
    let mut told: Vec<Row> = BOOK.lines().filter_map(row).collect();
    let mut known: Vec<Row> = names::ALL.iter().map(|name| shown(name)).collect();
    told.sort();
    known.sort();
    let missing: Vec<&Row> = known.iter().filter(|row| !told.contains(row)).collect();
    let strange: Vec<&Row> = told.iter().filter(|row| !known.contains(row)).collect();
    assert!(
        missing.is_empty() && strange.is_empty(),
        "docs/operations.md has not {missing:#?}, and has {strange:#?}"
    );
    assert_eq!(told.len(), known.len(), "each stands there once");
}

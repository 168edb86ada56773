//! Labelled pairs of questions, from JSON lines or TSV.
use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::semantic::Question;

/// Two questions, and whether one answer may serve both.
pub(super) struct Pair {
    pub a: String,
    pub b: String,
    /// Everything before the last turns is equal.
    pub joined: bool,
    pub same: bool,
    pub category: String,
    /// From 1 on.
    pub line: usize,
}

impl Pair {
    pub(super) fn questions(&self) -> (Question, Question) {
        (Question::read(&self.a), Question::read(&self.b))
    }
}

/// What a file is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Tsv,
}

impl Form {
    /// By the end of its name.
    pub(super) fn of(file: &Path) -> Self {
        let tsv = file.extension().is_some_and(|end| end.eq_ignore_ascii_case("tsv"));
        if tsv { Self::Tsv } else { Self::Json }
    }
}

/// A line that is no pair.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    line: usize,
    what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

/// All pairs, or all lines that are none.
pub(super) fn read(text: &str, form: Form) -> Result<Vec<Pair>, Vec<Fault>> {
    let results = match form {
        Form::Json => json_lines(text),
        Form::Tsv => tsv(text),
    };
    let (mut pairs, mut faults) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(pair) => pairs.push(pair),
            Err(fault) => faults.push(fault),
        }
    }
    if pairs.is_empty() && faults.is_empty() {
        faults.push(Fault { line: 1, what: "there is no pair".to_owned() });
    }
    if faults.is_empty() { Ok(pairs) } else { Err(faults) }
}

#[derive(Deserialize)]
struct Line {
    a: Side,
    b: Side,
    label: Value,
    #[serde(default)]
    category: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Side {
    Text(String),
    Messages(Vec<Value>),
}

fn json_lines(text: &str) -> Vec<Result<Pair, Fault>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let pair = |(at, line): (usize, &str)| {
        json_line(line, at + 1).map_err(|what| Fault { line: at + 1, what })
    };
    lines.map(pair).collect()
}

fn json_line(text: &str, line: usize) -> Result<Pair, String> {
    let found: Line = serde_json::from_str(text).map_err(|error| {
        let expected = "expected {\"a\":…,\"b\":…,\"label\":0 or 1,\"category\":…}";
        format!("{expected}: {error}")
    })?;
    let same = match &found.label {
        Value::Bool(same) => *same,
        Value::Number(number) if number.as_u64() == Some(1) => true,
        Value::Number(number) if number.as_u64() == Some(0) => false,
        other => return Err(format!("label: expected 0 or 1, found {other}")),
    };
    let ((before_a, a), (before_b, b)) = (turns("a", found.a)?, turns("b", found.b)?);
    let category = found.category.unwrap_or_else(|| "none".to_owned());
    Ok(Pair { a, b, joined: before_a == before_b, same, category, line })
}

/// What comes before the last turn, and the text of the last.
fn turns(side: &str, messages: Side) -> Result<(Vec<Value>, String), String> {
    let mut messages = match messages {
        Side::Text(text) => return Ok((Vec::new(), text)),
        Side::Messages(messages) => messages,
    };
    let last = messages.pop().ok_or_else(|| format!("{side}: expected at least one message"))?;
    if last.get("role").and_then(Value::as_str) != Some("user") {
        return Err(format!("{side}: expected the last message to be the user's"));
    }
    match last.get("content") {
        Some(Value::String(text)) => Ok((messages, text.clone())),
        _ => Err(format!("{side}: expected the last message to have a text as its content")),
    }
}

fn tsv(text: &str) -> Vec<Result<Pair, Fault>> {
    let mut lines = text.lines().enumerate();
    let header: Vec<&str> =
        lines.next().map(|(_, line)| line.split('\t').collect()).unwrap_or_default();
    let place = |name: &str| header.iter().position(|column| *column == name);
    let (Some(label), Some(a), Some(b)) = (place("label"), place("a"), place("b")) else {
        let what = "expected a header with the columns label, a and b".to_owned();
        return vec![Err(Fault { line: 1, what })];
    };
    let category = place("category");
    let pair = |(at, line): (usize, &str)| {
        let cells: Vec<&str> = line.split('\t').collect();
        let fault = |what: String| Fault { line: at + 1, what };
        if cells.len() != header.len() {
            return Err(fault(format!("expected {} columns, found {}", header.len(), cells.len())));
        }
        let same = match cells[label] {
            "1" => true,
            "0" => false,
            other => return Err(fault(format!("label: expected 0 or 1, found {other}"))),
        };
        let category = category.map_or("none", |at| cells[at]).to_owned();
        let (a, b) = (cells[a].to_owned(), cells[b].to_owned());
        Ok(Pair { a, b, joined: true, same, category, line: at + 1 })
    };
    lines.filter(|(_, line)| !line.is_empty()).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_conversations_are_read() {
        let text = r#"{"a":"x","b":"y","label":1,"category":"c"}

{"a":[{"role":"system","content":"s"},{"role":"user","content":"x"}],"b":[{"role":"user","content":"x"}],"label":false}
"#;
        let pairs = read(text, Form::Json).unwrap_or_default();
        let seen: Vec<_> = pairs.iter().map(|p| (p.same, p.joined, p.line, &*p.category)).collect();
        assert_eq!(seen, [(true, true, 1, "c"), (false, false, 3, "none")]);
    }

    #[test]
    fn every_bad_line_is_named() {
        for (line, wanted) in [
            ("{", "expected {"),
            (r#"{"a":"x","b":"y"}"#, "label"),
            (r#"{"a":"x","b":"y","label":2}"#, "expected 0 or 1"),
            (r#"{"a":[],"b":"y","label":1}"#, "at least one message"),
            (r#"{"a":[{"role":"assistant","content":"x"}],"b":"y","label":1}"#, "the user's"),
        ] {
            let good = r#"{"a":"x","b":"y","label":0}"#;
            let faults = read(&format!("{good}\n{line}\n"), Form::Json).err().unwrap_or_default();
            assert_eq!(faults.len(), 1, "{line}");
            assert_eq!(faults[0].line, 2, "{line}");
            assert!(faults[0].what.contains(wanted), "{line}: {}", faults[0]);
        }
        let faults = read("a\tb\tlabel\nx\ty\t1\nx\ty\n", Form::Tsv).err().unwrap_or_default();
        assert_eq!(faults.first().map(|fault| fault.line), Some(3));
        assert!(read("", Form::Json).is_err() && read("", Form::Tsv).is_err());
    }
}

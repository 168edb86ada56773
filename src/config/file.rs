//! YAML as a tree that knows where each value stands. The only file that knows the YAML crate.
//!
//! Serde stops at the first error; a person wants them all. So the file is read into this tree
//! first, and `read.rs` walks it and collects. Duplicate keys are kept, for the walker to name.
//! Merge keys (`<<: *base`) are expanded; aliases are followed within a bound. A value from an
//! alias has the place where it was defined: that is the line to mend.
use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::options::DuplicateKeyPolicy;
use serde_yaml::{Location, Spanned};

use super::fault::Faults;

/// Line and column, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Place {
    pub line: u32,
    pub column: u32,
}

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub place: Place,
    pub kind: Kind,
    /// Where its text is in the file.
    bytes: Range<usize>,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    Null,
    Bool(bool),
    Int(i128),
    /// As it is written: money must not pass through a float.
    Float(String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub key: String,
    pub place: Place,
    pub value: Node,
}

/// Reads one YAML document. A syntax error is one fault: after it, nothing can be trusted.
pub(super) fn parse(file: &str, text: &str) -> Result<Node, Faults> {
    let options = serde_yaml::options! {
        // neighbouring lines may hold secrets
        with_snippet: false,
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        budget: serde_yaml::budget! {
            max_depth: 32,
            max_events: 200_000,
            max_aliases: 1_000,
            max_anchors: 1_000,
        },
        alias_limits: serde_yaml::alias_limits! {
            max_total_replayed_events: 50_000,
            max_replay_stack_depth: 16,
        },
    };
    let mut node: Node = serde_yaml::from_str_with_options(text, options).map_err(|error| {
        let place = error.location().map(place).unwrap_or_default();
        let line = (place.line as usize).checked_sub(1).and_then(|n| text.lines().nth(n));
        let expected = if line.is_some_and(|line| line.contains("${")) {
            "YAML; inside { } and [ ] a variable stands in quotes: \"${NAME}\""
        } else {
            "one YAML document: a mapping from keys to values"
        };
        Faults::at(file, place, found(&error), expected)
    })?;
    node.take_digits(text);
    Ok(node)
}

/// The parser's own words, without its position, which is said elsewhere, and without its
/// advice, which is for programmers. They hold no values of the file.
fn found(error: &serde_yaml::Error) -> String {
    let error = error.without_snippet();
    if let serde_yaml::Error::MultipleDocuments { .. } = error {
        return "a second document".to_owned();
    }
    let message = error.to_string();
    let line = message.lines().next().unwrap_or_default();
    let line = line.split(" at line ").next().unwrap_or(line);
    if line.starts_with("budget breached") || line.starts_with("alias replay") {
        return "a document that is nested too deeply or grows too large".to_owned();
    }
    format!("text that is not YAML: {line}")
}

fn place(location: Location) -> Place {
    Place { line: location.line() as u32, column: location.column() as u32 }
}

impl Node {
    pub fn new(place: Place, kind: Kind) -> Self {
        Self { place, kind, bytes: 0..0 }
    }

    /// Puts the digits of the file in the place of the parser's floats. Where the parser's
    /// position is not that of the number alone (a tag stands before it), its value stays.
    fn take_digits(&mut self, text: &str) {
        match &mut self.kind {
            Kind::Float(number) => {
                let written = text.get(self.bytes.clone()).unwrap_or_default();
                if written.parse::<f64>().ok() == number.parse().ok() {
                    written.clone_into(number);
                }
            }
            Kind::List(items) => {
                for item in items {
                    item.take_digits(text);
                }
            }
            Kind::Map(entries) => {
                for entry in entries {
                    entry.value.take_digits(text);
                }
            }
            _ => {}
        }
    }

    /// What it is, for `found`; never its value.
    pub fn what(&self) -> &'static str {
        match self.kind {
            Kind::Null => "nothing",
            Kind::Bool(_) => "true or false",
            Kind::Int(_) | Kind::Float(_) => "a number",
            Kind::Text(_) => "text",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a mapping",
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Kind>::deserialize(deserializer)?;
        let span = spanned.defined.span();
        let start = span.byte_offset().unwrap_or_default() as usize;
        let bytes = start..start + span.byte_len().unwrap_or_default() as usize;
        Ok(Self { place: place(spanned.defined), kind: spanned.value, bytes })
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KindVisitor)
    }
}

struct KindVisitor;

impl<'de> Visitor<'de> for KindVisitor {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_none<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Kind, E> {
        Ok(Kind::Int(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Kind, E> {
        Ok(Kind::Int(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Kind, E> {
        Ok(Kind::Float(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Kind, E> {
        Ok(Kind::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Kind, E> {
        Ok(Kind::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Kind, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Kind::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Kind, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let value: Node = map.next_value()?;
            entries.push(Entry { place: place(key.defined), key: key.value, value });
        }
        Ok(Kind::Map(entries))
    }
}

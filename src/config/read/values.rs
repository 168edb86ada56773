//! Readers of single values: text, times, sizes, counts, words, secrets, files.
use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{At, Fields, Reader, words};
use crate::config::Secret;
use crate::config::fault::nearest;
use crate::config::file::Kind;
use crate::config::interpolate::{Expanded, expand};
use crate::units::{self, UnitError, show_duration};

/// Largest secret or certificate that is read.
const LARGEST: u64 = 1 << 20;

impl Reader<'_> {
    /// Text with its variables filled in.
    pub fn text<'n>(&self, at: &At<'n>, expected: &str) -> Option<Expanded<'n>> {
        let Kind::Text(raw) = &at.node.kind else {
            let found = match &at.node.kind {
                Kind::Int(number) => format!("the number {number} (quote it if it is text)"),
                Kind::Float(number) => format!("the number {number} (quote it if it is text)"),
                Kind::Bool(value) => format!("`{value}` (quote it if it is text)"),
                _ => at.node.what().to_owned(),
            };
            self.wrong(at, found, expected);
            return None;
        };
        self.expand(at, raw)
    }

    fn expand<'n>(&self, at: &At<'_>, raw: &'n str) -> Option<Expanded<'n>> {
        match expand(raw, self.world.env) {
            Ok(expanded) if expanded.value.is_empty() => {
                self.wrong(at, "empty text", "a value, or no such key at all");
                None
            }
            Ok(expanded) => Some(expanded),
            Err(fault) => {
                self.wrong(at, fault.found, fault.expected);
                None
            }
        }
    }

    pub fn duration(&self, at: &At<'_>) -> Option<Duration> {
        if let Kind::Int(number) = at.node.kind {
            let expected = format!("a duration with its unit, like {number}s or {number}ms");
            self.wrong(at, format!("the number {number}"), &expected);
            return None;
        }
        let text = self.text(at, "a duration like 250ms, 30s, 15m, 1h or 1d")?;
        self.unit(at, &text, units::duration(&text.value))
    }

    /// A duration that is longer than none.
    pub fn some_time(&self, at: &At<'_>) -> Option<Duration> {
        let value = self.duration(at)?;
        if value.is_zero() {
            self.wrong(at, "a time of zero", "a duration longer than that, like 30s");
            return None;
        }
        Some(value)
    }

    /// Bytes, within bounds.
    pub fn size(&self, at: &At<'_>, least: u64, most: u64) -> Option<u64> {
        if let Kind::Int(number) = at.node.kind {
            let expected = format!("a size with its unit, like {number}B or {number}KiB");
            self.wrong(at, format!("the number {number}"), &expected);
            return None;
        }
        let text = self.text(at, "a size like 512B, 64KiB, 32MiB or 1GiB")?;
        let bytes = self.unit(at, &text, units::size(&text.value))?;
        if (least..=most).contains(&bytes) {
            return Some(bytes);
        }
        let (least, most) = (units::show_size(least), units::show_size(most));
        self.wrong(at, text.shown(), &format!("a size from {least} to {most}"));
        None
    }

    fn unit<T>(&self, at: &At<'_>, text: &Expanded<'_>, value: Result<T, UnitError>) -> Option<T> {
        value.map_err(|error| self.wrong(at, text.shown(), &error.0)).ok()
    }

    /// A whole number within bounds. Digits from a variable are taken too.
    pub fn count(&self, at: &At<'_>, least: u64, most: u64) -> Option<u64> {
        let expected = format!("a whole number from {least} to {most}");
        let (number, found) = match &at.node.kind {
            Kind::Int(number) => (Some(*number), format!("the number {number}")),
            Kind::Text(raw) if raw.contains("${") => {
                let text = self.expand(at, raw)?;
                (text.value.parse().ok(), text.shown())
            }
            Kind::Text(raw) => (None, Expanded::plain(raw).shown()),
            Kind::Float(number) => (None, format!("the number {number}")),
            _ => (None, at.node.what().to_owned()),
        };
        let value =
            number.and_then(|n| u64::try_from(n).ok()).filter(|n| (least..=most).contains(n));
        if value.is_none() {
            self.wrong(at, found, &expected);
        }
        value
    }

    /// A number as it is written, or text with its variables filled in; and how to show it.
    pub fn written<'n>(&self, at: &At<'n>, expected: &str) -> Option<(Cow<'n, str>, String)> {
        match &at.node.kind {
            Kind::Int(number) => Some((number.to_string().into(), format!("the number {number}"))),
            Kind::Float(number) => Some((number.as_str().into(), format!("the number {number}"))),
            _ => self.text(at, expected).map(|text| {
                let shown = text.shown();
                (text.value, shown)
            }),
        }
    }

    /// A quantity that may stand as a number or as text.
    pub fn quantity<T>(
        &self,
        at: &At<'_>,
        expected: &str,
        read: impl FnOnce(&str) -> Result<T, UnitError>,
    ) -> Option<T> {
        let (value, shown) = self.written(at, expected)?;
        read(&value).map_err(|error| self.wrong(at, shown, &error.0)).ok()
    }

    pub fn flag(&self, at: &At<'_>) -> Option<bool> {
        const EXPECTED: &str = "true or false";
        if let Kind::Bool(value) = at.node.kind {
            return Some(value);
        }
        let text = self.text(at, EXPECTED)?;
        let value = text.value.parse().ok();
        if value.is_none() {
            self.wrong(at, text.shown(), EXPECTED);
        }
        value
    }

    /// Text that is kept as it is: a glob, a name.
    pub fn shared(&self, at: &At<'_>, expected: &str) -> Option<Arc<str>> {
        self.text(at, expected).map(|text| Arc::from(text.value))
    }

    /// The value that one of a few words stands for.
    pub fn choice<T: Copy>(&self, at: &At<'_>, known: &[&'static str], values: &[T]) -> Option<T> {
        self.word(at, known).and_then(|index| values.get(index).copied())
    }

    /// One of a few words; its index.
    pub fn word(&self, at: &At<'_>, known: &[&'static str]) -> Option<usize> {
        let of = if known.len() > 1 { "one of " } else { "" };
        let expected = format!("{of}{}", words(known.iter().copied()));
        let text = self.text(at, &expected)?;
        let index = known.iter().position(|word| *word == text.value);
        if index.is_none() {
            let hint = nearest(&text.value, known.iter().copied());
            self.fault_near(at.node.place, &at.path, text.shown(), &expected, hint);
        }
        index
    }

    /// The word that stands in the place of a mapping; its index.
    pub fn instead(&self, at: &At<'_>, known: &[&str], expected: &str) -> Option<usize> {
        let Kind::Text(_) = &at.node.kind else {
            self.wrong(at, at.node.what(), expected);
            return None;
        };
        let text = self.text(at, expected)?;
        let index = known.iter().position(|word| *word == text.value);
        if index.is_none() {
            let hint = nearest(&text.value, known.iter().copied());
            self.fault_near(at.node.place, &at.path, text.shown(), expected, hint);
        }
        index
    }

    /// A share of the whole, in percent and whole tenths of one; from `least` tenths to all.
    pub fn percentage(&self, at: &At<'_>, least: u32) -> Option<f64> {
        let from = units::show_weight(least);
        let expected = format!("a percentage from {from} to 100% in tenths, like 20% or 0.5%");
        let read = |text: &str| {
            let tenths = units::weight(text).ok().filter(|tenths| (least..=1000).contains(tenths));
            tenths.map(|tenths| f64::from(tenths) / 10.0).ok_or(UnitError(expected.clone()))
        };
        self.quantity(at, &expected, read)
    }

    /// A value nobody may see: as it is, from the environment, or the content of `file:/path`
    /// without one line end. It will stand in a header, so control characters are refused.
    pub fn secret(&self, at: &At<'_>) -> Option<Secret> {
        const EXPECTED: &str = "a secret: ${NAME}, or file:/path of a file that holds it";
        let Kind::Text(raw) = &at.node.kind else {
            self.wrong(at, at.node.what(), EXPECTED);
            return None;
        };
        let value = if let Some(path) = raw.strip_prefix("file:") {
            let (_, shown, bytes) = self.open(at, path, LARGEST)?;
            let Ok(content) = String::from_utf8(bytes) else {
                let found = format!("{shown}, a file that is not UTF-8");
                self.wrong(at, found, "a file that holds a secret of printable characters");
                return None;
            };
            let content = content.strip_suffix('\n').unwrap_or(&content);
            Cow::Owned(content.strip_suffix('\r').unwrap_or(content).to_owned())
        } else {
            self.expand(at, raw)?.value
        };
        if value.is_empty() || !value.bytes().all(|b| (b' '..=b'~').contains(&b)) {
            let found = if value.is_empty() {
                "an empty secret"
            } else {
                "a secret with control characters or letters beyond ASCII"
            };
            self.wrong(at, found, "a secret of printable ASCII characters on one line");
            return None;
        }
        Some(Secret::new(value.as_ref()))
    }

    /// Path of a PEM file that can be read now.
    pub fn pem(&self, at: &At<'_>) -> Option<PathBuf> {
        let Kind::Text(raw) = &at.node.kind else {
            self.wrong(at, at.node.what(), "the path of a PEM file");
            return None;
        };
        let (path, shown, bytes) = self.open(at, raw, LARGEST)?;
        if memchr::memmem::find(&bytes, b"-----BEGIN ").is_none() {
            self.wrong(at, format!("{shown}, a file without a PEM block"), "-----BEGIN …");
            return None;
        }
        Some(path)
    }

    /// Path of a file that can be read now and has at most so many bytes.
    pub fn file(&self, at: &At<'_>, expected: &str, largest: u64) -> Option<PathBuf> {
        let Kind::Text(raw) = &at.node.kind else {
            self.wrong(at, at.node.what(), expected);
            return None;
        };
        self.open(at, raw, largest).map(|(path, ..)| path)
    }

    /// A path that need not be there.
    pub fn path(&self, at: &At<'_>, expected: &str) -> Option<PathBuf> {
        self.text(at, expected).map(|text| self.world.dir.join(text.value.as_ref()))
    }

    /// The file's absolute path, the path as it may be shown, and the content.
    fn open(&self, at: &At<'_>, raw: &str, largest: u64) -> Option<(PathBuf, String, Vec<u8>)> {
        let text = self.expand(at, raw)?;
        let path = self.world.dir.join(text.value.as_ref());
        match (self.world.read)(&path, largest) {
            Ok(bytes) => {
                self.files.borrow_mut().push((path.clone(), blake3::hash(&bytes)));
                Some((path, text.shown_path(), bytes))
            }
            Err(error) => {
                let found = format!("{}, a file that cannot be read: {error}", text.shown_path());
                self.wrong(at, found, "a file that this process may read");
                None
            }
        }
    }
}

impl<'r, 'n> Fields<'r, 'n> {
    /// A time that another key bounds: a longer one is a fault, a longer default is cut.
    pub fn time_within(&self, name: &str, default: Duration, most: Duration, of: &str) -> Duration {
        self.maybe_within(name, most, of, Reader::some_time).unwrap_or(default.min(most))
    }

    /// The same for a key without a default.
    pub fn maybe_within(
        &self,
        name: &str,
        most: Duration,
        of: &str,
        read: impl FnOnce(&'r Reader<'r>, &At<'n>) -> Option<Duration>,
    ) -> Option<Duration> {
        let at = self.get(name)?;
        let value = read(self.reader, &at)?;
        if value > most {
            let expected = format!("at most `{of}`, which is {}", show_duration(most));
            self.reader.wrong(&at, format!("`{}`", show_duration(value)), &expected);
        }
        Some(value)
    }
}

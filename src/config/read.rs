//! Typed readers over the tree of `file.rs`. A reader that fails notes a fault and gives `None`;
//! the walk goes on, so that one run finds every fault.
//!
//! Secrets: a value that came from the environment is shown by the name of its variable only,
//! and `secret` never shows anything. `${NAME}` stands in values only, and what it gives is
//! data: it is not parsed as YAML and not expanded again.
use std::borrow::Cow;
use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Secret;
use super::fault::{Fault, nearest};
use super::file::{Kind, Node, Place};
use super::interpolate::{Expanded, expand};
use super::keys::Section;
use crate::units;

/// What the file may refer to outside itself.
pub(super) struct World<'w> {
    pub env: &'w dyn Fn(&str) -> Option<String>,
    pub read: &'w dyn Fn(&Path) -> io::Result<Vec<u8>>,
    /// Relative paths start here.
    pub dir: &'w Path,
}

pub(super) struct Reader<'w> {
    pub file: &'w str,
    pub world: World<'w>,
    pub faults: RefCell<Vec<Fault>>,
    /// Files that were read: secrets, certificates, keys; with the hash of what they held.
    pub files: RefCell<Vec<(PathBuf, blake3::Hash)>>,
}

/// A value and its path from the root.
#[derive(Clone)]
pub(super) struct At<'n> {
    pub node: &'n Node,
    pub path: String,
}

/// A mapping whose keys are known, each there at most once.
pub(super) struct Fields<'r, 'n> {
    reader: &'r Reader<'r>,
    pub path: String,
    pub place: Place,
    entries: Vec<(&'n str, &'n Node)>,
}

impl<'n> At<'n> {
    pub fn child(&self, name: &str, node: &'n Node) -> Self {
        let path =
            if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        Self { node, path }
    }

    fn item(&self, index: usize, node: &'n Node) -> Self {
        Self { node, path: format!("{}[{index}]", self.path) }
    }
}

impl<'r> Reader<'r> {
    pub fn new(file: &'r str, world: World<'r>) -> Self {
        Self { file, world, faults: RefCell::default(), files: RefCell::default() }
    }

    pub fn fault(&self, place: Place, path: &str, found: impl Into<String>, expected: &str) {
        self.fault_near(place, path, found, expected, None);
    }

    pub fn fault_near(
        &self,
        place: Place,
        path: &str,
        found: impl Into<String>,
        expected: &str,
        hint: Option<&str>,
    ) {
        self.faults.borrow_mut().push(Fault {
            file: self.file.to_owned(),
            line: place.line,
            column: place.column,
            path: path.to_owned(),
            found: found.into(),
            expected: expected.to_owned(),
            hint: hint.map(str::to_owned),
        });
    }

    /// A fault of this value.
    pub fn wrong(&self, at: &At<'_>, found: impl Into<String>, expected: &str) {
        self.fault(at.node.place, &at.path, found, expected);
    }

    /// A mapping with the keys of `section`. Unknown and repeated keys are faults; the rest of
    /// the mapping is still read.
    pub fn section<'n>(&'r self, at: &At<'n>, section: &'static Section) -> Option<Fields<'r, 'n>> {
        let Kind::Map(entries) = &at.node.kind else {
            let expected = format!("a mapping with {}", words(section.keys.iter().map(|k| k.name)));
            self.wrong(at, at.node.what(), &expected);
            return None;
        };
        let mut kept: Vec<(&str, &Node)> = Vec::new();
        for entry in entries {
            let path = at.child(&shown_key(&entry.key), &entry.value).path;
            if section.key(&entry.key).is_none() {
                self.unknown_key(entry.place, &path, &entry.key, section);
            } else if kept.iter().any(|(name, _)| *name == entry.key) {
                self.fault(entry.place, &path, "the key a second time", "each key once");
            } else {
                kept.push((&entry.key, &entry.value));
            }
        }
        let (path, place) = (at.path.clone(), at.node.place);
        Some(Fields { reader: self, path, place, entries: kept })
    }

    fn unknown_key(&self, place: Place, path: &str, key: &str, section: &Section) {
        let expected = words(section.keys.iter().map(|key| key.name));
        if section.later.contains(&key) {
            let found = format!("`{key}`, which is not supported in this version");
            self.fault(place, path, found, &expected);
            return;
        }
        let hint = synonym(key)
            .filter(|word| section.key(word).is_some())
            .or_else(|| nearest(key, section.keys.iter().map(|key| key.name)));
        let found = format!("unknown key `{}`", shown_key(key));
        self.fault_near(place, path, found, &expected, hint);
    }

    /// A mapping from names of the user's own. Repeated and ill-formed names are faults.
    pub fn names<'n>(&self, at: &At<'n>, expected: &str) -> Vec<(&'n str, Place, At<'n>)> {
        let Kind::Map(entries) = &at.node.kind else {
            self.wrong(at, at.node.what(), expected);
            return Vec::new();
        };
        if entries.is_empty() {
            self.wrong(at, "an empty mapping", expected);
        }
        let mut kept: Vec<(&str, Place, At<'_>)> = Vec::new();
        for entry in entries {
            let child = at.child(&shown_key(&entry.key), &entry.value);
            if kept.iter().any(|(name, _, _)| *name == entry.key) {
                self.fault(entry.place, &child.path, "the name a second time", "each name once");
            } else {
                kept.push((&entry.key, entry.place, child));
            }
        }
        kept
    }

    /// The items of a list that must hold something.
    pub fn list<'n>(&self, at: &At<'n>, expected: &str) -> Vec<At<'n>> {
        let Kind::List(items) = &at.node.kind else {
            self.wrong(at, at.node.what(), expected);
            return Vec::new();
        };
        if items.is_empty() {
            self.wrong(at, "an empty list", expected);
        }
        items.iter().enumerate().map(|(index, node)| at.item(index, node)).collect()
    }

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

    fn unit<T>(
        &self,
        at: &At<'_>,
        text: &Expanded<'_>,
        value: Result<T, units::UnitError>,
    ) -> Option<T> {
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

    /// One of a few words; its index.
    pub fn word(&self, at: &At<'_>, known: &[&'static str]) -> Option<usize> {
        let expected = format!("one of {}", words(known.iter().copied()));
        let text = self.text(at, &expected)?;
        let index = known.iter().position(|word| *word == text.value);
        if index.is_none() {
            let hint = nearest(&text.value, known.iter().copied());
            self.fault_near(at.node.place, &at.path, text.shown(), &expected, hint);
        }
        index
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
            let path = self.expand(at, path)?;
            let path = self.absolute(&path.value);
            let bytes = self.open(at, &path)?;
            let Ok(content) = String::from_utf8(bytes) else {
                let found = format!("file {} that is not UTF-8", path.display());
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
        let text = self.text(at, "the path of a PEM file")?;
        let path = self.absolute(&text.value);
        let bytes = self.open(at, &path)?;
        if memchr::memmem::find(&bytes, b"-----BEGIN ").is_none() {
            let found = format!("file {} without a PEM block", path.display());
            self.wrong(at, found, "a PEM file (-----BEGIN …)");
            return None;
        }
        Some(path)
    }

    fn open(&self, at: &At<'_>, path: &Path) -> Option<Vec<u8>> {
        match (self.world.read)(path) {
            Ok(bytes) => {
                self.files.borrow_mut().push((path.to_owned(), blake3::hash(&bytes)));
                Some(bytes)
            }
            Err(error) => {
                let found = format!("file {} that cannot be read: {error}", path.display());
                self.wrong(at, found, "a file that this process may read");
                None
            }
        }
    }

    fn absolute(&self, path: &str) -> PathBuf {
        self.world.dir.join(path)
    }
}

impl<'r, 'n> Fields<'r, 'n> {
    pub fn get(&self, name: &str) -> Option<At<'n>> {
        let (_, node) = self.entries.iter().find(|(key, _)| *key == name)?;
        Some(At { node, path: format!("{}.{name}", self.path).trim_start_matches('.').to_owned() })
    }

    /// The key's value through `read`, or `default` when it is absent or at fault.
    pub fn read<T>(
        &self,
        name: &str,
        default: T,
        read: impl FnOnce(&'r Reader<'r>, &At<'n>) -> Option<T>,
    ) -> T {
        self.get(name).and_then(|at| read(self.reader, &at)).unwrap_or(default)
    }

    /// The key's value through `read`, if it is there and right.
    pub fn maybe<T>(
        &self,
        name: &str,
        read: impl FnOnce(&'r Reader<'r>, &At<'n>) -> Option<T>,
    ) -> Option<T> {
        self.get(name).and_then(|at| read(self.reader, &at))
    }

    /// The key must be there.
    pub fn needed(&self, name: &str, expected: &str) -> Option<At<'n>> {
        let at = self.get(name);
        if at.is_none() {
            let found = format!("no key `{name}`");
            self.reader.fault(self.place, &self.path, found, expected);
        }
        at
    }
}

/// `a, b or c`
pub(super) fn words<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<&str> = words.into_iter().collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

/// A key as it may be shown: short, on one line.
fn shown_key(key: &str) -> String {
    let key: String = key.escape_debug().collect();
    match key.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &key[..end]),
        None => key,
    }
}

/// Words of other proxies, for keys that no count of edits would find.
fn synonym(key: &str) -> Option<&'static str> {
    Some(match key {
        "base_url" | "address" | "endpoint" | "host" | "target" => "url",
        "backends" | "providers" | "clusters" | "models" => "upstreams",
        "api_key" | "apikey" | "token" | "secret" | "credential" => "key",
        "bind" | "addr" | "port" => "listen",
        "upstream" | "backend" | "destination" => "to",
        "prefix" | "path_prefix" | "location" => "path",
        "certificate" | "cert_file" => "cert",
        "key_file" | "private_key" => "key",
        "ca_file" | "ca_cert" => "ca",
        "max_concurrency" | "max_requests" | "max_in_flight" => "concurrency",
        "logging" | "log" | "logs" => "telemetry",
        "log_level" => "level",
        "format" => "form",
        "provider" | "type" => "dialect",
        _ => return None,
    })
}

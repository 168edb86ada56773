//! Typed readers over the tree of `file.rs`. A reader that fails notes a fault and gives `None`;
//! the walk goes on, so that one run finds every fault.
//!
//! Secrets: a value that came from the environment is shown by the name of its variable only,
//! and `secret` never shows anything.
mod values;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use super::fault::{Fault, nearest};
use super::file::{Entry, Kind, Node, Place};
use super::keys::Section;

/// Reads a file that has at most so many bytes.
pub(super) type ReadFile<'w> = &'w dyn Fn(&Path, u64) -> io::Result<Vec<u8>>;

/// What the file may refer to outside itself.
pub(super) struct World<'w> {
    pub env: &'w dyn Fn(&str) -> Option<String>,
    pub read: ReadFile<'w>,
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
    entries: Vec<&'n Entry>,
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
        let (known, unknown): (Vec<&Entry>, Vec<&Entry>) =
            entries.iter().partition(|entry| section.key(&entry.key).is_some());
        for entry in unknown {
            let path = at.child(&shown_key(&entry.key), &entry.value).path;
            self.unknown_key(entry.place, &path, &entry.key, section);
        }
        let entries = self.once(at, known);
        Some(Fields { reader: self, path: at.path.clone(), place: at.node.place, entries })
    }

    /// The first of each key; a second one is a fault.
    fn once<'n>(
        &self,
        at: &At<'n>,
        entries: impl IntoIterator<Item = &'n Entry>,
    ) -> Vec<&'n Entry> {
        let mut kept: Vec<&Entry> = Vec::new();
        let mut lines: HashMap<&str, u32> = HashMap::new();
        for entry in entries {
            let Some(line) = lines.get(entry.key.as_str()) else {
                lines.insert(&entry.key, entry.place.line);
                kept.push(entry);
                continue;
            };
            let path = at.child(&shown_key(&entry.key), &entry.value).path;
            let found = format!("the key a second time; first on line {line}");
            self.fault(entry.place, &path, found, "each key once");
        }
        kept
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
        let child = |entry: &'n Entry| at.child(&shown_key(&entry.key), &entry.value);
        let entries = self.once(at, entries);
        entries.into_iter().map(|entry| (entry.key.as_str(), entry.place, child(entry))).collect()
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
}

impl<'r, 'n> Fields<'r, 'n> {
    pub fn get(&self, name: &str) -> Option<At<'n>> {
        let entry = self.entries.iter().find(|entry| entry.key == name)?;
        let path =
            if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        Some(At { node: &entry.value, path })
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
        "api_key" | "apikey" | "token" | "secret" | "credential" | "key_file" | "private_key" => {
            "key"
        }
        "bind" | "addr" | "port" => "listen",
        "upstream" | "backend" | "destination" => "to",
        "prefix" | "path_prefix" | "location" => "path",
        "certificate" | "cert_file" => "cert",
        "ca_file" | "ca_cert" => "ca",
        "max_concurrency" | "max_requests" | "max_in_flight" => "concurrency",
        "logging" | "log" | "logs" => "telemetry",
        "log_level" => "level",
        "budget" | "cost" => "spend",
        "rpm" | "requests_per_minute" => "requests",
        "tpm" | "tokens_per_minute" => "tokens",
        "scope" => "per",
        "hash" | "digest" | "key" => "sha256",
        "max_wait" | "timeout" => "wait",
        "max_depth" | "max_size" => "depth",
        "max_age" | "expiry" | "expires" | "lifetime" => "ttl",
        "max_bytes" | "capacity" | "size" => "memory",
        "similarity" | "min_score" => "threshold",
        "user" | "client" | "consumer" => "agent",
        "organization" | "tenant" | "project" => "team",
        "limits" | "rate_limits" | "quotas" | "budgets" | "cache" => "policies",
        "api_keys" | "credentials" => "keys",
        "lb_policy" | "load_balancing" | "strategy" => "balance",
        "max_attempts" | "max_retries" | "num_retries" => "attempts",
        "circuit_breaker" | "outlier_detection" => "breaker",
        "health_check" | "healthcheck" => "health",
        "interval" | "period" => "every",
        "aliases" | "model_aliases" | "model_map" => "models",
        "format" => "form",
        "provider" | "type" => "dialect",
        _ => return None,
    })
}

//! The sources as text: what is code, what is a test, what a path points to.
//!
//! No parser: comments and literals are blanked, blocks are found by their brackets. That is exact
//! for code that `rustfmt` has laid out. Every view of a file has the same length as its text, so
//! that a place in one is a place in all.
use std::fmt;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::LazyLock;

/// One file below `src/`.
pub struct Source {
    /// As written below `src/`: `pipeline/gate.rs`.
    pub path: String,
    /// Code alone, without tests: comments and literals are blanks.
    pub code: String,
    /// The same with its literals.
    pub literal: String,
    /// As it was read.
    pub text: String,
    /// Bytes of `text` that only tests are built from.
    tests: Vec<Range<usize>>,
}

/// A broken rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Breach {
    pub path: String,
    pub line: usize,
    pub rule: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "src/{}:{}: {}", self.path, self.line, self.rule)
    }
}

/// A path in the code that begins at the crate's root.
#[derive(Debug, PartialEq, Eq)]
pub struct Reference {
    pub room: String,
    pub at: usize,
}

/// A function with a body.
pub struct Function<'s> {
    pub name: &'s str,
    pub at: usize,
    /// From the line of `fn` to that of its last brace.
    pub lines: usize,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let mut code = blank(text, true);
        let mut literal = blank(text, false);
        let whole = is_test_file(path).then_some(0..text.len());
        let tests = whole.map_or_else(|| test_items(&code), |whole| vec![whole]);
        for range in &tests {
            erase(&mut code, range.clone());
            erase(&mut literal, range.clone());
        }
        Self { path: path.to_owned(), code, literal, text: text.to_owned(), tests }
    }

    /// The first part of the path: the room that the file belongs to.
    pub fn room(&self) -> &str {
        self.path.split(['/', '.']).next().unwrap_or_default()
    }

    pub fn line(&self, at: usize) -> usize {
        lines(&self.text[..at]) + 1
    }

    pub fn breach(&self, at: usize, rule: impl Into<String>) -> Breach {
        Breach { path: self.path.clone(), line: self.line(at), rule: rule.into() }
    }

    /// Lines that are not there for tests alone.
    pub fn production_lines(&self) -> usize {
        let tests: usize = self.tests.iter().map(|r| lines(&self.text[r.clone()]) + 1).sum();
        self.text.lines().count().saturating_sub(tests)
    }

    /// Where `needle` stands as a word or the beginning of a path.
    pub fn find<'s>(&'s self, needle: &'s str) -> impl Iterator<Item = usize> + 's {
        words(&self.code, needle)
    }

    /// Every room that the code names, by `crate::` or by `super::` up to the root.
    pub fn references(&self) -> Vec<Reference> {
        let mut found = Vec::new();
        for at in self.find("crate::") {
            rooms(&self.code, at + "crate::".len(), at, &mut found);
        }
        for at in self.find("super::") {
            if self.code[..at].ends_with("super::") {
                continue;
            }
            let chain = self.code[at..].split("::").take_while(|part| *part == "super").count();
            if chain >= self.depth(at) {
                rooms(&self.code, at + chain * "super::".len(), at, &mut found);
            }
        }
        found.sort_by_key(|reference| reference.at);
        found
    }

    pub fn functions(&self) -> Vec<Function<'_>> {
        let functions = words(&self.code, "fn ").filter_map(|at| {
            let rest = &self.code[at + 3..];
            let name = &rest[..rest.find(|c: char| !is_word(c))?];
            let end = closing(&self.code, body(&self.code, at).filter(|_| !name.is_empty())?)?;
            Some(Function { name, at, lines: lines(&self.code[at..end]) + 1 })
        });
        functions.collect()
    }

    /// How many modules the place is below the crate's root.
    fn depth(&self, at: usize) -> usize {
        let file = if self.path == "lib.rs" { 0 } else { self.path.split('/').count() };
        let inline = words(&self.code[..at], "mod ").filter(|&module| {
            let open = self.code[module..at].find(['{', ';']).map(|offset| module + offset);
            open.and_then(|open| closing(&self.code, open)).is_some_and(|end| end > at)
        });
        file + inline.count()
    }
}

/// All files of the project, by name.
pub fn all() -> &'static [Source] {
    #[expect(clippy::unwrap_used, reason = "a source that cannot be read ends the test")]
    static ALL: LazyLock<Vec<Source>> = LazyLock::new(|| {
        let mut sources = Vec::new();
        collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut sources).unwrap();
        sources.sort_by(|a, b| a.path.cmp(&b.path));
        sources
    });
    &ALL
}

fn collect(folder: &Path, prefix: &str, sources: &mut Vec<Source>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = format!("{prefix}{}", entry.file_name().display());
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), &format!("{path}/"), sources)?;
        } else if Path::new(&path).extension().is_some_and(|extension| extension == "rs") {
            sources.push(Source::new(&path, &fs::read_to_string(entry.path())?));
        }
    }
    Ok(())
}

fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn lines(text: &str) -> usize {
    text.matches('\n').count()
}

fn words<'s>(code: &'s str, needle: &'s str) -> impl Iterator<Item = usize> + 's {
    let starts = |at: usize| !needle.starts_with(is_word) || !code[..at].ends_with(is_word);
    let ends = move |at: usize| {
        !needle.ends_with(is_word) || !code[at + needle.len()..].starts_with(is_word)
    };
    code.match_indices(needle).map(|(at, _)| at).filter(move |&at| starts(at) && ends(at))
}

/// The rooms of a path, or of a group of paths, that begins at `from`.
fn rooms(code: &str, from: usize, at: usize, found: &mut Vec<Reference>) {
    let rest = &code[from..];
    let mut add = |path: &str| {
        let room = path.trim_start().split(|c| !is_word(c)).next().unwrap_or_default();
        found.push(Reference { room: room.to_owned(), at });
    };
    let Some(group) = rest.strip_prefix('{') else { return add(rest) };
    let end = closing(code, from).map_or(group.len(), |end| end - from - 2);
    let (mut depth, mut start) = (0_usize, 0);
    for (offset, c) in group[..end].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                add(&group[start..offset]);
                start = offset + 1;
            }
            _ => {}
        }
    }
    if !group[start..end].trim().is_empty() {
        add(&group[start..end]);
    }
}

/// Where the body of the function at `at` begins; a `;` in an array's type does not end it.
fn body(code: &str, at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (offset, c) in code[at..].char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth = depth.checked_sub(1)?,
            '{' if depth == 0 => return Some(at + offset),
            ';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// The byte after the brace that closes the one at `open`; `None`: there is none to close.
fn closing(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (offset, c) in code[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if depth == 0 {
            return (c == '}').then_some(open + offset + 1);
        }
    }
    None
}

/// What stands under `#[cfg(test)]`.
fn test_items(code: &str) -> Vec<Range<usize>> {
    let items = code.match_indices("#[cfg(test)]").filter_map(|(at, _)| {
        let open = at + code[at..].find(['{', ';'])?;
        Some(at..closing(code, open).unwrap_or(open + 1))
    });
    items.collect()
}

fn erase(text: &mut String, range: Range<usize>) {
    let blanks: String = text[range.clone()].bytes().map(blanked).collect();
    text.replace_range(range, &blanks);
}

fn blanked(byte: u8) -> char {
    if byte == b'\n' { '\n' } else { ' ' }
}

/// The text with its comments, and if asked its literals, as blanks of the same length.
fn blank(text: &str, literals: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let (end, comment) = token(text, at);
        if comment || (literals && is_literal(text, at)) {
            out.extend(text[at..end].bytes().map(blanked));
        } else {
            out.push_str(&text[at..end]);
        }
        at = end;
    }
    out
}

fn is_literal(text: &str, at: usize) -> bool {
    literal(text, at).is_some()
}

/// Where what begins here ends, and whether it is a comment.
fn token(text: &str, at: usize) -> (usize, bool) {
    let rest = &text[at..];
    if rest.starts_with("//") {
        return (at + rest.find('\n').unwrap_or(rest.len()), true);
    }
    if rest.starts_with("/*") {
        return (at + rest.find("*/").map_or(rest.len(), |end| end + 2), true);
    }
    if let Some(end) = literal(text, at) {
        return (end, false);
    }
    if rest.starts_with(is_word) {
        // a whole word, so that its last letter is not taken for a literal's prefix
        return (at + rest.find(|c| !is_word(c)).unwrap_or(rest.len()), false);
    }
    (at + rest.chars().next().map_or(1, char::len_utf8), false)
}

/// The end of the string or character that begins here.
fn literal(text: &str, at: usize) -> Option<usize> {
    let rest = &text[at..];
    let prefix = ["br", "cr", "b", "c", "r", ""].into_iter().find(|prefix| {
        rest.strip_prefix(prefix).is_some_and(|rest| {
            rest.starts_with('"')
                || rest.starts_with('\'')
                || rest.starts_with("#\"")
                || rest.starts_with("##\"")
        })
    })?;
    let body = &rest[prefix.len()..];
    let from = at + prefix.len();
    if prefix.ends_with('r') {
        let hashes = &body[..body.find('"')?];
        let close = format!("\"{hashes}");
        let open = hashes.len() + 1;
        return Some(from + open + body[open..].find(&close)? + close.len());
    }
    let quote = body.chars().next().filter(|quote| *quote != '#')?;
    let mut escaped = false;
    let mut inside = body.char_indices().skip(1);
    let end = inside.find(|(_, c)| {
        let ends = !escaped && *c == quote;
        escaped = !escaped && *c == '\\';
        ends
    });
    let end = end?.0;
    let lifetime =
        quote == '\'' && !body[1..].starts_with('\\') && body[1..end].chars().count() != 1;
    (!lifetime).then_some(from + end + 1)
}

//! The reference of the policy file as one Markdown page, made from the table of keys, so that it
//! tells what the readers accept: each key with what it takes, its default, and its line of why.
//!
//! A section has one heading, at the first path that leads to it; later ones link there.
use std::collections::VecDeque;
use std::fmt::Write as _;

use super::keys::{Key, ROOT, Section, Shape};

const HEAD: &str = "\
# The policy file, key by key

<!-- made by `tidegate schema --markdown`; a test holds this page to it -->

Every key with what it takes, its default, and why. [config.example.yaml]\
(https://github.com/tidegate/tidegate/blob/main/config.example.yaml) has the same as a file to copy
from, and `tidegate schema` prints a JSON Schema for editors. A key that is not here is refused, by name
and line. `–` in the column of defaults: without the key there is none of it, or its line says what holds.

| written as | is |
|---|---|
| duration | `250ms` `30s` `15m` `1h` `1d` |
| size | `512B` `64KiB` `32MiB` `1GiB`, or `kB` `MB` `GB` by thousands |
| percentage | `10%` `125%` |
| rate | `AMOUNT/PERIOD` and words: `600/min`, `400k/min burst 100k`, `5M/day calendar hard`; a period is `s`, `min`, `h`, `hour`, `day` or `month`; a word is `burst AMOUNT`, `calendar`, `observe`, `soft` or `hard` |
| money rate | the same in US dollars: `$20/day`, `$300/month hard`; by `hour`, `day` and `month` it begins anew with the calendar's, by `h` it refills steadily |
| calls at once | a whole number, and `observe`, `soft` or `hard` |
| secret | `${NAME}`, `${NAME:-default}` or `file:/path`; never shown anywhere |
| list | one or more, in `[ ]` or on lines of their own |

Any value may hold `${NAME}` or `${NAME:-default}`, which come from the environment; `$${` is a plain `${`.
Relative paths begin at the directory of the policy file.
";

/// A section that is to be told, and how it is reached.
struct Chapter {
    path: String,
    section: &'static Section,
}

/// The sections in the order in which they are told.
struct Book {
    chapters: Vec<Chapter>,
}

/// The whole page.
pub fn reference() -> String {
    let book = Book::new();
    let mut out = HEAD.to_owned();
    for chapter in &book.chapters {
        book.tell(chapter, &mut out);
    }
    out
}

impl Book {
    fn new() -> Self {
        let mut chapters: Vec<Chapter> = Vec::new();
        let mut waiting = VecDeque::from([Chapter { path: String::new(), section: &ROOT }]);
        while let Some(chapter) = waiting.pop_front() {
            if chapters.iter().any(|told| std::ptr::eq(told.section, chapter.section)) {
                continue;
            }
            let mut below = Vec::new();
            for key in chapter.section.keys {
                let dot = if chapter.path.is_empty() { "" } else { "." };
                sections(key.shape, format!("{}{dot}{}", chapter.path, key.name), &mut below);
            }
            // what is below a section comes right behind it
            for chapter in below.into_iter().rev() {
                waiting.push_front(chapter);
            }
            chapters.push(chapter);
        }
        Self { chapters }
    }

    fn tell(&self, chapter: &Chapter, out: &mut String) {
        let Chapter { path, section } = chapter;
        // a String takes all that is written
        let _ = match &**path {
            "" => write!(out, "\n## The whole file\n\n"),
            path => write!(out, "\n## `{path}`\n\n{}.\n\n", section.title),
        };
        out.push_str("| key | takes | default | |\n|---|---|---|---|\n");
        for key in section.keys {
            let needed = if section.required.contains(&key.name) { " (needed)" } else { "" };
            let default = key.default.map_or_else(|| "–".to_owned(), |text| format!("`{text}`"));
            let takes = self.takes(key);
            let doc = key.doc.replace('|', "\\|");
            let _ = writeln!(out, "| `{}`{needed} | {takes} | {default} | {doc} |", key.name);
        }
    }

    fn takes(&self, key: &Key) -> String {
        self.words(key.shape).replace('|', "\\|")
    }

    fn words(&self, shape: &'static Shape) -> String {
        match shape {
            Shape::Duration => "duration".to_owned(),
            Shape::Size => "size".to_owned(),
            Shape::Count(least) => format!("whole number, {least} or more"),
            Shape::Decimal => "decimal number".to_owned(),
            Shape::Flag => "`true` or `false`".to_owned(),
            Shape::Weight => "percentage".to_owned(),
            Shape::Rate => "rate".to_owned(),
            Shape::Spend => "money rate".to_owned(),
            Shape::AtMost => "`<=0.3`".to_owned(),
            Shape::AtOnce => "calls at once".to_owned(),
            Shape::Hash => "64 hexadecimal digits".to_owned(),
            Shape::Word(words) => {
                words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
            }
            Shape::Text(form) => format!("text: {}", form.replace('*', "\\*")),
            Shape::Secret => "secret".to_owned(),
            Shape::LogFile => "`/path` or `./path` of a file".to_owned(),
            Shape::File => "path of a PEM file".to_owned(),
            Shape::Section(section) => self.link(section),
            Shape::Names(value) => format!("names of your own, each with {}", self.words(value)),
            Shape::List(item) => format!("list of {}", self.words(item)),
            Shape::AnyOf(shapes) => {
                shapes.iter().map(|shape| self.words(shape)).collect::<Vec<_>>().join("; or ")
            }
        }
    }

    fn link(&self, section: &'static Section) -> String {
        let told = self.chapters.iter().find(|told| std::ptr::eq(told.section, section));
        let path = told.map_or("", |told| &told.path);
        format!("[`{path}`](#{})", anchor(path))
    }
}

/// Those that a value of this shape may hold, and their paths.
fn sections(shape: &'static Shape, path: String, found: &mut Vec<Chapter>) {
    match shape {
        Shape::Section(section) => found.push(Chapter { path, section }),
        Shape::Names(value) => sections(value, format!("{path}.NAME"), found),
        Shape::List(item) => sections(item, format!("{path}[]"), found),
        Shape::AnyOf(shapes) => {
            for shape in *shapes {
                sections(shape, path.clone(), found);
            }
        }
        _ => {}
    }
}

/// What a heading is called in a link.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_ascii_alphanumeric() || "_-".contains(*c));
    kept.map(|c| c.to_ascii_lowercase()).collect()
}

//! Words and phrases that say the same, and words that do not, from `data/lexicon.txt`.
//!
//! Only what is the same in every sentence that a person would write: spellings, short forms,
//! regional words, ways to open a question. Near synonyms ("order" and "request") stay apart. The
//! file is read at first use into tables that find a phrase by its first word.
use std::collections::HashMap;
use std::sync::OnceLock;

use super::words::Words;

static FILE: &str = include_str!("data/lexicon.txt");

/// What a word does in a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Articles and the like: two questions may differ in them.
    Soft,
    Content,
    /// A closed word that changes what is asked: prepositions, quantifiers, modals, persons.
    Hard,
    Negation,
    Number,
    /// What opens a question.
    Frame,
    Sign,
    Verbatim,
}

/// A list of words and phrases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// Verbs that make a request of `can you`.
    Requests,
    Greetings,
    /// After a greeting: then it is what the text is about.
    GoesOnWithGreeting,
    /// At the beginning, before a pause or the beginning of a question.
    Fillers,
    /// At the beginning, before `what`, `how` and the like.
    Leads,
    /// Polite at the end.
    Ends,
    /// Before a word that is spoken about, or that goes on.
    BeforeWhatIsMeant,
    /// Before a word that is spoken about.
    Sayers,
    /// Begins a question.
    Openers,
    /// `what`, `how` and the like.
    Wh,
    /// At the beginning: only goes on with something.
    GoingOn,
    /// Stands for something that was said.
    Pointers,
    Now,
    /// Times of which `this` and `last` pick one.
    Spans,
    /// Of the asker, and changing.
    Own,
    /// After the `it` of "is it possible".
    AfterDummyIt,
    /// Case or punctuation is what the text is about.
    AboutLetters,
}

/// In the order of [`List`].
const LISTS: [&str; 17] = [
    "requests",
    "greetings",
    "goes-on-with-greeting",
    "fillers",
    "leads",
    "ends",
    "before-what-is-meant",
    "sayers",
    "openers",
    "wh",
    "going-on",
    "pointers",
    "now",
    "spans",
    "own",
    "after-dummy-it",
    "about-letters",
];

#[derive(Default)]
struct Tables {
    words: HashMap<&'static str, (Class, &'static str)>,
    /// By first word; the longest first.
    phrases: HashMap<&'static str, Vec<(&'static str, &'static str)>>,
    /// Phrases of each list by first word.
    lists: [HashMap<&'static str, Vec<&'static str>>; LISTS.len()],
    contrary: HashMap<&'static str, Vec<&'static str>>,
}

static TABLES: OnceLock<Tables> = OnceLock::new();

fn tables() -> &'static Tables {
    TABLES.get_or_init(|| Tables::read(FILE))
}

fn first(phrase: &'static str) -> &'static str {
    phrase.split(' ').next().unwrap_or_default()
}

impl Tables {
    fn read(file: &'static str) -> Self {
        let mut tables = Self::default();
        for section in file.split("\n[").skip(1) {
            let Some((name, body)) = section.split_once("]\n") else { continue };
            let body = body.trim();
            match name {
                "soft" => tables.classify(Class::Soft, body),
                "negation" => tables.classify(Class::Negation, body),
                "hard" => tables.classify(Class::Hard, body),
                "same" => items(body).for_each(|group| tables.same(group)),
                "phrases" => tables.rewrite(body),
                "antonyms" => tables.contraries(body),
                _ => tables.list(name, body),
            }
        }
        for phrases in tables.phrases.values_mut() {
            phrases.sort_by_key(|(phrase, _)| std::cmp::Reverse(phrase.split(' ').count()));
        }
        tables
    }

    fn classify(&mut self, class: Class, body: &'static str) {
        self.words.extend(items(body).map(|word| (word, (class, word))));
    }

    /// A group with a closed word is closed.
    fn same(&mut self, group: &'static str) {
        let known = group.split(' ').find_map(|word| self.words.get(word));
        let class = known.map_or(Class::Content, |&(class, _)| class);
        self.words.extend(group.split(' ').map(|word| (word, (class, first(group)))));
    }

    fn rewrite(&mut self, body: &'static str) {
        // a rule goes over lines that begin with spaces
        let mut from: Vec<&'static str> = Vec::new();
        for item in items(body) {
            let (phrase, becomes) = match item.split_once("->") {
                Some((phrase, becomes)) => (phrase.trim(), Some(becomes.trim())),
                None => (item, None),
            };
            from.push(phrase);
            let Some(becomes) = becomes else { continue };
            for phrase in from.drain(..) {
                self.phrases.entry(first(phrase)).or_default().push((phrase, becomes));
            }
        }
    }

    fn contraries(&mut self, body: &'static str) {
        for (one, other) in items(body).filter_map(|pair| pair.split_once(' ')) {
            self.contrary.entry(one).or_default().push(other);
            self.contrary.entry(other).or_default().push(one);
        }
    }

    fn list(&mut self, name: &str, body: &'static str) {
        let Some(at) = LISTS.iter().position(|&list| list == name) else { return };
        for phrase in items(body) {
            self.lists[at].entry(first(phrase)).or_default().push(phrase);
        }
    }
}

/// Items are parted by commas, and rules by the ends of lines.
fn items(body: &'static str) -> impl Iterator<Item = &'static str> {
    body.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// The class of a word, and what it becomes. `None`: a content word that is not known here.
pub fn word(text: &str) -> Option<(Class, &'static str)> {
    tables().words.get(text).copied()
}

/// Phrases that begin with a word, the longest first, and what they become.
pub fn phrases(first: &str) -> &'static [(&'static str, &'static str)] {
    tables().phrases.get(first).map_or(&[], Vec::as_slice)
}

/// Whether a list has this one word.
pub fn has(list: List, word: &str) -> bool {
    tables().lists[list as usize].get(word).is_some_and(|phrases| phrases.contains(&word))
}

/// Words of the longest phrase of a list that begins at a place.
pub fn longest(list: List, words: &Words, at: usize) -> Option<usize> {
    let phrases = tables().lists[list as usize].get(words.at(at)?)?;
    phrases.iter().filter_map(|phrase| words.begin(at, phrase)).max()
}

/// Whether one of `others` means the contrary of a word, by list or by prefix (`un`, `dis`, …).
pub fn contrary<'a>(word: &str, mut others: impl Iterator<Item = &'a str>) -> bool {
    let known = tables().contrary.get(word).map_or(&[][..], Vec::as_slice);
    others.any(|other| known.contains(&other) || prefixed(word, other) || prefixed(other, word))
}

fn prefixed(short: &str, long: &str) -> bool {
    const PREFIXES: [&str; 9] = ["un", "in", "im", "dis", "non", "il", "ir", "de", "mis"];
    let prefix = || long.strip_suffix(short).is_some_and(|prefix| PREFIXES.contains(&prefix));
    short.len() >= 3 && long.len() > short.len() && prefix()
}

/// Digits of a number that is written as a word; `second` may be a time and is left.
pub fn number(word: &str) -> Option<&'static str> {
    Some(match word {
        "zero" => "0",
        "one" => "1",
        "two" => "2",
        "three" => "3",
        "four" => "4",
        "five" => "5",
        "six" => "6",
        "seven" => "7",
        "eight" => "8",
        "nine" => "9",
        "ten" => "10",
        "eleven" => "11",
        "thirteen" => "13",
        "fourteen" => "14",
        "fifteen" => "15",
        "sixteen" => "16",
        "seventeen" => "17",
        "eighteen" => "18",
        "nineteen" => "19",
        "twenty" => "20",
        "thirty" => "30",
        "forty" => "40",
        "fifty" => "50",
        "sixty" => "60",
        "seventy" => "70",
        "eighty" => "80",
        "ninety" => "90",
        "first" => "1st",
        "third" => "3rd",
        "fourth" => "4th",
        "fifth" => "5th",
        "twelve" | "dozen" => "12",
        _ => return None,
    })
}

/// Begins what may stand at either end of a question.
pub fn preposition(word: &str) -> bool {
    matches!(
        word,
        "in" | "on"
            | "at"
            | "to"
            | "for"
            | "with"
            | "by"
            | "from"
            | "near"
            | "into"
            | "during"
            | "under"
            | "within"
            | "after"
            | "before"
            | "without"
            | "through"
            | "inside"
            | "outside"
            | "as"
            | "via"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_section_is_known_and_in_place() {
        let tables = tables();
        for (list, name) in tables.lists.iter().zip(LISTS) {
            assert!(!list.is_empty(), "{name}");
        }
        let sections = FILE.matches("\n[").count();
        assert_eq!(sections, LISTS.len() + 6, "a section that nothing reads");
        assert_eq!(LISTS[List::AboutLetters as usize], "about-letters");
        assert_eq!(LISTS[List::Own as usize], "own");
    }

    #[test]
    fn words_phrases_and_contraries_are_found() {
        assert_eq!(word("colours"), Some((Class::Content, "color")));
        assert_eq!(word("toward"), Some((Class::Hard, "towards")));
        assert_eq!(word("zebra"), None);
        assert!(phrases("how").contains(&("how can i", "@how")));
        assert!(
            contrary("lock", ["unlock"].into_iter()) && contrary("close", ["open"].into_iter())
        );
        assert!(!contrary("card", ["cards"].into_iter()));
    }
}

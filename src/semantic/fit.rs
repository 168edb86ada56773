//! Questions that no other question may stand for, however alike.
//!
//! Their answer depends on something that the words do not say (an earlier turn, the time, who
//! asks), or the words are not prose (code, quotes, ids).
use super::form::Form;
use super::lexicon::{self, Class, List};
use super::table;
use super::words::{Kind, Words};

/// Why a question is never looked up by likeness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unfit {
    /// Fewer than two words that say what it is about.
    TooShort,
    /// It points at something said before.
    Anaphora,
    Code,
    /// It quotes something whose letters may be the point.
    Quote,
    /// An address, a path, a number of an order.
    Identifier,
    /// Its answer changes with the day.
    Time,
    TooLong,
    /// It asks for the state of the asker's own things.
    Personal,
    /// Mostly signs, or in a language that the lists do not know.
    Unreadable,
}

impl Unfit {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooShort => "too-short",
            Self::Anaphora => "anaphora",
            Self::Code => "code",
            Self::Quote => "quote",
            Self::Identifier => "identifier",
            Self::Time => "time",
            Self::TooLong => "too-long",
            Self::Personal => "personal",
            Self::Unreadable => "unreadable",
        }
    }
}

/// Words of the longest question that likeness is asked about.
const MOST_WORDS: usize = 120;
/// Lines of a question that is prose.
const MOST_LINES: usize = 4;

/// Why the text is unfit, if it is; the words are without politeness.
pub fn unfit(words: &Words, form: &Form) -> Option<Unfit> {
    let found = [
        (words.odd * 4 > words.list.len() || is_foreign(words), Unfit::Unreadable),
        (words.list.len() > MOST_WORDS || words.lines > MOST_LINES, Unfit::TooLong),
        (words.code, Unfit::Code),
        (words.quote, Unfit::Quote),
        (words.identifier, Unfit::Identifier),
        (points_back(words), Unfit::Anaphora),
        (form.content() < 2, Unfit::TooShort),
        (tells_time(words), Unfit::Time),
        (asks_own(words), Unfit::Personal),
    ];
    found.into_iter().find_map(|(is, unfit)| is.then_some(unfit))
}

/// Fewer than five words in eight are English: of the questions in English that were counted none
/// had fewer than six in ten, of those in other languages hardly any had more.
fn is_foreign(words: &Words) -> bool {
    let list = || words.list.iter().filter(|word| word.kind == Kind::Word);
    let known = list().filter(|word| table::is_word(words.text(**word))).count();
    known * 8 < list().count() * 5
}

fn points_back(words: &Words) -> bool {
    if lexicon::longest(List::GoingOn, words, 0).is_some() {
        return true;
    }
    let last = words.list.len().wrapping_sub(1);
    (0..words.list.len()).any(|at| {
        let (word, next) = (words.at(at).unwrap_or_default(), words.at(at + 1).unwrap_or_default());
        let before = at.checked_sub(1).and_then(|at| words.at(at)).unwrap_or_default();
        match word {
            "one" | "ones" => {
                matches!(
                    before,
                    "that"
                        | "this"
                        | "which"
                        | "the"
                        | "another"
                        | "other"
                        | "first"
                        | "second"
                        | "last"
                )
            }
            "it" => !(dummy(before, next) || said_before(words, at)),
            "there" => {
                !matches!(before, "is" | "are" | "was" | "were" | "be")
                    && !matches!(next, "is" | "are" | "a" | "any")
            }
            "above" | "previous" => before == "the" && (at == last || word == "above"),
            // "the card that I ordered", "is it true that"
            "that" => {
                at == last
                    || at == 0
                    || matches!(next, "one" | "is" | "was" | "work" | "mean" | "again")
            }
            "this" | "these" | "those" => at == last || !said_before(words, at) && is_closed(next),
            _ if lexicon::has(List::Pointers, word) => !said_before(words, at),
            _ => false,
        }
    })
}

/// The `it` of "is it possible" and "what time is it".
fn dummy(before: &str, next: &str) -> bool {
    let followed = lexicon::has(List::AfterDummyIt, next);
    followed
        && matches!(
            before,
            "is" | "does"
                | "will"
                | "would"
                | "did"
                | "was"
                | "how"
                | "what"
                | "be"
                | "if"
                | "as"
                | "that"
                | "find"
                | "make"
                | ""
        )
}

fn is_closed(word: &str) -> bool {
    word.is_empty() || lexicon::word(word).is_some_and(|(class, _)| class != Class::Content)
}

/// Whether two words with a meaning come before, so that what points may point at them.
fn said_before(words: &Words, at: usize) -> bool {
    let content = |at: &usize| !words.at(*at).is_none_or(is_closed);
    (0..at).filter(content).count() >= 2
}

fn tells_time(words: &Words) -> bool {
    (0..words.list.len()).any(|at| {
        let (word, next) = (words.at(at).unwrap_or_default(), words.at(at + 1).unwrap_or_default());
        match word {
            "this" | "last" => lexicon::has(List::Spans, next),
            "next" => lexicon::has(List::Spans, next) && next != "day",
            "so" => next == "far",
            "these" => next == "days",
            "at" => next == "the" && words.at(at + 2) == Some("moment"),
            "what" => next == "time" && words.begin(at, "what time is it").is_some(),
            // an account at a bank
            "current" => !matches!(next, "account" | "accounts"),
            _ => lexicon::has(List::Now, word),
        }
    })
}

fn asks_own(words: &Words) -> bool {
    let first = words.at(0).unwrap_or_default();
    let second = words.at(1).unwrap_or_default();
    let asks = matches!(
        first,
        "what"
            | "where"
            | "when"
            | "which"
            | "who"
            | "is"
            | "are"
            | "was"
            | "did"
            | "has"
            | "have"
            | "show"
            | "check"
            | "read"
            | "track"
            | "list"
            | "am"
            | "tell"
            | "give"
            | "any"
    ) || first == "how" && matches!(second, "much" | "many" | "long")
        || first == "do" && second == "i";
    let who = words.begin(0, "who am i").is_some() || words.begin(0, "where am i").is_some();
    let has =
        |is: &dyn Fn(&str) -> bool| (0..words.list.len()).any(|at| words.at(at).is_some_and(is));
    let own =
        || has(&|word| matches!(word, "my" | "our")) && has(&|word| lexicon::has(List::Own, word));
    who || asks && own()
}

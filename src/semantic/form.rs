//! The form in which two questions are compared: what they ask, in order, in one wording.
//!
//! A phrase at the front goes to where it belongs ("at the hotel, is there …"), the opening
//! becomes one of a few frames, spellings and short forms become one word, plurals and articles
//! fall away. What is left must be equal in order, so nothing here may make two questions equal
//! that differ in what they ask: `lexicon` holds only what is safe in every sentence.
use super::lexicon::{self, Class, List};
use super::table;
use super::words::{Gap, Kind, Words};

/// One word of the form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    start: u32,
    end: u32,
    /// Where the word as written ends; it stands behind what it became.
    written: u32,
    pub class: Class,
    /// Written as a name.
    pub name: bool,
}

/// The words of the form, in order, without the soft ones.
#[derive(Debug, Clone, Default)]
pub struct Form {
    text: String,
    pub terms: Vec<Term>,
    /// Words that fell away.
    pub soft: u16,
    /// Phrases and words that became others.
    pub rewritten: u16,
    /// A phrase was moved from the front.
    pub turned: bool,
}

impl Form {
    pub fn read(words: &Words) -> Self {
        let mut form = Self::default();
        form.text.reserve(64);
        let order = turn(words);
        form.turned = order.is_some();
        let order = order.unwrap_or_else(|| (0..words.list.len()).collect());
        let mut at = 0;
        while at < order.len() {
            at += form.phrase(words, &order[at..], at == 0).unwrap_or_else(|| {
                form.single(words, &order[at..], at == 0);
                1
            });
        }
        form.available();
        form.costs();
        form
    }

    pub fn text(&self, term: Term) -> &str {
        &self.text[term.start as usize..term.end as usize]
    }

    /// As it was written, where that was one word.
    pub fn written(&self, term: Term) -> &str {
        &self.text[term.end as usize..term.written as usize]
    }

    pub fn at(&self, index: usize) -> Option<&str> {
        self.terms.get(index).map(|&term| self.text(term))
    }

    /// Words that say what it is about.
    pub fn content(&self) -> usize {
        let says =
            |term: &&Term| matches!(term.class, Class::Content | Class::Number | Class::Verbatim);
        self.terms.iter().filter(says).count()
    }

    fn push(&mut self, text: &str, class: Class, name: bool) {
        self.put(text, text, class, name);
    }

    fn put(&mut self, text: &str, written: &str, class: Class, name: bool) {
        let start = self.text.len() as u32;
        self.text.push_str(text);
        let end = self.text.len() as u32;
        self.text.push_str(written);
        self.terms.push(Term { start, end, written: self.text.len() as u32, class, name });
    }

    /// The longest phrase that begins here; returns its words.
    fn phrase(&mut self, words: &Words, order: &[usize], first: bool) -> Option<usize> {
        let text = |at: &usize| words.at(*at).unwrap_or_default();
        let found = lexicon::phrases(text(&order[0])).iter().find_map(|&(phrase, becomes)| {
            let mut length = 0;
            for wanted in phrase.split(' ') {
                let at = order.get(length).filter(|at| text(at) == wanted)?;
                if length > 0 && *at > 0 && words.list[*at].gap == Gap::Stop {
                    return None;
                }
                length += 1;
            }
            Some((length, becomes))
        });
        let (length, becomes) = found?;
        let next = order.get(length).map(text).unwrap_or_default();
        if becomes == "@you-can" && lexicon::has(List::Requests, next) {
            // asked of a machine, it is the request itself
        } else if becomes.starts_with('@') && !first && becomes != "@how" && self.terms.is_empty() {
            return None;
        } else {
            for word in becomes.split(' ') {
                let class = match lexicon::word(word) {
                    _ if word.starts_with('@') => Class::Frame,
                    Some((class, _)) => class,
                    None => Class::Content,
                };
                self.push(word, class, false);
            }
        }
        self.rewritten += 1;
        Some(length)
    }

    fn single(&mut self, words: &Words, order: &[usize], first: bool) {
        let word = words.list[order[0]];
        let text = words.text(word);
        let next = order.get(1).map(|&at| words.list[at]);
        match word.kind {
            Kind::Verbatim => self.push(text, Class::Verbatim, word.name),
            Kind::Sign => self.push(text, Class::Sign, false),
            Kind::Number => self.number(text),
            Kind::Word if self.numeral(text) => {}
            Kind::Word => {
                let becomes = lexicon::word(text);
                match becomes {
                    Some((Class::Soft, _)) => {
                        let next = next.map(|next| (next.kind, lexicon::word(words.text(next))));
                        self.soft(text, word.name, first, next);
                    }
                    // a name stays what it is: the Big Mac is not the Large one
                    Some((Class::Content, becomes))
                        if word.name && becomes != text && self.keeps_name(becomes) =>
                    {
                        self.push(text, Class::Content, true);
                    }
                    Some((class, becomes)) => {
                        self.rewritten += u16::from(becomes != text);
                        self.known(becomes, text, (class, word.name), next.map(|next| next.kind));
                    }
                    None => self.content_word(text, word.name),
                }
            }
        }
    }

    /// Whether a word in capitals is no unit after its number, no day and no country.
    fn keeps_name(&self, becomes: &str) -> bool {
        let after_number = self.terms.last().is_some_and(|term| term.class == Class::Number);
        !after_number && table::is_word(becomes)
    }

    /// An article before a noun falls away; `vitamin A` and `2 am` do not.
    fn soft(
        &mut self,
        text: &str,
        name: bool,
        first: bool,
        next: Option<(Kind, Option<(Class, &str)>)>,
    ) {
        let after_number = self.terms.last().is_some_and(|term| term.class == Class::Number);
        let before_noun = next.is_some_and(|(kind, known)| {
            kind != Kind::Sign
                && known.is_none_or(|(class, _)| class != Class::Hard || kind != Kind::Word)
        });
        match text {
            "am" if after_number => self.push(text, Class::Content, false),
            "a" if name || !before_noun && !first => self.push(text, Class::Content, false),
            "is" | "are" | "am" | "do" | "does" if first => self.push("@ask", Class::Frame, false),
            _ => self.soft += 1,
        }
    }

    fn known(
        &mut self,
        becomes: &str,
        written: &str,
        (class, name): (Class, bool),
        next: Option<Kind>,
    ) {
        let currency = matches!(becomes, "dollar" | "euro" | "pound");
        let after_number = self.terms.last().is_some_and(|term| term.class == Class::Number);
        if currency && next == Some(Kind::Number) && !after_number {
            // "$50" as "50 dollars": the number is put before it when it comes
            return self.push(becomes, Class::Sign, false);
        }
        self.put(becomes, written, class, name);
    }

    fn number(&mut self, text: &str) {
        let whole = text.strip_suffix(".00").or(text.strip_suffix(":00")).unwrap_or(text);
        let currency = self.terms.last().copied().filter(|term| {
            term.class == Class::Sign && matches!(self.text(*term), "dollar" | "euro" | "pound")
        });
        let Some(mut currency) = currency else { return self.push(whole, Class::Number, false) };
        self.terms.pop();
        self.push(whole, Class::Number, false);
        currency.class = Class::Content;
        self.terms.push(currency);
    }

    /// A number in words, the ending of an ordinal, a thousand after a number.
    fn numeral(&mut self, text: &str) -> bool {
        let last = self.terms.last().copied().filter(|term| term.class == Class::Number);
        let value = last.and_then(|term| self.text(term).parse::<u64>().ok());
        let joined = match (value, text) {
            (Some(value), "hundred") => Some(value.saturating_mul(100)),
            (Some(value), "thousand" | "k") => Some(value.saturating_mul(1000)),
            (Some(value), "million") => Some(value.saturating_mul(1_000_000)),
            (Some(tens @ (20 | 30 | 40 | 50 | 60 | 70 | 80 | 90)), _) => {
                let unit = lexicon::number(text).and_then(|digits| digits.parse::<u64>().ok());
                unit.filter(|unit| (1..10).contains(unit)).map(|unit| tens + unit)
            }
            _ => None,
        };
        if let Some(joined) = joined {
            self.terms.pop();
            self.push(&joined.to_string(), Class::Number, false);
            return true;
        }
        if let (Some(value), "st" | "nd" | "rd" | "th") = (value, text) {
            self.terms.pop();
            self.push(&format!("{value}{text}"), Class::Number, false);
            return true;
        }
        let Some(digits) = lexicon::number(text) else { return false };
        self.push(digits, Class::Number, false);
        true
    }

    /// A word that no list knows, or whose singular one does.
    fn content_word(&mut self, text: &str, name: bool) {
        if let Some(base) = self.base_after_frame(text) {
            return self.put(&base, text, Class::Content, false);
        }
        // "Aliens" is another film than "Alien"
        if name {
            return self.push(text, Class::Content, true);
        }
        let one = singular(text);
        match lexicon::word(&one) {
            Some((Class::Content, becomes)) => {
                self.rewritten += u16::from(becomes != one);
                self.put(becomes, text, Class::Content, name);
            }
            // "mays", "downs": not the closed word
            Some(_) => self.push(text, Class::Content, name),
            None => self.put(&one, text, Class::Content, name),
        }
    }

    /// "go about applying": the frame says that the verb is meant without its ending.
    fn base_after_frame(&mut self, text: &str) -> Option<String> {
        let frame = self.terms.last().copied().filter(|term| term.class == Class::Frame)?;
        let plain = self.text(frame).strip_suffix("+ing")?.to_owned();
        let stem = text.strip_suffix("ing").filter(|stem| stem.len() >= 2)?;
        self.terms.pop();
        self.push(&plain, Class::Frame, false);
        let doubled = stem.as_bytes().windows(2).next_back().is_some_and(|two| two[0] == two[1]);
        let shorter = if doubled { &stem[..stem.len() - 1] } else { stem };
        let bases = [format!("{stem}e"), stem.to_owned(), shorter.to_owned()];
        Some(bases.into_iter().find(|base| table::is_word(base)).unwrap_or_else(|| stem.to_owned()))
    }

    /// "is X available …" as "is there X …".
    fn available(&mut self) {
        if self.at(0) != Some("@ask") {
            return;
        }
        let mut places = (1..self.terms.len()).filter(|&at| self.at(at) == Some("available"));
        let (Some(at), None) = (places.next(), places.next()) else { return };
        let end = self.at(at + 1).is_none_or(lexicon::preposition);
        let negated = self.terms.iter().any(|term| term.class == Class::Negation);
        let modal = self.terms[1..at].iter().any(|term| term.class == Class::Hard);
        if end && at > 1 && !negated && !modal {
            self.terms.remove(at);
            self.terms.remove(0);
            self.push("@there", Class::Frame, false);
            self.terms.rotate_right(1);
            self.rewritten += 1;
        }
    }

    /// "how much does X cost" and "what does X cost" as "how much is X".
    fn costs(&mut self) {
        let last = self.terms.len().saturating_sub(1);
        let opening = match (self.at(0), self.at(1)) {
            (Some("how"), Some("much")) => 2,
            (Some("what"), _) => 1,
            _ => return,
        };
        if last > opening && self.at(last) == Some("cost") {
            self.terms.pop();
            self.terms.drain(..opening);
            self.push("@cost", Class::Frame, false);
            self.terms.rotate_right(1);
            self.rewritten += 1;
        }
    }
}

/// The order of the words with a phrase from the front at the end; `None`: as they are.
fn turn(words: &Words) -> Option<Vec<usize>> {
    let all = words.list.len();
    let first = words.at(0)?;
    if !lexicon::preposition(first) || all < 5 {
        return None;
    }
    let asks = |word: &str| {
        matches!(
            word,
            "what"
                | "which"
                | "who"
                | "where"
                | "when"
                | "why"
                | "how"
                | "is"
                | "are"
                | "do"
                | "does"
                | "can"
                | "could"
                | "may"
                | "am"
        )
    };
    let comma = (2..all - 1).find(|&at| words.list[at].gap == Gap::Comma);
    let at = match comma {
        Some(at) => at,
        None => (2..all - 1).find(|&at| words.at(at).is_some_and(asks))?,
    };
    // one sentence only, and a question after the phrase
    let stops = words.list[1..].iter().any(|word| word.gap == Gap::Stop);
    let commas = words.list[at + 1..].iter().any(|word| word.gap == Gap::Comma);
    (words.at(at).is_some_and(asks) && !stops && !commas).then(|| (at..all).chain(0..at).collect())
}

/// The singular of a plural, and the plain form of "he includes". Light on purpose: what is left
/// alone is only compared as it stands.
fn singular(word: &str) -> std::borrow::Cow<'_, str> {
    let keep = word.len() <= 3 || !word.ends_with('s') || !word.is_ascii();
    if keep || ["ss", "us", "is", "as", "os", "news"].iter().any(|end| word.ends_with(end)) {
        return word.into();
    }
    if let Some(base) = word.strip_suffix("ies").filter(|base| base.len() > 2) {
        return format!("{base}y").into();
    }
    let hissing = ["ches", "shes", "xes", "sses", "zzes"].iter().any(|end| word.ends_with(end));
    word[..word.len() - if hissing { 2 } else { 1 }].into()
}

//! A text cut into words, numbers and signs, in small letters.
//!
//! Accents stay (`año` is not `ano`); what a sentence is held together by (commas, stops) is kept
//! as the gap before a word, not as a word. Contractions are written out, `US` and `IT` in
//! capitals are told from `us` and `it`. Chunks that look like code, an address or an id are kept
//! to the letter, and counted, so that the caller can leave such texts alone.

mod shape;

/// What stands between two words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gap {
    Space,
    Comma,
    Stop,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Word,
    Number,
    Sign,
    /// To the letter: code, an address, an id.
    Verbatim,
}

/// One word; its text stands in [`Words`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    start: u32,
    end: u32,
    pub kind: Kind,
    /// Before it.
    pub gap: Gap,
    /// A capital inside a sentence, in a text that is not all capitals: a name, as a rule.
    pub name: bool,
}

/// The words of a text.
#[derive(Debug, Default)]
pub struct Words {
    text: String,
    pub list: Vec<Word>,
    /// A chunk that looks like code.
    pub code: bool,
    /// A pair of quotes, or something after a colon.
    pub quote: bool,
    /// An address, a long number, an id.
    pub identifier: bool,
    /// Lines, counted.
    pub lines: usize,
    /// Characters that are neither letters, digits, spaces nor usual punctuation.
    pub odd: usize,
    capitals_say_nothing: bool,
}

impl Words {
    pub fn read(text: &str) -> Self {
        let mut words = Self {
            text: String::with_capacity(text.len() + 16),
            list: Vec::with_capacity(text.len() / 5 + 4),
            capitals_say_nothing: shape::shouts(text),
            quote: shape::quotes(text),
            lines: text.trim().lines().count(),
            ..Self::default()
        };
        let mut gap = Gap::Stop;
        for line in text.lines() {
            for chunk in line.split_whitespace() {
                gap = words.chunk(chunk, gap);
            }
            gap = gap.max(if words.lines > 1 { Gap::Stop } else { Gap::Space });
        }
        words
    }

    pub fn text(&self, word: Word) -> &str {
        &self.text[word.start as usize..word.end as usize]
    }

    pub fn at(&self, index: usize) -> Option<&str> {
        self.list.get(index).map(|&word| self.text(word))
    }

    /// Whether the words from `at` on are those of `phrase`, which has single spaces.
    pub fn begin(&self, at: usize, phrase: &str) -> Option<usize> {
        let mut end = at;
        for wanted in phrase.split(' ') {
            if self.at(end)? != wanted {
                return None;
            }
            end += 1;
        }
        Some(end - at)
    }

    fn push(&mut self, text: &str, kind: Kind, gap: Gap, name: bool) {
        let start = self.text.len() as u32;
        if kind == Kind::Verbatim || text.bytes().all(|b| !b.is_ascii_uppercase() && b.is_ascii()) {
            self.text.push_str(text);
        } else {
            self.text.extend(text.chars().flat_map(char::to_lowercase));
        }
        self.list.push(Word { start, end: self.text.len() as u32, kind, gap, name });
    }

    /// What stands between spaces; returns the gap that follows it.
    fn chunk(&mut self, chunk: &str, before: Gap) -> Gap {
        let outside =
            |c: char| is_punctuation(c) && !matches!(c, '#' | '%' | '$' | '+' | '-' | '@' | '/');
        let core = chunk.trim_matches(outside);
        let tail = &chunk[chunk.trim_end_matches(outside).len()..];
        let head = &chunk[..chunk.len() - chunk.trim_start_matches(outside).len()];
        let after = gap_of(tail);
        let before = if head.starts_with(['(', '[']) { before.max(Gap::Comma) } else { before };
        let core = core.trim_end_matches('-');
        if core.is_empty() || core.bytes().all(|b| b == b'-') {
            return before.max(after).max(if chunk.is_empty() { Gap::Space } else { Gap::Comma });
        }
        if shape::is_code(chunk, core) {
            self.code = true;
            self.push(core, Kind::Verbatim, before, false);
        } else if shape::is_identifier(core) {
            self.identifier = true;
            self.push(core, Kind::Verbatim, before, false);
        } else {
            self.pieces(core, before);
        }
        after
    }

    /// Letters, digits and signs of a chunk, each for itself.
    fn pieces(&mut self, core: &str, before: Gap) {
        let mut gap = before;
        let mut rest = core;
        let mut first = true;
        while let Some(char) = rest.chars().next() {
            let length = if char.is_ascii_digit() {
                number_length(rest)
            } else if is_letter(char) {
                rest.find(|c| !is_letter(c) && !is_inside(c)).unwrap_or(rest.len())
            } else {
                char.len_utf8()
            };
            let (piece, then) = rest.split_at(length);
            rest = then;
            if char.is_ascii_digit() {
                self.number(piece, rest, gap);
            } else if is_letter(char) {
                let dots = piece.trim_end_matches(is_inside);
                self.word(dots, gap, !first);
            } else if self.sign(char, first, rest, gap) {
            } else {
                // a hyphen, a bracket: the words around it stand for themselves
                first = false;
                continue;
            }
            gap = Gap::Space;
            first = false;
        }
    }

    fn number(&mut self, piece: &str, rest: &str, gap: Gap) {
        let plain = piece.replace(',', "");
        let ordinal = ["st", "nd", "rd", "th"].iter().any(|end| {
            let whole = |rest: &str| !rest.starts_with(is_letter);
            rest.get(..2).is_some_and(|two| two.eq_ignore_ascii_case(end)) && whole(&rest[2..])
        });
        if plain.bytes().filter(u8::is_ascii_digit).count() >= 5 && !ordinal {
            self.identifier = true;
        }
        self.push(&plain, Kind::Number, gap, false);
    }

    /// Whether the sign says something by itself.
    fn sign(&mut self, sign: char, first: bool, rest: &str, gap: Gap) -> bool {
        let digit = rest.starts_with(|c: char| c.is_ascii_digit());
        let text = match sign {
            '&' => "and",
            '%' => "percent",
            '$' => "dollar",
            '€' => "euro",
            '£' => "pound",
            '+' => "+",
            '#' => "#",
            '*' => "*",
            '/' => "/",
            '=' => "=",
            '<' => "<",
            '>' => ">",
            '^' => "^",
            '@' => "@",
            // a minus, or from one number to another
            '-' | '–' | '−' if digit && (first || self.ends_in_number()) => "-",
            '-' | '–' | '—' | '(' | ')' | ',' | ';' | ':' | '.' | '!' | '?' | '"' | '\'' | '’' =>
            {
                return false;
            }
            _ if is_punctuation(sign) => return false,
            _ => {
                self.odd += 1;
                let mut bytes = [0; 4];
                self.push(sign.encode_utf8(&mut bytes), Kind::Sign, gap, false);
                return true;
            }
        };
        let kind = if text.len() > 1 { Kind::Word } else { Kind::Sign };
        self.push(text, kind, gap, false);
        true
    }

    fn ends_in_number(&self) -> bool {
        self.list.last().is_some_and(|word| word.kind == Kind::Number)
    }

    /// A word, its contraction written out.
    fn word(&mut self, piece: &str, gap: Gap, inside: bool) {
        let capital = piece.starts_with(char::is_uppercase);
        let name = capital && !self.capitals_say_nothing && (gap != Gap::Stop || inside);
        let start = self.text.len();
        // without dots and with one kind of apostrophe, to look it up
        let dotted = piece.contains('.');
        let plain = piece
            .chars()
            .filter(|&c| c != '.')
            .map(|c| if c == '’' || c == '‘' { '\'' } else { c });
        let mut lower: String = plain.flat_map(char::to_lowercase).collect();
        let capitals = piece.len() > 1 && piece.chars().all(|c| c.is_uppercase() || c == '.');
        let capitals = dotted || capitals && !self.capitals_say_nothing;
        let written = match lower.as_str() {
            // slips in words that are too short for the rule that forgives them
            "teh" => Some("the"),
            "hwo" => Some("how"),
            "waht" => Some("what"),
            "cna" => Some("can"),
            "adn" => Some("and"),
            "wiht" => Some("with"),
            "shoudl" | "shuold" => Some("should"),
            "woudl" => Some("would"),
            "coudl" => Some("could"),
            "wehn" => Some("when"),
            "wehre" => Some("where"),
            "deos" => Some("does"),
            "us" if capitals => Some("usa"),
            "it" if capitals => Some("i.t."),
            "who" if capitals => Some("w.h.o."),
            "aids" if capitals => Some("a.i.d.s."),
            "polish" if name => Some("polish."),
            "turkey" if name => Some("turkey."),
            _ => None,
        };
        if let Some(written) = written {
            return self.push(written, Kind::Word, gap, name);
        }
        let Some((base, more)) = contraction(&lower) else {
            lower.retain(|c| c != '\'');
            debug_assert!(start == self.text.len());
            return self.push(&lower, Kind::Word, gap, name && lower != "i");
        };
        let base = base.to_owned();
        self.push(&base, Kind::Word, gap, false);
        self.push(more, Kind::Word, Gap::Space, false);
    }
}

/// `won't` as `will` and `not`. Without an apostrophe only what is no other word.
fn contraction(word: &str) -> Option<(&str, &'static str)> {
    let bare = match word {
        "whats" => Some(("what", "is")),
        "hows" => Some(("how", "is")),
        "wheres" => Some(("where", "is")),
        "whos" => Some(("who", "is")),
        "thats" => Some(("that", "is")),
        "theres" => Some(("there", "is")),
        "im" => Some(("i", "am")),
        "ive" => Some(("i", "have")),
        "youre" => Some(("you", "are")),
        "theyre" => Some(("they", "are")),
        "let's" | "lets" => Some(("let", "us")),
        "won't" | "wont" => Some(("will", "not")),
        "can't" | "cant" | "cannot" => Some(("can", "not")),
        "shan't" => Some(("shall", "not")),
        "ain't" => Some(("is", "not")),
        "wanna" => Some(("want", "to")),
        "gonna" => Some(("going", "to")),
        "gotta" => Some(("have", "to")),
        "lemme" => Some(("let", "me")),
        "gimme" => Some(("give", "me")),
        _ => None,
    };
    if bare.is_some() {
        return bare;
    }
    const NEGATED: [&str; 16] = [
        "do", "does", "did", "is", "are", "was", "were", "have", "has", "had", "could", "would",
        "should", "must", "need", "might",
    ];
    if let Some(base) = word.strip_suffix("n't").or_else(|| word.strip_suffix("nt")) {
        return NEGATED.contains(&base).then_some((base, "not"));
    }
    let (base, end) = word.rsplit_once('\'')?;
    let more = match end {
        "re" => "are",
        "ve" => "have",
        "ll" => "will",
        "m" => "am",
        "d" => "would",
        "s" if [
            "what", "how", "where", "who", "when", "why", "it", "that", "there", "here", "he",
            "she",
        ]
        .contains(&base) =>
        {
            "is"
        }
        _ => return None,
    };
    Some((base, more))
}

fn is_letter(char: char) -> bool {
    char.is_alphabetic() || ('\u{300}'..='\u{36f}').contains(&char)
}

/// Stays inside a word: `child's`, `p.m.`
fn is_inside(char: char) -> bool {
    matches!(char, '\'' | '’' | '‘' | '.')
}

fn is_punctuation(char: char) -> bool {
    char.is_ascii_punctuation()
        || !char.is_ascii() && super::wordpiece::fold(char) == super::wordpiece::Fold::Punctuation
}

fn gap_of(tail: &str) -> Gap {
    let gap = |c| match c {
        '.' | '?' | '!' | ';' | ':' | '…' | '。' | '？' | '！' => Gap::Stop,
        ',' | ')' | ']' | '–' | '—' | '-' => Gap::Comma,
        _ => Gap::Space,
    };
    tail.chars().map(gap).max().unwrap_or(Gap::Space)
}

/// Bytes of the number that `text` begins with: `1,000.50`, `7:30`, `12/05/2024`, `3.11.2`.
fn number_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let mut end = 0;
    while digit(end) || matches!(bytes.get(end), Some(b',' | b'.' | b':' | b'/')) && digit(end + 1)
    {
        end += 1;
    }
    end
}

//! What a call asks, cut for the keys of answers: all that can change the answer, and no more.
//!
//! Every field of every request is named in [`fields`] with what it does; one that is not named is
//! said too. A question says its fields in an order of its own, each as its name with its length,
//! its value without the space that means nothing, and a mark behind; so two questions say the
//! same bytes only if they are the same but for the order of their top-level members. Inside
//! strings nothing is touched, and members of inner objects keep their order: a difference there
//! costs a miss. Content that stands elsewhere (a URL, a file by its id) is taken by its name.
use std::borrow::Cow;
use std::fmt;

use super::Dialect;
use super::endpoint::Kind;
use super::json::{Members, NotJson, Raw, blank, skip_space};
use compact::{Crossed, Pen, cross, tight};
use fields::{Does, Field, Tells, is};
pub use headers::{
    changing_headers, header_changes_answer, header_is_a_condition, header_may_authorize,
};
pub use turn::{NotAlike, Turn};

pub(super) mod compact;
mod fields;
mod headers;
mod tools;
mod turn;

/// More members than this at the top of a body are no question.
const MOST: usize = 128;
/// Behind the last field; no name is that long.
const END: [u8; 4] = u32::MAX.to_le_bytes();

/// Why a call asks nothing whose answer could be given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unasked {
    NotJson,
    /// A member stands there twice: readers may differ.
    Duplicate,
    /// More than 128 members.
    Crowded,
    /// The answer hangs on what the vendor keeps, by this field.
    Stateful(&'static str),
    /// The vendor acts or searches for the answer, by this tool or field.
    Hosted(&'static str),
    /// No kind of call that we cut questions from.
    Kind,
}

impl Unasked {
    /// A word for `Cache-Status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotJson => "not-json",
            Self::Duplicate => "duplicate-field",
            Self::Crowded => "too-many-fields",
            Self::Stateful(_) => "stateful",
            Self::Hosted(_) => "hosted-tool",
            Self::Kind => "kind",
        }
    }
}

impl From<NotJson> for Unasked {
    fn from(_: NotJson) -> Self {
        Self::NotJson
    }
}

/// What a call asks. Borrows the body; `Debug` shows none of it.
#[derive(Clone)]
pub struct Question<'a> {
    pub kind: Kind,
    /// `None`: the model's own. Infinite where it is no number; the largest, if there are several.
    pub temperature: Option<f64>,
    /// How many answers are asked for; `u64::MAX` where that is no number.
    answers: u64,
    offers_tools: bool,
    /// Images beside the prompt.
    images: bool,
    turns: Option<Raw<'a>>,
    /// Named fields in the order of their table, then the others by name.
    said: Vec<Said<'a>>,
}

/// A member that changes the answer.
#[derive(Clone)]
struct Said<'a> {
    /// In the table; past its end for others.
    order: usize,
    /// Of a named field, as the table has it, however the body spells it.
    name: Cow<'a, [u8]>,
    value: Raw<'a>,
    spaced: bool,
    /// Members of it that are left out.
    but: &'static [&'static str],
}

impl fmt::Debug for Question<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question")
            .field("kind", &self.kind)
            .field("temperature", &self.temperature)
            .field("answers", &self.answers)
            .field("offers_tools", &self.offers_tools)
            .field("fields", &self.said.len())
            .finish_non_exhaustive()
    }
}

/// Cuts a question out of a request body.
pub fn question(kind: Kind, body: &[u8]) -> Result<Question<'_>, Unasked> {
    let fields = fields::fields(kind).ok_or(Unasked::Kind)?;
    let mark = if body.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    let mut members = Members::open(body, skip_space(body, mark)).ok_or(Unasked::NotJson)?;
    let mut question = Question::new(kind);
    let refers = refers(kind);
    let (mut seen, mut count) = (0_u64, 0);
    let (dialect, mut crossed) = (kind.dialect(), Crossed::default());
    while let Some((key, value)) =
        members.next_by(|text, at| cross(text, at, refers.0, &mut crossed))?
    {
        count += 1;
        if count > MOST {
            return Err(Unasked::Crowded);
        }
        if crossed.found {
            return Err(refers.1);
        }
        let name = key.plain().ok_or(Unasked::NotJson)?;
        let found = fields::find(fields, dialect, &name);
        let Some(order) = found else {
            let (order, but) = (fields.len(), &[][..]);
            question.said.push(Said { order, name, value, spaced: crossed.spaced, but });
            continue;
        };
        if seen & (1 << order) != 0 {
            return Err(Unasked::Duplicate);
        }
        seen |= 1 << order;
        question.take(order, fields[order], value, crossed.spaced)?;
    }
    if !blank(&body[members.at()..]) {
        return Err(Unasked::NotJson);
    }
    question.settle(fields.len())?;
    Ok(question)
}

/// A word that, as a string anywhere in the body, brings in what is not in the body, and what that
/// makes of the call.
fn refers(kind: Kind) -> (&'static [u8], Unasked) {
    match kind {
        // an item that the vendor keeps, by its id
        Kind::Responses => (b"\"item_reference\"", Unasked::Stateful("item_reference")),
        // a tool that joins in the middle of the conversation
        Kind::Messages | Kind::CountTokens => {
            (b"\"tool_addition\"", Unasked::Hosted("tool_addition"))
        }
        _ => (b"", Unasked::Kind),
    }
}

impl<'a> Question<'a> {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            temperature: None,
            answers: 1,
            offers_tools: false,
            images: false,
            turns: None,
            // more than most bodies have; larger pieces of memory are dear
            said: Vec::with_capacity(12),
        }
    }

    /// A named field.
    fn take(
        &mut self,
        order: usize,
        field: Field,
        value: Raw<'a>,
        spaced: bool,
    ) -> Result<(), Unasked> {
        let but = match field.does {
            Does::Form | Does::Label | Does::Cost => return Ok(()),
            Does::Recalls | Does::Reaches if is_off(value) => return Ok(()),
            Does::Recalls => return Err(Unasked::Stateful(field.name)),
            Does::Reaches => return Err(Unasked::Hosted(field.name)),
            Does::Changes => &[][..],
            Does::ChangesBut(but) => but,
        };
        self.read(field.tells, value)?;
        let name = Cow::Borrowed(field.name.as_bytes());
        self.said.push(Said { order, name, value, spaced, but });
        Ok(())
    }

    fn read(&mut self, tells: Tells, value: Raw<'a>) -> Result<(), Unasked> {
        if value.is_null() {
            return Ok(());
        }
        match tells {
            Tells::Nothing => {}
            Tells::Temperature => {
                let degrees = number(value).unwrap_or(f64::INFINITY);
                self.temperature = Some(self.temperature.map_or(degrees, |t| t.max(degrees)));
            }
            Tells::Answers => {
                self.answers = self.answers.max(value.number().unwrap_or(u64::MAX));
            }
            Tells::Tools => {
                self.offers_tools |= !value.is_empty();
                if let Some(tool) = tools::hosted(self.kind, value) {
                    return Err(Unasked::Hosted(tool));
                }
            }
            Tells::Turns => self.turns = Some(value),
            Tells::Images => self.images = !value.is_empty(),
            Tells::Settings => self.settings(value)?,
        }
        Ok(())
    }

    /// Gemini `generationConfig`, Ollama `options`.
    fn settings(&mut self, value: Raw<'a>) -> Result<(), Unasked> {
        const SETTINGS: [(&str, Tells); 2] =
            [("temperature", Tells::Temperature), ("candidateCount", Tells::Answers)];
        let Some(mut members) = value.members() else { return Ok(()) };
        while let Some((key, value)) = members.next()? {
            let name = key.plain().ok_or(Unasked::NotJson)?;
            let found =
                SETTINGS.iter().find(|(setting, _)| is(self.kind.dialect(), setting, &name));
            if let Some(&(_, tells)) = found {
                self.read(tells, value)?;
            }
        }
        Ok(())
    }

    /// Puts the fields in order, now that all are there. `named` are in the table.
    fn settle(&mut self, named: usize) -> Result<(), Unasked> {
        self.said.sort_unstable_by(|a, b| (a.order, &a.name).cmp(&(b.order, &b.name)));
        let others = self.said.partition_point(|said| said.order < named);
        let mut others = &self.said[others..];
        while let [first, rest @ ..] = others {
            if rest.iter().any(|other| alike(self.kind.dialect(), &first.name, &other.name)) {
                return Err(Unasked::Duplicate);
            }
            others = rest;
        }
        let ollama = matches!(self.kind, Kind::OllamaChat | Kind::OllamaGenerate);
        if ollama && self.turns.is_none_or(Raw::is_empty) {
            // to ask nothing is to load the model, or to take it out of memory
            return Err(Unasked::Stateful("load"));
        }
        Ok(())
    }

    /// Says everything that can change the answer. Self-delimiting: what one question says is
    /// never the beginning of what another one says.
    pub fn say(&self, sink: &mut impl FnMut(&[u8])) {
        self.speak(None, sink);
    }

    /// Says the same without the words of the turn, which is this question's own: where they stood
    /// there is an empty string.
    pub fn say_around(&self, turn: &Turn<'a>, sink: &mut impl FnMut(&[u8])) {
        self.speak(Some(turn.raw), sink);
    }

    /// The last user turn, where it is plain text and may be compared with others'.
    pub fn last_turn(&self) -> Result<Turn<'a>, NotAlike> {
        turn::last_turn(self)
    }

    fn speak(&self, hole: Option<&[u8]>, sink: &mut impl FnMut(&[u8])) {
        // with room for the length of a name and the mark behind a value
        let len: usize = self.said.iter().map(|s| s.name.len() + s.value.0.len() + 5).sum();
        let mut pen = Pen::new(sink, len + END.len());
        for said in &self.said {
            if said.but.is_empty() {
                said.begin(&mut pen);
                said.value(hole, &mut pen);
                pen.write(b"\n");
            } else {
                said.value_but(&mut pen);
            }
        }
        pen.write(&END);
        pen.end();
    }
}

impl Said<'_> {
    /// The name, with its length.
    fn begin<S: FnMut(&[u8])>(&self, pen: &mut Pen<'_, S>) {
        pen.write(&(self.name.len() as u32).to_le_bytes());
        pen.write(&self.name);
    }

    fn value<S: FnMut(&[u8])>(&self, hole: Option<&[u8]>, pen: &mut Pen<'_, S>) {
        let value = self.value.0;
        match hole.and_then(|hole| Some((offset(hole, value)?, hole.len()))) {
            Some((at, len)) => {
                self.piece(&value[..at], pen);
                pen.write(b"\"\"");
                self.piece(&value[at + len..], pen);
            }
            None => self.piece(value, pen),
        }
    }

    fn piece<S: FnMut(&[u8])>(&self, piece: &[u8], pen: &mut Pen<'_, S>) {
        if self.spaced { tight(piece, pen) } else { pen.write(piece) }
    }

    /// An object without the members that do not count; nothing at all where no other is left.
    fn value_but<S: FnMut(&[u8])>(&self, pen: &mut Pen<'_, S>) {
        let Some(mut members) = self.value.members() else {
            if !self.value.is_null() {
                self.begin(pen);
                self.piece(self.value.0, pen);
                pen.write(b"\n");
            }
            return;
        };
        let mut begun = false;
        while let Ok(Some((key, value))) = members.next() {
            let counts = |name: Cow<'_, [u8]>| !self.but.iter().any(|but| but.as_bytes() == &*name);
            if key.plain().is_none_or(counts) {
                if !begun {
                    self.begin(pen);
                }
                pen.write(if begun { b",\"" } else { b"{\"" });
                pen.write(key.0);
                pen.write(b"\":");
                tight(value.0, pen);
                begun = true;
            }
        }
        if begun {
            pen.write(b"}\n");
        }
    }
}

/// Whether a backend could take two names that we do not know for one.
fn alike(dialect: Dialect, a: &[u8], b: &[u8]) -> bool {
    fn letters(name: &[u8]) -> impl Iterator<Item = u8> {
        name.iter().filter(|&&byte| byte != b'_').map(u8::to_ascii_lowercase)
    }
    match dialect {
        Dialect::Ollama => a.eq_ignore_ascii_case(b),
        Dialect::Gemini => letters(a).eq(letters(b)),
        _ => a == b,
    }
}

/// Where `part`, a slice of `whole`, begins in it.
fn offset(part: &[u8], whole: &[u8]) -> Option<usize> {
    let at = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
    (at + part.len() <= whole.len()).then_some(at)
}

/// Whether a field that would stop a question is there, but switched off.
fn is_off(value: Raw<'_>) -> bool {
    matches!(value.0, [b'[', inner @ .., b']'] if blank(inner))
        || value.is_null()
        || value.bool() == Some(false)
}

fn number(value: Raw<'_>) -> Option<f64> {
    std::str::from_utf8(value.0).ok()?.parse().ok().filter(|number: &f64| !number.is_nan())
}

#[cfg(test)]
mod tests;

//! What a client's message asks for, read as it goes by: in any pieces, of any length, with a bounded
//! memory.
//!
//! A key's right to a model hangs on it, and the price, so nothing is taken for granted that the
//! backend might read otherwise: escapes are decoded, a name that we read and that stands there twice
//! is a fault (in any case of its letters, as some decoders mind none), and so is what is not one JSON
//! object. Models stand at the top (Responses), in `session` and `response` (Realtime), and in the
//! settings for writing down what is heard. Other values are crossed unread.
use std::borrow::Cow;

use memchr::{memchr, memchr2};

use crate::wire::json::{Key, Raw};

/// What is known of a message at its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// A response is asked for.
    pub asks: bool,
    /// The model that the message wants the session, or its response, to be of.
    pub model: Option<String>,
    /// The model that is to write down what is heard.
    pub writes: Option<String>,
    /// Bytes of it that may become a prompt; sound and pictures count for few.
    pub prompt_bytes: u64,
}

/// Why a message cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unclear {
    /// This name is given more than once.
    Twice(&'static str),
    /// It is not one JSON object, or a model's name is no text.
    Unreadable,
}

/// Objects that we look into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Top,
    Session,
    Response,
    Audio,
    Input,
    Transcription,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goal {
    Type,
    Model,
    Writes,
    Inside(Scope),
    /// Of no interest.
    Any,
}

/// A member's bit among those that were seen is its place here.
const KNOWN: [(Scope, &str, Goal); 10] = [
    (Scope::Top, "type", Goal::Type),
    (Scope::Top, "model", Goal::Model),
    (Scope::Top, "session", Goal::Inside(Scope::Session)),
    (Scope::Top, "response", Goal::Inside(Scope::Response)),
    (Scope::Session, "model", Goal::Model),
    (Scope::Session, "audio", Goal::Inside(Scope::Audio)),
    (Scope::Session, "input_audio_transcription", Goal::Inside(Scope::Transcription)),
    (Scope::Response, "model", Goal::Model),
    (Scope::Audio, "input", Goal::Inside(Scope::Input)),
    (Scope::Input, "transcription", Goal::Inside(Scope::Transcription)),
];
const WRITES: &str = "transcription.model";
/// The bit of [`WRITES`], which has two ways to it.
const WRITES_BIT: u16 = 1 << KNOWN.len();

/// Of a name or value that we read, more bytes than this are kept of none.
const LONGEST: usize = 1024;
/// A string that is longer and has no space in it is no prose: so much of it counts.
const MEDIA: u64 = 2048;
const OF_MEDIA: u64 = 6000;
/// Bytes of base64 for each byte of text, by what they cost: sound makes ten tokens a second.
const SOUND: u64 = 1600;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    /// A name, or the end of an object that has had none.
    First,
    Name,
    Colon,
    Value,
    /// A comma, or the object's end.
    Behind,
    Text {
        name: bool,
        escaped: bool,
    },
    Word,
    /// Inside a value of no interest, so deep.
    Deep(u32),
    DeepText {
        depth: u32,
        escaped: bool,
    },
    End,
    Broken,
}

/// Reads one message after another.
#[derive(Debug)]
pub struct Listener {
    state: State,
    /// The objects that are open, of those that we look into.
    scopes: Vec<Scope>,
    seen: u16,
    goal: Goal,
    /// A name or value that matters, with its first quote.
    kept: Vec<u8>,
    /// Of the string that is under way.
    length: u64,
    spaced: bool,
    fault: Option<Unclear>,
    kind: Option<Box<[u8]>>,
    bytes: u64,
    spared: u64,
    said: Said,
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            state: State::Start,
            scopes: Vec::new(),
            seen: 0,
            goal: Goal::Any,
            kept: Vec::new(),
            length: 0,
            spaced: false,
            fault: None,
            kind: None,
            bytes: 0,
            spared: 0,
            said: Said::default(),
        }
    }
}

impl Listener {
    /// The next bytes of the message.
    pub fn push(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        let mut at = 0;
        while let Some(&byte) = piece.get(at) {
            match self.state {
                State::Text { name, escaped } => at += self.text(name, escaped, &piece[at..]),
                State::DeepText { depth, escaped } => {
                    at += self.deep_text(depth, escaped, &piece[at..]);
                }
                State::Word if is_of_word(byte) => at += 1,
                State::Word => self.state = State::Behind,
                State::Broken => return,
                _ => {
                    self.step(byte);
                    at += 1;
                }
            }
        }
    }

    /// The message is whole; the next one may begin.
    pub fn end(&mut self) -> Result<Said, Unclear> {
        let Self { state, fault, kind, bytes, spared, said, .. } = std::mem::take(self);
        if let Some(fault) = fault {
            return Err(fault);
        }
        if state != State::End {
            return Err(Unclear::Unreadable);
        }
        let kind = kind.as_deref().unwrap_or_default();
        let sound = kind == b"input_audio_buffer.append";
        let prompt_bytes = if sound { bytes / SOUND } else { bytes - spared };
        Ok(Said { asks: kind == b"response.create", prompt_bytes, ..said })
    }

    fn step(&mut self, byte: u8) {
        if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            return;
        }
        self.state = match (self.state, byte) {
            (State::Start, b'{') => self.open(Scope::Top),
            (State::First | State::Name, b'"') => self.quote(true),
            (State::First | State::Behind, b'}') => self.close(),
            (State::Colon, b':') => State::Value,
            (State::Value, b'"') => self.quote(false),
            (State::Value, b'{') => match self.goal {
                Goal::Inside(scope) => self.open(scope),
                goal => self.skip(goal),
            },
            (State::Value, b'[') => self.skip(self.goal),
            (State::Value, byte) if is_of_word(byte) => {
                // null names none
                let names = matches!(self.goal, Goal::Model | Goal::Writes);
                self.broken_if(names && byte != b'n', State::Word)
            }
            (State::Behind, b',') => State::Name,
            (State::Deep(depth), b'"') => {
                (self.length, self.spaced) = (0, false);
                State::DeepText { depth, escaped: false }
            }
            (State::Deep(depth), b'{' | b'[') => State::Deep(depth.saturating_add(1)),
            (State::Deep(1), b'}' | b']') => State::Behind,
            (State::Deep(depth), b'}' | b']') => State::Deep(depth - 1),
            (State::Deep(depth), _) => State::Deep(depth),
            _ => self.broken_if(true, State::Broken),
        };
    }

    fn broken_if(&mut self, broken: bool, else_: State) -> State {
        if !broken {
            return else_;
        }
        self.fault.get_or_insert(Unclear::Unreadable);
        State::Broken
    }

    fn open(&mut self, scope: Scope) -> State {
        self.scopes.push(scope);
        State::First
    }

    fn close(&mut self) -> State {
        self.scopes.pop();
        if self.scopes.is_empty() { State::End } else { State::Behind }
    }

    /// A container of no interest, or one where a text should stand.
    fn skip(&mut self, goal: Goal) -> State {
        self.broken_if(matches!(goal, Goal::Model | Goal::Writes), State::Deep(1))
    }

    fn quote(&mut self, name: bool) -> State {
        self.kept.clear();
        self.kept.push(b'"');
        (self.length, self.spaced) = (0, false);
        State::Text { name, escaped: false }
    }

    /// A string at a place that we know. Says how many bytes of the piece were taken.
    fn text(&mut self, name: bool, escaped: bool, piece: &[u8]) -> usize {
        let keeps = name || !matches!(self.goal, Goal::Any | Goal::Inside(_));
        let (end, escaped) = string(piece, escaped);
        let taken = end.unwrap_or(piece.len());
        if keeps {
            // one more than is read, so that what is too long is seen to be
            let room = (LONGEST + 1).saturating_sub(self.kept.len());
            self.kept.extend_from_slice(&piece[..taken.min(room)]);
        }
        self.crossed(&piece[..taken]);
        if end.is_none() {
            self.state = State::Text { name, escaped };
            return taken;
        }
        self.state = if name { self.named() } else { self.valued() };
        taken + 1
    }

    fn deep_text(&mut self, depth: u32, escaped: bool, piece: &[u8]) -> usize {
        let (end, escaped) = string(piece, escaped);
        let taken = end.unwrap_or(piece.len());
        self.crossed(&piece[..taken]);
        if end.is_none() {
            self.state = State::DeepText { depth, escaped };
            return taken;
        }
        self.spare();
        self.state = State::Deep(depth);
        taken + 1
    }

    fn crossed(&mut self, part: &[u8]) {
        self.length += part.len() as u64;
        self.spaced = self.spaced || memchr(b' ', part).is_some();
    }

    fn spare(&mut self) {
        if self.length > MEDIA && !self.spaced {
            self.spared += self.length.saturating_sub(OF_MEDIA);
        }
    }

    /// A name has ended.
    fn named(&mut self) -> State {
        self.goal = Goal::Any;
        // what is longer is none of ours, however it is spelled
        if self.kept.len() <= LONGEST
            && let Some(name) = Key(&self.kept[1..]).plain()
            && let Some(scope) = self.scopes.last()
            && let Some((bit, name, goal)) = known(*scope, &name)
        {
            self.goal = goal;
            if self.seen & bit != 0 {
                self.fault.get_or_insert(Unclear::Twice(name));
            }
            self.seen |= bit;
        }
        State::Colon
    }

    /// A value that is a string has ended.
    fn valued(&mut self) -> State {
        let goal = std::mem::replace(&mut self.goal, Goal::Any);
        match goal {
            Goal::Any | Goal::Inside(_) => self.spare(),
            Goal::Type if self.kept.len() > LONGEST => {}
            _ => {
                self.kept.push(b'"');
                let text =
                    if self.kept.len() > LONGEST + 1 { None } else { Raw(&self.kept).text() };
                let text = text.map(Cow::into_owned);
                return self.take(goal, text);
            }
        }
        State::Behind
    }

    fn take(&mut self, goal: Goal, text: Option<String>) -> State {
        match (goal, text) {
            (Goal::Type, text) => self.kind = text.map(|text| text.into_bytes().into()),
            (_, None) => return self.broken_if(true, State::Broken),
            (Goal::Writes, writes) => self.said.writes = writes,
            (_, Some(model)) => {
                if self.said.model.as_ref().is_some_and(|known| *known != model) {
                    self.fault.get_or_insert(Unclear::Twice("model"));
                }
                self.said.model = Some(model);
            }
        }
        State::Behind
    }
}

/// The bit, name and meaning of a member.
fn known(scope: Scope, name: &[u8]) -> Option<(u16, &'static str, Goal)> {
    if scope == Scope::Transcription {
        return name.eq_ignore_ascii_case(b"model").then_some((WRITES_BIT, WRITES, Goal::Writes));
    }
    let is = |known: &(Scope, &str, Goal)| {
        known.0 == scope && known.1.as_bytes().eq_ignore_ascii_case(name)
    };
    let at = KNOWN.iter().position(is)?;
    Some((1 << at, KNOWN[at].1, KNOWN[at].2))
}

/// Where the string ends in this piece of it, at its quote; and whether the next piece begins behind a
/// backslash.
fn string(piece: &[u8], mut escaped: bool) -> (Option<usize>, bool) {
    let mut at = 0;
    while at < piece.len() {
        if std::mem::take(&mut escaped) {
            at += 1;
            continue;
        }
        let Some(found) = memchr2(b'"', b'\\', &piece[at..]) else { return (None, false) };
        at += found;
        if piece[at] == b'"' {
            return (Some(at), false);
        }
        escaped = true;
        at += 1;
    }
    (None, escaped)
}

/// Of a number or a literal.
fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')
}

#[cfg(test)]
mod tests;

//! A borrowed, partial view of a request body: the few fields that routing, limits and metering
//! need, found in one pass over the top-level members. Everything else is skipped unread.
//!
//! The view must never disagree with the backend about what was asked, so a field that we read
//! and that stands there twice is a fault, in whatever spelling the backend would take: escaped,
//! in snake case for Gemini (protobuf takes both), in any case for Ollama (Go does). A bound that
//! makes no sense is no fault: the backend answers for that. What may be edited is kept with its
//! place, for [`super::Edits`].
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use super::Dialect;
use super::endpoint::Kind;
use super::json::{Members, NotJson, Raw, blank, skip_space};
use fields::{Field, Part};

pub(super) mod fields;
mod media;

/// What we read of a body. Slices are the values as they were written; `Debug` shows none of them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct View<'a> {
    pub model: Option<Cow<'a, str>>,
    pub stream: Option<bool>,
    /// Most tokens of output; the larger, if the body gives two bounds.
    pub max_tokens: Option<u64>,
    /// How many answers are asked for.
    pub n: Option<u64>,
    /// OpenAI `stream_options.include_usage`
    pub include_usage: Option<bool>,
    /// `messages`, `input`, `prompt`, `contents` or `content`, whichever this kind has.
    pub messages: Option<&'a [u8]>,
    pub system: Option<&'a [u8]>,
    pub tools: Option<&'a [u8]>,
    /// The model is asked to think first. Models that do so unasked are not known here.
    pub reasoning: bool,
    /// Anthropic `thinking.budget_tokens`: the backend wants `max_tokens` to be larger.
    pub thinking_tokens: Option<u64>,
    /// Bytes of messages, system and tools as they were written; an attachment counts as 6,000 of
    /// them at most, whatever its size.
    pub prompt_bytes: u64,
    /// Attachments of 2 KiB of base64 or more.
    pub media: u32,
    /// OpenAI `prompt_cache_key`: calls of one conversation share it.
    pub prompt_cache_key: Option<Cow<'a, str>>,
    /// OpenAI `user`, Anthropic `metadata.user_id`
    pub user: Option<Cow<'a, str>>,
    /// OpenAI `safety_identifier`
    pub safety_identifier: Option<Cow<'a, str>>,
    /// Asks for work that outlasts its answer, or that other hands do: OpenAI `background`,
    /// `conversation` and a `prompt` kept at the vendor, Anthropic `mcp_servers` and `container`.
    pub lasting: bool,
    /// OpenAI `background`: the answer will be fetched later.
    pub background: bool,
    /// What a Gemini body says of the model that its path has named.
    pub(super) resource: Option<&'a [u8]>,
    pub(super) places: Places,
}

/// Where the values stand that may have to change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// The first brace.
    pub object: usize,
    pub model: Option<Spot>,
    /// Where [`View::messages`] begins.
    pub messages: usize,
    /// The bound by its older name, and chat's `max_completion_tokens`.
    pub bounds: [Option<Spot>; 2],
    /// What should hold the bound: Gemini `generationConfig`, Ollama `options`.
    pub holder: Option<Spot>,
    pub stream_options: Option<Spot>,
    pub include_usage: Option<Spot>,
    pub background: Option<Spot>,
}

/// A value's place in the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spot {
    pub at: Range<usize>,
    pub holds: Holds,
}

/// As much as an edit must know of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    Null,
    Object,
    Count(u64),
    Other,
}

impl Spot {
    fn new(value: Raw<'_>, at: Range<usize>) -> Self {
        let holds = match value.0.first() {
            Some(b'{') => Holds::Object,
            _ if value.is_null() => Holds::Null,
            _ => value.number().map_or(Holds::Other, Holds::Count),
        };
        Self { at, holds }
    }
}

impl fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("model", &self.model)
            .field("stream", &self.stream)
            .field("max_tokens", &self.max_tokens)
            .field("n", &self.n)
            .field("prompt_bytes", &self.prompt_bytes)
            .finish_non_exhaustive()
    }
}

/// Why a body cannot be read. Each is the caller's mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ViewFault {
    #[error("the body is not valid JSON (at byte {at})")]
    NotJson { at: usize },
    #[error("the body must be a JSON object")]
    NotAnObject,
    #[error("`{field}` is given more than once")]
    Duplicate { field: &'static str },
    #[error("`{field}` must be {expected}")]
    WrongType { field: &'static str, expected: &'static str },
}

impl From<NotJson> for ViewFault {
    fn from(fault: NotJson) -> Self {
        Self::NotJson { at: fault.at }
    }
}

/// Looks into a request body. A byte order mark and space around the object are fine.
pub fn view(kind: Kind, body: &[u8]) -> Result<View<'_>, ViewFault> {
    let fields = fields::fields(kind);
    let mut view = View::default();
    if fields.is_empty() {
        return Ok(view);
    }
    let mark = if body.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    let start = skip_space(body, mark);
    let Some(mut members) = Members::open(body, start) else {
        return Err(match body.get(start) {
            Some(b'[' | b'"' | b'0'..=b'9' | b'-' | b't' | b'f' | b'n') => ViewFault::NotAnObject,
            _ => ViewFault::NotJson { at: start },
        });
    };
    view.places.object = start;
    let dialect = kind.dialect();
    let mut seen = 0_u32;
    loop {
        // what the attachments in this member do not count, and how many they are
        let (mut spared, mut media) = (0_u64, 0_u32);
        let mut long = |place: Range<usize>| {
            let len = place.len() as u64;
            if media::is_media(body, place, dialect == Dialect::Ollama) {
                spared += len.saturating_sub(media::MEDIA);
                media += 1;
            }
        };
        let Some((key, value)) = members.next_noting(&mut long)? else { break };
        let Some(name) = fields::name(&key) else { continue };
        let Some(index) = fields::find(dialect, fields, &name) else { continue };
        let field = fields[index];
        if seen & (1 << index) != 0 {
            return Err(ViewFault::Duplicate { field: field.name });
        }
        seen |= 1 << index;
        if matches!(field.part, Part::Messages | Part::System | Part::Tools | Part::Media) {
            view.prompt_bytes += value.0.len() as u64 - spared;
            view.media += media;
        }
        view.take(dialect, field, value, members.at() - value.0.len())?;
    }
    if !blank(&body[members.at()..]) {
        return Err(ViewFault::NotJson { at: members.at() });
    }
    Ok(view)
}

impl<'a> View<'a> {
    /// `at`: where the value begins.
    fn take(
        &mut self,
        dialect: Dialect,
        field: Field,
        value: Raw<'a>,
        at: usize,
    ) -> Result<(), ViewFault> {
        let place = at..at + value.0.len();
        let wrong = |expected| ViewFault::WrongType { field: field.name, expected };
        match field.part {
            Part::MaxTokens => self.bound(dialect, 0, value, place),
            Part::MaxCompletion => self.bound(dialect, 1, value, place),
            Part::StreamOptions => self.stream_options(value, place)?,
            Part::Options => self.options(dialect, value, place)?,
            Part::Model => {
                self.places.model = Some(Spot::new(value, place));
                if !value.is_null() {
                    self.model = Some(value.text().ok_or(wrong("a string"))?);
                }
            }
            Part::Resource => self.names(value, place),
            _ if value.is_null() => {}
            Part::Stream => self.stream = Some(value.bool().ok_or(wrong("true or false"))?),
            Part::N => self.n = value.number(),
            Part::Messages if self.messages.is_none() => {
                self.messages = Some(value.0);
                self.places.messages = at;
            }
            Part::System => self.system = Some(value.0),
            Part::Tools => self.tools = Some(value.0),
            Part::Reasoning => self.reasoning |= self.thinks(value),
            Part::CacheKey => self.prompt_cache_key = value.text(),
            Part::User => self.user = value.text(),
            Part::Safety => self.safety_identifier = value.text(),
            Part::Metadata => {
                inside(value, at, |name, value, _| {
                    if name == b"user_id" {
                        self.user = value.text();
                    }
                    Ok(())
                })?;
            }
            Part::Lasting => self.lasting |= !value.is_empty() && value.bool() != Some(false),
            Part::Background => {
                self.background = value.bool().ok_or(wrong("true or false"))?;
                self.lasting |= self.background;
                self.places.background = Some(Spot::new(value, place));
            }
            Part::Request => {
                inside(value, at, |name, value, at| {
                    if name == b"model" {
                        once(self.places.model.as_ref(), "model")?;
                        self.names(value, at);
                    }
                    Ok(())
                })?;
            }
            Part::Messages | Part::Media => {}
        }
        Ok(())
    }

    fn names(&mut self, model: Raw<'a>, place: Range<usize>) {
        self.resource = Some(model.0);
        self.places.model = Some(Spot::new(model, place));
    }

    fn stream_options(&mut self, value: Raw<'a>, place: Range<usize>) -> Result<(), ViewFault> {
        inside(value, place.start, |name, value, at| {
            if name == b"include_usage" {
                once(self.places.include_usage.as_ref(), "stream_options.include_usage")?;
                // what we take for no, a backend might take for yes
                let wrong = ViewFault::WrongType {
                    field: "stream_options.include_usage",
                    expected: "true or false",
                };
                self.include_usage =
                    (!value.is_null()).then(|| value.bool().ok_or(wrong)).transpose()?;
                self.places.include_usage = Some(Spot::new(value, at));
            }
            Ok(())
        })?;
        self.places.stream_options = Some(Spot::new(value, place));
        Ok(())
    }

    fn options(
        &mut self,
        dialect: Dialect,
        value: Raw<'a>,
        place: Range<usize>,
    ) -> Result<(), ViewFault> {
        let gemini = dialect == Dialect::Gemini;
        inside(value, place.start, |name, value, at| {
            if gemini && fields::same("maxOutputTokens", name) {
                once(self.places.bounds[0].as_ref(), "maxOutputTokens")?;
                self.bound(dialect, 0, value, at);
            } else if gemini && fields::same("candidateCount", name) {
                self.n = value.number();
            } else if gemini && fields::same("thinkingConfig", name) {
                self.reasoning |= self.thinks(value);
            } else if !gemini && name == b"num_predict" {
                once(self.places.bounds[0].as_ref(), "num_predict")?;
                self.bound(dialect, 0, value, at);
            }
            Ok(())
        })?;
        self.places.holder = Some(Spot::new(value, place));
        Ok(())
    }

    fn bound(&mut self, dialect: Dialect, index: usize, value: Raw<'_>, at: Range<usize>) {
        let mut spot = Spot::new(value, at);
        // to these two it means the same as no bound at all
        if matches!(dialect, Dialect::Gemini | Dialect::Ollama) && spot.holds == Holds::Count(0) {
            spot.holds = Holds::Other;
        }
        if let Holds::Count(count) = spot.holds {
            self.max_tokens = self.max_tokens.max(Some(count));
        }
        self.places.bounds[index] = Some(spot);
    }

    /// Whether this setting, of whatever dialect, asks the model to think.
    fn thinks(&mut self, value: Raw<'_>) -> bool {
        let off = |value: Raw<'_>| {
            value.text().is_some_and(|word| {
                ["none", "minimal", "disabled"].iter().any(|off| word.eq_ignore_ascii_case(off))
            })
        };
        let Some(mut members) = value.members() else {
            return value.0 != b"false" && !value.is_empty() && !off(value);
        };
        let mut says = false;
        while let Ok(Some((key, value))) = members.next() {
            let no = match key.0 {
                b"type" | b"effort" | b"thinkingLevel" | b"thinking_level" => off(value),
                b"enabled" => value.bool() == Some(false),
                b"thinkingBudget" | b"thinking_budget" => value.number() == Some(0),
                b"budget_tokens" => {
                    self.thinking_tokens = value.number();
                    false
                }
                _ => false,
            };
            if no {
                return false;
            }
            says |= !value.is_empty() && value.0 != b"false";
        }
        says
    }
}

/// Shows the members of the object at `at`, names without escapes, with their places in the body.
/// Shows nothing of what is no object, and no more of one that is broken.
fn inside<'a>(
    object: Raw<'a>,
    at: usize,
    mut show: impl FnMut(&[u8], Raw<'a>, Range<usize>) -> Result<(), ViewFault>,
) -> Result<(), ViewFault> {
    let Some(mut members) = object.members() else { return Ok(()) };
    while let Ok(Some((key, value))) = members.next() {
        let Some(name) = fields::name(&key) else { continue };
        let end = at + members.at();
        show(&name, value, end - value.0.len()..end)?;
    }
    Ok(())
}

fn once(before: Option<&Spot>, field: &'static str) -> Result<(), ViewFault> {
    if before.is_some() { Err(ViewFault::Duplicate { field }) } else { Ok(()) }
}

#[cfg(test)]
mod tests;

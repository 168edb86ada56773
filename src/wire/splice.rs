//! Changes to a request's body: as few bytes as can be, in one copy.
//!
//! Three things only: streams are asked to report their usage, the bound of the output is lowered
//! or set, and the model is asked for by another name. All other bytes stay as the caller wrote
//! them, because providers' prompt caches and unknown fields depend on them. A member is replaced
//! where it stands, or put behind the opening brace of its object; so no member ever stands there
//! twice. Where the path names the model, [`path_with_model`] changes it there.
mod path;

use std::ops::Range;

use bytes::Bytes;

use super::Dialect;
use super::endpoint::Kind;
use super::json::Raw;
use super::view::{Holds, Spot, View};

pub use path::path_with_model;

/// What is wanted of a body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wish<'w> {
    /// Streams of chat and completions are to report their usage.
    pub include_usage: bool,
    /// The output is to be bounded by so many tokens; at least one, for some read 0 as no bound.
    pub max_tokens: Option<u64>,
    /// Where chat has no bound yet, its name is `max_completion_tokens`, as OpenAI itself wants it;
    /// else `max_tokens`, which all others know.
    pub completion_tokens: bool,
    /// The model is to be asked for by this name. Where the path names it, the body is only kept in
    /// step: what it says of the model follows, and nothing is put there.
    pub model: Option<&'w str>,
}

/// Changes to one body, by their places in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edits {
    /// In no order.
    patches: Vec<Patch>,
    asks_usage: bool,
    unbounded: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Patch {
    /// Empty for something new.
    at: Range<usize>,
    front: &'static str,
    fill: Fill,
    back: &'static str,
}

/// What stands between a patch's fixed texts.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fill {
    Nothing,
    Number(u64),
    /// A JSON string, quotes included.
    Quoted(Box<str>),
}

/// Room for what one patch writes, a number and a comma included.
const PATCH: usize = 80;

impl Edits {
    /// What must change so that the wish holds for the body that was viewed.
    pub fn new(kind: Kind, view: &View<'_>, wish: Wish<'_>) -> Self {
        let mut edits = Self::default();
        if wish.include_usage {
            edits.include_usage(kind, view);
        }
        if let Some(limit) = wish.max_tokens {
            edits.unbounded = !edits.bound(kind, view, limit, wish.completion_tokens);
        }
        if let Some(model) = wish.model {
            edits.model(kind, view, model);
        }
        edits
    }

    /// Nothing must change.
    pub fn is_empty(&self) -> bool {
        self.patches.is_empty()
    }

    /// The usage is asked for by us and not by the caller, who must not see it.
    pub fn asks_usage(&self) -> bool {
        self.asks_usage
    }

    /// The output could not be bounded as was wished: this kind has no place for a bound, or
    /// something senseless stands there.
    pub fn unbounded(&self) -> bool {
        self.unbounded
    }

    /// The answer is to come at once, where the body wants to fetch it later.
    pub fn in_foreground(view: &View<'_>) -> Self {
        let mut edits = Self::default();
        if let Some(spot) = view.places.background.as_ref().filter(|_| view.background) {
            edits.replace(spot, "false", Fill::Nothing, "");
        }
        edits
    }

    /// The changed body. `body` must be the one that was viewed.
    pub fn apply(mut self, body: &Bytes) -> Bytes {
        self.patches.sort_by_key(|patch| patch.at.start);
        let Some(room) = self.room(body.len()) else { return body.clone() };
        let mut out = Vec::with_capacity(room);
        let mut from = 0;
        for (index, patch) in self.patches.iter().enumerate() {
            let Some(kept) = body.get(from..patch.at.start) else { return body.clone() };
            out.extend_from_slice(kept);
            patch.write(&mut out);
            from = patch.at.end;
            let more_here = self
                .patches
                .get(index + 1)
                .is_some_and(|next| next.at.is_empty() && next.at.start == from);
            if patch.at.is_empty() && (more_here || !closes(&body[from..])) {
                out.push(b',');
            }
        }
        out.extend_from_slice(body.get(from..).unwrap_or_default());
        out.into()
    }

    /// How long a body of that length may become. `None`: nothing changes.
    fn room(&self, body: usize) -> Option<usize> {
        let texts = self.patches.iter().map(|patch| match &patch.fill {
            Fill::Quoted(text) => text.len() + PATCH,
            Fill::Nothing | Fill::Number(_) => PATCH,
        });
        (!self.is_empty()).then(|| body + texts.sum::<usize>())
    }

    /// Puts a text, with something in it, in the place of another.
    fn replace(&mut self, spot: &Spot, front: &'static str, fill: Fill, back: &'static str) {
        self.patches.push(Patch { at: spot.at.clone(), front, fill, back });
    }

    /// Makes a member the first one of the object that begins at `object`.
    fn insert(&mut self, object: usize, front: &'static str, fill: Fill, back: &'static str) {
        self.patches.push(Patch { at: object + 1..object + 1, front, fill, back });
    }

    fn include_usage(&mut self, kind: Kind, view: &View<'_>) {
        if !matches!(kind, Kind::Chat | Kind::Completions)
            || view.stream != Some(true)
            || view.include_usage == Some(true)
        {
            return;
        }
        let places = &view.places;
        match (&places.stream_options, &places.include_usage) {
            (None, _) => {
                let member = r#""stream_options":{"include_usage":true}"#;
                self.insert(places.object, member, Fill::Nothing, "");
            }
            (Some(spot), _) if spot.holds == Holds::Null => {
                self.replace(spot, r#"{"include_usage":true}"#, Fill::Nothing, "");
            }
            (Some(spot), None) if spot.holds == Holds::Object => {
                self.insert(spot.at.start, r#""include_usage":true"#, Fill::Nothing, "");
            }
            (_, Some(spot)) if spot.holds == Holds::Null || view.include_usage == Some(false) => {
                self.replace(spot, "true", Fill::Nothing, "");
            }
            // no such thing is valid: the backend will say so
            _ => return,
        }
        self.asks_usage = true;
    }

    fn model(&mut self, kind: Kind, view: &View<'_>, to: &str) {
        if kind.dialect() == Dialect::Gemini {
            return self.resources(kind, view, to);
        }
        if !kind.reads_body() || view.model.as_deref() == Some(to) {
            return;
        }
        let name = Fill::Quoted(quoted(to));
        match &view.places.model {
            Some(spot) => self.replace(spot, "", name, ""),
            None => self.insert(view.places.object, r#""model":"#, name, ""),
        }
    }

    /// Gemini's bodies may name the model as well: once, or in each request of a batch.
    fn resources(&mut self, kind: Kind, view: &View<'_>, to: &str) {
        if let (Some(spot), Some(value)) = (&view.places.model, view.resource) {
            self.resource(Raw(value), spot.at.clone(), to);
        }
        let batch = if kind == Kind::GeminiEmbed { view.messages } else { None };
        let Some(mut requests) = batch.and_then(|list| Raw(list).elements()) else { return };
        while let Some(request) = requests.next() {
            let start = view.places.messages + requests.at() - request.0.len();
            let Some(mut members) = request.members() else { continue };
            while let Ok(Some((key, value))) = members.next() {
                if key.plain().is_some_and(|name| *name == *b"model") {
                    let end = start + members.at();
                    self.resource(value, end - value.0.len()..end, to);
                }
            }
        }
    }

    /// `models/NAME`: what stands before the name stays, unless the new one brings its own.
    fn resource(&mut self, value: Raw<'_>, at: Range<usize>, to: &str) {
        let Some(before) = value.text() else { return };
        let front = before.rfind('/').map_or("", |slash| &before[..=slash]);
        let front = if to.contains('/') { "" } else { front };
        if before.strip_prefix(front) != Some(to) {
            let fill = Fill::Quoted(quoted(&format!("{front}{to}")));
            self.patches.push(Patch { at, front: "", fill, back: "" });
        }
    }

    /// Says whether the output is bounded.
    fn bound(&mut self, kind: Kind, view: &View<'_>, limit: u64, completion_tokens: bool) -> bool {
        let Some(slot) = Slot::of(kind, completion_tokens) else { return !generates(kind) };
        let mut stated = false;
        for spot in view.places.bounds.iter().flatten() {
            stated |= spot.holds != Holds::Null;
            let over = match spot.holds {
                Holds::Null => false,
                Holds::Count(count) => count > limit,
                // some backends take such a thing for no bound: -1, "100000"
                Holds::Object | Holds::Other => true,
            };
            if over {
                self.replace(spot, "", Fill::Number(limit), "");
            }
        }
        if stated {
            return true;
        }
        let places = &view.places;
        match (&places.bounds[slot.index], slot.inside, &places.holder) {
            (Some(null), ..) => self.replace(null, "", Fill::Number(limit), ""),
            (None, None, _) => self.insert(places.object, slot.front, Fill::Number(limit), ""),
            (None, Some(front), None) => {
                self.insert(places.object, front, Fill::Number(limit), "}");
            }
            (None, Some(_), Some(holder)) => match holder.holds {
                Holds::Object => self.insert(holder.at.start, slot.front, Fill::Number(limit), ""),
                Holds::Null => self.replace(holder, slot.object, Fill::Number(limit), "}"),
                Holds::Count(_) | Holds::Other => return false,
            },
        }
        true
    }
}

impl Patch {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.front.as_bytes());
        match &self.fill {
            Fill::Nothing => {}
            Fill::Number(number) => {
                out.extend_from_slice(itoa::Buffer::new().format(*number).as_bytes());
            }
            Fill::Quoted(text) => out.extend_from_slice(text.as_bytes()),
        }
        out.extend_from_slice(self.back.as_bytes());
    }
}

/// How a kind names its bound.
struct Slot {
    /// Which of the view's bounds it is.
    index: usize,
    /// The member, up to its value.
    front: &'static str,
    /// The same within its object, if it stands in one, with that object's name and without.
    inside: Option<&'static str>,
    object: &'static str,
}

impl Slot {
    fn of(kind: Kind, completion_tokens: bool) -> Option<Self> {
        let plain = |index, front| Some(Self { index, front, inside: None, object: "" });
        match kind {
            Kind::Chat if completion_tokens => plain(1, r#""max_completion_tokens":"#),
            Kind::Chat | Kind::Completions | Kind::Messages => plain(0, r#""max_tokens":"#),
            Kind::Responses => plain(0, r#""max_output_tokens":"#),
            Kind::Generate | Kind::StreamGenerate => Some(Self {
                index: 0,
                front: r#""maxOutputTokens":"#,
                inside: Some(r#""generationConfig":{"maxOutputTokens":"#),
                object: r#"{"maxOutputTokens":"#,
            }),
            Kind::OllamaChat | Kind::OllamaGenerate => Some(Self {
                index: 0,
                front: r#""num_predict":"#,
                inside: Some(r#""options":{"num_predict":"#),
                object: r#"{"num_predict":"#,
            }),
            _ => None,
        }
    }
}

/// Whether a call of this kind may write tokens; those that cannot are bounded by themselves.
fn generates(kind: Kind) -> bool {
    !matches!(
        kind,
        Kind::Embeddings
            | Kind::CountTokens
            | Kind::GeminiEmbed
            | Kind::GeminiCount
            | Kind::OllamaEmbed
            | Kind::Models
            | Kind::Session
    )
}

/// A text as JSON writes it.
fn quoted(text: &str) -> Box<str> {
    serde_json::Value::from(text).to_string().into()
}

/// Whether the object ends here.
fn closes(rest: &[u8]) -> bool {
    rest.trim_ascii_start().starts_with(b"}")
}

#[cfg(test)]
mod tests;

//! Changes to a request's body: as few bytes as can be, in one copy.
//!
//! Two things only: streams are asked to report their usage, and the bound of the output is lowered
//! or set. All other bytes stay as the caller wrote them, because providers' prompt caches and
//! unknown fields depend on them. A member is replaced where it stands, or put behind the opening
//! brace of its object; so no member ever stands there twice.
use std::ops::Range;

use bytes::Bytes;

use super::endpoint::Kind;
use super::view::{Holds, Spot, View};

/// What is wanted of a body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wish {
    /// Streams of chat and completions are to report their usage.
    pub include_usage: bool,
    /// The output is to be bounded by so many tokens.
    pub max_tokens: Option<u64>,
    /// Where chat has no bound yet, its name is `max_completion_tokens`, as OpenAI itself wants it;
    /// else `max_tokens`, which all others know.
    pub completion_tokens: bool,
}

/// Changes to one body, by their places in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edits {
    /// In no order. At most: the usage, and two bounds.
    patches: [Option<Patch>; 3],
    asks_usage: bool,
    unbounded: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Patch {
    /// Empty for something new.
    at: Range<usize>,
    front: &'static str,
    number: Option<u64>,
    back: &'static str,
}

/// Room for what one patch writes, a number and a comma included.
const PATCH: usize = 80;

impl Edits {
    /// What must change so that the wish holds for the body that was viewed.
    pub fn new(kind: Kind, view: &View<'_>, wish: Wish) -> Self {
        let mut edits = Self::default();
        if wish.include_usage {
            edits.include_usage(kind, view);
        }
        if let Some(limit) = wish.max_tokens {
            edits.unbounded = !edits.bound(kind, view, limit, wish.completion_tokens);
        }
        edits
    }

    /// Nothing must change.
    pub fn is_empty(&self) -> bool {
        self.patches[0].is_none()
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

    /// The changed body. `body` must be the one that was viewed.
    pub fn apply(mut self, body: &Bytes) -> Bytes {
        self.patches.sort_by_key(|patch| patch.as_ref().map_or(usize::MAX, |patch| patch.at.start));
        let count = self.patches.iter().flatten().count();
        if count == 0 {
            return body.clone();
        }
        let mut out = Vec::with_capacity(body.len() + count * PATCH);
        let mut from = 0;
        for (index, patch) in self.patches.iter().flatten().enumerate() {
            let Some(kept) = body.get(from..patch.at.start) else { return body.clone() };
            out.extend_from_slice(kept);
            out.extend_from_slice(patch.front.as_bytes());
            if let Some(number) = patch.number {
                out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
            }
            out.extend_from_slice(patch.back.as_bytes());
            from = patch.at.end;
            let more_here = self.patches.get(index + 1).is_some_and(|next| {
                next.as_ref().is_some_and(|next| next.at.is_empty() && next.at.start == from)
            });
            if patch.at.is_empty() && (more_here || !closes(&body[from..])) {
                out.push(b',');
            }
        }
        out.extend_from_slice(body.get(from..).unwrap_or_default());
        out.into()
    }

    fn add(&mut self, patch: Patch) {
        if let Some(free) = self.patches.iter_mut().find(|place| place.is_none()) {
            *free = Some(patch);
        }
    }

    /// Puts a text, with a number in it, in the place of another.
    fn replace(
        &mut self,
        spot: &Spot,
        front: &'static str,
        number: Option<u64>,
        back: &'static str,
    ) {
        self.add(Patch { at: spot.at.clone(), front, number, back });
    }

    /// Makes a member the first one of the object that begins at `object`.
    fn insert(
        &mut self,
        object: usize,
        front: &'static str,
        number: Option<u64>,
        back: &'static str,
    ) {
        self.add(Patch { at: object + 1..object + 1, front, number, back });
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
                self.insert(places.object, member, None, "");
            }
            (Some(spot), _) if spot.holds == Holds::Null => {
                self.replace(spot, r#"{"include_usage":true}"#, None, "");
            }
            (Some(spot), None) if spot.holds == Holds::Object => {
                self.insert(spot.at.start, r#""include_usage":true"#, None, "");
            }
            (_, Some(spot)) if spot.holds == Holds::Null || view.include_usage == Some(false) => {
                self.replace(spot, "true", None, "");
            }
            // no such thing is valid: the backend will say so
            _ => return,
        }
        self.asks_usage = true;
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
                self.replace(spot, "", Some(limit), "");
            }
        }
        if stated {
            return true;
        }
        let places = &view.places;
        match (&places.bounds[slot.index], slot.inside, &places.holder) {
            (Some(null), ..) => self.replace(null, "", Some(limit), ""),
            (None, None, _) => self.insert(places.object, slot.front, Some(limit), ""),
            (None, Some(front), None) => self.insert(places.object, front, Some(limit), "}"),
            (None, Some(_), Some(holder)) => match holder.holds {
                Holds::Object => self.insert(holder.at.start, slot.front, Some(limit), ""),
                Holds::Null => self.replace(holder, slot.object, Some(limit), "}"),
                Holds::Count(_) | Holds::Other => return false,
            },
        }
        true
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
    )
}

/// Whether the object ends here.
fn closes(rest: &[u8]) -> bool {
    rest.trim_ascii_start().starts_with(b"}")
}

#[cfg(test)]
mod tests;

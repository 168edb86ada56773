//! The form that an answer is asked for in, and the others that it may be kept in.
use std::borrow::Cow;
use std::ops::Range;

use crate::cache::{self, Entry};
use crate::pipeline::call::Call;
use crate::wire::{self, Form, Kind};

/// The form that an answer is asked for in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    pub kind: Kind,
    pub stream: bool,
    /// The stream is to report its usage.
    usage: bool,
    /// Gemini's stream as one JSON array.
    array: bool,
}

/// The numbers of all forms that an answer may be kept in.
pub const FORMS: Range<u8> = 0..8;

/// Gemini asks for a stream by another path: the same question for all that.
pub fn formless(kind: Kind, target: &str) -> (Kind, Cow<'_, str>) {
    if !matches!(kind, Kind::Generate | Kind::StreamGenerate) {
        return (kind, Cow::Borrowed(target));
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = path
        .strip_suffix(":streamGenerateContent")
        .or_else(|| path.strip_suffix(":generateContent"))
        .unwrap_or(path);
    // another form than these, or one that is said in another way, is another question
    let known = |pair: &&str| matches!(*pair, "alt=sse" | "alt=json");
    let forms = query.split('&').filter(known).count();
    let kept = |pair: &&str| !(pair.is_empty() || forms == 1 && known(pair));
    let query: Vec<_> = query.split('&').filter(kept).collect();
    (Kind::Generate, Cow::Owned(format!("{path}?{}", query.join("&"))))
}

impl Asked {
    pub fn of(call: &Call, target: &str) -> Self {
        let kind = call.kind;
        let sse = || target.split(['?', '&']).any(|pair| pair == "alt=sse");
        Self {
            kind,
            stream: call.stream,
            usage: call.stream && call.asks.usage,
            array: kind == Kind::StreamGenerate && !sse(),
        }
    }

    /// One of [`FORMS`].
    pub fn number(self) -> u8 {
        u8::from(self.stream) | u8::from(self.usage) << 1 | u8::from(self.array) << 2
    }

    /// The other forms that the answer may be kept in.
    pub fn others(self) -> impl Iterator<Item = Self> {
        let kinds = match self.kind {
            Kind::Generate | Kind::StreamGenerate => [Kind::Generate, Kind::StreamGenerate],
            kind => [kind, kind],
        };
        let usage = matches!(self.kind, Kind::Chat | Kind::Completions);
        let plain = Self { kind: kinds[0], stream: false, usage: false, array: false };
        let stream = Self { kind: kinds[1], stream: true, usage: false, array: false };
        let counted = usage.then_some(Self { usage: true, ..stream });
        [Some(plain), Some(stream), counted].into_iter().flatten().filter(move |one| *one != self)
    }

    /// The same answer in this form, if nothing is lost by that.
    pub fn render(self, entry: &Entry) -> Option<Entry> {
        let Entry { kind, form, ref body, .. } = *entry;
        if self.array {
            return None;
        }
        let plain = |body| Entry {
            kind: self.kind,
            form: Form::Json,
            stream: false,
            content_type: Some(b"application/json"[..].into()),
            body,
            frames: Box::default(),
            ..entry.clone()
        };
        if !self.stream {
            return wire::fold(kind, form, body).map(plain);
        }
        let unfolded = if entry.stream {
            wire::restream(kind, form, body, self.usage)?
        } else {
            wire::unfold(self.kind, body, self.usage)?
        };
        let wire::Unfolded { form, content_type, body, ends } = unfolded;
        let piece = |end| cache::Piece { end, at_ms: 0 };
        Some(Entry {
            kind: self.kind,
            form,
            stream: true,
            content_type: Some(content_type.as_bytes().into()),
            body,
            frames: ends.into_iter().map(piece).collect(),
            ..entry.clone()
        })
    }
}

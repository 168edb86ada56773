//! Watches an answer go by and never changes it: tokens used, whether content has begun, and how
//! the answer ended.
//!
//! Success is judged by the dialect's terminal event, not by the status and not by a clean end:
//! a stream that stops without one was cut. A plain token event is split and searched by SIMD for
//! the few words that matter (`"usage"`, `"error"`, …), never parsed, and nothing is allocated for
//! it. What only one dialect knows is in its own file. Memory is bounded, see `split` and `watch`.
use std::sync::LazyLock;

use super::endpoint::Kind;
use super::json::{Members, Raw};
use super::seek::{Seek, needle};
use super::split::{Event, NdJsonSplit, SseSplit};
use super::usage::Usage;
use super::verdict::{Verdict, error_verdict};
use super::watch::JsonWatch;
use super::{Dialect, anthropic, gemini, ollama, openai};

/// How an answer's body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    Json,
    /// Server-sent events.
    Sse,
    /// One JSON value a line.
    NdJson,
    /// Something that we do not look into, or compressed.
    Opaque,
}

/// Tells the form from the answer's `content-type` and `content-encoding`.
pub fn form(content_type: Option<&[u8]>, content_encoding: Option<&[u8]>) -> Form {
    let encoding = content_encoding.unwrap_or_default().trim_ascii();
    if !encoding.is_empty() && !encoding.eq_ignore_ascii_case(b"identity") {
        return Form::Opaque;
    }
    let full = content_type.unwrap_or_default();
    let end = memchr::memchr(b';', full).unwrap_or(full.len());
    let essence = full[..end].trim_ascii();
    let is = |name: &str| essence.eq_ignore_ascii_case(name.as_bytes());
    let suffix = essence.len().checked_sub(5).map(|at| &essence[at..]);
    if is("text/event-stream") {
        Form::Sse
    } else if is("application/json") || suffix.is_some_and(|end| end.eq_ignore_ascii_case(b"+json"))
    {
        Form::Json
    } else if ["application/x-ndjson", "application/ndjson", "application/jsonl"]
        .into_iter()
        .any(is)
    {
        Form::NdJson
    } else {
        Form::Opaque
    }
}

/// How an answer ended, as far as it tells itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Ending {
    /// Not yet. After [`Meter::finish`]: it was cut.
    #[default]
    Open,
    /// By its terminal event, or as a whole body without an error. An [`Form::Opaque`] body
    /// cannot tell: it is complete when it finishes.
    Complete,
    /// By an error event, or with an error body.
    Failed,
}

/// Watches one answer.
pub struct Meter {
    split: Split,
    tally: Tally,
}

enum Split {
    Json(JsonWatch),
    Sse(SseSplit),
    NdJson(NdJsonSplit),
    Opaque,
}

/// What was seen so far; the dialects write it.
pub(super) struct Tally {
    pub kind: Kind,
    /// As the dialect counts; [`Meter::usage`] makes it comparable.
    pub usage: Usage,
    pub counted: bool,
    ending: Ending,
    fault: Option<Verdict>,
    /// A piece of output has passed, or the beginning of one.
    begun: bool,
    content_events: u64,
    /// Events that show work of another kind.
    steps: u64,
    /// What the answer said and has not told the tokens of: events, and bytes of text.
    untold_events: u64,
    untold_bytes: u64,
    /// Output as it was last told, and the least that [`Meter::produced`] may say.
    told: u64,
    floor: u64,
    model: Option<Box<str>>,
    /// How many more events may be searched for the model's name.
    model_looks: u8,
}

/// Of text in most languages, and of code.
const BYTES_PER_TOKEN: u64 = 4;
/// The model's name stands in the first event that has one; nobody hides it later than this.
const MODEL_LOOKS: u8 = 4;
/// Longer names are no names.
const MODEL_LEN: usize = 256;

static ERROR: Seek = LazyLock::new(|| needle(b"\"error\""));
static USAGE: Seek = LazyLock::new(|| needle(b"\"usage\""));

impl Tally {
    pub fn complete(&mut self) {
        if self.ending == Ending::Open {
            self.ending = Ending::Complete;
        }
    }

    pub fn fail(&mut self, verdict: Verdict) {
        if self.ending == Ending::Open {
            self.ending = Ending::Failed;
            self.fault = Some(verdict);
        }
    }

    /// The terminal event is behind us.
    pub fn over(&self) -> bool {
        self.ending != Ending::Open
    }

    /// Output begins, a call of a tool most often, and has no text yet.
    pub fn begin(&mut self) {
        self.begun = true;
    }

    /// An event has brought output, with so many bytes of text; none for sounds and images.
    pub fn said(&mut self, bytes: usize) {
        self.begun = true;
        self.content_events += 1;
        self.untold_events += 1;
        self.untold_bytes += bytes as u64;
    }

    /// An event has no output, and shows that some is being worked at: a hosted tool's progress.
    pub fn stepped(&mut self) {
        self.steps += 1;
    }

    /// A usage object was read; `counted`: there were counts in it. To be called behind
    /// [`Tally::said`], since the counts include what the same event says.
    pub fn told(&mut self, counted: bool) {
        self.counted |= counted;
        if self.usage.output > self.told {
            self.floor = self.produced();
            self.told = self.usage.output;
            (self.untold_events, self.untold_bytes) = (0, 0);
        }
    }

    fn produced(&self) -> u64 {
        let untold = self.untold_events.max(self.untold_bytes / BYTES_PER_TOKEN);
        self.floor.max(self.told.saturating_add(untold))
    }

    /// Whether this event is worth a search for the model's name.
    pub fn seeks_model(&mut self) -> bool {
        let seeks = self.model.is_none() && self.model_looks > 0;
        self.model_looks -= u8::from(seeks);
        seeks
    }

    /// Takes the usage of a whole body without walking through it; `false` where that is not sure to
    /// give what a walk would.
    fn peek(&mut self, body: &[u8]) -> bool {
        let body = body.trim_ascii();
        let object = body.starts_with(b"{") && body.ends_with(b"}");
        if !object || ERROR.value(body).is_some() {
            return false;
        }
        let read = match self.kind.dialect() {
            Dialect::OpenAi => openai::usage_at,
            Dialect::Anthropic => anthropic::usage_at,
            _ => return false,
        };
        let Some(value) = USAGE.value(body) else { return false };
        let mut found = Usage::default();
        let Some((counted, end)) = read(Raw(value), &mut found) else { return false };
        // only what belongs to the outermost object may follow
        let mut rest = Members::behind(&value[end..]);
        if !counted || !rest.skip() || rest.at() != value.len() - end {
            return false;
        }
        self.usage = found;
        self.told(true);
        true
    }

    pub fn name_model(&mut self, value: Raw<'_>) {
        if self.model.is_none()
            && value.0.len() <= MODEL_LEN
            && let Some(name) = value.text()
            && !name.is_empty()
        {
            self.model = Some(name.into());
        }
    }
}

impl Meter {
    /// For an answer to a call of this kind. A form that this kind is not known to have is not
    /// looked into, as if it were [`Form::Opaque`].
    pub fn new(kind: Kind, form: Form) -> Self {
        let split = match (form, kind.dialect()) {
            (Form::Json, _) if kind != Kind::Other => Split::Json(JsonWatch::default()),
            (Form::Sse, Dialect::OpenAi | Dialect::Anthropic | Dialect::Gemini) => {
                Split::Sse(SseSplit::new())
            }
            (Form::NdJson, Dialect::Ollama) => Split::NdJson(NdJsonSplit::new()),
            _ => Split::Opaque,
        };
        let tally = Tally {
            kind,
            usage: Usage::default(),
            counted: false,
            ending: Ending::Open,
            fault: None,
            begun: false,
            content_events: 0,
            steps: 0,
            untold_events: 0,
            untold_bytes: 0,
            told: 0,
            floor: 0,
            model: None,
            model_looks: MODEL_LOOKS,
        };
        Self { split, tally }
    }

    /// Sees the next bytes of the body.
    pub fn push(&mut self, chunk: &[u8]) {
        let tally = &mut self.tally;
        match &mut self.split {
            Split::Json(watch) => watch.push(chunk, wanted, &mut |name, value| {
                member(tally, name, Raw(value));
            }),
            Split::Sse(split) => split.push(chunk, &mut |event| on_event(tally, event)),
            Split::NdJson(split) => split.push(chunk, &mut |line| ollama::line(tally, line)),
            Split::Opaque => {}
        }
    }

    /// Sees a body that is here as a whole, and finishes. The usual answer, an object whose usage
    /// stands near its end and that holds no error, is not walked through for that, unless the name
    /// of its model is `wanted`, too.
    pub fn whole(&mut self, body: &[u8], wanted: bool) {
        if !wanted && matches!(self.split, Split::Json(_)) && self.tally.peek(body) {
            self.tally.complete();
            return;
        }
        self.push(body);
        self.finish();
    }

    /// The body has ended cleanly. Not to be called for one that was cut off.
    pub fn finish(&mut self) {
        let tally = &mut self.tally;
        match &mut self.split {
            Split::Json(watch) if watch.whole() => tally.complete(),
            Split::Json(_) => {}
            Split::Sse(split) => split.finish(&mut |event| on_event(tally, event)),
            Split::NdJson(split) => split.finish(&mut |line| ollama::line(tally, line)),
            Split::Opaque => tally.complete(),
        }
    }

    /// The tokens that the answer has told of so far. `None`: it has not.
    pub fn usage(&self) -> Option<Usage> {
        let mut usage = self.tally.usage;
        if self.tally.kind.dialect() == Dialect::Anthropic {
            usage.input += usage.cached_input + usage.cache_write;
        }
        self.tally.counted.then_some(usage)
    }

    pub fn ending(&self) -> Ending {
        self.tally.ending
    }

    /// What the error says that ended the answer. `None`: none did.
    pub fn fault(&self) -> Option<Verdict> {
        self.tally.fault
    }

    /// The first piece of the model's output has passed: a text, a thought, a refusal, a tool call or
    /// its name. What only announces one has not: roles, empty texts, pings, comments. Of a JSON body:
    /// its first byte. Of an opaque one: never told.
    pub fn content_started(&self) -> bool {
        match &self.split {
            Split::Json(watch) => watch.begun() || self.tally.over(),
            _ => self.tally.begun,
        }
    }

    /// Events that carried output: near to the number of tokens. 0 for a JSON body.
    pub fn content_events(&self) -> u64 {
        self.tally.content_events
    }

    /// Events without output that show that the backend gets on, as its pings do not.
    pub fn steps(&self) -> u64 {
        self.tally.steps
    }

    /// Whether single events are looked at, so that their content is seen as it comes.
    pub fn sees_events(&self) -> bool {
        matches!(self.split, Split::Sse(_) | Split::NdJson(_))
    }

    /// Tokens of output so far, while the answer goes by: as the backend told, and an estimate of
    /// what was said since: one for each event, or one for 4 bytes of text, whichever is more. Never
    /// falls, so it may end above [`Meter::usage`]. Of a plain JSON body: 0 until its usage is here.
    pub fn produced(&self) -> u64 {
        self.tally.produced()
    }

    /// The model that answered, as the answer names it.
    pub fn model(&self) -> Option<&str> {
        self.tally.model.as_deref()
    }

    /// Events that were too large to look into.
    pub fn skipped(&self) -> u64 {
        match &self.split {
            Split::Sse(split) => split.skipped(),
            Split::NdJson(split) => split.skipped(),
            Split::Json(_) | Split::Opaque => 0,
        }
    }

    /// Memory of an event that is not over, in bytes.
    pub fn carried(&self) -> usize {
        match &self.split {
            Split::Sse(split) => split.carried(),
            Split::NdJson(split) => split.carried(),
            Split::Json(_) | Split::Opaque => 0,
        }
    }

    /// No event is half sent: an event of ours may follow. Elsewhere it would be glued to the
    /// broken one.
    pub fn between_events(&self) -> bool {
        match &self.split {
            Split::Sse(split) => split.between(),
            Split::NdJson(split) => split.between(),
            Split::Json(_) | Split::Opaque => false,
        }
    }
}

fn on_event(tally: &mut Tally, event: Event<'_>) {
    match tally.kind.dialect() {
        Dialect::Anthropic => anthropic::event(tally, event),
        Dialect::Gemini => gemini::event(tally, event),
        _ => openai::event(tally, event),
    }
}

/// The members of a JSON body that some dialect wants.
fn wanted(name: &[u8]) -> bool {
    matches!(name, b"error" | b"usage" | b"usageMetadata" | b"model" | b"modelVersion")
        || matches!(name, b"prompt_eval_count" | b"eval_count")
}

fn member(tally: &mut Tally, name: &[u8], value: Raw<'_>) {
    match name {
        b"error" if !value.is_empty() => tally.fail(error_verdict(value)),
        b"model" | b"modelVersion" => tally.name_model(value),
        b"usage" | b"usageMetadata" | b"prompt_eval_count" | b"eval_count" => {
            let counted = match tally.kind.dialect() {
                Dialect::OpenAi => openai::usage(value, &mut tally.usage),
                Dialect::Anthropic => anthropic::usage(value, &mut tally.usage),
                Dialect::Gemini => gemini::usage(value, &mut tally.usage),
                Dialect::Ollama => ollama::count(name, value, &mut tally.usage),
                Dialect::Http => false,
            };
            tally.told(counted);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;

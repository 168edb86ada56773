//! Reading the call: its body, bounded, and the few fields in it that routes and limits ask for.
//!
//! Calls that we know are read whole, because their model may stand in the last line; every other
//! body streams through untouched. What is read is forwarded as it came: the view borrows.
mod arriving;
mod query;

use std::borrow::Cow;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body::Body as _;
use hyper::body::Incoming;

use self::arriving::Arriving;
use super::identify;
use super::refusal::Refusal;
use super::worker::Worker;
use crate::agents::Hints;
use crate::flight::Flight;
use crate::snapshot::Snapshot;
use crate::upstream::outgoing::Outgoing;
use crate::wire::{self, Conversation, Dialect, Endpoint, Kind, View, ViewFault, view};

/// What a response in a session is taken to use at most, in tokens, before it is known.
const A_RESPONSE: u64 = 4096;

/// A call as read.
pub struct Call {
    pub kind: Kind,
    pub body: Sending,
    /// Bytes of the body, as far as they are known.
    pub bytes: u64,
    /// The answer is asked for as a stream.
    pub stream: bool,
    /// The answer will be fetched later (OpenAI Responses).
    pub background: bool,
    model: Option<Rc<str>>,
    /// A session whose messages name its model: rights to it are asked for then.
    pub names_later: bool,
    pub asks: Asks,
    /// What the body says of its session.
    pub hints: Option<Box<Said>>,
    /// Where the conversation stands in the body.
    messages: Option<Range<usize>>,
    /// When the last byte of the body had come; our own time begins there.
    pub complete: Option<Instant>,
}

/// A request's body.
pub enum Body {
    /// It comes from the client.
    Arriving(Incoming),
    /// It is here: that of a task, which has been read before.
    Whole(Bytes),
}

impl Body {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Arriving(body) => body.is_end_stream(),
            Self::Whole(body) => body.is_empty(),
        }
    }
}

/// The body, on its way out.
pub enum Sending {
    /// Read whole; it may be edited before it goes.
    Whole(Bytes),
    Streaming(Outgoing),
}

/// What limits ask of a call.
#[derive(Debug, Clone, Copy)]
pub struct Asks {
    /// Its tokens can be counted.
    pub counted: bool,
    /// The model is asked to think first.
    pub reasoning: bool,
    pub prompt_bytes: u64,
    /// The bound on the output that it gives itself.
    pub max_tokens: Option<u64>,
    /// A lower bound than this is of no use to it.
    pub least: u64,
    /// How many answers.
    pub answers: u64,
    /// It asks for the usage of its stream itself.
    pub usage: bool,
    /// The longest that its caller will wait. `None`: it does not say.
    pub patience: Option<Duration>,
}

impl Default for Asks {
    fn default() -> Self {
        Self {
            counted: false,
            reasoning: false,
            prompt_bytes: 0,
            max_tokens: None,
            least: 0,
            answers: 1,
            usage: false,
            patience: None,
        }
    }
}

/// The fields that agents put a session into, kept beyond the body.
#[derive(Debug, Default)]
pub struct Said {
    prompt_cache_key: Option<Box<str>>,
    user: Option<Box<str>>,
    safety_identifier: Option<Box<str>>,
}

impl Said {
    fn of(view: &View<'_>) -> Option<Box<Self>> {
        let kept = |text: &Option<Cow<'_, str>>| text.as_deref().map(Box::from);
        let (key, user) = (kept(&view.prompt_cache_key), kept(&view.user));
        let safety_identifier = kept(&view.safety_identifier);
        let any = key.is_some() || user.is_some() || safety_identifier.is_some();
        any.then(|| Box::new(Self { prompt_cache_key: key, user, safety_identifier }))
    }

    /// `metadata.user_id` is Anthropic's name for what OpenAI calls `user`.
    pub fn borrowed(&self, dialect: Dialect) -> Hints<'_> {
        let user = self.user.as_deref();
        let anthropic = dialect == Dialect::Anthropic;
        Hints {
            prompt_cache_key: self.prompt_cache_key.as_deref(),
            user_id: user.filter(|_| anthropic),
            safety_identifier: self.safety_identifier.as_deref(),
            user: user.filter(|_| !anthropic),
        }
    }
}

impl Call {
    /// Without a body.
    pub fn empty(kind: Kind) -> Self {
        Self {
            kind,
            body: Sending::Whole(Bytes::new()),
            bytes: 0,
            stream: kind.streams_by_default() || kind == Kind::StreamGenerate,
            background: false,
            model: None,
            names_later: false,
            asks: Asks::default(),
            hints: None,
            messages: None,
            complete: None,
        }
    }

    /// The same call with another body.
    #[must_use]
    pub fn with_body(&self, body: Bytes) -> Self {
        let bytes = body.len() as u64;
        Self {
            kind: self.kind,
            body: Sending::Whole(body),
            bytes,
            stream: self.stream,
            background: self.background,
            model: self.model.clone(),
            names_later: self.names_later,
            asks: self.asks,
            hints: None,
            messages: None,
            complete: self.complete,
        }
    }

    pub async fn read(
        worker: &Worker,
        snapshot: &Snapshot,
        flight: &Flight,
        headers: &HeaderMap,
        endpoint: &Endpoint<'_>,
        body: Body,
        announced: Option<u64>,
    ) -> Result<Self, Refusal> {
        let kind = endpoint.kind;
        let mut call = Self::empty(kind);
        call.bytes = announced.unwrap_or(0);
        call.model = endpoint.model.map(Rc::from);
        call.asks.patience = identify::patience(headers);
        if body.is_empty() {
            return Ok(call);
        }
        let whole = match body {
            Body::Arriving(body) if !kind.reads_body() => {
                call.body = Sending::Streaming(Outgoing::streaming(body, announced));
                return Ok(call);
            }
            Body::Arriving(body) => {
                Arriving::new(worker, snapshot, announced)?.read(flight, body).await?
            }
            Body::Whole(body) => body,
        };
        call.complete = Some(Instant::now());
        call.bytes = whole.len() as u64;
        if is_encoded(headers) {
            if !snapshot.rules.is_empty() {
                return Err(Refusal::encoded());
            }
        } else {
            match view(kind, &whole) {
                Ok(view) => call.look(&view, &whole),
                Err(fault @ ViewFault::Duplicate { .. }) => {
                    return Err(Refusal::unreadable(&fault));
                }
                Err(fault) if snapshot.routes.need_model() || !snapshot.rules.is_empty() => {
                    return Err(Refusal::unreadable(&fault));
                }
                // not ours to judge: the backend will say what it thinks of it
                Err(_) => {}
            }
        }
        call.body = Sending::Whole(whole);
        if let Some(model) = &call.model {
            flight.describe(|about| about.model = Some(Rc::clone(model)));
        }
        Ok(call)
    }

    fn look(&mut self, view: &View<'_>, body: &[u8]) {
        if let Some(stream) = view.stream {
            self.stream = stream;
        }
        self.background = view.background;
        if self.model.is_none() {
            self.model = view.model.as_deref().map(Rc::from);
        }
        self.asks = Asks {
            counted: self.kind.counts(),
            reasoning: view.reasoning,
            prompt_bytes: view.prompt_bytes,
            max_tokens: view.max_tokens,
            // the answer must be longer than the thinking before it; Responses takes 16 at least
            least: match self.kind {
                Kind::Responses => 16,
                _ => view.thinking_tokens.map_or(0, |thinking| thinking.saturating_add(1)),
            },
            answers: view.n.unwrap_or(1),
            usage: view.include_usage == Some(true),
            patience: self.asks.patience,
        };
        self.hints = Said::of(view);
        self.messages = view.messages.map(|messages| {
            let at = messages.as_ptr().addr() - body.as_ptr().addr();
            at..at + messages.len()
        });
    }

    /// What was said until now. Looks at each message, so ask it only where it matters.
    pub fn conversation(&self) -> Option<Conversation> {
        let Sending::Whole(body) = &self.body else { return None };
        wire::conversation(self.kind, body.get(self.messages.clone()?)?)
    }

    /// The same; empty if it was not read.
    pub fn bytes_read(&self) -> Bytes {
        match &self.body {
            Sending::Whole(body) => body.clone(),
            Sending::Streaming(_) => Bytes::new(),
        }
    }

    /// Its body, if that was read.
    pub fn whole(&self) -> Option<&[u8]> {
        match &self.body {
            Sending::Whole(body) => Some(body),
            Sending::Streaming(_) => None,
        }
    }

    /// Makes it one that opens a session, whose model the query names (Azure: the deployment), or for
    /// Responses a message. What a session will use is unknown: it holds as much of its limits as one
    /// usual response.
    pub fn opens_session(&mut self, query: Option<&str>, later: bool) -> Result<(), Refusal> {
        self.model = query::model(query).map_err(|query::Unclear| Refusal::query_model())?;
        self.names_later = later && self.model.is_none();
        self.asks.counted = true;
        self.asks.max_tokens = Some(A_RESPONSE);
        Ok(())
    }

    /// A message of the session has named its model.
    pub fn names(&mut self, model: &str) {
        (self.model, self.names_later) = (Some(Rc::from(model)), false);
    }

    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    pub fn shared_model(&self) -> Option<Rc<str>> {
        self.model.clone()
    }
}

fn is_encoded(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

//! What a path means: which dialect is spoken there and what is asked for.
//!
//! The path comes without its query, normalised, and without the route's prefix. Each dialect
//! knows its own paths; here they are asked in turn. Clients differ in what they put in front
//! (`/v1`, `/v1beta/openai`, nothing), so a resource is looked for behind the first version
//! segment, or at the root. Allocates nothing.
use http::Method;
use serde::{Deserialize, Serialize};

use super::{Dialect, anthropic, gemini, ollama, openai};

/// What is asked for. Its names are kept with tasks: they do not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// OpenAI `chat/completions`
    Chat,
    /// OpenAI `completions`
    Completions,
    /// OpenAI `responses`
    Responses,
    /// OpenAI `embeddings`
    Embeddings,
    /// Anthropic `messages`
    Messages,
    /// Anthropic `messages/count_tokens`
    CountTokens,
    /// Gemini `:generateContent`
    Generate,
    /// Gemini `:streamGenerateContent`
    StreamGenerate,
    /// Gemini `:embedContent` and `:batchEmbedContents`
    GeminiEmbed,
    /// Gemini `:countTokens`
    GeminiCount,
    /// Ollama `/api/chat`
    OllamaChat,
    /// Ollama `/api/generate`
    OllamaGenerate,
    /// Ollama `/api/embed` and the older `/api/embeddings`
    OllamaEmbed,
    /// The list of models, or one of them
    Models,
    /// A session over WebSocket: OpenAI `realtime`, and `responses` over WebSocket
    Session,
    /// Nothing that we look into; proxied as it is.
    #[default]
    #[serde(other)]
    Other,
}

impl Kind {
    /// Whether its answer is made of tokens that are counted as output.
    pub fn generates(self) -> bool {
        self.counts() && !self.embeds()
    }

    /// Whether it asks for vectors.
    pub fn embeds(self) -> bool {
        matches!(self, Self::Embeddings | Self::GeminiEmbed | Self::OllamaEmbed)
    }

    /// Whether it uses tokens: an inference, and no question about one.
    pub fn counts(self) -> bool {
        !matches!(self, Self::Models | Self::CountTokens | Self::GeminiCount | Self::Other)
    }

    /// Whether the request carries a JSON body that we look into.
    pub fn reads_body(self) -> bool {
        !matches!(self, Self::Models | Self::Session | Self::Other)
    }

    /// Whether the answer is a stream when the body does not say so.
    pub fn streams_by_default(self) -> bool {
        matches!(self, Self::StreamGenerate | Self::OllamaChat | Self::OllamaGenerate)
    }

    /// OpenTelemetry's `gen_ai.operation.name`. Where it has no word, ours.
    pub fn operation(self) -> &'static str {
        match self {
            Self::Chat | Self::Responses | Self::Messages | Self::OllamaChat => "chat",
            Self::Completions | Self::OllamaGenerate => "text_completion",
            Self::Generate | Self::StreamGenerate => "generate_content",
            Self::Embeddings | Self::GeminiEmbed | Self::OllamaEmbed => "embeddings",
            Self::CountTokens | Self::GeminiCount => "count_tokens",
            Self::Models => "list_models",
            Self::Session => "realtime",
            Self::Other => "other",
        }
    }

    /// The dialect whose bodies and events this kind has. `Models` are not watched closely
    /// enough to tell dialects apart.
    pub fn dialect(self) -> Dialect {
        match self {
            Self::Chat | Self::Completions | Self::Responses | Self::Embeddings | Self::Session => {
                Dialect::OpenAi
            }
            Self::Messages | Self::CountTokens => Dialect::Anthropic,
            Self::Generate | Self::StreamGenerate | Self::GeminiEmbed | Self::GeminiCount => {
                Dialect::Gemini
            }
            Self::OllamaChat | Self::OllamaGenerate | Self::OllamaEmbed => Dialect::Ollama,
            Self::Models | Self::Other => Dialect::Http,
        }
    }
}

/// A path, understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint<'p> {
    /// `None`: no dialect that we know has such a path.
    pub dialect: Option<Dialect>,
    pub kind: Kind,
    /// Whether the path is complete. `false`: a bare SDK path (`/chat/completions`), which wants
    /// the upstream's API prefix in front.
    pub versioned: bool,
    /// The model, where the path names it. As it was written, not percent-decoded.
    pub model: Option<&'p str>,
}

/// A path cut behind its first version segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut<'p> {
    /// The whole path, without its first slash.
    pub path: &'p str,
    /// `v1beta`; empty for none.
    pub version: &'p str,
    /// Behind the version and its slash; the whole path when there is none.
    pub rest: &'p str,
}

/// What a path means. `path` begins with a slash and has no query. Methods matter: a `GET` on
/// a path that takes calls by `POST` is [`Kind::Other`] in the dialect of that path.
pub fn endpoint<'p>(method: &Method, path: &'p str) -> Endpoint<'p> {
    match usual(path).filter(|_| *method == Method::POST) {
        Some(kind) => {
            Endpoint { dialect: Some(kind.dialect()), kind, versioned: true, model: None }
        }
        None => found(method, path),
    }
}

/// The paths of most calls, which no dialect need be asked about.
fn usual(path: &str) -> Option<Kind> {
    match path {
        "/v1/chat/completions" => Some(Kind::Chat),
        "/v1/messages" => Some(Kind::Messages),
        "/v1/responses" => Some(Kind::Responses),
        "/v1/embeddings" => Some(Kind::Embeddings),
        _ => None,
    }
}

fn found<'p>(method: &Method, path: &'p str) -> Endpoint<'p> {
    let cut = cut(path.strip_prefix('/').unwrap_or(path));
    let mut found = gemini::endpoint(cut)
        .or_else(|| ollama::endpoint(cut))
        .or_else(|| anthropic::endpoint(cut))
        .or_else(|| openai::endpoint(cut))
        .unwrap_or(Endpoint {
            dialect: None,
            kind: Kind::Other,
            versioned: !cut.version.is_empty(),
            model: None,
        });
    let right_method = match found.kind {
        Kind::Models => matches!(*method, Method::GET | Method::HEAD),
        Kind::Other => true,
        _ => *method == Method::POST,
    };
    if !right_method {
        found.kind = Kind::Other;
    }
    found
}

/// Whether a WebSocket on this path is a session whose messages we understand: OpenAI's Realtime
/// (Azure's too), and its Responses.
pub fn is_session(path: &str) -> bool {
    matches!(session(path), "realtime" | "responses")
}

/// Whether the messages of this session name its model, rather than its query.
pub fn names_model_later(path: &str) -> bool {
    session(path) == "responses"
}

fn session(path: &str) -> &str {
    let rest = cut(path.strip_prefix('/').unwrap_or(path)).rest;
    rest.strip_prefix("openai/").unwrap_or(rest)
}

fn cut(path: &str) -> Cut<'_> {
    let mut rest = path;
    while let Some((segment, behind)) = rest.split_once('/') {
        if is_version(segment) && !behind.is_empty() {
            return Cut { path, version: segment, rest: behind };
        }
        rest = behind;
    }
    Cut { path, version: "", rest: path }
}

/// `v1`, `v1beta`, `v4`
fn is_version(segment: &str) -> bool {
    match segment.as_bytes() {
        [b'v', digit, tail @ ..] => {
            digit.is_ascii_digit() && tail.iter().all(u8::is_ascii_alphanumeric)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;

//! The members that a view reads, for each kind of call, and in which spellings.
use std::borrow::Cow;

use crate::wire::Dialect;
use crate::wire::endpoint::Kind;
use crate::wire::json::Key;

/// A member that we read.
#[derive(Clone, Copy)]
pub struct Field {
    pub name: &'static str,
    pub part: Part,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Model,
    /// The model again, as `models/NAME`, where the path has named it; not read, but kept in step.
    Resource,
    /// Gemini `generateContentRequest`, which names the model once more.
    Request,
    Stream,
    /// A bound of the output; chat has two, and this is the second.
    MaxTokens,
    MaxCompletion,
    N,
    StreamOptions,
    Messages,
    System,
    Tools,
    /// Images beside the prompt.
    Media,
    /// Holds bounds of its own: Gemini `generationConfig`, Ollama `options`.
    Options,
    /// Says whether, or how much, the model is to think first.
    Reasoning,
    CacheKey,
    User,
    Safety,
    /// Anthropic `metadata`, which names the user.
    Metadata,
    /// Makes the call more than a question with an answer.
    Lasting,
    /// The same: the answer is to be fetched later (OpenAI Responses).
    Background,
}

const fn field(name: &'static str, part: Part) -> Field {
    Field { name, part }
}

const MODEL: Field = field("model", Part::Model);
const RESOURCE: Field = field("model", Part::Resource);
const REQUEST: Field = field("generateContentRequest", Part::Request);
const STREAM: Field = field("stream", Part::Stream);
const MAX_TOKENS: Field = field("max_tokens", Part::MaxTokens);
const MAX_COMPLETION: Field = field("max_completion_tokens", Part::MaxCompletion);
const MAX_OUTPUT: Field = field("max_output_tokens", Part::MaxTokens);
const INSTRUCTIONS: Field = field("instructions", Part::System);
const CONTENTS: Field = field("contents", Part::Messages);
const INSTRUCTION: Field = field("systemInstruction", Part::System);
const CONFIG: Field = field("generationConfig", Part::Options);
const CONTENT: Field = field("content", Part::Messages);
const REQUESTS: Field = field("requests", Part::Messages);
const STREAM_OPTIONS: Field = field("stream_options", Part::StreamOptions);
const MESSAGES: Field = field("messages", Part::Messages);
const INPUT: Field = field("input", Part::Messages);
const PROMPT: Field = field("prompt", Part::Messages);
const SYSTEM: Field = field("system", Part::System);
const TOOLS: Field = field("tools", Part::Tools);
const N: Field = field("n", Part::N);
const OPTIONS: Field = field("options", Part::Options);
const IMAGES: Field = field("images", Part::Media);
const EFFORT: Field = field("reasoning_effort", Part::Reasoning);
const REASONING: Field = field("reasoning", Part::Reasoning);
const THINKING: Field = field("thinking", Part::Reasoning);
const THINK: Field = field("think", Part::Reasoning);
const CACHE_KEY: Field = field("prompt_cache_key", Part::CacheKey);
const USER: Field = field("user", Part::User);
const SAFETY: Field = field("safety_identifier", Part::Safety);
const METADATA: Field = field("metadata", Part::Metadata);
const BACKGROUND: Field = field("background", Part::Background);
const CONVERSATION: Field = field("conversation", Part::Lasting);
const KEPT_PROMPT: Field = field("prompt", Part::Lasting);
const MCP_SERVERS: Field = field("mcp_servers", Part::Lasting);
const CONTAINER: Field = field("container", Part::Lasting);

/// The longest name, `generate_content_request`, with every letter escaped.
const LONGEST_NAME: usize = 6 * 24;

#[rustfmt::skip]
pub fn fields(kind: Kind) -> &'static [Field] {
    match kind {
        Kind::Chat => &[
            MODEL, MESSAGES, STREAM, TOOLS, MAX_TOKENS, MAX_COMPLETION, N, STREAM_OPTIONS, EFFORT,
            REASONING, THINKING, CACHE_KEY, USER, SAFETY,
        ],
        Kind::Completions => &[
            MODEL, PROMPT, STREAM, MAX_TOKENS, N, STREAM_OPTIONS, CACHE_KEY, USER, SAFETY,
        ],
        Kind::Responses => &[
            MODEL, INPUT, STREAM, MAX_OUTPUT, INSTRUCTIONS, TOOLS, REASONING, CACHE_KEY, USER, SAFETY,
            BACKGROUND, CONVERSATION, KEPT_PROMPT,
        ],
        Kind::Embeddings => &[MODEL, INPUT, USER],
        Kind::Messages | Kind::CountTokens => &[
            MODEL, MESSAGES, STREAM, MAX_TOKENS, SYSTEM, TOOLS, THINKING, METADATA, MCP_SERVERS,
            CONTAINER,
        ],
        Kind::Generate | Kind::StreamGenerate => &[CONTENTS, INSTRUCTION, TOOLS, CONFIG, RESOURCE],
        Kind::GeminiCount => &[CONTENTS, INSTRUCTION, TOOLS, CONFIG, REQUEST],
        Kind::GeminiEmbed => &[CONTENT, REQUESTS, RESOURCE],
        Kind::OllamaChat => &[MODEL, MESSAGES, STREAM, TOOLS, OPTIONS, THINK],
        Kind::OllamaGenerate => &[MODEL, PROMPT, STREAM, SYSTEM, OPTIONS, THINK, IMAGES],
        Kind::OllamaEmbed => &[MODEL, INPUT, PROMPT, OPTIONS],
        Kind::Models | Kind::Session | Kind::Other => &[],
    }
}

/// A member's name without escapes, unless it is longer than any that we read.
pub fn name<'a>(key: &Key<'a>) -> Option<Cow<'a, [u8]>> {
    if key.0.len() > LONGEST_NAME { None } else { key.plain() }
}

/// The index of the field for which the backend would take `name`.
pub fn find(dialect: Dialect, fields: &[Field], name: &[u8]) -> Option<usize> {
    match dialect {
        // Go's decoder minds no case
        Dialect::Ollama => {
            fields.iter().position(|field| field.name.as_bytes().eq_ignore_ascii_case(name))
        }
        Dialect::Gemini => fields.iter().position(|field| same(field.name, name)),
        _ => fields.iter().position(|field| field.name.as_bytes() == name),
    }
}

/// Whether `name` is the camel-case `camel`, or the same in snake case: protobuf takes both.
pub fn same(camel: &str, name: &[u8]) -> bool {
    camel.as_bytes() == name || is_snake_of(camel.as_bytes(), name)
}

/// Whether `snake` is the camel-case `camel` in snake case.
fn is_snake_of(camel: &[u8], snake: &[u8]) -> bool {
    let mut snake = snake.iter().copied();
    camel.iter().all(|&want| {
        if want.is_ascii_uppercase() {
            snake.next() == Some(b'_') && snake.next() == Some(want.to_ascii_lowercase())
        } else {
            snake.next() == Some(want)
        }
    }) && snake.next().is_none()
}

//! Every field of every request that we cut questions from, as the vendors document them, and
//! what each does to the answer.
//!
//! A field that stands in no table is said under its own name: what nobody has thought about parts
//! two questions. To leave one out is a decision and stands here with its reason. Order matters
//! only to the keys: it is the order in which fields are said. Sources: the API references of
//! OpenAI, Anthropic, Google and Ollama, and the types of their SDKs (November 2026).
use crate::wire::Dialect;
use crate::wire::endpoint::Kind;
use crate::wire::view::fields::same;

/// A documented member of a request.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    pub name: &'static str,
    pub does: Does,
    pub tells: Tells,
}

/// What a field does to the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Does {
    /// Changes it, or is repeated in it.
    Changes,
    /// Changes it, but for these members, which are of the form.
    ChangesBut(&'static [&'static str]),
    /// Nothing: in which pieces the answer comes. What is asked for is kept beside the question.
    Form,
    /// Nothing: names the caller or the call, for the vendor's eyes.
    Label,
    /// Nothing: what the vendor keeps of the prompt, or how long, and so what it costs.
    Cost,
    /// The answer hangs on what the vendor keeps: there is no question without it.
    Recalls,
    /// The answer hangs on the world: the vendor searches it, or acts in it.
    Reaches,
}

/// What is read from a field on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tells {
    Nothing,
    Temperature,
    Answers,
    Tools,
    /// Where the turns are.
    Turns,
    Images,
    /// Holds temperature and number of answers: Gemini `generationConfig`, Ollama `options`.
    Settings,
}

const fn field(name: &'static str, does: Does, tells: Tells) -> Field {
    Field { name, does, tells }
}
const fn tells(name: &'static str, tells: Tells) -> Field {
    field(name, Does::Changes, tells)
}
const fn says(name: &'static str) -> Field {
    field(name, Does::Changes, Tells::Nothing)
}
const fn form(name: &'static str) -> Field {
    field(name, Does::Form, Tells::Nothing)
}
const fn label(name: &'static str) -> Field {
    field(name, Does::Label, Tells::Nothing)
}
const fn cost(name: &'static str) -> Field {
    field(name, Does::Cost, Tells::Nothing)
}
const fn recalls(name: &'static str) -> Field {
    field(name, Does::Recalls, Tells::Nothing)
}
const fn reaches(name: &'static str) -> Field {
    field(name, Does::Reaches, Tells::Nothing)
}

const MODEL: Field = says("model");
const TEMPERATURE: Field = tells("temperature", Tells::Temperature);
const SEED: Field = says("seed");
const N: Field = tells("n", Tells::Answers);
const TOOLS: Field = tells("tools", Tells::Tools);
const STREAM: Field = form("stream");
/// Whether a stream tells its usage is asked for by us, too, and hidden where it was not asked for.
/// Padding and usage in between stay apart: they are bytes of the recorded stream.
const STREAM_OPTIONS: Field =
    field("stream_options", Does::ChangesBut(&["include_usage"]), Tells::Nothing);

#[rustfmt::skip]
const CHAT: &[Field] = &[
    MODEL, tells("messages", Tells::Turns), TEMPERATURE, TOOLS, says("tool_choice"),
    says("max_tokens"), says("max_completion_tokens"), says("top_p"), N, SEED, says("stop"),
    says("response_format"), says("reasoning_effort"), says("parallel_tool_calls"),
    says("frequency_penalty"), says("presence_penalty"), says("logit_bias"), says("logprobs"),
    says("top_logprobs"), says("modalities"), says("audio"), says("verbosity"),
    says("moderation"), tells("functions", Tells::Tools), says("function_call"),
    // what is predicted is billed where it was wrong
    says("prediction"),
    // the answer names the tier that served it
    says("service_tier"),
    // an answer that the vendor keeps can be asked for by its id, another cannot
    says("store"),
    STREAM, STREAM_OPTIONS,
    label("user"), label("safety_identifier"), label("metadata"),
    cost("prompt_cache_key"), cost("prompt_cache_retention"), cost("prompt_cache_options"),
    reaches("web_search_options"),
    // of others that speak this dialect: OpenRouter, vLLM, xAI, Qwen
    says("reasoning"), says("thinking"),
    reaches("plugins"), reaches("search_parameters"), reaches("enable_search"), recalls("deferred"),
];

#[rustfmt::skip]
const COMPLETIONS: &[Field] = &[
    MODEL, tells("prompt", Tells::Turns), TEMPERATURE, says("max_tokens"), says("top_p"), N, SEED,
    says("stop"), says("best_of"), says("echo"), says("suffix"), says("logprobs"),
    says("logit_bias"), says("frequency_penalty"), says("presence_penalty"),
    STREAM, STREAM_OPTIONS, label("user"), label("safety_identifier"), cost("prompt_cache_key"),
];

/// The answer repeats nearly the whole request, labels and cache settings, too: they are said.
#[rustfmt::skip]
const RESPONSES: &[Field] = &[
    MODEL, tells("input", Tells::Turns), says("instructions"), TOOLS, says("tool_choice"),
    TEMPERATURE, says("top_p"), says("max_output_tokens"), says("reasoning"), says("text"),
    says("parallel_tool_calls"), says("max_tool_calls"), says("truncation"), says("include"),
    says("top_logprobs"), says("context_management"), says("moderation"), says("image"),
    says("access_programs"), says("service_tier"), says("store"), says("metadata"), says("user"),
    says("safety_identifier"), says("prompt_cache_key"), says("prompt_cache_retention"),
    says("prompt_cache_options"), STREAM, STREAM_OPTIONS,
    recalls("previous_response_id"), recalls("conversation"), recalls("background"),
    recalls("background_options"),
    // a template, and the tools in it, that stand at the vendor
    recalls("prompt"),
];

#[rustfmt::skip]
const MESSAGES: &[Field] = &[
    MODEL, tells("messages", Tells::Turns), says("system"), TOOLS, says("tool_choice"),
    says("max_tokens"), TEMPERATURE, says("top_p"), says("top_k"), says("stop_sequences"),
    says("thinking"), says("output_config"), says("output_format"), says("context_management"),
    says("compaction"), says("fallbacks"), says("speed"), says("inference_geo"),
    says("service_tier"),
    // who pays, and a wall
    says("billing_policy"), says("workspace_id"), says("user_profile_id"),
    // usage tells what it did
    says("cache_control"), says("fallback_credit_token"), says("diagnostics"),
    // in the body where another cloud serves the model
    says("betas"), says("anthropic_beta"), says("anthropic_version"),
    field("metadata", Does::ChangesBut(&["user_id"]), Tells::Nothing),
    STREAM, recalls("container"), recalls("thread"), reaches("mcp_servers"),
];

#[rustfmt::skip]
const GENERATE: &[Field] = &[
    tells("contents", Tells::Turns), says("systemInstruction"), TOOLS, says("toolConfig"),
    tells("generationConfig", Tells::Settings), says("safetySettings"),
    // names what the vendor keeps, which never changes but for its end
    says("cachedContent"),
    MODEL, says("serviceTier"), says("store"), says("modelArmorConfig"),
    // on the bill alone
    label("labels"),
];

#[rustfmt::skip]
const GEMINI_COUNT: &[Field] = &[
    tells("contents", Tells::Turns), says("generateContentRequest"), says("systemInstruction"),
    TOOLS, tells("generationConfig", Tells::Settings), MODEL, says("instances"),
];

#[rustfmt::skip]
const OLLAMA_CHAT: &[Field] = &[
    MODEL, tells("messages", Tells::Turns), TOOLS, tells("options", Tells::Settings),
    says("format"), says("think"), says("truncate"), says("shift"), says("logprobs"),
    says("top_logprobs"), says("_debug_render_only"),
    STREAM, cost("keep_alive"),
];

#[rustfmt::skip]
const OLLAMA_GENERATE: &[Field] = &[
    MODEL, tells("prompt", Tells::Turns), tells("images", Tells::Images), says("suffix"),
    tells("options", Tells::Settings), says("system"), says("template"), says("raw"),
    says("format"), says("think"), says("truncate"), says("shift"), says("logprobs"),
    says("top_logprobs"), says("width"), says("height"), says("steps"),
    says("_debug_render_only"),
    // tokens of an earlier answer: all that there is of it is here
    says("context"),
    STREAM, cost("keep_alive"),
];

/// The fields of this kind's requests, at most 64. `None`: we cut no questions from it.
pub fn fields(kind: Kind) -> Option<&'static [Field]> {
    Some(match kind {
        Kind::Chat => CHAT,
        Kind::Completions => COMPLETIONS,
        Kind::Responses => RESPONSES,
        Kind::Messages | Kind::CountTokens => MESSAGES,
        Kind::Generate | Kind::StreamGenerate => GENERATE,
        Kind::GeminiCount => GEMINI_COUNT,
        Kind::OllamaChat => OLLAMA_CHAT,
        Kind::OllamaGenerate => OLLAMA_GENERATE,
        Kind::Embeddings
        | Kind::GeminiEmbed
        | Kind::OllamaEmbed
        | Kind::Models
        | Kind::Session
        | Kind::Other => {
            return None;
        }
    })
}

/// The field that a backend of this dialect takes `name` for.
pub fn find(fields: &[Field], dialect: Dialect, name: &[u8]) -> Option<usize> {
    if matches!(dialect, Dialect::Ollama | Dialect::Gemini) {
        return fields.iter().position(|field| is(dialect, field.name, name));
    }
    // lengths and first letters part nearly all of them
    let first = name.first();
    let same = |field: &Field| {
        let known = field.name.as_bytes();
        known.len() == name.len() && known.first() == first && known == name
    };
    fields.iter().position(same)
}

/// Whether a backend of this dialect takes `name` for `field`: Go's decoder minds no case,
/// protobuf takes snake case too.
pub fn is(dialect: Dialect, field: &str, name: &[u8]) -> bool {
    match dialect {
        Dialect::Ollama => field.as_bytes().eq_ignore_ascii_case(name),
        Dialect::Gemini => same(field, name),
        _ => field.as_bytes() == name,
    }
}

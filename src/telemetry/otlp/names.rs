//! Names of the conventions; nothing else in `otlp` names one that is not ours.
//!
//! HTTP (<https://opentelemetry.io/docs/specs/semconv/http/>, stable) and `GenAI`, in development, as
//! the release 1.42 has them. Metrics keep these names, which dashboards know, while the `GenAI`
//! conventions go on in a repository of their own that has no release yet
//! (<https://github.com/open-telemetry/semantic-conventions-genai>). Of spans, `CACHE_WRITE_TOKENS` is
//! from there: 1.42 says `cache_creation`.

pub(super) const SCHEMA: &str = "https://opentelemetry.io/schemas/1.42.0";

pub(super) const METHOD: &str = "http.request.method";
pub(super) const STATUS: &str = "http.response.status_code";
pub(super) const SCHEME: &str = "url.scheme";
pub(super) const PATH: &str = "url.path";
pub(super) const CLIENT: &str = "client.address";
pub(super) const USER_AGENT: &str = "user_agent.original";
pub(super) const SERVER: &str = "server.address";
pub(super) const PORT: &str = "server.port";
pub(super) const ERROR: &str = "error.type";

pub(super) const OPERATION: &str = "gen_ai.operation.name";
pub(super) const PROVIDER: &str = "gen_ai.provider.name";
pub(super) const MODEL: &str = "gen_ai.request.model";
pub(super) const ANSWERED_BY: &str = "gen_ai.response.model";
pub(super) const STREAM: &str = "gen_ai.request.stream";
pub(super) const CONVERSATION: &str = "gen_ai.conversation.id";
pub(super) const INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
pub(super) const OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
pub(super) const CACHE_READ_TOKENS: &str = "gen_ai.usage.cache_read.input_tokens";
pub(super) const CACHE_WRITE_TOKENS: &str = "gen_ai.usage.cache_write.input_tokens";
pub(super) const REASONING_TOKENS: &str = "gen_ai.usage.reasoning.output_tokens";
pub(super) const FIRST_CHUNK: &str = "gen_ai.response.time_to_first_chunk";
pub(super) const INPUT_MESSAGES: &str = "gen_ai.input.messages";

/// Metrics that a scrape writes in the spelling of Prometheus: what they are called, and their unit.
const METRICS: [(&str, &str, &str); 4] = [
    ("gen_ai_client_operation_duration_seconds", "gen_ai.client.operation.duration", "s"),
    ("gen_ai_client_token_usage", "gen_ai.client.token.usage", "{token}"),
    ("gen_ai_server_time_to_first_token_seconds", "gen_ai.server.time_to_first_token", "s"),
    ("gen_ai_server_time_per_output_token_seconds", "gen_ai.server.time_per_output_token", "s"),
];

/// The same of labels.
const LABELS: [(&str, &str); 5] = [
    ("gen_ai_provider_name", PROVIDER),
    ("gen_ai_operation_name", OPERATION),
    ("gen_ai_request_model", MODEL),
    ("gen_ai_token_type", "gen_ai.token.type"),
    ("error_type", ERROR),
];

/// A family's name and unit. Ours are called as in a scrape, without what their kind adds there.
pub(super) fn metric(
    full: &'static str,
    unit: Option<&'static str>,
) -> (&'static str, &'static str) {
    if let Some((_, name, unit)) = METRICS.iter().find(|(known, ..)| *known == full) {
        return (name, unit);
    }
    let unit = match unit {
        Some("seconds") => "s",
        Some("bytes") => "By",
        Some("dollars") => "{USD}",
        _ => "",
    };
    (full, unit)
}

pub(super) fn label(name: &'static str) -> &'static str {
    LABELS.iter().find(|(known, _)| *known == name).map_or(name, |(_, name)| name)
}

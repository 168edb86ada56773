//! Which request headers change an answer.
//!
//! Vendors' own prefixes are taken whole, so that a header nobody has heard of parts two calls
//! rather than not; those that only label a call are named. Credentials are no part of this: the
//! walls of a cache tell tenants apart by what the credential is, not by a header's bytes.
use crate::wire::Dialect;

/// Headers that are known to change answers: a version, a beta, whose account it is. In lower case.
pub fn changing_headers(dialect: Dialect) -> &'static [&'static str] {
    match dialect {
        Dialect::OpenAi => &[
            "openai-beta",
            "openai-organization",
            "openai-project",
            // the account behind a subscription
            "chatgpt-account-id",
            // Azure's Foundry: which deployment answers
            "azureml-model-deployment",
        ],
        Dialect::Anthropic => &[
            "anthropic-beta",
            "anthropic-version",
            "anthropic-user-profile-id",
            "anthropic-workspace-id",
        ],
        Dialect::Gemini => &["x-goog-user-project"],
        Dialect::Ollama | Dialect::Http => &[],
    }
}

const DIALECTS: [Dialect; 5] =
    [Dialect::OpenAi, Dialect::Anthropic, Dialect::Gemini, Dialect::Ollama, Dialect::Http];

/// What vendors, and gateways that stand behind us, put in front of their own headers.
const PREFIXES: [&str; 12] = [
    "anthropic-",
    "openai-",
    "x-goog-",
    "x-anthropic-",
    "x-openai-",
    "x-openrouter-",
    "x-portkey-",
    "x-litellm-",
    "x-ms-",
    "x-amzn-bedrock-",
    "cf-aig-",
    "helicone-",
];

/// Headers with such a prefix that name the client, the call or its credential, and nothing else.
const LABELS: [&str; 28] = [
    "anthropic-client-name",
    "anthropic-client-platform",
    "anthropic-client-version",
    "anthropic-dangerous-direct-browser-access",
    "cf-aig-authorization",
    "cf-aig-metadata",
    "helicone-auth",
    "helicone-request-id",
    "helicone-session-id",
    "helicone-session-name",
    "helicone-session-path",
    "helicone-user-id",
    "openai-client-user-agent",
    "x-anthropic-billing-header",
    "x-goog-api-client",
    "x-goog-api-key",
    "x-goog-request-params",
    "x-goog-request-reason",
    "x-litellm-api-key",
    "x-ms-client-request-id",
    "x-ms-date",
    "x-ms-return-client-request-id",
    "x-ms-useragent",
    "x-openai-client-user-agent",
    "x-openrouter-title",
    "x-portkey-api-key",
    "x-portkey-metadata",
    "x-portkey-trace-id",
];

/// Whether a request header, its name in lower case, may tell the backend who calls: by its name, for
/// nobody knows all of them.
pub fn header_may_authorize(name: &str) -> bool {
    const ENDS: [&str; 8] =
        ["authorization", "-auth", "-key", "-token", "-secret", "cookie", "-credential", "-jwt"];
    (ENDS.iter().any(|end| name.ends_with(end)) || name.starts_with("x-auth"))
        && !name.ends_with("idempotency-key")
}

/// Whether a request header makes the answer a part, another form or no answer at all, where it says
/// something unusual: then it speaks for nobody else.
pub fn header_is_a_condition(name: &str, value: &[u8]) -> bool {
    let has = |word: &[u8]| memchr::memmem::find(value, word).is_some();
    match name {
        "accept" => ![&b"json"[..], b"*/*", b"event-stream"].into_iter().any(has),
        "content-type" => !has(b"json"),
        "range" | "prefer" => true,
        _ => name.starts_with("if-"),
    }
}

/// A quick no, for most headers of most calls.
fn may_change(name: &str) -> bool {
    let begins = |letters: &[u8], at: usize| {
        name.as_bytes().get(at).is_some_and(|letter| letters.contains(letter))
    };
    match name.as_bytes().first() {
        Some(b'x') => begins(b"-", 1) && begins(b"aglmop", 2),
        Some(b'a') => begins(b"nz", 1),
        Some(b'c') => begins(b"fh", 1),
        Some(b'h') => begins(b"e", 1),
        Some(b'o') => begins(b"p", 1),
        _ => false,
    }
}

/// Whether a request header, its name in lower case, changes the answer or may do so.
pub fn header_changes_answer(name: &str) -> bool {
    if !may_change(name) {
        return false;
    }
    if DIALECTS.iter().any(|&dialect| changing_headers(dialect).contains(&name)) {
        return true;
    }
    PREFIXES.iter().any(|prefix| name.starts_with(prefix)) && !LABELS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quick_no_is_right() {
        let all = DIALECTS.iter().flat_map(|dialect| changing_headers(*dialect));
        for name in all.chain(&PREFIXES) {
            assert!(may_change(name), "{name}");
        }
    }
}

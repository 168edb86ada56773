//! Tells tools that the client runs from those that the vendor runs.
//!
//! What the vendor runs sees the world as it is then, or changes it, so its answers are not kept.
//! Tools that the client runs are named; every other is taken for the vendor's.
use super::fields::is;
use crate::wire::Dialect;
use crate::wire::endpoint::Kind;
use crate::wire::json::Raw;

/// Types that stand for a tool of the client's own. Anthropic's carry a date behind.
const OPENAI: [&str; 8] = [
    "function",
    "custom",
    "local_shell",
    "apply_patch",
    "computer",
    "computer_use_preview",
    // groups of functions, and the search for one of them among those that were sent
    "namespace",
    "tool_search",
];
const ANTHROPIC: [&str; 6] =
    ["bash_", "text_editor_", "computer_", "memory_", "browser_", "tool_search_tool_"];
const GEMINI: [&str; 2] = ["functionDeclarations", "computerUse"];

/// Types that the vendor runs, to be told by name; none but these are told.
const KNOWN: [&str; 16] = [
    "web_search",
    "web_fetch",
    "file_search",
    "code_interpreter",
    "code_execution",
    "image_generation",
    "mcp",
    "shell",
    "advisor",
    "google_search",
    "googleSearch",
    "googleMaps",
    "codeExecution",
    "urlContext",
    "fileSearch",
    "enterpriseWebSearch",
];

/// The first tool in `tools` that the vendor runs.
pub fn hosted(kind: Kind, tools: Raw<'_>) -> Option<&'static str> {
    let dialect = kind.dialect();
    if dialect == Dialect::Gemini && tools.members().is_some() {
        // one message is as good as a list of one
        return by_member(tools);
    }
    let found = |tool: Raw<'_>| match dialect {
        Dialect::OpenAi => by_type(tool, |word| OPENAI.contains(&word)),
        Dialect::Anthropic => by_type(tool, |word| {
            word == "custom" || ANTHROPIC.iter().any(|client| word.starts_with(client))
        }),
        Dialect::Gemini => by_member(tool),
        // a model of one's own runs nothing
        Dialect::Ollama | Dialect::Http => None,
    };
    tools.elements()?.find_map(found)
}

/// Tools that say what they are; a function need not.
fn by_type(tool: Raw<'_>, client: impl Fn(&str) -> bool) -> Option<&'static str> {
    let r#type = tool.get(b"type").filter(|value| !value.is_null())?;
    match r#type.text() {
        Some(word) if client(&word) => None,
        Some(word) => Some(known(&word)),
        None => Some(OTHER),
    }
}

/// Tools that are what member they have. An empty one is there all the same.
fn by_member(tool: Raw<'_>) -> Option<&'static str> {
    let mut members = tool.members()?;
    while let Ok(Some((key, value))) = members.next() {
        let name = key.plain()?;
        if !value.is_null() && !GEMINI.iter().any(|client| is(Dialect::Gemini, client, &name)) {
            return Some(std::str::from_utf8(&name).map_or(OTHER, known));
        }
    }
    None
}

const OTHER: &str = "tool";

fn known(word: &str) -> &'static str {
    KNOWN.iter().find(|known| word.starts_with(**known)).copied().unwrap_or(OTHER)
}

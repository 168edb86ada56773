//! Whether a call may be sent again when its first try came to nothing.
//!
//! A repeat must not do twice what may have been done. An answer in words does nothing but cost; work
//! that the vendor does for good, in the background, in a conversation it keeps, with tools of its
//! own, is done even if we do not hear of it. What is not known is taken for such work. The methods'
//! meaning: RFC 9110, section 9.2.
use http::Method;

use super::Dialect;
use super::endpoint::Kind;
use super::json::{Elements, Raw};
use super::view::View;

/// When a call may be sent again, the freest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Repeat {
    /// Whatever has become of it: it only reads.
    Freely,
    /// After an answer that says it failed, or a connection that broke before any content.
    WhenFailed,
    /// Only if no connection was made, or the backend says itself that it has not begun (429, 503,
    /// 529).
    WhenUnbegun,
}

/// `view`: of the body; `None` where nobody could read it. `keyed`: the call has an
/// `Idempotency-Key`, by which its backend knows it again.
pub fn repeat(method: &Method, kind: Kind, view: Option<&View<'_>>, keyed: bool) -> Repeat {
    let rule = rule(method, kind, view);
    if keyed { rule.min(Repeat::WhenFailed) } else { rule }
}

fn rule(method: &Method, kind: Kind, view: Option<&View<'_>>) -> Repeat {
    // a kind that is known is a call by its own method, see `endpoint`
    let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
        || kind.embeds()
        || matches!(kind, Kind::Models | Kind::CountTokens | Kind::GeminiCount);
    if reads {
        return Repeat::Freely;
    }
    match view {
        Some(view) if kind.generates() && !view.lasting && !works(kind, view) => Repeat::WhenFailed,
        _ => Repeat::WhenUnbegun,
    }
}

/// One of the tools is used by the vendor itself.
fn works(kind: Kind, view: &View<'_>) -> bool {
    let theirs = match kind.dialect() {
        Dialect::OpenAi => openai,
        Dialect::Anthropic => anthropic,
        Dialect::Gemini => gemini,
        // it has none
        Dialect::Ollama | Dialect::Http => return false,
    };
    let Some(tools) = view.tools.map(Raw).filter(|tools| !tools.is_empty()) else { return false };
    // what is no list is no tool that we know
    tools.elements().is_none_or(|tools| any(tools, theirs))
}

fn any<'a>(mut tools: Elements<'a>, theirs: fn(Raw<'a>) -> bool) -> bool {
    tools.any(theirs)
}

/// `None`: the tool does not say.
fn kind_of(tool: Raw<'_>) -> Option<&[u8]> {
    match tool.get(b"type")?.0 {
        [b'"', name @ .., b'"'] => Some(name),
        _ => None,
    }
}

fn openai(tool: Raw<'_>) -> bool {
    !matches!(kind_of(tool), None | Some(b"function" | b"custom"))
}

/// Tools whose shape is Anthropic's and whose work is the client's; their names end with a date.
/// A search for tools runs there, but only looks through the list that we send.
const THE_CLIENTS: [&[u8]; 5] =
    [b"bash_", b"text_editor_", b"computer_", b"memory_", b"tool_search_tool_"];

fn anthropic(tool: Raw<'_>) -> bool {
    match kind_of(tool) {
        None | Some(b"custom") => false,
        Some(name) => !THE_CLIENTS.iter().any(|front| name.starts_with(front)),
    }
}

/// One object names several, each by a member.
fn gemini(tool: Raw<'_>) -> bool {
    let Some(mut members) = tool.members() else { return true };
    while let Ok(Some((key, value))) = members.next() {
        let the_clients = matches!(
            key.0,
            b"functionDeclarations" | b"function_declarations" | b"computerUse" | b"computer_use"
        );
        // `{"googleSearch":{}}` is how a tool is asked for, so an empty one counts
        if !the_clients && !value.is_null() {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests;

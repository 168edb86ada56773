//! What only the Ollama dialect knows: its paths, one JSON object a line, `"done": true` as the
//! end, counts beside it, an error that is a bare string.
use std::sync::LazyLock;

use bytes::Bytes;
use serde::Serialize;

use super::endpoint::{Cut, Endpoint, Kind};
use super::fault::Fault;
use super::json::Raw;
use super::meter::Tally;
use super::seek::{Seek, needle};
use super::split::Line;
use super::usage::{Usage, set};
use super::verdict::{Verdict, event_verdict};
use super::{Dialect, fault};

/// What the API has besides, proxied as it is.
const RESOURCES: [&str; 9] =
    ["blobs", "copy", "create", "delete", "ps", "pull", "push", "show", "version"];

pub(super) fn endpoint(cut: Cut<'_>) -> Option<Endpoint<'_>> {
    let rest = cut.path.strip_prefix("api/")?;
    let kind = match rest {
        "chat" => Kind::OllamaChat,
        "generate" => Kind::OllamaGenerate,
        "embed" | "embeddings" => Kind::OllamaEmbed,
        "tags" => Kind::Models,
        _ if RESOURCES.contains(&rest.split('/').next().unwrap_or(rest)) => Kind::Other,
        _ => return None,
    };
    Some(Endpoint { dialect: Some(Dialect::Ollama), kind, versioned: true, model: None })
}

static DONE: Seek = LazyLock::new(|| needle(b"\"done\""));
static ERROR: Seek = LazyLock::new(|| needle(b"\"error\""));
static CONTENT: Seek = LazyLock::new(|| needle(b"\"content\""));
static RESPONSE: Seek = LazyLock::new(|| needle(b"\"response\""));
static THINKING: Seek = LazyLock::new(|| needle(b"\"thinking\""));
static PROMPT: Seek = LazyLock::new(|| needle(b"\"prompt_eval_count\""));
static OUTPUT: Seek = LazyLock::new(|| needle(b"\"eval_count\""));

/// One line of a stream.
pub(super) fn line(tally: &mut Tally, line: Line<'_>) {
    if tally.over() {
        return;
    }
    let data = line.data;
    if let Some(tail) = line.tail {
        return large(tally, data, tail);
    }
    let whole = Raw(data);
    if ERROR.says(data) && whole.get(b"error").is_some_and(|error| !error.is_empty()) {
        return tally.fail(event_verdict(Dialect::Ollama, data));
    }
    if tally.seeks_model()
        && let Some(model) = whole.get(b"model")
    {
        tally.name_model(model);
    }
    // A tool's arguments are plain JSON and may hold a "done" too, so the search only gates.
    if may_be_done(data) && whole.get(b"done").and_then(Raw::bool) == Some(true) {
        last(tally, whole);
    } else {
        say(tally, whole);
    }
}

/// An empty line says nothing: one comes before the first token of some models.
fn say(tally: &mut Tally, line: Raw<'_>) {
    let bytes = content(tally.kind, line);
    if bytes > 0 {
        tally.said(bytes);
    }
}

/// Whether some member says that it is done, at whatever depth.
fn may_be_done(mut data: &[u8]) -> bool {
    while let Some(done) = DONE.value(data) {
        if done.starts_with(b"true") {
            return true;
        }
        data = done;
    }
    false
}

/// Bytes of the output in a line: of what is said, or thought, or called.
fn content(kind: Kind, line: Raw<'_>) -> usize {
    let text = if kind == Kind::OllamaGenerate { &RESPONSE } else { &CONTENT };
    let mut found = [text, &THINKING].into_iter().filter_map(|name| name.text_len(line.0));
    let called = || {
        let calls = line.get(b"message").and_then(|message| message.get(b"tool_calls"));
        calls.map_or(0, |calls| calls.0.len())
    };
    found.find(|&bytes| bytes > 0).unwrap_or_else(called)
}

fn last(tally: &mut Tally, line: Raw<'_>) {
    say(tally, line);
    let Some(mut members) = line.members() else { return };
    let mut counted = false;
    while let Ok(Some((key, value))) = members.next() {
        counted |= count(key.0, value, &mut tally.usage);
    }
    tally.told(counted);
    tally.complete();
}

/// A line too large to keep; a last one can be, by the token ids of its `context`. The order of
/// its members is fixed: `done` stands before them, the counts behind.
fn large(tally: &mut Tally, head: &[u8], tail: &[u8]) {
    if ERROR.begins(head) {
        return tally.fail(Verdict::Failed);
    }
    if !DONE.value(head).is_some_and(|done| done.starts_with(b"true")) {
        return tally.said(0);
    }
    for (name, needle) in [(&b"prompt_eval_count"[..], &PROMPT), (&b"eval_count"[..], &OUTPUT)] {
        if let Some(value) = needle.last_value(tail) {
            let len = value.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(value.len());
            let counted = count(name, Raw(&value[..len]), &mut tally.usage);
            tally.told(counted);
        }
    }
    tally.complete();
}

/// Takes one member, if it is a count; says whether it was.
pub(super) fn count(name: &[u8], value: Raw<'_>, usage: &mut Usage) -> bool {
    match name {
        b"prompt_eval_count" => set(&mut usage.input, value),
        b"eval_count" => set(&mut usage.output, value),
        _ => false,
    }
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
}

pub(super) fn error_body(fault: &Fault<'_>) -> Bytes {
    fault::json(&ErrorBody { error: fault.message })
}

//! What only the Gemini dialect knows: verbs behind a colon, usage in each chunk, an end without
//! an event of its own, its error shape.
//!
//! A stream is over with the chunk that gives a `finishReason`, or that blocks the prompt; usage
//! may still follow, so later chunks are read. A tool's arguments are plain JSON here, so whatever
//! a search finds is confirmed at its proper place.
use std::sync::LazyLock;

use bytes::Bytes;
use serde::Serialize;

use super::endpoint::{Cut, Endpoint, Kind};
use super::fault::{Fault, FaultKind};
use super::json::Raw;
use super::meter::Tally;
use super::seek::{Seek, needle};
use super::split::Event;
use super::usage::{Usage, count, set};
use super::verdict::{Verdict, event_verdict};
use super::{Dialect, fault};

pub(super) fn endpoint(cut: Cut<'_>) -> Option<Endpoint<'_>> {
    let versioned = !cut.version.is_empty();
    let found =
        |kind, model| Some(Endpoint { dialect: Some(Dialect::Gemini), kind, versioned, model });
    // Vertex puts projects and publishers in front, so only the last two segments count.
    let (front, last) = cut.rest.rsplit_once('/').unwrap_or(("", cut.rest));
    let parent = front.rsplit('/').next().unwrap_or(front);
    if let Some((model, verb)) = last.rsplit_once(':')
        && matches!(parent, "models" | "tunedModels" | "endpoints")
        && !model.is_empty()
    {
        let kind = match verb {
            "generateContent" => Kind::Generate,
            "streamGenerateContent" => Kind::StreamGenerate,
            "embedContent" | "batchEmbedContents" => Kind::GeminiEmbed,
            "countTokens" => Kind::GeminiCount,
            "batchGenerateContent"
            | "asyncBatchEmbedContent"
            | "predict"
            | "predictLongRunning"
            | "bidiGenerateContent" => Kind::Other,
            _ => return None,
        };
        return found(kind, Some(model));
    }
    // Only this vendor has greek letters in its versions.
    let greek = ["alpha", "beta"].iter().any(|letter| cut.version.contains(letter));
    if !greek || cut.rest.starts_with("openai/") {
        return None;
    }
    match cut.rest.split_once('/') {
        None if cut.rest == "models" => found(Kind::Models, None),
        Some(("models", model)) if !model.contains('/') => found(Kind::Models, Some(model)),
        _ => found(Kind::Other, None),
    }
}

static USAGE: Seek = LazyLock::new(|| needle(b"\"usageMetadata\""));
static ERROR: Seek = LazyLock::new(|| needle(b"\"error\""));
static FINISH: Seek = LazyLock::new(|| needle(b"\"finishReason\""));
static BLOCK: Seek = LazyLock::new(|| needle(b"\"blockReason\""));
static MODEL: Seek = LazyLock::new(|| needle(b"\"modelVersion\""));
static PARTS: Seek = LazyLock::new(|| needle(b"\"parts\""));

/// One chunk of a stream.
pub(super) fn event(tally: &mut Tally, event: Event<'_>) {
    if let Some(tail) = event.tail {
        return large(tally, event.data, tail);
    }
    let data = event.data;
    let whole = Raw(data);
    if ERROR.says(data) && whole.get(b"error").is_some_and(|error| !error.is_empty()) {
        return tally.fail(event_verdict(Dialect::Gemini, data));
    }
    if let Some(bytes) = PARTS.value(data).and_then(|parts| content(Raw(parts))) {
        tally.said(bytes);
    }
    if USAGE.says(data)
        && let Some(value) = whole.get(b"usageMetadata")
    {
        let counted = usage(value, &mut tally.usage);
        tally.told(counted);
    }
    if tally.seeks_model()
        && MODEL.says(data)
        && let Some(model) = whole.get(b"modelVersion")
    {
        tally.name_model(model);
    }
    let finished = FINISH.says(data) && finishes(whole);
    let blocked = BLOCK.says(data)
        && whole.get(b"promptFeedback").and_then(|feedback| feedback.get(b"blockReason")).is_some();
    if finished || blocked {
        tally.complete();
    }
}

/// Bytes of text and of calls in a list of parts; images are none. `None`: there is no more in them
/// than empty texts, and signatures of thoughts.
fn content(parts: Raw<'_>) -> Option<usize> {
    let (mut any, mut bytes) = (false, 0);
    for part in parts.elements()? {
        let mut members = part.members()?;
        while let Ok(Some((key, value))) = members.next() {
            let len = match key.0 {
                b"thought" | b"thoughtSignature" => continue,
                b"text" => value.text_len().unwrap_or(0),
                b"functionCall" => value.0.len(),
                _ => 0,
            };
            any |= key.0 != b"text" || len > 0;
            bytes += len;
        }
    }
    any.then_some(bytes)
}

fn finishes(chunk: Raw<'_>) -> bool {
    let candidates = chunk.get(b"candidates").and_then(Raw::elements);
    candidates
        .into_iter()
        .flatten()
        .any(|candidate| candidate.get(b"finishReason").is_some_and(|reason| !reason.is_empty()))
}

/// A chunk that was too large to keep, an image most often: its end says how it went.
fn large(tally: &mut Tally, head: &[u8], tail: &[u8]) {
    if ERROR.begins(head) {
        return tally.fail(Verdict::Failed);
    }
    tally.said(0);
    if let Some(value) = USAGE.last_value(tail) {
        let counted = usage(Raw(value), &mut tally.usage);
        tally.told(counted);
    }
    if FINISH.last_value(tail).is_some() {
        tally.complete();
    }
}

/// Reads a `usageMetadata` object. Says whether it had counts.
pub(super) fn usage(value: Raw<'_>, usage: &mut Usage) -> bool {
    let Some(mut members) = value.members() else { return false };
    let (mut prompt, mut tools, mut said) = (None, 0, None);
    while let Ok(Some((key, value))) = members.next() {
        match key.0 {
            b"promptTokenCount" => prompt = count(value),
            b"toolUsePromptTokenCount" => tools = count(value).unwrap_or(0),
            b"candidatesTokenCount" => said = count(value),
            b"cachedContentTokenCount" => {
                set(&mut usage.cached_input, value);
            }
            b"thoughtsTokenCount" => {
                set(&mut usage.reasoning, value);
            }
            _ => {}
        }
    }
    if let Some(prompt) = prompt {
        usage.input = prompt + tools;
    }
    // While it only thinks, there are no candidates yet.
    if said.is_some() || usage.reasoning > 0 {
        usage.output = said.unwrap_or(0) + usage.reasoning;
    }
    prompt.is_some() || said.is_some()
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: Error<'a>,
}

#[derive(Serialize)]
struct Error<'a> {
    code: u16,
    message: &'a str,
    status: &'static str,
}

/// The name in `google.rpc.Code`.
fn status(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::BadRequest
        | FaultKind::TooLarge
        | FaultKind::UriTooLong
        | FaultKind::HeadersTooLarge
        | FaultKind::ExpectationFailed => "INVALID_ARGUMENT",
        FaultKind::Unauthorized => "UNAUTHENTICATED",
        FaultKind::Forbidden => "PERMISSION_DENIED",
        FaultKind::NotFound => "NOT_FOUND",
        FaultKind::MethodNotAllowed => "UNIMPLEMENTED",
        FaultKind::PaymentRequired | FaultKind::RateLimited => "RESOURCE_EXHAUSTED",
        FaultKind::Timeout | FaultKind::GatewayTimeout => "DEADLINE_EXCEEDED",
        FaultKind::Upstream | FaultKind::Unavailable => "UNAVAILABLE",
        FaultKind::Internal => "INTERNAL",
    }
}

pub(super) fn error_body(fault: &Fault<'_>) -> Bytes {
    let status = status(fault.kind());
    fault::json(&ErrorBody { error: Error { code: fault.status, message: fault.message, status } })
}

pub(super) fn error_event(fault: &Fault<'_>) -> Bytes {
    fault::event(None, &error_body(fault))
}

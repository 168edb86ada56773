//! What only the OpenAI dialect knows: its paths (Azure's too), its two families of events, its
//! usage fields, its error shapes.
//!
//! Chat and completions end with `data: [DONE]`; responses end with one of three named events.
//! After the terminal event nothing counts.
use std::sync::LazyLock;

use bytes::Bytes;
use serde::Serialize;

use super::endpoint::{Cut, Endpoint, Kind};
use super::fault::{Fault, FaultKind};
use super::json::{Raw, numbers, skip_value};
use super::meter::Tally;
use super::seek::{Seek, needle};
use super::split::Event;
use super::usage::{Usage, set};
use super::verdict::{Verdict, event_verdict};
use super::{Dialect, fault};

/// What the API has besides, proxied as it is.
const RESOURCES: [&str; 24] = [
    "assistants",
    "audio",
    "batches",
    "chat",
    "chatkit",
    "containers",
    "conversations",
    "evals",
    "files",
    "fine_tuning",
    "images",
    "moderations",
    "organization",
    "projects",
    "realtime",
    "rerank",
    "responses",
    "skills",
    "threads",
    "uploads",
    "usage",
    "vector_stores",
    "videos",
    "webhooks",
];

pub(super) fn endpoint(cut: Cut<'_>) -> Option<Endpoint<'_>> {
    let found = |kind, versioned, model| {
        Some(Endpoint { dialect: Some(Dialect::OpenAi), kind, versioned, model })
    };
    if let Some(azure) = cut.path.strip_prefix("openai/deployments/") {
        let (deployment, rest) = azure.split_once('/')?;
        return found(call(rest).unwrap_or(Kind::Other), true, Some(deployment));
    }
    // Several vendors serve this dialect beside their own, below `openai/`.
    let below = cut.rest.strip_prefix("openai/");
    let rest = below.unwrap_or(cut.rest);
    let versioned = !cut.version.is_empty() || below.is_some();
    if let Some(kind) = call(rest) {
        return found(kind, versioned, None);
    }
    let (resource, behind) = rest.split_once('/').unwrap_or((rest, ""));
    if resource == "models" {
        return found(Kind::Models, versioned, Some(behind).filter(|model| !model.is_empty()));
    }
    let known = if versioned { RESOURCES.contains(&resource) } else { resource == "responses" };
    if known { found(Kind::Other, versioned, None) } else { None }
}

fn call(rest: &str) -> Option<Kind> {
    match rest {
        "chat/completions" => Some(Kind::Chat),
        "completions" => Some(Kind::Completions),
        "responses" => Some(Kind::Responses),
        "embeddings" => Some(Kind::Embeddings),
        _ => None,
    }
}

static USAGE: Seek = LazyLock::new(|| needle(b"\"usage\""));
static ERROR: Seek = LazyLock::new(|| needle(b"\"error\""));
static MODEL: Seek = LazyLock::new(|| needle(b"\"model\""));
static DELTA: Seek = LazyLock::new(|| needle(b"\"delta\""));
static TEXT: Seek = LazyLock::new(|| needle(b"\"text\""));
static TYPE: Seek = LazyLock::new(|| needle(b"\"type\""));

/// One event of a stream.
pub(super) fn event(tally: &mut Tally, event: Event<'_>) {
    if tally.over() {
        return;
    }
    if tally.kind == Kind::Responses { response(tally, event) } else { chunk(tally, event) }
}

fn chunk(tally: &mut Tally, event: Event<'_>) {
    let data = event.data;
    if data.starts_with(b"[DONE]") {
        return tally.complete();
    }
    let named = event.name == Some(b"error");
    if event.tail.is_some() {
        return if named || ERROR.begins(data) {
            tally.fail(Verdict::Failed);
        } else {
            tally.said(0);
        };
    }
    let failed = ERROR.says(data) && Raw(data).get(b"error").is_some_and(|error| !error.is_empty());
    if failed || named {
        return tally.fail(event_verdict(Dialect::OpenAi, data));
    }
    if let Some(bytes) = content(tally.kind, data) {
        tally.said(bytes);
    }
    if USAGE.says(data)
        && let Some(value) = Raw(data).get(b"usage")
    {
        let counted = usage(value, &mut tally.usage);
        tally.told(counted);
    }
    if tally.seeks_model() {
        name_model(tally, data);
    }
}

/// Bytes of the output that the event brings. `None`: none, the role alone or the finish alone.
fn content(kind: Kind, data: &[u8]) -> Option<usize> {
    if kind == Kind::Completions {
        return TEXT.text_len(data).filter(|&bytes| bytes > 0);
    }
    let mut members = DELTA.value(data).and_then(|delta| Raw(delta).members())?;
    let (mut any, mut said, mut thought) = (false, 0, 0);
    while let Ok(Some((key, value))) = members.next() {
        if key.0 == b"role" || value.is_empty() {
            continue;
        }
        any = true;
        match key.0 {
            // a vendor or two sends lists of parts
            b"content" | b"refusal" => said += value.text_len().unwrap_or(value.0.len()),
            b"tool_calls" => {
                let functions = value.elements().into_iter().flatten();
                said +=
                    functions.filter_map(|call| call.get(b"function")).map(texts).sum::<usize>();
            }
            b"function_call" => said += texts(value),
            // some vendors send the same thought under two names
            b"reasoning" | b"reasoning_content" => {
                thought = value.text_len().unwrap_or(0).max(thought);
            }
            _ => {}
        }
    }
    any.then_some(said + thought)
}

/// Bytes of the strings in an object: of a call, its name and its arguments.
fn texts(object: Raw<'_>) -> usize {
    let Some(mut members) = object.members() else { return 0 };
    let mut bytes = 0;
    while let Ok(Some((_, value))) = members.next() {
        bytes += value.text_len().unwrap_or(0);
    }
    bytes
}

fn response(tally: &mut Tally, event: Event<'_>) {
    let name = match event.name {
        Some(name) => name,
        // Some backends leave the name out; it is the event's type as well.
        None => match TYPE.value(event.data) {
            Some([b'"', rest @ ..]) => rest.split(|&byte| byte == b'"').next().unwrap_or_default(),
            _ => return,
        },
    };
    if name.ends_with(b".delta") {
        let sound = name.ends_with(b"audio.delta") || event.tail.is_some();
        let bytes = if sound { None } else { DELTA.text_len(event.data) };
        if bytes != Some(0) {
            tally.said(bytes.unwrap_or(0));
        }
        return;
    }
    match name {
        b"response.completed" | b"response.incomplete" => {
            last_usage(tally, event);
            tally.complete();
        }
        b"response.failed" => {
            last_usage(tally, event);
            tally.fail(fault(event));
        }
        b"error" => tally.fail(fault(event)),
        b"response.output_item.added" if begins_call(event.data) => tally.begin(),
        b"response.image_generation_call.partial_image" => tally.said(0),
        b"response.created" | b"response.in_progress" if tally.seeks_model() => {
            name_model(tally, event.data);
        }
        b"response.created" | b"response.queued" | b"response.in_progress" => {}
        // items come and go, hosted tools search, run and draw
        _ if name.starts_with(b"response.") => tally.stepped(),
        _ => {}
    }
}

/// Of an event that is too large to be read, nothing better is known.
fn fault(event: Event<'_>) -> Verdict {
    match event.tail {
        None => event_verdict(Dialect::OpenAi, event.data),
        Some(_) => Verdict::Failed,
    }
}

/// Whether the item that is added is a call of a tool: all but messages and thoughts, which are empty
/// when they begin.
fn begins_call(data: &[u8]) -> bool {
    let kind = Raw(data).get(b"item").and_then(|item| item.get(b"type"));
    kind.is_some_and(|kind| !matches!(kind.0, br#""message""# | br#""reasoning""#))
}

/// The whole response stands in the last event, the usage near its end.
fn last_usage(tally: &mut Tally, event: Event<'_>) {
    let value = match event.tail {
        None => Raw(event.data).get(b"response").and_then(|response| response.get(b"usage")),
        Some(tail) => USAGE.last_value(tail).map(Raw),
    };
    if let Some(value) = value {
        let counted = usage(value, &mut tally.usage);
        tally.told(counted);
    }
    name_model(tally, event.data);
}

fn name_model(tally: &mut Tally, data: &[u8]) {
    if let Some(value) = MODEL.value(data)
        && let Ok(end) = skip_value(value, 0)
    {
        tally.name_model(Raw(&value[..end]));
    }
}

/// Reads a `usage` object: chat's names, the responses' names, and where vendors put the cache.
/// Says whether it had counts.
pub(super) fn usage(value: Raw<'_>, usage: &mut Usage) -> bool {
    usage_at(value, usage).is_some_and(|(counted, _)| counted)
}

/// The same where more text follows: also says where the object ends.
pub(super) fn usage_at(value: Raw<'_>, usage: &mut Usage) -> Option<(bool, usize)> {
    let mut counted = false;
    let object = value.0.starts_with(b"{");
    let end = numbers(value.0, |key, depth, number| match (key.0, depth) {
        (b"prompt_tokens" | b"input_tokens", 1) => counted |= set(&mut usage.input, number),
        (b"completion_tokens" | b"output_tokens", 1) => counted |= set(&mut usage.output, number),
        (b"cached_tokens" | b"prompt_cache_hit_tokens", 1 | 2) => {
            set(&mut usage.cached_input, number);
        }
        (b"cache_write_tokens", 2) => {
            set(&mut usage.cache_write, number);
        }
        (b"reasoning_tokens", 2) => {
            set(&mut usage.reasoning, number);
        }
        _ => {}
    })?;
    object.then_some((counted, end))
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: Error<'a>,
}

#[derive(Serialize)]
struct Error<'a> {
    message: &'a str,
    r#type: &'static str,
    param: Option<&'a str>,
    code: &'a str,
}

/// Both forms that clients look for: the documented flat one, and the object that makes the SDKs
/// raise. The number in the sequence is not known here.
#[derive(Serialize)]
struct ErrorEvent<'a> {
    r#type: &'static str,
    sequence_number: u64,
    code: &'a str,
    message: &'a str,
    param: Option<&'a str>,
    error: Error<'a>,
}

fn error<'a>(fault: &Fault<'a>) -> Error<'a> {
    let r#type = match fault.kind() {
        FaultKind::PaymentRequired => "insufficient_quota",
        FaultKind::RateLimited => "requests",
        _ if fault.status >= 500 => "server_error",
        _ => "invalid_request_error",
    };
    Error { message: fault.message, r#type, param: None, code: fault.code }
}

pub(super) fn error_body(fault: &Fault<'_>) -> Bytes {
    fault::json(&ErrorBody { error: error(fault) })
}

pub(super) fn error_event(kind: Kind, fault: &Fault<'_>) -> Bytes {
    if kind != Kind::Responses {
        return fault::event(None, &error_body(fault));
    }
    let event = ErrorEvent {
        r#type: "error",
        sequence_number: 0,
        code: fault.code,
        message: fault.message,
        param: None,
        error: error(fault),
    };
    fault::event(Some("error"), &fault::json(&event))
}

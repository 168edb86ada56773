//! What only the Anthropic dialect knows: its paths, its named events, its usage fields, its
//! error shape.
//!
//! `message_start` tells the input, each `message_delta` the output so far (and, of late, the
//! whole again); `message_stop` or `error` ends. Here `input_tokens` leaves the cached ones out;
//! the meter sums them.
use std::sync::LazyLock;

use bytes::Bytes;
use serde::Serialize;

use super::endpoint::{Cut, Endpoint, Kind};
use super::fault::{Fault, FaultKind};
use super::json::{Members, Raw};
use super::meter::Tally;
use super::seek::{Seek, needle};
use super::split::Event;
use super::usage::{Usage, set};
use super::verdict::{Verdict, event_verdict};
use super::{Dialect, fault};

pub(super) fn endpoint(cut: Cut<'_>) -> Option<Endpoint<'_>> {
    let kind = match cut.rest {
        "messages" => Kind::Messages,
        "messages/count_tokens" => Kind::CountTokens,
        "complete" if !cut.version.is_empty() => Kind::Other,
        other if other.starts_with("messages/") => Kind::Other,
        _ => return None,
    };
    let versioned = !cut.version.is_empty();
    Some(Endpoint { dialect: Some(Dialect::Anthropic), kind, versioned, model: None })
}

static TYPE: Seek = LazyLock::new(|| needle(b"\"type\""));
static TEXT: Seek = LazyLock::new(|| needle(b"\"text\""));
static THINKING: Seek = LazyLock::new(|| needle(b"\"thinking\""));
static PARTIAL: Seek = LazyLock::new(|| needle(b"\"partial_json\""));

/// One event of a stream.
pub(super) fn event(tally: &mut Tally, event: Event<'_>) {
    if tally.over() {
        return;
    }
    let name = match event.name {
        Some(name) => name,
        // The type stands first in the data as well.
        None => match TYPE.value(event.data) {
            Some([b'"', rest @ ..]) => rest.split(|&byte| byte == b'"').next().unwrap_or_default(),
            _ => return,
        },
    };
    match name {
        b"content_block_delta" => {
            if let Some(bytes) = content(event) {
                tally.said(bytes);
            }
        }
        b"content_block_start" => {
            tally.stepped();
            if begins(event) {
                tally.begin();
            }
        }
        b"content_block_stop" => tally.stepped(),
        b"message_start" => {
            let Some(message) = Raw(event.data).get(b"message") else { return };
            if let Some(model) = message.get(b"model") {
                tally.name_model(model);
            }
            if let Some(value) = message.get(b"usage") {
                let counted = usage(value, &mut tally.usage);
                tally.told(counted);
            }
        }
        b"message_delta" => {
            if let Some(value) = Raw(event.data).get(b"usage") {
                let counted = usage(value, &mut tally.usage);
                tally.told(counted);
            }
        }
        b"message_stop" => tally.complete(),
        b"error" => tally.fail(match event.tail {
            None => event_verdict(Dialect::Anthropic, event.data),
            Some(_) => Verdict::Failed,
        }),
        _ => {}
    }
}

/// Bytes of the text in a delta; a signature is output without a text. `None`: the text is empty, as
/// the first one of a block may be. Inside a text the names would be escaped.
fn content(event: Event<'_>) -> Option<usize> {
    let found = [&TEXT, &THINKING, &PARTIAL].iter().find_map(|name| name.text_len(event.data));
    if found == Some(0) { None } else { Some(found.unwrap_or(0)) }
}

/// Whether a block says something by beginning: a call names its tool, hidden thoughts come whole.
/// Texts and thoughts are empty then, unless a vendor puts their first words here.
fn begins(event: Event<'_>) -> bool {
    if event.tail.is_some() {
        return true;
    }
    let Some(block) = Raw(event.data).get(b"content_block") else { return false };
    let text = match block.get(b"type") {
        Some(Raw(br#""text""#)) => block.get(b"text"),
        Some(Raw(br#""thinking""#)) => block.get(b"thinking"),
        kind => return kind.is_some(),
    };
    text.is_some_and(|text| !text.is_empty())
}

/// Reads a `usage` object over what an earlier event told. Says whether it had counts.
pub(super) fn usage(value: Raw<'_>, usage: &mut Usage) -> bool {
    usage_at(value, usage).is_some_and(|(counted, _)| counted)
}

/// The same where more text follows: also says where the object ends.
pub(super) fn usage_at(value: Raw<'_>, usage: &mut Usage) -> Option<(bool, usize)> {
    let mut members = Members::open(value.0, 0)?;
    let mut counted = false;
    while let Some((key, value)) = members.next().ok()? {
        match key.0 {
            b"input_tokens" => counted |= set(&mut usage.input, value),
            b"output_tokens" => counted |= set(&mut usage.output, value),
            b"cache_read_input_tokens" => counted |= set(&mut usage.cached_input, value),
            b"cache_creation_input_tokens" => counted |= set(&mut usage.cache_write, value),
            b"output_tokens_details" => {
                if let Some(thought) = value.get(b"thinking_tokens") {
                    set(&mut usage.reasoning, thought);
                }
            }
            _ => {}
        }
    }
    Some((counted, members.at()))
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    r#type: &'static str,
    error: Error<'a>,
    request_id: &'a str,
}

#[derive(Serialize)]
struct Error<'a> {
    r#type: &'static str,
    message: &'a str,
}

fn error_type(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::BadRequest
        | FaultKind::MethodNotAllowed
        | FaultKind::UriTooLong
        | FaultKind::HeadersTooLarge
        | FaultKind::ExpectationFailed => "invalid_request_error",
        FaultKind::Unauthorized => "authentication_error",
        FaultKind::PaymentRequired => "billing_error",
        FaultKind::Forbidden => "permission_error",
        FaultKind::NotFound => "not_found_error",
        FaultKind::TooLarge => "request_too_large",
        FaultKind::RateLimited => "rate_limit_error",
        FaultKind::Timeout | FaultKind::GatewayTimeout => "timeout_error",
        FaultKind::Unavailable => "overloaded_error",
        FaultKind::Upstream | FaultKind::Internal => "api_error",
    }
}

pub(super) fn error_body(fault: &Fault<'_>) -> Bytes {
    fault::json(&ErrorBody {
        r#type: "error",
        error: Error { r#type: error_type(fault.kind()), message: fault.message },
        request_id: fault.request_id,
    })
}

pub(super) fn error_event(fault: &Fault<'_>) -> Bytes {
    fault::event(Some("error"), &error_body(fault))
}

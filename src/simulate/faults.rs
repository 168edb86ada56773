//! What can go wrong with a backend, by name, and what each dialect says then.
//!
//! The faults themselves happen where their bytes are written: `plan.rs` for those that replace
//! the answer, `send.rs` for those of the wire. Error types and codes are the vendors' own
//! (their API references, November 2026).
use std::str::FromStr;

use jiff::fmt::rfc2822::DateTimePrinter;
use jiff::{SignedDuration, Timestamp};

use super::script::{Retry, number, size};
use super::text::Put;
use crate::wire::Dialect;

/// One way to fail. `N` counts tokens that were sent before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// This status, with the dialect's error body.
    Status(u16),
    Redirect,
    /// An error body under status 200.
    Error200,
    /// Status 200 without a body.
    Empty,
    /// RST instead of an answer.
    Reset,
    /// FIN instead of an answer.
    Close,
    /// No answer at all.
    Stall,
    /// Bytes that are not HTTP.
    Garbage,
    SlowHeaders,
    /// One header of this many bytes.
    HugeHeaders(u32),
    ManyHeaders(u32),
    /// 103 before the head.
    EarlyHints,
    Gzip,
    /// `Content-Length` above what is sent.
    LengthLong,
    /// `Content-Length` below what is sent.
    LengthShort,
    /// Announces the close of the connection.
    KeepAliveClose,
    ResetMid(u32),
    CloseMid(u32),
    StallMid(u32),
    /// An error inside the stream.
    ErrorEvent(u32),
    BadChunk(u32),
    /// A clean end without the terminal event.
    Truncated,
    NoUsage,
    Split(Split),
    /// The first token has this many bytes.
    BigEvent(u32),
    /// Bytes after the answer's end.
    Extra,
    /// FIN after the answer, unannounced.
    SilentClose,
    /// RST on the request after the Nth of a connection.
    Stale(u32),
}

/// Where writes are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// Inside every character of more than one byte.
    Utf8,
    /// After every byte.
    Bytes,
    /// Between `\r` and `\n`.
    CrLf,
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(status @ 200..=599) = text.parse::<u16>() {
            return Ok(Self::Status(status));
        }
        let (name, value) = text.split_once(['=', ':']).unwrap_or((text, ""));
        let count = |default: u32| if value.is_empty() { Ok(default) } else { number(value) };
        let bytes = |default: u32| if value.is_empty() { Ok(default) } else { size(value) };
        Ok(match name {
            "redirect" => Self::Redirect,
            "error-200" => Self::Error200,
            "empty" => Self::Empty,
            "reset" => Self::Reset,
            "close" => Self::Close,
            "stall" => Self::Stall,
            "garbage" => Self::Garbage,
            "slow-headers" => Self::SlowHeaders,
            "huge-headers" => Self::HugeHeaders(bytes(40 << 10)?),
            "many-headers" => Self::ManyHeaders(count(200)?),
            "early-hints" => Self::EarlyHints,
            "gzip" => Self::Gzip,
            "cl-long" => Self::LengthLong,
            "cl-short" => Self::LengthShort,
            "keepalive-close" => Self::KeepAliveClose,
            "reset-mid" => Self::ResetMid(count(1)?),
            "close-mid" => Self::CloseMid(count(1)?),
            "stall-mid" => Self::StallMid(count(1)?),
            "error-event" => Self::ErrorEvent(count(0)?),
            "bad-chunk" => Self::BadChunk(count(1)?),
            "truncated" => Self::Truncated,
            "no-usage" => Self::NoUsage,
            "split" => Self::Split(match value {
                "utf8" => Split::Utf8,
                "bytes" => Split::Bytes,
                "crlf" => Split::CrLf,
                _ => return Err(format!("split={value} is none of utf8, bytes, crlf")),
            }),
            "big-event" => Self::BigEvent(bytes(20 << 20)?),
            "extra" => Self::Extra,
            "silent-close" => Self::SilentClose,
            "stale" => Self::Stale(count(1)?),
            _ => {
                return Err(format!(
                    "{text:?} is not a fault; `tidegate simulate --help` lists them"
                ));
            }
        })
    }
}

impl Fault {
    /// After how many tokens the answer breaks off.
    pub(super) fn breaks_after(self) -> Option<u32> {
        match self {
            Self::ResetMid(n)
            | Self::CloseMid(n)
            | Self::StallMid(n)
            | Self::ErrorEvent(n)
            | Self::BadChunk(n) => Some(n),
            _ => None,
        }
    }
}

/// What a status means to each vendor.
struct Meaning {
    openai: (&'static str, Option<&'static str>),
    anthropic: &'static str,
    google: &'static str,
    says: &'static str,
}

const fn meaning(status: u16) -> Meaning {
    let (openai, anthropic, google, says) = match status {
        401 => (
            ("invalid_request_error", Some("invalid_api_key")),
            "authentication_error",
            "UNAUTHENTICATED",
            "Incorrect API key provided.",
        ),
        402 => (
            ("insufficient_quota", Some("insufficient_quota")),
            "billing_error",
            "FAILED_PRECONDITION",
            "Your credit balance is too low.",
        ),
        403 => (
            ("invalid_request_error", Some("permission_denied")),
            "permission_error",
            "PERMISSION_DENIED",
            "You have no access to this resource.",
        ),
        404 => (
            ("invalid_request_error", Some("model_not_found")),
            "not_found_error",
            "NOT_FOUND",
            "The model or the path does not exist.",
        ),
        408 => (
            ("timeout_error", None),
            "timeout_error",
            "DEADLINE_EXCEEDED",
            "The request took too long to arrive.",
        ),
        413 => (
            ("invalid_request_error", Some("request_too_large")),
            "request_too_large",
            "INVALID_ARGUMENT",
            "The request is too large.",
        ),
        429 => (
            ("requests", Some("rate_limit_exceeded")),
            "rate_limit_error",
            "RESOURCE_EXHAUSTED",
            "Rate limit reached.",
        ),
        400..500 => (
            ("invalid_request_error", None),
            "invalid_request_error",
            "INVALID_ARGUMENT",
            "The request is not valid.",
        ),
        503 | 529 => {
            (("server_error", Some("overloaded")), "overloaded_error", "UNAVAILABLE", "Overloaded.")
        }
        504 => (
            ("server_error", Some("timeout")),
            "timeout_error",
            "DEADLINE_EXCEEDED",
            "The model did not answer in time.",
        ),
        _ => (("server_error", None), "api_error", "INTERNAL", "Internal server error."),
    };
    Meaning { openai, anthropic, google, says }
}

/// Appends the error body of `dialect`; without `message`, the usual words for the status.
pub(super) fn put_error(
    out: &mut Vec<u8>,
    dialect: Dialect,
    status: u16,
    message: Option<&str>,
    id: u64,
) {
    let meaning = meaning(status);
    let message = message.unwrap_or(meaning.says);
    match dialect {
        Dialect::OpenAi | Dialect::Http => {
            let (kind, code) = meaning.openai;
            out.put(r#"{"error":{"message":"#).quoted(message);
            out.put(r#","type":"#).quoted(kind).put(r#","param":null,"code":"#);
            match code {
                Some(code) => out.quoted(code),
                None => out.put("null"),
            };
            out.put("}}");
        }
        Dialect::Anthropic => {
            out.put(r#"{"type":"error","error":{"type":"#).quoted(meaning.anthropic);
            out.put(r#","message":"#).quoted(message);
            out.put(r#"},"request_id":"req_"#).hex(id).put(r#""}"#);
        }
        Dialect::Gemini => {
            out.put(r#"{"error":{"code":"#).num(status.into());
            out.put(r#","message":"#).quoted(message);
            out.put(r#","status":"#).quoted(meaning.google).put("}}");
        }
        Dialect::Ollama => {
            out.put(r#"{"error":"#).quoted(message).put("}");
        }
    }
}

/// Appends the header lines that say when to come back.
pub(super) fn put_retry(out: &mut Vec<u8>, form: Retry, status: u16, seconds: u32) {
    let form = match form {
        Retry::Usual if matches!(status, 429 | 503 | 529) => Retry::Seconds,
        form => form,
    };
    let later = || Timestamp::now().saturating_add(SignedDuration::from_secs(seconds.into()));
    match form {
        Retry::Usual | Retry::None => {}
        Retry::Seconds => {
            out.put("retry-after: ").num(seconds.into()).put("\r\n");
        }
        Retry::Millis => {
            out.put("retry-after-ms: ").num(u64::from(seconds) * 1000).put("\r\n");
        }
        Retry::Date => {
            let date =
                later().ok().map(|at| DateTimePrinter::new().timestamp_to_rfc9110_string(&at));
            let date = date.and_then(Result::ok).unwrap_or_default();
            out.put("retry-after: ").put(&date).put("\r\n");
        }
        Retry::Past => {
            out.put("retry-after: Wed, 21 Oct 2015 07:28:00 GMT\r\n");
        }
        Retry::Huge => {
            out.put("retry-after: 86400\r\n");
        }
        Retry::Garbage => {
            out.put("retry-after: soon, I hope\r\n");
        }
        Retry::RateLimit => {
            for kind in ["requests", "tokens"] {
                out.put("x-ratelimit-limit-").put(kind).put(": 500\r\n");
                out.put("x-ratelimit-remaining-").put(kind).put(": 0\r\n");
                out.put("x-ratelimit-reset-").put(kind).put(": ");
                out.num((seconds / 60).into()).put("m").num((seconds % 60).into()).put("s\r\n");
            }
        }
        Retry::Anthropic => {
            let at = later().map(|at| at.to_string()).unwrap_or_default();
            out.put("retry-after: ").num(seconds.into()).put("\r\n");
            for kind in ["requests", "tokens", "input-tokens", "output-tokens"] {
                out.put("anthropic-ratelimit-").put(kind).put("-limit: 50\r\n");
                out.put("anthropic-ratelimit-").put(kind).put("-remaining: 0\r\n");
                out.put("anthropic-ratelimit-").put(kind).put("-reset: ").put(&at).put("\r\n");
            }
        }
    }
}

/// Cuts `bytes` where `split` wants a write to end. The pieces joined are the input.
pub(super) fn pieces(bytes: &[u8], split: Split) -> impl Iterator<Item = &[u8]> {
    let cut = move |i: usize| match split {
        Split::Bytes => true,
        Split::Utf8 => bytes[i] & 0xc0 == 0x80,
        Split::CrLf => bytes[i] == b'\n' && bytes[i - 1] == b'\r',
    };
    let mut from = 0;
    std::iter::from_fn(move || {
        if from == bytes.len() {
            return None;
        }
        let to = (from + 1..bytes.len()).find(|&i| cut(i)).unwrap_or(bytes.len());
        let piece = &bytes[from..to];
        from = to;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cuts(text: &str, split: Split) -> Vec<&[u8]> {
        pieces(text.as_bytes(), split).collect()
    }

    #[test]
    fn pieces_are_cut_where_they_hurt_and_join_to_the_whole() {
        assert_eq!(cuts("aé€b", Split::Utf8), [&b"a\xc3"[..], b"\xa9\xe2", b"\x82", b"\xacb"]);
        assert_eq!(cuts("ab\r\nc\r\n\r\n", Split::CrLf), [&b"ab\r"[..], b"\nc\r", b"\n\r", b"\n"]);
        assert_eq!(cuts("é", Split::Bytes), [b"\xc3", b"\xa9"]);
        assert!(cuts("", Split::Bytes).is_empty());
    }

    #[test]
    fn error_bodies_are_json_in_every_dialect() {
        let dialects = [Dialect::OpenAi, Dialect::Anthropic, Dialect::Gemini, Dialect::Ollama];
        for dialect in dialects {
            for status in [400, 401, 402, 403, 404, 408, 413, 429, 500, 502, 503, 504, 529] {
                let mut out = Vec::new();
                put_error(&mut out, dialect, status, Some("say \"no\""), 7);
                let body: serde_json::Value = serde_json::from_slice(&out).unwrap();
                assert!(!body["error"].is_null(), "{dialect:?} {status}");
            }
        }
    }

    #[test]
    fn dates_are_in_the_form_of_http() {
        let mut out = Vec::new();
        put_retry(&mut out, Retry::Date, 429, 5);
        let line = String::from_utf8(out).unwrap();
        let date = line.strip_prefix("retry-after: ").unwrap().trim_end();
        assert_eq!((date.len(), &date[date.len() - 4..]), (29, " GMT"), "{date}");
    }
}
